/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "volumes/lvm_disk.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"

enum { ERASE = 1 << 20 };

static int io_error(struct err *e, const char *device, const char *verb, int error)
{
    return err_set(e, ERR_IO, "", "device %s: cannot %s: %s", device, verb, strerror(-error));
}

/* The blocks around [offset, offset + len). */
static struct lvm_area around(struct bdev_desc *desc, uint64_t offset, size_t len)
{
    uint64_t block = bdev_block_size(desc);
    struct lvm_area a = {.offset = offset - offset % block};
    uint64_t end = offset + len;
    a.size = (end + block - 1) / block * block - a.offset;
    return a;
}

int lvm_disk_read(struct bdev_desc *desc, const char *device, uint64_t offset, void *buf,
                  size_t len, struct err *e)
{
    struct lvm_area a = around(desc, offset, len);
    if (a.offset > bdev_size(desc) || a.size > bdev_size(desc) - a.offset)
        return err_set(e, ERR_INVALID, "", "device %s: its metadata lies behind its end", device);
    if (a.size == len) {
        int rc = bdev_read(desc, offset, buf, len);
        return rc ? io_error(e, device, "read", rc) : 0;
    }
    autofree char *whole = xcalloc(1, a.size);
    int rc = bdev_read(desc, a.offset, whole, a.size);
    if (rc)
        return io_error(e, device, "read", rc);
    memcpy(buf, whole + (offset - a.offset), len);
    return 0;
}

int lvm_disk_write(struct bdev_desc *desc, const char *device, uint64_t offset, const void *buf,
                   size_t len, struct err *e)
{
    struct lvm_area a = around(desc, offset, len);
    int rc;
    if (a.size == len) {
        rc = bdev_write(desc, offset, buf, len, 0);
    } else {
        autofree char *whole = xcalloc(1, a.size);
        rc = bdev_read(desc, a.offset, whole, a.size);
        memcpy(whole + (offset - a.offset), buf, len);
        if (!rc)
            rc = bdev_write(desc, a.offset, whole, a.size, 0);
    }
    return rc ? io_error(e, device, "write", rc) : 0;
}

static int flush(struct lvm_disk *d, struct err *e)
{
    int rc = bdev_flush(d->desc);
    return rc ? io_error(e, d->device, "flush", rc) : 0;
}

int lvm_disk_open(struct lvm_disk *d, struct err *e)
{
    uint8_t head[LVM_LABEL_SCAN];
    if (bdev_size(d->desc) < sizeof head)
        return err_set(e, ERR_NOT_FOUND, "", "device %s is too small for an LVM label", d->device);
    if (lvm_disk_read(d->desc, d->device, 0, head, sizeof head, e))
        return -1;
    if (lvm_label_parse(head, sizeof head, &d->label, e))
        return err_prefix(e, "device %s", d->device);
    for (unsigned i = 0; i < d->label.mda_count; i++) {
        const struct lvm_area *a = &d->label.mda[i];
        uint8_t header[LVM_MDA_HEADER];
        d->mda_ok[i] = d->mda_bad[i] = false;
        uint64_t end;
        /* Why an area is bad is of no use to anyone: it is made anew when the group is written. */
        if (__builtin_add_overflow(a->offset, a->size, &end) || end > bdev_size(d->desc))
            d->mda_bad[i] = true;
        else if (!lvm_disk_read(d->desc, d->device, a->offset, header, sizeof header, NULL) &&
                 !lvm_mda_parse(header, a->offset, a->size, &d->mda[i], NULL))
            d->mda_ok[i] = !lvm_mda_ignored(&d->mda[i]);
        else
            d->mda_bad[i] = true;
    }
    return 0;
}

