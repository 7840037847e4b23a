/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "api.h"

#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/size.h"
#include "client/client.h"

void answer_clear(struct answer *a)
{
    json_object_put(a->json);
    memset(a, 0, sizeof *a);
}

const char *json_text(struct json_object *o, const char *key)
{
    struct json_object *v;
    const char *s = json_object_object_get_ex(o, key, &v) ? json_object_get_string(v) : NULL;
    return s ? s : "";
}

/* ---- errors: RFC 9457 problem documents with the code of base/err.h in "code" */
static int exit_of(const struct answer *a)
{
    const char *code = json_text(a->json, "code");
    for (int i = 1; *code && i < ERR_CODE_COUNT; i++)
        if (!strcmp(err_code_name(i), code))
            return err_code_exit(i);
    switch (a->status) {
    case 401:
    case 403: return err_code_exit(ERR_DENIED);
    case 404: return err_code_exit(ERR_NOT_FOUND);
    case 409: return err_code_exit(ERR_IN_USE);
    case 412: return err_code_exit(ERR_STALE);
    default: return EXIT_REFUSED;
    }
}

void api_complain(const struct answer *a)
{
    const char *detail = *a->lost ? a->lost : json_text(a->json, "detail");
    if (!*detail)
        detail = json_text(a->json, "title");
    if (*detail)
        fprintf(stderr, "orionctl: %s\n", detail);
    else
        fprintf(stderr, "orionctl: the daemon answered with status %d\n", a->status);
    struct json_object *list, *seen;
    if (!json_object_object_get_ex(a->json, "errors", &list) ||
        !json_object_is_type(list, json_type_array))
        return;
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        seen = json_object_array_get_idx(list, i);
        const char *more = json_text(seen, "detail");
        if (strcmp(more, detail))
            fprintf(stderr, "  %s: %s\n", json_text(seen, "field"), more);
    }
}

/* Takes the reply over: 0, or an exit code. */
static int take_reply(struct client_reply *r, bool quiet, struct answer *a)
{
    a->status = r->status;
    memcpy(a->etag, r->etag, sizeof a->etag);
    memcpy(a->location, r->location, sizeof a->location);
    if (r->len)
        a->json = json_tokener_parse(r->body);
    bool readable = !r->len || a->json || r->status >= 400;
    client_reply_clear(r);
    if (a->status < 400 && readable)
        return 0;
    if (!readable)
        snprintf(a->lost, sizeof a->lost, "the daemon's answer is no JSON");
    if (!quiet)
        api_complain(a);
    return readable ? exit_of(a) : EXIT_REFUSED;
}

/* No answer at all. */
static int no_reply(const struct err *e, bool quiet, struct answer *a)
{
    snprintf(a->lost, sizeof a->lost, "%s", e->msg);
    if (!quiet)
        api_complain(a);
    return e->code == ERR_DENIED    ? err_code_exit(ERR_DENIED)
           : e->code == ERR_INVALID ? EXIT_USAGE
                                    : EXIT_NO_DAEMON;
}

int api_call(const char *method, const char *path, const char *if_match, struct json_object *body,
             bool quiet, struct answer *a)
{
    memset(a, 0, sizeof *a);
    struct client_request q = {
        .peer = api_peer(), .method = method, .path = path, .if_match = if_match};
    if (body)
        q.body = json_object_to_json_string_ext(body, JSON_C_TO_STRING_PLAIN);
    struct client_reply r;
    struct err e;
    if (client_send(&q, &r, &e))
        return no_reply(&e, quiet, a);
    return take_reply(&r, quiet, a);
}

int api_follow(const char *path, const char *last_id, const struct client_follower *f)
{
    struct client_request q = {.peer = api_peer(), .method = "GET", .path = path};
    struct client_reply r;
    struct answer a = {0};
    struct err e;
    int rc = client_follow(&q, last_id, f, &r, &e);
    if (rc)
        rc = rc < 0 ? no_reply(&e, false, &a) : take_reply(&r, false, &a);
    answer_clear(&a);
    return rc;
}

