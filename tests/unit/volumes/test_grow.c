/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Pools that take what their devices have gained. */
#include "block/event.h"
#include "pools.h"
#include "text.h"

enum { SMALL = 5, LARGE = 12 }; /* MiB, extents of 1 MiB: 4 and 11 */

static struct err e;

/* The device gets another size under whoever has it. */
static void set_size(const char *device, unsigned mib)
{
    bdev_set_size(bdev_find(device), mib * MIB);
}

static void small(const char *name)
{
    mem(name, LARGE);
    set_size(name, SMALL);
}

static bool grow(const char *pool)
{
    bool changed;
    ok(pool_grow(pool, &changed, &e), &e, "pool_grow");
    return changed;
}

static uint64_t label_size(const char *device)
{
    struct lvm_disk d = {.device = device, .desc = open_device(device, CLAIM_READ)};
    ok(lvm_disk_open(&d, &e), &e, "open");
    bdev_drain_close(&d.desc);
    return d.label.device_size;
}

HARNESS_TEST(what_a_device_has_gained_is_space_of_the_pool)
{
    small("a");
    small("b");
    make_pool("p", "a", "b");
    make_volume("p", "v", 6);
    fill("p/v", 3);
    set_size("b", LARGE);
    check_int(pool_info_of("p").size, 8 * MIB); /* not by itself */
    check_int(pool_info_of("p").device[0].gain, 0);
    check_int(pool_info_of("p").device[1].gain, 7 * MIB);
    check(grow("p"));
    check_int(pool_info_of("p").device[1].gain, 0);
    check_int(pool_info_of("p").size, 15 * MIB);
    check_int(pool_info_of("p").seqno, 3);
    ok(volume_resize("p", "v", 15 * MIB, &e), &e, "resize");
    fill("p/v", 9);
    stop_pool("p");
    check_int(label_size("a"), SMALL * MIB);
    check_int(label_size("b"), LARGE * MIB);
    import_pool("p");
    check_int(pool_info_of("p").size, 15 * MIB);
    expect_fill("p/v", 9, 15 * MIB);
    stop_pool("p");
    remove_device("a");
    remove_device("b");
}

HARNESS_TEST(a_pool_whose_devices_gained_nothing_is_not_written)
{
    small("a");
    make_pool("p", "a", NULL);
    check(!grow("p"));
    check_int(pool_info_of("p").seqno, 1);
    set_size("a", LARGE);
    check(grow("p"));
    check(!grow("p"));
    check_int(pool_info_of("p").seqno, 2);
    stop_pool("p");
    remove_device("a");
}

HARNESS_TEST(a_pool_does_not_shrink)
{
    bool changed;
    mem("a", LARGE);
    make_pool("p", "a", NULL);
    set_size("a", SMALL);
    check_int(pool_grow("p", &changed, &e), -1);
    check_int(e.code, ERR_INVALID);
    check(strstr(e.msg, "does not shrink") && !changed);
    check_int(pool_info_of("p").size, 11 * MIB);
    check_int(pool_info_of("p").seqno, 1);
    check_int(pool_grow("q", &changed, &e), -1);
    check_int(e.code, ERR_NOT_FOUND);
    stop_pool("p");
    remove_device("a");
}

HARNESS_TEST(a_failed_growth_leaves_the_pool_as_it_was)
{
    bool changed;
    small("m");
    struct bdev *f = device(&fault_driver, "f", "on=m");
    make_pool("p", "f", NULL);
    set_size("m", LARGE);
    set_size("f", LARGE);
    ok(fault_set_rules(f, "write:error=EIO:offset=4608-65535", &e), &e, "rules");
    check_int(pool_grow("p", &changed, &e), -1);
    check(!changed);
    check_int(pool_info_of("p").size, 4 * MIB);
    ok(fault_set_rules(f, "", &e), &e, "rules");
    check(grow("p"));
    check_int(pool_info_of("p").size, 11 * MIB);
    stop_pool("p");
    remove_device("f");
    remove_device("m");
}

/* The label says less than the text after a power cut between them; nobody reads it there. */
HARNESS_TEST(a_label_that_could_not_be_written_is_written_by_the_next_growth)
{
    small("m");
    struct bdev *f = device(&fault_driver, "f", "on=m");
    make_pool("p", "f", NULL);
    set_size("m", LARGE);
    set_size("f", LARGE);
    ok(fault_set_rules(f, "write:error=EIO:offset=0-4095", &e), &e, "rules");
    check(grow("p"));
    check_int(pool_info_of("p").size, 11 * MIB);
    ok(fault_set_rules(f, "", &e), &e, "rules");
    stop_pool("p");
    check_int(label_size("f"), SMALL * MIB);
    import_pool("p");
    check_int(pool_info_of("p").size, 11 * MIB);
    check(grow("p"));
    check_int(pool_info_of("p").seqno, 2);
    stop_pool("p");
    check_int(label_size("f"), LARGE * MIB);
    remove_device("f");
    remove_device("m");
}

