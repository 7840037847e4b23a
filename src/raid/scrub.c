/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Scrub: all redundancy is read and compared (check), or also put right (repair), as a job that
 * yields to clients as a resync does. It gives way to whatever the array needs more: a member that
 * fails ends it.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "block/event.h"
#include "block/job.h"
#include "raid/raid_private.h"

enum { WINDOW = 512 << 10, TOLD_MAX = 16 };
/* After a crash at most so much is read once more. */
static const uint64_t CHECKPOINT_NS = 10000000000u;

static void tell_stripe(const struct raid_array *a, const char *object, const struct raid_check *c,
                        uint64_t offset, uint64_t length, const struct raid_member *wrong)
{
    unsigned long long stripe = offset / a->chunk, at = offset, n = length;
    if (wrong)
        event_raise(object, "mismatch",
                    "stripe %llu: member %s is wrong by both parities: %llu bytes at %llu%s",
                    stripe, wrong->device, n, at, c->repair ? ", rewritten" : "");
    else
        event_raise(object, "mismatch",
                    "stripe %llu: data and parity do not fit, and nobody can tell which is wrong: "
                    "%llu bytes at %llu of each member%s",
                    stripe, n, at, c->repair ? ", parity made to fit" : "");
}

void raid_check_tell(struct raid_array *a, struct raid_check *c, uint64_t offset, uint64_t length,
                     const struct raid_member *wrong)
{
    char object[80];
    __atomic_fetch_add(&a->mismatch, length, __ATOMIC_RELAXED);
    c->bytes += length;
    if (wrong)
        raid_count(&a->wrong[wrong->slot]);
    if (c->told++ >= TOLD_MAX)
        return; /* the count goes on */
    raid_object(a, object);
    if (a->level->parity)
        tell_stripe(a, object, c, offset, length, wrong);
    else if (wrong)
        event_raise(object, "mismatch", "member %s differs from the others: %llu bytes at %llu%s",
                    wrong->device, (unsigned long long)length, (unsigned long long)offset,
                    c->repair ? ", rewritten" : "");
    else
        event_raise(object, "mismatch",
                    "the members' data differ, and nobody can tell which is right: %llu bytes at "
                    "%llu%s",
                    (unsigned long long)length, (unsigned long long)offset,
                    c->repair ? ", made equal" : "");
}

/* What is more urgent. */
static bool disturbed(const struct raid_array *a)
{
    return a->stopping || raid_load(&a->failed) || raid_load(&a->unrecorded) ||
           raid_load(&a->resync_pos) != UINT64_MAX || raid_load(&a->replacement) ||
           raid_in_sync_count(a) < a->slots;
}

static void note(struct job *job, const struct raid_check *c, uint64_t *marked_ns)
{
    job_tell(job, "mismatch", c->bytes);
    job_tell(job, "unreadable_windows", c->unread);
    if (clock_ns() - *marked_ns < CHECKPOINT_NS)
        return;
    job_checkpoint(job);
    *marked_ns = clock_ns();
}

static int walk(struct job *job, struct raid_array *a, struct raid_check *c, struct err *e)
{
    struct raid_pace pace;
    uint64_t marked_ns = clock_ns();
    raid_pace_begin(a, &pace);
    for (uint64_t pos = raid_load(&a->scrub_pos); pos < a->sync_bytes;) {
        if (!job_step(job, pos, a->sync_bytes)) {
            err_set(e, ERR_NOT_READY, "", "stopped at byte %llu", (unsigned long long)pos);
            return JOB_STOPPED;
        }
        if (disturbed(a)) {
            err_set(e, ERR_NOT_READY, "",
                    "given up at byte %llu: the array has something more urgent to do",
                    (unsigned long long)pos);
            return JOB_STOPPED;
        }
        uint64_t len = a->sync_bytes - pos < WINDOW ? a->sync_bytes - pos : WINDOW;
        int rc = a->level->check_window(a, pos, len, c);
        if (rc && rc != -EIO)
            return err_set(e, ERR_IO, "", "at byte %llu: %s", (unsigned long long)pos,
                           strerror(-rc));
        c->unread += rc == -EIO;
        pos += len;
        raid_store(&a->scrub_pos, pos);
        note(job, c, &marked_ns);
        raid_pace_give_way(a, &pace, len);
    }
    job_step(job, a->sync_bytes, a->sync_bytes);
    return 0;
}

