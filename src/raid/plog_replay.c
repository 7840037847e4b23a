/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * After a crash: what the log says was about to be written is written again, in order. Records that
 * were durable but whose rows are on the members already do no harm: each change of a row since the
 * first record stands in the log too. A whole stripe is only named; its parity is computed from
 * what stands there, and what earlier records say of it is void.
 */
#include <errno.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/mem.h"
#include "block/event.h"
#include "raid/bad.h"
#include "raid/md_super.h"
#include "raid/plog.h"

struct found {
    struct plog_record rec;
    bool settled; /* nothing is to be done for it */
    struct bdev_desc *desc;
    unsigned ring;
    uint64_t at; /* of the payload on the member */
};

struct replay {
    struct raid_array *a;
    const struct plog_device *device;
    struct parity_geometry geometry;
    struct plog_head head;
    struct found *list;
    unsigned n;
    const char *why;
    uint64_t unread; /* slots that could not read the rows that are looked at */
};

static int nothing(struct replay *r, const char *why)
{
    r->why = why;
    return -1;
}

/* ---- heads */

/* Those of a member that belong to the array. */
static unsigned read_heads(const struct raid_array *a, const struct raid_member *m,
                           const struct plog_device *device, struct plog_head h[2])
{
    struct iobuf *buf = iobuf_get(PLOG_HEADS);
    struct bdev_desc *desc;
    unsigned n = 0;
    uint64_t end = plog_end(m, device, &desc);
    bool there = device ? m->slot >= 0 : end >= PLOG_FIRST + PLOG_HEADS;
    if (buf && there && !bdev_read(desc, end - PLOG_HEADS, buf->data, PLOG_HEADS)) {
        for (unsigned i = 0; i < 2; i++)
            if (plog_head_read(&h[n], buf->data + (size_t)i * PLOG_BLOCK) &&
                uuid_equal(&h[n].array, &a->bdev.uuid))
                n++;
    }
    iobuf_put(&buf);
    return n;
}

uint64_t plog_last_head(const struct raid_array *a)
{
    const struct raid_member *m;
    struct plog_head h[2];
    uint64_t last = 0;
    list_for_each (m, &a->members, link)
        for (unsigned on = 0; on < (a->log_device ? 2 : 1); on++)
            for (unsigned i = read_heads(a, m, on ? a->log_device : NULL, h); i--;)
                last = h[i].sequence > last ? h[i].sequence : last;
    return last;
}

static bool fits_super(const struct plog_head *h, const struct md_super *sb)
{
    return (sb->events == h->before_events && sb->utime == h->before_utime) ||
           (sb->events == h->next_events && sb->utime == h->next_utime);
}

/* Does a head describe what stands on all members? */
static int judge_head(struct replay *r, const struct plog_head *head)
{
    const struct raid_member *m;
    struct plog_head h[2];
    list_for_each (m, &r->a->members, link) {
        if (m->slot < 0)
            continue;
        if (!fits_super(head, &m->sb))
            return nothing(r, "somebody else has run the array since the log was written");
        unsigned n = read_heads(r->a, m, r->device, h);
        if (!(n && uuid_equal(&h[0].epoch, &head->epoch)) &&
            !(n == 2 && uuid_equal(&h[1].epoch, &head->epoch)))
            return nothing(r, "a member has no part of the log");
    }
    r->head = *head;
    return 0;
}

/* The newest that all members know. One that not all have was being written when it ended, and no
 * superblock had followed it. */
static int choose_head(struct replay *r)
{
    const struct raid_member *m;
    struct plog_head h[2], best;
    uint64_t below = UINT64_MAX;
    for (;;) {
        bool any = false;
        list_for_each (m, &r->a->members, link)
            for (unsigned i = m->slot >= 0 ? read_heads(r->a, m, r->device, h) : 0; i--;)
                if (h[i].sequence < below && (!any || h[i].sequence > best.sequence)) {
                    best = h[i];
                    any = true;
                }
        if (!any)
            return r->why ? -1 : nothing(r, "there is no log");
        if (!judge_head(r, &best))
            return 0;
        below = best.sequence;
    }
}

/* ---- records */

static void note(struct replay *r, struct raid_member *m, struct bdev_desc *desc,
                 const uint8_t *block, uint64_t at, unsigned ring, uint64_t left)
{
    struct plog_record rec;
    uint64_t rows = r->a->chunk, stripes = r->a->sb.size * MD_SECTOR / r->a->chunk;
    /* What the member logged when it had been here before, others have changed while it was not. */
    if (!plog_record_read(&rec, block) || !uuid_equal(&rec.epoch, &r->head.epoch) ||
        rec.era < r->head.joined[m->slot] || rec.payload > left || rec.hi > rows ||
        rec.stripe >= stripes || (r->a->slots < 64 && rec.slots >> r->a->slots))
        return;
    r->list = xrealloc(r->list, (r->n + 1) * sizeof *r->list);
    r->list[r->n++] = (struct found){rec, false, desc, ring, at + PLOG_BLOCK};
}

