/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which arrays stand on the registered devices, and who of the candidates may take part. */
#include <ctype.h>
#include <linux/types.h>
#include <stdio.h>
#include <string.h>

#include <linux/raid/md_p.h>

#include "base/mem.h"
#include "raid/raid_private.h"

/* ---- candidates */

struct names {
    char (*name)[BDEV_NAME_MAX + 1];
    unsigned n;
};

static void collect(struct bdev *bdev, void *arg)
{
    struct names *all = arg;
    char users[8];
    if (bdev_users(bdev, users, sizeof users))
        return;
    all->name = xrealloc(all->name, (all->n + 1) * sizeof *all->name);
    snprintf(all->name[all->n++], sizeof *all->name, "%s", bdev_name(bdev));
}

unsigned raid_free_devices(char (**name_r)[BDEV_NAME_MAX + 1])
{
    struct names all = {0};
    bdev_for_each(collect, &all);
    *name_r = all.name;
    return all.n;
}

static bool load_as(struct bdev_desc *desc, enum md_format format, struct raid_candidate *c)
{
    static uint8_t bytes[MD_SUPER_SIZE]; /* main's, in one task at a time: see raid_candidates */
    struct err e;
    uint64_t at = md_super_place(format, c->size);
    return at != UINT64_MAX && !bdev_read(desc, at, bytes, sizeof bytes) &&
           !md_super_read_as(&c->sb, format, at, bytes, &e);
}

/* Does the superblock of `inner` lie where `outer` has its data? */
static bool holds(const struct raid_candidate *outer, const struct raid_candidate *inner)
{
    const struct md_super *sb = &outer->sb;
    uint64_t at = inner->sb.super_offset;
    return at >= sb->data_offset && at - sb->data_offset < sb->data_size;
}

/* One that lies in the data of the other, and not the other way round, is data: an array made on
 * the array. Else nobody can tell which of them is left over. */
static unsigned settle(struct raid_candidate c[MD_FORMATS], unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        for (unsigned k = 0; k < n; k++)
            if (i != k && holds(&c[k], &c[i]) && !holds(&c[i], &c[k])) {
                memmove(&c[i], &c[i + 1], (n - i - 1) * sizeof *c);
                return settle(c, n - 1);
            }
    for (unsigned i = 0; i < n && n > 1; i++) {
        c[i].clash = true;
        c[i].other = c[i ? 0 : 1].sb.format;
    }
    return n;
}

static unsigned load(const char *device, struct raid_candidate c[MD_FORMATS])
{
    struct bdev_user user = {.label = "a scan for arrays"};
    struct err e;
    unsigned n = 0;
    struct bdev_desc *desc = bdev_open_to_look(device, &user, &e);
    if (!desc)
        return 0;
    for (unsigned f = 0; f < MD_FORMATS; f++) {
        memset(&c[n], 0, sizeof *c);
        snprintf(c[n].device, sizeof c[n].device, "%s", device);
        c[n].size = bdev_size(desc);
        n += load_as(desc, (enum md_format)f, &c[n]);
    }
    bdev_drain_close(&desc);
    return settle(c, n);
}

unsigned raid_candidates(struct raid_candidate **list_r)
{
    static struct tlock lock;
    static bool lock_ready;
    struct names all = {0};
    unsigned n = 0;
    if (!lock_ready)
        tlock_init(&lock);
    lock_ready = true;
    tlock_lock(&lock);
    *list_r = NULL;
    bdev_for_each(collect, &all);
    for (unsigned i = 0; i < all.n; i++) {
        *list_r = xrealloc(*list_r, (n + MD_FORMATS) * sizeof **list_r);
        n += load(all.name[i], &(*list_r)[n]);
    }
    free(all.name);
    tlock_unlock(&lock);
    return n;
}

/* ---- choice */

/* Who has not the same events may be of a time before the array grew. */
static bool same_array(const struct md_super *a, const struct md_super *b)
{
    bool now = a->events == b->events;
    return a->level == b->level && a->layout == b->layout && a->chunk == b->chunk &&
           a->ctime == b->ctime && a->format == b->format && (a->size == b->size || !now) &&
           (a->raid_disks == b->raid_disks || (!now && a->level == 1));
}

static bool rebuilding(const struct md_super *sb)
{
    return sb->features & MD_FEATURE_RECOVERY_OFFSET;
}

static bool replaces(const struct md_super *sb)
{
    return sb->features & MD_FEATURE_REPLACEMENT;
}

static const struct raid_candidate *find_freshest(const struct raid_candidate *list, unsigned n,
                                                  const struct uuid *uuid)
{
    const struct raid_candidate *best = NULL;
    bool best_member = false;
    for (unsigned i = 0; i < n; i++) {
        const struct raid_candidate *c = &list[i];
        if (!uuid_equal(&c->sb.set_uuid, uuid))
            continue;
        bool member = md_super_role(&c->sb) < MD_ROLE_MAX;
        if (!best || (member && !best_member) ||
            (member == best_member && c->sb.events > best->sb.events)) {
            best = c;
            best_member = member;
        }
    }
    return best;
}

