/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_RAID_PRIVATE_H
#define ORION_RAID_PRIVATE_H

#include <errno.h>
#include <pthread.h>

#include "block/bdev_driver.h"
#include "block/range.h"
#include "block/stats.h"
#include "raid/md_super.h"
#include "raid/raid.h"
#include "raid/raid_level.h"
#include "reactor/task.h"

/*
 * Who may touch what: an array has a home reactor, where all that changes its state runs, in tasks:
 * marking active and clean, kicks, superblocks, resync. Other reactors read the atomic fields. Main
 * opens, closes, registers. A member's memory lives as long as its array, so that I/O under way
 * never meets freed memory.
 */
enum {
    RAID_IDLE_US =
        200 * 1000,       /* without writes for so long: marked clean, as md's safe_mode_delay */
    RAID_REPAIR_MAX = 64, /* repairs that may wait */
};

struct raid_bad;
struct raid_bitmap;
struct plog_device;

struct raid_member {
    struct list link; /* home: a->members or a->gone */
    struct raid_array *array;
    struct bdev_desc *desc; /* main opens and closes; NULL once closed */
    char device[BDEV_NAME_MAX + 1];
    uint64_t data_offset, data_size; /* bytes */
    int slot;                        /* home; -1 for a spare */
    unsigned state;                  /* atomic; enum raid_member_state; home writes */
    bool by_bitmap;                  /* home; rebuilt where the bitmap says only */
    bool replaces;                   /* home; a->replacement, or about to be */
    bool recorded;                   /* home; faulty, and the survivors' superblocks say so */
    bool unproven;                   /* atomic; in sync, and no superblock says so yet */
    uint64_t behind;     /* home; at assembly its superblock was older than these events; else 0 */
    uint64_t rebuilt;    /* atomic; bytes of data; home writes */
    uint64_t checkpoint; /* atomic; home writes; as much of it is durable */
    uint64_t noted;      /* home; as much is durable when the flush under way ends */
    uint32_t era;        /* home; a->era when it took its slot */
    uint64_t errors, corrected; /* atomic */
    struct md_super sb;         /* home: its own fields are this member's */
    struct raid_bad *bad;       /* its list of bad blocks, constant; NULL: keeps none */

    uint32_t read_errors_max; /* atomic */
    uint32_t recent;          /* home; corrected ones that count against it */
    uint64_t corrected_at;    /* home; clock_ns() in seconds since when */

    int report; /* atomic; an error that home has to act on; 0 = none */
    struct rpost report_post;
    bool closing; /* main */
};

/* Per reactor; each is its reactor's alone, but for the counters, which home reads. */
struct raid_chan {
    _Alignas(64) struct raid_array *array;
    bool may_write; /* the array is marked active on disk, and this reactor may rely on it */
    bool asked;
    int refused;                       /* answer of the last ask, an errno class */
    struct bio *parked, **parked_tail; /* writes that wait for the mark; by drv.p[5] */
    struct rpost post;                 /* ask there, answer back */
    struct raid_io *free_io;
    struct bio *starved, **starved_tail;  /* wait for a struct raid_io; by drv.p[5] */
    uint64_t writes;                      /* atomic; client writes in flight */
    uint64_t last_write;                  /* atomic; reactor_now() */
    uint64_t ops;                         /* atomic; client I/O begun */
    struct bio *bits_asked;               /* wait for bits of the bitmap; home reads the list */
    struct bio *bits_parked, **bits_tail; /* the next ones */
    int bits_refused;
    struct rpost bits_post;
    unsigned next_read;
    uint64_t read_end[RAID_MEMBERS_MAX]; /* by slot: where its last read ended */
};

struct raid_leg {
    struct raid_io *io;
    struct raid_member *m;
    uint64_t offset, length;  /* of the member's data */
    const struct iovec *data; /* parity levels: what was to be written; else the bio has it */
    int error;
};

