/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "pools.h"

/*
 * Power cuts during the commit of metadata: at every event (submission or completion of a write or
 * flush), with all of the cache lost, none of it lost, and chances between with torn writes, what
 * is then on the disks is the old text or the new one, whole; after the commit returned, the new
 * one.
 */
enum { KEEP = 64 << 10, CHANCES = 6 };

static void copy_head(struct bdev_desc *from, struct bdev_desc *to)
{
    static uint8_t buf[KEEP];
    check_int(bdev_read(from, 0, buf, sizeof buf), 0);
    check_int(bdev_write(to, 0, buf, sizeof buf, 0), 0);
}

static void format_small(struct lvm_disk *d, uint64_t mda_size)
{
    struct err e = {0};
    d->label = (struct lvm_label){.sector = 1,
                                  .device_size = bdev_size(d->desc),
                                  .data = {{MIB, 0}},
                                  .data_count = 1,
                                  .mda = {{4096, mda_size}},
                                  .mda_count = 1};
    lvm_id_random(d->label.pv_id);
    ok(lvm_disk_format(d, &e), &e, "format");
}

static char *a_text(unsigned round, size_t *size_r)
{
    size_t size = 700 + round * 2311 % 4500;
    char *text = malloc(size);
    for (size_t i = 0; i + 1 < size; i++)
        text[i] = (char)('a' + (i + round) % 26);
    text[size - 1] = 0;
    *size_r = size;
    return text;
}

static void expect_old_or_new(struct bdev_desc *image, const char *old, const char *new, bool done)
{
    size_t size;
    struct err e = {0};
    struct lvm_disk *d = calloc(1, sizeof *d);
    d->device = "image";
    d->desc = image;
    ok(lvm_disk_open(d, &e), &e, "open after a cut");
    check(d->mda_ok[0]);
    char *text = lvm_disk_text(d, 0, &size, &e);
    if (!text && (old || done))
        fprintf(stderr, "%s\n", e.msg);
    check(text || (!old && !done));
    check(!text || !strcmp(text, new) || (old && !done && !strcmp(text, old)));
    free(text);
    free(d);
}

static void cut_commits(unsigned block)
{
    char options[60];
    snprintf(options, sizeof options, "size=4M,block_size=%u", block);
    device(&mem_driver, "m", options);
    device(&mem_driver, "before", options);
    device(&mem_driver, "image", options);
    struct bdev *f = device(&fault_driver, "f", "on=m");
    struct bdev_desc *before = open_device("before", CLAIM_EXCLUSIVE);
    struct bdev_desc *image = open_device("image", CLAIM_EXCLUSIVE);
    struct lvm_disk *d = calloc(1, sizeof *d);
    d->device = "f";
    d->desc = open_device("f", CLAIM_EXCLUSIVE);
    format_small(d, 16384); /* wraps every few rounds */
    char *old = NULL;
    for (unsigned round = 0; round < 14; round++) {
        struct err e = {0};
        size_t size;
        char *new = a_text(round, &size);
        copy_head(d->desc, before);
        fault_record_start(f);
        ok(lvm_disk_commit(&d, 1, new, size, &e), &e, "commit");
        fault_record_stop(f);
        check(fault_record_count(f) >= 6); /* text, slot, slot, each with its flush */
        for (uint64_t at = 0; at <= fault_record_now(f); at++) {
            for (unsigned cut = 0; cut < 2 + CHANCES; cut++) {
                copy_head(before, image);
                check_int(fault_replay(f, at, cut < 2 ? cut : FAULT_CUT_CHANCE,
                                       round * 100 + cut + 1, image),
                          0);
                expect_old_or_new(image, old, new, at == fault_record_now(f));
            }
        }
        free(old);
        old = new;
    }
    free(old);
    bdev_close(&d->desc);
    free(d);
    bdev_close(&before);
    bdev_close(&image);
    remove_device("f");
    remove_device("m");
    remove_device("before");
    remove_device("image");
}

HARNESS_TEST(a_cut_leaves_the_old_text_or_the_new_one)
{
    cut_commits(512);
}

HARNESS_TEST(so_it_does_on_blocks_of_4_kib)
{
    cut_commits(4096);
}

/* ---- a whole verb on two devices, each cut on its own, so also in states that one clock for both
 * would not allow */
struct pair {
    struct bdev *fault[2];
    struct bdev_desc *holder[2], *before[2];
};

static void build_image(const struct pair *p, const uint64_t at[2], unsigned seed)
{
    for (unsigned i = 0; i < 2; i++) {
        struct bdev_desc *image = open_device(i ? "i1" : "i0", CLAIM_EXCLUSIVE);
        enum fault_cut cut = seed % 4 < 2 ? seed % 4 : FAULT_CUT_CHANCE;
        copy_head(p->before[i], image);
        check_int(fault_replay(p->fault[i], at[i], cut, seed + 1, image), 0);
        bdev_close(&image);
    }
}

/* Imports what a cut left (the recorded devices themselves are held by the test, so not looked at);
 * does the volume "new" exist? */
