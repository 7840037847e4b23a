/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "harness.h"

#include <string.h>

#include "targets/nbd/nbd_handshake.h"

static uint32_t find(void *arg, const char *name, size_t len, struct nbd_view *view_r,
                     char why[160])
{
    (void)arg;
    if (len && (len != 4 || memcmp(name, "disk", 4))) {
        snprintf(why, 160, "no such export");
        return NBD_REP_ERR_UNKNOWN;
    }
    *view_r = (struct nbd_view){
        .name = "disk",
        .description = "words",
        .limits = {.size = 1 << 30, .max_payload = 1 << 25, .flags = 0x10d},
        .min_block = 1,
        .preferred_block = 4096,
    };
    return 0;
}

static void list(void *arg, void (*each)(const char *name, const char *description, void *ctx),
                 void *ctx)
{
    (void)arg;
    each("disk", "words", ctx);
    each("other", "", ctx);
}

static const struct nbd_handshake_ops ops = {.find = find, .list = list};

/* A conversation: what the client sends is fed in pieces of `piece` bytes. */
struct talk {
    struct nbd_handshake h;
    struct nbd_out out;
    struct rd replies;
    uint8_t in[NBD_HANDSHAKE_INPUT + 64];
    size_t len;
    enum nbd_verdict verdict;
};

static void say(struct talk *t, const void *p, size_t len)
{
    assert_true(t->len + len <= sizeof t->in);
    memcpy(t->in + t->len, p, len);
    t->len += len;
    struct rd in = rd_make(t->in, t->len);
    do {
        t->verdict = nbd_handshake_step(&t->h, &in, &t->out);
    } while (t->verdict == NBD_HANDSHAKE_TAKEN);
    t->len -= in.pos;
    memmove(t->in, t->in + in.pos, t->len);
    size_t pos = t->replies.pos;
    t->replies = rd_make(t->out.p, t->out.len);
    t->replies.pos = pos;
}

static void begin_tls(struct talk *t, uint32_t flags, enum nbd_tls_mode tls)
{
    memset(t, 0, sizeof *t);
    nbd_handshake_begin(&t->h, &ops, NULL, tls, &t->out);
    assert_int_equal(t->out.len, NBD_HELLO_SIZE);
    uint8_t b[4];
    struct wr w = wr_make(b, 4);
    wr_be32(&w, flags);
    t->replies.pos = NBD_HELLO_SIZE;
    say(t, b, 4);
}

static void begin(struct talk *t, uint32_t flags)
{
    begin_tls(t, flags, NBD_TLS_OFF);
}

static void say_option(struct talk *t, uint32_t option, const void *data, uint32_t len)
{
    uint8_t head[NBD_OPTION_HEADER_SIZE];
    struct wr w = wr_make(head, sizeof head);
    wr_be64(&w, NBD_OPTION_MAGIC);
    wr_be32(&w, option);
    wr_be32(&w, len);
    say(t, head, sizeof head);
    if (len)
        say(t, data, len);
}

static void say_info(struct talk *t, uint32_t option, const char *name, const uint16_t *items,
                     uint16_t count)
{
    uint8_t data[300];
    struct wr w = wr_make(data, sizeof data);
    wr_be32(&w, strlen(name));
    wr_copy(&w, name, strlen(name));
    wr_be16(&w, count);
    for (unsigned i = 0; i < count; i++)
        wr_be16(&w, items[i]);
    say_option(t, option, data, (uint32_t)w.pos);
}

/* The next reply must be of this option and type; a cursor over its data. */
static struct rd hear(struct talk *t, uint32_t option, uint32_t type)
{
    assert_true(rd_be64(&t->replies) == NBD_OPTION_REPLY_MAGIC);
    assert_int_equal(rd_be32(&t->replies), option);
    assert_int_equal(rd_be32(&t->replies), type);
    uint32_t len = rd_be32(&t->replies);
    const uint8_t *p = rd_bytes(&t->replies, len);
    assert_true(rd_ok(&t->replies));
    return rd_make(p, len);
}

static void hear_nothing_more(struct talk *t)
{
    assert_int_equal(rd_left(&t->replies), 0);
}

