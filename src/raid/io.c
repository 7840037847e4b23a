/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The way of client I/O through an array: the wait for the dirty mark, the legs of writes and
 * flushes. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/mem.h"
#include "raid/bad.h"
#include "raid/bitmap.h"

static struct raid_array *array_of(struct bdev *bdev)
{
    return container_of(bdev, struct raid_array, bdev);
}

static struct raid_chan *chan_here(struct raid_array *a)
{
    return &a->chan[reactor_self_index()];
}

/* ---- bios that wait, linked by drv.p[5] */

static void queue_put(struct bio **head, struct bio ***tail, struct bio *bio)
{
    bio->drv.p[5] = NULL;
    if (!*head)
        *tail = head;
    **tail = bio;
    *tail = (struct bio **)&bio->drv.p[5];
}

static struct bio *queue_get(struct bio **head)
{
    struct bio *bio = *head;
    if (bio)
        *head = bio->drv.p[5];
    return bio;
}

/* ---- writes of redundant levels: only while the array is marked active on disk */

/* The write waits until home has its bits of the bitmap on all members. */
static void bits_arrived(void *arg) /* home */
{
    struct raid_chan *ch = arg;
    raid_bitmap_ask(ch->array, (unsigned)(ch - ch->array->chan));
}

static void bits_ask(struct raid_array *a, struct raid_chan *ch)
{
    ch->bits_asked = ch->bits_parked;
    ch->bits_parked = NULL;
    reactor_post(a->home, &ch->bits_post, bits_arrived, ch);
}

static void bits_park(struct raid_array *a, struct raid_chan *ch, struct bio *bio)
{
    queue_put(&ch->bits_parked, &ch->bits_tail, bio);
    if (!ch->bits_asked)
        bits_ask(a, ch);
}

static void bits_granted(void *arg) /* the asker */
{
    struct raid_chan *ch = arg;
    struct raid_array *a = ch->array;
    struct bio *all = ch->bits_asked, *bio;
    ch->bits_asked = NULL;
    while ((bio = queue_get(&all))) {
        if (ch->bits_refused)
            raid_write_end(a, bio, ch->bits_refused);
        else
            a->level->write(a, bio);
    }
    if (ch->bits_parked && !ch->bits_asked)
        bits_ask(a, ch);
}

void raid_bits_grant(struct raid_array *a, unsigned reactors, int refused)
{
    for (unsigned i = 0; i <= reactor_count(); i++) {
        if (!(reactors & 1u << i))
            continue;
        struct raid_chan *ch = &a->chan[i];
        ch->bits_refused = refused;
        reactor_post(reactor_get(i), &ch->bits_post, bits_granted, ch);
    }
}

static void write_begin(struct raid_array *a, struct raid_chan *ch, struct bio *bio)
{
    __atomic_store_n(&ch->writes, ch->writes + 1, __ATOMIC_RELAXED);
    if (a->bitmap && !raid_bitmap_begin(a, bio))
        bits_park(a, ch, bio);
    else
        a->level->write(a, bio);
}

void raid_write_end(struct raid_array *a, struct bio *bio, int error)
{
    struct raid_chan *ch = chan_here(a);
    assert(ch->writes);
    __atomic_store_n(&ch->writes, ch->writes - 1, __ATOMIC_RELAXED);
    __atomic_store_n(&ch->last_write, reactor_now(), __ATOMIC_RELAXED);
    if (a->bitmap)
        raid_bitmap_end(a, bio);
    bio_complete(bio, error);
}

static void ask_arrived(void *arg) /* home */
{
    struct raid_chan *ch = arg;
    struct raid_array *a = ch->array;
    raid_want_active(a, (unsigned)(ch - a->chan));
}

static void granted(void *arg) /* the asker */
{
    struct raid_chan *ch = arg;
    struct raid_array *a = ch->array;
    ch->asked = false;
    ch->may_write = !ch->refused;
    struct bio *all = ch->parked, *bio;
    ch->parked = NULL;
    while ((bio = queue_get(&all))) {
        if (ch->refused)
            bio_complete(bio, ch->refused);
        else
            write_begin(a, ch, bio);
    }
}

void raid_grant(struct raid_array *a, unsigned reactors, int refused)
{
    for (unsigned i = 0; i <= reactor_count(); i++) {
        if (!(reactors & 1u << i))
            continue;
        struct raid_chan *ch = &a->chan[i];
        ch->refused = refused;
        reactor_post(reactor_get(i), &ch->post, granted, ch);
    }
}

