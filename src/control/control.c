/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/control.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "base/mem.h"
#include "control/adopt.h"
#include "control/audit.h"
#include "control/changes.h"
#include "control/jobs.h"
#include "control/private.h"
#include "targets/iscsi/iscsi.h"
#include "targets/nbd/nbd.h"

struct control control;

/* ---- verbs */

static const struct verb_entry *const verb_tables[] = {
    device_verbs, array_verbs, pool_verbs,   volume_verbs, nbd_verbs,
    iscsi_verbs,  live_verbs,  config_verbs, audit_verbs,  token_verbs,
};

static verb_fn find_verb(const struct schema_match *m)
{
    for (unsigned i = 0; i < sizeof verb_tables / sizeof *verb_tables; i++)
        for (const struct verb_entry *v = verb_tables[i]; v->noun; v++)
            if (!strcmp(v->noun, m->noun->name) && !strcmp(v->verb, m->verb->name))
                return v->run;
    return NULL;
}

const char *verb_param(const struct verb_run *v, const char *name)
{
    const char *p = schema_param(v->match, name);
    assert(p);
    return p;
}

bool verb_flag(const struct verb_run *v, const char *name)
{
    return opts_find(v->opts->table, name) && opts_bool(v->opts, name);
}

int need_yes(const struct verb_run *v, const char *what, struct err *e)
{
    if (verb_flag(v, "yes"))
        return 0;
    return err_set(e, ERR_NEEDS_YES, "yes", "%s; say so with --yes", what);
}

int differs(struct err *e, const char *what, const char *name, const char *field, const char *have,
            const char *want)
{
    return err_set(e, ERR_EXISTS, field, "%s %s exists with %s %s, not %s", what, name, field, have,
                   want);
}

/* The fields of a call without any: the table may still have required ones. */
static int ask_fields(struct control_call *call, struct err *e)
{
    if (call->fields)
        return call->fields(call, e);
    return control_opts_json(call, NULL, e);
}

bool control_etag_listed(const char *header, const char *etag, bool weak)
{
    size_t n = strlen(etag);
    for (const char *p = header; *p;) {
        p += strspn(p, " \t,");
        if (*p == '*')
            return true;
        if (weak && !strncmp(p, "W/", 2))
            p += 2;
        size_t len = strcspn(p, ",");
        while (len && (p[len - 1] == ' ' || p[len - 1] == '\t'))
            len--;
        if (len == n && !memcmp(p, etag, n))
            return true;
        p += strcspn(p, ",");
    }
    return false;
}

static int without_match(const struct resource *r, struct err *e)
{
    return err_set(e, ERR_NO_MATCH, "If-Match",
                   "If-Match with the ETag of this %s is required to change or delete it", r->what);
}

int need_match(const struct verb_run *v, struct err *e)
{
    autofree char *item = schema_item_path(v->match->verb->path);
    bool ours = v->call->role == ROLE_NONE; /* the daemon knows what it changes */
    return ours || v->call->if_match ? 0 : without_match(resource_of_item(item), e);
}

static int check_precondition(const struct control_call *call, const struct resource *r,
                              struct json_object *object, struct err *e)
{
    char etag[CONTROL_ETAG_MAX] = "";
    if (object)
        resource_etag(r, object, etag);
    if (object && call->if_none_match && control_etag_listed(call->if_none_match, etag, true))
        return err_set(e, ERR_STALE, "If-None-Match", "the %s is there: %s", r->what, etag);
    if (!call->if_match)
        return call->match.verb->flags & VERB_IF_MATCH ? without_match(r, e) : 0;
    if (!object || !control_etag_listed(call->if_match, etag, false))
        return err_set(e, ERR_STALE, "If-Match", "the %s has changed: it is %s now", r->what,
                       object ? etag : "absent");
    return 0;
}

static int not_found(const struct control_call *call, const struct resource *r, struct err *e)
{
    const struct schema_match *m = &call->match;
    if (m->count == 2)
        return err_set(e, ERR_NOT_FOUND, "", "there is no %s %s/%s", r->what, m->param[0].value,
                       m->param[1].value);
    return err_set(e, ERR_NOT_FOUND, "", "there is no %s %s", r->what, m->param[0].value);
}

/* What a verb that changed something answers with. */
static void fill_reply(struct control_call *call, const struct resource *r, struct verb_run *v,
                       bool created)
{
    call->status = created && v->changed ? 201 : 200;
    call->reply = v->job ? job_json(v->job) : v->reply;
    if (call->reply)
        return;
    if (!call->reply && call->match.verb->result == VERB_OBJECT && r)
        call->reply = r->show(&call->match);
    if (!call->reply) {
        call->status = 204;
        return;
    }
    if (r && call->match.verb->result == VERB_OBJECT) {
        resource_etag(r, call->reply, call->etag);
        put_bool(call->reply, "changed", v->changed);
        if (v->note) {
            struct json_object *notes = json_object_new_array();
            json_object_array_add(notes, json_object_new_string(v->note));
            json_object_object_add(call->reply, "notes", notes);
        }
    }
}

