/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a well-behaved client sees, and what an administrator does meanwhile. */
#include "nbd/client.h"

#include <string.h>
#include <unistd.h>

#include "drivers/fault/fault.h"
#include "targets/nbd/nbd_private.h"
#include "targets/target.h"

static struct target_left left;

static void mem_server(void)
{
    device(&mem_driver, "m", "size=64M");
    server_begin();
    export_device("m", "m", false);
}

static void mem_server_end(void)
{
    server_end();
    remove_device("m");
}

/* ---- data */

static void write_and_read_back(int fd, uint64_t offset, uint32_t len)
{
    uint8_t *out = malloc(len), *in = malloc(len);
    fill(out, len, offset + len);
    check_int(do_write(fd, 0, offset, out, len), NBD_OK);
    check_int(do_read(fd, offset, in, len), NBD_OK);
    check(!memcmp(out, in, len));
    free(out);
    free(in);
}

static void all_lengths(void *arg)
{
    (void)arg;
    static const uint32_t lengths[] = {512,   1024,  4096,      8192,    16 << 10, 17 << 10,
                                       65536, 99840, 256 << 10, 1 << 20, 20 << 20, 32 << 20};
    int fd = connect_to("m");
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
        write_and_read_back(fd, 512 * i, lengths[i]);
    close(fd);
}

HARNESS_TEST(what_was_written_is_read_whatever_the_length)
{
    mem_server();
    client(all_lengths, NULL);
    mem_server_end();
}

enum { MANY = 600, BLOCK = 4096 };

/* All in one go, far beyond the depth that a connection may have. */
static void many_at_once(void *arg)
{
    (void)arg;
    int fd = connect_to("m");
    size_t size = (size_t)MANY * (NBD_REQUEST_SIZE + BLOCK);
    uint8_t *b = malloc(size), data[BLOCK], want[BLOCK];
    bool seen[MANY] = {0};
    uint64_t cookie;
    struct wr w = wr_make(b, size);
    for (unsigned i = 0; i < MANY; i++) {
        put_request(&w, NBD_CMD_WRITE, 0, i, (uint64_t)i * BLOCK, BLOCK);
        fill(wr_room(&w, BLOCK), BLOCK, i);
    }
    send_bytes(fd, b, w.pos);
    for (unsigned i = 0; i < MANY; i++) {
        check_int(recv_reply(fd, &cookie), NBD_OK);
        check(cookie < MANY && !seen[cookie]);
        seen[cookie] = true;
    }
    w = wr_make(b, size);
    for (unsigned i = 0; i < MANY; i++)
        put_request(&w, NBD_CMD_READ, 0, i, (uint64_t)i * BLOCK, BLOCK);
    send_bytes(fd, b, w.pos);
    for (unsigned i = 0; i < MANY; i++) {
        check_int(recv_reply(fd, &cookie), NBD_OK);
        check(cookie < MANY && seen[cookie]);
        seen[cookie] = false;
        check(recv_bytes(fd, data, BLOCK));
        fill(want, BLOCK, cookie);
        check(!memcmp(data, want, BLOCK));
    }
    free(b);
    close(fd);
}

HARNESS_TEST(hundreds_of_requests_in_one_send_are_all_answered)
{
    mem_server();
    client(many_at_once, NULL);
    mem_server_end();
}

static void byte_by_byte(void *arg)
{
    (void)arg;
    int fd = connect_to("m");
    uint8_t b[2 * NBD_REQUEST_SIZE + 512], data[512];
    uint64_t cookie;
    struct wr w = wr_make(b, sizeof b);
    put_request(&w, NBD_CMD_WRITE, 0, 1, 1024, 512);
    fill(wr_room(&w, 512), 512, 7);
    put_request(&w, NBD_CMD_READ, 0, 2, 1024, 512);
    for (size_t i = 0; i < sizeof b; i++) {
        send_bytes(fd, b + i, 1);
        if (i % 50 == 0)
            usleep(1000); /* else they come together */
    }
    check_int(recv_reply(fd, &cookie), NBD_OK);
    check_int(cookie, 1);
    check_int(recv_reply(fd, &cookie), NBD_OK);
    check_int(cookie, 2);
    check(recv_bytes(fd, data, 512));
    check(!memcmp(data, b + NBD_REQUEST_SIZE, 512));
    close(fd);
}

HARNESS_TEST(requests_may_arrive_byte_by_byte)
{
    mem_server();
    client(byte_by_byte, NULL);
    mem_server_end();
}

