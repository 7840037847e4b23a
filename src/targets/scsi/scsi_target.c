/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Targets and their LUN tables. Main. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "targets/linger.h"
#include "targets/scsi/scsi_private.h"

static struct list targets = LIST_INIT(targets);
static struct bdev_watch watch;

/* ---- devices that appear */

static void on_device(struct bdev *bdev, bool added, void *arg)
{
    (void)arg;
    if (!added)
        return; /* who has it open is told by an event */
    struct scsi_target *t;
    list_for_each (t, &targets, link) {
        struct scsi_lun *lun;
        list_for_each (lun, &t->luns, link)
            if (!strcmp(lun->device, bdev_name(bdev)))
                scsi_lun_changed(lun, scsi_lun_attach);
    }
}

/* ---- targets */

/* One entry a reactor, on cache lines of its own. */
static void *per_reactor(size_t size)
{
    void *p = aligned_alloc(64, size * REACTOR_MAX);
    if (!p)
        abort();
    memset(p, 0, size * REACTOR_MAX);
    return p;
}

static const struct scsi_table empty; /* of a target without LUNs */

struct scsi_target *scsi_target_new(const char *name)
{
    struct scsi_target *t = xcalloc(1, sizeof *t);
    t->local = per_reactor(sizeof *t->local);
    scsi_opcodes_init();
    snprintf(t->name, sizeof t->name, "%s", name);
    for (unsigned i = 0; i < REACTOR_MAX; i++) {
        t->local[i].table = &empty;
        list_init(&t->local[i].nexuses);
        list_init(&t->local[i].waiters);
    }
    list_init(&t->luns);
    tlock_init(&t->lock);
    t->refs = 1;
    if (list_empty(&targets)) {
        watch.fn = on_device;
        bdev_watch(&watch);
    }
    list_add_tail(&targets, &t->link);
    return t;
}

void scsi_target_unref(struct scsi_target *t)
{
    assert(t->refs);
    if (--t->refs)
        return;
    free(t->local);
    free(t);
}

void scsi_lun_unref(struct scsi_lun *lun)
{
    assert(lun->refs);
    if (--lun->refs)
        return;
    stages_remove(&lun->stages);
    free(lun->view);
    free(lun);
}

void scsi_target_free(struct scsi_target **tp)
{
    struct scsi_target *t = *tp;
    if (!t)
        return;
    while (!list_empty(&t->luns)) {
        struct err e;
        if (scsi_lun_remove(t, list_first(&t->luns, struct scsi_lun, link)->number, &e))
            task_sleep_us(1000); /* someone else removes it */
    }
    for (unsigned i = 0; i < REACTOR_MAX; i++)
        assert(list_empty(&t->local[i].nexuses));
    list_del(&t->link);
    if (list_empty(&targets))
        bdev_unwatch(&watch);
    *tp = NULL;
    scsi_target_unref(t);
}

/* ---- tables */

struct swap {
    struct scsi_target *target;
    const struct scsi_table *table;
};

static void swap_here(void *arg)
{
    const struct swap *s = arg;
    struct scsi_local *l = &s->target->local[reactor_self_index()];
    l->table = s->table;
    scsi_ua_raise_local(l, NULL, UA_LUNS_CHANGED, NULL);
}

/* Each reactor takes the new table in a turn of its own, so when all have, nobody looks at the old.
 */
static void publish_table(struct scsi_target *t)
{
    const struct scsi_table *old = t->local[reactor_self_index()].table;
    struct scsi_lun *lun;
    unsigned size = 0;
    list_for_each (lun, &t->luns, link)
        if (!lun->removed && lun->number >= size)
            size = lun->number + 1;
    struct scsi_table *table = NULL;
    if (size) {
        table = xcalloc(1, sizeof *table + size * sizeof table->lun[0]);
        table->size = size;
    }
    list_for_each (lun, &t->luns, link)
        if (!lun->removed)
            table->lun[lun->number] = lun;
    struct swap s = {t, table ? table : &empty};
    task_call_all(swap_here, &s);
    if (old->size)
        free((void *)(uintptr_t)old);
}

