/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "iscsi/client.h"

#include <sys/socket.h>
#include <unistd.h>

#include "reactor/iobuf.h"
#include "targets/target.h"

static int fd; /* the initiator's */
static struct target_left left;

static void hold_reads(void)
{
    struct err e = {0};
    check(!fault_set_rules(fault(), "read:hold", &e));
}

static void let_go(void)
{
    fault_set_rules(fault(), "", NULL);
    fault_release(fault());
}

/* ---- the move from main to the session's reactor */

static void pipelined(void *arg)
{
    (void)arg;
    uint8_t more[10 * ISCSI_BHS];
    for (uint32_t i = 0; i < 10; i++) {
        struct iscsi_pdu p = {.op = OP_NOP_OUT, .flags = F_FINAL, .itt = 100 + i};
        p.w20 = ISCSI_NO_TAG;
        p.w24 = 1 + i;
        iscsi_pdu_build(&p, more + i * ISCSI_BHS);
    }
    /* The last half of a header is still under way when the connection moves. */
    fd = log_in(IQN, 1, more, sizeof more - 20);
    usleep(50000);
    check_int(send(fd, more + sizeof more - 20, 20, 0), 20);
    for (uint32_t i = 0; i < 10; i++) {
        struct reply r;
        check(get(fd, &r));
        check_int(r.pdu.op, OP_NOP_IN);
        check_int(r.pdu.itt, 100 + i);
    }
    close(fd);
}

HARNESS_TEST(bytes_behind_the_login_move_along)
{
    target_begin();
    initiator(pipelined, NULL);
    wait_sessions(0);
    target_end();
}

/* ---- memory */

enum { VERIFIES = 100 };

/* Of the whole medium, which takes a megabyte each, and no data of the initiator's. */
static void start_verifies(void *arg)
{
    const uint8_t verify[16] = {0x2f, 0, 0, 0, 0, 0, 0, 0x20, 0};
    struct reply *r = arg;
    struct iscsi_pdu p;
    fd = log_in(IQN, 1, NULL, 0);
    uint32_t sn = ready(fd);
    for (uint32_t i = 0; i < VERIFIES; i++) {
        command(&p, 100 + i, sn + i, verify, 0);
        put(fd, &p, NULL, 0);
    }
    p = (struct iscsi_pdu){.op = OP_NOP_OUT, .immediate = true, .flags = F_FINAL, .itt = 99};
    p.w20 = ISCSI_NO_TAG;
    put(fd, &p, NULL, 0);
    check(get(fd, r)); /* what came before it is looked at */
}

static void take_verifies(void *arg)
{
    struct reply *r = arg;
    for (uint32_t i = 0; i < VERIFIES; i++) {
        check(get(fd, r));
        check_int(r->pdu.op, OP_SCSI_RSP);
        check_int(r->pdu.b3, 0);
    }
    close(fd);
}

HARNESS_TEST(memory_is_limited_of_commands_without_data_too)
{
    struct reply r;
    uint64_t used, pooled;
    target_begin();
    hold_reads();
    initiator(start_verifies, &r);
    check_int(r.pdu.op, OP_NOP_IN);
    wait_held(32);
    iobuf_stats(&used, &pooled);
    check(used <= 33 << 20);
    let_go();
    initiator(take_verifies, &r);
    wait_sessions(0);
    target_end();
}

/* ---- the end of a session */

static void start_read(void *arg)
{
    (void)arg;
    fd = log_in(IQN, 1, NULL, 0);
    uint32_t sn = ready(fd);
    struct iscsi_pdu p;
    read10(&p, 77, sn, 0, 8);
    put(fd, &p, NULL, 0);
}

HARNESS_TEST(a_session_ends_when_its_commands_are_back)
{
    target_begin();
    hold_reads();
    initiator(start_read, NULL);
    wait_held(1);
    close(fd);
    task_sleep_us(50000);
    check_int(session_count(), 1);
    let_go();
    wait_sessions(0);
    target_end();
}

static void read_answer(void *arg)
{
    struct reply *r = arg;
    check(get(fd, r));
}

static void log_out(void *arg)
{
    (void)arg;
    struct iscsi_pdu p = {.op = OP_LOGOUT_REQ, .immediate = true, .flags = F_FINAL, .itt = 90};
    put(fd, &p, NULL, 0);
}

HARNESS_TEST(logout_answers_what_runs_first)
{
    target_begin();
    hold_reads();
    initiator(start_read, NULL);
    wait_held(1);
    initiator(log_out, NULL);
    task_sleep_us(20000);
    let_go();
    struct reply r;
    initiator(read_answer, &r);
    check_int(r.pdu.op, OP_DATA_IN);
    check_int(r.pdu.itt, 77);
    check_int(r.pdu.data_len, 4096);
    initiator(read_answer, &r);
    check_int(r.pdu.op, OP_LOGOUT_RSP);
    check_int(r.pdu.itt, 90);
    wait_sessions(0);
    close(fd);
    target_end();
}

