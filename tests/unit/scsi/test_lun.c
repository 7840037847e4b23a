/* SPDX-License-Identifier: GPL-2.0-or-later */
/* LUNs come, go, wait for their devices. */
#include "lab.h"

#include <string.h>

#include "drivers/drivers.h"
#include "drivers/fault/fault.h"

static const uint8_t tur[6];

static struct io *on_lun(struct lab *lab, unsigned lun, const void *cdb, unsigned len)
{
    struct io *io = io_new(lab->nexus, 0, lun, cdb, len);
    io_start(io);
    io_wait(io);
    return io;
}

static void take_info(const struct scsi_lun_info *i, void *arg)
{
    struct scsi_lun_info *out = arg;
    if (i->lun == out->lun)
        *out = *i;
}

static struct scsi_lun_info info(struct lab *lab, unsigned lun)
{
    struct scsi_lun_info i = {.lun = lun, .size = 12345};
    scsi_lun_for_each(lab->target, take_info, &i);
    return i;
}

/* What TEST UNIT READY says when it stops saying `now`. */
static unsigned next_sense(struct lab *lab, unsigned now)
{
    unsigned code;
    do {
        struct io *io = on_lun(lab, 0, tur, 6);
        code = io_code(io);
        io_free(&io);
    } while (code == now);
    return code;
}

static void settle(void)
{
    task_sleep_us(5000);
}

HARNESS_TEST(an_absent_device_is_not_ready_and_keeps_its_identity)
{
    struct uuid id = uuid_random();
    struct lab *lab = lab_with(&(struct scsi_lun_args){
        .device = "m", .identity = id, .saved_size = 1 << 20, .saved_block_size = 4096});
    expect_sense(CMD(lab, 0, 0, 0, 0, 0, 0), SENSE_BECOMING_READY);
    expect_sense(CMD(lab, 0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0), SENSE_BECOMING_READY);
    expect_sense(CMD(lab, 0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0), SENSE_BECOMING_READY);
    struct io *io = CMD(lab, 0x12, 0, 0, 0, 36, 0);
    check_int(io->in[0], 0);
    expect_good(io);
    io = CMD(lab, 0x03, 0, 0, 0, 18, 0);
    check_int(io->in[2], 2);
    check_int(be(io->in + 12, 2), 0x0401);
    expect_good(io);
    expect_good(CMD(lab, 0x1a, 0, 0x3f, 0, 255, 0));
    struct scsi_lun_info i = info(lab, 0);
    check(!i.ready && strstr(i.why, "m"));
    check_int(i.size, 1 << 20);
    check_int(i.block_size, 4096);
    check(uuid_equal(&i.identity, &id));
    lab_free(&lab);
}

HARNESS_TEST(a_lun_attaches_when_its_device_appears_and_detaches_when_it_goes)
{
    lab_mem("m", LAB_SIZE, 512);
    struct lab *lab = lab_with(&(struct scsi_lun_args){.device = "m"});
    struct scsi_lun_info before = info(lab, 0);
    check(before.ready);
    struct uuid uuid;
    struct bdev_info bi;
    bdev_name_info("m", &bi);
    uuid = bi.uuid;
    bdev_unregister(bdev_find("m")); /* the LUN lets it go */
    check(!bdev_find("m"));
    expect_sense(CMD(lab, 0, 0, 0, 0, 0, 0), SENSE_BECOMING_READY);
    check(!info(lab, 0).ready);
    check_int(info(lab, 0).size, LAB_SIZE);

    struct opts *o = opts_new(mem_driver.opts);
    struct err e;
    struct bdev *b;
    check_int(opts_put(o, "size", "4M", &e), 0);
    check_int(mem_driver.create("m", &uuid, o, &b, &e), 0);
    opts_free(&o);
    check_int(next_sense(lab, SENSE_BECOMING_READY), SENSE_READY_CHANGE);
    check(info(lab, 0).ready);
    check(!strcmp(info(lab, 0).naa, before.naa));
    expect_good(CMD(lab, 0, 0, 0, 0, 0, 0));
    lab_end(&lab);
}

