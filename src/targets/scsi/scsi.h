/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_TARGETS_SCSI_H
#define ORION_TARGETS_SCSI_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/err.h"
#include "base/list.h"
#include "base/uuid.h"
#include "block/bio.h"
#include "reactor/reactor.h"
#include "targets/stages.h"

/*
 * The SCSI device server: logical units on block devices, as a transport (iSCSI) uses them.
 * Structures follow SAM-5; commands SPC-4 and SBC-3. A SCSI target device has LUNs; an I_T nexus is
 * one initiator port logged in to it (one session), bound to one reactor.
 *
 * Ownership: targets and LUNs are made and changed on main. A nexus, its commands and its pending
 * unit attentions are touched only on the nexus's reactor. LUN tables are published to reactors as
 * immutable snapshots; a LUN is freed when no nexus command refers to it.
 */
struct scsi_target;
struct scsi_nexus;
struct scsi_cmd;

/* ---- main */
struct scsi_lun_args {
    unsigned lun;          /* 0..16383 */
    const char *device;    /* may be absent: NOT READY 02/04/01 with the saved size and identity */
    bool thin, thin_given; /* thin_given false: thin iff the device discards */
    bool read_only;
    struct uuid identity;
    uint64_t saved_size;
    uint32_t saved_block_size;
    const char *label; /* claim label, "iscsi iqn... lun 0" */
};
struct scsi_lun_info {
    unsigned lun;
    char device[66];
    bool thin, read_only, ready;
    bool failed; /* it is open, and of no use any more */
    char why[160];
    uint64_t size;
    uint32_t block_size;
    struct uuid identity;
    char naa[40], serial[40];
};

/* `name` is the SCSI target device's name (the IQN): it goes into VPD 83h. */
struct scsi_target *scsi_target_new(const char *name);
/* In a task: no nexus may be left. Removes the LUNs. Accepts NULL, leaves NULL. */
void scsi_target_free(struct scsi_target **t);
/* In a task. A device that is absent is no error; one that is there and cannot be opened is. A null
 * identity takes the device's uuid (the device must be there then). */
int scsi_lun_add(struct scsi_target *t, const struct scsi_lun_args *args, struct err *e);
/* In a task: new commands see no LUN (REPORTED LUNS DATA HAS CHANGED to the others), those that are
 * there are aborted and waited for, the device is closed. */
int scsi_lun_remove(struct scsi_target *t, unsigned lun, struct err *e);
/* Any reactor, of a command that was begun: its LUN is being removed, and waits for scsi_cmd_end.
 */
bool scsi_cmd_is_orphan(const struct scsi_cmd *cmd);
unsigned scsi_lun_count(const struct scsi_target *t);
/* In a task: removes those LUNs that have nothing under way at their devices. */
void scsi_target_drop_idle(struct scsi_target *t);
/* What LUN `lun` (SCSI_NO_LUN: all of them) has under way there. */
struct target_left;
void scsi_target_left(const struct scsi_target *t, unsigned lun, struct target_left *left);
bool scsi_lun_get(struct scsi_target *t, unsigned lun, struct scsi_lun_info *info_r);
void scsi_lun_for_each(struct scsi_target *t, void (*fn)(const struct scsi_lun_info *, void *),
                       void *arg);

/*
 * What must outlive the process: small records, each for the identity of a device. The functions
 * run in a task of any reactor and return when the medium has it (save), 0 or -errno; load gives
 * -ENOENT when there is none. `kind` is a short word ("reservations"). Without a store nothing can
 * be saved, and commands that ask for it are refused. `peek` (may be NULL) is load for whoever is
 * in no task: it may block, for as long as a small file takes. It is asked of each device that is
 * registered, so that reservations are in force before anybody can open it. Main, before the first
 * device and target.
 */
struct scsi_store {
    int (*load)(const char *kind, const struct uuid *id, uint8_t **data_r, size_t *len_r);
    int (*save)(const char *kind, const struct uuid *id, const void *data, size_t len);
    int (*forget)(const char *kind, const struct uuid *id); /* what is not there is fine */
    int (*peek)(const char *kind, const struct uuid *id, uint8_t **data_r, size_t *len_r);
};
void scsi_set_store(const struct scsi_store *store); /* not copied; NULL: none */
/* The relative target ports there are: bit n for port n, 1 to 15 (default: 1). The tag a nexus
 * comes with is one of them, or becomes one. Main. */
void scsi_set_ports(uint32_t ports);