static void mistakes(void *arg)
{
    (void)arg;
    int fd = connect_to("m");
    uint64_t size = 64 << 20;
    uint8_t *b = calloc(1, 33 << 20);
    check_int(do_read(fd, size, b, 512), NBD_EINVAL);
    check_int(do_write(fd, 0, size, b, 512), NBD_ENOSPC);
    check_int(do_write(fd, 0, size - 4096, b, 65536), NBD_ENOSPC);
    check_int(do_simple(fd, NBD_CMD_WRITE_ZEROES, 0, size, 512), NBD_ENOSPC);
    check_int(do_simple(fd, NBD_CMD_TRIM, 0, size, 512), NBD_EINVAL);
    check_int(do_read(fd, 0, b, 0), NBD_EINVAL);
    check_int(do_write(fd, 0, 0, b, 0), NBD_EINVAL);
    check_int(do_write(fd, 1 << 9, 0, b, 4096), NBD_EINVAL);
    check_int(do_read(fd, 1, b, 513), NBD_OK);
    check_int(do_write(fd, 0, 0, b, (32 << 20) + 512), NBD_EINVAL);
    check_int(do_read(fd, 0, b, (32 << 20) + 512), NBD_EINVAL);
    check_int(do_simple(fd, 7, 0, 0, 4096), NBD_EINVAL);
    check_int(do_simple(fd, 99, 0, 0, 0), NBD_EINVAL);
    check_int(do_simple(fd, NBD_CMD_FLUSH, 0, 0, 512), NBD_EINVAL);
    write_and_read_back(fd, 0, 8192); /* and it goes on */
    free(b);
    close(fd);
}

HARNESS_TEST(every_mistake_gets_its_error_and_the_connection_goes_on)
{
    mem_server();
    client(mistakes, NULL);
    mem_server_end();
}

static void other_commands(void *arg)
{
    (void)arg;
    int fd = connect_to("m");
    uint8_t in[8192], zero[8192] = {0};
    write_and_read_back(fd, 0, 65536);
    check_int(do_simple(fd, NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_FUA, 4096, 8192), NBD_OK);
    check_int(do_read(fd, 4096, in, 8192), NBD_OK);
    check(!memcmp(in, zero, 8192));
    check_int(do_simple(fd, NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_NO_HOLE, 0, 512), NBD_OK);
    check_int(do_simple(fd, NBD_CMD_TRIM, NBD_CMD_FLAG_FUA, 32768, 16384), NBD_OK);
    check_int(do_simple(fd, NBD_CMD_CACHE, 0, 0, 65536), NBD_OK);
    check_int(do_simple(fd, NBD_CMD_FLUSH, 0, 0, 0), NBD_OK);
    send_request(fd, NBD_CMD_DISC, 0, 0, 0, 0);
    check(is_closed(fd));
    close(fd);
}

HARNESS_TEST(zero_trim_cache_flush_and_disconnect_work)
{
    mem_server();
    client(other_commands, NULL);
    mem_server_end();
}

static void flush_and_fua(void *arg)
{
    struct bdev *f = arg;
    int fd = connect_to("f");
    uint8_t b[4096] = {1};
    struct err e;
    check(!fault_set_rules(f, "flush:error=EIO:count=1", &e));
    check_int(do_simple(fd, NBD_CMD_TRIM, NBD_CMD_FLAG_FUA, 0, 4096), NBD_EIO);
    check_int(fault_rule_hits(f, 0), 1);
    /* From here on the device remembers that it lost something. */
    check_int(do_simple(fd, NBD_CMD_FLUSH, 0, 0, 0), NBD_EIO);
    check_int(do_write(fd, 0, 0, b, sizeof b), NBD_OK);
    close(fd);
}

HARNESS_TEST(a_trim_with_fua_is_followed_by_a_flush)
{
    device(&mem_driver, "m", "size=64M");
    struct bdev *f = device(&fault_driver, "f", "on=m");
    server_begin();
    export_device("f", "f", false);
    client(flush_and_fua, f);
    server_end();
    remove_device("f");
    remove_device("m");
}

static void device_errors(void *arg)
{
    struct bdev *f = arg;
    int fd = connect_to("f");
    uint8_t b[4096] = {1};
    struct err e;
    check(!fault_set_rules(f, "read:error=ENODATA:count=1;write:error=ENOSPC:count=1", &e));
    check_int(do_read(fd, 0, b, sizeof b), NBD_EIO);
    check_int(do_write(fd, 0, 0, b, sizeof b), NBD_ENOSPC);
    check_int(do_write(fd, 0, 0, b, sizeof b), NBD_OK);
    check_int(do_read(fd, 0, b, sizeof b), NBD_OK);
    close(fd);
}

