/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "api/metrics.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "api/http.h"
#include "block/job.h"
#include "control/control.h"
#include "reactor/iobuf.h"
#include "reactor/reactor.h"
#include "reactor/task.h"

/* What the daemon knows of itself. */

static void count_job(const struct job_info *info, void *arg)
{
    uint64_t *n = arg;
    n[info->state]++;
}

static void write_control(struct metrics *m)
{
    uint64_t jobs[JOB_CANCELLED + 1] = {0};
    job_for_each(count_job, jobs);
    metrics_family(m, "orion_jobs", "gauge", "Jobs that are listed, by state.");
    for (unsigned s = 0; s <= JOB_CANCELLED; s++)
        metrics_u64(m, "orion_jobs", jobs[s], "state", job_state_name(s), NULL);
    metrics_family(m, "orion_events_total", "counter", "Events raised.");
    metrics_u64(m, "orion_events_total", control_events_total(), NULL);
    metrics_family(m, "orion_verbs_total", "counter", "Changes asked for, by outcome.");
    metrics_u64(m, "orion_verbs_total", control_verbs_total(false) - control_verbs_total(true),
                "result", "done", NULL);
    metrics_u64(m, "orion_verbs_total", control_verbs_total(true), "result", "refused", NULL);
    metrics_family(m, "orion_healthy", "gauge", "1 when nothing is known to be wrong.");
    metrics_u64(m, "orion_healthy", !control_problems(NULL, NULL), NULL);
}

static void write_reactors(struct metrics *m)
{
    struct reactor_stats stats[REACTOR_MAX];
    char name[REACTOR_MAX][8];
    unsigned n = reactor_count() + 1;
    for (unsigned i = 0; i < n; i++) {
        reactor_get_stats(reactor_get(i), &stats[i]);
        snprintf(name[i], sizeof name[i], i + 1 < n ? "%u" : "main", i);
    }
    metrics_family(m, "orion_reactor_busy_seconds_total", "counter", "Time the thread worked.");
    for (unsigned i = 0; i < n; i++)
        metrics_double(m, "orion_reactor_busy_seconds_total", (double)stats[i].busy_ns / 1e9,
                       "reactor", name[i], NULL);
    metrics_family(m, "orion_reactor_turns_total", "counter", "Turns of the loop.");
    for (unsigned i = 0; i < n; i++)
        metrics_u64(m, "orion_reactor_turns_total", stats[i].turns, "reactor", name[i], NULL);
    uint64_t used, pooled;
    iobuf_stats(&used, &pooled);
    metrics_family(m, "orion_buffer_bytes", "gauge", "Memory of data buffers.");
    metrics_u64(m, "orion_buffer_bytes", used, "state", "used", NULL);
    metrics_u64(m, "orion_buffer_bytes", pooled, "state", "pooled", NULL);
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

static void write_process(struct metrics *m)
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
    metrics_family(m, "process_cpu_seconds_total", "counter", "CPU time of the process.");
    metrics_double(m, "process_cpu_seconds_total",
                   (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
                       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6,
                   NULL);
    metrics_family(m, "process_resident_memory_bytes", "gauge", "Resident memory.");
    metrics_u64(m, "process_resident_memory_bytes", (uint64_t)resident * (uint64_t)page, NULL);
    metrics_family(m, "process_virtual_memory_bytes", "gauge", "Virtual memory.");
    metrics_u64(m, "process_virtual_memory_bytes", (uint64_t)pages * (uint64_t)page, NULL);
    metrics_family(m, "process_open_fds", "gauge", "Open file descriptors.");
    metrics_u64(m, "process_open_fds", count_fds(), NULL);
    metrics_family(m, "process_max_fds", "gauge", "Most file descriptors that may be open.");
    metrics_u64(m, "process_max_fds", r.rlim_cur, NULL);
    metrics_family(m, "process_start_time_seconds", "gauge", "When the process started.");
    metrics_u64(m, "process_start_time_seconds", control_started_ms() / 1000, NULL);
}

void metrics_step(unsigned *n)
{
    enum { OBJECTS_A_STEP = 32 };
    if (++*n % OBJECTS_A_STEP == 0)
        task_yield();
}

char *metrics_text(size_t *len_r)
{
    struct metrics m = {0};
    metrics_family(&m, "orion_build_info", "gauge", "Version of the daemon.");
    metrics_u64(&m, "orion_build_info", 1, "version", ORION_VERSION, NULL);
    metrics_block(&m);
    metrics_targets(&m);
    write_control(&m);
    write_reactors(&m);
    write_process(&m);
    *len_r = m.len;
    return m.text;
}
