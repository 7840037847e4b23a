/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who may take part in an array, and what is refused with nothing written. */
#include "arrays.h"

static struct err e;

static void make(unsigned n)
{
    make_members(n, "4M");
    must(create("raid1", n, true, &e), &e);
    must(raid_stop("a", &e), &e);
}

/* Writes to any member since fault_record_start on all. */
static unsigned writes(unsigned n)
{
    unsigned count = 0;
    for (unsigned i = 0; i < n; i++)
        count += fault_record_count(fault_dev(i));
    return count;
}

static void watch(unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        fault_record_start(fault_dev(i));
}

static struct raid_found found_one(void)
{
    struct raid_found *f, one;
    check_int(raid_scan(&f), 1);
    one = *f;
    free(f);
    return one;
}

HARNESS_TEST(a_scan_tells_what_is_there_and_writes_nothing)
{
    make(2);
    watch(2);
    struct raid_found f = found_one();
    check(!strcmp(f.set_name, "host:a"));
    check(!strcmp(f.name, "a"));
    check(!strcmp(f.level, "raid1"));
    check(f.complete && f.startable && !f.ambiguous && !f.needs_resync);
    check_int(f.slots, 2);
    check_int(f.have, 2);
    check_int(f.device_count, 2);
    check_int(writes(2), 0);
    remove_members(2);
}

HARNESS_TEST(a_clean_array_is_assembled_without_a_write)
{
    make(2);
    watch(2);
    must(assemble(false, &e), &e);
    check_int(info_of("a").state, RAID_CLEAN);
    must(raid_stop("a", &e), &e);
    for (unsigned i = 0; i < 2; i++)
        for (unsigned k = 0; k < fault_record_count(fault_dev(i)); k++)
            check_int(fault_record_get(fault_dev(i), k)->op, BIO_FLUSH);
    remove_members(2);
}

/* The superblock as version 1.0 has it, at the end. */
static void to_the_end(unsigned i, uint64_t data)
{
    static const uint8_t none[MD_SUPER_SIZE];
    struct md_super sb = super_of(i);
    uint8_t bytes[MD_SUPER_SIZE];
    struct bdev_desc *d = open_device(name_of("d", i), CLAIM_EXCLUSIVE);
    uint64_t at = md_super_place(MD_1_0, bdev_size(d));
    sb.super_offset = at / MD_SECTOR;
    sb.data_offset = data / MD_SECTOR;
    sb.size = sb.data_size = sb.super_offset - sb.data_offset;
    md_super_write(&sb, bytes);
    check_int(bdev_write(d, at, bytes, sizeof bytes, 0), 0);
    check_int(bdev_write(d, MD_SUPER_OFFSET, none, sizeof none, 0), 0);
    bdev_close(&d);
}

HARNESS_TEST(an_array_of_older_superblocks_is_only_read)
{
    make(2);
    for (unsigned i = 0; i < 2; i++)
        to_the_end(i, DATA);
    watch(2);
    must(assemble(false, &e), &e);
    check_int(info_of("a").state, RAID_READ_ONLY);
    check(strstr(info_of("a").reason, "version 1.0"));
    check_int(raid_fail_member("a", "d0", true, &e), -1);
    check_int(raid_delete("a", &e), -1);
    rules(0, "read:error=ENODEV");
    struct bdev_desc *d = open_device("a", CLAIM_READ);
    uint8_t data[4096];
    check_int(bdev_read(d, 0, data, sizeof data), 0);
    bdev_close(&d);
    must(raid_stop("a", &e), &e);
    check_int(writes(2), 0);
    remove_members(2);
}

/* An old member became one of a new array, or somebody wrote such bytes to it. */
HARNESS_TEST(two_superblocks_on_a_device_are_one_too_many)
{
    make(2);
    struct md_super sb[2] = {super_of(0), super_of(1)};
    for (unsigned i = 0; i < 2; i++) {
        to_the_end(i, 0); /* its data are where ours begin */
        sb[i].set_uuid.b[0] ^= 1;
        put_super(i, &sb[i]);
    }
    struct raid_found *f;
    check_int(raid_scan(&f), 2);
    check(f[0].ambiguous && f[1].ambiguous);
    struct raid_assemble r = {.name = "a", .uuid = sb[0].set_uuid};
    watch(2);
    check_int(raid_assemble(&r, &e), -1);
    check_int(e.code, ERR_NEEDS_FORCE);
    check(strstr(e.msg, "two md superblocks"));
    check_int(writes(2), 0);
    r.known = true;
    must(raid_assemble(&r, &e), &e);
    check_int(info_of("a").state, RAID_CLEAN);
    must(raid_stop("a", &e), &e);
    free(f);
    remove_members(2);
}

