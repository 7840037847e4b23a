/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "text.h"
#include "volumes/lvm_label.h"
#include "volumes/lvm_text.h"

#define TWO_SEGMENTS                                                                   \
    TEXT_LV("one", TEXT_ID1, TEXT_RW,                                                  \
            "creation_time = 1795357679\ncreation_host = \"vm\"\nallocation_policy = " \
            "\"contiguous\"\nread_ahead = 256\nsegment_count = 2\n",                   \
            TEXT_SEG(1, 0, 3, TEXT_LINEAR("pv0", 0)) TEXT_SEG(2, 3, 5, TEXT_LINEAR("pv1", 10)))

static struct lvm_vg *parse(const char *text)
{
    struct err e = {0};
    struct lvm_vg *vg = lvm_text_parse(text, strlen(text) + 1, &e);
    if (!vg)
        print_error("%s\n", e.msg);
    assert_non_null(vg);
    return vg;
}

static void refused(const char *text, const char *with)
{
    struct err e = {0};
    struct lvm_vg *vg = lvm_text_parse(text, strlen(text) + 1, &e);
    assert_null(vg);
    assert_int_equal(e.code, ERR_INVALID);
    if (!strstr(e.msg, with))
        print_error("\"%s\" has no \"%s\"\n", e.msg, with);
    assert_non_null(strstr(e.msg, with));
}

static char *write_text(const struct lvm_vg *vg)
{
    struct err e = {0};
    size_t size;
    char *text = lvm_text_write(vg, "test", &size, &e);
    if (!text)
        print_error("%s\n", e.msg);
    assert_non_null(text);
    assert_int_equal(size, strlen(text) + 1);
    return text;
}

static void a_text_in_lvms_shape_is_read(void **state)
{
    (void)state;
    struct lvm_vg *vg = parse(TEXT_VG(TWO_SEGMENTS));
    assert_string_equal(vg->name, "vgx");
    assert_string_equal(vg->id, "DAWytNHqj2ARI5ZybTgCq50dqmQsIXnp");
    assert_int_equal(vg->seqno, 5);
    assert_int_equal(vg->extent_size, 8192);
    assert_int_equal(vg->creation_time, 1795357679);
    assert_string_equal(vg->creation_host, "vm");
    assert_string_equal(vg->read_only_why, "");
    assert_int_equal(vg->pv_count, 2);
    assert_string_equal(vg->pv[0].key, "pv0");
    assert_string_equal(vg->pv[1].device, "/dev/b");
    assert_int_equal(vg->pv[1].pe_count, 15);
    assert_int_equal(vg->lv_count, 1);
    const struct lvm_lv *lv = &vg->lv[0];
    assert_string_equal(lv->name, "one");
    assert_int_equal(lv->extents, 8);
    assert_int_equal(lv->seg_count, 2);
    assert_true(lv->seg[1].plain);
    assert_int_equal(lv->seg[1].piece[0].pv, 1);
    assert_int_equal(lv->seg[1].piece[0].pe, 10);
    assert_int_equal(lv->seg[1].piece[0].len, 5);
    lvm_vg_free(&vg);
    assert_null(vg);
}

static void what_is_not_known_is_carried(void **state)
{
    (void)state;
    static const char text[] = TEXT_HEAD TEXT_STATUS TEXT_SIZES
        "profile = \"p\"\nfuture = [1, \"two\", 3]\n" TEXT_PVS "logical_volumes {\n" TWO_SEGMENTS
        "}\nhistorical_logical_volumes {\nold {\nname = \"x\"\n}\n}\n" TEXT_TAIL;
    struct lvm_vg *vg = parse(text);
    char *out = write_text(vg);
    assert_non_null(strstr(out, "profile=\"p\""));
    assert_non_null(strstr(out, "future=[1,\"two\",3]"));
    assert_non_null(strstr(out, "historical_logical_volumes"));
    assert_non_null(strstr(out, "allocation_policy=\"contiguous\""));
    assert_non_null(strstr(out, "read_ahead=256"));
    free(out);
    lvm_vg_free(&vg);
}

