/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The threshold of used space: SBC-4 4.7.3.7 and mode pages 01h, 1Ch/02h. */
#include "lab.h"

#include <string.h>

#include "base/crc32c.h"
#include "drivers/drivers.h"
#include "targets/scsi/scsi_private.h"

enum { MIB = 1 << 20, BLOCKS = MIB / 512 };

static struct scsi_lun *lun_of(struct lab *lab)
{
    return list_first(&lab->target->luns, struct scsi_lun, link);
}

static struct io *set_threshold(struct lab *lab, unsigned first_byte, unsigned sets)
{
    uint8_t l[8 + 24] = {[8] = 0x5c, 2, 0, 20, [24] = (uint8_t)first_byte, 2};
    struct wr w = wr_make(l + 28, 4);
    wr_be32(&w, sets);
    return OUT(lab, l, sizeof l, 0x55, 0x10, 0, 0, 0, 0, 0, 0, sizeof l, 0);
}

static struct io *set_lbpere(struct lab *lab, bool on)
{
    uint8_t l[4 + 12] = {[4] = 0x01, 10, [11] = on ? 0x80 : 0};
    return OUT(lab, l, sizeof l, 0x15, 0x10, 0, 0, sizeof l, 0);
}

static void write_mib(struct lab *lab, unsigned from, unsigned count)
{
    uint8_t *data = calloc(count, MIB);
    memset(data, 0x5a, (size_t)count * MIB);
    for (unsigned i = 0; i < count; i++)
        expect_good(OUT(lab, data, MIB, 0x2a, 0, 0, 0, (uint8_t)((from + i) * BLOCKS >> 8), 0, 0,
                        BLOCKS >> 8, 0, 0));
    free(data);
}

static void unmap(struct lab *lab, unsigned lba, unsigned blocks)
{
    uint8_t l[24] = {0, 22, 0, 16};
    struct wr w = wr_make(l + 8, 12);
    wr_be64(&w, lba);
    wr_be32(&w, blocks);
    expect_good(OUT(lab, l, sizeof l, 0x42, 0, 0, 0, 0, 0, 0, 0, sizeof l, 0));
}

/* By TEST UNIT READY. */
static unsigned attention(struct scsi_nexus *n, unsigned reactor)
{
    const uint8_t tur[6] = {0};
    struct io *io = io_new(n, reactor, 0, tur, sizeof tur);
    io_start(io);
    io_wait(io);
    unsigned code = io_code(io);
    io_free(&io);
    return code;
}

/* Whatever was to be told is told. */
static void look_now(struct lab *lab)
{
    struct scsi_lun *lun = lun_of(lab);
    check(lun->look.ev);
    until(!lun->looking);
    lun->looked_at = 0;
    rtimer_arm(&lun->look, 1, lun->look.fn, lun->look.arg);
    until(lun->looked_at);
}

static bool is_watched(struct lab *lab)
{
    const struct scsi_lun *lun = lun_of(lab);
    check_int(lun->threshold.on, lun->look.ev != NULL);
    return lun->look.ev;
}

HARNESS_TEST(it_is_told_from_the_center_of_its_range_and_armed_below_its_minimum)
{
    struct scsi_threshold t = {.sets = 8};
    check_int(scsi_threshold_crossed(&t, 9ull * MIB), 0);
    t.on = true;
    const struct {
        unsigned half, crossed;
    } steps[] = {{15, 0}, {16, 1}, {18, 0}, {15, 0}, {16, 0}, {99, 0},
                 {14, 0}, {15, 0}, {16, 1}, {0, 0},  {99, 1}, {98, 0}};
    for (unsigned i = 0; i < sizeof steps / sizeof steps[0]; i++)
        check_int(scsi_threshold_crossed(&t, (uint64_t)steps[i].half * MIB / 2), steps[i].crossed);
    t = (struct scsi_threshold){.on = true, .sets = 15};
    check_int(scsi_threshold_crossed(&t, 15ull * MIB - 1), 0);
    check_int(scsi_threshold_crossed(&t, 15ull * MIB), 1);
    check_int(scsi_threshold_crossed(&t, 15ull * MIB - MIB / 2), 0);
    check_int(t.reached, true);
    check_int(scsi_threshold_crossed(&t, 15ull * MIB - MIB / 2 - 1), 0);
    check_int(t.reached, false);
    t = (struct scsi_threshold){.on = true, .sets = UINT32_MAX};
    check_int(scsi_threshold_crossed(&t, ((uint64_t)UINT32_MAX << 20) - 1), 0);
    check_int(scsi_threshold_crossed(&t, (uint64_t)UINT32_MAX << 20), 1);
}

