/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "pools.h"
#include "text.h"

static void expect(int rc, const struct err *e, enum err_code code, const char *with)
{
    check_int(rc, -1);
    if (e->code != code || !strstr(e->msg, with))
        fprintf(stderr, "code %s: %s\n", err_code_name(e->code), e->msg);
    check_int(e->code, code);
    check(strstr(e->msg, with));
}

static struct pool_found only_found(void)
{
    struct pool_found *found, f;
    check_int(pool_scan(&found), 1);
    f = *found;
    free(found);
    return f;
}

static void clone(const char *from, const char *to)
{
    struct bdev_desc *a = open_device(from, CLAIM_READ), *b = open_device(to, CLAIM_EXCLUSIVE);
    uint8_t *buf = malloc(MIB);
    for (uint64_t at = 0; at < bdev_size(a); at += MIB) {
        check_int(bdev_read(a, at, buf, MIB), 0);
        check_int(bdev_write(b, at, buf, MIB, 0), 0);
    }
    free(buf);
    bdev_close(&a);
    bdev_close(&b);
}

/* A pool "p" on a and b with the volumes v (on a) and w (on b), stopped. */
static void stopped_pool(void)
{
    mem("a", 5);
    mem("b", 5);
    make_pool("p", "a", "b");
    make_volume("p", "v", 4);
    make_volume("p", "w", 3);
    fill("p/v", 10);
    fill("p/w", 20);
    stop_pool("p");
}

static void remove_pair(void)
{
    remove_device("a");
    remove_device("b");
}

HARNESS_TEST(a_stopped_pool_comes_back_by_uuid_with_all_it_had)
{
    stopped_pool();
    struct pool_found f = only_found();
    check(!strcmp(f.name, "p") && f.importable && f.devices == 2 && f.have == 2);
    struct err e = {0};
    struct pool_import i = {.uuid = &f.uuid};
    ok(pool_import(&i, &e), &e, "import");
    struct volume_info v;
    check(volume_get("p/v", &v) && v.active);
    expect_fill("p/v", 10, 4 * MIB);
    expect_fill("p/w", 20, 3 * MIB);
    check_int(pool_info_of("p").seqno, 3);
    struct pool_found *none;
    check_int(pool_scan(&none), 0); /* its devices are claimed */
    free(none);
    stop_pool("p");
    remove_pair();
}

HARNESS_TEST(what_is_not_there_is_not_found)
{
    mem("a", 5);
    struct err e;
    struct pool_import i = {.name = "p"};
    expect(pool_import(&i, &e), &e, ERR_NOT_FOUND, "carries the pool p");
    remove_device("a");
}

HARNESS_TEST(a_text_that_is_not_understood_is_told)
{
    mem("a", 9);
    put_group("a", "KspJ2wM3FaKLmGvNg2MftP0oTkh42KOG", "vgx {\nid = 1\n}\n");
    struct err e;
    struct pool_import i = {.name = "vgx"};
    expect(pool_import(&i, &e), &e, ERR_NOT_FOUND, "device a: metadata text: it is not a volume");
    remove_device("a");
}

static unsigned backups, backup_bytes;
static int backup(const char *device, uint64_t offset, const void *data, uint64_t len, void *arg)
{
    (void)device;
    (void)data;
    check(arg == &backups);
    check(offset < MIB && len <= MIB);
    backups++;
    backup_bytes += (unsigned)len;
    return 0;
}

/* A group as LVM makes it: no tag, autoactivation on. */
#define FOREIGN                                                                                  \
    "vgx {\nid = \"DAWytN-Hqj2-ARI5-ZybT-gCq5-0dqm-QsIXnp\"\nseqno = 5\nformat = "               \
    "\"lvm2\"\n" TEXT_STATUS "extent_size = 2048\nmax_lv = 0\nmax_pv = 0\nmetadata_copies = 0\n" \
    "physical_volumes {\npv0 {\nid = \"KspJ2w-M3Fa-KLmG-vNg2-MftP-0oTk-h42KOG\"\n"               \
    "device = \"/dev/a\"\nstatus = [\"ALLOCATABLE\"]\nflags = []\npe_start = 2048\n"             \
    "pe_count = 8\n}\n}\n"
