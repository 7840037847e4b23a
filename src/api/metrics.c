/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "api/http.h"
#include "api/metrics_text.h"
#include "base/mem.h"
#include "block/job.h"
#include "block/stats.h"
#include "control/control.h"
#include "raid/raid.h"
#include "reactor/iobuf.h"
#include "reactor/reactor.h"
#include "reactor/task.h"
#include "targets/iscsi/iscsi.h"
#include "targets/nbd/nbd.h"
#include "targets/target.h"
#include "volumes/volumes.h"

/*
 * /metrics. All on main, from counters that are read without a lock and from what main knows: a
 * scrape touches neither the data path nor a disk.
 */

static const enum bio_op shown_ops[] = {BIO_READ, BIO_WRITE, BIO_FLUSH, BIO_DISCARD,
                                        BIO_WRITE_ZEROES};
enum { OPS = sizeof shown_ops / sizeof *shown_ops };

/* ---- devices */

struct device {
    struct bdev_info info;
    uint64_t inflight;
    struct op_stats op[OPS];
};
struct devices {
    struct device *list;
    unsigned count;
};

static void collect_device(struct bdev *b, void *arg)
{
    struct devices *d = arg;
    d->list = xrealloc(d->list, (d->count + 1) * sizeof *d->list);
    struct device *one = &d->list[d->count++];
    bdev_info_of(b, &one->info);
    one->inflight = bdev_inflight(b);
    for (unsigned i = 0; i < OPS; i++)
        bdev_op_stats(b, shown_ops[i], &one->op[i]);
}

static void device_gauge(FILE *f, const struct devices *d, const char *name, const char *help,
                         uint64_t (*value)(const struct device *))
{
    metrics_family(f, name, "gauge", help);
    for (unsigned i = 0; i < d->count; i++)
        metrics_u64(f, name, value(&d->list[i]), "device", d->list[i].info.name, NULL);
}

