/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_TARGETS_NBD_PRIVATE_H
#define ORION_TARGETS_NBD_PRIVATE_H

#include "base/list.h"
#include "block/bdev.h"
#include "net/net.h"
#include "net/tls.h"
#include "reactor/iobuf.h"
#include "reactor/reactor.h"
#include "reactor/task.h"
#include "targets/nbd/nbd.h"
#include "targets/nbd/nbd_handshake.h"
#include "targets/stages.h"

/*
 * Who owns what. Main: exports, listeners, handshakes (nbd_hello) and the list of connections. A
 * connection in transmission belongs to one I/O reactor, which it reaches once, by a post; main
 * keeps the first group of its fields and frees it after the reactor has said that it is gone. A
 * lane is what the connections of one reactor share; nobody else touches it.
 */

enum {
    NBD_HELLO_MAX = 512,       /* handshakes under way; the next one drops the oldest */
    NBD_HELLO_DEADLINE_S = 10, /* from accept to transmission */
    NBD_CONN_MAX = 16384,      /* connections in transmission */
    NBD_LEAVE_DEADLINE_S = 10, /* for replies to be read by a client that leaves or is sent away */
    NBD_STALL_S = 3,           /* holds memory others wait for, and moves no byte: dropped */
    NBD_DEPTH = 256,           /* requests held for one connection, replies unsent included */
    NBD_TURN_REQUESTS = 128,   /* taken from one connection before others have their turn */
    NBD_TURN_BYTES = 512 << 10,
    NBD_MAX_PAYLOAD = 32 << 20, /* proto.md: no server may take offence at so much */
    NBD_BATCH = 256 << 10,      /* receive buffer of a lane */
    NBD_BATCH_SLOTS = 5,        /* all but the last may be lent to writes under way */
    NBD_SMALL = 16 << 10,       /* a WRITE up to here is received with its neighbours */
    NBD_RECV_MIN = 4 << 10,     /* least and first length of a receive */
    NBD_SEND_REPLIES = 256,     /* at most so many in one sendmsg ... */
    NBD_SEND_IOV = 512,         /* ... which has so many pieces ... */
    NBD_SEND_HEADS = 16 << 10,  /* ... and so many bytes of headers, one at most: */
    NBD_HEAD_MAX = 128,
    NBD_TLS_CHUNK = 64 << 10,   /* encrypted in one go: four records */
    NBD_HOLE_MIN = 32 << 10,    /* of a READ this long it is asked where holes are */
    NBD_HOLE_AHEAD = 256 << 20, /* ... and how far from there the data goes on */
    NBD_HOLE_PAUSE = 32,        /* READs of data at most, before it is asked again */
    NBD_READ_EXTENTS = 16,      /* pieces of a READ's reply */
    NBD_READ_ASKS = 16,         /* a device may answer for part of the range only: ask so often */
    NBD_STATUS_EXTENTS = 512,   /* pieces of a BLOCK_STATUS's reply */
    NBD_STATUS_ASKS = 256,
    NBD_MEM_CONN = 16 << 20,   /* data held for one connection, unless one request is longer */
    NBD_MEM_SHARE = 256 << 10, /* so much a connection may always hold */
    NBD_MEM_PART = 4,          /* more: this part of what nobody holds, or one request */
};
/* Whoever is sent away is closed by then, whether the device has answered or not. */
enum { NBD_LEAVE_US = (NBD_LEAVE_DEADLINE_S + 1) * 1000000 };
#define NBD_MEM_TOTAL (512ull << 20) /* data held for all; each lane has its equal part */

/* ---- who is there */

struct nbd_client {
    bool local; /* came in on a loopback or unix address */
    struct net_addr peer;
    const char *identity; /* proven by TLS, or "" */
    bool offered_tls;     /* it does not speak TLS yet, and may */
};

