/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Task attributes, task management and unit attentions. Writes are held by a fault device. */
#include "lab.h"

#include <string.h>

#include "drivers/drivers.h"
#include "drivers/fault/fault.h"

static struct bdev *fault;
static const uint8_t tur[6], read10[10] = {0x28, 0, 0, 0, 0, 0, 0, 0, 1},
                             write10[10] = {0x2a, 0, 0, 0, 0, 0, 0, 0, 1},
                             elsewhere[10] = {0x2a, 0, 0, 0, 1, 0, 0, 0, 1};
static uint8_t block[512];

static struct lab *start(const char *rules)
{
    struct err e = {0};
    lab_mem("m", LAB_SIZE, 512);
    struct opts *o = opts_new(fault_driver.opts);
    check_int(opts_put(o, "on", "m", &e), 0);
    check_int(fault_driver.create("f", NULL, o, &fault, &e), 0);
    opts_free(&o);
    check_int(fault_set_rules(fault, rules, &e), 0);
    return lab_with(&(struct scsi_lun_args){.device = "f"});
}

static void finish(struct lab **lab)
{
    lab_free(lab);
    bdev_unregister(bdev_find("f"));
    bdev_unregister(bdev_find("m"));
}

static void settle(void)
{
    task_sleep_us(3000);
}

static void until_held(unsigned n)
{
    while (fault_held(fault) != n)
        task_sleep_us(100);
}

static struct io *send_on(struct scsi_nexus *n, unsigned reactor, const void *cdb, unsigned len,
                          enum scsi_attr attr)
{
    struct io *io = io_new(n, reactor, 0, cdb, len);
    io->cmd.attr = attr;
    if (((const uint8_t *)cdb)[0] == 0x2a) {
        io->out = block;
        io->out_len = sizeof block;
    }
    io_start(io);
    return io;
}

static struct io *send(struct lab *lab, const void *cdb, unsigned len, enum scsi_attr attr)
{
    return send_on(lab->nexus, 0, cdb, len, attr);
}

static bool is_done(const struct io *io)
{
    return __atomic_load_n(&io->done, __ATOMIC_ACQUIRE);
}

static void expect_end(struct io *io, unsigned status)
{
    io_wait(io);
    check(!io->cmd.aborted);
    expect_status(io, status);
}

static void expect_aborted(struct io *io)
{
    io_wait(io);
    check(io->cmd.aborted);
    check(io->cmd.status != SCSI_TASK_ABORTED); /* no response goes out */
    io_free(&io);
}

/* By another nexus: it is told (TAS 1). */
static void expect_told(struct io *io)
{
    io_wait(io);
    check(io->cmd.aborted);
    check_int(io->cmd.status, SCSI_TASK_ABORTED);
    check_int(io->cmd.sense_len, 0);
    check_int(io->cmd.length, 0);
    io_free(&io);
}

/* ---- attributes */

HARNESS_TEST(simple_commands_pass_one_another)
{
    struct lab *lab = start("write:hold");
    struct io *w = send(lab, write10, 10, SCSI_SIMPLE);
    struct io *r = send(lab, read10, 10, SCSI_SIMPLE);
    expect_end(r, SCSI_GOOD);
    check(!is_done(w));
    fault_release(fault);
    expect_end(w, SCSI_GOOD);
    finish(&lab);
}

HARNESS_TEST(an_ordered_command_waits_and_is_waited_for)
{
    struct lab *lab = start("write:hold");
    struct io *w = send(lab, write10, 10, SCSI_SIMPLE);
    struct io *o = send(lab, read10, 10, SCSI_ORDERED);
    struct io *s = send(lab, tur, 6, SCSI_SIMPLE);
    struct io *h = send(lab, tur, 6, SCSI_HEAD_OF_QUEUE);
    expect_end(h, SCSI_GOOD);
    settle();
    check(!is_done(o) && !is_done(s));
    fault_release(fault);
    expect_end(w, SCSI_GOOD);
    expect_end(o, SCSI_GOOD);
    expect_end(s, SCSI_GOOD);
    finish(&lab);
}

HARNESS_TEST(an_ordered_command_waits_for_data_that_is_on_its_way)
{
    struct lab *lab = start("");
    struct io *w = io_new(lab->nexus, 0, 0, write10, 10);
    w->out = block;
    w->out_len = 512;
    io_begin(w);
    struct io *o = send(lab, read10, 10, SCSI_ORDERED);
    settle();
    check(!is_done(o));
    io_execute(w);
    expect_end(w, SCSI_GOOD);
    expect_end(o, SCSI_GOOD);
    finish(&lab);
}

