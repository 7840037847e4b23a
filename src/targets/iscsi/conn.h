/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_TARGETS_ISCSI_CONN_H
#define ORION_TARGETS_ISCSI_CONN_H

#include <sys/uio.h>

#include "net/net.h"
#include "targets/iscsi/pdu.h"

/*
 * A connection: bytes in, PDUs out, and back. It belongs to one reactor at a time (login on main,
 * then once to its session's) and knows nothing of what PDUs mean.
 *
 * Receiving: one recv a wake into the reactor's batch buffer, as many PDUs as that holds. The owner
 * says in begin() where a data segment goes; what is not in the batch yet is received straight
 * there. Sending: a FIFO of items, each yielding PDUs; one sendmsg at the end of the turn takes as
 * many as fit, headers from scratch memory and data from where it lies.
 */
struct iscsi_conn;
struct tx_item;

struct conn_ops {
    /* A header, within limits and with the right digest; pdu->cdb and ahs are valid during the
     * call. May call conn_rx_to or conn_rx_skip; else the data segment is collected for end(). */
    void (*begin)(struct iscsi_conn *c, const struct iscsi_pdu *pdu, const uint8_t *ahs);
    /* The PDU is complete. `data`: the collected data segment, valid during the call; NULL when it
     * went elsewhere or is empty. */
    void (*end)(struct iscsi_conn *c, const struct iscsi_pdu *pdu, const uint8_t *data);
    /* The PDU is complete and its data digest wrong; what its data went to is not to be used. NULL:
     * the connection is lost. */
    void (*bad_data)(struct iscsi_conn *c, const struct iscsi_pdu *pdu);
    /* The connection is over and closed; `why` is for the log. */
    void (*lost)(struct iscsi_conn *c, const char *why);
};

enum { CONN_HOLD_OWNER = 1, CONN_HOLD_BACKLOG = 2 }; /* reasons not to take further PDUs */

/* One PDU on its way out. */
struct tx_pdu {
    struct tx_item *item;
    uint32_t off, sn; /* the item's cursor before this PDU */
    bool last;        /* of its item */
    bool plain;       /* without digests: a login response that goes out after the move */
    uint8_t head_len, tail_len;
    uint8_t head[ISCSI_BHS + ISCSI_DIGEST];
    uint8_t tail[4 + ISCSI_DIGEST]; /* padding, data digest */
    const struct iovec *data;       /* data_len bytes from data_off */
    unsigned datacnt;
    uint32_t data_len;
    uint64_t data_off;
    size_t sent; /* bytes of it that are out */
};

struct tx_ops {
    /* Encodes the item's next PDU (head, data, data_len, last) and moves the cursor on. It may be
     * asked again for the same PDU, with the cursor as it was, when the socket did not take it. */
    void (*build)(struct iscsi_conn *c, struct tx_item *item, struct tx_pdu *p);
    /* The item has left the queue: sent, or dropped because the connection is over. */
    void (*done)(struct iscsi_conn *c, struct tx_item *item, bool sent);
};

struct tx_item {
    struct tx_item *next;
    const struct tx_ops *ops;
    uint32_t off, sn; /* cursor: the item's own meaning */
};

struct conn_rx {
    enum { RX_HEAD, RX_DATA } state;
    enum { PLACE_COLLECT, PLACE_THERE, PLACE_SKIP } place;
    unsigned have; /* bytes in head */
    uint8_t head[ISCSI_HEAD_MAX];
    struct iscsi_pdu pdu;
    uint8_t *dst;        /* where the next data bytes go */
    uint32_t take;       /* how many of them */
    uint32_t skip;       /* then so many to drop: what nobody wants, and padding */
    uint32_t digest_len; /* then so many of the digest */
    uint8_t digest[ISCSI_DIGEST];
    uint32_t crc;
    uint8_t *own; /* collected data */
};

struct iscsi_conn {
    const struct conn_ops *ops;
    void *owner;
    int fd;
    struct fdwatch *watch;
    unsigned events;
    bool closed, local; /* local: its own address is loopback or a unix socket */
    bool header_digest, data_digest;
    uint32_t max_recv; /* data segment limit */
    unsigned hold;     /* CONN_HOLD_* */
    struct conn_rx rx;
    size_t batch_len; /* bytes to receive at once */
    uint8_t *pending; /* received, not looked at yet */
    size_t pending_len;
    struct rdefer resume;
    uint64_t last_rx, last_tx; /* ns: bytes moved */

    struct tx_item *tx_head, **tx_tail;
    struct tx_pdu part; /* begun, not all out; part.item is NULL when there is none */
    struct rdefer flush;
    unsigned notes;    /* control replies queued */
    size_t note_bytes; /* and their data */

    char peer[NET_ADDR_TEXT], self[NET_ADDR_TEXT], portal[NET_ADDR_TEXT];
};

/* Takes the fd. Main. */
struct iscsi_conn *conn_new(int fd, const char *portal);
/* Begins (or, after a move, goes on) on this reactor. */
void conn_start(struct iscsi_conn *c, const struct conn_ops *ops, void *owner);
/* Stops watching, so that another reactor may conn_start it; hold must be set. Nothing may be
 * queued in a turn hook afterwards: unsent items go along. */
void conn_detach(struct iscsi_conn *c);
/* Closes and drops all items; ops->lost is not called. May be called from any callback. */
void conn_close(struct iscsi_conn *c);
void conn_free(struct iscsi_conn **c); /* closes first; not from within its callbacks */

void conn_hold(struct iscsi_conn *c, unsigned why);
void conn_release(struct iscsi_conn *c, unsigned why);

/* In begin(): the first min(room, data_len) bytes of the data segment go to dst, the rest is
 * dropped. */
void conn_rx_to(struct iscsi_conn *c, uint8_t *dst, size_t room);
void conn_rx_skip(struct iscsi_conn *c);
/* Between begin() and end(): where conn_rx_to led is no more; what is still to come is dropped. */
void conn_rx_abandon(struct iscsi_conn *c);

void conn_queue(struct iscsi_conn *c, struct tx_item *item);
/* Queues a control reply with a copy of `data`; pdu->data_len is set from len. `after` (may be
 * NULL) runs with the connection's owner when it is sent. */
void conn_note(struct iscsi_conn *c, struct iscsi_pdu *pdu, const void *data, size_t len,
               void (*after)(struct iscsi_conn *c));

/* Feeds bytes as if they had been received: for what a connection brings along, and for tests. */
void conn_input(struct iscsi_conn *c, const uint8_t *p, size_t len);

/* Gives the reactors' buffers back; no connection may be left. */
void conn_buffers_free(void);

#endif