static void writing_what_was_read_changes_nothing(void **state)
{
    (void)state;
    struct lvm_vg *vg = parse(TEXT_VG(TWO_SEGMENTS));
    char *a = write_text(vg);
    struct lvm_vg *again = parse(a);
    char *b = write_text(again);
    char *end_a = strstr(a, "# Generated"), *end_b = strstr(b, "# Generated");
    *end_a = *end_b = 0;
    assert_string_equal(a, b);
    free(a);
    free(b);
    lvm_vg_free(&vg);
    lvm_vg_free(&again);
}

static void strings_with_quotes_and_backslashes_survive(void **state)
{
    (void)state;
    struct lvm_vg *vg = parse(TEXT_VG(TWO_SEGMENTS));
    free(vg->pv[0].device);
    vg->pv[0].device = xstrdup("/dev/a \"b\\c\" { # }");
    char *text = write_text(vg);
    struct lvm_vg *back = parse(text);
    assert_string_equal(back->pv[0].device, vg->pv[0].device);
    free(text);
    lvm_vg_free(&vg);
    lvm_vg_free(&back);
}

static void a_string_with_a_newline_is_not_written(void **state)
{
    (void)state;
    struct err e;
    size_t size;
    struct lvm_vg *vg = parse(TEXT_VG(TWO_SEGMENTS));
    free(vg->pv[0].device);
    vg->pv[0].device = xstrdup("a\nb");
    assert_null(lvm_text_write(vg, "test", &size, &e));
    lvm_vg_free(&vg);
}

static void add_linear(struct lvm_vg *vg, const char *name, uint32_t pe, uint32_t len)
{
    struct lvm_lv *lv = lvm_vg_add_lv(vg, name);
    struct lvm_piece piece = {.pv = 0, .pe = pe, .len = len};
    lvm_id_random(lv->id);
    lvm_strs_add(&lv->status, "READ");
    lvm_strs_add(&lv->status, "VISIBLE");
    lvm_lv_append(lv, &piece);
}

/* What is written with what was proven before is what is written without; NULL: refused. */
static struct lvm_vg *rewritten(const struct lvm_vg *vg, struct lvm_proof **proof)
{
    struct err e = {0}, whole = {0};
    size_t n, m;
    char *text = lvm_text_rewrite(vg, "test", proof, &n, &e),
         *same = lvm_text_write(vg, "test", &m, &whole);
    assert_int_equal(!text, !same);
    assert_int_equal(e.code, whole.code);
    struct lvm_vg *back = text ? parse(text) : NULL;
    if (text) {
        *strstr(text, "# Generated") = *strstr(same, "# Generated") = 0;
        assert_string_equal(text, same);
    }
    free(text);
    free(same);
    return back;
}

static void what_stays_is_not_proven_again_and_what_is_new_is(void **state)
{
    (void)state;
    struct lvm_proof *proof = NULL;
    struct lvm_vg *vg = parse(TEXT_VG(TWO_SEGMENTS)), *back;
    lvm_vg_del_lv(vg, lvm_vg_lv(vg, "one")); /* it has lines that make us read all of the text */
    for (unsigned i = 0; i < 5; i++) {
        char name[8];
        snprintf(name, sizeof name, "v%u", i);
        add_linear(vg, name, 4 + i, 1);
        back = rewritten(vg, &proof);
        assert_int_equal(back->lv_count, i + 1);
        lvm_vg_free(&back);
    }
    lvm_vg_del_lv(vg, lvm_vg_lv(vg, "v1"));
    back = rewritten(vg, &proof);
    assert_non_null(back);
    lvm_vg_free(&back);
    static const struct bad {
        const char *name;
        uint32_t pe, len;
    } bad[] = {{"twice", 6, 1}, {"behind", 9, 200}, {"v2", 10, 1}, {"new\nline", 10, 1}};
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct lvm_vg *next = lvm_vg_clone(vg);
        add_linear(next, bad[i].name, bad[i].pe, bad[i].len);
        assert_null(rewritten(next, &proof));
        lvm_vg_free(&next);
    }
    lvm_proof_free(&proof);
    assert_null(proof);
    lvm_vg_free(&vg);
}

