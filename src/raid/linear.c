/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * linear, also called JBOD: one member behind the other (drivers/md/md-linear.c of Linux, which
 * 6.8 to 6.13 lack). With a chunk size, which older mdadm wrote, each member is cut to whole
 * chunks.
 */
#include <errno.h>

#include "base/mem.h"
#include "raid/raid_private.h"

enum { BOUNCE_MAX = 64 << 20 };

struct linear {
    uint64_t end[RAID_MEMBERS_MAX]; /* of the array, bytes */
};

static bool is_zeroing(struct raid_array *a, uint64_t *gran_r)
{
    for (unsigned i = 0; i < a->slots; i++) {
        struct bdev_info info;
        bdev_get_info(a->slot[i]->desc, &info);
        if (!info.discard_gran || !info.discard_zeroes)
            return false;
        *gran_r = info.discard_gran > *gran_r ? info.discard_gran : *gran_r;
    }
    return true;
}

static int linear_setup(struct raid_array *a, struct err *e)
{
    struct linear *l = xcalloc(1, sizeof *l);
    struct bdev *b = &a->bdev;
    uint64_t end = 0, gran = 0;
    a->level_data = l;
    for (unsigned i = 0; i < a->slots; i++) {
        uint64_t size = a->slot[i]->data_size;
        size = a->chunk ? size / a->chunk * a->chunk : size;
        if (!size || size % b->block_size)
            return err_set(e, ERR_UNSUPPORTED, "",
                           "%s has %llu bytes of data, no whole blocks of %u: a block would lie on "
                           "two members",
                           a->slot[i]->device, (unsigned long long)size, b->block_size);
        l->end[i] = end += size;
    }
    b->size = end;
    b->fanout = a->slots;
    b->max_io = BOUNCE_MAX;
    b->native_fua = true;
    b->native = 1u << BIO_READ | 1u << BIO_WRITE | 1u << BIO_FLUSH | 1u << BIO_WRITE_ZEROES;
    if (is_zeroing(a, &gran)) {
        b->native |= 1u << BIO_DISCARD;
        b->discard_gran = gran;
        b->discard_zeroes = true;
    }
    return 0;
}

static void linear_teardown(struct raid_array *a)
{
    free(a->level_data);
    a->level_data = NULL;
}

struct part {
    struct raid_member *m;
    uint64_t from, length, offset;
};

/* The members' parts of a request; 0: one of them is gone. */
static unsigned cut(struct raid_array *a, const struct bio *bio, struct part *part)
{
    const struct linear *l = a->level_data;
    unsigned i = 0, n = 0;
    while (bio->offset >= l->end[i])
        i++;
    for (uint64_t done = 0; done < bio->length; i++) {
        uint64_t at = bio->offset + done, start = i ? l->end[i - 1] : 0;
        struct part *p = &part[n++];
        p->m = raid_load(&a->slot[i]);
        if (!p->m || !raid_in_sync(p->m))
            return 0;
        p->from = done;
        p->length = l->end[i] - at < bio->length - done ? l->end[i] - at : bio->length - done;
        p->offset = p->m->data_offset + at - start;
        done += p->length;
    }
    return n;
}

static void linear_io(struct raid_array *a, struct bio *bio)
{
    struct part part[RAID_MEMBERS_MAX];
    unsigned n = cut(a, bio, part);
    if (!n) {
        bio_complete(bio, -EIO);
        return;
    }
    bio->pending = n;
    for (unsigned i = 0; i < n; i++) {
        struct bio *c = bio_child(bio, part[i].m->desc);
        bio_child_range(c, part[i].from, part[i].length, part[i].offset);
        if (n == 1 && bio->flags & BIO_BORROW)
            raid_borrow(part[i].m, c);
        bio_submit(c);
    }
}

const struct raid_level linear_level = {
    .level = -1,
    .name = "linear",
    .min_slots = 1,
    .can_run = raid_needs_all,
    .setup = linear_setup,
    .teardown = linear_teardown,
    .read = linear_io,
    .write = linear_io,
    .flush = raid_flush_each,
};