/* One write or flush that goes to several members. From its reactor's free list. */
struct raid_io {
    struct list link; /* home: a->faults; else next free by `next` */
    struct raid_io *next;
    struct raid_array *array;
    struct bio *bio;
    void (*ended)(struct raid_io *io, int error); /* NULL: raid_io_finish */
    struct range_req range;
    bool ranged;
    struct reactor *origin;
    struct rpost post;
    unsigned pending, legs;
    int error;
    struct raid_leg leg[]; /* raid_legs() of them */
};

struct raid_array {
    struct bdev bdev;
    struct bdev_ops ops; /* raid_ops with the level's name as type */
    struct list link;    /* main: the list of arrays */
    struct reactor *home;
    const struct raid_level *level;

    /* constant once it runs */
    unsigned slots;
    uint64_t chunk;        /* bytes, 0 for raid1 */
    uint64_t sync_bytes;   /* what a resync goes through: member_bytes, on raid10 the array's */
    uint64_t member_bytes; /* of each member's data, for redundant levels */
    bool read_only, no_log;
    char reason[96];          /* why it is read-only */
    bool logged;              /* parity levels: a log closes the write hole */
    struct range_map *ranges; /* redundant levels */
    void *level_data;
    struct raid_bitmap *bitmap; /* NULL: none */

    /* atomic; home writes, all read */
    struct raid_member *slot[RAID_MEMBERS_MAX]; /* who serves a slot; NULL = nobody */
    struct raid_member *replacement; /* is filled to take the slot of one that serves; NULL: none */
    unsigned unrecorded; /* faulty members that the survivors' superblocks do not name yet */
    uint64_t
        resync_pos;    /* bytes; redundant members may differ from here on; UINT64_MAX = nowhere */
    bool failed;       /* cannot store any more */
    bool lends;        /* its users may look at memory of members', until they have closed it */
    uint64_t sync_job; /* id, 0 = none */
    uint64_t sync_rate, sync_limit, client_p99; /* as in raid_info */
    uint32_t era;      /* how often somebody has taken a slot of the running array */
    unsigned scrub;    /* enum raid_sync: a check or a repair that runs */
    uint64_t last_job; /* home: id of the last one that was started */
    uint64_t scrub_pos;
    uint64_t scrub_unread;            /* windows, before a restart */
    uint64_t mismatch;                /* bytes, of the last or running scrub */
    uint64_t wrong[RAID_MEMBERS_MAX]; /* places where a slot was the one that differed */

    /* home */
    struct md_super
        sb; /* what members have in common, and the next superblock's events and roles */
    struct list members, gone;
    struct tlock meta_lock; /* superblock writes, and the steps between which nothing may come */
    bool active;            /* marked active on disk: resync_offset 0 */
    uint64_t checkpoint;    /* as much of resync_pos is durable; atomic */
    unsigned bump; /* lost a member: the next superblock goes so many events further, see meta.c */
    bool bad_news; /* a list of bad blocks has changed that is not durable yet */
    unsigned want_active; /* reactors that asked */
    bool active_runs, fault_runs, idle_runs, repair_runs, read_runs, sync_runs, stopping,
        idle_armed;
    struct list faults;  /* of raid_io */
    struct list reads;   /* that no member can serve alone; see copies.c */
    struct list repairs; /* of raid_repair */
    unsigned repair_count;
    unsigned tasks; /* that run now */
    struct rtimer idle;
    bool log_runs;

    struct plog_device *log_device; /* of the log; NULL: it lies on the members, if there is one */

    /* main */
    unsigned main_tasks;
    struct raid_member_policy *own; /* `owns` of them */
    unsigned owns;
    bool started, freeing;
    bool replayed;  /* the log has made it consistent at assembly */
    bool wipe;      /* destroy erases the superblocks */
    bool unclean_r; /* destroy could not mark it clean: see raid_stop */

    /* taken for moments by anybody */
    pthread_mutex_t info_lock;
    struct raid_info info;
    struct raid_policy policy;
    struct raid_member *info_member[RAID_MEMBERS_MAX]; /* of info.member, or NULL */

    struct raid_chan *chan; /* REACTOR_MAX of them */
};

