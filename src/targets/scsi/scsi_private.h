/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_TARGETS_SCSI_PRIVATE_H
#define ORION_TARGETS_SCSI_PRIVATE_H

#include "base/buf.h"
#include "base/list.h"
#include "block/bdev.h"
#include "reactor/iobuf.h"
#include "reactor/reactor.h"
#include "reactor/task.h"
#include "targets/scsi/opcode.h"
#include "targets/scsi/scsi.h"
#include "targets/scsi/sense.h"

/* Limits that VPD page B0h states and the commands enforce. */
enum {
    SCSI_MAX_TRANSFER = 8 << 20, /* bytes of data a command moves */
    SCSI_MAX_WRITE_SAME =
        65535, /* logical blocks one WRITE SAME changes: all of its 10-byte form */
    SCSI_MAX_UNMAP_BLOCKS = 1 << 20, /* logical blocks, over all descriptors of one UNMAP */
    SCSI_MAX_UNMAP_DESCRIPTORS = 256,
    SCSI_MAX_COMPARE_BLOCKS = 255, /* the field of COMPARE AND WRITE has 8 bits */
    SCSI_COPY_CSCDS = 8,           /* EXTENDED COPY: devices and segments in one list */
    SCSI_COPY_SEGMENTS = 64,
    SCSI_COPY_SEGMENT_MAX = 65535 * 512,     /* bytes: the field has 16 bits of blocks */
    SCSI_COPIES_KEPT = 8,                    /* whose results a nexus remembers */
    SCSI_THRESHOLD_SET = 1 << 20,            /* bytes: the unit of log page 0Ch */
    SCSI_LUN_MAX = 16383,                    /* flat space addressing, SAM-5 */
    SCSI_REPLY_MAX = 8 * (SCSI_LUN_MAX + 3), /* bytes of parameter data: REPORT LUNS has most */
    SCSI_STEP = 1 << 20, /* bytes that commands in steps take of the medium at once */
};

/*
 * What commands must know of a LUN. The master copy is main's (scsi_lun.facts); each reactor has
 * its own in its view, replaced by that reactor when main publishes.
 */
struct scsi_mode {
    bool swp, d_sense, wce;
    bool lbpere;    /* threshold notification (SBC-4, page 01h) */
    bool threshold; /* page 1Ch/02h: the descriptor is enabled */
    uint32_t threshold_sets;
};

struct scsi_facts {
    struct bdev_desc *desc; /* NULL: not ready */
    uint64_t blocks;
    uint32_t
        block_size;     /* power of two, 512..4096; never changes while the LUN lives, once known */
    uint8_t shift;      /* log2 of block_size */
    uint8_t phys_shift; /* log2 of physical / logical block */
    uint32_t opt_io;    /* bytes, 0 = unknown */
    uint64_t discard_gran;
    bool lbp;         /* provisioning is managed: LBPME, UNMAP */
    bool lbprz;       /* unmapped blocks read as zeroes */
    bool read_only;   /* the LUN or its device */
    bool write_cache; /* the device has a volatile cache */
    bool rotational;
    uint8_t sanitize; /* enum scsi_sanitize_state */
    /* mode parameters */
    bool swp, d_sense, wce, lbpere, threshold;
    uint32_t threshold_sets;
    struct scsi_mode saved; /* what a reset brings back */
    bool over_threshold;    /* who addresses the LUN for the first time is told */
};

/* A soft threshold of used resources, armed increasing (SBC-4 4.7.3.7). */
struct scsi_threshold {
    bool on, reached;
    uint32_t sets; /* of SCSI_THRESHOLD_SET bytes */
};
enum { SCSI_THRESHOLD_OFFSET = 16 }; /* of its descriptor in mode page 1Ch/02h */

enum scsi_sanitize_state {
    SANITIZE_NONE,
    SANITIZE_RUNS,
    SANITIZE_FAILED,      /* only another SANITIZE that succeeds makes the LUN ready again */
    SANITIZE_FAILED_FREE, /* AUSE: EXIT FAILURE MODE does, too */
};

