/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "testdev.h"

#include <pthread.h>

#include "base/mem.h"

/* A disk does one request after the other. */
static pthread_mutex_t disk = PTHREAD_MUTEX_INITIALIZER;

static void perform(struct testdev *t, struct bio *bio)
{
    pthread_mutex_lock(&disk);
    switch (bio->op) {
    case BIO_READ: bio_copy_in(bio, 0, t->data + bio->offset, bio->length); break;
    case BIO_WRITE: bio_copy_out(bio, 0, t->data + bio->offset, bio->length); break;
    case BIO_WRITE_ZEROES:
    case BIO_DISCARD: memset(t->data + bio->offset, 0, bio->length); break;
    case BIO_EXTENTS:
        bio->extents->list[0] = (struct extent){bio->length, EXTENT_HOLE};
        bio->extents->count = 1;
        break;
    default: break;
    }
    pthread_mutex_unlock(&disk);
}

static void spread(struct testdev *t, struct bio *bio)
{
    bio->pending = t->below_count;
    for (unsigned i = 0; i < t->below_count; i++)
        bio_submit(bio_child(bio, t->below[i]));
}

static void submit(struct bdev *bdev, struct bio *bio)
{
    struct testdev *t = container_of(bdev, struct testdev, bdev);
    unsigned n = __atomic_fetch_add(&t->log_count, 1, __ATOMIC_SEQ_CST);
    if (n < TESTDEV_LOG) {
        t->log[n].op = bio->op;
        t->log[n].flags = bio->flags;
        t->log[n].offset = bio->offset;
        t->log[n].length = bio->length;
    }
    if (t->below_count) {
        spread(t, bio);
    } else if (t->hold) {
        bio->drv.p[0] = t;
        /* a driver may use the link of ring.fn's place; here the scratch holds a list */
        struct list *l = xcalloc(1, sizeof *l + sizeof(struct bio *));
        *(struct bio **)(l + 1) = bio;
        list_add_tail(&t->held, l);
    } else {
        int error = t->fail_from && n + 1 >= t->fail_from ? -EIO : t->fail[bio->op];
        if (!error)
            perform(t, bio);
        bio_complete(bio, error);
    }
}

void testdev_release(struct testdev *t)
{
    struct list *l;
    while ((l = list_pop(&t->held))) {
        struct bio *bio = *(struct bio **)(l + 1);
        free(l);
        if (!t->fail[bio->op])
            perform(t, bio);
        bio_complete(bio, t->fail[bio->op]);
    }
}

static int channel_init(struct bdev *bdev, struct bdev_channel *ch)
{
    (void)ch;
    __atomic_fetch_add(&container_of(bdev, struct testdev, bdev)->inits, 1, __ATOMIC_SEQ_CST);
    return 0;
}

static void channel_fini(struct bdev *bdev, struct bdev_channel *ch)
{
    (void)ch;
    __atomic_fetch_add(&container_of(bdev, struct testdev, bdev)->finis, 1, __ATOMIC_SEQ_CST);
}

static void destroy(struct bdev *bdev)
{
    struct testdev *t = container_of(bdev, struct testdev, bdev);
    check_int(t->inits, t->finis);
    if (t->destroyed)
        *t->destroyed = true;
    free(t->data);
    free(t);
}

static const struct bdev_ops ops = {
    .type = "test",
    .submit = submit,
    .channel_init = channel_init,
    .channel_fini = channel_fini,
    .destroy = destroy,
};

struct testdev *testdev_new(const char *name)
{
    struct testdev *t = xcalloc(1, sizeof *t);
    snprintf(t->bdev.name, sizeof t->bdev.name, "%s", name);
    t->bdev.uuid = uuid_random();
    t->bdev.ops = &ops;
    t->bdev.size = TESTDEV_SIZE;
    t->bdev.block_size = 512;
    t->bdev.native = OPS_BASIC;
    t->bdev.native_fua = true;
    t->bdev.write_cache = true;
    t->data = xcalloc(1, TESTDEV_SIZE);
    list_init(&t->held);
    return t;
}

void testdev_add(struct testdev *t)
{
    struct err e;
    if (bdev_register(&t->bdev, &e)) {
        fprintf(stderr, "register: %s\n", e.msg);
        abort();
    }
}

struct bdev_desc *testdev_open(const char *name, enum bdev_claim claim)
{
    struct bdev_user user = {.label = "a test"};
    struct err e;
    struct bdev_desc *d = bdev_open(name, claim, &user, &e);
    if (!d) {
        fprintf(stderr, "open: %s\n", e.msg);
        abort();
    }
    return d;
}

void fill(uint8_t *p, size_t n, unsigned seed)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)((i * 7 + i / 251 + seed * 13 + 1) & 0xff);
}
