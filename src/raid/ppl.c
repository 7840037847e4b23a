/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "raid/ppl.h"

#include <errno.h>
#include <linux/types.h>
#include <string.h>

#include <linux/raid/md_p.h>

#include "base/buf.h"
#include "base/crc32c.h"
#include "base/mem.h"
#include "block/event.h"
#include "raid/parity.h"
#include "reactor/iobuf.h"

enum { RESERVED = 512, AT_SUM = 532, FEATURES = MD_FEATURE_PPL | MD_FEATURE_MULTIPLE_PPLS };

bool ppl_header_read(struct ppl_log_header *h, const void *bytes, const struct uuid *array)
{
    static const uint8_t none[4];
    struct rd r = rd_make(bytes, PPL_BLOCK);
    rd_skip(&r, RESERVED);
    uint32_t signature = rd_le32(&r);
    rd_skip(&r, 4);
    h->generation = rd_le64(&r);
    h->entries = rd_le32(&r);
    uint32_t sum = rd_le32(&r), have = crc32c(0, bytes, AT_SUM);
    have = crc32c(have, none, sizeof none);
    have = crc32c(have, (const uint8_t *)bytes + AT_SUM + 4, PPL_BLOCK - AT_SUM - 4);
    if (sum != have || signature != crc32c(0, array->b, sizeof array->b) ||
        h->entries > PPL_ENTRIES_MAX)
        return false;
    for (unsigned i = 0; i < h->entries; i++) {
        struct ppl_log_entry *e = &h->entry[i];
        e->first = rd_le64(&r);
        e->parity_bytes = rd_le32(&r);
        e->data_bytes = rd_le32(&r);
        e->slot = rd_le32(&r);
        e->sum = rd_le32(&r);
    }
    return rd_ok(&r);
}

bool ppl_area(const struct md_super *sb, uint64_t device_size, uint64_t *at_r, uint64_t *bytes_r)
{
    uint32_t both = (uint32_t)sb->bitmap_offset; /* a signed offset, a size */
    int64_t at = MD_SUPER_OFFSET + (int64_t)(int16_t)(both & 0xffff) * MD_SECTOR;
    uint64_t bytes = (uint64_t)(both >> 16) * MD_SECTOR;
    uint64_t data = sb->data_offset * MD_SECTOR, end = data + sb->data_size * MD_SECTOR;
    if (at < MD_SUPER_OFFSET + MD_SUPER_SIZE || bytes < 2 * PPL_BLOCK ||
        (uint64_t)at + bytes > device_size || ((uint64_t)at + bytes > data && (uint64_t)at < end))
        return false;
    *at_r = (uint64_t)at;
    *bytes_r = bytes;
    return true;
}

bool ppl_is_used(const struct raid_array *a)
{
    return a->sb.features & FEATURES;
}

/* ---- working it off */

struct work {
    struct raid_array *a;
    struct raid_member *m; /* whose log it is */
    struct parity_geometry geometry;
    uint64_t at, end; /* bytes of its device: what follows the header, the area's end */
    struct ppl_log_header header;
    struct iobuf *buf;
    unsigned done;
    const char *why;
};

static int nothing(struct work *w, const char *why)
{
    w->why = why;
    return -1;
}

static uint64_t payload_of(const struct ppl_log_header *h)
{
    uint64_t bytes = 0;
    for (unsigned i = 0; i < h->entries; i++)
        bytes += h->entry[i].parity_bytes;
    return bytes;
}

/* The newest header of the member: generations go up from one to the next. */
static int find_header(struct work *w)
{
    autofree struct ppl_log_header *next = xcalloc(1, sizeof *next);
    uint64_t at, bytes;
    bool found = false;
    if (!ppl_area(&w->m->sb, bdev_size(w->m->desc), &at, &bytes))
        return nothing(w, "the place of a member's partial parity log cannot be");
    w->end = at + bytes;
    for (; at + PPL_BLOCK <= w->end; at += PPL_BLOCK + payload_of(next)) {
        if (bdev_read(w->m->desc, at, w->buf->data, PPL_BLOCK))
            return nothing(w, "a member's partial parity log cannot be read");
        if (!ppl_header_read(next, w->buf->data, &w->a->sb.set_uuid) ||
            (found && next->generation < w->header.generation))
            break;
        w->header = *next;
        w->at = at + PPL_BLOCK;
        found = true;
        if (!(w->m->sb.features & MD_FEATURE_MULTIPLE_PPLS))
            break;
    }
    return found ? 0 : nothing(w, "a member's partial parity log is not there");
}

