/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * limit [-e|-w] unix:PATH|tcp:PORT [FILE]: the least that an NBD server on plain sockets can do. It
 * parses a batch and answers it with one writev, from 1 GiB of memory or by pread and pwrite of
 * FILE. One connection at a time, no checks, no threads: not a server, but the mark that servers
 * are held against. It sleeps in read(); with -e in epoll_wait() before it, as a server must that
 * has more than one thing to wait for; with -w it never sleeps.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/buf.h"

enum { BATCH = 1000, REQUEST_LEN = 28, REPLY_LEN = 16, SCRATCH = 64 << 20 };
static const uint64_t option_magic = 0x3e889045565a9;

static uint8_t *mem;
static uint64_t size = 1ull << 30;
static int file = -1;
static enum { SLEEP_IN_READ, SLEEP_IN_EPOLL, AWAKE } waiting;

static struct {
    uint8_t head[BATCH][REPLY_LEN];
    struct iovec iov[2 * BATCH];
    int count;
    size_t scratch; /* bytes of mem that hold data read from the file */
} reply;

static void die(const char *what)
{
    perror(what);
    exit(2);
}

static bool read_all(int s, void *p, size_t n)
{
    for (uint8_t *b = p; n;) {
        ssize_t k = read(s, b, n);
        if (k <= 0)
            return false;
        b += k;
        n -= (size_t)k;
    }
    return true;
}

/* Takes whatever option comes first for GO, and any name for the export. */
static bool handshake(int s)
{
    uint8_t hello[18] = "NBDMAGICIHAVEOPT\0\3", in[4 + 16 + 4096], out[64];
    if (write(s, hello, sizeof hello) != sizeof hello || !read_all(s, in, 20))
        return false;
    struct rd r = rd_make(in + 16, 4);
    uint32_t len = rd_be32(&r);
    if (len > 4096 || !read_all(s, in, len))
        return false;
    struct wr w = wr_make(out, sizeof out);
    wr_be64(&w, option_magic);
    wr_be32(&w, 7); /* GO */
    wr_be32(&w, 3); /* INFO */
    wr_be32(&w, 12);
    wr_be16(&w, 0);
    wr_be64(&w, size);
    wr_be16(&w, 1); /* has flags */
    wr_be64(&w, option_magic);
    wr_be32(&w, 7);
    wr_be32(&w, 1); /* ACK */
    wr_be32(&w, 0);
    return write(s, out, w.pos) == (ssize_t)w.pos;
}

static void add(void *p, size_t n)
{
    reply.iov[reply.count++] = (struct iovec){p, n};
}

/* One request, whole at p. False: the connection is done. */
static bool serve(const uint8_t *p, unsigned index)
{
    struct rd r = rd_make(p, REQUEST_LEN);
    rd_skip(&r, 6);
    unsigned type = rd_be16(&r);
    const uint8_t *cookie = rd_bytes(&r, 8);
    uint64_t off = rd_be64(&r);
    uint32_t len = rd_be32(&r);
    if (type > 1 || off > size || len > size - off)
        return false;
    struct wr w = wr_make(reply.head[index], REPLY_LEN);
    wr_be32(&w, 0x67446698);
    wr_be32(&w, 0);
    wr_copy(&w, cookie, 8);
    add(reply.head[index], REPLY_LEN);
    if (type == 1 && file >= 0)
        return pwrite(file, p + REQUEST_LEN, len, (off_t)off) == (ssize_t)len;
    if (type == 1) {
        memcpy(mem + off, p + REQUEST_LEN, len);
        return true;
    }
    if (file < 0) {
        add(mem + off, len);
        return true;
    }
    uint8_t *to = mem + reply.scratch;
    reply.scratch += len;
    add(to, len);
    return pread(file, to, len, (off_t)off) == (ssize_t)len;
}

