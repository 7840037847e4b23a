/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_RAID_RAID_H
#define ORION_RAID_RAID_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/uuid.h"

/*
 * Arrays for control. Everything here is called on main, in a task (it waits for I/O). An array is
 * a block device of its name. On disk it is md, superblock v1.2; see raid/md_super.h.
 */
enum { RAID_MEMBERS_MAX = 64, RAID_NAME_MAX = 32 };

enum raid_state {
    RAID_INACTIVE,
    RAID_CLEAN,
    RAID_ACTIVE,
    RAID_DEGRADED,
    RAID_FAILED,
    RAID_READ_ONLY
};
enum raid_sync {
    RAID_SYNC_IDLE,
    RAID_SYNC_RESYNC,
    RAID_SYNC_RECOVER,
    RAID_SYNC_CHECK,
    RAID_SYNC_REPAIR
};
enum raid_member_state {
    RAID_MEMBER_IN_SYNC,
    RAID_MEMBER_REBUILDING,
    RAID_MEMBER_SPARE,
    RAID_MEMBER_FAULTY,
    RAID_MEMBER_MISSING,
    RAID_MEMBER_REPLACING /* is filled to take the slot of one that serves */
};

struct raid_member_info {
    char device[66]; /* "" when missing */
    int slot;        /* role, -1 for spare */
    enum raid_member_state state;
    uint64_t errors, corrected;
    uint64_t wrong; /* places where it was the one that differed, in the last scrub */
    uint64_t bad;   /* sectors on its list of bad blocks */
    bool keeps_bad; /* it has one */
};

/* Writes of parity levels, by how the new parity became known. */
enum raid_way { RAID_WAY_FULL, RAID_WAY_RECONSTRUCT, RAID_WAY_MODIFY, RAID_WAY_RECOVER, RAID_WAYS };

struct raid_info {
    char name[RAID_NAME_MAX + 1];
    struct uuid uuid;
    char level[8]; /* "raid1" */
    enum raid_state state;
    char reason[96]; /* why it is read-only, else "" */
    enum raid_sync sync;
    uint64_t sync_done, sync_total; /* bytes of a member */
    uint64_t sync_saved;            /* bytes that a restart need not do again */
    uint64_t sync_job;              /* id, 0 = none */
    uint64_t sync_rate;             /* bytes a second */
    uint64_t sync_limit;            /* what clients' latency leaves it, bytes a second; 0: all */
    uint64_t client_p99;            /* microseconds, when the sync last looked; 0: no client */
    uint64_t size, chunk;           /* bytes; chunk 0 for raid1 */
    uint64_t data_offset;           /* bytes, of the first member */
    uint64_t member_size;           /* bytes of data that each has to have; 0 for raid0 */
    uint32_t block_size;
    char layout[24];     /* "left-symmetric", "f2"; "" where there is none */
    char log[80];        /* of the write hole: "on", or why there is none; "" on other levels */
    char log_device[66]; /* where it lies, "" on the members */
    uint64_t events;
    uint64_t writes[RAID_WAYS];          /* work on stripes, parity levels */
    uint64_t gathered;                   /* client writes that shared work with another one */
    uint64_t log_used, log_size;         /* bytes; size 0: no log */
    uint64_t memory, memory_most;        /* bytes of buffers for stripes, now and at most */
    uint64_t mismatch;                   /* bytes that did not fit in the last or running scrub */
    uint64_t bitmap_chunk, bitmap_dirty; /* bytes, and chunks that are marked; 0: no bitmap */
    unsigned slots, missing, member_count;
    struct raid_member_info member[RAID_MEMBERS_MAX];
};

/* The write-intent bitmap of a new redundant array; by default from 1 GiB a member on. */
enum raid_bitmap_choice { RAID_BITMAP_BY_SIZE, RAID_BITMAP_INTERNAL, RAID_BITMAP_NONE };

struct raid_create {
    const char *name;
    const char *level;          /* any spelling of contract.md: "raid1", "1", "mirror" */
    const char *const *members; /* device names; "missing" for an absent one */
    unsigned member_count;
    const char *const *spares;
    unsigned spare_count;
    const char *layout; /* of raid10: "n2", "f3", "o2", ...; NULL: n2 */
    uint64_t chunk;     /* bytes; 0 = 512 KiB */
    bool assume_clean;
    bool force;             /* members may carry signatures */
    bool no_log;            /* parity levels: do without the log that closes the write hole */
    const char *log_device; /* where it lies; NULL: on the members */
    enum raid_bitmap_choice bitmap;
    uint64_t bitmap_chunk;   /* bytes, a power of two; 0 = 64 MiB, or what fits */
    const char *homehost;    /* set_name becomes HOMEHOST:NAME */
    const struct uuid *uuid; /* NULL = random (intents fix it beforehand) */
};

int raid_create(const struct raid_create *c, struct err *e);

/* How fast an array may sync, and what its members are forgiven. */
struct raid_policy {
    uint32_t latency_us;      /* of clients, the 99th percentile: above it a sync slows down */
    uint64_t rate_min;        /* bytes of a member a second that a sync always gets */
    uint64_t rate_max;        /* 0: none */
    uint32_t timeout_ms;      /* a member that does not answer for so long has failed; 0: never */
    uint32_t read_errors_max; /* corrected ones in an hour; with one more it has failed; 0: any */
};
/* What is different for one member. */
struct raid_member_policy {
    char device[66];
    bool has_timeout, has_read_errors;
    uint32_t timeout_ms, read_errors_max;
};
void raid_policy_defaults(struct raid_policy *p);
/* A running array; in effect at once. `own` is copied. */
int raid_set_policy(const char *name, const struct raid_policy *p,
                    const struct raid_member_policy *own, unsigned n, struct err *e);

