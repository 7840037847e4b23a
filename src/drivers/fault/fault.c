/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "drivers/fault/fault_private.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "drivers/drivers.h"
#include "reactor/task.h"

/* One request on its way while rules or a record are on. From malloc: this driver is for tests. */
struct fault_io {
    struct bio *bio;
    struct reactor *home;
    struct verdict verdict;
    struct fault_entry *entry;
    unsigned generation;
    struct rtimer timer;
    struct list link; /* held */
    struct rpost post;
};

static bool fault_failed(const struct bdev *bdev, char *why, size_t size)
{
    return bdev_failed(bdev_of(container_of(bdev, struct fault_dev, bdev)->below), why, size);
}

static const struct bdev_ops fault_ops;

struct fault_dev *fault_of(struct bdev *bdev)
{
    assert(bdev->ops == &fault_ops);
    return container_of(bdev, struct fault_dev, bdev);
}

void fault_set_armed(struct fault_dev *dev)
{
    __atomic_store_n(&dev->armed, dev->rules.n || dev->record.on, __ATOMIC_RELAXED);
}

static void io_end(struct fault_io *io, int error)
{
    struct bio *bio = io->bio;
    struct fault_dev *dev = fault_of(bio->ch->bdev);
    pthread_mutex_lock(&dev->lock);
    record_complete(&dev->record, io->entry, io->generation, error);
    pthread_mutex_unlock(&dev->lock);
    rtimer_free(&io->timer);
    free(io);
    bio_complete(bio, error);
}

static void child_done(struct bio *child)
{
    struct fault_io *io = child->arg;
    int error = child->error;
    if (error)
        io->bio->bad_offset = child->bad_offset;
    bio_child_put(child);
    if (!error && io->verdict.is_torn)
        error = io->verdict.error;
    io_end(io, error);
}

static void pass_down(struct fault_io *io)
{
    struct fault_dev *dev = fault_of(io->bio->ch->bdev);
    struct bio *child = bio_child(io->bio, dev->below);
    child->done = child_done;
    child->arg = io;
    if (io->verdict.is_torn) {
        uint64_t keep = io->verdict.torn - io->verdict.torn % dev->bdev.block_size;
        if (keep < io->bio->length)
            bio_child_range(child, 0, keep, io->bio->offset);
    }
    bio_submit(child);
}

/* The waiting, if any, is over. */
static void io_go(struct fault_io *io)
{
    const struct verdict *v = &io->verdict;
    if (v->drop)
        return io_end(io, 0);
    if (v->is_torn && v->torn >= fault_of(io->bio->ch->bdev)->bdev.block_size)
        return pass_down(io);
    if (v->error || v->is_torn) {
        io->bio->bad_offset = v->bad_offset;
        return io_end(io, v->error);
    }
    pass_down(io);
}

static void io_timer(void *arg)
{
    io_go(arg);
}

/* Held or not, from here on the request is on its way. */
static void io_start(void *arg)
{
    struct fault_io *io = arg;
    if (io->verdict.delay_us)
        rtimer_arm(&io->timer, io->verdict.delay_us, io_timer, io);
    else
        io_go(io);
}

static void fault_submit(struct bdev *bdev, struct bio *bio)
{
    struct fault_dev *dev = fault_of(bdev);
    if (!__atomic_load_n(&dev->armed, __ATOMIC_RELAXED)) {
        bio->pending = 1;
        bio_submit(bio_child(bio, dev->below));
        return;
    }
    struct fault_io *io = xcalloc(1, sizeof *io);
    io->bio = bio;
    io->home = reactor_self();
    pthread_mutex_lock(&dev->lock);
    bool fired = rules_judge(&dev->rules, bio, &io->verdict);
    io->entry = record_submit(&dev->record, bio, fired ? &io->verdict : NULL);
    io->generation = dev->record.generation;
    bool hold = io->verdict.hold;
    if (hold) {
        list_add_tail(&dev->held, &io->link);
        dev->held_count++;
    }
    pthread_mutex_unlock(&dev->lock);
    if (!hold)
        io_start(io);
}

