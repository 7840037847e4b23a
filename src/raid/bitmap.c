/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The write-intent bitmap of an array that runs. */
#include "raid/bitmap.h"

#include <errno.h>
#include <linux/types.h>
#include <stdlib.h>
#include <string.h>

#include <linux/raid/md_p.h>

#include "base/mem.h"
#include "block/event.h"

/* ---- which chunks a write touches */

static void chunks_of(const struct raid_array *a, const struct bio *bio, uint64_t *first_r,
                      uint64_t *last_r)
{
    const struct raid_bitmap *b = a->bitmap;
    uint64_t from = bio->offset, last = bio->offset + bio->length - 1;
    if (a->level->parity) { /* bits are of members' data */
        uint64_t stripe = a->bdev.size / a->member_bytes * a->chunk;
        from = from / stripe * a->chunk;
        last = last / stripe * a->chunk + a->chunk - 1;
    }
    *first_r = from / b->chunk;
    *last_r = last / b->chunk;
    if (*last_r >= b->chunks)
        *last_r = b->chunks - 1;
}

bool raid_bitmap_begin(struct raid_array *a, const struct bio *bio)
{
    struct raid_bitmap *b = a->bitmap;
    uint64_t first, last;
    bool durable = true;
    chunks_of(a, bio, &first, &last);
    for (uint64_t c = first; c <= last; c++) {
        uint32_t was = __atomic_fetch_add(&b->state[c], 1, __ATOMIC_SEQ_CST);
        if (!(was & BITMAP_TOUCHED))
            __atomic_fetch_or(&b->state[c], BITMAP_TOUCHED, __ATOMIC_SEQ_CST);
        durable = durable && was & BITMAP_DURABLE;
    }
    return durable;
}

void raid_bitmap_end(struct raid_array *a, const struct bio *bio)
{
    uint64_t first, last;
    chunks_of(a, bio, &first, &last);
    for (uint64_t c = first; c <= last; c++)
        __atomic_fetch_sub(&a->bitmap->state[c], 1, __ATOMIC_SEQ_CST);
}

/* ---- bits of the image. Home */

static uint8_t *byte_of(const struct raid_bitmap *b, uint64_t c)
{
    return (uint8_t *)b->image->data + MD_BITMAP_HEAD + c / 8;
}

static void put_bit(struct raid_bitmap *b, uint64_t c, bool on)
{
    uint8_t *p = byte_of(b, c), mask = (uint8_t)(1u << c % 8);
    if (!!(*p & mask) == on)
        return;
    *p = on ? *p | mask : *p & (uint8_t)~mask;
    b->page_dirty[(MD_BITMAP_HEAD + c / 8) / RAID_BITMAP_PAGE] = true;
    raid_store(&b->dirty, b->dirty + (on ? 1 : (uint64_t)-1));
}

uint64_t raid_bitmap_next(const struct raid_array *a, uint64_t offset, uint64_t end)
{
    const struct raid_bitmap *b = a->bitmap;
    for (uint64_t c = offset / b->chunk; c < b->chunks && c * b->chunk < end; c++)
        if (raid_load(&b->state[c]) & BITMAP_DURABLE)
            return c * b->chunk > offset ? c * b->chunk : offset;
    return end;
}

uint64_t raid_bitmap_marked(const struct raid_array *a, uint64_t offset, uint64_t end)
{
    const struct raid_bitmap *b = a->bitmap;
    uint64_t c = offset / b->chunk;
    while (c < b->chunks && c * b->chunk < end && raid_load(&b->state[c]) & BITMAP_DURABLE)
        c++;
    return c * b->chunk < end ? c * b->chunk : end;
}

/* ---- life */

static struct raid_bitmap *bitmap_new(struct raid_array *a, const struct md_bitmap *head)
{
    struct raid_bitmap *b = xcalloc(1, sizeof *b);
    b->array = a;
    b->head = *head;
    b->chunk = head->chunk;
    b->chunks = (head->sync_size * MD_SECTOR + b->chunk - 1) / b->chunk;
    size_t bytes = MD_BITMAP_HEAD + (b->chunks + 7) / 8;
    b->pages = (unsigned)((bytes + RAID_BITMAP_PAGE - 1) / RAID_BITMAP_PAGE);
    b->image = iobuf_get((size_t)b->pages * RAID_BITMAP_PAGE);
    if (!b->image)
        abort(); /* at most 132 KiB */
    memset(b->image->data, 0, (size_t)b->pages * RAID_BITMAP_PAGE);
    b->page_dirty = xcalloc(b->pages, sizeof *b->page_dirty);
    b->state = xcalloc(b->chunks, sizeof *b->state);
    return b;
}

