/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "raid/md_super.h"

#include <asm/types.h>
#include <linux/raid/md_p.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/buf.h"
#include "raid/parity.h"
#include "raid/raid10.h"

enum {
    HEAD = 256,
    AT_CHECKSUM = 216,
    PAD3 = 28, /* bytes 228 to 255; 224 is logical_block */
    BITMAP_MAGIC = 0x6d746962,
    BAD_SHIFT_MAX = 11, /* of bblog_shift */
};

/* Words of 32 bits added up, the carry folded in once; the checksum's own word counts as 0. An odd
 * number of roles leaves half a word. */
static uint32_t checksum(const uint8_t *p, uint32_t max_dev)
{
    size_t len = HEAD + 2 * (size_t)max_dev;
    struct rd r = rd_make(p, len);
    uint64_t sum = 0;
    while (rd_left(&r) >= 4) {
        size_t at = r.pos;
        uint32_t v = rd_le32(&r);
        sum += at == AT_CHECKSUM ? 0 : v;
    }
    if (rd_left(&r))
        sum += rd_le16(&r);
    return (uint32_t)(sum & 0xffffffff) + (uint32_t)(sum >> 32);
}

static bool all_zero(const uint8_t *p, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (p[i])
            return false;
    return true;
}

/* ---- reading, in the order of the structure */

static void read_array(struct md_super *sb, struct rd *r)
{
    rd_copy(r, sb->set_uuid.b, 16);
    rd_copy(r, sb->set_name, MD_NAME_MAX);
    sb->set_name[MD_NAME_MAX] = 0;
    sb->ctime = rd_le64(r);
    sb->level = (int32_t)rd_le32(r);
    sb->layout = rd_le32(r);
    sb->size = rd_le64(r);
    sb->chunk = rd_le32(r);
    sb->raid_disks = rd_le32(r);
    sb->bitmap_offset = (int32_t)rd_le32(r);
    sb->new_level = (int32_t)rd_le32(r);
    sb->reshape_position = rd_le64(r);
    sb->delta_disks = (int32_t)rd_le32(r);
    sb->new_layout = rd_le32(r);
    sb->new_chunk = rd_le32(r);
    sb->new_offset = rd_le32(r);
}

static void read_member(struct md_super *sb, struct rd *r)
{
    sb->data_offset = rd_le64(r);
    sb->data_size = rd_le64(r);
    sb->super_offset = rd_le64(r);
    sb->recovery_offset = rd_le64(r);
    sb->dev_number = rd_le32(r);
    sb->corrected = rd_le32(r);
    rd_copy(r, sb->device_uuid.b, 16);
    sb->devflags = rd_u8(r);
    sb->bblog_shift = rd_u8(r);
    sb->bblog_size = rd_le16(r);
    sb->bblog_offset = (int32_t)rd_le32(r);
}

static void read_state(struct md_super *sb, struct rd *r)
{
    sb->utime = rd_le64(r);
    sb->events = rd_le64(r);
    sb->resync_offset = rd_le64(r);
    rd_skip(r, 4); /* checksum */
    sb->max_dev = rd_le32(r);
    sb->logical_block = rd_le32(r);
}

static int check_frame(const struct md_super *sb, const uint8_t *bytes, uint64_t place,
                       struct err *e)
{
    struct rd r = rd_make(bytes + AT_CHECKSUM, 4);
    uint32_t want = rd_le32(&r), have;
    if (sb->max_dev > MD_ROLES_MAX)
        return err_set(e, ERR_INVALID, "", "md superblock counts %u devices, at most %u fit",
                       sb->max_dev, (unsigned)MD_ROLES_MAX);
    have = checksum(bytes, sb->max_dev);
    if (have != want)
        return err_set(e, ERR_INVALID, "",
                       "md superblock has checksum %08x, its contents give %08x", want, have);
    if (sb->super_offset != place / MD_SECTOR)
        return err_set(e, ERR_INVALID, "",
                       "md superblock says that it stands at sector %llu, it stands at sector %llu",
                       (unsigned long long)sb->super_offset,
                       (unsigned long long)(place / MD_SECTOR));
    if (!all_zero(bytes + 12, 4) || !all_zero(bytes + HEAD - PAD3, PAD3))
        return err_set(e, ERR_UNSUPPORTED, "",
                       "md superblock uses bytes that are unused in all that we know: a newer "
                       "format");
    return 0;
}

