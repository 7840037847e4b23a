/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "block/job.h"
#include "control/jobs.h"
#include "control/plan.h"

/*
 * Doing a plan, as one job. Each step is a verb as a client would ask for it. When one fails, those
 * before it are undone from the last to the first, as far as that is possible: what was created is
 * deleted, what held no data and was deleted is created again. Deletions of data go last wherever
 * nothing that is created could need their place.
 */
struct step {
    const char *method, *undo_method; /* undo NULL: cannot be undone */
    char *path, *undo_path, *text;
    struct json_object *body, *undo_body;
};

struct apply {
    struct step *step;
    unsigned count, room;
    struct json_object *result;
    struct control_who who;
    bool force;
};

static struct step *add_step(struct apply *a, const char *what, const struct item *i)
{
    if (a->count == a->room) {
        a->room = a->room ? a->room * 2 : 64;
        a->step = xrealloc(a->step, a->room * sizeof *a->step);
    }
    struct step *s = &a->step[a->count++];
    *s = (struct step){.text = xasprintf("%s %s %s", what, item_kind_name(i->kind), i->name)};
    return s;
}

static const struct opt *table_of(const char *method, const char *path)
{
    struct schema_match m;
    return schema_route(method, path, &m, NULL, NULL) ? NULL : m.verb->opts;
}

/* Whatever consent the verb knows: it was asked for once, for the whole. */
static struct json_object *consent(const char *path)
{
    const struct opt *t = table_of("DELETE", path);
    struct json_object *o = json_object_new_object();
    if (t && opts_find(t, "yes"))
        put_bool(o, "yes", true);
    return o;
}

/* A secret that the document does not tell stays as it is. */
static void keep_secrets(const struct item *i, struct json_object *body)
{
    struct json_object *saved = item_secrets(i);
    if (!saved)
        return;
    json_object_object_foreach(saved, field, value)
    {
        const char *user = strcmp(field, "chap_secret") ? "mutual_user" : "chap_user";
        if (*get_str(body, user) && !json_object_object_get_ex(body, field, NULL))
            json_object_object_add(body, field, json_object_get(value));
    }
}

static struct json_object *fields_of(const struct apply *a, const struct item *i)
{
    struct json_object *body = json_object_new_object();
    json_object_object_foreach(i->fields, key, value)
    {
        json_object_object_add(body, key, json_object_get(value));
    }
    keep_secrets(i, body);
    const struct opt *t = table_of("PUT", i->path);
    if (a->force && t && opts_find(t, "force"))
        put_bool(body, "force", true);
    return body;
}

static void add_delete(struct apply *a, const struct item *i)
{
    struct step *s = add_step(a, "delete", i);
    s->method = "DELETE";
    s->path = xstrdup(i->path);
    s->body = consent(i->path);
    if (*i->loses)
        return;
    s->undo_method = "PUT";
    s->undo_path = xstrdup(i->path);
    s->undo_body = fields_of(a, i);
}

static void add_create(struct apply *a, const struct item *i)
{
    struct step *s = add_step(a, "create", i);
    s->method = "PUT";
    s->path = xstrdup(i->path);
    s->body = fields_of(a, i);
    s->undo_method = "DELETE";
    s->undo_path = xstrdup(i->path);
    s->undo_body = consent(i->path);
}

/* The fields as they were: for a change that has no more to it than its fields. */
static struct json_object *old_fields(const struct item *i)
{
    struct json_object *o = json_object_new_object();
    for (size_t k = 0; k < json_object_array_length(i->differs); k++) {
        struct json_object *d = json_object_array_get_idx(i->differs, k), *have = NULL;
        const char *field = get_str(d, "field");
        json_object_object_get_ex(d, "have", &have);
        if (opts_find(i->opts->table, field)->flags & OPT_SECRET)
            json_object_object_get_ex(item_secrets(i), field, &have);
        json_object_object_add(o, field, json_object_get(have)); /* null: there was none */
    }
    return o;
}

static void add_change(struct apply *a, const struct item *i)
{
    struct step *s = add_step(a, "change", i);
    s->body = plan_change_body(i, &s->method, &s->path);
    if (!strcmp(s->method, "POST"))
        return;
    s->undo_method = s->method;
    s->undo_path = xstrdup(i->path);
    s->undo_body = old_fields(i);
}

static bool makes_storage(const struct plan *p)
{
    for (unsigned k = 0; k < p->want.count; k++) {
        const struct item *i = p->want.item[k];
        if (i->kind <= ITEM_VOLUME && (i->action == ACT_CREATE || i->action == ACT_REPLACE))
            return true;
    }
    return false;
}

static void make_steps(struct apply *a, const struct plan *p)
{
    bool data_last = !makes_storage(p);
    for (unsigned k = p->have.count; k--;) {
        const struct item *i = p->have.item[k];
        bool late = data_last && i->kind <= ITEM_VOLUME;
        if (i->action == ACT_REPLACE || (i->action == ACT_DELETE && !late))
            add_delete(a, i);
    }
    for (unsigned k = 0; k < p->want.count; k++) {
        const struct item *i = p->want.item[k];
        if (i->action == ACT_CREATE || i->action == ACT_REPLACE)
            add_create(a, i);
        else if (i->action == ACT_CHANGE)
            add_change(a, i);
    }
    for (unsigned k = p->have.count; data_last && k--;)
        if (p->have.item[k]->action == ACT_DELETE && p->have.item[k]->kind <= ITEM_VOLUME)
            add_delete(a, p->have.item[k]);
}

