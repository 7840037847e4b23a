/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_RAID_BAD_H
#define ORION_RAID_BAD_H

#include "raid/raid_private.h"

/*
 * A member's list of bad blocks, as Linux keeps it (super_1_load and md_update_sb of
 * drivers/md/md.c, block/badblocks.c): places of the device, in sectors from its start, that are
 * not to be read. They come on the list when a write fails, instead of the member's going, and when
 * nobody can tell what belongs there; a write that succeeds takes them off. Before such a write is
 * acknowledged the list is durable, and the superblocks of all members are one event further.
 *
 * A list is only kept where the superblock has a place for it: the members of Linux do, ours do not
 * unless they join such an array.
 */
struct raid_bad;

/* Main, before the member runs: what stands on it, if it keeps a list. */
int raid_bad_load(struct raid_member *m, struct err *e);
void raid_bad_free(struct raid_bad **bad);
/* Home, meta_lock held, before its first superblock: a new member keeps a list if another does. */
void raid_bad_give(struct raid_array *a, struct raid_member *m);

/* Any reactor: is a part of [offset, offset + length) of the member's data on the list? */
bool raid_bad_find(const struct raid_member *m, uint64_t offset, uint64_t length);
/* Any reactor: from `offset` on, at most to `end`, so many bytes are alike, bad or not. */
uint64_t raid_bad_run(const struct raid_member *m, uint64_t offset, uint64_t end, bool *bad_r);
uint64_t raid_bad_sectors(const struct raid_member *m); /* any thread; on the list */
bool raid_bad_any(const struct raid_member *m);         /* any thread */

static inline bool raid_bad_at(const struct raid_member *m, uint64_t offset, uint64_t length)
{
    return m->bad && raid_bad_any(m) && raid_bad_find(m, offset, length);
}

/* Is everything in sync or rebuilt there, and not on the list? */
static inline bool raid_good_at(const struct raid_member *m, uint64_t offset, uint64_t length)
{
    return raid_in_sync(m) && !raid_bad_at(m, offset, length);
}

/* Home, meta_lock held; superblocks are written by whoever calls, if a->bad_news then. */
/* False: it keeps no list, the error is not of a place, or the list is full. */
bool raid_bad_add(struct raid_member *m, uint64_t offset, uint64_t length, int error);
/* It could be written, and its cache is flushed by this. */
void raid_bad_clear(struct raid_member *m, uint64_t offset, uint64_t length);

/* Task on home, no lock: a write of resync, rebuild or repair has ended. 0: it is there, or on
 * record as bad; else the error, reported. */
int raid_bad_written(struct raid_member *m, uint64_t offset, uint64_t length, int error);

/* Home, meta_lock held, before superblocks: lists that have changed, durable. `lost_r`: a member
 * could not store its list and was kicked. */
void raid_bad_store(struct raid_array *a, bool *lost_r);
/* Main, before the array runs: a list that has changed since it was loaded, and that it counts, are
 * durable, with the events that the member has: the log, which is not void yet, knows these. */
int raid_bad_record(struct raid_member *m);

#endif
