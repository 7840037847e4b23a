/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_BLOCK_BDEV_DRIVER_H
#define ORION_BLOCK_BDEV_DRIVER_H

#include "base/opts.h"
#include "block/bdev.h"

/*
 * Block devices as their implementers see them (drivers, raid levels, volumes). Embed `struct
 * bdev`, fill the first group, call bdev_register.
 */
struct bdev_ops {
    const char *type;

    /* Any reactor. The bio has been checked: in range, aligned to block_size, its data aligned to
     * mem_align, its op in `native`, at most max_io long, FUA only when `native_fua`. `fanout`
     * children are reserved for it until it completes. End it by bio_complete, now or later, on the
     * same reactor. */
    void (*submit)(struct bdev *bdev, struct bio *bio);

    /* Optional. The device's state on one reactor, at first use there: fill ch->drv. 0 or -errno.
     */
    int (*channel_init)(struct bdev *bdev, struct bdev_channel *ch);
    void (*channel_fini)(struct bdev *bdev, struct bdev_channel *ch);

    /* Main, in a task: nobody has the device open, nothing is in flight, all channels are gone.
     * Frees the memory that holds the bdev. */
    void (*destroy)(struct bdev *bdev);

    /* Optional, main, in a task: what is below may have grown, shrunk or gone. Looks, and acts by
     * bdev_set_size. False: it has gone. */
    bool (*refresh)(struct bdev *bdev);

    /* Optional, main: facts for `show`. */
    void (*attrs)(struct bdev *bdev, void (*fn)(const char *key, const char *value, void *arg),
                  void *arg);

    /* Layers, main: fn for the name of each device that this one stands on. */
    void (*below)(struct bdev *bdev, void (*fn)(const char *name, void *arg), void *arg);

    /* Optional, main: bdev_failed(). */
    bool (*failed)(const struct bdev *bdev, char *why, size_t size);
};

struct bdev {
    /* -- the driver fills; constant once registered, but for bdev_set_size */
    char name[BDEV_NAME_MAX + 1];
    struct uuid uuid;
    const struct bdev_ops *ops;
    uint64_t size;       /* multiple of block_size */
    uint32_t block_size; /* 512..4096 */
    uint32_t phys_block; /* 0 = block_size */
    uint32_t mem_align;  /* 0 = any; else a power of two up to 4096: the core bounces the rest */
    uint32_t opt_io;
    uint64_t max_io; /* READ, WRITE, COMPARE_AND_WRITE: longer ones are split; 0 = no limit */
    /* The same for DISCARD and WRITE_ZEROES. EXTENTS may come for the whole device: the driver
     * answers for as much of it as is little work. */
    uint64_t max_extent_io;
    uint64_t boundary;     /* a bio never crosses a multiple of it; 0 = none */
    uint64_t discard_gran; /* 0 = no discard */
    uint32_t native;       /* bit (1 << op) per op that submit takes */
    unsigned fanout;       /* children one bio may have at once; 0 for leaves */
    bool native_fua;
    bool discard_zeroes, write_cache, read_only, rotational, known_zero;
    bool redundant; /* a member's failed FLUSH is this layer's business: do not latch write_error */

    /* -- the core */
    struct bdev_core *core;
};

struct bdev_channel {
    struct bdev *bdev;
    void *drv; /* the driver's */
    struct bdev_channel_core *core;
};

/* Main. Fails on a name that is taken (arrays, pools and devices share one namespace) or invalid.
 */
int bdev_register(struct bdev *bdev, struct err *e);
/*
 * Main, in a task. New bios end in -ENODEV, users get BDEV_EVENT_REMOVE, and when the last of them
 * has closed and nothing is in flight, ops->destroy is called; only then this returns and the name
 * is free. To refuse a device in use, look at bdev_users first.
 */
void bdev_unregister(struct bdev *bdev);
/* Main, in a task: grow publishes the size, then tells users; shrink quiesces first. */
void bdev_set_size(struct bdev *bdev, uint64_t size);
void bdev_rename(struct bdev *bdev, const char *name); /* main; the name must be free */

/* In a task, any reactor: holds new bios back on every channel and waits until none is in flight.
 * Counted; resume lets them go. Quiesce from the top of a stack downwards. */
void bdev_quiesce(struct bdev *bdev);
void bdev_resume(struct bdev *bdev);

/* In a task, quiesced: so many children may a bio have from now on. */
void bdev_set_fanout(struct bdev *bdev, unsigned fanout);

/* The reserved names of objects that are not devices (pools): same namespace. Main. */
int bdev_name_reserve(const char *name, const char *what, struct err *e);
void bdev_name_release(const char *name);
bool bdev_name_valid(const char *name); /* one component: [A-Za-z0-9][A-Za-z0-9_.-]{0,31} */

/* ---- in a driver's submit and after it */

/* Ends a bio. `bad_offset` may be set in the bio before. */
void bio_complete(struct bio *bio, int error);

/* A child of `parent` for the device below: same op, flags, range, data; change what differs, then
 * bio_submit. Never NULL while the parent has at most bdev->fanout children that are not put. The
 * child's `done` defaults to bio_child_done; its drv scratch is its target's, so a layer keeps what
 * it must know of a child in child->arg. */
struct bio *bio_child(struct bio *parent, struct bdev_desc *to);
/* Sets the child's part of the parent's range: `from` is relative to the parent's offset. */
void bio_child_range(struct bio *child, uint64_t from, uint64_t length, uint64_t offset);
void bio_child_put(
    struct bio *child); /* after its done ran (a child may be submitted again first) */

/* Fan-out: parent->pending = n; submit n children; each bio_child_done merges its error into the
 * parent (first error wins), puts the child, and completes the parent with the last one. */
void bio_child_done(struct bio *child);

/*
 * Runs run(bdev, child) on `owner` with a copy of the bio (same op, range, data; channel and
 * children are the owner's), and completes `bio` here with what bio_complete(child) says there.
 * When this is the owner, run gets the bio itself. Needs bdev->fanout >= 1.
 */
void bio_forward(struct bio *bio, struct reactor *owner,
                 void (*run)(struct bdev *bdev, struct bio *child));

/* ---- drivers that an administrator can add by `device add --type` */
struct driver {
    const char *name;
    const char *help;
    const struct opt *opts; /* ends with an entry whose name is NULL; includes no "name", "type" */
    /* Main, in a task. Makes and registers a device. */
    int (*create)(const char *name, const struct uuid *uuid, const struct opts *opts,
                  struct bdev **bdev_r, struct err *e);
};

#endif
