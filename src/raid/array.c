/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Life of an array's memory, its members' opens, and its tasks. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "block/event.h"
#include "raid/bad.h"
#include "raid/bitmap.h"
#include "raid/plog.h"

static struct list arrays = LIST_INIT(arrays); /* main's */

const struct raid_level *raid_level_find(int32_t level)
{
    static const struct raid_level *const built[] = {&linear_level, &raid0_level, &raid1_level,
                                                     &raid4_level,  &raid5_level, &raid6_level,
                                                     &raid10_level};
    for (unsigned i = 0; i < sizeof built / sizeof *built; i++)
        if (built[i]->level == level)
            return built[i];
    return NULL;
}

void raid_object(const struct raid_array *a, char out[80])
{
    snprintf(out, 80, "array %s", a->bdev.name);
}

struct raid_array *raid_find(const char *name)
{
    struct raid_array *a;
    list_for_each (a, &arrays, link)
        if (!strcmp(a->bdev.name, name))
            return a;
    return NULL;
}

void raid_list_for_each(void (*fn)(struct raid_array *a, void *arg), void *arg)
{
    struct raid_array *a, *next;
    list_for_each_safe (a, next, &arrays, link)
        fn(a, arg);
}

static struct reactor *next_home(void)
{
    static unsigned turn; /* main's */
    return reactor_get(turn++ % reactor_count());
}

struct raid_array *raid_array_new(const char *name, const struct raid_level *level,
                                  const struct md_super *sb)
{
    struct raid_array *a = xcalloc(1, sizeof *a);
    a->chan = aligned_alloc(_Alignof(struct raid_chan), REACTOR_MAX * sizeof *a->chan);
    if (!a->chan)
        abort();
    memset(a->chan, 0, REACTOR_MAX * sizeof *a->chan);
    snprintf(a->bdev.name, sizeof a->bdev.name, "%s", name);
    a->bdev.uuid = sb->set_uuid;
    a->ops = raid_ops;
    a->ops.type = level->name;
    a->bdev.ops = &a->ops;
    a->bdev.redundant = level->redundant;
    a->home = next_home();
    a->level = level;
    a->sb = *sb;
    a->slots = sb->raid_disks;
    a->chunk = (uint64_t)sb->chunk * MD_SECTOR;
    a->member_bytes = sb->size * MD_SECTOR;
    a->resync_pos = UINT64_MAX;
    raid_policy_defaults(&a->policy);
    list_init(&a->link);
    list_init(&a->members);
    list_init(&a->gone);
    list_init(&a->faults);
    list_init(&a->reads);
    list_init(&a->repairs);
    tlock_init(&a->meta_lock);
    pthread_mutex_init(&a->info_lock, NULL);
    for (unsigned i = 0; i < REACTOR_MAX; i++)
        a->chan[i].array = a;
    return a;
}

/* ---- tasks on home */

void raid_task(struct raid_array *a, bool *runs, const char *name, reactor_fn fn)
{
    assert(reactor_is_self(a->home));
    if (*runs)
        return;
    *runs = true;
    a->tasks++;
    task_start(a->home, name, fn, a);
}

void raid_task_end(struct raid_array *a, bool *runs)
{
    assert(*runs && a->tasks);
    *runs = false;
    a->tasks--;
}

static void nothing(void *arg)
{
    (void)arg;
}

void raid_grace(void)
{
    task_call_all(nothing, NULL);
}

/* ---- members */

static void gone_home(void *arg)
{
    struct raid_member *m = arg;
    struct raid_array *a = m->array;
    tlock_lock(&a->meta_lock);
    if (raid_kick(a, m, -ENODEV, true) && !a->read_only && raid_alive(a, NULL) &&
        a->level->redundant)
        raid_meta_write(a);
    tlock_unlock(&a->meta_lock);
    raid_sync_next(a);
}

static void member_gone(void *arg)
{
    struct raid_member *m = arg;
    struct raid_array *a = m->array;
    task_call(a->home, gone_home, m);
    raid_member_close(m);
    a->main_tasks--;
}

static void member_event(struct bdev_desc *desc, enum bdev_event event, void *arg)
{
    struct raid_member *m = arg;
    struct raid_array *a = m->array;
    (void)desc;
    if (event != BDEV_EVENT_REMOVE || m->closing || a->freeing || !a->started)
        return;
    m->closing = true;
    a->main_tasks++;
    task_start(reactor_main(), "raid-member-gone", member_gone, m);
}

struct raid_member *raid_member_open(struct raid_array *a, const char *device,
                                     enum bdev_claim claim, struct err *e)
{
    if (raid_check_stack(a, device, "device", e))
        return NULL;
    struct raid_member *m = xcalloc(1, sizeof *m);
    struct bdev_user user = {.event = member_event, .arg = m};
    snprintf(user.label, sizeof user.label, "array %s", a->bdev.name);
    m->array = a;
    m->slot = -1;
    list_init(&m->link);
    snprintf(m->device, sizeof m->device, "%s", device);
    m->desc = bdev_open(device, claim, &user, e);
    if (!m->desc) {
        free(m);
        return NULL;
    }
    raid_policy_apply(a, m);
    return m;
}

