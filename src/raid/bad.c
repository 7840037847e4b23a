/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "raid/bad.h"

#include <errno.h>
#include <linux/types.h>
#include <stdlib.h>
#include <string.h>

#include <linux/raid/md_p.h>

#include "base/buf.h"
#include "base/mem.h"
#include "block/event.h"
#include "raid/bitmap.h"

enum {
    ENTRY = 8,        /* bytes: 54 bits of place, 10 of length */
    LENGTH_MAX = 512, /* units of one entry; what Linux writes */
    LIST_MAX = MD_BAD_SECTORS_MAX * MD_SECTOR,
};

struct range {
    uint64_t from, to; /* units of the device */
};

struct raid_bad {
    uint64_t unit;  /* bytes */
    unsigned most;  /* entries that fit */
    bool changed;   /* home; the list on disk is older */
    unsigned count; /* atomic; home writes, with the lock held */
    pthread_mutex_t lock;
    struct range *range; /* sorted, none touches another */
};

/* ---- lists */

static unsigned entries(const struct range *r, unsigned n)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < n; i++)
        sum += (r[i].to - r[i].from + LENGTH_MAX - 1) / LENGTH_MAX;
    return sum < UINT32_MAX ? (unsigned)sum : UINT32_MAX;
}

/* `r` is taken. False: it does not fit on disk. */
static bool replace(struct raid_bad *b, struct range *r, unsigned n)
{
    struct range *old = r;
    bool fits = entries(r, n) <= b->most;
    if (fits) {
        pthread_mutex_lock(&b->lock);
        old = b->range;
        b->range = r;
        raid_store(&b->count, n);
        pthread_mutex_unlock(&b->lock);
    }
    free(old);
    return fits;
}

static bool insert(struct raid_bad *b, struct range new)
{
    struct range *r = xcalloc(b->count + 1, sizeof *r);
    unsigned n = 0, i = 0;
    while (i < b->count && b->range[i].to < new.from)
        r[n++] = b->range[i++];
    for (; i < b->count && b->range[i].from <= new.to; i++) {
        new.from = b->range[i].from < new.from ? b->range[i].from : new.from;
        new.to = b->range[i].to > new.to ? b->range[i].to : new.to;
    }
    r[n++] = new;
    while (i < b->count)
        r[n++] = b->range[i++];
    return replace(b, r, n);
}

static bool cut_out(struct raid_bad *b, struct range gone)
{
    struct range *r = xcalloc(b->count + 1, sizeof *r);
    unsigned n = 0;
    for (unsigned i = 0; i < b->count; i++) {
        const struct range *was = &b->range[i];
        if (was->from < gone.from)
            r[n++] = (struct range){was->from, was->to < gone.from ? was->to : gone.from};
        if (was->to > gone.to)
            r[n++] = (struct range){was->from > gone.to ? was->from : gone.to, was->to};
    }
    return replace(b, r, n);
}

uint64_t raid_bad_run(const struct raid_member *m, uint64_t offset, uint64_t end, bool *bad_r)
{
    uint64_t at = m->data_offset + offset, until = m->data_offset + end;
    *bad_r = false;
    if (!m->bad || !raid_bad_any(m))
        return end - offset;
    struct raid_bad *b = m->bad;
    pthread_mutex_lock(&b->lock);
    for (unsigned i = 0; i < b->count; i++) {
        uint64_t from = b->range[i].from * b->unit, to = b->range[i].to * b->unit;
        if (to <= at)
            continue;
        *bad_r = from <= at;
        uint64_t border = *bad_r ? to : from;
        until = border < until ? border : until;
        break;
    }
    pthread_mutex_unlock(&b->lock);
    return until - at;
}

bool raid_bad_find(const struct raid_member *m, uint64_t offset, uint64_t length)
{
    bool bad;
    return raid_bad_run(m, offset, offset + length, &bad) < length || bad;
}

bool raid_bad_any(const struct raid_member *m)
{
    return raid_load(&m->bad->count) != 0;
}

