/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "harness.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "net/net.h"

struct seen {
    unsigned count;
    int fd;
    struct net_addr peer;
    struct net_listener *unlisten; /* from within the callback */
};

static void on_accept(int fd, const struct net_addr *peer, struct net_listener *l, void *arg)
{
    struct seen *seen = arg;
    seen->count++;
    seen->fd = fd;
    seen->peer = *peer;
    if (seen->unlisten == l)
        net_unlisten(&seen->unlisten);
}

static void temp_path(char out[64])
{
    char dir[] = "/tmp/orion-listen-XXXXXX";
    check(mkdtemp(dir));
    snprintf(out, 64, "unix:%s/s", dir);
}

static void remove_temp(const char *text)
{
    char dir[64];
    snprintf(dir, sizeof dir, "%s", text + 5);
    unlink(dir);
    *strrchr(dir, '/') = '\0';
    check_int(rmdir(dir), 0);
}

static int dial(const struct net_addr *a)
{
    int fd = socket(a->ss.ss_family, SOCK_STREAM, 0);
    check(fd >= 0);
    if (!connect(fd, (const struct sockaddr *)&a->ss, a->len))
        return fd;
    close(fd);
    return -1;
}

static void wait_count(const struct seen *seen, unsigned n)
{
    for (unsigned i = 0; i < 2000 && seen->count < n; i++)
        task_sleep_us(1000);
    check_int(seen->count, n);
}

static bool exists(const char *text)
{
    struct stat st;
    return !lstat(text + 5, &st);
}

HARNESS_TEST(a_connection_is_handed_over_nonblocking_and_close_on_exec)
{
    struct seen seen = {0};
    struct err e;
    struct net_listener *l = net_listen("127.0.0.1:0", 0, "addr", on_accept, &seen, &e);
    check(l);
    check(net_addr_port(net_listener_addr(l)) > 0);
    int fd = dial(net_listener_addr(l));
    check(fd >= 0);
    wait_count(&seen, 1);
    check(fcntl(seen.fd, F_GETFL) & O_NONBLOCK);
    check(fcntl(seen.fd, F_GETFD) & FD_CLOEXEC);
    int alive = 0; /* who lost its power is found out */
    check(!getsockopt(seen.fd, SOL_SOCKET, SO_KEEPALIVE, &alive, &(socklen_t){sizeof alive}));
    check(alive);
    check(net_addr_is_local(&seen.peer));
    char text[NET_ADDR_TEXT];
    check(!strncmp(net_peer_format(seen.fd, &seen.peer, text, sizeof text), "127.0.0.1:", 10));
    close(seen.fd);
    close(fd);
    net_unlisten(&l);
    check(!l);
}

HARNESS_TEST(an_unnamed_unix_peer_is_told_by_its_process)
{
    char text[64], got[NET_ADDR_TEXT], want[NET_ADDR_TEXT];
    struct seen seen = {0};
    struct err e;
    temp_path(text);
    struct net_listener *l = net_listen(text, 0, "addr", on_accept, &seen, &e);
    check(l);
    int fd = dial(net_listener_addr(l));
    wait_count(&seen, 1);
    snprintf(want, sizeof want, "unix:pid=%d,uid=%u", (int)getpid(), (unsigned)getuid());
    check(!strcmp(net_peer_format(seen.fd, &seen.peer, got, sizeof got), want));
    close(seen.fd);
    close(fd);
    net_unlisten(&l);
    remove_temp(text);
}

HARNESS_TEST(a_busy_port_is_a_conflict)
{
    struct seen seen = {0};
    struct err e;
    char text[NET_ADDR_TEXT];
    struct net_listener *l = net_listen("127.0.0.1:0", 0, "addr", on_accept, &seen, &e);
    check(l);
    net_addr_format(net_listener_addr(l), text, sizeof text);
    check(!net_listen(text, 0, "addr", on_accept, &seen, &e));
    check_int(e.code, ERR_IN_USE);
    net_unlisten(&l);
}

