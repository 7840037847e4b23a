/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_TARGETS_ISCSI_SESSION_H
#define ORION_TARGETS_ISCSI_SESSION_H

#include "targets/iscsi/conn.h"
#include "targets/iscsi/login.h"
#include "targets/scsi/scsi.h"

/*
 * A session in full feature phase, ErrorRecoveryLevel 0, on one reactor, with its connections. A
 * discovery session has no target and lives on main.
 *
 * The session has what orders commands and names the nexus: CmdSN, tags, tasks, memory. Each of its
 * connections (a member) has what goes with a stream of bytes: StatSN, digests, the text exchange,
 * a logout. A command belongs to the connection it came by: its data, R2Ts and status go there
 * (connection allegiance, RFC 7143 4.2.5.1), and it ends with it.
 *
 * Main makes it and starts it; from then on only its reactor touches it, but for what is marked
 * "main's" and the counters, which anyone may read. It ends by itself (logout, its last connection
 * lost) or by session_stop; `ended` then runs on main, once, when nothing of it is in flight any
 * more.
 */

/* What login hands over: plain data, all that a session is but for what is in flight. */
struct session_seed {
    char initiator[ISCSI_NAME_MAX + 1];
    char target[ISCSI_NAME_MAX + 1]; /* "" in a discovery session */
    uint8_t isid[6];
    uint16_t tsih, tpgt, cid; /* cid: of its first connection */
    bool discovery;
    uint32_t exp_cmdsn;
    struct iscsi_params params; /* what holds for one connection only, its member has */
};

struct session_stats {
    uint64_t inflight, reads, writes, read_bytes, written_bytes; /* one writer, atomic */
    uint64_t connections;
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
    char peer[NET_ADDR_TEXT], portal[NET_ADDR_TEXT]; /* of its first connection */
    bool local;
    struct session_stats stats;

    /* -- main's */
    struct list link;
    struct member *first; /* until it is started */
    bool started, over, stop_soon, stop_posted, asked, cut;
    bool joined;     /* other connections may have come, by other portals */
    unsigned posted; /* posts that are to come back: it stays until then */
    struct rpost stop_post;

    /* -- the reactor's */
    struct list members;
    struct scsi_nexus *nexus;
    bool closing;             /* all of its connections are, or are about to be */
    struct member *logout_by; /* logs it out as a whole */
    bool logouts;             /* some logout is under way */
    bool finished;
    struct list held;      /* what came before its turn */
    struct list parked;    /* task management functions that wait for what comes before them */
    struct list answering; /* and those that wait for replies to arrive on other connections */
    uint64_t gap_at;       /* ns: since when the first of held or parked waits */
    struct rdefer deliver;
    unsigned slots;                          /* commands in the command window */
    unsigned immediates;                     /* immediate ones */
    uint64_t bytes;                          /* data of admitted commands */
    uint32_t next_tag;                       /* target transfer tags */
    struct list commands;                    /* in order of arrival */
    struct list waiting;                     /* for memory */
    struct list starved;                     /* link of the reactor's list of sessions that wait */
    struct command *bucket[COMMAND_BUCKETS]; /* by initiator task tag */
    uint64_t begun_at;                       /* ns */
    struct rtimer timer;                     /* of an end that is under way */
    struct rpost post;
};

/* A connection of a session. */
struct member {
    struct list link;
    struct iscsi_session *s;
    struct iscsi_conn *conn;
    uint16_t cid;
    uint32_t statsn;
    uint32_t acked;    /* the initiator's ExpStatSN, kept where there may be other connections */
    uint32_t max_xmit; /* the initiator's MaxRecvDataSegmentLength */
    bool header_digest, data_digest;
    struct iscsi_pdu login; /* the last login response, of one that joins */
    struct text login_text;

    /* -- the reactor's */
    bool waits;         /* for the connection of the same CID to be gone */
    bool closing;       /* it is closed, no response goes out any more */
    bool in_commands;   /* walking the commands: ending waits */
    unsigned live;      /* commands that are not freed */
    unsigned tmfs;      /* task management functions under way */
    struct command *rx; /* whose PDU is being received */
    bool rx_drop;       /* the PDU being received is to be ignored */
    bool rx_later;      /* it has come before its turn */
    bool leaving;       /* somebody logs it out */
    bool parting;       /* we asked it to log out alone */
    bool logging_out;   /* it logs out itself or another one, */
    bool logged_out;    /* and has been told so; */
    struct iscsi_pdu logout;
    struct text text_in, text_out; /* a text exchange over several PDUs */
    size_t text_sent;
    uint32_t text_tag;  /* of the exchange under way, or ISCSI_NO_TAG */
    uint64_t pinged_at; /* ns; 0: no answer is due */
    struct rtimer timer;
    struct rdefer end;
};

/* Takes the connection, detached and held, or still to be. */
/* Main. They are counted, all together, from here to member_free. */
struct member *member_new(struct iscsi_session *s, struct iscsi_conn *conn);
void member_free(struct member **m); /* one that was never started */
unsigned member_count(void);         /* any thread */
unsigned member_limit(void);         /* the same */
/* Main: posts it to its home, with its first connection. */
void session_start(struct iscsi_session *s);
/*
 * Main: a further connection, or one in the place of that with its CID (connection reinstatement,
 * 6.3.4: what runs of that ends first). `m` is detached, held. `done` runs on main: with status
 * LOGIN_SUCCESS the session has it, and has sent the response; else `m` is still the caller's.
 */
