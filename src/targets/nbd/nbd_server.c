/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Listeners and the list of connections. Everything here runs on main. */
#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "block/gate.h"
#include "targets/nbd/nbd_private.h"

enum { DEFAULT_PORT = 10809, UNIX_SEND_BUFFER = 1 << 20 };

/* A task that waits for connections to be gone. */
struct gone_wait {
    struct list link;
    struct task *task;
    struct rtimer timer;
    bool late;
    bool woken; /* one wake a park: a surplus one would end somebody else's wait */
};

static struct list listeners = LIST_INIT(listeners);
static struct list conns = LIST_INIT(conns);
static struct list gone_waits = LIST_INIT(gone_waits);
static unsigned conn_count, lane_conns[REACTOR_MAX];
static uint64_t nexus; /* all NBD clients are one unregistered nexus for the gate */
static bool running;

/* ---- connections */

static unsigned least_loaded(void)
{
    unsigned best = 0;
    for (unsigned i = 1; i < reactor_count(); i++) {
        if (lane_conns[i] < lane_conns[best])
            best = i;
    }
    return best;
}

/* A full turn's replies should go out by one sendmsg; TCP tunes itself. */
static void tune_socket(int fd)
{
    int domain = 0, size = UNIX_SEND_BUFFER;
    socklen_t len = sizeof domain;
    if (!getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) && domain == AF_UNIX)
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
}

void nbd_server_enter(int fd, struct tls *tls, const struct nbd_client *who, const char *peer,
                      const char *portal, const struct nbd_view *view, const uint8_t *rest,
                      size_t len)
{
    if (conn_count >= NBD_CONN_MAX) {
        log_every(10, LOG_LEVEL_WARN, "nbd", "too many connections, refusing one peer=%s", peer);
        tls_close(&tls);
        close(fd);
        return;
    }
    struct nbd_conn *c = xcalloc(1, sizeof *c);
    struct bdev_info info;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    c->export = view->export;
    c->desc = c->export->desc;
    bdev_get_info(c->desc, &info);
    c->id = target_next_session_id();
    c->nexus = nexus;
    c->fd = fd;
    c->tls = tls;
    snprintf(c->client, sizeof c->client, "%s", who->identity);
    c->local = who->local;
    c->addr = who->peer;
    c->limits = view->limits;
    c->lend = info.mem_align <= 1;
    c->since_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    c->reactor = least_loaded();
    snprintf(c->peer, sizeof c->peer, "%s", peer);
    snprintf(c->portal, sizeof c->portal, "%s", portal);
    if (len) {
        c->stash = xcalloc(1, len);
        memcpy(c->stash, rest, len);
        c->stash_len = len;
    }
    tune_socket(fd);
    list_add_tail(&conns, &c->link);
    conn_count++;
    lane_conns[c->reactor]++;
    c->export->connections++;
    log_debug("nbd", "session begins session=%llu peer=%s export=%s reactor=%u",
              (unsigned long long)c->id, c->peer, c->export->name, c->reactor);
    reactor_post(reactor_get(c->reactor), &c->start_post, nbd_conn_start, c);
}

static void conn_free(void *conn)
{
    free(conn);
}

/* Runs on the connection's reactor, behind the stop post. */
static void stop_is_over(void *conn)
{
    struct nbd_conn *c = conn;
    reactor_post(reactor_main(), &c->gone_post, conn_free, c);
}

static void wake(struct gone_wait *w)
{
    if (!w->woken)
        task_wake(w->task);
    w->woken = true;
}

static void too_late(void *arg)
{
    struct gone_wait *w = arg;
    w->late = true;
    wake(w);
}

void nbd_server_gone(void *conn)
{
    struct nbd_conn *c = conn;
    list_del(&c->link);
    conn_count--;
    lane_conns[c->reactor]--;
    c->export->connections--;
    log_debug("nbd", "session ends session=%llu", (unsigned long long)c->id);
    struct gone_wait *w;
    list_for_each (w, &gone_waits, link)
        wake(w);
    /* A stop post may still be on its way to the reactor: it goes first, then the memory. */
    if (c->stopping)
        reactor_post(reactor_get(c->reactor), &c->start_post, stop_is_over, c);
    else
        free(c);
}

