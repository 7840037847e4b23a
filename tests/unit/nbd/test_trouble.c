/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Clients that misbehave, and devices that go away: what it costs, and whom. */
#include "nbd/client.h"

#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "block/stats.h"
#include "drivers/fault/fault.h"
#include "reactor/iobuf.h"
#include "targets/nbd/nbd_private.h"
#include "targets/target.h"

static struct target_left left;

static struct bdev *fault_server(const char *rules)
{
    char options[200];
    device(&mem_driver, "m", "size=64M");
    snprintf(options, sizeof options, "on=m%s%s", *rules ? ",rules=" : "", rules);
    struct bdev *f = device(&fault_driver, "f", options);
    server_begin();
    export_device("f", "f", false);
    return f;
}

static void fault_server_end(void)
{
    server_end();
    remove_device("f");
    remove_device("m");
}

static void wait_held(struct bdev *f, unsigned n)
{
    until(fault_held(f) == n);
}

static void send_eight(void *arg)
{
    int fd = connect_to("f");
    for (unsigned i = 0; i < 8; i++)
        send_request(fd, NBD_CMD_READ, 0, i, i * 65536, 65536);
    *(int *)arg = fd;
}

HARNESS_TEST(a_client_that_vanishes_in_mid_request_leaves_nothing_behind)
{
    int fd;
    struct bdev *f = fault_server("read:hold");
    client(send_eight, &fd);
    wait_held(f, 8);
    close(fd);
    task_sleep_us(20000);
    check_int(bdev_inflight(f), 8); /* there is no cancel: they end in their own time */
    fault_release(f);
    wait_sessions(0);
    fault_server_end(); /* asserts that no buffer and no request is left */
}

static void half_payload(void *arg)
{
    uint8_t b[100000] = {0};
    int fd = connect_to("f");
    send_request(fd, NBD_CMD_WRITE, 0, 1, 0, 1 << 20);
    send_bytes(fd, b, sizeof b);
    *(int *)arg = fd;
}

HARNESS_TEST(a_client_that_vanishes_in_mid_payload_leaves_nothing_behind)
{
    int fd;
    struct bdev *f = fault_server("");
    fault_record_start(f);
    client(half_payload, &fd);
    close(fd);
    wait_sessions(0);
    check_int(fault_record_count(f), 0);
    fault_server_end();
}

static void send_garbage(void *arg)
{
    (void)arg;
    static const char junk[] = "this is certainly no NBD request, however long it may be";
    int fd = connect_to("f");
    send_bytes(fd, junk, sizeof junk);
    check(is_closed(fd));
    close(fd);
    fd = dial(); /* and in the handshake */
    send_bytes(fd, junk, sizeof junk);
    uint8_t hello[NBD_HELLO_SIZE];
    check(recv_bytes(fd, hello, sizeof hello));
    check(is_closed(fd));
    close(fd);
}

HARNESS_TEST(garbage_closes_the_connection)
{
    fault_server("");
    client(send_garbage, NULL);
    fault_server_end();
}

/* ---- a reader that never reads */

enum { DEAF = 3, DEAF_REQUESTS = 2000, DEAF_LEN = 256 << 10 };

static void ask_and_never_read(void *arg)
{
    int *fds = arg;
    static uint8_t b[DEAF_REQUESTS * NBD_REQUEST_SIZE];
    struct wr w = wr_make(b, sizeof b);
    for (unsigned i = 0; i < DEAF_REQUESTS; i++)
        put_request(&w, NBD_CMD_READ, 0, i, 0, DEAF_LEN);
    for (unsigned i = 0; i < DEAF; i++) {
        fds[i] = connect_to("f");
        send_bytes(fds[i], b, w.pos);
    }
}

