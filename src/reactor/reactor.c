/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "reactor/reactor.h"

#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "reactor/reactor_private.h"

/* Deferred calls may beget deferred calls without end (a device that completes at once, a submitter
 * that submits at once): after so many generations the loop looks at its fds again. */
enum { DEFER_GENERATIONS = 64 };

__thread struct reactor *this_reactor;

static struct reactor *reactors[REACTOR_MAX];
static unsigned io_count;
static uint8_t ring_ops[256];

uint64_t clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

struct reactor *reactor_self(void)
{
    assert(this_reactor);
    return this_reactor;
}

bool reactor_is_self(const struct reactor *r)
{
    return this_reactor == r;
}

unsigned reactor_count(void)
{
    return io_count;
}

struct reactor *reactor_get(unsigned index)
{
    assert(index <= io_count);
    return reactors[index];
}

struct reactor *reactor_main(void)
{
    return reactors[io_count];
}

unsigned reactor_index(const struct reactor *r)
{
    return r->index;
}

unsigned reactor_self_index(void)
{
    return reactor_self()->index;
}

uint64_t reactor_now(void)
{
    struct reactor *r = reactor_self();
    if (!r->now_fresh) {
        r->now = clock_ns();
        r->now_fresh = true;
    }
    return r->now;
}

/* ---- posts */

static void kick(struct reactor *r)
{
    uint64_t one = 1;
    ssize_t n = write(r->kick_fd, &one, sizeof one);
    assert(n == sizeof one);
}

void reactor_post(struct reactor *to, struct rpost *post, reactor_fn fn, void *arg)
{
    post->fn = fn;
    post->arg = arg;
    struct rpost *head = __atomic_load_n(&to->inbox, __ATOMIC_RELAXED);
    do
        post->next = head;
    while (!__atomic_compare_exchange_n(&to->inbox, &head, post, true, __ATOMIC_SEQ_CST,
                                        __ATOMIC_RELAXED));
    /* Its reader says that it will sleep, then looks at the inbox once more: either it sees the
     * post, or we see that it sleeps. One of those who post wakes it. */
    if (to != this_reactor && __atomic_load_n(&to->asleep, __ATOMIC_SEQ_CST) &&
        __atomic_exchange_n(&to->asleep, false, __ATOMIC_SEQ_CST))
        kick(to);
}

static void run_inbox(struct reactor *r)
{
    struct rpost *p = __atomic_exchange_n(&r->inbox, NULL, __ATOMIC_ACQUIRE);
    struct rpost *in_order = NULL;
    while (p) {
        struct rpost *next = p->next;
        p->next = in_order;
        in_order = p;
        p = next;
    }
    uint64_t n = 0;
    while (in_order) {
        struct rpost *next = in_order->next; /* fn may free or reuse the post */
        in_order->fn(in_order->arg);
        in_order = next;
        n++;
    }
    if (n)
        relaxed_add(&r->stats.posts, n);
}

static void on_kick(evutil_socket_t fd, short what, void *arg)
{
    (void)what;
    (void)arg;
    uint64_t n;
    ssize_t ignored = read(fd, &n, sizeof n);
    (void)ignored;
}

/* ---- deferred calls and hooks */

bool reactor_defer_pending(const struct rdefer *d)
{
    return d->link.next && d->link.next != &d->link;
}

static void defer_to(struct list *list, struct rdefer *d, reactor_fn fn, void *arg)
{
    assert(!reactor_defer_pending(d));
    d->fn = fn;
    d->arg = arg;
    list_add_tail(list, &d->link);
}

void reactor_defer(struct rdefer *d, reactor_fn fn, void *arg)
{
    defer_to(&reactor_self()->deferred, d, fn, arg);
}

void reactor_at_turn_end(struct rdefer *d, reactor_fn fn, void *arg)
{
    defer_to(&reactor_self()->hooks, d, fn, arg);
}

void reactor_defer_cancel(struct rdefer *d)
{
    if (reactor_defer_pending(d))
        list_del(&d->link);
}