struct selection {
    const struct nbd_export *export; /* NULL: any */
    uint64_t id;                     /* 0: any */
    bool outlaws;                    /* whom the export does not admit */
};

static bool selected(const struct nbd_conn *c, const struct selection *sel)
{
    if ((sel->export && c->export != sel->export) || (sel->id && c->id != sel->id))
        return false;
    struct nbd_client who = {.local = c->local, .peer = c->addr, .identity = c->client};
    return !sel->outlaws || !nbd_export_admits(c->export, &who);
}

static unsigned stop_selected(const struct selection *sel)
{
    unsigned n = 0;
    struct nbd_conn *c;
    list_for_each (c, &conns, link) {
        if (!selected(c, sel))
            continue;
        n++;
        if (c->stopping)
            continue;
        c->stopping = true;
        reactor_post(reactor_get(c->reactor), &c->stop_post, nbd_conn_stop, c);
    }
    return n;
}

/* `wait_us` 0: as long as it takes. */
static unsigned end_selected(const struct selection *sel, uint64_t wait_us)
{
    struct gone_wait w = {.task = task_self()};
    unsigned n = stop_selected(sel);
    list_add_tail(&gone_waits, &w.link);
    if (n && wait_us)
        rtimer_arm(&w.timer, linger_us(wait_us), too_late, &w);
    for (unsigned left = n; left && !w.late; left = stop_selected(sel)) {
        task_park();
        w.woken = false;
    }
    rtimer_free(&w.timer);
    list_del(&w.link);
    return n;
}

unsigned nbd_server_disconnect(const struct nbd_export *export)
{
    return end_selected(&(struct selection){.export = export}, 0);
}

unsigned nbd_server_evict(const struct nbd_export *export)
{
    return end_selected(&(struct selection){.export = export, .outlaws = true}, NBD_LEAVE_US);
}

void nbd_server_each(const struct nbd_export *export, void (*fn)(struct nbd_conn *c, void *arg),
                     void *arg)
{
    struct nbd_conn *c;
    list_for_each (c, &conns, link) {
        if ((!export || c->export == export) && !relaxed_get(&c->hung_up) &&
            relaxed_get(&c->state) == NBD_CONN_OPEN)
            fn(c, arg);
    }
}

/* ---- sessions */

struct session_call {
    void (*fn)(const struct session_info *info, void *arg);
    void *arg;
};

static void tell_session(struct nbd_conn *c, void *arg)
{
    const struct session_call *call = arg;
    struct session_info info = {
        .id = c->id,
        .protocol = "nbd",
        .reactor = c->reactor,
        .since_ms = c->since_ms,
        .connections = 1,
        .inflight = relaxed_get(&c->inflight),
        .reads = relaxed_get(&c->reads),
        .writes = relaxed_get(&c->writes),
        .read_bytes = relaxed_get(&c->read_bytes),
        .written_bytes = relaxed_get(&c->written_bytes),
    };
    memcpy(info.peer, c->peer, sizeof info.peer);
    memcpy(info.client, c->client, sizeof info.client);
    memcpy(info.portal, c->portal, sizeof info.portal);
    memcpy(info.object, c->export->name, sizeof info.object);
    call->fn(&info, call->arg);
}

static void sessions(void (*fn)(const struct session_info *info, void *arg), void *arg)
{
    struct session_call call = {fn, arg};
    nbd_server_each(NULL, tell_session, &call);
}

static bool kill_session(uint64_t id)
{
    return id && end_selected(&(struct selection){.id = id}, NBD_LEAVE_US);
}

static const struct target_protocol protocol = {
    .name = "nbd",
    .sessions = sessions,
    .kill = kill_session,
};

/* ---- listeners */