/* Which rows an entry is about, by bytes of the array; see raid5-ppl.rst. */
struct rows {
    uint64_t first, last; /* of data */
    uint64_t strip;       /* bytes from `first` on, of each of `blocks` data blocks */
    unsigned blocks;
};

static bool rows_of(const struct work *w, const struct ppl_log_entry *e, struct rows *x)
{
    uint64_t chunk = w->a->chunk, stripe = chunk * w->geometry.data;
    uint64_t array = w->a->member_bytes / chunk * stripe;
    if (e->first >= array / MD_SECTOR || e->parity_bytes > chunk || e->parity_bytes % MD_SECTOR ||
        !e->data_bytes || e->data_bytes % MD_SECTOR || e->data_bytes > stripe)
        return false;
    x->first = e->first * MD_SECTOR;
    x->blocks = w->geometry.data;
    if (e->parity_bytes == chunk) {
        x->strip = chunk;
        x->last = x->first + e->data_bytes;
    } else {
        x->blocks = e->parity_bytes ? e->data_bytes / e->parity_bytes : x->blocks;
        x->strip = e->parity_bytes ? e->parity_bytes : e->data_bytes / x->blocks;
        x->last = x->first + (x->blocks - 1) * chunk + x->strip;
    }
    return x->blocks && x->blocks <= w->geometry.data && x->strip && x->strip % MD_SECTOR == 0 &&
           x->last <= (x->first / stripe + 1) * stripe;
}

static int read_block(struct work *w, struct raid_member *m, uint64_t at, uint8_t **block,
                      unsigned *n, uint32_t len)
{
    block[*n] = w->buf->data + (size_t)*n * PPL_BLOCK;
    return bdev_read(m->desc, at, block[(*n)++], len);
}

/* `len` bytes of parity at `i` of the strip; 0, also when a block of it is missing, and parity has
 * nothing to stand for. */
static int mend(struct work *w, const struct ppl_log_entry *e, const struct rows *x, uint64_t i,
                uint32_t len)
{
    struct parity_map map, sum = {.parities = 1};
    uint8_t *block[PARITY_SLOTS_MAX + 1];
    uint64_t chunk = w->a->chunk, stripe = chunk * w->geometry.data;
    uint64_t number = x->first / stripe, row = number * chunk + (x->first + i) % chunk;
    unsigned n = 0;
    int error = 0;
    parity_map_init(&map, &w->geometry, number);
    for (unsigned k = 0; k < x->blocks && !error; k++) {
        uint64_t at = x->first + i + k * chunk;
        if (at >= x->last)
            continue;
        struct raid_member *m = w->a->slot[map.slot_of[at % stripe / chunk]];
        if (!m || !raid_in_sync(m))
            return 0;
        error = read_block(w, m, m->data_offset + row, block, &n, len);
    }
    if (!n)
        return 0; /* rows between two blocks */
    if (e->parity_bytes && !error)
        error = read_block(w, w->m, w->at + i, block, &n, len);
    block[n] = w->buf->data + (size_t)n * PPL_BLOCK;
    for (unsigned k = 0; k < n; k++)
        sum.slot_of[k] = sum.order[k] = (uint8_t)k;
    sum.data = n;
    sum.slots = n + 1;
    sum.p = (uint8_t)n;
    if (!error)
        parity_generate(&sum, block, len);
    return error ? error : bdev_write(w->m->desc, w->m->data_offset + row, block[n], len, 0);
}

