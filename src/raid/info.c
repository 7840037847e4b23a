/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What others may know of an array: home publishes a copy at each change, anybody reads it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "raid/bad.h"
#include "raid/bitmap.h"
#include "raid/parity.h"
#include "raid/plog.h"
#include "raid/raid10.h"

const char *raid_state_name(enum raid_state s)
{
    static const char *const names[] = {"inactive", "clean",  "active",
                                        "degraded", "failed", "read-only"};
    return names[s];
}

const char *raid_way_name(enum raid_way w)
{
    static const char *const names[] = {"full_stripe", "reconstruct", "modify", "recover"};
    return names[w];
}

const char *raid_sync_name(enum raid_sync s)
{
    static const char *const names[] = {"idle", "resync", "recover", "check", "repair"};
    return names[s];
}

const char *raid_member_state_name(enum raid_member_state s)
{
    static const char *const names[] = {"in-sync", "rebuilding", "spare",
                                        "faulty",  "missing",    "replacing"};
    return names[s];
}

bool raid_level_known(const char *level)
{
    int32_t number;
    return md_level_parse(level, &number) && raid_level_find(number);
}

static enum raid_state state_of(const struct raid_array *a, unsigned in_sync)
{
    if (raid_load(&a->failed) || !raid_alive(a, NULL))
        return RAID_FAILED;
    if (a->read_only)
        return RAID_READ_ONLY;
    if (in_sync < a->slots)
        return RAID_DEGRADED;
    bool clean = !a->active && raid_load(&a->resync_pos) == UINT64_MAX;
    return clean ? RAID_CLEAN : RAID_ACTIVE;
}

static void add_member(struct raid_array *a, struct raid_member *m, int slot)
{
    struct raid_info *info = &a->info;
    if (info->member_count == RAID_MEMBERS_MAX)
        return;
    struct raid_member_info *i = &info->member[info->member_count];
    memset(i, 0, sizeof *i);
    i->slot = slot;
    i->state = m ? (enum raid_member_state)m->state : RAID_MEMBER_MISSING;
    if (m)
        snprintf(i->device, sizeof i->device, "%s", m->device);
    a->info_member[info->member_count++] = m;
}

static void list_members(struct raid_array *a)
{
    struct raid_member *m;
    a->info.member_count = 0;
    a->info.missing = 0;
    for (unsigned i = 0; i < a->slots; i++) {
        m = a->slot[i];
        bool present = m && m->state != RAID_MEMBER_FAULTY;
        add_member(a, present ? m : NULL, (int)i);
        a->info.missing += !present;
    }
    if (a->replacement) {
        add_member(a, a->replacement, a->replacement->slot);
        a->info.member[a->info.member_count - 1].state = RAID_MEMBER_REPLACING;
    }
    list_for_each (m, &a->members, link)
        if (m->state == RAID_MEMBER_SPARE || m->state == RAID_MEMBER_FAULTY)
            add_member(a, m, -1);
}

static void name_layout(const struct raid_array *a, char out[24])
{
    const char *name = parity_layout_name(a->level->level, a->sb.layout);
    if (a->level->level == 10)
        raid10_layout_name(a->sb.layout, out);
    else
        snprintf(out, 24, "%s", name ? name : "");
}

/* A spare is about to step in. Who waits for an idle array must not be told so meanwhile: between
 * two rebuilds superblocks are written, which takes its time. */
static bool spare_due(const struct raid_array *a)
{
    const struct raid_member *m;
    bool spare = false, vacant = false;
    list_for_each (m, &a->members, link)
        spare = spare || m->state == RAID_MEMBER_SPARE;
    for (unsigned i = 0; i < a->slots; i++)
        vacant = vacant || !a->slot[i] || a->slot[i]->state == RAID_MEMBER_FAULTY;
    return spare && vacant && a->level->redundant && !a->read_only && !raid_load(&a->failed);
}

void raid_publish(struct raid_array *a)
{
    const struct raid_member *m, *first = NULL;
    struct raid_info *info = &a->info;
    unsigned in_sync = raid_in_sync_count(a);
    pthread_mutex_lock(&a->info_lock);
    list_members(a);
    snprintf(info->name, sizeof info->name, "%.*s", RAID_NAME_MAX, a->bdev.name);
    snprintf(info->level, sizeof info->level, "%s", a->level->name);
    info->uuid = a->bdev.uuid;
    info->state = state_of(a, in_sync);
    memcpy(info->reason, a->reason, sizeof info->reason);
    info->sync = (enum raid_sync)raid_load(&a->scrub);
    if (raid_load(&a->resync_pos) != UINT64_MAX)
        info->sync = RAID_SYNC_RESYNC;
    if (info->sync == RAID_SYNC_IDLE && spare_due(a))
        info->sync = RAID_SYNC_RECOVER;
    list_for_each (m, &a->members, link) {
        if (m->state == RAID_MEMBER_REBUILDING && info->sync == RAID_SYNC_IDLE)
            info->sync = RAID_SYNC_RECOVER;
        first = first ? first : m;
    }
    info->sync_total = info->sync == RAID_SYNC_IDLE      ? 0
                       : info->sync == RAID_SYNC_RECOVER ? a->member_bytes
                                                         : a->sync_bytes;
    info->size = a->bdev.size;
    info->chunk = a->level->level == 1 ? 0 : a->chunk;
    info->data_offset = first ? first->data_offset : 0;
    info->member_size = a->level->redundant ? a->member_bytes : 0;
    info->block_size = a->bdev.block_size;
    info->events = a->sb.events;
    name_layout(a, info->layout);
    if (a->level->log)
        a->level->log(a, info->log, sizeof info->log);
    snprintf(info->log_device, sizeof info->log_device, "%s",
             a->log_device ? a->log_device->name : "");
    info->bitmap_chunk = a->bitmap ? a->bitmap->chunk : 0;
    info->slots = a->slots;
    pthread_mutex_unlock(&a->info_lock);
}

