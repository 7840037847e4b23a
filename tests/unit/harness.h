/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_TESTS_HARNESS_H
#define ORION_TESTS_HARNESS_H

/* cmocka.h wants these first, in this order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <assert.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "reactor/task.h"

/*
 * Units with real reactors: HARNESS_TEST(name) { ... } defines a CMocka test whose body runs as a
 * task on main with two I/O reactors. A failed assertion must not longjmp out of a task: use
 * `check`, which prints and aborts. A test that leaves an fd open fails.
 */
#define check(cond)                                                                  \
    do {                                                                             \
        if (!(cond)) {                                                               \
            fprintf(stderr, "%s:%d: check failed: %s\n", __FILE__, __LINE__, #cond); \
            abort();                                                                 \
        }                                                                            \
    } while (0)

#define check_int(a, b)                                                                           \
    do {                                                                                          \
        long long a_ = (long long)(a), b_ = (long long)(b);                                       \
        if (a_ != b_) {                                                                           \
            fprintf(stderr, "%s:%d: %s = %lld, expected %s = %lld\n", __FILE__, __LINE__, #a, a_, \
                    #b, b_);                                                                      \
            abort();                                                                              \
        }                                                                                         \
    } while (0)

/* In a task: waits for the condition, a minute at most. Whatever another reactor does takes as long
 * as it takes: a test that sleeps instead fails on a machine that is busy. */
#define until(cond)                           \
    do {                                      \
        unsigned long until_ms_ = 0;          \
        while (!(cond)) {                     \
            check(until_ms_++ < 60ul * 1000); \
            task_sleep_us(1000);              \
        }                                     \
    } while (0)

static inline unsigned harness_fds(void)
{
    unsigned n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

struct harness_body {
    void (*fn)(void);
};

static inline void harness_task(void *arg)
{
    struct harness_body *b = arg;
    b->fn();
    reactors_quit();
}

static inline void harness_run_n(void (*fn)(void), unsigned count)
{
    unsigned fds = harness_fds();
    struct err e;
    struct reactor_opts opts = {.count = count};
    if (reactors_start(&opts, &e)) {
        fprintf(stderr, "cannot start reactors: %s\n", e.msg);
        abort();
    }
    struct harness_body body = {fn};
    task_start(reactor_main(), "test", harness_task, &body);
    reactors_run();
    reactors_stop();
    check_int(harness_fds(), fds);
}

static inline void harness_run(void (*fn)(void))
{
    harness_run_n(fn, 2);
}

#define HARNESS_TEST(name)         \
    static void name##_body(void); \
    static void name(void **state) \
    {                              \
        (void)state;               \
        harness_run(name##_body);  \
    }                              \
    static void name##_body(void)

#endif