char *lvm_disk_text(const struct lvm_disk *d, unsigned i, size_t *size_r, struct err *e)
{
    const struct lvm_locn *at = &d->mda[i].slot[0];
    if (!d->mda_ok[i] || !at->size) {
        err_set(e, ERR_NOT_FOUND, "", "device %s: metadata area %u has no text", d->device, i);
        return NULL;
    }
    if (at->size > LVM_TEXT_MAX) {
        err_set(e, ERR_INVALID, "", "device %s: a metadata text of %llu bytes, the limit is %d",
                d->device, (unsigned long long)at->size, LVM_TEXT_MAX);
        return NULL;
    }
    char *text = xcalloc(1, at->size);
    struct lvm_area range[2];
    unsigned n = lvm_mda_ranges(&d->mda[i], at->offset, at->size, range);
    size_t got = 0;
    for (unsigned r = 0; r < n; got += range[r++].size) {
        if (lvm_disk_read(d->desc, d->device, range[r].offset, text + got, range[r].size, e)) {
            free(text);
            return NULL;
        }
    }
    if (lvm_crc(text, at->size) != at->crc) {
        err_set(e, ERR_INVALID, "", "device %s: the metadata text's checksum is wrong", d->device);
        free(text);
        return NULL;
    }
    *size_r = at->size;
    return text;
}

static int write_header(struct lvm_disk *d, const struct lvm_mda *m, struct err *e)
{
    uint8_t header[LVM_MDA_HEADER];
    lvm_mda_build(m, header);
    return lvm_disk_write(d->desc, d->device, m->start, header, sizeof header, e);
}

int lvm_disk_format(struct lvm_disk *d, struct err *e)
{
    uint64_t size = bdev_size(d->desc);
    assert(size >= 2 * ERASE);
    autofree uint8_t *zero = xcalloc(1, ERASE);
    if (lvm_disk_write(d->desc, d->device, 0, zero, ERASE, e) ||
        lvm_disk_write(d->desc, d->device, size - ERASE, zero, ERASE, e))
        return -1;
    assert(d->label.mda_count == 1);
    d->mda[0] = (struct lvm_mda){.start = d->label.mda[0].offset, .size = d->label.mda[0].size};
    d->mda_ok[0] = true;
    if (write_header(d, &d->mda[0], e) || flush(d, e))
        return -1;
    uint8_t sector[LVM_SECTOR];
    lvm_label_build(&d->label, sector);
    uint64_t at = (uint64_t)d->label.sector * LVM_SECTOR;
    return lvm_disk_write(d->desc, d->device, at, sector, sizeof sector, e) || flush(d, e) ? -1 : 0;
}

int lvm_disk_resize(struct lvm_disk *d, struct err *e)
{
    uint8_t sector[LVM_SECTOR];
    uint64_t at = (uint64_t)d->label.sector * LVM_SECTOR, size = bdev_size(d->desc);
    if (lvm_disk_read(d->desc, d->device, at, sector, sizeof sector, e))
        return -1;
    if (lvm_label_resize(sector, d->label.sector, d->label.pv_id, size, e))
        return err_prefix(e, "device %s", d->device);
    if (lvm_disk_write(d->desc, d->device, at, sector, sizeof sector, e) || flush(d, e))
        return -1;
    d->label.device_size = size;
    return 0;
}

int lvm_disk_wipe(struct lvm_disk *d, struct err *e)
{
    static const uint8_t zero[LVM_LABEL_SCAN];
    int result = 0;
    struct err first;
    /* The label first: without it nobody looks for the rest. */
    if (lvm_disk_write(d->desc, d->device, 0, zero, LVM_LABEL_SCAN, &first))
        result = -1;
    for (unsigned i = 0; i < d->label.mda_count; i++)
        if (lvm_disk_write(d->desc, d->device, d->label.mda[i].offset, zero, LVM_MDA_HEADER,
                           result ? NULL : &first))
            result = -1;
    if (flush(d, result ? NULL : &first))
        result = -1;
    if (result && e)
        *e = first;
    return result;
}

/* ---- the commit */
struct commit {
    struct lvm_disk *const *disks;
    unsigned n;
    const char *text;
    size_t size;
    struct lvm_locn locn[64][LVM_AREAS_MAX]; /* where the new text is */
};

#define for_each_mda(c, d, i, m)                                                       \
    for (unsigned d = 0; d < (c)->n; d++)                                              \
        for (unsigned m = 0; (c)->disks[d] && m < (c)->disks[d]->label.mda_count; m++) \
            if ((i = (c)->disks[d])->mda_ok[m])

