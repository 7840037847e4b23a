/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_VOLUMES_LVM_DISK_H
#define ORION_VOLUMES_LVM_DISK_H

#include "block/bdev.h"
#include "volumes/lvm_label.h"

/*
 * LVM2's metadata on open devices: reading it, making a PV, and the commit that survives a power
 * cut at any write. Everything here runs in a task and waits for I/O. Reads and writes of sectors
 * smaller than the device's block read the block around them first.
 */
struct lvm_disk {
    struct bdev_desc *desc;
    const char *device; /* for messages */
    struct lvm_label label;
    struct lvm_mda mda[LVM_AREAS_MAX]; /* as label.mda */
    bool mda_ok[LVM_AREAS_MAX];        /* its header is sound and it is in use */
    bool mda_bad[LVM_AREAS_MAX];       /* its header is not sound */
};

/* Any offset and length within the device. 0, or ERR_IO naming the device. */
int lvm_disk_read(struct bdev_desc *desc, const char *device, uint64_t offset, void *buf,
                  size_t len, struct err *e);
int lvm_disk_write(struct bdev_desc *desc, const char *device, uint64_t offset, const void *buf,
                   size_t len, struct err *e);

/* Reads the label and the headers of the metadata areas into *d (desc and device are set by the
 * caller). ERR_NOT_FOUND: not a PV. A bad metadata area only has its mda_ok unset. */
int lvm_disk_open(struct lvm_disk *d, struct err *e);

/* The committed text of metadata area `i`, its checksum compared; malloc'ed. NULL with
 * ERR_NOT_FOUND when the area is empty (a PV in no group), ERR_INVALID or ERR_IO when it cannot be
 * used. */
char *lvm_disk_text(const struct lvm_disk *d, unsigned i, size_t *size_r, struct err *e);

/*
 * Makes a device a PV with the label's fields and an empty metadata area: erases the first MiB and
 * the last one, so that nothing else recognises the device any more, then writes the metadata
 * area's header, flushes, then the label, flushes.
 */
int lvm_disk_format(struct lvm_disk *d, struct err *e);
/* Writes the size that the device has now into its label, durable; all else there stays byte for
 * byte. */
int lvm_disk_resize(struct lvm_disk *d, struct err *e);
/* Erases label and metadata headers; the device is no PV any more. Goes on after an error. */
int lvm_disk_wipe(struct lvm_disk *d, struct err *e);

/*
 * LVM's two-step commit of one text to all metadata areas of all disks (NULL entries are skipped):
 * the text behind the old one everywhere, flush; the precommitted slot everywhere, flush; the
 * committed slot everywhere, flush. Up to the first write of the third step nothing has changed for
 * a reader, and an error puts the precommitted slots back. From there on the new text counts: an
 * area that cannot be written then only has its mda_ok unset and is named in a warning; -1 when no
 * area at all took it.
 */
int lvm_disk_commit(struct lvm_disk *const *disks, unsigned n, const char *text, size_t size,
                    struct err *e);

#endif