static struct nbd_portal *find_listener(const char *addr)
{
    char bound[NET_ADDR_TEXT];
    struct nbd_portal *l;
    list_for_each (l, &listeners, link) {
        net_addr_format(net_listener_addr(l->net), bound, sizeof bound);
        if (!strcmp(net_listener_text(l->net), addr) || !strcmp(bound, addr))
            return l;
    }
    return NULL;
}

static int tls_mode_of(const char *text, enum nbd_tls_mode *mode_r, struct err *e)
{
    static const char *const names[] = {"off", "allowed", "required"};
    for (unsigned i = 0; i < 3; i++) {
        if (!strcmp(text ? text : "off", names[i])) {
            *mode_r = (enum nbd_tls_mode)i;
            return 0;
        }
    }
    return err_set(e, ERR_INVALID, "tls", "\"%.20s\": expected off, allowed or required", text);
}

static int take_tls(struct nbd_portal *l, const struct nbd_listen_args *args, struct err *e)
{
    const struct tls_config config = {.cert = args->tls_cert,
                                      .key = args->tls_key,
                                      .ca = args->tls_ca,
                                      .psk = args->tls_psk_file};
    if (tls_mode_of(args->tls, &l->tls_mode, e))
        return -1;
    if (l->tls_mode == NBD_TLS_OFF) {
        if (config.cert || config.key || config.ca || config.psk)
            return err_set(e, ERR_INVALID, "tls",
                           "files for TLS are of no use while tls is off: say allowed or required");
        return 0;
    }
    l->tls = tls_server_new(&config, e);
    return l->tls ? 0 : -1;
}

static void listener_free(struct nbd_portal *l)
{
    nbd_hello_forget(l);
    list_del(&l->link);
    net_unlisten(&l->net);
    tls_server_free(&l->tls);
    free(l);
}

int nbd_listen(const struct nbd_listen_args *args, struct err *e)
{
    assert(running);
    if (find_listener(args->addr))
        return err_set(e, ERR_EXISTS, "addr", "NBD listens on %s already", args->addr);
    struct nbd_portal *l = xcalloc(1, sizeof *l);
    list_init(&l->link);
    const struct net_unix_access access = {.mode = args->mode, .group = args->group};
    if (!take_tls(l, args, e))
        l->net = net_listen_unix(args->addr, DEFAULT_PORT, "addr", &access, nbd_hello_accept, l, e);
    if (!l->net) {
        listener_free(l);
        return -1;
    }
    list_add_tail(&listeners, &l->link);
    return 0;
}

int nbd_unlisten(const char *addr, struct err *e)
{
    struct nbd_portal *l = find_listener(addr);
    if (!l)
        return err_set(e, ERR_NOT_FOUND, "addr", "NBD does not listen on %s", addr);
    listener_free(l);
    return 0;
}

void nbd_listener_for_each(void (*fn)(const char *addr, const char *bound, void *arg), void *arg)
{
    struct nbd_portal *l;
    list_for_each (l, &listeners, link) {
        char bound[NET_ADDR_TEXT];
        fn(net_listener_text(l->net),
           net_addr_format(net_listener_addr(l->net), bound, sizeof bound), arg);
    }
}

/* ---- beginning and end */

int nbd_init(struct err *e)
{
    (void)e;
    assert(!running);
    running = true;
    nexus = gate_nexus("nbd");
    for (unsigned i = 0; i < reactor_count(); i++)
        nbd_lane_init(i, NBD_MEM_TOTAL / reactor_count());
    nbd_exports_init();
    target_register(&protocol);
    return 0;
}

static void lane_fini(void *arg)
{
    if (reactor_self_index() < reactor_count())
        nbd_lane_fini(arg);
}

void nbd_shutdown(void)
{
    assert(running);
    while (!list_empty(&listeners))
        listener_free(list_first(&listeners, struct nbd_portal, link));
    nbd_hello_shutting_down();
    nbd_server_disconnect(NULL);
    nbd_hello_close_all();
    nbd_exports_fini();
    task_call_all(lane_fini, NULL);
    running = false;
}
