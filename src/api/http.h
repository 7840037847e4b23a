/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_API_HTTP_H
#define ORION_API_HTTP_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "control/control.h"

struct json_object;

/* Who asks, and whether they are known. */
struct http_id {
    struct control_who who;
    enum control_role role;
    int result; /* enum auth_result */
    bool unix_peer;
};

/* A parsed request and its answer, between libmicrohttpd (http.c) and the routes (routes.c). */
struct http_request {
    const char *method;   /* "HEAD" comes as "GET" */
    char *path;           /* still percent-encoded, without the query */
    char *query;          /* after '?', or NULL */
    const char *if_match; /* headers, or NULL */
    const char *if_none_match;
    const char *content_type;
    char *body;
    size_t body_len;
    bool body_too_large;
    const char *bad;          /* what is wrong with the head, or NULL */
    bool full;                /* the whole API; else what a scraper may see */
    const struct http_id *id; /* who asks; NULL: a scraper */

    /* -- the answer */
    int status;
    const char *type;
    char *reply; /* malloc'ed */
    size_t reply_len;
    const char *authenticate; /* WWW-Authenticate, or NULL */
    char etag[40], allow[64];
    char location[1600];
};

/* The query of a stream of /v1/events: fills the call, which is the caller's, or answers and -1. */
int http_stream(struct http_request *r, struct control_call *call);
/* In a task on main: answers. */
void http_route(struct http_request *r);

/* routes.c and problem.c */
void http_reply_json(struct http_request *r, int status, struct json_object *o); /* takes o */
void http_reply_text(struct http_request *r, int status, const char *type, char *text, size_t len);
/* RFC 9457. `status` 0: the one of the error's class. `errors` (may be NULL) has all wrong fields.
 */
void http_reply_problem(struct http_request *r, int status, const struct err *e,
                        struct json_object *errors);
struct json_object *http_problem(int status, const struct err *e, struct json_object *errors);

/* Splits and decodes a query in place; at most `max` pairs. -1: malformed. */
struct control_pair;
int http_query(char *query, struct control_pair *pairs, unsigned max);
/* A body: strict JSON, an object, of bounded depth. NULL with *e filled. */
struct json_object *http_body(const char *body, size_t len, struct err *e);

/* openapi.c: the document, the caller's. */
struct json_object *openapi_document(void);
/* metrics.c: T. Prometheus text; malloc'ed. */
char *metrics_text(size_t *len_r);

#endif