/* Asymmetric access: group = relative target port; values of SPC-4. */
enum scsi_alua {
    SCSI_ALUA_OPTIMIZED,
    SCSI_ALUA_NON_OPTIMIZED,
    SCSI_ALUA_STANDBY,
    SCSI_ALUA_UNAVAILABLE,
};
struct scsi_group {
    unsigned group;
    enum scsi_alua state;
    bool by_host;    /* SET TARGET PORT GROUPS did it */
    bool by_default; /* nobody asks for a state any more: what was kept is forgotten */
};
/* Saves states that are about to take effect: in a task on main, the target locked; 0, or -1 with
 * the error: then nothing changes. NULL: they are kept as long as the process. Main, before the
 * first target. */
typedef int (*scsi_alua_keeper)(const char *target, const struct scsi_group *groups, unsigned count,
                                struct err *e);
void scsi_set_alua_keeper(scsi_alua_keeper keeper);
/* In a task, main; also for a port that is still to come. The hosts get a unit attention. */
int scsi_alua_set(struct scsi_target *t, const struct scsi_group *group, struct err *e);
/* What was saved before: nobody is told, nothing saved again. */
void scsi_alua_restore(struct scsi_target *t, const struct scsi_group *group);
enum scsi_alua scsi_alua_of(const struct scsi_target *t, unsigned group); /* any reactor */
const char *scsi_alua_name(enum scsi_alua state);
bool scsi_alua_parse(const char *name, enum scsi_alua *state_r);

/*
 * Which LUNs an initiator sees, and under which numbers: lun[i] is the target's LUN behind number
 * i, or SCSI_NO_LUN. Plain data.
 */
enum { SCSI_NO_LUN = 0xffff };
struct scsi_map {
    unsigned size; /* at most 16384 */
    uint16_t lun[];
};
struct scsi_map *scsi_map_copy(const struct scsi_map *map); /* NULL of NULL; free() */
/* In a task, main: from now on, for every nexus of the initiator (the port's name up to the comma).
 * map NULL: all LUNs under their own numbers. Copied. They are told that their LUNs have changed;
 * commands under way end as they are. */
void scsi_target_map(struct scsi_target *t, const char *initiator, const struct scsi_map *map);

/* ---- the nexus's reactor */

/* `initiator` is the initiator port's name (iSCSI: "iqn...,i,0xISID"); `tpgt` the target portal
 * group's tag = relative target port. */
struct scsi_nexus *scsi_nexus_new(struct scsi_target *t, const char *initiator, uint16_t tpgt);
void scsi_nexus_free(struct scsi_nexus **n); /* no command may be left */
/* Before its first command. Copied; a nexus with a map may not reset the target. */
void scsi_nexus_map(struct scsi_nexus *n, const struct scsi_map *map);

enum scsi_dir { SCSI_DIR_NONE, SCSI_DIR_IN, SCSI_DIR_OUT };
enum scsi_status {
    SCSI_GOOD = 0x00,
    SCSI_CHECK_CONDITION = 0x02,
    SCSI_CONDITION_MET = 0x04,
    SCSI_BUSY = 0x08,
    SCSI_RESERVATION_CONFLICT = 0x18,
    SCSI_TASK_SET_FULL = 0x28,
    SCSI_TASK_ABORTED = 0x40,
};
enum scsi_attr { SCSI_SIMPLE, SCSI_ORDERED, SCSI_HEAD_OF_QUEUE, SCSI_ACA };

enum { SCSI_SENSE_MAX = 252, SCSI_CDB_MAX = 260 };

/*
 * One command. The transport embeds it in its own task structure, zeroes it, fills the first group
 * and goes:
 *
 * - scsi_cmd_begin(cmd) decodes the CDB. Afterwards dir and length say what the *command* wants to
 *   move (which may differ from what the initiator expected: residuals are the transport's). If
 *   `finished` is set, status and sense stand already (bad LUN, bad CDB, unit attention, conflict):
 *   the transport still swallows what data-out the initiator sends, then responds.
 *
 * - For SCSI_DIR_OUT the transport asks scsi_cmd_buffer for room and puts the first
 *   min(length, expected) bytes of data-out there.
 *
 * - scsi_cmd_execute(cmd, received) runs it (received: bytes of data-out, 0 for other directions).
 *   Where fewer than `length` bytes came, a WRITE writes just these; anything else ends in CHECK
 *   CONDITION and changes nothing; `length` stays as it was, for the residual.
 *
 * - `done` comes later on the same reactor, never from within execute. For SCSI_DIR_IN with GOOD,
 *   data[0..datacnt) holds `length` bytes (length may have shrunk: INQUIRY and friends move
 *   min(allocation length, available)). With `aborted` set (task management) no response goes out,
 *   unless status is TASK ABORTED: then another nexus did it, and this one is to hear (TAS is 1).
 *
 * - scsi_cmd_end(cmd), after the response is out, gives data and references back.
 *
 * A command given up before execute goes straight to scsi_cmd_end. A command that task management
 * aborts between begin and execute gets `done` too: it must not be executed afterwards. Every
 * command that was begun is ended exactly once.
 */
