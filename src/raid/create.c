/* SPDX-License-Identifier: GPL-2.0-or-later */
/* New arrays, as mdadm --create lays them out. */
#include <errno.h>
#include <linux/types.h>
#include <stdio.h>
#include <string.h>

#include <linux/raid/md_p.h>

#include "base/mem.h"
#include "block/event.h"
#include "probe/probe.h"
#include "raid/bitmap.h"
#include "raid/plog.h"
#include "raid/raid10.h"

enum {
    CHUNK_DEFAULT = 512 << 10,
    CHUNK_MIN = 4 << 10,
    CHUNK_MAX = 64 << 20,
    MAX_DEV = 128,         /* entries of the role table, as mdadm makes it */
    HEAD_WIPE = 1 << 20,   /* so much before the data may carry older signatures */
    SMALLEST = 2 << 20,    /* bytes of a member */
    BITMAP_FROM = 1 << 30, /* bytes of a member's data */
};

/* ---- checks */

static bool is_missing(const char *member)
{
    return !strcmp(member, "missing");
}

static uint64_t present_slots(const struct raid_create *c)
{
    uint64_t mask = 0;
    for (unsigned i = 0; i < c->member_count; i++)
        mask |= is_missing(c->members[i]) ? 0 : 1ull << i;
    return mask;
}

static int check_members(const struct raid_create *c, const struct raid_level *level, struct err *e)
{
    unsigned present = 0;
    if (c->member_count < level->min_slots || c->member_count > RAID_MEMBERS_MAX)
        return err_set(e, ERR_INVALID, "members", "%s takes %u to %u members, %u were given",
                       level->name, level->min_slots, (unsigned)RAID_MEMBERS_MAX, c->member_count);
    if (c->spare_count && (!level->redundant || c->member_count + c->spare_count > MAX_DEV))
        return err_set(e, ERR_INVALID, "spares", "%s takes %s", level->name,
                       level->redundant ? "no more members" : "no spares");
    for (unsigned i = 0; i < c->member_count; i++) {
        if (is_missing(c->members[i]))
            continue;
        present++;
        for (unsigned k = 0; k < i; k++)
            if (!strcmp(c->members[i], c->members[k]))
                return err_set(e, ERR_INVALID, "members", "%s is named twice", c->members[i]);
    }
    autofree struct md_super *sb = xcalloc(1, sizeof *sb);
    sb->level = level->level;
    sb->raid_disks = c->member_count;
    sb->layout = c->layout ? raid10_layout_parse(c->layout) : 0;
    if (!present || !level->can_run(sb, present_slots(c)))
        return err_set(e, ERR_INVALID, "members", "%s of %u members cannot do without %s",
                       level->name, c->member_count,
                       !present           ? "members"
                       : level->redundant ? "so many of its members"
                                          : "any of its members");
    return 0;
}

static int check_chunk(const struct raid_create *c, const struct raid_level *level, struct err *e)
{
    if (level->level == 1 || level->level == -1 || !c->chunk)
        return 0;
    if (c->chunk < CHUNK_MIN || c->chunk > CHUNK_MAX || c->chunk & (c->chunk - 1))
        return err_set(
            e, ERR_INVALID, "chunk", "%llu bytes; expected a power of two from 4K to 64M%s",
            (unsigned long long)c->chunk, c->chunk < CHUNK_MIN ? " (64 is not 64K)" : "");
    return 0;
}

static int check_layout(const struct raid_create *c, const struct raid_level *level, struct err *e)
{
    autofree struct md_super *sb = xcalloc(1, sizeof *sb);
    struct raid10_geometry g;
    if (!c->layout)
        return 0;
    if (level->level != 10)
        return err_set(e, ERR_INVALID, "layout", "layouts are chosen for raid10 only");
    sb->raid_disks = c->member_count;
    sb->layout = raid10_layout_parse(c->layout);
    if (!sb->layout || !raid10_geometry_init(&g, sb))
        return err_set(e, ERR_INVALID, "layout",
                       "layout is '%.20s'; expected n, f or o (near, far, offset) and the number "
                       "of copies, 2 to %u",
                       c->layout, c->member_count);
    return 0;
}

static const struct raid_level *check(const struct raid_create *c, struct err *e)
{
    int32_t number;
    if (!bdev_name_valid(c->name)) {
        err_set(e, ERR_INVALID, "name", "'%s' is no name: expected [A-Za-z0-9][A-Za-z0-9_.-]{0,31}",
                c->name);
        return NULL;
    }
    if (bdev_find(c->name)) {
        err_set(e, ERR_EXISTS, "name", "a device of the name %s exists", c->name);
        return NULL;
    }
    if (!md_level_parse(c->level, &number)) {
        err_set(e, ERR_INVALID, "level",
                "'%s' is no level: expected linear, raid0, raid1, raid4, raid5, raid6 or raid10",
                c->level);
        return NULL;
    }
    const struct raid_level *level = raid_level_find(number);
    if (!level) {
        err_set(e, ERR_UNSUPPORTED, "level",
                "%s is not in this version: expected linear, raid0, raid1, raid4, raid5, raid6 or "
                "raid10",
                md_level_name(number));
        return NULL;
    }
    bool bad = check_layout(c, level, e) || check_members(c, level, e) || check_chunk(c, level, e);
    return bad ? NULL : level;
}

