/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_TARGETS_ISCSI_COMMAND_H
#define ORION_TARGETS_ISCSI_COMMAND_H

#include "reactor/iobuf.h"
#include "targets/iscsi/session.h"

/*
 * A SCSI command on its way through the session: data-out is gathered, memory is waited for, the
 * device server runs it, data-in and status go out. From a pool of the reactor.
 */
enum { R2T_MAX = 8 }; /* outstanding a command: our MaxOutstandingR2T */

enum command_state {
    COMMAND_GATHERS, /* data-out is to come, or memory */
    COMMAND_RUNS,    /* with the device server */
    COMMAND_REPLIES, /* status stands, response is queued */
};

struct r2t {
    uint32_t tag;      /* target transfer tag */
    uint32_t off, len; /* bytes of the command's data */
};

struct command {
    struct tx_item tx;
    struct iscsi_session *s;
    struct member *m;       /* the connection it came by */
    struct list link;       /* session's commands */
    struct list wait;       /* session's waiting ones, for memory */
    struct command *chain;  /* of its bucket */
    struct command *pooled; /* while free */
    enum command_state state;
    uint32_t itt;
    uint32_t expected; /* bytes, the initiator's Expected Data Transfer Length */
    bool read, write;  /* R and W bits */
    bool immediate;
    bool in_window; /* holds a slot of the command window */
    bool receiving; /* a PDU of it is being received */
    bool admitted;  /* its memory is counted */
    bool tx_queued;
    bool reply_next; /* its status stands and waits for its R2T to be out */
    bool ended;      /* scsi_cmd_end was called, or is not to be yet */
    bool held;       /* it came before its turn: the device server does not know of it */
    bool given_up;   /* no longer known by its tag; freed when tx and the device server let it go */
    uint64_t charge;

    /* data-out, all strictly in order (DataPDUInOrder, DataSequenceInOrder) */
    uint32_t want;               /* bytes the command takes: min(expected, its length) */
    uint32_t off;                /* bytes that have come, wanted or not */
    unsigned fault;              /* of a held one: what its data ends it with, at its turn */
    bool unsolicited;            /* more unsolicited data is announced */
    uint32_t data_sn;            /* of the next Data-Out */
    uint8_t *base;               /* where data-out goes; NULL: nowhere yet */
    struct iobuf *early;         /* stands in for the command's buffer until there is memory */
    uint32_t r2t_off;            /* bytes solicited, or sent without being asked */
    uint32_t r2t_next, r2t_head; /* R2TSN of the next one, of the oldest one outstanding */
    struct r2t r2t[R2T_MAX];     /* by R2TSN modulo R2T_MAX */

    /* reply */
    uint32_t statsn;
    uint32_t in_len;   /* bytes of data-in */
    uint32_t residual; /* with `rsp_flags` */
    uint8_t rsp_flags;
    uint8_t sense[2 + SCSI_SENSE_MAX]; /* as the response's data segment */
    struct iovec sense_iov;

    struct scsi_cmd cmd; /* last: only it is zeroed in part */
};

/* pool.c */
struct command *command_get(struct member *m);
/* Takes it out of everything, ends the scsi command, gives it back; what waited for memory may go.
 */
void command_free(struct command *c);
void command_discard(struct command *c); /* one that was never enlisted */
struct command *command_lookup(struct iscsi_session *s, uint32_t itt);
void command_enlist(struct command *c);
void command_forget(struct command *c); /* its tag is free for another one */
/* Counts the command's memory: false, and the command waits, when there is too much in use, or data
 * of it has been set aside (then until commands_feed). */
bool command_admit(struct command *c);
void commands_feed(struct iscsi_session *s); /* looks again at those that wait */
void command_admitted(struct command *c); /* command.c: called when a waiting one gets its turn */

/* reply.c */
void command_reply(struct command *c);
void command_queue_r2t(struct command *c);
extern const struct tx_ops r2t_tx;

#endif
