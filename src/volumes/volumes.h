/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_VOLUMES_VOLUMES_H
#define ORION_VOLUMES_VOLUMES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/uuid.h"

/*
 * Pools and volumes for control. A pool is an LVM2 volume group, a volume a logical volume; the
 * text on the disks is LVM2's. Called on main, in a task. A volume is a block device "POOL/VOL";
 * its bdev uuid derives from the LV's.
 */
enum { POOL_NAME_MAX = 32, POOL_DEVICES_MAX = 64 };

enum pool_state { POOL_ACTIVE, POOL_READ_ONLY, POOL_PARTIAL }; /* partial: a device is absent */

struct pool_device_info {
    char device[66]; /* "" when absent */
    char pv_uuid[40];
    uint64_t size, free;
    uint64_t gain; /* that pool_grow would take */
};

struct pool_info {
    char name[POOL_NAME_MAX + 1];
    char vg_uuid[40]; /* LVM's 32 characters with dashes */
    struct uuid uuid; /* the same 32 characters folded to 128 bits, for the state file */
    enum pool_state state;
    uint64_t seqno, extent_size, size, free; /* bytes */
    unsigned device_count, volume_count;
    struct pool_device_info device[POOL_DEVICES_MAX];
};

struct volume_info {
    char name[66]; /* "POOL/VOL" */
    char lv_uuid[40];
    struct uuid uuid;
    uint64_t size;
    char kind[16]; /* "linear" */
    bool active;   /* its device is registered */
    char why[160]; /* why not */
};

struct pool_create {
    const char *name;
    const char *const *devices;
    unsigned device_count;
    uint64_t extent_size; /* bytes, power of two >= 4 KiB... 0 = 4 MiB */
    bool force;           /* devices may carry signatures */
};
int pool_create(const struct pool_create *c, struct err *e);

struct pool_found {
    char name[POOL_NAME_MAX + 1];
    char vg_uuid[40];
    struct uuid uuid;
    unsigned devices, have;
    bool importable;
    char why[200];
};
unsigned pool_scan(struct pool_found **found_r); /* unclaimed devices; writes nothing */

struct pool_import {
    const char *name;        /* as on disk, or NULL when uuid is given */
    const struct uuid *uuid; /* or NULL */
    bool read_only, dry_run, force;
    bool own; /* set tag orion and autoactivation off if they are not (false at start-up) */
    char *would;
    unsigned would_size;
    int (*backup)(const char *device, uint64_t offset, const void *data, uint64_t len, void *arg);
    void *backup_arg;
};
int pool_import(const struct pool_import *i, struct err *e);
int pool_extend(const char *name, const char *const *devices, unsigned n, bool force,
                struct err *e);
/* Takes what the devices have gained. *changed_r: they had. ERR_INVALID when one is smaller than
 * the text says: a pool does not shrink. */
int pool_grow(const char *name, bool *changed_r, struct err *e);
int pool_stop(const char *name, struct err *e);
int pool_delete(const char *name, struct err *e); /* no volumes may be left; wipes the PV labels */
/* Of a pool that is not active: erases the PV labels that are left of it on devices nobody uses.
 * For a deletion that a crash cut short. */
int pool_erase(const struct uuid *uuid, struct err *e);
/* The same for a creation: erases the label of a device that nobody uses when it is a PV of no
 * group, or of a group of this name. */
int pool_erase_device(const char *device, const char *name, struct err *e);

int volume_create(const char *pool, const char *volume, uint64_t size, struct err *e);
int volume_resize(const char *pool, const char *volume, uint64_t size,
                  struct err *e); /* both ways */
int volume_delete(const char *pool, const char *volume, struct err *e);

bool pool_get(const char *name, struct pool_info *info_r);
void pool_for_each(void (*fn)(const struct pool_info *info, void *arg), void *arg);
bool volume_get(const char *name, struct volume_info *info_r); /* "POOL/VOL" */
void volume_for_each(const char *pool, void (*fn)(const struct volume_info *info, void *arg),
                     void *arg); /* pool NULL = all */
const char *pool_state_name(enum pool_state s);

#endif
