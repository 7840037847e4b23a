/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What disks the machine has, whether or not they were added. */
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "block/bdev.h"
#include "control/hotplug.h"
#include "control/private.h"
#include "control/scan.h"
#include "probe/probe.h"

struct scan {
    struct probe_disk *list;
    unsigned count;
};

static void scan_helper(void *arg)
{
    struct scan *s = arg;
    s->count = probe_disks(&s->list);
}

static struct json_object *show_disk(const struct probe_disk *d)
{
    struct json_object *o = json_object_new_object();
    const char *device = device_on_node(major(d->node), minor(d->node));
    put_str(o, "path", d->path);
    put_u64(o, "size", d->size);
    put_str(o, "identity", d->id.key);
    put_str(o, "by_id", d->id.by_id);
    put_str(o, "signature", d->signature);
    put_str(o, "in_use", device ? "" : d->in_use);
    put_str(o, "device", device);
    put_bool(o, "read_only", d->read_only);
    return o;
}

int device_scan(struct verb_run *v, struct err *e)
{
    struct scan s = {NULL, 0};
    (void)e;
    task_help(scan_helper, &s);
    struct json_object *items = json_object_new_array();
    for (unsigned i = 0; i < s.count; i++)
        json_object_array_add(items, show_disk(&s.list[i]));
    free(s.list);
    v->changed = false;
    v->reply = reply_list(items);
    return 0;
}
