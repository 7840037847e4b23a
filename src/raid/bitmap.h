/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_RAID_BITMAP_H
#define ORION_RAID_BITMAP_H

#include "raid/raid_private.h"
#include "reactor/iobuf.h"

/*
 * The write-intent bitmap, version 4, of redundant levels: a bit for each chunk of the members'
 * data (drivers/md/md-bitmap.c of Linux). A bit is durable on all members before data is written
 * to its chunk; it goes some seconds after the last write there, once the members are flushed, and
 * never while a member is missing: so that a crash costs the resync of the marked chunks, and a
 * member that comes back only lacks these.
 */
enum {
    RAID_BITMAP_CHUNK = 64 << 20,     /* default, as mdadm's */
    RAID_BITMAP_CHUNK_MIN = 64 << 10, /* bytes, a power of two */
    RAID_BITMAP_SLEEP = 5,            /* seconds between looks for bits to clear */
    RAID_BITMAP_AT = 8,               /* sectors from the superblock, where mdadm has it */
    RAID_BITMAP_PAGE = 4096,
};

/* state of a chunk: writes under way in the low bits */
enum {
    BITMAP_DURABLE = 1 << 30, /* the bit is set on all members */
    BITMAP_TOUCHED = 1 << 29, /* written since the last look */
    BITMAP_WRITES = BITMAP_TOUCHED - 1,
};

struct raid_bitmap {
    struct raid_array *array;
    uint64_t chunk, chunks;
    uint32_t *state; /* atomic; of each chunk */
    uint64_t dirty;  /* atomic; home writes; bits that are set */
    bool believed;   /* main, at assembly: it was found and knows of all writes */

    /* home, meta_lock held */
    struct md_bitmap head;
    struct iobuf *image; /* head and bits, whole pages */
    bool *page_dirty;
    unsigned pages;

    /* home */
    unsigned asks; /* reactors that wait for bits */
    bool set_runs, clear_runs, armed;
    struct rtimer timer;
};

/* Main, before the array runs. A bitmap of its own for a new array; `chunk` 0 = by size. */
int raid_bitmap_make(struct raid_array *a, uint64_t chunk, bool all_set, struct err *e);
/* What stands on the members in sync. One that is older than the superblocks, or not of this size,
 * says nothing: then all bits are set if `doubt`, else none. */
int raid_bitmap_load(struct raid_array *a, bool doubt, struct err *e);
void raid_bitmap_free(struct raid_bitmap **b);
/* Home, quiesced, meta_lock held, no bit set: of a->sb's size from now on, bits marked from byte
 * `from` on. _fits: is there room, with a coarser chunk if need be, for members of so many sectors?
 */
bool raid_bitmap_fits(struct raid_array *a, uint64_t sectors);
void raid_bitmap_resize(struct raid_array *a, uint64_t from);
/* Where a new member has room for it. */
int raid_bitmap_place(struct raid_array *a, struct raid_member *m, struct err *e);

/* Any reactor, a write begins and ends. False: not durable yet; home has to be asked. */
bool raid_bitmap_begin(struct raid_array *a, const struct bio *bio);
void raid_bitmap_end(struct raid_array *a, const struct bio *bio);

/* Home. */
void raid_bitmap_ask(struct raid_array *a, unsigned reactor);
/* Task, meta_lock held: writes what has changed, and the head. `lost_r`: a member was kicked. */
void raid_bitmap_store(struct raid_array *a, bool *lost_r);
int raid_bitmap_store_all(struct raid_array *a, struct raid_member *m);
/* Task, meta_lock held, nobody writes, members are flushed: all bits go, unless they are needed. */
void raid_bitmap_settle(struct raid_array *a);
void raid_bitmap_arm(struct raid_array *a); /* bits are to be cleared some time */
/* The first marked place of the members' data in [offset, end); `end` if there is none. */
uint64_t raid_bitmap_next(const struct raid_array *a, uint64_t offset, uint64_t end);
/* `offset` is marked: where the marked chunks end, at most `end`. */
uint64_t raid_bitmap_marked(const struct raid_array *a, uint64_t offset, uint64_t end);

#endif
