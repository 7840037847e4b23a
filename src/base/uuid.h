/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_BASE_UUID_H
#define ORION_BASE_UUID_H

#include <stdbool.h>
#include <stdint.h>

struct uuid {
    uint8_t b[16];
};

#define UUID_TEXT 40 /* room for any textual form below */

struct uuid uuid_random(void); /* RFC 4122 version 4 */
bool uuid_equal(const struct uuid *a, const struct uuid *b);
bool uuid_is_null(const struct uuid *u);
/* 8-4-4-4-12, lower case. Returns out. */
const char *uuid_format(const struct uuid *u, char out[UUID_TEXT]);
/* md's form, as mdadm prints it: 8:8:8:8. Returns out. */
const char *uuid_format_md(const struct uuid *u, char out[UUID_TEXT]);
/* Takes 32 hex digits in either form; ':' and '-' are skipped. */
bool uuid_parse(const char *text, struct uuid *u_r);

#endif
