/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdlib.h>

#include "api/metrics.h"
#include "base/mem.h"
#include "block/stats.h"
#include "raid/raid.h"
#include "volumes/volumes.h"

static const enum bio_op shown_ops[] = {BIO_READ, BIO_WRITE, BIO_FLUSH, BIO_DISCARD,
                                        BIO_WRITE_ZEROES};
enum { OPS = sizeof shown_ops / sizeof *shown_ops };

/* ---- devices */

struct op {
    uint64_t bytes, errors;
    struct metrics_hist time;
};
struct device {
    struct bdev_info info;
    uint64_t inflight;
    struct op op[OPS];
};
struct devices {
    struct device *list;
    unsigned count, room;
};

static void collect_device(struct bdev *b, void *arg)
{
    struct devices *d = arg;
    if (d->count == d->room) {
        d->room = d->room ? 2 * d->room : 64;
        d->list = xrealloc(d->list, d->room * sizeof *d->list);
    }
    struct device *one = &d->list[d->count++];
    bdev_info_of(b, &one->info);
    one->inflight = bdev_inflight(b);
    for (unsigned i = 0; i < OPS; i++) {
        struct op_stats s;
        bdev_op_stats(b, shown_ops[i], &s);
        one->op[i].bytes = s.bytes;
        one->op[i].errors = s.errors;
        metrics_fold(&one->op[i].time, s.bucket, s.total_ns);
    }
}

static void device_gauge(struct metrics *m, const struct devices *d, const char *name,
                         const char *help, uint64_t (*value)(const struct device *))
{
    metrics_family(m, name, "gauge", help);
    for (unsigned i = 0; i < d->count; i++)
        metrics_u64(m, name, value(&d->list[i]), "device", d->list[i].info.name, NULL);
}

static void op_counter(struct metrics *m, const struct devices *d, const char *name,
                       const char *help, uint64_t (*value)(const struct op *))
{
    metrics_family(m, name, "counter", help);
    unsigned n = 0;
    for (unsigned i = 0; i < d->count; i++) {
        for (unsigned k = 0; k < OPS; k++)
            metrics_u64(m, name, value(&d->list[i].op[k]), "device", d->list[i].info.name, "op",
                        bio_op_name(shown_ops[k]), NULL);
        metrics_step(&n);
    }
}

static uint64_t value_size(const struct device *d)
{
    return d->info.size;
}

static uint64_t value_inflight(const struct device *d)
{
    return d->inflight;
}

static uint64_t value_write_error(const struct device *d)
{
    return d->info.write_error;
}

static uint64_t value_bytes(const struct op *s)
{
    return s->bytes;
}

static uint64_t value_errors(const struct op *s)
{
    return s->errors;
}

static void write_devices(struct metrics *m)
{
    struct devices d = {0};
    unsigned n = 0;
    bdev_for_each(collect_device, &d);
    metrics_family(m, "orion_device_info", "gauge", "Device and its kind.");
    for (unsigned i = 0; i < d.count; i++)
        metrics_u64(m, "orion_device_info", 1, "device", d.list[i].info.name, "type",
                    d.list[i].info.type, NULL);
    device_gauge(m, &d, "orion_device_size_bytes", "Size of the device.", value_size);
    device_gauge(m, &d, "orion_device_inflight_requests", "Requests under way.", value_inflight);
    device_gauge(m, &d, "orion_device_write_error", "1 when a flush failed and writes may be lost.",
                 value_write_error);
    op_counter(m, &d, "orion_io_bytes_total", "Bytes of finished requests.", value_bytes);
    op_counter(m, &d, "orion_io_errors_total", "Requests that failed.", value_errors);
    metrics_family(m, "orion_io_duration_seconds", "histogram",
                   "Time from submission to completion.");
    for (unsigned i = 0; i < d.count; i++) {
        for (unsigned k = 0; k < OPS; k++)
            metrics_histogram(m, "orion_io_duration_seconds", &d.list[i].op[k].time, "device",
                              d.list[i].info.name, "op", bio_op_name(shown_ops[k]), NULL);
        metrics_step(&n);
    }
    free(d.list);
}

/* ---- arrays */

static void array_states(const struct raid_info *info, void *arg)
{
    for (unsigned s = RAID_INACTIVE; s <= RAID_READ_ONLY; s++)
        metrics_u64(arg, "orion_array_state", info->state == s, "array", info->name, "state",
                    raid_state_name(s), NULL);
}

