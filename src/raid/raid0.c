/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * raid0. Members are cut to whole chunks. When they differ in size there are zones: the first over
 * all members as high as the smallest, the next over the members that are larger, and so on. Which
 * member of a zone has a chunk depends on the layout: the original one counts chunks from the start
 * of the array, the alternate one from the start of the zone (drivers/md/raid0.c of Linux).
 */
#include <errno.h>
#include <linux/types.h>

#include <linux/raid/md_p.h>

#include "base/mem.h"
#include "raid/raid_private.h"

struct zone {
    uint64_t start, end;   /* of the array, bytes */
    uint64_t member_start; /* where it begins in its members' data */
    unsigned count;
    unsigned slot[RAID_MEMBERS_MAX];
};

struct raid0 {
    unsigned zones;
    bool alternate;
    struct zone zone[RAID_MEMBERS_MAX];
};

static uint64_t whole_chunks(const struct raid_array *a, unsigned slot)
{
    return a->slot[slot]->data_size / a->chunk * a->chunk;
}

/* The next zone above `from` of each member's data; false when no member reaches higher. */
static bool add_zone(struct raid_array *a, struct raid0 *r, uint64_t from)
{
    struct zone *z = &r->zone[r->zones];
    uint64_t height = 0;
    z->count = 0;
    for (unsigned i = 0; i < a->slots; i++) {
        uint64_t have = whole_chunks(a, i);
        if (have <= from)
            continue;
        z->slot[z->count++] = i;
        if (!height || have - from < height)
            height = have - from;
    }
    if (!z->count)
        return false;
    z->start = r->zones ? z[-1].end : 0;
    z->end = z->start + height * z->count;
    z->member_start = from;
    r->zones++;
    return true;
}

static void common_properties(struct raid_array *a)
{
    struct bdev *b = &a->bdev;
    uint32_t ops = UINT32_MAX;
    b->discard_zeroes = true;
    bool discard = true;
    for (unsigned i = 0; i < a->slots; i++) {
        struct bdev_info info;
        bdev_get_info(a->slot[i]->desc, &info);
        ops &= info.ops;
        discard = discard && info.discard_gran;
        if (info.discard_gran > b->discard_gran)
            b->discard_gran = info.discard_gran;
        b->discard_zeroes = b->discard_zeroes && info.discard_zeroes;
    }
    if (!discard)
        b->discard_gran = 0;
    b->native = 1u << BIO_READ | 1u << BIO_WRITE | 1u << BIO_FLUSH | 1u << BIO_WRITE_ZEROES;
    if (b->discard_gran)
        b->native |= 1u << BIO_DISCARD;
    if (ops & 1u << BIO_EXTENTS)
        b->native |= 1u << BIO_EXTENTS;
}

static int raid0_setup(struct raid_array *a, struct err *e)
{
    struct raid0 *r = xcalloc(1, sizeof *r);
    a->level_data = r;
    for (uint64_t from = 0; add_zone(a, r, from);)
        from +=
            (r->zone[r->zones - 1].end - r->zone[r->zones - 1].start) / r->zone[r->zones - 1].count;
    if (!r->zones)
        return err_set(e, ERR_INVALID, "members", "members are smaller than one chunk");
    if (r->zones > 1 && !(a->sb.features & MD_FEATURE_RAID0_LAYOUT))
        return err_set(e, ERR_UNSUPPORTED, "",
                       "the raid0 has members of different sizes and does not say which of the two "
                       "layouts it has: tell it once by mdadm --assemble "
                       "--update=layout-original or layout-alternate");
    if (a->sb.features & MD_FEATURE_RAID0_LAYOUT && a->sb.layout > MD_RAID0_ALTERNATE)
        return err_set(e, ERR_UNSUPPORTED, "", "raid0 layout %u is not known", a->sb.layout);
    r->alternate = a->sb.layout == MD_RAID0_ALTERNATE;
    a->bdev.size = r->zone[r->zones - 1].end;
    a->bdev.boundary = a->chunk;
    a->bdev.opt_io = (uint32_t)(a->chunk * a->slots);
    a->bdev.fanout = a->slots;
    a->bdev.native_fua = true;
    common_properties(a);
    return 0;
}

static void raid0_teardown(struct raid_array *a)
{
    free(a->level_data);
    a->level_data = NULL;
}

static struct raid_member *map(struct raid_array *a, uint64_t offset, uint64_t *member_offset_r)
{
    const struct raid0 *r = a->level_data;
    const struct zone *z = r->zone;
    while (offset >= z->end)
        z++;
    uint64_t in_zone = offset - z->start;
    uint64_t counted = r->alternate ? in_zone : offset;
    unsigned which = (unsigned)(counted / a->chunk % z->count);
    struct raid_member *m = raid_load(&a->slot[z->slot[which]]);
    if (m)
        *member_offset_r = m->data_offset + z->member_start +
                           in_zone / (a->chunk * z->count) * a->chunk + offset % a->chunk;
    return m;
}

/* Who closes a member has kicked it before and looks at `lends` afterwards: either that is seen, or
 * the kick is seen here. */
static void borrowed(struct bio *child)
{
    struct raid_member *m = child->arg;
    if (child->lent && !raid_load(&m->array->lends))
        raid_store(&m->array->lends, true);
    if (child->lent && !raid_in_sync(m))
        child->error = -EIO;
    else
        child->parent->lent = child->lent;
    bio_child_done(child);
}

void raid_borrow(struct raid_member *m, struct bio *child)
{
    child->flags |= BIO_BORROW;
    child->done = borrowed;
    child->arg = m;
}

static void raid0_io(struct raid_array *a, struct bio *bio)
{
    uint64_t offset;
    struct raid_member *m = map(a, bio->offset, &offset);
    if (!m || !raid_in_sync(m)) {
        bio_complete(bio, -EIO);
        return;
    }
    struct bio *c = bio_child(bio, m->desc);
    bio_child_range(c, 0, bio->length, offset);
    if (bio->flags & BIO_BORROW)
        raid_borrow(m, c);
    bio->pending = 1;
    bio_submit(c);
}

void raid_flush_each(struct raid_array *a, struct bio *bio)
{
    struct raid_member *all[RAID_MEMBERS_MAX];
    for (unsigned i = 0; i < a->slots; i++) {
        all[i] = raid_load(&a->slot[i]);
        if (!all[i] || !raid_in_sync(all[i])) {
            bio_complete(bio, -EIO);
            return;
        }
    }
    bio->pending = a->slots;
    for (unsigned i = 0; i < a->slots; i++)
        bio_submit(bio_child(bio, all[i]->desc));
}

bool raid_needs_all(const struct md_super *sb, uint64_t in_sync)
{
    return (unsigned)__builtin_popcountll(in_sync) == sb->raid_disks;
}

const struct raid_level raid0_level = {
    .level = 0,
    .name = "raid0",
    .min_slots = 1,
    .can_run = raid_needs_all,
    .setup = raid0_setup,
    .teardown = raid0_teardown,
    .read = raid0_io,
    .write = raid0_io,
    .flush = raid_flush_each,
};
