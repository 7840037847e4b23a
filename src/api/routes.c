/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <json-c/json.h>

#include "api/api.h"
#include "api/auth.h"
#include "api/http.h"
#include "base/mem.h"
#include "control/control.h"

enum { QUERY_MAX = 32 };

/* ---- the parts of a request */

struct json_object *http_body(const char *body, size_t len, struct err *e)
{
    struct json_tokener *tok = json_tokener_new_ex(API_JSON_DEPTH);
    json_tokener_set_flags(tok, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
    struct json_object *o = json_tokener_parse_ex(tok, body, (int)len);
    enum json_tokener_error error = json_tokener_get_error(tok);
    size_t end = json_tokener_get_parse_end(tok);
    json_tokener_free(tok);
    while (end < len && isspace((unsigned char)body[end]))
        end++;
    if (error == json_tokener_success && end == len && json_object_is_type(o, json_type_object))
        return o;
    json_object_put(o);
    if (error == json_tokener_success && end == len)
        err_set(e, ERR_INVALID, "", "the body is no JSON object");
    else if (error == json_tokener_success)
        err_set(e, ERR_INVALID, "", "the body goes on after its JSON object, at byte %zu", end);
    else
        err_set(e, ERR_INVALID, "", "the body is no JSON: %s at byte %zu",
                error == json_tokener_continue ? "it ends too early"
                                               : json_tokener_error_desc(error),
                end);
    return NULL;
}

static bool decode(char *text)
{
    char *out = text;
    for (; *text; text++) {
        if (*text == '%') {
            if (!isxdigit((unsigned char)text[1]) || !isxdigit((unsigned char)text[2]))
                return false;
            char hex[3] = {text[1], text[2], 0};
            *out = (char)strtoul(hex, NULL, 16);
            if (!*out++)
                return false;
            text += 2;
        } else {
            *out++ = *text == '+' ? ' ' : *text;
        }
    }
    *out = 0;
    return true;
}

int http_query(char *query, struct control_pair *pairs, unsigned max)
{
    unsigned n = 0;
    for (char *part; (part = strsep(&query, "&"));) {
        if (!*part)
            continue;
        if (n == max)
            return -1;
        char *value = strchr(part, '=');
        if (value)
            *value++ = 0;
        if (!decode(part) || (value && !decode(value)))
            return -1;
        pairs[n++] = (struct control_pair){part, value};
    }
    return (int)n;
}

/* ---- answers */

void http_reply_text(struct http_request *r, int status, const char *type, char *text, size_t len)
{
    r->status = status;
    r->type = type;
    r->reply = text;
    r->reply_len = len;
}

void http_reply_json(struct http_request *r, int status, struct json_object *o)
{
    size_t n;
    const char *text = json_object_to_json_string_length(
        o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &n);
    char *line = xasprintf("%s\n", text);
    http_reply_text(r, status, "application/json", line, n + 1);
    json_object_put(o);
}

static void refuse(struct http_request *r, int status, enum err_code code, const char *msg)
{
    struct err e;
    err_set(&e, code, "", "%s", msg);
    http_reply_problem(r, status, &e, NULL);
}

/* ---- verbs */

struct verb_request {
    struct http_request *r;
    int status; /* of an error that has one of its own: 413, 415 */
};

static int query_fields(struct control_call *call, struct http_request *r, struct err *e)
{
    struct control_pair pairs[QUERY_MAX];
    int n = r->query ? http_query(r->query, pairs, QUERY_MAX) : 0;
    if (n < 0)
        return err_set(e, ERR_INVALID, "", "the query is malformed");
    if (r->body_len)
        return err_set(e, ERR_INVALID, "", "%s takes no body; its fields go into the query",
                       r->method);
    return control_opts_text(call, pairs, (unsigned)n, e);
}

static bool is_type(const char *type, const char *want)
{
    size_t n = strlen(want);
    return !strncasecmp(type, want, n) && (!type[n] || type[n] == ';' || type[n] == ' ');
}

/* A change of some fields is a merge patch (RFC 7396); plain JSON says the same here. */
static bool is_json(const struct http_request *r)
{
    return !r->content_type || is_type(r->content_type, "application/json") ||
           (!strcmp(r->method, "PATCH") &&
            is_type(r->content_type, "application/merge-patch+json"));
}

static int take_fields(struct control_call *call, struct err *e)
{
    struct verb_request *v = call->arg;
    struct http_request *r = v->r;
    if (r->body_too_large) {
        v->status = 413;
        return err_set(e, ERR_INVALID, "", "the body is larger than %zu bytes", api_limits.body);
    }
    if (!strcmp(r->method, "GET") || !strcmp(r->method, "DELETE"))
        return query_fields(call, r, e);
    if (r->query && *r->query)
        return err_set(e, ERR_INVALID, "", "%s takes no query; its fields go into the body",
                       r->method);
    if (!r->body_len)
        return control_opts_json(call, NULL, e);
    if (!is_json(r)) {
        v->status = 415;
        return err_set(e, ERR_INVALID, "Content-Type", "Content-Type is '%.60s'; expected %s",
                       r->content_type, "application/json");
    }
    struct json_object *body = http_body(r->body, r->body_len, e);
    if (!body)
        return -1;
    int rc = control_opts_json(call, body, e);
    json_object_put(body);
    return rc;
}

static void reply_call(struct http_request *r, struct control_call *call)
{
    snprintf(r->etag, sizeof r->etag, "%s", call->etag);
    snprintf(r->location, sizeof r->location, "%s", call->location);
    if (!strcmp(r->method, "GET") && *r->etag && r->if_none_match &&
        control_etag_listed(r->if_none_match, r->etag, true)) {
        http_reply_text(r, 304, NULL, NULL, 0);
    } else if (call->reply) {
        http_reply_json(r, call->status, call->reply);
        call->reply = NULL;
    } else {
        http_reply_text(r, call->status, NULL, NULL, 0);
    }
}

static void run_verb(struct http_request *r, struct control_call *call)
{
    struct verb_request v = {.r = r};
    struct err e = {0};
    call->fields = take_fields;
    call->arg = &v;
    call->if_match = r->if_match;
    call->if_none_match = strcmp(r->method, "GET") ? r->if_none_match : NULL;
    call->who = r->id->who;
    call->role = r->id->role;
    if (control_run(call, &e))
        http_reply_problem(r, v.status, &e, call->errors);
    else
        reply_call(r, call);
    control_call_clear(call);
}

int http_stream(struct http_request *r, struct control_call *call)
{
    struct verb_request v = {.r = r};
    struct err e = {0};
    *call = (struct control_call){.fields = take_fields, .arg = &v};
    if (r->id)
        call->who = r->id->who;
    int rc = schema_route(r->method, r->path, &call->match, NULL, &e);
    if (!rc)
        rc = control_list_begin(call, &e);
    call->arg = NULL;
    if (rc) {
        http_reply_problem(r, v.status, &e, call->errors);
        control_call_clear(call);
    }
    return rc;
}

/* ---- what is there without the tables */

static void reply_health(struct http_request *r, bool ready)
{
    struct json_object *o = json_object_new_object();
    bool up = !ready || control_phase() == CONTROL_READY;
    json_object_object_add(
        o, "status", json_object_new_string(ready ? control_phase_name(control_phase()) : "ok"));
    http_reply_json(r, up ? 200 : 503, o);
}

static void reply_metrics(struct http_request *r)
{
    size_t len;
    char *text = metrics_text(&len);
    http_reply_text(r, 200, "text/plain; version=0.0.4; charset=utf-8", text, len);
}

static void reply_openapi(struct http_request *r)
{
    http_reply_json(r, 200, openapi_document());
}

static bool route_plain(struct http_request *r)
{
    static const char *const paths[] = {"/healthz", "/readyz", "/metrics", "/openapi.json"};
    unsigned i = 0;
    while (i < 4 && strcmp(r->path, paths[i]) != 0)
        i++;
    if (i == 4)
        return false;
    if (strcmp(r->method, "GET") != 0) {
        strcpy(r->allow, "GET, HEAD");
        refuse(r, 405, ERR_UNSUPPORTED, "only GET is possible here");
    } else if (i >= 2 && control_phase() != CONTROL_READY) {
        refuse(r, 503, ERR_NOT_READY, "oriond is not ready");
    } else if (i < 2) {
        reply_health(r, i == 1);
    } else if (i == 2) {
        reply_metrics(r);
    } else {
        reply_openapi(r);
    }
    return true;
}

static void refuse_stranger(struct http_request *r)
{
    const struct http_id *id = r->id;
    const char *why = "only root, oriond's own user, the group orion and those with a role may do "
                      "this";
    int status = 403;
    if (id->result == AUTH_LIMITED) {
        status = 429;
        why = "too many requests from there were refused; wait a minute";
    } else if (id->result == AUTH_BAD) {
        status = 401;
        why = "this token is not known, or it has expired";
    } else if (!id->unix_peer) {
        status = 401;
        why = "a bearer token or a client certificate with a role is needed";
    }
    r->authenticate = status == 401 ? "Bearer" : NULL;
    if (control_phase() == CONTROL_READY)
        control_refused(&id->who, r->method, r->path, id->result == AUTH_LIMITED ? NULL : why);
    refuse(r, status, ERR_DENIED, why);
}

void http_route(struct http_request *r)
{
    struct control_call call = {0};
    struct err e = {0};
    if (r->bad) {
        refuse(r, 400, ERR_INVALID, r->bad);
        return;
    }
    if (r->id && r->id->result != AUTH_OK) {
        refuse_stranger(r);
        return;
    }
    if (route_plain(r))
        return;
    if (!r->full) {
        refuse(r, 404, ERR_NOT_FOUND,
               "only /metrics, /healthz, /readyz and /openapi.json are here");
        return;
    }
    if (control_phase() != CONTROL_READY) {
        refuse(r, 503, ERR_NOT_READY, "oriond is not ready");
        return;
    }
    if (schema_route(r->method, r->path, &call.match, r->allow, &e))
        http_reply_problem(r, e.code == ERR_UNSUPPORTED ? 405 : err_code_http(e.code), &e, NULL);
    else
        run_verb(r, &call);
}