HARNESS_TEST(the_pages_say_what_there_is)
{
    struct lab *lab = lab_new();
    const uint8_t zero[11] = {0};
    for (unsigned pc = 0; pc < 3; pc++) {
        struct io *io = CMD(lab, 0x1a, 8, (uint8_t)(pc << 6 | 0x1c), 2, 255, 0);
        const uint8_t *p = io->in + 4, head[] = {0x5c, 2, 0, 20, 0};
        const uint8_t want[][8] = {{0x01, 2}, {0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}, {0x01, 2}};
        check_int(io->in_len, 4 + 24);
        check_int(memcmp(p, head, 5), 0);
        check_int(memcmp(p + 5, zero, 11), 0);
        check_int(memcmp(p + 16, want[pc], 8), 0);
        expect_good(io);
        io = CMD(lab, 0x1a, 8, (uint8_t)(pc << 6 | 0x01), 0, 255, 0);
        const uint8_t recovery[12] = {0x01, 10, 0, 0, 0, 0, 0, 0x80};
        check_int(io->in_len, 4 + 12);
        check_int(memcmp(io->in + 4, recovery, 12), 0);
        expect_good(io);
    }
    struct io *io = CMD(lab, 0x1a, 8, 0x1c, 0xff, 255, 0); /* both of 1Ch */
    check_int(io->in_len, 4 + 12 + 24);
    expect_good(io);
    expect_field(CMD(lab, 0x1a, 8, 0x1c, 1, 255, 0), true, 3, 7);
    lab_end(&lab);
}

HARNESS_TEST(what_the_device_does_not_tell_cannot_be_chosen)
{
    struct lab *lab = lab_new();
    expect_field(set_threshold(lab, 0x80, 2), false, 24, 0); /* armed decreasing */
    expect_field(set_threshold(lab, 0x89, 2), false, 24, 3); /* percent */
    uint8_t l[8 + 24] = {[8] = 0x5c, 2, 0, 20, [12] = 1, [24] = 0x81, 2};
    expect_field(OUT(lab, l, sizeof l, 0x55, 0x10, 0, 0, 0, 0, 0, 0, sizeof l, 0), false, 12, 0);
    l[12] = 0; /* SITUA */
    l[25] = 1; /* what is available */
    expect_field(OUT(lab, l, sizeof l, 0x55, 0x10, 0, 0, 0, 0, 0, 0, sizeof l, 0), false, 25, 1);
    l[11] = 28;
    expect_field(OUT(lab, l, sizeof l, 0x55, 0x10, 0, 0, 0, 0, 0, 0, sizeof l, 0), false, 10, 7);
    l[9] = 3;
    expect_field(OUT(lab, l, sizeof l, 0x55, 0x10, 0, 0, 0, 0, 0, 0, sizeof l, 0), false, 8, 6);
    expect_sense(OUT(lab, l, 10, 0x55, 0x10, 0, 0, 0, 0, 0, 0, 10, 0), SENSE_PARAMETER_LIST_LENGTH);
    check(!is_watched(lab));
    lab_end(&lab);
}