/* A generation may follow long inline work (reads from a memory file system): it gets its own
 * clock, so that latencies are true. */
static void run_list(struct reactor *r, struct list *list)
{
    struct list now = LIST_INIT(now);
    list_splice_tail(&now, list);
    r->now_fresh = false;
    struct list *l;
    while ((l = list_pop(&now))) {
        struct rdefer *d = list_entry(l, struct rdefer, link);
        d->fn(d->arg);
    }
}

/* ---- io_uring */

struct io_uring_sqe *reactor_sqe(struct ring_op *op)
{
    struct reactor *r = reactor_self();
    struct io_uring_sqe *sqe = io_uring_get_sqe(&r->ring);
    if (!sqe) {
        io_uring_submit(&r->ring);
        sqe = io_uring_get_sqe(&r->ring);
        if (!sqe)
            return NULL;
    }
    io_uring_sqe_set_data(sqe, op);
    relaxed_add(&r->stats.sqes, 1);
    return sqe;
}

static unsigned run_completions(struct reactor *r)
{
    unsigned total = 0;
    struct io_uring_cqe *cqe;
    while (!io_uring_peek_cqe(&r->ring, &cqe)) {
        struct ring_op *op = io_uring_cqe_get_data(cqe);
        int res = cqe->res;
        io_uring_cqe_seen(&r->ring, cqe);
        if (op)
            op->fn(op, res);
        total++;
    }
    return total;
}

static void on_ring(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    (void)arg; /* completions are reaped at the end of each turn anyway */
}

bool reactor_ring_can(int io_uring_opcode)
{
    return io_uring_opcode >= 0 && io_uring_opcode < 256 && ring_ops[io_uring_opcode];
}

static int ring_open(struct reactor *r, struct err *e)
{
    int rc = io_uring_queue_init(RING_ENTRIES, &r->ring,
                                 IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SINGLE_ISSUER);
    if (rc == -EINVAL)
        rc = io_uring_queue_init(RING_ENTRIES, &r->ring, 0);
    if (rc < 0)
        return err_set(e, ERR_UNSUPPORTED, "",
                       "io_uring is not available (%s); Orion needs Linux 6.1 or newer with "
                       "kernel.io_uring_disabled=0",
                       strerror(-rc));
    struct io_uring_probe *probe = io_uring_get_probe_ring(&r->ring);
    for (int op = 0; probe && op < 256; op++)
        ring_ops[op] = io_uring_opcode_supported(probe, op) != 0;
    io_uring_free_probe(probe);
    return 0;
}

/* ---- the loop */

static bool has_work(const struct reactor *r)
{
    return __atomic_load_n(&r->inbox, __ATOMIC_SEQ_CST) || !list_empty(&r->deferred) ||
           !list_empty(&r->hooks) || io_uring_cq_ready(&r->ring);
}

/* What others have posted meanwhile is done in the same turn, unless the kernel waits for it to
 * end: reactors that work for one another then need no system call for it. */
static bool more_posts(struct reactor *r)
{
    if (!__atomic_load_n(&r->inbox, __ATOMIC_RELAXED) || io_uring_sq_ready(&r->ring))
        return false;
    r->now_fresh = false;
    run_inbox(r);
    return true;
}

static void run_work(struct reactor *r)
{
    run_inbox(r);
    run_completions(r);
    for (int i = 0; i < DEFER_GENERATIONS; i++) {
        if (list_empty(&r->deferred)) {
            if (!list_empty(&r->hooks))
                run_list(r, &r->hooks);
            else if (!more_posts(r))
                break;
        }
        run_list(r, &r->deferred);
    }
    if (io_uring_sq_ready(&r->ring))
        io_uring_submit(&r->ring);
}

static void turn_ended(struct reactor *r, uint64_t began)
{
    uint64_t end = clock_ns();
    relaxed_add(&r->stats.busy_ns, end - began);
    relaxed_add(&r->stats.turns, 1);
    __atomic_store_n(&r->alive_ns, end, __ATOMIC_RELAXED);
    r->now_fresh = false;
}