static int scan_ring(struct replay *r, struct raid_member *m, unsigned ring, uint64_t size)
{
    struct bdev_desc *desc;
    uint64_t start = plog_end(m, r->device, &desc) - r->head.length + ring * size;
    struct iobuf *buf = iobuf_get(size);
    if (!buf || bdev_read(desc, start, buf->data, size)) {
        iobuf_put(&buf);
        return nothing(r, "a member's part of the log cannot be read");
    }
    for (uint64_t at = 0; at < size; at += PLOG_BLOCK)
        note(r, m, desc, buf->data + at, start + at, ring, size - at - PLOG_BLOCK);
    iobuf_put(&buf);
    return 0;
}

static int scan(struct replay *r)
{
    struct raid_member *m;
    uint64_t size = (r->head.length - PLOG_HEADS) / r->head.rings / PLOG_BLOCK * PLOG_BLOCK;
    list_for_each (m, &r->a->members, link) {
        if (m->slot < 0 || (r->device && m->replaces))
            continue;
        if (r->device ? r->device->length < r->head.length
                      : m->data_offset < r->head.length + PLOG_FIRST)
            return nothing(r, "a member has no room for the log it should have");
        for (unsigned i = 0; i < r->head.rings; i++)
            if (scan_ring(r, m, i, size))
                return -1;
    }
    return 0;
}

static int in_order(const void *va, const void *vb)
{
    const struct found *a = va, *b = vb;
    if (a->ring != b->ring)
        return a->ring < b->ring ? -1 : 1;
    return a->rec.sequence < b->rec.sequence ? -1 : a->rec.sequence > b->rec.sequence;
}

static bool payload_whole(const struct found *f)
{
    struct iobuf *buf = f->rec.payload ? iobuf_get(f->rec.payload) : NULL;
    bool good = !f->rec.payload;
    if (buf && !bdev_read(f->desc, f->at, buf->data, f->rec.payload))
        good = crc32c(0, buf->data, f->rec.payload) == f->rec.payload_sum;
    iobuf_put(&buf);
    return good;
}

/* Leaves what counts: with rows, not before the newest tail of its ring, and complete. */
static void keep_live(struct replay *r)
{
    uint64_t tail[REACTOR_MAX] = {0};
    unsigned kept = 0;
    for (unsigned i = 0; i < r->n; i++)
        if (r->list[i].rec.tail > tail[r->list[i].ring])
            tail[r->list[i].ring] = r->list[i].rec.tail;
    for (unsigned i = 0; i < r->n; i++) {
        const struct plog_record *rec = &r->list[i].rec;
        if ((rec->whole || rec->payload) && rec->sequence >= tail[r->list[i].ring] &&
            payload_whole(&r->list[i]))
            r->list[kept++] = r->list[i];
    }
    r->n = kept;
    if (r->n)
        qsort(r->list, r->n, sizeof *r->list, in_order);
}

/* ---- putting it there again */

/* Has it what this record says, or does it lack it for the time being? Rows from before it took its
 * slot are not its own. */
static struct raid_member *takes(struct replay *r, const struct plog_record *rec, unsigned slot)
{
    struct raid_member *m = r->a->slot[slot];
    return m && raid_takes_writes(m) && rec->era >= r->head.joined[slot] ? m : NULL;
}

/* Who has these rows? */
static struct raid_member *trusted(struct replay *r, const struct plog_record *rec, unsigned slot)
{
    struct raid_member *m = r->a->slot[slot];
    if (r->unread >> slot & 1)
        return NULL;
    return m && raid_good_at(m, rec->stripe * r->a->chunk + rec->lo, rec->hi - rec->lo) ? m : NULL;
}

/* What has gone bad since: it goes on the list now, if the member keeps one. */
static int list_rows(struct raid_member *m, uint64_t offset, const uint8_t *data, uint64_t length)
{
    int rc = 0;
    for (uint64_t at = 0, n; at < length; at += n) {
        n = STRIPE_BLOCK - (m->data_offset + offset + at) % STRIPE_BLOCK;
        n = length - at < n ? length - at : n;
        int error = bdev_write(m->desc, m->data_offset + offset + at, data + at, n, 0);
        if (error && !raid_bad_add(m, offset + at, n, error))
            rc = error;
    }
    return rc;
}

