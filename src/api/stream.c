/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "api/stream.h"

#include "api/api.h"

#include <inttypes.h>
#include <json-c/json.h>
#include <microhttpd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "base/mem.h"
#include "control/control.h"
#include "control/events.h"
#include "control/token.h"
#include "reactor/reactor.h"

/*
 * A stream keeps no events: it reads them from control's ring. One that is so slow that the ring
 * has overtaken it is cut off, and its client comes again with Last-Event-ID. A stream that has
 * nothing to tell is suspended; libmicrohttpd does not see then that its client has gone, so that
 * each gets a comment every STREAM_BEAT_S seconds, which fails when nobody is there.
 */
struct stream {
    struct list link;
    struct MHD_Connection *connection;
    struct control_call call; /* which events, and which fields of them */
    uint64_t token;           /* as control_token_made says when it begins */
    uint64_t next;            /* id of the event to send next */
    bool suspended, beat;
    char *text;
    size_t len, at;
};

static struct list streams = LIST_INIT(streams);
static unsigned count;
static bool ending;
static void (*kick_fn)(void);
static struct rtimer beat_timer;

static void resume_all(void)
{
    struct stream *s;
    bool any = false;
    list_for_each (s, &streams, link) {
        if (!s->suspended)
            continue;
        s->suspended = false;
        any = true;
        MHD_resume_connection(s->connection);
    }
    if (any)
        kick_fn();
}

static void beat(void *arg)
{
    struct stream *s;
    (void)arg;
    list_for_each (s, &streams, link)
        s->beat = true;
    resume_all();
    rtimer_arm(&beat_timer, STREAM_BEAT_S * 1000000u, beat, NULL);
}

void streams_open(void (*kick)(void))
{
    kick_fn = kick;
    ending = false;
    control_events_watch(resume_all);
    rtimer_arm(&beat_timer, STREAM_BEAT_S * 1000000u, beat, NULL);
}

void streams_close(void)
{
    if (!kick_fn)
        return;
    ending = true;
    control_events_unwatch(resume_all);
    rtimer_free(&beat_timer);
    resume_all();
}

unsigned streams_count(void)
{
    return count;
}

static void set_text(struct stream *s, char *text)
{
    free(s->text);
    s->text = text;
    s->len = strlen(text);
    s->at = 0;
}

/* NULL: the client does not want it. */
static char *event_text(const struct stream *s, uint64_t id)
{
    struct json_object *all = control_event(id), *o = control_list_item(&s->call, all),
                       *kind = NULL;
    if (!o) {
        json_object_put(all);
        return NULL;
    }
    json_object_object_get_ex(all, "kind", &kind);
    char *text = xasprintf(
        "id: %" PRIu64 "-%" PRIu64 "\nevent: %s\ndata: %s\n\n", control_started_ms(), id,
        json_object_get_string(kind),
        json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
    json_object_put(o);
    json_object_put(all);
    return text;
}

/* False: nothing to tell now. */
static bool next_text(struct stream *s)
{
    char *text = NULL;
    while (!text && s->next <= control_events_total())
        text = event_text(s, s->next++);
    if (!text && !s->beat)
        return false;
    set_text(s, text ? text : xstrdup(": still here\n\n"));
    s->beat = false;
    return true;
}

static ssize_t read_stream(void *arg, uint64_t pos, char *buf, size_t max)
{
    struct stream *s = arg;
    (void)pos;
    if (ending || control_token_made(&s->call.who) != s->token)
        return MHD_CONTENT_READER_END_OF_STREAM;
    if (s->at == s->len) {
        if (s->next < control_events_first())
            return MHD_CONTENT_READER_END_WITH_ERROR; /* overtaken */
        if (!next_text(s)) {
            s->suspended = true;
            MHD_suspend_connection(s->connection);
            return 0;
        }
    }
    size_t n = s->len - s->at < max ? s->len - s->at : max;
    memcpy(buf, s->text + s->at, n);
    s->at += n;
    return (ssize_t)n;
}

static void end_stream(void *arg)
{
    struct stream *s = arg;
    list_del(&s->link);
    count--;
    control_call_clear(&s->call);
    free(s->text);
    free(s);
}

/* Where to go on: behind the event that the client had last. What it had of another run of the
 * daemon, or what the ring has forgotten, it is told of as a gap. */
static void begin(struct stream *s, const char *last_id)
{
    uint64_t boot = 0, id = 0;
    set_text(s, xstrdup("retry: 1000\n\n"));
    s->next = control_events_total() + 1;
    if (!last_id && opts_is_set(s->call.opts, "after")) {
        uint64_t after = opts_u64(s->call.opts, "after"), first = control_events_first();
        s->next = after >= s->next ? s->next : after < first ? first : after + 1;
    }
    if (!last_id)
        return;
    bool known = sscanf(last_id, "%" SCNu64 "-%" SCNu64, &boot, &id) == 2 &&
                 boot == control_started_ms() && id <= control_events_total();
    s->next = known ? id + 1 : control_events_first();
    if (known && s->next >= control_events_first())
        return;
    if (s->next < control_events_first())
        s->next = control_events_first();
    set_text(s, xstrdup("retry: 1000\n\nevent: gap\ndata: {\"kind\":\"gap\",\"message\":\"events "
                        "before this were not kept\"}\n\n"));
}

struct MHD_Response *stream_new(struct MHD_Connection *c, struct control_call *call,
                                const char *last_id)
{
    if (count >= api_limits.streams || ending) {
        control_call_clear(call);
        return NULL;
    }
    struct stream *s = xcalloc(1, sizeof *s);
    s->connection = c;
    s->call = *call;
    s->token = control_token_made(&call->who);
    begin(s, last_id);
    struct MHD_Response *m =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 4096, read_stream, s, end_stream);
    if (!m) {
        control_call_clear(&s->call);
        free(s->text);
        free(s);
        return NULL;
    }
    list_add_tail(&streams, &s->link);
    count++;
    return m;
}
