/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_TESTS_RAID_ARRAYS_H
#define ORION_TESTS_RAID_ARRAYS_H

#include "../drivers/devices.h"

#include <errno.h>

#include "block/job.h"
#include "drivers/fault/fault.h"
#include "raid/md_super.h"
#include "raid/raid.h"

/* Members are fault devices "d0", "d1", ... on memory "m0", "m1", ... */
enum { DATA = 1 << 20 }; /* where data begins on a small member */

static inline const char *name_of(const char *kind, unsigned i)
{
    static char text[8][16];
    static unsigned turn;
    char *p = text[turn++ % 8];
    snprintf(p, 16, "%s%u", kind, i);
    return p;
}

static inline struct bdev *fault_dev(unsigned i)
{
    struct bdev *b = bdev_find(name_of("d", i));
    check(b);
    return b;
}

static inline void rules(unsigned i, const char *text)
{
    struct err e;
    check_int(fault_set_rules(fault_dev(i), text, &e), 0);
}

static inline void make_member(unsigned i, const char *size)
{
    char text[64];
    snprintf(text, sizeof text, "size=%s", size);
    device(&mem_driver, name_of("m", i), text);
    snprintf(text, sizeof text, "on=m%u", i);
    device(&fault_driver, name_of("d", i), text);
}

static inline void make_members(unsigned n, const char *size)
{
    for (unsigned i = 0; i < n; i++)
        make_member(i, size);
}

static inline void remove_members(unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        if (bdev_find(name_of("d", i)))
            remove_device(name_of("d", i));
        if (bdev_find(name_of("m", i)))
            remove_device(name_of("m", i));
    }
}

static inline int create(const char *level, unsigned n, bool assume_clean, struct err *e)
{
    const char *members[RAID_MEMBERS_MAX];
    for (unsigned i = 0; i < n; i++)
        members[i] = name_of("d", i);
    struct raid_create c = {.name = "a",
                            .level = level,
                            .members = members,
                            .member_count = n,
                            .homehost = "host",
                            .assume_clean = assume_clean,
                            .chunk = 64 << 10};
    return raid_create(&c, e);
}

static inline void must(int rc, const struct err *e)
{
    if (rc)
        fprintf(stderr, "unexpected: %s\n", e->msg);
    check_int(rc, 0);
}

static inline struct raid_info info_of(const char *name)
{
    struct raid_info info;
    check(raid_get(name, &info));
    return info;
}

static inline struct uuid only_uuid(void)
{
    struct raid_found *f;
    check_int(raid_scan(&f), 1);
    struct uuid u = f->uuid;
    free(f);
    return u;
}

static inline int assemble(bool degraded_ok, struct err *e)
{
    struct raid_assemble r = {.name = "a", .uuid = only_uuid(), .degraded_ok = degraded_ok};
    return raid_assemble(&r, e);
}

static inline struct md_super super_of(unsigned i)
{
    uint8_t bytes[MD_SUPER_SIZE];
    struct md_super sb;
    struct err e;
    struct bdev_desc *d = open_device(name_of("d", i), CLAIM_READ);
    check_int(bdev_read(d, MD_SUPER_OFFSET, bytes, sizeof bytes), 0);
    bdev_close(&d);
    must(md_super_read(&sb, bytes, &e), &e);
    return sb;
}

static inline void put_super(unsigned i, const struct md_super *sb)
{
    uint8_t bytes[MD_SUPER_SIZE];
    struct bdev_desc *d = open_device(name_of("d", i), CLAIM_EXCLUSIVE);
    md_super_write(sb, bytes);
    check_int(bdev_write(d, MD_SUPER_OFFSET, bytes, sizeof bytes, 0), 0);
    bdev_close(&d);
}

/* The members' data, when nobody has them open. */
static inline void member_data(unsigned i, uint64_t offset, void *out, size_t len)
{
    struct bdev_desc *d = open_device(name_of("d", i), CLAIM_READ);
    check_int(bdev_read(d, DATA + offset, out, len), 0);
    bdev_close(&d);
}

/* Does all of array "a" read as `want`? */
static inline bool array_holds(const uint8_t *want)
{
    static uint8_t back[1 << 20];
    struct bdev_desc *d = open_device("a", CLAIM_READ);
    uint64_t size = bdev_size(d);
    bool same = true;
    for (uint64_t at = 0; at < size; at += sizeof back) {
        size_t len = size - at < sizeof back ? size - at : sizeof back;
        check_int(bdev_read(d, at, back, len), 0);
        same = same && !memcmp(back, want + at, len);
    }
    bdev_close(&d);
    return same;
}

/* Idle for some looks in a row: what an addition or a failure sets off begins a moment later. */
static inline void wait_idle(void)
{
    unsigned idle = 0;
    for (unsigned i = 0; i < 12000; i++) {
        struct raid_info info = info_of("a");
        idle = info.sync == RAID_SYNC_IDLE && !info.sync_job ? idle + 1 : 0;
        if (idle == 6)
            return;
        task_sleep_us(5000);
    }
    check(!"the sync did not end");
}

static inline void wait_state(enum raid_state state)
{
    for (unsigned i = 0; i < 12000; i++) {
        if (info_of("a").state == state)
            return;
        task_sleep_us(5000);
    }
    check_int(info_of("a").state, state);
}

#endif
