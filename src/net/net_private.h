/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_NET_PRIVATE_H
#define ORION_NET_PRIVATE_H

#include "net/net.h"

/* An inherited listening socket bound to `addr`, or -1; it is the caller's then. */
int net_inherit_take(const struct net_addr *addr);

#endif
