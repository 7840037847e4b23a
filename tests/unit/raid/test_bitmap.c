/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The write-intent bitmap: order of writes, clearing, resync by it. */
#include "arrays.h"

#include <string.h>

enum { CHUNK = 64 << 10, MAP = 8192 };

static struct err e;
static uint8_t in[4096], out[4096], page[4096];

static int create_mapped(unsigned n, enum raid_bitmap_choice bitmap, uint64_t chunk)
{
    const char *members[RAID_MEMBERS_MAX];
    for (unsigned i = 0; i < n; i++)
        members[i] = name_of("d", i);
    struct raid_create c = {.name = "a",
                            .level = "raid1",
                            .members = members,
                            .member_count = n,
                            .assume_clean = true,
                            .bitmap = bitmap,
                            .bitmap_chunk = chunk};
    return raid_create(&c, &e);
}

static void make(unsigned n)
{
    make_members(n, "4M");
    must(create_mapped(n, RAID_BITMAP_INTERNAL, CHUNK), &e);
}

static void stop(void)
{
    must(raid_stop("a", &e), &e);
}

static void put(uint64_t offset, unsigned seed)
{
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    fill_pattern(in, sizeof in, seed);
    check_int(bdev_write(d, offset, in, sizeof in, 0), 0);
    bdev_close(&d);
}

/* Straight to or from a member that nobody uses. */
static void poke(unsigned i, uint64_t offset, const void *data, size_t len)
{
    struct bdev_desc *d = open_device(name_of("d", i), CLAIM_EXCLUSIVE);
    check_int(bdev_write(d, offset, data, len, 0), 0);
    bdev_close(&d);
}

static struct md_bitmap map_of(unsigned i)
{
    struct md_bitmap head;
    struct bdev_desc *d = open_device(name_of("d", i), CLAIM_READ);
    check_int(bdev_read(d, MAP, page, sizeof page), 0);
    bdev_close(&d);
    must(md_bitmap_read(&head, page, &e), &e);
    return head;
}

static void put_map(unsigned i, const struct md_bitmap *head, unsigned bit)
{
    md_bitmap_write(head, page);
    page[MD_BITMAP_HEAD + bit / 8] |= (uint8_t)(1u << bit % 8);
    poke(i, MAP, page, sizeof page);
}

static void as_if_the_power_went(unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        struct md_super sb = super_of(i);
        sb.resync_offset = 0;
        put_super(i, &sb);
    }
}

static bool same_on_both(uint64_t offset)
{
    member_data(0, offset, in, sizeof in);
    member_data(1, offset, out, sizeof out);
    return !memcmp(in, out, sizeof in);
}

HARNESS_TEST(a_new_array_has_a_bitmap_when_it_is_asked_for)
{
    make(2);
    check_int(info_of("a").bitmap_chunk, CHUNK);
    check_int(info_of("a").bitmap_dirty, 0);
    stop();
    struct md_super sb = super_of(1);
    struct md_bitmap head = map_of(1);
    check_int(sb.features & 1, 1);
    check_int(sb.bitmap_offset, 8);
    check(uuid_equal(&head.uuid, &sb.set_uuid));
    check_int(head.sync_size, sb.size);
    check_int(head.chunk, CHUNK);
    check(head.events >= sb.events);
    remove_members(2);
}

HARNESS_TEST(small_members_have_none_by_default_and_large_ones_have)
{
    make_members(2, "4M");
    must(create_mapped(2, RAID_BITMAP_BY_SIZE, 0), &e);
    check_int(info_of("a").bitmap_chunk, 0);
    stop();
    remove_members(2);
    make_members(2, "3G");
    must(create_mapped(2, RAID_BITMAP_BY_SIZE, 0), &e);
    check_int(info_of("a").bitmap_chunk, 64 << 20);
    stop();
    remove_members(2);
}

HARNESS_TEST(a_chunk_for_which_there_is_no_room_is_refused)
{
    make_members(2, "40G");
    check_int(create_mapped(2, RAID_BITMAP_INTERNAL, CHUNK), -1);
    check(!strcmp(e.field, "bitmap_chunk"));
    remove_members(2);
}

static void bio_ends(struct bio *bio)
{
    twait_done(bio->arg);
}

