/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_API_SECURE_H
#define ORION_API_SECURE_H

#include <stdbool.h>

#include "net/net.h"
#include "net/tls.h"

/*
 * TLS before libmicrohttpd (Debian's is built on GnuTLS; ours is OpenSSL): each connection is
 * decrypted here and goes on through a socketpair, whose inner end `clear` gets. Main's.
 */
enum { SECURE_MAX = 256, SECURE_HANDSHAKE_S = 10 };
int secure_setup(const struct tls_config *files, void (*clear)(int fd, const struct net_addr *peer),
                 struct err *e);
/* For net_listen. */
void secure_accept(int fd, const struct net_addr *peer, struct net_listener *l, void *arg);
/* True when the fd is such an inner end: where it comes from, and its certificate's name or "". */
bool secure_peer(int inner_fd, const char **from_r, const char **cert_r);
/* A new connection has this number: what had it before is closed. */
void secure_forget(int inner_fd);
void secure_close_all(void);

#endif
