/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_BASE_TEXT_H
#define ORION_BASE_TEXT_H

#include <stddef.h>

#include "base/err.h"

/*
 * Text from outside that comes out again: in JSON, metrics, the log and on terminals. It is UTF-8
 * as RFC 3629 has it (shortest form, no surrogates, at most U+10FFFF) without control characters
 * (C0, DEL, C1).
 */

/* The offset of the first byte that is not so, `len` when there is none. */
size_t text_flaw(const char *text, size_t len);
/* At most `max` bytes, all of them text. ERR_INVALID names the field and the byte. */
int text_check(const char *text, size_t max, const char *field, struct err *e);
/* `len` bytes for people: '?' for every byte that is no text, cut to `size` - 1 between characters.
 * Returns out. */
const char *text_show(const char *text, size_t len, char *out, size_t size);
/* A to Z become a to z; nothing else is touched, whatever the locale. */
void text_lower(char *text);

#endif