void reply_note(struct verb_run *v, const char *text)
{
    if (!*text)
        return;
    if (!v->reply) {
        v->reply = json_object_new_object();
        put_bool(v->reply, "changed", true);
        json_object_object_add(v->reply, "notes", json_object_new_array());
    }
    json_object_array_add(json_object_object_get(v->reply, "notes"), json_object_new_string(text));
}

struct named {
    const struct schema_match *match;
};

static const char *param_value(const char *param, void *arg)
{
    const char *v = schema_param(arg, param);
    return v ? v : "";
}

static void fill_location(struct control_call *call, const struct verb_run *v)
{
    if (v->job) {
        call->status = 202;
        snprintf(call->location, sizeof call->location, "/v1/jobs/%llu",
                 (unsigned long long)v->job);
    } else if (call->status == 201) {
        autofree char *path = schema_expand(call->match.verb->path, param_value, &call->match);
        snprintf(call->location, sizeof call->location, "%s", path);
    }
}

static bool changes(const struct control_call *call)
{
    return strcmp(call->match.verb->method, "GET") && !(call->match.verb->flags & VERB_READ);
}

/* For the audit log and as an event: what stands now. */
static void note_after(const struct verb_run *v, const struct resource *r)
{
    struct control_call *call = v->call;
    struct json_object *o = r->show(&call->match);
    if (*call->etag)
        strcpy(call->after, call->etag);
    else if (o)
        resource_etag(r, o, call->after);
    changes_tell(v, r, o);
    json_object_put(o);
}

static int run_change(struct control_call *call, const struct resource *r, verb_fn run,
                      struct err *e)
{
    bool put = !strcmp(call->match.verb->method, "PUT");
    struct json_object *existing = r ? r->show(&call->match) : NULL;
    struct verb_run v = {
        .call = call, .match = &call->match, .existing = existing, .changed = true};
    int rc = r && r->parent ? r->parent(&call->match, e) : 0;
    if (!rc && r && !put && !existing)
        rc = not_found(call, r, e);
    if (!rc && r)
        rc = check_precondition(call, r, existing, e);
    if (!rc)
        rc = ask_fields(call, e);
    v.opts = call->opts;
    if (r && existing && changes(call))
        resource_etag(r, existing, call->before);
    if (!rc) {
        kill_point();
        rc = run(&v, e);
        kill_point();
    }
    if (!rc) {
        fill_reply(call, r, &v, put && !existing);
        fill_location(call, &v);
        if (r && changes(call))
            note_after(&v, r);
    } else {
        json_object_put(v.reply);
    }
    json_object_put(existing);
    return rc;
}

static int run_locked(struct control_call *call, const struct resource *r, verb_fn run,
                      struct err *e)
{
    char key[KEY_MAX] = "";
    if (r)
        r->lock(&call->match, key);
    else
        snprintf(key, sizeof key, "%s", call->match.verb->path);
    struct key_lock *lock = key_lock(key);
    int rc = control.phase == CONTROL_READY ? run_change(call, r, run, e)
                                            : err_set(e, ERR_NOT_READY, "", "oriond is stopping");
    key_unlock(&lock);
    return rc;
}

static int run_show(struct control_call *call, const struct resource *r, struct err *e)
{
    struct json_object *o = r->show(&call->match);
    if (!o)
        return not_found(call, r, e);
    if (ask_fields(call, e)) {
        json_object_put(o);
        return -1;
    }
    resource_etag(r, o, call->etag);
    call->reply = o;
    call->status = 200;
    return 0;
}

/* `fields`: each must be one that the verb's answers have. */
static int check_fields(const struct control_call *call, struct err *e)
{
    unsigned n;
    char *const *names = opts_list(call->opts, "fields", &n);
    for (unsigned i = 0; i < n; i++) {
        const struct schema_field *f = call->match.verb->fields;
        while (f && f->key && strcmp(f->key, names[i]) != 0)
            f++;
        if (!f || !f->key)
            return err_set(e, ERR_INVALID, "fields", "there is no field '%.40s' here", names[i]);
    }
    return 0;
}