#define raid_load(p) __atomic_load_n(p, __ATOMIC_SEQ_CST)
#define raid_store(p, v) __atomic_store_n(p, v, __ATOMIC_SEQ_CST)
#define raid_count(p) __atomic_fetch_add(p, 1, __ATOMIC_RELAXED)

static inline bool raid_in_sync(const struct raid_member *m)
{
    return raid_load(&m->state) == RAID_MEMBER_IN_SYNC;
}

static inline bool raid_takes_writes(const struct raid_member *m)
{
    unsigned state = raid_load(&m->state);
    return state == RAID_MEMBER_IN_SYNC || state == RAID_MEMBER_REBUILDING;
}

/* Any reactor: may what is redundant differ in [offset, offset + length) of what a resync goes
 * through? Then a sector that can be read is taken from its member, of copies from the first that
 * has it, by clients and by the resync, and is never what others say: what has been read once
 * stays. */
static inline bool raid_unsynced(const struct raid_array *a, uint64_t offset, uint64_t length)
{
    return offset + length > raid_load(&a->resync_pos);
}

/* Who gets what is written to a slot, too. To be asked before the slot: when the one that is to be
 * replaced fails, the other is in both places for a moment. */
static inline struct raid_member *raid_second(const struct raid_array *a)
{
    struct raid_member *m = raid_load(&a->replacement);
    return m && raid_takes_writes(m) ? m : NULL;
}

/* Members that a write or a flush may go to. */
static inline unsigned raid_legs(const struct raid_array *a)
{
    return a->slots + 1;
}

/* A place that cannot be read; any other error is the member's as a whole. */
static inline bool raid_medium_error(int error)
{
    return error == -EIO || error == -ENODATA || error == -EILSEQ;
}

/* ---- array.c: life. Main. */
struct raid_array *raid_array_new(const char *name, const struct raid_level *level,
                                  const struct md_super *sb);
/* Opens a device for the array. NULL with *e filled. */
struct raid_member *raid_member_open(struct raid_array *a, const char *device,
                                     enum bdev_claim claim, struct err *e);
/* Home or not started: into the list, and into m->slot when it serves one. */
void raid_member_add(struct raid_array *a, struct raid_member *m);
/* Members are in the list and in slots: level set-up and registration. */
int raid_array_start(struct raid_array *a, struct err *e);
/* One that was not registered, or whose bdev is being destroyed: closes members, frees. Task. */
void raid_array_free(struct raid_array **a);
struct raid_array *raid_find(const char *name);
void raid_member_close(struct raid_member *m); /* task; no reactor uses it any more */
void raid_member_free(struct raid_member **m); /* closed, and in no list */
void raid_grace(void);                         /* task: all reactors have gone through a turn */
void raid_task(struct raid_array *a, bool *runs, const char *name, reactor_fn fn); /* home */
void raid_task_end(struct raid_array *a, bool *runs);
void raid_list_for_each(void (*fn)(struct raid_array *a, void *arg), void *arg);

/* ---- io.c: the way of client I/O. Any reactor. */
extern const struct bdev_ops raid_ops;
void raid_write_end(struct raid_array *a, struct bio *bio, int error);
/* The legs to all members that take writes; -1: no memory, the bio waits and level->write or flush
 * is called again. */
struct raid_io *raid_io_get(struct raid_array *a, struct bio *bio);
void raid_io_submit(struct raid_io *io); /* to all members, at the bio's place */
void raid_io_send(struct raid_io *io);   /* to the legs that it has */
void raid_io_finish(struct raid_io *io, int error);
/* A write of levels of copies: had(io) fills and sends the legs once it has its range to itself. */
void raid_write_copies(struct raid_array *a, struct bio *bio, void (*had)(void *io));
void raid_flush_all(struct raid_array *a, struct bio *bio); /* redundant levels' flush */
void raid_io_renew(struct raid_array *a); /* task, quiesced: the count of slots has changed */
void raid_grant(struct raid_array *a, unsigned reactors, int refused);      /* home */
void raid_bits_grant(struct raid_array *a, unsigned reactors, int refused); /* home */
bool raid_revoke(struct raid_array *a); /* home, task: true when no reactor writes any more */