static int mend_entry(struct work *w, const struct ppl_log_entry *e)
{
    struct parity_map map;
    struct rows x;
    if (!rows_of(w, e, &x))
        return nothing(w, "a member's partial parity log has an entry that cannot be");
    parity_map_init(&map, &w->geometry, x.first / (w->a->chunk * w->geometry.data));
    if (map.p != e->slot || w->a->slot[map.p] != w->m)
        return nothing(w, "a member's partial parity log is of another one");
    uint32_t step = (x.first | x.last | x.strip) % PPL_BLOCK ? MD_SECTOR : PPL_BLOCK;
    for (uint64_t i = 0; i < x.strip; i += step)
        if (mend(w, e, &x, i, step))
            return nothing(w, "a member failed while the partial parity log was worked off");
    w->done++;
    return 0;
}

/* One whose sum does not fit was being written: no data has followed it. */
static int sum_of(struct work *w, uint32_t bytes, uint32_t *sum_r)
{
    *sum_r = 0;
    for (uint64_t at = 0; at < bytes; at += PPL_BLOCK) {
        uint32_t len = bytes - at < PPL_BLOCK ? (uint32_t)(bytes - at) : PPL_BLOCK;
        if (bdev_read(w->m->desc, w->at + at, w->buf->data, len))
            return nothing(w, "a member's partial parity log cannot be read");
        *sum_r = crc32c(*sum_r, w->buf->data, len);
    }
    return 0;
}

static int work_off(struct work *w)
{
    uint32_t sum;
    if (find_header(w))
        return -1;
    for (unsigned i = 0; i < w->header.entries; i++) {
        const struct ppl_log_entry *e = &w->header.entry[i];
        if (e->parity_bytes > w->end - w->at)
            return nothing(w, "a member's partial parity log is longer than its place");
        if (sum_of(w, e->parity_bytes, &sum) || (sum == e->sum && mend_entry(w, e)))
            return -1;
        w->at += e->parity_bytes;
    }
    return bdev_flush(w->m->desc) ? nothing(w, "a member failed to flush") : 0;
}

int ppl_replay(struct raid_array *a, const char **why_r)
{
    autofree struct work *w = xcalloc(1, sizeof *w);
    struct raid_member *m;
    int rc = 0;
    w->a = a;
    w->buf = iobuf_get((size_t)(PARITY_SLOTS_MAX + 2) * PPL_BLOCK);
    if (!w->buf || !parity_geometry_init(&w->geometry, a->level->level, a->sb.layout, a->slots))
        rc = nothing(w, "there is no memory for it");
    list_for_each (m, &a->members, link) {
        bool here = m->slot >= 0 && raid_in_sync(m) && m->sb.features & FEATURES;
        w->m = m;
        rc = rc || (here && work_off(w)) ? -1 : 0;
    }
    iobuf_put(&w->buf);
    *why_r = w->why;
    if (!rc) {
        char object[80];
        raid_object(a, object);
        event_raise(object, "log-replayed", "%u entries of the partial parity log", w->done);
    }
    return rc;
}

/* ---- its end */

int ppl_give_up(struct raid_array *a, bool now, struct err *e)
{
    autofree struct md_super *sb = xcalloc(1, sizeof *sb);
    autofree uint8_t *bytes = xcalloc(1, MD_SUPER_SIZE);
    struct raid_member *m;
    a->sb.features &= ~(uint32_t)FEATURES;
    a->sb.bitmap_offset = 0;
    list_for_each (m, &a->members, link) {
        m->sb.features &= ~(uint32_t)FEATURES;
        m->sb.bitmap_offset = 0;
    }
    if (!now)
        return 0;
    a->sb.events++;
    a->sb.utime = md_time_now();
    list_for_each (m, &a->members, link) {
        raid_meta_build(a, m, sb);
        md_super_write(sb, bytes);
        m->behind = 0;
        int error = bdev_write(m->desc, MD_SUPER_OFFSET, bytes, MD_SUPER_SIZE, BIO_FUA);
        if (error)
            return err_set(e, ERR_IO, "", "the superblock of %s cannot be written: %s", m->device,
                           strerror(-error));
    }
    return 0;
}