/* ---- layout */

static void template(const struct raid_create *c, const struct raid_level *level,
                     struct md_super *sb)
{
    memset(sb, 0, sizeof *sb);
    sb->set_uuid = c->uuid ? *c->uuid : uuid_random();
    const char *host = c->homehost ? c->homehost : "";
    if (host[0] && strlen(host) + 1 + strlen(c->name) <= MD_NAME_MAX)
        snprintf(sb->set_name, sizeof sb->set_name, "%s:%s", host, c->name);
    else
        snprintf(sb->set_name, sizeof sb->set_name, "%s", c->name);
    sb->ctime = md_time_now();
    sb->level = level->level;
    sb->raid_disks = c->member_count;
    sb->max_dev = MAX_DEV;
    for (unsigned i = 0; i < MAX_DEV; i++)
        sb->role[i] = MD_ROLE_SPARE;
    if (level->level == 1 || level->level == -1)
        return;
    sb->chunk = (uint32_t)((c->chunk ? c->chunk : CHUNK_DEFAULT) / MD_SECTOR);
    if (level->level == 0) {
        sb->features = MD_FEATURE_RAID0_LAYOUT;
        sb->layout = MD_RAID0_ORIGINAL; /* mdadm's choice */
    } else if (level->level == 10) {
        sb->layout = raid10_layout_parse(c->layout ? c->layout : "n2");
    } else if (level->level != 4) {
        sb->layout = LAYOUT_LEFT_SYMMETRIC;
    }
}

static int check_device(const struct raid_create *c, struct raid_member *m, struct err *e)
{
    struct bdev_info info;
    char what[256] = "";
    bdev_get_info(m->desc, &info);
    if (info.read_only)
        return err_set(e, ERR_INVALID, "members", "%s is read-only", m->device);
    if (info.size < SMALLEST)
        return err_set(e, ERR_NO_SPACE, "members", "%s has %llu bytes, at least 2M are needed",
                       m->device, (unsigned long long)info.size);
    if (c->force || info.known_zero)
        return 0;
    int found = probe_signature(m->desc, what, sizeof what, e);
    if (found < 0)
        return err_prefix(e, "%s", m->device);
    if (found)
        return err_set(e, ERR_NEEDS_FORCE, "members", "%s carries: %s", m->device, what);
    return 0;
}

static int open_one(struct raid_array *a, const struct raid_create *c, const char *device,
                    unsigned number, bool *zero_r, struct err *e)
{
    struct bdev_info info;
    struct raid_member *m = raid_member_open(a, device, CLAIM_EXCLUSIVE, e);
    if (!m)
        return -1;
    bool spare = number >= c->member_count;
    m->slot = spare ? -1 : (int)number;
    m->state = spare ? RAID_MEMBER_SPARE : RAID_MEMBER_IN_SYNC;
    m->sb.dev_number = number;
    m->sb.device_uuid = uuid_random();
    raid_member_add(a, m);
    if (check_device(c, m, e))
        return -1;
    bdev_get_info(m->desc, &info);
    *zero_r = *zero_r && (spare || info.known_zero);
    return 0;
}

static int open_members(struct raid_array *a, const struct raid_create *c, bool *zero_r,
                        struct err *e)
{
    for (unsigned i = 0; i < c->member_count; i++)
        if (!is_missing(c->members[i]) && open_one(a, c, c->members[i], i, zero_r, e))
            return -1;
    for (unsigned i = 0; i < c->spare_count; i++)
        if (open_one(a, c, c->spares[i], c->member_count + i, zero_r, e))
            return -1;
    return 0;
}

static int lay_out(struct raid_array *a, struct err *e)
{
    struct raid_member *m;
    uint64_t smallest = UINT64_MAX;
    list_for_each (m, &a->members, link)
        if (bdev_size(m->desc) < smallest)
            smallest = bdev_size(m->desc);
    uint64_t offset = md_data_offset(smallest / MD_SECTOR, a->sb.chunk) * MD_SECTOR;
    uint64_t least = UINT64_MAX;
    list_for_each (m, &a->members, link) {
        uint64_t size = bdev_size(m->desc) / 4096 * 4096;
        if (size < offset + 64 * 1024)
            return err_set(e, ERR_NO_SPACE, "members", "%s is too small: data begins at byte %llu",
                           m->device, (unsigned long long)offset);
        m->data_offset = offset;
        m->data_size = size - offset;
        least = m->data_size < least ? m->data_size : least;
    }
    if (a->level->redundant) {
        least = a->chunk ? least / a->chunk * a->chunk : least;
        if (!least)
            return err_set(e, ERR_NO_SPACE, "members", "members have no room for one chunk");
        a->member_bytes = least;
        a->sb.size = least / MD_SECTOR;
    }
    return 0;
}

