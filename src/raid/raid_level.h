/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_RAID_LEVEL_H
#define ORION_RAID_LEVEL_H

#include "base/err.h"
#include "block/bdev_driver.h"

struct md_super;
struct raid_copies;
struct raid_array;
struct raid_info;
struct raid_member;
struct reactor;

struct raid_check {
    bool repair;
    uint64_t bytes, unread;
    unsigned told;
};

/*
 * What a RAID level gives. Redundant levels get writes only while the array is marked active on
 * disk, and end each client bio by raid_write_end (and only so). I/O runs on any reactor.
 */
struct raid_level {
    int32_t level;
    const char *name;
    bool redundant;
    bool parity; /* a write that goes beyond the redundancy damages data that it did not name */
    unsigned min_slots;

    /* Any reactor: are the slots in `in_sync` (a bit each) enough to serve all data? */
    bool (*can_run)(const struct md_super *sb, uint64_t in_sync);

    /* Main. Members and the superblock are known: fills the geometry of a->bdev (size, boundary,
     * fanout, native, ...) and what `teardown` frees. */
    int (*setup)(struct raid_array *a, struct err *e);
    void (*teardown)(struct raid_array *a);

    /* Optional: the reactor on which a write is to be processed; `write` runs there. */
    struct reactor *(*owner)(struct raid_array *a, const struct bio *bio);
    /* Levels of copies, home: those of what stands at a byte of the array. */
    void (*copies)(struct raid_array *a, uint64_t offset, struct raid_copies *c);
    void (*read)(struct raid_array *a, struct bio *bio); /* READ, EXTENTS */
    /* Redundant levels, quiesced: the array's size for a->sb.size; false: its layout cannot grow.
     */
    bool (*resize)(struct raid_array *a, uint64_t *size_r);
    /* Levels of copies: who is to be read, and where, of those in sync whose slots bio->drv.u[0]
     * does not name yet. NULL: nobody is left. */
    struct raid_member *(*pick)(struct raid_array *a, const struct bio *bio, uint64_t *offset_r);
    void (*write)(struct raid_array *a, struct bio *bio); /* WRITE, WRITE_ZEROES, DISCARD */
    void (*flush)(struct raid_array *a, struct bio *bio);

    /* Optional. Home, in a task, before superblocks are written; these stand on disk now. */
    void (*before_super)(struct raid_array *a, uint64_t events, uint64_t utime);
    /* Optional. Home, in a task: a member has failed, and superblocks are about to say so. Waits
     * for writes under way that only this member's log, or parity that fits, would mend. */
    void (*settle)(struct raid_array *a);
    /* Optional. Main, in a task, members open, not started: a dirty array's log is worked off.
     * `lost` members were there when it went down. 0: what is on the members fits before byte
     * *synced_r, UINT64_MAX: everywhere; -1 with *why_r: no log. */
    int (*replay)(struct raid_array *a, unsigned lost, uint64_t *synced_r, const char **why_r);

    /* Optional. Main: has a new member, its data_offset chosen, the room that it needs before it?
     */
    int (*accepts)(struct raid_array *a, const struct raid_member *m, struct err *e);
    /* Optional, any thread: writes by kind, the log's fill. */
    void (*counters)(const struct raid_array *a, struct raid_info *info);
    /* Optional. "on", or why there is no log that closes the write hole. */
    void (*log)(const struct raid_array *a, char *out, size_t size);

    /* Optional, where the bitmap does not count members' bytes: the first byte of `m` from `offset`
     * on whose chunk is marked, or `end`; *length_r: so much may be filled at once. */
    uint64_t (*next_marked)(const struct raid_array *a, const struct raid_member *m,
                            uint64_t offset, uint64_t end, uint64_t *length_r);

    /* Redundant levels, in a task on the array's home. */
    /* Makes members agree on [offset, offset + length) of their data, or fills that part of `to`
     * when it is not NULL. 0; -EIO: what could be done was done, a part had no readable copy; any
     * other error: `to` failed and has been reported. */
    int (*sync_window)(struct raid_array *a, struct raid_member *to, uint64_t offset,
                       uint64_t length);
    /* Compares what is redundant in [offset, offset + length) of the members' data, tells by
     * raid_check_tell, and puts it right for a repair. As sync_window. NULL: not built. */
    int (*check_window)(struct raid_array *a, uint64_t offset, uint64_t length,
                        struct raid_check *check);
    /* Rewrites [offset, offset + length) on the members in `slots` (a bit each), which could not
     * read it, from the others. */
    void (*repair)(struct raid_array *a, uint64_t slots, uint64_t offset, uint64_t length);
};

/* raid0.c: of levels that cannot do without a member. */
bool raid_needs_all(const struct md_super *sb, uint64_t in_sync);
void raid_flush_each(struct raid_array *a, struct bio *bio);
/* The only child of a read that may borrow: so may the child, and what it is lent is lent on. The
 * member stays open until nobody uses the array; only for levels whose members never go. */
void raid_borrow(struct raid_member *m, struct bio *child);

extern const struct raid_level linear_level;
extern const struct raid_level raid0_level;
extern const struct raid_level raid1_level;
extern const struct raid_level raid4_level;
extern const struct raid_level raid5_level;
extern const struct raid_level raid6_level;

extern const struct raid_level raid10_level;

const struct raid_level *raid_level_find(int32_t level); /* NULL: not built */

#endif
