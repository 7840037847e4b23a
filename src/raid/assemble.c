/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Arrays that exist on disk. Nothing is written before the first write of a client, unless a resync
 * or a rebuild is due. */
#include <errno.h>
#include <linux/types.h>
#include <stdio.h>
#include <string.h>

#include <linux/raid/md_p.h>

#include "base/log.h"
#include "base/mem.h"
#include "block/event.h"
#include "raid/bad.h"
#include "raid/bitmap.h"
#include "raid/plog.h"
#include "raid/ppl.h"

static int check_choice(const struct raid_assemble *r, const struct raid_choice *ch, struct err *e)
{
    char text[UUID_TEXT];
    if (!ch->found)
        return err_set(e, ERR_NOT_FOUND, "uuid", "no free device carries an array of UUID %s",
                       uuid_format_md(&r->uuid, text));
    if (ch->ambiguous)
        return err_set(e, ERR_UNSUPPORTED, "", "not unambiguous: %s", ch->why);
    if (!ch->startable)
        return err_set(e, ERR_UNSUPPORTED, "", "cannot be started: %s", ch->why);
    if (ch->clash && !r->known && !r->force)
        return err_set(e, ERR_NEEDS_FORCE, "force", "not unambiguous: %s", ch->clash_why);
    if (!ch->complete && !r->degraded_ok && !r->force)
        return err_set(e, ERR_NEEDS_FORCE, "force", "%s", ch->why);
    if (!r->name || !bdev_name_valid(r->name))
        return err_set(e, ERR_INVALID, "name", "'%s' is no name", r->name ? r->name : "");
    if (!r->dry_run && bdev_find(r->name))
        return err_set(e, ERR_EXISTS, "name", "a device of the name %s exists", r->name);
    return 0;
}

/* ---- members */

/* Claimed by now: is it still what the scan saw? */
static int check_again(struct raid_member *m, const struct raid_candidate *c, uint8_t *bytes,
                       struct err *e)
{
    autofree struct md_super *now = xcalloc(1, sizeof *now);
    uint64_t at = md_super_place(c->sb.format, bdev_size(m->desc));
    int error = bdev_read(m->desc, at, bytes, MD_SUPER_SIZE);
    if (error)
        return err_set(e, ERR_IO, "", "%s cannot be read: %s", m->device, strerror(-error));
    if (md_super_read_as(now, c->sb.format, at, bytes, e) || memcmp(now, &c->sb, sizeof *now))
        return err_set(e, ERR_IN_USE, "", "the superblock of %s changes: somebody else uses it",
                       m->device);
    return 0;
}

/* Beside the one in its slot. It may be complete: then it takes the slot as soon as the array
 * runs. */
static void take_replacement(struct raid_array *a, struct raid_member *m)
{
    if (m->state == RAID_MEMBER_IN_SYNC)
        m->rebuilt = m->checkpoint = a->sb.size * MD_SECTOR;
    m->state = RAID_MEMBER_REBUILDING;
    m->replaces = true;
}

static int add(struct raid_array *a, const struct raid_assemble *r, const struct raid_candidate *c,
               int slot, struct err *e)
{
    bool only_read = a->read_only;
    struct raid_member *m =
        raid_member_open(a, c->device, only_read ? CLAIM_READ : CLAIM_EXCLUSIVE, e);
    if (!m)
        return -1;
    m->sb = c->sb;
    m->slot = slot;
    m->data_offset = c->sb.data_offset * MD_SECTOR;
    m->data_size = c->sb.data_size * MD_SECTOR;
    m->behind = slot >= 0 && c->sb.events < a->sb.events ? a->sb.events : 0;
    m->state = slot < 0 ? RAID_MEMBER_SPARE : RAID_MEMBER_IN_SYNC;
    if (slot >= 0 && c->sb.features & MD_FEATURE_RECOVERY_OFFSET) {
        m->state = RAID_MEMBER_REBUILDING;
        uint64_t done = c->sb.recovery_offset <= c->sb.size ? c->sb.recovery_offset : 0;
        m->rebuilt = m->checkpoint = done * MD_SECTOR; /* see judge_cursors */
    }
    if (slot >= 0 && a->slot[slot])
        take_replacement(a, m);
    raid_member_add(a, m);
    struct bdev_info info;
    bdev_get_info(m->desc, &info);
    if (info.read_only && !only_read)
        return err_set(e, ERR_INVALID, "read_only", "%s is read-only: assemble with --read-only",
                       m->device);
    autofree uint8_t *bytes = xcalloc(1, MD_SUPER_SIZE);
    if (check_again(m, c, bytes, e) || raid_bad_load(m, e))
        return -1;
    if (!only_read && r->backup &&
        r->backup(m->device, MD_SUPER_OFFSET, bytes, MD_SUPER_SIZE, r->backup_arg))
        return err_set(e, ERR_IO, "", "the superblock of %s could not be saved first", m->device);
    return 0;
}

