/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "targets/iscsi/login.h"

/* The login machine, fed with PDUs by hand. */
static enum login_status verdict;
static unsigned asked;
static struct iscsi_auth auth; /* what the world asks for */
static struct login machine;
static struct login_reply reply;

static enum login_status permit(const struct login *l, struct login_offer *offer_r,
                                struct iscsi_auth *auth_r, void *arg)
{
    assert_ptr_equal(l, &machine);
    assert_ptr_equal(arg, &verdict);
    asked++;
    *auth_r = auth;
    offer_r->alias = "the alias";
    return verdict;
}

static int setup(void **state)
{
    (void)state;
    verdict = LOGIN_SUCCESS;
    asked = 0;
    auth = (struct iscsi_auth){0};
    struct login_env env = {.permit = permit, .arg = &verdict};
    login_init(&machine, &env, 3);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    login_free(&machine);
    text_free(&reply.text);
    return 0;
}

enum { T = F_TRANSIT, C = F_CONTINUE };
#define STAGES(csg, nsg) ((csg) << 2 | (nsg))

static struct iscsi_pdu request(uint8_t flags, size_t len)
{
    struct iscsi_pdu p = {.op = OP_LOGIN_REQ, .immediate = true, .flags = flags, .itt = 7};
    p.data_len = (uint32_t)len;
    memcpy(p.lun, "\x40\0\0\0\0\1\0\0", 8);
    p.w20 = 1 << 16; /* CID */
    p.w24 = 100;     /* CmdSN */
    return p;
}

static enum login_next feed(const struct iscsi_pdu *p, const void *data)
{
    text_free(&reply.text);
    return login_request(&machine, p, data, &reply);
}

static enum login_next say_n(uint8_t flags, const char *data, size_t len)
{
    struct iscsi_pdu p = request(flags, len);
    return feed(&p, data);
}
#define SAY(flags, literal) say_n(flags, literal, sizeof literal - 1)
#define NAMES "InitiatorName=iqn.a:i\0TargetName=iqn.a:t\0"

static bool has(const char *pair)
{
    for (size_t at = 0; at < reply.text.len; at += strlen(reply.text.p + at) + 1) {
        if (!strcmp(reply.text.p + at, pair))
            return true;
    }
    return false;
}

static void fails(enum login_next next, enum login_status status)
{
    assert_int_equal(next, LOGIN_FAILED);
    assert_int_equal(reply.status, status);
    assert_int_equal(reply.head.w36 >> 16, status);
    assert_int_equal(reply.head.flags & (T | C), 0);
    assert_int_equal(reply.head.data_len, 0);
}

static void two_stages_lead_to_full_feature(void **state)
{
    (void)state;
    assert_int_equal(SAY(T | STAGES(0, 1), NAMES "AuthMethod=CHAP,None\0"), LOGIN_MORE);
    assert_int_equal(reply.head.op, OP_LOGIN_RSP);
    assert_int_equal(reply.head.flags, T | STAGES(0, 1));
    assert_true(has("AuthMethod=None") && has("TargetPortalGroupTag=3"));
    assert_true(has("TargetAlias=the alias"));
    uint32_t statsn = reply.head.w24;
    assert_int_equal(reply.head.w28, 100);
    assert_int_equal(SAY(T | STAGES(1, 3), "InitialR2T=No\0"), LOGIN_DONE);
    assert_int_equal(reply.head.flags, T | STAGES(1, 3));
    assert_int_equal(reply.head.w24, statsn + 1);
    assert_true(has("InitialR2T=No") && has("MaxRecvDataSegmentLength=262144"));
    assert_int_equal(asked, 1);
    login_set_tsih(&reply, 0x1234);
    assert_memory_equal(reply.head.lun, "\x40\0\0\0\0\1\x12\x34", 8);
}

static void security_may_be_left_out(void **state)
{
    (void)state;
    assert_int_equal(SAY(T | STAGES(1, 3), NAMES), LOGIN_DONE);
}

static void operation_may_be_left_out(void **state)
{
    (void)state;
    assert_int_equal(SAY(T | STAGES(0, 3), NAMES), LOGIN_DONE);
    assert_int_equal(machine.nego.params.max_burst, 262144);
}

