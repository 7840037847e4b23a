/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/size.h"
#include "control/adopt.h"
#include "control/array_log.h"
#include "control/array_policy.h"
#include "control/shows.h"
#include "control/start.h"
#include "raid/raid.h"

/* Arrays. The saved record is {"uuid"}: all else stands in the superblocks. */

/* ---- show */

static struct json_object *members_json(const struct raid_info *info)
{
    struct json_object *list = json_object_new_array();
    for (unsigned i = 0; i < info->member_count; i++) {
        const struct raid_member_info *member = &info->member[i];
        struct json_object *o = json_object_new_object();
        put_str(o, "device", member->device);
        json_object_object_add(o, "slot", json_object_new_int(member->slot));
        put_str(o, "state", raid_member_state_name(member->state));
        put_u64(o, "errors", member->errors);
        put_u64(o, "corrected", member->corrected);
        put_u64(o, "wrong", member->wrong);
        put_u64(o, "bad_blocks", member->bad);
        json_object_array_add(list, o);
    }
    return list;
}

static void put_eta(struct json_object *o, const struct raid_info *info)
{
    uint64_t left = info->sync_total - info->sync_done;
    json_object_object_add(
        o, "sync_eta",
        info->sync_rate ? json_object_new_uint64((left + info->sync_rate - 1) / info->sync_rate)
                        : NULL);
}

static void show_live(struct json_object *o, const struct raid_info *info)
{
    char uuid[UUID_TEXT];
    put_str(o, "level", info->level);
    put_str(o, "state", raid_state_name(info->state));
    put_str(o, "reason", info->reason);
    put_str(o, "sync_action", raid_sync_name(info->sync));
    put_u64(o, "sync_done", info->sync_done);
    put_u64(o, "sync_total", info->sync_total);
    put_u64(o, "sync_saved", info->sync_saved);
    put_u64(o, "sync_rate", info->sync_rate);
    put_u64(o, "sync_limit", info->sync_limit);
    put_eta(o, info);
    put_u64(o, "client_p99", info->client_p99);
    put_u64(o, "sync_job", info->sync_job);
    put_u64(o, "size", info->size);
    put_u64(o, "chunk", info->chunk);
    put_u64(o, "data_offset", info->data_offset);
    put_str(o, "layout", info->layout);
    put_str(o, "log", info->log);
    put_str(o, "log_device", info->log_device);
    put_str(o, "uuid", uuid_format_md(&info->uuid, uuid));
    put_u64(o, "events", info->events);
    put_u64(o, "slots", info->slots);
    put_u64(o, "missing", info->missing);
    put_u64(o, "bitmap_chunk", info->bitmap_chunk);
    put_u64(o, "bitmap_dirty", info->bitmap_dirty);
    put_u64(o, "mismatch", info->mismatch);
    json_object_object_add(o, "members", members_json(info));
}

static struct json_object *show_array(const char *name, struct json_object *record)
{
    struct json_object *o = json_object_new_object();
    autofree struct raid_info *info = xcalloc(1, sizeof *info);
    put_str(o, "name", name);
    if (raid_get(name, info)) {
        show_live(o, info);
    } else {
        struct uuid u = {0};
        char uuid[UUID_TEXT];
        uuid_parse(get_str(record, "uuid"), &u);
        put_str(o, "level", get_str(record, "level"));
        put_str(o, "state", "inactive");
        put_str(o, "reason", reason_get("array", name));
        put_str(o, "sync_action", "idle");
        put_str(o, "uuid", uuid_format_md(&u, uuid));
    }
    put_str(o, "spare_group", get_str(record, "spare_group"));
    array_policy_show(o, record);
    json_object_object_add(o, "users", users_json(name));
    return o;
}

SHOW(array)
{
    const char *name = schema_param(m, "name");
    struct json_object *record = state_get("array", name);
    return record ? show_array(name, record) : NULL;
}

static void list_one(const char *key, struct json_object *record, void *arg)
{
    json_object_array_add(arg, show_array(strchr(key, '/') + 1, record));
}

LIST(array)
{
    (void)m, (void)o, (void)e;
    journal_for_each(control.journal, "array/", list_one, items);
    return 0;
}

/* ---- what is saved */

/* The member in a slot, or "missing". */
static const char *member_in(const struct raid_info *info, int slot)
{
    for (unsigned i = 0; i < info->member_count; i++)
        if (info->member[i].slot == slot && *info->member[i].device)
            return info->member[i].device;
    return "missing";
}