static void write_submit(struct raid_array *a, struct bio *bio)
{
    struct raid_chan *ch = chan_here(a);
    if (!a->level->redundant) {
        a->level->write(a, bio);
        return;
    }
    if (raid_load(&a->failed)) {
        bio_complete(bio, -EIO);
        return;
    }
    if (ch->may_write) {
        write_begin(a, ch, bio);
        return;
    }
    queue_put(&ch->parked, &ch->parked_tail, bio);
    if (!ch->asked) {
        ch->asked = true;
        reactor_post(a->home, &ch->post, ask_arrived, ch);
    }
}

struct revocation {
    struct raid_array *a;
    bool vetoed; /* atomic */
};

static void revoke_here(void *arg)
{
    struct revocation *r = arg;
    struct raid_chan *ch = chan_here(r->a);
    if (ch->writes || ch->parked || ch->asked)
        raid_store(&r->vetoed, true);
    else
        ch->may_write = false;
}

bool raid_revoke(struct raid_array *a)
{
    struct revocation r = {.a = a};
    task_call_all(revoke_here, &r);
    return !raid_load(&r.vetoed);
}

/* ---- legs */

struct raid_io *raid_io_get(struct raid_array *a, struct bio *bio)
{
    struct raid_chan *ch = chan_here(a);
    struct raid_io *io = ch->free_io;
    if (io)
        ch->free_io = io->next;
    else
        io = malloc(sizeof *io + raid_legs(a) * sizeof io->leg[0]);
    if (!io) {
        /* Somebody holds one, or memory comes back: each end of a write tries again. The first one
         * was made with the channel, so that there is an end. */
        queue_put(&ch->starved, &ch->starved_tail, bio);
        return NULL;
    }
    io->array = a;
    io->bio = bio;
    io->ended = NULL;
    io->ranged = false;
    io->error = 0;
    io->legs = io->pending = 0;
    io->origin = reactor_self();
    return io;
}

static void io_put(struct raid_io *io)
{
    struct raid_array *a = io->array;
    struct raid_chan *ch = chan_here(a);
    io->next = ch->free_io;
    ch->free_io = io;
    struct bio *bio = queue_get(&ch->starved);
    if (!bio)
        return;
    if (bio->op == BIO_FLUSH)
        a->level->flush(a, bio);
    else
        a->level->write(a, bio);
}

void raid_io_finish(struct raid_io *io, int error)
{
    struct raid_array *a = io->array;
    struct bio *bio = io->bio;
    if (io->ranged)
        range_release(a->ranges, &io->range);
    io_put(io);
    if (bio->op == BIO_FLUSH)
        bio_complete(bio, error);
    else
        raid_write_end(a, bio, error);
}

static void io_done(struct raid_io *io)
{
    bool failed = raid_load(&io->array->unrecorded) != 0;
    for (unsigned i = 0; i < io->legs && !failed; i++) {
        const struct raid_leg *leg = &io->leg[i];
        failed = leg->error || raid_bad_at(leg->m, leg->offset, leg->length);
    }
    if (failed)
        raid_io_faulty(io); /* not acknowledged before the survivors' superblocks know */
    else
        raid_io_finish(io, 0);
}

static void leg_done(struct bio *child)
{
    struct raid_leg *leg = child->arg;
    struct raid_io *io = leg->io;
    leg->error = child->error;
    bio_child_put(child);
    if (!--io->pending)
        io_done(io);
}

void raid_io_submit(struct raid_io *io)
{
    struct raid_array *a = io->array;
    struct bio *bio = io->bio;
    struct raid_member *second = raid_second(a);
    if (second)
        io->leg[io->legs++] = (struct raid_leg){.io = io, .m = second, .offset = bio->offset};
    for (unsigned i = 0; i < a->slots; i++) {
        struct raid_member *m = raid_load(&a->slot[i]);
        if (m && m != second && raid_takes_writes(m))
            io->leg[io->legs++] = (struct raid_leg){.io = io, .m = m, .offset = bio->offset};
    }
    raid_io_send(io);
}