uint64_t raid_bad_sectors(const struct raid_member *m)
{
    struct raid_bad *b = m->bad;
    uint64_t units = 0;
    if (!b || !raid_bad_any(m))
        return 0;
    pthread_mutex_lock(&b->lock);
    for (unsigned i = 0; i < b->count; i++)
        units += b->range[i].to - b->range[i].from;
    pthread_mutex_unlock(&b->lock);
    return units * (b->unit / MD_SECTOR);
}

/* ---- what stands on disk */

static struct raid_bad *bad_new(const struct md_super *sb)
{
    struct raid_bad *b = xcalloc(1, sizeof *b);
    b->unit = (uint64_t)MD_SECTOR << sb->bblog_shift;
    b->most = sb->bblog_size * MD_SECTOR / ENTRY;
    pthread_mutex_init(&b->lock, NULL);
    return b;
}

void raid_bad_free(struct raid_bad **bp)
{
    struct raid_bad *b = *bp;
    *bp = NULL;
    if (!b)
        return;
    pthread_mutex_destroy(&b->lock);
    free(b->range);
    free(b);
}

static uint64_t place_of(const struct raid_member *m)
{
    return (uint64_t)((int64_t)m->sb.super_offset + m->sb.bblog_offset) * MD_SECTOR;
}

static bool parse(struct raid_bad *b, const uint8_t *bytes, size_t size, uint64_t device)
{
    struct rd r = rd_make(bytes, size);
    while (rd_left(&r)) {
        uint64_t v = rd_le64(&r), from = v >> 10, length = v & 1023;
        if (v == UINT64_MAX)
            return true;
        if (!length || from + length > device / b->unit ||
            !insert(b, (struct range){from, from + length}))
            return false;
    }
    return true;
}

int raid_bad_load(struct raid_member *m, struct err *e)
{
    autofree uint8_t *bytes = xcalloc(1, LIST_MAX);
    size_t size = m->sb.bblog_size * MD_SECTOR;
    if (!md_super_keeps_bad(&m->sb, bdev_size(m->desc)))
        return 0;
    m->bad = bad_new(&m->sb);
    if (!(m->sb.features & MD_FEATURE_BAD_BLOCKS))
        return 0; /* what the list says then is old */
    int error = bdev_read(m->desc, place_of(m), bytes, size);
    if (error)
        return err_set(e, ERR_IO, "", "%s: the list of bad blocks cannot be read: %s", m->device,
                       strerror(-error));
    if (!parse(m->bad, bytes, size, bdev_size(m->desc)))
        return err_set(e, ERR_INVALID, "", "%s: the list of bad blocks has an entry that cannot be",
                       m->device);
    return 0;
}

void raid_bad_give(struct raid_array *a, struct raid_member *m)
{
    const struct raid_member *other;
    bool kept = false;
    list_for_each (other, &a->members, link)
        kept = kept || other->bad;
    uint64_t room = md_bitmap_room(bdev_size(m->desc) / MD_SECTOR);
    uint64_t bitmap = a->bitmap ? (uint64_t)a->bitmap->pages * RAID_BITMAP_PAGE / MD_SECTOR : 0;
    uint64_t at = RAID_BITMAP_AT + (room > bitmap ? room : bitmap);
    if (!kept || m->bad || MD_SUPER_OFFSET + (at + MD_BAD_SECTORS_MAX) * MD_SECTOR > m->data_offset)
        return;
    m->sb.super_offset = MD_SUPER_OFFSET / MD_SECTOR;
    m->sb.bblog_offset = (int32_t)at;
    m->sb.bblog_size = MD_BAD_SECTORS_MAX;
    m->sb.bblog_shift = 0;
    m->bad = bad_new(&m->sb);
}

static void fill(const struct raid_bad *b, uint8_t *bytes, size_t size)
{
    struct wr w = wr_make(bytes, size);
    memset(bytes, 0xff, size);
    for (unsigned i = 0; i < b->count; i++)
        for (uint64_t at = b->range[i].from, n; at < b->range[i].to; at += n) {
            n = b->range[i].to - at < LENGTH_MAX ? b->range[i].to - at : LENGTH_MAX;
            wr_le64(&w, at << 10 | n);
        }
}

