/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_TARGETS_ISCSI_CONN_PRIVATE_H
#define ORION_TARGETS_ISCSI_CONN_PRIVATE_H

#include "targets/iscsi/conn.h"

/* What conn.c, conn_rx.c and conn_tx.c share. */
enum {
    BATCH_SIZE = 128 << 10, /* one recv at most */
    BATCH_MIN = 16 << 10,   /* and at first, and behind data that goes straight to its place */
    DIRECT_MIN = 8 << 10,   /* less than this goes by way of the batch */
    TX_PDUS = 128,          /* PDUs and pieces in one sendmsg */
    TX_IOVS = 512,
    TX_TURN_BYTES = 1 << 20, /* a connection's share of a turn */
    NOTES_MAX = 64,          /* control replies queued before we stop listening */
    NOTE_BYTES_MAX = 1 << 20,
};

/* One a reactor, shared by its connections: nothing in it outlives a call. */
struct conn_buffers {
    uint8_t batch[BATCH_SIZE];
    struct tx_pdu pdu[TX_PDUS];
    struct iovec iov[TX_IOVS];
};
struct conn_buffers *conn_buffers(void);

void conn_watch_read(struct iscsi_conn *c, bool on);
void conn_watch_write(struct iscsi_conn *c, bool on);
void conn_readable(struct iscsi_conn *c);
void conn_resume(void *conn);
void conn_flush(void *conn);
void conn_lose(struct iscsi_conn *c, const char *why); /* closes and tells the owner */

#endif
