/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "client/client.h"

/* Chunks (RFC 9112 section 7.1) and in them lines of events, byte by byte: both are cut anywhere.
 */
enum { IN_SIZE, IN_EXTENSION, IN_DATA, IN_DATA_END, AT_END };

static void take_field(struct client_sse *s)
{
    char *value = strchr(s->line, ':');
    if (value) {
        *value++ = 0;
        value += *value == ' ';
    } else {
        value = s->line + s->len;
    }
    if (!strcmp(s->line, "id"))
        snprintf(s->id, sizeof s->id, "%s", value);
    else if (!strcmp(s->line, "event"))
        snprintf(s->kind, sizeof s->kind, "%s", value);
    else if (!strcmp(s->line, "data")) {
        size_t n = strlen(value), gap = s->data_len ? 1 : 0;
        if (s->data_len + gap + n >= sizeof s->data)
            return; /* longer than any event: what fits is told */
        memcpy(s->data + s->data_len, "\n", gap);
        memcpy(s->data + s->data_len + gap, value, n + 1);
        s->data_len += gap + n;
    }
}

static bool take_line(struct client_sse *s, const struct client_follower *f)
{
    if (s->len && s->line[s->len - 1] == '\r')
        s->len--;
    s->line[s->len] = 0;
    if (s->len) {
        take_field(s);
        s->len = 0;
        return true;
    }
    struct client_event ev = {s->id, s->kind, s->data};
    bool more = !s->data_len || f->fn(&ev, f->arg);
    s->kind[0] = s->data[0] = 0;
    s->data_len = 0;
    return more;
}

static bool take_byte(struct client_sse *s, char c, const struct client_follower *f)
{
    if (c == '\n')
        return take_line(s, f);
    if (s->len + 1 < sizeof s->line)
        s->line[s->len++] = c ? c : '?';
    return true;
}

static bool bad(struct client_sse *s)
{
    s->bad = true;
    return false;
}

static bool take_size(struct client_sse *s, char c)
{
    if (isxdigit((unsigned char)c)) {
        s->left = s->left * 16 + (size_t)(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
        return s->left <= CLIENT_BODY_MAX || bad(s);
    }
    if (c == '\n')
        s->state = s->left ? IN_DATA : AT_END;
    else if (c == ';')
        s->state = IN_EXTENSION;
    else if (c != '\r')
        return bad(s);
    return s->state != AT_END;
}

bool client_sse_feed(struct client_sse *s, const char *p, size_t n, const struct client_follower *f)
{
    for (; n; p++, n--) {
        bool more = true;
        switch (s->state) {
        case IN_SIZE: more = take_size(s, *p); break;
        case IN_EXTENSION:
            if (*p == '\n') {
                s->state = IN_SIZE;
                more = take_size(s, '\n');
            }
            break;
        case IN_DATA:
            more = take_byte(s, *p, f);
            if (!--s->left)
                s->state = IN_DATA_END;
            break;
        case IN_DATA_END:
            if (*p == '\n')
                s->state = IN_SIZE;
            else if (*p != '\r')
                more = bad(s);
            break;
        default: return false;
        }
        if (!more)
            return false;
    }
    return true;
}
