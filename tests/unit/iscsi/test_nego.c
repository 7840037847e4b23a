/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "unit.h"

#include <stdio.h>
#include <string.h>

#include "targets/iscsi/nego.h"

struct row {
    const char *key, *offer;
    const char *answer; /* NULL: none is due */
};

/* RFC 7143 section 13: result functions and ranges, in the operational stage. */
static const struct row operational[] = {
    {"HeaderDigest", "None", "None"},
    {"HeaderDigest", "CRC32C,None", "CRC32C"},
    {"HeaderDigest", "None,CRC32C", "None"},
    {"DataDigest", "X-mine,CRC32C", "CRC32C"},
    {"DataDigest", "SHA1", "Reject"},
    {"MaxConnections", "1", NULL}, /* when the target is known */
    {"MaxConnections", "65535", NULL},
    {"MaxConnections", "0", "Reject"},
    {"MaxConnections", "65536", "Reject"},
    {"InitialR2T", "Yes", "Yes"},
    {"InitialR2T", "No", "No"},
    {"InitialR2T", "yes", "Reject"},
    {"ImmediateData", "Yes", "Yes"},
    {"ImmediateData", "No", "No"},
    {"MaxRecvDataSegmentLength", "512", NULL},
    {"MaxRecvDataSegmentLength", "16777215", NULL},
    {"MaxRecvDataSegmentLength", "511", "Reject"},
    {"MaxRecvDataSegmentLength", "16777216", "Reject"},
    {"MaxBurstLength", "512", "512"},
    {"MaxBurstLength", "16777215", "1048576"},
    {"MaxBurstLength", "lots", "Reject"},
    {"FirstBurstLength", "0x10000", "65536"},
    {"FirstBurstLength", "1048576", "262144"},
    {"DefaultTime2Wait", "0", "0"},
    {"DefaultTime2Wait", "3600", "3600"},
    {"DefaultTime2Wait", "3601", "Reject"},
    {"DefaultTime2Retain", "20", "0"},
    {"MaxOutstandingR2T", "1", "1"},
    {"MaxOutstandingR2T", "65535", "8"},
    {"DataPDUInOrder", "No", "Yes"},
    {"DataSequenceInOrder", "No", "Yes"},
    {"ErrorRecoveryLevel", "2", "0"},
    {"ErrorRecoveryLevel", "3", "Reject"},
    {"TaskReporting", "ResponseFence,RFC3720", "RFC3720"},
    {"TaskReporting", "FastAbort", "Reject"},
    {"IFMarker", "Yes", "No"},
    {"OFMarker", "No", "No"},
    {"OFMarkInt", "2048", "Reject"},
    {"RDMAExtensions", "Yes", "No"},
    {"TargetAddress", "here", "Reject"},
    {"AuthMethod", "None", "Reject"}, /* belongs to the security stage */
    {"X-com.example.key", "1", "NotUnderstood"},
    {"iSCSIProtocolLevel", "2", "NotUnderstood"},
};

static void answers(struct nego *n, enum nego_stage stage, const struct row *r)
{
    struct text reply = {0};
    enum nego_result result = nego_login_key(n, stage, r->key, r->offer, &reply);
    if (result == NEGO_OK)
        result = nego_text_end(n, &reply);
    char want[128] = "";
    if (r->answer)
        snprintf(want, sizeof want, "%s=%s", r->key, r->answer);
    if (result != NEGO_OK || strcmp(reply.p ? reply.p : "", want) != 0)
        fail_msg("%s=%s: result %d, %s, expected %s", r->key, r->offer, result,
                 reply.p ? reply.p : "nothing", want);
    text_free(&reply);
}

static void each_key_has_its_result(void **state)
{
    (void)state;
    for (unsigned i = 0; i < sizeof operational / sizeof *operational; i++) {
        struct nego n;
        nego_init(&n);
        answers(&n, STAGE_OPERATIONAL, &operational[i]);
    }
}

static void a_key_in_the_wrong_stage_is_rejected(void **state)
{
    (void)state;
    struct nego n;
    nego_init(&n);
    answers(&n, STAGE_SECURITY, &(struct row){"MaxBurstLength", "512", "Reject"});
    assert_int_equal(n.params.max_burst, 256 << 10);
}

static void a_key_is_negotiated_once(void **state)
{
    (void)state;
    struct nego n;
    nego_init(&n);
    answers(&n, STAGE_OPERATIONAL, &(struct row){"InitialR2T", "Yes", "Yes"});
    struct text reply = {0};
    assert_int_equal(nego_login_key(&n, STAGE_OPERATIONAL, "InitialR2T", "No", &reply),
                     NEGO_REPEATED);
    assert_null(reply.p);
    assert_true(n.params.initial_r2t);
}

