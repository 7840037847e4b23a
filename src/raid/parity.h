/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_RAID_PARITY_H
#define ORION_RAID_PARITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Where md puts the blocks of a stripe on raid4, 5 and 6 (raid5_compute_sector of Linux), and the
 * arithmetic: P is the XOR of the data, Q the sum of g^k times data, g = 2 in GF(2^8) modulo 0x11d.
 * The powers k of raid6 count the data blocks in order of slots, from the one behind Q and around;
 * with the DDF layouts k is the slot. A stripe is one chunk of each slot.
 */
enum { PARITY_SLOTS_MAX = 64 };

/* Layouts as in the superblock. 16 and up keep Q on the last slot and are raid5's for the rest. */
enum parity_layout {
    LAYOUT_LEFT_ASYMMETRIC = 0,
    LAYOUT_RIGHT_ASYMMETRIC = 1,
    LAYOUT_LEFT_SYMMETRIC = 2, /* what we write */
    LAYOUT_RIGHT_SYMMETRIC = 3,
    LAYOUT_PARITY_FIRST = 4,
    LAYOUT_PARITY_LAST = 5,
    LAYOUT_DDF_ZERO_RESTART = 8, /* raid6 only, from here on */
    LAYOUT_DDF_N_RESTART = 9,
    LAYOUT_DDF_N_CONTINUE = 10,
    LAYOUT_LEFT_ASYMMETRIC_6 = 16,
    LAYOUT_RIGHT_ASYMMETRIC_6 = 17,
    LAYOUT_LEFT_SYMMETRIC_6 = 18,
    LAYOUT_RIGHT_SYMMETRIC_6 = 19,
    LAYOUT_PARITY_FIRST_6 = 20,
};

struct parity_geometry {
    unsigned slots, data; /* data = slots less 1 or 2 */
    unsigned parities;    /* 1 or 2 */
    int32_t level;        /* 4, 5, 6 */
    uint32_t layout;
};

/* False: no such level, layout or number of slots. */
bool parity_geometry_init(struct parity_geometry *g, int32_t level, uint32_t layout,
                          unsigned slots);
const char *parity_layout_name(int32_t level, uint32_t layout); /* as mdadm says it; NULL: none */

/* One stripe. */
struct parity_map {
    unsigned slots, data, parities;
    uint8_t slot_of[PARITY_SLOTS_MAX]; /* by data index, 0..data-1: in order of the array's bytes */
    uint8_t p, q;                      /* slots; q only with two parities */
    uint8_t order[PARITY_SLOTS_MAX];   /* data slots by ascending power of Q */
    uint8_t power[PARITY_SLOTS_MAX];   /* of a data slot */
    bool plain;                        /* powers are 0, 1, 2, ... */
};
void parity_map_init(struct parity_map *m, const struct parity_geometry *g, uint64_t stripe);

static inline bool parity_is_data(const struct parity_map *m, unsigned slot)
{
    return slot != m->p && !(m->parities == 2 && slot == m->q);
}

/*
 * Buffers by slot: `block[slot]`, each PARITY_ALIGN aligned, `len` a multiple of it. They are
 * written by stores that bypass the cache.
 */
enum { PARITY_ALIGN = 64 };

/* P and Q from all data. block[p] or block[q] may be NULL: not wanted. */
void parity_generate(const struct parity_map *m, uint8_t *const block[], size_t len);
/*
 * P and Q after a change of the data in the slots of `changed`: old and new blocks of these, old
 * parities in `before`, new ones to `after`. NULL in after: not wanted. The old data blocks become
 * the differences.
 */
void parity_update(const struct parity_map *m, uint64_t changed, uint8_t *const before[],
                   uint8_t *const after[], size_t len);
/*
 * Computes the blocks of the slots in `lost` (a bit each, at most `parities` of them) from the
 * others. Of those only what is needed is read: all data that is not lost, and as many parities as
 * data is lost, P first. A lost parity whose block is NULL is left out. False: too many are lost.
 */
bool parity_recover(const struct parity_map *m, uint64_t lost, uint8_t *const block[], size_t len);
/* The slots that parity_recover reads; 0: impossible. */
uint64_t parity_needs(const struct parity_map *m, uint64_t lost);

#endif