static void array_sync(const struct raid_info *info, void *arg)
{
    for (unsigned s = RAID_SYNC_IDLE; s <= RAID_SYNC_REPAIR; s++)
        metrics_u64(arg, "orion_array_sync_action", info->sync == s, "array", info->name, "action",
                    raid_sync_name(s), NULL);
}

static void array_sync_done(const struct raid_info *info, void *arg)
{
    metrics_u64(arg, "orion_array_sync_done_bytes", info->sync_done, "array", info->name, NULL);
}

static void array_sync_total(const struct raid_info *info, void *arg)
{
    metrics_u64(arg, "orion_array_sync_total_bytes", info->sync_total, "array", info->name, NULL);
}

static void array_bitmap(const struct raid_info *info, void *arg)
{
    if (info->bitmap_chunk)
        metrics_u64(arg, "orion_array_bitmap_dirty_chunks", info->bitmap_dirty, "array", info->name,
                    NULL);
}

static void array_mismatch(const struct raid_info *info, void *arg)
{
    metrics_u64(arg, "orion_array_mismatch_bytes", info->mismatch, "array", info->name, NULL);
}

static void array_missing(const struct raid_info *info, void *arg)
{
    metrics_u64(arg, "orion_array_missing_members", info->missing, "array", info->name, NULL);
}

static void member_states(const struct raid_info *info, void *arg)
{
    for (unsigned i = 0; i < info->member_count; i++)
        for (unsigned s = RAID_MEMBER_IN_SYNC; *info->member[i].device && s < RAID_MEMBER_MISSING;
             s++)
            metrics_u64(arg, "orion_array_member_state", info->member[i].state == s, "array",
                        info->name, "device", info->member[i].device, "state",
                        raid_member_state_name(s), NULL);
}

static void member_errors(const struct raid_info *info, void *arg)
{
    for (unsigned i = 0; i < info->member_count; i++)
        if (*info->member[i].device)
            metrics_u64(arg, "orion_array_member_errors_total", info->member[i].errors, "array",
                        info->name, "device", info->member[i].device, NULL);
}

static void member_corrected(const struct raid_info *info, void *arg)
{
    for (unsigned i = 0; i < info->member_count; i++)
        if (*info->member[i].device)
            metrics_u64(arg, "orion_array_member_corrected_total", info->member[i].corrected,
                        "array", info->name, "device", info->member[i].device, NULL);
}

static void member_bad(const struct raid_info *info, void *arg)
{
    for (unsigned i = 0; i < info->member_count; i++)
        if (*info->member[i].device)
            metrics_u64(arg, "orion_array_member_bad_blocks", info->member[i].bad, "array",
                        info->name, "device", info->member[i].device, NULL);
}

/* A member is one device: its requests are the device's. */
static void member_requests(const struct raid_info *info, void *arg)
{
    for (unsigned i = 0; i < info->member_count; i++) {
        struct bdev *b = *info->member[i].device ? bdev_find(info->member[i].device) : NULL;
        for (unsigned k = 0; b && k < OPS; k++) {
            struct op_stats s;
            bdev_op_stats(b, shown_ops[k], &s);
            metrics_u64(arg, "orion_array_member_requests_total", s.count, "array", info->name,
                        "device", info->member[i].device, "op", bio_op_name(shown_ops[k]), NULL);
        }
    }
}

static void array_rate(const struct raid_info *info, void *arg)
{
    metrics_u64(arg, "orion_array_sync_rate_bytes", info->sync_rate, "array", info->name, NULL);
}

static void array_limit(const struct raid_info *info, void *arg)
{
    metrics_u64(arg, "orion_array_sync_limit_bytes", info->sync_limit, "array", info->name, NULL);
}

static void array_writes(const struct raid_info *info, void *arg)
{
    for (unsigned w = 0; *info->log && w < RAID_WAYS; w++)
        metrics_u64(arg, "orion_array_stripe_writes_total", info->writes[w], "array", info->name,
                    "kind", raid_way_name(w), NULL);
}

static void array_memory(const struct raid_info *info, void *arg)
{
    if (*info->log)
        metrics_u64(arg, "orion_array_stripe_memory_bytes", info->memory, "array", info->name,
                    NULL);
}

static void array_gathered(const struct raid_info *info, void *arg)
{
    if (*info->log)
        metrics_u64(arg, "orion_array_gathered_writes_total", info->gathered, "array", info->name,
                    NULL);
}

static void array_log_used(const struct raid_info *info, void *arg)
{
    if (info->log_size)
        metrics_u64(arg, "orion_array_log_used_bytes", info->log_used, "array", info->name, NULL);
}

static void array_log_size(const struct raid_info *info, void *arg)
{
    if (info->log_size)
        metrics_u64(arg, "orion_array_log_size_bytes", info->log_size, "array", info->name, NULL);
}

