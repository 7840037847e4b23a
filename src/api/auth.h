/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_API_AUTH_H
#define ORION_API_AUTH_H

#include <stdbool.h>

#include "api/api.h"
#include "control/control.h"

/*
 * Who sends a request, and what may they do. A bearer token says so wherever it is given; without
 * one it is the certificate of a TLS connection, or the credentials of a unix socket's peer: root,
 * our own user and the group orion are admin, others as the roles of the configuration say. Main's.
 */
struct auth_peer {
    int fd;            /* of a unix socket, or -1 */
    const char *from;  /* the address, for TCP */
    const char *place; /* and what failures are counted by: net_addr_place */
    const char *cert;  /* the common name of the client's certificate, or "" */
    const char *token; /* the header Authorization, or NULL */
};
enum auth_result {
    AUTH_OK,
    AUTH_NONE,   /* nobody that may do anything: 403 on a unix socket, 401 on TCP */
    AUTH_BAD,    /* a token that is none (any more): 401 */
    AUTH_LIMITED /* too many of the same from here lately: 429 */
};

/* ERR_INVALID names the list. */
int auth_setup(const struct api_opts *opts, struct err *e);
enum auth_result auth_identify(const struct auth_peer *p, struct control_who *who,
                               enum control_role *role_r);

/* Refusals in a minute after which a place has to wait for the end of the minute: those of wrong
 * tokens for who comes with a token, those of no token and no role for who comes without. */
enum { AUTH_FAILURES_MAX = 10, AUTH_WINDOW_S = 60 };

#endif