void fault_release(struct bdev *bdev)
{
    struct fault_dev *dev = fault_of(bdev);
    struct list go;
    list_init(&go);
    pthread_mutex_lock(&dev->lock);
    list_splice_tail(&go, &dev->held);
    dev->held_count = 0;
    pthread_mutex_unlock(&dev->lock);
    for (struct list *l; (l = list_pop(&go));) {
        struct fault_io *io = container_of(l, struct fault_io, link);
        reactor_post(io->home, &io->post, io_start, io);
    }
}

unsigned fault_held(struct bdev *bdev)
{
    struct fault_dev *dev = fault_of(bdev);
    pthread_mutex_lock(&dev->lock);
    unsigned n = dev->held_count;
    pthread_mutex_unlock(&dev->lock);
    return n;
}

int fault_set_rules(struct bdev *bdev, const char *text, struct err *e)
{
    struct fault_dev *dev = fault_of(bdev);
    struct rules rules, old;
    if (rules_parse(&rules, text, "rules", e))
        return -1;
    pthread_mutex_lock(&dev->lock);
    old = dev->rules;
    dev->rules = rules;
    fault_set_armed(dev);
    pthread_mutex_unlock(&dev->lock);
    rules_free(&old);
    return 0;
}

uint64_t fault_rule_hits(struct bdev *bdev, unsigned index)
{
    struct fault_dev *dev = fault_of(bdev);
    pthread_mutex_lock(&dev->lock);
    uint64_t hits = index < dev->rules.n ? dev->rules.v[index].hits : 0;
    pthread_mutex_unlock(&dev->lock);
    return hits;
}

/* The device below changed. This device is looked up again in the task: until it runs, someone else
 * may have removed it. */
struct below_event {
    struct uuid uuid;
    enum bdev_event event;
};

static void follow_below(void *arg)
{
    autofree struct below_event *ev = arg;
    struct bdev *bdev = bdev_find_uuid(&ev->uuid);
    if (!bdev || bdev->ops != &fault_ops || fault_of(bdev)->removing)
        return;
    if (ev->event == BDEV_EVENT_REMOVE) {
        log_warn("fault", "%s is removed because its device is going", bdev->name);
        bdev_unregister(bdev);
    } else {
        bdev_set_size(bdev, bdev_size(fault_of(bdev)->below));
    }
}

static void below_event(struct bdev_desc *desc, enum bdev_event event, void *arg)
{
    (void)desc;
    struct fault_dev *dev = arg;
    struct below_event *ev = xcalloc(1, sizeof *ev);
    ev->uuid = dev->bdev.uuid;
    ev->event = event;
    if (event == BDEV_EVENT_REMOVE)
        fault_release(&dev->bdev); /* what is held would keep the device for ever */
    task_start(reactor_main(), "fault-below", follow_below, ev);
}

static void device_watched(struct bdev *bdev, bool added, void *arg)
{
    struct fault_dev *dev = arg;
    if (bdev != &dev->bdev || added)
        return;
    dev->removing = true;
    fault_release(bdev);
}

static void fault_free(struct fault_dev *dev)
{
    bdev_close(&dev->below);
    rules_free(&dev->rules);
    record_free(&dev->record);
    pthread_mutex_destroy(&dev->lock);
    free(dev);
}

static void fault_destroy(struct bdev *bdev)
{
    struct fault_dev *dev = fault_of(bdev);
    bdev_unwatch(&dev->watch);
    fault_free(dev);
}