HARNESS_TEST(a_full_lun_has_no_threshold)
{
    lab_mem("m", LAB_SIZE, 512);
    struct lab *lab = lab_with(&(struct scsi_lun_args){.device = "m", .thin_given = true});
    expect_field(CMD(lab, 0x1a, 8, 0x1c, 2, 255, 0), true, 3, 7);
    struct io *io = CMD(lab, 0x1a, 8, 0x3f, 0xff, 255, 0);
    check_int(io->in_len, 4 + 12 + 20 + 12 + 12);
    check_int(io->in[4 + 7], 0);
    expect_good(io);
    expect_field(set_threshold(lab, 0x81, 1), false, 8, 6);
    expect_field(set_lbpere(lab, true), false, 11, 7);
    check(!is_watched(lab));
    lab_end(&lab);
}

HARNESS_TEST(every_nexus_is_told_once_and_again_after_less_was_in_use)
{
    struct lab *lab = lab_new();
    struct scsi_nexus *other = lab_login(lab, 1, "iqn.2026-11.lab:o,i,0x1");
    check_int(attention(other, 1), SENSE_POWER_ON);
    expect_good(set_threshold(lab, 0x81, 2));
    check_int(attention(other, 1), SENSE_MODE_CHANGED);
    write_mib(lab, 0, 1);
    look_now(lab);
    check_int(attention(lab->nexus, 0), 0);
    write_mib(lab, 1, 1);
    look_now(lab);
    look_now(lab);
    check_int(attention(lab->nexus, 0), SENSE_THIN_THRESHOLD);
    check_int(attention(lab->nexus, 0), 0);
    check_int(attention(other, 1), SENSE_THIN_THRESHOLD);
    check_int(attention(other, 1), 0);

    unmap(lab, 0, BLOCKS / 4); /* within the range: it is not armed yet */
    look_now(lab);
    write_mib(lab, 0, 1);
    look_now(lab);
    check_int(attention(lab->nexus, 0), 0);

    unmap(lab, 0, BLOCKS); /* below */
    look_now(lab);
    write_mib(lab, 0, 1);
    look_now(lab);
    check_int(attention(other, 1), SENSE_THIN_THRESHOLD);
    check_int(attention(other, 1), 0);
    check_int(attention(lab->nexus, 0), SENSE_THIN_THRESHOLD);
    check_int(attention(lab->nexus, 0), 0);
    lab_logout(&other, 1);
    lab_end(&lab);
}

HARNESS_TEST(who_comes_to_the_lun_later_is_told_while_it_holds)
{
    struct lab *lab = lab_new();
    struct scsi_nexus *early = lab_login(lab, 1, "iqn.2026-11.lab:e,i,0x1");
    write_mib(lab, 0, 2);
    expect_good(set_threshold(lab, 0x81, 2)); /* exceeded already */
    look_now(lab);
    check_int(attention(lab->nexus, 0), SENSE_THIN_THRESHOLD);
    check_int(attention(early, 1), SENSE_POWER_ON); /* was there, but had not addressed the LUN */
    check_int(attention(early, 1), SENSE_THIN_THRESHOLD);
    check_int(attention(early, 1), 0);
    unmap(lab, 0, 2 * BLOCKS);
    look_now(lab);
    struct scsi_nexus *late = lab_login(lab, 1, "iqn.2026-11.lab:l,i,0x1");
    check_int(attention(late, 1), SENSE_POWER_ON);
    check_int(attention(late, 1), 0);
    lab_logout(&late, 1);
    lab_logout(&early, 1);
    lab_end(&lab);
}

