/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * raid10: chunks with two or more copies each. Requests never cross a chunk; the ranges that they
 * hold are of the array, and resync goes by them, while a rebuild goes by the new member's data.
 */
#include "raid/raid10.h"

#include <errno.h>

#include "base/mem.h"
#include "raid/bad.h"
#include "raid/bitmap.h"
#include "raid/copies.h"

enum { WRITE_MAX = 1 << 20 };

static const struct raid10_geometry *geometry(const struct raid_array *a)
{
    return a->level_data;
}

static int raid10_setup(struct raid_array *a, struct err *e)
{
    struct raid10_geometry *g = xcalloc(1, sizeof *g);
    struct bdev *b = &a->bdev;
    a->level_data = g;
    if (!raid10_geometry_init(g, &a->sb))
        return err_set(e, ERR_UNSUPPORTED, "", "raid10 of %u members with layout 0x%x is not known",
                       a->slots, a->sb.layout);
    a->ranges = range_map_new();
    b->size = g->size;
    b->boundary = a->chunk;
    b->opt_io = (uint32_t)(a->chunk * (g->slots / g->near ? g->slots / g->near : 1));
    b->fanout = raid_legs(a);
    b->max_io = WRITE_MAX;
    b->native_fua = true;
    raid_copies_properties(a);
    return 0;
}

static void raid10_teardown(struct raid_array *a)
{
    if (a->ranges)
        range_map_free(&a->ranges);
    free(a->level_data);
    a->level_data = NULL;
}

/* Does each chunk have a copy left? Whose copies stand together is the same for all chunks whose
 * first copy is on the same member. */
static bool raid10_can_run(const struct md_super *sb, uint64_t in_sync)
{
    struct raid10_geometry g;
    if (!raid10_geometry_init(&g, sb))
        return false;
    unsigned first = 0;
    do {
        bool any = false;
        for (unsigned i = 0; i < g.copies; i++)
            any = any || in_sync >> (first + i) % g.slots & 1;
        if (!any)
            return false;
        first = (first + g.near) % g.slots;
    } while (first);
    return true;
}

/* ---- reads */

/* The first copy where copies may differ, and of far layouts, which stripe it over all members;
 * else in turn. */
static struct raid_member *raid10_pick(struct raid_array *a, const struct bio *bio,
                                       uint64_t *offset_r)
{
    const struct raid10_geometry *g = geometry(a);
    struct raid_chan *ch = &a->chan[reactor_self_index()];
    struct raid10_copy copy[RAID10_COPIES_MAX];
    bool differ = raid_unsynced(a, bio->offset, bio->length), any = g->far == 1 && !differ;
    unsigned first = any ? ch->next_read++ % g->copies : 0;
    raid10_copies(g, bio->offset, copy);
    for (unsigned i = 0; i < g->copies; i++) {
        const struct raid10_copy *c = &copy[(first + i) % g->copies];
        struct raid_member *m = raid_load(&a->slot[c->slot]);
        *offset_r = c->offset;
        if (m && raid_good_at(m, c->offset, bio->length) && !(bio->drv.u[0] >> c->slot & 1))
            return m;
        if (m && raid_in_sync(m) && differ && bio->op == BIO_READ)
            return NULL; /* it is to be put together */
    }
    return NULL;
}

/* ---- writes */

static void range_had(void *arg)
{
    struct raid_io *io = arg;
    struct raid_array *a = io->array;
    struct raid10_copy copy[RAID10_COPIES_MAX];
    struct raid_member *second = raid_second(a);
    raid10_copies(geometry(a), io->bio->offset, copy);
    for (unsigned i = 0; i < geometry(a)->copies; i++) {
        struct raid_member *m = raid_load(&a->slot[copy[i].slot]);
        if (m && m != second && raid_takes_writes(m))
            io->leg[io->legs++] = (struct raid_leg){.io = io, .m = m, .offset = copy[i].offset};
        if (second && second->slot == (int)copy[i].slot)
            io->leg[io->legs++] =
                (struct raid_leg){.io = io, .m = second, .offset = copy[i].offset};
    }
    raid_io_send(io);
}

static void raid10_write(struct raid_array *a, struct bio *bio)
{
    raid_write_copies(a, bio, range_had);
}

/* ---- in tasks on home */

