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

/* ---- nexuses: names with ids that are never given again, under `lock` */

enum { BUCKETS = 1024 };

struct nexus {
    struct list by_name, by_id;
    uint64_t id;
    unsigned refs;
    char name[];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct list names[BUCKETS], ids[BUCKETS];
static uint64_t last_id;

static struct list *bucket(struct list *table, uint64_t hash)
{
    struct list *l = &table[hash % BUCKETS];
    if (!l->next)
        list_init(l);
    return l;
}

static uint64_t hash_of(const char *name) /* FNV-1a */
{
    uint64_t h = 0xcbf29ce484222325;
    for (; *name; name++)
        h = (h ^ (unsigned char)*name) * 0x100000001b3;
    return h;
}

static struct nexus *by_id(uint64_t id)
{
    struct nexus *n;
    list_for_each (n, bucket(ids, id), by_id)
        if (n->id == id)
            return n;
    return NULL;
}

static struct nexus *by_name(const char *name)
{
    struct list *l = bucket(names, hash_of(name));
    struct nexus *n;
    list_for_each (n, l, by_name)
        if (!strcmp(n->name, name))
            return n;
    n = xcalloc(1, sizeof *n + strlen(name) + 1);
    strcpy(n->name, name);
    n->id = ++last_id;
    list_add_tail(l, &n->by_name);
    list_add_tail(bucket(ids, n->id), &n->by_id);
    return n;
}

uint64_t gate_nexus(const char *name)
{
    pthread_mutex_lock(&lock);
    struct nexus *n = by_name(name);
    n->refs++;
    uint64_t id = n->id;
    pthread_mutex_unlock(&lock);
    return id;
}

static void nexus_ref(uint64_t id)
{
    pthread_mutex_lock(&lock);
    struct nexus *n = by_id(id);
    assert(n);
    n->refs++;
    pthread_mutex_unlock(&lock);
}

void gate_nexus_put(uint64_t id)
{
    pthread_mutex_lock(&lock);
    struct nexus *n = id ? by_id(id) : NULL;
    assert(!id || (n && n->refs));
    if (n && !--n->refs) {
        list_del(&n->by_name);
        list_del(&n->by_id);
        free(n);
    }
    pthread_mutex_unlock(&lock);
}

bool gate_nexus_name(uint64_t nexus, char *out, size_t size)
{
    pthread_mutex_lock(&lock);
    const struct nexus *n = nexus ? by_id(nexus) : NULL;
    if (size)
        snprintf(out, size, "%s", n ? n->name : "");
    pthread_mutex_unlock(&lock);
    return n;
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

/* A state that stands refers to its registrants; a holder that is none is RESERVE(6)'s. */
static void each_nexus(const struct gate_state *g, void (*fn)(uint64_t nexus))
{
    for (unsigned i = 0; i < g->count; i++)
        fn(g->reg[i].nexus);
    if (g->type == GATE_RESERVE6)
        fn(g->holder);
}

static void state_free(const struct gate_state *g)
{
    if (g) {
        free(g->reg);
        free((void *)(uintptr_t)g);
    }
}

static void state_drop(const struct gate_state *g)
{
    if (g)
        each_nexus(g, gate_nexus_put);
    state_free(g);
}

void gate_state_put(struct gate_state *state)
{
    each_nexus(state, gate_nexus_put);
    free(state->reg);
    *state = (struct gate_state){0};
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
            if (bio->desc->gated && bio->op != BIO_FLUSH && bio->t_submit <= before && c->state &&
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
        each_nexus(next, nexus_ref);
        __atomic_store_n(&core->gate, next, __ATOMIC_RELEASE); /* new channels look at it */
        task_call_all(publish, c);
        state_drop(old);
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
    state_drop(core->gate);
    core->gate = NULL;
}
