/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Target port groups: reported, set by host and administrator, and what they forbid. */
#include "lab.h"

static const uint8_t tur[6] = {0};

static struct io *report(struct lab *lab, unsigned format)
{
    return CMD(lab, 0xa3, (uint8_t)(format | 0x0a), 0, 0, 0, 0, 0, 0, 1, 0, 0, 0);
}

static int administer(struct lab *lab, unsigned group, enum scsi_alua state)
{
    struct scsi_group g = {.group = group, .state = state};
    struct err e;
    return scsi_alua_set(lab->target, &g, &e);
}

static struct io *set(struct lab *lab, unsigned group, unsigned state)
{
    uint8_t list[8] = {0, 0, 0, 0, (uint8_t)state, 0, 0, (uint8_t)group};
    return OUT(lab, list, 8, 0xa4, 0x0a, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0);
}

HARNESS_TEST(groups_are_reported_in_both_formats)
{
    struct lab *lab = lab_new();
    scsi_set_ports(1u << 1 | 1u << 2);
    struct io *io = report(lab, 0);
    check_int(io->in_len, 4 + 2 * 12);
    check_int(be(io->in, 4), 24);
    check_int(be(io->in + 6, 2), 1);
    check_int(be(io->in + 4 + 12 + 2, 2), 2);
    check_int(be(io->in + 4 + 12 + 10, 2), 2);
    expect_good(io);
    io = report(lab, 0x20);
    check_int(io->in_len, 8 + 2 * 12);
    check_int(io->in[4], 0x10);
    expect_good(io);
    expect_field(report(lab, 0x40), true, 1, 7);
    io = CMD(lab, 0x12, 0, 0, 0, 36, 0);
    check_int(io->in[5] & 0x30, 0x30);
    expect_good(io);
    scsi_set_ports(1u << 1);
    lab_end(&lab);
}

HARNESS_TEST(standby_serves_no_blocks_and_says_why)
{
    struct lab *lab = lab_new();
    check_int(administer(lab, 1, SCSI_ALUA_STANDBY), 0);
    expect_sense(lab_cmd(lab, tur, 6), SENSE_ALUA_CHANGED);
    expect_sense(lab_cmd(lab, tur, 6), SENSE_PORT_STANDBY);
    expect_sense(CMD(lab, 0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0), SENSE_PORT_STANDBY);
    expect_good(CMD(lab, 0x12, 0, 0, 0, 36, 0));
    expect_good(CMD(lab, 0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0));
    struct io *io = report(lab, 0);
    check_int(io->in[4], SCSI_ALUA_STANDBY);
    check_int(io->in[9], 2);
    expect_good(io);
    check_int(administer(lab, 1, SCSI_ALUA_UNAVAILABLE), 0);
    expect_sense(lab_cmd(lab, tur, 6), SENSE_ALUA_CHANGED);
    expect_sense(lab_cmd(lab, tur, 6), SENSE_PORT_UNAVAILABLE);
    check_int(administer(lab, 1, SCSI_ALUA_NON_OPTIMIZED), 0);
    expect_sense(lab_cmd(lab, tur, 6), SENSE_ALUA_CHANGED);
    expect_good(lab_cmd(lab, tur, 6));
    check_int(administer(lab, 16, SCSI_ALUA_OPTIMIZED), -1);
    lab_end(&lab);
}

/* What a host asks when it finds a path, lest it takes the path for one to a disk of no size. */
HARNESS_TEST(a_path_in_standby_can_be_probed_and_set_up)
{
    static const uint8_t cases[][16] = {
        {0x25},                                            /* READ CAPACITY(10) */
        {0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32}, /* (16) */
        {0x15, 0x10, 0, 0, 0},                             /* MODE SELECT(6) */
        {0x55, 0x10, 0, 0, 0, 0, 0, 0, 0},                 /* (10) */
        {0x4c, 0x02, 0, 0, 0, 0, 0, 0, 0},                 /* LOG SELECT */
        {0x1d, 0x04, 0, 0, 0},                             /* SEND DIAGNOSTIC */
    };
    struct lab *lab = lab_new();
    check_int(administer(lab, 1, SCSI_ALUA_STANDBY), 0);
    expect_sense(lab_cmd(lab, tur, 6), SENSE_ALUA_CHANGED);
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_good(lab_cmd(lab, cases[i], 16));
    check_int(administer(lab, 1, SCSI_ALUA_UNAVAILABLE), 0);
    expect_sense(lab_cmd(lab, tur, 6), SENSE_ALUA_CHANGED);
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_sense(lab_cmd(lab, cases[i], 16), SENSE_PORT_UNAVAILABLE);
    lab_end(&lab);
}