HARNESS_TEST(errors_of_the_device_are_told)
{
    device(&mem_driver, "m", "size=64M");
    struct bdev *f = device(&fault_driver, "f", "on=m");
    server_begin();
    export_device("f", "f", false);
    client(device_errors, f);
    server_end();
    remove_device("f");
    remove_device("m");
}

static void read_only(void *arg)
{
    (void)arg;
    struct go g;
    uint8_t b[4096] = {0};
    int fd = dial();
    check_int(go(fd, "ro", &g), 0);
    check(g.flags & NBD_FLAG_READ_ONLY);
    check_int(do_write(fd, 0, 0, b, sizeof b), NBD_EPERM);
    check_int(do_simple(fd, NBD_CMD_TRIM, 0, 0, 4096), NBD_EPERM);
    check_int(do_read(fd, 0, b, sizeof b), NBD_OK);
    close(fd);
}

HARNESS_TEST(a_read_only_export_takes_no_writes)
{
    mem_server();
    export_device("ro", "m", true);
    client(read_only, NULL);
    mem_server_end();
}

/* ---- exports */

static uint32_t try_go(const char *name, struct go *g)
{
    int fd = dial();
    uint32_t error = go(fd, name, g);
    close(fd);
    return error;
}

struct expect {
    const char *name;
    uint32_t error;
    const char *why; /* part of it */
};

static void expect_go(void *arg)
{
    const struct expect *x = arg;
    struct go g = {0};
    check_int(try_go(x->name, &g), x->error);
    if (x->why && !strstr(g.why, x->why))
        fprintf(stderr, "why: %s\n", g.why);
    check(!x->why || strstr(g.why, x->why));
}

static void client_expects(const char *name, uint32_t error, const char *why)
{
    struct expect x = {name, error, why};
    client(expect_go, &x);
}

HARNESS_TEST(the_empty_name_is_the_only_export_or_the_one_that_is_marked)
{
    struct err e;
    mem_server();
    client_expects("", 0, NULL);
    export_device("second", "m", true);
    client_expects("", NBD_REP_ERR_UNKNOWN, "no default export");
    struct nbd_export_args args = {.name = "third", .device = "m", .is_default = true};
    check(!nbd_export_add(&args, &e));
    client_expects("", 0, NULL);
    args.name = "fourth";
    check(nbd_export_add(&args, &e));
    check_int(e.code, ERR_EXISTS);
    mem_server_end();
}

HARNESS_TEST(an_export_without_its_device_waits_for_it)
{
    struct nbd_export_info info;
    server_begin();
    export_device("m", "m", false);
    client_expects("m", NBD_REP_ERR_UNKNOWN, "device m is not there");
    check(nbd_export_get("m", &info) && !info.ready);
    device(&mem_driver, "m", "size=64M");
    check(nbd_export_get("m", &info) && info.ready);
    check_int(info.size, 64 << 20);
    client_expects("m", 0, NULL);
    remove_device("m"); /* returns when the export has let go */
    check(nbd_export_get("m", &info) && !info.ready);
    client_expects("m", NBD_REP_ERR_UNKNOWN, "device m is not there");
    device(&mem_driver, "m", "size=32M");
    client_expects("m", 0, NULL);
    mem_server_end();
}

HARNESS_TEST(wrong_exports_are_refused_with_the_field)
{
    struct err e;
    mem_server();
    struct nbd_export_args args = {.name = "m", .device = "m"};
    check(nbd_export_add(&args, &e));
    check_int(e.code, ERR_EXISTS);
    args.name = "";
    check(nbd_export_add(&args, &e));
    check_int(e.code, ERR_INVALID);
    check(!strcmp(e.field, "name"));
    args.name = "a\nb";
    check(nbd_export_add(&args, &e));
    check_int(e.code, ERR_INVALID);
    check(nbd_export_remove("nope", false, &left, &e));
    check_int(e.code, ERR_NOT_FOUND);
    mem_server_end();
}

