/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "harness.h"

#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <json-c/json.h>

#include "base/mem.h"
#include "block/bdev.h"
#include "control/control.h"
#include "drivers/drivers.h"

/* Verbs as REST runs them, over memory devices. */

static char dir[64];
static const struct driver *const drivers[] = {&mem_driver, &null_driver, NULL};

static void begin(void)
{
    struct control_opts opts = {.state_dir = dir, .drivers = drivers, .reactors = 2};
    struct err e = {0};
    if (!*dir) {
        strcpy(dir, "/tmp/orion-verbs-XXXXXX");
        check(mkdtemp(dir));
    }
    check_int(control_open(&opts, &e), 0);
    control_start();
    check_int(control_phase(), CONTROL_READY);
}

static void stop(void)
{
    control_stop();
    control_close();
}

static void end(void)
{
    stop();
    DIR *d = opendir(dir);
    for (struct dirent *e; (e = readdir(d));)
        unlinkat(dirfd(d), e->d_name, 0);
    closedir(d);
    rmdir(dir);
    *dir = 0;
}

struct answer {
    int status; /* HTTP */
    enum err_code code;
    char field[48], etag[CONTROL_ETAG_MAX];
    bool changed;
};

struct sent {
    struct json_object *body;
};

static int fields(struct control_call *call, struct err *e)
{
    struct sent *s = call->arg;
    return control_opts_json(call, s->body, e);
}

static struct answer ask(const char *method, const char *path, const char *body,
                         const char *if_match)
{
    struct control_call call = {.if_match = if_match, .fields = fields};
    struct sent s = {body ? json_tokener_parse(body) : NULL};
    struct answer a = {0};
    struct err e = {0};
    call.arg = &s;
    check_int(schema_route(method, path, &call.match, NULL, &e), 0);
    if (control_run(&call, &e)) {
        a.code = e.code;
        a.status = err_code_http(e.code);
        strcpy(a.field, e.field);
    } else {
        struct json_object *v = NULL;
        a.status = call.status;
        strcpy(a.etag, call.etag);
        a.changed = call.reply && json_object_object_get_ex(call.reply, "changed", &v) &&
                    json_object_get_boolean(v);
    }
    control_call_clear(&call);
    json_object_put(s.body);
    return a;
}

static struct answer put(const char *path, const char *body)
{
    return ask("PUT", path, body, NULL);
}

static struct answer get(const char *path)
{
    return ask("GET", path, NULL, NULL);
}

static struct answer del(const char *path)
{
    struct answer a = get(path);
    return ask("DELETE", path, NULL, a.etag);
}

static struct answer erase(const char *path)
{
    bool yes = strstr(path, "arrays") || strstr(path, "pools");
    return ask("DELETE", path, yes ? "{\"yes\":true}" : NULL, "*");
}

static void device(const char *name)
{
    char path[64];
    snprintf(path, sizeof path, "/v1/devices/%s", name);
    check_int(put(path, "{\"type\":\"mem\",\"size\":\"32M\"}").status, 201);
}

HARNESS_TEST(a_device_comes_back_after_a_restart)
{
    begin();
    device("d0");
    struct answer before = get("/v1/devices/d0");
    check_int(before.status, 200);
    stop();
    begin();
    struct answer after = get("/v1/devices/d0");
    check_int(after.status, 200);
    check(!strcmp(before.etag, after.etag));
    check_int(del("/v1/devices/d0").status, 204);
    stop();
    begin();
    check_int(get("/v1/devices/d0").status, 404);
    end();
}

HARNESS_TEST(creating_again_changes_nothing_or_names_the_field)
{
    begin();
    device("d0");
    struct answer a = put("/v1/devices/d0", "{\"type\":\"mem\",\"size\":33554432}");
    check_int(a.status, 200);
    check(!a.changed);
    a = put("/v1/devices/d0", "{\"type\":\"mem\",\"size\":\"64M\"}");
    check_int(a.code, ERR_EXISTS);
    check(!strcmp(a.field, "size"));
    end();
}

HARNESS_TEST(arrays_devices_and_pools_share_one_name_space)
{
    begin();
    device("d0");
    device("d1");
    check_int(put("/v1/arrays/a0", "{\"level\":\"1\",\"members\":[\"d0\",\"d1\"]}").status, 201);
    check_int(put("/v1/pools/a0", "{\"devices\":[\"a0\"]}").code, ERR_EXISTS);
    check_int(put("/v1/devices/a0", "{\"type\":\"mem\",\"size\":\"1M\"}").code, ERR_EXISTS);
    check_int(put("/v1/pools/p0", "{\"devices\":[\"a0\"]}").status, 201);
    check_int(put("/v1/arrays/p0", "{\"level\":\"1\",\"members\":[\"d0\",\"d1\"]}").code,
              ERR_EXISTS);
    end();
}