#define STRIPED(n, count)                                     \
    TEXT_LV("str", TEXT_ID1, TEXT_RW, "segment_count = 1\n",  \
            TEXT_SEG(1, 0, count,                             \
                     "type = \"striped\"\nstripe_count = " #n \
                     "\nstripe_size = 128\nstripes = [\"pv0\", 8, \"pv1\", 0]\n"))

static void stripes_are_read_and_written(void **state)
{
    (void)state;
    struct lvm_vg *vg = parse(TEXT_VG(STRIPED(2, 4)));
    assert_true(vg->lv[0].seg[0].plain);
    assert_int_equal(vg->lv[0].seg[0].piece_count, 2);
    assert_int_equal(vg->lv[0].seg[0].piece[1].len, 2);
    assert_int_equal(vg->lv[0].seg[0].stripe_size, 128);
    char *out = write_text(vg);
    assert_non_null(strstr(out, "stripe_count = 2\nstripe_size = 128\n"));
    free(out);
    lvm_vg_free(&vg);
    refused(TEXT_VG(STRIPED(2, 5)), "stripe_count");
    refused(TEXT_VG(STRIPED(3, 6)), "as many as stripe_count");
}

#define THIN                                                                                    \
    TEXT_LV("pool", TEXT_ID1, TEXT_RW, "segment_count = 1\n",                                   \
            TEXT_SEG(1, 0, 2,                                                                   \
                     "type = \"thin-pool\"\nmetadata = \"pool_tmeta\"\npool = \"pool_tdata\"\n" \
                     "transaction_id = 1\nchunk_size = 128\ndiscards = \"passdown\"\n"          \
                     "zero_new_blocks = 1\nmessage1 {\ncreate = \"t1\"\n}\n"))                  \
    TEXT_LV("pool_tdata", TEXT_ID2, "\"READ\", \"WRITE\"", "segment_count = 1\n",               \
            TEXT_SEG(1, 0, 2, TEXT_LINEAR("pv0", 4)))

static void thin_pools_are_carried_whole(void **state)
{
    (void)state;
    struct lvm_vg *vg = parse(TEXT_VG(THIN));
    assert_string_equal(vg->read_only_why, "");
    assert_false(vg->lv[0].seg[0].plain);
    assert_false(vg->lv[0].referenced);
    assert_true(vg->lv[1].referenced);
    char *out = write_text(vg);
    assert_non_null(strstr(out, "transaction_id=1"));
    assert_non_null(strstr(out, "message1 {"));
    struct lvm_vg *back = parse(out);
    assert_string_equal(back->lv[0].seg[0].extra, vg->lv[0].seg[0].extra);
    free(out);
    lvm_vg_free(&back);
    lvm_vg_free(&vg);
}

static void space_of_old_mirrors_counts_as_used(void **state)
{
    (void)state;
    struct lvm_vg *vg = parse(TEXT_VG(TEXT_LV(
        "m", TEXT_ID1, TEXT_RW, "segment_count = 1\n",
        TEXT_SEG(1, 0, 3,
                 "type = \"mirror\"\nmirror_count = 2\nmirrors = [\"pv0\", 2, \"pv1\", 5]\n"))));
    unsigned n;
    struct lvm_piece *used = lvm_vg_used(vg, &n);
    assert_int_equal(n, 2);
    assert_int_equal(used[1].pv, 1);
    assert_int_equal(used[1].pe, 5);
    assert_int_equal(used[1].len, 3);
    free(used);
    lvm_vg_free(&vg);
}

static void read_only(const char *text, const char *why)
{
    struct lvm_vg *vg = parse(text);
    if (!strstr(vg->read_only_why, why))
        print_error("\"%s\" has no \"%s\"\n", vg->read_only_why, why);
    assert_non_null(strstr(vg->read_only_why, why));
    lvm_vg_free(&vg);
}