int md_super_read(struct md_super *sb, const void *bytes, struct err *e)
{
    return md_super_read_at(sb, MD_SUPER_OFFSET, bytes, e);
}

int md_super_read_at(struct md_super *sb, uint64_t place, const void *bytes, struct err *e)
{
    struct rd r = rd_make(bytes, MD_SUPER_SIZE);
    uint32_t magic = rd_le32(&r), major = rd_le32(&r);
    memset(sb, 0, sizeof *sb);
    if (magic != MD_SB_MAGIC || major != 1)
        return err_set(e, ERR_NOT_FOUND, "", "no md superblock of version 1");
    sb->features = rd_le32(&r);
    rd_skip(&r, 4);
    read_array(sb, &r);
    read_member(sb, &r);
    read_state(sb, &r);
    if (check_frame(sb, bytes, place, e))
        return -1;
    rd_seek(&r, HEAD);
    for (uint32_t i = 0; i < sb->max_dev; i++)
        sb->role[i] = rd_le16(&r);
    return 0;
}

void md_super_write(const struct md_super *sb, void *bytes)
{
    struct wr w = wr_make(bytes, MD_SUPER_SIZE);
    memset(bytes, 0, MD_SUPER_SIZE);
    wr_le32(&w, MD_SB_MAGIC);
    wr_le32(&w, 1);
    wr_le32(&w, sb->features);
    wr_le32(&w, 0);
    wr_copy(&w, sb->set_uuid.b, 16);
    wr_copy(&w, sb->set_name, MD_NAME_MAX);
    wr_le64(&w, sb->ctime);
    wr_le32(&w, (uint32_t)sb->level);
    wr_le32(&w, sb->layout);
    wr_le64(&w, sb->size);
    wr_le32(&w, sb->chunk);
    wr_le32(&w, sb->raid_disks);
    wr_le32(&w, (uint32_t)sb->bitmap_offset);
    wr_le32(&w, (uint32_t)sb->new_level);
    wr_le64(&w, sb->reshape_position);
    wr_le32(&w, (uint32_t)sb->delta_disks);
    wr_le32(&w, sb->new_layout);
    wr_le32(&w, sb->new_chunk);
    wr_le32(&w, sb->new_offset);
    wr_le64(&w, sb->data_offset);
    wr_le64(&w, sb->data_size);
    wr_le64(&w, sb->super_offset);
    wr_le64(&w, sb->recovery_offset);
    wr_le32(&w, sb->dev_number);
    wr_le32(&w, sb->corrected);
    wr_copy(&w, sb->device_uuid.b, 16);
    wr_u8(&w, sb->devflags);
    wr_u8(&w, sb->bblog_shift);
    wr_le16(&w, sb->bblog_size);
    wr_le32(&w, (uint32_t)sb->bblog_offset);
    wr_le64(&w, sb->utime);
    wr_le64(&w, sb->events);
    wr_le64(&w, sb->resync_offset);
    wr_le32(&w, 0); /* checksum, below */
    wr_le32(&w, sb->max_dev);
    wr_le32(&w, sb->logical_block);
    wr_zero(&w, PAD3);
    for (uint32_t i = 0; i < sb->max_dev && i < MD_ROLES_MAX; i++)
        wr_le16(&w, sb->role[i]);

    struct wr sum = wr_make((uint8_t *)bytes + AT_CHECKSUM, 4);
    wr_le32(&sum, checksum(bytes, sb->max_dev));
}

/* ---- judging */

static const struct {
    uint32_t bit;
    const char *what;
} refused[] = {
    {MD_FEATURE_CLUSTERED, "belongs to a clustered array, which other hosts may be using"},
    {MD_FEATURE_JOURNAL, "belongs to an array with a journal device"},
};

