/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "targets/iscsi/command.h"

enum { POOL_KEEP = 512 }; /* free commands a reactor keeps */

/* Bytes of data that commands may have in memory. A session may always have one command, however
 * large, so that everyone gets on. */
enum { SESSION_BYTES = 32 << 20, REACTOR_BYTES = 256 << 20 };

static struct pool {
    struct command *free;
    unsigned kept;
    uint64_t bytes;      /* of admitted commands of all sessions here */
    struct list starved; /* sessions with commands that wait for other sessions' memory */
} __attribute__((aligned(CACHE_LINE))) pools[REACTOR_MAX]; /* each is its reactor's */

struct command *command_get(struct member *m)
{
    unsigned r = reactor_self_index();
    struct command *c = pools[r].free;
    if (c) {
        pools[r].free = c->pooled;
        pools[r].kept--;
    } else {
        c = aligned_alloc(64, (sizeof *c + 63) / 64 * 64);
        if (!c)
            return NULL;
    }
    memset(c, 0, sizeof *c);
    c->s = m->s;
    c->m = m;
    list_init(&c->wait);
    m->live++;
    return c;
}

void command_pools_free(void)
{
    for (unsigned r = 0; r < REACTOR_MAX; r++) {
        struct command *c;
        while ((c = pools[r].free)) {
            pools[r].free = c->pooled;
            free(c);
        }
        pools[r].kept = 0;
    }
}

/* ---- by tag */

static struct command **bucket(struct iscsi_session *s, uint32_t itt)
{
    return &s->bucket[(itt ^ itt >> 8) % COMMAND_BUCKETS];
}

struct command *command_lookup(struct iscsi_session *s, uint32_t itt)
{
    struct command *c = *bucket(s, itt);
    while (c && c->itt != itt)
        c = c->chain;
    return c;
}

void command_enlist(struct command *c)
{
    struct command **b = bucket(c->s, c->itt);
    c->chain = *b;
    *b = c;
    list_add_tail(&c->s->commands, &c->link);
}

void command_forget(struct command *c)
{
    struct command **p = bucket(c->s, c->itt);
    while (*p && *p != c)
        p = &(*p)->chain;
    if (*p)
        *p = c->chain;
}

/* ---- memory */

static bool fits(const struct iscsi_session *s, unsigned r, uint64_t charge)
{
    if (!s->bytes)
        return true;
    return s->bytes + charge <= SESSION_BYTES && pools[r].bytes + charge <= REACTOR_BYTES;
}

static void starve(struct iscsi_session *s, unsigned r)
{
    if (!pools[r].starved.next)
        list_init(&pools[r].starved);
    if (list_empty(&s->starved))
        list_add_tail(&pools[r].starved, &s->starved);
}

bool command_admit(struct command *c)
{
    struct iscsi_session *s = c->s;
    unsigned r = reactor_self_index();
    bool now = !c->early && list_empty(&s->waiting) && fits(s, r, c->charge);
    if (!c->charge || now) {
        s->bytes += c->charge;
        pools[r].bytes += c->charge;
        c->admitted = true;
        return true;
    }
    list_add_tail(&s->waiting, &c->wait);
    starve(s, r);
    return false;
}

/* The first that waits and could go on. */
static struct command *first_waiting(struct iscsi_session *s)
{
    struct command *c;
    list_for_each (c, &s->waiting, wait) {
        if (!c->receiving && !c->m->closing)
            return c;
    }
    return NULL;
}

/* Lets waiting commands of the session go, first come first served. */
static void feed(struct iscsi_session *s, unsigned r)
{
    struct command *c;
    while ((c = first_waiting(s))) {
        if (!fits(s, r, c->charge))
            return;
        list_del(&c->wait);
        s->bytes += c->charge;
        pools[r].bytes += c->charge;
        c->admitted = true;
        command_admitted(c);
    }
    if (list_empty(&s->waiting))
        list_del(&s->starved);
}

void commands_feed(struct iscsi_session *s)
{
    unsigned r = reactor_self_index();
    if (!list_empty(&s->waiting))
        feed(s, r);
}

static void discharge(struct command *c)
{
    unsigned r = reactor_self_index();
    if (!c->admitted || !c->charge)
        return;
    c->s->bytes -= c->charge;
    pools[r].bytes -= c->charge;
    if (!list_empty(&c->s->waiting))
        feed(c->s, r);
    if (!pools[r].starved.next || list_empty(&pools[r].starved))
        return;
    /* One other session a time, in turn. */
    struct iscsi_session *other = list_first(&pools[r].starved, struct iscsi_session, starved);
    list_del(&other->starved);
    list_add_tail(&pools[r].starved, &other->starved);
    feed(other, r);
}

void command_discard(struct command *c)
{
    unsigned r = reactor_self_index();
    if (pools[r].kept >= POOL_KEEP) {
        free(c);
        return;
    }
    c->pooled = pools[r].free;
    pools[r].free = c;
    pools[r].kept++;
}

void command_free(struct command *c)
{
    struct iscsi_session *s = c->s;
    struct member *m = c->m;
    assert(!c->tx_queued);
    if (m->rx == c)
        m->rx = NULL;
    if (!c->given_up)
        command_forget(c);
    list_del(&c->link);
    list_del(&c->wait);
    if (list_empty(&s->waiting))
        list_del(&s->starved);
    if (c->in_window)
        s->slots--;
    if (c->immediate)
        s->immediates--;
    if (!c->ended)
        scsi_cmd_end(&c->cmd);
    iobuf_put(&c->early);
    discharge(c);
    m->live--;
    command_discard(c);
    __atomic_store_n(&s->stats.inflight, s->stats.inflight - 1, __ATOMIC_RELAXED);
    if (!m->live)
        member_check_end(m);
}