HARNESS_TEST(two_ordered_commands_keep_their_order)
{
    struct lab *lab = start("write:hold");
    struct io *a = send(lab, write10, 10, SCSI_ORDERED);
    struct io *b = send(lab, write10, 10, SCSI_ORDERED);
    struct io *c = send(lab, write10, 10, SCSI_ORDERED);
    for (unsigned i = 0; i < 3; i++) {
        until_held(1);
        until(is_done(a) + is_done(b) + is_done(c) >= (int)i);
        settle();
        check_int(fault_held(fault), 1);
        check_int(is_done(a) + is_done(b) + is_done(c), i);
        fault_release(fault);
    }
    expect_end(a, SCSI_GOOD);
    expect_end(b, SCSI_GOOD);
    expect_end(c, SCSI_GOOD);
    finish(&lab);
}

/* A READ whose data is the device's memory has completed and is not sent. */
static struct io *send_borrowing(struct lab *lab)
{
    struct io *r = io_new(lab->nexus, 0, 0, read10, 10);
    r->cmd.may_borrow = true;
    io_start(r);
    while (!is_done(r))
        task_sleep_us(100);
    check(r->cmd.lent);
    return r;
}

HARNESS_TEST(an_ordered_command_waits_until_borrowed_data_is_sent)
{
    struct lab *lab = lab_new();
    struct io *r = send_borrowing(lab);
    struct io *s = send(lab, write10, 10, SCSI_SIMPLE);
    expect_end(s, SCSI_GOOD);
    struct io *o = send(lab, write10, 10, SCSI_ORDERED);
    settle();
    check(!is_done(o));
    expect_end(r, SCSI_GOOD);
    expect_end(o, SCSI_GOOD);
    lab_end(&lab);
}

HARNESS_TEST(an_ordered_command_does_not_borrow)
{
    struct lab *lab = lab_new();
    struct io *r = io_new(lab->nexus, 0, 0, read10, 10);
    r->cmd.may_borrow = true;
    r->cmd.attr = SCSI_ORDERED;
    io_start(r);
    io_wait(r);
    check(!r->cmd.lent);
    expect_status(r, SCSI_GOOD);
    lab_end(&lab);
}

static bool removed;

static void remove_m(void *arg)
{
    (void)arg;
    bdev_unregister(bdev_find("m"));
    __atomic_store_n(&removed, true, __ATOMIC_RELEASE);
}

HARNESS_TEST(a_device_goes_when_what_it_has_lent_is_sent)
{
    struct lab *lab = lab_new();
    struct io *r = send_borrowing(lab);
    removed = false;
    task_start(reactor_main(), "remove", remove_m, NULL);
    settle();
    check(!__atomic_load_n(&removed, __ATOMIC_ACQUIRE));
    check_int(*(const uint8_t *)r->cmd.data->iov_base, 0); /* it is still there */
    expect_end(r, SCSI_GOOD);
    while (!__atomic_load_n(&removed, __ATOMIC_ACQUIRE))
        task_sleep_us(100);
    lab_free(&lab);
}

HARNESS_TEST(nexuses_do_not_order_one_another)
{
    struct lab *lab = start("write:hold");
    struct scsi_nexus *other = lab_login(lab, 1, "other");
    struct io *ua = send_on(other, 1, tur, 6, SCSI_SIMPLE);
    io_wait(ua);
    expect_sense(ua, SENSE_POWER_ON);
    struct io *w = send(lab, write10, 10, SCSI_SIMPLE);
    struct io *o = send_on(other, 1, read10, 10, SCSI_ORDERED);
    expect_end(o, SCSI_GOOD);
    fault_release(fault);
    expect_end(w, SCSI_GOOD);
    lab_logout(&other, 1);
    finish(&lab);
}

HARNESS_TEST(aca_is_refused)
{
    struct lab *lab = start("");
    struct io *io = send(lab, tur, 6, SCSI_ACA);
    io_wait(io);
    expect_sense(io, SENSE_INVALID_MESSAGE);
    finish(&lab);
}

/* ---- task management */

