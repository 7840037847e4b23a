/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_TESTS_RAID_CUTS_H
#define ORION_TESTS_RAID_CUTS_H

#include "powercut.h"

/* Histories of arrays for unit-raid-cuts: see test_cuts.c. */
enum {
    SPARES = 2,
    CHANGES = 16,
    PLACES = 4,
    SMALL = 768 << 10, /* bytes of each member's data before it grows, of COURSE_SIZE */
};

/* What happens in the middle of a history. */
enum course {
    COURSE_FAILURE, /* members fail, and come back or are replaced */
    COURSE_BAD,     /* places of members go bad, are on their lists, and become good again */
    COURSE_SLOTS,   /* a raid1 gets one more member */
    COURSE_SIZE,    /* members have gained, and the array takes it */
    COURSE_LOG,     /* the log cannot be written */
};

struct row {
    const char *name;
    unsigned cuts; /* by default; 200 a level */
    const char *level;
    int32_t number;
    unsigned members, redundancy; /* how many may go at any time */
    bool bitmap, no_log;
    const char *layout; /* of raid10 */
    enum course course;
};

/* From `at` on so many more members may go. */
struct change {
    uint64_t at;
    unsigned left;
};

/* A device cannot write there, from one moment to another; it may be read or not. */
struct place {
    unsigned device;
    uint64_t from, to;     /* bytes of the device; `to` is beyond */
    uint64_t since, until; /* until: UINT64_MAX while it lasts */
    bool reads;
};

/* What a history was, as the checks and a kept case need it. */
struct story {
    uint64_t seed, chunk;
    struct uuid uuid;
    bool junk;      /* members held something before */
    bool log_apart; /* on a device of its own */
    unsigned changes, places;
    struct change change[CHANGES];
    struct place place[PLACES];
    bool fatal;                                   /* with all places bad the array fails */
    uint64_t small, large;                        /* of COURSE_SIZE: bytes of the array */
    uint64_t grow_begins, grow_ends, grow_synced; /* moments */
    uint64_t bad_at; /* after the cut places are bad that were at this moment; 0: none */
};

extern const struct row *row;
extern struct story story;
extern struct pc_life life;
extern struct err cuts_e;

bool toss(unsigned of, unsigned what); /* one of so many; by seed and what it is about */
void set_redundancy(unsigned left);
unsigned redundancy_at(uint64_t at);

/* The last of the devices, or NULL. */
const char *log_device(void);
unsigned log_device_index(void);

/* ---- clients */
struct client {
    struct pc_life *life;
    struct bdev_desc *d;
    uint64_t random;
    unsigned index, requests;
    int error;
};

enum { CLIENTS = 3 };
struct crowd {
    struct client client[CLIENTS];
    struct bdev_desc *d;
};

void crowd_begin(struct crowd *w, struct pc_life *l, const char *array, unsigned requests);
int crowd_end(struct crowd *w); /* the first error that one of them got */
void work(const char *array, unsigned requests);
bool settled(const char *name);

/* ---- what devices cannot do */
/* Of device `i` of that kind: what was bad at `at`, and rules besides. */
void put_rules(const char *kind, unsigned i, uint64_t at, const char *more);
void refresh(unsigned i); /* in the history: by now */

/* ---- courses, between creation and the last stop */
void bad_blocks(void);
void more_slots(void);
void more_room(void);
void log_fails(void);
/* The array is stopped. Members keep empty lists of bad blocks from here on; members have as much
 * data as if their devices were small. */
void give_lists(void);
void make_small(void);
void restart_array(void); /* stop, assemble */

void history(void);

#endif
