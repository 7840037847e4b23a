/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_TARGETS_ISCSI_SESSION_H
#define ORION_TARGETS_ISCSI_SESSION_H

#include "targets/iscsi/conn.h"
#include "targets/iscsi/login.h"
#include "targets/scsi/scsi.h"

/*
 * A session in full feature phase: one connection (MaxConnections=1), ErrorRecoveryLevel 0, on one
 * reactor. A discovery session has no target and lives on main.
 *
 * Main makes it and starts it; from then on only its reactor touches it, but for the members marked
 * "main's" and the counters, which anyone may read. It ends by itself (logout, lost connection) or
 * by session_stop; `ended` then runs on main, once, when nothing of it is in flight any more.
 */

/* What login hands over: plain data, all that a session is but for what is in flight. */
struct session_seed {
    char initiator[ISCSI_NAME_MAX + 1];
    char target[ISCSI_NAME_MAX + 1]; /* "" in a discovery session */
    uint8_t isid[6];
    uint16_t tsih, cid, tpgt;
    bool discovery;
    uint32_t exp_cmdsn, statsn;
    struct iscsi_params params;
};

struct session_stats {
    uint64_t inflight, reads, writes, read_bytes, written_bytes; /* one writer, atomic */
};

enum { COMMAND_BUCKETS = 256 };

struct iscsi_session {
    struct session_seed seed;
    uint64_t id, since_ms;
    struct reactor *home;
    struct scsi_target *scsi; /* NULL: discovery */
    struct scsi_map *map;     /* until the nexus has it */
    void (*ended)(struct iscsi_session *s);
    void *arg;
    char peer[NET_ADDR_TEXT], portal[NET_ADDR_TEXT], self[NET_ADDR_TEXT];
    bool local;
    struct session_stats stats;

    /* -- main's */
    struct list link;
    bool started, over, stop_posted, asked, cut;
    struct rpost stop_post;

    /* -- the reactor's */
    struct iscsi_conn *conn;
    struct scsi_nexus *nexus;
    bool closing;         /* the connection is closed, no response goes out any more */
    bool in_commands;     /* walking its commands: ending waits */
    unsigned live;        /* commands that are not freed */
    unsigned slots;       /* of them: in the command window */
    unsigned immediates;  /* of them: immediate ones */
    unsigned tmfs;        /* task management functions under way */
    uint64_t bytes;       /* data of admitted commands */
    uint32_t next_tag;    /* target transfer tags */
    struct list commands; /* in order of arrival */
    struct list waiting;  /* for memory */
    struct list starved;  /* link of the reactor's list of sessions that wait */
    struct command *bucket[COMMAND_BUCKETS]; /* by initiator task tag */
    struct command *rx;                      /* whose PDU is being received */
    bool rx_drop;                            /* the PDU being received is to be ignored */
    bool logging_out;
    struct iscsi_pdu logout;
    struct text text_in, text_out; /* a text exchange over several PDUs */
    size_t text_sent;
    uint32_t text_tag;  /* of the exchange under way, or ISCSI_NO_TAG */
    uint64_t pinged_at; /* ns; 0: no answer is due */
    uint64_t begun_at;  /* ns */
    struct rtimer timer;
    struct rdefer end;
    struct rpost post;
};

/* Main: posts it to its home, with its connection (detached, held). */
void session_start(struct iscsi_session *s);
/* Main: drains and closes; `ended` follows. Harmless when it is ending already. */
enum session_stop {
    SESSION_DROP, /* it is told that its connection goes, and it goes */
    SESSION_ASK,  /* it is asked to log out, and has a second for that */
    SESSION_CUT,  /* it goes untold: there is no room for it */
};
void session_stop(struct iscsi_session *s, enum session_stop how);

/* ---- the session's parts to one another, on its reactor */

/* Fills StatSN (and moves it on), ExpCmdSN, MaxCmdSN. */
void session_stamp(struct iscsi_session *s, struct iscsi_pdu *pdu);
/* The same without taking a StatSN. */
void session_stamp_next(struct iscsi_session *s, struct iscsi_pdu *pdu);
uint32_t session_max_cmdsn(const struct iscsi_session *s);
/* False: the PDU is outside the command window and to be ignored (RFC 7143 4.2.2.1). Takes the
 * CmdSN of one that is not. */
bool session_take_sn(struct iscsi_session *s, const struct iscsi_pdu *pdu);
void session_reject(struct iscsi_session *s, const struct iscsi_pdu *pdu, enum iscsi_reject why);
void session_fail(struct iscsi_session *s, const char *why); /* closes the connection */
void session_check_end(struct iscsi_session *s);

/* command.c */
void command_begin(struct iscsi_session *s, const struct iscsi_pdu *pdu, const uint8_t *ahs);
void command_end(struct iscsi_session *s, const struct iscsi_pdu *pdu);
void data_out_begin(struct iscsi_session *s, const struct iscsi_pdu *pdu);
void data_out_end(struct iscsi_session *s, const struct iscsi_pdu *pdu);
/* Gives up every command that does not run yet. */
void commands_drop(struct iscsi_session *s);
/* The command with the tag, if it can still be aborted. */
struct scsi_cmd *command_to_abort(struct iscsi_session *s, uint32_t itt);
void command_pools_free(void);

/* tmf.c */
void tmf_request(struct iscsi_session *s, const struct iscsi_pdu *pdu);

/* text_full.c */
void text_request(struct iscsi_session *s, const struct iscsi_pdu *pdu, const uint8_t *data);

/* portal.c, any thread: answers SendTargets with what the initiator may log in to; `only` that
 * target when it is not NULL. */
bool portals_send_targets(const struct iscsi_session *s, const char *only, struct text *reply);

#endif
