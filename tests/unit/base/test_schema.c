/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "unit.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/schema.h"

static void a_path_finds_its_verb_and_parameters(void **state)
{
    (void)state;
    struct schema_match m;
    struct err e;
    assert_int_equal(schema_route("POST", "/v1/pools/p/volumes/v/actions/resize", &m, NULL, &e), 0);
    assert_string_equal(m.noun->name, "volume");
    assert_string_equal(m.verb->name, "resize");
    assert_string_equal(schema_param(&m, "pool"), "p");
    assert_string_equal(schema_param(&m, "volume"), "v");
    assert_null(schema_param(&m, "name"));
}

static void an_encoded_slash_stays_in_its_segment(void **state)
{
    (void)state;
    struct schema_match m;
    struct err e;
    assert_int_equal(schema_route("GET", "/v1/nbd/listeners/unix:%2Frun%2Fx", &m, NULL, &e), 0);
    assert_string_equal(schema_param(&m, "addr"), "unix:/run/x");
}

static void a_wrong_path_is_not_found(void **state)
{
    (void)state;
    static const char *const wrong[] = {"",
                                        "/",
                                        "/v1",
                                        "/v1/array",
                                        "/v1/arrays/",
                                        "/v1/arrays/%",
                                        "/v1/arrays/%4",
                                        "/v1/arrays/%zz",
                                        "/v1/arrays/a%00b",
                                        "/v1/arrays//x",
                                        "/v1/arrays/a/actions",
                                        "/v1/arrays/a/actions/fly",
                                        "v1/arrays",
                                        "/v2/arrays"};
    struct schema_match m;
    for (unsigned i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct err e = {0};
        if (!schema_route("GET", wrong[i], &m, NULL, &e))
            fail_msg("%s was found", wrong[i]);
        assert_int_equal(e.code, ERR_NOT_FOUND);
        assert_null(m.verb);
    }
}

static void a_wrong_method_tells_the_right_ones(void **state)
{
    (void)state;
    struct schema_match m;
    struct err e;
    char allow[64];
    assert_int_equal(schema_route("POST", "/v1/arrays/a0", &m, allow, &e), -1);
    assert_int_equal(e.code, ERR_UNSUPPORTED);
    assert_string_equal(allow, "PUT, GET, DELETE, PATCH");
}

static void an_endless_parameter_is_refused(void **state)
{
    (void)state;
    struct schema_match m;
    struct err e;
    char path[4096] = "/v1/arrays/";
    memset(path + strlen(path), 'a', 2000);
    assert_int_equal(schema_route("GET", path, &m, NULL, &e), -1);
}

static const char *value(const char *param, void *arg)
{
    (void)arg;
    return strcmp(param, "addr") ? "?" : "unix:/a b%";
}

static void what_is_expanded_is_found_again(void **state)
{
    (void)state;
    struct schema_match m;
    struct err e;
    char *path = schema_expand("/v1/iscsi/portals/{addr}", value, NULL);
    assert_string_equal(path, "/v1/iscsi/portals/unix:%2Fa%20b%25");
    assert_int_equal(schema_route("PUT", path, &m, NULL, &e), 0);
    assert_string_equal(schema_param(&m, "addr"), "unix:/a b%");
    free(path);
}

static void the_item_of_an_action_is_what_its_etag_counts_for(void **state)
{
    (void)state;
    char *path = schema_item_path("/v1/arrays/a0/actions/fail");
    assert_string_equal(path, "/v1/arrays/a0");
    free(path);
}

/* ---- the tables keep their own rules */
static void check_verb(const struct schema_noun *n, const struct schema_verb *v)
{
    if (!v->help || !*v->help)
        fail_msg("%s %s has no help", n->name, v->name);
    if (v->flags & VERB_CLI_ONLY) {
        assert_null(v->path);
        return;
    }
    assert_int_equal(*v->path, '/');
    for (const struct schema_arg *a = v->args; a->field; a++) {
        char param[64];
        snprintf(param, sizeof param, "{%s}", a->field);
        bool in_path = strstr(v->path, param) || (a->flags & ARG_VOLUME);
        bool in_body = v->opts && opts_find(v->opts, a->field);
        if (in_path == in_body)
            fail_msg("%s %s: %s is in the path or a field, and not both", n->name, v->name,
                     a->field);
    }
    /* An item that can be changed can be looked at. */
    struct schema_match m;
    char *item = schema_item_path(v->path);
    if ((v->flags & VERB_IF_MATCH) && schema_route("GET", item, &m, NULL, NULL))
        fail_msg("%s %s: %s has no GET", n->name, v->name, item);
    free(item);
}

static void check_opts(const struct opt *table)
{
    for (; table && table->name; table++) {
        for (const char *p = table->name; *p; p++)
            assert_true(islower((unsigned char)*p) || isdigit((unsigned char)*p) || *p == '_');
        if (!table->help || table->help[strlen(table->help) - 1] == '.')
            fail_msg("%s: a help line without a full stop is expected", table->name);
        if (table->type == OPT_ENUM)
            assert_non_null(table->choices);
    }
}

static void every_verb_is_sound(void **state)
{
    (void)state;
    for (const struct schema_noun *const *n = schema_nouns; *n; n++) {
        assert_ptr_equal(schema_noun_find((*n)->name), *n);
        for (const struct schema_verb *v = (*n)->verbs; v->name; v++) {
            assert_ptr_equal(schema_verb_find(*n, v->name), v); /* no name twice */
            check_verb(*n, v);
            check_opts(v->opts);
            struct opts *o = v->opts ? opts_new(v->opts) : NULL; /* asserts the defaults */
            opts_free(&o);
        }
    }
}

static void no_route_hides_another(void **state)
{
    (void)state;
    for (const struct schema_noun *const *n = schema_nouns; *n; n++) {
        for (const struct schema_verb *v = (*n)->verbs; v->name; v++) {
            struct schema_match m;
            if (v->path && (schema_route(v->method, v->path, &m, NULL, NULL) || m.verb != v))
                fail_msg("%s %s does not lead to %s %s", v->method, v->path, (*n)->name, v->name);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_path_finds_its_verb_and_parameters),
        cmocka_unit_test(an_encoded_slash_stays_in_its_segment),
        cmocka_unit_test(a_wrong_path_is_not_found),
        cmocka_unit_test(a_wrong_method_tells_the_right_ones),
        cmocka_unit_test(an_endless_parameter_is_refused),
        cmocka_unit_test(what_is_expanded_is_found_again),
        cmocka_unit_test(the_item_of_an_action_is_what_its_etag_counts_for),
        cmocka_unit_test(every_verb_is_sound),
        cmocka_unit_test(no_route_hides_another),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