static void be_served(void *arg)
{
    (void)arg;
    uint8_t *b = calloc(1, 1 << 20);
    int fd[2] = {connect_to("f"), connect_to("f")}; /* one on each reactor */
    for (unsigned i = 0; i < 200; i++) {
        check_int(do_write(fd[i & 1], 0, (32 << 20) + 4096 * i, b, 4096), NBD_OK);
        check_int(do_read(fd[i & 1], 0, b, 1 << 20), NBD_OK);
    }
    close(fd[0]);
    close(fd[1]);
    free(b);
}

HARNESS_TEST(clients_that_never_read_hold_bounded_memory_and_nobody_else)
{
    int fds[DEAF];
    uint64_t used, pooled;
    fault_server("");
    client(ask_and_never_read, fds);
    client(be_served, NULL);
    iobuf_stats(&used, &pooled);
    check(used <= DEAF * (uint64_t)NBD_MEM_CONN +
                      (uint64_t)NBD_BATCH_SLOTS * NBD_BATCH * (reactor_count() + 1));
    for (unsigned i = 0; i < DEAF; i++)
        close(fds[i]);
    wait_sessions(0);
    fault_server_end();
}

/* ---- one that reads late gets all of it */

static void read_late(void *arg)
{
    (void)arg;
    enum { N = 64, LEN = 1 << 20 };
    uint8_t *b = malloc(LEN), *want = malloc(LEN);
    int fd = connect_to("f");
    for (unsigned i = 0; i < N / 2; i++) {
        fill(b, LEN, i);
        check_int(do_write(fd, 0, (uint64_t)i * LEN, b, LEN), NBD_OK);
    }
    for (unsigned i = 0; i < N; i++) /* 64 MiB: four times what a connection may hold */
        send_request(fd, NBD_CMD_READ, 0, i, (uint64_t)(i % (N / 2)) * LEN, LEN);
    usleep(50000);
    for (unsigned i = 0; i < N; i++) {
        uint64_t cookie;
        check_int(recv_reply(fd, &cookie), NBD_OK);
        check(recv_bytes(fd, b, LEN));
        fill(want, LEN, cookie % (N / 2));
        check(!memcmp(b, want, LEN));
    }
    free(b);
    free(want);
    close(fd);
}

HARNESS_TEST(more_than_the_memory_of_a_connection_is_served_in_turn)
{
    fault_server("");
    client(read_late, NULL);
    fault_server_end();
}

/* ---- when all the memory of a reactor is taken */

enum { SCARCE = 4 << 20 };

static void make_memory_scarce(void)
{
    for (unsigned i = 0; i < 2; i++) {
        nbd_lane_get(i)->mem_max = SCARCE;
        nbd_lane_get(i)->stall_ns = 100 * 1000 * 1000;
    }
}

enum { CROWDED = 12, EACH = 20, BIG = 1 << 20 };

static void *read_all(void *arg)
{
    int fd = *(int *)arg;
    uint8_t *b = malloc(BIG), *want = malloc(BIG);
    uint64_t cookie;
    fill(want, BIG, 1);
    for (unsigned n = 0; n < EACH; n++) {
        check_int(recv_reply(fd, &cookie), NBD_OK);
        check(recv_bytes(fd, b, BIG));
        check(!memcmp(b, want, BIG));
    }
    free(b);
    free(want);
    return NULL;
}

/* Each is read by a thread of its own: a client that read them one after the other would stall
 * those that hold memory while it waits for one that does not. */
static void ask_all_then_read_all(void *arg)
{
    (void)arg;
    int fds[CROWDED];
    pthread_t readers[CROWDED];
    uint8_t *b = malloc(BIG);
    for (unsigned i = 0; i < CROWDED; i++)
        fds[i] = connect_to("f");
    fill(b, BIG, 1);
    check_int(do_write(fds[0], 0, 0, b, BIG), NBD_OK);
    for (unsigned i = 0; i < CROWDED; i++)
        for (unsigned n = 0; n < EACH; n++)
            send_request(fds[i], NBD_CMD_READ, 0, n, 0, BIG);
    for (unsigned i = 0; i < CROWDED; i++)
        check(!pthread_create(&readers[i], NULL, read_all, &fds[i]));
    for (unsigned i = 0; i < CROWDED; i++) {
        pthread_join(readers[i], NULL);
        close(fds[i]);
    }
    free(b);
}