HARNESS_TEST(read_only_and_dry_run_write_nothing_even_when_dirty)
{
    make(2);
    for (unsigned i = 0; i < 2; i++) {
        struct md_super sb = super_of(i);
        sb.resync_offset = 0;
        put_super(i, &sb);
    }
    watch(2);
    char would[256];
    struct raid_assemble r = {.name = "a",
                              .uuid = only_uuid(),
                              .dry_run = true,
                              .would = would,
                              .would_size = sizeof would};
    must(raid_assemble(&r, &e), &e);
    check(strstr(would, "resync"));
    check(!bdev_find("a"));
    r.dry_run = false;
    r.read_only = true;
    must(raid_assemble(&r, &e), &e);
    check_int(info_of("a").state, RAID_READ_ONLY);
    struct bdev_desc *d = open_device("a", CLAIM_READ);
    uint8_t buf[4096];
    check_int(bdev_read(d, 0, buf, sizeof buf), 0);
    check_int(bdev_flush(d), 0);
    bdev_close(&d);
    must(raid_stop("a", &e), &e);
    for (unsigned i = 0; i < 2; i++)
        for (unsigned k = 0; k < fault_record_count(fault_dev(i)); k++)
            check_int(fault_record_get(fault_dev(i), k)->op, BIO_FLUSH);
    remove_members(2);
}

HARNESS_TEST(one_event_behind_is_accepted_two_are_not)
{
    make(2);
    for (unsigned behind = 1; behind <= 2; behind++) {
        struct md_super sb = super_of(0);
        sb.events = 100;
        put_super(0, &sb);
        sb = super_of(1);
        sb.events = 100 - behind;
        put_super(1, &sb);
        struct raid_found f = found_one();
        check_int(f.have, behind == 1 ? 2 : 1);
        check_int(f.complete, behind == 1);
    }
    must(assemble(true, &e), &e);
    check_int(info_of("a").missing, 1);
    /* The one left out profits from nothing that is written now. */
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    uint8_t buf[512] = {1};
    check_int(bdev_write(d, 0, buf, 512, 0), 0);
    check(info_of("a").events >= 102);
    bdev_close(&d);
    must(raid_stop("a", &e), &e);
    check_int(super_of(0).role[1], MD_ROLE_FAULTY);
    remove_members(2);
}

HARNESS_TEST(a_member_that_the_freshest_calls_faulty_stays_out)
{
    make(3);
    struct md_super sb = super_of(0);
    sb.events++;
    sb.role[1] = MD_ROLE_FAULTY;
    put_super(0, &sb);
    struct raid_found f = found_one();
    check_int(f.have, 2);
    remove_members(3);
}

HARNESS_TEST(two_halves_that_went_on_alone_are_ambiguous)
{
    make(2);
    for (unsigned i = 0; i < 2; i++) {
        struct md_super sb = super_of(i);
        sb.role[1 - i] = MD_ROLE_FAULTY;
        put_super(i, &sb);
    }
    struct raid_found f = found_one();
    check(f.ambiguous && !f.startable);
    check_int(assemble(true, &e), -1);
    check(strstr(e.msg, "without the other"));
    remove_members(2);
}

HARNESS_TEST(a_copy_of_a_member_makes_it_ambiguous)
{
    make(2);
    make_member(2, "4M");
    struct md_super sb = super_of(1);
    put_super(2, &sb);
    watch(3);
    check_int(assemble(true, &e), -1);
    check(strstr(e.msg, "copy"));
    check_int(writes(3), 0);
    remove_members(3);
}

