/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "block/job.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "reactor/task.h"

enum { KEEP_ENDED = 256 };
static const uint64_t RATE_WINDOW_NS = 3000000000u;

/* `info` but for done, total and rate is main's; the job's reactor writes the atomics. */
struct job {
    struct list link;
    struct job_info info;
    struct reactor *home;
    job_fn fn;
    void *arg;
    uint64_t done, total, rate;      /* atomic */
    struct job_fact fact[JOB_FACTS]; /* atomic, key after value */
    bool cancel, pause;              /* atomic; main sets them */
    uint64_t mark_ns, mark_done;     /* the job's: where the rate window began */
    int rc;
    struct err err; /* the job's until it has ended */
    struct rpost post;
    struct list waiters;
};

struct job_waiter {
    struct list link;
    struct task *task;
};

static uint64_t next_id;                   /* atomic */
static struct list jobs = LIST_INIT(jobs); /* main's, as all below */
static unsigned ended;
static void (*observer)(const struct job_info *, void *);
static void *observer_arg;

static uint64_t wall_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

const char *job_state_name(enum job_state state)
{
    static const char *const names[] = {"running", "paused", "done", "failed", "cancelled"};
    return names[state];
}

static void snapshot(struct job *j, struct job_info *info_r)
{
    j->info.done = __atomic_load_n(&j->done, __ATOMIC_RELAXED);
    j->info.total = __atomic_load_n(&j->total, __ATOMIC_RELAXED);
    j->info.rate = j->info.ended_ms ? 0 : __atomic_load_n(&j->rate, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < JOB_FACTS; i++) {
        j->info.fact[i].key = __atomic_load_n(&j->fact[i].key, __ATOMIC_ACQUIRE);
        j->info.fact[i].value = __atomic_load_n(&j->fact[i].value, __ATOMIC_RELAXED);
    }
    *info_r = j->info;
}

static void tell(struct job *j)
{
    struct job_info info;
    snapshot(j, &info);
    if (observer)
        observer(&info, observer_arg);
}

static bool is_over(const struct job *j)
{
    return j->info.state >= JOB_DONE;
}

static void drop_oldest(void)
{
    struct job *j, *tmp;
    list_for_each_safe (j, tmp, &jobs, link) {
        if (ended <= KEEP_ENDED)
            return;
        if (!is_over(j) || !list_empty(&j->waiters))
            continue;
        list_del(&j->link);
        free(j);
        ended--;
    }
}

/* ---- the job's life */

static void on_end(void *arg)
{
    struct job *j = arg;
    bool cancelled = __atomic_load_n(&j->cancel, __ATOMIC_RELAXED);
    j->info.state = !j->rc                              ? JOB_DONE
                    : j->rc == JOB_STOPPED || cancelled ? JOB_CANCELLED
                                                        : JOB_FAILED;
    j->info.ended_ms = wall_ms();
    j->info.err = j->err;
    ended++;
    tell(j);
    struct list *l;
    while ((l = list_pop(&j->waiters)))
        task_wake(list_entry(l, struct job_waiter, link)->task);
    drop_oldest();
}

static void body(void *arg)
{
    struct job *j = arg;
    j->mark_ns = clock_ns();
    j->rc = j->fn(j, j->arg, &j->err);
    reactor_post(reactor_main(), &j->post, on_end, j);
}

static void on_start(void *arg)
{
    struct job *j = arg;
    list_add_tail(&jobs, &j->link);
    tell(j);
    task_start(j->home, "job", body, j);
}

/* ---- jobs that a restart has cut off */

struct interrupted {
    struct list link;
    struct job_info info;
};

static struct list interrupted = LIST_INIT(interrupted);
static pthread_mutex_t interrupted_lock = PTHREAD_MUTEX_INITIALIZER;

void job_interrupted(const struct job_info *info)
{
    struct interrupted *i = xcalloc(1, sizeof *i);
    i->info = *info;
    pthread_mutex_lock(&interrupted_lock);
    list_add_tail(&interrupted, &i->link);
    pthread_mutex_unlock(&interrupted_lock);
}

void job_forget_interrupted(void (*fn)(const struct job_info *info, void *arg), void *arg)
{
    struct list all = LIST_INIT(all), *l;
    pthread_mutex_lock(&interrupted_lock);
    list_splice_tail(&all, &interrupted);
    pthread_mutex_unlock(&interrupted_lock);
    while ((l = list_pop(&all))) {
        struct interrupted *i = list_entry(l, struct interrupted, link);
        fn(&i->info, arg);
        free(i);
    }
}

static void number(struct job_info *info)
{
    struct interrupted *i, *next;
    info->id = 0;
    pthread_mutex_lock(&interrupted_lock);
    list_for_each_safe (i, next, &interrupted, link) {
        if (info->id || strcmp(i->info.kind, info->kind) || strcmp(i->info.object, info->object))
            continue;
        info->id = i->info.id;
        info->started_ms = i->info.started_ms;
        list_del(&i->link);
        free(i);
    }
    pthread_mutex_unlock(&interrupted_lock);
    if (!info->id)
        info->id = __atomic_add_fetch(&next_id, 1, __ATOMIC_RELAXED);
}