HARNESS_TEST(scarce_memory_is_shared_in_turn)
{
    fault_server("");
    make_memory_scarce();
    for (unsigned i = 0; i < 2;
         i++) /* whoever reads in turn is no staller, however slow the machine */
        nbd_lane_get(i)->stall_ns = 60ull * 1000 * 1000 * 1000;
    client(ask_all_then_read_all, NULL);
    fault_server_end();
}

static void need_what_others_hold(void *arg)
{
    int *fds = arg;
    uint8_t *b = malloc(SCARCE);
    for (unsigned i = 0; i < 4; i++) { /* two on each reactor take all of it, and never read */
        fds[i] = connect_to("f");
        for (unsigned n = 0; n < 64; n++)
            send_request(fds[i], NBD_CMD_READ, 0, n, 0, BIG);
    }
    for (unsigned i = 0; i < 2; i++) {
        int fd = connect_to("f");
        check_int(do_read(fd, 0, b, 4096), NBD_OK); /* little is always there */
        check_int(do_read(fd, 0, b, SCARCE), NBD_OK);
        close(fd);
    }
    free(b);
}

HARNESS_TEST(whoever_stalls_while_others_wait_for_memory_is_dropped)
{
    int fds[4];
    fault_server("");
    make_memory_scarce();
    client(need_what_others_hold, fds);
    for (unsigned i = 0; i < 4; i++)
        close(fds[i]);
    fault_server_end();
}

enum { LONG = 32 << 20, MEDIUM = 1 << 20 };

static int any_readable(const int *fds, unsigned n)
{
    struct pollfd p[8];
    for (unsigned i = 0; i < n; i++)
        p[i] = (struct pollfd){.fd = fds[i], .events = POLLIN};
    check(poll(p, n, 60000) > 0);
    unsigned i = 0;
    while (!(p[i].revents & POLLIN))
        check(++i < n);
    return (int)i;
}

static void stay_beside_those_who_wait(void *arg)
{
    int *fds = arg;
    uint64_t cookie;
    uint8_t *b = malloc(MEDIUM);
    for (unsigned i = 0; i < 8; i++) { /* four on each reactor: one has its memory, three wait */
        fds[i] = connect_to("f");
        send_request(fds[i], NBD_CMD_READ, 0, i, 0, LONG);
    }
    int fd[2] = {connect_to("f"), connect_to("f")};
    for (unsigned i = 0; i < 100; i++)
        check_int(do_read(fd[i & 1], 0, b, MEDIUM), NBD_OK);
    for (unsigned i = 0; i < 8; i++) { /* nobody had to go for that, and they get theirs */
        int ready = any_readable(fds, 8);
        check_int(recv_reply(fds[ready], &cookie), NBD_OK);
        for (unsigned done = 0; done < LONG; done += MEDIUM)
            check(recv_bytes(fds[ready], b, MEDIUM));
        close(fds[ready]);
        fds[ready] = -1;
    }
    close(fd[0]);
    close(fd[1]);
    free(b);
}

HARNESS_TEST(who_never_reads_or_waits_for_much_holds_nobody_back)
{
    int fds[8];
    fault_server("");
    for (unsigned i = 0; i < 2; i++) {
        nbd_lane_get(i)->mem_max = 64 << 20;
        nbd_lane_get(i)->stall_ns = 3600ull * 1000 * 1000 * 1000;
    }
    client(stay_beside_those_who_wait, fds);
    fault_server_end();
}

/* ---- handshakes */

enum { CROWD = NBD_HELLO_MAX + 40 };

