/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The superblock's codec, against superblocks that mdadm 4.2 made. */
#include "harness.h"

#include <string.h>

#include "raid/md_super.h"

static uint8_t bytes[MD_SUPER_SIZE];
static struct md_super sb;
static struct err e;

static void load(const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", CORPUS, name);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    assert_int_equal(fread(bytes, 1, sizeof bytes, f), sizeof bytes);
    fclose(f);
}

/* Puts a byte somewhere and makes the checksum right again, as another program would. */
static void poke(unsigned at, uint8_t value)
{
    uint8_t before = bytes[at];
    bytes[at] = value;
    uint64_t sum = 0;
    for (unsigned i = 0; i < 256 + 2 * 128; i += 4)
        if (i != 216)
            sum += bytes[i] | bytes[i + 1] << 8 | bytes[i + 2] << 16 | (uint64_t)bytes[i + 3] << 24;
    uint32_t folded = (uint32_t)sum + (uint32_t)(sum >> 32);
    memcpy(bytes + 216, &folded, 4);
    assert_int_not_equal(before, value);
}

static void reads_a_raid1_of_mdadm(void **state)
{
    (void)state;
    load("raid1");
    assert_int_equal(md_super_read(&sb, bytes, &e), 0);
    assert_int_equal(sb.level, 1);
    assert_int_equal(sb.raid_disks, 2);
    assert_int_equal(sb.size, 63488);
    assert_int_equal(sb.data_offset, 2048);
    assert_int_equal(sb.data_size, 63488);
    assert_int_equal(sb.dev_number, 0);
    assert_int_equal(md_super_role(&sb), 0);
    assert_true(sb.resync_offset == MD_CLEAN);
    assert_string_equal(sb.set_name, "hostx:n");
    assert_int_equal(md_super_usable(&sb, 32 << 20, &e), 0);
}

static void check_090(uint64_t place)
{
    char uuid[UUID_TEXT];
    assert_int_equal(md_super_read_as(&sb, MD_0_90, place, bytes, &e), 0);
    assert_string_equal(uuid_format_md(&sb.set_uuid, uuid), "eda57746:6b091176:3d186b3c:53958f34");
    assert_string_equal(sb.set_name, "md0");
    assert_int_equal(sb.level, 5);
    assert_int_equal(sb.layout, 2);
    assert_int_equal(sb.chunk, 128);
    assert_int_equal(sb.size, 9152 * 2);
    assert_int_equal(sb.raid_disks, 3);
    assert_int_equal(sb.events, 1);
    assert_int_equal(sb.dev_number, 1);
    assert_int_equal(md_super_role(&sb), 1);
    assert_int_equal(sb.data_offset, 0);
    assert_int_equal(sb.data_size, place / MD_SECTOR);
    assert_true(sb.resync_offset == MD_CLEAN);
    assert_int_equal(md_super_usable(&sb, 9 << 20, &e), 0);
}

static void reads_version_0_90_in_both_byte_orders(void **state)
{
    uint64_t place = md_super_place(MD_0_90, 9 << 20);
    (void)state;
    load("raid5-0.90");
    assert_int_equal(place, (9 << 20) - (64 << 10));
    check_090(place);
    for (unsigned i = 0; i < sizeof bytes; i += 4) {
        uint8_t w[4] = {bytes[i + 3], bytes[i + 2], bytes[i + 1], bytes[i]};
        memcpy(bytes + i, w, 4);
    }
    for (unsigned i = 39 * 4; i < 43 * 4; i += 8) { /* events, and those of the checkpoint */
        uint8_t low[4];
        memcpy(low, bytes + i, 4);
        memcpy(bytes + i, bytes + i + 4, 4);
        memcpy(bytes + i + 4, low, 4);
    }
    check_090(place);
    bytes[100] ^= 1;
    assert_int_equal(md_super_read_as(&sb, MD_0_90, place, bytes, &e), -1);
    assert_int_equal(e.code, ERR_INVALID);
}

static void reads_a_raid0_with_layout(void **state)
{
    (void)state;
    load("raid0-zones");
    assert_int_equal(md_super_read(&sb, bytes, &e), 0);
    assert_int_equal(sb.level, 0);
    assert_int_equal(sb.chunk, 1024);
    assert_int_equal(sb.layout, MD_RAID0_ORIGINAL);
    assert_int_equal(sb.features, 0x1000);
    assert_int_equal(md_super_usable(&sb, 64 << 20, &e), 0);
}

static void writes_what_it_read(void **state)
{
    (void)state;
    static const char *const names[] = {"raid1", "raid1-bitmap", "raid0-zones"};
    for (unsigned i = 0; i < 3; i++) {
        uint8_t out[MD_SUPER_SIZE];
        load(names[i]);
        assert_int_equal(md_super_read(&sb, bytes, &e), 0);
        md_super_write(&sb, out);
        assert_memory_equal(out, bytes, sizeof out);
    }
}

static void refuses_a_wrong_checksum(void **state)
{
    (void)state;
    load("raid1");
    bytes[201] ^= 1;
    assert_int_equal(md_super_read(&sb, bytes, &e), -1);
    assert_int_equal(e.code, ERR_INVALID);
    assert_non_null(strstr(e.msg, "checksum"));
}

