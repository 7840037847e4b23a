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
struct secure;
enum { SECURE_MAX = 256 };
int secure_setup(const struct tls_config *files, void (*clear)(int fd, const struct net_addr *peer),
                 struct err *e);
/* For net_listen. */
void secure_accept(int fd, const struct net_addr *peer, struct net_listener *l, void *arg);
/* The connection that the fd is the inner end of, or NULL. */
struct secure *secure_find(int inner_fd);
/* Where it comes from, by address and as net_addr_place, and its certificate's name or "". */
void secure_peer(const struct secure *s, const char **from_r, const char **place_r,
                 const char **cert_r);
/* A request of somebody known came over it: strangers do not crowd it out, and it may stay. */
void secure_trust(struct secure *s);
/* Seconds that a client has for its handshake, and then until it is trusted. */
void secure_patience(unsigned seconds);
/* A new connection has this number: what had it before is closed. */
void secure_forget(int inner_fd);
void secure_close_all(void);

#endif
