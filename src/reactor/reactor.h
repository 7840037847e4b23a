/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_REACTOR_REACTOR_H
#define ORION_REACTOR_REACTOR_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/list.h"

/*
 * A reactor is one thread with one libevent base and one io_uring: it sleeps when idle and never
 * blocks while it works. There are N I/O reactors (the data path) and the main reactor (the control
 * plane; the thread that called reactors_start). All are of the same kind; index 0..N-1 are the I/O
 * reactors, index N is main.
 *
 * One turn of a reactor: wait for events; run fd watches, timers, posts, ring completions; run
 * deferred calls until there are none; run the turn hooks (batched replies go out here); submit all
 * queued sqes with one io_uring_enter.
 *
 * Everything that takes a reactor implicitly means the calling thread's and must run on it.
 */
struct reactor;

enum { REACTOR_MAX = 9 }; /* 8 I/O reactors and main: the size of per-reactor arrays */

typedef void (*reactor_fn)(void *arg);

struct reactor_opts {
    unsigned count;   /* I/O reactors, 1..8; 0: one a CPU of the affinity mask, at most 8 */
    unsigned spin_us; /* busy-wait so long for new work before sleeping; 0: never (default) */
};

/* Starts all reactors; the caller becomes main. Fails with one clear line (no io_uring, ...). */
int reactors_start(const struct reactor_opts *opts, struct err *e);
/* Runs main's loop in the calling thread until reactors_quit(). */
void reactors_run(void);
void reactors_quit(void); /* any thread */
/* After reactors_run returned: stops and joins the I/O reactors, frees everything. */
void reactors_stop(void);

unsigned reactor_count(void);                /* I/O reactors */
struct reactor *reactor_get(unsigned index); /* 0..reactor_count(), the last is main */
struct reactor *reactor_main(void);
struct reactor *reactor_self(void); /* asserts that the caller is a reactor */
bool reactor_is_self(const struct reactor *r);
unsigned reactor_index(const struct reactor *r);
unsigned reactor_self_index(void);

/* Monotonic ns, read once a turn (cheap; good to the length of a turn). Any thread may call
 * clock_ns(), which reads the clock. */
uint64_t reactor_now(void);
uint64_t clock_ns(void);

/* ---- posts: the only way to reach another reactor. The memory is the caller's until fn runs.
 * Posts from one thread to one reactor run in order. One wake-up a batch. Any thread may post. */
struct rpost {
    struct rpost *next;
    reactor_fn fn;
    void *arg;
};
void reactor_post(struct reactor *to, struct rpost *post, reactor_fn fn, void *arg);

/* ---- deferred calls: run later in the same turn, in order, never within the caller. */
struct rdefer {
    struct list link; /* private; zeroed memory is a valid idle rdefer */
    reactor_fn fn;
    void *arg;
};
void reactor_defer(struct rdefer *d, reactor_fn fn, void *arg); /* not again while pending */
void reactor_defer_cancel(struct rdefer *d);
bool reactor_defer_pending(const struct rdefer *d);

/* ---- turn hooks: like rdefer, but after all deferred calls of the turn are done. A hook is one
 * shot: arm it when there is something to flush. It may cause further deferred calls. */
void reactor_at_turn_end(struct rdefer *d, reactor_fn fn, void *arg);

/* Runs fn(arg) on this reactor's thread when it ends, last registered first: for per-reactor
 * caches. */
void reactor_at_exit(reactor_fn fn, void *arg);

/* ---- timers: good to about 5 ms either way (a precise one would cost a system call a turn) */
struct rtimer {
    void *ev; /* private; zeroed memory is a valid idle timer */
    reactor_fn fn;
    void *arg;
};
void rtimer_arm(struct rtimer *t, uint64_t delay_us, reactor_fn fn, void *arg); /* re-arms too */
void rtimer_disarm(struct rtimer *t);
void rtimer_free(struct rtimer *t); /* disarms and gives its memory back; may be called in fn */

/* ---- fd watches: level-triggered. The watch does not own the fd. */
enum { FD_READ = 1, FD_WRITE = 2 };
struct fdwatch;
typedef void (*fdwatch_fn)(void *arg, unsigned events);
struct fdwatch *fdwatch_new(int fd, unsigned events, fdwatch_fn fn, void *arg);
void fdwatch_set(struct fdwatch *w, unsigned events); /* 0 = pause */
void fdwatch_free(struct fdwatch **w); /* may be called in fn; fn is not called again */

/* ---- io_uring, for drivers: reactor_sqe gives an sqe to fill (io_uring_prep_*), whose user data
 * is set to *op; it is submitted at the end of the turn. op->fn runs with op->res = cqe->res. NULL:
 * the ring is full even after submitting (retry from reactor_defer). */
struct io_uring_sqe;
struct ring_op {
    void (*fn)(struct ring_op *op, int res);
};
struct io_uring_sqe *reactor_sqe(struct ring_op *op);
bool reactor_ring_can(int io_uring_opcode); /* IORING_OP_*, as probed at start */

/* ---- statistics, for metrics: busy and total time in ns, turns, wake-ups; any thread may read. */
struct reactor_stats {
    uint64_t busy_ns, turns, posts, sqes;
};
void reactor_get_stats(const struct reactor *r, struct reactor_stats *stats_r);
/* ns since the reactor last finished a turn or was seen to respond: the watchdog's question. Posts
 * a probe to each; call it every few seconds from main. */
uint64_t reactors_max_lag(void);

#endif
