/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What an administrator wants of an array: how fast to sync, how much to forgive its members. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "raid/plog.h"

enum { HOUR_S = 3600 };

void raid_policy_defaults(struct raid_policy *p)
{
    *p = (struct raid_policy){
        .latency_us = 20 * 1000,
        .rate_min = 4 << 20,
        .read_errors_max = 20, /* as md's max_read_errors */
    };
}

void raid_policy_get(struct raid_array *a, struct raid_policy *policy_r)
{
    pthread_mutex_lock(&a->info_lock);
    *policy_r = a->policy;
    pthread_mutex_unlock(&a->info_lock);
}

void raid_policy_apply(struct raid_array *a, struct raid_member *m)
{
    struct raid_policy p;
    raid_policy_get(a, &p);
    for (unsigned i = 0; i < a->owns; i++) {
        const struct raid_member_policy *own = &a->own[i];
        if (strcmp(own->device, m->device))
            continue;
        p.timeout_ms = own->has_timeout ? own->timeout_ms : p.timeout_ms;
        p.read_errors_max = own->has_read_errors ? own->read_errors_max : p.read_errors_max;
    }
    raid_store(&m->read_errors_max, p.read_errors_max);
    if (m->desc)
        bdev_set_timeout(m->desc, p.timeout_ms);
}

static void apply_to_all(void *arg) /* home */
{
    struct raid_array *a = arg;
    struct raid_member *m;
    list_for_each (m, &a->members, link)
        raid_policy_apply(a, m);
}

int raid_set_policy(const char *name, const struct raid_policy *p,
                    const struct raid_member_policy *own, unsigned n, struct err *e)
{
    struct raid_array *a = raid_find(name);
    if (!a || a->freeing)
        return err_set(e, ERR_NOT_FOUND, "", "no array %s", name);
    a->main_tasks++; /* it stays meanwhile */
    pthread_mutex_lock(&a->info_lock);
    a->policy = *p;
    pthread_mutex_unlock(&a->info_lock);
    free(a->own);
    a->own = n ? xcalloc(n, sizeof *own) : NULL;
    a->owns = n;
    if (n)
        memcpy(a->own, own, n * sizeof *own);
    if (a->log_device && a->log_device->desc)
        bdev_set_timeout(a->log_device->desc, p->timeout_ms);
    task_call(a->home, apply_to_all, a);
    a->main_tasks--;
    return 0;
}

/* md's way: what was corrected counts half as much with each hour that goes by. */
void raid_corrected(struct raid_array *a, struct raid_member *m)
{
    uint64_t now = clock_ns() / 1000000000u, hours = (now - m->corrected_at) / HOUR_S;
    uint32_t most = raid_load(&m->read_errors_max);
    raid_count(&m->corrected);
    if (m->corrected_at && hours) {
        m->recent = hours < 32 ? m->recent >> hours : 0;
        m->corrected_at += hours * HOUR_S;
    } else if (!m->corrected_at) {
        m->corrected_at = now;
    }
    m->recent++;
    if (!most || m->recent <= most || !raid_in_sync(m) || !raid_alive(a, m))
        return;
    log_warn("raid", "array %s: %s had %u read errors that were corrected, more than %u an hour",
             a->bdev.name, m->device, m->recent, most);
    raid_report(m, -EIO);
}