enum scsi_error_kind { SCSI_ERROR_READ, SCSI_ERROR_WRITE, SCSI_ERROR_VERIFY, SCSI_ERROR_KINDS };

struct scsi_view {
    struct scsi_facts now;
    /* this reactor's commands: those that refer to the LUN (begin to end), and those that run on
     * its device. Whoever waits for zero sits in scsi_local.waiters. */
    unsigned users, running;
    uint64_t errors[SCSI_ERROR_KINDS]; /* for the log pages; any reactor reads, atomically */
} __attribute__((aligned(64)));

struct scsi_lun {
    /* -- constant once added */
    struct scsi_target *target;
    unsigned number;
    char device[BDEV_NAME_MAX + 1];
    struct uuid identity;
    char serial[33]; /* 32 hex digits of the identity */
    uint8_t naa[8];

    /* -- main */
    struct list link;
    struct scsi_lun_args args; /* strings are not kept */
    struct uuid expect;        /* the device's uuid must be this; null: any */
    char label[80];
    char why[160]; /* why it is not ready */
    uint64_t saved_size;
    struct scsi_facts facts;
    struct bdev_desc *desc;
    unsigned refs; /* tasks under way that know the LUN, and the target's list */
    bool removed;
    bool sanitizing;   /* a job runs */
    uint16_t progress; /* of it, in 65536ths; atomic */
    struct scsi_threshold threshold;
    struct rtimer look; /* at what is in use; armed only while a threshold is enabled */
    bool looking, stop_look;
    uint64_t looked_at; /* the device's count of changes when it was looked at last */

    struct stage_book stages;
    struct scsi_view *view; /* by reactor; each touches only its own */
};

struct scsi_table { /* immutable; index = LUN */
    unsigned size;
    struct scsi_lun *lun[];
};

/* A target on one reactor; touched by that reactor only. */
struct scsi_local {
    const struct scsi_table *table;
    struct list nexuses;
    struct list waiters; /* tasks that wait for commands to end: struct scsi_waiter */
} __attribute__((aligned(64)));

struct scsi_waiter {
    struct list link;
    struct task *task;
};

enum { SCSI_GROUP_MAX = 15 };

struct scsi_target {
    char name[224];
    uint8_t alua[SCSI_GROUP_MAX + 1], alua_status[SCSI_GROUP_MAX + 1]; /* by group; atomic */
    struct scsi_local *local;                                          /* by reactor */
    /* -- main */
    struct list link;
    struct list luns;
    unsigned lun_count;
    struct tlock lock; /* changes of the LUNs and their facts, one at a time */
    unsigned refs;
};

/* Unit attention conditions (SAM-5), one bit each; the lowest bit is reported first. */
enum scsi_ua {
    UA_POWER_ON = 1 << 0,
    UA_LUN_RESET = 1 << 1,
    UA_READY_CHANGE = 1 << 2,
    UA_CAPACITY_CHANGED = 1 << 3,
    UA_MODE_CHANGED = 1 << 4,
    UA_RESERVATIONS_PREEMPTED = 1 << 5,
    UA_RESERVATIONS_RELEASED = 1 << 6,
    UA_REGISTRATIONS_PREEMPTED = 1 << 7,
    UA_ALUA_CHANGED = 1 << 8,
    UA_LOG_CHANGED = 1 << 9,
    UA_LUNS_CHANGED = 1 << 10,
    UA_THIN_THRESHOLD = 1 << 11,
};

/* A nexus's relation to one LUN; made when the nexus first addresses it. */
struct scsi_itl {
    struct scsi_nexus *nexus;
    struct scsi_lun *unit;
    struct list cmds;  /* begun and not completed, in order of arrival: the task set */
    unsigned barriers; /* of these, ORDERED or HEAD OF QUEUE */
    unsigned lent;     /* completed, but what they read is not sent: ORDERED ones wait for it */
    uint32_t ua;       /* pending unit attentions */
    bool reserved;     /* has asked for a RESERVE(6) */
};

