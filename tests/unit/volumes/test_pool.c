/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <unistd.h>

#include "pools.h"

HARNESS_TEST(a_pool_has_the_space_of_its_devices_but_for_a_mib_each)
{
    mem("a", 9);
    mem("b", 5);
    make_pool("p", "a", "b");
    struct pool_info i = pool_info_of("p");
    check_int(i.state, POOL_ACTIVE);
    check_int(i.size, 12 * MIB);
    check_int(i.free, 12 * MIB);
    check_int(i.extent_size, MIB);
    check_int(i.seqno, 1);
    check_int(i.device_count, 2);
    check(!strcmp(i.device[1].device, "b"));
    check_int(i.device[1].free, 4 * MIB);
    stop_pool("p");
    check(!pool_get("p", &i));
    remove_device("a");
    remove_device("b");
}

HARNESS_TEST(a_volume_is_a_device_of_its_own)
{
    mem("a", 9);
    make_pool("p", "a", NULL);
    make_volume("p", "v", 3);
    struct volume_info v;
    struct bdev_info info;
    check(volume_get("p/v", &v));
    check(v.active && v.size == 3 * MIB && !strcmp(v.kind, "linear"));
    check(bdev_name_info("p/v", &info));
    check(!strcmp(info.type, "volume") && info.size == 3 * MIB);
    check(uuid_equal(&info.uuid, &v.uuid));
    check(info.ops & 1u << BIO_DISCARD);
    check_int(pool_info_of("p").volume_count, 1);
    check_int(pool_info_of("p").seqno, 2);
    fill("p/v", 1);
    expect_fill("p/v", 1, 3 * MIB);
    stop_pool("p");
    check(!bdev_find("p/v"));
    remove_device("a");
}

HARNESS_TEST(sizes_are_rounded_up_to_extents)
{
    mem("a", 9);
    make_pool("p", "a", NULL);
    struct err e = {0};
    ok(volume_create("p", "v", MIB + 1, &e), &e, "create");
    check_int(size_of("p/v"), 2 * MIB);
    stop_pool("p");
    remove_device("a");
}

HARNESS_TEST(a_volume_grows_and_keeps_its_data)
{
    mem("a", 9);
    mem("b", 9);
    make_pool("p", "a", "b");
    make_volume("p", "v", 2);
    make_volume("p", "w", 2); /* in the way */
    fill("p/v", 1);
    struct err e = {0};
    ok(volume_resize("p", "v", 10 * MIB, &e), &e, "resize"); /* over both devices */
    check_int(size_of("p/v"), 10 * MIB);
    expect_fill("p/v", 1, 2 * MIB);
    fill("p/v", 5);
    fill("p/w", 50);
    expect_fill("p/v", 5, 10 * MIB);
    stop_pool("p");
    import_pool("p");
    expect_fill("p/v", 5, 10 * MIB);
    expect_fill("p/w", 50, 2 * MIB);
    stop_pool("p");
    remove_device("a");
    remove_device("b");
}

HARNESS_TEST(a_volume_shrinks_and_its_space_is_free)
{
    mem("a", 9);
    make_pool("p", "a", NULL);
    make_volume("p", "v", 8);
    fill("p/v", 1);
    struct err e = {0};
    ok(volume_resize("p", "v", 3 * MIB, &e), &e, "resize");
    check_int(size_of("p/v"), 3 * MIB);
    check_int(pool_info_of("p").free, 5 * MIB);
    expect_fill("p/v", 1, 3 * MIB);
    make_volume("p", "w", 5);
    fill("p/w", 100);
    expect_fill("p/v", 1, 3 * MIB);
    stop_pool("p");
    remove_device("a");
}

HARNESS_TEST(the_same_size_writes_nothing)
{
    mem("a", 9);
    make_pool("p", "a", NULL);
    make_volume("p", "v", 3);
    struct err e = {0};
    ok(volume_resize("p", "v", 3 * MIB - 5, &e), &e, "resize");
    check_int(pool_info_of("p").seqno, 2);
    stop_pool("p");
    remove_device("a");
}

