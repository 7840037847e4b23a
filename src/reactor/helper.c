/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The helper pool: a few threads for calls that block. */
#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "base/mem.h"
#include "reactor/reactor_private.h"

enum { HELPERS_MAX = 8 };

struct help {
    struct list link;
    reactor_fn fn, done;
    void *arg;
    struct reactor *home;
    struct rpost post;
};

/* `lock` guards everything here; no other lock is taken while it is held. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static struct list queue = LIST_INIT(queue);
static pthread_t threads[HELPERS_MAX];
static unsigned thread_count, idle_count;
static bool stopping;

static void finish(void *arg)
{
    struct help *h = arg;
    reactor_fn done = h->done;
    void *done_arg = h->arg;
    free(h);
    done(done_arg);
}

static void *helper_thread(void *arg)
{
    (void)arg;
    pthread_setname_np(pthread_self(), "orion-help");
    pthread_mutex_lock(&lock);
    for (;;) {
        while (list_empty(&queue) && !stopping) {
            idle_count++;
            pthread_cond_wait(&cond, &lock);
            idle_count--;
        }
        struct list *l = list_pop(&queue);
        if (!l)
            break;
        pthread_mutex_unlock(&lock);
        struct help *h = list_entry(l, struct help, link);
        h->fn(h->arg);
        if (h->done)
            reactor_post(h->home, &h->post, finish, h);
        else
            free(h);
        pthread_mutex_lock(&lock);
    }
    pthread_mutex_unlock(&lock);
    return NULL;
}

static void add_thread(void)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    if (!pthread_create(&threads[thread_count], NULL, helper_thread, NULL))
        thread_count++;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    assert(thread_count); /* without any helper nothing would ever end */
}

void helper_run(reactor_fn fn, reactor_fn done, void *arg)
{
    struct help *h = xcalloc(1, sizeof *h);
    h->fn = fn;
    h->done = done;
    h->arg = arg;
    h->home = done ? reactor_self() : NULL;
    pthread_mutex_lock(&lock);
    list_add_tail(&queue, &h->link);
    if (!idle_count && thread_count < HELPERS_MAX)
        add_thread();
    pthread_cond_signal(&cond);
    pthread_mutex_unlock(&lock);
}

void helpers_stop(void)
{
    pthread_mutex_lock(&lock);
    stopping = true;
    pthread_cond_broadcast(&cond);
    unsigned n = thread_count;
    pthread_mutex_unlock(&lock);
    for (unsigned i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
    thread_count = 0;
    stopping = false;
}
