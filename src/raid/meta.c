/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Superblocks, and the mark that an array is in use.
 *
 * Order (drivers/md/md.c of Linux, md_update_sb and set_in_sync):
 *   - before the first write after idle, resync_offset 0 is durable on all members;
 *   - marked clean only after the members' caches are flushed;
 *   - a failed member is faulty on the survivors before a write that it missed is acknowledged.
 *
 * Whoever assembles accepts a member that is one event behind the freshest, since a crash between
 * two members' superblocks leaves that. A member that has gone missing must not profit: when one
 * was lost the survivors are written twice, each time one event higher; three times if it was not
 * here from the start, when it may have been the one to get a superblock before a crash. Events
 * never go down.
 */
#include <errno.h>
#include <linux/types.h>
#include <string.h>

#include <linux/raid/md_p.h>

#include "raid/bad.h"
#include "raid/bitmap.h"

#include "base/mem.h"
#include "block/event.h"
#include "reactor/iobuf.h"

static uint64_t resync_sectors(const struct raid_array *a)
{
    if (!a->level->redundant)
        return MD_CLEAN;
    if (a->active)
        return 0;
    return a->resync_pos == UINT64_MAX ? MD_CLEAN : a->checkpoint / MD_SECTOR;
}

/* While in use, what has been rebuilt may lack a write that a power cut interrupts: only with the
 * bitmap, or the log, does anybody know where. */
static uint64_t recovery_sectors(const struct raid_array *a, const struct raid_member *m)
{
    bool by_others = a->level->parity ? a->logged : a->bitmap && !m->by_bitmap;
    bool known = !a->active || (by_others && !m->replaces);
    return known ? m->checkpoint / MD_SECTOR : 0;
}

static void build_roles(struct raid_array *a)
{
    const struct raid_member *m;
    for (unsigned i = 0; i < a->sb.max_dev; i++)
        if (a->sb.role[i] < MD_ROLE_MAX)
            a->sb.role[i] = MD_ROLE_FAULTY;
    list_for_each (m, &a->members, link) {
        uint16_t role = MD_ROLE_FAULTY;
        if (raid_takes_writes(m))
            role = (uint16_t)m->slot;
        else if (m->state == RAID_MEMBER_SPARE)
            role = MD_ROLE_SPARE;
        a->sb.role[m->sb.dev_number] = role;
    }
}

void raid_meta_build(struct raid_array *a, const struct raid_member *m, struct md_super *sb_r)
{
    build_roles(a);
    *sb_r = a->sb;
    sb_r->resync_offset = resync_sectors(a);
    sb_r->features &= ~(uint32_t)(MD_FEATURE_RECOVERY_OFFSET | MD_FEATURE_RECOVERY_BITMAP |
                                  MD_FEATURE_REPLACEMENT | MD_FEATURE_BAD_BLOCKS);
    if (m->bad && raid_bad_any(m))
        sb_r->features |= MD_FEATURE_BAD_BLOCKS;
    sb_r->recovery_offset = 0;
    if (m->state == RAID_MEMBER_REBUILDING) {
        sb_r->features |= MD_FEATURE_RECOVERY_OFFSET;
        sb_r->recovery_offset = recovery_sectors(a, m);
        if (m->by_bitmap)
            sb_r->features |= MD_FEATURE_RECOVERY_BITMAP;
    }
    if (m->replaces)
        sb_r->features |= MD_FEATURE_REPLACEMENT;
    sb_r->data_offset = m->data_offset / MD_SECTOR;
    sb_r->data_size = m->data_size / MD_SECTOR;
    sb_r->super_offset = MD_SUPER_OFFSET / MD_SECTOR;
    sb_r->dev_number = m->sb.dev_number;
    sb_r->device_uuid = m->sb.device_uuid;
    sb_r->devflags = m->sb.devflags;
    sb_r->bblog_shift = m->sb.bblog_shift;
    sb_r->bblog_size = m->sb.bblog_size;
    sb_r->bblog_offset = m->sb.bblog_offset;
    sb_r->bitmap_offset = m->sb.bitmap_offset;
    sb_r->corrected = m->sb.corrected + (uint32_t)raid_load(&m->corrected);
}

/* ---- writing to all members at once */

struct super_write {
    struct bio bio;
    struct iovec iov;
    struct iobuf *buf;
    struct raid_member *m;
    struct twait *wait;
};

static void super_written(struct bio *bio)
{
    struct super_write *w = bio->arg;
    twait_done(w->wait);
}

static bool wants_super(const struct raid_member *m)
{
    return m->state != RAID_MEMBER_FAULTY && m->desc;
}