static void the_greeting_is_fixed_newstyle(void **state)
{
    (void)state;
    struct nbd_handshake h;
    struct nbd_out out = {0};
    nbd_handshake_begin(&h, &ops, NULL, NBD_TLS_OFF, &out);
    assert_int_equal(out.len, 18);
    assert_memory_equal(out.p, "NBDMAGICIHAVEOPT\0\3", 18);
    nbd_out_free(&out);
}

static void unknown_client_flags_end_it(void **state)
{
    (void)state;
    struct talk t;
    begin(&t, 4);
    assert_int_equal(t.verdict, NBD_HANDSHAKE_CLOSE);
    nbd_out_free(&t.out);
}

static void an_unknown_option_is_unsupported_and_the_next_one_works(void **state)
{
    (void)state;
    struct talk t;
    begin(&t, 3);
    say_option(&t, 12, NULL, 0);
    hear(&t, 12, NBD_REP_ERR_UNSUP);
    say_option(&t, 77, "abc", 3);
    hear(&t, 77, NBD_REP_ERR_UNSUP);
    say_option(&t, NBD_OPT_LIST, NULL, 0);
    hear(&t, NBD_OPT_LIST, NBD_REP_SERVER);
    nbd_out_free(&t.out);
}

static void list_names_every_export(void **state)
{
    (void)state;
    struct talk t;
    begin(&t, 3);
    say_option(&t, NBD_OPT_LIST, NULL, 0);
    struct rd r = hear(&t, NBD_OPT_LIST, NBD_REP_SERVER);
    assert_int_equal(rd_be32(&r), 4);
    assert_memory_equal(rd_bytes(&r, 4), "disk", 4);
    assert_memory_equal(rd_bytes(&r, 5), "words", 5);
    r = hear(&t, NBD_OPT_LIST, NBD_REP_SERVER);
    assert_int_equal(rd_be32(&r), 5);
    assert_memory_equal(rd_bytes(&r, 5), "other", 5);
    hear(&t, NBD_OPT_LIST, NBD_REP_ACK);
    hear_nothing_more(&t);
    assert_int_equal(t.verdict, NBD_HANDSHAKE_NEED);
    nbd_out_free(&t.out);
}

static void list_with_data_is_invalid(void **state)
{
    (void)state;
    struct talk t;
    begin(&t, 3);
    say_option(&t, NBD_OPT_LIST, "x", 1);
    hear(&t, NBD_OPT_LIST, NBD_REP_ERR_INVALID);
    hear_nothing_more(&t);
    nbd_out_free(&t.out);
}

static void info_gives_what_was_asked_and_stays_in_the_handshake(void **state)
{
    (void)state;
    struct talk t;
    static const uint16_t items[] = {NBD_INFO_BLOCK_SIZE, 999, NBD_INFO_NAME, NBD_INFO_DESCRIPTION};
    begin(&t, 3);
    say_info(&t, NBD_OPT_INFO, "", items, 4);
    struct rd r = hear(&t, NBD_OPT_INFO, NBD_REP_INFO);
    assert_int_equal(rd_be16(&r), NBD_INFO_EXPORT);
    assert_true(rd_be64(&r) == 1 << 30);
    assert_int_equal(rd_be16(&r), 0x10d);
    assert_int_equal(rd_left(&r), 0);
    r = hear(&t, NBD_OPT_INFO, NBD_REP_INFO);
    assert_int_equal(rd_be16(&r), NBD_INFO_NAME);
    assert_memory_equal(rd_bytes(&r, 4), "disk", 4);
    r = hear(&t, NBD_OPT_INFO, NBD_REP_INFO);
    assert_int_equal(rd_be16(&r), NBD_INFO_DESCRIPTION);
    assert_memory_equal(rd_bytes(&r, 5), "words", 5);
    r = hear(&t, NBD_OPT_INFO, NBD_REP_INFO);
    assert_int_equal(rd_be16(&r), NBD_INFO_BLOCK_SIZE);
    assert_int_equal(rd_be32(&r), 1);
    assert_int_equal(rd_be32(&r), 4096);
    assert_int_equal(rd_be32(&r), 1 << 25);
    hear(&t, NBD_OPT_INFO, NBD_REP_ACK);
    hear_nothing_more(&t);
    assert_int_equal(t.verdict, NBD_HANDSHAKE_NEED);
    nbd_out_free(&t.out);
}