#define PV_ID "KspJ2wM3FaKLmGvNg2MftP0oTkh42KOG"
static const char foreign[] =
    FOREIGN "logical_volumes {\n" TEXT_LV("one", TEXT_ID1, TEXT_RW, "segment_count = 1\n",
                                          TEXT_SEG(1, 0, 3, TEXT_LINEAR("pv0", 2))) "}\n" TEXT_TAIL;

HARNESS_TEST(a_foreign_group_is_marked_as_ours_after_a_backup)
{
    mem("a", 9);
    put_group("a", PV_ID, foreign);
    char would[200];
    struct err e = {0};
    backups = backup_bytes = 0;
    struct pool_import i = {.name = "vgx",
                            .own = true,
                            .dry_run = true,
                            .would = would,
                            .would_size = sizeof would,
                            .backup = backup,
                            .backup_arg = &backups};
    ok(pool_import(&i, &e), &e, "dry run");
    check(strstr(would, "tag \"orion\"") && strstr(would, "NOAUTOACTIVATE"));
    struct pool_info info;
    check(!pool_get("vgx", &info) && !backups);
    i.dry_run = false;
    ok(pool_import(&i, &e), &e, "import");
    check_int(backups, 2); /* label and metadata area */
    check_int(backup_bytes, 2048 + MIB - 4096);
    check_int(pool_info_of("vgx").seqno, 6);
    check(bdev_find("vgx/one"));
    stop_pool("vgx");
    char *text = read_text("a");
    check(strstr(text, "tags = [\"orion\"]") && strstr(text, "flags = [\"NOAUTOACTIVATE\"]"));
    free(text);
    i.dry_run = true; /* nothing is left to do */
    ok(pool_import(&i, &e), &e, "dry run");
    check(!*would);
    remove_device("a");
}

static int no_backup(const char *device, uint64_t offset, const void *data, uint64_t len, void *arg)
{
    (void)device, (void)offset, (void)data, (void)len, (void)arg;
    return -1;
}

static void expect_only_flushes(struct bdev *f)
{
    for (unsigned k = 0; k < fault_record_count(f); k++)
        check_int(fault_record_get(f, k)->op, BIO_FLUSH);
}

HARNESS_TEST(a_failed_backup_stops_the_import_before_any_write)
{
    mem("m", 9);
    put_group("m", PV_ID, foreign);
    struct bdev *f = device(&fault_driver, "f", "on=m");
    struct pool_info info;
    struct err e;
    struct pool_import i = {.name = "vgx", .own = true, .backup = no_backup};
    fault_record_start(f);
    expect(pool_import(&i, &e), &e, ERR_IO, "copied aside");
    check(!pool_get("vgx", &info));
    expect_only_flushes(f);
    remove_device("f");
    remove_device("m");
}

HARNESS_TEST(a_read_only_import_writes_nothing)
{
    mem("m", 9);
    put_group("m", PV_ID, foreign);
    struct bdev *f = device(&fault_driver, "f", "on=m");
    struct bdev_info info;
    struct err e = {0};
    struct pool_import i = {.name = "vgx", .own = true, .read_only = true};
    fault_record_start(f);
    ok(pool_import(&i, &e), &e, "import");
    check_int(pool_info_of("vgx").state, POOL_READ_ONLY);
    check(bdev_name_info("vgx/one", &info) && info.read_only);
    expect(volume_create("vgx", "x", MIB, &e), &e, ERR_UNSUPPORTED, "read-only");
    expect(pool_delete("vgx", &e), &e, ERR_UNSUPPORTED, "read-only");
    stop_pool("vgx");
    expect_only_flushes(f);
    remove_device("f");
    remove_device("m");
}

