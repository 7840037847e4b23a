/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_REACTOR_PRIVATE_H
#define ORION_REACTOR_PRIVATE_H

#include <event2/event.h>
#include <event2/event_struct.h>
#include <liburing.h>
#include <pthread.h>
#include <ucontext.h>

#include "base/mem.h"
#include "reactor/iobuf.h"
#include "reactor/reactor.h"
#include "reactor/task.h"

enum { IOBUF_MIN_ORDER = 12, IOBUF_MAX_ORDER = 20, RING_ENTRIES = 512 };

struct task_stack {
    struct task_stack *next;
    void *map;
    void *tsan_fiber;
};

/* Owned by its thread, but for the line of `inbox` and the counters, which are atomic. */
struct reactor {
    unsigned index;
    pthread_t thread;
    struct event_base *base;
    struct io_uring ring;
    int kick_fd;
    struct event *kick_ev, *ring_ev;

    /* What others write: a line of its own, for its neighbours are written with every bio. */
    _Alignas(CACHE_LINE) struct rpost *inbox; /* atomic stack, newest first */
    bool asleep; /* atomic; it sleeps, or will unless it finds work: who posts has to wake it */
    bool quit;   /* atomic */

    _Alignas(CACHE_LINE) struct list deferred, hooks;
    uint64_t now;
    bool now_fresh; /* `now` was read in this turn */
    uint64_t spin_ns;

    struct at_exit *at_exit;

    /* tasks */
    ucontext_t loop_ctx;
    struct task *current;
    void *loop_fake_stack;
    const void *loop_stack;
    size_t loop_stack_size;
    void *tsan_fiber;
    struct task_stack *free_stacks;
    unsigned free_stack_count;
    unsigned live_tasks;

    /* buffers */
    struct iobuf *pool[IOBUF_MAX_ORDER - IOBUF_MIN_ORDER + 1];
    uint64_t pooled;    /* bytes; atomic to read */
    int64_t buf_in_use; /* bytes got minus bytes put here; atomic to read */

    /* counters, written by the thread, read by anyone */
    struct reactor_stats stats;
    uint64_t alive_ns; /* clock when a turn or a probe last ended */
    struct rpost probe;
    bool probe_pending;
    uint64_t probe_sent_ns;
};

/* The calling thread's reactor or NULL. */
extern __thread struct reactor *this_reactor;

void tasks_reactor_init(struct reactor *r);
void tasks_reactor_fini(struct reactor *r);
void iobuf_reactor_fini(struct reactor *r);
void helpers_stop(void);

#define relaxed_add(p, v) __atomic_store_n(p, *(p) + (v), __ATOMIC_RELAXED)
#define relaxed_load(p) __atomic_load_n(p, __ATOMIC_RELAXED)

#endif
