/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
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

/* Every superblock that was asked for stands: the array is there. Else they are written anew: the
 * devices were free and checked when the intent was saved, and have been ours since. */
static int finish_array_create(uint64_t id, const char *name, struct json_object *facts,
                               struct err *e)
{
    struct uuid uuid = {0};
    struct raid_found *found = xcalloc(1, sizeof *found);
    uuid_parse(get_str(facts, "uuid"), &uuid);
    bool here = array_found(&uuid, found);
    int rc = here && found->complete ? assemble(name, &uuid, e)
                                     : array_create_as(name, facts, false, true, e);
    free(found);
    if (rc)
        return -1;
    struct json_object *record = json_object_new_object();
    put_str(record, "uuid", get_str(facts, "uuid"));
    rc = state_end_intent(id, "array", name, record, e);
    json_object_put(record);
    return rc;
}

static int finish_array_delete(uint64_t id, const char *name, struct json_object *facts,
                               struct err *e)
{
    struct uuid uuid = {0};
    struct raid_info *info = xcalloc(1, sizeof *info);
    struct raid_found *found = xcalloc(1, sizeof *found);
    uuid_parse(get_str(facts, "uuid"), &uuid);
    int rc = 0;
    if (!raid_get(name, info) && array_found(&uuid, found))
        rc = assemble(name, &uuid, e);
    if (!rc && raid_get(name, info))
        rc = raid_delete(name, e);
    free(info);
    free(found);
    /* What cannot be assembled any more is no array; its last superblock needs --force to be
     * overwritten, and nothing else. */
    if (rc)
        log_warn("control", "array %s was being deleted: %s", name, e->msg);
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

static int finish_pool_create(uint64_t id, const char *name, struct json_object *facts,
                              struct err *e)
{
    struct pool_found found = {0};
    bool here = pool_found_named(name, &found) && found.importable && found.have == found.devices;
    struct pool_import i = {.uuid = &found.uuid, .own = true};
    int rc = here ? pool_import(&i, e) : pool_create_as(name, facts, true, e);
    if (rc)
        return -1;
    struct json_object *record = pool_record(name);
    rc = state_end_intent(id, "pool", name, record, e);
    json_object_put(record);
    return rc;
}

static int finish_pool_delete(uint64_t id, const char *name, struct json_object *facts,
                              struct err *e)
{
    struct pool_info *info = xcalloc(1, sizeof *info);
    struct uuid uuid = {0};
    uuid_parse(get_str(facts, "uuid"), &uuid);
    struct pool_import i = {.uuid = &uuid};
    int rc = 0;
    if (!pool_get(name, info))
        rc = pool_import(&i, e);
    if (!rc)
        rc = pool_delete(name, e);
    free(info);
    if (rc)
        log_warn("control", "pool %s was being deleted: %s", name, e->msg);
    return state_end_intent(id, "pool", name, NULL, e);
}

static const struct {
    const char *verb;
    int (*finish)(uint64_t id, const char *name, struct json_object *facts, struct err *e);
} finishers[] = {
    {"array-create", finish_array_create},
    {"array-delete", finish_array_delete},
    {"pool-create", finish_pool_create},
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
