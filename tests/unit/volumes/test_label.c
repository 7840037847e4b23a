/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "unit.h"

#include <string.h>

#include "base/buf.h"
#include "volumes/lvm_label.h"

static const struct lvm_label sample = {
    .sector = 1,
    .pv_id = "KspJ2wM3FaKLmGvNg2MftP0oTkh42KOG",
    .device_size = 104857600,
    .data = {{1048576, 0}},
    .data_count = 1,
    .mda = {{4096, 1044480}},
    .mda_count = 1,
    .ext_flags = LVM_PV_USED,
};

/* What vgcreate (LVM 2.03.16) wrote for the label above: the checksum of its sector. */
static void label_has_the_checksum_that_lvm_gives_it(void **state)
{
    (void)state;
    uint8_t sector[LVM_SECTOR];
    lvm_label_build(&sample, sector);
    struct rd r = rd_make(sector, sizeof sector);
    rd_skip(&r, 16);
    assert_int_equal(rd_le32(&r), 0x8b503b2b);
}

static void label_is_read_as_it_was_written(void **state)
{
    (void)state;
    uint8_t head[LVM_LABEL_SCAN] = {0};
    struct lvm_label l;
    struct err e = {0};
    lvm_label_build(&sample, head + LVM_SECTOR);
    assert_int_equal(lvm_label_parse(head, sizeof head, &l, &e), 0);
    assert_int_equal(l.sector, 1);
    assert_string_equal(l.pv_id, sample.pv_id);
    assert_int_equal(l.device_size, sample.device_size);
    assert_int_equal(l.data_count, 1);
    assert_int_equal(l.mda_count, 1);
    assert_int_equal(l.mda[0].size, 1044480);
    assert_int_equal(l.ext_version, 2);
    assert_int_equal(l.ext_flags, LVM_PV_USED);
}

static void label_with_a_flipped_bit_is_refused(void **state)
{
    (void)state;
    struct lvm_label l;
    struct err e;
    for (unsigned at = 24; at < LVM_SECTOR; at += 61) {
        uint8_t head[LVM_LABEL_SCAN] = {0};
        lvm_label_build(&sample, head + LVM_SECTOR);
        head[LVM_SECTOR + at] ^= 4;
        assert_int_equal(lvm_label_parse(head, sizeof head, &l, &e), -1);
        assert_int_equal(e.code, ERR_INVALID);
    }
}

static void label_of_another_sector_is_not_taken(void **state)
{
    (void)state;
    uint8_t head[LVM_LABEL_SCAN] = {0};
    struct lvm_label l;
    struct err e;
    lvm_label_build(&sample, head); /* says sector 1, stands in 0 */
    assert_int_equal(lvm_label_parse(head, sizeof head, &l, &e), -1);
    assert_int_equal(e.code, ERR_INVALID);
    lvm_label_build(&sample, head + LVM_SECTOR); /* but the next one is right */
    assert_int_equal(lvm_label_parse(head, sizeof head, &l, &e), 0);
}

