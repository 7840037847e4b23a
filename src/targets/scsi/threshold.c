/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The threshold of used LBA mapping resources (SBC-4 4.7.3.7), looked at from main, off the data
 * path: while one is enabled, a timer compares the device's counters of changes, and only if there
 * was one a task counts the extents, as log page 0Ch does.
 */
#include <stdio.h>

#include "block/event.h"
#include "block/stats.h"
#include "targets/scsi/scsi_private.h"

enum { LOOK_EVERY_US = 500000, LOOK_SHARE = 20 }; /* looks take at most 1/20 of the time */
enum { NEVER_LOOKED = 0 };

/* The range is a threshold set wide, with the count as its center. Above its minimum the device may
 * tell, above its maximum it must; this tells at the center. It may again when less than the
 * minimum was in use. */
bool scsi_threshold_crossed(struct scsi_threshold *t, uint64_t used)
{
    uint64_t center = (uint64_t)t->sets * SCSI_THRESHOLD_SET;
    bool was = t->reached;
    t->reached = t->on && (was ? used + SCSI_THRESHOLD_SET / 2 : used) >= center;
    return t->reached && !was;
}

/* Of the device, by whomever; and one, so that it is never NEVER_LOOKED. */
static uint64_t changes(const struct scsi_lun *lun)
{
    uint64_t n = NEVER_LOOKED + 1;
    for (unsigned op = 0; op < BIO_OP_COUNT; op++) {
        struct op_stats s;
        if (!bio_is_write(op))
            continue;
        bdev_op_stats(bdev_of(lun->desc), op, &s);
        n += s.count;
    }
    return n;
}

/* Told to each nexus that has used the LUN in the turn in which its reactor learns of it, and to
 * others when they do (scsi_facts.over_threshold). */
static void compare(struct scsi_lun *lun, uint64_t used)
{
    struct scsi_threshold *t = &lun->threshold;
    bool crossed = scsi_threshold_crossed(t, used);
    if (t->reached == lun->facts.over_threshold)
        return;
    lun->facts.over_threshold = t->reached;
    scsi_lun_publish(lun, crossed ? UA_THIN_THRESHOLD : 0, NULL);
    if (!crossed)
        return;
    char object[300];
    snprintf(object, sizeof object, "LUN %s/%u", lun->target->name, lun->number);
    event_raise(object, "lun-thin-threshold", "%llu MiB are in use, the threshold is %u MiB",
                (unsigned long long)scsi_threshold_sets(used), t->sets);
}

static void look(void *arg);

/* Counted as a command that runs, so that the device stays. */
static void look_task(void *arg)
{
    struct scsi_lun *lun = arg;
    struct scsi_target *t = lun->target;
    const struct scsi_facts *f = &lun->facts;
    unsigned here = reactor_self_index();
    uint64_t used = 0, at = changes(lun), start = clock_ns();
    int rc = scsi_count_used(lun->desc, f->blocks << f->shift, &lun->stop_look, &used);
    uint64_t took_us = (clock_ns() - start) / 1000;
    if (!--lun->view[here].running)
        scsi_wake_waiters(&t->local[here]);
    tlock_lock(&t->lock);
    lun->looking = false;
    if (!lun->stop_look) { /* neither restarted meanwhile, nor without its device */
        if (!rc) {
            lun->looked_at = at;
            compare(lun, used);
        }
        uint64_t pause = took_us * LOOK_SHARE;
        rtimer_arm(&lun->look, pause > LOOK_EVERY_US ? pause : LOOK_EVERY_US, look, lun);
    }
    tlock_unlock(&t->lock);
    scsi_lun_unref(lun);
    scsi_target_unref(t);
}

static void look(void *arg)
{
    struct scsi_lun *lun = arg;
    if (lun->looking || lun->looked_at == changes(lun)) {
        rtimer_arm(&lun->look, LOOK_EVERY_US, look, lun);
        return;
    }
    lun->looking = true;
    lun->stop_look = false;
    lun->refs++;
    lun->target->refs++;
    lun->view[reactor_self_index()].running++;
    task_start(reactor_main(), "scsi-threshold", look_task, lun);
}

void scsi_threshold_restart(struct scsi_lun *lun)
{
    struct scsi_facts *f = &lun->facts;
    bool on = f->desc && f->lbp && f->lbpere && f->threshold && !lun->removed;
    lun->threshold = (struct scsi_threshold){.on = on, .sets = f->threshold_sets};
    lun->stop_look = true;
    lun->looked_at = NEVER_LOOKED;
    f->over_threshold = false;
    if (on)
        rtimer_arm(&lun->look, LOOK_EVERY_US, look, lun);
    else
        rtimer_free(&lun->look);
}

void scsi_threshold_update(struct scsi_lun *lun)
{
    const struct scsi_facts *f = &lun->facts;
    const struct scsi_threshold *t = &lun->threshold;
    bool on = f->desc && f->lbp && f->lbpere && f->threshold && !lun->removed;
    if (on != t->on || (on && t->sets != f->threshold_sets))
        scsi_threshold_restart(lun);
}