HARNESS_TEST(the_place_of_the_descriptor_comes_with_it)
{
    struct lab *lab = lab_new();
    write_mib(lab, 0, 2);
    expect_good(set_threshold(lab, 0x81, 1));
    look_now(lab);
    const uint8_t tur[6] = {0};
    struct io *io = lab_cmd(lab, tur, 6);
    check_int(io->cmd.sense[0], 0xf0);
    check_int(be(io->cmd.sense + 3, 4), 16);
    expect_sense(io, SENSE_THIN_THRESHOLD);
    expect_good(set_threshold(lab, 0x81, 2)); /* another one: told anew */
    look_now(lab);
    io = CMD(lab, 0x03, 1, 0, 0, 252, 0); /* REQUEST SENSE takes it as its data */
    const uint8_t want[] = {0x72, 6, 0x38, 7, 0, 0, 0, 12, 0, 10, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 16};
    check_int(io->in_len, sizeof want);
    check_int(memcmp(io->in, want, sizeof want), 0);
    expect_good(io);
    check_int(attention(lab->nexus, 0), 0);
    lab_end(&lab);
}

HARNESS_TEST(nothing_is_watched_without_threshold_or_notification)
{
    struct lab *lab = lab_new();
    write_mib(lab, 0, 2);
    check(!is_watched(lab));
    expect_good(set_threshold(lab, 0x01, 1)); /* a count, not enabled */
    check(!is_watched(lab));
    expect_good(set_lbpere(lab, false));
    expect_good(set_threshold(lab, 0x81, 1));
    check(!is_watched(lab));
    check_int(attention(lab->nexus, 0), 0);
    expect_good(set_lbpere(lab, true));
    check(is_watched(lab));
    look_now(lab);
    check_int(attention(lab->nexus, 0), SENSE_THIN_THRESHOLD);
    expect_good(set_threshold(lab, 0x01, 1));
    check(!is_watched(lab));
    expect_good(set_threshold(lab, 0x81, 1));
    check(is_watched(lab));
    bdev_unregister(bdev_find("m"));
    check(!is_watched(lab));
    lab_free(&lab);
}

HARNESS_TEST(a_device_that_goes_ends_a_look_at_it)
{
    struct lab *lab = lab_new();
    write_mib(lab, 0, 2);
    expect_good(set_threshold(lab, 0x81, 1));
    struct scsi_lun *lun = lun_of(lab);
    rtimer_arm(&lun->look, 1, lun->look.fn, lun->look.arg);
    until(lun->looking || lun->looked_at);
    bdev_unregister(bdev_find("m"));
    check(!is_watched(lab));
    lab_free(&lab);
}

HARNESS_TEST(a_reset_lets_it_be_told_anew)
{
    struct lab *lab = lab_new();
    write_mib(lab, 0, 2);
    expect_good(set_threshold(lab, 0x81, 1));
    look_now(lab);
    check_int(attention(lab->nexus, 0), SENSE_THIN_THRESHOLD);
    /* Not saved, so the reset turns it off. */
    check_int(lab_tmf(lab->nexus, 0, SCSI_LOGICAL_UNIT_RESET, 0, NULL), SCSI_TMF_COMPLETE);
    check_int(attention(lab->nexus, 0), SENSE_LUN_RESET);
    check(!is_watched(lab));
    lab_end(&lab);
}

/* ---- saved */

static struct {
    uint8_t data[64];
    size_t len;
} kept;

static int keep_load(const char *kind, const struct uuid *id, uint8_t **data_r, size_t *len_r)
{
    (void)id;
    if (strcmp(kind, "modes") || !kept.len)
        return -2; /* ENOENT */
    *data_r = calloc(1, kept.len);
    memcpy(*data_r, kept.data, kept.len);
    *len_r = kept.len;
    return 0;
}

static int keep_save(const char *kind, const struct uuid *id, const void *data, size_t len)
{
    (void)id;
    check(!strcmp(kind, "modes") && len <= sizeof kept.data);
    memcpy(kept.data, data, len);
    kept.len = len;
    return 0;
}

static int keep_forget(const char *kind, const struct uuid *id)
{
    (void)kind;
    (void)id;
    return 0;
}

