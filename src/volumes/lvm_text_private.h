/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_VOLUMES_LVM_TEXT_PRIVATE_H
#define ORION_VOLUMES_LVM_TEXT_PRIVATE_H

#include "volumes/lvm_text.h"

/*
 * The values of a section that we know, in the order LVM writes them: one table reads and writes
 * them. Strings are malloc'ed; a value that is absent leaves what stands there.
 */
enum lvm_kind { LVM_F_ID, LVM_F_U32, LVM_F_U64, LVM_F_STR, LVM_F_STRS };

struct lvm_field {
    const char *key;
    enum lvm_kind kind;
    bool required;
    bool keep; /* written even when it is 0 or an empty list */
    size_t offset;
};

extern const struct lvm_field lvm_vg_fields[], lvm_pv_fields[], lvm_lv_fields[];

/* lvm_vg.c: sorts segments, checks them and the use of space, marks who is referenced. `names` are
 * the strings of segments that are not plain, `cows` the stores of snapshots. */
int lvm_vg_check(struct lvm_vg *vg, const struct lvm_strs *names, const struct lvm_strs *cows,
                 struct err *e);
/* What of it is about all volumes together: names and the use of space. */
int lvm_vg_check_whole(const struct lvm_vg *vg, struct err *e);
/* Sets read_only_why unless a reason stands there already. */
void lvm_vg_note(struct lvm_vg *vg, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