static bool import_image(bool done)
{
    import_pool("p");
    struct pool_info info = pool_info_of("p");
    check_int(info.state, POOL_ACTIVE);
    check(bdev_find("p/v"));
    bool made = bdev_find("p/new");
    check(made || !done);
    check(info.seqno >= 2 && info.seqno <= 4); /* the repair of a mixed state counts one */
    stop_pool("p");
    char *a = read_text("i0"), *b = read_text("i1");
    check(a && b && !strcmp(a, b));
    free(a);
    free(b);
    return made;
}

static void create_new(void)
{
    struct err e = {0};
    ok(volume_create("p", "new", MIB, &e), &e, "create");
}

/* Of an imported pool. */
static void record(struct pair *p, void (*verb)(void))
{
    for (unsigned i = 0; i < 2; i++) {
        struct bdev_desc *d = open_device(i ? "f1" : "f0", CLAIM_EXCLUSIVE);
        p->before[i] = open_device(i ? "b1" : "b0", CLAIM_EXCLUSIVE);
        copy_head(d, p->before[i]);
        bdev_close(&d);
        fault_record_start(p->fault[i]);
    }
    import_pool("p");
    verb();
    for (unsigned i = 0; i < 2; i++)
        fault_record_stop(p->fault[i]);
    stop_pool("p");
    for (unsigned i = 0; i < 2; i++)
        p->holder[i] = open_device(i ? "f1" : "f0", CLAIM_EXCLUSIVE);
}

static const char *const pair_devices[] = {"m0", "m1", "i0", "i1", "b0", "b1"};

/* Pool p over f0 and f1, with a volume, stopped. */
static void make_pair(struct pair *p, unsigned mib)
{
    for (unsigned i = 0; i < 6; i++)
        mem(pair_devices[i], mib);
    p->fault[0] = device(&fault_driver, "f0", "on=m0");
    p->fault[1] = device(&fault_driver, "f1", "on=m1");
    for (unsigned i = 0; i < 2; i++)
        bdev_set_size(p->fault[i], 4 * MIB);
    make_pool("p", "f0", "f1");
    make_volume("p", "v", 1);
    stop_pool("p");
    for (unsigned i = 0; i < 2; i++)
        bdev_set_size(p->fault[i], mib * MIB);
}

static void end_pair(struct pair *p)
{
    for (unsigned i = 0; i < 2; i++) {
        bdev_close(&p->holder[i]);
        bdev_close(&p->before[i]);
    }
    remove_device("f0");
    remove_device("f1");
    for (unsigned i = 0; i < 6; i++)
        remove_device(pair_devices[i]);
}

/* All pairs of moments of the two devices; how many there are. */
static unsigned each_cut(struct pair *p, bool (*look)(bool done), unsigned *hits_r)
{
    const uint64_t end[2] = {fault_record_now(p->fault[0]), fault_record_now(p->fault[1])};
    unsigned cuts = 0;
    check(end[0] >= 12 && end[1] >= 12);
    *hits_r = 0;
    for (uint64_t a = 0; a <= end[0]; a++) {
        for (uint64_t b = 0; b <= end[1]; b++, cuts++) {
            build_image(p, (const uint64_t[2]){a, b}, cuts);
            *hits_r += look(a == end[0] && b == end[1]);
        }
    }
    return cuts;
}

/* Of many cuts some leave the pool as it was and some as it was to be. */
static void both_ways(unsigned mib, void (*change)(void), bool (*look)(bool done))
{
    struct pair p;
    unsigned done;
    make_pair(&p, mib);
    record(&p, change);
    unsigned cuts = each_cut(&p, look, &done);
    check(done > 10 && done < cuts - 10);
    end_pair(&p);
}

HARNESS_TEST(a_cut_volume_create_made_the_volume_or_not)
{
    both_ways(4, create_new, import_image);
}

static void grow_it(void)
{
    struct err e = {0};
    bool changed;
    ok(pool_grow("p", &changed, &e), &e, "grow");
    check(changed);
}

static void expect_label(const char *device, uint64_t size)
{
    struct err e = {0};
    struct lvm_disk d = {.device = device, .desc = open_device(device, CLAIM_READ)};
    ok(lvm_disk_open(&d, &e), &e, "open");
    check_int(d.label.device_size, size);
    bdev_close(&d.desc);
}

/* What a cut growth left is imported and grown once more; had it grown? */
static bool grow_image(bool done)
{
    struct err e = {0};
    bool changed;
    import_pool("p");
    struct pool_info info = pool_info_of("p");
    check_int(info.state, POOL_ACTIVE);
    check(bdev_find("p/v"));
    bool grown = info.size == 14 * MIB;
    check(grown || (!done && info.size == 6 * MIB));
    ok(pool_grow("p", &changed, &e), &e, "again");
    check(changed ? !done : grown);
    check_int(pool_info_of("p").size, 14 * MIB);
    stop_pool("p");
    expect_label("i0", 8 * MIB);
    expect_label("i1", 8 * MIB);
    return grown;
}

HARNESS_TEST(a_cut_growth_left_the_pool_as_it_was_or_larger)
{
    both_ways(8, grow_it, grow_image);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cut_leaves_the_old_text_or_the_new_one),
        cmocka_unit_test(so_it_does_on_blocks_of_4_kib),
        cmocka_unit_test(a_cut_volume_create_made_the_volume_or_not),
        cmocka_unit_test(a_cut_growth_left_the_pool_as_it_was_or_larger),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
