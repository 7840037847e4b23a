/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "drivers/fault/fault_private.h"

enum { SECTOR = 512 };

static uint64_t tick(struct record *r)
{
    return r->clock ? __atomic_add_fetch(r->clock, 1, __ATOMIC_SEQ_CST) : ++r->events;
}

struct fault_entry *record_submit(struct record *r, const struct bio *bio, const struct verdict *v)
{
    if (!r->on || !(bio_is_write(bio->op) || bio->op == BIO_FLUSH))
        return NULL;
    size_t len = bio->op == BIO_WRITE ? bio->length : 0;
    struct fault_entry *x = xcalloc(1, sizeof *x + len);
    uint8_t *data = (uint8_t *)(x + 1);
    if (len)
        bio_copy_out(bio, 0, data, len);
    *x = (struct fault_entry){
        .op = bio->op,
        .flags = bio->flags,
        .offset = bio->offset,
        .length = bio->length,
        .data = len ? data : NULL,
        .submitted = tick(r),
        .dropped = v && (v->drop || (v->error && !v->is_torn)),
        .torn = v && v->is_torn && v->torn < bio->length ? v->torn : bio->length,
    };
    if (r->n == r->room) {
        r->room = r->room ? r->room * 2 : 64;
        r->v = xrealloc(r->v, r->room * sizeof *r->v);
    }
    return r->v[r->n++] = x;
}

void record_complete(struct record *r, struct fault_entry *entry, unsigned generation, int error)
{
    if (!entry || generation != r->generation)
        return;
    entry->error = error;
    __atomic_store_n(&entry->completed, tick(r), __ATOMIC_RELEASE);
}

void record_free(struct record *r)
{
    for (unsigned i = 0; i < r->n; i++)
        free(r->v[i]);
    free(r->v);
    *r = (struct record){.generation = r->generation + 1};
}

void fault_record_start(struct bdev *bdev)
{
    fault_record_start_by(bdev, NULL);
}

void fault_record_start_by(struct bdev *bdev, uint64_t *clock)
{
    struct fault_dev *dev = fault_of(bdev);
    pthread_mutex_lock(&dev->lock);
    record_free(&dev->record);
    dev->record.clock = clock;
    dev->record.on = true;
    fault_set_armed(dev);
    pthread_mutex_unlock(&dev->lock);
}

void fault_record_stop(struct bdev *bdev)
{
    struct fault_dev *dev = fault_of(bdev);
    pthread_mutex_lock(&dev->lock);
    dev->record.on = false;
    fault_set_armed(dev);
    pthread_mutex_unlock(&dev->lock);
}

unsigned fault_record_count(struct bdev *bdev)
{
    struct fault_dev *dev = fault_of(bdev);
    pthread_mutex_lock(&dev->lock);
    unsigned n = dev->record.n;
    pthread_mutex_unlock(&dev->lock);
    return n;
}

const struct fault_entry *fault_record_get(struct bdev *bdev, unsigned index)
{
    struct fault_dev *dev = fault_of(bdev);
    pthread_mutex_lock(&dev->lock);
    assert(index < dev->record.n);
    const struct fault_entry *x = dev->record.v[index];
    pthread_mutex_unlock(&dev->lock);
    return x;
}

uint64_t fault_record_now(struct bdev *bdev)
{
    struct fault_dev *dev = fault_of(bdev);
    pthread_mutex_lock(&dev->lock);
    const struct record *r = &dev->record;
    uint64_t now = r->clock ? __atomic_load_n(r->clock, __ATOMIC_SEQ_CST) : r->events;
    pthread_mutex_unlock(&dev->lock);
    return now;
}

static bool done_by(const struct fault_entry *x, uint64_t at)
{
    return x->completed && x->completed <= at;
}

/* The last moment before which completed writes are durable at `at`; 0 = none. */
static uint64_t barrier(const struct record *r, uint64_t at)
{
    uint64_t best = 0;
    for (unsigned i = 0; i < r->n; i++) {
        const struct fault_entry *x = r->v[i];
        if (x->op == BIO_FLUSH && done_by(x, at) && !x->error && !x->dropped && x->submitted > best)
            best = x->submitted;
    }
    return best;
}

static bool durable(const struct fault_entry *x, uint64_t barrier_at, uint64_t at)
{
    if (!done_by(x, at))
        return false;
    return x->completed < barrier_at || (x->flags & BIO_FUA);
}

/* Bytes of an entry that the medium holds. */
static uint64_t survives(const struct fault_entry *x, uint64_t barrier_at, uint64_t at,
                         enum fault_cut cut, uint64_t *random)
{
    if (x->submitted > at || x->dropped || x->op == BIO_FLUSH)
        return 0;
    if (cut == FAULT_CUT_ALL || durable(x, barrier_at, at))
        return x->torn;
    if (cut == FAULT_CUT_NONE)
        return 0;
    switch (fault_random(random) >> 32 & 3) {
    case 0: return 0;
    case 1: {
        uint64_t sectors = x->torn / SECTOR;
        return sectors ? (fault_random(random) >> 32) % sectors * SECTOR : 0;
    }
    default: return x->torn;
    }
}

static int put_entry(const struct fault_entry *x, uint64_t bytes, struct bdev_desc *to)
{
    uint64_t block = bdev_block_size(to);
    bytes -= bytes % block;
    if (!bytes)
        return 0;
    if (x->op == BIO_WRITE)
        return bdev_write(to, x->offset, x->data, bytes, 0);
    struct bio bio;
    bio_init(&bio, to, BIO_WRITE_ZEROES, x->offset, bytes, NULL, NULL);
    return bio_wait(&bio);
}

/* In order of submission: a cache never brings old data back over newer data of the same place. */
static int put_all(const struct record *r, uint64_t at, enum fault_cut cut, uint64_t seed,
                   struct bdev_desc *to)
{
    uint64_t barrier_at = barrier(r, at);
    uint64_t random = seed * 0x9e3779b97f4a7c15u | 1;
    for (unsigned i = 0; i < r->n; i++) {
        const struct fault_entry *x = r->v[i];
        int rc = put_entry(x, survives(x, barrier_at, at, cut, &random), to);
        if (rc)
            return rc;
    }
    return 0;
}

int fault_replay(struct bdev *bdev, uint64_t at, enum fault_cut cut, uint64_t seed,
                 struct bdev_desc *to)
{
    /* Entries are never moved or freed while the record goes on; the list of them may be. */
    struct fault_dev *dev = fault_of(bdev);
    pthread_mutex_lock(&dev->lock);
    struct record copy = dev->record;
    copy.v = xcalloc(copy.n, sizeof *copy.v);
    if (copy.n)
        memcpy(copy.v, dev->record.v, copy.n * sizeof *copy.v);
    pthread_mutex_unlock(&dev->lock);
    int rc = put_all(&copy, at, cut, seed, to);
    free(copy.v);
    return rc;
}
