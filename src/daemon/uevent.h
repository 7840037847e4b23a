/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_DAEMON_UEVENT_H
#define ORION_DAEMON_UEVENT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

/*
 * The kernel's news of block devices: netlink, NETLINK_KOBJECT_UEVENT, group 1. A message is
 * "ACTION@DEVPATH", then KEY=VALUE strings, each ended by a NUL (Documentation/ABI: sysfs-uevent).
 * Main. Where the socket cannot be had (a container) the daemon runs without: a device that goes is
 * then noticed by its failing I/O.
 */
int uevent_start(struct err *e);
void uevent_stop(void);

struct uevent {
    bool block;    /* SUBSYSTEM=block */
    bool going;    /* ACTION=remove */
    bool changing; /* ACTION=change or online or offline */
    unsigned major_nr, minor_nr;
    bool numbered; /* MAJOR and MINOR were there */
};
/* False: not a message of the kernel's form. */
bool uevent_parse(const char *msg, size_t len, struct uevent *ev_r);

#endif