static void what_is_unknown_makes_the_group_read_only(void **state)
{
    (void)state;
    read_only(TEXT_VG(TEXT_LV("q", TEXT_ID1, TEXT_RW, "segment_count = 1\n",
                              TEXT_SEG(1, 0, 1, "type = \"quantum\"\n"))),
              "type \"quantum\"");
    read_only(TEXT_VG(TEXT_LV("q", TEXT_ID1, TEXT_RW, "segment_count = 1\n",
                              TEXT_SEG(1, 0, 1, "type = \"raid5+RESHAPE\"\nx = 1\n"))),
              "raid5+RESHAPE");
    read_only(TEXT_VG(TEXT_LV("q", TEXT_ID1, "\"READ\", \"LOCKED\"", "segment_count = 1\n",
                              TEXT_SEG(1, 0, 1, TEXT_LINEAR("pv0", 0)))),
              "LOCKED");
    read_only(TEXT_HEAD "status = [\"READ\", \"WRITE\", \"ODD\"]\n" TEXT_SIZES TEXT_PVS TEXT_TAIL,
              "status ODD");
    read_only(TEXT_HEAD "status = [\"READ\"]\n" TEXT_SIZES TEXT_PVS TEXT_TAIL, "no WRITE");
    read_only(TEXT_HEAD TEXT_STATUS "lock_type = \"sanlock\"\n" TEXT_SIZES TEXT_PVS TEXT_TAIL,
              "lock_type");
    read_only(TEXT_HEAD TEXT_STATUS "share = 0.5\n" TEXT_SIZES TEXT_PVS TEXT_TAIL, "share");
}

static void wrong_groups_are_refused(void **state)
{
    (void)state;
#define LV1(seg) TEXT_VG(TEXT_LV("one", TEXT_ID1, TEXT_RW, "segment_count = 1\n", seg))
    refused(LV1(TEXT_SEG(1, 1, 3, TEXT_LINEAR("pv0", 0))), "gap");
    refused(LV1(TEXT_SEG(1, 0, 3, TEXT_LINEAR("pv0", 22))), "uses extent 24");
    refused(LV1(TEXT_SEG(1, 0, 3, TEXT_LINEAR("pv0", 4294967295))), "uses extent");
    refused(LV1(TEXT_SEG(1, 0, 0, TEXT_LINEAR("pv0", 0))), "in range");
    refused(LV1(TEXT_SEG(1, 0, -1, TEXT_LINEAR("pv0", 0))), "in range");
    refused(LV1(TEXT_SEG(1, 0, 1, TEXT_LINEAR("pv0", 0)) TEXT_SEG(2, 1, 1, TEXT_LINEAR("pv0", 2))),
            "segment_count");
    refused(TEXT_VG(TEXT_LV("a", TEXT_ID1, TEXT_RW, "segment_count = 1\n",
                            TEXT_SEG(1, 0, 3, TEXT_LINEAR("pv0", 0)))
                        TEXT_LV("b", TEXT_ID2, TEXT_RW, "segment_count = 1\n",
                                TEXT_SEG(1, 0, 3, TEXT_LINEAR("pv0", 2)))),
            "in use twice");
    refused(TEXT_VG(TWO_SEGMENTS TWO_SEGMENTS), "twice");
    refused(TEXT_HEAD TEXT_STATUS TEXT_SIZES TEXT_TAIL, "physical_volumes");
    refused(TEXT_HEAD TEXT_STATUS TEXT_PVS TEXT_TAIL, "extent_size");
    refused(TEXT_HEAD "seqno = 6\n" TEXT_STATUS TEXT_SIZES TEXT_PVS TEXT_TAIL, "only once");
    refused(TEXT_HEAD TEXT_STATUS TEXT_SIZES TEXT_PVS "}\nversion = 1\n", "not a volume group");
    refused("", "empty");
}