static void fault_attrs(struct bdev *bdev,
                        void (*fn)(const char *key, const char *value, void *arg), void *arg)
{
    struct fault_dev *dev = fault_of(bdev);
    fn("on", dev->on, arg);
    char text[32];
    pthread_mutex_lock(&dev->lock);
    unsigned n = dev->rules.n;
    pthread_mutex_unlock(&dev->lock);
    snprintf(text, sizeof text, "%u", n);
    fn("rules", text, arg);
    for (unsigned i = 0; i < n; i++) {
        char key[32];
        snprintf(key, sizeof key, "rule_%u_hits", i);
        snprintf(text, sizeof text, "%llu", (unsigned long long)fault_rule_hits(bdev, i));
        fn(key, text, arg);
    }
}

static void fault_below(struct bdev *bdev, void (*fn)(const char *name, void *arg), void *arg)
{
    fn(container_of(bdev, struct fault_dev, bdev)->on, arg);
}

static const struct bdev_ops fault_ops = {
    .type = "fault",
    .submit = fault_submit,
    .destroy = fault_destroy,
    .attrs = fault_attrs,
    .below = fault_below,
    .failed = fault_failed,
};

static const struct opt fault_opts[] = {
    {.name = "on",
     .type = OPT_STRING,
     .flags = OPT_REQUIRED,
     .max = BDEV_NAME_MAX,
     .help = "device to stack on"},
    {.name = "rules",
     .type = OPT_STRING,
     .max = 4096,
     .help = "what goes wrong, e.g. read:error=EIO:offset=4096-8191;flush:drop"},
    {.name = NULL},
};

static int open_below(struct fault_dev *dev, const char *on, struct err *e)
{
    struct bdev_user user = {.event = below_event, .arg = dev};
    snprintf(user.label, sizeof user.label, "fault device %s", dev->bdev.name);
    snprintf(dev->on, sizeof dev->on, "%s", on);
    dev->below = bdev_open(on, CLAIM_EXCLUSIVE, &user, e);
    return dev->below ? 0 : -1;
}

/* Like the device below in everything but what it does with requests. */
static void take_after(struct bdev *b, struct bdev_desc *below)
{
    const unsigned passed = 1u << BIO_DISCARD | 1u << BIO_WRITE_ZEROES | 1u << BIO_EXTENTS;
    struct bdev_info info;
    bdev_get_info(below, &info);
    b->size = info.size;
    b->block_size = info.block_size;
    b->phys_block = info.phys_block;
    b->mem_align = info.mem_align;
    b->opt_io = info.opt_io;
    b->discard_gran = info.discard_gran;
    b->discard_zeroes = info.discard_zeroes;
    b->write_cache = info.write_cache;
    b->read_only = info.read_only;
    b->rotational = info.rotational;
    b->known_zero = info.known_zero;
    b->native = 1u << BIO_READ | 1u << BIO_WRITE | 1u << BIO_FLUSH | (info.ops & passed);
    b->native_fua = true; /* passed on; the core below sees to it */
    b->fanout = 1;
}

static int fault_create(const char *name, const struct uuid *uuid, const struct opts *opts,
                        struct bdev **bdev_r, struct err *e)
{
    struct fault_dev *dev = xcalloc(1, sizeof *dev);
    pthread_mutex_init(&dev->lock, NULL);
    list_init(&dev->held);
    driver_identity(&dev->bdev, name, uuid, &fault_ops);
    if (rules_parse(&dev->rules, opts_str(opts, "rules"), "rules", e) ||
        open_below(dev, opts_str(opts, "on"), e)) {
        fault_free(dev);
        return -1;
    }
    take_after(&dev->bdev, dev->below);
    fault_set_armed(dev);
    if (bdev_register(&dev->bdev, e)) {
        fault_free(dev);
        return -1;
    }
    dev->watch = (struct bdev_watch){.fn = device_watched, .arg = dev};
    bdev_watch(&dev->watch);
    *bdev_r = &dev->bdev;
    return 0;
}

const struct driver fault_driver = {
    .name = "fault",
    .help = "another device with faults: errors, delays, lost flushes, torn writes",
    .opts = fault_opts,
    .create = fault_create,
};
