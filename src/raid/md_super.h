/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_RAID_MD_SUPER_H
#define ORION_RAID_MD_SUPER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/uuid.h"

/*
 * The md superblock, version 1.2: 256 bytes and two a device, little endian, at byte 4096 of each
 * member. Field by field it is struct mdp_superblock_1 of <linux/raid/md_p.h>. All offsets and
 * sizes in it are sectors of 512 bytes.
 */
enum {
    MD_SECTOR = 512,
    MD_SUPER_OFFSET = 4096, /* bytes from the start of a member */
    MD_SUPER_SIZE = 4096,   /* the room it has, and what we write */
    MD_ROLES_MAX = (MD_SUPER_SIZE - 256) / 2,
    MD_NAME_MAX = 32,

    MD_ROLE_MAX = 0xff00, /* roles below are slots */
    MD_ROLE_JOURNAL = 0xfffd,
    MD_ROLE_FAULTY = 0xfffe,
    MD_ROLE_SPARE = 0xffff,

    MD_WRITE_MOSTLY = 1, /* devflags */
    MD_FAILFAST = 2,

    MD_RAID0_ORIGINAL = 1, /* layouts of raid0 with unequal members, as of Linux 5.4 */
    MD_RAID0_ALTERNATE = 2,

    MD_BAD_SECTORS_MAX = 8, /* of a list of bad blocks; Linux takes no more */
};

#define MD_CLEAN UINT64_MAX /* resync_offset: nothing to do */

/* How a superblock is written, and where it stands. All but 1.2 are only read: md_formats.c. */
enum md_format {
    MD_1_2,
    MD_1_1,  /* at the start */
    MD_1_0,  /* 8 to 12 KiB before the end */
    MD_0_90, /* 64 to 128 KiB before the end; 1024 words in the byte order of who made it */
    MD_FORMATS
};

struct md_super {
    /* the same on all members */
    uint32_t features; /* MD_FEATURE_* of md_p.h */
    struct uuid set_uuid;
    char set_name[MD_NAME_MAX + 1]; /* "HOST:NAME" */
    uint64_t ctime;                 /* low 40 bits seconds, high 24 microseconds */
    int32_t level;
    uint32_t layout;
    uint64_t size;  /* of a member's data that is used; 0 for raid0 */
    uint32_t chunk; /* 0 for raid1 */
    uint32_t raid_disks;
    int32_t bitmap_offset; /* from the superblock; with PPL two 16-bit fields */
    uint64_t utime;        /* like ctime */
    uint64_t events;
    uint64_t resync_offset; /* what lies before is in sync; MD_CLEAN; 0 while in use */
    uint32_t
        logical_block; /* bytes; 0 unless Linux >= 6.19 made it. Kernels <= 6.18 refuse others */
    uint32_t max_dev;  /* entries of role */
    /* a reshape, which we never run */
    int32_t new_level, delta_disks;
    uint32_t new_layout, new_chunk, new_offset;
    uint64_t reshape_position;
    /* of this member */
    uint64_t data_offset, data_size, super_offset;
    uint64_t recovery_offset; /* with feature bit 2: what lies before has been rebuilt */
    uint32_t dev_number;      /* index into role; stays the same for life */
    uint32_t corrected;       /* read errors that were repaired */
    struct uuid device_uuid;
    uint8_t devflags;
    uint8_t bblog_shift;
    uint16_t bblog_size;  /* sectors; 0 = no list of bad blocks */
    int32_t bblog_offset; /* from the superblock; 0 = no list */

    enum md_format format;
    uint16_t role[MD_ROLES_MAX]; /* by dev_number */
};

/*
 * Reads what stands at byte 4096 of a member, MD_SUPER_SIZE bytes. 0, or -1: ERR_NOT_FOUND when
 * that is no superblock of version 1, ERR_INVALID when it is a broken one (checksum, place, sizes),
 * ERR_UNSUPPORTED when it has something in former padding.
 */
int md_super_read(struct md_super *sb, const void *bytes, struct err *e);

/* The same of version 1 at another byte of the device. */
int md_super_read_at(struct md_super *sb, uint64_t place, const void *bytes, struct err *e);

/* The byte where a format has it on a device of so many bytes; UINT64_MAX: no room for it. */
uint64_t md_super_place(enum md_format format, uint64_t device_size);
/* md_super_read of a format; `bytes` stand at its place. */
int md_super_read_as(struct md_super *sb, enum md_format format, uint64_t place, const void *bytes,
                     struct err *e);
const char *md_format_name(enum md_format format); /* "0.90" */

/* Writes all MD_SUPER_SIZE bytes, of version 1, with the checksum. */
void md_super_write(const struct md_super *sb, void *bytes);

/*
 * Can we run a member of `device_size` bytes with this superblock? Refuses (ERR_UNSUPPORTED, the
 * message says what and by which road it is had) unknown feature bits, reshape, journal,
 * clusters, bad blocks of levels without redundancy, levels that are not built, and (ERR_INVALID)
 * geometry that cannot be true.
 */
int md_super_usable(const struct md_super *sb, uint64_t device_size, struct err *e);

/* Has it a place for a list of bad blocks? It is in force with MD_FEATURE_BAD_BLOCKS. */
bool md_super_keeps_bad(const struct md_super *sb, uint64_t device_size);

/* The role of this member by its own superblock: a slot, or MD_ROLE_*. */
unsigned md_super_role(const struct md_super *sb);

/* 64-bit time as in ctime and utime, now. */
uint64_t md_time_now(void);

const char *md_level_name(int32_t level); /* "raid1"; "unknown level" */
/* Any spelling: "raid1", "1", "mirror". False: no such level in md. */
bool md_level_parse(const char *text, int32_t *level_r);

/*
 * The data offset that mdadm chooses for a member of `device_sectors` (sectors, like chunk): room
 * for superblock, bitmap (4 KiB, 64 KiB above 8 GiB, 128 KiB above 200 GiB) and bad-block log,
 * about 0.1 % of headroom for a later reshape (at most 128 MiB), rounded up to 1 MiB.
 */
uint64_t md_data_offset(uint64_t device_sectors, uint32_t chunk);

/* The head of a write-intent bitmap (256 bytes, at bitmap_offset from the superblock). */
enum {
    MD_BITMAP_STALE = 2, /* of its state: it may not be believed */
    MD_BITMAP_HEAD = 256,
    MD_BITMAP_ROOM = 132 << 10 /* head and bits, at most */
};
struct md_bitmap {
    uint32_t version; /* 4 is what we take */
    struct uuid uuid;
    uint64_t events, events_cleared, sync_size;
    uint32_t state, chunk, daemon_sleep, write_behind; /* chunk in bytes, sleep in seconds */
    uint32_t reserved;                                 /* sectors kept for it, 0 = not said */
};
int md_bitmap_read(struct md_bitmap *b, const void *bytes, struct err *e);
/* Writes the head's MD_BITMAP_HEAD bytes. */
void md_bitmap_write(const struct md_bitmap *b, void *bytes);
/* Sectors that a new member of so many sectors keeps for it. */
uint64_t md_bitmap_room(uint64_t device_sectors);

#endif