struct session_join {
    struct iscsi_session *s;
    struct member *m;
    enum login_status status;
    void (*done)(struct session_join *j);
    struct rpost post;
};
void session_join(struct session_join *j);
/* Main: drains and closes; `ended` follows. Harmless when it is ending already. */
enum session_stop {
    SESSION_DROP, /* it is told that its connections go, and they go */
    SESSION_ASK,  /* it is asked to log out, and has a second for that */
    SESSION_CUT,  /* it goes untold: there is no room for it */
};
void session_stop(struct iscsi_session *s, enum session_stop how);
/* Main, in a task: asks its connections that came by the portal to log out, and closes those that
 * have not within a second. Which of them there still are: */
enum session_by {
    SESSION_NONE,
    SESSION_CLOSED, /* all are closed, and something of them is still under way */
    SESSION_OPEN,
};
enum session_by session_leave_portal(struct iscsi_session *s, const char *portal);
/* Main, in a task: closes the connections that do not take the replies of a LUN that is to go. */
void session_cut_orphans(struct iscsi_session *s);

/* ---- the session's parts to one another, on its reactor */

uint32_t session_max_cmdsn(const struct iscsi_session *s);
uint32_t session_tag(struct iscsi_session *s);               /* a fresh target transfer tag */
void session_fail(struct iscsi_session *s, const char *why); /* closes its connections */
/* One of its connections is closed; it is gone. */
void session_member_closes(struct iscsi_session *s);
void session_member_left(struct iscsi_session *s);

/* member.c */
void member_start(struct member *m);
/* Fills StatSN (and moves it on), ExpCmdSN, MaxCmdSN. */
void member_stamp(struct member *m, struct iscsi_pdu *pdu);
/* The same without taking a StatSN. */
void member_stamp_next(struct member *m, struct iscsi_pdu *pdu);
void member_reject(struct member *m, const struct iscsi_pdu *pdu, enum iscsi_reject why);
void member_ping(struct member *m);
/* A PDU other than a command whose turn has come. */
void member_ordered(struct member *m, const struct iscsi_pdu *pdu, const uint8_t *data);
void member_give_up(struct member *m);               /* all that does not run yet */
void member_fail(struct member *m, const char *why); /* closes the connection */
void member_check_end(struct member *m);

/* order.c */
enum order {
    ORDER_NOW,   /* its CmdSN is taken */
    ORDER_LATER, /* to be held */
    ORDER_NEVER, /* to be ignored: outside the command window, or there already (4.2.2.1) */
};
enum order order_of(struct member *m, const struct iscsi_pdu *pdu); /* one that is not immediate */
void order_hold_command(struct command *c, uint32_t cmdsn);
void order_hold_pdu(struct member *m, const struct iscsi_pdu *pdu, const uint8_t *data);
void order_use_up(struct iscsi_session *s, uint32_t cmdsn); /* nothing comes with it any more */
void order_abort(struct command *c);       /* its CmdSN is used up; the command is the caller's */
void order_forget(struct member *m);       /* what it brought */
void order_check(struct iscsi_session *s); /* delivers, soon, what can be */
void order_note_gap(struct iscsi_session *s);
bool order_stuck(const struct iscsi_session *s); /* a gap stays: it will not be filled any more */
void order_end(struct iscsi_session *s);

/* logout.c */
void logout_request(struct member *m, const struct iscsi_pdu *pdu);
void logout_check(struct iscsi_session *s); /* is what one waits for done? */

/* command.c */
void command_begin(struct member *m, const struct iscsi_pdu *pdu, const uint8_t *ahs);
void command_end(struct member *m, const struct iscsi_pdu *pdu);
void data_out_begin(struct member *m, const struct iscsi_pdu *pdu);
void data_out_end(struct member *m, const struct iscsi_pdu *pdu);
/* One that was held: now it is its turn. */
void command_turn(struct command *c);
/* Nobody is to hear of it any more: frees it, or lets its queued R2T do so. */
void command_give_up(struct command *c);
/* Gives up every command of the connection that does not run yet. */
void commands_drop(struct member *m);
/* Does the connection hold up the end of a LUN, with what is queued on it? */
bool commands_orphaned(const struct member *m);
/* The command with the tag, if it can still be aborted. */
struct scsi_cmd *command_to_abort(struct iscsi_session *s, uint32_t itt);
void command_pools_free(void);

/* tmf.c */
void tmf_request(struct member *m, const struct iscsi_pdu *pdu);
void tmf_resume(struct iscsi_session *s); /* starts those that everything before has come for */
void tmf_forget(struct member *m);        /* those of the connection that have not begun */
void tmf_acked(struct iscsi_session *s);  /* an ExpStatSN has come, or a connection went */

/* text_full.c */
void text_request(struct member *m, const struct iscsi_pdu *pdu, const uint8_t *data);

/* portal.c, any thread: answers SendTargets, asked by that connection, with what the initiator may
 * log in to; `only` that target when it is not NULL. */
bool portals_send_targets(const struct iscsi_session *s, const struct iscsi_conn *conn,
                          const char *only, struct text *reply);

#endif