#define blame(ch, ...)                                         \
    do {                                                       \
        if (!(ch)->why[0])                                     \
            snprintf((ch)->why, sizeof(ch)->why, __VA_ARGS__); \
    } while (0)

static void put_in(struct raid_choice *ch, const struct raid_candidate *c, unsigned role)
{
    ch->slot[role] = c;
    if (rebuilding(&c->sb))
        ch->rebuilding++;
    else
        ch->in_sync++;
}

static void take(struct raid_choice *ch, const struct raid_candidate *c, unsigned role)
{
    const struct raid_candidate *other = ch->slot[role];
    if (replaces(&c->sb)) {
        if (!ch->replacement)
            ch->replacement = c;
        else if (ch->spares < RAID_MEMBERS_MAX)
            ch->spare[ch->spares++] = c; /* one at a time */
        return;
    }
    if (other) {
        ch->ambiguous = true;
        blame(ch, "%s and %s both claim slot %u%s", other->device, c->device, role,
              uuid_equal(&other->sb.device_uuid, &c->sb.device_uuid)
                  ? ": one is a copy of the other"
                  : "");
        return;
    }
    put_in(ch, c, role);
}

/* The freshest superblock says who takes part: a member or a spare that it calls faulty does not,
 * whatever its own superblock says; nor does a member whose events are more than one behind. */
static void consider(struct raid_choice *ch, const struct raid_candidate *c)
{
    const struct md_super *top = &ch->freshest->sb, *sb = &c->sb;
    unsigned own = md_super_role(sb);
    unsigned told = sb->dev_number < top->max_dev ? top->role[sb->dev_number] : MD_ROLE_SPARE;
    struct err e;
    ch->found++;
    if (!same_array(top, sb)) {
        ch->ambiguous = true;
        blame(ch, "%s and %s carry the same UUID and describe different arrays",
              ch->freshest->device, c->device);
        return;
    }
    if (c->clash && !ch->clash) {
        ch->clash = true;
        snprintf(ch->clash_why, sizeof ch->clash_why,
                 "%s has two md superblocks, of version %s and of version %s; who knows which is "
                 "left over erases it (mdadm --zero-superblock --metadata=VERSION)",
                 c->device, md_format_name(sb->format), md_format_name(c->other));
    }
    if (own == MD_ROLE_SPARE) {
        if (ch->spares < RAID_MEMBERS_MAX && told != MD_ROLE_FAULTY &&
            !md_super_usable(sb, c->size, &e))
            ch->spare[ch->spares++] = c;
        return;
    }
    if (own < top->raid_disks && sb->events < top->events && ch->stales < RAID_MEMBERS_MAX &&
        (told != own || sb->events + 1 < top->events))
        ch->stale[ch->stales++] = c;
    if (own >= top->raid_disks || sb->events + 1 < top->events)
        return;
    if (told != own) {
        unsigned top_dev = top->dev_number;
        if (top_dev < sb->max_dev && sb->role[top_dev] != md_super_role(top)) {
            ch->ambiguous = true;
            blame(ch, "%s and %s each went on without the other", ch->freshest->device, c->device);
        }
        return;
    }
    if (md_super_usable(sb, c->size, &e)) {
        ch->startable = false;
        blame(ch, "%s: %.120s", c->device, e.msg);
        return;
    }
    take(ch, c, own);
}

/* Has somebody else the number of this spare? Of two spares the newer one keeps it. */
static bool is_double(const struct raid_choice *ch, const struct raid_candidate *c)
{
    uint32_t number = c->sb.dev_number;
    bool taken = ch->replacement && ch->replacement->sb.dev_number == number;
    for (unsigned i = 0; i < ch->freshest->sb.raid_disks; i++)
        taken = taken || (ch->slot[i] && ch->slot[i]->sb.dev_number == number);
    for (unsigned i = 0; i < ch->spares; i++) {
        const struct raid_candidate *other = ch->spare[i];
        taken =
            taken ||
            (other != c && other->sb.dev_number == number &&
             (other->sb.events > c->sb.events || (other->sb.events == c->sb.events && other < c)));
    }
    return taken;
}

/* The table of roles has one entry a number: with two of them a member would be called a spare. A
 * spare that was away while its number was given to another one has to be added anew. */
static void leave_out_doubles(struct raid_choice *ch)
{
    const struct raid_candidate *stay[RAID_MEMBERS_MAX];
    unsigned n = 0;
    for (unsigned i = 0; i < ch->spares; i++)
        if (ch->spare[i]->sb.dev_number < ch->freshest->sb.max_dev && !is_double(ch, ch->spare[i]))
            stay[n++] = ch->spare[i];
    memcpy(ch->spare, stay, n * sizeof *stay);
    ch->spares = n;
}

