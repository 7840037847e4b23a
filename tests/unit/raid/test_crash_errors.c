/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What power cuts by chance have found where members cannot write, too; see test_crash.c. */
#include "powercut.h"

#include <linux/types.h>

#include <linux/raid/md_p.h>

enum {
    CHUNK = 64 << 10,
    BLOCK = 4096,
    MEMBERS = 3,
    LIST_AT = 20 << 10,   /* bytes of a member */
    OTHER = 3 * 2 * CHUNK /* of the array: stripe 3, whose blocks are where those of stripe 0 are */
};

static struct err e;
static struct pc_life life, next;
static struct uuid uuid;
static uint8_t whole[2 * CHUNK], fresh[2][BLOCK], out[BLOCK];

static void keep_list(unsigned i)
{
    uint8_t list[BLOCK];
    struct md_super sb = super_of(i);
    struct bdev_desc *d = open_device(name_of("d", i), CLAIM_EXCLUSIVE);
    memset(list, 0xff, sizeof list);
    check_int(bdev_write(d, LIST_AT, list, sizeof list, 0), 0);
    bdev_close(&d);
    sb.bblog_offset = (LIST_AT - MD_SUPER_OFFSET) / 512;
    sb.bblog_size = BLOCK / 512;
    put_super(i, &sb);
}

static void begin(bool lists)
{
    pc_life_begin(&life, "d", MEMBERS);
    for (unsigned i = 0; i < MEMBERS; i++) {
        life.base[i].data = calloc(1, PC_SIZE);
        check(life.base[i].data);
    }
    pc_power_on(&life);
    must(create("raid5", MEMBERS, true, &e), &e);
    uuid = info_of("a").uuid;
    must(raid_stop("a", &e), &e);
    for (unsigned i = 0; i < MEMBERS && lists; i++)
        keep_list(i);
    must(assemble(false, &e), &e);
}

static unsigned busy; /* atomic */

static void write_block(void *arg)
{
    unsigned i = arg == fresh[1];
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    fill_pattern(arg, BLOCK, 2);
    check_int(bdev_write(d, i ? OTHER : 0, arg, BLOCK, 0), 0);
    bdev_close(&d);
    __atomic_sub_fetch(&busy, 1, __ATOMIC_SEQ_CST);
}

/* A block of stripe 0 is logged, and has not come to d0: until then the array is in use. */
static void hold_first_block(void)
{
    rules(0, "write:hold:offset=1048576-1052671");
    __atomic_add_fetch(&busy, 1, __ATOMIC_SEQ_CST);
    task_start(reactor_self(), "aside", write_block, fresh[0]);
    until(fault_held(fault_dev(0)));
}

static void let_go(void)
{
    rules(0, "");
    fault_release(fault_dev(0));
    until(!__atomic_load_n(&busy, __ATOMIC_SEQ_CST));
}

/* Stripes 0 and 3 are there. Then one block of each is logged, and new parity is on d2; their data
 * has not come to d0 when the power goes, at *at_r. */
static void write_both(uint64_t *at_r)
{
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    fill_pattern(whole, sizeof whole, 1);
    check_int(bdev_write(d, 0, whole, sizeof whole, 0), 0);
    check_int(bdev_write(d, OTHER, whole, sizeof whole, 0), 0);
    check_int(bdev_flush(d), 0);
    bdev_close(&d);
    hold_first_block();
    rules(0, "write:hold:offset=1M-2M");
    __atomic_add_fetch(&busy, 1, __ATOMIC_SEQ_CST);
    task_start(reactor_self(), "aside", write_block, fresh[1]);
    until(fault_held(fault_dev(0)) == 2);
    for (unsigned i = 1; i < MEMBERS; i++)
        for (unsigned k = 0; k < fault_record_count(fault_dev(i)); k++)
            until(__atomic_load_n(&fault_record_get(fault_dev(i), k)->completed, __ATOMIC_ACQUIRE));
    *at_r = pc_now(&life);
    let_go();
    must(raid_stop("a", &e), &e);
}

static void start(void)
{
    struct raid_assemble r = {.name = "b", .uuid = uuid, .degraded_ok = true};
    must(raid_assemble(&r, &e), &e);
}

static bool hold_supers; /* but for the one that says that the list counts */

static void start_aside(void *arg)
{
    (void)arg;
    start();
    __atomic_sub_fetch(&busy, 1, __ATOMIC_SEQ_CST);
}