static int add_all(struct raid_array *a, const struct raid_assemble *r,
                   const struct raid_choice *ch, struct err *e)
{
    for (unsigned i = 0; i < a->slots; i++)
        if (ch->slot[i] && add(a, r, ch->slot[i], (int)i, e))
            return -1;
    if (ch->replacement && add(a, r, ch->replacement, (int)md_super_role(&ch->replacement->sb), e))
        return -1;
    for (unsigned i = 0; i < ch->spares; i++)
        if (add(a, r, ch->spare[i], -1, e))
            return -1;
    return 0;
}

/* ---- what would be done */

static void would(const struct raid_array *a, const struct raid_assemble *r,
                  const struct raid_choice *ch)
{
    const struct raid_member *m;
    size_t n = 0;
#define say(...)                                                                 \
    do {                                                                         \
        if (n < r->would_size)                                                   \
            n += (size_t)snprintf(r->would + n, r->would_size - n, __VA_ARGS__); \
    } while (0)
    if (!r->would || !r->would_size)
        return;
    say("%s of %u members, %u in sync; ", a->level->name, a->slots, ch->in_sync);
    if (a->reason[0]) {
        say("read-only (%s): nothing would be written", a->reason);
        return;
    }
    if (!a->level->redundant) {
        say("nothing would be written to superblocks");
        return;
    }
    say("superblocks (4096 bytes at byte 4096) of");
    list_for_each (m, &a->members, link)
        say(" %s", m->device);
    if (ch->dirty && ppl_is_used(a))
        say(" would be written when the partial parity log has been worked off, which is given up");
    else
        say(" would be written %s",
            ch->dirty && ch->in_sync > 1 ? "at the end of a resync, which begins at once"
            : ch->rebuilding             ? "at the end of a rebuild, which begins at once"
                                         : "before the first write");
#undef say
}

/* ---- the verb */

/* It was about to take a slot when it ended: its own superblock does not say so yet. */
static bool had_not_joined(const struct raid_choice *ch, unsigned number)
{
    for (unsigned i = 0; i < ch->spares; i++)
        if (ch->spare[i]->sb.dev_number == number)
            return true;
    for (unsigned i = 0; i < ch->stales; i++)
        if (ch->stale[i]->sb.dev_number == number)
            return true;
    return false;
}

/* Slots that somebody had when the freshest superblock was written, and nobody has now. */
static unsigned lost_members(const struct raid_choice *ch)
{
    const struct md_super *top = &ch->freshest->sb;
    uint64_t told = 0;
    unsigned n = 0;
    for (unsigned i = 0; i < top->max_dev; i++)
        if (top->role[i] < top->raid_disks && !had_not_joined(ch, i))
            told |= 1ull << top->role[i];
    for (unsigned i = 0; i < top->raid_disks; i++)
        n += told >> i & 1 && !ch->slot[i];
    return n;
}

static int needs_force(const char *why, struct err *e)
{
    return err_set(e, ERR_NEEDS_FORCE, "force",
                   "members are missing and the array was in use when it went down: what they held "
                   "of the stripes that were being written may be lost (%s)",
                   why);
}

/* md does not say whether a resync was under way when such an array was in use: what its log leaves
 * fits where it was written, so that members may be missing, and all else is compared. */
static int work_off_ppl(struct raid_array *a, const struct raid_assemble *r,
                        const struct raid_choice *ch, struct err *e)
{
    const char *why = NULL;
    if (a->read_only)
        return 0;
    if (ch->dirty && ppl_replay(a, &why) && ch->in_sync < a->slots && !r->force)
        return needs_force(why, e);
    return ppl_give_up(a, ch->dirty, e);
}

/* A dirty array with parity: its log, if it has one that belongs here, makes parity fit. Without,
 * members may be missing only by force: what they held may be damaged. */
static int work_off_log(struct raid_array *a, const struct raid_assemble *r,
                        const struct raid_choice *ch, struct err *e)
{
    uint64_t synced = 0;
    const char *why = "nothing is written";
    if (ppl_is_used(a))
        return work_off_ppl(a, r, ch, e);
    if (!ch->dirty || !a->level->parity)
        return 0;
    if (!a->read_only && !a->level->replay(a, lost_members(ch), &synced, &why)) {
        a->resync_pos = synced < a->member_bytes ? synced : UINT64_MAX;
        a->replayed = true;
        return 0;
    }
    if (ch->in_sync == a->slots || r->force || r->read_only)
        return 0;
    return needs_force(why, e);
}

/* What a rebuild had done counts where nobody was writing, or the log has mended it, or the bitmap
 * tells where. Then a resync of the marked places comes first, which covers the new member too. */
