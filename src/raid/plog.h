/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_RAID_PLOG_H
#define ORION_RAID_PLOG_H

#include "base/err.h"
#include "base/uuid.h"
#include "raid/stripe.h"

/*
 * The log that closes the write hole: what a write is going to put on the members stands there,
 * durable, before any member gets it. After a crash it is put there again, so that parity fits
 * whatever was under way, with members missing too.
 *
 * It lies in the gap before data_offset, which md leaves alone. The last 8 KiB of the gap are
 * two heads that are written in turn; the rings before them belong to one reactor each. Their
 * first block only says, without rows, which records are void. A record stands on the member
 * that holds P of its stripe (Q when P is gone): without that member there is no parity that
 * could be wrong. Healthy whole stripes are only named, not copied.
 *
 * All integers little endian, sums are CRC32C with the sum's own field as 0.
 */
enum {
    PLOG_BLOCK = 4096, /* unit of everything */
    PLOG_HEADS = 2 * PLOG_BLOCK,
    PLOG_FIRST = 160 << 10, /* bytes of a member: superblock, bitmap and bad blocks come before */
    PLOG_MOST = 32 << 20,   /* bytes of a member */
};

struct plog_head {
    uint64_t sequence;        /* of heads */
    struct uuid array, epoch; /* records of another epoch are void */
    uint64_t before_events, before_utime, next_events, next_utime; /* of the superblocks */
    uint64_t length;                                               /* of rings and heads */
    uint32_t rings;
    bool synced;        /* parity fitted everywhere when the epoch began, or does by now */
    uint64_t synced_to; /* else: before that byte of the members' data */
    /* Of each slot, whoever has it now: it has what records of this era and later ones say. */
    uint32_t joined[PARITY_SLOTS_MAX];
};

struct plog_record {
    struct uuid epoch;
    uint64_t sequence, tail; /* within a ring's reactor; before tail all is durable */
    uint64_t stripe;
    uint32_t lo, hi;
    bool whole;     /* a whole healthy stripe: no rows follow */
    uint32_t era;   /* of slots, 24 bits; see joined */
    uint64_t slots; /* whose new rows follow, in order of slots */
    uint32_t row[PARITY_SLOTS_MAX][2];
    uint32_t payload; /* bytes, all slots together */
    uint32_t payload_sum;
};

void plog_head_write(const struct plog_head *h, void *bytes); /* PLOG_BLOCK bytes */
bool plog_head_read(struct plog_head *h, const void *bytes);  /* false: none */
void plog_record_write(const struct plog_record *r, void *bytes);
bool plog_record_read(struct plog_record *r, const void *bytes);

/*
 * A device of its own for the log: a label at byte 4096, then a part for each slot, which lies
 * there as it would before the member's data. Nothing of it can be taken for a member's.
 */
enum { PLOG_LABEL_AT = 4096, PLOG_PARTS_AT = 8192 };
struct plog_label {
    struct uuid array;
    uint32_t slots;
    uint64_t length; /* of a part */
};
void plog_label_write(const struct plog_label *l, void *bytes); /* PLOG_BLOCK bytes */
bool plog_label_read(struct plog_label *l, const void *bytes);

struct plog_device {
    struct raid_array *array;
    struct bdev_desc *desc; /* main opens and closes; NULL once closed */
    char name[BDEV_NAME_MAX + 1];
    uint64_t length;
    bool closing, going; /* main */
};

/* In tasks on main. The device that carries the log of an array: how many there are, and the name
 * of one; 0: none of the devices that nobody uses. */
unsigned plog_device_find(const struct uuid *array, char name_r[BDEV_NAME_MAX + 1]);
/* NULL with *e filled: it is in use, or its label is not of this array. */
struct plog_device *plog_device_open(struct raid_array *a, const char *name, struct err *e);
/* A new one, with its label on disk. Refuses one that carries something, unless forced. */
struct plog_device *plog_device_make(struct raid_array *a, const char *name, bool force,
                                     struct err *e);
void plog_device_close(struct plog_device **d, bool erase);

struct plog;

/* Main, at level set-up: NULL with *why_r (a constant) when the members have no room. */
struct plog *plog_new(struct raid_array *a, struct plog_device *d, const char **why_r);
void plog_free(struct plog **l);
/* Does plog_new find room? NULL, or why not. */
const char *plog_missing(const struct raid_array *a, const struct plog_device *d);
/* Where the part of the log ends that belongs to this member, and on what device it lies. */
uint64_t plog_end(const struct raid_member *m, const struct plog_device *d,
                  struct bdev_desc **desc_r);
/* Any reactor: its device has failed. Nothing is logged until superblocks have made it void. */
void plog_lost(struct plog *l);
bool plog_is_lost(const struct plog *l);
bool plog_is_failing(const struct plog *l); /* superblocks are about to make it void */
struct plog_device *plog_device_of(const struct plog *l);
uint64_t plog_last_head(const struct raid_array *a); /* task; the newest head's sequence, or 0 */
/* The gap that a member offers, 0 = too small for any. */
uint64_t plog_room(const struct raid_array *a, const struct raid_member *m);
bool plog_fits(const struct raid_array *a, const struct raid_member *m); /* true without a log */
/* Any thread: how much of its rings is used, in bytes, of how much. */
void plog_fill(const struct raid_array *a, uint64_t *used_r, uint64_t *size_r);
/* Home, in a task: the heads, before a superblock with these events is written. */
void plog_before_super(struct raid_array *a, uint64_t before_events, uint64_t before_utime);

/* A write's owner: most rows that fit a record. */
uint32_t plog_rows(const struct raid_array *a);
/* A write whose rows are all known: logged, then stripe_op_logged(op). */
void plog_write(struct stripe_op *op);
void plog_written(struct stripe_op *op); /* the writes of its rows have ended, well or not */
void plog_op_end(struct stripe_op *op);  /* its rows are on the members */
/* Home, in a task, a failure is not on record yet, so that nothing new is logged: until what was is
 * written. The records may go with the member. */
void plog_settle(struct raid_array *a);

/*
 * Main, in a task, before the array runs: 0 when the log made parity fit before byte *synced_r of
 * the members' data (UINT64_MAX: everywhere), -1 with *why_r when there is none or it does not
 * belong to what stands on the members. `lost` members took part when it went down and are not
 * here.
 */
int plog_replay(struct raid_array *a, unsigned lost, uint64_t *synced_r, const char **why_r);

#endif