static struct json_object *slots_json(const struct raid_info *info)
{
    struct json_object *list = json_object_new_array();
    for (unsigned slot = 0; slot < info->slots; slot++)
        json_object_array_add(list, json_object_new_string(member_in(info, (int)slot)));
    return list;
}

static struct json_object *spares_json(const struct raid_info *info)
{
    struct json_object *list = json_object_new_array();
    for (unsigned i = 0; i < info->member_count; i++)
        if (info->member[i].state == RAID_MEMBER_SPARE)
            json_object_array_add(list, json_object_new_string(info->member[i].device));
    return list;
}

static struct json_object *live_config(const struct raid_info *info)
{
    struct json_object *o = json_object_new_object();
    put_str(o, "level", info->level);
    json_object_object_add(o, "members", slots_json(info));
    if (info->chunk)
        put_u64(o, "chunk", info->chunk);
    if (!strcmp(info->level, "raid10"))
        put_str(o, "layout", info->layout);
    if (!info->member_size)
        return o;
    json_object_object_add(o, "spares", spares_json(info));
    put_str(o, "bitmap", info->bitmap_chunk ? "internal" : "none");
    if (info->bitmap_chunk)
        put_u64(o, "bitmap_chunk", info->bitmap_chunk);
    return o;
}

struct json_object *array_config(const char *name, struct json_object *record)
{
    autofree struct raid_info *info = xcalloc(1, sizeof *info);
    struct json_object *o = NULL, *last = NULL;
    if (raid_get(name, info))
        o = live_config(info);
    else if (json_object_object_get_ex(record, "last", &last))
        json_object_deep_copy(last, &o, NULL);
    if (!o)
        return json_object_new_object();
    array_policy_show(o, record);
    array_log_copy(o, record);
    if (*get_str(record, "spare_group"))
        put_str(o, "spare_group", get_str(record, "spare_group"));
    return o;
}

/* What is chosen here and stands on no disk stays. */
static void keep_choices(struct json_object *record, struct json_object *from)
{
    array_log_copy(record, from);
    if (*get_str(from, "spare_group"))
        put_str(record, "spare_group", get_str(from, "spare_group"));
    if (*get_str(from, "part_of"))
        put_str(record, "part_of", get_str(from, "part_of"));
    array_policy_copy(record, from);
}

struct json_object *array_record(const struct raid_info *info)
{
    struct json_object *record = json_object_new_object();
    char uuid[UUID_TEXT];
    put_str(record, "uuid", uuid_format(&info->uuid, uuid));
    json_object_object_add(record, "last", live_config(info));
    keep_choices(record, state_get("array", info->name));
    if (*info->log_device)
        put_str(record, "log_device", info->log_device);
    return record;
}

struct json_object *array_facts_record(struct json_object *facts)
{
    autofree struct raid_info *info = xcalloc(1, sizeof *info);
    struct json_object *record = json_object_new_object();
    put_str(record, "uuid", get_str(facts, "uuid"));
    if (raid_get(get_str(facts, "name"), info))
        json_object_object_add(record, "last", live_config(info));
    keep_choices(record, facts);
    return record;
}

void array_note(const char *name)
{
    struct json_object *record = state_get("array", name), *last = NULL, *next = NULL;
    autofree struct raid_info *info = xcalloc(1, sizeof *info);
    if (!record || !raid_get(name, info))
        return;
    struct json_object *now = live_config(info);
    json_object_object_get_ex(record, "last", &last);
    if (json_object_equal(now, last)) {
        json_object_put(now);
        return;
    }
    struct err e;
    json_object_deep_copy(record, &next, NULL);
    json_object_object_add(next, "last", now);
    if (state_put("array", name, next, &e))
        log_warn("control", "array %s: %s", name, e.msg);
    json_object_put(next);
}

/* ---- create */

/* "raid1" for every spelling of it; the text itself when it is none. */
const char *array_level_plain(const char *level)
{
    static const char *const same[][3] = {
        {"-1", "jbod", "linear"}, {"0", "stripe", "raid0"}, {"1", "mirror", "raid1"},
        {"4", "", "raid4"},       {"5", "", "raid5"},       {"6", "", "raid6"},
        {"10", "", "raid10"},
    };
    for (unsigned i = 0; i < sizeof same / sizeof *same; i++)
        if (!strcmp(level, same[i][0]) || !strcmp(level, same[i][1]))
            return same[i][2];
    return level;
}