static void judge_cursors(struct raid_array *a, const struct raid_choice *ch)
{
    bool marked = a->bitmap && a->bitmap->believed;
    bool known = !ch->dirty || (a->level->parity ? a->replayed : marked), kept = false;
    struct raid_member *m;
    list_for_each (m, &a->members, link) {
        if (m->state != RAID_MEMBER_REBUILDING)
            continue;
        if (!known || (ch->dirty && (m->by_bitmap || m->replaces)))
            m->rebuilt = m->checkpoint = 0;
        kept = kept || m->rebuilt;
    }
    if (ch->in_sync < 2 && !kept)
        a->resync_pos = UINT64_MAX; /* with one copy there is nothing to agree with */
    a->checkpoint = a->resync_pos == UINT64_MAX ? 0 : a->resync_pos;
}

/* What the log has mended, and what was found bad meanwhile, is on disk too. */
static void note_replay(void *arg) /* home */
{
    struct raid_array *a = arg;
    tlock_lock(&a->meta_lock);
    raid_meta_write(a);
    tlock_unlock(&a->meta_lock);
}

static void start_sync(void *arg) /* home */
{
    raid_sync_start(arg);
}

/* Members that were away while the others went on: what the bitmap has kept for them is copied. */
static void take_back_stale(struct raid_array *a, const struct raid_choice *ch)
{
    for (unsigned i = 0; i < ch->stales && a->bitmap && !a->read_only; i++) {
        struct err e;
        if (raid_readd_member(a->bdev.name, ch->stale[i]->device, &e))
            log_info("raid", "array %s: %s", a->bdev.name, e.msg);
    }
}

/* What is not written in our format is only read: the members stay as they are, for who made them.
 */
static void judge_writing(struct raid_array *a, const struct raid_assemble *r)
{
    if (r->read_only)
        snprintf(a->reason, sizeof a->reason, "it was assembled so");
    if (a->sb.format != MD_1_2)
        snprintf(a->reason, sizeof a->reason,
                 "its superblocks have version %s, and only version 1.2 is written",
                 md_format_name(a->sb.format));
    a->read_only = a->reason[0] || r->dry_run;
}

/* The device that its log lies on is known by its label. Without it, it starts like any array whose
 * log is gone; from here on the log lies on the members, if there is room. */
static int find_log(struct raid_array *a, const struct raid_assemble *r, struct err *e)
{
    char name[BDEV_NAME_MAX + 1], object[80];
    unsigned n = a->level->parity && !a->read_only ? plog_device_find(&a->sb.set_uuid, name) : 0;
    if (n > 1)
        return err_set(e, ERR_UNSUPPORTED, "",
                       "not unambiguous: %u devices carry the log of this array, %s is one", n,
                       name);
    if (n) {
        a->log_device = plog_device_open(a, name, e);
        return a->log_device ? 0 : -1;
    }
    if (!r->log_device || a->read_only)
        return 0;
    raid_object(a, object);
    event_raise(object, "log-missing", "no free device carries its log, which was on %s",
                r->log_device);
    return 0;
}

static int assemble(const struct raid_assemble *r, const struct raid_choice *ch, struct err *e)
{
    const struct md_super *top = &ch->freshest->sb;
    const struct raid_level *level = raid_level_find(top->level);
    struct raid_array *a = raid_array_new(r->name, level, top);
    judge_writing(a, r);
    a->no_log = r->no_log;
    if (ch->dirty)
        a->resync_pos =
            top->resync_offset < raid_sync_sectors(top) ? top->resync_offset * MD_SECTOR : 0;
    a->bump = ch->complete ? 0 : 2; /* who is not here may be one ahead */
    int rc = add_all(a, r, ch, e);
    if (!rc)
        rc = find_log(a, r, e);
    if (!rc && a->sb.format == MD_1_2)
        rc = raid_bitmap_load(a, ch->dirty || !ch->complete, e);
    if (!rc)
        rc = work_off_log(a, r, ch, e);
    judge_cursors(a, ch);
    if (!rc && r->dry_run)
        would(a, r, ch);
    if (!rc && !r->dry_run)
        rc = raid_array_start(a, e);
    if (rc || r->dry_run) {
        raid_array_free(&a);
        return rc;
    }
    char object[80];
    raid_object(a, object);
    event_raise(object, "array-assembled", "%s with %u of %u members%s%s%s", level->name,
                ch->in_sync, a->slots, a->read_only ? ", read-only: " : "", a->reason,
                a->resync_pos != UINT64_MAX ? ", needs a resync" : "");
    if (a->replayed || a->bad_news)
        task_call(a->home, note_replay, a);
    take_back_stale(a, ch);
    task_call(a->home, start_sync, a);
    return 0;
}

int raid_assemble(const struct raid_assemble *r, struct err *e)
{
    struct raid_candidate *list;
    unsigned n = raid_candidates(&list);
    autofree struct raid_choice *ch = xcalloc(1, sizeof *ch);
    raid_choose(list, n, &r->uuid, ch);
    int rc = check_choice(r, ch, e) ? -1 : assemble(r, ch, e);
    free(list);
    return rc;
}