static unsigned submit_supers(struct raid_array *a, struct super_write *w, struct twait *wait)
{
    static __thread struct md_super sb; /* 4 KiB; no wait while it is in use */
    struct raid_member *m;
    unsigned n = 0;
    list_for_each (m, &a->members, link) {
        if (!wants_super(m))
            continue;
        struct super_write *one = &w[n++];
        one->m = m;
        one->wait = wait;
        one->buf = iobuf_get(MD_SUPER_SIZE);
        if (!one->buf)
            abort(); /* 4 KiB: the metadata on disk is sound, going on would not be */
        raid_meta_build(a, m, &sb);
        md_super_write(&sb, one->buf->data);
        one->iov = (struct iovec){one->buf->data, MD_SUPER_SIZE};
        bio_init(&one->bio, m->desc, BIO_WRITE, MD_SUPER_OFFSET, MD_SUPER_SIZE, super_written, one);
        bio_data(&one->bio, &one->iov, 1);
        one->bio.flags = BIO_FUA;
    }
    wait->pending = n;
    for (unsigned i = 0; i < n; i++)
        bio_submit(&w[i].bio);
    return n;
}

/* One round. `lost_r`: a member failed and was kicked. False: nobody in sync has it. */
static bool write_round(struct raid_array *a, bool *lost_r)
{
    struct twait wait = TWAIT(0);
    unsigned most = 0, good = 0;
    struct raid_member *m;
    list_for_each (m, &a->members, link)
        most++;
    struct super_write *w = xcalloc(most, sizeof *w);
    uint64_t events = a->sb.events++, utime = a->sb.utime;
    a->sb.utime = md_time_now();
    if (a->level->before_super)
        a->level->before_super(a, events, utime);
    if (a->bitmap) /* it may be newer than the superblocks, never older */
        raid_bitmap_store(a, lost_r);
    raid_bad_store(a, lost_r); /* so are these: what is not in force yet is not looked at */
    unsigned n = submit_supers(a, w, &wait);
    twait_all(&wait);
    for (unsigned i = 0; i < n; i++) {
        iobuf_put(&w[i].buf);
        if (!w[i].bio.error)
            good += raid_in_sync(w[i].m);
        else if (raid_kick(a, w[i].m, w[i].bio.error, false))
            *lost_r = true;
    }
    free(w);
    return good > 0 && !(a->level->parity && raid_load(&a->failed));
}

static void all_recorded(struct raid_array *a)
{
    struct raid_member *m;
    list_for_each (m, &a->members, link) {
        if (m->state != RAID_MEMBER_FAULTY || m->recorded)
            continue;
        m->recorded = true;
        raid_vacate(a, m);
        __atomic_fetch_sub(&a->unrecorded, 1, __ATOMIC_SEQ_CST);
    }
}

/* One event behind the freshest is accepted, two are not: should it end between the first
 * superblocks after an assembly, nobody may be left behind by that. */
static void catch_up(struct raid_array *a, bool *lost_r)
{
    autofree struct md_super *sb = NULL;
    autofree uint8_t *bytes = NULL;
    struct raid_member *m;
    list_for_each (m, &a->members, link) {
        if (!m->behind || !wants_super(m))
            continue;
        sb = sb ? sb : xcalloc(1, sizeof *sb);
        bytes = bytes ? bytes : xcalloc(1, MD_SUPER_SIZE);
        raid_meta_build(a, m, sb);
        sb->events = m->behind; /* the freshest one's, as is the time: the log knows the two */
        md_super_write(sb, bytes);
        m->behind = 0;
        int error = bdev_write(m->desc, MD_SUPER_OFFSET, bytes, MD_SUPER_SIZE, BIO_FUA);
        if (error && raid_kick(a, m, error, false))
            *lost_r = true;
    }
}

/* The log only names whole stripes that were written while nobody was missing: from here on their
 * parity stands for the lost member's part, and must not be lost with a cache. */
static void settle_survivors(struct raid_array *a, bool *lost_r)
{
    struct raid_member *m;
    a->level->settle(a);
    list_for_each (m, &a->members, link) {
        int error = raid_takes_writes(m) ? bdev_flush(m->desc) : 0;
        if (error && raid_kick(a, m, error, false))
            *lost_r = true;
    }
}

int raid_meta_write(struct raid_array *a)
{
    bool lost, good;
    do {
        lost = false;
        catch_up(a, &lost);
        if ((a->bump || a->bad_news) && a->active && a->level->parity)
            settle_survivors(a, &lost);
        /* Then who failed first holds what the others may not stand for, and is not cast out. */
        bool damaged = a->level->parity && raid_load(&a->failed);
        good = !damaged && write_round(a, &lost);
        for (unsigned i = 0; good && !lost && i < a->bump; i++)
            good = write_round(a, &lost);
    } while (good && lost);
    if (!good) {
        char object[80];
        raid_object(a, object);
        bool news = !raid_load(&a->failed);
        raid_store(&a->failed, true);
        raid_publish(a);
        if (news)
            event_raise(object, "array-failed", "no member could store the superblock");
        return -1;
    }
    a->bump = 0;
    a->bad_news = false;
    all_recorded(a);
    raid_publish(a);
    return 0;
}

