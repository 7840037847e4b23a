/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "block/gate.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "block/block_private.h"

/* ---- nexus ids: an append-only table of names, guarded by `lock` */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char **names;
static size_t name_count;

uint64_t gate_nexus(const char *name)
{
    pthread_mutex_lock(&lock);
    size_t i = 0;
    while (i < name_count && strcmp(names[i], name))
        i++;
    if (i == name_count) {
        names = xrealloc(names, (name_count + 1) * sizeof *names);
        names[name_count++] = xstrdup(name);
    }
    pthread_mutex_unlock(&lock);
    return i + 1;
}

bool gate_nexus_name(uint64_t nexus, char *out, size_t size)
{
    pthread_mutex_lock(&lock);
    bool known = nexus && nexus <= name_count;
    if (size)
        snprintf(out, size, "%s", known ? names[nexus - 1] : "");
    pthread_mutex_unlock(&lock);
    return known;
}

/* ---- the check */

bool gate_is_registered(const struct gate_state *s, uint64_t nexus)
{
    for (unsigned i = 0; i < s->count; i++)
        if (s->reg[i].nexus == nexus)
            return true;
    return false;
}

bool gate_every_registrant_holds(const struct gate_state *s)
{
    return s->type == GATE_WRITE_EXCLUSIVE_ALL || s->type == GATE_EXCLUSIVE_ACCESS_ALL;
}

bool gate_is_held_by(const struct gate_state *s, uint64_t nexus)
{
    return s->type != GATE_NONE &&
           (s->holder == nexus || (gate_every_registrant_holds(s) && gate_is_registered(s, nexus)));
}

static bool reservation_allows(const struct gate_state *g, uint64_t nexus, bool is_write)
{
    if (!nexus || g->type == GATE_NONE || g->holder == nexus)
        return true;
    switch (g->type) {
    case GATE_WRITE_EXCLUSIVE: return !is_write;
    case GATE_RESERVE6:
    case GATE_EXCLUSIVE_ACCESS: return false;
    case GATE_WRITE_EXCLUSIVE_REGISTRANTS:
    case GATE_WRITE_EXCLUSIVE_ALL: return !is_write || gate_is_registered(g, nexus);
    case GATE_EXCLUSIVE_ACCESS_REGISTRANTS:
    case GATE_EXCLUSIVE_ACCESS_ALL: return gate_is_registered(g, nexus);
    default: return true;
    }
}

bool gate_check(const struct gate_state *g, uint64_t nexus, bool is_write)
{
    return !(g->closed && nexus) && reservation_allows(g, nexus, is_write);
}

bool gate_reservation_allows(struct bdev *bdev, uint64_t nexus, bool is_write)
{
    const struct gate_state *g = bdev_channel_get(bdev)->core->gate;
    return !g || reservation_allows(g, nexus, is_write);
}

bool gate_allows(struct bdev *bdev, uint64_t nexus, bool is_write)
{
    const struct gate_state *g = bdev_channel_get(bdev)->core->gate;
    return !g || gate_check(g, nexus, is_write);
}

enum gate_type gate_type(struct bdev *bdev)
{
    const struct gate_state *g = bdev_channel_get(bdev)->core->gate;
    return g ? g->type : GATE_NONE;
}

/* ---- states */

static void state_copy(struct gate_state *to, const struct gate_state *from)
{
    *to = from ? *from : (struct gate_state){0};
    to->reg = NULL;
    if (to->count) {
        to->reg = xcalloc(to->count, sizeof *to->reg);
        memcpy(to->reg, from->reg, to->count * sizeof *to->reg);
    }
}

static void state_free(const struct gate_state *g)
{
    if (g) {
        free(g->reg);
        free((void *)(uintptr_t)g);
    }
}

void gate_get(struct bdev *bdev, struct gate_state *state_r)
{
    state_copy(state_r, bdev_channel_get(bdev)->core->gate);
}

/* ---- changing: on reactor 0, one change a device at a time */

struct change {
    struct bdev *bdev;
    gate_change_fn change, persist;
    void *arg;
    int rc;
    const struct gate_state *state;
};

/* Each reactor takes the new state, then waits for its bios that would now be refused. */
static void publish(void *arg)
{
    struct change *c = arg;
    struct bdev_channel *ch = bdev_channel_get(c->bdev);
    ch->core->gate = c->state;
    uint64_t before = clock_ns();
    for (;;) {
        bool conflict = false;
        struct bio *bio;
        list_for_each (bio, &ch->core->inflight, link) {
            if (bio->desc->claim == CLAIM_SHARED_WRITE && bio->op != BIO_FLUSH &&
                bio->t_submit <= before && c->state &&
                !gate_check(c->state, bio->nexus, bio_is_write(bio->op)))
                conflict = true;
        }
        if (!conflict)
            return;
        task_sleep_us(200);
    }
}

static void do_change(void *arg)
{
    struct change *c = arg;
    struct bdev_core *core = c->bdev->core;
    tlock_lock(&core->gate_lock);
    struct gate_state *next = xcalloc(1, sizeof *next);
    state_copy(next, core->gate);
    c->rc = c->change(next, c->arg);
    if (!c->rc && c->persist)
        c->rc = c->persist(next, c->arg);
    if (c->rc) {
        state_free(next);
    } else {
        const struct gate_state *old = core->gate;
        c->state = next;
        __atomic_store_n(&core->gate, next, __ATOMIC_RELEASE); /* new channels look at it */
        task_call_all(publish, c);
        state_free(old);
    }
    tlock_unlock(&core->gate_lock);
}

int gate_change(struct bdev *bdev, gate_change_fn change, gate_change_fn persist, void *arg)
{
    struct change c = {.bdev = bdev, .change = change, .persist = persist, .arg = arg};
    task_call(reactor_get(0), do_change, &c);
    return c.rc;
}

/* ---- what stands before the first open */

static gate_saved_fn saved;

void gate_set_saved(gate_saved_fn fn)
{
    saved = fn;
}

void gate_preset(struct bdev *bdev)
{
    struct gate_state state = {0};
    if (!saved || !saved(&bdev->uuid, &state))
        return;
    struct gate_state *g = xcalloc(1, sizeof *g);
    *g = state;
    bdev->core->gate = g;
}

void gate_free(struct bdev_core *core)
{
    state_free(core->gate);
    core->gate = NULL;
}