void raid_info_fill(struct raid_array *a, struct raid_info *info_r)
{
    pthread_mutex_lock(&a->info_lock);
    *info_r = a->info;
    info_r->sync_done = info_r->sync_saved = 0;
    info_r->mismatch = raid_load(&a->mismatch);
    info_r->bitmap_dirty = a->bitmap ? raid_load(&a->bitmap->dirty) : 0;
    info_r->sync_job = raid_load(&a->sync_job);
    info_r->sync_rate = raid_load(&a->sync_rate);
    info_r->sync_limit = raid_load(&a->sync_limit);
    info_r->client_p99 = raid_load(&a->client_p99);
    if (a->level->counters)
        a->level->counters(a, info_r);
    for (unsigned i = 0; i < info_r->member_count; i++) {
        const struct raid_member *m = a->info_member[i];
        if (!m)
            continue;
        info_r->member[i].errors = raid_load(&m->errors);
        info_r->member[i].corrected = raid_load(&m->corrected);
        info_r->member[i].bad = raid_bad_sectors(m);
        info_r->member[i].keeps_bad = m->bad;
        if (info_r->member[i].slot >= 0 && info_r->member[i].state != RAID_MEMBER_REPLACING)
            info_r->member[i].wrong = raid_load(&a->wrong[info_r->member[i].slot]);
        if (info_r->sync == RAID_SYNC_RECOVER && raid_load(&m->state) == RAID_MEMBER_REBUILDING) {
            info_r->sync_done = raid_load(&m->rebuilt);
            info_r->sync_saved = raid_load(&m->checkpoint);
        }
    }
    if (info_r->sync == RAID_SYNC_CHECK || info_r->sync == RAID_SYNC_REPAIR)
        info_r->sync_done = raid_load(&a->scrub_pos);
    if (info_r->sync == RAID_SYNC_RESYNC) {
        uint64_t pos = raid_load(&a->resync_pos);
        info_r->sync_done = pos == UINT64_MAX ? info_r->sync_total : pos;
        info_r->sync_saved = raid_load(&a->checkpoint);
    }
    pthread_mutex_unlock(&a->info_lock);
}

void raid_below(struct bdev *bdev, void (*fn)(const char *name, void *arg), void *arg)
{
    struct raid_array *a = container_of(bdev, struct raid_array, bdev);
    struct raid_info *info = xcalloc(1, sizeof *info);
    raid_info_fill(a, info);
    for (unsigned i = 0; i < info->member_count; i++)
        fn(info->member[i].device, arg);
    fn(info->log_device, arg);
    free(info);
}

int raid_check_stack(const struct raid_array *a, const char *device, const char *field,
                     struct err *e)
{
    if (!a->started || !bdev_stands_on(device, &a->bdev))
        return 0;
    return err_set(e, ERR_INVALID, field, "%s stands on array %s itself", device, a->bdev.name);
}

static void put_number(void (*fn)(const char *key, const char *value, void *arg), void *arg,
                       const char *key, uint64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)value);
    fn(key, text, arg);
}

void raid_attrs(struct bdev *bdev, void (*fn)(const char *key, const char *value, void *arg),
                void *arg)
{
    struct raid_array *a = container_of(bdev, struct raid_array, bdev);
    struct raid_info info;
    raid_info_fill(a, &info);
    fn("level", info.level, arg);
    fn("state", raid_state_name(info.state), arg);
    fn("sync_action", raid_sync_name(info.sync), arg);
    put_number(fn, arg, "slots", info.slots);
    put_number(fn, arg, "missing", info.missing);
    put_number(fn, arg, "events", info.events);
    if (!a->level->counters)
        return;
    for (unsigned w = 0; w < RAID_WAYS; w++) {
        char key[32];
        snprintf(key, sizeof key, "writes_%s", raid_way_name((enum raid_way)w));
        put_number(fn, arg, key, info.writes[w]);
    }
    put_number(fn, arg, "writes_gathered", info.gathered);
    put_number(fn, arg, "log_used", info.log_used);
    put_number(fn, arg, "log_size", info.log_size);
}

bool raid_get(const char *name, struct raid_info *info_r)
{
    struct raid_array *a = raid_find(name);
    if (a)
        raid_info_fill(a, info_r);
    return a;
}

struct each {
    void (*fn)(const struct raid_info *info, void *arg);
    void *arg;
};

static void one(struct raid_array *a, void *arg)
{
    const struct each *each = arg;
    struct raid_info info;
    raid_info_fill(a, &info);
    each->fn(&info, each->arg);
}

void raid_for_each(void (*fn)(const struct raid_info *info, void *arg), void *arg)
{
    struct each each = {fn, arg};
    raid_list_for_each(one, &each);
}

bool raid_failed(const struct bdev *bdev, char *why, size_t size)
{
    struct raid_array *a = container_of(bdev, struct raid_array, bdev);
    struct raid_info info;
    raid_info_fill(a, &info);
    if (info.state == RAID_FAILED)
        snprintf(why, size, "array %s has failed: %u of %u members missing", info.name,
                 info.missing, info.slots);
    if (info.state == RAID_FAILED)
        return true;
    /* Where nobody can stand in for a member, it is not taken out either. */
    for (unsigned i = 0; i < info.member_count && !a->level->redundant; i++) {
        const struct bdev *member = bdev_find(info.member[i].device);
        if (member && bdev_failed(member, why, size))
            return true;
    }
    return false;
}
