/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * blast nbd   tcp:HOST:PORT|unix:PATH EXPORT  [options]
 * blast iscsi tcp:HOST:PORT           IQN LUN [options]
 *   -c connections  -q depth  -b bytes  -t seconds  -r read percent  -s (sequential)
 *   -p server pid (CPU per request)  -S bytes of the device to use  -v (verify: writes a pattern
 * that depends on the offset, and expects reads to give it or zeroes)  -D (iSCSI: header and data
 * digests; those that come are not looked at)  -w (looks for replies all the time and never sleeps,
 * so that no wake-up of the client is in what is measured)
 * Prints one line of JSON; exit 0, 1 after errors or wrong data, 2 when it cannot run.
 */
#include "blast.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

struct settings set = {.conns = 1, .depth = 32, .seconds = 5, .read_percent = 100, .block = 4096};
uint64_t dev_size;
uint8_t *write_data;

static const struct protocol *proto;

static struct {
    bool on;
    uint64_t ops, bytes, errors, wrong;
    uint32_t *latency; /* units of 100 ns */
    size_t count, room;
} result;
static bool stopping;

void die(const char *what)
{
    fprintf(stderr, "blast: %s (%s)\n", what, strerror(errno));
    exit(2);
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t random_bits(void)
{
    static uint64_t x = 88172645463325252u;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return x;
}

static void *need(void *p)
{
    if (!p)
        die("memory");
    return p;
}

/* ---- sockets */

static int dial_unix(const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&a, sizeof a))
        die("connect");
    return fd;
}

