/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_FUZZ_SESSION_H
#define ORION_FUZZ_SESSION_H

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
#include "targets/target.h"

/*
 * A whole target in threads of its own, for fuzzers whose input is what a client sends. Every
 * session must end when its client has gone. libFuzzer's timer interrupts calls.
 */
typedef void (*session_make_fn)(const char *addr); /* T: listens there, serves device "m" */

static struct sockaddr_un session_sun = {.sun_family = AF_UNIX};
static session_make_fn session_make;
static int session_ready[2];

static inline void session_tell(void)
{
    if (TEMP_FAILURE_RETRY(write(session_ready[1], "", 1)) != 1)
        abort();
}

static inline void session_await(void)
{
    char byte;
    if (TEMP_FAILURE_RETRY(read(session_ready[0], &byte, 1)) != 1)
        abort();
}

static inline void session_begin(void *arg)
{
    (void)arg;
    struct err e = {0};
    struct opts *o = opts_new(mem_driver.opts);
    struct bdev *b;
    char addr[sizeof session_sun.sun_path + 8];
    if (opts_put(o, "size", "1M", &e) || mem_driver.create("m", NULL, o, &b, &e))
        abort();
    opts_free(&o);
    snprintf(addr, sizeof addr, "unix:%s", session_sun.sun_path);
    session_make(addr);
    session_tell();
}

static inline void *session_serve(void *arg)
{
    (void)arg;
    struct err e;
    struct reactor_opts opts = {.count = 1};
    if (reactors_start(&opts, &e))
        abort();
    task_start(reactor_main(), "begin", session_begin, NULL);
    reactors_run();
    return NULL;
}

static inline void session_remove_socket(void)
{
    unlink(session_sun.sun_path);
}

/* A connection; the first one starts the target. */
static inline int session_dial(session_make_fn make)
{
    static pthread_t thread;
    if (!session_make) {
        session_make = make;
        log_set_level(LOG_LEVEL_ERROR);
        snprintf(session_sun.sun_path, sizeof session_sun.sun_path, "/tmp/orion-fuzz-%d.sock",
                 getpid());
        atexit(session_remove_socket);
        if (pipe(session_ready) || pthread_create(&thread, NULL, session_serve, NULL))
            abort();
        session_await();
    }
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (fd < 0 ||
        TEMP_FAILURE_RETRY(connect(fd, (struct sockaddr *)&session_sun, sizeof session_sun)))
        abort();
    return fd;
}

static inline void session_put(int fd, const void *p, size_t len)
{
    ssize_t n = TEMP_FAILURE_RETRY(send(fd, p, len, MSG_NOSIGNAL));
    (void)n; /* the target may have closed */
}

static inline void session_count(const struct session_info *info, void *arg)
{
    (void)info;
    ++*(unsigned *)arg;
}

static inline void session_wait_end(void *arg)
{
    (void)arg;
    unsigned n = 1;
    for (uint64_t began = clock_ns(); n;) {
        assert(clock_ns() - began < 60000000000u);
        n = 0;
        target_sessions(session_count, &n);
        if (n)
            task_sleep_us(30);
    }
    session_tell();
}

/* Sends no more, reads what comes, and waits until no session is left. */
static inline void session_finish(int fd)
{
    char in[16384];
    shutdown(fd, SHUT_WR);
    while (TEMP_FAILURE_RETRY(recv(fd, in, sizeof in, 0)) > 0)
        continue;
    close(fd);
    task_start(reactor_main(), "wait", session_wait_end, NULL);
    session_await();
}

#endif