static void op_counter(FILE *f, const struct devices *d, const char *name, const char *help,
                       uint64_t (*value)(const struct op_stats *))
{
    metrics_family(f, name, "counter", help);
    for (unsigned i = 0; i < d->count; i++)
        for (unsigned k = 0; k < OPS; k++)
            metrics_u64(f, name, value(&d->list[i].op[k]), "device", d->list[i].info.name, "op",
                        bio_op_name(shown_ops[k]), NULL);
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

static uint64_t value_bytes(const struct op_stats *s)
{
    return s->bytes;
}

static uint64_t value_errors(const struct op_stats *s)
{
    return s->errors;
}

/* 14 bounds of 10 us to 10 s; a fine bucket counts below the first bound that is not under its own.
 */
static const struct {
    const char *text;
    uint64_t ns;
} bounds[] = {
    {"1e-05", 10000},   {"3e-05", 30000},    {"0.0001", 100000}, {"0.0003", 300000},
    {"0.001", 1000000}, {"0.002", 2000000},  {"0.005", 5000000}, {"0.01", 10000000},
    {"0.03", 30000000}, {"0.1", 100000000},  {"0.3", 300000000}, {"1", 1000000000},
    {"3", 3000000000},  {"10", 10000000000},
};
enum { BOUNDS = sizeof bounds / sizeof *bounds };

static void histogram(FILE *f, const char *device, const char *op, const struct op_stats *s)
{
    unsigned fine = 0;
    uint64_t sum = 0;
    for (unsigned i = 0; i < BOUNDS; i++) {
        for (; fine < HIST_BUCKETS && hist_bound_ns(fine) <= bounds[i].ns; fine++)
            sum += s->bucket[fine];
        metrics_bucket(f, "orion_io_duration_seconds_bucket", bounds[i].text, sum, "device", device,
                       "op", op, NULL);
    }
    for (; fine < HIST_BUCKETS; fine++)
        sum += s->bucket[fine];
    metrics_bucket(f, "orion_io_duration_seconds_bucket", "+Inf", sum, "device", device, "op", op,
                   NULL);
    metrics_double(f, "orion_io_duration_seconds_sum", (double)s->total_ns / 1e9, "device", device,
                   "op", op, NULL);
    /* The same sum: counters are read while they move. */
    metrics_u64(f, "orion_io_duration_seconds_count", sum, "device", device, "op", op, NULL);
}

static void write_devices(FILE *f)
{
    struct devices d = {0};
    bdev_for_each(collect_device, &d);
    metrics_family(f, "orion_device_info", "gauge", "Device and its kind.");
    for (unsigned i = 0; i < d.count; i++)
        metrics_u64(f, "orion_device_info", 1, "device", d.list[i].info.name, "type",
                    d.list[i].info.type, NULL);
    device_gauge(f, &d, "orion_device_size_bytes", "Size of the device.", value_size);
    device_gauge(f, &d, "orion_device_inflight_requests", "Requests under way.", value_inflight);
    device_gauge(f, &d, "orion_device_write_error", "1 when a flush failed and writes may be lost.",
                 value_write_error);
    op_counter(f, &d, "orion_io_bytes_total", "Bytes of finished requests.", value_bytes);
    op_counter(f, &d, "orion_io_errors_total", "Requests that failed.", value_errors);
    metrics_family(f, "orion_io_duration_seconds", "histogram",
                   "Time from submission to completion.");
    for (unsigned i = 0; i < d.count; i++) {
        for (unsigned k = 0; k < OPS; k++)
            histogram(f, d.list[i].info.name, bio_op_name(shown_ops[k]), &d.list[i].op[k]);
        /* Thousands of devices must not keep the main reactor from others. */
        if (i % 32 == 31)
            task_yield();
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

static void write_arrays(FILE *f)
{
    metrics_family(f, "orion_array_state", "gauge", "State of the array: 1 for the one it is in.");
    raid_for_each(array_states, f);
    metrics_family(f, "orion_array_sync_action", "gauge",
                   "Sync of the array: 1 for the one that runs.");
    raid_for_each(array_sync, f);
    metrics_family(f, "orion_array_sync_done_bytes", "gauge", "Bytes of a member that are synced.");
    raid_for_each(array_sync_done, f);
    metrics_family(f, "orion_array_sync_total_bytes", "gauge", "Bytes of a member to sync.");
    raid_for_each(array_sync_total, f);
    metrics_family(f, "orion_array_missing_members", "gauge", "Roles without a working member.");
    raid_for_each(array_missing, f);
    metrics_family(f, "orion_array_member_state", "gauge",
                   "State of the member: 1 for the one it is in.");
    raid_for_each(member_states, f);
    metrics_family(f, "orion_array_member_errors_total", "counter", "Failed requests of a member.");
    raid_for_each(member_errors, f);
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

static void write_pools(FILE *f)
{
    metrics_family(f, "orion_pool_state", "gauge", "State of the pool: 1 for the one it is in.");
    pool_for_each(pool_states, f);
    metrics_family(f, "orion_pool_size_bytes", "gauge", "Size of the pool.");
    pool_for_each(pool_size, f);
    metrics_family(f, "orion_pool_free_bytes", "gauge", "Space of the pool that no volume has.");
    pool_for_each(pool_free, f);
}

/* ---- targets */

static void export_ready(const struct nbd_export_info *info, void *arg)
{
    metrics_u64(arg, "orion_nbd_export_ready", info->ready, "export", info->name, NULL);
}

static void export_connections(const struct nbd_export_info *info, void *arg)
{
    metrics_u64(arg, "orion_nbd_export_connections", info->connections, "export", info->name, NULL);
}

static void target_sessions_of(const struct iscsi_target_info *info, void *arg)
{
    metrics_u64(arg, "orion_iscsi_target_sessions", info->session_count, "target", info->iqn, NULL);
}

static void count_session(const struct session_info *s, void *arg)
{
    uint64_t *n = arg;
    n[!strcmp(s->protocol, "nbd") ? 0 : 1]++;
}

static void write_targets(FILE *f)
{
    uint64_t sessions[2] = {0};
    target_sessions(count_session, sessions);
    metrics_family(f, "orion_sessions", "gauge", "Clients that are connected.");
    metrics_u64(f, "orion_sessions", sessions[0], "protocol", "nbd", NULL);
    metrics_u64(f, "orion_sessions", sessions[1], "protocol", "iscsi", NULL);
    metrics_family(f, "orion_nbd_export_ready", "gauge", "1 when the export can be attached.");
    nbd_export_for_each(export_ready, f);
    metrics_family(f, "orion_nbd_export_connections", "gauge", "Clients of the export.");
    nbd_export_for_each(export_connections, f);
    metrics_family(f, "orion_iscsi_target_sessions", "gauge", "Sessions of the target.");
    iscsi_target_for_each(target_sessions_of, f);
}

/* ---- the daemon */

static void count_job(const struct job_info *info, void *arg)
{
    uint64_t *n = arg;
    n[info->state]++;
}

static void write_control(FILE *f)
{
    uint64_t jobs[JOB_CANCELLED + 1] = {0};
    job_for_each(count_job, jobs);
    metrics_family(f, "orion_jobs", "gauge", "Jobs that are listed, by state.");
    for (unsigned s = 0; s <= JOB_CANCELLED; s++)
        metrics_u64(f, "orion_jobs", jobs[s], "state", job_state_name(s), NULL);
    metrics_family(f, "orion_events_total", "counter", "Events raised.");
    metrics_u64(f, "orion_events_total", control_events_total(), NULL);
    metrics_family(f, "orion_verbs_total", "counter", "Changes asked for, by outcome.");
    metrics_u64(f, "orion_verbs_total", control_verbs_total(false) - control_verbs_total(true),
                "result", "done", NULL);
    metrics_u64(f, "orion_verbs_total", control_verbs_total(true), "result", "refused", NULL);
    metrics_family(f, "orion_healthy", "gauge", "1 when nothing is known to be wrong.");
    metrics_u64(f, "orion_healthy", !control_problems(NULL, NULL), NULL);
}

static void write_reactors(FILE *f)
{
    struct reactor_stats stats[REACTOR_MAX];
    char name[REACTOR_MAX][8];
    unsigned n = reactor_count() + 1;
    for (unsigned i = 0; i < n; i++) {
        reactor_get_stats(reactor_get(i), &stats[i]);
        snprintf(name[i], sizeof name[i], i + 1 < n ? "%u" : "main", i);
    }
    metrics_family(f, "orion_reactor_busy_seconds_total", "counter", "Time the thread worked.");
    for (unsigned i = 0; i < n; i++)
        metrics_double(f, "orion_reactor_busy_seconds_total", (double)stats[i].busy_ns / 1e9,
                       "reactor", name[i], NULL);
    metrics_family(f, "orion_reactor_turns_total", "counter", "Turns of the loop.");
    for (unsigned i = 0; i < n; i++)
        metrics_u64(f, "orion_reactor_turns_total", stats[i].turns, "reactor", name[i], NULL);
    uint64_t used, pooled;
    iobuf_stats(&used, &pooled);
    metrics_family(f, "orion_buffer_bytes", "gauge", "Memory of data buffers.");
    metrics_u64(f, "orion_buffer_bytes", used, "state", "used", NULL);
    metrics_u64(f, "orion_buffer_bytes", pooled, "state", "pooled", NULL);
}

static unsigned count_fds(void)
{
    unsigned n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    return n > 3 ? n - 3 : 0; /* ".", "..", and the folder itself */
}

static void write_process(FILE *f)
{
    struct rusage u;
    struct rlimit r;
    unsigned long pages = 0, resident = 0;
    FILE *statm = fopen("/proc/self/statm", "re");
    if (statm && fscanf(statm, "%lu %lu", &pages, &resident) != 2)
        pages = resident = 0;
    if (statm)
        fclose(statm);
    getrusage(RUSAGE_SELF, &u);
    getrlimit(RLIMIT_NOFILE, &r);
    long page = sysconf(_SC_PAGESIZE);
    metrics_family(f, "process_cpu_seconds_total", "counter", "CPU time of the process.");
    metrics_double(f, "process_cpu_seconds_total",
                   (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
                       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6,
                   NULL);
    metrics_family(f, "process_resident_memory_bytes", "gauge", "Resident memory.");
    metrics_u64(f, "process_resident_memory_bytes", (uint64_t)resident * (uint64_t)page, NULL);
    metrics_family(f, "process_virtual_memory_bytes", "gauge", "Virtual memory.");
    metrics_u64(f, "process_virtual_memory_bytes", (uint64_t)pages * (uint64_t)page, NULL);
    metrics_family(f, "process_open_fds", "gauge", "Open file descriptors.");
    metrics_u64(f, "process_open_fds", count_fds(), NULL);
    metrics_family(f, "process_max_fds", "gauge", "Most file descriptors that may be open.");
    metrics_u64(f, "process_max_fds", r.rlim_cur, NULL);
    metrics_family(f, "process_start_time_seconds", "gauge", "When the process started.");
    metrics_u64(f, "process_start_time_seconds", control_started_ms() / 1000, NULL);
}

char *metrics_text(size_t *len_r)
{
    char *text = NULL;
    FILE *f = open_memstream(&text, len_r);
    if (!f)
        abort(); /* out of memory: as everywhere on the control path */
    metrics_family(f, "orion_build_info", "gauge", "Version of the daemon.");
    metrics_u64(f, "orion_build_info", 1, "version", ORION_VERSION, NULL);
    write_devices(f);
    write_arrays(f);
    write_pools(f);
    write_targets(f);
    write_control(f);
    write_reactors(f);
    write_process(f);
    fclose(f);
    return text;
}