/* What became of an EXTENDED COPY; values of RECEIVE COPY RESULTS. */
enum { SCSI_COPY_RUNS, SCSI_COPY_DONE, SCSI_COPY_FAILED };
struct scsi_copy {
    bool used;
    uint8_t id, status;
    uint16_t segments;
    uint64_t bytes;
    uint8_t scsi_status; /* how the command ended, and its sense data */
    uint8_t sense_len, sense[SENSE_DESCRIPTOR_MAX];
};

struct scsi_nexus { /* its reactor's */
    struct list link;
    struct list all; /* this reactor's nexuses of all targets */
    struct scsi_target *target;
    struct scsi_local *local;
    char initiator[256];
    uint16_t tpgt;
    struct scsi_copy copies[SCSI_COPIES_KEPT];
    unsigned copy_next;
    uint64_t gate;         /* id for the reservation gate */
    struct scsi_itl **itl; /* by the target's LUN */
    unsigned itls;
    struct scsi_map *map; /* NULL: all LUNs as they are */
    bool remapped;        /* LUNs that it addresses for the first time tell so */
};

/* Bytes of room for a command that goes through `total` bytes of the medium in steps. */
static inline uint64_t scsi_step_room(uint64_t total)
{
    return total < SCSI_STEP ? total : SCSI_STEP;
}

/* ---- cmd.c: how a command ends */
/* From begin or a prepare function: the command is finished before it ran. Return false. */
bool scsi_refuse(struct scsi_cmd *cmd, enum sense_code code);
bool scsi_refuse_status(struct scsi_cmd *cmd, enum scsi_status status);
bool scsi_refuse_sense(struct scsi_cmd *cmd, const struct sense *s);
bool scsi_refuse_field(struct scsi_cmd *cmd, unsigned byte, unsigned bit);
/* Set status and sense. */
void scsi_set_sense(struct scsi_cmd *cmd, const struct sense *s);
void scsi_set_code(struct scsi_cmd *cmd, enum sense_code code);
void scsi_set_field(struct scsi_cmd *cmd, bool in_cdb, unsigned byte, unsigned bit);
void scsi_set_errno(struct scsi_cmd *cmd, int error, uint64_t bad_offset);
/* Ends a running command: now (only from a bio's done), or later this turn (from anywhere). */
void scsi_end(struct scsi_cmd *cmd);
void scsi_end_later(struct scsi_cmd *cmd);
/* The two together. */
void scsi_fail(struct scsi_cmd *cmd, enum sense_code code);
void scsi_fail_field(struct scsi_cmd *cmd, unsigned byte, unsigned bit);     /* in the CDB */
void scsi_fail_parameter(struct scsi_cmd *cmd, unsigned byte, unsigned bit); /* parameter list */
void scsi_good(struct scsi_cmd *cmd);
/* Zeroed room for data-in, or NULL: the command has ended (BUSY). Then send `length` bytes of it,
 * cut to the allocation length. */
uint8_t *scsi_reply_room(struct scsi_cmd *cmd, size_t size);
void scsi_reply(struct scsi_cmd *cmd, size_t length);
/* Runs the bio that was filled; error or abort end the command, else next(cmd) runs. */
void scsi_submit(struct scsi_cmd *cmd, void (*next)(struct scsi_cmd *cmd));
void scsi_bio(struct scsi_cmd *cmd, enum bio_op op, uint64_t offset, uint64_t length);
/* The device, or NULL: it is gone and the command has ended. */
struct bdev_desc *scsi_device(struct scsi_cmd *cmd);
void scsi_abort(struct scsi_cmd *cmd, bool by_another);
void scsi_wake_waiters(struct scsi_local *l);
void scsi_wait(struct scsi_local *l); /* in a task: until some command has ended */

/* A big-endian field of the CDB. */
static inline uint64_t cdb_be(const struct scsi_cmd *cmd, unsigned at, unsigned n)
{
    struct rd r = rd_make(cmd->cdb + at, SCSI_CDB_MAX - at);
    return rd_be(&r, n);
}