HARNESS_TEST(without_own_nothing_is_written)
{
    mem("m", 9);
    put_group("m", PV_ID, foreign);
    struct bdev *f = device(&fault_driver, "f", "on=m");
    fault_record_start(f);
    import_pool("vgx");
    check_int(pool_info_of("vgx").state, POOL_ACTIVE);
    check_int(fault_record_count(f), 0);
    make_volume("vgx", "two", 2); /* but it can be */
    stop_pool("vgx");
    remove_device("f");
    remove_device("m");
}

HARNESS_TEST(an_absent_device_needs_force_and_leaves_the_rest_usable)
{
    stopped_pool();
    remove_device("b");
    struct pool_found f = only_found();
    check(!f.importable && f.have == 1 && strstr(f.why, "1 of its 2 devices are absent"));
    struct err e;
    struct pool_import i = {.name = "p"};
    expect(pool_import(&i, &e), &e, ERR_NEEDS_FORCE, "--force");
    i.force = true;
    struct err none = {0};
    ok(pool_import(&i, &none), &none, "force");
    struct pool_info info = pool_info_of("p");
    check_int(info.state, POOL_PARTIAL);
    check(!*info.device[1].device);
    expect_fill("p/v", 10, 4 * MIB);
    fill("p/v", 30);
    struct volume_info w;
    check(volume_get("p/w", &w) && !w.active && strstr(w.why, "absent"));
    expect(volume_delete("p", "v", &e), &e, ERR_UNSUPPORTED, "absent");
    stop_pool("p");
    remove_device("a");
}

/* One device misses changes; the newest text wins, and the import brings the other up to date. */
HARNESS_TEST(mixed_seqno_is_repaired)
{
    stopped_pool();
    uint8_t *old = malloc(MIB);
    struct bdev_desc *d = open_device("a", CLAIM_EXCLUSIVE);
    check_int(bdev_read(d, 0, old, MIB), 0);
    bdev_close(&d);
    import_pool("p");
    struct err e = {0};
    ok(volume_delete("p", "w", &e), &e, "delete");
    stop_pool("p");
    d = open_device("a", CLAIM_EXCLUSIVE);
    check_int(bdev_write(d, 0, old, MIB, 0), 0); /* as if it had been away */
    bdev_close(&d);
    free(old);
    char would[200];
    struct pool_import i = {
        .name = "p", .dry_run = true, .would = would, .would_size = sizeof would};
    ok(pool_import(&i, &e), &e, "dry run");
    check(strstr(would, "1 metadata areas"));
    import_pool("p");
    check(!bdev_find("p/w"));
    check_int(pool_info_of("p").seqno, 5);
    expect_fill("p/v", 10, 4 * MIB);
    stop_pool("p");
    char *a = read_text("a"), *b = read_text("b");
    check(!strcmp(a, b));
    free(a);
    free(b);
    remove_pair();
}

HARNESS_TEST(a_damaged_metadata_area_is_made_anew)
{
    stopped_pool();
    struct bdev_desc *d = open_device("a", CLAIM_EXCLUSIVE);
    static const uint8_t junk[512] = {1, 2, 3};
    check_int(bdev_write(d, 4096, junk, sizeof junk, 0), 0);
    bdev_close(&d);
    import_pool("p");
    check_int(pool_info_of("p").seqno, 4);
    stop_pool("p");
    char *a = read_text("a"), *b = read_text("b");
    check(a && b && !strcmp(a, b));
    free(a);
    free(b);
    remove_pair();
}

HARNESS_TEST(a_damaged_text_is_made_anew)
{
    stopped_pool();
    struct lvm_disk *d = calloc(1, sizeof *d);
    struct err e = {0};
    d->desc = open_device("a", CLAIM_EXCLUSIVE);
    ok(lvm_disk_open(d, &e), &e, "open");
    uint64_t at = 4096 + d->mda[0].slot[0].offset;
    static const uint8_t junk[512] = {1, 2, 3};
    check_int(bdev_write(d->desc, at, junk, sizeof junk, 0), 0);
    bdev_close(&d->desc);
    free(d);
    check(!read_text("a"));
    import_pool("p");
    stop_pool("p");
    char *a = read_text("a");
    check(a);
    free(a);
    remove_pair();
}

