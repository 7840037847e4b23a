/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>

#include "pools.h"
#include "text.h"

/* Where a volume's bytes are on the devices. Device data begins at 1 MiB, extents are 1 MiB. */

static void expect_at(const char *device, uint64_t offset, unsigned seed, size_t length,
                      size_t from)
{
    uint8_t *want = malloc(from + length), *got = malloc(length);
    struct bdev_desc *d = open_device(device, CLAIM_READ);
    fill_pattern(want, from + length, seed);
    check_int(bdev_read(d, offset, got, length), 0);
    check(!memcmp(want + from, got, length));
    free(want);
    free(got);
    bdev_close(&d);
}

/* v: extents 0..1 on a (at 0), 2..3 on b (at 0), 4 on a (at 2) */
static void fragmented(void)
{
    struct err e = {0};
    mem("a", 4);
    mem("b", 3);
    make_pool("p", "a", "b");
    make_volume("p", "v", 2);
    make_volume("p", "w", 1);
    ok(volume_resize("p", "v", 4 * MIB, &e), &e, "resize");
    ok(volume_delete("p", "w", &e), &e, "delete");
    ok(volume_resize("p", "v", 5 * MIB, &e), &e, "resize");
}

static void end(void)
{
    stop_pool("p");
    remove_device("a");
    remove_device("b");
}

HARNESS_TEST(a_write_over_all_segments_lands_where_the_text_says)
{
    fragmented();
    size_t length = 5 * MIB;
    uint8_t *buf = malloc(length);
    struct bdev_desc *d = open_device("p/v", CLAIM_SHARED_WRITE);
    fill_pattern(buf, length, 9);
    check_int(bdev_write(d, 0, buf, length, BIO_FUA), 0);
    uint8_t *back = malloc(length);
    check_int(bdev_read(d, 0, back, length), 0);
    check(!memcmp(buf, back, length));
    free(back);
    free(buf);
    bdev_drain_close(&d);
    stop_pool("p");
    expect_at("a", 1 * MIB, 9, 2 * MIB, 0);
    expect_at("b", 1 * MIB, 9, 2 * MIB, 2 * MIB);
    expect_at("a", 3 * MIB, 9, MIB, 4 * MIB);
    remove_device("a");
    remove_device("b");
}

HARNESS_TEST(a_request_over_a_border_is_split_there)
{
    fragmented();
    uint8_t buf[8192], back[8192];
    struct bdev_desc *d = open_device("p/v", CLAIM_SHARED_WRITE);
    for (unsigned border = 2; border <= 4; border += 2) {
        fill_pattern(buf, sizeof buf, border);
        check_int(bdev_write(d, border * MIB - 4096, buf, sizeof buf, 0), 0);
        check_int(bdev_read(d, border * MIB - 4096, back, sizeof back), 0);
        check(!memcmp(buf, back, sizeof buf));
        check_int(bdev_read(d, border * MIB, back, 4096), 0);
        check(!memcmp(buf + 4096, back, 4096));
    }
    bdev_drain_close(&d);
    end();
}

HARNESS_TEST(zeroing_and_discarding_cover_all_segments)
{
    fragmented();
    fill("p/v", 1);
    uint8_t *buf = malloc(5 * MIB);
    struct bdev_desc *d = open_device("p/v", CLAIM_SHARED_WRITE);
    check_int(do_op(d, BIO_WRITE_ZEROES, 4096, 5 * MIB - 8192, BIO_FUA), 0);
    check_int(bdev_read(d, 0, buf, 5 * MIB), 0);
    check(buf[4095] && is_zero(buf + 4096, 5 * MIB - 8192) && buf[5 * MIB - 4096]);
    check_int(do_op(d, BIO_DISCARD, 0, 5 * MIB, 0), 0);
    check_int(bdev_read(d, 0, buf, 5 * MIB), 0);
    check(is_zero(buf, 5 * MIB)); /* memory reads zero once discarded */
    free(buf);
    bdev_drain_close(&d);
    end();
}

HARNESS_TEST(extents_end_at_the_segment)
{
    fragmented();
    struct extent x[8];
    struct bdev_desc *d = open_device("p/v", CLAIM_SHARED_WRITE);
    uint64_t total = 0;
    unsigned n = get_extents(d, MIB, 4 * MIB, x, 8);
    for (unsigned i = 0; i < n; i++)
        total += x[i].length;
    check(n >= 1);
    check_int(total, MIB);
    bdev_drain_close(&d);
    end();
}