HARNESS_TEST(a_stale_socket_is_replaced_a_live_one_refused)
{
    char text[64];
    struct seen seen = {0};
    struct net_addr a;
    struct err e;
    temp_path(text);
    check(!net_addr_parse(text, 0, "addr", &a, &e));
    int dead = socket(AF_UNIX, SOCK_STREAM, 0);
    check(!bind(dead, (const struct sockaddr *)&a.ss, a.len));
    close(dead); /* as a killed process leaves it */
    struct net_listener *l = net_listen(text, 0, "addr", on_accept, &seen, &e);
    check(l);
    check(!net_listen(text, 0, "addr", on_accept, &seen, &e));
    check_int(e.code, ERR_IN_USE);
    wait_count(&seen, 1); /* the probe of the second one */
    close(seen.fd);
    net_unlisten(&l);
    check(!exists(text));
    remove_temp(text);
}

HARNESS_TEST(a_file_in_the_way_of_a_socket_is_kept)
{
    char text[64];
    struct seen seen = {0};
    struct err e;
    temp_path(text);
    close(open(text + 5, O_CREAT | O_WRONLY, 0600));
    check(!net_listen(text, 0, "addr", on_accept, &seen, &e));
    check_int(e.code, ERR_IN_USE);
    check(exists(text));
    remove_temp(text);
}

HARNESS_TEST(another_process_s_socket_is_not_unlinked_at_close)
{
    char text[64];
    struct seen seen = {0};
    struct net_addr a;
    struct err e;
    temp_path(text);
    struct net_listener *l = net_listen(text, 0, "addr", on_accept, &seen, &e);
    check(l);
    a = *net_listener_addr(l);
    unlink(text + 5);
    int other = socket(AF_UNIX, SOCK_STREAM, 0);
    check(!bind(other, (const struct sockaddr *)&a.ss, a.len));
    net_unlisten(&l);
    check(exists(text));
    close(other);
    remove_temp(text);
}

HARNESS_TEST(a_listener_may_close_itself_while_it_accepts)
{
    char text[64];
    struct seen seen = {0};
    struct err e;
    temp_path(text);
    seen.unlisten = net_listen(text, 0, "addr", on_accept, &seen, &e);
    check(seen.unlisten);
    struct net_addr a = *net_listener_addr(seen.unlisten);
    int one = dial(&a), two = dial(&a);
    wait_count(&seen, 1);
    task_sleep_us(10000);
    check_int(seen.count, 1);
    close(seen.fd);
    close(one);
    close(two);
    remove_temp(text);
}

static char passed_text[64];

static void passed_socket_body(void)
{
    struct seen seen = {0};
    struct err e;
    struct net_listener *l = net_listen(passed_text, 0, "addr", on_accept, &seen, &e);
    check(l);
    check_int(net_listener_fd(l), 3);
    check_int(net_inherit_close_rest(), 0);
    int client = dial(net_listener_addr(l));
    wait_count(&seen, 1);
    close(client);
    close(seen.fd);
    net_unlisten(&l);
    check(exists(passed_text));                /* it is the service manager's */
    check_int(open("/dev/null", O_RDONLY), 3); /* the harness counts */
}

/* fd 3 is where the service manager puts it; nothing else may run while it is swapped in. */
static void a_passed_socket_is_used_instead_of_a_new_one(void **state)
{
    (void)state;
    char pid[16];
    struct net_addr a;
    temp_path(passed_text);
    check(!net_addr_parse(passed_text, 0, "addr", &a, NULL));
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    check(!bind(fd, (const struct sockaddr *)&a.ss, a.len) && !listen(fd, 8));
    int kept = fd == 3 ? -1 : dup(3);
    if (fd != 3) {
        check(dup2(fd, 3) == 3);
        close(fd);
    }
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    setenv("LISTEN_PID", pid, 1);
    setenv("LISTEN_FDS", "1", 1);
    check_int(net_inherit(), 1);
    check(!getenv("LISTEN_FDS"));
    harness_run(passed_socket_body);
    close(3);
    if (kept >= 0) {
        dup2(kept, 3);
        close(kept);
    }
    remove_temp(passed_text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_connection_is_handed_over_nonblocking_and_close_on_exec),
        cmocka_unit_test(an_unnamed_unix_peer_is_told_by_its_process),
        cmocka_unit_test(a_busy_port_is_a_conflict),
        cmocka_unit_test(a_stale_socket_is_replaced_a_live_one_refused),
        cmocka_unit_test(a_file_in_the_way_of_a_socket_is_kept),
        cmocka_unit_test(another_process_s_socket_is_not_unlinked_at_close),
        cmocka_unit_test(a_listener_may_close_itself_while_it_accepts),
        cmocka_unit_test(a_passed_socket_is_used_instead_of_a_new_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