static void abort_read(void *arg)
{
    (void)arg;
    struct iscsi_pdu p = {
        .op = OP_TMF_REQ, .immediate = true, .flags = F_FINAL | 1, .itt = 91, .w20 = 77};
    put(fd, &p, NULL, 0);
}

HARNESS_TEST(an_abort_waits_for_the_device_and_silences_the_command)
{
    target_begin();
    hold_reads();
    initiator(start_read, NULL);
    wait_held(1);
    initiator(abort_read, NULL);
    task_sleep_us(50000);
    char peek;
    check(recv(fd, &peek, 1, MSG_PEEK | MSG_DONTWAIT) < 0);
    let_go();
    struct reply r;
    initiator(read_answer, &r);
    check_int(r.pdu.op, OP_TMF_RSP);
    check_int(r.pdu.b2, 0);
    close(fd);
    wait_sessions(0);
    target_end();
}

static uint64_t only_id;

static void take_id(const struct session_info *info, void *arg)
{
    (void)arg;
    only_id = info->id;
    check(!strcmp(info->protocol, "iscsi"));
    check(!strcmp(info->object, IQN));
    check(!strcmp(info->client, "iqn.2026-11.test:me"));
    check_int(info->inflight, 1);
}

static void release_later(void *arg)
{
    (void)arg;
    task_sleep_us(50000);
    let_go();
}

HARNESS_TEST(a_killed_session_is_drained)
{
    target_begin();
    hold_reads();
    initiator(start_read, NULL);
    wait_held(1);
    target_sessions(take_id, NULL);
    task_start(reactor_main(), "release", release_later, NULL);
    linger_set_us(60000000);
    check(target_kill(only_id));
    linger_set_us(0);
    check_int(session_count(), 0);
    check_int(fault_held(fault()), 0);
    check(!target_kill(only_id));
    close(fd);
    target_end();
}

HARNESS_TEST(shutdown_waits_for_running_commands)
{
    target_begin();
    hold_reads();
    initiator(start_read, NULL);
    wait_held(1);
    task_start(reactor_main(), "release", release_later, NULL);
    target_end();
    close(fd);
}

static void replace(void *arg)
{
    (void)arg;
    int other = log_in(IQN, 1, NULL, 0); /* the same initiator port */
    close(fd);
    fd = other;
}

HARNESS_TEST(reinstatement_waits_for_the_old_session)
{
    target_begin();
    hold_reads();
    initiator(start_read, NULL);
    wait_held(1);
    task_start(reactor_main(), "release", release_later, NULL);
    initiator(replace, NULL);
    check_int(fault_held(fault()), 0);
    check_int(session_count(), 1);
    close(fd);
    wait_sessions(0);
    target_end();
}

static void take_place(void *arg)
{
    struct reply r;
    (void)arg;
    int other = join(IQN, 1);
    check(!get(fd, &r)); /* the old one is closed first */
    check(get(other, &r) && r.pdu.op == OP_LOGIN_RSP && !r.pdu.w36);
    close(fd);
    fd = other;
}

HARNESS_TEST(connection_reinstatement_waits_for_what_runs)
{
    target_begin();
    hold_reads();
    initiator(start_read, NULL);
    wait_held(1);
    task_start(reactor_main(), "release", release_later, NULL);
    initiator(take_place, NULL);
    check_int(fault_held(fault()), 0);
    check_int(session_count(), 1);
    initiator(log_out, NULL);
    struct reply r;
    initiator(read_answer, &r);
    check_int(r.pdu.op, OP_LOGOUT_RSP);
    wait_sessions(0);
    close(fd);
    target_end();
}

static void begin_to_take_place(void *arg)
{
    struct reply r;
    *(int *)arg = join(IQN, 1);
    check(!get(fd, &r));
}

HARNESS_TEST(a_session_ends_whose_new_connection_goes_before_the_old_one_is_through)
{
    int other;
    target_begin();
    hold_reads();
    initiator(start_read, NULL);
    wait_held(1);
    initiator(begin_to_take_place, &other);
    close(other);
    close(fd);
    let_go();
    wait_sessions(0);
    target_end();
}

HARNESS_TEST(a_session_is_killed_while_a_connection_waits_for_the_one_before_it)
{
    int other;
    target_begin();
    hold_reads();
    initiator(start_read, NULL);
    wait_held(1);
    initiator(begin_to_take_place, &other);
    task_start(reactor_main(), "release", release_later, NULL);
    target_end();
    close(other);
    close(fd);
}

static void failing_read(void *arg)
{
    (void)arg;
    start_read(NULL);
    struct reply r;
    check(get(fd, &r));
    check_int(r.pdu.op, OP_SCSI_RSP);
    check_int(r.pdu.b3, 2);                    /* CHECK CONDITION */
    check_int(r.data[0] << 8 | r.data[1], 18); /* SenseLength */
    check_int(r.data[4] & 15, 3);              /* MEDIUM ERROR */
    check_int(r.pdu.flags, F_FINAL | F_RSP_UNDERFLOW);
    check_int(r.pdu.w44, 4096);
    close(fd);
}