struct scsi_cmd {
    /* -- the transport fills */
    struct scsi_nexus *nexus;
    uint8_t lun[8]; /* SAM LUN, as on the wire */
    uint8_t cdb[SCSI_CDB_MAX];
    unsigned cdb_len;
    enum scsi_attr attr;
    uint64_t expected; /* bytes the initiator announced (expected data transfer length) */
    /* When it arrived, was admitted, had its data (any of them 0: no matter); `sent` before
     * scsi_cmd_end, 0 when no response went out. reactor_now(). */
    struct io_times times;
    uint64_t sent;
    void (*done)(struct scsi_cmd *cmd);
    void *arg;
    bool may_borrow; /* looks at data-in once: it may change until then (bio.h, BIO_BORROW) */

    /* -- the device server fills */
    enum scsi_dir dir;
    uint64_t length; /* bytes the command moves */
    uint64_t memory; /* about what it takes of memory to run, its data included: bytes */
    bool finished;
    uint8_t status; /* enum scsi_status */
    uint8_t sense[SCSI_SENSE_MAX];
    unsigned sense_len;
    struct iovec *data; /* data-in */
    unsigned datacnt;

    /* -- private to scsi/ */
    struct list link; /* the nexus's commands to this LUN, in order of arrival */
    const struct scsi_opcode *op;
    struct scsi_lun *unit;  /* NULL: no such LUN, or the well-known one */
    struct scsi_view *view; /* this reactor's copy of what the LUN is now */
    struct scsi_itl *itl;   /* nexus and LUN */
    struct bio bio;
    struct iobuf *buf, *scratch; /* the data; room to read into for VERIFY and the like */
    struct iovec iov;
    struct rdefer defer;
    uint64_t lba, blocks;
    uint64_t came;   /* bytes of data-out that there are, at most `length` */
    uint64_t cursor; /* of commands in several steps: bytes done */
    uint64_t step;   /* bytes under way */
    uint8_t state;
    bool uses_device; /* counted in view->running */
    bool lent;        /* data-in is the device's memory: under way until scsi_cmd_end */
    bool fua;
    bool cached; /* it began while WCE was set: what it writes may stay in the device's cache */
    bool aborted;
    bool told;                          /* by another nexus: ends in TASK ABORTED */
    void (*next)(struct scsi_cmd *cmd); /* what follows the bio under way */
};

void scsi_cmd_begin(struct scsi_cmd *cmd);
/* Contiguous room for data-out, `length` bytes (4096-aligned); NULL: out of memory, answer BUSY. */
uint8_t *scsi_cmd_buffer(struct scsi_cmd *cmd);
void scsi_cmd_execute(struct scsi_cmd *cmd, uint64_t received);
void scsi_cmd_end(struct scsi_cmd *cmd);

/* Task management (SAM-5): `done` on this reactor when the function has taken effect, i.e. the
 * aborted commands' bios have drained; never from within scsi_tmf. Commands it aborts get `done`
 * with cmd->aborted set before: no response is sent for them, but TASK ABORTED for those of other
 * nexuses (TAS is 1). The nexus stays until `done` has run. */
enum scsi_tmf {
    SCSI_ABORT_TASK,
    SCSI_ABORT_TASK_SET,
    SCSI_CLEAR_TASK_SET,
    SCSI_CLEAR_ACA,
    SCSI_LOGICAL_UNIT_RESET,
    SCSI_TARGET_RESET,
};
enum scsi_tmf_response {
    SCSI_TMF_COMPLETE,
    SCSI_TMF_NO_TASK,
    SCSI_TMF_NO_LUN,
    SCSI_TMF_UNSUPPORTED,
    SCSI_TMF_DENIED,
};
void scsi_tmf(struct scsi_nexus *n, enum scsi_tmf fn, const uint8_t lun[8],
              struct scsi_cmd *task /* ABORT TASK; NULL otherwise */,
              void (*done)(enum scsi_tmf_response response, void *arg), void *arg);

/* One table, errno class -> sense, for everyone: see sense.h. */

#endif