/* raid10_map.c: what resync_offset and the bitmap count, in sectors. */
uint64_t raid_sync_sectors(const struct md_super *sb);

/* ---- meta.c: superblocks and the dirty mark. Home, in a task, meta_lock held, except as noted. */
/* Events go up, all members that are not faulty get their superblocks, durable. Members that fail
 * are kicked and it begins anew. -1: nobody could store it; the array has failed. */
int raid_meta_write(struct raid_array *a);
/* The superblock of one member as it would be written now. */
void raid_meta_build(struct raid_array *a, const struct raid_member *m, struct md_super *sb_r);
/* The members' caches; what resync and rebuild had done by then may be recorded from here on. Kicks
 * who fails; -1: nobody left. */
int raid_meta_flush(struct raid_array *a);
/* Takes the lock itself: flush, then superblocks with the places where resync and rebuild go on
 * after a restart. */
void raid_checkpoint(struct raid_array *a);
void raid_want_active(struct raid_array *a, unsigned reactor); /* home, no lock */
void raid_arm_idle(struct raid_array *a);                      /* home */
/* Home, in a task, no lock: marks clean when nobody writes. `final`: whether or not a resync is
 * under way. False: still active. */
bool raid_make_clean(struct raid_array *a, bool final);
/* Home, in a task, no lock: requests are held, those under way are waited for, and the array is
 * marked clean: nothing that its superblocks, its bitmap or its log are changed under now could be
 * left half done by a crash. False: it has failed. Either way bdev_resume ends it. */
bool raid_rest(struct raid_array *a);

/* ---- fault.c: failures. */
/* Home, meta_lock held: marks faulty. False: it is the last one that is in sync, and stays (unless
 * `forced`). The superblocks are written by whoever calls. */
bool raid_kick(struct raid_array *a, struct raid_member *m, int error, bool forced);
/* Home, meta_lock held: faulty from here on; the superblocks are written by whoever calls. */
void raid_cast_out(struct raid_array *a, struct raid_member *m);
/* Any reactor: a member failed in a way that must end in a kick. */
void raid_report(struct raid_member *m, int error);
/* Any reactor: members `slots` could not read this range, another could. */
void raid_want_repair(struct raid_array *a, uint64_t slots, uint64_t offset, uint64_t length);
void raid_io_faulty(struct raid_io *io); /* to home: legs failed, or were left out unrecorded */
unsigned raid_in_sync_count(const struct raid_array *a);
/* Can it serve all data, now or without this member (NULL: now)? */
bool raid_alive(const struct raid_array *a, const struct raid_member *without);
/* Do members that are in sync hold what others hold too, or what is computed from it? */
bool raid_may_differ(const struct raid_array *a);

/* ---- sync.c: resync and rebuild. Home. */
/* ---- pace.c */
struct raid_pace {
    uint64_t limit;                /* bytes a second; 0: none */
    uint64_t began, looked, rated; /* clock_ns() */
    uint64_t bytes, rated_bytes;   /* since then */
    unsigned idle;                 /* looks without a client */
    uint64_t bucket[HIST_BUCKETS]; /* clients' latency as of the last look */
};
void raid_pace_begin(struct raid_array *a, struct raid_pace *p);
/* In a task, after a step of so many bytes of background work: waits as long as clients need it. */
void raid_pace_give_way(struct raid_array *a, struct raid_pace *p, uint64_t bytes);
void raid_pace_end(struct raid_array *a);
/* The controller, without a clock. A look: the 99th percentile in microseconds of what clients' ops
 * `now` have beyond the last look, 0 when nobody was there; who `waiting` has nothing ended since
 * took as long as the look. */
uint64_t raid_pace_p99(struct raid_pace *p, const uint64_t now[HIST_BUCKETS], bool waiting,
                       uint64_t took_ns);