void raid_bitmap_free(struct raid_bitmap **bp)
{
    struct raid_bitmap *b = *bp;
    *bp = NULL;
    if (!b)
        return;
    iobuf_put(&b->image);
    free(b->page_dirty);
    free(b->state);
    free(b);
}

static void set_all(struct raid_bitmap *b)
{
    for (uint64_t c = 0; c < b->chunks; c++) {
        put_bit(b, c, true);
        b->state[c] |= BITMAP_DURABLE;
    }
}

static void all_pages(struct raid_bitmap *b)
{
    for (unsigned i = 0; i < b->pages; i++)
        b->page_dirty[i] = true;
}

/* What the bits count: md counts members' data, and the array's on raid10. */
static uint64_t sync_sectors(const struct raid_array *a)
{
    return raid_sync_sectors(&a->sb);
}

static size_t bitmap_bytes(uint64_t sectors, uint64_t chunk)
{
    return MD_BITMAP_HEAD + (sectors * MD_SECTOR + chunk * 8 - 1) / (chunk * 8);
}

int raid_bitmap_make(struct raid_array *a, uint64_t chunk, bool all_set, struct err *e)
{
    uint64_t sectors = sync_sectors(a), room = MD_BITMAP_ROOM - RAID_BITMAP_PAGE;
    struct raid_member *m;
    list_for_each (m, &a->members, link) {
        uint64_t from = MD_SUPER_OFFSET + RAID_BITMAP_AT * MD_SECTOR;
        uint64_t has = md_bitmap_room(bdev_size(m->desc) / MD_SECTOR) * MD_SECTOR;
        has = from + has > m->data_offset ? m->data_offset - from : has;
        room = has < room ? has : room;
    }
    uint64_t least = chunk ? chunk : RAID_BITMAP_CHUNK;
    while (bitmap_bytes(sectors, least) > room)
        least *= 2;
    if (chunk && least != chunk)
        return err_set(e, ERR_INVALID, "bitmap_chunk",
                       "with %llu bytes the bitmap has no room on the members, with %llu it has",
                       (unsigned long long)chunk, (unsigned long long)least);
    if (least > 1ull << 31)
        return err_set(e, ERR_UNSUPPORTED, "bitmap", "the members have no room for a bitmap");
    struct md_bitmap head = {.version = 4,
                             .uuid = a->sb.set_uuid,
                             .sync_size = sectors,
                             .chunk = (uint32_t)least,
                             .daemon_sleep = RAID_BITMAP_SLEEP};
    a->bitmap = bitmap_new(a, &head);
    if (all_set)
        set_all(a->bitmap);
    all_pages(a->bitmap);
    a->sb.features |= MD_FEATURE_BITMAP_OFFSET;
    list_for_each (m, &a->members, link)
        m->sb.bitmap_offset = RAID_BITMAP_AT;
    return 0;
}

static uint64_t place_of(const struct raid_member *m)
{
    return (uint64_t)(MD_SUPER_OFFSET + (int64_t)m->sb.bitmap_offset * MD_SECTOR);
}

static bool fits(const struct raid_member *m, uint64_t bytes)
{
    int64_t at = MD_SUPER_OFFSET + (int64_t)m->sb.bitmap_offset * MD_SECTOR;
    if (at < 0 || !m->sb.bitmap_offset)
        return false;
    uint64_t from = (uint64_t)at, to = from + bytes;
    if (from < MD_SUPER_OFFSET + MD_SUPER_SIZE && to > MD_SUPER_OFFSET)
        return false;
    return to <= bdev_size(m->desc) &&
           (to <= m->data_offset || from >= m->data_offset + m->data_size);
}