static void discovery_makes_keys_irrelevant(void **state)
{
    (void)state;
    struct nego n;
    nego_init(&n);
    answers(&n, STAGE_SECURITY, &(struct row){"SessionType", "Discovery", NULL});
    answers(&n, STAGE_OPERATIONAL, &(struct row){"MaxBurstLength", "512", "Irrelevant"});
    answers(&n, STAGE_OPERATIONAL, &(struct row){"MaxConnections", "4", "Irrelevant"});
    answers(&n, STAGE_OPERATIONAL, &(struct row){"HeaderDigest", "CRC32C", "CRC32C"});
}

static void connections(const char *offer, unsigned limit, const char *answer, unsigned result)
{
    struct nego n;
    struct text reply = {0};
    nego_init(&n);
    answers(&n, STAGE_OPERATIONAL, &(struct row){"MaxConnections", offer, NULL});
    assert_true(nego_connections(&n, limit, &reply));
    assert_string_equal(reply.p, answer);
    assert_int_equal(n.params.max_connections, result);
    text_free(&reply);
    assert_true(nego_connections(&n, limit, &reply)); /* once */
    assert_null(reply.p);
}

static void connections_are_limited_by_the_target(void **state)
{
    (void)state;
    connections("4", 1, "MaxConnections=1", 1);
    connections("4", 8, "MaxConnections=4", 4);
    connections("65535", 8, "MaxConnections=8", 8);
}

static void a_further_connection_negotiates_its_own_keys_only(void **state)
{
    (void)state;
    struct nego n;
    nego_init(&n);
    n.joins = true;
    answers(&n, STAGE_OPERATIONAL, &(struct row){"MaxConnections", "4", "Irrelevant"});
    answers(&n, STAGE_OPERATIONAL, &(struct row){"InitialR2T", "No", "Irrelevant"});
    answers(&n, STAGE_OPERATIONAL, &(struct row){"FirstBurstLength", "512", "Irrelevant"});
    answers(&n, STAGE_OPERATIONAL, &(struct row){"ErrorRecoveryLevel", "0", "Irrelevant"});
    answers(&n, STAGE_OPERATIONAL, &(struct row){"DataDigest", "CRC32C", "CRC32C"});
    answers(&n, STAGE_OPERATIONAL, &(struct row){"MaxRecvDataSegmentLength", "4096", NULL});
    assert_true(n.params.initial_r2t && n.params.max_xmit_segment == 4096);
}

static void defaults_are_the_standards(void **state)
{
    (void)state;
    struct nego n;
    nego_init(&n);
    const struct iscsi_params *p = &n.params;
    assert_int_equal(p->max_xmit_segment, 8192);
    assert_int_equal(p->max_burst, 262144);
    assert_int_equal(p->first_burst, 65536);
    assert_int_equal(p->max_r2t, 1);
    assert_true(p->initial_r2t && p->immediate_data);
    assert_false(p->header_digest || p->data_digest);
}

/* Each side has what was said. */
static void a_first_burst_that_was_told_stays(void **state)
{
    (void)state;
    struct nego n;
    nego_init(&n);
    struct text reply = {0};
    assert_int_equal(nego_login_key(&n, STAGE_OPERATIONAL, "FirstBurstLength", "65536", &reply),
                     NEGO_OK);
    assert_int_equal(nego_text_end(&n, &reply), NEGO_OK);
    assert_string_equal(reply.p, "FirstBurstLength=65536");
    text_free(&reply);
    answers(&n, STAGE_OPERATIONAL, &(struct row){"MaxBurstLength", "4096", "4096"});
    assert_int_equal(nego_text_end(&n, &reply), NEGO_OK);
    assert_int_equal(n.params.first_burst, 65536);
}

/* RFC 7143 13.14, in whatever order the two come. */
static void the_first_burst_is_answered_within_the_burst(void **state)
{
    (void)state;
    for (unsigned first = 0; first < 2; first++) {
        struct nego n;
        struct text reply = {0};
        nego_init(&n);
        for (unsigned i = 0; i < 2; i++) {
            const char *key = i == first ? "FirstBurstLength" : "MaxBurstLength";
            assert_int_equal(
                nego_login_key(&n, STAGE_OPERATIONAL, key, i == first ? "131072" : "65536", &reply),
                NEGO_OK);
        }
        assert_int_equal(nego_text_end(&n, &reply), NEGO_OK);
        static const char want[] = "MaxBurstLength=65536\0FirstBurstLength=65536";
        assert_int_equal(reply.len, sizeof want);
        assert_memory_equal(reply.p, want, sizeof want);
        assert_int_equal(n.params.first_burst, 65536);
        text_free(&reply);
    }
}

