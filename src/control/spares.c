/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Spares that arrays share. Arrays name a group; when one of them lacks a member and has no spare,
 * one of another array of the group, which needs it less, moves over. Between the two steps the
 * device is nobody's: its superblock still says that it is a spare of the first array, which takes
 * it back at the next start.
 */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "control/adopt.h"
#include "control/array_log.h"
#include "control/array_policy.h"
#include "control/events.h"

enum { MOVES_MAX = 64 }; /* in one look: a set of devices that do not fit must end it */

static bool looks, again;

/* ---- who has what */

struct view {
    struct raid_info *list;
    unsigned n;
};

static void collect(const struct raid_info *info, void *arg)
{
    struct view *v = arg;
    v->list = xrealloc(v->list, (v->n + 1) * sizeof *v->list);
    v->list[v->n++] = *info;
}

static const char *group_of(const struct raid_info *info)
{
    return get_str(state_get("array", info->name), "spare_group");
}

static const struct raid_member_info *spare_of(const struct raid_info *info)
{
    for (unsigned i = 0; i < info->member_count; i++)
        if (info->member[i].state == RAID_MEMBER_SPARE)
            return &info->member[i];
    return NULL;
}

static bool is_needy(const struct raid_info *info)
{
    return info->missing && !spare_of(info) && *group_of(info) && info->state == RAID_DEGRADED;
}

static bool fits(const struct raid_info *needy, const char *device)
{
    struct bdev_info d;
    struct bdev *b = bdev_find(device);
    if (!b)
        return false;
    bdev_info_of(b, &d);
    return d.size >= needy->data_offset + needy->member_size && d.block_size <= needy->block_size;
}

static bool may_give(const struct raid_info *donor, const struct raid_info *needy)
{
    const struct raid_member_info *spare = spare_of(donor);
    return spare && !donor->missing && strcmp(donor->name, needy->name) != 0 &&
           !strcmp(group_of(donor), group_of(needy)) && fits(needy, spare->device);
}

static bool find_move(const struct view *v, char from[RAID_NAME_MAX + 1],
                      char to[RAID_NAME_MAX + 1], char device[BDEV_NAME_MAX + 1])
{
    for (unsigned i = 0; i < v->n; i++) {
        for (unsigned k = 0; k < v->n && is_needy(&v->list[i]); k++) {
            if (!may_give(&v->list[k], &v->list[i]))
                continue;
            strcpy(to, v->list[i].name);
            strcpy(from, v->list[k].name);
            snprintf(device, BDEV_NAME_MAX + 1, "%s", spare_of(&v->list[k])->device);
            return true;
        }
    }
    return false;
}

/* ---- moving one */

static int move(const char *from, const char *to, const char *device)
{
    char object[96];
    struct err e = {0}, back = {0};
    if (raid_remove_member(from, device, false, &e)) {
        log_info("control", "array %s keeps its spare %s: %s", from, device, e.msg);
        return -1;
    }
    kill_point();
    snprintf(object, sizeof object, "array %.80s", to);
    if (!raid_add_member(to, device, true, &e)) {
        event_raise(object, "spare-moved", "%s came over from array %s", device, from);
        return 0;
    }
    log_warn("control", "array %s did not take the spare %s of array %s: %s", to, device, from,
             e.msg);
    if (raid_add_member(from, device, true, &back))
        event_raise(object, "spare-lost", "%s is in no array any more: %s", device, back.msg);
    return -1;
}

static int move_locked(const char *from, const char *to, const char *device)
{
    char key[2][KEY_MAX];
    bool swap = strcmp(from, to) > 0;
    snprintf(key[0], KEY_MAX, "name:%s", swap ? to : from);
    snprintf(key[1], KEY_MAX, "name:%s", swap ? from : to);
    struct key_lock *first = key_lock(key[0]), *second = key_lock(key[1]);
    struct view v = {0};
    char now[2][RAID_NAME_MAX + 1], what[BDEV_NAME_MAX + 1];
    raid_for_each(collect, &v); /* the locks may have taken time */
    bool still = find_move(&v, now[0], now[1], what) && !strcmp(now[0], from) &&
                 !strcmp(now[1], to) && !strcmp(what, device);
    free(v.list);
    int rc = still ? move(from, to, device) : 0;
    key_unlock(&second);
    key_unlock(&first);
    return rc;
}

