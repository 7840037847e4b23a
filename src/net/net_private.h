/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_NET_PRIVATE_H
#define ORION_NET_PRIVATE_H

#include "net/net.h"

/* An IPv4 address in IPv6 clothes ("::ffff:10.0.0.1") becomes what it is. */
void net_addr_plain(struct net_addr *a);

/* An inherited listening socket bound to `addr`, or -1; it is the caller's then. */
int net_inherit_take(const struct net_addr *addr);

#endif
