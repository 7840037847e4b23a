/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/mem.h"
#include "raid/raid_private.h"

static int erase_device(const char *device, struct err *e)
{
    static const uint8_t zeroes[MD_SUPER_SIZE];
    struct bdev_user user = {.label = "erasing a superblock"};
    struct bdev_desc *desc = bdev_open(device, CLAIM_EXCLUSIVE, &user, e);
    if (!desc)
        return -1;
    int error = bdev_write(desc, MD_SUPER_OFFSET, zeroes, sizeof zeroes, BIO_FUA);
    bdev_drain_close(&desc);
    if (error)
        return err_set(e, ERR_IO, "", "cannot erase the superblock of %s", device);
    return 0;
}

int raid_erase(const struct uuid *uuid, struct err *e)
{
    struct raid_candidate *list;
    unsigned n = raid_candidates(&list);
    int rc = 0;
    for (unsigned i = 0; i < n; i++)
        if (uuid_equal(&list[i].sb.set_uuid, uuid) && list[i].sb.format == MD_1_2 &&
            erase_device(list[i].device, rc ? NULL : e))
            rc = -1;
    free(list);
    return rc;
}