int dial(void)
{
    if (!strncmp(set.addr, "unix:", 5))
        return dial_unix(set.addr + 5);
    if (strncmp(set.addr, "tcp:", 4))
        die("the address begins with neither tcp: nor unix:");
    char host[256];
    snprintf(host, sizeof host, "%s", set.addr + 4);
    char *colon = strrchr(host, ':');
    if (!colon)
        die("the address has no port");
    *colon = 0;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *r;
    if (getaddrinfo(host, colon + 1, &hints, &r))
        die("getaddrinfo");
    int fd = socket(r->ai_family, SOCK_STREAM, 0), one = 1;
    if (connect(fd, r->ai_addr, r->ai_addrlen))
        die("connect");
    freeaddrinfo(r);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

void read_all(int fd, void *p, size_t n)
{
    for (uint8_t *b = p; n;) {
        ssize_t k = read(fd, b, n);
        if (k <= 0)
            die("read");
        b += k;
        n -= (size_t)k;
    }
}

void write_all(int fd, const void *p, size_t n)
{
    for (const uint8_t *b = p; n;) {
        ssize_t k = write(fd, b, n);
        if (k <= 0)
            die("write");
        b += k;
        n -= (size_t)k;
    }
}

/* ---- requests */

void put(struct conn *c, const void *p, size_t n)
{
    if (c->out_len + n > c->out_cap) {
        c->out_cap = (c->out_len + n) * 2;
        c->out = need(realloc(c->out, c->out_cap));
    }
    memcpy(c->out + c->out_len, p, n);
    c->out_len += n;
}

static uint64_t pattern(uint64_t off)
{
    return off * 0x9e3779b97f4a7c15u;
}

void put_data(struct conn *c, const struct req *r, uint32_t from, uint32_t n)
{
    for (uint32_t i = 0; set.verify && i < n; i += 8) {
        uint64_t v = pattern(r->off + from + i);
        memcpy(write_data + from + i, &v, sizeof v);
    }
    put(c, write_data + from, n);
}

void got_data(const struct req *r, const uint8_t *p, uint32_t from, uint32_t n)
{
    for (uint32_t i = 0; set.verify && i + 8 <= n; i += 8) {
        uint64_t v;
        memcpy(&v, p + i, sizeof v);
        if (v && v != pattern(r->off + from + i)) {
            result.wrong++;
            return;
        }
    }
}

static void issue(struct conn *c)
{
    uint64_t blocks = (set.limit && set.limit < dev_size ? set.limit : dev_size) / set.block;
    while (c->free_count && !stopping && proto->may_send(c)) {
        unsigned tag = c->free_tags[--c->free_count];
        struct req *r = &c->req[tag];
        r->off = (set.sequential ? c->next_block++ : random_bits()) % blocks * set.block;
        r->read = random_bits() % 100 < set.read_percent;
        r->t0 = now_ns();
        proto->send(c, tag);
    }
}

void finished(struct conn *c, unsigned tag, bool failed)
{
    if (tag >= set.depth)
        die("a reply to no request");
    c->free_tags[c->free_count++] = tag;
    result.errors += failed;
    if (!result.on)
        return;
    result.ops++;
    result.bytes += set.block;
    if (result.count == result.room) {
        result.room = result.room ? result.room * 2 : 1 << 20;
        result.latency = need(realloc(result.latency, result.room * sizeof *result.latency));
    }
    uint64_t units = (now_ns() - c->req[tag].t0) / 100;
    result.latency[result.count++] = units > UINT32_MAX ? UINT32_MAX : (uint32_t)units;
}

/* ---- the loop */

static void flush_out(struct conn *c)
{
    while (c->out_pos < c->out_len) {
        ssize_t k =
            send(c->fd, c->out + c->out_pos, c->out_len - c->out_pos, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (k < 0 && errno == EAGAIN)
            return;
        if (k < 0)
            die("send");
        c->out_pos += (size_t)k;
    }
    c->out_pos = c->out_len = 0;
}

static void take_in(struct conn *c)
{
    ssize_t k = recv(c->fd, c->in + c->in_len, c->in_cap - c->in_len, MSG_DONTWAIT);
    if (k == 0) {
        errno = 0;
        die("the server closed the connection");
    }
    if (k < 0 && errno != EAGAIN)
        die("recv");
    if (k < 0)
        return;
    c->in_len += (size_t)k;
    size_t at = 0;
    for (size_t n; (n = proto->parse(c, c->in + at, c->in_len - at)); at += n)
        ;
    memmove(c->in, c->in + at, c->in_len - at);
    c->in_len -= at;
    issue(c);
}

static void serve(int ep)
{
    struct epoll_event ev[64];
    int n = epoll_wait(ep, ev, 64, set.awake ? 0 : 100);
    for (int i = 0; i < n; i++) {
        struct conn *c = ev[i].data.ptr;
        if (ev[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
            take_in(c);
        flush_out(c);
        struct epoll_event e = {.events = EPOLLIN | (c->out_len ? EPOLLOUT : 0), .data.ptr = c};
        epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e);
    }
}

static void conn_start(struct conn *c, int ep)
{
    int big = 4 << 20;
    proto->open(c);
    if (dev_size < set.block)
        die("the device is smaller than a request");
    c->req = need(calloc(set.depth, sizeof *c->req));
    c->free_tags = need(calloc(set.depth, sizeof *c->free_tags));
    for (unsigned t = 0; t < set.depth; t++)
        c->free_tags[c->free_count++] = t;
    c->in_cap = (size_t)(set.block + 128) * 16 + (1 << 18);
    c->in = need(malloc(c->in_cap));
    c->next_block = random_bits() % (dev_size / set.block);
    setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &big, sizeof big);
    setsockopt(c->fd, SOL_SOCKET, SO_SNDBUF, &big, sizeof big);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &e);
    issue(c);
    flush_out(c);
}

static void conn_end(struct conn *c)
{
    uint8_t msg[48];
    size_t n = proto->bye(c, msg);
    send(c->fd, msg, n, MSG_NOSIGNAL);
    close(c->fd);
    free(c->req);
    free(c->free_tags);
    free(c->in);
    free(c->out);
}

/* ---- measuring */

static double server_cpu(void)
{
    char text[1024];
    unsigned long user = 0, sys = 0;
    snprintf(text, sizeof text, "/proc/%d/stat", set.server_pid);
    FILE *f = set.server_pid ? fopen(text, "r") : NULL;
    if (!f)
        return 0;
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = 0;
    char *p = strrchr(text, ')'); /* proc(5): the name before it may hold anything */
    if (p)
        sscanf(p + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &sys);
    return (double)(user + sys) / (double)sysconf(_SC_CLK_TCK);
}

static double own_cpu(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

struct measure {
    uint64_t begin;
    double seconds, server, own;
};

/* Half a second of warm-up, the measured time, then until all replies are there. */
static struct measure run(struct conn *cs, int ep)
{
    struct measure m = {.seconds = 1};
    uint64_t from = now_ns() + 500000000u, to = from + set.seconds * 1000000000ull;
    for (;;) {
        uint64_t t = now_ns();
        if (!result.on && !stopping && t >= from) {
            result.on = true;
            m = (struct measure){.begin = t, .server = server_cpu(), .own = own_cpu()};
        }
        if (!stopping && t >= to) {
            m.seconds = (double)(t - m.begin) / 1e9;
            m.server = server_cpu() - m.server;
            m.own = own_cpu() - m.own;
            result.on = false;
            stopping = true;
        }
        unsigned busy = 0;
        for (unsigned i = 0; stopping && i < set.conns; i++)
            busy += set.depth - cs[i].free_count;
        if (stopping && (!busy || t > to + 3000000000u))
            return m;
        serve(ep);
    }
}

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static double percentile_us(unsigned permille)
{
    return result.count ? result.latency[result.count * permille / 1000] / 10.0 : 0;
}

static void report(const struct measure *m)
{
    qsort(result.latency, result.count, sizeof *result.latency, by_value);
    printf("{\"iops\":%.0f,\"MBps\":%.1f,\"p50us\":%.1f,\"p99us\":%.1f,\"p999us\":%.1f,"
           "\"errors\":%llu,\"bad\":%llu,\"server_cpu\":%.3f,\"client_cpu\":%.3f,"
           "\"us_per_op\":%.3f}\n",
           (double)result.ops / m->seconds, (double)result.bytes / m->seconds / 1e6,
           percentile_us(500), percentile_us(990), percentile_us(999),
           (unsigned long long)result.errors, (unsigned long long)result.wrong,
           m->server / m->seconds, m->own / m->seconds,
           result.ops ? m->server * 1e6 / (double)result.ops : 0);
}

static void options(int argc, char **argv)
{
    for (int o; (o = getopt(argc, argv, "c:q:b:t:r:sp:S:vDw")) > 0;)
        switch (o) {
        case 'c': set.conns = (unsigned)atoi(optarg); break;
        case 'q': set.depth = (unsigned)atoi(optarg); break;
        case 'b': set.block = (uint32_t)atoi(optarg); break;
        case 't': set.seconds = (unsigned)atoi(optarg); break;
        case 'r': set.read_percent = (unsigned)atoi(optarg); break;
        case 's': set.sequential = true; break;
        case 'p': set.server_pid = atoi(optarg); break;
        case 'S': set.limit = strtoull(optarg, NULL, 10); break;
        case 'v': set.verify = true; break;
        case 'D': set.digests = true; break;
        case 'w': set.awake = true; break;
        default: exit(2);
        }
    if (!set.conns || !set.depth || set.block < 512 || set.block % 512)
        die("connections, depth or bytes are wrong");
}

int main(int argc, char **argv)
{
    bool iscsi = argc > 1 && !strcmp(argv[1], "iscsi");
    if (argc < (iscsi ? 5 : 4)) {
        fprintf(stderr, "usage: the head of blast.c\n");
        return 2;
    }
    proto = iscsi ? &iscsi_protocol : &nbd_protocol;
    set.addr = argv[2];
    set.name = argv[3];
    set.lun = iscsi ? (unsigned)atoi(argv[4]) : 0;
    optind = iscsi ? 5 : 4;
    options(argc, argv);
    write_data = need(malloc(set.block));
    for (uint32_t i = 0; i < set.block; i += 8) {
        uint64_t v = random_bits();
        memcpy(write_data + i, &v, sizeof v);
    }
    int ep = epoll_create1(0);
    struct conn *cs = need(calloc(set.conns, sizeof *cs));
    for (unsigned i = 0; i < set.conns; i++)
        conn_start(&cs[i], ep);
    struct measure m = run(cs, ep);
    for (unsigned i = 0; i < set.conns; i++)
        conn_end(&cs[i]);
    report(&m);
    free(result.latency);
    free(write_data);
    free(cs);
    return result.errors || result.wrong;
}
