/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Block devices of the machine that change or go while we have them. */
#include <stdio.h>
#include <string.h>

#include "block/bdev.h"
#include "block/event.h"
#include "control/control.h"
#include "control/hotplug.h"
#include "control/private.h"

struct search {
    char number[32];
    bool match;
    const struct bdev *found;
};

static void look_at_attr(const char *key, const char *value, void *arg)
{
    struct search *s = arg;
    if (!strcmp(key, "device_number") && !strcmp(value, s->number))
        s->match = true;
}

static void look_at_device(struct bdev *bdev, void *arg)
{
    struct search *s = arg;
    if (s->found)
        return;
    bdev_attrs(bdev, look_at_attr, s);
    if (s->match)
        s->found = bdev;
}

const char *device_on_node(unsigned node_major, unsigned node_minor)
{
    struct search s = {.match = false};
    snprintf(s.number, sizeof s.number, "%u:%u", node_major, node_minor);
    bdev_for_each(look_at_device, &s);
    return s.found ? bdev_name(s.found) : NULL;
}

void control_node_changed(unsigned node_major, unsigned node_minor)
{
    char name[BDEV_NAME_MAX + 1];
    const char *found = device_on_node(node_major, node_minor);
    if (!found)
        return;
    snprintf(name, sizeof name, "%s", found);
    if (bdev_refresh(bdev_find(name)))
        return;
    char object[96];
    snprintf(object, sizeof object, "device %s", name);
    reason_set("device", name, "its block device has gone from the machine");
    struct bdev *bdev = bdev_find(name); /* the look took time */
    if (bdev)
        bdev_unregister(bdev);
    event_raise(object, "device-gone", "the machine has no block device %u:%u any more", node_major,
                node_minor);
}
