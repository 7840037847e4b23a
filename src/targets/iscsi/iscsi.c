/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "targets/iscsi/iscsi.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <openssl/crypto.h>

#include "base/log.h"
#include "base/mem.h"
#include "reactor/task.h"
#include "targets/iscsi/registry.h"
#include "targets/linger.h"

enum { LEAVE_US = FRONT_CUT_US + 1000000 }; /* so long a removal is waited for */

pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
struct list registry_targets = LIST_INIT(registry_targets);

struct iscsi_target *registry_find(const char *iqn)
{
    struct iscsi_target *t;
    list_for_each (t, &registry_targets, link) {
        if (!strcasecmp(t->iqn, iqn))
            return t;
    }
    return NULL;
}

struct iscsi_acl *acl_find(const struct iscsi_target *t, const char *initiator)
{
    struct iscsi_acl *a;
    list_for_each (a, &t->acls, link) {
        if (!strcasecmp(a->initiator, initiator))
            return a;
    }
    return NULL;
}

bool registry_permits(const struct iscsi_target *t, const char *initiator, bool local)
{
    if (t->acl_count)
        return acl_find(t, initiator);
    return t->open || local;
}

/* ---- sessions */

static uint64_t load64(const uint64_t *p)
{
    return __atomic_load_n(p, __ATOMIC_RELAXED);
}

struct tell {
    void (*fn)(const struct session_info *info, void *arg);
    void *arg;
};

static void tell_one(const struct iscsi_session *s, void *arg)
{
    const struct tell *t = arg;
    struct session_info i = {.id = s->id, .protocol = "iscsi", .since_ms = s->since_ms};
    snprintf(i.peer, sizeof i.peer, "%.127s", s->peer);
    snprintf(i.client, sizeof i.client, "%s", s->seed.initiator);
    snprintf(i.object, sizeof i.object, "%s", s->seed.target);
    snprintf(i.portal, sizeof i.portal, "%.127s", s->portal);
    i.reactor = reactor_index(s->home);
    i.connections = load64(&s->stats.connections);
    i.inflight = load64(&s->stats.inflight);
    i.reads = load64(&s->stats.reads);
    i.writes = load64(&s->stats.writes);
    i.read_bytes = load64(&s->stats.read_bytes);
    i.written_bytes = load64(&s->stats.written_bytes);
    t->fn(&i, t->arg);
}

static void list_sessions(void (*fn)(const struct session_info *info, void *arg), void *arg)
{
    struct tell t = {fn, arg};
    front_sessions(tell_one, &t);
}

/* One whose device hangs stays in the list, without connections. */
static bool kill_session(uint64_t id)
{
    struct iscsi_session *s = front_find(id);
    uint64_t until = reactor_now() + linger_us(FRONT_CUT_US) * 1000;
    if (!s)
        return false;
    session_stop(s, SESSION_DROP);
    while (front_find(id) && front_wait_end(until))
        ;
    return true;
}

static const struct target_protocol protocol = {
    .name = "iscsi", .sessions = list_sessions, .kill = kill_session};

int iscsi_init(struct err *e)
{
    (void)e;
    target_register(&protocol);
    return 0;
}

static struct lingering leaving; /* targets and LUNs */

static void free_acl(struct iscsi_acl *a)
{
    OPENSSL_cleanse(&a->auth, sizeof a->auth);
    free(a->map);
    free(a);
}

static void unlist(struct iscsi_target *t)
{
    pthread_mutex_lock(&registry_lock);
    list_del(&t->link);
    pthread_mutex_unlock(&registry_lock);
}

static void free_target(struct iscsi_target *t)
{
    scsi_target_free(&t->scsi);
    unlist(t);
    struct list *a;
    while ((a = list_pop(&t->acls)))
        free_acl(list_entry(a, struct iscsi_acl, link));
    free(t);
}

void iscsi_shutdown(void)
{
    portals_close();
    front_close(NULL);
    front_stop(&(struct front_which){0}, 0);
    linger_wait(&leaving);
    struct iscsi_target *t;
    while ((t = list_first(&registry_targets, struct iscsi_target, link)))
        free_target(t);
    command_pools_free();
    conn_buffers_free();
}

/* ---- targets */

static struct iscsi_target *must_find(const char *iqn, struct err *e)
{
    struct iscsi_target *t = registry_find(iqn);
    if (!t)
        err_set(e, ERR_NOT_FOUND, "iqn", "there is no target %s", iqn);
    return t;
}

static int check_args(const struct iscsi_target_args *a, struct err *e)
{
    if (a->alias && strlen(a->alias) > 255)
        return err_set(e, ERR_INVALID, "alias", "an alias has at most 255 bytes");
    if (!a->max_connections || a->max_connections > ISCSI_CONNECTIONS_MAX)
        return err_set(e, ERR_INVALID, "max_connections", "max_connections is %u; expected 1 to %d",
                       a->max_connections, ISCSI_CONNECTIONS_MAX);
    return 0;
}