HARNESS_TEST(a_device_error_is_sense_and_residual)
{
    struct err e = {0};
    target_begin();
    check(!fault_set_rules(fault(), "read:error=EIO", &e));
    initiator(failing_read, NULL);
    wait_sessions(0);
    target_end();
}

/* ---- the door */

static void try_logins(void *arg)
{
    (void)arg;
    check_int(login_status("iqn.2026-11.test:nowhere", "iqn.a:i"), 0x0203);
    check_int(login_status(IQN, "iqn.2026-11.a:stranger"), 0x0202);
    check_int(login_status(IQN, "iqn.2026-11.a:friend"), 0);
    check_int(login_status(IQN, "IQN.2026-11.A:FRIEND"), 0);
}

HARNESS_TEST(access_lists_let_in_whom_they_name)
{
    struct err e = {0};
    target_begin();
    check(!iscsi_acl_add(IQN, "iqn.2026-11.a:friend", NULL, &e));
    initiator(try_logins, NULL);
    check(iscsi_acl_add(IQN, "iqn.2026-11.a:friend", NULL, &e) && e.code == ERR_EXISTS);
    check(iscsi_acl_remove(IQN, "iqn.2026-11.a:stranger", false, &e) && e.code == ERR_NOT_FOUND);
    wait_sessions(0);
    check(!iscsi_acl_remove(IQN, "iqn.2026-11.a:friend", false, &e));
    target_end();
}

HARNESS_TEST(wrong_wishes_are_refused_with_reasons)
{
    struct err e = {0};
    struct iscsi_lun_args lun = {.lun = ISCSI_LUN_MAX + 1, .device = "f"};
    struct iscsi_target_args one = {.max_connections = 1}, nine = {.max_connections = 9};
    target_begin();
    check(iscsi_target_add(IQN, &one, &e) && e.code == ERR_EXISTS);
    check(iscsi_target_add("iqn.2026-11.test:nine", &nine, &e) &&
          !strcmp(e.field, "max_connections"));
    check(iscsi_target_add("disk1", &one, &e) && e.code == ERR_INVALID);
    check(iscsi_target_add("iqn.2026-11.test:Upper", &one, &e) && e.code == ERR_INVALID);
    check(iscsi_target_remove("iqn.a:none", false, &left, &e) && e.code == ERR_NOT_FOUND);
    check(iscsi_lun_add(IQN, &lun, &e) && e.code == ERR_INVALID && !strcmp(e.field, "lun"));
    check(iscsi_lun_remove(IQN, 5, false, &left, &e) && e.code == ERR_NOT_FOUND);
    check(iscsi_portal_add(portal, 1, &e) && e.code == ERR_EXISTS);
    check(iscsi_portal_add("127.0.0.1:1", 16, &e) && !strcmp(e.field, "group"));
    check(iscsi_portal_remove("127.0.0.1:1", &e) && e.code == ERR_NOT_FOUND);
    check(iscsi_acl_add(IQN, "me", NULL, &e) && e.code == ERR_INVALID);
    target_end();
}

HARNESS_TEST(what_is_in_use_says_by_whom)
{
    struct err e = {0};
    target_begin();
    initiator(start_read, NULL);
    check(iscsi_target_remove(IQN, false, &left, &e) && e.code == ERR_IN_USE);
    check(strstr(e.msg, "iqn.2026-11.test:me"));
    check(iscsi_lun_remove(IQN, 0, false, &left, &e) && e.code == ERR_IN_USE);
    check(!iscsi_lun_remove(IQN, 0, true, &left, &e));
    check_int(session_count(), 1);
    linger_set_us(60000000);
    check(!iscsi_target_remove(IQN, true, &left, &e));
    linger_set_us(0);
    check_int(session_count(), 0);
    close(fd);
    target_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_behind_the_login_move_along),
        cmocka_unit_test(memory_is_limited_of_commands_without_data_too),
        cmocka_unit_test(a_session_ends_when_its_commands_are_back),
        cmocka_unit_test(logout_answers_what_runs_first),
        cmocka_unit_test(an_abort_waits_for_the_device_and_silences_the_command),
        cmocka_unit_test(a_killed_session_is_drained),
        cmocka_unit_test(shutdown_waits_for_running_commands),
        cmocka_unit_test(reinstatement_waits_for_the_old_session),
        cmocka_unit_test(connection_reinstatement_waits_for_what_runs),
        cmocka_unit_test(a_session_ends_whose_new_connection_goes_before_the_old_one_is_through),
        cmocka_unit_test(a_session_is_killed_while_a_connection_waits_for_the_one_before_it),
        cmocka_unit_test(a_device_error_is_sense_and_residual),
        cmocka_unit_test(access_lists_let_in_whom_they_name),
        cmocka_unit_test(wrong_wishes_are_refused_with_reasons),
        cmocka_unit_test(what_is_in_use_says_by_whom),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