static void crowd_the_door(void *arg)
{
    int *fds = arg;
    uint8_t hello[NBD_HELLO_SIZE], b[4096];
    for (unsigned i = 0; i < CROWD; i++) {
        fds[i] = dial();
        check(recv_bytes(fds[i], hello, sizeof hello)); /* and then says nothing */
    }
    int fd = connect_to("f"); /* the newcomer gets in */
    check_int(do_read(fd, 0, b, sizeof b), NBD_OK);
    close(fd);
    check(is_closed(fds[0]));
    check(is_closed(fds[39]));
    char c;
    check(recv(fds[CROWD - 1], &c, 1, MSG_DONTWAIT) < 0); /* the youngest are still there */
    check(recv(fds[60], &c, 1, MSG_DONTWAIT) < 0);
}

HARNESS_TEST(a_crowd_of_silent_clients_costs_the_oldest_not_the_newcomer)
{
    static int fds[CROWD];
    fault_server("");
    client(crowd_the_door, fds);
    for (unsigned i = 0; i < CROWD; i++)
        close(fds[i]);
    fault_server_end();
}

/* ---- the device, the export, the server go away */

static void read_until_closed(void *arg)
{
    int fd = *(int *)arg;
    static uint8_t b[65536];
    uint64_t cookie;
    for (unsigned i = 0; i < 8; i++) {
        check_int(recv_reply(fd, &cookie), NBD_OK);
        check(recv_bytes(fd, b, sizeof b));
    }
    check(is_closed(fd));
    close(fd);
}

struct done {
    struct bdev *f;
    bool over;
};

static void remove_task(void *arg)
{
    struct done *d = arg;
    remove_device("f");
    d->over = true;
}

static void shutdown_task(void *arg)
{
    struct done *d = arg;
    server_end();
    d->over = true;
}

static void wait_over(const struct done *d)
{
    until(d->over);
}

/* A fault device lets held requests go when it is removed. */
HARNESS_TEST(a_device_that_is_removed_answers_what_was_asked_then_its_clients_are_closed)
{
    int fd;
    struct done d = {.f = fault_server("read:hold")};
    client(send_eight, &fd);
    wait_held(d.f, 8);
    task_start(reactor_main(), "remove", remove_task, &d);
    client(read_until_closed, &fd);
    wait_over(&d);
    wait_sessions(0);
    struct nbd_export_info info;
    check(nbd_export_get("f", &info) && !info.ready && !info.connections);
    server_end();
    remove_device("m");
}

HARNESS_TEST(a_shutdown_answers_what_was_asked)
{
    int fd;
    struct done d = {.f = fault_server("read:hold")};
    client(send_eight, &fd);
    wait_held(d.f, 8);
    task_start(reactor_main(), "shutdown", shutdown_task, &d);
    task_sleep_us(20000);
    check(!d.over);
    fault_release(d.f);
    client(read_until_closed, &fd);
    wait_over(&d);
    remove_device("f");
    remove_device("m");
}

HARNESS_TEST(a_device_may_be_removed_while_an_unexport_looks_for_sessions)
{
    int fd;
    struct err e;
    struct done d = {.f = fault_server("read:hold")};
    client(send_eight, &fd);
    wait_held(d.f, 8);
    task_start(reactor_main(), "remove", remove_task, &d);
    check_int(nbd_export_remove("f", false, &left, &e), 0); /* the device has sent them away */
    client(read_until_closed, &fd);
    wait_over(&d);
    server_end();
    remove_device("m");
}

/* ---- hung up, and not read to the end */

static void ask_too_much_and_hang_up(void *arg)
{
    (void)arg;
    int fd = connect_to("f");
    for (unsigned i = 0; i < NBD_DEPTH + 44; i++)
        send_request(fd, NBD_CMD_READ, 0, i, i * 512, 512);
    close(fd);
}

struct removal {
    int rc;
    bool over;
};

static void unexport_task(void *arg)
{
    struct removal *r = arg;
    r->rc = nbd_export_remove("f", false, &left, NULL);
    r->over = true;
}