/* Under the lock, or nobody knows it yet. */
static void set_args(struct iscsi_target *t, const struct iscsi_target_args *a)
{
    snprintf(t->alias, sizeof t->alias, "%s", a->alias ? a->alias : "");
    t->open = a->open_access;
    t->max_connections = a->max_connections;
}

int iscsi_target_add(const char *iqn, const struct iscsi_target_args *args, struct err *e)
{
    if (iscsi_name_check(iqn, "iqn", e))
        return -1;
    if (registry_find(iqn))
        return err_set(e, ERR_EXISTS, "iqn", "target %s exists already", iqn);
    if (check_args(args, e))
        return -1;
    struct iscsi_target *t = xcalloc(1, sizeof *t);
    snprintf(t->iqn, sizeof t->iqn, "%s", iqn);
    set_args(t, args);
    list_init(&t->acls);
    t->scsi = scsi_target_new(iqn);
    pthread_mutex_lock(&registry_lock);
    list_add_tail(&registry_targets, &t->link);
    pthread_mutex_unlock(&registry_lock);
    return 0;
}

int iscsi_target_set(const char *iqn, const struct iscsi_target_args *args, struct err *e)
{
    struct iscsi_target *t = must_find(iqn, e);
    if (!t || check_args(args, e))
        return -1;
    pthread_mutex_lock(&registry_lock);
    set_args(t, args);
    pthread_mutex_unlock(&registry_lock);
    return 0;
}

struct names {
    struct front_which which;
    char text[256];
    unsigned n;
};

static void add_name(const struct iscsi_session *s, void *arg)
{
    struct names *w = arg;
    if (!front_matches(&w->which, s) || w->n++ >= 3)
        return;
    size_t len = strlen(w->text);
    snprintf(w->text + len, sizeof w->text - len, "%s%s (session %llu)", len ? ", " : "",
             s->seed.initiator, (unsigned long long)s->id);
}

/* 0: no session is there. */
static int in_use(const struct front_which *which, const char *what, struct err *e)
{
    struct names w = {.which = *which};
    front_sessions(add_name, &w);
    if (!w.n)
        return 0;
    return err_set(e, ERR_IN_USE, "", "%s is in use by %u session%s: %s%s", what, w.n,
                   w.n == 1 ? "" : "s", w.text, w.n > 3 ? ", ..." : "");
}

/* What waits for a device that does not answer holds up none of the others. */
static void remove_target(void *arg)
{
    struct iscsi_target *t = arg;
    struct front_which all = {.target = t};
    if (!front_stop(&all, FRONT_CUT_US)) {
        scsi_target_drop_idle(t->scsi);
        front_stop(&all, 0);
    }
    free_target(t);
}

int iscsi_target_remove(const char *iqn, bool disconnect, struct target_left *left_r, struct err *e)
{
    left_r->text[0] = '\0';
    struct iscsi_target *t = must_find(iqn, e);
    if (!t)
        return -1;
    if (t->removing)
        return err_set(e, ERR_IN_USE, "iqn", "target %s is being removed", iqn);
    struct front_which all = {.target = t};
    if (!disconnect && in_use(&all, t->iqn, e))
        return -1;
    pthread_mutex_lock(&registry_lock);
    t->removing = true;
    pthread_mutex_unlock(&registry_lock);
    if (linger(&leaving, "iscsi-delete", LEAVE_US, remove_target, t))
        return 0;
    unlist(t); /* another may have its name now */
    scsi_target_left(t->scsi, SCSI_NO_LUN, left_r);
    target_left_end(left_r);
    log_warn("iscsi", "target removed, and not gone target=%s left=\"%s\"", t->iqn, left_r->text);
    return 0;
}

static void describe(const struct iscsi_target *t, struct iscsi_target_info *info_r)
{
    *info_r = (struct iscsi_target_info){
        .open_access = t->open,
        .max_connections = t->max_connections,
        .lun_count = scsi_lun_count(t->scsi),
        .acl_count = t->acl_count,
        .session_count = t->sessions,
    };
    snprintf(info_r->iqn, sizeof info_r->iqn, "%s", t->iqn);
    snprintf(info_r->alias, sizeof info_r->alias, "%s", t->alias);
}

bool iscsi_target_get(const char *iqn, struct iscsi_target_info *info_r)
{
    const struct iscsi_target *t = registry_find(iqn);
    if (!t || t->removing)
        return false;
    describe(t, info_r);
    return true;
}