static const struct scsi_store keep = {keep_load, keep_save, keep_forget, keep_load};

HARNESS_TEST(a_saved_threshold_outlives_resets_and_restarts)
{
    kept.len = 0;
    scsi_set_store(&keep);
    struct lab *lab = lab_new();
    uint8_t l[8 + 24] = {[8] = 0x5c, 2, 0, 20, [24] = 0x81, 2, [31] = 2};
    expect_good(OUT(lab, l, sizeof l, 0x55, 0x11, 0, 0, 0, 0, 0, 0, sizeof l, 0));
    check_int(kept.len, SCSI_MODE_RECORD);
    expect_good(set_threshold(lab, 0x81, 7)); /* not saved */
    check_int(lab_tmf(lab->nexus, 0, SCSI_LOGICAL_UNIT_RESET, 0, NULL), SCSI_TMF_COMPLETE);
    check_int(attention(lab->nexus, 0), SENSE_LUN_RESET);
    check_int(lun_of(lab)->threshold.sets, 2);
    write_mib(lab, 0, 2);
    look_now(lab);
    check_int(attention(lab->nexus, 0), SENSE_THIN_THRESHOLD);
    check_int(lab_tmf(lab->nexus, 0, SCSI_LOGICAL_UNIT_RESET, 0, NULL), SCSI_TMF_COMPLETE);
    check_int(attention(lab->nexus, 0), SENSE_LUN_RESET);
    look_now(lab);
    check_int(attention(lab->nexus, 0), SENSE_THIN_THRESHOLD); /* a reset forgets who was told */
    lab_free(&lab);

    lab = lab_with(&(struct scsi_lun_args){.device = "m"});
    struct io *io = CMD(lab, 0x1a, 8, 0xdc, 2, 255, 0); /* saved */
    check_int(io->in[4], 0xdc);
    check_int(io->in[4 + 16], 0x81);
    check_int(be(io->in + 4 + 20, 4), 2);
    expect_good(io);
    look_now(lab);
    check_int(attention(lab->nexus, 0), SENSE_THIN_THRESHOLD);
    lab_end(&lab);
    scsi_set_store(NULL);
}

HARNESS_TEST(what_older_versions_saved_is_read)
{
    uint8_t old[SCSI_MODE_RECORD_1] = {'M', 'O', 'D', 'E', 1, 2};
    struct wr w = wr_make(old + 6, 4);
    wr_be32(&w, crc32c(0, old, 6));
    scsi_set_store(&keep);
    keep_save("modes", NULL, old, sizeof old);
    struct lab *lab = lab_new();
    const struct scsi_facts *f = &lun_of(lab)->facts;
    check(f->d_sense && !f->swp && f->lbpere && !f->threshold);
    check(!is_watched(lab));
    struct io *io = CMD(lab, 0x1a, 8, 0xc1, 0, 255, 0);
    check_int(io->in[4 + 7], 0x80);
    expect_good(io);
    lab_end(&lab);
    scsi_set_store(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_told_from_the_center_of_its_range_and_armed_below_its_minimum),
        cmocka_unit_test(the_pages_say_what_there_is),
        cmocka_unit_test(what_the_device_does_not_tell_cannot_be_chosen),
        cmocka_unit_test(a_full_lun_has_no_threshold),
        cmocka_unit_test(every_nexus_is_told_once_and_again_after_less_was_in_use),
        cmocka_unit_test(who_comes_to_the_lun_later_is_told_while_it_holds),
        cmocka_unit_test(the_place_of_the_descriptor_comes_with_it),
        cmocka_unit_test(nothing_is_watched_without_threshold_or_notification),
        cmocka_unit_test(a_device_that_goes_ends_a_look_at_it),
        cmocka_unit_test(a_reset_lets_it_be_told_anew),
        cmocka_unit_test(a_saved_threshold_outlives_resets_and_restarts),
        cmocka_unit_test(what_older_versions_saved_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
