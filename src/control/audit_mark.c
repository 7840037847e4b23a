/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>
#include <string.h>

#include "control/audit.h"

/*
 * How far the audit log was written stands in the state, too: whoever cuts its end off or writes it
 * anew while the daemon is down is found out. A verb does not wait for that: the mark follows the
 * records by AUDIT_MARK_MS.
 */
static struct rtimer timer;
static bool armed, saving;
static void (*sync_fn)(struct audit_mark *mark_r);

bool audit_mark_get(struct audit_mark *mark_r)
{
    struct json_object *o = state_get("audit", "last");
    *mark_r = (struct audit_mark){.seq = o ? get_u64(o, "seq") : 0};
    if (o)
        snprintf(mark_r->hash, sizeof mark_r->hash, "%s", get_str(o, "hash"));
    return o;
}

static void save(void)
{
    struct audit_mark now, saved;
    sync_fn(&now);
    audit_mark_get(&saved);
    if (now.seq <= saved.seq)
        return;
    struct json_object *o = json_object_new_object();
    put_u64(o, "seq", now.seq);
    put_str(o, "hash", now.hash);
    /* What cannot be saved is told of as any state that cannot. */
    journal_put(control.journal, "audit/last", o, NULL);
    json_object_put(o);
}

static void save_task(void *arg)
{
    (void)arg;
    save();
    saving = false;
}

static void on_time(void *arg)
{
    (void)arg;
    armed = false;
    saving = true;
    task_start(reactor_main(), "audit mark", save_task, NULL);
}

void audit_mark_soon(void (*sync)(struct audit_mark *mark_r))
{
    sync_fn = sync;
    if (armed || saving || control.phase == CONTROL_STOPPING)
        return;
    armed = true;
    rtimer_arm(&timer, AUDIT_MARK_MS * 1000, on_time, NULL);
}

void audit_mark_settle(void)
{
    rtimer_free(&timer);
    armed = false;
    while (saving)
        task_sleep_us(1000);
    if (sync_fn)
        save();
    sync_fn = NULL;
}