/* The pool "p" of two fault devices, with a volume of 2 + 2 MiB on both. */
static struct bdev *fault[2];
static void on_faults(void)
{
    struct err e = {0};
    mem("a", 4);
    mem("b", 4);
    fault[0] = device(&fault_driver, "fa", "on=a");
    fault[1] = device(&fault_driver, "fb", "on=b");
    make_pool("p", "fa", "fb");
    make_volume("p", "x", 1);
    make_volume("p", "v", 2);
    ok(volume_resize("p", "v", 4 * MIB, &e), &e, "resize");
}

static void faults_end(void)
{
    stop_pool("p");
    remove_device("fa");
    remove_device("fb");
    remove_device("a");
    remove_device("b");
}

HARNESS_TEST(a_flush_goes_to_every_device_of_the_volume_and_no_other)
{
    on_faults();
    for (unsigned i = 0; i < 2; i++)
        fault_record_start(fault[i]);
    struct bdev_desc *d = open_device("p/v", CLAIM_SHARED_WRITE);
    check_int(bdev_flush(d), 0);
    bdev_drain_close(&d);
    d = open_device("p/x", CLAIM_SHARED_WRITE);
    check_int(bdev_flush(d), 0);
    bdev_drain_close(&d);
    check_int(fault_record_count(fault[0]), 2);
    check_int(fault_record_count(fault[1]), 1);
    faults_end();
}

HARNESS_TEST(a_failed_flush_of_one_device_fails_the_flush)
{
    struct err e = {0};
    on_faults();
    ok(fault_set_rules(fault[1], "flush:error=EIO", &e), &e, "rules");
    struct bdev_desc *d = open_device("p/v", CLAIM_SHARED_WRITE);
    check_int(bdev_flush(d), -EIO);
    bdev_drain_close(&d);
    ok(fault_set_rules(fault[1], "", &e), &e, "rules");
    faults_end();
}

HARNESS_TEST(a_bad_byte_is_reported_at_its_place_in_the_volume)
{
    struct err e = {0};
    on_faults();
    /* The third extent of v is the first one of b: byte 1 MiB + 12288 there is 2 MiB + 12288 here.
     */
    ok(fault_set_rules(fault[1], "read:error=ENODATA:offset=1060864", &e), &e, "rules");
    struct bdev_desc *d = open_device("p/v", CLAIM_SHARED_WRITE);
    static uint8_t buf[1 << 20];
    for (unsigned split = 0; split < 2; split++) {
        struct iovec iov = {buf, sizeof buf};
        struct bio bio;
        bio_init(&bio, d, BIO_READ, split ? 2 * MIB - 4096 : 2 * MIB, MIB / 2, NULL, NULL);
        bio_data(&bio, &iov, 1);
        check_int(bio_wait(&bio), -ENODATA);
        check_int(bio.bad_offset, 2 * MIB + 12288);
    }
    bdev_drain_close(&d);
    faults_end();
}

HARNESS_TEST(an_error_stops_what_was_not_begun)
{
    struct err e = {0};
    on_faults();
    ok(fault_set_rules(fault[0], "write:error=ENOSPC", &e), &e, "rules");
    struct bdev_desc *d = open_device("p/v", CLAIM_SHARED_WRITE);
    static uint8_t buf[4 << 20];
    check_int(bdev_write(d, 0, buf, sizeof buf, 0), -ENOSPC);
    bdev_drain_close(&d);
    ok(fault_set_rules(fault[0], "", &e), &e, "rules");
    faults_end();
}

#define STRIPED                                                                            \
    "vgx {\nid = \"DAWytN-Hqj2-ARI5-ZybT-gCq5-0dqm-QsIXnp\"\nseqno = 5\n" TEXT_STATUS      \
    "extent_size = 2048\nphysical_volumes {\n"                                             \
    "pv0 {\nid = \"KspJ2w-M3Fa-KLmG-vNg2-MftP-0oTk-h42KOG\"\nstatus = [\"ALLOCATABLE\"]\n" \
    "pe_start = 2048\npe_count = 4\n}\n"                                                   \
    "pv1 {\nid = \"D2vMHv-gwmg-J8qP-dojd-0gt5-ZCzM-kJGITS\"\nstatus = [\"ALLOCATABLE\"]\n" \
    "pe_start = 2048\npe_count = 4\n}\n}\nlogical_volumes {\n" TEXT_LV(                    \
        "s", TEXT_ID1, TEXT_RW, "segment_count = 2\n",                                     \
        TEXT_SEG(1, 0, 4,                                                                  \
                 "type = \"striped\"\nstripe_count = 2\nstripe_size = 128\n"               \
                 "stripes = [\"pv1\", 1, \"pv0\", 0]\n")                                   \
            TEXT_SEG(2, 4, 1, TEXT_LINEAR("pv0", 3))) "}\n" TEXT_TAIL

