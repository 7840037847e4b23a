/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_DAEMON_NOTIFY_H
#define ORION_DAEMON_NOTIFY_H

#include <stdint.h>

/* The service manager's protocol, sd_notify(3), by hand: one datagram to NOTIFY_SOCKET. Without
 * that variable everything here does nothing. */
void notify_init(void); /* reads and removes the variables */
/* "READY=1\nSTATUS=..." */
void notify_send(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
uint64_t notify_watchdog_us(void); /* 0: no watchdog */

#endif
