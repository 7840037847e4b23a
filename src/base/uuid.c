/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/uuid.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

struct uuid uuid_random(void)
{
    struct uuid u;
    if (getrandom(u.b, sizeof u.b, 0) != sizeof u.b)
        abort(); /* cannot fail for 16 bytes once the pool is up */
    u.b[6] = (uint8_t)((u.b[6] & 0x0f) | 0x40);
    u.b[8] = (uint8_t)((u.b[8] & 0x3f) | 0x80);
    return u;
}

bool uuid_equal(const struct uuid *a, const struct uuid *b)
{
    return !memcmp(a->b, b->b, sizeof a->b);
}

bool uuid_is_null(const struct uuid *u)
{
    static const struct uuid null;
    return uuid_equal(u, &null);
}

/* Writes hex digits with `sep` before each byte whose bit is set in `mask`. */
static const char *format(const struct uuid *u, char out[UUID_TEXT], char sep, unsigned mask)
{
    char *p = out;
    for (unsigned i = 0; i < sizeof u->b; i++) {
        if (mask & 1u << i)
            *p++ = sep;
        p += sprintf(p, "%02x", u->b[i]);
    }
    return out;
}

const char *uuid_format(const struct uuid *u, char out[UUID_TEXT])
{
    return format(u, out, '-', 1u << 4 | 1u << 6 | 1u << 8 | 1u << 10);
}

const char *uuid_format_md(const struct uuid *u, char out[UUID_TEXT])
{
    return format(u, out, ':', 1u << 4 | 1u << 8 | 1u << 12);
}

bool uuid_parse(const char *text, struct uuid *u_r)
{
    struct uuid u = {{0}};
    unsigned digits = 0;
    for (; *text; text++) {
        if (*text == ':' || *text == '-')
            continue;
        if (digits == 32 || !isxdigit((unsigned char)*text))
            return false;
        int c = tolower((unsigned char)*text);
        uint8_t v = (uint8_t)(c <= '9' ? c - '0' : c - 'a' + 10);
        u.b[digits / 2] = (uint8_t)(u.b[digits / 2] << 4 | v);
        digits++;
    }
    if (digits != 32)
        return false;
    *u_r = u;
    return true;
}
