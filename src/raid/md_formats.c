/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The older places and shapes of the md superblock. Version 1.0 and 1.1 differ from 1.2 by the
 * place only. 0.90 is struct mdp_superblock_s of <linux/raid/md_p.h>: words of 32 bits in the byte
 * order of who made it, sizes in KiB, at most 27 members, no name and nothing about where it
 * stands.
 */
#include <asm/types.h>
#include <linux/raid/md_p.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "raid/md_super.h"

const char *md_format_name(enum md_format format)
{
    static const char *const names[] = {"1.2", "1.1", "1.0", "0.90"};
    return names[format];
}

uint64_t md_super_place(enum md_format format, uint64_t device_size)
{
    enum { UNIT_090 = 64 << 10, SMALLEST = 256 << 10 };
    uint64_t sectors = device_size / MD_SECTOR;
    if (device_size < SMALLEST)
        return UINT64_MAX;
    switch (format) {
    case MD_1_1: return 0;
    case MD_1_0: return (sectors - 16) / 8 * 8 * MD_SECTOR;
    case MD_0_90: return device_size / UNIT_090 * UNIT_090 - UNIT_090;
    default: return MD_SUPER_OFFSET;
    }
}

/* ---- 0.90 */

enum {
    WORDS = MD_SUPER_SIZE / 4,
    DISKS_MAX = 27,
    /* by word */
    AT_MAJOR = 1,
    AT_MINOR = 2,
    AT_UUID = 5, /* its others are 13 to 15 */
    AT_CTIME = 6,
    AT_LEVEL = 7,
    AT_SIZE = 8,
    AT_RAID_DISKS = 10,
    AT_MD_MINOR = 11,
    AT_NOT_PERSISTENT = 12,
    AT_UUID_REST = 13,
    AT_UTIME = 32,
    AT_STATE = 33,
    AT_SUM = 38,
    AT_EVENTS = 39, /* 64 bits; behind it those of the checkpoint */
    AT_CHECKPOINT_EVENTS = 41,
    AT_CHECKPOINT = 43,
    AT_RESHAPE = 44, /* 64 bits; with minor version 91 */
    AT_NEW_LEVEL = 46,
    AT_DELTA = 47,
    AT_NEW_LAYOUT = 48,
    AT_NEW_CHUNK = 49,
    AT_LAYOUT = 64,
    AT_CHUNK = 65,
    AT_DISKS = 128,
    DISK_WORDS = 32, /* number, major, minor, role, state */
    AT_THIS = 992,
    RESHAPES = 91,
};

struct words {
    const uint8_t *p;
    bool big;
};

static uint32_t word(const struct words *w, unsigned i)
{
    struct rd r = rd_make(w->p + (size_t)i * 4, 4);
    return w->big ? rd_be32(&r) : rd_le32(&r);
}

static uint64_t word64(const struct words *w, unsigned i)
{
    struct rd r = rd_make(w->p + (size_t)i * 4, 8);
    return w->big ? rd_be64(&r) : rd_le64(&r);
}

static uint32_t sum_of(const struct words *w)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < WORDS; i++)
        sum += i == AT_SUM ? 0 : word(w, i);
    return (uint32_t)(sum & 0xffffffff) + (uint32_t)(sum >> 32);
}

static void read_uuid(struct md_super *sb, const struct words *w)
{
    struct wr u = wr_make(sb->set_uuid.b, sizeof sb->set_uuid.b);
    wr_be32(&u, word(w, AT_UUID));
    for (unsigned i = 0; i < 3; i++)
        wr_be32(&u, word(w, AT_UUID_REST + i));
}

static uint16_t role_of(const struct words *w, unsigned at)
{
    uint32_t state = word(w, at + 4), slot = word(w, at + 3);
    if (state & (1u << MD_DISK_FAULTY | 1u << MD_DISK_REMOVED))
        return MD_ROLE_FAULTY;
    return state & 1u << MD_DISK_SYNC && slot < DISKS_MAX ? (uint16_t)slot : MD_ROLE_SPARE;
}

