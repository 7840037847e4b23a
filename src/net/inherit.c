/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "net/net_private.h"

/* sd_listen_fds(3): the sockets begin at fd 3, their number stands in LISTEN_FDS, and LISTEN_PID
 * names the process they are for. Main's. */
enum { FIRST_FD = 3, FDS_MAX = 64 };

static int inherited[FDS_MAX];
static unsigned inherited_count;

static bool is_listening_stream(int fd)
{
    int type = 0, listening = 0;
    socklen_t len = sizeof type;
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) || type != SOCK_STREAM)
        return false;
    len = sizeof listening;
    return !getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) && listening;
}

unsigned net_inherit(void)
{
    const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
    long n = 0;
    if (pid && count && strtol(pid, NULL, 10) == (long)getpid())
        n = strtol(count, NULL, 10);
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    for (int fd = FIRST_FD; fd < FIRST_FD + n && inherited_count < FDS_MAX; fd++) {
        if (!is_listening_stream(fd)) {
            log_warn("net", "fd %d from the service manager is not a listening stream socket", fd);
            continue;
        }
        fcntl(fd, F_SETFD, FD_CLOEXEC);
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
        inherited[inherited_count++] = fd;
    }
    return inherited_count;
}

int net_inherit_take(const struct net_addr *addr)
{
    for (unsigned i = 0; i < inherited_count; i++) {
        struct net_addr bound;
        net_addr_of_socket(inherited[i], &bound);
        if (!net_addr_equal(&bound, addr))
            continue;
        int fd = inherited[i];
        inherited[i] = inherited[--inherited_count];
        return fd;
    }
    return -1;
}

unsigned net_inherit_close_rest(void)
{
    unsigned n = inherited_count;
    for (unsigned i = 0; i < n; i++)
        close(inherited[i]);
    inherited_count = 0;
    return n;
}