/* Bytes of the request at p with its data; 0 when it is not whole or has no room in this batch. */
static size_t whole(const uint8_t *p, size_t left)
{
    struct rd r = rd_make(p, left);
    rd_skip(&r, 6);
    unsigned type = rd_be16(&r);
    rd_skip(&r, 16);
    uint32_t len = rd_be32(&r);
    if (!rd_ok(&r) || (type == 1 && left < (size_t)REQUEST_LEN + len))
        return 0;
    if (type == 0 && file >= 0 && reply.scratch + len > SCRATCH)
        return 0;
    return REQUEST_LEN + (type == 1 ? len : 0);
}

static bool send_replies(int s)
{
    struct iovec *w = reply.iov;
    for (int left = reply.count; left;) {
        ssize_t n = writev(s, w, left < 1024 ? left : 1024);
        if (n <= 0)
            return false;
        for (; left && (size_t)n >= w->iov_len; w++, left--)
            n -= (ssize_t)w->iov_len;
        if (left) {
            w->iov_base = (char *)w->iov_base + n;
            w->iov_len -= (size_t)n;
        }
    }
    return true;
}

static ssize_t receive(int s, int ep, void *p, size_t n)
{
    struct epoll_event e;
    ssize_t k;
    if (waiting == SLEEP_IN_EPOLL)
        epoll_wait(ep, &e, 1, -1);
    do
        k = recv(s, p, n, waiting == AWAKE ? MSG_DONTWAIT : 0);
    while (k < 0 && errno == EAGAIN);
    return k;
}

static void connection(int s, int ep)
{
    static uint8_t in[4 << 20];
    size_t have = 0;
    if (!handshake(s))
        return;
    for (;;) {
        ssize_t k = receive(s, ep, in + have, sizeof in - have);
        if (k <= 0)
            return;
        have += (size_t)k;
        size_t at = 0;
        reply.count = 0;
        reply.scratch = 0;
        for (size_t n, i = 0; i < BATCH && (n = whole(in + at, have - at)); at += n, i++)
            if (!serve(in + at, (unsigned)i))
                return;
        memmove(in, in + at, have - at);
        have -= at;
        if (!send_replies(s))
            return;
    }
}

static int listen_on(const char *addr)
{
    int one = 1, s;
    if (!strncmp(addr, "unix:", 5)) {
        struct sockaddr_un a = {.sun_family = AF_UNIX};
        snprintf(a.sun_path, sizeof a.sun_path, "%s", addr + 5);
        unlink(a.sun_path);
        s = socket(AF_UNIX, SOCK_STREAM, 0);
        if (bind(s, (struct sockaddr *)&a, sizeof a))
            die("bind");
    } else {
        struct sockaddr_in a = {.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)atoi(addr + 4)),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        s = socket(AF_INET, SOCK_STREAM, 0);
        setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        if (bind(s, (struct sockaddr *)&a, sizeof a))
            die("bind");
    }
    if (listen(s, 8))
        die("listen");
    return s;
}

int main(int argc, char **argv)
{
    for (int o; (o = getopt(argc, argv, "ew")) > 0;)
        waiting = o == 'e' ? SLEEP_IN_EPOLL : o == 'w' ? AWAKE : SLEEP_IN_READ;
    if (optind >= argc) {
        fprintf(stderr, "usage: limit [-e|-w] unix:PATH|tcp:PORT [FILE]\n");
        return 2;
    }
    const char *path = argv[optind + 1]; /* argv ends with NULL */
    if (path) {
        struct stat st;
        file = open(path, O_RDWR | O_CLOEXEC);
        if (file < 0 || fstat(file, &st))
            die(path);
        size = (uint64_t)st.st_size;
    }
    mem = malloc(file < 0 ? size : SCRATCH);
    if (!mem)
        die("memory");
    memset(mem, 7, file < 0 ? size : SCRATCH);
    int ep = epoll_create1(0);
    for (int l = listen_on(argv[optind]);;) {
        int s = accept(l, NULL, NULL), one = 1;
        setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct epoll_event e = {.events = EPOLLIN};
        epoll_ctl(ep, EPOLL_CTL_ADD, s, &e);
        connection(s, ep);
        close(s);
    }
}
