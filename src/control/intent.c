/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "control/adopt.h"
#include "raid/raid.h"
#include "volumes/volumes.h"

/*
 * An intent is saved before the first write of a verb that writes several disks, and goes in the
 * record that saves the outcome. One that is found at start-up belongs to a daemon that died in
 * between: its verb was never answered, and it is brought to its end here.
 */

static uint64_t last_id;

static void note_id(const char *key, struct json_object *value, void *arg)
{
    (void)value, (void)arg;
    uint64_t id = strtoull(strchr(key, '/') + 1, NULL, 10);
    if (id > last_id)
        last_id = id;
}

uint64_t intent_open(const char *verb, const char *name, struct json_object *facts, struct err *e)
{
    char id[24];
    struct json_object *o = json_object_new_object();
    journal_for_each(control.journal, "intent/", note_id, NULL);
    uint64_t n = ++last_id;
    snprintf(id, sizeof id, "%llu", (unsigned long long)n);
    put_str(o, "verb", verb);
    put_str(o, "name", name);
    json_object_object_add(o, "facts", facts);
    int rc = state_put("intent", id, o, e);
    json_object_put(o);
    return rc ? 0 : n;
}

int intent_close(uint64_t id, struct err *e)
{
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)id);
    return state_del("intent", text, e);
}

/* ---- start-up */

static bool array_found(const struct uuid *uuid, struct raid_found *found_r)
{
    struct raid_found *list = NULL;
    unsigned n = raid_scan(&list);
    bool found = false;
    for (unsigned i = 0; i < n && !found; i++) {
        found = uuid_equal(&list[i].uuid, uuid);
        if (found)
            *found_r = list[i];
    }
    free(list);
    return found;
}

static int assemble(const char *name, const struct uuid *uuid, struct err *e)
{
    struct raid_assemble a = {.name = name, .uuid = *uuid, .degraded_ok = true};
    return raid_assemble(&a, e);
}

/* Every superblock that was asked for stands: the array is there. Else what stands of it is erased,
 * and it is made anew, without force: a device that got another content meanwhile keeps it. */
static int finish_array_create(uint64_t id, const char *name, struct json_object *facts,
                               struct err *e)
{
    struct uuid uuid = {0};
    autofree struct raid_found *found = xcalloc(1, sizeof *found);
    uuid_parse(get_str(facts, "uuid"), &uuid);
    bool whole = array_found(&uuid, found) && found->complete;
    if (whole ? assemble(name, &uuid, e)
              : raid_erase(&uuid, e) || array_create_as(name, facts, false, false, e))
        return -1;
    struct json_object *record = array_facts_record(facts);
    int rc = state_end_intent(id, "array", name, record, e);
    json_object_put(record);
    return rc;
}

static int finish_array_delete(uint64_t id, const char *name, struct json_object *facts,
                               struct err *e)
{
    struct uuid uuid = {0};
    autofree struct raid_info *info = xcalloc(1, sizeof *info);
    uuid_parse(get_str(facts, "uuid"), &uuid);
    if (raid_get(name, info) ? raid_delete(name, e) : raid_erase(&uuid, e))
        return -1;
    return state_end_intent(id, "array", name, NULL, e);
}

static bool pool_found_named(const char *name, struct pool_found *found_r)
{
    struct pool_found *list = NULL;
    unsigned n = pool_scan(&list);
    bool found = false;
    for (unsigned i = 0; i < n && !found; i++) {
        found = !strcmp(list[i].name, name);
        if (found)
            *found_r = list[i];
    }
    free(list);
    return found;
}

static int remake_pool(const char *name, struct json_object *facts, struct err *e)
{
    struct json_object *devices = NULL;
    json_object_object_get_ex(facts, "devices", &devices);
    for (size_t i = 0; i < json_object_array_length(devices); i++) {
        const char *device = json_object_get_string(json_object_array_get_idx(devices, i));
        if (pool_erase_device(device, name, e))
            return -1;
    }
    return pool_create_as(name, facts, false, e);
}

static int finish_pool_create(uint64_t id, const char *name, struct json_object *facts,
                              struct err *e)
{
    struct pool_found found = {0};
    bool whole = pool_found_named(name, &found) && found.importable && found.have == found.devices;
    struct pool_import i = {.uuid = &found.uuid, .own = true};
    if (whole ? pool_import(&i, e) : remake_pool(name, facts, e))
        return -1;
    struct json_object *record = pool_record(name);
    int rc = state_end_intent(id, "pool", name, record, e);
    json_object_put(record);
    return rc;
}

/* The group's text has them all, or none: then labels of ours may stand on them. */
static int finish_pool_extend(uint64_t id, const char *name, struct json_object *facts,
                              struct err *e)
{
    struct json_object *list = NULL;
    json_object_object_get_ex(facts, "devices", &list);
    unsigned n = (unsigned)json_object_array_length(list), free_ones = 0;
    autofree const char **devices = xcalloc(n + 1, sizeof *devices);
    for (unsigned i = 0; i < n; i++) {
        char users[80];
        devices[i] = json_object_get_string(json_object_array_get_idx(list, i));
        if (!bdev_find(devices[i]) || bdev_users(bdev_find(devices[i]), users, sizeof users))
            continue;
        if (pool_erase_device(devices[i], name, e))
            return -1;
        free_ones++;
    }
    if (free_ones && pool_extend(name, devices, n, false, e))
        return -1;
    struct json_object *record = pool_record(name);
    int rc = state_end_intent(id, "pool", name, record, e);
    json_object_put(record);
    return rc;
}

static int finish_pool_delete(uint64_t id, const char *name, struct json_object *facts,
                              struct err *e)
{
    struct uuid uuid = {0};
    autofree struct pool_info *info = xcalloc(1, sizeof *info);
    uuid_parse(get_str(facts, "uuid"), &uuid);
    if (pool_get(name, info) ? pool_delete(name, e) : pool_erase(&uuid, e))
        return -1;
    return state_end_intent(id, "pool", name, NULL, e);
}

static const struct {
    const char *verb;
    int (*finish)(uint64_t id, const char *name, struct json_object *facts, struct err *e);
} finishers[] = {
    {"array-create", finish_array_create}, {"array-delete", finish_array_delete},
    {"pool-create", finish_pool_create},   {"pool-extend", finish_pool_extend},
    {"pool-delete", finish_pool_delete},
};

static void finish_one(uint64_t id, struct json_object *intent)
{
    const char *verb = get_str(intent, "verb"), *name = get_str(intent, "name");
    struct json_object *facts = NULL;
    struct err e = {.msg = "this oriond does not know the verb"};
    json_object_object_get_ex(intent, "facts", &facts);
    int rc = -1;
    for (unsigned i = 0; i < sizeof finishers / sizeof *finishers; i++)
        if (!strcmp(finishers[i].verb, verb))
            rc = finishers[i].finish(id, name, facts, &e);
    if (!rc) {
        event_raise(name, "intent-finished", "%s of %s was under way when oriond ended; it is done",
                    verb, name);
        return;
    }
    event_raise(name, "intent-dropped", "%s of %s was under way when oriond ended: %s", verb, name,
                e.msg);
    intent_close(id, NULL);
}

static void collect(const char *key, struct json_object *value, void *arg)
{
    json_object_object_add(arg, strchr(key, '/') + 1, json_object_get(value));
}

void intents_finish(void)
{
    struct json_object *open = json_object_new_object();
    journal_for_each(control.journal, "intent/", collect, open);
    json_object_object_foreach(open, id, intent)
    {
        finish_one(strtoull(id, NULL, 10), intent);
    }
    json_object_put(open);
}
