/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_VOLUMES_LVM_TEXT_H
#define ORION_VOLUMES_LVM_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "volumes/lvm_label.h"

/*
 * A volume group as LVM2's text describes it (lib/format_text of lvm2), as a plain struct. What we
 * do not act upon is kept as text and written back word for word (`extra`); what we do not know at
 * all makes the group read-only, with the reason in `read_only_why`.
 */
enum { LVM_PVS_MAX = 1024, LVM_LVS_MAX = 65536, LVM_NAME_MAX = 127 };

struct lvm_strs { /* status, flags, tags: in order, no duplicates expected */
    char **v;
    unsigned n;
};

struct lvm_pv {
    char *key; /* "pv0": how segments name it */
    char id[LVM_ID + 1];
    char *device; /* a hint only */
    struct lvm_strs status, flags, tags;
    uint64_t dev_size, pe_start; /* sectors of 512; dev_size 0 = not told */
    uint32_t pe_count;           /* extents */
    char *extra;                 /* other lines, each with its newline; never NULL */
};

struct lvm_piece { /* `len` extents from `pe` on of a PV */
    unsigned pv;   /* index in vg->pv */
    uint32_t pe, len;
};

struct lvm_seg {
    uint32_t start, count;   /* extents of the LV */
    char *type;              /* "striped" covers linear: one stripe */
    bool plain;              /* striped over PVs: what we map; else `extra` has all but the above */
    uint32_t stripe_size;    /* sectors; 0 when there is one stripe */
    struct lvm_piece *piece; /* the PV space it takes; when plain: the stripes, of equal length */
    unsigned piece_count;
    char *extra;
};

struct lvm_lv {
    char *name;
    char id[LVM_ID + 1];
    struct lvm_strs status, flags, tags;
    uint64_t creation_time; /* seconds; 0 = not told */
    char *creation_host;    /* or NULL */
    struct lvm_seg *seg;
    unsigned seg_count;
    uint32_t extents;
    bool referenced; /* another LV stands on it */
    bool cow;        /* the store of a snapshot: the LV that people see as the snapshot */
    char *extra;
};

struct lvm_vg {
    char *name;
    char id[LVM_ID + 1];
    uint32_t seqno;
    struct lvm_strs status, flags, tags;
    char *system_id;                          /* NULL = none: any host may use it */
    uint32_t extent_size;                     /* sectors */
    uint32_t max_lv, max_pv, metadata_copies; /* 0 = unlimited, all */
    struct lvm_pv *pv;
    unsigned pv_count;
    struct lvm_lv *lv;
    unsigned lv_count;
    char *extra;             /* other lines and sections */
    char read_only_why[160]; /* not written; "" = we may write it */
    char *creation_host;     /* who wrote the text, or NULL */
    uint64_t creation_time;
};

/*
 * Parses a VG text of `len` bytes (a final NUL may be among them), whose checksum the caller has
 * checked. NULL and ERR_INVALID with what is wrong: syntax, a value missing or out of range,
 * segments with gaps or overlaps, space used twice.
 */
struct lvm_vg *lvm_text_parse(const char *text, size_t len, struct err *e);
void lvm_vg_free(struct lvm_vg **vg);

/* The text as it goes to disk: malloc'ed, *size_r counts the final NUL, which goes to disk too.
 * `description`: one line for a person. NULL and an error when a value cannot be written (a string
 * with a newline or NUL), or our own parser would not take the result. */
char *lvm_text_write(const struct lvm_vg *vg, const char *description, size_t *size_r,
                     struct err *e);
/*
 * The same for who writes one group again and again: a volume whose text is byte for byte what our
 * parser took the last time is not parsed again, which is most of the work of a large group. *proof
 * keeps the last text; NULL at first, and free it in the end.
 */
struct lvm_proof;
char *lvm_text_rewrite(const struct lvm_vg *vg, const char *description, struct lvm_proof **proof,
                       size_t *size_r, struct err *e);
void lvm_proof_free(struct lvm_proof **proof);
/* A copy of everything, to be changed and committed. */
struct lvm_vg *lvm_vg_clone(const struct lvm_vg *vg);

/* ---- small things */
bool lvm_strs_has(const struct lvm_strs *s, const char *v);
void lvm_strs_add(struct lvm_strs *s, const char *v); /* not twice */
void lvm_strs_del(struct lvm_strs *s, const char *v);
void lvm_strs_free(struct lvm_strs *s);
struct lvm_lv *lvm_vg_lv(const struct lvm_vg *vg, const char *name); /* NULL: none */
void lvm_lv_clear(struct lvm_lv *lv);
/* Is it one that people see? LVM marks the hidden node of a snapshot as visible, and its store not.
 */
bool lvm_lv_visible(const struct lvm_lv *lv);
/* Adds a PV or LV with empty lists and strings in place; the pointer is good until the next one. */
struct lvm_pv *lvm_vg_add_pv(struct lvm_vg *vg, const char *id);
struct lvm_lv *lvm_vg_add_lv(struct lvm_vg *vg, const char *name);
void lvm_vg_del_lv(struct lvm_vg *vg, struct lvm_lv *lv);
/* Appends a linear segment, or lengthens the last one when `piece` goes on where it ends. */
void lvm_lv_append(struct lvm_lv *lv, const struct lvm_piece *piece);
/* Cuts a plain LV down to `extents` (at least 1). False: it has a segment that cannot be cut there.
 */
bool lvm_lv_cut(struct lvm_lv *lv, uint32_t extents);
/* Can it be a name of an LV, by LVM's rules (no reserved words)? On false, *why_r says why not. */
bool lvm_lv_name_ok(const char *name, const char **why_r);

/* All pieces of PV space in use, sorted by PV and extent; malloc'ed, *n_r entries. */
struct lvm_piece *lvm_vg_used(const struct lvm_vg *vg, unsigned *n_r);

#endif