HARNESS_TEST(new_volumes_over_used_space_show_nothing_old)
{
    mem("a", 9);
    make_pool("p", "a", NULL);
    make_volume("p", "v", 4);
    fill("p/v", 1);
    struct err e = {0};
    ok(volume_delete("p", "v", &e), &e, "delete");
    check(!bdev_find("p/v"));
    make_volume("p", "w", 4);
    struct bdev_desc *d = open_device("p/w", CLAIM_READ);
    static uint8_t buf[1 << 20];
    check_int(bdev_read(d, 0, buf, sizeof buf), 0);
    check(is_zero(buf, sizeof buf));
    check_int(bdev_read(d, 3 * MIB, buf, sizeof buf), 0);
    check(is_zero(buf, sizeof buf));
    bdev_drain_close(&d);
    stop_pool("p");
    remove_device("a");
}

static void expect(int rc, const struct err *e, enum err_code code, const char *with)
{
    check_int(rc, -1);
    if (e->code != code || !strstr(e->msg, with))
        fprintf(stderr, "code %s: %s\n", err_code_name(e->code), e->msg);
    check_int(e->code, code);
    check(strstr(e->msg, with));
}

HARNESS_TEST(wrong_volume_requests_say_what_is_wrong)
{
    mem("a", 9);
    make_pool("p", "a", NULL);
    make_volume("p", "v", 3);
    struct err e;
    expect(volume_create("q", "v", MIB, &e), &e, ERR_NOT_FOUND, "no pool q");
    expect(volume_create("p", "v", MIB, &e), &e, ERR_EXISTS, "volume v already");
    expect(volume_create("p", "a b", MIB, &e), &e, ERR_INVALID, "not a name");
    expect(volume_create("p", "x_tdata", MIB, &e), &e, ERR_INVALID, "hidden");
    expect(volume_create("p", "pv0", MIB, &e), &e, ERR_INVALID, "metadata's own");
    expect(volume_create("p", "w", 0, &e), &e, ERR_INVALID, "at least");
    expect(volume_create("p", "w", 6 * MIB, &e), &e, ERR_NO_SPACE, "5.00 MiB free");
    expect(volume_resize("p", "w", MIB, &e), &e, ERR_NOT_FOUND, "no volume w");
    expect(volume_resize("p", "v", 9 * MIB, &e), &e, ERR_NO_SPACE, "are needed");
    expect(volume_delete("p", "w", &e), &e, ERR_NOT_FOUND, "no volume w");
    check_int(pool_info_of("p").seqno, 2);
    stop_pool("p");
    remove_device("a");
}

HARNESS_TEST(wrong_pool_requests_say_what_is_wrong)
{
    mem("a", 9);
    mem("tiny", 1);
    device(&mem_driver, "k4", "size=9M,block_size=4096");
    struct err e;
    expect(try_pool("p/q", "a", NULL, false, &e), &e, ERR_INVALID, "not a name");
    expect(try_pool("a", "a", NULL, false, &e), &e, ERR_EXISTS, "taken");
    expect(try_pool("p", "none", NULL, false, &e), &e, ERR_NOT_FOUND, "no device none");
    expect(try_pool("p", "a", "a", false, &e), &e, ERR_INVALID, "named twice");
    expect(try_pool("p", "tiny", NULL, false, &e), &e, ERR_INVALID, "too small");
    expect(try_pool("p", "a", "k4", false, &e), &e, ERR_INVALID, "blocks of");
    const char *devices[] = {"a"};
    struct pool_create c = {.name = "p", .devices = devices, .device_count = 1};
    c.extent_size = 3 * MIB;
    expect(pool_create(&c, &e), &e, ERR_INVALID, "power of two");
    c.device_count = 0;
    expect(pool_create(&c, &e), &e, ERR_INVALID, "expected 1 to 64");
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    expect(try_pool("p", "a", NULL, false, &e), &e, ERR_IN_USE, "in use by test");
    bdev_close(&d);
    make_pool("p", "a", NULL); /* nothing stayed behind */
    stop_pool("p");
    remove_device("a");
    remove_device("tiny");
    remove_device("k4");
}

HARNESS_TEST(a_device_with_a_signature_needs_force)
{
    mem("a", 9);
    make_pool("p", "a", NULL);
    stop_pool("p");
    struct err e;
    expect(try_pool("q", "a", NULL, false, &e), &e, ERR_NEEDS_FORCE, "LVM2_member");
    struct err f = {0};
    ok(try_pool("q", "a", NULL, true, &f), &f, "force");
    stop_pool("q");
    struct pool_found *found;
    check_int(pool_scan(&found), 1);
    check(!strcmp(found->name, "q"));
    free(found);
    remove_device("a");
}