int raid_bitmap_place(struct raid_array *a, struct raid_member *m, struct err *e)
{
    if (!a->bitmap)
        return 0;
    uint64_t bytes = (uint64_t)a->bitmap->pages * RAID_BITMAP_PAGE;
    if (!m->sb.bitmap_offset || !fits(m, bytes))
        m->sb.bitmap_offset = RAID_BITMAP_AT;
    if (fits(m, bytes))
        return 0;
    return err_set(e, ERR_UNSUPPORTED, "device",
                   "array %s has a write-intent bitmap for which %s has no room: %llu bytes at "
                   "byte %llu",
                   a->bdev.name, m->device, (unsigned long long)bytes,
                   (unsigned long long)place_of(m));
}

/* What lies behind it on a member bounds it. */
static uint64_t room_of(const struct raid_bitmap *b, const struct raid_member *m)
{
    uint64_t at = place_of(m), end = at + (MD_BITMAP_ROOM - RAID_BITMAP_PAGE);
    uint64_t bad = (uint64_t)((int64_t)MD_SUPER_OFFSET + (int64_t)m->sb.bblog_offset * MD_SECTOR);
    if (m->sb.bblog_size && bad > at && bad < end)
        end = bad;
    if (b->head.reserved && at + (uint64_t)b->head.reserved * MD_SECTOR < end)
        end = at + (uint64_t)b->head.reserved * MD_SECTOR;
    end = m->data_offset < end ? m->data_offset : end;
    return at < end ? (end - at) / RAID_BITMAP_PAGE * RAID_BITMAP_PAGE : 0;
}

/* The chunk with which a bitmap of so many sectors has room everywhere; 0: none. */
static uint32_t chunk_for(const struct raid_array *a, uint64_t sectors)
{
    uint64_t room = UINT64_MAX, chunk = a->bitmap->chunk;
    const struct raid_member *m;
    list_for_each (m, &a->members, link)
        if (m->sb.bitmap_offset && room_of(a->bitmap, m) < room)
            room = room_of(a->bitmap, m);
    while (chunk <= 1ull << 31 && bitmap_bytes(sectors, chunk) > room)
        chunk *= 2;
    return chunk <= 1ull << 31 ? (uint32_t)chunk : 0;
}

bool raid_bitmap_fits(struct raid_array *a, uint64_t sectors)
{
    return !a->bitmap || chunk_for(a, sectors);
}

void raid_bitmap_resize(struct raid_array *a, uint64_t from)
{
    struct raid_bitmap *b = a->bitmap, old;
    if (!b)
        return;
    struct md_bitmap head = b->head;
    head.sync_size = sync_sectors(a);
    head.chunk = chunk_for(a, head.sync_size);
    struct raid_bitmap *n = bitmap_new(a, &head);
    for (uint64_t c = from / n->chunk; c < n->chunks; c++) {
        put_bit(n, c, true);
        n->state[c] |= BITMAP_DURABLE;
    }
    all_pages(n);
    old = *b; /* its timer and tasks stay */
    b->head = n->head;
    b->chunk = n->chunk;
    b->chunks = n->chunks;
    b->state = n->state;
    b->dirty = n->dirty;
    b->image = n->image;
    b->page_dirty = n->page_dirty;
    b->pages = n->pages;
    n->image = old.image;
    n->state = old.state;
    n->page_dirty = old.page_dirty;
    raid_bitmap_free(&n);
}

/* ---- what stands on the members */

static int read_head(struct raid_member *m, struct md_bitmap *head, struct err *e)
{
    uint8_t bytes[MD_BITMAP_HEAD];
    if (!fits(m, RAID_BITMAP_PAGE))
        return err_set(e, ERR_INVALID, "", "%s: the bitmap's place, sector %d, cannot be",
                       m->device, m->sb.bitmap_offset);
    int error = bdev_read(m->desc, place_of(m), bytes, sizeof bytes);
    if (error)
        return err_set(e, ERR_IO, "", "%s: the bitmap cannot be read: %s", m->device,
                       strerror(-error));
    if (md_bitmap_read(head, bytes, e))
        return err_prefix(e, "%s", m->device);
    return 0;
}

/* Can it be the bitmap of this array, and does it know all that the superblocks know? */
static bool current(const struct raid_array *a, const struct md_bitmap *head)
{
    return uuid_equal(&head->uuid, &a->sb.set_uuid) && head->sync_size == sync_sectors(a) &&
           head->events >= a->sb.events && !(head->state & MD_BITMAP_STALE);
}

