/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The bytes of the log. See plog.h. */
#include <string.h>

#include "base/buf.h"
#include "base/crc32c.h"
#include "raid/plog.h"

/*
 * Head: magic 8, sum 4, version 4, sequence 8, array 16, epoch 16, events and utime before 8 + 8,
 * next 8 + 8, length 8, rings 4, synced 4, synced to 8, 64 x joined 4. Record: magic 8, sum 4,
 * flags 1, era 3, epoch 16, sequence 8, tail 8, stripe 8, lo 4, hi 4, slots 8, payload 4, its sum
 * 4, then first and last row (4 + 4) of each slot in `slots`. Label: magic 8, sum 4, version 4,
 * array 16, slots 4, length 8. Zeroes up to PLOG_BLOCK.
 */
enum { VERSION = 1, AT_SUM = 8, WHOLE = 1, AT_ERA = 8 };

static const char head_magic[8] = "OrionLgH", record_magic[8] = "OrionLgR",
                  label_magic[8] = "OrionLgD";

static uint32_t sum_of(const uint8_t *bytes)
{
    static const uint8_t none[4];
    uint32_t sum = crc32c(0, bytes, AT_SUM);
    sum = crc32c(sum, none, sizeof none);
    return crc32c(sum, bytes + AT_SUM + 4, PLOG_BLOCK - AT_SUM - 4);
}

static void seal(uint8_t *bytes)
{
    struct wr w = wr_make(bytes + AT_SUM, 4);
    wr_le32(&w, sum_of(bytes));
}

/* Past magic and sum, or bad. */
static struct rd open_block(const uint8_t *bytes, const char magic[8])
{
    struct rd r = rd_make(bytes, PLOG_BLOCK);
    const uint8_t *m = rd_bytes(&r, 8);
    uint32_t sum = rd_le32(&r);
    r.bad = r.bad || memcmp(m, magic, 8) != 0 || sum != sum_of(bytes);
    return r;
}

void plog_label_write(const struct plog_label *l, void *bytes)
{
    struct wr w = wr_make(bytes, PLOG_BLOCK);
    memset(bytes, 0, PLOG_BLOCK);
    wr_copy(&w, label_magic, 8);
    wr_le32(&w, 0);
    wr_le32(&w, VERSION);
    wr_copy(&w, l->array.b, 16);
    wr_le32(&w, l->slots);
    wr_le64(&w, l->length);
    seal(bytes);
}

bool plog_label_read(struct plog_label *l, const void *bytes)
{
    struct rd r = open_block(bytes, label_magic);
    memset(l, 0, sizeof *l);
    if (rd_le32(&r) != VERSION)
        return false;
    rd_copy(&r, l->array.b, 16);
    l->slots = rd_le32(&r);
    l->length = rd_le64(&r);
    return rd_ok(&r) && l->slots && l->slots <= PARITY_SLOTS_MAX && l->length <= PLOG_MOST &&
           l->length % PLOG_BLOCK == 0 && l->length > PLOG_HEADS;
}

void plog_head_write(const struct plog_head *h, void *bytes)
{
    struct wr w = wr_make(bytes, PLOG_BLOCK);
    memset(bytes, 0, PLOG_BLOCK);
    wr_copy(&w, head_magic, 8);
    wr_le32(&w, 0);
    wr_le32(&w, VERSION);
    wr_le64(&w, h->sequence);
    wr_copy(&w, h->array.b, 16);
    wr_copy(&w, h->epoch.b, 16);
    wr_le64(&w, h->before_events);
    wr_le64(&w, h->before_utime);
    wr_le64(&w, h->next_events);
    wr_le64(&w, h->next_utime);
    wr_le64(&w, h->length);
    wr_le32(&w, h->rings);
    wr_le32(&w, h->synced);
    wr_le64(&w, h->synced_to);
    for (unsigned i = 0; i < PARITY_SLOTS_MAX; i++)
        wr_le32(&w, h->joined[i]);
    seal(bytes);
}

bool plog_head_read(struct plog_head *h, const void *bytes)
{
    struct rd r = open_block(bytes, head_magic);
    memset(h, 0, sizeof *h);
    if (rd_le32(&r) != VERSION)
        return false;
    h->sequence = rd_le64(&r);
    rd_copy(&r, h->array.b, 16);
    rd_copy(&r, h->epoch.b, 16);
    h->before_events = rd_le64(&r);
    h->before_utime = rd_le64(&r);
    h->next_events = rd_le64(&r);
    h->next_utime = rd_le64(&r);
    h->length = rd_le64(&r);
    h->rings = rd_le32(&r);
    h->synced = rd_le32(&r) == 1;
    h->synced_to = rd_le64(&r);
    for (unsigned i = 0; i < PARITY_SLOTS_MAX; i++)
        h->joined[i] = rd_le32(&r);
    return rd_ok(&r) && h->rings && h->rings <= REACTOR_MAX && h->length <= PLOG_MOST &&
           h->length % PLOG_BLOCK == 0 && h->length > PLOG_HEADS;
}

void plog_record_write(const struct plog_record *rec, void *bytes)
{
    struct wr w = wr_make(bytes, PLOG_BLOCK);
    memset(bytes, 0, PLOG_BLOCK);
    wr_copy(&w, record_magic, 8);
    wr_le32(&w, 0);
    wr_le32(&w, (rec->whole ? WHOLE : 0) | rec->era << AT_ERA);
    wr_copy(&w, rec->epoch.b, 16);
    wr_le64(&w, rec->sequence);
    wr_le64(&w, rec->tail);
    wr_le64(&w, rec->stripe);
    wr_le32(&w, rec->lo);
    wr_le32(&w, rec->hi);
    wr_le64(&w, rec->slots);
    wr_le32(&w, rec->payload);
    wr_le32(&w, rec->payload_sum);
    for (unsigned i = 0; i < PARITY_SLOTS_MAX; i++) {
        if (!(rec->slots >> i & 1))
            continue;
        wr_le32(&w, rec->row[i][0]);
        wr_le32(&w, rec->row[i][1]);
    }
    seal(bytes);
}

bool plog_record_read(struct plog_record *rec, const void *bytes)
{
    struct rd r = open_block(bytes, record_magic);
    uint64_t sum = 0;
    memset(rec, 0, sizeof *rec);
    uint32_t flags = rd_le32(&r);
    rec->whole = flags & WHOLE;
    rec->era = flags >> AT_ERA;
    rd_copy(&r, rec->epoch.b, 16);
    rec->sequence = rd_le64(&r);
    rec->tail = rd_le64(&r);
    rec->stripe = rd_le64(&r);
    rec->lo = rd_le32(&r);
    rec->hi = rd_le32(&r);
    rec->slots = rd_le64(&r);
    rec->payload = rd_le32(&r);
    rec->payload_sum = rd_le32(&r);
    bool good = rd_ok(&r) && rec->lo < rec->hi && rec->tail <= rec->sequence;
    for (unsigned i = 0; i < PARITY_SLOTS_MAX; i++) {
        if (!(rec->slots >> i & 1))
            continue;
        rec->row[i][0] = rd_le32(&r);
        rec->row[i][1] = rd_le32(&r);
        good = good && rec->row[i][0] < rec->row[i][1] && rec->row[i][0] >= rec->lo &&
               rec->row[i][1] <= rec->hi;
        sum += rec->row[i][1] - rec->row[i][0];
    }
    return good && rd_ok(&r) && sum == rec->payload && rec->payload <= PLOG_MOST;
}