HARNESS_TEST(a_host_sets_a_state_and_the_others_hear)
{
    struct lab *lab = lab_new();
    struct scsi_nexus *b = lab_login(lab, 1, "iqn.2026-11.lab:b,i,0x2");
    struct io *io = io_new(b, 1, 0, tur, 6);
    io_start(io);
    io_wait(io);
    expect_sense(io, SENSE_POWER_ON);
    expect_good(set(lab, 1, SCSI_ALUA_NON_OPTIMIZED));
    expect_good(lab_cmd(lab, tur, 6));
    io = io_new(b, 1, 0, tur, 6);
    io_start(io);
    io_wait(io);
    expect_sense(io, SENSE_ALUA_CHANGED);
    io = report(lab, 0);
    check_int(io->in[4], SCSI_ALUA_NON_OPTIMIZED);
    check_int(io->in[9], 1);
    expect_good(io);
    expect_field(set(lab, 1, 0x0e), false, 4, 3);
    expect_field(set(lab, 7, 0), false, 6, 7);
    lab_logout(&b, 1);
    lab_end(&lab);
}

HARNESS_TEST(groups_need_not_follow_one_another)
{
    struct lab *lab = lab_new();
    scsi_set_ports(1u << 1 | 1u << 7);
    struct io *io = report(lab, 0);
    check_int(io->in_len, 4 + 2 * 12);
    check_int(be(io->in + 4 + 12 + 2, 2), 7);
    expect_good(io);
    expect_field(set(lab, 2, 0), false, 6, 7);
    expect_good(set(lab, 7, SCSI_ALUA_STANDBY));
    scsi_set_ports(1u << 1);
    lab_end(&lab);
}

static struct scsi_group kept[4];
static unsigned kept_count;
static bool keeping_fails;

static int keep(const char *target, const struct scsi_group *groups, unsigned count, struct err *e)
{
    (void)target;
    if (keeping_fails)
        return err_set(e, ERR_IO, "", "no room");
    for (unsigned i = 0; i < count; i++)
        kept[kept_count++] = groups[i];
    return 0;
}

HARNESS_TEST(states_are_saved_before_they_take_effect)
{
    struct lab *lab = lab_new();
    scsi_set_alua_keeper(keep);
    check_int(administer(lab, 1, SCSI_ALUA_NON_OPTIMIZED), 0);
    expect_sense(lab_cmd(lab, tur, 6), SENSE_ALUA_CHANGED);
    expect_good(set(lab, 1, SCSI_ALUA_OPTIMIZED));
    check_int(kept_count, 2);
    check_int(kept[0].by_host, false);
    check_int(kept[1].state, SCSI_ALUA_OPTIMIZED);
    check_int(kept[1].by_host, true);
    keeping_fails = true;
    expect_sense(set(lab, 1, SCSI_ALUA_STANDBY), SENSE_SET_GROUPS_FAILED);
    check_int(administer(lab, 1, SCSI_ALUA_STANDBY), -1);
    check_int(scsi_alua_of(lab->target, 1), SCSI_ALUA_OPTIMIZED);
    expect_good(lab_cmd(lab, tur, 6));
    scsi_set_alua_keeper(NULL);
    lab_end(&lab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(groups_are_reported_in_both_formats),
        cmocka_unit_test(standby_serves_no_blocks_and_says_why),
        cmocka_unit_test(a_path_in_standby_can_be_probed_and_set_up),
        cmocka_unit_test(a_host_sets_a_state_and_the_others_hear),
        cmocka_unit_test(groups_need_not_follow_one_another),
        cmocka_unit_test(states_are_saved_before_they_take_effect),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