enum nbd_rule_kind { NBD_RULE_UNIX, NBD_RULE_NETWORK, NBD_RULE_TLS };
struct nbd_rule {
    enum nbd_rule_kind kind;
    int family; /* NETWORK: AF_INET or AF_INET6 */
    unsigned prefix;
    uint8_t address[16];
    char name[128]; /* TLS: "*" is everybody who has one */
};
enum { NBD_RULES_MAX = 64 };

struct nbd_export { /* main's, but for `desc`, which is constant while a connection exists */
    struct list link;
    char name[256], device[BDEV_NAME_MAX + 1], description[256];
    bool read_only, is_default, open_access;
    struct nbd_rule *rules; /* none: see open_access */
    unsigned rule_count;
    bool closing; /* its connections are being sent away: no new ones */
    bool device_leaving;
    struct bdev_desc *desc;
    uint64_t size;
    char why[160]; /* why desc is NULL */
    unsigned connections;
    struct stage_book stages;
};

struct nbd_map {          /* what is known of a range: from its beginning on, without gaps */
    struct bio_extents x; /* of the question under way: what is free of the list */
    unsigned max, count;
    unsigned asks;
    uint64_t known; /* bytes */
    struct extent list[];
};

struct nbd_req { /* of the lane's pool; bio first touched by the core */
    struct bio bio;
    struct iovec iov;
    struct nbd_request wire;
    struct nbd_conn *conn;
    struct iobuf *buf;   /* READ: data until the reply is sent; WRITE: until the bio owns it */
    struct nbd_map *map; /* READ: its chunks, NULL for one of data; BLOCK_STATUS: the answer */
    struct nbd_req *next;
    uint64_t bad_offset; /* of an error, or BIO_NO_OFFSET */
    uint32_t held;       /* bytes counted in conn->mem and lane->mem */
    uint32_t error;      /* enum nbd_error */
    uint32_t reply_len;  /* all bytes of its reply, once it is queued */
    struct io_times times;
};

enum nbd_conn_state {
    NBD_CONN_OPEN,    /* reads requests */
    NBD_CONN_LEAVING, /* reads no more; answers what it has, then closes */
    NBD_CONN_CLOSED,  /* the socket is closed; bios under way end unanswered */
};

struct nbd_conn {
    /* main's; read by main only */
    struct list link;
    char peer[128], portal[128], client[256];
    bool local;
    struct net_addr addr; /* the peer's */
    uint64_t since_ms;
    bool stopping; /* the stop post was sent */
    struct rpost start_post, stop_post;

    /* set by main before the move, constant after it */
    uint64_t id, nexus;
    struct nbd_export *export;
    struct bdev_desc *desc;
    unsigned reactor;
    int fd;
    bool lend;       /* the device takes data at any address */
    struct tls *tls; /* or NULL; the reactor's from the move on */

    /* written by the reactor, read by main: atomic */
    uint64_t reads, writes, read_bytes, written_bytes;
    unsigned inflight; /* bios */
    unsigned state;    /* enum nbd_conn_state */
    bool hung_up;      /* it will ask for nothing more; requests that have arrived are served */

