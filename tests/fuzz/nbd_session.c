/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Options, then requests, to a whole server: whatever comes, every session ends when its client has
 * gone. */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "drivers/drivers.h"
#include "reactor/task.h"
#include "targets/nbd/nbd.h"
#include "targets/nbd/nbd_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct sockaddr_un sun = {.sun_family = AF_UNIX};
static int ready[2];

static void begin(void *arg)
{
    (void)arg;
    struct err e = {0};
    struct opts *o = opts_new(mem_driver.opts);
    struct bdev *b;
    char addr[sizeof sun.sun_path + 8];
    snprintf(addr, sizeof addr, "unix:%s", sun.sun_path);
    struct nbd_listen_args listen = {.addr = addr};
    struct nbd_export_args args = {.name = "m", .device = "m"};
    if (opts_put(o, "size", "1M", &e) || mem_driver.create("m", NULL, o, &b, &e) || nbd_init(&e) ||
        nbd_export_add(&args, &e) || nbd_listen(&listen, &e))
        abort();
    opts_free(&o);
    if (write(ready[1], "", 1) != 1)
        abort();
}

static void *serve(void *arg)
{
    (void)arg;
    struct err e;
    struct reactor_opts opts = {.count = 1};
    if (reactors_start(&opts, &e))
        abort();
    task_start(reactor_main(), "begin", begin, NULL);
    reactors_run();
    return NULL;
}

static void remove_socket(void)
{
    unlink(sun.sun_path);
}

static void await(void)
{
    char byte;
    if (TEMP_FAILURE_RETRY(read(ready[0], &byte, 1)) != 1)
        abort();
}

static void start(void)
{
    static pthread_t thread;
    log_set_level(LOG_LEVEL_ERROR);
    snprintf(sun.sun_path, sizeof sun.sun_path, "/tmp/orion-fuzz-nbd-%d.sock", getpid());
    atexit(remove_socket);
    if (pipe(ready) || pthread_create(&thread, NULL, serve, NULL))
        abort();
    await();
}

static void put(int fd, const void *p, size_t len)
{
    ssize_t n = TEMP_FAILURE_RETRY(send(fd, p, len, MSG_NOSIGNAL));
    (void)n; /* the server may have closed */
}

static void put_option(int fd, uint32_t option, const void *data, uint32_t len)
{
    uint8_t head[NBD_OPTION_HEADER_SIZE];
    struct wr w = wr_make(head, sizeof head);
    wr_be64(&w, NBD_OPTION_MAGIC);
    wr_be32(&w, option);
    wr_be32(&w, len);
    put(fd, head, sizeof head);
    put(fd, data, len);
}

/* The way to transmission; the input's first byte is how: 1 structured replies, 2 extended headers,
 * 4 with base:allocation; 8: the input is options itself. */
static void enter(int fd, uint8_t how)
{
    static const uint8_t context[] = "\0\0\0\1m\0\0\0\1\0\0\0\17base:allocation";
    put(fd, "\0\0\0\3", 4);
    if (how & 8)
        return;
    if (how & 3)
        put_option(fd, how & 2 ? NBD_OPT_EXTENDED_HEADERS : NBD_OPT_STRUCTURED_REPLY, NULL, 0);
    if (how & 4)
        put_option(fd, NBD_OPT_SET_META_CONTEXT, context, sizeof context - 1);
    put_option(fd, NBD_OPT_GO, "\0\0\0\1m\0\0", 7);
}

static void count(const struct session_info *info, void *arg)
{
    (void)info;
    ++*(unsigned *)arg;
}

static void wait_end(void *arg)
{
    (void)arg;
    unsigned n = 1;
    for (uint64_t began = clock_ns(); n;) {
        assert(clock_ns() - began < 20000000000u);
        n = 0;
        target_sessions(count, &n);
        if (n)
            task_sleep_us(30);
    }
    if (write(ready[1], "", 1) != 1)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t in[16384];
    if (!ready[1])
        start();
    if (!size || size > 65536)
        return 0;
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (fd < 0 || TEMP_FAILURE_RETRY(connect(fd, (struct sockaddr *)&sun, sizeof sun)))
        abort();
    enter(fd, data[0]);
    put(fd, data + 1, size - 1);
    shutdown(fd, SHUT_WR);
    while (TEMP_FAILURE_RETRY(recv(fd, in, sizeof in, 0)) > 0)
        continue;
    close(fd);
    task_start(reactor_main(), "wait", wait_end, NULL);
    await();
    return 0;
}