static void refuses_another_magic(void **state)
{
    (void)state;
    memset(bytes, 0, sizeof bytes);
    assert_int_equal(md_super_read(&sb, bytes, &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
}

static void refuses_padding_in_use(void **state)
{
    (void)state;
    static const unsigned places[] = {12, 228, 255};
    for (unsigned i = 0; i < 3; i++) {
        load("raid1");
        poke(places[i], 7);
        assert_int_equal(md_super_read(&sb, bytes, &e), -1);
        assert_int_equal(e.code, ERR_UNSUPPORTED);
    }
}

static void keeps_the_logical_block_size_of_newer_kernels(void **state)
{
    (void)state;
    uint8_t out[MD_SUPER_SIZE];
    load("raid1");
    poke(225, 0x10); /* 4096 */
    assert_int_equal(md_super_read(&sb, bytes, &e), 0);
    assert_int_equal(sb.logical_block, 4096);
    assert_int_equal(md_super_usable(&sb, 32 << 20, &e), 0);
    md_super_write(&sb, out);
    assert_memory_equal(out, bytes, sizeof out);
}

static void refuses_unknown_feature_bits(void **state)
{
    (void)state;
    load("raid1");
    poke(10, 0x20); /* bit 21 */
    assert_int_equal(md_super_read(&sb, bytes, &e), 0);
    assert_int_equal(md_super_usable(&sb, 32 << 20, &e), -1);
    assert_int_equal(e.code, ERR_UNSUPPORTED);
    assert_non_null(strstr(e.msg, "0x200000"));
}

static void refuses_what_it_cannot_run_with_the_reason(void **state)
{
    (void)state;
    static const struct {
        unsigned at;
        uint8_t value;
        const char *word;
    } cases[] = {
        {8, 4, "reshaped"},         {9, 1, "clustered"},      {9, 2, "journal"},
        {9, 4, "partial parity"},   {9, 8, "partial parity"}, {72, 77, "version runs"},
        {224, 3, "logical blocks"},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        load("raid1");
        poke(cases[i].at, cases[i].value);
        assert_int_equal(md_super_read(&sb, bytes, &e), 0);
        assert_int_equal(md_super_usable(&sb, 32 << 20, &e), -1);
        assert_int_equal(e.code, ERR_UNSUPPORTED);
        assert_non_null(strstr(e.msg, cases[i].word));
    }
    load("raid0-zones");
    poke(8, 8);
    assert_int_equal(md_super_read(&sb, bytes, &e), 0);
    assert_int_equal(md_super_usable(&sb, 32 << 20, &e), -1);
    assert_non_null(strstr(e.msg, "bad blocks"));
}

static void refuses_data_beyond_the_device(void **state)
{
    (void)state;
    load("raid1");
    assert_int_equal(md_super_read(&sb, bytes, &e), 0);
    assert_int_equal(md_super_usable(&sb, (32 << 20) - 4096, &e), -1);
    assert_int_equal(e.code, ERR_INVALID);
    sb.data_offset = UINT64_MAX - 5;
    assert_int_equal(md_super_usable(&sb, 32 << 20, &e), -1);
}

static void lays_data_out_as_mdadm_does(void **state)
{
    (void)state;
    static const struct {
        uint64_t mib, chunk, offset;
    } seen[] = {{5, 0, 2048},        {32, 0, 2048},        {1024, 0, 4096}, {20480, 0, 34816},
                {307200, 0, 264192}, {3145728, 0, 264192}, {64, 1024, 4096}};
    for (unsigned i = 0; i < sizeof seen / sizeof *seen; i++)
        assert_int_equal(md_data_offset(seen[i].mib * 2048, (uint32_t)seen[i].chunk),
                         seen[i].offset);
}

static void knows_levels_by_all_spellings(void **state)
{
    (void)state;
    int32_t level;
    assert_true(md_level_parse("mirror", &level) && level == 1);
    assert_true(md_level_parse("0", &level) && level == 0);
    assert_true(md_level_parse("RAID10", &level) && level == 10);
    assert_false(md_level_parse("raid7", &level));
    assert_string_equal(md_level_name(6), "raid6");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_a_raid1_of_mdadm),
        cmocka_unit_test(reads_version_0_90_in_both_byte_orders),
        cmocka_unit_test(reads_a_raid0_with_layout),
        cmocka_unit_test(writes_what_it_read),
        cmocka_unit_test(refuses_a_wrong_checksum),
        cmocka_unit_test(refuses_another_magic),
        cmocka_unit_test(refuses_padding_in_use),
        cmocka_unit_test(keeps_the_logical_block_size_of_newer_kernels),
        cmocka_unit_test(refuses_unknown_feature_bits),
        cmocka_unit_test(refuses_what_it_cannot_run_with_the_reason),
        cmocka_unit_test(refuses_data_beyond_the_device),
        cmocka_unit_test(lays_data_out_as_mdadm_does),
        cmocka_unit_test(knows_levels_by_all_spellings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