static bool sane(const struct md_bitmap *head)
{
    return head->chunk >= 512 && !(head->chunk & (head->chunk - 1)) &&
           bitmap_bytes(head->sync_size, head->chunk) <= MD_BITMAP_ROOM &&
           head->sync_size < UINT64_MAX / MD_SECTOR / 2 && head->sync_size;
}

static int merge(struct raid_bitmap *b, struct raid_member *m, struct err *e)
{
    size_t len = bitmap_bytes(b->head.sync_size, b->head.chunk);
    autofree uint8_t *bytes = xcalloc(1, (size_t)b->pages * RAID_BITMAP_PAGE);
    int error = bdev_read(m->desc, place_of(m), bytes, len);
    if (error)
        return err_set(e, ERR_IO, "", "%s: the bitmap cannot be read: %s", m->device,
                       strerror(-error));
    for (uint64_t c = 0; c < b->chunks; c++) {
        if (!(bytes[MD_BITMAP_HEAD + c / 8] >> c % 8 & 1))
            continue;
        put_bit(b, c, true);
        b->state[c] |= BITMAP_DURABLE;
    }
    return 0;
}

/* A bitmap that says nothing, in the place of one that cannot be used. */
static int begin_anew(struct raid_array *a, const struct md_bitmap *old, bool doubt, struct err *e)
{
    struct md_bitmap head = *old;
    struct raid_member *m;
    head.uuid = a->sb.set_uuid;
    head.sync_size = sync_sectors(a);
    head.state = 0;
    head.events_cleared = a->sb.events;
    while (head.chunk < 1u << 31 && !sane(&head))
        head.chunk = head.chunk < RAID_BITMAP_CHUNK ? RAID_BITMAP_CHUNK : head.chunk * 2;
    a->bitmap = bitmap_new(a, &head);
    list_for_each (m, &a->members, link)
        if (m->slot >= 0 && raid_bitmap_place(a, m, e))
            return -1;
    if (doubt)
        set_all(a->bitmap);
    all_pages(a->bitmap);
    return 0;
}

int raid_bitmap_load(struct raid_array *a, bool doubt, struct err *e)
{
    struct md_bitmap head, first = {0};
    struct raid_member *m;
    bool good = true;
    if (!(a->sb.features & MD_FEATURE_BITMAP_OFFSET) || !a->level->redundant)
        return 0;
    list_for_each (m, &a->members, link) {
        if (m->state != RAID_MEMBER_IN_SYNC)
            continue;
        if (read_head(m, &head, e))
            return -1;
        good = good && current(a, &head) && sane(&head) &&
               fits(m, bitmap_bytes(head.sync_size, head.chunk)) &&
               (!first.version || first.chunk == head.chunk);
        if (!first.version)
            first = head;
        else if (head.events_cleared > first.events_cleared)
            first.events_cleared = head.events_cleared;
    }
    if (!first.version)
        return 0;
    if (!good)
        return begin_anew(a, &first, doubt, e);
    a->bitmap = bitmap_new(a, &first);
    list_for_each (m, &a->members, link)
        if (m->state == RAID_MEMBER_IN_SYNC && merge(a->bitmap, m, e))
            return -1;
    a->bitmap->believed = true;
    all_pages(a->bitmap); /* copies may differ */
    list_for_each (m, &a->members, link)
        m->by_bitmap =
            m->state == RAID_MEMBER_REBUILDING && m->sb.features & MD_FEATURE_RECOVERY_BITMAP;
    return 0;
}

/* ---- writing it */

struct page_write {
    struct bio bio;
    struct iovec iov;
    struct raid_member *m;
    struct twait *wait;
};

static void page_written(struct bio *bio)
{
    struct page_write *w = bio->arg;
    twait_done(w->wait);
}

static bool wants_it(const struct raid_member *m)
{
    return m->state != RAID_MEMBER_FAULTY && m->desc && m->sb.bitmap_offset;
}