static int compare(const struct opts *o, const struct raid_info *info, struct err *e)
{
    const char *level = array_level_plain(opts_str(o, "level"));
    if (strcmp(level, info->level))
        return differs(e, "array", info->name, "level", info->level, level);
    unsigned n;
    char *const *members = opts_list(o, "members", &n);
    if (n != info->slots)
        return err_set(e, ERR_EXISTS, "members", "array %s exists with %u members, not %u",
                       info->name, info->slots, n);
    for (unsigned i = 0; i < n; i++)
        if (strcmp(members[i], member_in(info, (int)i)))
            return differs(e, "array", info->name, "members", member_in(info, (int)i), members[i]);
    if (opts_is_set(o, "layout") && strcmp(opts_str(o, "layout"), info->layout) != 0)
        return differs(e, "array", info->name, "layout", info->layout, opts_str(o, "layout"));
    uint64_t chunk = opts_is_set(o, "chunk") ? opts_u64(o, "chunk") : info->chunk;
    if (info->chunk && chunk != info->chunk)
        return err_set(e, ERR_EXISTS, "chunk",
                       "array %s exists with chunk %" PRIu64 ", not %" PRIu64, info->name,
                       info->chunk, chunk);
    if (opts_is_set(o, "log_device") && strcmp(opts_str(o, "log_device"), info->log_device) != 0)
        return differs(e, "array", info->name, "log_device", info->log_device,
                       opts_str(o, "log_device"));
    return array_policy_compare(info->name, state_get("array", info->name), o, e);
}

static int check_members(char *const *members, unsigned n, struct err *e)
{
    for (unsigned i = 0; i < n; i++) {
        char users[300];
        if (!strcmp(members[i], "missing"))
            continue;
        if (!bdev_find(members[i]))
            return err_set(e, ERR_NOT_FOUND, "members", "there is no device %s", members[i]);
        for (unsigned k = 0; k < i; k++)
            if (!strcmp(members[i], members[k]))
                return err_set(e, ERR_INVALID, "members", "%s is named twice", members[i]);
        if (device_in_use(members[i], users, sizeof users))
            return err_set(e, ERR_IN_USE, "members", "%s is in use by %s", members[i], users);
    }
    return 0;
}

static struct json_object *names_json(const struct opts *o, const char *key)
{
    struct json_object *list = json_object_new_array();
    unsigned n = 0;
    char *const *names = opts_is_set(o, key) ? opts_list(o, key, &n) : NULL;
    for (unsigned i = 0; i < n; i++)
        json_object_array_add(list, json_object_new_string(names[i]));
    return list;
}

/* malloc'ed; the names are the list's. */
static const char **names_of(struct json_object *facts, const char *key, unsigned *n_r)
{
    struct json_object *list = NULL;
    json_object_object_get_ex(facts, key, &list);
    size_t n = list ? json_object_array_length(list) : 0;
    const char **names = xcalloc(n + 1, sizeof *names);
    for (size_t i = 0; i < n; i++)
        names[i] = json_object_get_string(json_object_array_get_idx(list, i));
    *n_r = (unsigned)n;
    return names;
}

static enum raid_bitmap_choice bitmap_choice(const char *text)
{
    if (!strcmp(text, "internal"))
        return RAID_BITMAP_INTERNAL;
    return strcmp(text, "none") ? RAID_BITMAP_BY_SIZE : RAID_BITMAP_NONE;
}

static struct json_object *create_facts(const struct opts *o, const char *name,
                                        const struct uuid *uuid)
{
    struct json_object *facts = json_object_new_object();
    char text[UUID_TEXT];
    put_str(facts, "name", name);
    put_str(facts, "uuid", uuid_format(uuid, text));
    array_policy_keep(facts, o);
    put_str(facts, "spare_group", opts_is_set(o, "spare_group") ? opts_str(o, "spare_group") : "");
    put_str(facts, "level", opts_str(o, "level"));
    put_str(facts, "layout", opts_is_set(o, "layout") ? opts_str(o, "layout") : "");
    put_u64(facts, "chunk", opts_is_set(o, "chunk") ? opts_u64(o, "chunk") : 0);
    put_bool(facts, "no_log", opts_bool(o, "no_log"));
    put_str(facts, "log_device", opts_is_set(o, "log_device") ? opts_str(o, "log_device") : "");
    put_u64(facts, "bitmap_chunk",
            opts_is_set(o, "bitmap_chunk") ? opts_u64(o, "bitmap_chunk") : 0);
    put_str(facts, "bitmap", opts_is_set(o, "bitmap") ? opts_str(o, "bitmap") : "");
    json_object_object_add(facts, "members", names_json(o, "members"));
    json_object_object_add(facts, "spares", names_json(o, "spares"));
    return facts;
}

