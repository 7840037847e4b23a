/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_RAID_PPL_H
#define ORION_RAID_PPL_H

#include "raid/raid_private.h"

/*
 * The partial parity log of md's raid5 (struct ppl_header of <linux/raid/md_p.h>, and
 * Documentation/driver-api/md/raid5-ppl.rst of Linux). Each member logs the stripes whose parity it
 * holds: where data was about to be written, and the XOR of the blocks of these rows that were not.
 * With what stands there of the others, that gives a parity that fits. It is worked off when such
 * an array is adopted, and given up then: our own log takes its place.
 *
 * A header of 4 KiB, the partial parities in order of its entries behind it. With
 * MD_FEATURE_MULTIPLE_PPLS one follows the other, and the newest counts. All little endian, sums
 * are CRC32C with the sum's own field as 0.
 */
enum {
    PPL_BLOCK = 4096,
    PPL_ENTRIES_MAX = 148,
};

struct ppl_log_entry {
    uint64_t first; /* sector of the array where its data begin */
    uint32_t parity_bytes, data_bytes;
    uint32_t slot; /* that holds the parity */
    uint32_t sum;  /* of the partial parity */
};

struct ppl_log_header {
    uint64_t generation;
    unsigned entries;
    struct ppl_log_entry entry[PPL_ENTRIES_MAX];
};

/* False: not one of the array with this UUID. */
bool ppl_header_read(struct ppl_log_header *h, const void *bytes, const struct uuid *array);

/* The member's area: byte of the device and bytes. False: its superblock has none that can be. */
bool ppl_area(const struct md_super *sb, uint64_t device_size, uint64_t *at_r, uint64_t *bytes_r);

/* Main, in a task, members open, not started. 0: parity fits wherever members that are here were
 * about to write; -1 with *why_r (a constant): it does not tell, or a member failed. */
int ppl_replay(struct raid_array *a, const char **why_r);
bool ppl_is_used(const struct raid_array *a);
/* From here on no superblock names it. Those on disk, if `now`; -1 with *e filled: one could not be
 * written, and nothing else has been. */
int ppl_give_up(struct raid_array *a, bool now, struct err *e);

#endif
