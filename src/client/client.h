/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_CLIENT_CLIENT_H
#define ORION_CLIENT_CLIENT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

/*
 * A small HTTP/1.1 client (RFC 9112): one request a connection, over a unix socket, TCP or TLS. It
 * blocks: for orionctl, and for helper threads of the daemon.
 */
enum { CLIENT_BODY_MAX = 64 << 20, CLIENT_HEAD_MAX = 64 << 10, CLIENT_EVENT_MAX = 64 << 10 };

/* Who is asked, and how both sides show who they are. */
struct client_peer {
    const char *addr; /* "unix:PATH", "https://HOST[:PORT]", "http://HOST[:PORT]"; "HOST:PORT" and
                         "[IPV6]:PORT" are TLS too */
    const char *ca;   /* PEM: who signs the server; NULL: whom this machine trusts */
    const char *cert, *key; /* PEM: our own certificate; NULL: none */
    const char *token;      /* bearer token, or NULL: never sent in clear beyond this machine */
    unsigned timeout_s;     /* of each wait for the other side; 0: none */
    void (*opened)(int fd, void *arg); /* the socket, and -1 before it is closed; may be NULL */
    void *arg;
};

struct client_request {
    const struct client_peer *peer;
    const char *method;
    const char *path;     /* with its query, percent-encoded */
    const char *if_match; /* or NULL */
    const char *body;     /* JSON, or NULL */
};

struct client_reply {
    int status;
    char etag[128];      /* "" when there was none */
    char location[1024]; /* "" when there was none */
    char *body;          /* NUL-terminated, never NULL */
    size_t len;
};

/* ERR_DENIED: the socket may not be used by this user; ERR_INVALID: what was given is wrong, with
 * its field; ERR_IO: nobody answered, or whoever did is not to be trusted. */
int client_send(const struct client_request *req, struct client_reply *reply_r, struct err *e);
void client_reply_clear(struct client_reply *reply);

/* Takes a whole answer apart, as it came until the server closed. Separate for its fuzzer. */
int client_parse(const char *data, size_t len, struct client_reply *reply_r, struct err *e);

/* ---- server-sent events (WHATWG HTML, 9.2) */
struct client_event {
    const char *id, *kind, *data; /* "" when not told */
};
/* `ready` (may be NULL) when the stream is open, then `fn` for each event; false ends it. */
struct client_follower {
    void (*ready)(void *arg);
    bool (*fn)(const struct client_event *ev, void *arg);
    void *arg;
};
/* Follows GET `path`, behind `last_id` when that is not NULL. 0 when the server ended the stream or
 * fn did; 1 when it refused: then the answer is in *reply_r. */
int client_follow(const struct client_request *req, const char *last_id,
                  const struct client_follower *f, struct client_reply *reply_r, struct err *e);

/* The reader of a body in chunks, apart for its fuzzer. Zeroed at first. */
struct client_sse {
    int state;
    size_t left; /* of the chunk */
    char line[CLIENT_EVENT_MAX];
    size_t len;
    char id[256], kind[64];
    char data[CLIENT_EVENT_MAX];
    size_t data_len;
    bool bad; /* it is no such stream */
};
/* False: fn wants no more, the stream has ended, or `bad`. */
bool client_sse_feed(struct client_sse *s, const char *bytes, size_t n,
                     const struct client_follower *f);

#endif