static void methods_of_authentication_are_noted(void **state)
{
    (void)state;
    struct nego n;
    nego_init(&n);
    struct text reply = {0};
    assert_int_equal(nego_login_key(&n, STAGE_SECURITY, "AuthMethod", "SRP,CHAP", &reply), NEGO_OK);
    assert_true(n.auth_offered && n.auth_chap && !n.auth_none);
    assert_int_equal(reply.len, 0); /* the login answers */
    assert_int_equal(nego_login_key(&n, STAGE_SECURITY, "InitiatorName", "not a name", &reply),
                     NEGO_BAD);
}

static void in_full_feature_only_some_keys_change(void **state)
{
    (void)state;
    struct nego n;
    nego_init(&n);
    struct text reply = {0};
    assert_int_equal(nego_full_key(&n, "MaxRecvDataSegmentLength", "4096", &reply), NEGO_OK);
    assert_int_equal(n.params.max_xmit_segment, 4096);
    assert_null(reply.p);
    assert_int_equal(nego_full_key(&n, "MaxBurstLength", "4096", &reply), NEGO_OK);
    assert_string_equal(reply.p, "MaxBurstLength=Reject");
    text_free(&reply);
}

static void names_are_checked(void **state)
{
    (void)state;
    assert_true(iscsi_name_ok("iqn.2026-11.org.example:disk-1"));
    assert_true(iscsi_name_ok("eui.02004567A425678D"));
    assert_true(iscsi_name_ok("naa.52004567BA64678D"));
    assert_false(iscsi_name_ok("iqn."));
    assert_false(iscsi_name_ok("disk"));
    assert_false(iscsi_name_ok("iqn.2026-11.org.example:a b"));
    assert_false(iscsi_name_ok("iqn.2026-11.org.example:a,b"));
    char name[ISCSI_NAME_MAX + 2];
    memset(name, 'a', sizeof name);
    memcpy(name, "iqn.", 4);
    name[ISCSI_NAME_MAX] = 0;
    assert_true(iscsi_name_ok(name));
    name[ISCSI_NAME_MAX] = 'a';
    name[ISCSI_NAME_MAX + 1] = 0;
    assert_false(iscsi_name_ok(name));
    assert_false(iscsi_name_ok("iqn.2026-11.org.example:\xff"));
}

static void names_have_a_format(void **state)
{
    (void)state;
    static const char *const good[] = {
        "iqn.2026-11.org.example:disk-1",
        "iqn.1993-08.org.debian:01:abc",
        "iqn.2008-11.org.linux-kvm",
        "iqn.2026-12.test:a.b:c",
        "iqn.2026-01.org.example:\xc3\xa4",
        "eui.02004567a425678d",
        "naa.52004567ba64678d",
        "naa.62004567ba64678d0123456789abcdef",
    };
    static const char *const bad[] = {
        "iqn.bad",
        "iqn.2026-13.org.example",
        "iqn.2026-00.org.example",
        "iqn.26-11.org",
        "iqn.2026-11",
        "iqn.2026-11.",
        "iqn.2026-11.org.",
        "iqn.2026-11..org",
        "iqn.2026-11.-org",
        "iqn.2026-11.org-",
        "iqn.2026-11.org:",
        "iqn.2026-11:x",
        "iqn.20261-1.org",
        "iqn.2026-11.org.\xc3\xa4",
        "IQN.2026-11.org",
        "iqn.2026-11.ORG",
        "eui.02004567a4256",
        "eui.02004567a425678g",
        "naa.5",
        "naa.52004567ba64678d00",
        "eui.02004567a425678d02004567a425678d",
        "disk",
    };
    struct err e = {0};
    for (unsigned i = 0; i < sizeof good / sizeof *good; i++)
        if (iscsi_name_check(good[i], "iqn", &e))
            fail_msg("%s", good[i]);
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++)
        if (!iscsi_name_check(bad[i], "iqn", &e) || strcmp(e.field, "iqn") != 0)
            fail_msg("%s", bad[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_key_has_its_result),
        cmocka_unit_test(a_key_in_the_wrong_stage_is_rejected),
        cmocka_unit_test(a_key_is_negotiated_once),
        cmocka_unit_test(discovery_makes_keys_irrelevant),
        cmocka_unit_test(connections_are_limited_by_the_target),
        cmocka_unit_test(a_further_connection_negotiates_its_own_keys_only),
        cmocka_unit_test(defaults_are_the_standards),
        cmocka_unit_test(a_first_burst_that_was_told_stays),
        cmocka_unit_test(the_first_burst_is_answered_within_the_burst),
        cmocka_unit_test(methods_of_authentication_are_noted),
        cmocka_unit_test(in_full_feature_only_some_keys_change),
        cmocka_unit_test(names_are_checked),
        cmocka_unit_test(names_have_a_format),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
