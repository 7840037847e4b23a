/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "unit.h"

#include <stdlib.h>
#include <string.h>

#include <json-c/json.h>

#include "api/auth.h"
#include "api/http.h"
#include "control/control.h"

/* Everything here runs before control is ready, as at start-up. */

static struct http_request r;

static void route(const char *method, const char *path, bool full, bool allowed)
{
    static char copy[256];
    static struct http_id id;
    id = (struct http_id){.result = allowed ? AUTH_OK : AUTH_NONE, .unix_peer = true};
    strcpy(copy, path);
    r = (struct http_request){
        .method = method, .path = copy, .full = full, .id = full ? &id : NULL};
    http_route(&r);
}

static void answers(int status, const char *code)
{
    struct json_object *o = json_tokener_parse(r.reply), *v = NULL;
    assert_int_equal(r.status, status);
    if (code) {
        assert_string_equal(r.type, "application/problem+json");
        assert_true(json_object_object_get_ex(o, "code", &v));
        assert_string_equal(json_object_get_string(v), code);
        assert_true(json_object_object_get_ex(o, "status", &v));
        assert_int_equal(json_object_get_int(v), status);
    }
    json_object_put(o);
    free(r.reply);
}

static void only_health_answers_before_ready(void **state)
{
    (void)state;
    route("GET", "/healthz", true, true);
    answers(200, NULL);
    route("GET", "/readyz", true, true);
    answers(503, NULL);
    route("GET", "/metrics", true, true);
    answers(503, "not-ready");
    route("GET", "/v1/devices", true, true);
    answers(503, "not-ready");
}

static void a_stranger_gets_403_for_everything(void **state)
{
    (void)state;
    route("GET", "/healthz", true, false);
    answers(403, "denied");
    route("PUT", "/v1/devices/d0", true, false);
    answers(403, "denied");
}

static void a_scraper_sees_no_api(void **state)
{
    (void)state;
    route("GET", "/v1/devices", false, true);
    answers(404, "not-found");
    route("PUT", "/metrics", false, true);
    assert_string_equal(r.allow, "GET, HEAD");
    answers(405, "unsupported");
}

static void a_problem_names_the_field(void **state)
{
    (void)state;
    struct err e;
    struct json_object *v = NULL, *one;
    err_set(&e, ERR_EXISTS, "size", "other \"size\"");
    struct json_object *o = http_problem(409, &e, NULL);
    json_object_object_get_ex(o, "type", &v);
    assert_string_equal(json_object_get_string(v), "urn:orion:error:exists");
    json_object_object_get_ex(o, "errors", &v);
    assert_int_equal(json_object_array_length(v), 1);
    one = json_object_array_get_idx(v, 0);
    json_object_object_get_ex(one, "field", &v);
    assert_string_equal(json_object_get_string(v), "size");
    json_object_put(o);
}

static int parts(const char *query, struct control_pair *pairs)
{
    static char copy[256];
    strcpy(copy, query);
    return http_query(copy, pairs, 4);
}

static void a_query_is_split_and_decoded(void **state)
{
    (void)state;
    struct control_pair p[4];
    assert_int_equal(parts("yes&name=a%2Fb+c&x=", p), 3);
    assert_string_equal(p[0].name, "yes");
    assert_null(p[0].value);
    assert_string_equal(p[1].value, "a/b c");
    assert_string_equal(p[2].value, "");
    assert_int_equal(parts("", p), 0);
    assert_int_equal(parts("&&", p), 0);
}

static void a_broken_query_is_refused(void **state)
{
    (void)state;
    struct control_pair p[4];
    assert_int_equal(parts("a=%", p), -1);
    assert_int_equal(parts("a=%4", p), -1);
    assert_int_equal(parts("a=%zz", p), -1);
    assert_int_equal(parts("a=%00", p), -1);
    assert_int_equal(parts("a&b&c&d&e", p), -1);
}

static bool body_is_good(const char *text)
{
    struct err e = {0};
    struct json_object *o = http_body(text, strlen(text), &e);
    bool good = o != NULL;
    assert_true(good || *e.msg);
    json_object_put(o);
    return good;
}

static void a_body_is_one_strict_object(void **state)
{
    (void)state;
    assert_true(body_is_good("{}"));
    assert_true(body_is_good(" {\"a\": [1]} \n"));
    assert_false(body_is_good(""));
    assert_false(body_is_good("[]"));
    assert_false(body_is_good("1"));
    assert_false(body_is_good("{\"a\":1"));
    assert_false(body_is_good("{\"a\":1,}"));
    assert_false(body_is_good("{\"a\":'b'}"));
    assert_false(body_is_good("{} x"));
    assert_false(body_is_good("{\"a\":\"\xff\"}"));
    assert_false(body_is_good("/* c */ {}"));
}

static void the_document_names_every_route(void **state)
{
    (void)state;
    struct json_object *doc = openapi_document(), *paths = NULL, *p = NULL;
    assert_true(json_object_object_get_ex(doc, "paths", &paths));
    for (const struct schema_noun *const *n = schema_nouns; *n; n++)
        for (const struct schema_verb *v = (*n)->verbs; v->name; v++)
            if (v->path)
                assert_true(json_object_object_get_ex(paths, v->path, &p));
    json_object_put(doc);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_health_answers_before_ready),
        cmocka_unit_test(a_stranger_gets_403_for_everything),
        cmocka_unit_test(a_scraper_sees_no_api),
        cmocka_unit_test(a_problem_names_the_field),
        cmocka_unit_test(a_query_is_split_and_decoded),
        cmocka_unit_test(a_broken_query_is_refused),
        cmocka_unit_test(a_body_is_one_strict_object),
        cmocka_unit_test(the_document_names_every_route),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
