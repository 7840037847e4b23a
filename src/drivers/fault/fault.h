/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_DRIVERS_FAULT_FAULT_H
#define ORION_DRIVERS_FAULT_FAULT_H

#include "block/bdev_driver.h"

/*
 * The fault driver: passes everything on to another device (option "on", opened exclusively) unless
 * a rule says otherwise, and can record what is written, so that a test can make every state that a
 * power cut may leave behind. Not for data that anybody wants back.
 *
 * Rules are text: rules by ';', parts of a rule by ':', the first part names the ops:
 *
 *     read:error=EIO:offset=4096-8191:count=2; write:delay=10ms:every=3; flush:drop
 *
 *   op      read write flush discard write_zeroes extents, joined by '+', or `any`
 * what happens (at least one; `delay` and `hold` come first, and with neither error, drop nor torn
 * the request then goes on): error=E     ends with E: EIO ENODATA EILSEQ ENODEV ETIMEDOUT ENOSPC
 * EROFS EOPNOTSUPP EAGAIN. bad_offset is the first byte of the range that the rule is about drop
 * ends well and never reaches the device (a lost write, a flush that lies) torn=N      a write of
 * which only the first N bytes reach the device (rounded down to its block size); ends well unless
 * `error` is given too delay=T     waits for T: 10ms, 500us, 2s hold        waits for fault_release
 * when (all that are given):
 *   offset=A-B  touches the bytes A to B, both included; sizes may be written 4K. offset=A is one
 * byte after=N     not before N requests matched every=N     only each Nth of them probability=P by
 * chance, 0.0 to 1.0; the sequence depends on `seed` only seed=N      for probability; default 1
 *   count=N     at most N times, then the rule is used up
 *
 * The first rule that fires decides; the ones after it do not count that request.
 *
 * All functions take a device of type "fault" (asserted) and may be called on any reactor; those
 * that say so, in a task.
 */

/* Replaces all rules, counters begin anew; "" or NULL removes them. -1 with *e filled, and the old
 * rules stay, when the text is wrong. */
int fault_set_rules(struct bdev *bdev, const char *rules, struct err *e);
/* How often rule number `index` (0 = the first) has fired. */
uint64_t fault_rule_hits(struct bdev *bdev, unsigned index);
/* Requests that a `hold` rule keeps now. */
unsigned fault_held(struct bdev *bdev);
/* Lets all held requests go on, in order. They complete later, on their own reactors. */
void fault_release(struct bdev *bdev);

/*
 * The record: every WRITE, WRITE_ZEROES, DISCARD and FLUSH in order of submission, with a copy of
 * the data. Time is a count of events: each submission and each completion is one, so each number
 * from 0 to fault_record_now() names one moment at which the power could have gone.
 */
struct fault_entry {
    enum bio_op op;
    unsigned flags; /* enum bio_flags */
    uint64_t offset, length;
    const uint8_t *data; /* WRITE: `length` bytes, else NULL */
    uint64_t submitted;  /* event number, from 1 */
    uint64_t completed;  /* event number, 0 = not yet */
    int error;           /* once completed */
    bool dropped;        /* a rule kept it from the device */
    uint64_t torn;       /* bytes that reached the device when a rule tore it, else `length` */
};

void fault_record_start(struct bdev *bdev); /* forgets an earlier record */
/* Events are counted by *clock, atomically, which records of several devices share: a number then
 * names one moment of all of them. The clock outlives the record. */
void fault_record_start_by(struct bdev *bdev, uint64_t *clock);
void fault_record_stop(struct bdev *bdev); /* what was recorded stays readable */
unsigned fault_record_count(struct bdev *bdev);
/* Entry `index`, valid until the next fault_record_start or the device's end. */
const struct fault_entry *fault_record_get(struct bdev *bdev, unsigned index);
uint64_t fault_record_now(struct bdev *bdev);

enum fault_cut {
    FAULT_CUT_ALL,    /* everything that was submitted reached the medium: no cache at all */
    FAULT_CUT_NONE,   /* only what a flush or FUA made durable is there: all of the cache is lost */
    FAULT_CUT_CHANCE, /* of the rest each write is there, absent, or torn at a sector, by `seed` */
};

/*
 * In a task. Writes to `to`, which must hold what this device held when the record began, what the
 * medium would hold if the power had gone right after event `at`. A write is durable at `at` when
 * it completed before a FLUSH was submitted that had completed (without error, not dropped) by
 * `at`, or had FUA and had completed by `at`. 0, or the class of the first write to `to` that
 * failed.
 */
int fault_replay(struct bdev *bdev, uint64_t at, enum fault_cut cut, uint64_t seed,
                 struct bdev_desc *to);

#endif
