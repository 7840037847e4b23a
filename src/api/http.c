/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "api/http.h"

#include <assert.h>
#include <errno.h>
#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/api.h"
#include "api/auth.h"
#include "api/crowd.h"
#include "api/secure.h"
#include "api/stream.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/net.h"
#include "net/tls.h"
#include "reactor/task.h"

/*
 * libmicrohttpd in external epoll mode: its epoll fd is watched by the main reactor, its time-outs
 * are a timer. Connections come from our own listeners. A request is suspended while its task runs.
 */
struct server {
    struct MHD_Daemon *daemon;
    struct fdwatch *watch;
    struct rtimer timer;
    struct rdefer kick;
    struct net_listener *listener[API_ADDRS_MAX];
    unsigned listeners;
    unsigned running; /* requests with a task */
    struct crowd crowd;
    bool full;
};
static struct server rest, scrape;
struct api_limits api_limits = {1 << 20, 512, 32, 60, 10};
/* Room for those that are dropped and not closed yet. */
enum { API_CONNECTIONS_SPARE = 64 };

struct exchange { /* one request; belongs to libmicrohttpd's connection */
    struct http_request r;
    struct server *server;
    struct MHD_Connection *connection;
    struct http_id id;
    bool seen, started, done;
};

/* ---- the loop */

static void turn(void *arg);

static void turn_timer(void *arg)
{
    turn(arg);
}

static void turn_watch(void *arg, unsigned events)
{
    (void)events;
    turn(arg);
}

static void turn(void *arg)
{
    struct server *s = arg;
    MHD_UNSIGNED_LONG_LONG ms;
    if (!s->daemon)
        return;
    uint64_t us = crowd_expire(&s->crowd, api_limits.idle_s);
    MHD_run(s->daemon);
    if (MHD_get_timeout(s->daemon, &ms) == MHD_YES && (!us || ms * 1000 < us))
        rtimer_arm(&s->timer, ms * 1000, turn_timer, s);
    else if (us)
        rtimer_arm(&s->timer, us, turn_timer, s);
    else
        rtimer_disarm(&s->timer);
}

static void kick(struct server *s)
{
    if (!reactor_defer_pending(&s->kick))
        reactor_defer(&s->kick, turn, s);
}

/* ---- who is there */

static const char *header(struct MHD_Connection *c, const char *name)
{
    return MHD_lookup_connection_value(c, MHD_HEADER_KIND, name);
}

static void identify(struct exchange *x)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(x->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct auth_peer p = {.fd = info ? info->connect_fd : -1, .from = "", .place = "", .cert = ""};
    p.token = header(x->connection, "Authorization");
    struct secure *tls = p.fd >= 0 ? secure_find(p.fd) : NULL;
    if (tls) {
        secure_peer(tls, &p.from, &p.place, &p.cert);
        p.fd = -1; /* that socket is only the inner end of a TLS connection */
    }
    x->id.unix_peer = p.fd >= 0;
    x->id.result = auth_identify(&p, &x->id.who, &x->id.role);
    x->r.id = &x->id;
    if (tls && x->id.result == AUTH_OK)
        secure_trust(tls);
}

/* ---- requests */

static void run_request(void *arg)
{
    struct exchange *x = arg;
    http_route(&x->r);
    x->done = true;
    x->server->running--;
    MHD_resume_connection(x->connection);
    kick(x->server);
}

/* Events as a stream: for who asks for one, and only where a list would be given too. */
static bool wants_stream(const struct exchange *x)
{
    const char *accept = header(x->connection, "Accept");
    return x->r.full && !x->r.bad && accept && strstr(accept, "text/event-stream") &&
           !strcmp(x->r.method, "GET") && !strcmp(x->r.path, "/v1/events") &&
           x->id.result == AUTH_OK && control_phase() == CONTROL_READY;
}

static void start_request(struct exchange *x, const char *method)
{
    struct http_request *r = &x->r;
    x->started = true;
    crowd_busy(&x->server->crowd, x->connection, true);
    r->method = strcmp(method, "HEAD") ? method : "GET";
    r->if_match = header(x->connection, "If-Match");
    r->if_none_match = header(x->connection, "If-None-Match");
    r->content_type = header(x->connection, "Content-Type");
    r->full = x->server->full;
    if (wants_stream(x)) {
        x->done = true;
        return;
    }
    x->server->running++;
    MHD_suspend_connection(x->connection);
    task_start(reactor_main(), "request", run_request, x);
}