/* What stands on registered devices: reads superblocks of unclaimed devices, writes nothing. */
struct raid_found {
    struct uuid uuid;
    char set_name[33];
    char name[RAID_NAME_MAX + 1]; /* the name to adopt it under, before clash resolution */
    char level[8];
    unsigned slots, have; /* fresh in-sync members found */
    bool complete, startable, ambiguous, needs_resync;
    char why[200]; /* why it is not startable / complete, else "" */
    unsigned device_count;
    char device[RAID_MEMBERS_MAX][66];
};
/* *found_r is malloc'ed; returns the count. */
unsigned raid_scan(struct raid_found **found_r);

struct raid_assemble {
    const char *name; /* the array's name here */
    struct uuid uuid;
    bool force;  /* start although dirty and degraded, or with too few fresh members where possible,
                    or with superblocks of two formats on a member */
    bool known;  /* it ran here before: a second superblock on a member is its clients' data */
    bool no_log; /* parity levels: do not write the log that closes the write hole */
    const char *log_device; /* where it should lie; found by its label, so for what is said */
    bool degraded_ok;       /* start with members missing (redundant levels) */
    bool read_only;         /* writes nothing at all */
    bool dry_run; /* describes in *would (may be NULL) what would be written, writes nothing */
    char *would;
    unsigned would_size;
    /* called before the first write with each area that will be changed (metadata backup); may be
     * NULL */
    int (*backup)(const char *device, uint64_t offset, const void *data, uint64_t len, void *arg);
    void *backup_arg;
};
/* An array whose superblocks are not of version 1.2 is read-only whatever is asked. */
int raid_assemble(const struct raid_assemble *a, struct err *e);

/* Flushes, checkpoints and ends a sync, marks clean, releases the members, unregisters the device.
 * ERR_IN_USE when someone has it open. */
int raid_stop(const char *name, struct err *e);
/* raid_stop, then the superblocks are zeroed. */
int raid_delete(const char *name, struct err *e);
/* Of an array that does not run: erases the superblocks that are left of it on devices nobody uses.
 * For a deletion that a crash cut short. */
int raid_erase(const struct uuid *uuid, struct err *e);
/* Shutdown: flush and mark clean everything that is idle, without unregistering. */
void raid_shutdown_all(void);

/* Of a running array with parity: its log lies on `device` from here on, on the members for NULL,
 * or there is none. What it was on before is free then. */
int raid_set_log(const char *name, bool none, const char *device, bool force, struct err *e);

int raid_fail_member(const char *name, const char *member, bool force, struct err *e);
int raid_remove_member(const char *name, const char *member, bool force, struct err *e);
int raid_add_member(const char *name, const char *device, bool force, struct err *e);

/* A former member comes back: by the bitmap only what was written meanwhile is copied.
 * ERR_UNSUPPORTED when nobody knows what it lacks. */
int raid_readd_member(const char *name, const char *device, struct err *e);
/* A member that is in sync gives way to `device`, or to a spare of the array when that is NULL: it
 * serves until the new one has all. To take it back, remove the new one. *job_r (may be NULL) is
 * the id of the job that fills it; 0: a resync goes first. */
int raid_replace_member(const char *name, const char *member, const char *device, bool force,
                        uint64_t *job_r, struct err *e);
/* Compares all redundancy, and with `repair` puts right what does not fit: of three and more copies
 * what most say, of two what the first says; of raid6 whom both parities name, else parity. *job_r
 * (may be NULL) is the job's id. */
int raid_scrub(const char *name, bool repair, uint64_t *job_r, struct err *e);
/* One that a restart cut off goes on; its job told all of this. */
struct raid_scrub_past {
    uint64_t at; /* bytes of a member that were looked at */
    uint64_t mismatch, unreadable;
};
int raid_scrub_on(const char *name, bool repair, const struct raid_scrub_past *past,
                  uint64_t *job_r, struct err *e);

/*
 * Larger, while it is in use. Members that are added become spares first and fill the new slots.
 * *job_r (may be NULL): of the resync or rebuild, 0 = none. *changed_r: anything was to be done.
 */
struct raid_grow {
    unsigned raid_devices; /* slots of a raid1; 0: as many as there are */
    const char *const *devices;
    unsigned device_count;
    bool resize; /* to `size` bytes of each member's data, UINT64_MAX: to what all members have */
    uint64_t size;
    bool force; /* devices may carry signatures; slots may stay empty */
};
int raid_grow(const char *name, const struct raid_grow *g, bool *changed_r, uint64_t *job_r,
              struct err *e);

bool raid_get(const char *name, struct raid_info *info_r);
void raid_for_each(void (*fn)(const struct raid_info *info, void *arg), void *arg);
/* Any thread: bytes of buffers that a parity array may hold on each reactor, but for a reserve of
 * 8 KiB a member. Beyond it requests wait; too little for one of them, and it is worked off in rows
 * of 4 KiB, out of the reserve. */
void raid_set_stripe_memory(size_t bytes);
/* Any thread: at least so long between two records of where resync and rebuild are; default 1 s. */
void raid_set_checkpoint_ms(unsigned ms);

const char *raid_state_name(enum raid_state s);
const char *raid_way_name(enum raid_way w);
const char *raid_sync_name(enum raid_sync s);
const char *raid_member_state_name(enum raid_member_state s);
bool raid_level_known(const char *level); /* spelled so, and built in */

#endif
