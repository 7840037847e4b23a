/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "block/stats.h"
#include "control/shows.h"
#include "raid/raid.h"
#include "targets/iscsi/iscsi.h"
#include "targets/nbd/nbd.h"
#include "targets/target.h"
#include "volumes/volumes.h"

/* What is not saved: sessions, jobs, events, the daemon itself. */

static uint64_t id_of(const struct schema_match *m)
{
    const char *text = schema_param(m, "id");
    char *end;
    uint64_t id = strtoull(text, &end, 10);
    return *text >= '1' && *text <= '9' && !*end ? id : 0;
}

/* ---- sessions */

static struct json_object *show_session(const struct session_info *s)
{
    struct json_object *o = json_object_new_object();
    put_u64(o, "id", s->id);
    put_str(o, "protocol", s->protocol);
    put_str(o, "object", s->object);
    put_str(o, "peer", s->peer);
    put_str(o, "client", s->client);
    put_str(o, "portal", s->portal);
    put_u64(o, "reactor", s->reactor);
    put_time(o, "since", s->since_ms);
    put_u64(o, "connections", s->connections);
    put_u64(o, "inflight", s->inflight);
    put_u64(o, "reads", s->reads);
    put_u64(o, "writes", s->writes);
    put_u64(o, "read_bytes", s->read_bytes);
    put_u64(o, "written_bytes", s->written_bytes);
    return o;
}

struct pick_session {
    uint64_t id;
    struct json_object *o;
};

static void pick_session(const struct session_info *s, void *arg)
{
    struct pick_session *p = arg;
    if (s->id == p->id && !p->o)
        p->o = show_session(s);
}

SHOW(session)
{
    struct pick_session p = {.id = id_of(m)};
    if (p.id)
        target_sessions(pick_session, &p);
    return p.o;
}

static void list_session(const struct session_info *s, void *arg)
{
    json_object_array_add(arg, show_session(s));
}

LIST(session)
{
    (void)m, (void)o, (void)e;
    target_sessions(list_session, items);
    return 0;
}

static int session_kill(struct verb_run *v, struct err *e)
{
    if (target_kill(id_of(v->match)))
        return 0;
    return err_set(e, ERR_NOT_FOUND, "", "there is no session %s any more", verb_param(v, "id"));
}

/* ---- I/O under way */

static void list_inflight(const struct inflight_info *info, void *arg)
{
    struct json_object *o = json_object_new_object();
    put_str(o, "device", info->device);
    put_str(o, "op", bio_op_name(info->op));
    put_u64(o, "offset", info->offset);
    put_u64(o, "length", info->length);
    put_u64(o, "age_us", info->age_us);
    put_u64(o, "reactor", info->reactor);
    put_str(o, "where", info->where);
    json_object_array_add(arg, o);
}

LIST(inflight)
{
    (void)m, (void)o, (void)e;
    bdev_inflight_list(list_inflight, items);
    return 0;
}

/* ---- what is wrong */

struct problems {
    void (*fn)(const char *text, void *arg);
    void *arg;
    bool any;
};