static void no_label_is_not_found(void **state)
{
    (void)state;
    uint8_t head[LVM_LABEL_SCAN] = {0};
    struct lvm_label l;
    struct err e;
    assert_int_equal(lvm_label_parse(head, sizeof head, &l, &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    assert_int_equal(lvm_label_parse(head, 100, &l, &e), -1);
}

static struct lvm_mda mda(uint64_t size, uint64_t offset, uint64_t length)
{
    return (struct lvm_mda){.start = 4096, .size = size, .slot = {{offset, length, 0, 0}}};
}

/* The header that vgcreate wrote, 5 changes later. */
static void mda_header_has_the_checksum_that_lvm_gives_it(void **state)
{
    (void)state;
    struct lvm_mda m = mda(1044480, 7680, 2050);
    uint8_t header[LVM_MDA_HEADER];
    m.slot[0].crc = 0x4f66291c;
    lvm_mda_build(&m, header);
    struct rd r = rd_make(header, sizeof header);
    assert_int_equal(rd_le32(&r), 0x805ed1e8);
}

static void mda_header_is_read_as_it_was_written(void **state)
{
    (void)state;
    struct lvm_mda m = mda(1044480, 7680, 2050), back;
    uint8_t header[LVM_MDA_HEADER];
    struct err e;
    m.slot[0].crc = 77;
    m.slot[1] = (struct lvm_locn){10240, 3000, 78, 0};
    lvm_mda_build(&m, header);
    assert_int_equal(lvm_mda_parse(header, 4096, 1044480, &back, &e), 0);
    assert_memory_equal(&back, &m, sizeof m);
    assert_int_equal(lvm_mda_parse(header, 8192, 1044480, &back, &e), -1);
    assert_int_equal(lvm_mda_parse(header, 4096, 1044992, &back, &e), -1);
}

static void mda_header_with_a_text_outside_is_refused(void **state)
{
    (void)state;
    static const struct lvm_locn bad[] = {{511, 100, 0, 0},
                                          {1044480, 100, 0, 0},
                                          {512, 0, 0, 0},
                                          {512, 1043969, 0, 0},
                                          {UINT64_MAX, UINT64_MAX, 0, 0}};
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct lvm_mda m = mda(1044480, 0, 0), back;
        uint8_t header[LVM_MDA_HEADER];
        struct err e;
        m.slot[0] = bad[i];
        lvm_mda_build(&m, header);
        assert_int_equal(lvm_mda_parse(header, 4096, 0, &back, &e), -1);
        m.slot[0] = (struct lvm_locn){0};
        m.slot[1] = bad[i]; /* a bad precommitted one is no reason to lose the committed one */
        lvm_mda_build(&m, header);
        assert_int_equal(lvm_mda_parse(header, 4096, 0, &back, &e), 0);
        assert_int_equal(back.slot[1].size, 0);
    }
}

static void first_text_goes_behind_the_header(void **state)
{
    (void)state;
    struct lvm_mda m = mda(1044480, 0, 0);
    uint64_t at;
    assert_int_equal(lvm_mda_place(&m, 1000, &at, NULL), 0);
    assert_int_equal(at, 512);
}

static void next_text_begins_on_the_sector_behind_the_old_one(void **state)
{
    (void)state;
    struct lvm_mda m = mda(1044480, 512, 1000);
    uint64_t at;
    assert_int_equal(lvm_mda_place(&m, 1000, &at, NULL), 0);
    assert_int_equal(at, 1536);
    m = mda(1044480, 512, 1024); /* ends on a sector */
    assert_int_equal(lvm_mda_place(&m, 1000, &at, NULL), 0);
    assert_int_equal(at, 1536);
}

static void ranges_wrap_to_behind_the_header(void **state)
{
    (void)state;
    struct lvm_mda m = mda(16384, 0, 0);
    struct lvm_area r[2];
    assert_int_equal(lvm_mda_ranges(&m, 15872, 512, r), 1);
    assert_int_equal(lvm_mda_ranges(&m, 15872, 700, r), 2);
    assert_int_equal(r[0].offset, 4096 + 15872);
    assert_int_equal(r[0].size, 512);
    assert_int_equal(r[1].offset, 4096 + 512);
    assert_int_equal(r[1].size, 188);
}

/* Any sequence of texts that are not too long: never over the one that counts, never over the
 * header, always on a sector, always room. */
static void texts_never_overlap_over_many_rounds(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {4096, 16384, 17408, 1044480};
    unsigned seed = 1;
    for (unsigned s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        struct lvm_mda m = mda(sizes[s], 0, 0);
        uint64_t max = (sizes[s] - 512) / 2 - 512, wraps = 0;
        for (unsigned round = 0; round < 3000; round++) {
            struct lvm_area old[2], new[2];
            uint64_t at, size = 1 + (seed = seed * 1103515245 + 12345) % max;
            assert_int_equal(lvm_mda_place(&m, size, &at, NULL), 0);
            assert_true(at >= 512 && at % 512 == 0 && at < m.size);
            unsigned n = lvm_mda_ranges(&m, at, size, new);
            unsigned o =
                m.slot[0].size ? lvm_mda_ranges(&m, m.slot[0].offset, m.slot[0].size, old) : 0;
            wraps += n == 2;
            for (unsigned i = 0; i < n; i++) {
                new[i].size = (new[i].size + 511) / 512 * 512; /* as they are written */
                assert_true(new[i].offset + new[i].size <= m.start + m.size);
                for (unsigned k = 0; k < o; k++)
                    assert_true(new[i].offset + new[i].size <= old[k].offset ||
                                old[k].offset + old[k].size <= new[i].offset);
            }
            m.slot[0].offset = at;
            m.slot[0].size = size;
        }
        assert_true(wraps > 10);
    }
}

static void a_text_of_more_than_half_the_ring_is_refused(void **state)
{
    (void)state;
    struct lvm_mda m = mda(16384, 512, 100);
    struct err e;
    uint64_t at;
    assert_int_equal(lvm_mda_place(&m, (16384 - 512) / 2 - 512 + 1, &at, &e), -1);
    assert_int_equal(e.code, ERR_NO_SPACE);
}

static void ids_have_lvms_form(void **state)
{
    (void)state;
    char id[LVM_ID + 1], text[LVM_ID_TEXT], back[LVM_ID + 1];
    lvm_id_random(id);
    assert_true(lvm_id_valid(id));
    assert_int_equal(strlen(lvm_id_format(id, text)), 38);
    assert_true(lvm_id_parse(text, back));
    assert_string_equal(back, id);
    assert_string_equal(lvm_id_format(sample.pv_id, text),
                        "KspJ2w-M3Fa-KLmG-vNg2-MftP-0oTk-h42KOG");
    assert_false(lvm_id_parse("KspJ2w-M3Fa-KLmG-vNg2-MftP-0oTk-h42KO", back));
    assert_false(lvm_id_parse("KspJ2w-M3Fa-KLmG-vNg2-MftP-0oTk-h42KOGG", back));
    assert_false(lvm_id_parse("KspJ2wM3FaKLmGvNg2MftP0oTkh42KOG", back));
    assert_false(lvm_id_parse("KspJ2w-M3Fa-KLmG-vNg2-MftP-0oTk-h42KO/", back));
}

static void an_id_folds_to_the_same_uuid_for_ever(void **state)
{
    (void)state;
    char text[UUID_TEXT], other[] = "KspJ2wM3FaKLmGvNg2MftP0oTkh42KOH";
    struct uuid a = lvm_id_uuid(sample.pv_id), b = lvm_id_uuid(other);
    /* State files have this value: it must never change. */
    assert_string_equal(uuid_format(&a, text), "89deb04e-4809-8801-af5a-a7f1402c0f77");
    assert_false(uuid_equal(&a, &b));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(label_has_the_checksum_that_lvm_gives_it),
        cmocka_unit_test(label_is_read_as_it_was_written),
        cmocka_unit_test(label_with_a_flipped_bit_is_refused),
        cmocka_unit_test(label_of_another_sector_is_not_taken),
        cmocka_unit_test(no_label_is_not_found),
        cmocka_unit_test(mda_header_has_the_checksum_that_lvm_gives_it),
        cmocka_unit_test(mda_header_is_read_as_it_was_written),
        cmocka_unit_test(mda_header_with_a_text_outside_is_refused),
        cmocka_unit_test(first_text_goes_behind_the_header),
        cmocka_unit_test(next_text_begins_on_the_sector_behind_the_old_one),
        cmocka_unit_test(ranges_wrap_to_behind_the_header),
        cmocka_unit_test(texts_never_overlap_over_many_rounds),
        cmocka_unit_test(a_text_of_more_than_half_the_ring_is_refused),
        cmocka_unit_test(ids_have_lvms_form),
        cmocka_unit_test(an_id_folds_to_the_same_uuid_for_ever),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