static void go_enters_transmission(void **state)
{
    (void)state;
    struct talk t;
    begin(&t, 3);
    say_info(&t, NBD_OPT_GO, "disk", NULL, 0);
    hear(&t, NBD_OPT_GO, NBD_REP_INFO);
    hear(&t, NBD_OPT_GO, NBD_REP_ACK);
    hear_nothing_more(&t);
    assert_int_equal(t.verdict, NBD_HANDSHAKE_GO);
    assert_string_equal(t.h.chosen.name, "disk");
    nbd_out_free(&t.out);
}

static void go_for_an_unknown_export_tells_why_and_goes_on(void **state)
{
    (void)state;
    struct talk t;
    begin(&t, 3);
    say_info(&t, NBD_OPT_GO, "nope", NULL, 0);
    struct rd r = hear(&t, NBD_OPT_GO, NBD_REP_ERR_UNKNOWN);
    assert_memory_equal(rd_bytes(&r, 14), "no such export", 14);
    assert_int_equal(t.verdict, NBD_HANDSHAKE_NEED);
    nbd_out_free(&t.out);
}

static void info_with_lengths_that_do_not_add_up_is_invalid(void **state)
{
    (void)state;
    static const struct {
        uint8_t data[12];
        uint32_t len;
    } wrong[] = {
        {{0}, 0},
        {{0, 0, 0, 9, 'd', 'i', 's', 'k', 0, 0}, 10},    /* name longer than the data */
        {{0xff, 0xff, 0xff, 0xff, 0, 0}, 6},             /* much longer */
        {{0, 0, 0, 4, 'd', 'i', 's', 'k'}, 8},           /* no count */
        {{0, 0, 0, 4, 'd', 'i', 's', 'k', 0, 1}, 10},    /* an item is missing */
        {{0, 0, 0, 4, 'd', 'i', 's', 'k', 0, 0, 0}, 11}, /* a byte too many */
    };
    struct talk t;
    begin(&t, 3);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        say_option(&t, NBD_OPT_GO, wrong[i].data, wrong[i].len);
        hear(&t, NBD_OPT_GO, NBD_REP_ERR_INVALID);
        assert_int_equal(t.verdict, NBD_HANDSHAKE_NEED);
    }
    nbd_out_free(&t.out);
}

static void export_name_ends_the_handshake_with_or_without_zeroes(void **state)
{
    (void)state;
    for (uint32_t flags = 1; flags <= 3; flags += 2) {
        struct talk t;
        begin(&t, flags);
        say_option(&t, NBD_OPT_EXPORT_NAME, "disk", 4);
        assert_int_equal(t.verdict, NBD_HANDSHAKE_GO);
        assert_int_equal(rd_left(&t.replies), flags & NBD_FLAG_NO_ZEROES ? 10 : 134);
        assert_true(rd_be64(&t.replies) == 1 << 30);
        assert_int_equal(rd_be16(&t.replies), 0x10d);
        nbd_out_free(&t.out);
    }
}

static void export_name_of_an_unknown_export_closes(void **state)
{
    (void)state;
    struct talk t;
    begin(&t, 3);
    say_option(&t, NBD_OPT_EXPORT_NAME, "nope", 4);
    hear_nothing_more(&t);
    assert_int_equal(t.verdict, NBD_HANDSHAKE_CLOSE);
    nbd_out_free(&t.out);
}

static void abort_is_acknowledged_then_closed(void **state)
{
    (void)state;
    struct talk t;
    begin(&t, 3);
    say_option(&t, NBD_OPT_ABORT, NULL, 0);
    hear(&t, NBD_OPT_ABORT, NBD_REP_ACK);
    assert_int_equal(t.verdict, NBD_HANDSHAKE_CLOSE);
    nbd_out_free(&t.out);
}

static void a_wrong_magic_closes(void **state)
{
    (void)state;
    struct talk t;
    begin(&t, 3);
    say(&t, "GET / HTTP/1.1\r\n\r\n", 18);
    assert_int_equal(t.verdict, NBD_HANDSHAKE_CLOSE);
    nbd_out_free(&t.out);
}