static void problem(struct problems *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void problem(struct problems *p, const char *fmt, ...)
{
    char text[600];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    p->any = true;
    if (p->fn)
        p->fn(text, p->arg);
}

static void array_problem(const struct raid_info *info, void *arg)
{
    char now[160] = "";
    if (info->state != RAID_DEGRADED && info->state != RAID_FAILED)
        return;
    for (unsigned i = 0; i < info->member_count && info->sync == RAID_SYNC_RECOVER; i++)
        if (info->member[i].state == RAID_MEMBER_REBUILDING && info->sync_total)
            snprintf(now, sizeof now, "; %s is being filled: %u%%", info->member[i].device,
                     (unsigned)(info->sync_done * 100 / info->sync_total));
    problem(arg, "array %s is %s: %u of %u members missing%s", info->name,
            raid_state_name(info->state), info->missing, info->slots, now);
}

static void pool_problem(const struct pool_info *info, void *arg)
{
    if (info->state == POOL_PARTIAL)
        problem(arg, "pool %s is partial: a device is absent", info->name);
}

static void look_for_shrunk(const char *key, const char *value, void *arg)
{
    (void)value;
    *(bool *)arg |= !strcmp(key, "shrunk");
}

static void device_problem(struct bdev *b, void *arg)
{
    struct bdev_info info;
    bdev_info_of(b, &info);
    bool shrunk = false;
    bdev_attrs(b, look_for_shrunk, &shrunk);
    if (shrunk)
        problem(arg, "%s has failed: its file has become shorter", info.name);
    if (info.write_error)
        problem(arg, "%s lost writes: a flush failed", info.name);
}

static void export_problem(const struct nbd_export_info *info, void *arg)
{
    if (!info->ready)
        problem(arg, "nbd export %s%s: %s", info->name, info->failed ? "" : " is not ready",
                info->why);
}

struct lun_problems {
    struct problems *problems;
    const char *iqn;
};

static void lun_problem(const struct iscsi_lun_info *info, void *arg)
{
    const struct lun_problems *l = arg;
    if (!info->ready)
        problem(l->problems, "%s LUN %u%s: %s", l->iqn, info->lun,
                info->failed ? "" : " is not ready", info->why);
}

static void target_problem(const struct iscsi_target_info *info, void *arg)
{
    struct lun_problems l = {arg, info->iqn};
    iscsi_lun_for_each(info->iqn, lun_problem, &l);
}

void control_trouble(const char *what, const char *name, const char *why)
{
    if (control.reasons)
        reason_set(what, name, why);
}

bool control_problems(void (*fn)(const char *text, void *arg), void *arg)
{
    struct problems p = {fn, arg, false};
    int unsaved = journal_error(control.journal);
    if (unsaved)
        problem(&p, "the state cannot be saved in %s: %s", control.opts.state_dir,
                strerror(unsaved));
    for (size_t i = 0; i < json_object_array_length(control.damage); i++)
        problem(&p, "%s", json_object_get_string(json_object_array_get_idx(control.damage, i)));
    json_object_object_foreach(control.reasons, key, why)
    {
        problem(&p, "%.*s %s: %s", (int)strcspn(key, "/"), key, strchr(key, '/') + 1,
                json_object_get_string(why));
    }
    bdev_for_each(device_problem, &p);
    raid_for_each(array_problem, &p);
    pool_for_each(pool_problem, &p);
    nbd_export_for_each(export_problem, &p);
    iscsi_target_for_each(target_problem, &p);
    return p.any;
}

/* ---- the daemon */

static void count_key(const char *key, struct json_object *value, void *arg)
{
    (void)key, (void)value;
    ++*(uint64_t *)arg;
}

static void put_count(struct json_object *o, const char *key, const char *prefix)
{
    uint64_t n = 0;
    journal_for_each(control.journal, prefix, count_key, &n);
    put_u64(o, key, n);
}

static void count_volume(const struct volume_info *info, void *arg)
{
    (void)info;
    ++*(uint64_t *)arg;
}

static void count_session(const struct session_info *info, void *arg)
{
    (void)info;
    ++*(uint64_t *)arg;
}

static struct json_object *counts(void)
{
    struct json_object *o = json_object_new_object();
    uint64_t volumes = 0, sessions = 0;
    volume_for_each(NULL, count_volume, &volumes);
    target_sessions(count_session, &sessions);
    put_count(o, "devices", "device/");
    put_count(o, "arrays", "array/");
    put_count(o, "pools", "pool/");
    put_u64(o, "volumes", volumes);
    put_count(o, "exports", "export/");
    put_count(o, "targets", "target/");
    put_u64(o, "sessions", sessions);
    return o;
}

static void add_problem(const char *text, void *arg)
{
    json_object_array_add(arg, json_object_new_string(text));
}

SHOW(system)
{
    (void)m;
    struct json_object *o = json_object_new_object();
    struct json_object *problems = json_object_new_array();
    control_problems(add_problem, problems);
    put_str(o, "state", control_phase_name(control.phase));
    put_str(o, "version", ORION_VERSION);
    put_time(o, "started", control.started_ms);
    put_u64(o, "reactors", control.opts.reactors);
    put_str(o, "state_dir", control.opts.state_dir);
    put_u64(o, "state_generation", journal_generation(control.journal));
    json_object_object_add(o, "counts", counts());
    json_object_object_add(o, "problems", problems);
    return o;
}

SHOW(config)
{
    (void)m;
    return config_json();
}

SHOW(log)
{
    (void)m;
    struct json_object *o = json_object_new_object();
    put_str(o, "level", log_level_name(log_get_level()));
    return o;
}

static int log_set(struct verb_run *v, struct err *e)
{
    enum log_level level;
    (void)e;
    const char *text =
        opts_str(v->opts, "level"); /* the table has checked it; a patch may omit it */
    v->changed = text && log_level_parse(text, &level) && level != log_get_level();
    if (v->changed)
        log_set_level(level);
    return 0;
}

const struct verb_entry live_verbs[] = {
    {"log-level", "set", log_set},
    {"log-level", "patch", log_set},
    {"session", "kill", session_kill},
    {"job", "cancel", job_cancel_verb},
    {NULL, NULL, NULL},
};
