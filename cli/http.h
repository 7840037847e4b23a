/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_CLI_HTTP_H
#define ORION_CLI_HTTP_H

#include <stddef.h>

#include "base/err.h"

/* A small HTTP/1.1 client (RFC 9112): one request a connection, over a unix socket or TCP. */
enum { HTTP_BODY_MAX = 64 << 20, HTTP_HEAD_MAX = 64 << 10 };

struct http_request {
    const char *addr; /* "unix:PATH", "HOST:PORT", "[IPV6]:PORT" */
    const char *method;
    const char *path;     /* with its query, percent-encoded */
    const char *if_match; /* or NULL */
    const char *body;     /* JSON, or NULL */
};

struct http_reply {
    int status;
    char etag[128];      /* "" when there was none */
    char location[1024]; /* "" when there was none */
    char *body;          /* NUL-terminated, never NULL */
    size_t len;
};

/* ERR_DENIED: the socket may not be used by this user; ERR_IO: nobody answered. */
int http_send(const struct http_request *req, struct http_reply *reply_r, struct err *e);
void http_reply_clear(struct http_reply *reply);

/* Takes a whole answer apart, as it came until the server closed. Separate for its fuzzer. */
int http_parse(const char *data, size_t len, struct http_reply *reply_r, struct err *e);

#endif