static bool write_pages(struct raid_array *a, unsigned first, unsigned n, bool *lost_r)
{
    struct raid_bitmap *b = a->bitmap;
    struct raid_member *m;
    unsigned most = 0, count = 0;
    list_for_each (m, &a->members, link)
        most++;
    struct page_write *all = xcalloc(most, sizeof *all);
    struct twait wait = TWAIT(0);
    size_t at = (size_t)first * RAID_BITMAP_PAGE, len = (size_t)n * RAID_BITMAP_PAGE;
    list_for_each (m, &a->members, link) {
        if (!wants_it(m))
            continue;
        struct page_write *w = &all[count++];
        w->m = m;
        w->wait = &wait;
        w->iov = (struct iovec){(uint8_t *)b->image->data + at, len};
        bio_init(&w->bio, m->desc, BIO_WRITE, place_of(m) + at, len, page_written, w);
        bio_data(&w->bio, &w->iov, 1);
        w->bio.flags = BIO_FUA;
    }
    wait.pending = count;
    for (unsigned i = 0; i < count; i++)
        bio_submit(&all[i].bio);
    twait_all(&wait);
    unsigned good = 0;
    for (unsigned i = 0; i < count; i++) {
        if (!all[i].bio.error)
            good += raid_in_sync(all[i].m);
        else if (raid_kick(a, all[i].m, all[i].bio.error, false))
            *lost_r = true;
    }
    free(all);
    return good > 0;
}

static void put_head(struct raid_bitmap *b)
{
    b->head.events = b->array->sb.events;
    md_bitmap_write(&b->head, b->image->data);
    b->page_dirty[0] = true;
}

static void write_dirty(struct raid_array *a, bool *lost_r)
{
    struct raid_bitmap *b = a->bitmap;
    for (unsigned i = 0; i < b->pages; i++) {
        unsigned n = 0;
        while (i + n < b->pages && b->page_dirty[i + n])
            b->page_dirty[i + n++] = false;
        if (n && !write_pages(a, i, n, lost_r))
            b->head.state |= MD_BITMAP_STALE; /* the last copy keeps no bitmap: it must not be
                                                 believed */
        i += n;
    }
}

void raid_bitmap_store(struct raid_array *a, bool *lost_r)
{
    put_head(a->bitmap);
    write_dirty(a, lost_r);
}

int raid_bitmap_store_all(struct raid_array *a, struct raid_member *m)
{
    struct raid_bitmap *b = a->bitmap;
    md_bitmap_write(&b->head, b->image->data);
    return bdev_write(m->desc, place_of(m), b->image->data, (size_t)b->pages * RAID_BITMAP_PAGE,
                      BIO_FUA);
}

/* Meta_lock held. Members that could not store it are out, and the survivors know. */
static int store_now(struct raid_array *a)
{
    bool lost = false, was_stale = a->bitmap->head.state & MD_BITMAP_STALE;
    write_dirty(a, &lost);
    bool stale = !was_stale && a->bitmap->head.state & MD_BITMAP_STALE;
    if ((lost || stale) && raid_meta_write(a))
        return -1;
    return raid_load(&a->failed) ? -1 : 0;
}

/* ---- bits are set */

static void want_bits(struct raid_array *a, const struct bio *list)
{
    uint64_t first, last;
    for (; list; list = list->drv.p[5]) {
        chunks_of(a, list, &first, &last);
        for (uint64_t c = first; c <= last; c++)
            put_bit(a->bitmap, c, true);
    }
}

static void bits_are_durable(struct raid_array *a, const struct bio *list)
{
    uint64_t first, last;
    for (; list; list = list->drv.p[5]) {
        chunks_of(a, list, &first, &last);
        for (uint64_t c = first; c <= last; c++)
            __atomic_fetch_or(&a->bitmap->state[c], BITMAP_DURABLE, __ATOMIC_SEQ_CST);
    }
}

static void arm(struct raid_bitmap *b);

static void set_task(void *arg)
{
    struct raid_array *a = arg;
    struct raid_bitmap *b = a->bitmap;
    while (b->asks) {
        tlock_lock(&a->meta_lock);
        unsigned asks = b->asks;
        b->asks = 0;
        for (unsigned i = 0; i <= reactor_count(); i++)
            if (asks >> i & 1)
                want_bits(a, a->chan[i].bits_asked);
        int rc = raid_load(&a->failed) ? -1 : store_now(a);
        for (unsigned i = 0; i <= reactor_count() && !rc; i++)
            if (asks >> i & 1)
                bits_are_durable(a, a->chan[i].bits_asked);
        raid_bits_grant(a, asks, rc ? -EIO : 0);
        tlock_unlock(&a->meta_lock);
    }
    arm(b);
    raid_task_end(a, &b->set_runs);
}