/* The item, or of it what `fields` names; the caller's. */
static struct json_object *some_fields(const struct control_call *call, struct json_object *item)
{
    unsigned n;
    char *const *names = opts_list(call->opts, "fields", &n);
    if (!n)
        return json_object_get(item);
    struct json_object *o = json_object_new_object(), *v;
    for (unsigned i = 0; i < n; i++)
        if (json_object_object_get_ex(item, names[i], &v))
            json_object_object_add(o, names[i], json_object_get(v));
    return o;
}

/* Is the item as every filter of the request wants it? */
static bool passes(const struct opts *o, struct json_object *item)
{
    for (const struct opt *opt = o->table; opt->name; opt++) {
        struct json_object *v = NULL;
        if (!(opt->flags & OPT_FILTER) || !opts_is_set(o, opt->name))
            continue;
        json_object_object_get_ex(item, opt->name, &v);
        bool same = false;
        switch (opt->type) {
        case OPT_BOOL: same = v && json_object_get_boolean(v) == opts_bool(o, opt->name); break;
        case OPT_STRING:
            same = !strcmp(v ? json_object_get_string(v) : "", opts_str(o, opt->name));
            break;
        default: same = v && json_object_get_uint64(v) == opts_u64(o, opt->name); break;
        }
        if (!same)
            return false;
    }
    return true;
}

int control_list_begin(struct control_call *call, struct err *e)
{
    static const char *const pages[] = {"limit", "cursor"};
    if (ask_fields(call, e) || check_fields(call, e))
        return -1;
    for (unsigned i = 0; i < 2; i++)
        if (opts_is_set(call->opts, pages[i]))
            return err_set(e, ERR_INVALID, pages[i], "%s is for lists; this is a stream", pages[i]);
    return 0;
}

struct json_object *control_list_item(const struct control_call *call, struct json_object *item)
{
    return passes(call->opts, item) ? some_fields(call, item) : NULL;
}

static const char *key_of(const struct resource *r, struct json_object *item)
{
    struct json_object *k = NULL;
    json_object_object_get_ex(item, r->key, &k);
    return k ? json_object_get_string(k) : "";
}

/* Behind the item whose key is the cursor, which need not pass the filters any more. */
static int find_cursor(struct control_call *call, const struct resource *r,
                       struct json_object *items, size_t *from_r, struct err *e)
{
    const char *cursor = opts_str(call->opts, "cursor");
    size_t n = json_object_array_length(items);
    *from_r = 0;
    while (cursor && *from_r < n)
        if (!strcmp(key_of(r, json_object_array_get_idx(items, (*from_r)++)), cursor))
            cursor = NULL;
    if (cursor)
        return err_set(e, ERR_INVALID, "cursor", "cursor is '%.64s', which is not there any more",
                       cursor);
    return 0;
}

/* One page: at most `limit` items that pass, after the one whose key is `cursor`. */
static int take_page(struct control_call *call, const struct resource *r, struct json_object *items,
                     struct err *e)
{
    uint64_t room = opts_u64(call->opts, "limit");
    size_t from;
    if (find_cursor(call, r, items, &from, e))
        return -1;
    struct json_object *page = json_object_new_array(), *next = NULL, *last = NULL;
    for (size_t i = from; i < json_object_array_length(items) && !next; i++) {
        struct json_object *item = json_object_array_get_idx(items, i);
        if (!passes(call->opts, item))
            continue;
        if (!room--) {
            next = json_object_new_string(key_of(r, last));
            break;
        }
        last = item;
        json_object_array_add(page, some_fields(call, item));
    }
    call->reply = json_object_new_object();
    json_object_object_add(call->reply, "items", page);
    json_object_object_add(call->reply, "next", next);
    call->status = 200;
    return 0;
}

static int run_list(struct control_call *call, const struct resource *r, struct err *e)
{
    if (ask_fields(call, e) || check_fields(call, e))
        return -1;
    struct json_object *items = json_object_new_array();
    int rc = r->list(&call->match, call->opts, items, e);
    if (!rc)
        rc = take_page(call, r, items, e);
    json_object_put(items);
    return rc;
}

static int dispatch(struct control_call *call, struct err *e)
{
    const struct schema_verb *verb = call->match.verb;
    bool get = !strcmp(verb->method, "GET");
    verb_fn run = find_verb(&call->match);
    autofree char *item = schema_item_path(verb->path);
    const struct resource *r = resource_of_item(item);
    if (get && !run) {
        const struct resource *c = resource_of_collection(verb->path);
        if (c && verb->result == VERB_LIST)
            return run_list(call, c, e);
        if (r)
            return run_show(call, r, e);
    }
    if (!run)
        return err_set(e, ERR_UNSUPPORTED, "", "%s %s is not built in", call->match.noun->name,
                       verb->name);
    return get ? run_change(call, NULL, run, e) : run_locked(call, r, run, e);
}

