/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/api.h"
#include "base/log.h"
#include "base/mem.h"
#include "control/control.h"
#include "daemon/hooks.h"
#include "daemon/modules.h"
#include "daemon/notify.h"
#include "daemon/options.h"
#include "daemon/uevent.h"
#include "net/net.h"
#include "raid/raid.h"
#include "reactor/task.h"
#include "targets/iscsi/iscsi.h"
#include "targets/stages.h"

static struct options options;
static int exit_status;
static bool started, stopping;
static int signal_fd = -1;
static struct fdwatch *signal_watch;
static struct rtimer watchdog;
/* A disk that never answers holds the orderly end up. Several signals come at once from a terminal
 * and a service manager; one that comes this much later means it. */
enum { STOP_PATIENCE_S = 2, STOP_TELL_S = 10 };
static struct rtimer stop_teller;
static uint64_t stop_ns;

/* ---- before anything runs */

static int make_folder(const char *path, struct err *e)
{
    autofree char *copy = xstrdup(path);
    for (char *p = copy + 1; *p; p++) {
        if (*p != '/')
            continue;
        *p = 0;
        if (mkdir(copy, 0700) && errno != EEXIST)
            return err_set(e, ERR_IO, "state_dir", "cannot make %s: %s", copy, strerror(errno));
        *p = '/';
    }
    if (mkdir(copy, 0700) && errno != EEXIST)
        return err_set(e, ERR_IO, "state_dir", "cannot make %s: %s", copy, strerror(errno));
    return 0;
}

/* Every client and every device takes descriptors. */
static void raise_limits(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) || r.rlim_cur == r.rlim_max)
        return;
    r.rlim_cur = r.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &r))
        log_warn("daemon", "cannot raise the limit of open files: %s", strerror(errno));
}

/* What may change while the daemon runs. */
static void apply_settings(void)
{
    enum log_level level;
    if (log_level_parse(options_str(&options, "log"), &level))
        log_set_level(level);
    stages_slow_ms((unsigned)options_u64(&options, "slow_io_ms"));
    raid_set_stripe_memory(options_u64(&options, "stripe_memory"));
    iscsi_set_limit((unsigned)options_u64(&options, "iscsi_connections_max"));
}

/* Signals come as reads of a descriptor; blocked before any thread starts. */
static int block_signals(struct err *e)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a limit of the size of files is an error like a full disk */
    signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (signal_fd < 0)
        return err_set(e, ERR_IO, "", "cannot watch signals: %s", strerror(errno));
    return 0;
}

/* ---- the end */

static void stop_task(void *arg)
{
    (void)arg;
    while (!started)
        task_sleep_us(10000);
    notify_send("STOPPING=1\nSTATUS=stopping");
    if (!exit_status) /* else the one line that tells why is the last */
        log_info("daemon", "stopping");
    uevent_stop();
    hooks_stop();
    control_stop();
    api_stop();
    control_close();
    rtimer_free(&watchdog);
    rtimer_free(&stop_teller);
    fdwatch_free(&signal_watch);
    if (!exit_status)
        log_info("daemon", "stopped");
    reactors_quit();
}

static unsigned stopping_s(void)
{
    return (unsigned)((clock_ns() - stop_ns) / 1000000000);
}

static void tell_stop(void *arg)
{
    (void)arg;
    log_warn("daemon",
             "still stopping after %u s: there are requests that have not ended; another signal "
             "ends it at once, as a power cut would",
             stopping_s());
    rtimer_arm(&stop_teller, STOP_TELL_S * 1000000ull, tell_stop, NULL);
}

static void stop(void)
{
    if (stopping && stopping_s() < STOP_PATIENCE_S)
        return;
    if (stopping) {
        log_error("daemon", "ended by a second signal; what was not flushed is lost, mirrors will "
                            "be compared at the next start");
        _exit(1);
    }
    stopping = true;
    stop_ns = clock_ns();
    rtimer_arm(&stop_teller, STOP_TELL_S * 1000000ull, tell_stop, NULL);
    task_start(reactor_main(), "stop", stop_task, NULL);
}

static void fill_roles(struct api_opts *api)
{
    static const char *const names[] = {
        [ROLE_VIEWER] = "viewers", [ROLE_OPERATOR] = "operators", [ROLE_ADMIN] = "admins"};
    for (enum control_role r = ROLE_VIEWER; r <= ROLE_ADMIN; r++)
        api->roles[r].name = options_list(&options, names[r], &api->roles[r].count);
}

static void fill_api(struct api_opts *api)
{
    *api = (struct api_opts){.metrics = options_str(&options, "metrics"),
                             .tls_cert = options_str(&options, "tls_cert"),
                             .tls_key = options_str(&options, "tls_key"),
                             .tls_ca = options_str(&options, "tls_ca")};
    fill_roles(api);
    api->limits =
        (struct api_limits){.body = options_u64(&options, "api_body_max"),
                            .connections = (unsigned)options_u64(&options, "api_connections_max"),
                            .streams = (unsigned)options_u64(&options, "api_streams_max"),
                            .idle_s = (unsigned)options_u64(&options, "api_idle_s"),
                            .handshake_s = (unsigned)options_u64(&options, "api_handshake_s")};
    char *const *addr = options_list(&options, "api", &api->addr_count);
    for (unsigned i = 0; i < api->addr_count; i++)
        api->addr[i] = addr[i];
}

static void set_hooks(void)
{
    struct hooks_opts o = {.command = options_str(&options, "event_command"),
                           .url = options_str(&options, "event_url"),
                           .ca = options_str(&options, "event_ca"),
                           .token = options_str(&options, "event_token")};
    hooks_set(&o);
}