HARNESS_TEST(abort_task_answers_after_the_task_is_out)
{
    struct lab *lab = start("write:delay=20ms");
    struct io *w = send(lab, write10, 10, SCSI_SIMPLE);
    check_int(lab_tmf(lab->nexus, 0, SCSI_ABORT_TASK, 0, &w->cmd), SCSI_TMF_COMPLETE);
    check(is_done(w));
    expect_aborted(w);
    finish(&lab);
}

HARNESS_TEST(abort_task_reaches_what_has_not_run_yet)
{
    struct lab *lab = start("write:hold");
    struct io *w = send(lab, write10, 10, SCSI_SIMPLE);
    struct io *o = send(lab, write10, 10, SCSI_ORDERED);
    struct io *begun = io_new(lab->nexus, 0, 0, write10, 10);
    io_begin(begun);
    check_int(lab_tmf(lab->nexus, 0, SCSI_ABORT_TASK, 0, &o->cmd), SCSI_TMF_COMPLETE);
    check_int(lab_tmf(lab->nexus, 0, SCSI_ABORT_TASK, 0, &begun->cmd), SCSI_TMF_COMPLETE);
    expect_aborted(o);
    expect_aborted(begun);
    check_int(fault_held(fault), 1);
    fault_release(fault);
    expect_end(w, SCSI_GOOD);
    finish(&lab);
}

HARNESS_TEST(abort_of_a_task_that_is_not_there)
{
    struct lab *lab = start("");
    struct scsi_cmd none = {0};
    check_int(lab_tmf(lab->nexus, 0, SCSI_ABORT_TASK, 0, &none), SCSI_TMF_NO_TASK);
    check_int(lab_tmf(lab->nexus, 0, SCSI_ABORT_TASK_SET, 9, NULL), SCSI_TMF_NO_LUN);
    check_int(lab_tmf(lab->nexus, 0, SCSI_CLEAR_ACA, 0, NULL), SCSI_TMF_UNSUPPORTED);
    finish(&lab);
}

HARNESS_TEST(task_sets_are_a_nexus_s_own)
{
    struct lab *lab = start("write:delay=30ms");
    struct scsi_nexus *other = lab_login(lab, 1, "other");
    struct io *ua = send_on(other, 1, tur, 6, SCSI_SIMPLE);
    io_wait(ua);
    expect_sense(ua, SENSE_POWER_ON);
    static const enum scsi_tmf fns[] = {SCSI_ABORT_TASK_SET, SCSI_CLEAR_TASK_SET};
    for (unsigned i = 0; i < 2; i++) {
        struct io *a = send(lab, write10, 10, SCSI_SIMPLE);
        struct io *b = send_on(other, 1, elsewhere, 10, SCSI_SIMPLE);
        check_int(lab_tmf(lab->nexus, 0, fns[i], 0, NULL), SCSI_TMF_COMPLETE);
        check(is_done(a));
        expect_aborted(a);
        expect_end(b, SCSI_GOOD);
        expect_end(send(lab, tur, 6, SCSI_SIMPLE), SCSI_GOOD);
    }
    lab_logout(&other, 1);
    finish(&lab);
}

HARNESS_TEST(a_lun_reset_reaches_all_nexuses_and_resets_mode_pages)
{
    struct lab *lab = start("write:delay=20ms");
    struct scsi_nexus *other = lab_login(lab, 1, "other");
    struct io *ua = send_on(other, 1, tur, 6, SCSI_SIMPLE);
    io_wait(ua);
    expect_sense(ua, SENSE_POWER_ON);
    uint8_t d_sense[16] = {0, 0, 0, 0, 0x0a, 10, 0x26, 0x10, 0, 0x40};
    expect_good(OUT(lab, d_sense, 16, 0x15, 0x10, 0, 0, 16, 0));
    ua = send_on(other, 1, tur, 6, SCSI_SIMPLE);
    io_wait(ua);
    expect_sense(ua, SENSE_MODE_CHANGED);

    struct io *a = send(lab, write10, 10, SCSI_SIMPLE);
    struct io *b = send_on(other, 1, elsewhere, 10, SCSI_SIMPLE);
    check_int(lab_tmf(lab->nexus, 0, SCSI_LOGICAL_UNIT_RESET, 0, NULL), SCSI_TMF_COMPLETE);
    check(is_done(a) && is_done(b));
    expect_aborted(a);
    expect_told(b);
    ua = send(lab, tur, 6, SCSI_SIMPLE);
    io_wait(ua);
    check_int(ua->cmd.sense[0], 0x70); /* D_SENSE is back at its default */
    expect_sense(ua, SENSE_LUN_RESET);
    ua = send_on(other, 1, tur, 6, SCSI_SIMPLE);
    io_wait(ua);
    expect_sense(ua, SENSE_LUN_RESET);
    expect_end(send(lab, tur, 6, SCSI_SIMPLE), SCSI_GOOD);
    lab_logout(&other, 1);
    finish(&lab);
}

