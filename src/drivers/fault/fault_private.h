/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_DRIVERS_FAULT_PRIVATE_H
#define ORION_DRIVERS_FAULT_PRIVATE_H

#include <pthread.h>

#include "drivers/fault/fault.h"

struct rule {
    unsigned ops; /* bit per enum bio_op */
    /* what */
    int error; /* -errno, 0 = none */
    bool drop, hold, is_torn;
    uint64_t torn; /* bytes */
    uint64_t delay_us;
    /* when */
    uint64_t first, last; /* bytes, both included */
    uint64_t after, every, count;
    double probability;
    uint64_t seed;
    /* counters */
    uint64_t matched, hits, random;
};

struct rules {
    struct rule *v;
    unsigned n;
};

/* -1 with *e filled. `field` names the request's field. */
int rules_parse(struct rules *rules_r, const char *text, const char *field, struct err *e);
void rules_free(struct rules *rules);

/* What happens to one request. */
struct verdict {
    int error;
    bool drop, hold, is_torn;
    uint64_t torn, delay_us;
    uint64_t bad_offset;
};
/* Counts the request; true when a rule fired. The caller holds the device's lock. */
bool rules_judge(struct rules *rules, const struct bio *bio, struct verdict *verdict_r);

uint64_t fault_random(uint64_t *state); /* deterministic; *state is not 0 */

struct record {
    bool on;
    uint64_t events;
    uint64_t *clock;        /* counts them instead, atomic; or NULL */
    struct fault_entry **v; /* each entry has its data behind it */
    unsigned n, room;
    unsigned generation; /* counts starts: an entry of an older record is not touched any more */
};

struct fault_dev {
    struct bdev bdev;
    struct bdev_desc *below;
    char on[BDEV_NAME_MAX + 1];
    struct bdev_watch watch; /* main: tells when a removal of this device begins */
    bool removing;

    /* Taken for moments only, by any reactor; nothing is called under it. */
    pthread_mutex_t lock;
    bool armed; /* rules or a record: else requests take the short way; atomic */
    struct rules rules;
    struct record record;
    struct list held; /* of fault_io */
    unsigned held_count;
};

struct fault_dev *fault_of(struct bdev *bdev); /* asserts the type */
void fault_set_armed(struct fault_dev *dev);   /* lock held */

/* lock held; NULL when nothing is recorded for it. Copies the data. */
struct fault_entry *record_submit(struct record *r, const struct bio *bio, const struct verdict *v);
void record_complete(struct record *r, struct fault_entry *entry, unsigned generation, int error);
void record_free(struct record *r);

#endif