HARNESS_TEST(a_copy_of_a_device_is_never_chosen_from)
{
    stopped_pool();
    mem("c", 5);
    clone("b", "c");
    struct err e;
    struct pool_import i = {.name = "p", .force = true};
    expect(pool_import(&i, &e), &e, ERR_UNSUPPORTED, "twice");
    remove_device("c");
    import_pool("p");
    stop_pool("p");
    remove_pair();
}

HARNESS_TEST(two_texts_of_one_age_are_not_chosen_from)
{
    mem("a", 9);
    mem("b", 9);
    put_group("a", PV_ID, foreign);
    char *other = strdup(foreign);
    memcpy(strstr(other, "\"READ\", \"WRITE\", \"VISIBLE\""), "\"READ\",  \"WRITE\",\"VISIBLE\"",
           26);
    put_group("b", "D2vMHvgwmgJ8qPdojd0gt5ZCzMkJGITS", other);
    free(other);
    struct err e;
    struct pool_import i = {.name = "vgx"};
    expect(pool_import(&i, &e), &e, ERR_UNSUPPORTED, "different descriptions of the same age");
    remove_pair();
}

HARNESS_TEST(two_groups_of_one_name_are_told_apart_by_uuid)
{
    mem("a", 5);
    mem("b", 5);
    make_pool("p", "a", NULL);
    stop_pool("p");
    struct bdev_desc *hide = open_device("a", CLAIM_EXCLUSIVE);
    make_pool("p", "b", NULL);
    stop_pool("p");
    bdev_close(&hide);
    struct err e;
    struct pool_import i = {.name = "p"};
    expect(pool_import(&i, &e), &e, ERR_INVALID, "two groups named p");
    struct pool_found *found;
    check_int(pool_scan(&found), 2);
    i.uuid = &found[1].uuid;
    struct err none = {0};
    ok(pool_import(&i, &none), &none, "by uuid");
    check(!strcmp(pool_info_of("p").vg_uuid, found[1].vg_uuid));
    i.uuid = &found[0].uuid;
    expect(pool_import(&i, &e), &e, ERR_EXISTS, "taken");
    free(found);
    stop_pool("p");
    remove_pair();
}

static void import_text(const char *text, enum pool_state state)
{
    mem("a", 9);
    put_group("a", PV_ID, text);
    import_pool("vgx");
    check_int(pool_info_of("vgx").state, state);
}

HARNESS_TEST(an_unknown_segment_type_makes_all_read_only)
{
    static const char text[] = FOREIGN "logical_volumes {\n" TEXT_LV(
        "q", TEXT_ID1, TEXT_RW, "segment_count = 1\n", TEXT_SEG(1, 0, 1, "type = \"quantum\"\n"))
        TEXT_LV("v", TEXT_ID2, TEXT_RW, "segment_count = 1\n",
                TEXT_SEG(1, 0, 1, TEXT_LINEAR("pv0", 0))) "}\n" TEXT_TAIL;
    struct volume_info q;
    struct bdev_info info;
    struct err e;
    import_text(text, POOL_READ_ONLY);
    check(volume_get("vgx/q", &q) && !q.active && strstr(q.why, "quantum"));
    check(bdev_name_info("vgx/v", &info) && info.read_only);
    expect(volume_create("vgx", "n", MIB, &e), &e, ERR_UNSUPPORTED, "quantum");
    stop_pool("vgx");
    remove_device("a");
}

