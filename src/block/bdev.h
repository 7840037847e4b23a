/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_BLOCK_BDEV_H
#define ORION_BLOCK_BDEV_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/uuid.h"
#include "block/bio.h"

/*
 * Block devices as their users see them. Names, opens and closes belong to the main reactor; I/O on
 * an open device runs on any reactor.
 */
enum { BDEV_NAME_MAX = 65 }; /* "POOL/VOL": two names of at most 32 */

enum bdev_claim {
    CLAIM_READ,         /* reads only */
    CLAIM_SHARED_WRITE, /* targets: several may write, through the gate */
    CLAIM_EXCLUSIVE, /* raid, volumes: nobody else may open but for CLAIM_READ by the same layer */
};

enum bdev_event {
    BDEV_EVENT_REMOVE, /* the device is going: stop submitting, close it as soon as you can */
    BDEV_EVENT_RESIZE, /* the new size stands in bdev_info */
};

/* Runs on main, in no task; it may start a task. `desc` is still open. */
typedef void (*bdev_event_fn)(struct bdev_desc *desc, enum bdev_event event, void *arg);

struct bdev_user {
    char label[80]; /* who holds it, for "in use by ...": "array a0", "nbd export vol1" */
    bdev_event_fn event;
    void *arg;
    bool gated; /* reservations hold for it whatever its claim: whoever serves others (gate.h) */
};

/* Geometry and properties. Sizes in bytes. */
struct bdev_info {
    char name[BDEV_NAME_MAX + 1];
    char type[16]; /* "file", "raid1", "volume", ... */
    struct uuid uuid;
    uint64_t size;
    uint32_t block_size;   /* logical, 512..4096: unit of every checked offset and length */
    uint32_t phys_block;   /* physical */
    uint32_t opt_io;       /* preferred transfer length, 0 = unknown (raid0: full stripe) */
    uint32_t mem_align;    /* alignment of data that needs no bounce */
    uint64_t discard_gran; /* 0 = no discard */
    bool discard_zeroes;   /* discarded ranges read as zeroes */
    bool write_cache;      /* completed writes may be volatile until FLUSH */
    bool read_only;
    bool rotational;
    bool write_error; /* a FLUSH or FUA failed: latched until reopened */
    bool known_zero;  /* freshly made and nothing written yet: all bytes read zero */
    uint32_t ops;     /* bit per enum bio_op that does not end in -EOPNOTSUPP */
};

/* All on main; open and close in a task or not. */
struct bdev_desc *bdev_open(const char *name, enum bdev_claim claim, const struct bdev_user *user,
                            struct err *e);
/* No bio may be in flight on the desc (asserted). Accepts NULL, leaves NULL. */
void bdev_close(struct bdev_desc **desc);
/* In a task, main: waits until the desc has no bio in flight on any reactor, then closes. */
void bdev_drain_close(struct bdev_desc **desc);
/* Any reactor. From here on a READ, WRITE, FLUSH, DISCARD, WRITE_ZEROES or EXTENTS through this
 * desc that takes longer than `ms` ends in -ETIMEDOUT, and all later ones too; 0: they take as long
 * as they take. Data is copied for it. A desc that has timed out is closed by bdev_drain_close at
 * once for its owner; the device stays claimed until what was sent to it has ended. */
void bdev_set_timeout(struct bdev_desc *desc, uint32_t ms);
/* Main: CLAIM_READ, to see what is on a device, with a time-out of 30 s, as Linux gives a disk for
 * a command: one that hangs must not hold up those who look for something else. */
struct bdev_desc *bdev_open_to_look(const char *name, const struct bdev_user *user, struct err *e);
void bdev_set_look_timeout_ms(uint32_t ms); /* main, for tests */
/* Main: whoever asks who holds the device reads that this one waits for it to answer. */
void bdev_mark_unanswered(struct bdev_desc *desc);
unsigned bdev_abandoned(void); /* main: descs that are closed so and wait for that */
enum bdev_claim bdev_desc_claim(const struct bdev_desc *desc);

/* Any reactor. */
void bdev_get_info(const struct bdev_desc *desc, struct bdev_info *info_r);
uint64_t bdev_desc_inflight(const struct bdev_desc *desc); /* requests that have not ended */
uint64_t bdev_size(const struct bdev_desc *desc);
uint32_t bdev_block_size(const struct bdev_desc *desc);
struct bdev *bdev_of(const struct bdev_desc *desc);

/* Main: look up without opening. */
struct bdev *bdev_find(const char *name);
struct bdev *bdev_find_uuid(const struct uuid *uuid);
bool bdev_name_info(const char *name, struct bdev_info *info_r); /* false: no such device */
/* "array a0, nbd export x" of those who hold the device open; false and "" when nobody does. */
bool bdev_users(const struct bdev *bdev, char *out, size_t size);
/* Calls fn for each registered device, in order of registration. */
void bdev_for_each(void (*fn)(struct bdev *bdev, void *arg), void *arg);
const char *bdev_name(const struct bdev *bdev);
void bdev_info_of(const struct bdev *bdev, struct bdev_info *info_r);
/* Driver-specific facts for `show`: calls fn with key and value. */
void bdev_attrs(struct bdev *bdev, void (*fn)(const char *key, const char *value, void *arg),
                void *arg);
/* Main: true when the device is there, but what it holds is not, or not all of it; and why, naming
 * the device at fault, in one sentence. */
bool bdev_failed(const struct bdev *bdev, char *why, size_t size);

/* Main: is `name` that device, or does it stand on it? What it is put below would wait for itself.
 */
bool bdev_stands_on(const char *name, const struct bdev *lower);

/* Main, in a task: has the device look at what is below it anew. False: that has gone. */
bool bdev_refresh(struct bdev *bdev);

/* Main: fn(bdev, true) after each registration, fn(bdev, false) when a removal begins. */
struct bdev_watch {
    struct list link;
    void (*fn)(struct bdev *bdev, bool added, void *arg);
    void *arg;
};
void bdev_watch(struct bdev_watch *w);
void bdev_unwatch(struct bdev_watch *w);

#endif
