/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The null driver: reads give zeroes, writes vanish. It is the tutorial: the least a driver needs.
 * Copy this folder, rename it, and add what your device can do. See docs/drivers.md.
 */
#include "base/mem.h"
#include "drivers/drivers.h"

/* A device: the core's part comes first, a real driver adds its own state (an fd, a session) after
 * it. What is only touched on main needs no lock; what submit touches is seen by every reactor. */
struct null_dev {
    struct bdev bdev;
};

/* One request. The core has checked range, alignment and op, so there is nothing to check here.
 * This driver answers at once; others keep the bio and complete it later, on the same reactor. */
static void null_submit(struct bdev *bdev, struct bio *bio)
{
    (void)bdev;
    if (bio->op == BIO_READ)
        bio_fill_zero(bio, 0, bio->length);
    bio_complete(bio, 0);
}

/* Nobody uses the device any more: give everything back. */
static void null_destroy(struct bdev *bdev)
{
    struct null_dev *dev = container_of(bdev, struct null_dev, bdev);
    free(dev);
}

static const struct bdev_ops null_ops = {
    .type = "null",
    .submit = null_submit,
    .destroy = null_destroy,
};

/* What `device add --type null` takes, in REST, on the command line and in the reference page. */
static const struct opt null_opts[] = {
    DRIVER_GEOMETRY_OPTS,
    {.name = NULL},
};

/* Makes a device. It leaves nothing behind when it fails. */
static int null_create(const char *name, const struct uuid *uuid, const struct opts *opts,
                       struct bdev **bdev_r, struct err *e)
{
    struct null_dev *dev = xcalloc(1, sizeof *dev);
    driver_identity(&dev->bdev, name, uuid, &null_ops);
    /* Every op that is left out here is done by the core from these two, or refused. */
    dev->bdev.native = 1u << BIO_READ | 1u << BIO_WRITE;
    if (driver_geometry(&dev->bdev, opts, e) || bdev_register(&dev->bdev, e)) {
        free(dev);
        return -1;
    }
    *bdev_r = &dev->bdev;
    return 0;
}

const struct driver null_driver = {
    .name = "null",
    .help = "reads give zeroes, writes vanish",
    .opts = null_opts,
    .create = null_create,
};
