/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_TESTS_VOLUMES_POOLS_H
#define ORION_TESTS_VOLUMES_POOLS_H

#include "drivers/devices.h"
#include "drivers/fault/fault.h"

#include "volumes/lvm_disk.h"
#include "volumes/lvm_text.h"
#include "volumes/volumes.h"

/* Short ways to pools over memory devices. MiB are the unit: extents are 1 MiB, a device of N MiB
 * has N - 1 extents. */
#define MIB (1ull << 20)

static inline void ok(int rc, const struct err *e, const char *what)
{
    if (rc)
        fprintf(stderr, "%s: %s\n", what, e->msg);
    check(!rc);
}

static inline void mem(const char *name, unsigned mib)
{
    char options[40];
    snprintf(options, sizeof options, "size=%uM", mib);
    device(&mem_driver, name, options);
}

static inline int try_pool(const char *name, const char *a, const char *b, bool force,
                           struct err *e)
{
    const char *devices[] = {a, b};
    struct pool_create c = {.name = name,
                            .devices = devices,
                            .device_count = b ? 2 : 1,
                            .extent_size = MIB,
                            .force = force};
    return pool_create(&c, e);
}

static inline void make_pool(const char *name, const char *a, const char *b)
{
    struct err e = {0};
    ok(try_pool(name, a, b, false, &e), &e, "pool_create");
}

static inline void make_volume(const char *pool, const char *name, unsigned mib)
{
    struct err e = {0};
    ok(volume_create(pool, name, mib * MIB, &e), &e, "volume_create");
}

static inline void stop_pool(const char *name)
{
    struct err e = {0};
    ok(pool_stop(name, &e), &e, "pool_stop");
}

static inline void import_pool(const char *name)
{
    struct err e = {0};
    struct pool_import i = {.name = name};
    ok(pool_import(&i, &e), &e, "pool_import");
}

static inline struct pool_info pool_info_of(const char *name)
{
    struct pool_info info;
    check(pool_get(name, &info));
    return info;
}

static inline uint64_t size_of(const char *device)
{
    struct bdev_info info;
    check(bdev_name_info(device, &info));
    return info.size;
}

/* Each KiB of a volume gets a pattern of its own. */
static inline void fill(const char *volume, unsigned seed)
{
    struct bdev_desc *d = open_device(volume, CLAIM_SHARED_WRITE);
    uint8_t *buf = malloc(MIB);
    for (uint64_t at = 0; at < bdev_size(d); at += MIB) {
        fill_pattern(buf, MIB, seed + (unsigned)(at / MIB));
        check_int(bdev_write(d, at, buf, MIB, 0), 0);
    }
    free(buf);
    bdev_drain_close(&d);
}

static inline void expect_fill(const char *volume, unsigned seed, uint64_t length)
{
    struct bdev_desc *d = open_device(volume, CLAIM_READ);
    uint8_t *want = malloc(MIB), *got = malloc(MIB);
    for (uint64_t at = 0; at < length; at += MIB) {
        fill_pattern(want, MIB, seed + (unsigned)(at / MIB));
        check_int(bdev_read(d, at, got, MIB), 0);
        check(!memcmp(want, got, MIB));
    }
    free(want);
    free(got);
    bdev_drain_close(&d);
}

/* Makes `device` the only PV of a group as the text says, whatever it says (its pv0 must be
 * "KspJ2w..." of text.h). */
static inline void put_group(const char *device, const char *pv_id, const char *text)
{
    struct err e = {0};
    struct lvm_disk *d = calloc(1, sizeof *d);
    d->device = device;
    d->desc = open_device(device, CLAIM_EXCLUSIVE);
    d->label = (struct lvm_label){.sector = 1,
                                  .device_size = bdev_size(d->desc),
                                  .ext_flags = LVM_PV_USED,
                                  .data = {{MIB, 0}},
                                  .data_count = 1,
                                  .mda = {{4096, MIB - 4096}},
                                  .mda_count = 1};
    snprintf(d->label.pv_id, sizeof d->label.pv_id, "%s", pv_id);
    ok(lvm_disk_format(d, &e), &e, "format");
    ok(lvm_disk_commit(&d, 1, text, strlen(text) + 1, &e), &e, "commit");
    bdev_drain_close(&d->desc);
    free(d);
}

/* The text that stands on a device, or NULL. */
static inline char *read_text(const char *device)
{
    size_t size;
    struct lvm_disk *d = calloc(1, sizeof *d);
    d->device = device;
    d->desc = open_device(device, CLAIM_READ);
    char *text = lvm_disk_open(d, NULL) ? NULL : lvm_disk_text(d, 0, &size, NULL);
    bdev_drain_close(&d->desc);
    free(d);
    return text;
}

#endif
