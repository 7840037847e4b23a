/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_DRIVERS_FILE_PRIVATE_H
#define ORION_DRIVERS_FILE_PRIVATE_H

#include "block/bdev_driver.h"
#include "probe/probe.h"

/* How an op gets to the kernel. */
enum file_way {
    WAY_RING,   /* io_uring: completes inline, asynchronously, or on one of its workers */
    WAY_INLINE, /* a plain system call: tmpfs and ramfs, which never wait */
};

struct file_dev {
    struct bdev bdev; /* read_only is in it */
    char *path;       /* absolute, as the user gave it */
    int fd;
    dev_t node; /* device number of a node */
    bool is_node, direct, created;
    bool in_memory;       /* tmpfs, ramfs: nothing to make durable */
    enum file_way rw_way; /* READ and WRITE */
    struct probe_identity id;

    /* Learnt from the first refusal by any reactor; atomic. The core falls back on -EOPNOTSUPP. */
    bool no_punch, no_zero_range;
    /* The file is shorter than the device: what was cut off is lost, and a write would only hide
     * that. All requests end in -ENODEV until it is opened anew. Set by any reactor; atomic. */
    bool shrunk;
    uint32_t
        tail; /* bytes at the end of the file that are no whole block, and so not served; main */
    bool fast_zero; /* zeroing costs no data writes: files, and nodes that say so */
};

/*
 * Opens, claims and measures the path into a zeroed file_dev whose path and bdev.read_only are set:
 * fills the rest and the geometry of bdev. `size` 0 = not given. Blocks: for a helper thread. -1
 * with *e filled; then nothing is left open, and a file that it made is gone.
 */
int file_open(struct file_dev *dev, uint64_t size, bool buffered, struct err *e);
/* Present size in bytes, 0 when a node has gone. Blocks. */
uint64_t file_size_now(const struct file_dev *dev);
/* Closes; `undo` also removes the file if file_open made it. Blocks. */
void file_close(struct file_dev *dev, bool undo);

void file_submit(struct bdev *bdev, struct bio *bio);

#endif