HARNESS_TEST(what_something_stands_on_is_not_removed)
{
    begin();
    device("d0");
    check_int(put("/v1/pools/p0", "{\"devices\":[\"d0\"]}").status, 201);
    check_int(put("/v1/pools/p0/volumes/v0", "{\"size\":\"8M\"}").status, 201);
    check_int(put("/v1/nbd/exports/e0", "{\"device\":\"p0/v0\"}").status, 201);
    check_int(del("/v1/devices/d0").code, ERR_IN_USE);
    check_int(del("/v1/pools/p0").code, ERR_IN_USE);
    check_int(del("/v1/pools/p0/volumes/v0").code, ERR_IN_USE);
    check_int(del("/v1/nbd/exports/e0").status, 204);
    check_int(del("/v1/pools/p0/volumes/v0").code, ERR_NEEDS_YES);
    check_int(get("/v1/pools/p0/volumes/v0").status, 200);
    end();
}

HARNESS_TEST(a_change_needs_the_etag_that_stands)
{
    begin();
    device("d0");
    check_int(ask("DELETE", "/v1/devices/d0", NULL, NULL).code, ERR_NO_MATCH);
    check_int(ask("DELETE", "/v1/devices/d0", NULL, "\"00\"").code, ERR_STALE);
    check_int(ask("DELETE", "/v1/devices/none", NULL, NULL).code, ERR_NOT_FOUND);
    check_int(get("/v1/devices/d0").status, 200);
    end();
}

HARNESS_TEST(an_export_whose_device_is_absent_is_there_and_not_ready)
{
    begin();
    device("d0");
    check_int(put("/v1/pools/p0", "{\"devices\":[\"d0\"]}").status, 201);
    check_int(put("/v1/pools/p0/volumes/v0", "{\"size\":\"8M\"}").status, 201);
    check_int(put("/v1/nbd/exports/e0", "{\"device\":\"p0/v0\"}").status, 201);
    stop();
    begin(); /* memory is empty: the pool is gone */
    check_int(get("/v1/pools/p0").status, 200);
    check_int(get("/v1/nbd/exports/e0").status, 200);
    check(control_problems(NULL, NULL));
    check_int(del("/v1/nbd/exports/e0").status, 204);
    end();
}

/* ---- no room for the state */

static struct rlimit old_limit;

static void forbid_writing(bool on)
{
    struct rlimit none = {0, 0};
    signal(SIGXFSZ, SIG_IGN);
    if (on)
        check(!getrlimit(RLIMIT_FSIZE, &old_limit));
    none.rlim_max = old_limit.rlim_max;
    check(!setrlimit(RLIMIT_FSIZE, on ? &none : &old_limit));
}

HARNESS_TEST(what_cannot_be_saved_does_not_happen)
{
    static const char *const rows[][2] = {
        {"/v1/devices/x", "{\"type\":\"mem\",\"size\":\"32M\"}"},
        {"/v1/arrays/x", "{\"level\":\"raid1\",\"members\":[\"d0\",\"d1\"]}"},
        {"/v1/pools/x", "{\"devices\":[\"d0\"]}"},
        {"/v1/nbd/exports/x", "{\"device\":\"d0\"}"},
        {"/v1/nbd/listeners/127.0.0.1:0", "{}"},
        {"/v1/iscsi/targets/iqn.2026-01.com.example:x", "{}"},
        {"/v1/iscsi/targets/iqn.2026-01.com.example:t/luns/1", "{\"device\":\"d0\"}"},
        {"/v1/iscsi/portals/127.0.0.1:0", "{}"},
    };
    begin();
    device("d0");
    device("d1");
    check_int(put("/v1/iscsi/targets/iqn.2026-01.com.example:t", "{}").status, 201);
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        forbid_writing(true);
        struct answer a = put(rows[i][0], rows[i][1]);
        forbid_writing(false);
        check_int(a.code, ERR_IO);
        check_int(get(rows[i][0]).status, 404);
        char users[80];
        check(!bdev_users(bdev_find("d0"), users, sizeof users));
        /* And it is possible when there is room again. */
        check_int(put(rows[i][0], rows[i][1]).status, 201);
        check_int(erase(rows[i][0]).status, 204);
    }
    end();
}

/* ---- the same name at once */

struct racer {
    struct answer answer;
    unsigned *left;
};

static void race(void *arg)
{
    struct racer *r = arg;
    r->answer = put("/v1/devices/same", "{\"type\":\"mem\",\"size\":\"32M\"}");
    --*r->left;
}

HARNESS_TEST(of_many_creations_at_once_one_creates)
{
    begin();
    struct racer r[8];
    unsigned left = 8, created = 0;
    for (unsigned i = 0; i < 8; i++) {
        r[i].left = &left;
        task_start(reactor_main(), "race", race, &r[i]);
    }
    while (left)
        task_sleep_us(1000);
    for (unsigned i = 0; i < 8; i++) {
        check(r[i].answer.status == 200 || r[i].answer.status == 201);
        created += r[i].answer.status == 201;
    }
    check_int(created, 1);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_device_comes_back_after_a_restart),
        cmocka_unit_test(creating_again_changes_nothing_or_names_the_field),
        cmocka_unit_test(arrays_devices_and_pools_share_one_name_space),
        cmocka_unit_test(what_something_stands_on_is_not_removed),
        cmocka_unit_test(a_change_needs_the_etag_that_stands),
        cmocka_unit_test(an_export_whose_device_is_absent_is_there_and_not_ready),
        cmocka_unit_test(what_cannot_be_saved_does_not_happen),
        cmocka_unit_test(of_many_creations_at_once_one_creates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