HARNESS_TEST(the_bit_is_durable_before_the_data)
{
    make(2);
    /* The head is written with the mark "in use" first, then the bit. */
    rules(0, "write:hold:offset=8192-12287:after=1; write:delay=1us:offset=1048576-2097151");
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    struct bio bio;
    struct iovec iov = {in, sizeof in};
    struct twait wait = TWAIT(1);
    bio_init(&bio, d, BIO_WRITE, 5 * CHUNK, sizeof in, bio_ends, &wait);
    bio_data(&bio, &iov, 1);
    bio_submit(&bio);
    for (unsigned i = 0; i < 1000 && !fault_held(fault_dev(0)); i++)
        task_sleep_us(1000);
    check_int(fault_held(fault_dev(0)), 1);
    task_sleep_us(20 * 1000);
    check_int(fault_rule_hits(fault_dev(0), 1), 0);
    fault_release(fault_dev(0));
    twait_all(&wait);
    check_int(bio.error, 0);
    check_int(fault_rule_hits(fault_dev(0), 1), 1);
    check_int(info_of("a").bitmap_dirty, 1);
    rules(0, "");
    bdev_close(&d);
    stop();
    remove_members(2);
}

HARNESS_TEST(an_orderly_stop_leaves_no_bit)
{
    make(2);
    put(0, 1);
    put(2 * CHUNK, 2);
    check_int(info_of("a").bitmap_dirty, 2);
    stop();
    struct md_bitmap head = map_of(0);
    for (unsigned i = MD_BITMAP_HEAD; i < sizeof page; i++)
        check_int(page[i], 0);
    check(head.events_cleared > 1);
    check(head.events >= super_of(0).events);
    remove_members(2);
}

HARNESS_TEST(bits_go_after_a_while_but_not_without_a_flush)
{
    make(2);
    stop();
    for (unsigned i = 0; i < 2; i++) {
        struct md_bitmap head = map_of(i);
        head.daemon_sleep = 1;
        md_bitmap_write(&head, page);
        poke(i, MAP, page, sizeof page);
    }
    must(assemble(false, &e), &e);
    rules(1, "flush:delay=1us");
    put(3 * CHUNK, 3);
    check_int(info_of("a").bitmap_dirty, 1);
    for (unsigned i = 0; i < 800 && info_of("a").bitmap_dirty; i++)
        task_sleep_us(5000);
    check_int(info_of("a").bitmap_dirty, 0);
    check(fault_rule_hits(fault_dev(1), 0) >= 1);
    put(3 * CHUNK, 4); /* and comes again */
    check_int(info_of("a").bitmap_dirty, 1);
    stop();
    remove_members(2);
}

HARNESS_TEST(bits_stay_while_a_member_is_missing)
{
    make(2);
    must(raid_fail_member("a", "d1", false, &e), &e);
    put(0, 1);
    put(4 * CHUNK, 1);
    stop();
    struct md_bitmap head = map_of(0);
    check_int(page[MD_BITMAP_HEAD], 1 | 1 << 4);
    check(head.events_cleared <= super_of(1).events);
    remove_members(2);
}

static void two_that_differ(bool bit)
{
    make(2);
    put(0, 1);
    put(6 * CHUNK, 2);
    stop();
    as_if_the_power_went(2);
    memset(out, 0x55, sizeof out);
    poke(1, DATA, out, sizeof out);
    poke(1, DATA + 6 * CHUNK, out, sizeof out);
    struct md_bitmap head = map_of(1);
    if (bit)
        put_map(1, &head, 6); /* on one copy only: enough */
}

HARNESS_TEST(a_resync_takes_the_marked_chunks_only)
{
    two_that_differ(true);
    must(assemble(false, &e), &e);
    wait_idle();
    stop();
    check(same_on_both(6 * CHUNK));
    check(!same_on_both(0)); /* nobody had written there: a test can tell */
    remove_members(2);
}

HARNESS_TEST(a_bitmap_older_than_the_superblocks_is_not_believed)
{
    two_that_differ(true);
    for (unsigned i = 0; i < 2; i++) {
        struct md_bitmap head = map_of(i);
        head.events = super_of(i).events - 1;
        md_bitmap_write(&head, page);
        poke(i, MAP, page, sizeof page);
    }
    must(assemble(false, &e), &e);
    wait_idle();
    stop();
    check(same_on_both(6 * CHUNK));
    check(same_on_both(0));
    check(map_of(0).events >= super_of(0).events);
    remove_members(2);
}

/* The superblock that member `i` got first since its record began. */
static void first_super(unsigned i, uint8_t bytes[MD_SUPER_SIZE])
{
    for (unsigned k = 0; k < fault_record_count(fault_dev(i)); k++) {
        const struct fault_entry *x = fault_record_get(fault_dev(i), k);
        if (x->op != BIO_WRITE || x->offset != MD_SUPER_OFFSET)
            continue;
        memcpy(bytes, x->data, MD_SUPER_SIZE);
        return;
    }
    check(!"no superblock was written");
}