static void look(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < MOVES_MAX && control.phase != CONTROL_STOPPING; i++) {
        char from[RAID_NAME_MAX + 1], to[RAID_NAME_MAX + 1], device[BDEV_NAME_MAX + 1];
        struct view v = {0};
        again = false;
        raid_for_each(collect, &v);
        bool any = find_move(&v, from, to, device);
        free(v.list);
        if (any ? move_locked(from, to, device) : !again)
            break;
    }
    looks = false;
    control.running--;
}

void spares_look(void)
{
    again = true;
    if (looks || control.phase == CONTROL_STOPPING)
        return;
    looks = true;
    control.running++; /* a stop waits for it */
    task_start(reactor_main(), "spares", look, NULL);
}

static void something_happened(void)
{
    if (control.phase == CONTROL_READY)
        spares_look();
}

void spares_start(void)
{
    control_events_watch(something_happened);
    spares_look();
}

void spares_stop(void)
{
    control_events_unwatch(something_happened);
}

/* ---- array set */

static bool is_in(char *const *list, unsigned n, const char *name)
{
    for (unsigned i = 0; i < n; i++)
        if (!strcmp(list[i], name))
            return true;
    return false;
}

static bool has_member(const struct raid_info *info, const char *device)
{
    for (unsigned i = 0; i < info->member_count; i++)
        if (!strcmp(info->member[i].device, device))
            return true;
    return false;
}

/* Spares of the array are those that are named, but for who serves by now. */
static int set_spares(const char *name, char *const *want, unsigned n, bool *changed, struct err *e)
{
    autofree struct raid_info *info = xcalloc(1, sizeof *info);
    if (!raid_get(name, info))
        return err_set(e, ERR_UNSUPPORTED, "spares", "array %s is inactive", name);
    for (unsigned i = 0; i < info->member_count; i++) {
        const struct raid_member_info *m = &info->member[i];
        if (m->state != RAID_MEMBER_SPARE || is_in(want, n, m->device))
            continue;
        *changed = true;
        if (raid_remove_member(name, m->device, false, e))
            return -1;
    }
    for (unsigned i = 0; i < n; i++) {
        char *one = want[i], users[300];
        if (has_member(info, one))
            continue;
        *changed = true;
        if (!bdev_find(one))
            return err_set(e, ERR_NOT_FOUND, "spares", "there is no device %s", one);
        if (device_in_use(one, users, sizeof users))
            return err_set(e, ERR_IN_USE, "spares", "%s is in use by %s", one, users);
        if (raid_add_member(name, one, false, e))
            return -1;
    }
    return 0;
}

int array_set(struct verb_run *v, struct err *e)
{
    const char *name = verb_param(v, "name");
    struct json_object *record = NULL;
    int rc = 0;
    if (array_policy_set(v, e) || array_log_set(v, e))
        return -1;
    json_object_deep_copy(state_get("array", name), &record, NULL);
    const char *group = opts_is_set(v->opts, "spare_group") ? opts_str(v->opts, "spare_group")
                                                            : get_str(record, "spare_group");
    group = group ? group : "";
    if (strcmp(group, get_str(record, "spare_group")) != 0) {
        v->changed = true;
        json_object_object_del(record, "spare_group");
        if (*group)
            put_str(record, "spare_group", group);
        rc = state_put("array", name, record, e);
    }
    json_object_put(record);
    if (!rc && opts_is_set(v->opts, "spares")) {
        unsigned n;
        char *const *list = opts_list(v->opts, "spares", &n);
        rc = set_spares(name, list, n, &v->changed, e);
    }
    spares_look();
    return rc;
}