HARNESS_TEST(a_new_part_of_a_pool_has_nothing_old_at_its_ends)
{
    static uint8_t buf[1 << 20];
    device(&mem_driver, "a", "size=9437696"); /* 9 MiB and a sector */
    struct bdev_desc *d = open_device("a", CLAIM_EXCLUSIVE);
    uint64_t size = bdev_size(d);
    memset(buf, 0xee, sizeof buf);
    for (uint64_t at = 0; at < size - 512; at += MIB)
        check_int(bdev_write(d, at, buf, MIB, 0), 0);
    check_int(bdev_write(d, size - 512, buf, 512, 0), 0);
    bdev_close(&d);
    make_pool("p", "a", NULL);
    stop_pool("p");
    d = open_device("a", CLAIM_READ);
    check_int(bdev_read(d, size - MIB, buf, MIB), 0);
    check(is_zero(buf, MIB));
    check_int(bdev_read(d, 0, buf, MIB), 0);
    check(is_zero(buf, 512) && is_zero(buf + 1024, 3072) && is_zero(buf + 65536, MIB - 65536));
    bdev_close(&d);
    remove_device("a");
}

HARNESS_TEST(an_extended_pool_has_more_space)
{
    mem("a", 5);
    mem("b", 9);
    make_pool("p", "a", NULL);
    const char *devices[] = {"b"};
    struct err e = {0};
    ok(pool_extend("p", devices, 1, false, &e), &e, "extend");
    check_int(pool_info_of("p").size, 12 * MIB);
    make_volume("p", "v", 10);
    fill("p/v", 3);
    stop_pool("p");
    import_pool("p");
    expect_fill("p/v", 3, 10 * MIB);
    expect(pool_extend("p", devices, 1, false, &e), &e, ERR_IN_USE, "in use by pool p");
    stop_pool("p");
    remove_device("a");
    remove_device("b");
}

HARNESS_TEST(volumes_promise_no_more_than_a_new_device_can)
{
    char path[] = "/tmp/orion-volumes-XXXXXX", options[60];
    int fd = mkstemp(path);
    check(fd >= 0 && !ftruncate(fd, 9 * MIB));
    close(fd);
    mem("a", 5);
    make_pool("p", "a", NULL);
    make_volume("p", "v", 2);
    struct bdev_info info, below;
    snprintf(options, sizeof options, "path=%s", path);
    device(&file_driver, "f", options);
    check(bdev_name_info("f", &below) && below.write_cache);
    check(bdev_name_info("p/v", &info) && !info.write_cache);
    const char *devices[] = {"f"};
    struct err e = {0};
    ok(pool_extend("p", devices, 1, false, &e), &e, "extend");
    check(bdev_name_info("p/v", &info) && info.write_cache);
    stop_pool("p");
    remove_device("f");
    remove_device("a");
    unlink(path);
}

HARNESS_TEST(what_is_in_use_is_neither_stopped_nor_deleted)
{
    mem("a", 9);
    make_pool("p", "a", NULL);
    make_volume("p", "v", 3);
    struct bdev_desc *d = open_device("p/v", CLAIM_SHARED_WRITE);
    struct err e;
    expect(pool_stop("p", &e), &e, ERR_IN_USE, "p/v is in use by test");
    expect(volume_delete("p", "v", &e), &e, ERR_IN_USE, "in use by test");
    bdev_close(&d);
    expect(pool_delete("p", &e), &e, ERR_IN_USE, "1 volumes, such as v");
    stop_pool("p");
    remove_device("a");
}

HARNESS_TEST(a_deleted_pool_leaves_no_label)
{
    mem("a", 9);
    mem("b", 9);
    make_pool("p", "a", "b");
    struct err e = {0};
    ok(pool_delete("p", &e), &e, "delete");
    struct pool_found *found;
    check_int(pool_scan(&found), 0);
    free(found);
    make_pool("p", "a", "b"); /* without force */
    stop_pool("p");
    remove_device("a");
    remove_device("b");
}

HARNESS_TEST(a_failed_delete_can_be_tried_again)
{
    mem("m", 9);
    struct bdev *f = device(&fault_driver, "f", "on=m");
    make_pool("p", "f", NULL);
    struct err e = {0};
    ok(fault_set_rules(f, "write:error=EIO:count=1", &e), &e, "rules");
    expect(pool_delete("p", &e), &e, ERR_IO, "not erased from all");
    struct err again = {0};
    ok(pool_delete("p", &again), &again, "again");
    remove_device("f");
    remove_device("m");
}