HARNESS_TEST(who_hung_up_behind_requests_without_answer_is_not_in_the_way)
{
    struct removal r = {.rc = -2};
    struct nbd_export_info info = {.ready = true};
    struct bdev *f = fault_server("read:hold");
    linger_set_us(60000000);
    client(ask_too_much_and_hang_up, NULL);
    wait_held(f, NBD_DEPTH);
    task_start(reactor_main(), "unexport", unexport_task, &r);
    for (unsigned i = 0; i < 60000 && info.ready && !r.over; i++) {
        task_sleep_us(1000);
        check(nbd_export_get("f", &info));
    }
    check(!r.over); /* not refused: it waits for what the device still holds */
    fault_release(f);
    until(r.over);
    linger_set_us(0);
    check_int(r.rc, 0);
    fault_server_end();
}

static void connect_forty(void *arg)
{
    int *fds = arg;
    for (unsigned i = 0; i < 40; i++)
        fds[i] = connect_to("f");
}

HARNESS_TEST(idle_connections_hold_no_buffers)
{
    int fds[40];
    uint64_t used, pooled;
    fault_server("");
    client(connect_forty, fds);
    wait_sessions(40);
    iobuf_stats(&used, &pooled);
    check_int(used, 0);
    for (unsigned i = 0; i < 40; i++)
        close(fds[i]);
    fault_server_end();
}

/* ---- who is slow, but not still */

enum { SLOW = 2 }; /* one on each reactor */

static unsigned stuck, looked_at, moved; /* connections: with a full socket, ... */
static uint64_t moved_after;

static void look_at_slow(void *arg) /* on each reactor */
{
    (void)arg;
    if (reactor_self_index() >= reactor_count())
        return; /* main */
    struct nbd_conn *c;
    list_for_each (c, &nbd_lane_get(reactor_self_index())->conns, lane_link) {
        bool is_stuck = c->replies && c->watching & FD_WRITE;
        __atomic_fetch_add(&stuck, is_stuck, __ATOMIC_RELAXED);
        __atomic_fetch_add(&looked_at, is_stuck && c->out_left, __ATOMIC_RELAXED);
        __atomic_fetch_add(&moved, c->replies && c->progress_ns > moved_after, __ATOMIC_RELAXED);
    }
}

static unsigned slow_ones(const unsigned *count)
{
    stuck = looked_at = moved = 0;
    task_call_all(look_at_slow, NULL);
    return *count;
}

static void hold_memory(void *arg)
{
    int *fds = arg;
    for (unsigned i = 0; i < SLOW; i++) {
        fds[i] = connect_to("f");
        for (unsigned n = 0; n < 64; n++)
            send_request(fds[i], NBD_CMD_READ, 0, n, 0, BIG);
    }
}

static void ask_for_all_memory(void *arg)
{
    int *fds = arg;
    for (unsigned i = SLOW; i < 2 * SLOW; i++) {
        fds[i] = connect_to("f");
        send_request(fds[i], NBD_CMD_READ, 0, i, 0, SCARCE);
    }
}

static void read_a_little(void *arg)
{
    const int *fds = arg;
    static uint8_t b[128 << 10]; /* too little for the socket to take more */
    for (unsigned i = 0; i < SLOW; i++)
        check(recv_bytes(fds[i], b, sizeof b));
}

HARNESS_TEST(who_reads_slowly_is_seen_to_move_before_its_socket_takes_more)
{
    int fds[2 * SLOW];
    fault_server("");
    make_memory_scarce();
    for (unsigned i = 0; i < 2; i++)
        nbd_lane_get(i)->stall_ns = 3600ull * 1000 * 1000 * 1000;
    client(hold_memory, fds);
    until(slow_ones(&stuck) == SLOW);
    client(ask_for_all_memory, fds);
    until(slow_ones(&looked_at) == SLOW);
    moved_after = clock_ns();
    client(read_a_little, fds);
    until(slow_ones(&moved) == SLOW);
    for (unsigned i = 0; i < 2 * SLOW; i++)
        close(fds[i]);
    fault_server_end();
}

