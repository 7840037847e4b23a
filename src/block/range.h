/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_BLOCK_RANGE_H
#define ORION_BLOCK_RANGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "reactor/reactor.h"

/*
 * Exclusion of byte ranges: who holds [offset, offset + length) excludes everyone else from any
 * overlapping range, on any reactor. Sharded by region, so that distant ranges share no lock; a
 * range over several regions takes them in ascending order. Waiters are served in order of
 * arrival among those that overlap.
 */
struct range_map;

enum { RANGE_INLINE = 2 };
struct range_part { /* a node of its shard's tree */
    struct range_req *req;
    struct range_part *left, *right;
    uint64_t seq;                       /* order of arrival */
    uint64_t max_end, min_seq, max_seq; /* of the nodes from here on down */
    struct list followers;              /* who waits for this one ... */
    struct list follow;                 /* ... by this link */
};

struct range_req { /* the holder's memory, from range_acquire until range_release returns */
    uint64_t offset, length;
    reactor_fn granted;
    void *arg;
    /* private */
    struct range_map *map;
    struct reactor *home;
    unsigned next_part, parts;
    struct range_part part[RANGE_INLINE];
    struct range_part *many;
    struct rpost post;
};

struct range_map *range_map_new(void);
void range_map_free(struct range_map **m); /* nothing held */

/* True: granted at once. False: granted(arg) will run later on the calling reactor. */
bool range_acquire(struct range_map *m, struct range_req *req, uint64_t offset, uint64_t length,
                   reactor_fn granted, void *arg);
void range_release(struct range_map *m, struct range_req *req);
/* Nodes looked at so far, for tests of what it costs. */
uint64_t range_steps(struct range_map *m);
/* In a task: acquires and waits. */
void range_acquire_wait(struct range_map *m, struct range_req *req, uint64_t offset,
                        uint64_t length);

#endif
