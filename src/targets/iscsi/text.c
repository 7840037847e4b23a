/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "targets/iscsi/text.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

bool text_append(struct text *t, const void *p, size_t len)
{
    size_t max = t->max ? t->max : TEXT_TOTAL_MAX;
    if (t->len > max || len > max - t->len)
        return false;
    if (!len)
        return true;
    if (t->len + len > t->cap) {
        t->cap = (t->len + len) * 2;
        t->p = xrealloc(t->p, t->cap);
    }
    memcpy(t->p + t->len, p, len);
    t->len += len;
    return true;
}

bool text_add(struct text *t, const char *key, const char *fmt, ...)
{
    char line[TEXT_KEY_MAX + 1 + 512];
    int n = snprintf(line, sizeof line, "%s=", key);
    va_list ap;
    va_start(ap, fmt);
    int m = vsnprintf(line + n, sizeof line - (size_t)n, fmt, ap);
    va_end(ap);
    assert(n > 1 && m >= 0 && (size_t)(n + m) < sizeof line);
    return text_append(t, line, (size_t)(n + m + 1));
}

void text_free(struct text *t)
{
    free(t->p);
    *t = (struct text){0};
}

/* Keys: capital or small letters, digits, ".-+@_"; vendor keys begin with X- (6.1). */
static bool key_ok(const char *key)
{
    size_t n = strlen(key);
    if (!n || n > TEXT_KEY_MAX)
        return false;
    for (const char *c = key; *c; c++) {
        if (!isalnum((unsigned char)*c) && !strchr(".-+@_", *c))
            return false;
    }
    return true;
}

enum text_next text_next(struct text *t, size_t *pos, const char **key_r, const char **value_r)
{
    /* Some initiators pad with zero bytes that they count: empty lines are passed over. */
    while (*pos < t->len && !t->p[*pos])
        ++*pos;
    if (*pos >= t->len)
        return TEXT_END;
    char *line = t->p + *pos;
    char *end = memchr(line, 0, t->len - *pos);
    if (!end)
        return TEXT_BAD;
    char *eq = memchr(line, '=', (size_t)(end - line));
    if (!eq || end - eq - 1 > TEXT_VALUE_MAX)
        return TEXT_BAD;
    *eq = 0;
    if (!key_ok(line))
        return TEXT_BAD;
    *key_r = line;
    *value_r = eq + 1;
    *pos = (size_t)(end - t->p) + 1;
    return TEXT_PAIR;
}

bool text_number(const char *value, unsigned *number_r)
{
    int base = value[0] == '0' && (value[1] == 'x' || value[1] == 'X') ? 16 : 10;
    const char *digits = base == 16 ? value + 2 : value;
    if (!isxdigit((unsigned char)*digits) || strlen(digits) > 10)
        return false;
    char *end;
    errno = 0;
    unsigned long v = strtoul(digits, &end, base);
    if (errno || *end || v > 0xffffffffu)
        return false;
    *number_r = (unsigned)v;
    return true;
}