static int flush_all(struct commit *c, struct err *e)
{
    for (unsigned d = 0; d < c->n; d++)
        if (c->disks[d] && flush(c->disks[d], e))
            return -1;
    return 0;
}

static int write_text(struct commit *c, struct lvm_disk *disk, unsigned m, struct lvm_locn *locn,
                      struct err *e)
{
    struct lvm_area range[2];
    *locn = (struct lvm_locn){.size = c->size, .crc = lvm_crc(c->text, c->size)};
    if (lvm_mda_place(&disk->mda[m], c->size, &locn->offset, e))
        return err_prefix(e, "device %s", disk->device);
    unsigned n = lvm_mda_ranges(&disk->mda[m], locn->offset, c->size, range);
    size_t done = 0;
    for (unsigned r = 0; r < n; done += range[r++].size) {
        /* Zeroes up to the next sector, as LVM does: what stood there is half a text. */
        size_t full = (range[r].size + LVM_SECTOR - 1) / LVM_SECTOR * LVM_SECTOR;
        autofree char *piece = xcalloc(1, full);
        memcpy(piece, c->text + done, range[r].size);
        if (lvm_disk_write(disk->desc, disk->device, range[r].offset, piece, full, e))
            return -1;
    }
    return 0;
}

static int write_slot(struct lvm_disk *disk, unsigned m, unsigned slot, const struct lvm_locn *locn,
                      struct err *e)
{
    struct lvm_mda next = disk->mda[m];
    if (slot == 0)
        next.slot[0] = *locn;
    next.slot[1] = slot == 1 ? *locn : (struct lvm_locn){0};
    return write_header(disk, &next, e);
}

/* Step two failed or was not reached: the old text goes on to count; clear slot 1 where it was set.
 */
static void revert(struct commit *c)
{
    struct lvm_disk *disk;
    static const struct lvm_locn none;
    for_each_mda(c, d, disk, m) if (write_slot(disk, m, 1, &none, NULL))
        log_warn("volumes", "device %s: the precommitted slot stays set", disk->device);
    flush_all(c, NULL);
}

static int precommit(struct commit *c, struct err *e)
{
    struct lvm_disk *disk;
    unsigned areas = 0;
    for_each_mda(c, d, disk, m)
    {
        areas++;
        if (write_text(c, disk, m, &c->locn[d][m], e))
            return -1;
    }
    if (!areas)
        return err_set(e, ERR_IO, "", "no device has a usable metadata area");
    if (flush_all(c, e))
        return -1;
    int rc = 0;
    for_each_mda(c, d, disk, m) if (!rc) rc = write_slot(disk, m, 1, &c->locn[d][m], e);
    if (!rc)
        rc = flush_all(c, e);
    if (rc)
        revert(c);
    return rc;
}

int lvm_disk_commit(struct lvm_disk *const *disks, unsigned n, const char *text, size_t size,
                    struct err *e)
{
    struct commit *c = xcalloc(1, sizeof *c);
    *c = (struct commit){.disks = disks, .n = n, .text = text, .size = size};
    assert(n <= sizeof c->locn / sizeof *c->locn);
    if (precommit(c, e)) {
        free(c);
        return -1;
    }
    struct lvm_disk *disk;
    unsigned took = 0;
    for_each_mda(c, d, disk, m)
    {
        struct err why;
        if (!write_slot(disk, m, 0, &c->locn[d][m], &why) && !flush(disk, &why)) {
            disk->mda[m].slot[0] = c->locn[d][m];
            memset(&disk->mda[m].slot[1], 0, sizeof disk->mda[m].slot[1]);
            took++;
            continue;
        }
        /* Its header may be the old or the new one: it is not written again until it is read anew.
         */
        disk->mda_ok[m] = false;
        log_warn("volumes", "metadata area %u is out of use: %s", m, why.msg);
        if (e)
            *e = why;
    }
    free(c);
    return took ? 0 : -1;
}
