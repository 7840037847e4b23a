/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An administrator gets out while a device hangs, and what its late answer touches is still there.
 */
#include "nbd/client.h"

#include <string.h>
#include <unistd.h>

#include "drivers/fault/fault.h"
#include "targets/nbd/nbd_private.h"
#include "targets/target.h"

enum { PATIENCE_US = 200000 };

static struct bdev *f;
static int fd; /* the client's */
static struct target_left left;

static void ask(void *arg)
{
    (void)arg;
    fd = connect_to("e");
    for (unsigned i = 0; i < 8; i++)
        send_request(fd, NBD_CMD_READ, 0, i, i * 65536, 65536);
}

/* Export "e" is on "f", whose reads hang; "n" is well. */
static void begin(void)
{
    device(&mem_driver, "m", "size=4M");
    device(&mem_driver, "n", "size=4M");
    f = device(&fault_driver, "f", "on=m,rules=read:hold");
    server_begin();
    export_device("e", "f", false);
    client(ask, NULL);
    until(fault_held(f) == 8);
    linger_set_us(PATIENCE_US);
}

static void end(void)
{
    linger_set_us(0);
    server_end();
    remove_device("f");
    remove_device("m");
    remove_device("n");
}

static bool is_free(struct bdev *b)
{
    char users[200];
    return !bdev_users(b, users, sizeof users);
}

static void unexport(void)
{
    struct err e = {0};
    char users[200];
    check(!nbd_export_remove("e", true, &left, &e));
    check(strstr(left.text, "device f (8 requests)"));
    check(bdev_users(f, users, sizeof users) && strstr(users, "(no answer yet)"));
    check(nbd_export_remove("e", true, &left, &e) && e.code == ERR_NOT_FOUND);
}

static void read_other(void *arg)
{
    uint8_t b[512];
    (void)arg;
    int other = connect_to("e");
    check_int(do_read(other, 0, b, sizeof b), NBD_OK);
    close(other);
}

HARNESS_TEST(an_export_that_is_gone_leaves_its_name)
{
    begin();
    unexport();
    export_device("e", "n", false);
    client(read_other, NULL);
    check_int(fault_held(f), 8);
    fault_release(f);
    until(is_free(f));
    close(fd);
    end();
}

static void answer_later(void *arg)
{
    (void)arg;
    task_sleep_us(50000);
    fault_release(f);
}

HARNESS_TEST(shutdown_waits_for_what_an_export_left)
{
    begin();
    unexport();
    task_start(reactor_main(), "answer", answer_later, NULL);
    end();
    close(fd);
}

static void take_id(const struct session_info *info, void *arg)
{
    *(uint64_t *)arg = info->id;
}

HARNESS_TEST(a_kill_and_new_rules_wait_for_no_device)
{
    uint64_t id = 0;
    struct err e = {0};
    const char *const nobody[] = {"10.0.0.1"};
    const struct nbd_export_args rules = {
        .name = "e", .device = "f", .allow = nobody, .allow_count = 1};
    begin();
    target_sessions(take_id, &id);
    check(!nbd_export_set(&rules, &e));
    check_int(fault_held(f), 8);
    check(target_kill(id));
    check_int(fault_held(f), 8);
    fault_release(f);
    wait_sessions(0);
    close(fd);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_export_that_is_gone_leaves_its_name),
        cmocka_unit_test(shutdown_waits_for_what_an_export_left),
        cmocka_unit_test(a_kill_and_new_rules_wait_for_no_device),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