HARNESS_TEST(without_open_access_only_local_clients_are_served)
{
    struct nbd_view v;
    char why[160];
    struct err e;
    mem_server();
    struct nbd_client here = {.local = true, .identity = ""}, there = {.identity = ""};
    check(nbd_export_choose("m", 1, &there, &v, why) == NBD_REP_ERR_POLICY);
    check_int(nbd_export_choose("m", 1, &here, &v, why), 0);
    struct nbd_export_args args = {.name = "open", .device = "m", .open_access = true};
    check(!nbd_export_add(&args, &e));
    check_int(nbd_export_choose("open", 4, &there, &v, why), 0);
    mem_server_end();
}

HARNESS_TEST(an_export_for_tls_names_only_asks_for_tls_where_it_is_offered)
{
    struct nbd_view v;
    char why[160];
    struct err e;
    mem_server();
    static const char *const rules[] = {"10.0.0.0/8", "tls:alice"}, *const others[] = {
                                                                        "10.0.0.0/8"};
    struct nbd_export_args args = {.name = "x", .device = "m", .allow = rules, .allow_count = 2};
    check(!nbd_export_add(&args, &e));
    args = (struct nbd_export_args){.name = "y", .device = "m", .allow = others, .allow_count = 1};
    check(!nbd_export_add(&args, &e));
    struct nbd_client clear = {.identity = ""}, may = {.identity = "", .offered_tls = true},
                      alice = {.identity = "alice"}, bob = {.identity = "bob"};
    check(nbd_export_choose("x", 1, &clear, &v, why) == NBD_REP_ERR_POLICY);
    check(nbd_export_choose("x", 1, &may, &v, why) == NBD_REP_ERR_TLS_REQD);
    check(nbd_export_choose("y", 1, &may, &v, why) == NBD_REP_ERR_POLICY); /* it would not help */
    check(nbd_export_choose("x", 1, &bob, &v, why) == NBD_REP_ERR_POLICY);
    check_int(nbd_export_choose("x", 1, &alice, &v, why), 0);
    check(!net_addr_parse("10.1.2.3", 1, "addr", &may.peer, &e));
    check_int(nbd_export_choose("x", 1, &may, &v, why), 0);
    mem_server_end();
}

static bool allows(const char *text, const char *addr, const char *identity)
{
    struct nbd_rule rule;
    struct err e = {0};
    struct nbd_client c = {.identity = identity};
    check(!nbd_rule_parse(text, &rule, &e));
    check(!net_addr_parse(addr, 1, "addr", &c.peer, &e));
    return nbd_rule_matches(&rule, &c);
}

HARNESS_TEST(a_rule_allows_a_network_a_name_or_unix_sockets)
{
    check(allows("10.1.0.0/16", "10.1.255.3", ""));
    check(!allows("10.1.0.0/16", "10.2.0.1", ""));
    check(allows("10.1.2.128/25", "10.1.2.200", ""));
    check(!allows("10.1.2.128/25", "10.1.2.127", ""));
    check(allows("10.1.2.3", "10.1.2.3", "") && !allows("10.1.2.3", "10.1.2.2", ""));
    check(allows("0.0.0.0/0", "8.8.8.8", "") && !allows("0.0.0.0/0", "[::1]", ""));
    check(allows("2001:db8::/33", "[2001:db8:7fff::1]", ""));
    check(!allows("2001:db8::/33", "[2001:db8:8000::1]", ""));
    check(allows("unix", "unix:/x", "") && !allows("unix", "127.0.0.1", ""));
    check(allows("tls:eve", "8.8.8.8", "eve") && !allows("tls:eve", "8.8.8.8", "evelyn"));
    check(allows("tls:*", "8.8.8.8", "x") && !allows("tls:*", "127.0.0.1", ""));
    static const char *const wrong[] = {"",      "tls:", "10.0.0.0/33", "::/129",    "host",
                                        "1.2.3", "/8",   "1.2.3.4/",    "1.2.3.4/-1"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct nbd_rule rule;
        struct err e = {0};
        check(nbd_rule_parse(wrong[i], &rule, &e) && e.code == ERR_INVALID);
    }
}

/* ---- sessions */

static void keep_session(const struct session_info *info, void *arg)
{
    *(struct session_info *)arg = *info;
}

static void connect_and_write(void *arg)
{
    uint8_t b[4096] = {0};
    int fd = connect_to("m");
    check_int(do_write(fd, 0, 0, b, sizeof b), NBD_OK);
    check_int(do_read(fd, 0, b, sizeof b), NBD_OK);
    *(int *)arg = fd;
}