HARNESS_TEST(a_metadata_area_behind_the_data_is_not_grown_over)
{
    bool changed;
    struct lvm_disk *d = calloc(1, sizeof *d);
    small("a");
    make_pool("p", "a", NULL);
    stop_pool("p");
    d->device = "a";
    d->desc = open_device("a", CLAIM_EXCLUSIVE);
    ok(lvm_disk_open(d, &e), &e, "open");
    d->label.mda[d->label.mda_count++] = (struct lvm_area){4 * MIB + MIB / 2, MIB / 2};
    uint8_t sector[LVM_SECTOR];
    lvm_label_build(&d->label, sector);
    check_int(bdev_write(d->desc, LVM_SECTOR, sector, sizeof sector, 0), 0);
    bdev_drain_close(&d->desc);
    free(d);
    set_size("a", LARGE);
    import_pool("p");
    check_int(pool_info_of("p").device[0].gain, 0);
    check_int(pool_grow("p", &changed, &e), -1);
    check_int(e.code, ERR_UNSUPPORTED);
    check(strstr(e.msg, "pvresize"));
    stop_pool("p");
    remove_device("a");
}

HARNESS_TEST(a_group_with_thin_volumes_grows_and_keeps_them)
{
    static const char group[] =
        TEXT_VG(TEXT_LV(
            "tp", TEXT_ID1, TEXT_RW, "segment_count = 1\n",
            TEXT_SEG(1, 0, 2, "type = \"thin-pool\"\npool = \"tp_tdata\"\ntransaction_id = 7\n"))
                    TEXT_LV("tp_tdata", TEXT_ID2, "\"READ\", \"WRITE\"", "segment_count = 1\n",
                            TEXT_SEG(1, 0, 2, TEXT_LINEAR("pv0", 0))));
    mem("a", 200);
    set_size("a", 100);
    mem("b", 64);
    put_group("a", "KspJ2wM3FaKLmGvNg2MftP0oTkh42KOG", group);
    put_group("b", "D2vMHvgwmgJ8qPdojd0gt5ZCzMkJGITS", group);
    set_size("a", 200);
    import_pool("vgx");
    uint64_t before = pool_info_of("vgx").size;
    check_int(pool_info_of("vgx").device[0].gain, 100 * MIB);
    check(grow("vgx"));
    check_int(pool_info_of("vgx").size, before + 100 * MIB);
    stop_pool("vgx");
    char *text = read_text("b");
    check(strstr(text, "pe_count = 49") || strstr(text, "pe_count=49"));
    check(strstr(text, "dev_size = 409600") || strstr(text, "dev_size=409600"));
    check(strstr(text, "thin-pool") && strstr(text, "tp_tdata"));
    free(text);
    remove_device("a");
    remove_device("b");
}

static struct event told[8];
static unsigned told_count;
static void take_event(const struct event *ev, void *arg)
{
    (void)arg;
    if (strncmp(ev->object, "pool ", 5) == 0 && told_count < 8)
        told[told_count++] = *ev;
}

static void await_events(unsigned count)
{
    for (unsigned i = 0; i < 60000 && told_count < count; i++)
        task_sleep_us(1000);
    check_int(told_count, count);
}

HARNESS_TEST(a_device_that_grew_and_the_pool_that_did_are_told_of)
{
    told_count = 0;
    event_observe(take_event, NULL);
    small("a");
    make_pool("p", "a", NULL);
    set_size("a", SMALL - 1); /* no gain */
    set_size("a", LARGE);
    await_events(1);
    check(!strcmp(told[0].kind, "device-grown") &&
          strstr(told[0].message, "device a has gained 7"));
    check(grow("p"));
    await_events(2);
    check(!strcmp(told[1].kind, "pool-grown") && !strcmp(told[1].object, "pool p"));
    event_observe(NULL, NULL);
    stop_pool("p");
    remove_device("a");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_device_has_gained_is_space_of_the_pool),
        cmocka_unit_test(a_pool_whose_devices_gained_nothing_is_not_written),
        cmocka_unit_test(a_pool_does_not_shrink),
        cmocka_unit_test(a_failed_growth_leaves_the_pool_as_it_was),
        cmocka_unit_test(a_label_that_could_not_be_written_is_written_by_the_next_growth),
        cmocka_unit_test(a_metadata_area_behind_the_data_is_not_grown_over),
        cmocka_unit_test(a_group_with_thin_volumes_grows_and_keeps_them),
        cmocka_unit_test(a_device_that_grew_and_the_pool_that_did_are_told_of),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