static void too_long_data_is_skipped_and_told(void **state)
{
    (void)state;
    struct talk t;
    uint8_t head[NBD_OPTION_HEADER_SIZE], junk[1000] = {0};
    begin(&t, 3);
    struct wr w = wr_make(head, sizeof head);
    wr_be64(&w, NBD_OPTION_MAGIC);
    wr_be32(&w, NBD_OPT_GO);
    wr_be32(&w, 100 * sizeof junk);
    say(&t, head, sizeof head);
    for (unsigned i = 0; i < 100; i++) {
        hear_nothing_more(&t);
        say(&t, junk, sizeof junk);
    }
    hear(&t, NBD_OPT_GO, NBD_REP_ERR_TOO_BIG);
    say_info(&t, NBD_OPT_GO, "disk", NULL, 0);
    assert_int_equal(t.verdict, NBD_HANDSHAKE_GO);
    nbd_out_free(&t.out);
}

static void say_long(struct talk *t, uint32_t option)
{
    uint8_t head[NBD_OPTION_HEADER_SIZE], junk[NBD_OPTION_DATA_MAX + 1] = {0};
    struct wr w = wr_make(head, sizeof head);
    wr_be64(&w, NBD_OPTION_MAGIC);
    wr_be32(&w, option);
    wr_be32(&w, sizeof junk);
    say(t, head, sizeof head);
    if (t->verdict == NBD_HANDSHAKE_CLOSE)
        return;
    say(t, junk, sizeof junk / 2);
    say(t, junk, sizeof junk - sizeof junk / 2);
}

static void options_keep_their_meaning_when_their_data_is_too_long(void **state)
{
    (void)state;
    struct talk t;
    begin(&t, 3);
    say_long(&t, 77);
    hear(&t, 77, NBD_REP_ERR_UNSUP);
    say_long(&t, NBD_OPT_ABORT); /* "a server SHOULD ignore any data sent" */
    hear(&t, NBD_OPT_ABORT, NBD_REP_ACK);
    assert_int_equal(t.verdict, NBD_HANDSHAKE_CLOSE);
    nbd_out_free(&t.out);
    begin(&t, 3);
    say_long(&t, NBD_OPT_EXPORT_NAME);
    assert_int_equal(t.verdict, NBD_HANDSHAKE_CLOSE);
    nbd_out_free(&t.out);
    begin_tls(&t, 3, NBD_TLS_REQUIRED);
    say_long(&t, NBD_OPT_GO);
    hear(&t, NBD_OPT_GO, NBD_REP_ERR_TLS_REQD);
    say_long(&t, 77);
    hear(&t, 77, NBD_REP_ERR_TLS_REQD);
    nbd_out_free(&t.out);
}

static void bytes_may_come_one_at_a_time(void **state)
{
    (void)state;
    struct talk t;
    static const uint8_t go[] = "IHAVEOPT\0\0\0\7\0\0\0\12\0\0\0\4disk\0\0";
    begin(&t, 3);
    for (size_t i = 0; i + 1 < sizeof go; i++) {
        assert_int_equal(t.verdict, NBD_HANDSHAKE_NEED);
        say(&t, go + i, 1);
    }
    assert_int_equal(t.verdict, NBD_HANDSHAKE_GO);
    nbd_out_free(&t.out);
}

static void structured_replies_and_extended_headers_are_entered_once(void **state)
{
    (void)state;
    struct talk t;
    enum { STRUCTURED = NBD_OPT_STRUCTURED_REPLY, EXTENDED = NBD_OPT_EXTENDED_HEADERS };
    begin(&t, 3);
    say_option(&t, STRUCTURED, "x", 1);
    hear(&t, STRUCTURED, NBD_REP_ERR_INVALID);
    say_option(&t, STRUCTURED, NULL, 0);
    hear(&t, STRUCTURED, NBD_REP_ACK);
    say_option(&t, STRUCTURED, NULL, 0);
    hear(&t, STRUCTURED, NBD_REP_ERR_INVALID);
    say_option(&t, EXTENDED, NULL, 0);
    hear(&t, EXTENDED, NBD_REP_ACK);
    say_option(&t, EXTENDED, NULL, 0);
    hear(&t, EXTENDED, NBD_REP_ERR_INVALID);
    say_option(&t, STRUCTURED, NULL, 0);
    hear(&t, STRUCTURED, NBD_REP_ERR_EXT_HEADER_REQD);
    say_info(&t, NBD_OPT_GO, "disk", NULL, 0);
    struct rd r = hear(&t, NBD_OPT_GO, NBD_REP_INFO);
    rd_skip(&r, 10);
    assert_int_equal(rd_be16(&r), 0x10d | NBD_FLAG_SEND_DF); /* no context: no payload for it */
    assert_int_equal(t.verdict, NBD_HANDSHAKE_GO);
    assert_int_equal(t.h.chosen.limits.mode, NBD_MODE_EXTENDED);
    assert_false(t.h.chosen.limits.allocation);
    nbd_out_free(&t.out);
}

