/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/text.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* Bytes of the character at p, 0 when there is none (RFC 3629, section 4). */
static size_t char_len(const unsigned char *p, size_t left)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    if (*p < 0x80)
        return *p >= 0x20 && *p != 0x7f;
    size_t n = *p >= 0xf0 ? 4 : *p >= 0xe0 ? 3 : 2;
    if (*p < 0xc2 || *p > 0xf4 || left < n)
        return 0;
    uint32_t c = *p & (0xffu >> (n + 1));
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (p[i] & 0x3fu);
    }
    bool surrogate = c >= 0xd800 && c < 0xe000, control = c < 0xa0;
    return c < least[n] || c > 0x10ffff || surrogate || control ? 0 : n;
}

size_t text_flaw(const char *text, size_t len)
{
    size_t i = 0;
    for (size_t n; i < len; i += n) {
        n = char_len((const unsigned char *)text + i, len - i);
        if (!n)
            return i;
    }
    return len;
}

int text_check(const char *text, size_t max, const char *field, struct err *e)
{
    size_t len = strlen(text), flaw = text_flaw(text, len);
    if (len > max)
        return err_set(e, ERR_INVALID, field, "%s is %zu bytes long; expected at most %zu", field,
                       len, max);
    if (flaw == len)
        return 0;
    unsigned char byte = (unsigned char)text[flaw];
    return err_set(e, ERR_INVALID, field, "%s has %s at byte %zu", field,
                   byte < 0x20 || byte == 0x7f ? "a control character"
                                               : "what is no UTF-8, or a control character,",
                   flaw);
}

const char *text_show(const char *text, size_t len, char *out, size_t size)
{
    size_t to = 0;
    for (size_t i = 0, n; i < len; i += n) {
        size_t whole = char_len((const unsigned char *)text + i, len - i);
        n = whole ? whole : 1;
        if (to + n >= size)
            break;
        if (whole)
            memcpy(out + to, text + i, n);
        else
            out[to] = '?';
        to += n;
    }
    out[to] = '\0';
    return out;
}

void text_lower(char *text)
{
    for (; *text; text++)
        if (*text >= 'A' && *text <= 'Z')
            *text = (char)(*text - 'A' + 'a');
}