void raid_bad_store(struct raid_array *a, bool *lost_r)
{
    autofree uint8_t *bytes = NULL;
    struct raid_member *m;
    list_for_each (m, &a->members, link) {
        if (!m->bad || !m->bad->changed || m->state == RAID_MEMBER_FAULTY || !m->desc)
            continue;
        size_t size = m->sb.bblog_size * MD_SECTOR;
        bytes = bytes ? bytes : xcalloc(1, LIST_MAX);
        fill(m->bad, bytes, size);
        int error = bdev_write(m->desc, place_of(m), bytes, size, BIO_FUA);
        if (!error)
            m->bad->changed = false;
        else if (raid_kick(a, m, error, false))
            *lost_r = true;
    }
}

int raid_bad_record(struct raid_member *m)
{
    if (!m->bad || !m->bad->changed)
        return 0;
    size_t size = m->sb.bblog_size * MD_SECTOR;
    autofree uint8_t *bytes = xcalloc(1, size > MD_SUPER_SIZE ? size : MD_SUPER_SIZE);
    fill(m->bad, bytes, size);
    int error = bdev_write(m->desc, place_of(m), bytes, size, BIO_FUA);
    if (error)
        return error;
    m->sb.features |= MD_FEATURE_BAD_BLOCKS;
    md_super_write(&m->sb, bytes);
    error = bdev_write(m->desc, MD_SUPER_OFFSET, bytes, MD_SUPER_SIZE, BIO_FUA);
    m->bad->changed = error != 0;
    return error;
}

/* ---- changes */

static void tell(const struct raid_member *m, const char *what, uint64_t offset, uint64_t length,
                 const char *why)
{
    char object[80];
    raid_object(m->array, object);
    event_raise(object, what, "member %s: %llu bytes at %llu %s", m->device,
                (unsigned long long)length, (unsigned long long)(m->data_offset + offset), why);
}

bool raid_bad_add(struct raid_member *m, uint64_t offset, uint64_t length, int error)
{
    struct raid_bad *b = m->bad;
    bool bad;
    if (!b || !raid_medium_error(error) || !length || m->state == RAID_MEMBER_FAULTY)
        return false;
    if (raid_bad_run(m, offset, offset + length, &bad) == length && bad)
        return !b->changed || m->array->bad_news; /* it is on record */
    uint64_t at = m->data_offset + offset;
    if (!insert(b, (struct range){at / b->unit, (at + length + b->unit - 1) / b->unit}))
        return false;
    raid_count(&m->errors);
    b->changed = m->array->bad_news = true;
    tell(m, "bad-block-recorded", offset, length, "are on its list of bad blocks");
    return true;
}

void raid_bad_clear(struct raid_member *m, uint64_t offset, uint64_t length)
{
    struct raid_bad *b = m->bad;
    if (!raid_bad_at(m, offset, length) || m->state == RAID_MEMBER_FAULTY)
        return;
    int error = bdev_flush(m->desc);
    if (error) {
        raid_report(m, error);
        return;
    }
    uint64_t at = m->data_offset + offset;
    struct range gone = {(at + b->unit - 1) / b->unit, (at + length) / b->unit};
    if (gone.from >= gone.to || !cut_out(b, gone))
        return;
    b->changed = m->array->bad_news = true;
    tell(m, "bad-block-cleared", offset, length, "are on its list of bad blocks no more");
}

int raid_bad_written(struct raid_member *m, uint64_t offset, uint64_t length, int error)
{
    struct raid_array *a = m->array;
    if (!error && !raid_bad_at(m, offset, length))
        return 0;
    if (error && (!m->bad || !raid_medium_error(error))) {
        raid_report(m, error);
        return error;
    }
    tlock_lock(&a->meta_lock);
    if (!error)
        raid_bad_clear(m, offset, length);
    else if (!raid_bad_add(m, offset, length, error))
        raid_report(m, error);
    else
        error = 0;
    if (a->bad_news && !raid_load(&a->failed))
        raid_meta_write(a);
    tlock_unlock(&a->meta_lock);
    return error;
}