/* What is on the member's list of bad blocks may go on failing: the others stand for it. */
static int write_rows(struct raid_member *m, uint64_t offset, const uint8_t *data, uint64_t length)
{
    int rc = 0;
    for (uint64_t at = 0, n; at < length; at += n) {
        bool bad;
        n = raid_bad_run(m, offset + at, offset + length, &bad);
        int error = bdev_write(m->desc, m->data_offset + offset + at, data + at, n, 0);
        if (error && !bad && list_rows(m, offset + at, data + at, n))
            rc = error;
    }
    return rc;
}

/* Rows [lo, hi) of a slot, but for what a later whole stripe has made void. */
static int put(struct replay *r, unsigned index, unsigned slot, uint32_t lo, uint32_t hi,
               const uint8_t *data)
{
    const struct plog_record *rec = &r->list[index].rec;
    struct raid_member *m = takes(r, rec, slot);
    if (lo >= hi || !m)
        return 0;
    for (unsigned k = index + 1; k < r->n; k++) {
        const struct plog_record *later = &r->list[k].rec;
        if (!later->whole || later->stripe != rec->stripe || later->hi <= lo || later->lo >= hi)
            continue;
        uint32_t from = later->lo > lo ? later->lo : lo, to = later->hi < hi ? later->hi : hi;
        int error = put(r, index, slot, lo, from, data);
        int other = put(r, index, slot, to, hi, data + (to - lo));
        return error ? error : other;
    }
    return write_rows(m, rec->stripe * r->a->chunk + lo, data, hi - lo);
}

static int put_record(struct replay *r, unsigned index, struct iobuf *buf)
{
    const struct found *f = &r->list[index];
    const uint8_t *data = buf->data;
    int error = bdev_read(f->desc, f->at, buf->data, f->rec.payload);
    if (error)
        return error;
    for (unsigned i = 0; i < r->a->slots; i++) {
        if (!(f->rec.slots >> i & 1))
            continue;
        int one = put(r, index, i, f->rec.row[i][0], f->rec.row[i][1], data);
        error = error ? error : one;
        data += f->rec.row[i][1] - f->rec.row[i][0];
    }
    return error;
}

/* Reads all data of the rows; what is missing is recovered as P has it. 1: then nothing is left
 * that could fit or not. */
static int read_rows(struct replay *r, const struct plog_record *rec, const struct parity_map *map,
                     struct iobuf **buf, uint8_t **block)
{
    size_t len = rec->hi - rec->lo;
    uint64_t lost = 0, spare = 0;
    for (unsigned i = 0; i < map->slots; i++) {
        lost |= trusted(r, rec, i) ? 0 : 1ull << i;
        spare |= !parity_is_data(map, i) && trusted(r, rec, i) ? 1ull << i : 0;
    }
    uint64_t reads = parity_needs(map, lost);
    for (unsigned d = 0; d < map->data; d++)
        if (lost >> map->slot_of[d] & 1 && !(reads && spare & ~reads))
            return 1;
    for (unsigned i = 0; i < map->slots; i++) {
        struct raid_member *m = trusted(r, rec, i);
        if (!m && !parity_is_data(map, i))
            continue;
        buf[i] = iobuf_get(len);
        if (!buf[i])
            return -ENOMEM;
        block[i] = buf[i]->data;
        uint64_t at = m ? m->data_offset + rec->stripe * r->a->chunk + rec->lo : 0;
        if (!(reads >> i & 1) || !bdev_read(m->desc, at, block[i], len))
            continue;
        r->unread |= 1ull << i;
        return -EIO;
    }
    if (lost)
        parity_recover(map, lost, block, len);
    return 0;
}

/* Is any block of it on a member's list? *step_r: what all members can read alone. */
static bool any_listed(const struct replay *r, const struct plog_record *rec, uint32_t *step_r)
{
    bool any = false;
    *step_r = MD_SECTOR;
    for (unsigned i = 0; i < r->a->slots; i++) {
        const struct raid_member *m = r->a->slot[i];
        struct bdev_info info;
        if (!m)
            continue;
        bdev_get_info(m->desc, &info);
        *step_r = info.block_size > *step_r ? info.block_size : *step_r;
        any = any || raid_bad_at(m, rec->stripe * r->a->chunk + rec->lo, rec->hi - rec->lo);
    }
    return any;
}

/* A block of it has gone bad since: the others were flushed before that was on record, and hold
 * what it held. */
static bool settled(const struct replay *r, const struct plog_record *rec)
{
    uint32_t step;
    return any_listed(r, rec, &step);
}