uint64_t job_start(struct reactor *home, const char *kind, const char *object, bool can_cancel,
                   job_fn fn, void *arg)
{
    struct job *j = xcalloc(1, sizeof *j);
    snprintf(j->info.kind, sizeof j->info.kind, "%s", kind);
    snprintf(j->info.object, sizeof j->info.object, "%s", object);
    j->info.can_cancel = can_cancel;
    j->info.started_ms = wall_ms();
    number(&j->info);
    j->home = home;
    j->fn = fn;
    j->arg = arg;
    list_init(&j->waiters);
    uint64_t id = j->info.id; /* a short job may be over, and forgotten, before this returns */
    reactor_post(reactor_main(), &j->post, on_start, j);
    return id;
}

bool job_step(struct job *j, uint64_t done, uint64_t total)
{
    __atomic_store_n(&j->done, done, __ATOMIC_RELAXED);
    __atomic_store_n(&j->total, total, __ATOMIC_RELAXED);
    uint64_t now = reactor_now();
    if (now - j->mark_ns > RATE_WINDOW_NS / 4 && done >= j->mark_done) {
        uint64_t rate =
            (uint64_t)((double)(done - j->mark_done) * 1e9 / (double)(now - j->mark_ns));
        __atomic_store_n(&j->rate, rate, __ATOMIC_RELAXED);
        if (now - j->mark_ns > RATE_WINDOW_NS) {
            j->mark_ns = now;
            j->mark_done = done;
        }
    }
    while (__atomic_load_n(&j->pause, __ATOMIC_RELAXED) &&
           !__atomic_load_n(&j->cancel, __ATOMIC_RELAXED))
        task_sleep_us(20000);
    return !__atomic_load_n(&j->cancel, __ATOMIC_RELAXED);
}

uint64_t job_id(const struct job *j)
{
    return j->info.id;
}

void job_tell(struct job *j, const char *key, uint64_t value)
{
    unsigned i = 0;
    while (j->fact[i].key && strcmp(j->fact[i].key, key) != 0) {
        i++;
        assert(i < JOB_FACTS);
    }
    __atomic_store_n(&j->fact[i].value, value, __ATOMIC_RELAXED);
    __atomic_store_n(&j->fact[i].key, key, __ATOMIC_RELEASE);
}

static void checkpoint(void *arg)
{
    tell(arg);
}

void job_checkpoint(struct job *j)
{
    if (reactor_self() == reactor_main())
        tell(j);
    else
        task_call(reactor_main(), checkpoint, j);
}

/* ---- main's view */

void job_ids_after(uint64_t last)
{
    if (last > __atomic_load_n(&next_id, __ATOMIC_RELAXED))
        __atomic_store_n(&next_id, last, __ATOMIC_RELAXED);
}

static struct job *find(uint64_t id)
{
    struct job *j;
    list_for_each (j, &jobs, link) {
        if (j->info.id == id)
            return j;
    }
    return NULL;
}

static struct job *find_running(uint64_t id, struct err *e)
{
    struct job *j = find(id);
    if (!j)
        err_set(e, ERR_NOT_FOUND, "id", "there is no job %llu", (unsigned long long)id);
    else if (is_over(j))
        err_set(e, ERR_INVALID, "id", "job %llu has ended already: %s", (unsigned long long)id,
                job_state_name(j->info.state));
    return j && !is_over(j) ? j : NULL;
}

bool job_get(uint64_t id, struct job_info *info_r)
{
    struct job *j = find(id);
    if (j)
        snapshot(j, info_r);
    return j;
}

void job_for_each(void (*fn)(const struct job_info *info, void *arg), void *arg)
{
    struct job *j;
    list_for_each (j, &jobs, link) {
        struct job_info info;
        snapshot(j, &info);
        fn(&info, arg);
    }
}

int job_cancel(uint64_t id, struct err *e)
{
    struct job *j = find_running(id, e);
    if (!j)
        return -1;
    if (!j->info.can_cancel)
        return err_set(e, ERR_INVALID, "id", "a %s cannot be cancelled", j->info.kind);
    __atomic_store_n(&j->cancel, true, __ATOMIC_RELAXED);
    return 0;
}

int job_pause(uint64_t id, bool pause, struct err *e)
{
    struct job *j = find_running(id, e);
    if (!j)
        return -1;
    __atomic_store_n(&j->pause, pause, __ATOMIC_RELAXED);
    j->info.state = pause ? JOB_PAUSED : JOB_RUNNING;
    tell(j);
    return 0;
}

bool job_wait(uint64_t id)
{
    /* job_start's post to main may still be on its way when the caller is on main too */
    if (!find(id) && id && id <= __atomic_load_n(&next_id, __ATOMIC_RELAXED))
        task_yield();
    struct job *j = find(id);
    if (!j)
        return false;
    if (!is_over(j)) {
        struct job_waiter w = {.task = task_self()};
        list_add_tail(&j->waiters, &w.link);
        task_park();
    }
    return true;
}

void job_observe(void (*fn)(const struct job_info *info, void *arg), void *arg)
{
    observer = fn;
    observer_arg = arg;
}