HARNESS_TEST(erasing_what_a_crash_left_spares_pools_with_volumes)
{
    mem("a", 9);
    make_pool("p", "a", NULL);
    struct uuid uuid = pool_info_of("p").uuid;
    make_volume("p", "v", 1);
    stop_pool("p");
    struct err e = {0};
    struct pool_found *found;
    ok(pool_erase(&uuid, &e), &e, "erase");
    ok(pool_erase_device("a", "p", &e), &e, "erase device");
    check_int(pool_scan(&found), 1);
    free(found);
    import_pool("p");
    ok(volume_delete("p", "v", &e), &e, "delete");
    stop_pool("p");
    ok(pool_erase_device("a", "other", &e), &e, "erase device");
    check_int(pool_scan(&found), 1);
    free(found);
    ok(pool_erase(&uuid, &e), &e, "erase");
    check_int(pool_scan(&found), 0);
    free(found);
    remove_device("a");
}

HARNESS_TEST(a_failed_create_leaves_no_label)
{
    mem("m", 9);
    mem("a", 9);
    struct bdev *f = device(&fault_driver, "f", "on=m");
    struct err e = {0};
    /* The text of the second device does not get there. */
    ok(fault_set_rules(f, "write:error=EIO:offset=4608-8191:after=1", &e), &e, "rules");
    check_int(try_pool("p", "a", "f", false, &e), -1);
    check_int(e.code, ERR_IO);
    ok(fault_set_rules(f, "", &e), &e, "rules");
    struct pool_found *found;
    check_int(pool_scan(&found), 0);
    free(found);
    struct err again = {0};
    ok(try_pool("p", "a", "f", false, &again), &again, "again");
    stop_pool("p");
    remove_device("f");
    remove_device("m");
    remove_device("a");
}

HARNESS_TEST(a_failed_commit_leaves_the_pool_as_it_was)
{
    mem("m", 9);
    struct bdev *f = device(&fault_driver, "f", "on=m");
    make_pool("p", "f", NULL);
    make_volume("p", "v", 2);
    struct err e = {0};
    ok(fault_set_rules(f, "write:error=EIO:offset=4608-65535", &e), &e, "rules");
    check_int(volume_create("p", "w", MIB, &e), -1);
    check_int(volume_resize("p", "v", 4 * MIB, &e), -1);
    check_int(volume_resize("p", "v", MIB, &e), -1);
    check_int(volume_delete("p", "v", &e), -1);
    struct err none = {0};
    ok(fault_set_rules(f, "", &none), &none, "rules");
    check_int(size_of("p/v"), 2 * MIB);
    check_int(pool_info_of("p").seqno, 2);
    check(!bdev_find("p/w"));
    fill("p/v", 1);
    make_volume("p", "w", 1);
    stop_pool("p");
    import_pool("p");
    check_int(pool_info_of("p").seqno, 3);
    expect_fill("p/v", 1, 2 * MIB);
    stop_pool("p");
    remove_device("f");
    remove_device("m");
}

/* The third step of the commit fails on one of two devices: the change counts, and the next import
 * brings the device up to date. */
HARNESS_TEST(a_device_that_misses_the_last_step_is_repaired_by_the_next_import)
{
    mem("m", 9);
    mem("a", 9);
    struct bdev *f = device(&fault_driver, "f", "on=m");
    make_pool("p", "f", "a");
    struct err e = {0};
    ok(fault_set_rules(f, "write:error=EIO:offset=4096-4607:after=1", &e), &e, "rules");
    make_volume("p", "v", 2);
    make_volume("p", "w", 2); /* without the device's copy */
    ok(fault_set_rules(f, "", &e), &e, "rules");
    char *old;
    stop_pool("p");
    old = read_text("f");
    check(old && !strstr(old, "w {"));
    free(old);
    import_pool("p");
    check(bdev_find("p/v") && bdev_find("p/w"));
    stop_pool("p");
    char *x = read_text("f"), *y = read_text("a");
    check(x && y && !strcmp(x, y));
    free(x);
    free(y);
    remove_device("f");
    remove_device("m");
    remove_device("a");
}