static void a_stage_may_take_several_requests(void **state)
{
    (void)state;
    assert_int_equal(SAY(STAGES(1, 0), NAMES "MaxBurstLength=4096\0"), LOGIN_MORE);
    assert_int_equal(reply.head.flags, STAGES(1, 0));
    assert_true(has("MaxBurstLength=4096"));
    assert_int_equal(SAY(STAGES(1, 0), "ImmediateData=No\0"), LOGIN_MORE);
    assert_false(has("MaxRecvDataSegmentLength=262144")); /* declared before */
    assert_int_equal(SAY(T | STAGES(1, 3), ""), LOGIN_DONE);
    assert_int_equal(machine.nego.params.max_burst, 4096);
}

static void text_goes_on_with_the_c_bit(void **state)
{
    (void)state;
    assert_int_equal(SAY(C | STAGES(1, 0), "InitiatorNa"), LOGIN_MORE);
    assert_int_equal(reply.head.data_len, 0);
    assert_int_equal(SAY(C | STAGES(1, 0), "me=iqn.a:i\0TargetName=iqn"), LOGIN_MORE);
    assert_int_equal(asked, 0);
    assert_int_equal(SAY(T | STAGES(1, 3), ".a:t\0"), LOGIN_DONE);
    assert_string_equal(machine.nego.target, "iqn.a:t");
}

static void a_text_without_end_is_refused(void **state)
{
    (void)state;
    static char filler[8192];
    for (int i = 0; i < 8; i++)
        assert_int_equal(say_n(C | STAGES(1, 0), filler, sizeof filler), LOGIN_MORE);
    fails(say_n(C | STAGES(1, 0), filler, sizeof filler), LOGIN_INITIATOR_ERROR);
}

static void names_must_be_told_at_once(void **state)
{
    (void)state;
    fails(SAY(T | STAGES(0, 1), "AuthMethod=None\0"), LOGIN_MISSING_PARAMETER);
    setup(state);
    fails(SAY(T | STAGES(0, 1), "InitiatorName=iqn.a:i\0"), LOGIN_MISSING_PARAMETER);
    assert_int_equal(asked, 0);
}

static void discovery_needs_no_target(void **state)
{
    (void)state;
    assert_int_equal(SAY(T | STAGES(1, 3), "InitiatorName=iqn.a:i\0SessionType=Discovery\0"),
                     LOGIN_DONE);
    assert_true(machine.nego.discovery);
    assert_false(has("TargetPortalGroupTag=1"));
}

static void the_worlds_verdict_is_told(void **state)
{
    static const enum login_status all[] = {LOGIN_NOT_FOUND, LOGIN_FORBIDDEN, LOGIN_REMOVED,
                                            LOGIN_NO_SESSION, LOGIN_TOO_MANY_CONNECTIONS};
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
        setup(state);
        verdict = all[i];
        fails(SAY(T | STAGES(1, 3), NAMES), all[i]);
    }
}

static void wrong_headers_are_refused(void **state)
{
    static const uint8_t flags[] = {
        T | STAGES(1, 1), T | STAGES(1, 0), T | STAGES(0, 2),
        T | STAGES(2, 3), STAGES(3, 0),     T | C | STAGES(0, 1),
    };
    for (unsigned i = 0; i < sizeof flags; i++) {
        setup(state);
        fails(SAY(flags[i], NAMES), LOGIN_INITIATOR_ERROR);
    }
    setup(state);
    struct iscsi_pdu p = request(T | STAGES(0, 1), 0);
    p.b3 = 1;
    fails(feed(&p, NULL), LOGIN_BAD_VERSION);
}

static void identity_must_not_change_on_the_way(void **state)
{
    for (int i = 0; i < 4; i++) {
        setup(state);
        assert_int_equal(SAY(T | STAGES(0, 1), NAMES), LOGIN_MORE);
        struct iscsi_pdu p = request(i ? T | STAGES(1, 3) : T | STAGES(0, 1), 0);
        if (i == 1)
            p.lun[5]++; /* ISID */
        if (i == 2)
            p.itt++;
        if (i == 3)
            p.w20 += 1 << 16; /* CID */
        fails(feed(&p, NULL), LOGIN_INITIATOR_ERROR);
    }
}

static void bad_texts_are_refused(void **state)
{
    (void)state;
    fails(SAY(T | STAGES(1, 3), NAMES "nonsense\0"), LOGIN_INITIATOR_ERROR);
    setup(state);
    fails(SAY(T | STAGES(1, 3), NAMES "InitiatorName=iqn.a:j\0"), LOGIN_INITIATOR_ERROR);
    setup(state);
    fails(SAY(T | STAGES(0, 1), NAMES "AuthMethod=KRB5\0"), LOGIN_AUTH_FAILED);
    setup(state);
    fails(SAY(T | STAGES(0, 1), "InitiatorName=iqn.a:i\0SessionType=Other\0"),
          LOGIN_BAD_SESSION_TYPE);
}