HARNESS_TEST(thin_volumes_are_carried_but_not_run)
{
    static const char text[] = FOREIGN "logical_volumes {\n" TEXT_LV(
        "tp", TEXT_ID1, TEXT_RW, "segment_count = 1\n",
        TEXT_SEG(1, 0, 2, "type = \"thin-pool\"\npool = \"tp_tdata\"\ntransaction_id = 7\n"))
        TEXT_LV("tp_tdata", TEXT_ID2, "\"READ\", \"WRITE\"", "segment_count = 1\n",
                TEXT_SEG(1, 0, 2, TEXT_LINEAR("pv0", 0))) "}\n" TEXT_TAIL;
    struct volume_info tp;
    struct err e;
    import_text(text, POOL_ACTIVE);
    check(volume_get("vgx/tp", &tp) && !tp.active && strstr(tp.why, "thin-pool"));
    check(!volume_get("vgx/tp_tdata", &tp));
    expect(volume_delete("vgx", "tp", &e), &e, ERR_UNSUPPORTED, "thin-pool");
    make_volume("vgx", "v", 2); /* not on the thin pool's space */
    fill("vgx/v", 1);
    stop_pool("vgx");
    char *out = read_text("a");
    check(strstr(out, "transaction_id=7") && strstr(out, "tp_tdata {"));
    free(out);
    remove_device("a");
}

HARNESS_TEST(a_group_of_another_host_is_read_only_without_force)
{
    static const char text[] = FOREIGN "system_id = \"otherhost\"\n" TEXT_TAIL;
    struct err e = {0};
    import_text(text, POOL_READ_ONLY);
    stop_pool("vgx");
    struct pool_import i = {.name = "vgx", .own = true, .force = true};
    ok(pool_import(&i, &e), &e, "force");
    check_int(pool_info_of("vgx").state, POOL_ACTIVE);
    stop_pool("vgx");
    char *out = read_text("a");
    check(!strstr(out, "system_id"));
    free(out);
    remove_device("a");
}

HARNESS_TEST(a_device_that_shrank_is_refused)
{
    mem("a", 9);
    mem("s", 4);
    make_pool("p", "a", NULL);
    stop_pool("p");
    struct bdev_desc *a = open_device("a", CLAIM_EXCLUSIVE), *s = open_device("s", CLAIM_EXCLUSIVE);
    uint8_t *buf = malloc(MIB);
    check_int(bdev_read(a, 0, buf, MIB), 0);
    check_int(bdev_write(s, 0, buf, MIB, 0), 0);
    free(buf);
    bdev_close(&s);
    struct err e;
    struct pool_import i = {.name = "p"};
    expect(pool_import(&i, &e), &e, ERR_INVALID, "made smaller");
    bdev_close(&a);
    remove_device("a");
    remove_device("s");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stopped_pool_comes_back_by_uuid_with_all_it_had),
        cmocka_unit_test(what_is_not_there_is_not_found),
        cmocka_unit_test(a_text_that_is_not_understood_is_told),
        cmocka_unit_test(a_foreign_group_is_marked_as_ours_after_a_backup),
        cmocka_unit_test(a_failed_backup_stops_the_import_before_any_write),
        cmocka_unit_test(a_read_only_import_writes_nothing),
        cmocka_unit_test(without_own_nothing_is_written),
        cmocka_unit_test(an_absent_device_needs_force_and_leaves_the_rest_usable),
        cmocka_unit_test(mixed_seqno_is_repaired),
        cmocka_unit_test(a_damaged_metadata_area_is_made_anew),
        cmocka_unit_test(a_damaged_text_is_made_anew),
        cmocka_unit_test(a_copy_of_a_device_is_never_chosen_from),
        cmocka_unit_test(two_texts_of_one_age_are_not_chosen_from),
        cmocka_unit_test(two_groups_of_one_name_are_told_apart_by_uuid),
        cmocka_unit_test(an_unknown_segment_type_makes_all_read_only),
        cmocka_unit_test(thin_volumes_are_carried_but_not_run),
        cmocka_unit_test(a_group_of_another_host_is_read_only_without_force),
        cmocka_unit_test(a_device_that_shrank_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