/* Two geometries, of what lies before reshape_position and behind it: who changes one of them in
 * the other's place loses data. The count of members on disk is the larger one. */
static int refuse_reshape(const struct md_super *sb, struct err *e)
{
    int64_t old = sb->raid_disks, new = old + sb->delta_disks;
    if (sb->delta_disks > 0) {
        new = old;
        old -= sb->delta_disks;
    }
    return err_set(e, ERR_UNSUPPORTED, "",
                   "the array is being reshaped from %s of %lld to %s of %lld members and has come "
                   "to sector %llu: let Linux finish it (mdadm --assemble, then --wait)",
                   md_level_name(sb->level), (long long)old, md_level_name(sb->new_level),
                   (long long)new, (unsigned long long)sb->reshape_position);
}

static int check_features(const struct md_super *sb, struct err *e)
{
    uint32_t unknown = sb->features & ~(uint32_t)MD_FEATURE_ALL;
    if (unknown)
        return err_set(e, ERR_UNSUPPORTED, "",
                       "the md superblock has feature bits 0x%x, which this version does not know",
                       unknown);
    if (sb->features &
        (MD_FEATURE_RESHAPE_ACTIVE | MD_FEATURE_RESHAPE_BACKWARDS | MD_FEATURE_NEW_OFFSET))
        return refuse_reshape(sb, e);
    if (sb->format != MD_1_2 && sb->features & MD_FEATURE_BAD_BLOCKS)
        return err_set(e, ERR_UNSUPPORTED, "",
                       "the device has a list of bad blocks that is not empty, and a superblock of "
                       "version %s",
                       md_format_name(sb->format));
    for (unsigned i = 0; i < sizeof refused / sizeof *refused; i++)
        if (sb->features & refused[i].bit)
            return err_set(e, ERR_UNSUPPORTED, "", "the device %s", refused[i].what);
    if (sb->features & (MD_FEATURE_PPL | MD_FEATURE_MULTIPLE_PPLS) &&
        (sb->level != 5 || sb->features & MD_FEATURE_BITMAP_OFFSET || sb->format != MD_1_2))
        return err_set(e, ERR_UNSUPPORTED, "",
                       "the device belongs to an array with a partial parity log that is no raid5 "
                       "without a bitmap, or has a superblock of version %s",
                       md_format_name(sb->format));
    if (sb->features & MD_FEATURE_BAD_BLOCKS &&
        sb->features & (MD_FEATURE_PPL | MD_FEATURE_MULTIPLE_PPLS))
        return err_set(e, ERR_UNSUPPORTED, "",
                       "the device has a partial parity log and a list of bad blocks that is not "
                       "empty: see mdadm --examine-badblocks, then --assemble "
                       "--update=force-no-bbl");
    if (sb->features & MD_FEATURE_BAD_BLOCKS && sb->level < 1)
        return err_set(e, ERR_UNSUPPORTED, "",
                       "the device has a list of bad blocks that is not empty, and %s has no other "
                       "copy: see mdadm --examine-badblocks, then --assemble --update=force-no-bbl",
                       md_level_name(sb->level));
    if (sb->level != -1 && sb->level != 0 && sb->level != 1 &&
        !(sb->level >= 4 && sb->level <= 6) && sb->level != 10)
        return err_set(e, ERR_UNSUPPORTED, "",
                       "the array is %s; this version runs linear, raid0, raid1, raid4, raid5, "
                       "raid6 and raid10",
                       md_level_name(sb->level));
    struct parity_geometry g;
    struct raid10_geometry ten;
    if (sb->level == 10 && !raid10_geometry_init(&ten, sb))
        return err_set(e, ERR_UNSUPPORTED, "",
                       "the array is raid10 of %u members with layout 0x%x, which has far sets or "
                       "cannot be",
                       sb->raid_disks, sb->layout);
    if (sb->level >= 4 && sb->level != 10 &&
        !parity_geometry_init(&g, sb->level, sb->layout, sb->raid_disks))
        return err_set(e, ERR_UNSUPPORTED, "", "the array is %s of %u members with layout %u",
                       md_level_name(sb->level), sb->raid_disks, sb->layout);
    if (sb->logical_block & (sb->logical_block - 1u) || sb->logical_block > 4096)
        return err_set(e, ERR_UNSUPPORTED, "",
                       "the array has logical blocks of %u bytes, expected a power of two up to "
                       "4096",
                       sb->logical_block);
    return 0;
}

