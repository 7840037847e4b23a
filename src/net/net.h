/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_NET_NET_H
#define ORION_NET_NET_H

#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/err.h"
#include "reactor/reactor.h"

/*
 * Addresses and listeners. ADDR is HOST:PORT, [IPV6]:PORT, HOST (with a default port) or unix:PATH.
 * HOST is a name or a literal; names are resolved in a helper thread.
 */
struct net_addr {
    struct sockaddr_storage ss;
    socklen_t len;
};

/* In a task. default_port 0: a port is required. `field` names the request field in errors. Port 0 in
 * the text asks the kernel for one. */
int net_addr_parse(const char *text, unsigned default_port, const char *field,
                   struct net_addr *addr_r, struct err *e);
/* "127.0.0.1:3260", "[::1]:3260", "unix:/path" ("unix:" for an unnamed peer). Returns out. */
const char *net_addr_format(const struct net_addr *a, char *out, size_t size);
bool net_addr_is_local(const struct net_addr *a); /* loopback or unix */

/*
 * A listener accepts on main and hands every connection (non-blocking, close-on-exec, TCP_NODELAY) to
 * fn on main. EMFILE and the like pause it for a while and are logged. A stale unix socket is
 * replaced, a live one refused; its file is unlinked at close.
 */
struct net_listener;
typedef void (*net_accept_fn)(int fd, const struct net_addr *peer, struct net_listener *l, void *arg);
/* Main, in a task. */
struct net_listener *net_listen(const char *text, unsigned default_port, const char *field,
                                net_accept_fn fn, void *arg, struct err *e);
void net_unlisten(struct net_listener **l); /* main */
const struct net_addr *net_listener_addr(const struct net_listener *l); /* as bound */
const char *net_listener_text(const struct net_listener *l);            /* as given */

#endif
