/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "targets/linger.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

struct removal {
    struct lingering *all;
    reactor_fn fn;
    void *arg;
    struct task *waiter;
    struct rtimer timer;
    bool woken; /* one wake a park */
    bool ended;
    bool alone; /* nobody waits for it any more */
};

static uint64_t instead;

uint64_t linger_us(uint64_t us)
{
    return instead ? instead : us;
}

void linger_set_us(uint64_t us)
{
    instead = us;
}

static void wake(void *arg)
{
    struct removal *r = arg;
    if (!r->woken)
        task_wake(r->waiter);
    r->woken = true;
}

static void run(void *arg)
{
    struct removal *r = arg;
    r->fn(r->arg);
    r->all->count--;
    r->ended = true;
    if (r->alone)
        free(r);
    else
        wake(r);
}

bool linger(struct lingering *all, const char *name, uint64_t wait_us, reactor_fn fn, void *arg)
{
    struct removal *r = xcalloc(1, sizeof *r);
    r->all = all;
    r->fn = fn;
    r->arg = arg;
    r->waiter = task_self();
    all->count++;
    task_start(reactor_main(), name, run, r);
    rtimer_arm(&r->timer, linger_us(wait_us), wake, r);
    task_park();
    rtimer_free(&r->timer);
    bool ended = r->ended;
    r->alone = true;
    if (ended)
        free(r);
    return ended;
}

void linger_wait(const struct lingering *all)
{
    enum { LOOK_US = 1000 };
    while (all->count)
        task_sleep_us(LOOK_US);
}

/* ---- what is left */

void target_left_add(struct target_left *left, struct bdev_desc *desc)
{
    uint64_t n = desc ? bdev_desc_inflight(desc) : 0;
    size_t at = strlen(left->text);
    if (!n)
        return;
    bdev_mark_unanswered(desc);
    snprintf(left->text + at, sizeof left->text - at, "%s device %s (%llu request%s)",
             at ? "," : "not answered yet, and in use until then:", bdev_name(bdev_of(desc)),
             (unsigned long long)n, n == 1 ? "" : "s");
}

void target_left_end(struct target_left *left)
{
    if (!left->text[0])
        snprintf(left->text, sizeof left->text, "its last sessions are still ending");
}
