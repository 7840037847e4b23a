/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/jobs.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "block/job.h"
#include "control/apply.h"
#include "control/shows.h"
#include "raid/raid.h"

/*
 * A job is saved when it starts and when it ends, so that who started it learns its outcome after a
 * restart too. One that is found running at start-up was cut off: the sync of an array goes on
 * under its number, and so does its scrub, from where it was when that was saved; other work has
 * failed. Numbers go on over a restart.
 */
enum { KEEP_SAVED = 256 };

static struct json_object *results; /* id -> what the job told */
static struct json_object *said;    /* id -> the state of a job under way that events have told */
static unsigned saving;

static void id_text(uint64_t id, char out[24])
{
    snprintf(out, 24, "%" PRIu64, id);
}

static uint64_t id_of(const struct schema_match *m)
{
    const char *text = schema_param(m, "id");
    char *end;
    uint64_t id = strtoull(text, &end, 10);
    return *text >= '1' && *text <= '9' && !*end ? id : 0;
}

/* ---- the record: the object as it is shown, with times as numbers */

/* What control was told of the job, or the facts that it found. */
static struct json_object *result_of(const struct job_info *j, const char *id)
{
    struct json_object *result = NULL;
    if (results && json_object_object_get_ex(results, id, &result))
        return json_object_get(result);
    for (unsigned i = 0; i < JOB_FACTS && j->fact[i].key; i++) {
        result = result ? result : json_object_new_object();
        put_u64(result, j->fact[i].key, j->fact[i].value);
    }
    return result;
}

static struct json_object *record_of(const struct job_info *j)
{
    char id[24];
    struct json_object *o = json_object_new_object();
    id_text(j->id, id);
    put_u64(o, "id", j->id);
    put_str(o, "kind", j->kind);
    put_str(o, "object", j->object);
    put_str(o, "state", job_state_name(j->state));
    put_u64(o, "done", j->done);
    put_u64(o, "total", j->total);
    put_u64(o, "rate", j->rate);
    put_u64(o, "started_ms", j->started_ms);
    put_u64(o, "ended_ms", j->ended_ms);
    put_bool(o, "can_cancel", j->can_cancel && j->state <= JOB_PAUSED);
    put_str(o, "error", j->state == JOB_FAILED || j->state == JOB_CANCELLED ? j->err.msg : "");
    struct json_object *result = result_of(j, id);
    if (result)
        json_object_object_add(o, "result", result);
    return o;
}

static struct json_object *show_record(struct json_object *r)
{
    struct json_object *o = json_object_new_object(), *eta = NULL;
    uint64_t done = get_u64(r, "done"), total = get_u64(r, "total"), rate = get_u64(r, "rate");
    json_object_object_foreach(r, key, value)
    {
        if (!strcmp(key, "started_ms"))
            put_time(o, "started", get_u64(r, key));
        else if (!strcmp(key, "ended_ms"))
            put_time(o, "ended", get_u64(r, key));
        else
            json_object_object_add(o, key, json_object_get(value));
    }
    if (!get_u64(r, "ended_ms") && rate && total >= done)
        eta = json_object_new_uint64((total - done + rate - 1) / rate);
    json_object_object_add(o, "eta", eta);
    return o;
}

SHOW(job)
{
    struct job_info info;
    uint64_t id = id_of(m);
    char text[24];
    id_text(id, text);
    if (id && job_get(id, &info)) {
        struct json_object *r = record_of(&info), *o = show_record(r);
        json_object_put(r);
        return o;
    }
    struct json_object *saved = state_get("job", text);
    return saved ? show_record(saved) : NULL;
}

static void list_saved(const char *key, struct json_object *record, void *arg)
{
    struct job_info info;
    if (!job_get(strtoull(strchr(key, '/') + 1, NULL, 10), &info))
        json_object_array_add(arg, show_record(record));
}

static void list_live(const struct job_info *j, void *arg)
{
    struct json_object *r = record_of(j);
    json_object_array_add(arg, show_record(r));
    json_object_put(r);
}

LIST(job)
{
    (void)m, (void)o, (void)e;
    journal_for_each(control.journal, "job/", list_saved, items);
    job_for_each(list_live, items);
    return 0;
}

/* ---- saving */

struct saved {
    struct list link;
    char id[24];
    struct json_object *record;
};
static struct list under_way = LIST_INIT(under_way);

struct oldest {
    unsigned count;
    uint64_t id;
};

static void find_oldest(const char *key, struct json_object *record, void *arg)
{
    struct oldest *o = arg;
    uint64_t id = strtoull(strchr(key, '/') + 1, NULL, 10);
    if (!get_u64(record, "ended_ms"))
        return;
    o->count++;
    if (!o->id || id < o->id)
        o->id = id;
}