static void read_array(struct md_super *sb, const struct words *w)
{
    uint32_t state = word(w, AT_STATE);
    read_uuid(sb, w);
    snprintf(sb->set_name, sizeof sb->set_name, "md%u", word(w, AT_MD_MINOR));
    sb->ctime = word(w, AT_CTIME);
    sb->utime = word(w, AT_UTIME);
    sb->level = (int32_t)word(w, AT_LEVEL);
    sb->layout = sb->level >= 4 ? word(w, AT_LAYOUT) : 0;
    sb->size = sb->level >= 1 ? (uint64_t)word(w, AT_SIZE) * 2 : 0;
    sb->chunk = sb->level == 1 ? 0 : word(w, AT_CHUNK) / MD_SECTOR;
    sb->raid_disks = word(w, AT_RAID_DISKS);
    sb->events = word64(w, AT_EVENTS);
    sb->resync_offset = MD_CLEAN;
    if (!(state & 1u << MD_SB_CLEAN))
        sb->resync_offset =
            word64(w, AT_CHECKPOINT_EVENTS) == sb->events ? word(w, AT_CHECKPOINT) : 0;
    if (state & 1u << MD_SB_CLUSTERED)
        sb->features |= MD_FEATURE_CLUSTERED;
    if (word(w, AT_MINOR) != RESHAPES)
        return;
    sb->features |= MD_FEATURE_RESHAPE_ACTIVE;
    sb->reshape_position = word64(w, AT_RESHAPE);
    sb->new_level = (int32_t)word(w, AT_NEW_LEVEL);
    sb->delta_disks = (int32_t)word(w, AT_DELTA);
    sb->new_layout = word(w, AT_NEW_LAYOUT);
    sb->new_chunk = word(w, AT_NEW_CHUNK) / MD_SECTOR;
}

static int read_090(struct md_super *sb, uint64_t place, const void *bytes, struct err *e)
{
    struct words w = {bytes, false};
    memset(sb, 0, sizeof *sb);
    w.big = word(&w, 0) != MD_SB_MAGIC;
    uint32_t minor = word(&w, AT_MINOR), have = sum_of(&w), want = word(&w, AT_SUM);
    if (word(&w, 0) != MD_SB_MAGIC || word(&w, AT_MAJOR) || (minor != 90 && minor != RESHAPES) ||
        word(&w, AT_NOT_PERSISTENT))
        return err_set(e, ERR_NOT_FOUND, "", "no md superblock of version 0.90");
    if (have != want)
        return err_set(e, ERR_INVALID, "",
                       "md superblock has checksum %08x, its contents give %08x", want, have);
    if (word(&w, AT_RAID_DISKS) > DISKS_MAX)
        return err_set(e, ERR_INVALID, "", "md superblock counts %u devices, at most %u fit",
                       word(&w, AT_RAID_DISKS), (unsigned)DISKS_MAX);
    read_array(sb, &w);
    sb->super_offset = sb->data_size = place / MD_SECTOR;
    sb->dev_number = word(&w, AT_THIS);
    sb->max_dev = DISKS_MAX;
    for (unsigned i = 0; i < DISKS_MAX; i++)
        sb->role[i] = role_of(&w, AT_DISKS + i * DISK_WORDS);
    if (word(&w, AT_THIS + 4) & 1u << MD_DISK_WRITEMOSTLY)
        sb->devflags = MD_WRITE_MOSTLY;
    return 0;
}

int md_super_read_as(struct md_super *sb, enum md_format format, uint64_t place, const void *bytes,
                     struct err *e)
{
    int rc =
        format == MD_0_90 ? read_090(sb, place, bytes, e) : md_super_read_at(sb, place, bytes, e);
    sb->format = format;
    return rc;
}