/* Behind the superblock, or, where that stands at the end, before it. */
static bool data_beside_super(const struct md_super *sb, uint64_t sectors)
{
    bool at_end = sb->format == MD_1_0 || sb->format == MD_0_90;
    uint64_t first = at_end ? 0 : sb->super_offset + MD_SUPER_SIZE / MD_SECTOR;
    uint64_t end = at_end && sb->super_offset < sectors ? sb->super_offset : sectors;
    return sb->data_offset >= first && sb->data_offset <= end &&
           sb->data_size <= end - sb->data_offset;
}

static int check_geometry(const struct md_super *sb, uint64_t sectors, struct err *e)
{
    if (!sb->raid_disks || sb->raid_disks > sb->max_dev || sb->dev_number >= sb->max_dev)
        return err_set(e, ERR_INVALID, "",
                       "the md superblock is device %u of %u in %u slots, which cannot be",
                       sb->dev_number, sb->max_dev, sb->raid_disks);
    if (!data_beside_super(sb, sectors))
        return err_set(e, ERR_INVALID, "",
                       "the md superblock puts data at sectors %llu + %llu, the device has %llu",
                       (unsigned long long)sb->data_offset, (unsigned long long)sb->data_size,
                       (unsigned long long)sectors);
    if (sb->size > sb->data_size || (sb->level >= 1 && !sb->size))
        return err_set(e, ERR_INVALID, "",
                       "the md superblock uses %llu sectors of data where there are %llu",
                       (unsigned long long)sb->size, (unsigned long long)sb->data_size);
    if (sb->level >= 4 && (sb->chunk & (sb->chunk - 1) || sb->size < sb->chunk))
        return err_set(e, ERR_INVALID, "",
                       "the md superblock has a chunk of %u sectors, of %llu sectors of data",
                       sb->chunk, (unsigned long long)sb->size);
    if (sb->level == -1 && !sb->chunk)
        return 0;
    if (sb->level != 1 && (sb->chunk < 8 || sb->chunk % 8 || sb->chunk > 1u << 21))
        return err_set(e, ERR_INVALID, "", "the md superblock has a chunk of %u sectors",
                       sb->chunk);
    return 0;
}

bool md_super_keeps_bad(const struct md_super *sb, uint64_t device_size)
{
    int64_t at = (int64_t)sb->super_offset + sb->bblog_offset, end = at + sb->bblog_size;
    int64_t data = (int64_t)sb->data_offset, data_end = data + (int64_t)sb->data_size;
    return sb->bblog_size && sb->bblog_offset && sb->bblog_size <= MD_BAD_SECTORS_MAX &&
           sb->bblog_shift <= BAD_SHIFT_MAX && at >= 0 &&
           end <= (int64_t)(device_size / MD_SECTOR) && (end <= data || at >= data_end);
}

int md_super_usable(const struct md_super *sb, uint64_t device_size, struct err *e)
{
    if (check_features(sb, e) || check_geometry(sb, device_size / MD_SECTOR, e))
        return -1;
    if (sb->features & MD_FEATURE_BAD_BLOCKS && !md_super_keeps_bad(sb, device_size))
        return err_set(
            e, ERR_INVALID, "",
            "the md superblock has a list of bad blocks, %u sectors at %d from it, which "
            "cannot be",
            sb->bblog_size, sb->bblog_offset);
    return 0;
}

unsigned md_super_role(const struct md_super *sb)
{
    return sb->dev_number < sb->max_dev ? sb->role[sb->dev_number] : MD_ROLE_SPARE;
}