static enum MHD_Result answer(struct exchange *x);

static enum MHD_Result answer_stream(struct exchange *x)
{
    struct control_call call;
    if (http_stream(&x->r, &call))
        return answer(x);
    struct MHD_Response *m =
        stream_new(x->connection, &call, header(x->connection, "Last-Event-ID"));
    if (!m) {
        struct err e;
        err_set(&e, ERR_NOT_READY, "", "%u streams are open; no more are served",
                api_limits.streams);
        http_reply_problem(&x->r, 503, &e, NULL);
        return answer(x);
    }
    MHD_add_response_header(m, "Content-Type", "text/event-stream");
    MHD_add_response_header(m, "Cache-Control", "no-store");
    enum MHD_Result rc = MHD_queue_response(x->connection, 200, m);
    MHD_destroy_response(m);
    return rc;
}

static void add(struct MHD_Response *m, const char *name, const char *value)
{
    if (value && *value)
        MHD_add_response_header(m, name, value);
}

static enum MHD_Result answer(struct exchange *x)
{
    struct http_request *r = &x->r;
    struct MHD_Response *m =
        MHD_create_response_from_buffer(r->reply_len, r->reply, MHD_RESPMEM_MUST_FREE);
    if (!m)
        return MHD_NO;
    r->reply = NULL;
    add(m, "Content-Type", r->type);
    add(m, "ETag", r->etag);
    add(m, "Location", r->location);
    add(m, "Allow", r->allow);
    add(m, "Cache-Control", "no-store");
    add(m, "Retry-After", r->status == 503 ? "1" : r->status == 429 ? "60" : NULL);
    add(m, "WWW-Authenticate", r->authenticate);
    add(m, "Connection", r->bad ? "close" : NULL);
    enum MHD_Result rc = MHD_queue_response(x->connection, (unsigned)r->status, m);
    MHD_destroy_response(m);
    return rc;
}

static void take_body(struct http_request *r, const char *data, size_t size)
{
    if (r->body_len + size > api_limits.body)
        r->body_too_large = true;
    if (r->body_too_large) {
        r->body_len += size; /* read and dropped: the answer says why */
        return;
    }
    r->body = xrealloc(r->body, r->body_len + size + 1);
    memcpy(r->body + r->body_len, data, size);
    r->body_len += size;
    r->body[r->body_len] = 0;
}

static bool says_too_much(const struct exchange *x)
{
    const char *text = header(x->connection, "Content-Length");
    return text && strtoull(text, NULL, 10) > api_limits.body;
}

struct head {
    unsigned host, length, encoding;
};

static enum MHD_Result count_header(void *arg, enum MHD_ValueKind kind, const char *name,
                                    const char *value)
{
    struct head *h = arg;
    (void)kind, (void)value;
    h->host += !strcasecmp(name, "Host");
    h->length += !strcasecmp(name, "Content-Length");
    h->encoding += !strcasecmp(name, "Transfer-Encoding");
    return MHD_YES;
}

/* What libmicrohttpd would refuse in HTML, and what another server on the way may read as another
 * request than we (RFC 9112, 3.2 and 6.1). */
static const char *wrong_head(struct MHD_Connection *c, const char *version)
{
    struct head h = {0};
    MHD_get_connection_values(c, MHD_HEADER_KIND, count_header, &h);
    if (h.host > 1 || (!h.host && !strcmp(version, "HTTP/1.1")))
        return "a request has one header Host";
    if (h.length + h.encoding > 1)
        return "a request has one Content-Length or Transfer-Encoding";
    return NULL;
}

enum { PATIENCE = 4 }; /* bodies that are read although they are too large */