HARNESS_TEST(a_foreign_member_with_our_uuid_is_ambiguous)
{
    make(2);
    struct md_super sb = super_of(1);
    sb.ctime++;
    put_super(1, &sb);
    check_int(assemble(true, &e), -1);
    check(strstr(e.msg, "different arrays"));
    remove_members(2);
}

HARNESS_TEST(unknown_features_and_other_levels_are_refused_untouched)
{
    static const struct {
        uint32_t features;
        int level;
        const char *word;
    } cases[] = {
        {1u << 20, 1, "feature bits 0x100000"}, {4, 1, "reshaped"}, {0, -4, "unknown level"}};
    make(2);
    for (unsigned k = 0; k < 3; k++) {
        for (unsigned i = 0; i < 2; i++) {
            struct md_super sb = super_of(i);
            sb.features = cases[k].features;
            sb.level = cases[k].level;
            put_super(i, &sb);
        }
        watch(2);
        check_int(assemble(true, &e), -1);
        check_int(e.code, ERR_UNSUPPORTED);
        check(strstr(e.msg, cases[k].word));
        check_int(writes(2), 0);
    }
    remove_members(2);
}

HARNESS_TEST(the_bitmap_of_another_array_is_written_anew)
{
    make(2);
    uint64_t events = super_of(0).events;
    for (unsigned i = 0; i < 2; i++) {
        struct md_super sb = super_of(i);
        sb.features |= 1;
        sb.bitmap_offset = 8;
        put_super(i, &sb);
        uint8_t bitmap[4096] = {0x62, 0x69, 0x74, 0x6d, 4};
        bitmap[24] = 0xe8, bitmap[25] = 3; /* events 1000 */
        struct bdev_desc *d = open_device(name_of("d", i), CLAIM_EXCLUSIVE);
        check_int(bdev_write(d, 8192, bitmap, sizeof bitmap, 0), 0);
        bdev_close(&d);
    }
    must(assemble(false, &e), &e);
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    uint8_t buf[MD_BITMAP_HEAD] = {1};
    check_int(bdev_write(d, 0, buf, sizeof buf, 0), 0);
    bdev_close(&d);
    must(raid_stop("a", &e), &e);
    struct md_super sb = super_of(0);
    struct md_bitmap head;
    d = open_device("d0", CLAIM_READ);
    check_int(bdev_read(d, 8192, buf, sizeof buf), 0);
    bdev_close(&d);
    must(md_bitmap_read(&head, buf, &e), &e);
    check(uuid_equal(&head.uuid, &sb.set_uuid));
    check_int(sb.events, events + 2); /* in use, clean: one each, whatever the bitmap counted */
    check(head.events >= sb.events);
    check_int(sb.features & 1, 1);
    remove_members(2);
}

HARNESS_TEST(the_logical_block_size_of_newer_kernels_is_kept)
{
    make(2);
    for (unsigned i = 0; i < 2; i++) {
        struct md_super sb = super_of(i);
        check_int(sb.logical_block, 0); /* ours: every kernel takes that */
        sb.logical_block = 4096;
        put_super(i, &sb);
    }
    must(assemble(false, &e), &e);
    struct bdev_info info;
    check(bdev_name_info("a", &info));
    check_int(info.block_size, 4096);
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    uint8_t buf[4096] = {1};
    check_int(bdev_write(d, 0, buf, sizeof buf, 0), 0);
    bdev_close(&d);
    must(raid_stop("a", &e), &e);
    check_int(super_of(0).logical_block, 4096);
    remove_members(2);
}

static unsigned backups;
static int backup(const char *device, uint64_t offset, const void *data, uint64_t len, void *arg)
{
    struct md_super sb;
    check(arg == &backups && device[0] == 'd');
    check_int(offset, MD_SUPER_OFFSET);
    check_int(len, MD_SUPER_SIZE);
    must(md_super_read(&sb, data, &e), &e);
    return ++backups == 2 ? -1 : 0;
}

HARNESS_TEST(superblocks_are_saved_first_or_nothing_starts)
{
    make(2);
    struct raid_assemble r = {
        .name = "a", .uuid = only_uuid(), .backup = backup, .backup_arg = &backups};
    check_int(raid_assemble(&r, &e), -1);
    check(!bdev_find("a"));
    must(raid_assemble(&r, &e), &e);
    check_int(backups, 4);
    must(raid_stop("a", &e), &e);
    remove_members(2);
}