/* May it sleep until an event comes? Then who posts knows that it has to be woken. */
static bool fall_asleep(struct reactor *r, uint64_t last_work)
{
    if (has_work(r) || (r->spin_ns && clock_ns() - last_work < r->spin_ns))
        return false;
    __atomic_store_n(&r->asleep, true, __ATOMIC_SEQ_CST);
    return !has_work(r);
}

static void loop(struct reactor *r)
{
    uint64_t last_work = 0;
    while (!__atomic_load_n(&r->quit, __ATOMIC_ACQUIRE)) {
        event_base_loop(r->base, EVLOOP_ONCE | (fall_asleep(r, last_work) ? 0 : EVLOOP_NONBLOCK));
        __atomic_store_n(&r->asleep, false, __ATOMIC_RELAXED);
        bool idle = !r->now_fresh && !has_work(r);
        uint64_t began = reactor_now();
        if (!idle)
            last_work = began;
        run_work(r);
        turn_ended(r, began);
    }
}

static int reactor_open(struct reactor *r, struct err *e)
{
    list_init(&r->deferred);
    list_init(&r->hooks);
    struct event_config *cfg = event_config_new();
    event_config_set_flag(cfg, EVENT_BASE_FLAG_NOLOCK);
    r->base = event_base_new_with_config(cfg);
    event_config_free(cfg);
    if (!r->base)
        return err_set(e, ERR_IO, "", "libevent cannot make an event base");
    if (ring_open(r, e)) {
        event_base_free(r->base);
        r->base = NULL;
        return -1;
    }
    r->kick_ev = event_new(r->base, r->kick_fd, EV_READ | EV_PERSIST, on_kick, r);
    r->ring_ev = event_new(r->base, r->ring.ring_fd, EV_READ | EV_PERSIST, on_ring, r);
    event_add(r->kick_ev, NULL);
    event_add(r->ring_ev, NULL);
    r->alive_ns = clock_ns();
    tasks_reactor_init(r);
    return 0;
}

struct at_exit {
    struct at_exit *next;
    reactor_fn fn;
    void *arg;
};

void reactor_at_exit(reactor_fn fn, void *arg)
{
    struct reactor *r = reactor_self();
    struct at_exit *x = xcalloc(1, sizeof *x);
    *x = (struct at_exit){r->at_exit, fn, arg};
    r->at_exit = x;
}

static void reactor_close(struct reactor *r)
{
    while (r->at_exit) {
        struct at_exit *x = r->at_exit;
        r->at_exit = x->next;
        x->fn(x->arg);
        free(x);
    }
    tasks_reactor_fini(r);
    iobuf_reactor_fini(r);
    event_free(r->kick_ev);
    event_free(r->ring_ev);
    io_uring_queue_exit(&r->ring);
    event_base_free(r->base);
}

struct starting {
    struct reactor *r;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool settled, ok;
    struct err err;
};

static void *io_thread(void *arg)
{
    struct starting *s = arg;
    struct reactor *r = s->r;
    this_reactor = r;
    char name[16];
    snprintf(name, sizeof name, "orion-io%u", r->index);
    pthread_setname_np(pthread_self(), name);
    /* The ring must be made by the thread that submits to it (SINGLE_ISSUER). */
    bool ok = !reactor_open(r, &s->err);
    pthread_mutex_lock(&s->lock);
    s->ok = ok;
    s->settled = true;
    pthread_cond_signal(&s->cond);
    pthread_mutex_unlock(&s->lock);
    if (!ok)
        return NULL;
    loop(r);
    run_work(r);
    reactor_close(r);
    return NULL;
}

static struct reactor *reactor_alloc(unsigned index, const struct reactor_opts *opts)
{
    struct reactor *r = xcalloc_lines(sizeof *r);
    r->index = index;
    r->spin_ns = (uint64_t)opts->spin_us * 1000;
    r->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    assert(r->kick_fd >= 0);
    return r;
}

