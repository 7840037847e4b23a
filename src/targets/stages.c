/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "targets/stages.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"

static struct list books = LIST_INIT(books); /* main's */
static uint64_t slow_ns;                     /* atomic */
static uint64_t slow_total;                  /* atomic */

const char *io_stage_name(enum io_stage s)
{
    static const char *const names[STAGES] = {"receive", "queue", "device", "send"};
    return names[s];
}

const char *stage_op_name(enum stage_op op)
{
    static const char *const names[STAGE_OPS] = {"read", "write", "other"};
    return names[op];
}

void stages_add(struct stage_book *b, const char *protocol, const char *object, const char *lun)
{
    memset(b, 0, sizeof *b);
    snprintf(b->protocol, sizeof b->protocol, "%s", protocol);
    snprintf(b->object, sizeof b->object, "%s", object);
    snprintf(b->lun, sizeof b->lun, "%s", lun);
    list_add_tail(&books, &b->link);
}

void stages_hide(struct stage_book *b)
{
    list_del(&b->link);
}

void stages_remove(struct stage_book *b)
{
    stages_hide(b);
    for (unsigned i = 0; i < REACTOR_MAX; i++) {
        free(b->per[i]);
        b->per[i] = NULL;
    }
}

void stages_for_each(void (*fn)(const struct stage_book *b, void *arg), void *arg)
{
    const struct stage_book *b;
    list_for_each (b, &books, link)
        fn(b, arg);
}

/* All of it is counters. */
void stages_sum(const struct stage_book *b, struct stage_counters *sum_r)
{
    enum { WORDS = sizeof *sum_r / sizeof(uint64_t) };
    uint64_t *to = (uint64_t *)sum_r;
    memset(sum_r, 0, sizeof *sum_r);
    for (unsigned r = 0; r <= reactor_count(); r++) {
        const uint64_t *from = (const uint64_t *)__atomic_load_n(
            &((struct stage_book *)(uintptr_t)b)->per[r], __ATOMIC_ACQUIRE);
        for (unsigned i = 0; from && i < WORDS; i++)
            to[i] += __atomic_load_n(&from[i], __ATOMIC_RELAXED);
    }
}

void stages_slow_ms(unsigned ms)
{
    __atomic_store_n(&slow_ns, ms * 1000000ull, __ATOMIC_RELAXED);
}

uint64_t stages_slow_total(void)
{
    return __atomic_load_n(&slow_total, __ATOMIC_RELAXED);
}

/* One writer: this reactor. */
static void add(uint64_t *p, uint64_t v)
{
    __atomic_store_n(p, *p + v, __ATOMIC_RELAXED);
}

static void add_time(struct stage_hist *h, uint64_t ns)
{
    if (ns)
        add(&h->total_ns, ns);
    add(&h->bucket[hist_bucket(ns)], 1);
}

static struct stage_counters *here(struct stage_book *b)
{
    struct stage_counters **c = &b->per[reactor_self_index()];
    if (!*c)
        __atomic_store_n(c, calloc_lines(sizeof **c), __ATOMIC_RELEASE);
    return *c;
}

static double ms(uint64_t ns)
{
    return (double)ns / 1e6;
}

static void tell_slow(const struct stage_book *b, const struct stage_request *q,
                      const uint64_t stage[STAGES])
{
    __atomic_fetch_add(&slow_total, 1, __ATOMIC_RELAXED);
    log_every(1, LOG_LEVEL_WARN, b->protocol,
              "slow request: %.1f ms op=%s offset=%llu length=%llu receive_ms=%.1f queue_ms=%.1f "
              "device_ms=%.1f send_ms=%.1f object=%s%s%s client=%s%s",
              ms(q->sent - q->times->arrived), bio_op_name(q->op), (unsigned long long)q->offset,
              (unsigned long long)q->length, ms(stage[STAGE_RECEIVE]), ms(stage[STAGE_QUEUE]),
              ms(stage[STAGE_DEVICE]), ms(stage[STAGE_SEND]), b->object, *b->lun ? " lun=" : "",
              b->lun, q->client, q->failed ? " result=failed" : "");
}

void stages_count(struct stage_book *b, const struct stage_request *q)
{
    const struct io_times *t = q->times;
    struct stage_counters *c = t->submitted ? here(b) : NULL;
    if (!c)
        return;
    const uint64_t stage[STAGES] = {
        [STAGE_RECEIVE] = t->received - t->admitted,
        [STAGE_QUEUE] = t->admitted - t->arrived + t->submitted - t->received,
        [STAGE_DEVICE] = t->done - t->submitted,
        [STAGE_SEND] = q->sent - t->done,
    };
    for (unsigned i = 0; i < STAGES; i++)
        add_time(&c->stage[i], stage[i]);
    enum stage_op op = q->op == BIO_READ    ? STAGE_READ
                       : q->op == BIO_WRITE ? STAGE_WRITE
                                            : STAGE_OTHER;
    uint64_t total = q->sent - t->arrived;
    add_time(&c->op[op], total);
    if (q->failed)
        add(&c->errors[op], 1);
    else
        add(&c->bytes[op], q->length);
    uint64_t limit = __atomic_load_n(&slow_ns, __ATOMIC_RELAXED);
    if (limit && total >= limit)
        tell_slow(b, q, stage);
}