HARNESS_TEST(a_stranger_under_the_device_s_name_is_not_taken)
{
    struct lab *lab = lab_with(&(struct scsi_lun_args){.device = "m", .identity = uuid_random()});
    lab_mem("m", LAB_SIZE, 512);
    until(strstr(info(lab, 0).why, "is not the one"));
    check(!info(lab, 0).ready);
    expect_sense(CMD(lab, 0, 0, 0, 0, 0, 0), SENSE_BECOMING_READY);
    lab_end(&lab);
}

HARNESS_TEST(a_grown_device_raises_capacity_changed)
{
    struct lab *lab = lab_new();
    bdev_set_size(bdev_find("m"), LAB_SIZE / 2);
    check_int(next_sense(lab, SENSE_NONE), SENSE_CAPACITY_CHANGED);
    struct io *io = CMD(lab, 0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    check_int(be(io->in, 4), LAB_SIZE / 1024 - 1);
    expect_good(io);
    check_int(info(lab, 0).size, LAB_SIZE / 2);
    bdev_set_size(bdev_find("m"), LAB_SIZE);
    check_int(next_sense(lab, SENSE_NONE), SENSE_CAPACITY_CHANGED);
    lab_end(&lab);
}

HARNESS_TEST(adding_and_removing_tells_the_others)
{
    struct lab *lab = lab_new();
    struct err e;
    const uint8_t luns[12] = {0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 64};
    lab_mem("n", LAB_SIZE, 512);
    check_int(scsi_lun_add(lab->target, &(struct scsi_lun_args){.lun = 7, .device = "n"}, &e), 0);
    check_int(scsi_lun_count(lab->target), 2);
    expect_sense(CMD(lab, 0, 0, 0, 0, 0, 0), SENSE_LUNS_CHANGED);
    expect_sense(on_lun(lab, 7, tur, 6), SENSE_POWER_ON);
    expect_good(on_lun(lab, 7, tur, 6));
    check_int(scsi_lun_remove(lab->target, 7, &e), 0);
    check_int(scsi_lun_count(lab->target), 1);
    expect_sense(on_lun(lab, 7, tur, 6), SENSE_NO_SUCH_LUN);
    struct io *io = on_lun(lab, 0, luns, 12); /* takes the unit attention with it */
    check_int(be(io->in, 4), 8);
    expect_good(io);
    expect_good(CMD(lab, 0, 0, 0, 0, 0, 0));
    check_int(scsi_lun_remove(lab->target, 7, &e), -1);
    check_int(e.code, ERR_NOT_FOUND);
    bdev_unregister(bdev_find("n"));
    lab_end(&lab);
}

/* Else a host goes on with what it knows of a disk that is another one now. */
HARNESS_TEST(who_knew_a_lun_hears_that_another_took_its_number)
{
    struct lab *lab = lab_new();
    struct err e;
    struct scsi_lun_args other = {.lun = 0, .device = "n"};
    const uint8_t luns[12] = {0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 64};
    lab_mem("n", LAB_SIZE, 512);
    for (unsigned told = 0; told < 2; told++) {
        check_int(scsi_lun_remove(lab->target, 0, &e), 0);
        expect_sense(on_lun(lab, 0, tur, 6), SENSE_NO_SUCH_LUN);
        check_int(scsi_lun_add(lab->target, &other, &e), 0);
        if (told) /* it has looked */
            expect_good(on_lun(lab, 0, luns, 12));
        expect_sense(on_lun(lab, 0, tur, 6), SENSE_POWER_ON);
        if (!told)
            expect_sense(on_lun(lab, 0, tur, 6), SENSE_LUNS_CHANGED);
        expect_good(on_lun(lab, 0, tur, 6));
    }
    lab_end(&lab);
    bdev_unregister(bdev_find("n"));
}

HARNESS_TEST(wrong_arguments_are_refused)
{
    struct lab *lab = lab_new();
    struct err e;
    struct scsi_lun_args a = {.lun = 16384, .device = "m"};
    check_int(scsi_lun_add(lab->target, &a, &e), -1);
    check(!strcmp(e.field, "lun"));
    a.lun = 0;
    check_int(scsi_lun_add(lab->target, &a, &e), -1);
    check_int(e.code, ERR_EXISTS);
    a = (struct scsi_lun_args){.lun = 1, .device = "nowhere"};
    check_int(scsi_lun_add(lab->target, &a, &e), -1);
    check_int(e.code, ERR_NOT_FOUND);
    struct bdev_user user = {.label = "test"};
    lab_mem("x", LAB_SIZE, 512);
    struct bdev_desc *d = bdev_open("x", CLAIM_EXCLUSIVE, &user, &e);
    a.device = "x";
    check_int(scsi_lun_add(lab->target, &a, &e), -1);
    check_int(e.code, ERR_IN_USE);
    bdev_close(&d);
    bdev_unregister(bdev_find("x"));
    lab_end(&lab);
}

static struct bdev *fault_on(const char *name, const char *below, const char *rules)
{
    struct err e = {0};
    struct bdev *b;
    struct opts *o = opts_new(fault_driver.opts);
    check_int(opts_put(o, "on", below, &e), 0);
    check_int(fault_driver.create(name, NULL, o, &b, &e), 0);
    opts_free(&o);
    check_int(fault_set_rules(b, rules, &e), 0);
    return b;
}

HARNESS_TEST(a_device_under_io_is_let_go_after_its_commands)
{
    lab_mem("m", LAB_SIZE, 512);
    fault_on("f", "m", "read:delay=10ms");
    struct lab *lab = lab_with(&(struct scsi_lun_args){.device = "f"});
    const uint8_t read10[10] = {0x28, 0, 0, 0, 0, 0, 0, 0, 1};
    struct io *io[8];
    for (unsigned i = 0; i < 8; i++) {
        io[i] = io_new(lab->nexus, 0, 0, read10, 10);
        io_start(io[i]);
    }
    bdev_unregister(bdev_find("f"));
    for (unsigned i = 0; i < 8; i++) {
        io_wait(io[i]);
        expect_good(io[i]);
    }
    expect_sense(CMD(lab, 0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0), SENSE_BECOMING_READY);
    lab_end(&lab);
}

struct removal {
    struct lab *lab;
    bool done;
};

static void remove_task(void *arg)
{
    struct removal *r = arg;
    struct err e;
    check_int(scsi_lun_remove(r->lab->target, 0, &e), 0);
    r->done = true;
}

HARNESS_TEST(a_lun_is_removed_after_its_last_command_has_ended)
{
    struct lab *lab = lab_new();
    struct removal r = {.lab = lab};
    struct err e;
    struct io *io = io_new(lab->nexus, 0, 0, tur, 6);
    io_begin(io); /* it waits for data that never comes */
    task_start(reactor_main(), "remove", remove_task, &r);
    settle();
    check(!r.done);
    check_int(scsi_lun_add(lab->target, &(struct scsi_lun_args){.device = "m"}, &e), -1);
    io_wait(io);
    expect_status(io, SCSI_TASK_ABORTED);
    while (!r.done)
        task_sleep_us(100);
    check_int(scsi_lun_add(lab->target, &(struct scsi_lun_args){.device = "m"}, &e), 0);
    expect_sense(CMD(lab, 0, 0, 0, 0, 0, 0), SENSE_POWER_ON);
    lab_end(&lab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_absent_device_is_not_ready_and_keeps_its_identity),
        cmocka_unit_test(a_lun_attaches_when_its_device_appears_and_detaches_when_it_goes),
        cmocka_unit_test(a_stranger_under_the_device_s_name_is_not_taken),
        cmocka_unit_test(a_grown_device_raises_capacity_changed),
        cmocka_unit_test(adding_and_removing_tells_the_others),
        cmocka_unit_test(who_knew_a_lun_hears_that_another_took_its_number),
        cmocka_unit_test(wrong_arguments_are_refused),
        cmocka_unit_test(a_device_under_io_is_let_go_after_its_commands),
        cmocka_unit_test(a_lun_is_removed_after_its_last_command_has_ended),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