static void write_array_work(struct metrics *m)
{
    metrics_family(m, "orion_array_sync_rate_bytes", "gauge",
                   "Bytes a second that the sync makes.");
    raid_for_each(array_rate, m);
    metrics_family(m, "orion_array_sync_limit_bytes", "gauge",
                   "Bytes a second that clients leave the sync, 0 for no limit.");
    raid_for_each(array_limit, m);
    metrics_family(m, "orion_array_stripe_writes_total", "counter",
                   "Work on stripes of parity levels, by how the new parity became known.");
    raid_for_each(array_writes, m);
    metrics_family(m, "orion_array_gathered_writes_total", "counter",
                   "Writes of clients that shared work on a stripe with another one.");
    raid_for_each(array_gathered, m);
    metrics_family(m, "orion_array_stripe_memory_bytes", "gauge",
                   "Buffers for stripes of parity levels.");
    raid_for_each(array_memory, m);
    metrics_family(m, "orion_array_log_used_bytes", "gauge",
                   "Bytes of the log of the write hole that are in use.");
    raid_for_each(array_log_used, m);
    metrics_family(m, "orion_array_log_size_bytes", "gauge", "Bytes of the log of the write hole.");
    raid_for_each(array_log_size, m);
}

static void write_arrays(struct metrics *m)
{
    metrics_family(m, "orion_array_state", "gauge", "State of the array: 1 for the one it is in.");
    raid_for_each(array_states, m);
    metrics_family(m, "orion_array_sync_action", "gauge",
                   "Sync of the array: 1 for the one that runs.");
    raid_for_each(array_sync, m);
    metrics_family(m, "orion_array_sync_done_bytes", "gauge", "Bytes of a member that are synced.");
    raid_for_each(array_sync_done, m);
    metrics_family(m, "orion_array_sync_total_bytes", "gauge", "Bytes of a member to sync.");
    raid_for_each(array_sync_total, m);
    metrics_family(m, "orion_array_missing_members", "gauge", "Roles without a working member.");
    raid_for_each(array_missing, m);
    metrics_family(m, "orion_array_bitmap_dirty_chunks", "gauge",
                   "Bits of the write-intent bitmap that are set.");
    raid_for_each(array_bitmap, m);
    metrics_family(m, "orion_array_mismatch_bytes", "gauge",
                   "Bytes that did not fit in the last scrub, or in the one that runs.");
    raid_for_each(array_mismatch, m);
    metrics_family(m, "orion_array_member_state", "gauge",
                   "State of the member: 1 for the one it is in.");
    raid_for_each(member_states, m);
    metrics_family(m, "orion_array_member_errors_total", "counter", "Failed requests of a member.");
    raid_for_each(member_errors, m);
    metrics_family(m, "orion_array_member_corrected_total", "counter",
                   "Read errors of a member that were rewritten from the others.");
    raid_for_each(member_corrected, m);
    metrics_family(m, "orion_array_member_bad_blocks", "gauge",
                   "Sectors on the list of bad blocks of a member.");
    raid_for_each(member_bad, m);
    metrics_family(m, "orion_array_member_requests_total", "counter",
                   "Requests that a member has finished.");
    raid_for_each(member_requests, m);
    write_array_work(m);
}

/* ---- pools */

static void pool_size(const struct pool_info *info, void *arg)
{
    metrics_u64(arg, "orion_pool_size_bytes", info->size, "pool", info->name, NULL);
}

static void pool_free(const struct pool_info *info, void *arg)
{
    metrics_u64(arg, "orion_pool_free_bytes", info->free, "pool", info->name, NULL);
}

static void pool_states(const struct pool_info *info, void *arg)
{
    for (unsigned s = POOL_ACTIVE; s <= POOL_PARTIAL; s++)
        metrics_u64(arg, "orion_pool_state", info->state == s, "pool", info->name, "state",
                    pool_state_name(s), NULL);
}

static void write_pools(struct metrics *m)
{
    metrics_family(m, "orion_pool_state", "gauge", "State of the pool: 1 for the one it is in.");
    pool_for_each(pool_states, m);
    metrics_family(m, "orion_pool_size_bytes", "gauge", "Size of the pool.");
    pool_for_each(pool_size, m);
    metrics_family(m, "orion_pool_free_bytes", "gauge", "Space of the pool that no volume has.");
    pool_for_each(pool_free, m);
}

void metrics_block(struct metrics *m)
{
    write_devices(m);
    write_arrays(m);
    write_pools(m);
}
