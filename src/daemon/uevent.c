/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/uevent.h"

#include <errno.h>
#include <linux/netlink.h>
#include <netlink/errno.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/log.h"
#include "base/mem.h"
#include "control/control.h"
#include "reactor/task.h"

enum { GROUP_KERNEL = 1, MESSAGE_MAX = 8192, RECEIVE_BUFFER = 1 << 20, TURN_MAX = 64 };

static struct nl_sock *sock;
static struct fdwatch *watch;

/* ---- messages */

static bool number(const char *text, unsigned *v_r)
{
    char *end;
    errno = 0;
    unsigned long v = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || errno || v > UINT32_MAX)
        return false;
    *v_r = (unsigned)v;
    return true;
}

static void take_pair(struct uevent *ev, const char *pair, bool *major_had, bool *minor_had)
{
    if (!strcmp(pair, "SUBSYSTEM=block"))
        ev->block = true;
    else if (!strcmp(pair, "ACTION=remove"))
        ev->going = true;
    else if (!strcmp(pair, "ACTION=change") || !strcmp(pair, "ACTION=offline") ||
             !strcmp(pair, "ACTION=online"))
        ev->changing = true;
    else if (!strncmp(pair, "MAJOR=", 6))
        *major_had = number(pair + 6, &ev->major_nr);
    else if (!strncmp(pair, "MINOR=", 6))
        *minor_had = number(pair + 6, &ev->minor_nr);
}

bool uevent_parse(const char *msg, size_t len, struct uevent *ev_r)
{
    bool major_had = false, minor_had = false;
    *ev_r = (struct uevent){.block = false};
    size_t head = strnlen(msg, len);
    if (head == len || !memchr(msg, '@', head))
        return false;
    for (size_t at = head + 1; at < len;) {
        size_t n = strnlen(msg + at, len - at);
        if (at + n == len)
            return false; /* the last string does not end */
        take_pair(ev_r, msg + at, &major_had, &minor_had);
        at += n + 1;
    }
    ev_r->numbered = major_had && minor_had;
    return true;
}

/* ---- the socket */

static void tell_control(void *arg)
{
    struct uevent *ev = arg;
    if (control_phase() == CONTROL_READY)
        control_node_changed(ev->major_nr, ev->minor_nr);
    free(ev);
}

/* Only root, that is the kernel, may send to the group; a unicast from elsewhere has a port. */
static bool from_kernel(const struct msghdr *m)
{
    const struct sockaddr_nl *from = m->msg_name;
    return m->msg_namelen == sizeof *from && from->nl_pid == 0 && from->nl_groups;
}

static bool receive(void)
{
    static char buf[MESSAGE_MAX];
    struct sockaddr_nl from = {0};
    struct iovec iov = {buf, sizeof buf};
    struct msghdr m = {
        .msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &iov, .msg_iovlen = 1};
    ssize_t n = recvmsg(nl_socket_get_fd(sock), &m, MSG_DONTWAIT);
    if (n < 0)
        return errno == ENOBUFS || errno == EINTR; /* some were lost: there are more */
    struct uevent ev;
    if (m.msg_flags & MSG_TRUNC || !from_kernel(&m) || !uevent_parse(buf, (size_t)n, &ev))
        return true;
    if (!ev.block || !ev.numbered || !(ev.going || ev.changing))
        return true;
    struct uevent *copy = xcalloc(1, sizeof *copy);
    *copy = ev;
    task_start(reactor_main(), "uevent", tell_control, copy);
    return true;
}

static void on_readable(void *arg, unsigned events)
{
    (void)arg, (void)events;
    for (int i = 0; i < TURN_MAX && receive(); i++)
        ;
}

int uevent_start(struct err *e)
{
    sock = nl_socket_alloc();
    if (!sock)
        return err_set(e, ERR_IO, "", "cannot make a netlink socket");
    nl_socket_disable_seq_check(sock);
    nl_join_groups(sock, GROUP_KERNEL);
    int rc = nl_connect(sock, NETLINK_KOBJECT_UEVENT);
    if (!rc)
        rc = nl_socket_set_nonblocking(sock);
    if (rc) {
        nl_socket_free(sock);
        sock = NULL;
        return err_set(e, ERR_IO, "", "cannot hear of block devices that change: %s",
                       nl_geterror(rc));
    }
    nl_socket_set_buffer_size(sock, RECEIVE_BUFFER, 0);
    watch = fdwatch_new(nl_socket_get_fd(sock), FD_READ, on_readable, NULL);
    return 0;
}

void uevent_stop(void)
{
    fdwatch_free(&watch);
    if (sock)
        nl_socket_free(sock);
    sock = NULL;
}