static int flush_members(struct raid_array *a)
{
    struct raid_member *m;
    bool kicked = false, failed = false;
    int left = 0;
    list_for_each (m, &a->members, link) {
        if (!raid_takes_writes(m))
            continue;
        int error = bdev_flush(m->desc);
        if (error && !raid_kick(a, m, error, false))
            failed = true;
        else if (error)
            kicked = true;
        else if (!error && raid_in_sync(m))
            left++;
    }
    if (kicked && left && raid_meta_write(a))
        return -1;
    return left && !failed && !(a->level->parity && raid_load(&a->failed)) ? 0 : -1;
}

int raid_meta_flush(struct raid_array *a)
{
    uint64_t resync = raid_load(&a->resync_pos);
    struct raid_member *m;
    list_for_each (m, &a->members, link)
        m->noted = raid_load(&m->rebuilt);
    if (flush_members(a))
        return -1;
    raid_store(&a->checkpoint, resync);
    list_for_each (m, &a->members, link)
        raid_store(&m->checkpoint, m->noted);
    return 0;
}

void raid_checkpoint(struct raid_array *a)
{
    tlock_lock(&a->meta_lock);
    if (!raid_load(&a->failed) && !a->stopping && !raid_meta_flush(a))
        raid_meta_write(a);
    tlock_unlock(&a->meta_lock);
}

/* ---- the mark */

static void active_task(void *arg)
{
    struct raid_array *a = arg;
    while (a->want_active) {
        tlock_lock(&a->meta_lock);
        unsigned asked = a->want_active;
        a->want_active = 0;
        if (!a->active) {
            a->active = true;
            raid_meta_write(a);
        }
        raid_grant(a, asked, raid_load(&a->failed) ? -EIO : 0);
        tlock_unlock(&a->meta_lock);
        raid_arm_idle(a);
    }
    raid_task_end(a, &a->active_runs);
}

void raid_want_active(struct raid_array *a, unsigned reactor)
{
    a->want_active |= 1u << reactor;
    raid_task(a, &a->active_runs, "raid-active", active_task);
}

static bool anybody_writes(struct raid_array *a)
{
    uint64_t now = reactor_now();
    for (unsigned i = 0; i <= reactor_count(); i++) {
        const struct raid_chan *ch = &a->chan[i];
        uint64_t last = __atomic_load_n(&ch->last_write, __ATOMIC_RELAXED);
        if (__atomic_load_n(&ch->writes, __ATOMIC_RELAXED) ||
            (last && now < last + RAID_IDLE_US * 1000ull))
            return true;
    }
    return false;
}

/* A resync or a rebuild that a restart goes on with. */
static bool has_cursor(const struct raid_array *a)
{
    const struct raid_member *m;
    list_for_each (m, &a->members, link)
        if (m->state == RAID_MEMBER_REBUILDING)
            return true;
    return raid_load(&a->resync_pos) != UINT64_MAX;
}

bool raid_make_clean(struct raid_array *a, bool final)
{
    bool clean = true;
    tlock_lock(&a->meta_lock);
    bool checkpoint = a->active || final;
    if (raid_load(&a->failed) || a->read_only || !a->level->redundant)
        checkpoint = false;
    if (checkpoint) {
        clean = raid_revoke(a) && !raid_meta_flush(a);
        if (clean && final)
            raid_bitmap_settle(a);
        if (clean && (a->active || has_cursor(a))) {
            a->active = false;
            clean = !raid_meta_write(a);
        }
    }
    tlock_unlock(&a->meta_lock);
    return clean;
}

bool raid_rest(struct raid_array *a)
{
    enum { AGAIN_US = 1000 };
    bdev_quiesce(&a->bdev);
    while (!raid_make_clean(a, true) && !raid_load(&a->failed))
        task_sleep_us(AGAIN_US);
    return !raid_load(&a->failed);
}

static void idle_task(void *arg)
{
    struct raid_array *a = arg;
    if (!anybody_writes(a))
        raid_make_clean(a, false);
    raid_task_end(a, &a->idle_runs);
    raid_arm_idle(a);
}

static void idle_fired(void *arg)
{
    struct raid_array *a = arg;
    a->idle_armed = false;
    raid_task(a, &a->idle_runs, "raid-idle", idle_task);
}

void raid_arm_idle(struct raid_array *a)
{
    if (!a->active || a->stopping || a->idle_armed || raid_load(&a->failed))
        return;
    a->idle_armed = true;
    rtimer_arm(&a->idle, RAID_IDLE_US / 2, idle_fired, a);
}