HARNESS_TEST(wrong_requests_are_refused_by_field)
{
    static const char *const twice[] = {"d0", "d0"}, *const none[] = {"missing", "missing"},
                             *const good[] = {"d0", "d1"}, *const absent[] = {"d0", "nope"};
    static const struct {
        struct raid_create c;
        const char *field;
        enum err_code code;
    } cases[] = {
        {{.name = "a/b", .level = "1", .members = good, .member_count = 2}, "name", ERR_INVALID},
        {{.name = "m0", .level = "1", .members = good, .member_count = 2}, "name", ERR_EXISTS},
        {{.name = "a", .level = "9", .members = good, .member_count = 2}, "level", ERR_INVALID},
        {{.name = "a", .level = "5", .members = good, .member_count = 2, .layout = "n2"},
         "layout",
         ERR_INVALID},
        {{.name = "a", .level = "1", .members = good, .member_count = 1}, "members", ERR_INVALID},
        {{.name = "a", .level = "1", .members = twice, .member_count = 2}, "members", ERR_INVALID},
        {{.name = "a", .level = "1", .members = none, .member_count = 2}, "members", ERR_INVALID},
        {{.name = "a", .level = "1", .members = absent, .member_count = 2}, NULL, ERR_NOT_FOUND},
        {{.name = "a", .level = "0", .members = good, .member_count = 2, .chunk = 64},
         "chunk",
         ERR_INVALID},
    };
    make_members(2, "4M");
    watch(2);
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        check_int(raid_create(&cases[i].c, &e), -1);
        check_int(e.code, cases[i].code);
        if (cases[i].field)
            check(!strcmp(e.field, cases[i].field));
    }
    check_int(writes(2), 0);
    remove_members(2);
}

HARNESS_TEST(members_with_signatures_need_force)
{
    make(2);
    check_int(create("raid1", 2, true, &e), -1);
    check_int(e.code, ERR_NEEDS_FORCE);
    check(strstr(e.msg, "d0"));
    check(found_one().startable); /* untouched */
    remove_members(2);
}

HARNESS_TEST(a_device_that_does_not_answer_holds_up_no_assembly)
{
    char users[8];
    make_members(4, "4M");
    must(create("raid5", 3, true, &e), &e); /* which is looked for twice: its log may be anywhere */
    must(raid_stop("a", &e), &e);
    rules(3, "read:hold");
    bdev_set_look_timeout_ms(50);
    must(assemble(false, &e), &e);
    check_int(info_of("a").state, RAID_CLEAN);
    must(raid_stop("a", &e), &e);
    fault_release(fault_dev(3));
    while (bdev_users(fault_dev(3), users, sizeof users))
        task_sleep_us(1000);
    bdev_set_look_timeout_ms(30 * 1000);
    remove_members(4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_scan_tells_what_is_there_and_writes_nothing),
        cmocka_unit_test(a_clean_array_is_assembled_without_a_write),
        cmocka_unit_test(an_array_of_older_superblocks_is_only_read),
        cmocka_unit_test(two_superblocks_on_a_device_are_one_too_many),
        cmocka_unit_test(read_only_and_dry_run_write_nothing_even_when_dirty),
        cmocka_unit_test(one_event_behind_is_accepted_two_are_not),
        cmocka_unit_test(a_member_that_the_freshest_calls_faulty_stays_out),
        cmocka_unit_test(two_halves_that_went_on_alone_are_ambiguous),
        cmocka_unit_test(a_copy_of_a_member_makes_it_ambiguous),
        cmocka_unit_test(a_foreign_member_with_our_uuid_is_ambiguous),
        cmocka_unit_test(unknown_features_and_other_levels_are_refused_untouched),
        cmocka_unit_test(the_bitmap_of_another_array_is_written_anew),
        cmocka_unit_test(the_logical_block_size_of_newer_kernels_is_kept),
        cmocka_unit_test(superblocks_are_saved_first_or_nothing_starts),
        cmocka_unit_test(wrong_requests_are_refused_by_field),
        cmocka_unit_test(members_with_signatures_need_force),
        cmocka_unit_test(a_device_that_does_not_answer_holds_up_no_assembly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