/* With the end of an apply goes what was noted for the case that it were cut off. T. */
static void store(const char *id, struct json_object *record)
{
    struct oldest old = {0};
    char key[KEY_MAX], plan[KEY_MAX], drop[KEY_MAX], old_id[24];
    unsigned n = 1;
    journal_for_each(control.journal, "job/", find_oldest, &old);
    id_text(old.id, old_id);
    state_key(key, "job", id, NULL);
    state_key(plan, "apply", id, NULL);
    state_key(drop, "job", old_id, NULL);
    struct journal_change c[3] = {{key, record}};
    if (get_u64(record, "ended_ms") && state_get("apply", id))
        c[n++].key = plan;
    if (old.count >= KEEP_SAVED && strcmp(key, drop))
        c[n++].key = drop;
    journal_apply(control.journal, c, n, NULL);
    if (results && old.count >= KEEP_SAVED)
        json_object_object_del(results, old_id);
}

static void save_task(void *arg)
{
    struct saved *s = arg;
    store(s->id, s->record);
    list_del(&s->link);
    json_object_put(s->record);
    free(s);
    saving--;
}

static void save_job(const struct job_info *j)
{
    struct saved *s = xcalloc(1, sizeof *s);
    id_text(j->id, s->id);
    s->record = record_of(j);
    list_add_tail(&under_way, &s->link);
    saving++;
    task_start(reactor_main(), "save job", save_task, s);
}

static bool is_scrub(const char *kind)
{
    return !strcmp(kind, "check") || !strcmp(kind, "repair");
}

static bool is_sync(const char *kind)
{
    return !strcmp(kind, "resync") || !strcmp(kind, "rebuild");
}

static bool is_saving(uint64_t id)
{
    char text[24];
    struct saved *s;
    id_text(id, text);
    list_for_each (s, &under_way, link)
        if (!strcmp(s->id, text))
            return true;
    return false;
}

struct json_object *job_json(uint64_t id)
{
    struct job_info info;
    while (!job_get(id, &info))
        task_yield(); /* it is on its way to the list */
    while (is_saving(id))
        task_sleep_us(100); /* who hears its number may ask for it after a crash, too */
    if (!job_get(id, &info))
        return NULL;
    struct json_object *r = record_of(&info), *o = show_record(r);
    json_object_put(r);
    return o;
}

/* What an array goes on with at the next start is not over. */
static void save_cursor(const struct job_info *j)
{
    struct job_info on = *j;
    on.state = JOB_RUNNING;
    on.ended_ms = 0;
    save_job(&on);
}

static void tell_end(uint64_t id, const char *kind, const char *object, const char *state,
                     const char *why)
{
    char text[32], number[24];
    id_text(id, number);
    const char *was = get_str(said, number);
    snprintf(text, sizeof text, "job %s", number);
    event_raise_change(text, "job-ended", *was ? was : job_state_name(JOB_RUNNING), state,
                       "%s of %s is %s%s%s", kind, object, state, *why ? ": " : "", why);
    json_object_object_del(said, number);
}

/* "job-started", and then what it was told to do, "job-paused" and "job-running"; checkpoints are
 * no news. */
static void tell_running(const struct job_info *j)
{
    char id[24], text[32], kind[24];
    id_text(j->id, id);
    const char *was = get_str(said, id), *is = job_state_name(j->state);
    if (!strcmp(was, is))
        return;
    snprintf(text, sizeof text, "job %s", id);
    snprintf(kind, sizeof kind, "job-%s", *was ? is : "started");
    event_raise_change(text, kind, *was ? was : "absent", is, "%s of %s", j->kind, j->object);
    put_str(said, id, is);
}

static void on_job(const struct job_info *j, void *arg)
{
    (void)arg;
    if (!results || control.phase == CONTROL_STARTING)
        return;
    bool stays = is_sync(j->kind) || is_scrub(j->kind);
    if (control.phase == CONTROL_STOPPING && j->state == JOB_CANCELLED && stays) {
        save_cursor(j);
        return;
    }
    save_job(j);
    if (j->state < JOB_DONE)
        tell_running(j);
    else
        tell_end(j->id, j->kind, j->object, job_state_name(j->state), j->err.msg);
}

void job_result_set(uint64_t id, struct json_object *result)
{
    char text[24];
    id_text(id, text);
    json_object_object_add(results, text, result);
}

struct started {
    uint64_t last;
};