/* The next limit, after such a look, when the sync went at `rate` bytes a second. */
void raid_pace_adapt(struct raid_pace *p, const struct raid_policy *policy, uint64_t p99,
                     uint64_t rate);
/* How long a step of so many bytes has to take. */
uint64_t raid_pace_due_ns(const struct raid_pace *p, uint64_t bytes);

/* ---- policy.c */
void raid_policy_get(struct raid_array *a, struct raid_policy *policy_r); /* any thread */
void raid_policy_apply(struct raid_array *a, struct raid_member *m);
/* Home, in a task: a read error of this member was corrected. Too many of them, and it goes. */
void raid_corrected(struct raid_array *a, struct raid_member *m);

/* ---- scrub.c */
/* Home: a check has found that [offset, offset + length) of the members' data does not fit; `wrong`
 * when it is known who differs. */
void raid_check_tell(struct raid_array *a, struct raid_check *c, uint64_t offset, uint64_t length,
                     const struct raid_member *wrong);

/* ---- sync.c, what is due */
void raid_sync_next(struct raid_array *a); /* starts what is to be done, if anything is */
/* Home, in a task: the same, and its job has its number when this returns. */
void raid_sync_start(struct raid_array *a);
/* Meta_lock held: the spare is to be filled, for a slot that nobody has or that it will take over
 * later (`replaces`). Durable when this returns. False: it failed. */
bool raid_take_slot(struct raid_array *a, struct raid_member *spare, int slot, bool replaces);

/* ---- replace.c. Home, meta_lock held: `m` is out, and the superblocks say so. */
void raid_vacate(struct raid_array *a, struct raid_member *m);
/* Home, in a task: the replacement is complete and takes its slot. 0; -1: it did not come to that.
 */
int raid_replace_end(struct raid_array *a, struct raid_member *m, struct err *e);

/* ---- info.c */
void raid_publish(struct raid_array *a);                    /* home, or before it runs */
void raid_object(const struct raid_array *a, char out[80]); /* "array a0" */
void raid_below(struct bdev *bdev, void (*fn)(const char *name, void *arg), void *arg); /* main */
/* Main: neither a member nor the log may stand on the array that is to stand on it. */
int raid_check_stack(const struct raid_array *a, const char *device, const char *field,
                     struct err *e);
bool raid_failed(const struct bdev *bdev, char *why, size_t size); /* main */
void raid_attrs(struct bdev *bdev, void (*fn)(const char *key, const char *value, void *arg),
                void *arg);

void raid_info_fill(struct raid_array *a, struct raid_info *info_r); /* any thread */

/* ---- scan.c */
struct raid_candidate {
    char device[BDEV_NAME_MAX + 1];
    uint64_t size;
    bool clash; /* the device has a superblock of another format too, and either may be left over */
    enum md_format other;
    struct md_super sb;
};
/* Superblocks on devices that nobody uses; malloc'ed, also the list. A device may be there twice.
 */
unsigned raid_candidates(struct raid_candidate **list_r);
/* Devices that nobody uses; malloc'ed. */
unsigned raid_free_devices(char (**name_r)[BDEV_NAME_MAX + 1]);

/* Which of the candidates form the array `uuid`, and whether it can start. */
struct raid_choice {
    const struct raid_candidate *slot[RAID_MEMBERS_MAX];
    const struct raid_candidate *spare[RAID_MEMBERS_MAX];
    const struct raid_candidate *freshest;
    const struct raid_candidate *replacement;             /* of one that is in its slot */
    const struct raid_candidate *stale[RAID_MEMBERS_MAX]; /* were members; may come back */
    unsigned stales;
    unsigned spares, in_sync, rebuilding, found;
    bool ambiguous, startable, complete, dirty;
    bool clash; /* of one of them: `clash_why` */
    char why[300], clash_why[300];
};
void raid_choose(const struct raid_candidate *list, unsigned n, const struct uuid *uuid,
                 struct raid_choice *choice_r);
void raid_adopted_name(const char *set_name, const struct uuid *uuid, char out[RAID_NAME_MAX + 1]);

#endif
