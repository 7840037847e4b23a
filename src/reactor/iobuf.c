/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "reactor/iobuf.h"

#include <assert.h>
#include <stdlib.h>

#include "base/mem.h"
#include "reactor/reactor_private.h"

/* A pool keeps at most so many bytes; beyond it, buffers go back to the system. */
static const uint64_t pool_limit = 8u << 20;
enum { ALIGN = 4096, LARGEST = 64 << 20 };

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define POOLING 0 /* let the sanitizer see every use after the last put */
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define POOLING 0
#endif
#endif
#ifndef POOLING
#define POOLING 1
#endif

static _Alignas(4096) const uint8_t zeroes[1 << 20];
const size_t iobuf_zeroes_size = sizeof zeroes;

const uint8_t *iobuf_zeroes(void)
{
    return zeroes;
}

static unsigned order_of(size_t size)
{
    unsigned order = IOBUF_MIN_ORDER;
    while ((size_t)1 << order < size)
        order++;
    return order;
}

static void count(struct reactor *r, int64_t bytes)
{
    if (r)
        relaxed_add(&r->buf_in_use, bytes);
}

static struct iobuf *fresh(size_t size, unsigned order)
{
    size_t bytes =
        order <= IOBUF_MAX_ORDER ? (size_t)1 << order : (size + ALIGN - 1) / ALIGN * ALIGN;
    struct iobuf *b = calloc_lines(sizeof *b); /* its count is written by each user */
    if (!b)
        return NULL;
    b->data = aligned_alloc(ALIGN, bytes);
    b->size = bytes;
    b->order = (uint8_t)order;
    if (!b->data) {
        free(b);
        return NULL;
    }
    return b;
}

struct iobuf *iobuf_get(size_t size)
{
    if (size > LARGEST)
        return NULL;
    unsigned order = order_of(size);
    struct reactor *r = this_reactor;
    struct iobuf *b = NULL;
    if (POOLING && r && order <= IOBUF_MAX_ORDER) {
        struct iobuf **pool = &r->pool[order - IOBUF_MIN_ORDER];
        b = *pool;
        if (b) {
            *pool = b->next;
            __atomic_store_n(&r->pooled, r->pooled - b->size, __ATOMIC_RELAXED);
        }
    }
    if (!b)
        b = fresh(size, order);
    if (!b)
        return NULL;
    b->refs = 1;
    b->next = NULL;
    count(r, (int64_t)b->size);
    return b;
}

struct iobuf *iobuf_ref(struct iobuf *b)
{
    __atomic_fetch_add(&b->refs, 1, __ATOMIC_RELAXED);
    return b;
}

void iobuf_put(struct iobuf **bp)
{
    struct iobuf *b = *bp;
    *bp = NULL;
    if (!b)
        return;
    assert(b->refs);
    if (__atomic_fetch_sub(&b->refs, 1, __ATOMIC_ACQ_REL) != 1)
        return;
    struct reactor *r = this_reactor;
    count(r, -(int64_t)b->size);
    if (POOLING && r && b->order <= IOBUF_MAX_ORDER && r->pooled + b->size <= pool_limit) {
        struct iobuf **pool = &r->pool[b->order - IOBUF_MIN_ORDER];
        b->next = *pool;
        *pool = b;
        __atomic_store_n(&r->pooled, r->pooled + b->size, __ATOMIC_RELAXED);
        return;
    }
    free(b->data);
    free(b);
}

void iobuf_stats(uint64_t *in_use_r, uint64_t *pooled_r)
{
    int64_t in_use = 0;
    uint64_t pooled = 0;
    for (unsigned i = 0; i <= reactor_count(); i++) {
        const struct reactor *r = reactor_get(i);
        in_use += relaxed_load(&r->buf_in_use); /* one reactor alone may be below zero */
        pooled += relaxed_load(&r->pooled);
    }
    *in_use_r = in_use < 0 ? 0 : (uint64_t)in_use;
    *pooled_r = pooled;
}

void iobuf_reactor_fini(struct reactor *r)
{
    for (unsigned i = 0; i < sizeof r->pool / sizeof *r->pool; i++) {
        while (r->pool[i]) {
            struct iobuf *b = r->pool[i];
            r->pool[i] = b->next;
            free(b->data);
            free(b);
        }
    }
    r->pooled = 0;
}
