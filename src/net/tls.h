/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_NET_TLS_H
#define ORION_NET_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"

/*
 * TLS for servers, over non-blocking sockets. TLS 1.2 at least, 1.3 where the client can; with
 * X.509 certificates, pre-shared keys (PSK), or both, as the client chooses.
 */
struct tls_config {
    const char *cert; /* PEM: the server's certificate and its chain; with `key`, or NULL */
    const char *key;  /* PEM: its private key */
    const char *ca;  /* PEM: who signs clients; then each needs a certificate (or a PSK). Or NULL */
    const char *psk; /* lines of IDENTITY:HEX, as GnuTLS's psktool writes them. Or NULL */
};

/* What a listener shares with its connections. Main's, but for what its tls hold on to. */
struct tls_server;
/* Reads the files. ERR_INVALID names the field: tls_cert, tls_key, tls_ca or tls_psk_file. */
struct tls_server *tls_server_new(const struct tls_config *config, struct err *e);
/* Connections that stand go on. Accepts NULL, leaves NULL. */
void tls_server_free(struct tls_server **server);

/* One connection. Belongs to one thread at a time and does not own the descriptor. */
struct tls;
/* Main. Files that have changed since are read anew (when that fails: logged, and the old ones
 * serve on). NULL: out of memory. */
struct tls *tls_accept(struct tls_server *server, int fd);
/* 0: done. FD_READ or FD_WRITE: call again when the socket is ready for that. -1: failed, and why_r
 * tells why. */
int tls_handshake(struct tls *t, char *why_r, size_t why_size);
/* Like read and write with one difference: after EAGAIN the same bytes (or more) must be written
 * next, if at another address. 0 of tls_read: the end, told by the peer or not. Errors as errno;
 * EPROTO for what only TLS knows. Neither takes EINTR. tls_write takes what it can. */
ssize_t tls_read(struct tls *t, void *buf, size_t len);
ssize_t tls_write(struct tls *t, const void *buf, size_t len);
/* Bytes have been received that tls_read has not given out: the socket need not become readable. */
bool tls_pending(const struct tls *t);
/* Who the peer proved to be: the common name of its certificate or its PSK identity; "" for nobody.
 * Ends with the connection. */
const char *tls_identity(const struct tls *t);
const char *tls_version(const struct tls *t); /* "TLSv1.3" */
/* Says goodbye if the socket takes it at once. Accepts NULL, leaves NULL. */
void tls_close(struct tls **t);

#endif
