/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "client/client.h"
#include "client/wire.h"

/* Reads until the server closes. malloc'ed and NUL-terminated; NULL on error with errno set. */
static char *receive_all(struct wire *w, size_t *len_r)
{
    size_t cap = 16 << 10, len = 0;
    char *data = xrealloc(NULL, cap + 1);
    for (;;) {
        ssize_t n = wire_read(w, data + len, cap - len);
        if (n < 0 || len + (size_t)n > CLIENT_BODY_MAX + CLIENT_HEAD_MAX) {
            if (n >= 0)
                errno = EMSGSIZE;
            free(data);
            return NULL;
        }
        if (!n)
            break;
        len += (size_t)n;
        if (len == cap)
            data = xrealloc(data, (cap *= 2) + 1);
    }
    data[len] = 0;
    *len_r = len;
    return data;
}

/* ---- the answer */
static int malformed(struct err *e, const char *what)
{
    return err_set(e, ERR_IO, "", "the answer is no HTTP that is understood here: %s", what);
}

struct head {
    long long length; /* -1: not said */
    bool chunked;
};

static void take_header(char *line, struct client_reply *r, struct head *h)
{
    char *value = strchr(line, ':');
    if (!value)
        return;
    *value++ = 0;
    value += strspn(value, " \t");
    if (!strcasecmp(line, "content-length") && isdigit((unsigned char)*value))
        h->length = atoll(value);
    else if (!strcasecmp(line, "transfer-encoding"))
        h->chunked = !strcasecmp(value, "chunked");
    else if (!strcasecmp(line, "etag"))
        snprintf(r->etag, sizeof r->etag, "%s", value);
    else if (!strcasecmp(line, "location"))
        snprintf(r->location, sizeof r->location, "%s", value);
}

/* A chunk's length in hex digits; false when there is none or it is beyond reason. */
static bool chunk_size(const char **p, const char *end, size_t *size_r)
{
    size_t n = 0;
    const char *q = *p;
    for (; q < end && isxdigit((unsigned char)*q) && n <= CLIENT_BODY_MAX; q++)
        n = n * 16 + (size_t)(isdigit((unsigned char)*q) ? *q - '0' : (*q | 0x20) - 'a' + 10);
    bool any = q > *p;
    *p = q;
    *size_r = n;
    return any && n <= CLIENT_BODY_MAX;
}

/* Joins the chunks into r->body (RFC 9112 section 7.1). False: malformed or cut off. */
static bool dechunk(const char *p, const char *end, struct client_reply *r)
{
    r->body = xcalloc(1, (size_t)(end - p) + 1);
    for (;;) {
        size_t n;
        if (!chunk_size(&p, end, &n))
            return false;
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        if (!nl)
            return false;
        p = nl + 1;
        if (!n)
            return true;
        if (n > (size_t)(end - p) || (size_t)(end - p) - n < 2)
            return false;
        memcpy(r->body + r->len, p, n);
        r->len += n;
        p += n + 2;
    }
}

static int take_body(const char *p, size_t n, const struct head *h, struct client_reply *r,
                     struct err *e)
{
    if (h->chunked) {
        if (!dechunk(p, p + n, r))
            return malformed(e, "a chunk is cut off");
        return 0;
    }
    if (h->length >= 0 && (unsigned long long)h->length > n)
        return malformed(e, "the body is cut off");
    r->len = h->length >= 0 ? (size_t)h->length : n;
    r->body = xcalloc(1, r->len + 1);
    memcpy(r->body, p, r->len);
    return 0;
}

int client_parse(const char *data, size_t len, struct client_reply *r, struct err *e)
{
    memset(r, 0, sizeof *r);
    const char *end = memmem(data, len, "\r\n\r\n", 4);
    if (!end || end - data > CLIENT_HEAD_MAX)
        return malformed(e, len ? "its head does not end" : "it is empty");
    autofree char *head = xasprintf("%.*s", (int)(end - data), data);
    char *rest = head, *line = strsep(&rest, "\n");
    int minor;
    if (sscanf(line, "HTTP/1.%1d %3d", &minor, &r->status) != 2 || r->status < 100)
        return malformed(e, "its first line");
    struct head h = {.length = -1};
    while ((line = strsep(&rest, "\n"))) {
        line[strcspn(line, "\r")] = 0;
        take_header(line, r, &h);
    }
    if (r->status == 204)
        h = (struct head){.length = 0};
    int rc = take_body(end + 4, len - (size_t)(end + 4 - data), &h, r, e);
    if (rc)
        client_reply_clear(r);
    return rc;
}