int array_create_as(const char *name, struct json_object *facts, bool assume_clean, bool force,
                    struct err *e)
{
    char host[65] = "";
    gethostname(host, sizeof host - 1);
    host[strcspn(host, ".")] = 0;
    unsigned n, spare_count;
    autofree const char **members = names_of(facts, "members", &n);
    autofree const char **spares = names_of(facts, "spares", &spare_count);
    struct uuid uuid;
    uuid_parse(get_str(facts, "uuid"), &uuid);
    const char *layout = get_str(facts, "layout");
    struct raid_create c = {.name = name,
                            .level = get_str(facts, "level"),
                            .members = members,
                            .member_count = n,
                            .spares = spares,
                            .spare_count = spare_count,
                            .bitmap = bitmap_choice(get_str(facts, "bitmap")),
                            .bitmap_chunk = get_u64(facts, "bitmap_chunk"),
                            .layout = *layout ? layout : NULL,
                            .chunk = get_u64(facts, "chunk"),
                            .assume_clean = assume_clean,
                            .force = force,
                            .no_log = get_bool(facts, "no_log"),
                            .log_device = array_log_device(facts),
                            .homehost = host,
                            .uuid = &uuid};
    return raid_create(&c, e);
}

static int check_spares(const struct opts *o, struct err *e)
{
    unsigned n, members, bit = 0;
    if (!opts_is_set(o, "spares"))
        return 0;
    char *const *spares = opts_list(o, "spares", &n), *const *in =
                                                          opts_list(o, "members", &members);
    for (unsigned i = 0; i < n * members; i++)
        bit |= !strcmp(spares[i / members], in[i % members]);
    if (bit)
        return err_set(e, ERR_INVALID, "spares", "a device cannot be a member and a spare");
    if (check_members(spares, n, e) ||
        (!opts_bool(o, "force") && check_signatures((const char *const *)spares, n, "spares", e))) {
        if (e)
            strcpy(e->field, "spares");
        return -1;
    }
    return 0;
}

static int array_create_new(const struct opts *o, const char *name, const char *part_of,
                            struct err *e)
{
    unsigned n;
    char *const *members = opts_list(o, "members", &n);
    if (check_members(members, n, e) ||
        (!opts_bool(o, "force") &&
         check_signatures((const char *const *)members, n, "members", e)) ||
        check_spares(o, e) || array_log_check(o, e) || array_policy_check(o, e))
        return -1;
    struct uuid uuid = uuid_random();
    struct json_object *facts = create_facts(o, name, &uuid);
    put_str(facts, "part_of", part_of);
    uint64_t intent = intent_open("array-create", name, json_object_get(facts), e);
    int rc = intent ? array_create_as(name, facts, opts_bool(o, "assume_clean"),
                                      opts_bool(o, "force"), e)
                    : -1;
    if (rc) {
        json_object_put(facts);
        if (intent)
            intent_close(intent, NULL);
        return -1;
    }
    struct json_object *record = array_facts_record(facts);
    json_object_put(facts);
    rc = state_end_intent(intent, "array", name, record, e);
    if (!rc)
        array_policy_apply(name, record, NULL);
    json_object_put(record);
    if (rc)
        raid_delete(name, NULL); /* one that nobody knows of may not hold its members */
    return rc;
}

int array_make(const char *name, const struct opts *o, const char *part_of, bool *made_r,
               struct err *e)
{
    autofree struct raid_info *info = xcalloc(1, sizeof *info);
    *made_r = false;
    if (state_get("array", name)) {
        if (!raid_get(name, info))
            return err_set(e, ERR_EXISTS, "name", "array %s exists and is inactive: %s", name,
                           reason_get("array", name));
        return compare(o, info, e);
    }
    if (!bdev_name_valid(name))
        return err_set(e, ERR_INVALID, "name",
                       "name is '%.40s'; expected a letter or digit, then letters, digits, '_', "
                       "'.', '-', at most 32 in all",
                       name);
    if (name_is_taken(name))
        return err_set(e, ERR_EXISTS, "name", "the name %s is taken", name);
    *made_r = true;
    return array_create_new(o, name, part_of, e);
}

