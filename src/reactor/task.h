/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_REACTOR_TASK_H
#define ORION_REACTOR_TASK_H

#include <stdbool.h>
#include <stdint.h>

#include "reactor/reactor.h"

/*
 * Tasks: sequential code on an event loop. A task is a stackful coroutine that belongs to one
 * reactor and runs only there; it gives the thread back whenever it waits. Control verbs, assembly,
 * kicks, rebuilds and superblock writes are tasks, so that their order of steps can be read from
 * top to bottom. The I/O path has none.
 *
 * Between two waits a task is not interrupted by anything else of its reactor: data owned by the
 * reactor needs no lock. After every wait, look at shared data anew.
 *
 * The stack is 256 KiB with a guard page: no large arrays on it, no deep recursion.
 */
struct task;

/* Starts fn(arg) on reactor `on` (any thread may call). It first runs on a later turn. */
void task_start(struct reactor *on, const char *name, reactor_fn fn, void *arg);

struct task *task_self(void); /* NULL outside a task */
bool task_in(void);

/* Waits until task_wake(). A wake that comes first is not lost; each park takes exactly one. */
void task_park(void);
void task_wake(struct task *t); /* any thread; t must not have ended */

void task_sleep_us(uint64_t us);
void task_yield(void); /* lets the reactor run one turn */

/* Runs fn(arg) as a task on another reactor and waits for its end. */
void task_call(struct reactor *on, reactor_fn fn, void *arg);
/* The same on every I/O reactor and main, at once; waits for all. fn must be thread-safe. */
void task_call_all(reactor_fn fn, void *arg);

/*
 * Blocking work (open, close, fsync, blkid, getaddrinfo, unlink): runs fn(arg) on a helper thread
 * and waits. helper_run is for code outside tasks: fn on a helper thread, then done on the caller's
 * reactor (done may be NULL).
 */
void task_help(reactor_fn fn, void *arg);
void helper_run(reactor_fn fn, reactor_fn done, void *arg);

/* A mutex between tasks of one reactor; FIFO. Zeroed memory is an unlocked one after tlock_init. */
struct tlock {
    struct list waiters;
    struct task *owner;
};
void tlock_init(struct tlock *l);
void tlock_lock(struct tlock *l);
void tlock_unlock(struct tlock *l);

/* Waits for a number of things that end by callback on this reactor:
 *     struct twait w = TWAIT(n); start n things, each calls twait_done(&w); twait_all(&w); */
struct twait {
    struct task *task;
    unsigned pending;
    bool waiting;
};
#define TWAIT(n)                            \
    {                                       \
        .task = task_self(), .pending = (n) \
    }
void twait_done(struct twait *w); /* on the task's reactor */
void twait_all(struct twait *w);

#endif
