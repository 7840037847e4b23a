/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "harness.h"

#include <liburing.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "reactor/iobuf.h"

static unsigned order[64], ordered;

static void note(void *arg)
{
    order[ordered++] = (unsigned)(uintptr_t)arg;
}

HARNESS_TEST(posts_from_one_thread_run_in_order)
{
    static struct rpost post[16];
    ordered = 0;
    for (unsigned i = 0; i < 16; i++)
        reactor_post(reactor_main(), &post[i], note, (void *)(uintptr_t)i);
    check_int(ordered, 0); /* never within the poster */
    until(ordered == 16);
    for (unsigned i = 0; i < 16; i++)
        check_int(order[i], i);
}

/* Two that sleep as soon as they have thrown it back. */
struct ball {
    struct rpost post;
    unsigned left;
    bool down; /* atomic */
};

static void throw_back(void *arg)
{
    struct ball *ball = arg;
    struct reactor *other = reactor_get(1 - reactor_self_index());
    if (ball->left--)
        reactor_post(other, &ball->post, throw_back, ball);
    else
        __atomic_store_n(&ball->down, true, __ATOMIC_RELEASE);
}

HARNESS_TEST(no_wake_up_is_lost_between_two_that_sleep)
{
    struct ball ball[3] = {{.left = 20000}, {.left = 20000}, {.left = 20000}};
    for (unsigned i = 0; i < 3; i++)
        reactor_post(reactor_get(i % 2), &ball[i].post, throw_back, &ball[i]);
    for (unsigned i = 0; i < 3; i++)
        until(__atomic_load_n(&ball[i].down, __ATOMIC_ACQUIRE));
}

static struct rdefer a, b, hook;

static void at_end(void *arg)
{
    (void)arg;
    order[ordered++] = 99;
}

static void again(void *arg)
{
    note(arg);
    reactor_defer(&b, note, (void *)7);
}

HARNESS_TEST(hooks_run_after_all_deferred_calls)
{
    ordered = 0;
    reactor_at_turn_end(&hook, at_end, NULL);
    reactor_defer(&a, again, (void *)5);
    check(reactor_defer_pending(&a));
    until(ordered == 3);
    check_int(order[0], 5);
    check_int(order[1], 7);
    check_int(order[2], 99);
}

HARNESS_TEST(cancelled_deferred_call_does_not_run)
{
    ordered = 0;
    reactor_defer(&a, note, NULL);
    reactor_defer_cancel(&a);
    check(!reactor_defer_pending(&a));
    task_sleep_us(1000);
    check_int(ordered, 0);
}

struct watched {
    struct fdwatch *w;
    int fd;
    unsigned reads, events;
    struct task *task;
};

static void readable(void *arg, unsigned events)
{
    struct watched *x = arg;
    char c[8];
    x->events |= events;
    if (read(x->fd, c, sizeof c) > 0)
        x->reads++;
    fdwatch_free(&x->w); /* legal in the callback */
    task_wake(x->task);
}