static int scrub_job(struct job *job, void *arg, struct err *e)
{
    struct raid_array *a = arg;
    struct raid_check c = {.repair = a->scrub == RAID_SYNC_REPAIR,
                           .bytes = raid_load(&a->mismatch),
                           .unread = a->scrub_unread};
    uint64_t from = raid_load(&a->scrub_pos);
    char object[80];
    raid_object(a, object);
    raid_publish(a);
    event_raise(object, c.repair ? "repair-started" : "check-started", "at byte %llu of %llu",
                (unsigned long long)from, (unsigned long long)a->sync_bytes);
    int rc = walk(job, a, &c, e);
    if (!rc)
        event_raise(object, c.repair ? "repair-done" : "check-done",
                    "%llu bytes did not fit%s; %llu windows have a part that cannot be read",
                    (unsigned long long)c.bytes, c.repair && c.bytes ? " and were put right" : "",
                    (unsigned long long)c.unread);
    raid_store(&a->scrub, RAID_SYNC_IDLE);
    raid_store(&a->sync_job, 0);
    raid_pace_end(a);
    raid_publish(a);
    raid_task_end(a, &a->sync_runs);
    raid_sync_next(a);
    return rc;
}

struct scrub_call {
    struct raid_array *a;
    const struct raid_scrub_past *past;
    bool repair;
    uint64_t job;
    int rc;
    struct err *e;
};

static void scrub_home(void *arg)
{
    struct scrub_call *c = arg;
    struct raid_array *a = c->a;
    if (a->sync_runs || disturbed(a)) {
        c->rc = err_set(c->e, ERR_IN_USE, "",
                        "array %s is being synced, or lacks a member: nothing to compare with",
                        a->bdev.name);
        return;
    }
    a->sync_runs = true;
    a->tasks++;
    raid_store(&a->scrub, c->repair ? RAID_SYNC_REPAIR : RAID_SYNC_CHECK);
    raid_store(&a->scrub_pos, c->past->at / WINDOW * WINDOW);
    raid_store(&a->mismatch, c->past->mismatch);
    a->scrub_unread = c->past->unreadable;
    memset(a->wrong, 0, sizeof a->wrong);
    c->job = job_start(a->home, c->repair ? "repair" : "check", a->bdev.name, true, scrub_job, a);
    raid_store(&a->sync_job, c->job);
    a->last_job = c->job;
    raid_publish(a);
}

int raid_scrub(const char *name, bool repair, uint64_t *job_r, struct err *e)
{
    return raid_scrub_on(name, repair, &(struct raid_scrub_past){0}, job_r, e);
}

int raid_scrub_on(const char *name, bool repair, const struct raid_scrub_past *past,
                  uint64_t *job_r, struct err *e)
{
    struct raid_array *a = raid_find(name);
    struct scrub_call c = {.a = a, .past = past, .repair = repair, .e = e};
    if (!a || a->freeing)
        return err_set(e, ERR_NOT_FOUND, "", "no array %s", name);
    if (!a->level->check_window || (a->read_only && repair))
        return err_set(e, ERR_UNSUPPORTED, "", "array %s is %s: there is nothing to %s", name,
                       a->level->check_window ? "read-only" : a->level->name,
                       repair ? "repair" : "check");
    a->main_tasks++;
    task_call(a->home, scrub_home, &c);
    a->main_tasks--;
    if (job_r)
        *job_r = c.job;
    return c.rc;
}
