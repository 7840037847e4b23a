/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Do an array's members fit each other? By their bytes alone. */
#include <linux/types.h>

#include <linux/raid/md_p.h>

#include "base/buf.h"
#include "powercut.h"
#include "raid/parity.h"
#include "raid/raid10.h"

struct members {
    unsigned devices;
    struct md_super sb;         /* the freshest */
    struct bdev_desc *desc[64]; /* by slot; NULL: nobody in sync */
    uint64_t offset[64];
    bool lists;                                /* any is not empty */
    bool bad[PC_MEMBERS][PC_SIZE / PC_SECTOR]; /* by slot and sector of the device: on its list */
};

static bool read_super(const char *kind, unsigned i, struct md_super *sb)
{
    uint8_t bytes[MD_SUPER_SIZE];
    struct err e;
    struct bdev_desc *d = open_device(name_of(kind, i), CLAIM_READ);
    check_int(bdev_read(d, MD_SUPER_OFFSET, bytes, sizeof bytes), 0);
    bdev_close(&d);
    return !md_super_read(sb, bytes, &e);
}

static void read_list(struct members *all, unsigned slot, const struct md_super *sb)
{
    static uint8_t list[MD_BAD_SECTORS_MAX * MD_SECTOR];
    size_t size = sb->bblog_size * MD_SECTOR;
    if (!(sb->features & MD_FEATURE_BAD_BLOCKS))
        return;
    check(slot < PC_MEMBERS && size <= sizeof list);
    check_int(bdev_read(all->desc[slot],
                        (uint64_t)((int64_t)sb->super_offset + sb->bblog_offset) * MD_SECTOR, list,
                        size),
              0);
    struct rd r = rd_make(list, size);
    for (uint64_t v = rd_le64(&r); v != UINT64_MAX && !r.bad; v = rd_le64(&r))
        for (uint64_t s = v >> 10; s < (v >> 10) + (v & 1023); s++) {
            check(s < PC_SIZE / PC_SECTOR);
            all->bad[slot][s] = all->lists = true;
        }
}

static void find_members(const char *kind, unsigned devices, uint64_t absent, struct members *all)
{
    static struct md_super sb[PC_MEMBERS];
    memset(all, 0, sizeof *all);
    for (unsigned i = 0; i < devices; i++) {
        memset(&sb[i], 0, sizeof sb[i]);
        if (!(absent >> i & 1) && read_super(kind, i, &sb[i]) && md_super_role(&sb[i]) < 64 &&
            sb[i].events > all->sb.events)
            all->sb = sb[i];
    }
    for (unsigned i = 0; i < devices; i++) {
        unsigned role = sb[i].max_dev ? md_super_role(&sb[i]) : MD_ROLE_SPARE;
        if (role >= 64 || sb[i].events + 1 < all->sb.events || sb[i].features & 2 ||
            all->sb.role[sb[i].dev_number] != role)
            continue;
        all->desc[role] = open_device(name_of(kind, i), CLAIM_READ);
        all->offset[role] = sb[i].data_offset * MD_SECTOR;
        read_list(all, role, &sb[i]);
    }
}

enum got { NOBODY, PARTLY, ALL_OF_IT };

/* What is on a list is not there, and what cannot be read. */
static enum got get(const struct members *all, unsigned slot, uint64_t at, void *out, size_t len)
{
    if (!all->desc[slot])
        return NOBODY;
    int error = bdev_read(all->desc[slot], all->offset[slot] + at, out, len);
    check(!error || error == -EIO);
    for (size_t k = 0; k < len && all->lists && !error; k += MD_SECTOR)
        error = all->bad[slot][(all->offset[slot] + at + k) / MD_SECTOR];
    return !error ? ALL_OF_IT : len > MD_SECTOR ? PARTLY : NOBODY;
}

static bool same(const struct members *all, const struct raid10_copy *copy, unsigned n, size_t len);

static bool same_sectors(const struct members *all, const struct raid10_copy *copy, unsigned n,
                         size_t len)
{
    struct raid10_copy part[RAID10_COPIES_MAX];
    bool good = true;
    for (size_t at = 0; at < len && good; at += MD_SECTOR) {
        for (unsigned i = 0; i < n; i++)
            part[i] = (struct raid10_copy){.slot = copy[i].slot, .offset = copy[i].offset + at};
        good = same(all, part, n, MD_SECTOR);
    }
    return good;
}