static void answers_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    static char many[6000];
    memcpy(many, NAMES, sizeof NAMES - 1);
    for (size_t at = sizeof NAMES - 1; at + 4 <= sizeof many; at += 4)
        memcpy(many + at, "k=v", 4);
    fails(say_n(T | STAGES(1, 3), many, sizeof many), LOGIN_INITIATOR_ERROR);
}

/* ---- CHAP */

#define LONG "a secret of 24 characters"
#define OTHER "the target's own secret"

static void needs(const char *mutual)
{
    auth = (struct iscsi_auth){.user = "host", .secret = LONG};
    if (mutual) {
        strcpy(auth.mutual_user, mutual);
        strcpy(auth.mutual_secret, OTHER);
    }
}

static const char *value_of(const char *key)
{
    size_t n = strlen(key);
    for (size_t at = 0; at < reply.text.len; at += strlen(reply.text.p + at) + 1) {
        if (!strncmp(reply.text.p + at, key, n) && reply.text.p[at + n] == '=')
            return reply.text.p + at + n + 1;
    }
    return "";
}

/* Up to the challenge. */
static void challenged(const char *algorithms)
{
    char pair[64];
    int n = snprintf(pair, sizeof pair, "CHAP_A=%s", algorithms);
    assert_int_equal(SAY(T | STAGES(0, 1), NAMES "AuthMethod=None,CHAP\0"), LOGIN_MORE);
    assert_int_equal(reply.head.flags, STAGES(0, 0)); /* not to the next stage yet */
    assert_true(has("AuthMethod=CHAP"));
    assert_int_equal(say_n(STAGES(0, 0), pair, (size_t)n + 1), LOGIN_MORE);
}

/* The answer to the challenge that stands in the reply, with `more` behind it. */
static enum login_next answers(const char *user, const char *secret, const char *more, size_t len)
{
    uint8_t challenge[64], digest[CHAP_DIGEST_MAX];
    unsigned algorithm = (unsigned)atoi(value_of("CHAP_A")),
             id = (unsigned)atoi(value_of("CHAP_I"));
    int n = chap_binary(value_of("CHAP_C"), challenge, sizeof challenge);
    assert_int_equal(n, chap_digest_len(algorithm));
    assert_true(chap_digest(algorithm, (uint8_t)id, secret, challenge, (size_t)n, digest));
    char text[1024];
    int at = snprintf(text, sizeof text, "CHAP_N=%s%cCHAP_R=0x", user, 0);
    for (int i = 0; i < n; i++)
        at += snprintf(text + at, sizeof text - (size_t)at, "%02x", digest[i]);
    memcpy(text + ++at, more, len);
    return say_n(T | STAGES(0, 1), text, (size_t)at + len);
}

static void the_strongest_algorithm_in_common_is_taken(void **state)
{
    static const char *const rows[][2] = {{"5", "5"},     {"5,6", "6"},      {"7,6,5", "7"},
                                          {"5,8,7", "8"}, {"99,0x6,5", "6"}, {"1,5", "5"}};
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        setup(state);
        needs(NULL);
        challenged(rows[i][0]);
        assert_string_equal(value_of("CHAP_A"), rows[i][1]);
        assert_int_equal(answers("host", LONG, "", 0), LOGIN_MORE);
        assert_int_equal(reply.head.flags, T | STAGES(0, 1));
        assert_int_equal(SAY(T | STAGES(1, 3), ""), LOGIN_DONE);
        teardown(state);
    }
    setup(state);
    needs(NULL);
    assert_int_equal(SAY(STAGES(0, 0), NAMES "AuthMethod=CHAP\0"), LOGIN_MORE);
    fails(SAY(STAGES(0, 0), "CHAP_A=1,99,junk\0"), LOGIN_AUTH_FAILED);
}

static void wrong_names_and_secrets_are_refused(void **state)
{
    (void)state;
    needs(NULL);
    challenged("7");
    fails(answers("host", "another one of its length", "", 0), LOGIN_AUTH_FAILED);
    setup(state);
    needs(NULL);
    challenged("5");
    fails(answers("hos", LONG, "", 0), LOGIN_AUTH_FAILED);
    setup(state);
    needs(NULL);
    challenged("5");
    fails(SAY(STAGES(0, 0), "CHAP_N=host\0CHAP_R=0x00\0"), LOGIN_AUTH_FAILED);
}

