/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_BASE_BUF_H
#define ORION_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/*
 * Cursors over bytes from the wire or a disk. All such bytes are read and written only through
 * these. Going past the end never touches memory: the cursor turns bad, stays bad, and further
 * reads give zeroes; check `rd_ok` once after a group of reads.
 */
struct rd {
    const uint8_t *p;
    size_t len, pos;
    bool bad;
};

struct wr {
    uint8_t *p;
    size_t cap, pos;
    bool bad;
};

static inline struct rd rd_make(const void *p, size_t len)
{
    return (struct rd){.p = p, .len = len};
}

static inline bool rd_ok(const struct rd *r)
{
    return !r->bad;
}

static inline size_t rd_left(const struct rd *r)
{
    return r->bad ? 0 : r->len - r->pos;
}

/* A view of the next n bytes (valid as long as the bytes are), or NULL and bad. n may be 0. */
static inline const uint8_t *rd_bytes(struct rd *r, size_t n)
{
    if (r->bad || n > r->len - r->pos) {
        r->bad = true;
        return NULL;
    }
    const uint8_t *q = r->p + r->pos;
    r->pos += n;
    return q;
}

static inline void rd_skip(struct rd *r, size_t n)
{
    rd_bytes(r, n);
}

/* Moves to an absolute position. */
static inline void rd_seek(struct rd *r, size_t pos)
{
    if (pos > r->len)
        r->bad = true;
    else
        r->pos = pos;
}

/* Copies n bytes; zeroes *dst when they are not there. */
static inline void rd_copy(struct rd *r, void *dst, size_t n)
{
    const uint8_t *q = rd_bytes(r, n);
    if (q)
        memcpy(dst, q, n);
    else
        memset(dst, 0, n);
}

static inline uint64_t rd_be(struct rd *r, unsigned n)
{
    const uint8_t *q = rd_bytes(r, n);
    uint64_t v = 0;
    for (unsigned i = 0; q && i < n; i++)
        v = v << 8 | q[i];
    return v;
}

static inline uint64_t rd_le(struct rd *r, unsigned n)
{
    const uint8_t *q = rd_bytes(r, n);
    uint64_t v = 0;
    for (unsigned i = n; q && i-- > 0;)
        v = v << 8 | q[i];
    return v;
}

#define rd_u8(r) ((uint8_t)rd_be(r, 1))
#define rd_be16(r) ((uint16_t)rd_be(r, 2))
#define rd_be24(r) ((uint32_t)rd_be(r, 3))
#define rd_be32(r) ((uint32_t)rd_be(r, 4))
#define rd_be64(r) rd_be(r, 8)
#define rd_le16(r) ((uint16_t)rd_le(r, 2))
#define rd_le32(r) ((uint32_t)rd_le(r, 4))
#define rd_le64(r) rd_le(r, 8)

static inline struct wr wr_make(void *p, size_t cap)
{
    return (struct wr){.p = p, .cap = cap};
}

static inline bool wr_ok(const struct wr *w)
{
    return !w->bad;
}

/* Room for the next n bytes, to be filled by the caller, or NULL and bad. */
static inline uint8_t *wr_room(struct wr *w, size_t n)
{
    if (w->bad || n > w->cap - w->pos) {
        w->bad = true;
        return NULL;
    }
    uint8_t *q = w->p + w->pos;
    w->pos += n;
    return q;
}

static inline void wr_copy(struct wr *w, const void *src, size_t n)
{
    uint8_t *q = wr_room(w, n);
    if (q && n)
        memcpy(q, src, n);
}

static inline void wr_zero(struct wr *w, size_t n)
{
    uint8_t *q = wr_room(w, n);
    if (q && n)
        memset(q, 0, n);
}

static inline void wr_be(struct wr *w, uint64_t v, unsigned n)
{
    uint8_t *q = wr_room(w, n);
    for (unsigned i = n; q && i-- > 0; v >>= 8)
        q[i] = (uint8_t)v;
}

static inline void wr_le(struct wr *w, uint64_t v, unsigned n)
{
    uint8_t *q = wr_room(w, n);
    for (unsigned i = 0; q && i < n; i++, v >>= 8)
        q[i] = (uint8_t)v;
}

#define wr_u8(w, v) wr_be(w, v, 1)
#define wr_be16(w, v) wr_be(w, v, 2)
#define wr_be24(w, v) wr_be(w, v, 3)
#define wr_be32(w, v) wr_be(w, v, 4)
#define wr_be64(w, v) wr_be(w, v, 8)
#define wr_le16(w, v) wr_le(w, v, 2)
#define wr_le32(w, v) wr_le(w, v, 4)
#define wr_le64(w, v) wr_le(w, v, 8)

#endif