HARNESS_TEST(fd_watch_fires_and_may_be_freed_within)
{
    int sv[2];
    check(!socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
    struct watched x = {.fd = sv[0], .task = task_self()};
    x.w = fdwatch_new(sv[0], 0, readable, &x);
    check_int(write(sv[1], "x", 1), 1);
    task_sleep_us(2000);
    check_int(x.reads, 0); /* paused */
    fdwatch_set(x.w, FD_READ);
    task_park();
    check_int(x.reads, 1);
    check_int(x.events, FD_READ);
    check(!x.w);
    close(sv[0]);
    close(sv[1]);
}

struct read_op {
    struct ring_op op;
    int res;
    struct task *task;
};

static void read_done(struct ring_op *op, int res)
{
    struct read_op *r = (struct read_op *)op;
    r->res = res;
    task_wake(r->task);
}

HARNESS_TEST(ring_completes_a_read)
{
    int fd[2];
    check(!pipe(fd));
    check_int(write(fd[1], "orion", 5), 5);
    char buf[16] = {0};
    struct read_op r = {.op.fn = read_done, .task = task_self()};
    struct io_uring_sqe *sqe = reactor_sqe(&r.op);
    check(sqe);
    io_uring_prep_read(sqe, fd[0], buf, sizeof buf, (uint64_t)-1);
    task_park();
    check_int(r.res, 5);
    check(!strcmp(buf, "orion"));
    check(reactor_ring_can(IORING_OP_READV));
    check(!reactor_ring_can(255));
    close(fd[0]);
    close(fd[1]);
}

struct flood {
    struct ring_op op;
    unsigned done;
    struct task *task;
};

static void nop_done(struct ring_op *op, int res)
{
    struct flood *f = (struct flood *)op;
    check_int(res, 0);
    if (++f->done == 4000)
        task_wake(f->task);
}

HARNESS_TEST(more_sqes_than_the_ring_holds_all_complete)
{
    struct flood f = {.op.fn = nop_done, .task = task_self()};
    for (unsigned i = 0; i < 4000; i++) {
        struct io_uring_sqe *sqe;
        while (!(sqe = reactor_sqe(&f.op)))
            task_yield();
        io_uring_prep_nop(sqe);
    }
    task_park();
    check_int(f.done, 4000);
}

static void timer_fired(void *arg)
{
    task_wake(arg);
}

HARNESS_TEST(timers_fire_once_and_can_be_disarmed)
{
    struct rtimer t = {0};
    uint64_t t0 = clock_ns();
    rtimer_arm(&t, 30000, timer_fired, task_self());
    task_park();
    check(clock_ns() - t0 >= 24000000);
    ordered = 0;
    rtimer_arm(&t, 1000, note, NULL);
    rtimer_disarm(&t);
    task_sleep_us(20000);
    check_int(ordered, 0);
    rtimer_free(&t);
}

static void drop(void *arg)
{
    struct iobuf *buf = arg;
    iobuf_put(&buf);
}

HARNESS_TEST(buffers_are_aligned_counted_and_may_end_elsewhere)
{
    uint64_t in_use, pooled;
    struct iobuf *x = iobuf_get(5000);
    check(x && x->size >= 5000);
    check_int((uintptr_t)x->data % 4096, 0);
    iobuf_stats(&in_use, &pooled);
    check_int(in_use, x->size);
    struct iobuf *y = iobuf_ref(x);
    iobuf_put(&x);
    check(!x);
    memset(y->data, 1, y->size);
    task_call(reactor_get(0), drop, y);
    iobuf_stats(&in_use, &pooled);
    check_int(in_use, 0);
    check(!iobuf_get((64u << 20) + 1));
}

static void stuck(void *arg)
{
    while (!__atomic_load_n((bool *)arg, __ATOMIC_ACQUIRE))
        usleep(1000);
}

/* Asks until all reactors have answered, however slow the machine is. */
static void until_no_lag(void)
{
    uint64_t lag = reactors_max_lag();
    for (int i = 0; i < 6000 && (lag || i < 2); i++) {
        task_sleep_us(10000);
        lag = reactors_max_lag();
    }
    check_int(lag, 0);
}

HARNESS_TEST(lag_shows_a_reactor_that_does_not_answer)
{
    static struct rpost post;
    static bool go_on;
    until_no_lag();
    reactor_post(reactor_get(1), &post, stuck, &go_on);
    task_sleep_us(1000);
    for (int i = 0; i < 6000 && reactors_max_lag() < 15000000; i++)
        task_sleep_us(10000);
    check(reactors_max_lag() >= 15000000);
    __atomic_store_n(&go_on, true, __ATOMIC_RELEASE);
    until_no_lag();
}

static void idle_costs_no_turns(void **state)
{
    (void)state;
    struct err e;
    struct reactor_opts opts = {.count = 2};
    check(!reactors_start(&opts, &e));
    struct reactor_stats before, after;
    unsigned tries = 0;
    do { /* its first turns may come late */
        check(tries++ < 60);
        reactor_get_stats(reactor_get(0), &before);
        usleep(200000);
        reactor_get_stats(reactor_get(0), &after);
    } while (after.turns != before.turns);
    reactors_stop();
}

static void too_many_reactors_are_refused(void **state)
{
    (void)state;
    struct err e;
    struct reactor_opts opts = {.count = 99};
    check(reactors_start(&opts, &e) == -1);
    check_int(e.code, ERR_INVALID);
    check(!strcmp(e.field, "reactors"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(posts_from_one_thread_run_in_order),
        cmocka_unit_test(no_wake_up_is_lost_between_two_that_sleep),
        cmocka_unit_test(hooks_run_after_all_deferred_calls),
        cmocka_unit_test(cancelled_deferred_call_does_not_run),
        cmocka_unit_test(fd_watch_fires_and_may_be_freed_within),
        cmocka_unit_test(ring_completes_a_read),
        cmocka_unit_test(more_sqes_than_the_ring_holds_all_complete),
        cmocka_unit_test(timers_fire_once_and_can_be_disarmed),
        cmocka_unit_test(buffers_are_aligned_counted_and_may_end_elsewhere),
        cmocka_unit_test(lag_shows_a_reactor_that_does_not_answer),
        cmocka_unit_test(idle_costs_no_turns),
        cmocka_unit_test(too_many_reactors_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