void raid_io_send(struct raid_io *io)
{
    struct bio *bio = io->bio;
    if (!io->legs) {
        raid_io_finish(io, -EIO);
        return;
    }
    io->pending = io->legs;
    for (unsigned i = 0; i < io->legs; i++) {
        struct bio *c = bio_child(bio, io->leg[i].m->desc);
        if (bio->op != BIO_FLUSH) {
            io->leg[i].length = bio->length;
            bio_child_range(c, 0, bio->length, io->leg[i].offset + io->leg[i].m->data_offset);
        }
        if (bio->op == BIO_DISCARD)
            c->op = BIO_WRITE_ZEROES; /* so that members agree on what is read there afterwards */
        if (io->leg[i].m->bad && bio->op != BIO_FLUSH)
            c->flags |= BIO_OWN_ERRORS; /* they go on its list */
        c->done = leg_done;
        c->arg = &io->leg[i];
        bio_submit(c);
    }
}

void raid_flush_all(struct raid_array *a, struct bio *bio)
{
    struct raid_io *io = raid_io_get(a, bio);
    if (io)
        raid_io_submit(io);
}

void raid_write_copies(struct raid_array *a, struct bio *bio, void (*had)(void *io))
{
    if (bio->flags & BIO_FAST_ZERO) { /* one leg might, another not */
        raid_write_end(a, bio, -EOPNOTSUPP);
        return;
    }
    struct raid_io *io = raid_io_get(a, bio);
    if (!io)
        return;
    io->ranged = true;
    if (range_acquire(a->ranges, &io->range, bio->offset, bio->length, had, io))
        had(io);
}

/* ---- the device */

static void write_here(struct bdev *bdev, struct bio *bio)
{
    struct raid_array *a = array_of(bdev);
    struct raid_chan *ch = chan_here(a);
    __atomic_store_n(&ch->ops, ch->ops + 1, __ATOMIC_RELAXED);
    write_submit(a, bio);
}

static void raid_submit(struct bdev *bdev, struct bio *bio)
{
    struct raid_array *a = array_of(bdev);
    struct raid_chan *ch = chan_here(a);
    if (a->level->owner && bio_is_write((enum bio_op)bio->op)) {
        bio_forward(bio, a->level->owner(a, bio), write_here);
        return;
    }
    __atomic_store_n(&ch->ops, ch->ops + 1, __ATOMIC_RELAXED);
    switch (bio->op) {
    case BIO_READ:
    case BIO_EXTENTS: a->level->read(a, bio); return;
    case BIO_FLUSH: a->level->flush(a, bio); return;
    default: write_submit(a, bio); return;
    }
}

static int raid_channel_init(struct bdev *bdev, struct bdev_channel *bch)
{
    struct raid_array *a = array_of(bdev);
    struct raid_chan *ch = chan_here(a);
    (void)bch;
    if (!a->level->redundant || ch->free_io)
        return 0;
    ch->free_io = malloc(sizeof *ch->free_io + raid_legs(a) * sizeof ch->free_io->leg[0]);
    if (!ch->free_io)
        return -ENOMEM;
    ch->free_io->next = NULL;
    return 0;
}

static void renew_here(void *arg)
{
    struct raid_array *a = arg;
    struct raid_chan *ch = chan_here(a);
    bool had = ch->free_io;
    while (ch->free_io) {
        struct raid_io *io = ch->free_io;
        ch->free_io = io->next;
        free(io);
    }
    if (had)
        ch->free_io = xcalloc(1, sizeof *ch->free_io + raid_legs(a) * sizeof ch->free_io->leg[0]);
}

void raid_io_renew(struct raid_array *a)
{
    task_call_all(renew_here, a);
    bdev_set_fanout(&a->bdev, raid_legs(a));
}

static void raid_channel_fini(struct bdev *bdev, struct bdev_channel *bch)
{
    struct raid_chan *ch = chan_here(array_of(bdev));
    (void)bch;
    while (ch->free_io) {
        struct raid_io *io = ch->free_io;
        ch->free_io = io->next;
        free(io);
    }
}

static void raid_destroy(struct bdev *bdev)
{
    struct raid_array *a = array_of(bdev);
    raid_array_free(&a);
}

const struct bdev_ops raid_ops = {
    .type = "raid",
    .submit = raid_submit,
    .channel_init = raid_channel_init,
    .channel_fini = raid_channel_fini,
    .destroy = raid_destroy,
    .attrs = raid_attrs,
    .below = raid_below,
    .failed = raid_failed,
};
