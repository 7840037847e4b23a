/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "block/job.h"
#include "control/apply.h"
#include "control/jobs.h"

/*
 * Doing a plan, as one job. Each step is a verb as a client would ask for it. When one fails, those
 * before it are undone from the last to the first, as far as that is possible: what was created is
 * deleted, what held no data and was deleted is created again.
 */
struct apply {
    struct steps steps;
    char *config;
    struct json_object *result;
    struct control_who who;
};

static void apply_free(struct apply *a)
{
    steps_free(&a->steps);
    free(a->config);
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
        const struct step *s = &a->steps.step[done];
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

static int do_steps(struct job *job, struct apply *a, struct err *e)
{
    unsigned done = 0, count = a->steps.count;
    int rc = apply_save(job_id(job), a->config, &a->steps, e);
    while (!rc && done < count) {
        const struct step *s = &a->steps.step[done];
        rc = job_step(job, done, count) ? run_step(a, s->method, s->path, s->body, e)
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
        job_step(job, done, count);
    return rc;
}

static int apply_job(struct job *job, void *arg, struct err *e)
{
    struct apply *a = arg;
    /* One at a time: a plan that another one overtakes would be refused half-way. */
    struct key_lock *lock = key_lock("apply");
    int rc = do_steps(job, a, e);
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
        a->steps.force = verb_flag(v, "force");
        a->who = v->call->who;
        a->config = xstrdup(opts_str(v->opts, "config"));
        steps_make(&a->steps, &plan);
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