static void say_meta(struct talk *t, uint32_t option, const char *name, const char *query)
{
    uint8_t data[300];
    struct wr w = wr_make(data, sizeof data);
    wr_be32(&w, strlen(name));
    wr_copy(&w, name, strlen(name));
    wr_be32(&w, query ? 2 : 0);
    if (query) {
        wr_be32(&w, 7);
        wr_copy(&w, "x-a:b:c", 7); /* of a namespace that we do not know: ignored */
        wr_be32(&w, strlen(query));
        wr_copy(&w, query, strlen(query));
    }
    say_option(t, option, data, (uint32_t)w.pos);
}

static void hear_context(struct talk *t, uint32_t option, uint32_t id)
{
    struct rd r = hear(t, option, NBD_REP_META_CONTEXT);
    assert_int_equal(rd_be32(&r), id);
    assert_int_equal(rd_left(&r), 15);
    assert_memory_equal(rd_bytes(&r, 15), "base:allocation", 15);
}

static void contexts_are_listed_by_name_by_wildcard_and_without_a_query(void **state)
{
    (void)state;
    struct talk t;
    enum { LIST = NBD_OPT_LIST_META_CONTEXT };
    begin(&t, 3);
    say_meta(&t, LIST, "disk", NULL);
    hear(&t, LIST, NBD_REP_ERR_INVALID); /* structured replies come first */
    say_option(&t, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
    hear(&t, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ACK);
    static const char *const queries[] = {NULL, "base:", "base:allocation"};
    for (unsigned i = 0; i < 3; i++) {
        say_meta(&t, LIST, "disk", queries[i]);
        hear_context(&t, LIST, 0);
        hear(&t, LIST, NBD_REP_ACK);
    }
    say_meta(&t, LIST, "disk", "base:alloc");
    hear(&t, LIST, NBD_REP_ACK);
    say_meta(&t, LIST, "disk", "nocolon");
    hear(&t, LIST, NBD_REP_ERR_INVALID);
    say_meta(&t, LIST, "nope", NULL);
    hear(&t, LIST, NBD_REP_ERR_UNKNOWN);
    hear_nothing_more(&t);
    nbd_out_free(&t.out);
}

/* Sets base:allocation for "disk", then `query` for `name` unless that is NULL, then goes to `to`.
 */
static bool allocation_after(const char *name, const char *query, const char *to)
{
    struct talk t;
    enum { SET = NBD_OPT_SET_META_CONTEXT };
    begin(&t, 3);
    say_option(&t, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
    hear(&t, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ACK);
    say_meta(&t, SET, "disk", "base:allocation");
    hear_context(&t, SET, NBD_CONTEXT_ALLOCATION_ID);
    hear(&t, SET, NBD_REP_ACK);
    if (name)
        say_meta(&t, SET, name, query);
    say_info(&t, NBD_OPT_GO, to, NULL, 0);
    assert_int_equal(t.verdict, NBD_HANDSHAKE_GO);
    nbd_out_free(&t.out);
    return t.h.chosen.limits.allocation;
}

static void a_failed_set_forgets_the_contexts_however_it_fails(void **state)
{
    (void)state;
    for (int is_long = 0; is_long < 2; is_long++) {
        struct talk t;
        begin(&t, 3);
        say_option(&t, NBD_OPT_EXTENDED_HEADERS, NULL, 0);
        hear(&t, NBD_OPT_EXTENDED_HEADERS, NBD_REP_ACK);
        say_meta(&t, NBD_OPT_SET_META_CONTEXT, "disk", "base:allocation");
        hear_context(&t, NBD_OPT_SET_META_CONTEXT, NBD_CONTEXT_ALLOCATION_ID);
        hear(&t, NBD_OPT_SET_META_CONTEXT, NBD_REP_ACK);
        if (is_long) {
            say_long(&t, NBD_OPT_SET_META_CONTEXT);
            hear(&t, NBD_OPT_SET_META_CONTEXT, NBD_REP_ERR_TOO_BIG);
        }
        say_info(&t, NBD_OPT_GO, "disk", NULL, 0);
        struct rd r = hear(&t, NBD_OPT_GO, NBD_REP_INFO);
        rd_skip(&r, 10);
        assert_int_equal(!!(rd_be16(&r) & NBD_FLAG_BLOCK_STATUS_PAYLOAD), !is_long);
        assert_int_equal(t.h.chosen.limits.allocation, !is_long);
        nbd_out_free(&t.out);
    }
}

static void contexts_hold_for_the_export_they_were_set_for_last(void **state)
{
    (void)state;
    assert_true(allocation_after(NULL, NULL, "disk"));
    assert_false(allocation_after(NULL, NULL, ""));
    assert_true(allocation_after("", "base:allocation", ""));
    assert_false(allocation_after("disk", NULL, "disk"));
    assert_false(allocation_after("disk", "base:", "disk")); /* no wildcards in SET */
    assert_false(allocation_after("nope", "base:allocation", "disk"));
    assert_false(allocation_after("disk", "nocolon", "disk"));
}

static void without_tls_starttls_is_refused(void **state)
{
    (void)state;
    struct talk t;
    begin(&t, 3);
    say_option(&t, NBD_OPT_STARTTLS, NULL, 0);
    hear(&t, NBD_OPT_STARTTLS, NBD_REP_ERR_POLICY);
    say_info(&t, NBD_OPT_GO, "disk", NULL, 0);
    assert_int_equal(t.verdict, NBD_HANDSHAKE_GO);
    nbd_out_free(&t.out);
}

static void where_tls_is_required_nothing_else_is_answered(void **state)
{
    (void)state;
    struct talk t;
    static const uint32_t refused[] = {NBD_OPT_LIST, NBD_OPT_INFO, NBD_OPT_GO, 77,
                                       NBD_OPT_STRUCTURED_REPLY};
    begin_tls(&t, 3, NBD_TLS_REQUIRED);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        say_option(&t, refused[i], "", 0);
        hear(&t, refused[i], NBD_REP_ERR_TLS_REQD);
    }
    say_option(&t, NBD_OPT_EXPORT_NAME, "disk", 4);
    assert_int_equal(t.verdict, NBD_HANDSHAKE_CLOSE);
    hear_nothing_more(&t);
    nbd_out_free(&t.out);
}

static void who_does_not_know_fixed_newstyle_is_not_asked_for_tls(void **state)
{
    (void)state;
    struct talk t;
    for (uint32_t flags = 0; flags < 4; flags += 2) {
        begin_tls(&t, flags, NBD_TLS_ALLOWED);
        say_option(&t, NBD_OPT_STARTTLS, NULL, 0);
        hear(&t, NBD_OPT_STARTTLS, NBD_REP_ERR_POLICY);
        assert_false(nbd_handshake_offers_tls(&t.h));
        say_option(&t, NBD_OPT_EXPORT_NAME, "disk", 4);
        assert_int_equal(t.verdict, NBD_HANDSHAKE_GO);
        nbd_out_free(&t.out);
        begin_tls(&t, flags, NBD_TLS_REQUIRED);
        say_option(&t, NBD_OPT_STARTTLS, NULL, 0);
        hear(&t, NBD_OPT_STARTTLS, NBD_REP_ERR_POLICY);
        say_option(&t, NBD_OPT_LIST, NULL, 0);
        hear(&t, NBD_OPT_LIST, NBD_REP_ERR_POLICY);
        say_option(&t, NBD_OPT_EXPORT_NAME, "disk", 4);
        assert_int_equal(t.verdict, NBD_HANDSHAKE_CLOSE);
        nbd_out_free(&t.out);
    }
}

static void starttls_is_acknowledged_once_and_forgets_what_was_negotiated(void **state)
{
    (void)state;
    struct talk t;
    begin_tls(&t, 3, NBD_TLS_ALLOWED);
    say_option(&t, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
    hear(&t, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ACK);
    say_option(&t, NBD_OPT_STARTTLS, "x", 1);
    hear(&t, NBD_OPT_STARTTLS, NBD_REP_ERR_INVALID);
    say_option(&t, NBD_OPT_STARTTLS, NULL, 0);
    hear(&t, NBD_OPT_STARTTLS, NBD_REP_ACK);
    assert_int_equal(t.verdict, NBD_HANDSHAKE_TLS);
    nbd_handshake_encrypted(&t.h);
    say_option(&t, NBD_OPT_STARTTLS, NULL, 0);
    hear(&t, NBD_OPT_STARTTLS, NBD_REP_ERR_INVALID);
    say_option(&t, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
    hear(&t, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ACK);
    nbd_out_free(&t.out);
}

static void a_server_that_shuts_down_errors_every_option_but_abort(void **state)
{
    (void)state;
    static const uint32_t options[] = {
        NBD_OPT_LIST, NBD_OPT_STARTTLS,         NBD_OPT_STRUCTURED_REPLY, NBD_OPT_LIST_META_CONTEXT,
        4711,         NBD_OPT_EXTENDED_HEADERS, NBD_OPT_SET_META_CONTEXT,
    };
    static const uint8_t much[NBD_OPTION_DATA_MAX + 1];
    struct talk t;
    begin_tls(&t, NBD_FLAG_FIXED_NEWSTYLE, NBD_TLS_REQUIRED);
    t.h.shutting_down = true;
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        say_option(&t, options[i], NULL, 0);
        hear(&t, options[i], NBD_REP_ERR_SHUTDOWN);
    }
    say_info(&t, NBD_OPT_GO, "disk", NULL, 0);
    hear(&t, NBD_OPT_GO, NBD_REP_ERR_SHUTDOWN);
    say_option(&t, NBD_OPT_INFO, much, sizeof much);
    hear(&t, NBD_OPT_INFO, NBD_REP_ERR_SHUTDOWN);
    say_option(&t, NBD_OPT_ABORT, NULL, 0);
    hear(&t, NBD_OPT_ABORT, NBD_REP_ACK);
    assert_int_equal(t.verdict, NBD_HANDSHAKE_CLOSE);
    hear_nothing_more(&t);
    nbd_out_free(&t.out);
    begin(&t, NBD_FLAG_FIXED_NEWSTYLE);
    t.h.shutting_down = true;
    say_option(&t, NBD_OPT_EXPORT_NAME, "disk", 4); /* which has no way to be told */
    assert_int_equal(t.verdict, NBD_HANDSHAKE_CLOSE);
    hear_nothing_more(&t);
    nbd_out_free(&t.out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_greeting_is_fixed_newstyle),
        cmocka_unit_test(unknown_client_flags_end_it),
        cmocka_unit_test(an_unknown_option_is_unsupported_and_the_next_one_works),
        cmocka_unit_test(list_names_every_export),
        cmocka_unit_test(list_with_data_is_invalid),
        cmocka_unit_test(info_gives_what_was_asked_and_stays_in_the_handshake),
        cmocka_unit_test(go_enters_transmission),
        cmocka_unit_test(go_for_an_unknown_export_tells_why_and_goes_on),
        cmocka_unit_test(info_with_lengths_that_do_not_add_up_is_invalid),
        cmocka_unit_test(export_name_ends_the_handshake_with_or_without_zeroes),
        cmocka_unit_test(export_name_of_an_unknown_export_closes),
        cmocka_unit_test(abort_is_acknowledged_then_closed),
        cmocka_unit_test(a_wrong_magic_closes),
        cmocka_unit_test(too_long_data_is_skipped_and_told),
        cmocka_unit_test(options_keep_their_meaning_when_their_data_is_too_long),
        cmocka_unit_test(bytes_may_come_one_at_a_time),
        cmocka_unit_test(structured_replies_and_extended_headers_are_entered_once),
        cmocka_unit_test(contexts_are_listed_by_name_by_wildcard_and_without_a_query),
        cmocka_unit_test(a_failed_set_forgets_the_contexts_however_it_fails),
        cmocka_unit_test(contexts_hold_for_the_export_they_were_set_for_last),
        cmocka_unit_test(without_tls_starttls_is_refused),
        cmocka_unit_test(where_tls_is_required_nothing_else_is_answered),
        cmocka_unit_test(a_server_that_shuts_down_errors_every_option_but_abort),
        cmocka_unit_test(who_does_not_know_fixed_newstyle_is_not_asked_for_tls),
        cmocka_unit_test(starttls_is_acknowledged_once_and_forgets_what_was_negotiated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
