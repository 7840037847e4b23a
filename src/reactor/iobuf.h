/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_REACTOR_IOBUF_H
#define ORION_REACTOR_IOBUF_H

#include <stddef.h>
#include <stdint.h>

/*
 * Refcounted data buffers from the calling reactor's pools: 4096-byte aligned, sizes 4 KiB to 1 MiB
 * in powers of two; larger ones come from mmap. The count is atomic: the last reference may be
 * dropped on any reactor (the memory goes to that reactor's pool).
 *
 * A buffer belongs to whoever holds a reference, and to the bio that uses it until that completes,
 * never to a connection. Pools keep a bounded amount and give the rest back to the system.
 */
struct iobuf {
    uint8_t *data;
    size_t size; /* >= what was asked for */
    unsigned refs;
    uint8_t order; /* private */
    struct iobuf *next;
};

/* NULL only when `size` > 64 MiB or memory is out. */
struct iobuf *iobuf_get(size_t size);
struct iobuf *iobuf_ref(struct iobuf *b);
void iobuf_put(struct iobuf **b); /* drops one reference; accepts NULL, leaves NULL */
/* Bytes in buffers handed out and bytes kept in pools, all reactors together. Any thread. */
void iobuf_stats(uint64_t *in_use_r, uint64_t *pooled_r);
/* 1 MiB of zeroes for reading (write zeroes by writing); page aligned. */
extern const size_t iobuf_zeroes_size;
const uint8_t *iobuf_zeroes(void);

#endif