static int array_create(struct verb_run *v, struct err *e)
{
    const char *level = opts_str(v->opts, "level");
    if (array_nested_level(level) && opts_is_set(v->opts, "log_device"))
        return err_set(e, ERR_INVALID, "log_device",
                       "a log device belongs to one array: array set NAME-0 --log-device, ...");
    if (array_nested_level(level))
        return array_nested_create(v, e);
    if (opts_is_set(v->opts, "groups"))
        return err_set(e, ERR_INVALID, "groups", "only raid50 and raid60 have groups");
    if (opts_is_set(v->opts, "chunk") && !strcmp(array_level_plain(level), "raid1"))
        v->note = "a raid1 has no stripes: chunk is not used";
    return array_make(verb_param(v, "name"), v->opts, NULL, &v->changed, e);
}

/* ---- the end of an array */

static int refuse_used(const char *name, struct err *e)
{
    char users[300];
    if (device_in_use(name, users, sizeof users))
        return err_set(e, ERR_IN_USE, "", "array %s is in use by %s", name, users);
    return 0;
}

static int forget(const char *name, struct err *e)
{
    autofree struct raid_info *info = xcalloc(1, sizeof *info);
    if (raid_get(name, info) && raid_stop(name, e))
        return -1;
    reason_set("array", name, "it was stopped, and that could not be saved");
    return state_del("array", name, e);
}

static int array_stop(struct verb_run *v, struct err *e)
{
    const char *name = verb_param(v, "name");
    return array_end(name, false, e) || array_end_parts(name, false, e) ? -1 : 0;
}

static struct json_object *array_facts(const char *name, struct uuid *uuid_r)
{
    struct json_object *facts = json_object_new_object();
    const char *uuid = get_str(state_get("array", name), "uuid");
    uuid_parse(uuid, uuid_r);
    put_str(facts, "uuid", uuid);
    return facts;
}

static int erase(const char *name, struct err *e)
{
    autofree struct raid_info *info = xcalloc(1, sizeof *info);
    struct uuid uuid = {0};
    struct json_object *facts = array_facts(name, &uuid);
    uint64_t intent = intent_open("array-delete", name, facts, e);
    if (!intent)
        return -1;
    /* One that does not run loses what is left of it on the devices that are here. */
    if (raid_get(name, info) ? raid_delete(name, e) : raid_erase(&uuid, e)) {
        intent_close(intent, NULL);
        return -1;
    }
    return state_end_intent(intent, "array", name, NULL, e);
}

int array_end(const char *name, bool wipe, struct err *e)
{
    if (refuse_used(name, e))
        return -1;
    return wipe ? erase(name, e) : forget(name, e);
}

static int array_delete(struct verb_run *v, struct err *e)
{
    const char *name = verb_param(v, "name");
    if (refuse_used(name, e) || need_yes(v, "the array's superblocks are erased", e))
        return -1;
    return array_end(name, true, e) || array_end_parts(name, true, e) ? -1 : 0;
}

/* ---- members */

static int is_running(const char *name, struct err *e)
{
    autofree struct raid_info *info = xcalloc(1, sizeof *info);
    if (raid_get(name, info))
        return 0;
    return err_set(e, ERR_UNSUPPORTED, "", "array %s is inactive: %s", name,
                   reason_get("array", name));
}

static int array_fail(struct verb_run *v, struct err *e)
{
    const char *name = verb_param(v, "name");
    if (is_running(name, e))
        return -1;
    return raid_fail_member(name, opts_str(v->opts, "member"), verb_flag(v, "force"), e);
}

static int array_remove(struct verb_run *v, struct err *e)
{
    const char *name = verb_param(v, "name");
    if (is_running(name, e))
        return -1;
    return raid_remove_member(name, opts_str(v->opts, "member"), verb_flag(v, "force"), e);
}

static int array_add(struct verb_run *v, struct err *e)
{
    const char *name = verb_param(v, "name");
    char *device = xstrdup(opts_str(v->opts, "device"));
    int rc = is_running(name, e);
    if (!rc)
        rc = check_members(&device, 1, e);
    if (!rc)
        rc = raid_add_member(name, device, verb_flag(v, "force"), e);
    if (rc && e && !strcmp(e->field, "members"))
        strcpy(e->field, "device");
    free(device);
    return rc;
}

static bool is_spare(const char *name, const char *device)
{
    autofree struct raid_info *info = xcalloc(1, sizeof *info);
    bool spare = false;
    raid_get(name, info);
    for (unsigned i = 0; i < info->member_count; i++)
        spare = spare || (info->member[i].state == RAID_MEMBER_SPARE &&
                          !strcmp(info->member[i].device, device));
    return spare;
}

