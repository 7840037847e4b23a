/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "unit.h"

#include "daemon/uevent.h"

#define PARSE(text, ev) uevent_parse(text, sizeof(text), ev) /* with the last NUL */

static void a_disk_that_goes_is_understood(void **state)
{
    struct uevent ev;
    (void)state;
    assert_true(PARSE("remove@/devices/x/block/sdb\0ACTION=remove\0SUBSYSTEM=block\0MAJOR=8\0"
                      "MINOR=16\0DEVNAME=sdb\0SEQNUM=77",
                      &ev));
    assert_true(ev.block && ev.going && !ev.changing && ev.numbered);
    assert_int_equal(ev.major_nr, 8);
    assert_int_equal(ev.minor_nr, 16);
}

static void a_change_is_told_from_a_removal(void **state)
{
    struct uevent ev;
    (void)state;
    assert_true(PARSE("change@/devices/virtual/block/loop0\0ACTION=change\0SUBSYSTEM=block\0"
                      "RESIZE=1\0MAJOR=7\0MINOR=0",
                      &ev));
    assert_true(ev.block && ev.changing && !ev.going && ev.numbered);
}

static void other_subsystems_are_no_block_devices(void **state)
{
    struct uevent ev;
    (void)state;
    assert_true(PARSE("add@/devices/x/net/eth0\0ACTION=add\0SUBSYSTEM=net", &ev));
    assert_false(ev.block);
    assert_false(ev.numbered);
}

static void what_the_kernel_does_not_send_is_refused(void **state)
{
    struct uevent ev;
    (void)state;
    assert_false(uevent_parse("", 0, &ev));
    assert_false(uevent_parse("libudev\0x", 9, &ev));
    assert_false(uevent_parse("remove@/x", 9, &ev)); /* no end */
    assert_false(uevent_parse("remove@/x\0SUBSYSTEM=blo", 23, &ev));
    assert_true(PARSE("remove@/x\0SUBSYSTEM=block\0MAJOR=8x\0MINOR=-1", &ev));
    assert_false(ev.numbered);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_disk_that_goes_is_understood),
        cmocka_unit_test(a_change_is_told_from_a_removal),
        cmocka_unit_test(other_subsystems_are_no_block_devices),
        cmocka_unit_test(what_the_kernel_does_not_send_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
