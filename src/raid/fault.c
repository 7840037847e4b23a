/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Failures. A leg that failed is reported to the array's home, where a task kicks the member,
 * writes the survivors' superblocks, and only then lets the requests go on that the member missed.
 * Main is not needed for any of it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "block/event.h"
#include "raid/bad.h"
#include "reactor/iobuf.h"

struct raid_repair {
    struct list link;
    struct raid_array *array;
    uint64_t slots, offset, length;
    struct rpost post;
};

unsigned raid_in_sync_count(const struct raid_array *a)
{
    unsigned n = 0;
    for (unsigned i = 0; i < a->slots; i++) {
        const struct raid_member *m = raid_load(&a->slot[i]);
        n += m && raid_in_sync(m);
    }
    return n;
}

bool raid_alive(const struct raid_array *a, const struct raid_member *without)
{
    uint64_t in_sync = 0;
    for (unsigned i = 0; i < a->slots; i++) {
        const struct raid_member *m = raid_load(&a->slot[i]);
        if (m && m != without && raid_in_sync(m))
            in_sync |= 1ull << i;
    }
    return a->level->can_run(&a->sb, in_sync);
}

bool raid_may_differ(const struct raid_array *a)
{
    if (a->level->level == 10) /* some chunks may have two copies where others have one */
        return raid_in_sync_count(a) > 1;
    for (unsigned i = 0; i < a->slots; i++) {
        const struct raid_member *m = raid_load(&a->slot[i]);
        if (m && raid_in_sync(m) && raid_alive(a, m))
            return true;
    }
    return false;
}

/* What it wrote last may have damaged what it did not write: nothing more is served. */
static void give_up(struct raid_array *a, const char *object)
{
    if (raid_load(&a->failed))
        return;
    raid_store(&a->failed, true);
    raid_publish(a); /* first: who hears the event looks at the state */
    event_raise(object, "array-failed", "more members failed than its parity stands for");
}

static const char *reason(int error)
{
    return !error                ? "by request"
           : error == -ETIMEDOUT ? "it did not answer in time"
                                 : strerror(-error);
}

void raid_cast_out(struct raid_array *a, struct raid_member *m)
{
    __atomic_fetch_add(&a->unrecorded, 1, __ATOMIC_SEQ_CST);
    m->recorded = false;
    raid_store(&m->state, RAID_MEMBER_FAULTY);
    if (!a->bump)
        a->bump = 1;
}

bool raid_kick(struct raid_array *a, struct raid_member *m, int error, bool forced)
{
    char object[80];
    raid_object(a, object);
    if (m->state == RAID_MEMBER_FAULTY)
        return true;
    raid_count(&m->errors);
    if (m->state == RAID_MEMBER_IN_SYNC && !forced && !raid_alive(a, m)) {
        log_every(10, LOG_LEVEL_ERROR, "raid", "%s: %s failed (%s), and has the last copy", object,
                  m->device, reason(error));
        if (a->level->parity)
            give_up(a, object);
        return false;
    }
    raid_cast_out(a, m);
    bool all = !raid_alive(a, NULL);
    raid_store(&a->failed, raid_load(&a->failed) || all);
    raid_publish(a);
    event_raise(object, "member-failed", "member %s failed (%s); %u of %u are left", m->device,
                reason(error), raid_in_sync_count(a), a->slots);
    return true;
}

/* ---- requests that wait for a kick */

/* Are in each row that it wrote enough blocks left of which the others follow? */
static bool can_be_read(const struct raid_array *a, const struct raid_io *io)
{
    uint64_t from = UINT64_MAX, to = 0, step = a->bdev.block_size;
    for (unsigned i = 0; i < io->legs; i++) {
        const struct raid_leg *leg = &io->leg[i];
        from = leg->offset < from ? leg->offset : from;
        to = leg->offset + leg->length > to ? leg->offset + leg->length : to;
    }
    for (uint64_t at = from; at < to; at += step) {
        uint64_t good = 0;
        for (unsigned i = 0; i < a->slots; i++) {
            const struct raid_member *m = raid_load(&a->slot[i]);
            bool has = m && (raid_in_sync(m) || raid_load(&m->rebuilt) >= at + step);
            good |= has && !raid_bad_at(m, at, step) ? 1ull << i : 0;
        }
        if (!a->level->can_run(&a->sb, good))
            return false;
    }
    return true;
}