static int array_readd(struct verb_run *v, struct err *e)
{
    const char *name = verb_param(v, "name");
    char *device = xstrdup(opts_str(v->opts, "device"));
    int rc = is_running(name, e);
    if (!rc)
        rc = check_members(&device, 1, e);
    if (!rc)
        rc = raid_readd_member(name, device, e);
    if (rc && e && !strcmp(e->field, "members"))
        strcpy(e->field, "device");
    free(device);
    return rc;
}

static int array_replace(struct verb_run *v, struct err *e)
{
    const char *name = verb_param(v, "name");
    bool given = opts_is_set(v->opts, "with");
    char *device = given ? xstrdup(opts_str(v->opts, "with")) : NULL;
    int rc = is_running(name, e);
    if (!rc && given && !is_spare(name, device))
        rc = check_members(&device, 1, e);
    if (!rc)
        rc = raid_replace_member(name, opts_str(v->opts, "member"), device, verb_flag(v, "force"),
                                 &v->job, e);
    if (rc && e && (!strcmp(e->field, "members") || !strcmp(e->field, "device")))
        strcpy(e->field, "with");
    if (!rc && !v->job)
        v->note = "a resync goes first: the new member is filled when it has ended";
    free(device);
    return rc;
}

static bool is_part(const char *name, const char *device)
{
    autofree struct raid_info *info = xcalloc(1, sizeof *info);
    bool part = false;
    raid_get(name, info);
    for (unsigned i = 0; i < info->member_count; i++)
        part = part || !strcmp(info->member[i].device, device);
    return part;
}

/* Those that are here already have been taken in by one that was cut short. */
static int grow_devices(const char *name, const struct opts *o, struct raid_grow *g,
                        const char **devices, struct err *e)
{
    unsigned n;
    char *const *list = opts_list(o, "devices", &n);
    if (!g->raid_devices)
        return err_set(e, ERR_INVALID, "devices", "devices come with raid_devices");
    for (unsigned i = 0; i < n; i++)
        if (!is_part(name, list[i]))
            devices[g->device_count++] = list[i];
    if (!check_members((char *const *)devices, g->device_count, e))
        return 0;
    if (e)
        strcpy(e->field, "devices");
    return -1;
}

static int grow_options(const struct opts *o, struct raid_grow *g, struct err *e)
{
    const char *size = opts_is_set(o, "size") ? opts_str(o, "size") : NULL;
    g->raid_devices = opts_is_set(o, "raid_devices") ? (unsigned)opts_u64(o, "raid_devices") : 0;
    g->resize = size;
    if (!size && !g->raid_devices)
        return err_set(e, ERR_INVALID, "size", "nothing is to grow; expected size or raid_devices");
    if (size && !strcmp(size, "max"))
        g->size = UINT64_MAX;
    else if (size && (!size_parse(size, &g->size) || !g->size))
        return err_set(e, ERR_INVALID, "size", "size is '%.24s'; expected bytes, or max", size);
    return 0;
}

static int array_grow(struct verb_run *v, struct err *e)
{
    const char *name = verb_param(v, "name");
    const char *devices[RAID_MEMBERS_MAX];
    struct raid_grow g = {.force = verb_flag(v, "force"), .devices = devices};
    if (is_running(name, e) || grow_options(v->opts, &g, e) ||
        (opts_is_set(v->opts, "devices") && grow_devices(name, v->opts, &g, devices, e)))
        return -1;
    int rc = raid_grow(name, &g, &v->changed, &v->job, e);
    luns_note_size(name); /* it may have grown in size, and not in slots */
    return rc;
}

static int array_scrub(struct verb_run *v, struct err *e)
{
    const char *name = verb_param(v, "name");
    return is_running(name, e) ? -1 : raid_scrub(name, false, &v->job, e);
}

static int array_repair(struct verb_run *v, struct err *e)
{
    const char *name = verb_param(v, "name");
    return is_running(name, e) ? -1 : raid_scrub(name, true, &v->job, e);
}

const struct verb_entry array_verbs[] = {
    {"array", "set", array_set},           {"array", "create", array_create},
    {"array", "assemble", array_assemble}, {"array", "stop", array_stop},
    {"array", "delete", array_delete},     {"array", "fail", array_fail},
    {"array", "add", array_add},           {"array", "remove", array_remove},
    {"array", "re-add", array_readd},      {"array", "replace", array_replace},
    {"array", "grow", array_grow},         {"array", "scrub", array_scrub},
    {"array", "repair", array_repair},     {NULL, NULL, NULL},
};
