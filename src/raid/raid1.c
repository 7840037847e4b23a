/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * raid1, any number of copies. A write holds its byte range until all legs are done, so that two
 * overlapping writes reach all members in one order; resync, rebuild and repair hold theirs the
 * same way.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/mem.h"
#include "raid/bad.h"
#include "raid/copies.h"

enum {
    WRITE_MAX = 1 << 20, /* longer ones are split: a range spans few regions */
    EXTENT_MAX = 64 << 20,
};

static int raid1_setup(struct raid_array *a, struct err *e)
{
    (void)e;
    a->ranges = range_map_new();
    a->bdev.size = a->member_bytes / a->bdev.block_size * a->bdev.block_size;
    a->bdev.fanout = raid_legs(a);
    a->bdev.max_io = WRITE_MAX;
    a->bdev.max_extent_io = EXTENT_MAX;
    a->bdev.native_fua = true;
    raid_copies_properties(a);
    return 0;
}

static void raid1_teardown(struct raid_array *a)
{
    if (a->ranges)
        range_map_free(&a->ranges);
}

/* ---- reads */

static struct raid_member *readable(struct raid_array *a, unsigned slot, const struct bio *bio)
{
    struct raid_member *m = bio->drv.u[0] >> slot & 1 ? NULL : raid_load(&a->slot[slot]);
    return m && raid_good_at(m, bio->offset, bio->length) ? m : NULL;
}

/* NULL: it is to be put together. */
static struct raid_member *choose_first(struct raid_array *a, const struct bio *bio)
{
    for (unsigned i = 0; i < a->slots; i++) {
        const struct raid_member *m = raid_load(&a->slot[i]);
        if (m && raid_in_sync(m))
            return readable(a, i, bio);
    }
    return NULL;
}

/* The first leg alone where the copies may differ; else the one whose last read ended here; else in
 * turn. */
static struct raid_member *choose(struct raid_array *a, struct raid_chan *ch, const struct bio *bio)
{
    bool any = !raid_unsynced(a, bio->offset, bio->length);
    struct raid_member *m = NULL;
    if (!any && bio->op == BIO_READ)
        return choose_first(a, bio);
    for (unsigned i = 0; any && i < a->slots; i++)
        if (ch->read_end[i] == bio->offset && (m = readable(a, i, bio)))
            return m;
    unsigned first = any ? ch->next_read++ % a->slots : 0;
    for (unsigned i = 0; i < a->slots && !m; i++)
        m = readable(a, (first + i) % a->slots, bio);
    return m;
}

static struct raid_member *raid1_pick(struct raid_array *a, const struct bio *bio,
                                      uint64_t *offset_r)
{
    struct raid_chan *ch = &a->chan[reactor_self_index()];
    struct raid_member *m = choose(a, ch, bio);
    *offset_r = bio->offset;
    if (m)
        ch->read_end[m->slot] = bio->offset + bio->length;
    return m;
}

/* ---- writes */

static void range_had(void *arg)
{
    raid_io_submit(arg);
}

static void raid1_write(struct raid_array *a, struct bio *bio)
{
    raid_write_copies(a, bio, range_had);
}

/* ---- in tasks on home */

static void all_copies(struct raid_array *a, uint64_t offset, struct raid_copies *c)
{
    struct raid_member *second = raid_second(a);
    c->n = 0;
    for (unsigned i = 0; i < a->slots; i++)
        raid_copies_add(c, raid_load(&a->slot[i]), offset);
    raid_copies_add(c, second, offset);
}

static int raid1_sync_window(struct raid_array *a, struct raid_member *to, uint64_t offset,
                             uint64_t length)
{
    struct raid_copies *c = xcalloc(1, sizeof *c);
    struct range_req range;
    range_acquire_wait(a->ranges, &range, offset, length);
    all_copies(a, offset, c);
    int rc = raid_copies_sync(a, c, to, length);
    range_release(a->ranges, &range);
    free(c);
    return rc;
}

static int raid1_check_window(struct raid_array *a, uint64_t offset, uint64_t length,
                              struct raid_check *check)
{
    struct raid_copies *c = xcalloc(1, sizeof *c);
    struct range_req range;
    range_acquire_wait(a->ranges, &range, offset, length);
    all_copies(a, offset, c);
    int rc = raid_copies_check(a, c, offset, length, check);
    range_release(a->ranges, &range);
    free(c);
    return rc;
}

static void raid1_repair(struct raid_array *a, uint64_t slots, uint64_t offset, uint64_t length)
{
    struct raid_copies *c = xcalloc(1, sizeof *c);
    struct range_req range;
    range_acquire_wait(a->ranges, &range, offset, length);
    all_copies(a, offset, c);
    c->differ = raid_unsynced(a, offset, length);
    for (unsigned i = 0; i < c->n; i++)
        if (slots >> c->m[i]->slot & 1)
            raid_copies_repair(a, c, i, length);
    range_release(a->ranges, &range);
    free(c);
}

static bool raid1_resize(struct raid_array *a, uint64_t *size_r)
{
    *size_r = a->sb.size * MD_SECTOR;
    return true;
}

static bool raid1_can_run(const struct md_super *sb, uint64_t in_sync)
{
    (void)sb;
    return in_sync != 0;
}

const struct raid_level raid1_level = {
    .level = 1,
    .name = "raid1",
    .redundant = true,
    .min_slots = 2,
    .can_run = raid1_can_run,
    .setup = raid1_setup,
    .teardown = raid1_teardown,
    .read = raid_copies_read,
    .resize = raid1_resize,
    .pick = raid1_pick,
    .copies = all_copies,
    .write = raid1_write,
    .flush = raid_flush_all,
    .sync_window = raid1_sync_window,
    .check_window = raid1_check_window,
    .repair = raid1_repair,
};
