/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "reactor/task.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/mem.h"
#include "reactor/reactor_private.h"

#if defined(__SANITIZE_ADDRESS__)
#define ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ASAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TSAN 1
#endif
#endif

#ifdef ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef TSAN
#include <sanitizer/tsan_interface.h>
#endif

enum { POSTED = 1, ONE_WAKE = 2 };
enum { STACK_SIZE = 256 * 1024, GUARD_SIZE = 4096, KEEP_STACKS = 4 };

struct task {
    struct reactor *home;
    const char *name;
    reactor_fn fn;
    void *arg;
    ucontext_t ctx;
    struct task_stack *stack;
    void *fake_stack;
    /* Atomic: twice the wakes not yet taken by a park, and the bit POSTED while `post` is on its
     * way. One word, so that a waker touches the task in one step: as long as POSTED is set the
     * task is not freed, and who finds it set does not come back. */
    unsigned wakes;
    bool parked, ended;
    struct rpost post;
    struct rtimer timer;
};

/* ---- stacks */

static struct task_stack *stack_get(struct reactor *r)
{
    struct task_stack *s = r->free_stacks;
    if (s) {
        r->free_stacks = s->next;
        r->free_stack_count--;
    } else {
        s = xcalloc(1, sizeof *s);
        s->map = mmap(NULL, STACK_SIZE + GUARD_SIZE, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
        if (s->map == MAP_FAILED || mprotect(s->map, GUARD_SIZE, PROT_NONE))
            abort();
    }
#ifdef TSAN
    s->tsan_fiber = __tsan_create_fiber(0);
#endif
    return s;
}

static void *stack_base(const struct task_stack *s)
{
    return (char *)s->map + GUARD_SIZE;
}

static void stack_unmap(struct task_stack *s)
{
    munmap(s->map, STACK_SIZE + GUARD_SIZE);
    free(s);
}

static void stack_put(struct reactor *r, struct task_stack *s)
{
#ifdef TSAN
    __tsan_destroy_fiber(s->tsan_fiber);
#endif
#ifdef ASAN
    __asan_unpoison_memory_region(stack_base(s), STACK_SIZE);
#endif
    if (r->free_stack_count >= KEEP_STACKS) {
        stack_unmap(s);
        return;
    }
    s->next = r->free_stacks;
    r->free_stacks = s;
    r->free_stack_count++;
}

void tasks_reactor_init(struct reactor *r)
{
#ifdef TSAN
    r->tsan_fiber = __tsan_get_current_fiber();
#endif
    (void)r;
}

void tasks_reactor_fini(struct reactor *r)
{
    while (r->free_stacks) {
        struct task_stack *s = r->free_stacks;
        r->free_stacks = s->next;
        stack_unmap(s);
    }
    r->free_stack_count = 0;
}

/* ---- switching */

static void task_free(struct task *t)
{
    rtimer_free(&t->timer);
    t->home->live_tasks--;
    free(t);
}

/* Loop -> task, until the task parks or ends. */
static void resume(struct task *t)
{
    struct reactor *r = t->home;
    assert(r == this_reactor && !r->current);
    r->current = t;
#ifdef ASAN
    __sanitizer_start_switch_fiber(&r->loop_fake_stack, stack_base(t->stack), STACK_SIZE);
#endif
#ifdef TSAN
    __tsan_switch_to_fiber(t->stack->tsan_fiber, 0);
#endif
    swapcontext(&r->loop_ctx, &t->ctx);
#ifdef ASAN
    __sanitizer_finish_switch_fiber(r->loop_fake_stack, NULL, NULL);
#endif
    r->current = NULL;
    if (!t->ended)
        return;
    stack_put(r, t->stack);
    t->stack = NULL;
    /* A wake that the task took before parking may still be on its way: its handler frees then. */
    if (!(__atomic_load_n(&t->wakes, __ATOMIC_SEQ_CST) & POSTED))
        task_free(t);
}

/* Task -> loop. */
static void suspend(struct task *t)
{
    struct reactor *r = t->home;
#ifdef ASAN
    __sanitizer_start_switch_fiber(t->ended ? NULL : &t->fake_stack, r->loop_stack,
                                   r->loop_stack_size);
#endif
#ifdef TSAN
    __tsan_switch_to_fiber(r->tsan_fiber, 0);
#endif
    swapcontext(&t->ctx, &r->loop_ctx);
#ifdef ASAN
    __sanitizer_finish_switch_fiber(t->fake_stack, &r->loop_stack, &r->loop_stack_size);
#endif
}

static void task_main(void)
{
    struct task *t = this_reactor->current;
#ifdef ASAN
    __sanitizer_finish_switch_fiber(NULL, &t->home->loop_stack, &t->home->loop_stack_size);
#endif
    t->fn(t->arg);
    t->ended = true;
    suspend(t);
    abort();
}

static void begin(void *arg)
{
    struct task *t = arg;
    __atomic_fetch_and(&t->wakes, ~(unsigned)POSTED, __ATOMIC_SEQ_CST);
    t->home->live_tasks++;
    t->stack = stack_get(t->home);
    getcontext(&t->ctx);
    t->ctx.uc_stack.ss_sp = stack_base(t->stack);
    t->ctx.uc_stack.ss_size = STACK_SIZE;
    t->ctx.uc_link = NULL;
    makecontext(&t->ctx, task_main, 0);
    resume(t);
}

void task_start(struct reactor *on, const char *name, reactor_fn fn, void *arg)
{
    struct task *t = xcalloc(1, sizeof *t);
    t->home = on;
    t->name = name;
    t->fn = fn;
    t->arg = arg;
    t->wakes = POSTED;
    reactor_post(on, &t->post, begin, t);
}

struct task *task_self(void)
{
    return this_reactor ? this_reactor->current : NULL;
}

bool task_in(void)
{
    return task_self() != NULL;
}

/* ---- park and wake */

static bool take_wake(struct task *t)
{
    if (__atomic_load_n(&t->wakes, __ATOMIC_SEQ_CST) < ONE_WAKE)
        return false;
    __atomic_fetch_sub(&t->wakes, ONE_WAKE, __ATOMIC_SEQ_CST); /* only the task itself takes */
    return true;
}

void task_park(void)
{
    struct task *t = task_self();
    assert(t);
    while (!take_wake(t)) {
        t->parked = true;
        suspend(t);
    }
}

static void deliver_wake(void *arg)
{
    struct task *t = arg;
    unsigned wakes = __atomic_fetch_and(&t->wakes, ~(unsigned)POSTED, __ATOMIC_SEQ_CST);
    if (t->ended) {
        task_free(t);
        return;
    }
    if (t->parked && wakes >= ONE_WAKE) {
        t->parked = false;
        resume(t);
    }
}

void task_wake(struct task *t)
{
    unsigned old = __atomic_load_n(&t->wakes, __ATOMIC_RELAXED);
    while (!__atomic_compare_exchange_n(&t->wakes, &old, (old + ONE_WAKE) | POSTED, true,
                                        __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
        ;
    if (!(old & POSTED))
        reactor_post(t->home, &t->post, deliver_wake, t);
}

static void wake_arg(void *arg)
{
    task_wake(arg);
}

void task_sleep_us(uint64_t us)
{
    struct task *t = task_self();
    assert(t);
    rtimer_arm(&t->timer, us, wake_arg, t);
    task_park();
}

void task_yield(void)
{
    task_sleep_us(0);
}

/* ---- calls elsewhere */

struct call {
    reactor_fn fn;
    void *arg;
    struct task *caller;
};

static void call_body(void *arg)
{
    struct call *c = arg;
    c->fn(c->arg);
    task_wake(c->caller); /* the last touch of *c is before this line's effect */
}

void task_call(struct reactor *on, reactor_fn fn, void *arg)
{
    if (reactor_is_self(on)) {
        fn(arg);
        return;
    }
    struct call c = {.fn = fn, .arg = arg, .caller = task_self()};
    assert(c.caller);
    task_start(on, "call", call_body, &c);
    task_park();
}

void task_call_all(reactor_fn fn, void *arg)
{
    struct call c = {.fn = fn, .arg = arg, .caller = task_self()};
    assert(c.caller);
    unsigned n = reactor_count() + 1;
    for (unsigned i = 0; i < n; i++)
        task_start(reactor_get(i), "call", call_body, &c);
    for (unsigned i = 0; i < n; i++)
        task_park();
}

void task_help(reactor_fn fn, void *arg)
{
    struct task *t = task_self();
    assert(t);
    struct call c = {.fn = fn, .arg = arg, .caller = t};
    helper_run(call_body, NULL, &c);
    task_park();
}

/* ---- locks and waits */

struct tlock_waiter {
    struct list link;
    struct task *task;
};

void tlock_init(struct tlock *l)
{
    list_init(&l->waiters);
    l->owner = NULL;
}

void tlock_lock(struct tlock *l)
{
    struct task *self = task_self();
    assert(self && l->owner != self);
    if (!l->owner) {
        l->owner = self;
        return;
    }
    struct tlock_waiter w = {.task = self};
    list_add_tail(&l->waiters, &w.link);
    task_park();
    assert(l->owner == self); /* handed over by unlock */
}

void tlock_unlock(struct tlock *l)
{
    assert(l->owner == task_self());
    struct list *next = list_pop(&l->waiters);
    l->owner = NULL;
    if (next) {
        struct tlock_waiter *w = list_entry(next, struct tlock_waiter, link);
        l->owner = w->task;
        task_wake(w->task);
    }
}

void twait_done(struct twait *w)
{
    assert(w->pending);
    if (!--w->pending && w->waiting)
        task_wake(w->task);
}

void twait_all(struct twait *w)
{
    assert(w->task == task_self());
    if (!w->pending)
        return;
    w->waiting = true;
    task_park();
    w->waiting = false;
}