/* Has a copy that is still trusted each part of it? Not all need be the same one's. */
static bool copies_have(const struct raid_array *a, const struct raid_io *io)
{
    uint64_t step = a->bdev.block_size, length = io->legs ? io->leg[0].length : 0;
    bool have = io->legs && !raid_load(&a->failed);
    for (uint64_t at = 0; have && (at < length || !at); at += step) {
        bool any = false;
        for (unsigned i = 0; i < io->legs && !any; i++) {
            const struct raid_leg *leg = &io->leg[i];
            any = !leg->error && raid_in_sync(leg->m) &&
                  !(length && raid_bad_at(leg->m, leg->offset + at, step));
        }
        have = any;
    }
    return have;
}

/* Good when members that are still trusted have it. */
static int verdict(const struct raid_array *a, const struct raid_io *io)
{
    if (a->level->parity && !raid_load(&a->failed)) /* the others stand for who failed */
        return io->ended && !can_be_read(a, io) ? -EIO : 0;
    for (unsigned i = 0; i < io->legs && io->bio->op == BIO_FLUSH; i++)
        if (io->leg[i].error && raid_in_sync(io->leg[i].m))
            return io->leg[i].error; /* the array cannot do without it */
    if (copies_have(a, io))
        return 0;
    for (unsigned i = 0; i < io->legs; i++)
        if (io->leg[i].error)
            return io->leg[i].error;
    return -EIO;
}

static void io_back(void *arg)
{
    struct raid_io *io = arg;
    if (io->ended)
        io->ended(io, io->error);
    else
        raid_io_finish(io, io->error);
}

/* Of copies one has to stay that is read, though nobody knows what it has. */
static struct raid_leg *last_copy(const struct raid_array *a, struct raid_io *io)
{
    struct raid_leg *first = NULL;
    for (unsigned i = 0; i < io->legs && !a->level->parity; i++) {
        struct raid_leg *leg = &io->leg[i];
        if (!raid_in_sync(leg->m))
            continue;
        if (!leg->error)
            return NULL;
        if (!first && !raid_bad_at(leg->m, leg->offset, leg->length))
            first = leg;
    }
    return first;
}

/* Has another member this part of what was to be written? */
static bool others_have(const struct raid_io *io, const struct raid_leg *leg, uint64_t at,
                        uint64_t len)
{
    for (unsigned i = 0; i < io->legs; i++) {
        const struct raid_leg *other = &io->leg[i];
        if (other != leg && (!other->error || other->m->bad) &&
            raid_good_at(other->m, other->offset + at, len))
            return true;
    }
    return false;
}

static void leg_data(const struct raid_io *io, const struct raid_leg *leg, uint64_t at,
                     uint8_t *buf, size_t len)
{
    if (leg->data)
        memcpy(buf, (const uint8_t *)leg->data->iov_base + at, len);
    else if (io->bio->op == BIO_WRITE)
        bio_copy_out(io->bio, at, buf, len);
    else
        memset(buf, 0, len);
}

/* What of a leg cannot be written, block by block: only that is bad. False: the member has to go;
 * if it is the last copy of any (`last`), that stays as it is. */
static bool list_bad(const struct raid_io *io, const struct raid_leg *leg, bool last)
{
    enum { STEP = 4096 };
    struct raid_member *m = leg->m;
    if (!m->bad || !leg->length || !raid_medium_error(leg->error) || !raid_takes_writes(m))
        return false;
    struct iobuf *buf = iobuf_get(STEP);
    bool stays = buf;
    for (uint64_t at = 0, n; at < leg->length && stays; at += n) {
        n = STEP - (m->data_offset + leg->offset + at) % STEP;
        n = leg->length - at < n ? leg->length - at : n;
        leg_data(io, leg, at, buf->data, n);
        int error = bdev_write(m->desc, m->data_offset + leg->offset + at, buf->data, n, 0);
        if (error && last && !others_have(io, leg, at, n))
            stays = false;
        else if (error)
            stays = raid_bad_add(m, leg->offset + at, n, error);
        else
            raid_bad_clear(m, leg->offset + at, n);
    }
    iobuf_put(&buf);
    return stays && !bdev_flush(m->desc); /* it may have had FUA */
}