void client_reply_clear(struct client_reply *r)
{
    free(r->body);
    memset(r, 0, sizeof *r);
}

/* ---- requests */

static char *header(const char *name, const char *value)
{
    return value ? xasprintf("%s: %s\r\n", name, value) : xstrdup("");
}

/* The head of a request and its body; `more` is further headers. malloc'ed. */
static char *request_text(const struct client_request *q, const char *more)
{
    autofree char *match = header("If-Match", q->if_match);
    autofree char *bearer = q->peer->token ? xasprintf("Bearer %s", q->peer->token) : NULL;
    autofree char *token = header("Authorization", bearer);
    autofree char *type = q->body
                              ? xasprintf("Content-Type: application/json\r\n"
                                          "Content-Length: %zu\r\n",
                                          strlen(q->body))
                              : xstrdup(strcmp(q->method, "GET") ? "Content-Length: 0\r\n" : "");
    return xasprintf("%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: orion/" ORION_VERSION "\r\n"
                     "Connection: close\r\n%s%s%s%s\r\n%s",
                     q->method, q->path, wire_host(q->peer), match, token, type, more,
                     q->body ? q->body : "");
}

int client_send(const struct client_request *q, struct client_reply *r, struct err *e)
{
    struct wire *w = wire_open(q->peer, e);
    if (!w)
        return -1;
    autofree char *text = request_text(q, "");
    size_t len = 0;
    /* A server may answer and close before it has read all; then the answer counts. */
    bool sent = !wire_write(w, text, strlen(text));
    int error = errno;
    autofree char *data = receive_all(w, &len);
    int lost = data ? error : errno;
    wire_close(&w);
    if (!data || (!len && !sent))
        return wire_unreachable(q->peer, lost, e);
    return client_parse(data, len, r, e);
}

/* ---- streams */

/* Reads up to the end of the head; what came behind it stays in the buffer. 0: it did not come. */
static size_t read_head(struct wire *w, char *buf, size_t size, size_t *len)
{
    const char *end;
    while (!(end = memmem(buf, *len, "\r\n\r\n", 4))) {
        ssize_t n = *len < size ? wire_read(w, buf + *len, size - *len) : 0;
        if (n <= 0)
            return 0;
        *len += (size_t)n;
    }
    return (size_t)(end - buf) + 4;
}

static int follow_open(struct wire *w, const struct client_follower *f, struct client_reply *r,
                       struct err *e)
{
    autofree char *buf = xcalloc(1, CLIENT_HEAD_MAX);
    autofree struct client_sse *s = xcalloc(1, sizeof *s);
    size_t len = 0, head = read_head(w, buf, CLIENT_HEAD_MAX, &len);
    if (!head)
        return malformed(e, "its head does not end");
    if (!memmem(buf, head, "text/event-stream", 17)) {
        size_t rest = 0;
        autofree char *more = receive_all(w, &rest);
        autofree char *all = xcalloc(1, len + rest + 1);
        memcpy(all, buf, len);
        memcpy(all + len, more ? more : "", more ? rest : 0);
        return client_parse(all, len + rest, r, e) ? -1 : 1;
    }
    if (f->ready)
        f->ready(f->arg);
    bool more = client_sse_feed(s, buf + head, len - head, f);
    for (ssize_t n; more && (n = wire_read(w, buf, CLIENT_HEAD_MAX)) > 0;)
        more = client_sse_feed(s, buf, (size_t)n, f);
    return s->bad ? malformed(e, "a chunk of the stream") : 0;
}

int client_follow(const struct client_request *q, const char *last_id,
                  const struct client_follower *f, struct client_reply *r, struct err *e)
{
    memset(r, 0, sizeof *r);
    struct wire *w = wire_open(q->peer, e);
    if (!w)
        return -1;
    autofree char *last = header("Last-Event-ID", last_id);
    autofree char *more = xasprintf("Accept: text/event-stream\r\n%s", last);
    autofree char *text = request_text(q, more);
    int rc = wire_write(w, text, strlen(text)) ? wire_unreachable(q->peer, errno, e)
                                               : follow_open(w, f, r, e);
    wire_close(&w);
    return rc;
}