/* ---- reserve.c */
/* Somebody else's reservation forbids the command. */
bool scsi_reserved(const struct scsi_cmd *cmd, const struct scsi_opcode *op);
bool scsi_may_write(struct scsi_cmd *cmd); /* else refuses with RESERVATION CONFLICT */
/* The name of a nexus in the gate: the target port, a space, the initiator port. In lower case, as
 * iSCSI names are compared (RFC 7143 4.2.7.2): a name has one nexus, however it was written. */
enum { SCSI_NEXUS_NAME = 512 };
void scsi_nexus_name(const char *target, unsigned port, const char *initiator,
                     char out[SCSI_NEXUS_NAME]);
/* Takes it apart in place; false: none of ours. */
bool scsi_nexus_name_split(char name[SCSI_NEXUS_NAME], const char **target_r, unsigned *port_r,
                           const char **initiator_r);
/* In a task, any reactor: raises ua on the nexus with this gate id, wherever it is, for the LUNs on
 * that device. */
struct scsi_notice {
    uint64_t nexus;
    uint32_t ua;
};
void scsi_notify(struct bdev *bdev, const struct scsi_notice *list, unsigned count);
/* In a task, any reactor; the device stays: a RESERVE(6) ends. nexus 0: whoever holds it. */
void scsi_release6(struct bdev *bdev, uint64_t nexus);
/* On the nexus's reactor: its RESERVE(6) ends soon. */
void scsi_nexus_lost(struct scsi_nexus *n);

/* ---- xcopy.c */
void scsi_put_third_party_copy(struct wr *w);

/* ---- log.c */
/* In a task: the device's bytes in use, an estimate if it has very many extents, or if it was made
 * to *stop. */
int scsi_count_used(struct bdev_desc *desc, uint64_t size, const bool *stop, uint64_t *used_r);
uint64_t scsi_threshold_sets(uint64_t used); /* of bytes, rounded up */
void scsi_note_error(struct scsi_cmd *cmd, enum scsi_error_kind kind);

/* ---- sanitize.c */
bool scsi_sanitize_sense(const struct scsi_cmd *cmd, struct sense *s); /* false: ready */
bool scsi_sanitize_refuses(struct scsi_cmd *cmd, const struct scsi_opcode *op);
bool scsi_sanitize_saved(const struct uuid *device); /* main: it was cut off, or has failed */
/* For tests: is it a record, and how would it be written again? *again_r is malloc'ed. */
bool scsi_sanitize_record(const void *data, size_t len, uint8_t **again_r, size_t *len_r);
/* Main, in a task, the device is just open and nobody can use the LUN: what was cut off still
 * holds.
 */
void scsi_sanitize_restore(struct scsi_lun *lun);
void scsi_sanitize_resume(struct scsi_lun *lun); /* main: begins it anew, soon */

/* ---- threshold.c; main, target locked. Both may change facts: publish them then. */
/* `used` bytes have been counted; true: hosts are to be told. */
bool scsi_threshold_crossed(struct scsi_threshold *t, uint64_t used);
/* The mode, or the device, may have changed: is there a threshold (another)? */
void scsi_threshold_update(struct scsi_lun *lun);
void scsi_threshold_restart(struct scsi_lun *lun); /* as if nobody had been told of it */

/* ---- alua.c: true: the command is refused, the port's state forbids it */
bool scsi_alua_refuses(struct scsi_cmd *cmd, const struct scsi_opcode *op);

/* ---- prsave.c; in a task */
struct gate_state;
bool scsi_has_store(void);
const struct scsi_store *scsi_store(void);
int scsi_pr_save(const struct uuid *id, const struct gate_state *state); /* 0 or -errno */
int scsi_pr_forget(const struct uuid *id);
/* Brings the reservations back that were saved for the device, unless it has some. */
int scsi_pr_restore(struct bdev *bdev, const struct uuid *id, struct err *e);
/* The record (little-endian, CRC32C at the end), for its tests. 0 or -EILSEQ; gate_state_put()
 * gives back what comes. */