    /* the reactor's */
    struct nbd_lane *lane;
    struct list lane_link;
    struct nbd_limits limits;
    struct fdwatch *watch;
    unsigned watching;
    uint8_t
        head[NBD_EXTENDED_REQUEST_SIZE]; /* of a request that is not whole or not admitted yet */
    unsigned head_len, head_size;
    struct nbd_req *load; /* request whose payload is on its way */
    uint64_t load_left;
    bool load_skip; /* it will be answered by an error: its payload goes nowhere */
    bool large;     /* the last request was a long WRITE: receive short, then direct */
    bool blocked;   /* head holds a request that waits for depth, memory or its turn */
    bool resume_pending, gone;
    bool tls_more;  /* what TLS has received may not all have been taken: do not wait for more */
    bool last_call; /* what has arrived is the last */
    uint32_t need;  /* memory that it waits for while in lane->waiters */
    uint8_t *stash; /* bytes received behind a blocked request */
    size_t stash_pos, stash_len;
    size_t want; /* length of the next receive */
    unsigned depth, turn_requests;
    uint64_t mem, turn_bytes, turn_stamp;
    uint64_t progress_ns;         /* last byte moved */
    uint64_t gave_ns;             /* since when it holds memory without giving any of it back */
    int out_left;                 /* bytes in its socket when that was looked at; 0: it was not */
    uint64_t blocked_ns;          /* since when the head waits; 0: it does not */
    uint64_t data_from, data_to;  /* a range that has had no hole (it may have one now) */
    unsigned map_pause, map_wait; /* reads to go by before one is looked up again */
    struct nbd_req *replies, **replies_end;
    size_t sent; /* bytes of the first reply that are out */
    struct list flush_link, wait_link;
    struct rtimer timer;
    struct rpost resume_post, gone_post;
};

struct nbd_lane {
    unsigned index;
    struct list conns;   /* lane_link */
    struct list flush;   /* flush_link: replies to send at the end of the turn */
    struct list waiters; /* wait_link: for memory, FIFO */
    struct rdefer hook;
    struct rtimer watchdog; /* runs while there are waiters */
    bool watchdog_armed;
    bool barred; /* while there are waiters: nobody is served before them */
    struct iobuf *batch[NBD_BATCH_SLOTS];
    struct nbd_req *free_reqs;
    unsigned free_count;
    uint64_t mem,
        mem_max; /* bytes held; at most so many (>= NBD_MAX_PAYLOAD, or it may never fit) */
    uint64_t stall_ns;
    uint8_t *heads; /* reply headers of one sendmsg */
    struct iovec *iov;
    uint8_t *clear; /* NBD_TLS_CHUNK bytes: replies in one piece, for TLS; made at first use */
} __attribute__((aligned(64)));

#define relaxed_get(p) __atomic_load_n(p, __ATOMIC_RELAXED)
#define relaxed_put(p, v) __atomic_store_n(p, v, __ATOMIC_RELAXED)
#define relaxed_inc(p, v) relaxed_put(p, *(p) + (v)) /* single writer */

/* ---- nbd_access.c */
int nbd_rule_parse(const char *text, struct nbd_rule *rule_r, struct err *e);
bool nbd_rule_matches(const struct nbd_rule *rule, const struct nbd_client *client);

/* ---- nbd_export.c, main */
struct nbd_export *nbd_export_find(const char *name);
/* Do the rules let the client use it? */
bool nbd_export_admits(const struct nbd_export *x, const struct nbd_client *client);
/* The export that a client asks for: 0, or NBD_REP_ERR_* and why. */
uint32_t nbd_export_choose(const char *name, size_t len, const struct nbd_client *client,
                           struct nbd_view *view_r, char why[160]);
void nbd_export_list(const struct nbd_client *client,
                     void (*each)(const char *name, const char *description, void *ctx), void *ctx);
void nbd_exports_init(void);
void nbd_exports_fini(void); /* T: no connection is left */

/* ---- nbd_hello.c, main */
struct nbd_portal {
    struct list link;
    struct net_listener *net;
    enum nbd_tls_mode tls_mode;
    struct tls_server *tls; /* unless off */
};
/* arg: the nbd_portal */
void nbd_hello_accept(int fd, const struct net_addr *peer, struct net_listener *l, void *arg);
/* The portal goes: handshakes that it let in lose their TLS. */
void nbd_hello_forget(const struct nbd_portal *portal);
/* Handshakes come to nothing from here on, and their clients are told. */
void nbd_hello_shutting_down(void);
void nbd_hello_close_all(void); /* T: after a moment for those who are about to leave */

/* ---- nbd_server.c, main */
/* Takes the fd, its TLS (or NULL) and up to `len` bytes that were received behind the handshake. */
void nbd_server_enter(int fd, struct tls *tls, const struct nbd_client *who, const char *peer,
                      const char *portal, const struct nbd_view *view, const uint8_t *rest,
                      size_t len);