void raid_member_add(struct raid_array *a, struct raid_member *m)
{
    list_add_tail(&a->members, &m->link);
    if (m->slot >= 0)
        raid_store(m->replaces ? &a->replacement : &a->slot[m->slot], m);
}

void raid_member_close(struct raid_member *m)
{
    if (!m->desc)
        return;
    m->closing = true;
    raid_grace();
    char users[200];
    while (raid_load(&m->array->lends) && bdev_users(&m->array->bdev, users, sizeof users))
        task_sleep_us(100 * 1000); /* for as long as clients stay */
    bdev_drain_close(&m->desc);
}

void raid_member_free(struct raid_member **mp)
{
    struct raid_member *m = *mp;
    *mp = NULL;
    if (m)
        raid_bad_free(&m->bad);
    free(m);
}

/* ---- start */

static void common_properties(struct raid_array *a)
{
    struct bdev *b = &a->bdev;
    struct raid_member *m;
    /* Who joins later may have one, and users do not ask again. So does md. */
    b->write_cache = a->level->redundant;
    b->block_size = a->sb.logical_block > 512 ? a->sb.logical_block : 512;
    list_for_each (m, &a->members, link) {
        struct bdev_info info;
        bdev_get_info(m->desc, &info);
        b->block_size = info.block_size > b->block_size ? info.block_size : b->block_size;
        b->phys_block = info.phys_block > b->phys_block ? info.phys_block : b->phys_block;
        b->mem_align = info.mem_align > b->mem_align ? info.mem_align : b->mem_align;
        b->write_cache = b->write_cache || info.write_cache;
        b->rotational = b->rotational || info.rotational;
    }
    if (b->phys_block < b->block_size)
        b->phys_block = b->block_size;
    b->read_only = a->read_only;
}

int raid_array_start(struct raid_array *a, struct err *e)
{
    common_properties(a);
    if (a->level->setup(a, e))
        return -1;
    a->sync_bytes = a->level->level == 10 ? a->bdev.size : a->member_bytes;
    a->bdev.size = a->bdev.size / a->bdev.block_size * a->bdev.block_size;
    if (!a->bdev.size)
        return err_set(e, ERR_INVALID, "members", "the members have no room for data");
    raid_publish(a);
    if (bdev_register(&a->bdev, e))
        return -1;
    a->started = true;
    list_add_tail(&arrays, &a->link);
    return 0;
}

/* ---- end */

static void retire(void *arg) /* home */
{
    struct raid_array *a = arg;
    a->stopping = true;
    while (a->tasks)
        task_sleep_us(1000);
    if (a->started && !a->wipe)
        a->unclean_r = !raid_make_clean(a, true);
    while (a->tasks)
        task_sleep_us(1000);
    rtimer_free(&a->idle);
    if (a->bitmap)
        rtimer_free(&a->bitmap->timer);
}

static void wipe_supers(struct raid_array *a)
{
    static const uint8_t zeroes[MD_SUPER_SIZE];
    struct raid_member *m;
    list_for_each (m, &a->members, link) {
        int error = m->desc ? bdev_write(m->desc, MD_SUPER_OFFSET, zeroes, sizeof zeroes, BIO_FUA)
                            : -ENODEV;
        if (error)
            log_warn("raid", "array %s: the superblock of %s could not be erased: %s", a->bdev.name,
                     m->device, strerror(-error));
    }
}

static void free_members(struct list *members)
{
    struct list *e;
    while ((e = list_pop(members))) {
        struct raid_member *m = list_entry(e, struct raid_member, link);
        raid_member_close(m);
        raid_member_free(&m);
    }
}

void raid_array_free(struct raid_array **ap)
{
    struct raid_array *a = *ap;
    *ap = NULL;
    a->freeing = true;
    while (a->main_tasks)
        task_sleep_us(1000);
    raid_grace(); /* what the last I/O posted has arrived at home */
    task_call(a->home, retire, a);
    raid_grace(); /* and what home posted, there */
    if (a->unclean_r) {
        char object[80];
        raid_object(a, object);
        event_raise(object, "array-unclean", "stopped without being marked clean");
    }
    if (a->wipe)
        wipe_supers(a);
    free_members(&a->members);
    free_members(&a->gone);
    list_del(&a->link);
    a->level->teardown(a);
    plog_device_close(&a->log_device, a->wipe);
    raid_bitmap_free(&a->bitmap);
    pthread_mutex_destroy(&a->info_lock);
    free(a->own);
    free(a->chan);
    free(a);
}
