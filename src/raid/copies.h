/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_RAID_COPIES_H
#define ORION_RAID_COPIES_H

#include "raid/raid_private.h"

/* What raid1 and raid10 share. */

/* Any reactor, READ and EXTENTS: from whom level->pick says; an error goes on to the next one, and
 * the place is repaired. Where each has another part, it is put together of several. */
void raid_copies_read(struct raid_array *a, struct bio *bio);

/*
 * A piece of data that several members have, each at its own place.
 * All in tasks on home, the range of the piece held. In order of preference.
 */
struct iobuf;
struct raid_copies {
    unsigned n;
    struct raid_member *m[RAID_MEMBERS_MAX + 1]; /* one of them may be a replacement */
    uint64_t offset[RAID_MEMBERS_MAX + 1];       /* of the member's data */
    struct iobuf *buf[RAID_MEMBERS_MAX + 1];
    bool unread[RAID_MEMBERS_MAX + 1];
    bool differ; /* they may: see raid_unsynced */
};

/* One more, if it is there and takes writes. */
void raid_copies_add(struct raid_copies *c, struct raid_member *m, uint64_t offset);

/* Which requests the array passes on as they are, from those that all members do. */
void raid_copies_properties(struct raid_array *a);
/* As raid_level.sync_window, for one piece. */
int raid_copies_sync(struct raid_array *a, struct raid_copies *c, struct raid_member *to,
                     uint64_t length);
/* As raid_level.check_window; `offset` is how the piece is told of. */
int raid_copies_check(struct raid_array *a, struct raid_copies *c, uint64_t offset, uint64_t length,
                      struct raid_check *check);
/* Copy i could not be read: it is rewritten from another one, and read back. */
void raid_copies_repair(struct raid_array *a, struct raid_copies *c, unsigned i, uint64_t length);

#endif
