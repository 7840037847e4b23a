/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The file driver: regular files and block nodes. open.c opens and claims, io.c does the requests.
 */
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "base/mem.h"
#include "block/event.h"
#include "drivers/drivers.h"
#include "drivers/file/file_private.h"
#include "reactor/task.h"

static struct file_dev *file_of(struct bdev *bdev)
{
    return container_of(bdev, struct file_dev, bdev);
}

static void file_free(struct file_dev *dev)
{
    free(dev->path);
    free(dev);
}

static void close_helper(void *arg)
{
    file_close(arg, false);
}

static void close_undo_helper(void *arg)
{
    file_close(arg, true);
}

static void file_destroy(struct bdev *bdev)
{
    struct file_dev *dev = file_of(bdev);
    task_help(close_helper, dev); /* the last close of a node writes back what is buffered */
    file_free(dev);
}

static void file_attrs(struct bdev *bdev, void (*fn)(const char *key, const char *value, void *arg),
                       void *arg)
{
    struct file_dev *dev = file_of(bdev);
    fn("path", dev->path, arg);
    fn("identity", dev->id.key, arg);
    if (*dev->id.by_id)
        fn("by_id", dev->id.by_id, arg);
    if (*dev->id.wwn)
        fn("wwn", dev->id.wwn, arg);
    if (*dev->id.serial)
        fn("serial", dev->id.serial, arg);
    if (*dev->id.partuuid)
        fn("partuuid", dev->id.partuuid, arg);
    if (dev->is_node) {
        char number[32];
        snprintf(number, sizeof number, "%u:%u", major(dev->node), minor(dev->node));
        fn("device_number", number, arg);
    }
    if (__atomic_load_n(&dev->shrunk, __ATOMIC_RELAXED))
        fn("shrunk", "true", arg);
    if (dev->tail) {
        char number[16];
        snprintf(number, sizeof number, "%u", dev->tail);
        fn("unserved_tail", number, arg);
    }
    fn("node", dev->is_node ? "true" : "false", arg);
    fn("direct", dev->direct ? "true" : "false", arg);
    fn("io", dev->rw_way == WAY_INLINE ? "inline" : "ring", arg);
}

static bool file_failed(const struct bdev *bdev, char *why, size_t size)
{
    const struct file_dev *dev = container_of(bdev, struct file_dev, bdev);
    bool shrunk = __atomic_load_n(&dev->shrunk, __ATOMIC_RELAXED);
    if (shrunk)
        snprintf(why, size, "device %s has failed: its file has become shorter", bdev->name);
    return shrunk;
}

struct look {
    struct file_dev *dev;
    uint64_t size;
};

static void look_helper(void *arg)
{
    struct look *l = arg;
    l->size = file_size_now(l->dev);
}

static bool file_refresh(struct bdev *bdev)
{
    struct look l = {.dev = file_of(bdev)};
    task_help(look_helper, &l);
    uint64_t size = l.size / bdev->block_size * bdev->block_size;
    if (!size)
        return false;
    if (size >= bdev->size)
        file_of(bdev)->tail = (uint32_t)(l.size - size);
    if (size != bdev->size) {
        char object[96];
        snprintf(object, sizeof object, "device %s", bdev->name);
        event_raise(object, "device-resized", "from %llu to %llu bytes",
                    (unsigned long long)bdev->size, (unsigned long long)size);
        bdev_set_size(bdev, size);
    }
    return true;
}

static const struct bdev_ops file_ops = {
    .type = "file",
    .submit = file_submit,
    .destroy = file_destroy,
    .refresh = file_refresh,
    .attrs = file_attrs,
    .failed = file_failed,
};

static const struct opt file_opts[] = {
    {.name = "path",
     .type = OPT_PATH,
     .flags = OPT_REQUIRED,
     .help = "regular file or block device"},
    {.name = "size",
     .type = OPT_SIZE,
     .min = 4096,
     .max = 1ull << 60,
     .help = "makes a missing file, sparse; an existing one must have it"},
    {.name = "buffered",
     .type = OPT_BOOL,
     .dflt = "false",
     .help = "go through the page cache instead of O_DIRECT"},
    {.name = "read_only", .type = OPT_BOOL, .dflt = "false", .help = "never write to it"},
    {.name = NULL},
};

struct open_help {
    struct file_dev *dev;
    uint64_t size;
    bool buffered;
    struct err *e;
    int rc;
};

static void open_helper(void *arg)
{
    struct open_help *h = arg;
    h->rc = file_open(h->dev, h->size, h->buffered, h->e);
}

static int file_create(const char *name, const struct uuid *uuid, const struct opts *opts,
                       struct bdev **bdev_r, struct err *e)
{
    struct file_dev *dev = xcalloc(1, sizeof *dev);
    driver_identity(&dev->bdev, name, uuid, &file_ops);
    dev->path = xstrdup(opts_str(opts, "path"));
    dev->bdev.read_only = opts_bool(opts, "read_only");
    struct open_help h = {
        .dev = dev,
        .size = opts_is_set(opts, "size") ? opts_u64(opts, "size") : 0,
        .buffered = opts_bool(opts, "buffered"),
        .e = e,
    };
    task_help(open_helper, &h);
    if (h.rc) {
        file_free(dev);
        return -1;
    }
    if (bdev_register(&dev->bdev, e)) {
        task_help(close_undo_helper, dev);
        file_free(dev);
        return -1;
    }
    *bdev_r = &dev->bdev;
    return 0;
}

const struct driver file_driver = {
    .name = "file",
    .help = "a regular file or a block device of this machine",
    .opts = file_opts,
    .create = file_create,
};