static void note_saved(const char *key, struct json_object *record, void *arg)
{
    struct started *s = arg;
    struct job_info info = {.id = strtoull(strchr(key, '/') + 1, NULL, 10)};
    if (info.id > s->last)
        s->last = info.id;
    if (get_u64(record, "ended_ms"))
        return;
    snprintf(info.kind, sizeof info.kind, "%s", get_str(record, "kind"));
    snprintf(info.object, sizeof info.object, "%s", get_str(record, "object"));
    info.started_ms = get_u64(record, "started_ms");
    job_interrupted(&info);
}

void jobs_init(void)
{
    struct started s = {0};
    results = json_object_new_object();
    said = json_object_new_object();
    journal_for_each(control.journal, "job/", note_saved, &s);
    job_ids_after(s.last);
    job_observe(on_job, NULL);
}

/* ---- scrubs that go on */

struct cut_scrubs {
    struct json_object **record;
    unsigned n;
};

static void find_scrub(const char *key, struct json_object *record, void *arg)
{
    struct cut_scrubs *all = arg;
    (void)key;
    if (get_u64(record, "ended_ms") || !is_scrub(get_str(record, "kind")))
        return;
    all->record = xrealloc(all->record, (all->n + 1) * sizeof *all->record);
    all->record[all->n++] = json_object_get(record);
}

static void go_on(struct json_object *record)
{
    struct json_object *told = NULL;
    struct err e = {.msg = ""};
    json_object_object_get_ex(record, "result", &told);
    struct raid_scrub_past past = {get_u64(record, "done"), get_u64(told, "mismatch"),
                                   get_u64(told, "unreadable_windows")};
    bool repair = !strcmp(get_str(record, "kind"), "repair");
    if (!raid_scrub_on(get_str(record, "object"), repair, &past, NULL, &e))
        return;
    autofree char *why =
        xasprintf("oriond ended while it ran, and it could not go on at byte %" PRIu64 ": %s",
                  past.at, e.msg);
    put_str(record, "error", why);
}

static void scrubs_go_on(void)
{
    struct cut_scrubs all = {0};
    journal_for_each(control.journal, "job/", find_scrub, &all);
    for (unsigned i = 0; i < all.n; i++) {
        go_on(all.record[i]);
        json_object_put(all.record[i]);
    }
    free(all.record);
}

/* An array goes on where it was, as soon as it runs again; other work is lost. T. */
static void cut_off(const struct job_info *j, void *arg)
{
    char id[24];
    (void)arg;
    id_text(j->id, id);
    struct json_object *saved = state_get("job", id), *record = NULL;
    if (!saved || json_object_deep_copy(saved, &record, NULL))
        return;
    put_str(record, "state", job_state_name(is_sync(j->kind) ? JOB_CANCELLED : JOB_FAILED));
    if (!*get_str(record, "error"))
        put_str(record, "error", "oriond ended while it ran");
    if (!strcmp(j->kind, "apply"))
        apply_cut_off(id, record);
    put_bool(record, "can_cancel", false);
    put_u64(record, "rate", 0);
    put_u64(record, "ended_ms", control.started_ms);
    store(id, record);
    tell_end(j->id, j->kind, j->object, get_str(record, "state"), get_str(record, "error"));
    json_object_put(record);
}

const char *job_state_now(const char *id)
{
    struct job_info info;
    if (job_get(strtoull(id, NULL, 10), &info))
        return job_state_name(info.state);
    return get_str(state_get("job", id), "state");
}

static void save_early(const struct job_info *j, void *arg)
{
    (void)arg;
    save_job(j);
    if (j->state < JOB_DONE)
        tell_running(j);
}

void jobs_started(void)
{
    scrubs_go_on();
    job_forget_interrupted(cut_off, NULL);
    job_for_each(save_early, NULL);
}

static void count_running(const struct job_info *j, void *arg)
{
    *(unsigned *)arg += j->state <= JOB_PAUSED;
}

void jobs_settle(void)
{
    /* A job that has just ended is still to be told about. */
    for (unsigned i = 0, running = 1; running && i < 200; i++) {
        running = 0;
        job_for_each(count_running, &running);
        task_sleep_us(1000);
    }
    job_observe(NULL, NULL);
    while (saving)
        task_sleep_us(1000);
}

void jobs_fini(void)
{
    job_observe(NULL, NULL);
    json_object_put(results);
    json_object_put(said);
    results = said = NULL;
}

int job_cancel_verb(struct verb_run *v, struct err *e)
{
    struct job_info info;
    if (job_get(id_of(v->match), &info))
        return job_cancel(id_of(v->match), e);
    return err_set(e, ERR_UNSUPPORTED, "", "job %s has ended", verb_param(v, "id"));
}
