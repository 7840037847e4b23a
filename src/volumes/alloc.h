/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_VOLUMES_ALLOC_H
#define ORION_VOLUMES_ALLOC_H

#include "volumes/lvm_text.h"

/*
 * Where the extents of a volume go. In this order: right behind `after` when all fit there; the
 * first free run (by PV, then by extent) that takes all; else behind `after` and then the longest
 * runs first, so that the volume has as few segments as can be.
 *
 * Only PVs with `usable[pv]` (present, and ALLOCATABLE by the text) give space. `after` may be
 * NULL. Returns a malloc'ed list of pieces in the order of the volume, *n_r entries, or NULL and
 * ERR_NO_SPACE that tells how much is free.
 */
struct lvm_piece *alloc_extents(const struct lvm_vg *vg, const bool *usable, uint32_t count,
                                const struct lvm_piece *after, unsigned *n_r, struct err *e);

/* Free extents of one PV. */
uint32_t alloc_free(const struct lvm_vg *vg, unsigned pv);

#endif