HARNESS_TEST(a_session_is_listed_with_its_counters_and_can_be_killed)
{
    int fd;
    struct session_info s = {0};
    mem_server();
    client(connect_and_write, &fd);
    wait_sessions(1);
    target_sessions(keep_session, &s);
    check(s.id && s.since_ms);
    check(!strcmp(s.protocol, "nbd") && !strcmp(s.object, "m") && !strcmp(s.portal, server_addr));
    check_int(s.reads, 1);
    check_int(s.written_bytes, 4096);
    check_int(s.inflight, 0);
    check(!target_kill(s.id + 1000));
    check(target_kill(s.id));
    wait_sessions(0);
    check(is_closed(fd));
    close(fd);
    check(!target_kill(s.id));
    mem_server_end();
}

HARNESS_TEST(an_export_in_use_is_removed_only_with_disconnect)
{
    int fd;
    struct err e;
    mem_server();
    client(connect_and_write, &fd);
    check(nbd_export_remove("m", false, &left, &e));
    check_int(e.code, ERR_IN_USE);
    check(strstr(e.msg, "1 session"));
    check(!nbd_export_remove("m", true, &left, &e));
    check(is_closed(fd));
    close(fd);
    mem_server_end();
}

static void say_goodbye(void *arg)
{
    send_request(*(int *)arg, NBD_CMD_DISC, 0, 0, 0, 0);
}

HARNESS_TEST(a_client_that_said_goodbye_does_not_hold_an_export)
{
    int fd;
    struct err e;
    mem_server();
    client(connect_and_write, &fd);
    client(say_goodbye, &fd); /* and leaves its socket open */
    check(!nbd_export_remove("m", false, &left, &e));
    close(fd);
    mem_server_end();
}

enum { CROWD = 40 };

static void crowd(void *arg)
{
    int *fds = arg;
    uint8_t b[4096];
    for (unsigned i = 0; i < CROWD; i++)
        fds[i] = connect_to("m");
    for (unsigned i = 0; i < CROWD; i++) {
        fill(b, sizeof b, i);
        check_int(do_write(fds[i], 0, i * sizeof b, b, sizeof b), NBD_OK);
    }
    for (unsigned i = 0; i < CROWD; i++) {
        uint8_t want[4096];
        fill(want, sizeof want, i);
        check_int(do_read(fds[(i + 1) % CROWD], i * sizeof b, b, sizeof b), NBD_OK);
        check(!memcmp(b, want, sizeof b));
    }
}

static void count_reactor(const struct session_info *info, void *arg)
{
    ((unsigned *)arg)[info->reactor]++;
}

HARNESS_TEST(connections_are_spread_evenly_over_the_reactors)
{
    int fds[CROWD];
    unsigned per[2] = {0};
    mem_server();
    client(crowd, fds);
    target_sessions(count_reactor, per);
    check_int(per[0], CROWD / 2);
    check_int(per[1], CROWD / 2);
    for (unsigned i = 0; i < CROWD; i++)
        close(fds[i]);
    mem_server_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_written_is_read_whatever_the_length),
        cmocka_unit_test(hundreds_of_requests_in_one_send_are_all_answered),
        cmocka_unit_test(requests_may_arrive_byte_by_byte),
        cmocka_unit_test(every_mistake_gets_its_error_and_the_connection_goes_on),
        cmocka_unit_test(zero_trim_cache_flush_and_disconnect_work),
        cmocka_unit_test(a_trim_with_fua_is_followed_by_a_flush),
        cmocka_unit_test(errors_of_the_device_are_told),
        cmocka_unit_test(a_read_only_export_takes_no_writes),
        cmocka_unit_test(the_empty_name_is_the_only_export_or_the_one_that_is_marked),
        cmocka_unit_test(an_export_without_its_device_waits_for_it),
        cmocka_unit_test(wrong_exports_are_refused_with_the_field),
        cmocka_unit_test(without_open_access_only_local_clients_are_served),
        cmocka_unit_test(an_export_for_tls_names_only_asks_for_tls_where_it_is_offered),
        cmocka_unit_test(a_rule_allows_a_network_a_name_or_unix_sockets),
        cmocka_unit_test(a_session_is_listed_with_its_counters_and_can_be_killed),
        cmocka_unit_test(an_export_in_use_is_removed_only_with_disconnect),
        cmocka_unit_test(a_client_that_said_goodbye_does_not_hold_an_export),
        cmocka_unit_test(connections_are_spread_evenly_over_the_reactors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