enum { TRICKLERS = 8 }; /* four on each reactor */

struct trickle {
    int fd[TRICKLERS];
    bool over;
};

static void *trickle(void *arg)
{
    struct trickle *t = arg;
    const uint8_t byte = 1;
    while (!__atomic_load_n(&t->over, __ATOMIC_RELAXED)) {
        for (unsigned i = 0; i < TRICKLERS; i++)
            send_bytes(t->fd[i], &byte, 1);
        usleep(20000);
    }
    return NULL;
}

static void be_served_beside_tricklers(void *arg)
{
    (void)arg;
    struct trickle t = {.over = false};
    int waits[2], fd[2];
    pthread_t thread;
    uint8_t *b = malloc(MEDIUM);
    for (unsigned i = 0; i < TRICKLERS; i++) { /* all that long requests may take */
        t.fd[i] = connect_to("f");
        send_request(t.fd[i], NBD_CMD_WRITE, 0, i, 0, LONG / 2);
    }
    check(!pthread_create(&thread, NULL, trickle, &t));
    for (unsigned i = 0; i < 2; i++) { /* for as long as those before them take */
        waits[i] = connect_to("f");
        send_request(waits[i], NBD_CMD_READ, 0, i, 0, LONG);
    }
    usleep(600000); /* they have waited too long to be overtaken, if anything came of it */
    for (unsigned i = 0; i < 2; i++)
        fd[i] = connect_to("f");
    for (unsigned i = 0; i < 20; i++)
        check_int(do_read(fd[i & 1], 0, b, MEDIUM), NBD_OK);
    __atomic_store_n(&t.over, true, __ATOMIC_RELAXED);
    pthread_join(thread, NULL);
    for (unsigned i = 0; i < TRICKLERS; i++)
        close(t.fd[i]);
    for (unsigned i = 0; i < 2; i++) {
        close(waits[i]);
        close(fd[i]);
    }
    free(b);
}

HARNESS_TEST(who_trickles_holds_back_only_who_asks_for_as_much)
{
    fault_server("");
    for (unsigned i = 0; i < 2; i++) {
        nbd_lane_get(i)->mem_max = 86 << 20;
        nbd_lane_get(i)->stall_ns = 3600ull * 1000 * 1000 * 1000;
    }
    client(be_served_beside_tricklers, NULL);
    fault_server_end();
}

int main(void)
{
    struct rlimit files = {4096, 4096};
    setrlimit(RLIMIT_NOFILE, &files);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_client_that_vanishes_in_mid_request_leaves_nothing_behind),
        cmocka_unit_test(a_client_that_vanishes_in_mid_payload_leaves_nothing_behind),
        cmocka_unit_test(garbage_closes_the_connection),
        cmocka_unit_test(clients_that_never_read_hold_bounded_memory_and_nobody_else),
        cmocka_unit_test(more_than_the_memory_of_a_connection_is_served_in_turn),
        cmocka_unit_test(scarce_memory_is_shared_in_turn),
        cmocka_unit_test(whoever_stalls_while_others_wait_for_memory_is_dropped),
        cmocka_unit_test(who_never_reads_or_waits_for_much_holds_nobody_back),
        cmocka_unit_test(who_reads_slowly_is_seen_to_move_before_its_socket_takes_more),
        cmocka_unit_test(who_trickles_holds_back_only_who_asks_for_as_much),
        cmocka_unit_test(a_crowd_of_silent_clients_costs_the_oldest_not_the_newcomer),
        cmocka_unit_test(
            a_device_that_is_removed_answers_what_was_asked_then_its_clients_are_closed),
        cmocka_unit_test(a_shutdown_answers_what_was_asked),
        cmocka_unit_test(a_device_may_be_removed_while_an_unexport_looks_for_sessions),
        cmocka_unit_test(who_hung_up_behind_requests_without_answer_is_not_in_the_way),
        cmocka_unit_test(idle_connections_hold_no_buffers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