/* The block of stripe 0 on the first member is bad from here on. */
static void power_off_and_on(uint64_t at, int lost)
{
    struct pc_cut c = {.at = at};
    pc_hold(&life);
    for (unsigned i = 0; i < MEMBERS; i++) {
        c.whole[i] = calloc(life.record[i].n + 1, 1);
        check(c.whole[i]);
        memset(c.whole[i], i != 0, life.record[i].n);
    }
    pc_life_begin(&next, "c", MEMBERS);
    pc_build(&life, &c, next.base);
    for (unsigned i = 0; i < MEMBERS; i++)
        free(c.whole[i]);
    if (lost >= 0) {
        free(next.base[lost].data);
        next.base[lost] = (struct pc_image){0};
    }
    pc_power_on(&next);
    check_int(fault_set_rules(bdev_find("c0"), "read+write:error=EIO:offset=1048576-1052671", &e),
              0);
    if (!hold_supers) {
        start();
        return;
    }
    for (unsigned i = 0; i < MEMBERS; i++)
        check_int(fault_set_rules(bdev_find(name_of("c", i)),
                                  i ? "write:hold:offset=4096-8191"
                                    : "read+write:error=EIO:offset=1048576-1052671;"
                                      "write:hold:offset=4096-8191:after=1",
                                  &e),
                  0);
    __atomic_add_fetch(&busy, 1, __ATOMIC_SEQ_CST);
    task_start(reactor_self(), "aside", start_aside, NULL);
}

static void check_block(uint64_t offset, const uint8_t *want)
{
    struct bdev_desc *d = open_device("b", CLAIM_READ);
    check_int(bdev_read(d, offset, out, BLOCK), 0);
    bdev_close(&d);
    check(!memcmp(want, out, BLOCK));
}

static void end(void)
{
    must(raid_stop("b", &e), &e);
    pc_life_end(&next);
    pc_life_end(&life);
}

/* With d1 lost what it holds of stripe 3 follows from what the log has of the others. */
HARNESS_TEST(the_log_is_worked_off_past_a_block_that_has_gone_bad)
{
    uint64_t at;
    begin(true);
    write_both(&at);
    power_off_and_on(at, 1);
    check_int(info_of("b").member[0].bad, BLOCK / 512);
    check_block(OTHER, fresh[1]);
    check_block(OTHER + CHUNK, whole + CHUNK);
    end();
}

/* The first of its records has older rows than the members: all that follow have to be put, too. */
HARNESS_TEST(a_record_that_cannot_be_put_stops_none_behind_it)
{
    static uint8_t newest[BLOCK];
    begin(false);
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    fill_pattern(whole, sizeof whole, 1);
    check_int(bdev_write(d, OTHER, whole, sizeof whole, 0), 0);
    check_int(bdev_write(d, OTHER, fresh[1], BLOCK, 0), 0);
    hold_first_block();
    fill_pattern(newest, BLOCK, 3);
    check_int(bdev_write(d, OTHER, newest, BLOCK, BIO_FUA), 0);
    uint64_t at = pc_now(&life);
    let_go();
    bdev_close(&d);
    must(raid_stop("a", &e), &e);
    power_off_and_on(at, -1);
    check_block(OTHER, newest);
    check_block(OTHER + CHUNK, whole + CHUNK);
    end();
}

/* The power goes again before superblocks say that the log is void. */
HARNESS_TEST(a_block_that_went_bad_is_on_record_before_the_log_is_void)
{
    struct pc_life last;
    uint64_t at;
    begin(true);
    write_both(&at);
    hold_supers = true;
    power_off_and_on(at, -1);
    hold_supers = false;
    for (unsigned i = 0; i < MEMBERS; i++)
        until(fault_held(bdev_find(name_of("c", i))));
    at = pc_now(&next);
    for (unsigned i = 0; i < MEMBERS; i++) {
        check_int(fault_set_rules(bdev_find(name_of("c", i)), "", &e), 0);
        fault_release(bdev_find(name_of("c", i)));
    }
    until(!__atomic_load_n(&busy, __ATOMIC_SEQ_CST));
    must(raid_stop("b", &e), &e);
    pc_hold(&next);
    struct pc_cut c = {.at = at};
    pc_life_begin(&last, "e", MEMBERS);
    pc_build(&next, &c, last.base);
    free(last.base[1].data); /* and a member goes with it */
    last.base[1] = (struct pc_image){0};
    pc_power_on(&last);
    start();
    check_int(info_of("b").member[0].bad, BLOCK / 512);
    check_block(OTHER, fresh[1]);
    check_block(OTHER + CHUNK, whole + CHUNK);
    must(raid_stop("b", &e), &e);
    pc_life_end(&last);
    pc_life_end(&next);
    pc_life_end(&life);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_log_is_worked_off_past_a_block_that_has_gone_bad),
        cmocka_unit_test(a_record_that_cannot_be_put_stops_none_behind_it),
        cmocka_unit_test(a_block_that_went_bad_is_on_record_before_the_log_is_void),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