uint64_t md_time_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec | (uint64_t)(now.tv_nsec / 1000) << 40;
}

/* ---- levels */

static const struct {
    int32_t level;
    const char *name, *number, *word;
} levels[] = {
    {-1, "linear", "-1", "jbod"},   {0, "raid0", "0", "stripe"}, {1, "raid1", "1", "mirror"},
    {4, "raid4", "4", "raid4"},     {5, "raid5", "5", "raid5"},  {6, "raid6", "6", "raid6"},
    {10, "raid10", "10", "raid10"},
};

const char *md_level_name(int32_t level)
{
    for (unsigned i = 0; i < sizeof levels / sizeof *levels; i++)
        if (levels[i].level == level)
            return levels[i].name;
    return "unknown level";
}

bool md_level_parse(const char *text, int32_t *level_r)
{
    for (unsigned i = 0; i < sizeof levels / sizeof *levels; i++) {
        if (!strcasecmp(text, levels[i].name) || !strcmp(text, levels[i].number) ||
            !strcasecmp(text, levels[i].word)) {
            *level_r = levels[i].level;
            return true;
        }
    }
    return false;
}

/* ---- layout of new arrays, as of mdadm 4.2 */

enum { MIB_SECTORS = 2048, GIB_SECTORS = 1 << 21 };

uint64_t md_bitmap_room(uint64_t device_sectors)
{
    uint64_t sectors = device_sectors;
    if (sectors < 128)
        return 0;
    if (sectors - 128 >= 200ull * GIB_SECTORS)
        return 256;
    return sectors - 8 > 8ull * GIB_SECTORS ? 128 : 8;
}

uint64_t md_data_offset(uint64_t device_sectors, uint32_t chunk)
{
    uint64_t headroom = 128 * MIB_SECTORS;
    while (headroom << 10 > device_sectors && (!chunk || headroom > 2ull * chunk))
        headroom >>= 1;
    uint64_t offset = 24 + md_bitmap_room(device_sectors) + headroom;
    return (offset + MIB_SECTORS - 1) / MIB_SECTORS * MIB_SECTORS;
}

/* ---- bitmap */

int md_bitmap_read(struct md_bitmap *b, const void *bytes, struct err *e)
{
    struct rd r = rd_make(bytes, MD_BITMAP_HEAD);
    memset(b, 0, sizeof *b);
    if (rd_le32(&r) != BITMAP_MAGIC)
        return err_set(e, ERR_INVALID, "", "the write-intent bitmap has no magic number");
    b->version = rd_le32(&r);
    rd_copy(&r, b->uuid.b, 16);
    b->events = rd_le64(&r);
    b->events_cleared = rd_le64(&r);
    b->sync_size = rd_le64(&r);
    b->state = rd_le32(&r);
    b->chunk = rd_le32(&r);
    b->daemon_sleep = rd_le32(&r);
    b->write_behind = rd_le32(&r);
    b->reserved = rd_le32(&r);
    if (b->version != 4)
        return err_set(e, ERR_UNSUPPORTED, "",
                       "the write-intent bitmap has version %u, this version takes 4: remove it "
                       "(mdadm --grow --bitmap=none)",
                       b->version);
    return 0;
}

void md_bitmap_write(const struct md_bitmap *b, void *bytes)
{
    struct wr w = wr_make(bytes, MD_BITMAP_HEAD);
    wr_le32(&w, BITMAP_MAGIC);
    wr_le32(&w, b->version);
    wr_copy(&w, b->uuid.b, 16);
    wr_le64(&w, b->events);
    wr_le64(&w, b->events_cleared);
    wr_le64(&w, b->sync_size);
    wr_le32(&w, b->state);
    wr_le32(&w, b->chunk);
    wr_le32(&w, b->daemon_sleep);
    wr_le32(&w, b->write_behind);
    wr_le32(&w, b->reserved);
    wr_zero(&w, MD_BITMAP_HEAD - 68);
}