static void reread(void *arg)
{
    (void)arg;
    if (control_phase() == CONTROL_READY)
        control_reread_secrets();
}

static void reload(void)
{
    struct err e;
    if (options_read_file(&options, &e)) {
        log_error("daemon", "the configuration stays as it was: %s", e.msg);
        return;
    }
    apply_settings();
    if (started && !stopping) {
        struct api_opts api = {0};
        fill_roles(&api);
        if (api_set_roles(&api, &e))
            log_error("daemon", "who may do what is not as the configuration says: %s", e.msg);
        set_hooks();
        task_start(reactor_main(), "secrets", reread, NULL);
    }
    log_info("daemon",
             "configuration read again; log level %s; api, metrics, reactors, state_dir and "
             "array_wait hold "
             "from the next start",
             log_level_name(log_get_level()));
}

static void on_signal(void *arg, unsigned events)
{
    struct signalfd_siginfo si;
    (void)arg, (void)events;
    while (read(signal_fd, &si, sizeof si) == sizeof si) {
        if (si.ssi_signo == SIGHUP)
            reload();
        else
            stop();
    }
}

/* ---- the start */

static void progress(const char *text)
{
    /* A long replay is no hang. */
    notify_send("STATUS=starting: %s\nEXTEND_TIMEOUT_USEC=60000000", text);
}

/* Fed only if every reactor answered since: a hang of one of them is a hang of the daemon. */
static void feed_watchdog(void *arg)
{
    uint64_t us = notify_watchdog_us();
    (void)arg;
    if (!started)
        notify_send("EXTEND_TIMEOUT_USEC=60000000");
    if (reactors_max_lag() < us * 1000 / 2)
        notify_send("WATCHDOG=1");
    rtimer_arm(&watchdog, us / 4, feed_watchdog, NULL);
}

static int open_all(struct err *e)
{
    struct control_opts control = {.state_dir = options_str(&options, "state_dir"),
                                   .drivers = modules_drivers,
                                   .reactors = reactor_count(),
                                   .array_wait_s = (unsigned)options_u64(&options, "array_wait"),
                                   .progress = progress};
    struct api_opts api;
    fill_api(&api);
    return control_open(&control, e) || api_start(&api, e) ? -1 : 0;
}

/* Whoever may write there may become anybody; whoever may read there knows secrets. */
static void check_folder(void)
{
    struct stat st;
    char why[80];
    const char *dir = options_str(&options, "state_dir");
    if (stat(dir, &st) || !(st.st_mode & 077))
        return;
    snprintf(why, sizeof why, "its mode is %04o; others may use it, expected 0700",
             st.st_mode & 07777);
    log_warn("daemon", "the state folder %s: %s", dir, why);
    control_trouble("state folder", dir + 1, why);
}

static void start_task(void *arg)
{
    struct err e = {0};
    (void)arg;
    if (open_all(&e)) {
        log_error("daemon", "%s", e.msg);
        exit_status = 1;
        started = true;
        stop();
        return;
    }
    if (uevent_start(&e)) /* a container may not let us; failing I/O tells then */
        log_warn("daemon", "%s", e.msg);
    control_start();
    check_folder();
    set_hooks();
    net_inherit_close_rest();
    started = true;
    log_info("daemon", "oriond %s is ready state_dir=%s reactors=%u", ORION_VERSION,
             options_str(&options, "state_dir"), reactor_count());
    notify_send("READY=1\nSTATUS=ready");
}

static int check_state_dir(struct err *e)
{
    if (options_str(&options, "state_dir"))
        return 0;
    return err_set(e, ERR_INVALID, "state_dir", "--state-dir is needed: HOME is not set");
}

/* What a start would refuse of the settings, by the same code. */
static int check(struct err *e)
{
    struct api_opts api;
    if (check_state_dir(e))
        return -1;
    fill_api(&api);
    return api_check(&api, e);
}

static int run(struct err *e)
{
    struct reactor_opts reactors = {.count = (unsigned)options_u64(&options, "reactors"),
                                    .spin_us = (unsigned)options_u64(&options, "spin_us")};
    const char *state_dir = options_str(&options, "state_dir");
    if (check_state_dir(e))
        return -1;
    umask(0077);
    raise_limits();
    if (make_folder(state_dir, e) || block_signals(e) || reactors_start(&reactors, e))
        return -1;
    signal_watch = fdwatch_new(signal_fd, FD_READ, on_signal, NULL);
    if (notify_watchdog_us())
        feed_watchdog(NULL);
    task_start(reactor_main(), "start", start_task, NULL);
    reactors_run();
    reactors_stop();
    return 0;
}

int main(int argc, char **argv)
{
    struct err e = {0};
    if (options_parse(&options, argc, argv))
        return 2;
    if (options.version || options.help) {
        if (options.help)
            options_usage();
        else
            puts("oriond " ORION_VERSION);
        options_free(&options);
        return 0;
    }
    notify_init();
    net_inherit();
    log_set_journal(!options.foreground && getenv("JOURNAL_STREAM"));
    int rc = options_read_file(&options, &e);
    if (!rc) {
        apply_settings();
        rc = options.check_config ? check(&e) : run(&e);
    }
    if (rc) {
        log_error("daemon", "%s", e.msg);
        exit_status = 1;
    } else if (options.check_config) {
        puts("the configuration is good");
    }
    if (signal_fd >= 0)
        close(signal_fd);
    options_free(&options);
    return exit_status;
}
