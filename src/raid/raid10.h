/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_RAID_RAID10_H
#define ORION_RAID_RAID10_H

#include <stdbool.h>
#include <stdint.h>

struct md_super;

/*
 * Where raid10 has the copies of a chunk (drivers/md/raid10.c of Linux). `near` copies stand next
 * to each other, in one row of chunks or over into the next; `far` copies of whole rows stand
 * further on, each moved by `near` members: a stride away, or, with `offset`, in the next row. The
 * number of members need not be a multiple of the copies.
 */
enum { RAID10_NEAR_2 = 0x102, RAID10_COPIES_MAX = 64 };

struct raid10_geometry {
    unsigned slots, near, far, copies;
    bool offset;
    uint64_t chunk;  /* bytes */
    uint64_t stride; /* bytes of a member from one far copy to the next */
    uint64_t size;   /* of the array, bytes */
};

struct raid10_copy {
    unsigned slot;
    uint64_t offset; /* of the member's data, bytes */
};

/* False: a layout that md does not have, or far sets, or too many copies. Layout 0 counts as n2. */
bool raid10_geometry_init(struct raid10_geometry *g, const struct md_super *sb);
/* "n2", "f2", "o3": mdadm's way to say it. 0: none of them. */
uint32_t raid10_layout_parse(const char *text);
void raid10_layout_name(uint32_t layout, char out[24]); /* both counts: "n2f2" */
/* All copies of the byte at `offset` of the array, g->copies of them. */
void raid10_copies(const struct raid10_geometry *g, uint64_t offset, struct raid10_copy *copy);
/* What stands at `offset` of a member's data; may lie beyond the array's size. */
uint64_t raid10_virtual(const struct raid10_geometry *g, unsigned slot, uint64_t offset);

#endif