/* The power goes between bitmaps and superblocks, and again between the next two superblocks. */
HARNESS_TEST(a_bitmap_ahead_of_the_superblocks_leaves_no_member_behind)
{
    static uint8_t bytes[MD_SUPER_SIZE];
    make(2);
    put(0, 1);
    stop();
    struct md_super was = super_of(1);
    for (unsigned i = 0; i < 2; i++) {
        struct md_bitmap head = map_of(i);
        head.events = was.events + 1;
        put_map(i, &head, 0);
    }
    fault_record_start(fault_dev(0));
    must(assemble(false, &e), &e);
    put(0, 2);
    stop();
    first_super(0, bytes);
    poke(0, MD_SUPER_OFFSET, bytes, sizeof bytes);
    put_super(1, &was);
    must(assemble(false, &e), &e);
    check_int(info_of("a").missing, 0);
    stop();
    remove_members(2);
}

HARNESS_TEST(a_bitmap_of_another_size_or_marked_stale_is_not_believed)
{
    for (unsigned what = 0; what < 2; what++) {
        two_that_differ(true);
        for (unsigned i = 0; i < 2; i++) {
            struct md_bitmap head = map_of(i);
            if (what)
                head.state |= MD_BITMAP_STALE;
            else
                head.sync_size -= 8;
            md_bitmap_write(&head, page);
            poke(i, MAP, page, sizeof page);
        }
        must(assemble(false, &e), &e);
        wait_idle();
        stop();
        check(same_on_both(0));
        remove_members(2);
    }
}

HARNESS_TEST(a_spare_that_steps_in_has_the_bitmap)
{
    make(2);
    make_member(2, "4M");
    must(raid_add_member("a", "d2", false, &e), &e);
    put(7 * CHUNK, 1);
    must(raid_fail_member("a", "d0", false, &e), &e);
    wait_idle();
    put(9 * CHUNK, 1);
    stop();
    struct md_bitmap head = map_of(2);
    check(head.events >= super_of(2).events);
    check_int(super_of(2).bitmap_offset, 8);
    remove_members(3);
}

HARNESS_TEST(a_member_that_cannot_store_a_bit_is_kicked_before_the_write_is_acknowledged)
{
    make(2);
    rules(1, "write:error=EIO:offset=8192-12287:after=1");
    put(CHUNK, 1);
    check_int(info_of("a").state, RAID_DEGRADED);
    rules(1, "");
    stop();
    check_int(super_of(0).role[1], MD_ROLE_FAULTY);
    remove_members(2);
}

HARNESS_TEST(a_write_over_two_chunks_marks_both)
{
    make(2);
    put(CHUNK - 2048, 1);
    check_int(info_of("a").bitmap_dirty, 2);
    stop();
    remove_members(2);
}

HARNESS_TEST(bits_of_an_array_with_parity_stand_for_members_data)
{
    static const char *const members[] = {"d0", "d1", "d2"};
    make_members(3, "4M");
    struct raid_create c = {.name = "a",
                            .level = "raid5",
                            .members = members,
                            .member_count = 3,
                            .chunk = CHUNK,
                            .assume_clean = true,
                            .no_log = true,
                            .bitmap = RAID_BITMAP_INTERNAL,
                            .bitmap_chunk = CHUNK};
    must(raid_create(&c, &e), &e);
    put(2 * CHUNK, 1); /* the first two chunks of data are the first of each member */
    put(3 * CHUNK, 1);
    check_int(info_of("a").bitmap_dirty, 1);
    must(raid_fail_member("a", "d2", false, &e), &e);
    stop();
    map_of(0);
    check_int(page[MD_BITMAP_HEAD], 1 << 1);
    remove_members(3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_array_has_a_bitmap_when_it_is_asked_for),
        cmocka_unit_test(small_members_have_none_by_default_and_large_ones_have),
        cmocka_unit_test(a_chunk_for_which_there_is_no_room_is_refused),
        cmocka_unit_test(the_bit_is_durable_before_the_data),
        cmocka_unit_test(an_orderly_stop_leaves_no_bit),
        cmocka_unit_test(bits_go_after_a_while_but_not_without_a_flush),
        cmocka_unit_test(bits_stay_while_a_member_is_missing),
        cmocka_unit_test(a_resync_takes_the_marked_chunks_only),
        cmocka_unit_test(a_bitmap_older_than_the_superblocks_is_not_believed),
        cmocka_unit_test(a_bitmap_ahead_of_the_superblocks_leaves_no_member_behind),
        cmocka_unit_test(a_bitmap_of_another_size_or_marked_stale_is_not_believed),
        cmocka_unit_test(a_spare_that_steps_in_has_the_bitmap),
        cmocka_unit_test(
            a_member_that_cannot_store_a_bit_is_kicked_before_the_write_is_acknowledged),
        cmocka_unit_test(a_write_over_two_chunks_marks_both),
        cmocka_unit_test(bits_of_an_array_with_parity_stand_for_members_data),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
