/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_NET_NET_H
#define ORION_NET_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/err.h"
#include "reactor/reactor.h"

/*
 * Addresses and listeners. ADDR is HOST:PORT, [IPV6]:PORT, HOST (with a default port) or unix:PATH.
 * HOST is a name or a literal; names are resolved in a helper thread.
 */
enum { NET_ADDR_TEXT = 144 }; /* room for any address as text */

struct net_addr {
    struct sockaddr_storage ss;
    socklen_t len;
};

/*
 * In a task, or before reactors run (a literal or a path: anywhere). default_port 0: a port is
 * required. `field` names the request field in errors. Port 0 in the text asks the kernel for one.
 * The path of a unix socket must be absolute and fit sun_path (107 bytes).
 */
int net_addr_parse(const char *text, unsigned default_port, const char *field,
                   struct net_addr *addr_r, struct err *e);
/* "127.0.0.1:3260", "[::1]:3260", "unix:/path" ("unix:" for an unnamed peer). Returns out. */
const char *net_addr_format(const struct net_addr *a, char *out, size_t size);
bool net_addr_is_local(const struct net_addr *a); /* loopback or unix */
bool net_addr_is_unix(const struct net_addr *a);
unsigned net_addr_port(const struct net_addr *a); /* 0 for unix */
bool net_addr_equal(const struct net_addr *a, const struct net_addr *b);
/* Who counts as one when room or patience is shared out: "10.0.0.1", or the /64 of an IPv6 address,
 * "2001:db8:0:1::/64", since whoever has one address of it has all; "unix". Returns out. */
enum { NET_PLACE_TEXT = 56 };
const char *net_addr_place(const struct net_addr *a, char out[NET_PLACE_TEXT]);
/* A connected peer for people: its address, or "unix:pid=123,uid=0" when it has none. Returns out.
 */
const char *net_peer_format(int fd, const struct net_addr *peer, char *out, size_t size);
/* The address that a connected or bound socket has on this side; "unix:" of nothing on failure. */
void net_addr_of_socket(int fd, struct net_addr *addr_r);

/*
 * A listener accepts on main and hands every connection (non-blocking, close-on-exec, TCP_NODELAY)
 * to fn on main; the fd is then fn's. EMFILE and the like pause it for 100 ms and are logged. A
 * stale unix socket is replaced, a live one refused; its file is unlinked at close unless the
 * socket was passed by the service manager. `[::]` listens for IPv6 only; a socket that was passed
 * may do so for both, and whoever comes by IPv4 then has an IPv4 address here.
 */
struct net_listener;
typedef void (*net_accept_fn)(int fd, const struct net_addr *peer, struct net_listener *l,
                              void *arg);
/* Who may connect to a unix socket, besides the owner: in force before the first one can. */
struct net_unix_access {
    const char *mode;  /* four octal digits, "0660"; NULL: what the umask leaves */
    const char *group; /* name or number; NULL: the daemon's */
};
/* The same with access (or NULL). ERR_INVALID names "mode" or "group" when they are wrong, or the
 * address is none of a unix socket; ERR_DENIED when the daemon may not give the file away. A socket
 * that was passed keeps what its maker gave it. Main, in a task. */
struct net_listener *net_listen_unix(const char *text, unsigned default_port, const char *field,
                                     const struct net_unix_access *access, net_accept_fn fn,
                                     void *arg, struct err *e);
/* Main, in a task. */
struct net_listener *net_listen(const char *text, unsigned default_port, const char *field,
                                net_accept_fn fn, void *arg, struct err *e);
void net_unlisten(struct net_listener **l); /* main; may be called in fn */
const struct net_addr *net_listener_addr(const struct net_listener *l); /* as bound */
const char *net_listener_text(const struct net_listener *l);            /* as given */
int net_listener_fd(const struct net_listener *l); /* the listener's own; for options only */

/*
 * Socket activation (sd_listen_fds(3)): main calls this once, before any net_listen. Listening
 * stream sockets that were passed by LISTEN_FDS are kept, and net_listen takes the one bound to its
 * address instead of binding anew. Returns how many there are. The environment variables are
 * removed.
 */
unsigned net_inherit(void);
/* Closes those that nobody took. Returns how many. */
unsigned net_inherit_close_rest(void);

#endif