static bool same(const struct members *all, const struct raid10_copy *copy, unsigned n, size_t len)
{
    static uint8_t want[64 << 10], got[64 << 10];
    bool first = true;
    check(len <= sizeof want);
    for (unsigned i = 0; i < n; i++) {
        enum got had = get(all, copy[i].slot, copy[i].offset, first ? want : got, len);
        if (had == PARTLY)
            return same_sectors(all, copy, n, len);
        if (had == NOBODY)
            continue;
        if (!first && memcmp(want, got, len))
            return pc_fail("copies differ in the %zu bytes at %llu of slot %u", len,
                           (unsigned long long)copy[i].offset, copy[i].slot);
        first = false;
    }
    return true;
}

static bool check_mirror(const struct members *all)
{
    enum { STEP = 64 << 10 };
    struct raid10_copy copy[RAID10_COPIES_MAX];
    uint64_t bytes = all->sb.size * MD_SECTOR;
    for (uint64_t at = 0; at < bytes; at += STEP) {
        for (unsigned i = 0; i < all->sb.raid_disks; i++)
            copy[i] = (struct raid10_copy){.slot = i, .offset = at};
        if (!same(all, copy, all->sb.raid_disks, bytes - at < STEP ? bytes - at : STEP))
            return false;
    }
    return true;
}

static bool check_copies(const struct members *all)
{
    struct raid10_copy copy[RAID10_COPIES_MAX];
    struct raid10_geometry g;
    check(raid10_geometry_init(&g, &all->sb));
    for (uint64_t at = 0; at < g.size; at += g.chunk) {
        raid10_copies(&g, at, copy);
        if (!same(all, copy, g.copies, g.chunk))
            return false;
    }
    return true;
}

static bool check_rows(const struct members *all, const struct parity_geometry *g, uint64_t s,
                       uint64_t at, uint64_t len);

static bool check_sectors(const struct members *all, const struct parity_geometry *g, uint64_t s,
                          uint64_t at, uint64_t len)
{
    bool good = true;
    for (uint64_t k = at; k < at + len && good; k += MD_SECTOR)
        good = check_rows(all, g, s, k, MD_SECTOR);
    return good;
}

static bool check_rows(const struct members *all, const struct parity_geometry *g, uint64_t s,
                       uint64_t at, uint64_t len)
{
    static _Alignas(PARITY_ALIGN) uint8_t block[PC_MEMBERS][64 << 10], want[2][64 << 10];
    uint8_t *p[PARITY_SLOTS_MAX] = {0};
    struct parity_map map;
    uint64_t lost = 0;
    parity_map_init(&map, g, s);
    for (unsigned i = 0; i < g->slots; i++) {
        enum got had = get(all, i, at, block[i], len);
        if (had == PARTLY)
            return check_sectors(all, g, s, at, len);
        p[i] = block[i];
        lost |= had == NOBODY ? 1ull << i : 0;
    }
    if (lost && !parity_recover(&map, lost, p, len))
        return pc_fail("too few members to look at stripe %llu", (unsigned long long)s);
    p[map.p] = want[0];
    if (map.parities == 2)
        p[map.q] = want[1];
    parity_generate(&map, p, len);
    if (memcmp(want[0], block[map.p], len))
        return pc_fail("P of stripe %llu does not fit at %llu", (unsigned long long)s,
                       (unsigned long long)at);
    if (map.parities == 2 && memcmp(want[1], block[map.q], len))
        return pc_fail("Q of stripe %llu does not fit at %llu", (unsigned long long)s,
                       (unsigned long long)at);
    return true;
}

static bool check_parity(const struct members *all)
{
    struct parity_geometry g;
    uint64_t chunk = (uint64_t)all->sb.chunk * MD_SECTOR;
    check(chunk <= 64 << 10);
    check(parity_geometry_init(&g, all->sb.level, all->sb.layout, all->sb.raid_disks));
    for (uint64_t s = 0; s < all->sb.size / all->sb.chunk; s++)
        if (!check_rows(all, &g, s, s * chunk, chunk))
            return false;
    return true;
}

bool pc_check_members(const char *kind, unsigned devices, uint64_t absent)
{
    static struct members all; /* one task at a time */
    find_members(kind, devices, absent, &all);
    bool good = true;
    unsigned in_sync = 0; /* the only one agrees with itself, and is not written to */
    for (unsigned i = 0; i < 64; i++)
        in_sync += all.desc[i] != NULL;
    if (!all.sb.raid_disks)
        good = pc_fail("no superblock is left");
    else if (all.sb.level > 0 && all.sb.resync_offset != MD_CLEAN && in_sync > 1)
        good = pc_fail("the array is not clean after a stop");
    else if (all.sb.level == 1)
        good = check_mirror(&all);
    else if (all.sb.level == 10)
        good = check_copies(&all);
    else if (all.sb.level > 0)
        good = check_parity(&all);
    for (unsigned i = 0; i < 64; i++)
        if (all.desc[i])
            bdev_close(&all.desc[i]);
    return good;
}