/* What could not be written is on the member's list from now on, or the member goes; what could is
 * taken off. */
static void judge_legs(struct raid_array *a, struct raid_io *io)
{
    struct raid_leg *spared = last_copy(a, io);
    if (spared && !(spared->m->bad && raid_medium_error(spared->error)))
        spared = NULL;
    for (unsigned i = 0; i < io->legs; i++) {
        struct raid_leg *leg = &io->leg[i];
        if (!leg->error && leg->length)
            raid_bad_clear(leg->m, leg->offset, leg->length);
        else if (leg->error && leg != spared && list_bad(io, leg, false))
            leg->error = 0;
        else if (leg->error && leg != spared)
            raid_kick(a, leg->m, leg->error, false);
    }
    if (spared && list_bad(io, spared, true))
        spared->error = 0;
}

static bool kick_reported(struct raid_array *a)
{
    struct raid_member *m;
    bool any = false;
    list_for_each (m, &a->members, link) {
        int error = raid_load(&m->report);
        if (error) {
            raid_kick(a, m, error, false);
            raid_store(&m->report, 0); /* only now: somebody may wait until it is unrecorded */
            any = true;
        }
    }
    return any;
}

static void fault_task(void *arg)
{
    struct raid_array *a = arg;
    tlock_lock(&a->meta_lock);
    while (kick_reported(a) || !list_empty(&a->faults)) {
        struct list batch = LIST_INIT(batch);
        list_splice_tail(&batch, &a->faults);
        struct raid_io *each;
        list_for_each (each, &batch, link)
            judge_legs(a, each);
        if ((a->unrecorded || a->bad_news) && !a->read_only && raid_alive(a, NULL))
            raid_meta_write(a);
        else if (a->level->parity && !list_empty(&batch)) /* see settle_survivors */
            raid_meta_flush(a);
        struct list *e;
        while ((e = list_pop(&batch))) {
            struct raid_io *io = list_entry(e, struct raid_io, link);
            io->error = verdict(a, io);
            reactor_post(io->origin, &io->post, io_back, io);
        }
    }
    tlock_unlock(&a->meta_lock);
    raid_task_end(a, &a->fault_runs);
    raid_sync_next(a);
}

static void io_arrived(void *arg) /* home */
{
    struct raid_io *io = arg;
    struct raid_array *a = io->array;
    list_add_tail(&a->faults, &io->link);
    raid_task(a, &a->fault_runs, "raid-fault", fault_task);
}

void raid_io_faulty(struct raid_io *io)
{
    reactor_post(io->array->home, &io->post, io_arrived, io);
}

static void report_arrived(void *arg) /* home */
{
    struct raid_member *m = arg;
    raid_task(m->array, &m->array->fault_runs, "raid-fault", fault_task);
}

void raid_report(struct raid_member *m, int error)
{
    int none = 0;
    if (__atomic_compare_exchange_n(&m->report, &none, error, false, __ATOMIC_SEQ_CST,
                                    __ATOMIC_SEQ_CST))
        reactor_post(m->array->home, &m->report_post, report_arrived, m);
}

/* ---- read errors: rewritten from another member */

static void repair_task(void *arg)
{
    struct raid_array *a = arg;
    struct list *e;
    while ((e = list_pop(&a->repairs))) {
        struct raid_repair *r = list_entry(e, struct raid_repair, link);
        a->repair_count--;
        if (!a->stopping)
            a->level->repair(a, r->slots, r->offset, r->length);
        free(r);
    }
    raid_task_end(a, &a->repair_runs);
    raid_publish(a);
}

static void repair_arrived(void *arg) /* home */
{
    struct raid_repair *r = arg;
    struct raid_array *a = r->array;
    if (a->repair_count >= RAID_REPAIR_MAX || a->read_only) {
        free(r); /* the next read of the place brings it back */
        return;
    }
    a->repair_count++;
    list_add_tail(&a->repairs, &r->link);
    raid_task(a, &a->repair_runs, "raid-repair", repair_task);
}

void raid_want_repair(struct raid_array *a, uint64_t slots, uint64_t offset, uint64_t length)
{
    struct raid_repair *r = malloc(sizeof *r);
    if (!r)
        return;
    r->array = a;
    r->slots = slots;
    r->offset = offset;
    r->length = length;
    reactor_post(a->home, &r->post, repair_arrived, r);
}
