/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "nbd/client.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "targets/target.h"

char server_addr[80];

void server_begin(void)
{
    char dir[] = "/tmp/orion-nbd-XXXXXX";
    struct err e = {0};
    check(mkdtemp(dir));
    snprintf(server_addr, sizeof server_addr, "unix:%s/s", dir);
    check(!nbd_init(&e));
    if (nbd_listen(&(struct nbd_listen_args){.addr = server_addr}, &e))
        fprintf(stderr, "%s\n", e.msg);
    check_int(e.code, 0);
}

void server_end(void)
{
    nbd_shutdown();
    *strrchr(server_addr, '/') = '\0';
    check_int(rmdir(server_addr + 5), 0);
}

void export_device(const char *name, const char *device, bool read_only)
{
    struct err e = {0};
    struct nbd_export_args args = {.name = name, .device = device, .read_only = read_only};
    if (nbd_export_add(&args, &e))
        fprintf(stderr, "%s: %s\n", name, e.msg);
    check_int(e.code, 0);
}

void client(reactor_fn fn, void *arg)
{
    task_help(fn, arg);
}

static void count_session(const struct session_info *info, void *arg)
{
    (void)info;
    ++*(unsigned *)arg;
}

void wait_sessions(unsigned n)
{
    unsigned count = 0;
    for (unsigned i = 0; i < 3000; i++) {
        count = 0;
        target_sessions(count_session, &count);
        if (count == n)
            return;
        task_sleep_us(1000);
    }
    check_int(count, n);
}

int dial(void)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    check(fd >= 0);
    snprintf(sun.sun_path, sizeof sun.sun_path, "%s", server_addr + 5);
    check(!connect(fd, (struct sockaddr *)&sun, sizeof sun));
    return fd;
}

void send_bytes(int fd, const void *p, size_t len)
{
    while (len) {
        ssize_t n = send(fd, p, len, MSG_NOSIGNAL);
        check(n > 0);
        p = (const char *)p + n;
        len -= (size_t)n;
    }
}

bool recv_bytes(int fd, void *p, size_t len)
{
    while (len) {
        ssize_t n = recv(fd, p, len, 0);
        if (n <= 0)
            return false;
        p = (char *)p + n;
        len -= (size_t)n;
    }
    return true;
}

bool is_closed(int fd)
{
    char c;
    ssize_t n = recv(fd, &c, 1, 0);
    return n == 0 || (n < 0 && errno == ECONNRESET);
}

uint32_t go(int fd, const char *name, struct go *go_r)
{
    uint8_t b[400];
    check(recv_bytes(fd, b, NBD_HELLO_SIZE));
    struct wr w = wr_make(b, sizeof b);
    wr_be32(&w, 3);
    wr_be64(&w, NBD_OPTION_MAGIC);
    wr_be32(&w, NBD_OPT_GO);
    wr_be32(&w, 6 + strlen(name));
    wr_be32(&w, strlen(name));
    wr_copy(&w, name, strlen(name));
    wr_be16(&w, 0);
    send_bytes(fd, b, w.pos);
    for (;;) {
        check(recv_bytes(fd, b, NBD_OPTION_REPLY_SIZE));
        struct rd r = rd_make(b, NBD_OPTION_REPLY_SIZE);
        rd_skip(&r, 12);
        uint32_t type = rd_be32(&r), len = rd_be32(&r);
        check(len < sizeof go_r->why);
        check(recv_bytes(fd, b, len));
        r = rd_make(b, len);
        if (type == NBD_REP_ACK)
            return 0;
        if (type != NBD_REP_INFO) {
            memcpy(go_r->why, b, len);
            go_r->why[len] = '\0';
            return type;
        }
        rd_skip(&r, 2);
        go_r->size = rd_be64(&r);
        go_r->flags = rd_be16(&r);
    }
}

int connect_to(const char *name)
{
    struct go g;
    int fd = dial();
    check_int(go(fd, name, &g), 0);
    return fd;
}

void put_request(struct wr *w, unsigned type, unsigned flags, uint64_t cookie, uint64_t offset,
                 uint32_t len)
{
    wr_be32(w, NBD_REQUEST_MAGIC);
    wr_be16(w, flags);
    wr_be16(w, type);
    wr_be64(w, cookie);
    wr_be64(w, offset);
    wr_be32(w, len);
    check(wr_ok(w));
}

void send_request(int fd, unsigned type, unsigned flags, uint64_t cookie, uint64_t offset,
                  uint32_t len)
{
    uint8_t b[NBD_REQUEST_SIZE];
    struct wr w = wr_make(b, sizeof b);
    put_request(&w, type, flags, cookie, offset, len);
    send_bytes(fd, b, sizeof b);
}

enum nbd_error recv_reply(int fd, uint64_t *cookie_r)
{
    uint8_t b[NBD_SIMPLE_REPLY_SIZE];
    check(recv_bytes(fd, b, sizeof b));
    struct rd r = rd_make(b, sizeof b);
    check(rd_be32(&r) == NBD_SIMPLE_REPLY_MAGIC);
    enum nbd_error error = rd_be32(&r);
    *cookie_r = rd_be64(&r);
    return error;
}

enum nbd_error do_read(int fd, uint64_t offset, void *buf, uint32_t len)
{
    uint64_t cookie;
    send_request(fd, NBD_CMD_READ, 0, 42, offset, len);
    enum nbd_error error = recv_reply(fd, &cookie);
    check_int(cookie, 42);
    if (!error)
        check(recv_bytes(fd, buf, len));
    return error;
}

enum nbd_error do_write(int fd, unsigned flags, uint64_t offset, const void *buf, uint32_t len)
{
    uint64_t cookie;
    send_request(fd, NBD_CMD_WRITE, flags, 43, offset, len);
    send_bytes(fd, buf, len);
    enum nbd_error error = recv_reply(fd, &cookie);
    check_int(cookie, 43);
    return error;
}

enum nbd_error do_simple(int fd, unsigned type, unsigned flags, uint64_t offset, uint32_t len)
{
    uint64_t cookie;
    send_request(fd, type, flags, 44, offset, len);
    enum nbd_error error = recv_reply(fd, &cookie);
    check_int(cookie, 44);
    return error;
}

void fill(uint8_t *buf, size_t len, uint64_t seed)
{
    for (size_t i = 0; i < len; i++) {
        seed = seed * 6364136223846793005ull + 1442695040888963407ull;
        buf[i] = (uint8_t)(seed >> 56);
    }
}