static enum MHD_Result on_request(void *arg, struct MHD_Connection *c, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *size, void **context)
{
    struct exchange *x = *context;
    (void)arg, (void)url;
    if (!x->seen) {
        x->seen = true;
        x->r.body_too_large = says_too_much(x);
        crowd_head(&x->server->crowd, c);
        if (x->server->full)
            identify(x);
        x->r.bad = wrong_head(c, version);
        /* Then none of the body is read: libmicrohttpd closes when the answer is sent. */
        if (!x->r.body_too_large && !x->r.bad)
            return MHD_YES;
    }
    if (*size) {
        take_body(&x->r, data, *size);
        *size = 0;
        /* Without a length, and without an end: nobody waits for the answer. */
        return x->r.body_len > PATIENCE * api_limits.body ? MHD_NO : MHD_YES;
    }
    assert(c == x->connection);
    if (x->done)
        return answer(x);
    if (!x->started)
        start_request(x, method);
    return x->done ? answer_stream(x) : MHD_YES;
}

/* The first thing of a request: its line as it came, before anything is decoded. */
static void *on_line(void *arg, const char *uri, struct MHD_Connection *c)
{
    struct exchange *x = xcalloc(1, sizeof *x);
    x->server = arg;
    x->connection = c;
    size_t n = strcspn(uri, "?");
    x->r.path = xasprintf("%.*s", (int)n, uri);
    if (uri[n])
        x->r.query = xstrdup(uri + n + 1);
    return x;
}

static void on_end(void *arg, struct MHD_Connection *c, void **context,
                   enum MHD_RequestTerminationCode why)
{
    struct exchange *x = *context;
    (void)arg, (void)why;
    if (!x)
        return;
    *context = NULL;
    assert(!x->started || x->done);
    if (x->started)
        crowd_busy(&x->server->crowd, c, false);
    free(x->r.path);
    free(x->r.query);
    free(x->r.body);
    free(x->r.reply);
    free(x);
}

/* ---- life */

static void on_accept(int fd, const struct net_addr *peer, struct net_listener *l, void *arg)
{
    struct server *s = arg;
    (void)l;
    if (s->crowd.count >= api_limits.connections && crowd_drop_one(&s->crowd))
        turn(s); /* libmicrohttpd sees its end, and lets go */
    /* It owns the fd now, and closes it when it fails. */
    MHD_add_connection(s->daemon, fd, (const struct sockaddr *)&peer->ss, peer->len);
    kick(s);
}

static int server_open(struct server *s, bool full, struct err *e)
{
    *s = (struct server){.full = full};
    crowd_init(&s->crowd);
    s->daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL,
        on_request, s, MHD_OPTION_URI_LOG_CALLBACK, on_line, s, MHD_OPTION_NOTIFY_COMPLETED, on_end,
        s, MHD_OPTION_NOTIFY_CONNECTION, crowd_notify, &s->crowd, MHD_OPTION_CONNECTION_LIMIT,
        api_limits.connections + API_CONNECTIONS_SPARE, MHD_OPTION_CONNECTION_TIMEOUT,
        api_limits.idle_s, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)32768,
        MHD_OPTION_STRICT_FOR_CLIENT, 0, MHD_OPTION_END);
    if (!s->daemon)
        return err_set(e, ERR_INTERNAL, "", "cannot start the HTTP server");
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    s->watch = fdwatch_new(info->epoll_fd, FD_READ, turn_watch, s);
    return 0;
}

static void server_unlisten(struct server *s)
{
    while (s->listeners)
        net_unlisten(&s->listener[--s->listeners]);
}

static void server_close(struct server *s)
{
    if (!s->daemon)
        return;
    server_unlisten(s);
    if (s == &rest) {
        streams_close();
        secure_close_all();
    }
    /* A suspended connection may not be there at the end. */
    while (s->running)
        task_sleep_us(1000);
    turn(s);
    fdwatch_free(&s->watch);
    reactor_defer_cancel(&s->kick);
    rtimer_free(&s->timer);
    MHD_stop_daemon(s->daemon);
    s->daemon = NULL;
}

static void on_accept_unix(int fd, const struct net_addr *peer, struct net_listener *l, void *arg)
{
    secure_forget(fd);
    on_accept(fd, peer, l, arg);
}

static struct tls_config tls_files;

