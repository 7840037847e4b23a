/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/notify.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static struct sockaddr_un address;
static socklen_t address_len;
static uint64_t watchdog_us;

void notify_init(void)
{
    const char *path = getenv("NOTIFY_SOCKET"), *usec = getenv("WATCHDOG_USEC"),
               *pid = getenv("WATCHDOG_PID");
    if (path && (*path == '/' || *path == '@') && strlen(path) < sizeof address.sun_path) {
        address.sun_family = AF_UNIX;
        strcpy(address.sun_path, path);
        if (*path == '@') /* the abstract name space */
            address.sun_path[0] = 0;
        address_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
    }
    if (usec && (!pid || strtol(pid, NULL, 10) == (long)getpid()))
        watchdog_us = strtoull(usec, NULL, 10);
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
}

void notify_send(const char *fmt, ...)
{
    if (!address_len)
        return;
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return;
    /* The manager may be gone; that is its business. */
    (void)!sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&address, address_len);
    close(fd);
}

uint64_t notify_watchdog_us(void)
{
    return address_len ? watchdog_us : 0;
}
