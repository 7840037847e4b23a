/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_VOLUMES_PRIVATE_H
#define ORION_VOLUMES_PRIVATE_H

#include "block/bdev_driver.h"
#include "reactor/task.h"
#include "volumes/lvm_disk.h"
#include "volumes/lvm_text.h"
#include "volumes/volumes.h"

/*
 * A pool that runs. All of it belongs to main. Verbs hold `pools_lock` from begin to end, so that
 * only one changes pools at a time; `vg` is replaced as a whole after its text was committed, so
 * that whoever looks in between sees a state that is on the disks.
 */
struct pool_disk {
    struct lvm_disk d; /* opened CLAIM_EXCLUSIVE */
    char device[BDEV_NAME_MAX + 1];
    bool removing; /* the device is going: to be closed by a task that waits for the lock */
    bool resized;  /* it has another size: to be looked at by such a task */
};

struct pool {
    struct list link;
    char name[POOL_NAME_MAX + 1];
    struct lvm_vg *vg;
    struct lvm_proof *proof;                  /* of the last text that was written */
    struct pool_disk *disk[POOL_DEVICES_MAX]; /* by index in vg->pv; NULL = absent */
    struct list volumes;                      /* those with a device */
    bool read_only;
    char why[200]; /* why metadata cannot be changed, or "" */
};

void pools_lock(void);
void pools_unlock(void);
struct pool *pool_find(const char *name);  /* NULL: none */
struct pool *pool_find_id(const char *id); /* by the VG's */
int pool_find_or(const char *name, struct pool **pool_r, struct err *e);
/* Fails when the pool's metadata cannot be changed now. */
int pool_writable(const struct pool *pool, struct err *e);
void pool_add(struct pool *pool);
/* Closes the disks, gives the name back, frees. No volumes are left. */
void pool_drop(struct pool **pool);
uint64_t pool_extent(const struct pool *pool); /* bytes */

/* Writes *next with the following seqno to all disks and takes it as the pool's; on failure the
 * pool stays as it is. Either way *next is NULL afterwards. */
int pool_commit(struct pool *pool, struct lvm_vg **next, const char *description, struct err *e);

/* Bytes that device `i` has gained and a growth of the pool would take. */
uint64_t pool_gain(const struct pool *pool, unsigned i);

/* Opens a device for a pool. The error names the user of it. */
struct pool_disk *pool_disk_open(const char *device, const char *pool, struct err *e);
void pool_disk_close(struct pool_disk **disk);
/* The devices that nobody uses and that may carry a pool; malloc'ed. */
unsigned pool_free_devices(char (**names_r)[BDEV_NAME_MAX + 1]);

/* ---- volume.c: the devices of LVs */
struct vmap;
struct volume {
    struct bdev bdev;
    struct list link;
    struct pool *pool;
    struct vmap *map; /* changes only while the device is quiesced */
};

/* True when the LV cannot have a device, and why. */
bool volume_inactive(const struct pool *pool, const struct lvm_lv *lv, char *why, size_t size);
int volume_start(struct pool *pool, const struct lvm_lv *lv, bool known_zero, struct err *e);
/* Starts all that can be; warns of the others. */
void volume_start_all(struct pool *pool);
/* After the pool got a device: what volumes promise must hold there too, for they may grow onto it.
 */
void volume_refresh(struct pool *pool);
/* Waits until all users are gone. */
void volume_stop(struct volume *v);
struct volume *volume_find(const struct pool *pool, const char *lv); /* NULL: no device */
bool volume_stands_on(const struct volume *v, const struct bdev_desc *desc);
/* The mapping of the LV as it is now; holds I/O for a moment. */
void volume_remap(struct volume *v, const struct lvm_lv *lv);
const char *volume_kind(const struct lvm_lv *lv);

#endif
