/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_CLIENT_WIRE_H
#define ORION_CLIENT_WIRE_H

#include <sys/types.h>

#include "client/client.h"

/* A connection to a peer, in clear or by TLS. */
struct wire;
struct wire *wire_open(const struct client_peer *peer, struct err *e);
int wire_write(struct wire *w, const char *data, size_t len); /* 0, or -1 with errno */
ssize_t wire_read(struct wire *w, char *data, size_t len);    /* 0: the end; -1 with errno */
void wire_close(struct wire **w);

/* What stands in the header Host: without scheme. */
const char *wire_host(const struct client_peer *peer);
struct err;
int wire_unreachable(const struct client_peer *peer, int error, struct err *e);

#endif
