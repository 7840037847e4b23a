/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_BLOCK_PRIVATE_H
#define ORION_BLOCK_PRIVATE_H

#include "base/mem.h"
#include "block/bdev_driver.h"
#include "block/gate.h"
#include "block/range.h"
#include "block/stats.h"
#include "reactor/task.h"

enum bdev_state { BDEV_LIVE, BDEV_REMOVING };
enum bio_state { BIO_IDLE = 0, BIO_WAITING, BIO_HELD, BIO_DRIVER, BIO_COMPLETING };
enum bio_core_flags {
    BIO_CORE_INNER = 1,       /* a sub-request of the core: no checks, no counting */
    BIO_CORE_FORWARDED = 2,   /* a child that runs on another reactor than its parent */
    BIO_CORE_POOLED = 4,      /* memory is the reactor's pool */
    BIO_CORE_RESERVED = 8,    /* its children come from the channel's reserve */
    BIO_CORE_OF_RESERVE = 16, /* memory is a channel's reserve */
    BIO_CORE_REFUSED = 32,    /* ended by the core's checks, not by the device */
};

/* Main's, except where noted. */
struct bdev_core {
    struct list link;                 /* registry, in order of registration */
    struct list name_link, uuid_link; /* its hash tables */
    struct bdev *bdev;
    enum bdev_state state; /* atomic */
    struct list descs;
    struct bdev_channel *channel[REACTOR_MAX]; /* each made and used by its own reactor */
    uint64_t size;                             /* atomic */
    bool write_error, written;                 /* atomic */
    struct task *unregister_task;              /* waits for the last close */

    /* exclusive mode: plain writes take byte ranges too (block/range.h) */
    struct range_map *ranges;
    bool exclusive;         /* atomic */
    bool excl_leaving;      /* atomic: a task that ends the mode is on its way */
    uint64_t excl_used_ns;  /* atomic */
    struct tlock excl_lock; /* reactor 0's */

    struct tlock gate_lock;        /* reactor 0's */
    const struct gate_state *gate; /* the published state, written by reactor 0; NULL = none */
};

/* One reactor's. */
struct bdev_channel_core {
    struct list inflight; /* all bios between submit and finish */
    unsigned active;      /* of them, those that are not held */
    unsigned holds;       /* quiesce count */
    struct list held;     /* FIFO */
    struct list waiting;  /* for children, FIFO */
    struct list drainers; /* quiesce waiters */
    bool ready;           /* driver's channel_init ran */
    struct bio *reserve;  /* bdev->fanout bios, for when memory is out */
    unsigned reserve_used;
    bool reserve_lent;
    const struct gate_state *gate;
    struct op_counters {
        uint64_t count, bytes, errors, total_ns;
        uint64_t *bucket; /* at first I/O */
    } ops[BIO_OP_COUNT];
};

struct bdev_desc {
    struct list link;
    struct bdev *bdev;
    enum bdev_claim claim;
    struct bdev_user user;
    struct rpost event_post;
    unsigned events; /* pending, bits of 1 << enum bdev_event */
    bool event_posted, closed, gated;
    uint32_t timeout_ms; /* atomic; 0: none */
    bool timed_out;      /* atomic; a request took longer: no other one is sent */
    struct {
        /* Each reactor writes its own, on a line without anything that others look at. */
        _Alignas(CACHE_LINE) uint64_t inflight;
        uint64_t guarded; /* with a time-out, and not answered yet */
    } per[REACTOR_MAX];
};

/* bio.c */
void bio_dispatch(struct bio *bio);
void bio_start(struct bio *bio); /* to the driver, as soon as its children are promised */
void bio_inner(struct bio *bio, struct bdev_channel *ch, struct xform *x, bio_done_fn done);
void bio_set_t_submit(struct bio *bio);

void bio_submit_now(struct bio *bio); /* without a time-out */

/* guard.c */
bool guard_submit(struct bio *bio); /* false: no memory, or nothing to guard */
/* Main: does the desc wait for nothing but requests that were given up? Then it closes itself. */
bool guard_abandon(struct bdev_desc *desc);

/* child.c */
bool children_promise(struct bio *bio); /* false: wait */
void children_release(struct bio *bio);
void children_channel_init(struct bdev_channel *ch);
void children_channel_fini(struct bdev_channel *ch);

/* channel.c */
struct bdev_channel *bdev_channel_get(struct bdev *bdev);
int channel_ready(struct bdev_channel *ch);
void channel_drained(struct bdev_channel *ch);
void channels_free(struct bdev *bdev); /* in a task */

/* xform.c: everything that the core does between a submitter and a driver */
bool xform_needed(const struct bio *bio);
bool xform_is_read_modify_write(const struct bio *bio); /* nobody may write in between */
void xform_start(struct bio *bio);
bool xform_fallback(struct bio *bio); /* a native op ended in -EOPNOTSUPP: is there another way? */

/* exclusive.c */
bool exclusive_take(struct bio *bio); /* false: dispatch goes on when the range is had */
void exclusive_give(struct bio *bio);
void exclusive_enter(struct bio *bio); /* turns the mode on, then dispatches */

/* gate.c */
bool gate_check(const struct gate_state *g, uint64_t nexus, bool is_write);
void gate_preset(struct bdev *bdev); /* main: registration, nobody has the device open */
void gate_free(struct bdev_core *core);

/* stats.c */
void stats_count(struct bio *bio);

/* Counters that one thread writes and any thread reads. */
#define relaxed_add(p, v) __atomic_store_n(p, *(p) + (v), __ATOMIC_RELAXED)
#define relaxed_inc(p) relaxed_add(p, 1)
/* Released: who sees the zero may free what the counter guards. */
#define release_dec(p) __atomic_store_n(p, *(p)-1, __ATOMIC_RELEASE)
#define relaxed_load(p) __atomic_load_n(p, __ATOMIC_RELAXED)

#endif