static struct scsi_lun *find(struct scsi_target *t, unsigned number)
{
    struct scsi_lun *lun;
    list_for_each (lun, &t->luns, link)
        if (lun->number == number)
            return lun;
    return NULL;
}

/* ---- adding */

static struct scsi_lun *lun_new(struct scsi_target *t, const struct scsi_lun_args *args)
{
    struct scsi_lun *lun = xcalloc(1, sizeof *lun);
    lun->view = per_reactor(sizeof *lun->view);
    lun->target = t;
    lun->number = args->lun;
    lun->args = *args;
    lun->refs = 1;
    lun->expect = args->identity;
    lun->saved_size = args->saved_size;
    snprintf(lun->device, sizeof lun->device, "%s", args->device);
    snprintf(lun->label, sizeof lun->label, "%.79s", args->label ? args->label : t->name);
    lun->args.device = lun->args.label = NULL;
    lun->facts.read_only = args->read_only;
    lun->facts.lbpere = lun->facts.saved.lbpere = true;
    if (args->saved_block_size) {
        lun->facts.block_size = args->saved_block_size;
        lun->facts.shift = (uint8_t)__builtin_ctz(args->saved_block_size);
        lun->facts.blocks = args->saved_size >> lun->facts.shift;
    }
    if (!uuid_is_null(&args->identity))
        scsi_lun_identify(lun, &args->identity);
    char number[8];
    snprintf(number, sizeof number, "%u", lun->number);
    stages_add(&lun->stages, "iscsi", t->name, number);
    return lun;
}

static int check_args(struct scsi_target *t, const struct scsi_lun_args *a, struct err *e)
{
    uint32_t bs = a->saved_block_size;
    if (a->lun > SCSI_LUN_MAX)
        return err_set(e, ERR_INVALID, "lun", "LUN %u is too large: expected 0 to %d", a->lun,
                       SCSI_LUN_MAX);
    const struct scsi_lun *lun = find(t, a->lun);
    if (lun && lun->removed)
        return err_set(e, ERR_IN_USE, "lun",
                       "LUN %u of %s is still being removed: its device %s has not answered",
                       a->lun, t->name, lun->device);
    if (lun)
        return err_set(e, ERR_EXISTS, "lun", "%s has a LUN %u already", t->name, a->lun);
    if (bs && (bs < 512 || bs > 4096 || bs & (bs - 1)))
        return err_set(e, ERR_INVALID, "saved_block_size",
                       "%u is no block size: expected 512, 1024, 2048 or 4096", bs);
    return 0;
}

/* The device, if it is there; a stranger under its name is a reason to wait, not an error. */
static int first_open(struct scsi_lun *lun, struct err *e)
{
    struct err why;
    if (!scsi_lun_open(lun, &why))
        return 0;
    if (!bdev_find(lun->device) && uuid_is_null(&lun->identity))
        return err_set(e, ERR_NOT_FOUND, "device", "there is no device %s", lun->device);
    if (bdev_find(lun->device)) {
        *e = why;
        return -1;
    }
    snprintf(lun->why, sizeof lun->why, "%.*s", (int)sizeof lun->why - 1, why.msg);
    if (!lun->facts.block_size) {
        lun->facts.shift = 9; /* of no consequence until the device is there */
        lun->facts.lbp = false;
    }
    return 0;
}

static int add_locked(struct scsi_target *t, const struct scsi_lun_args *args, struct err *e)
{
    if (check_args(t, args, e))
        return -1;
    struct scsi_lun *lun = lun_new(t, args);
    if (first_open(lun, e)) {
        scsi_lun_unref(lun);
        return -1;
    }
    list_add_tail(&t->luns, &lun->link);
    t->lun_count++;
    for (unsigned i = 0; i < REACTOR_MAX; i++)
        lun->view[i].now = lun->facts; /* nobody knows the LUN yet */
    publish_table(t);
    scsi_threshold_update(lun); /* nobody is told yet, so there is nothing to publish */
    if (lun->desc)
        scsi_sanitize_resume(lun);
    return 0;
}

int scsi_lun_add(struct scsi_target *t, const struct scsi_lun_args *args, struct err *e)
{
    tlock_lock(&t->lock);
    int rc = add_locked(t, args, e);
    tlock_unlock(&t->lock);
    return rc;
}