HARNESS_TEST(a_device_that_goes_takes_its_volumes_along)
{
    mem("a", 5);
    mem("b", 5);
    make_pool("p", "a", "b");
    make_volume("p", "v", 4);
    make_volume("p", "w", 2);
    remove_device("b");
    struct volume_info w;
    check_int(pool_info_of("p").state, POOL_PARTIAL);
    check(!bdev_find("p/w"));
    check(volume_get("p/w", &w) && !w.active && strstr(w.why, "absent"));
    fill("p/v", 1);
    struct err e;
    expect(volume_create("p", "x", MIB, &e), &e, ERR_UNSUPPORTED, "b is gone");
    stop_pool("p");
    remove_device("a");
}

static void close_later(void *arg)
{
    struct bdev_desc **d = arg;
    bdev_drain_close(d);
}

static void on_event(struct bdev_desc *desc, enum bdev_event event, void *arg)
{
    (void)desc;
    if (event == BDEV_EVENT_REMOVE)
        task_start(reactor_main(), "close", close_later, arg);
}

HARNESS_TEST(users_of_a_volume_are_told_when_its_device_goes)
{
    mem("a", 5);
    make_pool("p", "a", NULL);
    make_volume("p", "v", 4);
    struct bdev_desc *d;
    struct bdev_user user = {.label = "test", .event = on_event, .arg = &d};
    struct err e = {0};
    d = bdev_open("p/v", CLAIM_SHARED_WRITE, &user, &e);
    check(d);
    static uint8_t buf[4096];
    check_int(bdev_write(d, 0, buf, sizeof buf, 0), 0);
    remove_device("a"); /* returns when all have let go */
    check(!d && !bdev_find("p/v"));
    check_int(pool_info_of("p").state, POOL_PARTIAL);
    stop_pool("p");
}

HARNESS_TEST(blocks_of_4_kib_are_the_volumes_too)
{
    device(&mem_driver, "a", "size=9M,block_size=4096");
    make_pool("p", "a", NULL);
    make_volume("p", "v", 3);
    struct bdev_info info;
    check(bdev_name_info("p/v", &info));
    check_int(info.block_size, 4096);
    fill("p/v", 1);
    stop_pool("p");
    import_pool("p");
    expect_fill("p/v", 1, 3 * MIB);
    stop_pool("p");
    remove_device("a");
}

HARNESS_TEST(known_zero_is_told_only_of_space_that_was_zeroed)
{
    struct bdev_info info;
    mem("a", 9); /* memory zeroes fast */
    make_pool("p", "a", NULL);
    make_volume("p", "v", 3);
    check(bdev_name_info("p/v", &info));
    check(info.known_zero);
    stop_pool("p");
    import_pool("p"); /* who knows what was written */
    check(bdev_name_info("p/v", &info));
    check(!info.known_zero);
    stop_pool("p");
    remove_device("a");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pool_has_the_space_of_its_devices_but_for_a_mib_each),
        cmocka_unit_test(a_volume_is_a_device_of_its_own),
        cmocka_unit_test(sizes_are_rounded_up_to_extents),
        cmocka_unit_test(a_volume_grows_and_keeps_its_data),
        cmocka_unit_test(a_volume_shrinks_and_its_space_is_free),
        cmocka_unit_test(the_same_size_writes_nothing),
        cmocka_unit_test(new_volumes_over_used_space_show_nothing_old),
        cmocka_unit_test(wrong_volume_requests_say_what_is_wrong),
        cmocka_unit_test(wrong_pool_requests_say_what_is_wrong),
        cmocka_unit_test(a_device_with_a_signature_needs_force),
        cmocka_unit_test(a_new_part_of_a_pool_has_nothing_old_at_its_ends),
        cmocka_unit_test(an_extended_pool_has_more_space),
        cmocka_unit_test(volumes_promise_no_more_than_a_new_device_can),
        cmocka_unit_test(what_is_in_use_is_neither_stopped_nor_deleted),
        cmocka_unit_test(a_deleted_pool_leaves_no_label),
        cmocka_unit_test(a_failed_delete_can_be_tried_again),
        cmocka_unit_test(erasing_what_a_crash_left_spares_pools_with_volumes),
        cmocka_unit_test(a_failed_create_leaves_no_label),
        cmocka_unit_test(a_failed_commit_leaves_the_pool_as_it_was),
        cmocka_unit_test(a_device_that_misses_the_last_step_is_repaired_by_the_next_import),
        cmocka_unit_test(a_device_that_goes_takes_its_volumes_along),
        cmocka_unit_test(users_of_a_volume_are_told_when_its_device_goes),
        cmocka_unit_test(blocks_of_4_kib_are_the_volumes_too),
        cmocka_unit_test(known_zero_is_told_only_of_space_that_was_zeroed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
