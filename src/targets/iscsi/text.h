/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_TARGETS_ISCSI_TEXT_H
#define ORION_TARGETS_ISCSI_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Text of login and text PDUs (RFC 7143 section 6.1): "key=value" pairs, each ended by a zero byte;
 * a text may span PDUs (C bit) and breaks anywhere.
 */
enum {
    TEXT_KEY_MAX = 63,        /* bytes of a key, 6.1 */
    TEXT_VALUE_MAX = 8192,    /* bytes of a value: the longest any key may have */
    TEXT_TOTAL_MAX = 64 << 10 /* bytes of one text over all its PDUs: our cap */
};

/* A growing text. Zeroed memory is an empty one of at most TEXT_TOTAL_MAX bytes. */
struct text {
    char *p;
    size_t len, cap;
    size_t max; /* other limit, or 0 */
};

/* False when the total would exceed the limit; nothing is added then. */
bool text_append(struct text *t, const void *p, size_t len);
/* Adds "key=value" and its zero byte; a value has at most 512 bytes. False as above. */
bool text_add(struct text *t, const char *key, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void text_free(struct text *t); /* leaves an empty one */

enum text_next { TEXT_END, TEXT_PAIR, TEXT_BAD };
/*
 * The pair at *pos, which it moves on. key_r and value_r point into the text, which it changes
 * (the '=' becomes a zero byte). TEXT_BAD: no '=', an empty or too long key, a character that keys
 * do not have, a value that is too long, or no zero byte at the end.
 */
enum text_next text_next(struct text *t, size_t *pos, const char **key_r, const char **value_r);

/* A number as 6.1 writes it: decimal, or hex after 0x or 0X; at most 32 bits. */
bool text_number(const char *value, unsigned *number_r);

#endif