/* Runs on main when a connection is gone for good; frees it. */
void nbd_server_gone(void *conn);
/* Ends the connections of an export (NULL: all), and waits. T */
unsigned nbd_server_disconnect(const struct nbd_export *export);
/* The same with those whom the export's rules do not admit; it waits until they are closed, and not
 * for a device that hangs. T */
unsigned nbd_server_evict(const struct nbd_export *export);
/* Calls fn for each connection of the export (NULL: all) that is not on its way out. */
void nbd_server_each(const struct nbd_export *export, void (*fn)(struct nbd_conn *c, void *arg),
                     void *arg);

/* ---- nbd_lane.c, the lane's reactor */
struct nbd_lane *nbd_lane_get(unsigned reactor);
void nbd_lane_init(unsigned reactor, uint64_t mem_max); /* main, before any connection */
void nbd_lane_fini(void *unused);
/* Who has hung up behind requests that wait, and so was not read to the end, is noticed. Any
 * reactor. */
void nbd_lane_look_for_gone(void *export);
/* NULL: out of memory, and the connection was closed for it. */
struct nbd_req *nbd_req_new(struct nbd_conn *c);
void nbd_req_free(struct nbd_req *req);
/* Counts memory as held by a request; gives it back, and lets those go on who waited for it. */
void nbd_req_hold(struct nbd_req *req, uint32_t len);
void nbd_req_unhold(struct nbd_req *req);
/* May the connection hold `len` more bytes? If not, and it holds none: asks to be resumed when it
 * may. Who holds some tries again with each reply of its own that goes out. */
bool nbd_mem_fits(const struct nbd_conn *c, uint32_t len);
void nbd_mem_wait(struct nbd_conn *c, uint32_t len);
/* Lets the first of those who wait try again, as many as there is room for. */
void nbd_lane_wake(struct nbd_lane *lane);

/* ---- nbd_conn.c, the connection's reactor */
void nbd_conn_start(void *conn); /* post from main */
void nbd_conn_stop(void *conn);  /* post from main */
void nbd_conn_leave(struct nbd_conn *c);
void nbd_conn_close(struct nbd_conn *c, const char *why); /* why: logged, or NULL */
void nbd_conn_look(struct nbd_conn *c);                   /* has it hung up? */
void nbd_conn_watch(struct nbd_conn *c, unsigned events);
void nbd_conn_resume(struct nbd_conn *c);
/* Closes a leaving connection that has nothing more to do, and reports a closed one gone. Last use
 * of c by the caller. */
void nbd_conn_settle(struct nbd_conn *c);

/* ---- nbd_map.c, the connection's reactor: where holes are */
bool nbd_map_wanted(const struct nbd_req *req); /* for a READ: is it worth to ask? */
/* Asks the device. -ENOMEM, or 0: then `done` runs with the bio. */
int nbd_map_ask(struct nbd_req *req, bio_done_fn done);
/* Takes an answer; true: it was not enough, the next question is under way, `done` runs again. */
bool nbd_map_more(struct nbd_req *req);
/* For a READ, after the answer (error: 0 or -errno). Leaves req->map only when its reply has
 * several chunks or is a hole. True: there is nothing to read. */
bool nbd_map_read(struct nbd_req *req, int error);
/* For a BLOCK_STATUS: makes the list that of the reply, in the bytes of the wire. */
void nbd_map_status(struct nbd_req *req);

/* ---- nbd_reply.c, the connection's reactor */
void nbd_reply_queue(struct nbd_req *req, enum nbd_error error);
void nbd_reply_send(struct nbd_conn *c);
void nbd_reply_drop_all(struct nbd_conn *c);

/* What a command asks of the device; BIO_OP_COUNT: it is none. */
enum bio_op nbd_bio_op(unsigned type);

#endif