static void judge(struct raid_choice *ch)
{
    const struct md_super *top = &ch->freshest->sb;
    leave_out_doubles(ch);
    unsigned role = ch->replacement ? md_super_role(&ch->replacement->sb) : 0;
    if (ch->replacement && !ch->slot[role]) { /* the one that it was to replace is gone */
        put_in(ch, ch->replacement, role);
        ch->replacement = NULL;
    }
    unsigned have = ch->in_sync + ch->rebuilding;
    ch->dirty = top->level > 0 && top->resync_offset != MD_CLEAN;
    ch->complete = have == top->raid_disks;
    if (ch->ambiguous)
        ch->startable = false;
    if (!ch->complete)
        blame(ch, "%u of %u members are missing or out of date", top->raid_disks - have,
              top->raid_disks);
    uint64_t in_sync = 0;
    for (unsigned i = 0; i < top->raid_disks; i++)
        if (ch->slot[i] && !rebuilding(&ch->slot[i]->sb))
            in_sync |= 1ull << i;
    if (!raid_level_find(top->level)->can_run(top, in_sync)) {
        ch->startable = false;
        blame(ch, "no member is in sync");
    }
}

void raid_choose(const struct raid_candidate *list, unsigned n, const struct uuid *uuid,
                 struct raid_choice *ch)
{
    struct err e;
    memset(ch, 0, sizeof *ch);
    ch->freshest = find_freshest(list, n, uuid);
    if (!ch->freshest)
        return;
    ch->startable = true;
    const struct md_super *top = &ch->freshest->sb;
    if (md_super_usable(top, ch->freshest->size, &e)) {
        ch->startable = false;
        blame(ch, "%s: %.120s", ch->freshest->device, e.msg);
    } else if (top->raid_disks > RAID_MEMBERS_MAX) {
        ch->startable = false;
        blame(ch, "%u members, at most %u are possible", top->raid_disks, RAID_MEMBERS_MAX);
    }
    if (!ch->startable) {
        for (unsigned i = 0; i < n; i++)
            ch->found += uuid_equal(&list[i].sb.set_uuid, uuid);
        return;
    }
    for (unsigned i = 0; i < n; i++)
        if (uuid_equal(&list[i].sb.set_uuid, uuid))
            consider(ch, &list[i]);
    judge(ch);
}

/* ---- for control */

void raid_adopted_name(const char *set_name, const struct uuid *uuid, char out[RAID_NAME_MAX + 1])
{
    const char *colon = strrchr(set_name, ':');
    const char *from = colon ? colon + 1 : set_name;
    unsigned n = 0;
    for (; from[n] && n < RAID_NAME_MAX; n++) {
        bool fine = isalnum((unsigned char)from[n]) || (n && strchr("_.-", from[n]));
        out[n] = fine ? from[n] : '_';
    }
    out[n] = 0;
    if (n && !isalnum((unsigned char)out[0]))
        out[0] = '0'; /* a name begins with a letter or a digit */
    if (!n)
        snprintf(out, RAID_NAME_MAX + 1, "md-%02x%02x%02x%02x", uuid->b[0], uuid->b[1], uuid->b[2],
                 uuid->b[3]);
}

static void describe(const struct raid_candidate *list, unsigned n, const struct uuid *uuid,
                     struct raid_found *f)
{
    struct raid_choice ch;
    raid_choose(list, n, uuid, &ch);
    const struct md_super *top = &ch.freshest->sb;
    memset(f, 0, sizeof *f);
    f->uuid = *uuid;
    snprintf(f->set_name, sizeof f->set_name, "%s", top->set_name);
    raid_adopted_name(top->set_name, uuid, f->name);
    snprintf(f->level, sizeof f->level, "%.7s", md_level_name(top->level));
    f->slots = top->raid_disks;
    f->have = ch.in_sync;
    f->complete = ch.complete;
    f->startable = ch.startable;
    f->ambiguous = ch.ambiguous || ch.clash;
    f->needs_resync = ch.dirty && ch.in_sync > 1;
    snprintf(f->why, sizeof f->why, "%.199s", ch.clash ? ch.clash_why : ch.why);
    for (unsigned i = 0; i < n && f->device_count < RAID_MEMBERS_MAX; i++)
        if (uuid_equal(&list[i].sb.set_uuid, uuid))
            memcpy(f->device[f->device_count++], list[i].device, sizeof f->device[0]);
}

unsigned raid_scan(struct raid_found **found_r)
{
    struct raid_candidate *list;
    unsigned n = raid_candidates(&list), count = 0;
    *found_r = NULL;
    for (unsigned i = 0; i < n; i++) {
        bool seen = false;
        for (unsigned k = 0; k < count; k++)
            seen = seen || uuid_equal(&(*found_r)[k].uuid, &list[i].sb.set_uuid);
        if (seen)
            continue;
        *found_r = xrealloc(*found_r, (count + 1) * sizeof **found_r);
        describe(list, n, &list[i].sb.set_uuid, &(*found_r)[count++]);
    }
    free(list);
    return count;
}