static void apply_free(struct apply *a)
{
    for (unsigned k = 0; k < a->count; k++) {
        free(a->step[k].path);
        free(a->step[k].undo_path);
        free(a->step[k].text);
        json_object_put(a->step[k].body);
        json_object_put(a->step[k].undo_body);
    }
    free(a->step);
    json_object_put(a->result);
    free(a);
}

/* ---- the job */

static int fields_json(struct control_call *call, struct err *e)
{
    return control_opts_json(call, call->arg, e);
}

static int run_step(const struct apply *a, const char *method, const char *path,
                    struct json_object *body, struct err *e)
{
    struct control_call call = {.fields = fields_json, .arg = body, .who = a->who};
    call.if_match = strcmp(method, "PUT") ? "*" : NULL;
    if (schema_route(method, path, &call.match, NULL, e))
        return -1;
    int rc = control_run(&call, e);
    control_call_clear(&call);
    return rc;
}

static void note_in(struct json_object *result, const char *list, const char *text)
{
    struct json_object *o = NULL;
    json_object_object_get_ex(result, list, &o);
    json_object_array_add(o, json_object_new_string(text));
}

static void roll_back(struct apply *a, unsigned done)
{
    while (done--) {
        const struct step *s = &a->step[done];
        struct err e = {.msg = "this cannot be undone"};
        if (s->undo_method && !run_step(a, s->undo_method, s->undo_path, s->undo_body, &e)) {
            note_in(a->result, "undone", s->text);
            continue;
        }
        autofree char *text = xasprintf("%s: %s", s->text, e.msg);
        note_in(a->result, "not_undone", text);
        log_warn("control", "apply was not undone: %s", text);
    }
}

static int apply_job(struct job *job, void *arg, struct err *e)
{
    struct apply *a = arg;
    unsigned done = 0;
    int rc = 0;
    /* One at a time: a plan that another one overtakes would be refused half-way. */
    struct key_lock *lock = key_lock("apply");
    while (!rc && done < a->count) {
        const struct step *s = &a->step[done];
        rc = job_step(job, done, a->count) ? run_step(a, s->method, s->path, s->body, e)
                                           : err_set(e, ERR_UNSUPPORTED, "", "it was cancelled");
        if (rc) {
            err_prefix(e, "%s", s->text);
            break;
        }
        note_in(a->result, "done", s->text);
        done++;
    }
    if (rc)
        roll_back(a, done);
    else
        job_step(job, done, a->count);
    key_unlock(&lock);
    job_result_set(job_id(job), json_object_get(a->result));
    control.running--;
    apply_free(a);
    return rc;
}

/* ---- verbs */

static int make_plan(struct verb_run *v, struct plan *plan, struct err *e)
{
    struct json_object *doc = json_tokener_parse(opts_str(v->opts, "config"));
    int rc = doc ? plan_make(doc, plan, e)
                 : err_set(e, ERR_INVALID, "config", "config is no JSON object");
    json_object_put(doc);
    if (rc) {
        v->call->errors = plan->errors;
        plan->errors = NULL;
    }
    return rc;
}

static int config_plan(struct verb_run *v, struct err *e)
{
    struct plan plan = {0};
    int rc = make_plan(v, &plan, e);
    if (!rc)
        v->reply = plan_json(&plan);
    plan_free(&plan);
    return rc;
}

/* The first thing that would lose data, for the message. */
static const char *first_loss(const struct plan *p, const char **name_r)
{
    for (unsigned set = 0; set < 2; set++) {
        const struct item_set *s = set ? &p->have : &p->want;
        for (unsigned k = 0; k < s->count; k++)
            if (s->item[k]->action != ACT_KEEP && *s->item[k]->loses) {
                *name_r = s->item[k]->name;
                return s->item[k]->loses;
            }
    }
    return NULL;
}

static int need_consent(const struct verb_run *v, const struct plan *p, struct err *e)
{
    const char *name = "", *loss = first_loss(p, &name);
    unsigned n = p->count[ACT_DELETE], r = p->count[ACT_REPLACE];
    if ((!n && !r && !loss) || verb_flag(v, "yes"))
        return 0;
    return err_set(e, ERR_NEEDS_YES, "yes",
                   "%u objects would be deleted and %u replaced%s%s%s%s; say so with --yes", n, r,
                   loss ? "; lost would be, for one, " : "", loss ? loss : "", loss ? " of " : "",
                   loss ? name : "");
}

static int config_apply(struct verb_run *v, struct err *e)
{
    struct plan plan = {0};
    int rc = make_plan(v, &plan, e);
    if (!rc)
        rc = need_consent(v, &plan, e);
    if (!rc && plan_is_empty(&plan)) {
        v->reply = plan_json(&plan);
        put_bool(v->reply, "changed", false);
        v->changed = false;
    } else if (!rc) {
        struct apply *a = xcalloc(1, sizeof *a);
        a->force = verb_flag(v, "force");
        a->who = v->call->who;
        make_steps(a, &plan);
        a->result = json_object_new_object();
        json_object_object_add(a->result, "done", json_object_new_array());
        json_object_object_add(a->result, "undone", json_object_new_array());
        json_object_object_add(a->result, "not_undone", json_object_new_array());
        control.running++; /* the daemon's end waits for it; its next step is refused then */
        v->job = job_start(reactor_main(), "apply", "config", true, apply_job, a);
    }
    plan_free(&plan);
    return rc;
}

const struct verb_entry config_verbs[] = {
    {"config", "plan", config_plan},
    {"config", "apply", config_apply},
    {NULL, NULL, NULL},
};