static int check_log(struct raid_array *a, struct err *e)
{
    const char *why = a->level->parity && !a->no_log ? plog_missing(a, a->log_device) : NULL;
    return why ? err_set(e, ERR_NO_SPACE, a->log_device ? "log_device" : "no_log",
                         "%s: larger ones, --log-device, or --no-log and a write hole", why)
               : 0;
}

static int open_log(struct raid_array *a, const struct raid_create *c, struct err *e)
{
    if (!c->log_device)
        return 0;
    if (!a->level->parity || c->no_log)
        return err_set(e, ERR_INVALID, "log_device", "%s has no log",
                       c->no_log ? "an array with --no-log" : a->level->name);
    a->log_device = plog_device_make(a, c->log_device, c->force, e);
    return a->log_device ? 0 : -1;
}

/* ---- writing */

static int zero_range(struct bdev_desc *desc, uint64_t from, uint64_t to)
{
    struct bio bio;
    if (from >= to)
        return 0;
    bio_init(&bio, desc, BIO_WRITE_ZEROES, from, to - from, NULL, NULL);
    return bio_wait(&bio);
}

/* What older owners left before the data would make the member look like theirs. */
static int wipe_heads(struct raid_array *a, struct err *e)
{
    struct raid_member *m;
    list_for_each (m, &a->members, link) {
        struct bdev_info info;
        bdev_get_info(m->desc, &info);
        if (info.known_zero)
            continue;
        uint64_t end = m->data_offset < HEAD_WIPE ? m->data_offset : HEAD_WIPE;
        int error = zero_range(m->desc, 0, MD_SUPER_OFFSET);
        if (!error)
            error = zero_range(m->desc, MD_SUPER_OFFSET + MD_SUPER_SIZE, end);
        if (error)
            return err_set(e, ERR_IO, "members", "%s cannot be written: %s", m->device,
                           strerror(-error));
    }
    return 0;
}

struct first {
    struct raid_array *a;
    int rc;
};

static void first_write(void *arg) /* home */
{
    struct first *f = arg;
    struct raid_member *m;
    tlock_lock(&f->a->meta_lock);
    f->rc = raid_meta_write(f->a);
    tlock_unlock(&f->a->meta_lock);
    list_for_each (m, &f->a->members, link)
        if (m->state == RAID_MEMBER_FAULTY)
            f->rc = -1;
}

static void start_sync(void *arg) /* home */
{
    raid_sync_start(arg);
}

static int write_and_start(struct raid_array *a, struct err *e)
{
    struct first f = {.a = a};
    if (wipe_heads(a, e))
        return -1;
    task_call(a->home, first_write, &f);
    if (f.rc)
        return err_set(e, ERR_IO, "members", "a superblock could not be written");
    return raid_array_start(a, e);
}

static bool wants_bitmap(const struct raid_array *a, const struct raid_create *c)
{
    if (!a->level->redundant || c->bitmap == RAID_BITMAP_NONE)
        return false;
    return c->bitmap == RAID_BITMAP_INTERNAL || a->member_bytes >= BITMAP_FROM;
}

int raid_create(const struct raid_create *c, struct err *e)
{
    const struct raid_level *level = check(c, e);
    if (!level)
        return -1;
    autofree struct md_super *sb = xcalloc(1, sizeof *sb);
    template(c, level, sb);
    struct raid_array *a = raid_array_new(c->name, level, sb);
    bool zero = true;
    a->no_log = c->no_log;
    int rc = open_members(a, c, &zero, e) || lay_out(a, e) ? -1 : 0;
    if (!rc) {
        bool clean = !level->redundant || zero || c->assume_clean || !raid_may_differ(a);
        a->resync_pos = clean ? UINT64_MAX : 0;
        a->bdev.known_zero = zero;
        if (wants_bitmap(a, c))
            rc = raid_bitmap_make(a, c->bitmap_chunk, !clean, e);
        rc = rc || open_log(a, c, e) || check_log(a, e) ? -1 : 0;
    }
    if (!rc) {
        a->wipe = true; /* until it runs: leave nothing half-made */
        rc = write_and_start(a, e);
    }
    if (rc) {
        raid_array_free(&a);
        return -1;
    }
    a->wipe = false;
    char object[80];
    raid_object(a, object);
    event_raise(object, "array-created", "%s of %u members", level->name, a->slots);
    task_call(a->home, start_sync, a);
    return 0;
}