/* ---- lists */
static char *page_path(const char *path, const char *cursor)
{
    if (!cursor)
        return xstrdup(path);
    autofree char *safe = xcalloc(1, 3 * strlen(cursor) + 1);
    char *at = safe;
    for (const char *p = cursor; *p; p++)
        at += sprintf(at, "%%%02X", (unsigned char)*p);
    return xasprintf("%s%ccursor=%s", path, strchr(path, '?') ? '&' : '?', safe);
}

int api_list(const char *path, bool quiet, struct json_object **items_r)
{
    struct json_object *all = json_object_new_array(), *items, *next;
    autofree char *cursor = NULL;
    *items_r = all;
    for (;;) {
        autofree char *page = page_path(path, cursor);
        struct answer a;
        int rc = api_call("GET", page, NULL, NULL, quiet, &a);
        if (!rc && json_object_object_get_ex(a.json, "items", &items))
            for (size_t i = 0; i < json_object_array_length(items); i++)
                json_object_array_add(all, json_object_get(json_object_array_get_idx(items, i)));
        free(cursor);
        cursor = NULL;
        if (!rc && json_object_object_get_ex(a.json, "next", &next) && next)
            cursor = xstrdup(json_object_get_string(next));
        answer_clear(&a);
        if (rc || !cursor)
            return rc;
    }
}

/* ---- jobs */
static int job_verdict(struct json_object *job)
{
    const char *state = json_text(job, "state");
    if (!strcmp(state, "done"))
        return EXIT_DONE;
    const char *why = json_text(job, "error");
    fprintf(stderr, "orionctl: job %s (%s of %s) %s%s%s\n", json_text(job, "id"),
            json_text(job, "kind"), json_text(job, "object"),
            strcmp(state, "cancelled") ? "failed" : "was cancelled", *why ? ": " : "", why);
    return EXIT_JOB_FAILED;
}

/* How far it is, on one line of a terminal. */
static void draw_progress(struct json_object *job, bool ended)
{
    enum { WIDTH = 30 };
    struct json_object *done, *total, *rate;
    char text[16];
    if (!isatty(STDERR_FILENO))
        return;
    if (ended) {
        fputs("\r\33[K", stderr);
        return;
    }
    if (!json_object_object_get_ex(job, "done", &done) ||
        !json_object_object_get_ex(job, "total", &total) || json_object_get_int64(total) <= 0)
        return;
    double part = json_object_get_double(done) / json_object_get_double(total);
    int full = (int)(part * WIDTH);
    fprintf(stderr, "\r%s %s [%.*s%.*s] %3d%%", json_text(job, "kind"), json_text(job, "object"),
            full, "##############################", WIDTH - full, "..............................",
            (int)(part * 100));
    if (json_object_object_get_ex(job, "rate", &rate) && json_object_get_int64(rate) > 0)
        fprintf(stderr, " %s/s, %.0f s left",
                size_format((uint64_t)json_object_get_int64(rate), text),
                (1 - part) * json_object_get_double(total) / json_object_get_double(rate));
    fputs("\33[K", stderr);
}

int api_wait_job(const char *location, unsigned long timeout, struct json_object **job_r)
{
    unsigned wait_ms = 50;
    time_t begin = time(NULL);
    *job_r = NULL;
    for (;;) {
        struct answer a;
        int rc = api_call("GET", location, NULL, NULL, false, &a);
        json_object_put(*job_r);
        *job_r = json_object_get(a.json);
        answer_clear(&a);
        if (rc)
            return rc;
        const char *state = json_text(*job_r, "state");
        bool ended = strcmp(state, "running") && strcmp(state, "paused");
        draw_progress(*job_r, ended);
        if (ended)
            return job_verdict(*job_r);
        if (timeout && (unsigned long)(time(NULL) - begin) >= timeout) {
            fprintf(stderr, "orionctl: job %s still runs after %lu s\n", json_text(*job_r, "id"),
                    timeout);
            return EXIT_REFUSED;
        }
        usleep(wait_ms * 1000);
        wait_ms = wait_ms < 500 ? wait_ms * 2 : 1000;
    }
}