int scsi_pr_decode(const void *data, size_t len, struct gate_state *state_r);
size_t scsi_pr_encode(const struct gate_state *state, uint8_t **data_r);

/* ---- tmf.c */
/* In a task, any reactor: aborts all commands that these nexuses have on the device, but
 * PERSISTENT RESERVE OUT, and waits for their end. */
void scsi_abort_nexuses(struct bdev *bdev, const uint64_t *nexus, unsigned count);
/* This reactor's commands on the LUN: whoever sent them is told. */
void scsi_lun_abort(struct scsi_lun *lun);

/* ---- nexus.c */
struct list *scsi_nexuses_here(void); /* of all targets on this reactor, by `all` */
bool scsi_port_exists(unsigned port); /* relative target ports: 1 to SCSI_GROUP_MAX */
struct scsi_itl *scsi_itl_get(struct scsi_nexus *n, struct scsi_lun *lun);
/* The LUN at a SAM address, or NULL. */
struct scsi_lun *scsi_lun_find(const struct scsi_nexus *n, const uint8_t lun[8]);
/* The LUN behind a number as the nexus counts, or NULL; the numbers end before scsi_lun_limit. */
struct scsi_lun *scsi_lun_at(const struct scsi_nexus *n, unsigned number);
unsigned scsi_lun_limit(const struct scsi_nexus *n);
bool scsi_lun_is_well_known(const uint8_t lun[8]); /* REPORT LUNS, C101h */
void scsi_lun_address(unsigned number, struct wr *w);
/* Takes the next pending unit attention of the nexus; SENSE_NONE: none. */
enum sense_code scsi_ua_take(struct scsi_itl *itl);
/* Raises ua for a LUN (NULL: all) on each of this reactor's nexuses but `except`. */
void scsi_ua_raise_local(struct scsi_local *l, struct scsi_lun *lun, uint32_t ua,
                         const struct scsi_nexus *except);
void scsi_itl_forget(struct scsi_local *l, struct scsi_lun *lun);

/* ---- scsi_lun.c; main, in a task, target locked */
void scsi_lun_attach(struct scsi_lun *lun);
void scsi_lun_detach(struct scsi_lun *lun, const char *why);
void scsi_lun_refresh(struct scsi_lun *lun); /* the device's size or properties changed */
/* The facts go to every reactor's view, and in the same turn `ua` (0: none) is raised on each nexus
 * but `except`: no command sees the one without the other. */
void scsi_lun_publish(struct scsi_lun *lun, uint32_t ua, const struct scsi_nexus *except);
void scsi_lun_identify(struct scsi_lun *lun, const struct uuid *identity);
int scsi_lun_open(struct scsi_lun *lun, struct err *e);
void scsi_lun_changed(struct scsi_lun *lun, void (*fn)(struct scsi_lun *lun)); /* starts a task */
void scsi_lun_unref(struct scsi_lun *lun);
void scsi_target_unref(struct scsi_target *t);
/* In a task on main: sets the mode parameters for everyone, and saves them if asked to; -ENODEV
 * when the LUN is going, or why they could not be saved (nothing is changed then). Where WCE goes,
 * what the cache holds is written out, -EREMOTEIO when it cannot be (WCE is cleared all the same).
 */
int scsi_lun_set_mode(struct scsi_lun *lun, const struct scsi_mode *mode, bool save,
                      const struct scsi_nexus *by);
void scsi_lun_reset_mode(struct scsi_lun *lun);
void scsi_lun_load_mode(struct scsi_lun *lun); /* when its device is attached */
struct scsi_mode scsi_mode_of(const struct scsi_facts *f);
bool scsi_mode_equal(const struct scsi_mode *a, const struct scsi_mode *b);
/* The record of saved mode parameters; false: it is none. */
enum { SCSI_MODE_RECORD = 14, SCSI_MODE_RECORD_1 = 10 };
size_t scsi_mode_encode(const struct scsi_mode *m, uint8_t record[SCSI_MODE_RECORD]);
bool scsi_mode_decode(const void *data, size_t len, struct scsi_mode *m);

#endif