/* Contract: a refusal that a flag overrides names the flag. */
static void name_the_flag(struct err *e)
{
    size_t n = strlen(e->msg);
    if (e->code == ERR_NEEDS_FORCE && !strstr(e->msg, "--force"))
        snprintf(e->msg + n, sizeof e->msg - n, "; --force does it all the same");
}

const char *control_role_name(enum control_role role)
{
    static const char *const names[] = {"none", "viewer", "operator", "admin"};
    return names[role];
}

enum control_role control_verb_role(const struct schema_verb *verb)
{
    if (verb->flags & VERB_ADMIN)
        return ROLE_ADMIN;
    bool reads = !strcmp(verb->method, "GET") || verb->flags & VERB_READ;
    return reads ? ROLE_VIEWER : ROLE_OPERATOR;
}

static bool may(const struct control_call *call, struct err *e)
{
    enum control_role least = control_verb_role(call->match.verb);
    if (call->role == ROLE_NONE || call->role >= least)
        return true;
    err_set(e, ERR_DENIED, "", "%s has the role %s; %s %s needs %s", call->who.name,
            control_role_name(call->role), call->match.noun->name, call->match.verb->name,
            control_role_name(least));
    return false;
}

int control_run(struct control_call *call, struct err *e)
{
    assert(task_in());
    if (control.phase != CONTROL_READY)
        return err_set(e, ERR_NOT_READY, "", "oriond is %s", control_phase_name(control.phase));
    control.running++;
    bool get = !strcmp(call->match.verb->method, "GET");
    struct err own;
    e = e ? e : &own;
    int rc = may(call, e) ? dispatch(call, e) : -1;
    if (rc)
        name_the_flag(e);
    if ((!get && !(call->match.verb->flags & VERB_READ)) || (rc && e->code == ERR_DENIED))
        audit_verb(call, rc, e);
    control.running--;
    if (!get) {
        control.verbs++;
        control.verbs_failed += rc != 0;
    }
    opts_free(&call->opts);
    return rc;
}

void control_call_clear(struct control_call *call)
{
    opts_free(&call->opts);
    json_object_put(call->reply);
    json_object_put(call->errors);
    call->reply = call->errors = NULL;
}

/* ---- life */

const char *control_phase_name(enum control_phase p)
{
    static const char *const names[] = {"starting", "ready", "stopping"};
    return names[p];
}

enum control_phase control_phase(void)
{
    return control.phase;
}

static uint64_t wall_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void report_damage(const char *line, void *arg)
{
    (void)arg;
    json_object_array_add(control.damage, json_object_new_string(line));
    event_raise("state", "state-damaged", "%s", line);
}

void control_refused(const struct control_who *who, const char *method, const char *path,
                     const char *why)
{
    audit_refusal(who, method, path, why);
}

int control_open(const struct control_opts *opts, struct err *e)
{
    control = (struct control){.opts = *opts, .started_ms = wall_ms()};
    control.reasons = json_object_new_object();
    control.damage = json_object_new_array();
    events_init();
    control.journal = journal_open(opts->state_dir, report_damage, NULL, e);
    if (!control.journal)
        return -1;
    if (audit_open(opts->state_dir, e))
        return -1;
    jobs_init();
    store_init();
    return nbd_init(e) || iscsi_init(e) ? -1 : 0;
}

void progress(const char *text)
{
    log_debug("control", "%s", text);
    if (control.opts.progress)
        control.opts.progress(text);
}

void control_start(void)
{
    progress("opening devices");
    replay_devices();
    progress("starting arrays and pools");
    await_begin();
    replay_stacks();
    progress("setting up targets");
    replay_targets();
    progress("opening portals");
    replay_listeners();
    jobs_started();
    control.phase = CONTROL_READY;
    kill_points_arm();
    events_start();
    spares_start();
    await_go_on();
}

void control_stop(void)
{
    control.phase = CONTROL_STOPPING;
    spares_stop();
    while (control.running)
        task_sleep_us(1000);
    if (!control.journal)
        return;
    nbd_shutdown();
    iscsi_shutdown();
    close_stacks();
    jobs_settle();
    audit_mark_settle();
}

void control_close(void)
{
    jobs_fini();
    audit_close();
    journal_close(&control.journal);
    json_object_put(control.reasons);
    json_object_put(control.damage);
    control.reasons = control.damage = NULL;
    events_fini();
}

uint64_t control_verbs_total(bool failed)
{
    return failed ? control.verbs_failed : control.verbs;
}

uint64_t control_state_generation(void)
{
    return control.journal ? journal_generation(control.journal) : 0;
}

uint64_t control_started_ms(void)
{
    return control.started_ms;
}
