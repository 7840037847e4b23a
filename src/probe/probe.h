/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_PROBE_PROBE_H
#define ORION_PROBE_PROBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "block/bdev.h"

/*
 * Who is on this disk: signatures, holders, identity, and copies of metadata areas before the first
 * write. Functions say whether they block (run them on a helper thread, see task_help) or want a
 * task.
 */

/* ---- signatures */

/*
 * In a task on any reactor, `desc` open for at least reading: what libblkid finds on the device, of
 * file systems, RAID and LVM members, crypto containers and partition tables. Reads the first
 * PROBE_HEAD and the last PROBE_TAIL bytes through bios. Returns 0 none, 1 found with *what like
 * "ext4 filesystem, LABEL=x, UUID=...; dos partition table", -1 with *e filled.
 */
enum {
    PROBE_HEAD = (4 << 20) + (64 << 10), /* LUKS2 has its second header at 4 MiB at most */
    PROBE_TAIL = 2 << 20,                /* md 0.90 and 1.0, firmware RAID, backup GPT */
};
int probe_signature(struct bdev_desc *desc, char *what, size_t size, struct err *e);

/* The same of an open file or node of `bytes` length with logical blocks of `block` bytes. Blocks.
 */
int probe_signature_fd(int fd, uint64_t bytes, unsigned block, char *what, size_t size,
                       struct err *e);

/* ---- disks in use by the running host; these block */

/* True when the running host uses the node: mounted, swap, a holder in sysfs (md, dm, bcache, ...),
 * on it or on a partition of it, or a holder of the whole disk that it is a partition of. *why says
 * by what: "/dev/sdb1 is mounted on /home". */
bool probe_node_in_use(dev_t node, char *why, size_t size);
/* The same of a regular file: swap, or the backing file of a loop device. */
bool probe_file_in_use(const char *path, char *why, size_t size);

/* ---- identity; these block */

/*
 * What stays the same when a path changes. `key` is what the state file keeps and compares:
 *   "wwn:..." "serial:..." "partuuid:..."   of a block node, the best it has, a partition's
 *                                            PARTUUID first; with ":part<N>" when only the disk
 *                                            has one
 *   "file:FSID:INODE"                       of a regular file, in hex
 *   ""                                      nothing (a loop device): only the path names it
 */
struct probe_identity {
    bool is_node;
    char key[160];
    char by_id[300]; /* /dev/disk/by-id/... of a node, or "" */
    char wwn[80], serial[80], partuuid[48];
};
/* -1 with *e filled only when the path cannot be looked at. */
int probe_identity(const char *path, struct probe_identity *id_r, struct err *e);
/* Looks for a node whose identity has this key: its path, by-id where there is one. False: none. */
bool probe_find(const char *key, char *path, size_t size);

/* ---- the machine's disks; blocks */

struct probe_disk {
    char path[64]; /* "/dev/sdb" */
    dev_t node;
    uint64_t size; /* bytes */
    bool read_only;
    struct probe_identity id;
    char signature[200]; /* what is on it, "" for nothing, "?" when it cannot be read */
    char in_use[200];    /* by what of the host, "" for nothing */
};
/* All disks and partitions that have a size, in order of their names; *list_r is malloc'ed. Reads,
 * and writes nothing. */
unsigned probe_disks(struct probe_disk **list_r);

/* ---- metadata areas */

/*
 * Writes `data`, which stands at `offset` of `device`, to a new file in the folder `dir` (made,
 * mode 0700), with fsync of both. The file is 4096 bytes of text header (device, offset, length,
 * CRC32C of the data, the dd command that puts the data back), then the data. Blocks. 0, or -1 with
 * *e filled.
 */
enum { PROBE_BACKUP_HEADER = 4096 };
int probe_backup_area(const char *dir, const char *device, uint64_t offset, const void *data,
                      uint64_t len, struct err *e);

struct probe_backup {
    char device[BDEV_NAME_MAX + 1];
    uint64_t offset, length; /* bytes */
    uint32_t crc;            /* crc32c(0, data) */
};
/* The header of such a file, `len` bytes of it. False: not one. */
bool probe_backup_parse(const void *header, size_t len, struct probe_backup *b_r);
/* Reads a whole file and checks it; *data_r is malloc'ed. Blocks. */
int probe_backup_read(const char *path, struct probe_backup *b_r, void **data_r, struct err *e);

#endif