static void wrong_syntax_is_refused_with_its_line(void **state)
{
    (void)state;
    refused("a {\nb = \"x\n", "does not end");
    refused("a {\n\nb = 1\n", "line 4: a section does not end");
    refused("a {\n}\n}\n", "line 3");
    refused("a {{{{{{{{{{", "nested");
    refused("a/b/c = 1\n", "line 1");
    refused("\"a\" = 1\n", "quoted name");
    refused("\"a/b\" {\n}\n", "quoted name");
    refused("a\"{b{c = 1\n", "runs into");
    refused("a = 'x'\n", "not part of the format");
    refused("a = [b,c]\n", "runs into");
}

static void a_nul_within_is_refused(void **state)
{
    (void)state;
    struct err e;
    static const char text[] = "a = 1\0b = 2\n";
    assert_null(lvm_text_parse(text, sizeof text, &e));
    assert_non_null(strstr(e.msg, "NUL"));
}

static void cutting_a_volume_drops_what_is_behind(void **state)
{
    (void)state;
    struct lvm_vg *vg = parse(TEXT_VG(TWO_SEGMENTS));
    assert_true(lvm_lv_cut(&vg->lv[0], 4));
    assert_int_equal(vg->lv[0].seg_count, 2);
    assert_int_equal(vg->lv[0].seg[1].piece[0].len, 1);
    assert_true(lvm_lv_cut(&vg->lv[0], 3));
    assert_int_equal(vg->lv[0].seg_count, 1);
    char *text = write_text(vg);
    free(text);
    lvm_vg_free(&vg);
}

static void adjacent_pieces_join_into_one_segment(void **state)
{
    (void)state;
    struct lvm_vg *vg = parse(TEXT_VG(TWO_SEGMENTS));
    struct lvm_lv *lv = &vg->lv[0];
    lvm_lv_append(lv, &(struct lvm_piece){1, 15 - 15, 2}); /* elsewhere */
    assert_int_equal(lv->seg_count, 3);
    lvm_lv_append(lv, &(struct lvm_piece){1, 2, 3}); /* goes on */
    assert_int_equal(lv->seg_count, 3);
    assert_int_equal(lv->seg[2].count, 5);
    assert_int_equal(lv->extents, 13);
    lvm_vg_free(&vg);
}

static void names_of_lvms_own_are_refused(void **state)
{
    (void)state;
    const char *why;
    assert_true(lvm_lv_name_ok("data", &why));
    assert_true(lvm_lv_name_ok("my.vol-1_x+y", &why));
    assert_false(lvm_lv_name_ok("pvmove0", &why));
    assert_false(lvm_lv_name_ok("snapshot1", &why));
    assert_false(lvm_lv_name_ok("x_tmeta", &why));
    assert_false(lvm_lv_name_ok("x_rimage_0", &why));
    assert_false(lvm_lv_name_ok("-x", &why));
    assert_false(lvm_lv_name_ok("..", &why));
    assert_false(lvm_lv_name_ok("", &why));
    assert_false(lvm_lv_name_ok("a b", &why));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_text_in_lvms_shape_is_read),
        cmocka_unit_test(what_is_not_known_is_carried),
        cmocka_unit_test(writing_what_was_read_changes_nothing),
        cmocka_unit_test(strings_with_quotes_and_backslashes_survive),
        cmocka_unit_test(a_string_with_a_newline_is_not_written),
        cmocka_unit_test(what_stays_is_not_proven_again_and_what_is_new_is),
        cmocka_unit_test(stripes_are_read_and_written),
        cmocka_unit_test(thin_pools_are_carried_whole),
        cmocka_unit_test(space_of_old_mirrors_counts_as_used),
        cmocka_unit_test(what_is_unknown_makes_the_group_read_only),
        cmocka_unit_test(wrong_groups_are_refused),
        cmocka_unit_test(wrong_syntax_is_refused_with_its_line),
        cmocka_unit_test(a_nul_within_is_refused),
        cmocka_unit_test(cutting_a_volume_drops_what_is_behind),
        cmocka_unit_test(adjacent_pieces_join_into_one_segment),
        cmocka_unit_test(names_of_lvms_own_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
