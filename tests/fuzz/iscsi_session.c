/* SPDX-License-Identifier: GPL-2.0-or-later */
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
#include "targets/iscsi/iscsi.h"
#include "targets/iscsi/pdu.h"
#include "targets/iscsi/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A whole target in a thread of its own; the input is what a client sends. */
#define IQN "iqn.2026-11.fuzz:t"
static struct sockaddr_un sun = {.sun_family = AF_UNIX};
static int ready[2];

static void make_device(void)
{
    struct err e = {0};
    struct opts *o = opts_new(mem_driver.opts);
    struct bdev *b;
    if (opts_put(o, "size", "1M", &e) || mem_driver.create("m", NULL, o, &b, &e))
        abort();
    opts_free(&o);
}

static void begin(void *arg)
{
    (void)arg;
    struct err e = {0};
    struct iscsi_lun_args lun = {.lun = 0, .device = "m"};
    char addr[sizeof sun.sun_path + 8];
    make_device();
    snprintf(addr, sizeof addr, "unix:%s", sun.sun_path);
    if (iscsi_init(&e) || iscsi_target_add(IQN, NULL, false, &e) || iscsi_lun_add(IQN, &lun, &e) ||
        iscsi_portal_add(addr, 1, &e))
        abort();
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
    snprintf(sun.sun_path, sizeof sun.sun_path, "/tmp/orion-fuzz-%d.sock", getpid());
    atexit(remove_socket);
    if (pipe(ready) || pthread_create(&thread, NULL, serve, NULL))
        abort();
    await();
}

/* libFuzzer's timer interrupts calls. */
static void put(int fd, const void *p, size_t len)
{
    ssize_t n = TEMP_FAILURE_RETRY(send(fd, p, len, MSG_NOSIGNAL));
    (void)n; /* the target may have closed */
}

static bool exchange(int fd, uint8_t flags, const struct text *t)
{
    struct iscsi_pdu p = {.op = OP_LOGIN_REQ, .immediate = true, .flags = flags, .w24 = 1};
    p.data_len = (uint32_t)t->len;
    uint8_t head[ISCSI_BHS], pad[4] = {0}, in[8192];
    iscsi_pdu_build(&p, head);
    put(fd, head, sizeof head);
    put(fd, t->p, t->len);
    put(fd, pad, iscsi_pad(p.data_len));
    return TEMP_FAILURE_RETRY(recv(fd, in, sizeof in, 0)) >= ISCSI_BHS;
}

/* mode: bit 0 full feature phase, bit 1 discovery, bit 2 InitialR2T=No, bit 3 somebody else resets
 * the LUN in the middle of it */
static void log_in(int fd, unsigned mode, const char *name)
{
    struct text t = {0};
    text_add(&t, "InitiatorName", "%s", name);
    text_add(&t, "SessionType", "%s", mode & 2 ? "Discovery" : "Normal");
    text_add(&t, "TargetName", "%s", IQN);
    text_add(&t, "InitialR2T", "%s", mode & 4 ? "No" : "Yes");
    bool ok = exchange(fd, F_TRANSIT | 1 << 2 | 3, &t);
    assert(ok);
    text_free(&t);
}

static int dial(void)
{
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (fd < 0 || TEMP_FAILURE_RETRY(connect(fd, (struct sockaddr *)&sun, sizeof sun)))
        abort();
    return fd;
}

static void reset_lun(void)
{
    struct iscsi_pdu p = {.op = OP_TMF_REQ, .immediate = true, .flags = F_FINAL | 5, .w24 = 1};
    uint8_t head[ISCSI_BHS], in[512];
    int fd = dial();
    log_in(fd, 1, "iqn.a:j");
    iscsi_pdu_build(&p, head);
    put(fd, head, sizeof head);
    ssize_t n = TEMP_FAILURE_RETRY(recv(fd, in, sizeof in, 0));
    assert(n >= ISCSI_BHS);
    close(fd);
}

static void count(const struct session_info *info, void *arg)
{
    (void)info;
    ++*(unsigned *)arg;
}

/* Every session must end when its client has gone. */
static void wait_end(void *arg)
{
    (void)arg;
    unsigned n = 1;
    for (uint64_t began = clock_ns(); n;) {
        assert(clock_ns() - began < 5000000000u);
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
    if (!ready[1])
        start();
    if (!size)
        return 0;
    int fd = dial();
    if (data[0] & 1)
        log_in(fd, data[0], "iqn.a:i");
    size_t half = data[0] & 8 ? (size - 1) / 2 : size - 1;
    put(fd, data + 1, half);
    if (half < size - 1)
        reset_lun();
    put(fd, data + 1 + half, size - 1 - half);
    shutdown(fd, SHUT_WR);
    char in[4096];
    while (TEMP_FAILURE_RETRY(recv(fd, in, sizeof in, 0)) > 0)
        ;
    close(fd);
    task_start(reactor_main(), "end", wait_end, NULL);
    await();
    return 0;
}