static void who_must_prove_itself_cannot_go_round_it(void **state)
{
    needs(NULL);
    fails(SAY(T | STAGES(1, 3), NAMES), LOGIN_AUTH_FAILED);
    setup(state);
    needs(NULL);
    fails(SAY(T | STAGES(0, 1), NAMES), LOGIN_AUTH_FAILED);
    setup(state);
    needs(NULL);
    fails(SAY(T | STAGES(0, 3), NAMES "AuthMethod=None\0"), LOGIN_AUTH_FAILED);
    setup(state);
    needs(NULL);
    assert_int_equal(SAY(T | STAGES(0, 3), NAMES "AuthMethod=CHAP\0"), LOGIN_MORE);
    fails(SAY(T | STAGES(1, 3), ""), LOGIN_INITIATOR_ERROR); /* a stage it is not in */
    setup(state);
    fails(SAY(T | STAGES(0, 1), NAMES "AuthMethod=CHAP\0"), LOGIN_AUTH_FAILED); /* none is needed */
}

static void the_target_proves_itself_when_asked(void **state)
{
    uint8_t digest[CHAP_DIGEST_MAX], proof[CHAP_DIGEST_MAX];
    (void)state;
    needs("orion");
    challenged("7");
    const char more[] = "CHAP_I=7\0CHAP_C=0x0102030405060708";
    assert_int_equal(answers("host", LONG, more, sizeof more), LOGIN_MORE);
    assert_int_equal(reply.head.flags, T | STAGES(0, 1));
    assert_true(has("CHAP_N=orion"));
    assert_true(chap_digest(7, 7, OTHER, (const uint8_t *)"\1\2\3\4\5\6\7\10", 8, digest));
    assert_int_equal(chap_binary(value_of("CHAP_R"), proof, sizeof proof), 32);
    assert_memory_equal(proof, digest, 32);
    /* with nothing to prove it by, the login ends */
    setup(state);
    needs(NULL);
    challenged("7");
    fails(answers("host", LONG, more, sizeof more), LOGIN_AUTH_FAILED);
}

static void our_challenge_sent_back_ends_the_login(void **state)
{
    char more[128];
    (void)state;
    needs("orion");
    challenged("5");
    int n = snprintf(more, sizeof more, "CHAP_I=%s%cCHAP_C=%s", value_of("CHAP_I"), 0,
                     value_of("CHAP_C"));
    fails(answers("host", LONG, more, (size_t)n + 1), LOGIN_AUTH_FAILED);
}

static void chap_keys_out_of_place_are_refused(void **state)
{
    static const struct {
        const char *p;
        size_t n;
    } rows[] = {
#define ROW(s) {s, sizeof s}
        ROW("CHAP_N=host"),
        ROW("CHAP_R=0x00"),
        ROW("CHAP_A=5"),
        ROW("CHAP_N=host\0CHAP_R=zz"),
        ROW("CHAP_N=host\0CHAP_R=0x"),
        ROW("CHAP_N=host\0CHAP_N=host\0CHAP_R=0x00"),
        ROW("CHAP_N=host\0CHAP_R=0x00\0CHAP_I=1"),
        ROW("CHAP_N=host\0CHAP_R=0x00\0CHAP_C=0x11"),
    };
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        setup(state);
        needs("orion");
        challenged("5");
        fails(say_n(STAGES(0, 0), rows[i].p, rows[i].n), LOGIN_INITIATOR_ERROR);
    }
    setup(state);
    fails(SAY(STAGES(0, 0), NAMES "CHAP_A=5\0"), LOGIN_INITIATOR_ERROR);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(two_stages_lead_to_full_feature),     TEST(security_may_be_left_out),
        TEST(operation_may_be_left_out),           TEST(a_stage_may_take_several_requests),
        TEST(text_goes_on_with_the_c_bit),         TEST(a_text_without_end_is_refused),
        TEST(names_must_be_told_at_once),          TEST(discovery_needs_no_target),
        TEST(the_worlds_verdict_is_told),          TEST(wrong_headers_are_refused),
        TEST(identity_must_not_change_on_the_way), TEST(bad_texts_are_refused),
        TEST(answers_that_do_not_fit_are_refused), TEST(the_strongest_algorithm_in_common_is_taken),
        TEST(wrong_names_and_secrets_are_refused), TEST(who_must_prove_itself_cannot_go_round_it),
        TEST(the_target_proves_itself_when_asked), TEST(our_challenge_sent_back_ends_the_login),
        TEST(chap_keys_out_of_place_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