void iscsi_target_for_each(void (*fn)(const struct iscsi_target_info *info, void *arg), void *arg)
{
    struct iscsi_target *t, *next;
    list_for_each_safe (t, next, &registry_targets, link) {
        struct iscsi_target_info info;
        if (t->removing)
            continue;
        describe(t, &info);
        fn(&info, arg);
    }
}

/* ---- LUNs */

int iscsi_lun_add(const char *iqn, const struct iscsi_lun_args *args, struct err *e)
{
    struct iscsi_target *t = must_find(iqn, e);
    if (!t)
        return -1;
    if (args->lun > ISCSI_LUN_MAX)
        return err_set(e, ERR_INVALID, "lun", "a LUN is 0 to %d, not %u", ISCSI_LUN_MAX, args->lun);
    char label[80];
    snprintf(label, sizeof label, "iscsi %.56s lun %u", t->iqn, args->lun);
    struct scsi_lun_args a = {
        .lun = args->lun,
        .device = args->device,
        .thin = args->thin,
        .thin_given = args->provisioning_given,
        .read_only = args->read_only,
        .identity = args->identity,
        .saved_size = args->saved_size,
        .saved_block_size = args->saved_block_size,
        .label = label,
    };
    return scsi_lun_add(t->scsi, &a, e);
}

/*
 * A LUN that goes waits for its commands, and these for the initiator to take what they read: for
 * so long, then their connections go. Looked at time and again, for a command may still run when
 * its time is up.
 */
enum { REPLIES_WAIT_US = 3000000 };

struct lun_end {
    const struct iscsi_target *target; /* its LUN is one of those that it waits for */
    unsigned lun;
    struct rtimer timer;
    bool cuts, over;
};

static void lun_end_late(void *arg);

static void cut_orphans(void *arg)
{
    struct lun_end *l = arg;
    front_cut_orphans(l->target);
    l->cuts = false;
    if (l->over)
        free(l);
    else
        rtimer_arm(&l->timer, REPLIES_WAIT_US, lun_end_late, l);
}

static void lun_end_late(void *arg)
{
    struct lun_end *l = arg;
    l->cuts = true;
    task_start(reactor_main(), "iscsi-unlun", cut_orphans, l);
}

static void remove_lun(void *arg)
{
    struct lun_end *l = arg;
    struct err e;
    rtimer_arm(&l->timer, REPLIES_WAIT_US, lun_end_late, l);
    scsi_lun_remove(l->target->scsi, l->lun, &e);
    rtimer_free(&l->timer);
    l->over = true;
    if (!l->cuts)
        free(l);
}

int iscsi_lun_remove(const char *iqn, unsigned lun, bool disconnect, struct target_left *left_r,
                     struct err *e)
{
    left_r->text[0] = '\0';
    struct iscsi_target *t = must_find(iqn, e);
    struct iscsi_lun_info info;
    if (!t)
        return -1;
    if (!iscsi_lun_get(iqn, lun, &info))
        return err_set(e, ERR_NOT_FOUND, "lun", "target %s has no LUN %u", iqn, lun);
    char what[ISCSI_NAME_MAX + 16];
    snprintf(what, sizeof what, "%s LUN %u", t->iqn, lun);
    if (!disconnect && in_use(&(struct front_which){.target = t}, what, e))
        return -1;
    struct lun_end *l = xcalloc(1, sizeof *l);
    l->target = t;
    l->lun = lun;
    /* The sessions stay for the other LUNs. */
    if (linger(&leaving, "iscsi-unlun", LEAVE_US, remove_lun, l))
        return 0;
    scsi_target_left(t->scsi, lun, left_r);
    target_left_end(left_r);
    log_warn("iscsi", "LUN removed, and not gone target=%s lun=%u left=\"%s\"", t->iqn, lun,
             left_r->text);
    return 0;
}

static void translate(const struct scsi_lun_info *s, struct iscsi_lun_info *i)
{
    *i = (struct iscsi_lun_info){
        .lun = s->lun,
        .thin = s->thin,
        .read_only = s->read_only,
        .ready = s->ready,
        .failed = s->failed,
        .size = s->size,
        .block_size = s->block_size,
        .identity = s->identity,
    };
    _Static_assert(sizeof i->device == sizeof s->device && sizeof i->why == sizeof s->why &&
                       sizeof i->naa == sizeof s->naa && sizeof i->serial == sizeof s->serial,
                   "both structs hold the same texts");
    memcpy(i->device, s->device, sizeof i->device);
    memcpy(i->why, s->why, sizeof i->why);
    memcpy(i->naa, s->naa, sizeof i->naa);
    memcpy(i->serial, s->serial, sizeof i->serial);
}

struct lun_walk {
    void (*fn)(const struct iscsi_lun_info *info, void *arg);
    void *arg;
};