static int fit_rows(struct replay *r, const struct plog_record *rec)
{
    struct parity_map map;
    struct iobuf *buf[PARITY_SLOTS_MAX] = {0};
    uint8_t *block[PARITY_SLOTS_MAX] = {0};
    size_t len = rec->hi - rec->lo;
    parity_map_init(&map, &r->geometry, rec->stripe);
    int error = read_rows(r, rec, &map, buf, block);
    if (!error)
        parity_generate(&map, block, len);
    for (unsigned i = 0; i < map.slots && !error; i++)
        if (!parity_is_data(&map, i) && block[i]) {
            struct raid_member *m = r->a->slot[i];
            error = raid_in_sync(m)
                        ? write_rows(m, rec->stripe * r->a->chunk + rec->lo, block[i], len)
                        : 0;
        }
    for (unsigned i = 0; i < map.slots; i++)
        iobuf_put(&buf[i]);
    return error > 0 ? 0 : error;
}

/* Where a part of it is bad on a member, block by block: parity fits where all others are. */
static int fit_parity(struct replay *r, const struct plog_record *rec)
{
    struct plog_record part = *rec;
    uint32_t step;
    int error = any_listed(r, rec, &step) ? -EIO : fit_rows(r, rec);
    if (!raid_medium_error(error))
        return error;
    error = 0;
    for (uint32_t row = rec->lo; row < rec->hi; row += step) {
        part.lo = row;
        part.hi = rec->hi - row < step ? rec->hi : row + step;
        r->unread = 0;
        int one = fit_rows(r, &part);
        for (uint64_t was = 0; raid_medium_error(one) && r->unread != was;) {
            was = r->unread; /* as if that one were missing */
            one = fit_rows(r, &part);
        }
        error = !error && !raid_medium_error(one) ? one : error;
    }
    r->unread = 0;
    return error;
}

/* Once the first record is there all others have to follow, whatever fails: each holds older rows
 * than those behind it. */
static int put_records(struct replay *r)
{
    uint32_t most = 1;
    int error = 0;
    for (unsigned i = 0; i < r->n; i++)
        most = r->list[i].rec.payload > most ? r->list[i].rec.payload : most;
    struct iobuf *buf = iobuf_get(most);
    for (unsigned i = 0; i < r->n && buf; i++) {
        int one = r->list[i].rec.whole ? 0 : put_record(r, i, buf);
        error = error ? error : one;
    }
    if (!buf)
        return -ENOMEM;
    iobuf_put(&buf);
    return error;
}

static int put_all(struct replay *r)
{
    struct raid_member *m;
    for (unsigned i = 0; i < r->n; i++) /* by what is on lists now, before what fails goes there */
        r->list[i].settled = !r->list[i].rec.whole || settled(r, &r->list[i].rec);
    int error = put_records(r);
    for (unsigned i = 0; i < r->n && error != -ENOMEM; i++) {
        int one = r->list[i].settled ? 0 : fit_parity(r, &r->list[i].rec);
        error = error ? error : one;
    }
    list_for_each (m, &r->a->members, link) {
        int one = m->slot >= 0 ? bdev_flush(m->desc) : 0;
        error = error ? error : one;
    }
    list_for_each (m, &r->a->members, link) {
        int one = raid_bad_record(m);
        error = error ? error : one;
    }
    return error ? nothing(r, "a member failed while the log was worked off") : 0;
}

/* One on the members when that of the device is not the last one: it was given the device since. */
static int choose_log(struct replay *r)
{
    if (!choose_head(r))
        return 0;
    if (!r->device)
        return -1;
    r->device = NULL;
    return choose_head(r);
}

int plog_replay(struct raid_array *a, unsigned lost, uint64_t *synced_r, const char **why_r)
{
    struct replay r = {.a = a, .device = a->log_device};
    unsigned missing = a->slots - raid_in_sync_count(a);
    int rc = -1;
    if (!parity_geometry_init(&r.geometry, a->level->level, a->sb.layout, a->slots))
        nothing(&r, "its layout is not known");
    else if (lost && missing > 1) /* records may have stood on the one, and concern the other */
        nothing(&r, "parts of the log are lost with the members");
    else
        rc = choose_log(&r);
    if (!rc)
        rc = scan(&r);
    if (!rc) {
        keep_live(&r);
        rc = put_all(&r);
    }
    if (!rc) {
        char object[80];
        raid_object(a, object);
        event_raise(object, "log-replayed", "%u writes that a crash had cut short are whole", r.n);
    }
    *synced_r = r.head.synced ? UINT64_MAX : r.head.synced_to;
    if (lost && r.geometry.parities == 2)
        *synced_r = 0;
    *why_r = r.why;
    free(r.list);
    return rc;
}