/* The copies of what stands within one chunk. */
static void copies_at(struct raid_array *a, uint64_t offset, struct raid_copies *c)
{
    struct raid10_copy copy[RAID10_COPIES_MAX];
    struct raid_member *second = raid_second(a);
    raid10_copies(geometry(a), offset, copy);
    c->n = 0;
    for (unsigned i = 0; i < geometry(a)->copies; i++) {
        raid_copies_add(c, raid_load(&a->slot[copy[i].slot]), copy[i].offset);
        if (second && second->slot == (int)copy[i].slot)
            raid_copies_add(c, second, copy[i].offset);
    }
}

static uint64_t within_chunk(const struct raid_array *a, uint64_t at, uint64_t end)
{
    uint64_t left = a->chunk - at % a->chunk;
    return end - at < left ? end - at : left;
}

static uint64_t raid10_next_marked(const struct raid_array *a, const struct raid_member *m,
                                   uint64_t offset, uint64_t end, uint64_t *length_r)
{
    for (uint64_t at = offset; at < end; at += *length_r) {
        uint64_t from = raid10_virtual(geometry(a), (unsigned)m->slot, at);
        *length_r = within_chunk(a, at, end);
        if (from < a->bdev.size && raid_bitmap_next(a, from, from + *length_r) < from + *length_r)
            return at;
    }
    return end;
}

/* `to` NULL: by the array's bytes, else by the member's. */
static int raid10_sync_window(struct raid_array *a, struct raid_member *to, uint64_t offset,
                              uint64_t length)
{
    int rc = 0;
    for (uint64_t at = offset, n; at < offset + length; at += n) {
        struct raid_copies *c = xcalloc(1, sizeof *c);
        struct range_req range;
        n = within_chunk(a, at, offset + length);
        uint64_t from = to ? raid10_virtual(geometry(a), (unsigned)to->slot, at) : at;
        int one = 0;
        if (from < a->bdev.size) {
            range_acquire_wait(a->ranges, &range, from, n);
            copies_at(a, from, c);
            one = raid_copies_sync(a, c, to, n);
            range_release(a->ranges, &range);
        }
        free(c);
        if (one && one != -EIO)
            return one;
        rc = one ? one : rc;
    }
    return rc;
}

static int raid10_check_window(struct raid_array *a, uint64_t offset, uint64_t length,
                               struct raid_check *check)
{
    int rc = 0;
    for (uint64_t at = offset, n; at < offset + length && rc != -ENOMEM; at += n) {
        struct raid_copies *c = xcalloc(1, sizeof *c);
        struct range_req range;
        n = within_chunk(a, at, offset + length);
        range_acquire_wait(a->ranges, &range, at, n);
        copies_at(a, at, c);
        int one = raid_copies_check(a, c, at, n, check);
        range_release(a->ranges, &range);
        free(c);
        rc = one ? one : rc;
    }
    return rc;
}

static void raid10_repair(struct raid_array *a, uint64_t slots, uint64_t offset, uint64_t length)
{
    struct raid_copies *c = xcalloc(1, sizeof *c);
    struct range_req range;
    range_acquire_wait(a->ranges, &range, offset, length);
    copies_at(a, offset, c);
    c->differ = raid_unsynced(a, offset, length);
    for (unsigned i = 0; i < c->n; i++)
        if (slots >> c->m[i]->slot & 1)
            raid_copies_repair(a, c, i, length);
    range_release(a->ranges, &range);
    free(c);
}

/* Far copies begin at a part of the members' size, and would have to move. */
static bool raid10_resize(struct raid_array *a, uint64_t *size_r)
{
    struct raid10_geometry g;
    if (!raid10_geometry_init(&g, &a->sb) || (g.far > 1 && !g.offset))
        return false;
    *(struct raid10_geometry *)a->level_data = g;
    *size_r = g.size;
    return true;
}

const struct raid_level raid10_level = {
    .level = 10,
    .name = "raid10",
    .redundant = true,
    .min_slots = 2,
    .can_run = raid10_can_run,
    .setup = raid10_setup,
    .teardown = raid10_teardown,
    .read = raid_copies_read,
    .resize = raid10_resize,
    .pick = raid10_pick,
    .copies = copies_at,
    .write = raid10_write,
    .flush = raid_flush_all,
    .next_marked = raid10_next_marked,
    .sync_window = raid10_sync_window,
    .check_window = raid10_check_window,
    .repair = raid10_repair,
};
