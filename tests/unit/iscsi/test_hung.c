/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An administrator gets out while a device hangs, and what its late answer touches is still there.
 */
#include "iscsi/client.h"

#include <sys/socket.h>
#include <unistd.h>

#include "targets/target.h"

enum { PATIENCE_US = 200000 };

static int fd; /* the initiator's */
static struct target_left left;

/* LUN 0 on "f", whose reads hang; LUN 1 on "n", which is well. */
static void begin(void)
{
    struct err e = {0};
    struct iscsi_lun_args lun = {.lun = 1, .device = "n"};
    target_begin();
    device(&mem_driver, "n", "size=4M");
    check(!iscsi_lun_add(IQN, &lun, &e));
    check(!fault_set_rules(fault(), "read:hold", &e));
    linger_set_us(PATIENCE_US);
}

static void answer(void)
{
    fault_set_rules(fault(), "", NULL);
    fault_release(fault());
}

static void end(void)
{
    linger_set_us(0);
    target_end();
    remove_device("n");
}

static void read_into_the_void(void *arg)
{
    struct iscsi_pdu p;
    (void)arg;
    fd = log_in(IQN, 1, NULL, 0);
    uint32_t sn = ready(fd);
    read10(&p, 77, sn, 0, 8);
    put(fd, &p, NULL, 0);
}

static void hang(void)
{
    initiator(read_into_the_void, NULL);
    wait_held(1);
}

static bool is_held_by(const char *device, const char *who)
{
    char users[200];
    return bdev_users(bdev_find(device), users, sizeof users) && strstr(users, who);
}

static bool is_free(const char *device)
{
    char users[200];
    return !bdev_users(bdev_find(device), users, sizeof users);
}

static void delete_target(void)
{
    struct err e = {0};
    check(!iscsi_target_remove(IQN, true, &left, &e));
    check(strstr(left.text, "device f (1 request)"));
    check(!strstr(left.text, "device n"));
    check(is_held_by("f", "(no answer yet)"));
    check(iscsi_target_remove(IQN, true, &left, &e) && e.code == ERR_NOT_FOUND);
}

static void log_in_again(void *arg)
{
    struct reply r;
    struct iscsi_pdu p;
    (void)arg;
    int again = log_in(IQN, 1, NULL, 0); /* the same initiator port */
    uint32_t sn = ready(again);
    read10(&p, 78, sn, 0, 8);
    put(again, &p, NULL, 0);
    check(get(again, &r));
    check_int(r.pdu.op, OP_DATA_IN);
    close(again);
}

HARNESS_TEST(a_deleted_target_leaves_its_name_and_its_other_devices)
{
    struct err e = {0};
    struct iscsi_target_args args = {.max_connections = 1};
    struct iscsi_lun_args lun = {.lun = 0, .device = "n"};
    begin();
    hang();
    delete_target();
    until(is_free("n"));
    check(!iscsi_target_add(IQN, &args, &e));
    check(!iscsi_lun_add(IQN, &lun, &e));
    initiator(log_in_again, NULL);
    check_int(fault_held(fault()), 1);
    answer();
    until(is_free("f"));
    close(fd);
    wait_sessions(0);
    end();
}

static void answer_later(void *arg)
{
    (void)arg;
    task_sleep_us(50000);
    answer();
}

HARNESS_TEST(shutdown_waits_for_what_a_deleted_target_left)
{
    begin();
    hang();
    delete_target();
    task_start(reactor_main(), "answer", answer_later, NULL);
    end(); /* removes "f": nobody may hold it */
    close(fd);
}

static void ask_lun_1(void *arg)
{
    struct reply r;
    struct iscsi_pdu p;
    (void)arg;
    uint8_t cdb[16] = {0};
    command(&p, 80, *(uint32_t *)arg, cdb, 0);
    p.lun[1] = 1;
    put(fd, &p, NULL, 0);
    do
        check(get(fd, &r));
    while (r.pdu.op != OP_SCSI_RSP);
    check_int(r.pdu.itt, 80);
}

static void read_with_both(void *arg)
{
    struct iscsi_pdu p;
    fd = log_in(IQN, 1, NULL, 0);
    uint32_t *sn = arg;
    *sn = ready(fd);
    read10(&p, 77, (*sn)++, 0, 8);
    put(fd, &p, NULL, 0);
}

HARNESS_TEST(a_removed_lun_leaves_the_others_and_gives_its_number_back_late)
{
    uint32_t sn;
    struct err e = {0};
    struct iscsi_lun_info info;
    struct iscsi_lun_args lun = {.lun = 0, .device = "f"};
    begin();
    initiator(read_with_both, &sn);
    wait_held(1);
    check(!iscsi_lun_remove(IQN, 0, true, &left, &e));
    check(strstr(left.text, "device f (1 request)"));
    check(!iscsi_lun_get(IQN, 0, &info));
    check(iscsi_lun_remove(IQN, 0, true, &left, &e) && e.code == ERR_NOT_FOUND);
    check(iscsi_lun_add(IQN, &lun, &e) && e.code == ERR_IN_USE && strstr(e.msg, "device f"));
    initiator(ask_lun_1, &sn);
    answer();
    until(is_free("f"));
    until(!iscsi_lun_add(IQN, &lun, &e));
    close(fd);
    wait_sessions(0);
    end();
}

HARNESS_TEST(a_target_is_deleted_behind_a_lun_that_is_not_gone_yet)
{
    struct err e = {0};
    begin();
    hang();
    check(!iscsi_lun_remove(IQN, 0, true, &left, &e));
    delete_target();
    answer();
    until(is_free("f"));
    close(fd);
    end();
}

static uint64_t only_id;

static void take_id(const struct session_info *info, void *arg)
{
    only_id = info->id;
    *(uint64_t *)arg = info->connections;
}

static void see_the_end(void *arg)
{
    struct reply r;
    (void)arg;
    while (get(fd, &r))
        check(r.pdu.op == OP_ASYNC);
}

HARNESS_TEST(a_killed_session_has_no_connection_while_its_device_hangs)
{
    uint64_t connections;
    begin();
    hang();
    target_sessions(take_id, &connections);
    check_int(connections, 1);
    check(target_kill(only_id));
    initiator(see_the_end, NULL);
    target_sessions(take_id, &connections);
    check_int(connections, 0);
    check_int(session_count(), 1);
    answer();
    wait_sessions(0);
    close(fd);
    end();
}

HARNESS_TEST(a_removed_portal_has_no_connection_while_a_device_hangs)
{
    uint64_t connections;
    struct err e = {0};
    begin();
    hang();
    check(!iscsi_portal_remove(portal, &e)); /* the initiator does as if it heard nothing */
    target_sessions(take_id, &connections);
    check_int(connections, 0);
    check_int(session_count(), 1);
    initiator(see_the_end, NULL);
    check(!iscsi_portal_add(portal, 1, &e));
    answer();
    wait_sessions(0);
    close(fd);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_deleted_target_leaves_its_name_and_its_other_devices),
        cmocka_unit_test(shutdown_waits_for_what_a_deleted_target_left),
        cmocka_unit_test(a_removed_lun_leaves_the_others_and_gives_its_number_back_late),
        cmocka_unit_test(a_target_is_deleted_behind_a_lun_that_is_not_gone_yet),
        cmocka_unit_test(a_killed_session_has_no_connection_while_its_device_hangs),
        cmocka_unit_test(a_removed_portal_has_no_connection_while_a_device_hangs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