/* What comes out of TLS is handed to libmicrohttpd through a socketpair. */
static void on_clear(int fd, const struct net_addr *peer)
{
    on_accept(fd, peer, NULL, &rest);
}

static int listen_tls(const char *addr, struct err *e)
{
    if (secure_setup(&tls_files, on_clear, e))
        return -1;
    struct net_listener *l = net_listen(addr, 0, "api", secure_accept, NULL, e);
    if (!l)
        return -1;
    rest.listener[rest.listeners++] = l;
    char bound[160];
    log_info("api", "the API on https://%s/",
             net_addr_format(net_listener_addr(l), bound, sizeof bound));
    return 0;
}

static int listen_rest(const char *addr, struct err *e)
{
    if (strncmp(addr, "unix:", 5))
        return listen_tls(addr, e);
    struct net_listener *l = net_listen(addr, 0, "api", on_accept_unix, &rest, e);
    if (!l)
        return -1;
    rest.listener[rest.listeners++] = l;
    /* Everyone may connect; who may do something is decided by the peer's credentials. */
    if (chmod(addr + 5, 0666))
        log_warn("api", "cannot set the mode of %s: %s", addr + 5, strerror(errno));
    return 0;
}

static int listen_scrape(const char *addr, struct err *e)
{
    struct net_listener *l = net_listen(addr, 0, "metrics", on_accept, &scrape, e);
    if (!l)
        return -1;
    scrape.listener[scrape.listeners++] = l;
    char bound[160];
    log_info("api", "metrics on http://%s/metrics",
             net_addr_format(net_listener_addr(l), bound, sizeof bound));
    return 0;
}

static void kick_rest(void)
{
    if (rest.daemon)
        kick(&rest);
}

int api_set_roles(const struct api_opts *opts, struct err *e)
{
    return auth_setup(opts, e);
}

/* ---- settings */

static int check_addr(const char *addr, struct err *e)
{
    struct net_addr parsed;
    if (net_addr_parse(addr, 0, "api", &parsed, e))
        return -1;
    if (net_addr_is_unix(&parsed))
        return 0;
    if (!tls_files.cert || !tls_files.key)
        return err_set(e, ERR_UNSUPPORTED, "api",
                       "api %s: the API goes on TCP only with TLS; set tls_cert and tls_key, or "
                       "serve it on unix:PATH",
                       addr);
    return secure_setup(&tls_files, on_clear, e);
}

static int check_metrics(const char *addr, struct err *e)
{
    struct net_addr parsed;
    if (net_addr_parse(addr, 0, "metrics", &parsed, e))
        return -1;
    if (net_addr_is_local(&parsed) && !net_addr_is_unix(&parsed))
        return 0;
    return err_set(e, ERR_UNSUPPORTED, "metrics",
                   "metrics %s: expected HOST:PORT on loopback; to others the API on TCP serves "
                   "/metrics, by TLS and with a token or certificate",
                   addr);
}

int api_check(const struct api_opts *opts, struct err *e)
{
    tls_files = (struct tls_config){opts->tls_cert, opts->tls_key, opts->tls_ca, NULL};
    if (auth_setup(opts, e))
        return -1;
    for (unsigned i = 0; i < opts->addr_count; i++)
        if (check_addr(opts->addr[i], e))
            return -1;
    if (opts->metrics && check_metrics(opts->metrics, e))
        return -1;
    /* Files that nobody serves yet are to be good all the same. */
    bool any = opts->tls_cert || opts->tls_key || opts->tls_ca;
    return any ? secure_setup(&tls_files, on_clear, e) : 0;
}

int api_start(const struct api_opts *opts, struct err *e)
{
    api_limits = opts->limits;
    secure_patience(api_limits.handshake_s);
    if (api_check(opts, e))
        return -1;
    streams_open(kick_rest);
    if (server_open(&rest, true, e) || server_open(&scrape, false, e))
        return -1;
    for (unsigned i = 0; i < opts->addr_count; i++)
        if (listen_rest(opts->addr[i], e))
            return -1;
    return opts->metrics ? listen_scrape(opts->metrics, e) : 0;
}

void api_stop(void)
{
    server_close(&rest);
    server_close(&scrape);
}