HARNESS_TEST(a_target_reset_reaches_all_luns)
{
    struct lab *lab = start("");
    struct err e;
    lab_mem("n", LAB_SIZE, 512);
    check_int(scsi_lun_add(lab->target, &(struct scsi_lun_args){.lun = 1, .device = "n"}, &e), 0);
    struct io *io = io_new(lab->nexus, 0, 1, tur, 6);
    io_start(io);
    io_wait(io);
    expect_sense(io, SENSE_POWER_ON);
    check_int(lab_tmf(lab->nexus, 0, SCSI_TARGET_RESET, 0, NULL), SCSI_TMF_COMPLETE);
    for (unsigned lun = 0; lun < 2; lun++) {
        io = io_new(lab->nexus, 0, lun, tur, 6);
        io_start(io);
        io_wait(io);
        expect_sense(io, SENSE_LUN_RESET);
    }
    lab_free(&lab);
    bdev_unregister(bdev_find("f"));
    bdev_unregister(bdev_find("m"));
    bdev_unregister(bdev_find("n"));
}

/* ---- unit attentions */

HARNESS_TEST(a_new_nexus_hears_of_power_on_once)
{
    struct lab *lab = start("");
    struct scsi_nexus *n = lab_login(lab, 1, "new");
    const uint8_t inquiry[6] = {0x12, 0, 0, 0, 36}, luns[12] = {0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16};
    struct io *io = send_on(n, 1, inquiry, 6, SCSI_SIMPLE);
    expect_end(io, SCSI_GOOD);
    io = send_on(n, 1, luns, 12, SCSI_SIMPLE);
    expect_end(io, SCSI_GOOD);
    io = send_on(n, 1, write10, 10, SCSI_SIMPLE);
    io_wait(io);
    expect_sense(io, SENSE_POWER_ON);
    io = send_on(n, 1, tur, 6, SCSI_SIMPLE);
    expect_end(io, SCSI_GOOD);
    lab_logout(&n, 1);
    finish(&lab);
}

HARNESS_TEST(request_sense_reports_and_takes_a_unit_attention)
{
    struct lab *lab = start("");
    struct scsi_nexus *n = lab_login(lab, 1, "new");
    const uint8_t request_sense[6] = {0x03, 0, 0, 0, 18};
    struct io *io = send_on(n, 1, request_sense, 6, SCSI_SIMPLE);
    io_wait(io);
    check_int(io->in[2], 6);
    check_int(io->in[12], 0x29);
    expect_good(io);
    expect_end(send_on(n, 1, tur, 6, SCSI_SIMPLE), SCSI_GOOD);
    lab_logout(&n, 1);
    finish(&lab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(simple_commands_pass_one_another),
        cmocka_unit_test(an_ordered_command_waits_and_is_waited_for),
        cmocka_unit_test(an_ordered_command_waits_for_data_that_is_on_its_way),
        cmocka_unit_test(two_ordered_commands_keep_their_order),
        cmocka_unit_test(an_ordered_command_waits_until_borrowed_data_is_sent),
        cmocka_unit_test(an_ordered_command_does_not_borrow),
        cmocka_unit_test(a_device_goes_when_what_it_has_lent_is_sent),
        cmocka_unit_test(nexuses_do_not_order_one_another),
        cmocka_unit_test(aca_is_refused),
        cmocka_unit_test(abort_task_answers_after_the_task_is_out),
        cmocka_unit_test(abort_task_reaches_what_has_not_run_yet),
        cmocka_unit_test(abort_of_a_task_that_is_not_there),
        cmocka_unit_test(task_sets_are_a_nexus_s_own),
        cmocka_unit_test(a_lun_reset_reaches_all_nexuses_and_resets_mode_pages),
        cmocka_unit_test(a_target_reset_reaches_all_luns),
        cmocka_unit_test(a_new_nexus_hears_of_power_on_once),
        cmocka_unit_test(request_sense_reports_and_takes_a_unit_attention),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
