/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "drivers/drivers.h"

#include <stdio.h>

int driver_geometry(struct bdev *bdev, const struct opts *opts, struct err *e)
{
    uint64_t size = opts_u64(opts, "size");
    uint64_t block = opts_u64(opts, "block_size");
    if (block < 512 || block > 4096 || (block & (block - 1)))
        return err_set(e, ERR_INVALID, "block_size",
                       "block_size is %llu; expected 512, 1024, 2048 or 4096",
                       (unsigned long long)block);
    if (size == 0 || size % block)
        return err_set(e, ERR_INVALID, "size",
                       "size is %llu bytes; expected a multiple of the block size, %llu",
                       (unsigned long long)size, (unsigned long long)block);
    bdev->size = size;
    bdev->block_size = (uint32_t)block;
    return 0;
}

void driver_identity(struct bdev *bdev, const char *name, const struct uuid *uuid,
                     const struct bdev_ops *ops)
{
    snprintf(bdev->name, sizeof bdev->name, "%s", name);
    bdev->uuid = uuid && !uuid_is_null(uuid) ? *uuid : uuid_random();
    bdev->ops = ops;
}