void raid_bitmap_ask(struct raid_array *a, unsigned reactor)
{
    a->bitmap->asks |= 1u << reactor;
    raid_task(a, &a->bitmap->set_runs, "raid-bitmap", set_task);
}

/* ---- and cleared */

/* Whoever is not in sync with the others lacks what is marked. */
static bool needed(const struct raid_array *a)
{
    const struct raid_member *m;
    list_for_each (m, &a->members, link)
        if (m->state == RAID_MEMBER_REBUILDING)
            return true;
    return raid_in_sync_count(a) < a->slots || raid_load(&a->failed) || raid_load(&a->unrecorded);
}

/* In the middle of a resync only what it has gone through. */
static bool resynced(const struct raid_array *a, uint64_t c)
{
    return (c + 1) * a->bitmap->chunk <= raid_load(&a->resync_pos);
}

/* Chunks that nobody has written since the last look; from here on a write asks for its bit. */
static uint64_t take_idle(struct raid_bitmap *b, uint64_t *idle)
{
    uint64_t n = 0;
    for (uint64_t c = 0; c < b->chunks && resynced(b->array, c); c++) {
        uint32_t was = raid_load(&b->state[c]);
        if (!(was & BITMAP_DURABLE) || was & BITMAP_WRITES)
            continue;
        uint32_t now = was & BITMAP_TOUCHED ? was & ~(uint32_t)BITMAP_TOUCHED : 0;
        if (__atomic_compare_exchange_n(&b->state[c], &was, now, false, __ATOMIC_SEQ_CST,
                                        __ATOMIC_SEQ_CST) &&
            !now)
            idle[n++] = c;
    }
    return n;
}

static void clear_taken(struct raid_array *a, const uint64_t *idle, uint64_t n)
{
    struct raid_bitmap *b = a->bitmap;
    bool flushed = !raid_meta_flush(a) && !needed(a);
    if (flushed && b->head.events_cleared != a->sb.events) {
        /* Who is older than this must not be brought up to date by the bitmap; they know before a
         * bit goes. */
        b->head.events_cleared = a->sb.events;
        put_head(b);
        flushed = !store_now(a) && !needed(a);
    }
    for (uint64_t i = 0; i < n; i++) {
        if (flushed)
            put_bit(b, idle[i], false);
        else
            __atomic_fetch_or(&b->state[idle[i]], BITMAP_DURABLE, __ATOMIC_SEQ_CST);
    }
    if (flushed)
        store_now(a);
}

static void clear_task(void *arg)
{
    struct raid_array *a = arg;
    struct raid_bitmap *b = a->bitmap;
    tlock_lock(&a->meta_lock);
    if (!needed(a) && !a->stopping && b->dirty) {
        autofree uint64_t *idle = malloc(b->dirty * sizeof *idle);
        uint64_t n = idle ? take_idle(b, idle) : 0;
        if (n)
            clear_taken(a, idle, n);
    }
    tlock_unlock(&a->meta_lock);
    raid_publish(a);
    arm(b);
    raid_task_end(a, &b->clear_runs);
}

static void fired(void *arg)
{
    struct raid_bitmap *b = arg;
    b->armed = false;
    raid_task(b->array, &b->clear_runs, "raid-bitmap-clear", clear_task);
}

static void arm(struct raid_bitmap *b)
{
    uint64_t seconds = b->head.daemon_sleep;
    if (b->armed || !b->dirty || b->array->stopping || b->array->read_only)
        return;
    if (seconds < 1 || seconds > 60)
        seconds = RAID_BITMAP_SLEEP;
    b->armed = true;
    rtimer_arm(&b->timer, seconds * 1000 * 1000, fired, b);
}

void raid_bitmap_arm(struct raid_array *a)
{
    if (a->bitmap)
        arm(a->bitmap);
}

void raid_bitmap_settle(struct raid_array *a)
{
    struct raid_bitmap *b = a->bitmap;
    if (!b || !b->dirty || needed(a))
        return;
    if (b->head.events_cleared != a->sb.events) {
        b->head.events_cleared = a->sb.events;
        put_head(b);
        if (store_now(a) || needed(a))
            return;
    }
    for (uint64_t c = 0; c < b->chunks && resynced(a, c); c++) {
        put_bit(b, c, false);
        raid_store(&b->state[c], 0u);
    }
    store_now(a);
}
