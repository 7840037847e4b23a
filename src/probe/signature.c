/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "probe/probe.h"

#include <blkid/blkid.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/mem.h"
#include "reactor/iobuf.h"
#include "reactor/task.h"

/* libblkid reads from an fd. A device of ours has none, and may be an array that no kernel knows;
 * so its two ends, where every format that libblkid knows keeps a magic, are copied into a sparse
 * memory file of the same size, and that is probed. */

static const char *value(blkid_probe pr, const char *name)
{
    const char *v = NULL;
    size_t len = 0;
    return !blkid_probe_lookup_value(pr, name, &v, &len) && len > 1 ? v : NULL;
}

static void put(char *what, size_t size, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static void put(char *what, size_t size, const char *fmt, ...)
{
    size_t n = strlen(what);
    va_list ap;
    va_start(ap, fmt);
    if (n < size)
        vsnprintf(what + n, size - n, fmt, ap);
    va_end(ap);
}

static void describe(blkid_probe pr, char *what, size_t size)
{
    const char *table = value(pr, "PTTYPE"), *type = value(pr, "TYPE");
    const char *usage = value(pr, "USAGE"), *uuid = value(pr, "UUID");
    const char *label = value(pr, "LABEL");
    if (!type && !table)
        return;
    if (*what)
        put(what, size, "; ");
    if (!type) {
        put(what, size, "%s partition table", table);
        return;
    }
    put(what, size, "%s%s", type, usage && !strcmp(usage, "filesystem") ? " filesystem" : "");
    if (label)
        put(what, size, ", LABEL=%s", label);
    if (uuid)
        put(what, size, ", UUID=%s", uuid);
}

/* What libblkid does not know: the label of raid/plog.h. */
static void describe_own(int fd, char *what, size_t size)
{
    enum { LABEL_AT = 4096 };
    static const char magic[8] = "OrionLgD";
    char bytes[sizeof magic];
    if (pread(fd, bytes, sizeof bytes, LABEL_AT) == sizeof bytes &&
        !memcmp(bytes, magic, sizeof bytes))
        put(what, size, "%s%s", *what ? "; " : "", "log of a RAID array");
}

static blkid_probe make_probe(int fd, uint64_t bytes, unsigned block)
{
    blkid_probe pr = blkid_new_probe();
    if (!pr)
        return NULL;
    if (blkid_probe_set_device(pr, fd, 0, (blkid_loff_t)bytes)) {
        blkid_free_probe(pr);
        return NULL;
    }
    blkid_probe_set_sectorsize(pr, block);
    blkid_probe_enable_superblocks(pr, 1);
    /* A damaged superblock is somebody's data too. */
    blkid_probe_set_superblocks_flags(pr, BLKID_SUBLKS_TYPE | BLKID_SUBLKS_USAGE |
                                              BLKID_SUBLKS_LABEL | BLKID_SUBLKS_UUID |
                                              BLKID_SUBLKS_BADCSUM);
    blkid_probe_enable_partitions(pr, 1);
    return pr;
}

int probe_signature_fd(int fd, uint64_t bytes, unsigned block, char *what, size_t size,
                       struct err *e)
{
    *what = 0;
    blkid_probe pr = make_probe(fd, bytes, block);
    if (!pr)
        return err_set(e, ERR_IO, "", "libblkid cannot probe the device: %s", strerror(errno));
    int rc, found = 0;
    /* Each call ends at the next signature, so that all of them are named. */
    while (found < 16 && (rc = blkid_do_probe(pr)) == 0) {
        describe(pr, what, size);
        found++;
    }
    blkid_free_probe(pr);
    describe_own(fd, what, size);
    if (found < 16 && rc < 0)
        return err_set(e, ERR_IO, "", "libblkid failed on the device: %s", strerror(errno));
    return *what != 0;
}

struct window_probe {
    uint64_t bytes, tail_at;
    unsigned block;
    const uint8_t *head, *tail;
    size_t head_len, tail_len;
    char *what;
    size_t size;
    struct err *e;
    int rc;
};

static int put_window(int fd, const uint8_t *p, size_t len, uint64_t at)
{
    /* Zeroes stay holes: the memory file is as small as what is on the disk. */
    for (size_t i = 0; i < len; i += 4096) {
        size_t n = len - i < 4096 ? len - i : 4096;
        if (!memcmp(p + i, iobuf_zeroes(), n))
            continue;
        if (pwrite(fd, p + i, n, (off_t)(at + i)) != (ssize_t)n)
            return -1;
    }
    return 0;
}

static void probe_windows(void *arg)
{
    struct window_probe *w = arg;
    autoclose int fd = memfd_create("orion-probe", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (off_t)w->bytes) || put_window(fd, w->head, w->head_len, 0) ||
        put_window(fd, w->tail, w->tail_len, w->tail_at)) {
        w->rc = err_set(w->e, ERR_IO, "", "no memory file to probe the device with: %s",
                        strerror(errno));
        return;
    }
    w->rc = probe_signature_fd(fd, w->bytes, w->block, w->what, w->size, w->e);
}

/* In pieces that the pools have buffers for. */
static int read_range(struct bdev_desc *desc, uint64_t at, uint8_t *p, size_t len)
{
    int rc = 0;
    for (size_t i = 0, n; i < len && !rc; i += n) {
        n = len - i < 1 << 20 ? len - i : 1 << 20;
        rc = bdev_read(desc, at + i, p + i, n);
    }
    return rc;
}

int probe_signature(struct bdev_desc *desc, char *what, size_t size, struct err *e)
{
    struct window_probe w = {.bytes = bdev_size(desc),
                             .block = bdev_block_size(desc),
                             .what = what,
                             .size = size,
                             .e = e};
    *what = 0;
    w.head_len = w.bytes < PROBE_HEAD ? w.bytes : PROBE_HEAD;
    w.tail_len = w.bytes - w.head_len < PROBE_TAIL ? w.bytes - w.head_len : PROBE_TAIL;
    w.tail_at = w.bytes - w.tail_len;
    autofree uint8_t *buf = xcalloc(1, w.head_len + w.tail_len);
    int rc = read_range(desc, 0, buf, w.head_len);
    if (!rc)
        rc = read_range(desc, w.tail_at, buf + w.head_len, w.tail_len);
    if (rc)
        return err_set(e, ERR_IO, "", "%s cannot be read: %s", bdev_name(bdev_of(desc)),
                       strerror(-rc));
    w.head = buf;
    w.tail = buf + w.head_len;
    task_help(probe_windows, &w);
    return w.rc;
}