HARNESS_TEST(stripes_alternate_between_their_devices)
{
    mem("a", 5);
    mem("b", 5);
    put_group("a", "KspJ2wM3FaKLmGvNg2MftP0oTkh42KOG", STRIPED);
    put_group("b", "D2vMHvgwmgJ8qPdojd0gt5ZCzMkJGITS", STRIPED);
    import_pool("vgx");
    struct volume_info s;
    check(volume_get("vgx/s", &s) && s.active && !strcmp(s.kind, "striped"));
    size_t length = 5 * MIB;
    uint8_t *buf = malloc(length), *back = malloc(length);
    struct bdev_desc *d = open_device("vgx/s", CLAIM_SHARED_WRITE);
    fill_pattern(buf, length, 3);
    check_int(bdev_write(d, 0, buf, length, 0), 0);
    check_int(bdev_read(d, 0, back, length), 0);
    check(!memcmp(buf, back, length));
    check_int(bdev_read(d, 65024, back, 1024), 0); /* over the border of a stripe */
    check(!memcmp(buf + 65024, back, 1024));
    struct err e;
    check_int(volume_resize("vgx", "s", 2 * MIB, &e), -1);
    check_int(e.code, ERR_UNSUPPORTED);
    bdev_drain_close(&d);
    stop_pool("vgx");
    expect_at("b", 2 * MIB, 3, 65536, 0);              /* chunk 0: pv1, extent 1 */
    expect_at("a", 1 * MIB, 3, 65536, 65536);          /* chunk 1: pv0, extent 0 */
    expect_at("b", 2 * MIB + 65536, 3, 65536, 131072); /* chunk 2 */
    expect_at("a", 4 * MIB, 3, MIB, 4 * MIB);          /* the linear end */
    free(buf);
    free(back);
    remove_device("a");
    remove_device("b");
}

/* Resizing under load: every write that was acknowledged is there. */
static bool stop_load;
static unsigned writes;
static void load(void *arg)
{
    struct bdev_desc *d = arg;
    uint8_t buf[4096];
    for (unsigned i = 0; !__atomic_load_n(&stop_load, __ATOMIC_RELAXED); i++) {
        uint64_t at = i % 512 * 4096;
        fill_pattern(buf, sizeof buf, i);
        check_int(bdev_write(d, at, buf, sizeof buf, 0), 0);
        uint8_t back[4096];
        check_int(bdev_read(d, at, back, sizeof back), 0);
        check(!memcmp(buf, back, sizeof buf));
        __atomic_fetch_add(&writes, 1, __ATOMIC_RELAXED);
    }
}

struct loader {
    struct twait *w;
    struct bdev_desc *d;
};

static void loader(void *arg)
{
    struct loader *l = arg;
    task_call(reactor_get(0), load, l->d);
    twait_done(l->w);
}

HARNESS_TEST(a_resize_under_load_loses_nothing)
{
    struct err e = {0};
    mem("a", 9);
    mem("b", 9);
    make_pool("p", "a", "b");
    make_volume("p", "v", 2);
    make_volume("p", "in_the_way", 1);
    struct bdev_desc *d = open_device("p/v", CLAIM_SHARED_WRITE);
    struct twait w = TWAIT(1);
    struct loader l = {&w, d};
    stop_load = false;
    task_start(reactor_main(), "load", loader, &l);
    for (unsigned i = 0; i < 20; i++) {
        unsigned before = __atomic_load_n(&writes, __ATOMIC_RELAXED);
        ok(volume_resize("p", "v", (i % 2 ? 2 : 12) * MIB, &e), &e, "resize");
        while (__atomic_load_n(&writes, __ATOMIC_RELAXED) < before + 20)
            task_sleep_us(200);
    }
    __atomic_store_n(&stop_load, true, __ATOMIC_RELAXED);
    twait_all(&w);
    bdev_drain_close(&d);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_write_over_all_segments_lands_where_the_text_says),
        cmocka_unit_test(a_request_over_a_border_is_split_there),
        cmocka_unit_test(zeroing_and_discarding_cover_all_segments),
        cmocka_unit_test(extents_end_at_the_segment),
        cmocka_unit_test(a_flush_goes_to_every_device_of_the_volume_and_no_other),
        cmocka_unit_test(a_failed_flush_of_one_device_fails_the_flush),
        cmocka_unit_test(a_bad_byte_is_reported_at_its_place_in_the_volume),
        cmocka_unit_test(an_error_stops_what_was_not_begun),
        cmocka_unit_test(stripes_alternate_between_their_devices),
        cmocka_unit_test(a_resize_under_load_loses_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