static int start_io(struct reactor *r, struct err *e)
{
    struct starting s = {
        .r = r, .lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
    sigset_t all, old; /* signals are main's */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = pthread_create(&r->thread, NULL, io_thread, &s);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc)
        return err_set(e, ERR_IO, "", "cannot start a thread: %s", strerror(rc));
    pthread_mutex_lock(&s.lock);
    while (!s.settled)
        pthread_cond_wait(&s.cond, &s.lock);
    pthread_mutex_unlock(&s.lock);
    if (s.ok)
        return 0;
    pthread_join(r->thread, NULL);
    *e = s.err;
    return -1;
}

static unsigned default_count(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set))
        return 1;
    int n = CPU_COUNT(&set);
    return n < 1 ? 1 : n > REACTOR_MAX - 1 ? REACTOR_MAX - 1 : (unsigned)n;
}

static void free_reactor(struct reactor **r)
{
    if (*r) {
        close((*r)->kick_fd);
        free(*r);
        *r = NULL;
    }
}

static void stop_io(void)
{
    for (unsigned i = 0; i < io_count; i++) {
        __atomic_store_n(&reactors[i]->quit, true, __ATOMIC_RELEASE);
        kick(reactors[i]);
        pthread_join(reactors[i]->thread, NULL);
    }
}

int reactors_start(const struct reactor_opts *opts, struct err *e)
{
    assert(!reactors[0]);
    unsigned n = opts->count ? opts->count : default_count();
    if (n > REACTOR_MAX - 1)
        return err_set(e, ERR_INVALID, "reactors", "reactors must be 1 to %d, not %u",
                       REACTOR_MAX - 1, n);
    for (unsigned i = 0; i <= n; i++)
        reactors[i] = reactor_alloc(i, opts);
    unsigned started = 0;
    reactors[n]->spin_ns = 0; /* the control plane never spins */
    this_reactor = reactors[n];
    int rc = reactor_open(reactors[n], e);
    while (!rc && started < n) {
        rc = start_io(reactors[started], e);
        if (!rc)
            started++;
    }
    io_count = rc ? started : n;
    if (!rc)
        return 0;
    stop_io();
    if (reactors[n]->base)
        reactor_close(reactors[n]);
    for (unsigned i = 0; i <= n; i++)
        free_reactor(&reactors[i]);
    io_count = 0;
    this_reactor = NULL;
    return -1;
}

void reactors_run(void)
{
    loop(reactor_main());
}

void reactors_quit(void)
{
    struct reactor *r = reactor_main();
    __atomic_store_n(&r->quit, true, __ATOMIC_RELEASE);
    kick(r);
}

void reactors_stop(void)
{
    helpers_stop();
    struct reactor *m = reactor_main();
    stop_io();
    run_work(m);
    reactor_close(m);
    for (unsigned i = 0; i <= io_count; i++)
        free_reactor(&reactors[i]);
    io_count = 0;
    this_reactor = NULL;
}

/* ---- statistics */

void reactor_get_stats(const struct reactor *r, struct reactor_stats *s)
{
    s->busy_ns = relaxed_load(&r->stats.busy_ns);
    s->turns = relaxed_load(&r->stats.turns);
    s->posts = relaxed_load(&r->stats.posts);
    s->sqes = relaxed_load(&r->stats.sqes);
}

static void answer_probe(void *arg)
{
    struct reactor *r = arg;
    __atomic_store_n(&r->probe_pending, false, __ATOMIC_RELEASE);
}

uint64_t reactors_max_lag(void)
{
    uint64_t now = clock_ns(), worst = 0;
    for (unsigned i = 0; i < io_count; i++) {
        struct reactor *r = reactors[i];
        if (!__atomic_load_n(&r->probe_pending, __ATOMIC_ACQUIRE)) {
            r->probe_sent_ns = now;
            __atomic_store_n(&r->probe_pending, true, __ATOMIC_RELEASE);
            reactor_post(r, &r->probe, answer_probe, r);
        } else if (now - r->probe_sent_ns > worst) {
            worst = now - r->probe_sent_ns;
        }
    }
    return worst;
}