/* ---- removing */

/* Data that a client owes may never come: what waits for it is aborted, and not waited for. */
static void end_users(void *arg)
{
    struct scsi_lun *lun = arg;
    struct scsi_local *l = &lun->target->local[reactor_self_index()];
    scsi_lun_abort(lun);
    while (lun->view[reactor_self_index()].users)
        scsi_wait(l);
    scsi_itl_forget(l, lun);
}

int scsi_lun_remove(struct scsi_target *t, unsigned number, struct err *e)
{
    tlock_lock(&t->lock);
    struct scsi_lun *lun = find(t, number);
    if (!lun || lun->removed) {
        tlock_unlock(&t->lock);
        return err_set(e, ERR_NOT_FOUND, "lun", "%s has no LUN %u", t->name, number);
    }
    lun->removed = true;
    stages_hide(&lun->stages);
    t->lun_count--;
    publish_table(t);
    tlock_unlock(&t->lock);

    /* Commands under way may need the lock (MODE SELECT), so their end is awaited without it. The
     * number stays taken meanwhile. */
    task_call_all(end_users, lun);

    tlock_lock(&t->lock);
    scsi_lun_detach(lun, "the LUN is removed");
    list_del(&lun->link);
    tlock_unlock(&t->lock);
    scsi_lun_unref(lun);
    return 0;
}

static bool is_busy(const struct scsi_lun *lun)
{
    return lun->desc && bdev_desc_inflight(lun->desc);
}

static struct scsi_lun *first_idle(struct scsi_target *t)
{
    struct scsi_lun *lun;
    list_for_each (lun, &t->luns, link)
        if (!lun->removed && !is_busy(lun))
            return lun;
    return NULL;
}

void scsi_target_drop_idle(struct scsi_target *t)
{
    struct scsi_lun *lun;
    struct err e;
    while ((lun = first_idle(t)))
        scsi_lun_remove(t, lun->number, &e);
}

void scsi_target_left(const struct scsi_target *t, unsigned lun, struct target_left *left)
{
    const struct scsi_lun *l;
    list_for_each (l, &t->luns, link)
        if (lun == SCSI_NO_LUN || l->number == lun)
            target_left_add(left, l->desc);
}

bool scsi_cmd_is_orphan(const struct scsi_cmd *cmd)
{
    return cmd->unit && cmd->unit->removed;
}

/* ---- listing */

unsigned scsi_lun_count(const struct scsi_target *t)
{
    return t->lun_count;
}

static void lun_info(const struct scsi_lun *lun, struct scsi_lun_info *i)
{
    *i = (struct scsi_lun_info){
        .lun = lun->number,
        .read_only = lun->facts.read_only || lun->args.read_only,
        .thin = lun->desc ? lun->facts.lbp : lun->args.thin,
        .ready = lun->desc,
        .size = lun->saved_size,
        .block_size = lun->facts.block_size,
        .identity = lun->identity,
    };
    snprintf(i->device, sizeof i->device, "%s", lun->device);
    snprintf(i->why, sizeof i->why, "%s", lun->why);
    snprintf(i->serial, sizeof i->serial, "%s", lun->serial);
    if (lun->desc && bdev_failed(bdev_of(lun->desc), i->why, sizeof i->why)) {
        i->failed = true;
        i->ready = false;
    }
    int at = snprintf(i->naa, sizeof i->naa, "naa.");
    for (unsigned k = 0; k < sizeof lun->naa; k++)
        at += snprintf(i->naa + at, sizeof i->naa - (size_t)at, "%02x", lun->naa[k]);
}

bool scsi_lun_get(struct scsi_target *t, unsigned number, struct scsi_lun_info *info_r)
{
    const struct scsi_lun *lun = find(t, number);
    if (!lun || lun->removed)
        return false;
    lun_info(lun, info_r);
    return true;
}

void scsi_lun_for_each(struct scsi_target *t, void (*fn)(const struct scsi_lun_info *, void *),
                       void *arg)
{
    struct scsi_lun *lun;
    list_for_each (lun, &t->luns, link) {
        struct scsi_lun_info info;
        if (lun->removed)
            continue;
        lun_info(lun, &info);
        fn(&info, arg);
    }
}