static void lun_one(const struct scsi_lun_info *s, void *arg)
{
    const struct lun_walk *w = arg;
    struct iscsi_lun_info i;
    translate(s, &i);
    w->fn(&i, w->arg);
}

void iscsi_lun_for_each(const char *iqn, void (*fn)(const struct iscsi_lun_info *info, void *arg),
                        void *arg)
{
    struct iscsi_target *t = registry_find(iqn);
    struct lun_walk w = {fn, arg};
    if (t)
        scsi_lun_for_each(t->scsi, lun_one, &w);
}

bool iscsi_lun_get(const char *iqn, unsigned lun, struct iscsi_lun_info *info_r)
{
    struct iscsi_target *t = registry_find(iqn);
    struct scsi_lun_info s;
    if (!t || !scsi_lun_get(t->scsi, lun, &s))
        return false;
    translate(&s, info_r);
    return true;
}

int iscsi_alua_set(const char *iqn, const struct scsi_group *group, struct err *e)
{
    struct iscsi_target *t = must_find(iqn, e);
    return t ? scsi_alua_set(t->scsi, group, e) : -1;
}

int iscsi_alua_restore(const char *iqn, const struct scsi_group *group, struct err *e)
{
    struct iscsi_target *t = must_find(iqn, e);
    if (t)
        scsi_alua_restore(t->scsi, group);
    return t ? 0 : -1;
}

/* ---- access lists */

int iscsi_acl_add(const char *iqn, const char *initiator, const struct iscsi_auth *auth,
                  struct err *e)
{
    struct iscsi_target *t = must_find(iqn, e);
    if (!t || iscsi_name_check(initiator, "initiator", e) || (auth && iscsi_auth_check(auth, e)))
        return -1;
    if (acl_find(t, initiator))
        return err_set(e, ERR_EXISTS, "initiator", "%s has access to %s already", initiator, iqn);
    struct iscsi_acl *a = xcalloc(1, sizeof *a);
    snprintf(a->initiator, sizeof a->initiator, "%s", initiator);
    if (auth)
        a->auth = *auth;
    pthread_mutex_lock(&registry_lock);
    list_add_tail(&t->acls, &a->link);
    t->acl_count++;
    pthread_mutex_unlock(&registry_lock);
    return 0;
}

int iscsi_acl_set_auth(const char *iqn, const char *initiator, const struct iscsi_auth *auth,
                       struct err *e)
{
    struct iscsi_target *t = must_find(iqn, e);
    if (!t || iscsi_auth_check(auth, e))
        return -1;
    struct iscsi_acl *a = acl_find(t, initiator);
    if (!a)
        return err_set(e, ERR_NOT_FOUND, "initiator", "%s has no access entry for %s", iqn,
                       initiator);
    a->auth = *auth;
    return 0;
}

int iscsi_acl_set_map(const char *iqn, const char *initiator, const struct scsi_map *map,
                      struct err *e)
{
    struct iscsi_target *t = must_find(iqn, e);
    if (!t)
        return -1;
    struct iscsi_acl *a = acl_find(t, initiator);
    if (!a)
        return err_set(e, ERR_NOT_FOUND, "initiator", "%s has no access entry for %s", iqn,
                       initiator);
    free(a->map);
    a->map = scsi_map_copy(map);
    scsi_target_map(t->scsi, initiator, map);
    return 0;
}

int iscsi_acl_remove(const char *iqn, const char *initiator, bool disconnect, struct err *e)
{
    struct iscsi_target *t = must_find(iqn, e);
    if (!t)
        return -1;
    struct iscsi_acl *a = acl_find(t, initiator);
    if (!a)
        return err_set(e, ERR_NOT_FOUND, "initiator", "%s has no access entry for %s", iqn,
                       initiator);
    struct front_which its = {.target = t, .initiator = initiator};
    char what[2 * ISCSI_NAME_MAX + 32];
    snprintf(what, sizeof what, "the access of %s to %s", initiator, iqn);
    if (!disconnect && in_use(&its, what, e))
        return -1;
    pthread_mutex_lock(&registry_lock);
    list_del(&a->link);
    t->acl_count--;
    pthread_mutex_unlock(&registry_lock);
    free_acl(a);
    front_stop(&its, FRONT_CUT_US); /* nobody comes anew: it is off the list */
    return 0;
}

void iscsi_acl_for_each(const char *iqn, void (*fn)(const char *initiator, void *arg), void *arg)
{
    const struct iscsi_target *t = registry_find(iqn);
    struct iscsi_acl *a, *next;
    if (!t)
        return;
    list_for_each_safe (a, next, &t->acls, link)
        fn(a->initiator, arg);
}
