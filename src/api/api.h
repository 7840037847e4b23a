/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_API_API_H
#define ORION_API_API_H

#include <stddef.h>

#include "base/err.h"

/*
 * HTTP on the main reactor: REST on unix sockets (peer credentials: root, our own uid and the group
 * orion may do everything, others nothing), and a read-only listener for scraping. libmicrohttpd
 * parses; every request runs as a task and ends in control. No logic here.
 */
enum { API_ADDRS_MAX = 8 };
enum { API_JSON_DEPTH = 16 };

/* What clients may ask for; settings of the daemon, docs/api.md tells of them. */
struct api_limits {
    size_t body; /* bytes of a request's body */
    unsigned
        connections; /* of each of the two servers; when they are all there the longest idle goes */
    unsigned streams;     /* of events */
    unsigned idle_s;      /* a connection without traffic, or without a whole request, is closed */
    unsigned handshake_s; /* for a TLS handshake, and then for a request of somebody known */
};
extern struct api_limits api_limits; /* main's; fixed from api_start on */

struct api_opts {
    const char *addr[API_ADDRS_MAX]; /* "unix:PATH", or HOST:PORT with TLS */
    unsigned addr_count;
    const char *metrics; /* HOST:PORT on loopback, or NULL */
    struct api_limits limits;
    /* TLS for the API on TCP; without a certificate and its key there is no TCP. */
    const char *tls_cert, *tls_key, *tls_ca;
    /* Who has which role (enum control_role): "user:NAME", "group:NAME", "cert:NAME". */
    struct {
        char *const *name;
        unsigned count;
    } roles[4];
};

/* Refuses what api_start does, but for what only listening shows. In a task, or before reactors
 * run. Warns of users and groups that do not exist: they may be told of later than we start. */
int api_check(const struct api_opts *opts, struct err *e);
/* T. Listens; until control is ready only /healthz and /readyz are answered. */
int api_start(const struct api_opts *opts, struct err *e);
/* Roles have changed. Main. When one is wrong: only those before it hold. */
int api_set_roles(const struct api_opts *opts, struct err *e);
/* T. Stops listening, lets running requests end, closes all. */
void api_stop(void);

#endif
