/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "client/wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "base/mem.h"

struct wire {
    const struct client_peer *peer;
    int fd;
    SSL_CTX *ctx;
    SSL *ssl; /* NULL: in clear */
};

/* ---- addresses */

static const char *after(const char *text, const char *prefix)
{
    size_t n = strlen(prefix);
    return strncmp(text, prefix, n) ? NULL : text + n;
}

static bool is_clear(const struct client_peer *p)
{
    return after(p->addr, "unix:") || after(p->addr, "http://");
}

const char *wire_host(const struct client_peer *p)
{
    const char *host = after(p->addr, "https://");
    if (!host)
        host = after(p->addr, "http://");
    return host ? host : after(p->addr, "unix:") ? "localhost" : p->addr;
}

int wire_unreachable(const struct client_peer *p, int error, struct err *e)
{
    if (error == EAGAIN)
        error = ETIMEDOUT;
    return err_set(e, error == EACCES || error == EPERM ? ERR_DENIED : ERR_IO, "",
                   "cannot reach oriond at %s: %s", p->addr, strerror(error));
}

/* "HOST:PORT", "[IPV6]:PORT", and with a scheme HOST alone. */
static bool split_host(const struct client_peer *p, char host[256], char port[16])
{
    const char *addr = wire_host(p), *begin = addr, *colon = strrchr(addr, ':');
    const char *bracket = *addr == '[' ? strchr(addr, ']') : NULL;
    if (colon && (bracket ? colon < bracket : strchr(addr, ':') != colon))
        colon = NULL; /* within an IPv6 address */
    if (!colon && addr == p->addr)
        return false;
    size_t n = colon ? (size_t)(colon - addr) : strlen(addr);
    snprintf(port, 16, "%s", colon ? colon + 1 : is_clear(p) ? "80" : "443");
    if (bracket) {
        begin++;
        n = (size_t)(bracket - begin);
    }
    snprintf(host, 256, "%.*s", (int)n, begin);
    return n && n < 256 && *port && (!colon || strlen(colon + 1) < 16);
}

/* ---- connecting */

static void set_timeout(const struct client_peer *p, int fd)
{
    struct timeval tv = {.tv_sec = p->timeout_s};
    if (!p->timeout_s)
        return;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv);
}

/* The socket, told to whom it concerns; -1 with errno. */
static int connect_to(const struct client_peer *p, int family, const void *addr, socklen_t len)
{
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    set_timeout(p, fd);
    if (p->opened)
        p->opened(fd, p->arg);
    if (!connect(fd, addr, len))
        return fd;
    int error = errno == EINPROGRESS ? ETIMEDOUT : errno;
    if (p->opened)
        p->opened(-1, p->arg);
    close(fd);
    errno = error;
    return -1;
}

static int connect_unix(const struct client_peer *p, struct err *e)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    const char *path = after(p->addr, "unix:");
    if (!*path || strlen(path) >= sizeof sun.sun_path)
        return err_set(e, ERR_INVALID, "api", "%s: the path of a socket has 1 to %zu bytes",
                       p->addr, sizeof sun.sun_path - 1);
    strcpy(sun.sun_path, path);
    int fd = connect_to(p, AF_UNIX, &sun, sizeof sun);
    return fd >= 0 ? fd : wire_unreachable(p, errno, e);
}

static bool is_loopback(const struct sockaddr *a)
{
    if (a->sa_family == AF_INET)
        return (ntohl(((const struct sockaddr_in *)a)->sin_addr.s_addr) >> 24) == 127;
    return a->sa_family == AF_INET6 &&
           IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)a)->sin6_addr);
}

static int connect_tcp(const struct client_peer *p, struct err *e)
{
    char host[256], port[16];
    if (!split_host(p, host, port))
        return err_set(e, ERR_INVALID, "api",
                       "'%s' is no address; expected unix:PATH, HOST:PORT, [IPV6]:PORT or a URL "
                       "with https",
                       p->addr);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list;
    int rc = getaddrinfo(host, port, &hints, &list);
    if (rc)
        return err_set(e, ERR_IO, "", "cannot reach oriond at %s: %s", p->addr, gai_strerror(rc));
    int fd = -1, error = ECONNREFUSED;
    bool bare = false;
    for (struct addrinfo *a = list; a && fd < 0; a = a->ai_next) {
        bare = is_clear(p) && p->token && !is_loopback(a->ai_addr);
        fd = bare ? -1 : connect_to(p, a->ai_family, a->ai_addr, a->ai_addrlen);
        error = errno;
    }
    freeaddrinfo(list);
    if (fd < 0 && bare)
        return err_set(e, ERR_INVALID, "api", "%s: a token is sent over TLS only", p->addr);
    return fd >= 0 ? fd : wire_unreachable(p, error, e);
}

/* ---- TLS */

static int bad_file(struct err *e, const char *field, const char *path)
{
    const char *why = ERR_reason_error_string(ERR_peek_last_error());
    ERR_clear_error();
    return err_set(e, ERR_INVALID, field, "%s %s cannot be used: %s", field, path,
                   access(path, R_OK) ? strerror(errno)
                   : why              ? why
                                      : "it is no PEM file");
}

static int load_files(SSL_CTX *ctx, const struct client_peer *p, struct err *e)
{
    ERR_clear_error();
    if (p->ca ? !SSL_CTX_load_verify_locations(ctx, p->ca, NULL)
              : !SSL_CTX_set_default_verify_paths(ctx))
        return bad_file(e, "ca", p->ca ? p->ca : "of this machine");
    if (!p->cert && !p->key)
        return 0;
    if (!p->cert || !p->key)
        return err_set(e, ERR_INVALID, p->cert ? "key" : "cert", "cert and key go together");
    if (SSL_CTX_use_certificate_chain_file(ctx, p->cert) != 1)
        return bad_file(e, "cert", p->cert);
    if (SSL_CTX_use_PrivateKey_file(ctx, p->key, SSL_FILETYPE_PEM) != 1)
        return bad_file(e, "key", p->key);
    return 0;
}

/* The certificate must be of the name or address that was asked for. */
static bool expect_host(SSL *ssl, const struct client_peer *p)
{
    char host[256], port[16];
    unsigned char ip[16];
    split_host(p, host, port);
    if (inet_pton(AF_INET, host, ip) == 1 || inet_pton(AF_INET6, host, ip) == 1)
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host);
    return SSL_set1_host(ssl, host) && SSL_set_tlsext_host_name(ssl, host);
}

static int begin_tls(struct wire *w, struct err *e)
{
    const struct client_peer *p = w->peer;
    w->ctx = SSL_CTX_new(TLS_client_method());
    if (!w->ctx)
        return err_set(e, ERR_INTERNAL, "", "no TLS is to be had");
    SSL_CTX_set_min_proto_version(w->ctx, TLS1_2_VERSION);
    SSL_CTX_set_options(w->ctx, SSL_OP_IGNORE_UNEXPECTED_EOF); /* lengths tell what is whole */
    SSL_CTX_set_verify(w->ctx, SSL_VERIFY_PEER, NULL);
    if (load_files(w->ctx, p, e))
        return -1;
    w->ssl = SSL_new(w->ctx);
    if (!w->ssl || !SSL_set_fd(w->ssl, w->fd) || !expect_host(w->ssl, p))
        return err_set(e, ERR_INTERNAL, "", "no TLS is to be had");
    ERR_clear_error();
    if (SSL_connect(w->ssl) == 1)
        return 0;
    long verdict = SSL_get_verify_result(w->ssl);
    if (verdict != X509_V_OK)
        return err_set(e, ERR_IO, "", "%s is not to be trusted: %s", p->addr,
                       X509_verify_cert_error_string(verdict));
    const char *why = ERR_reason_error_string(ERR_peek_last_error());
    return err_set(e, ERR_IO, "", "no TLS with %s: %s", p->addr,
                   why     ? why
                   : errno ? strerror(errno)
                           : "the connection ended");
}

/* ---- the connection */

struct wire *wire_open(const struct client_peer *p, struct err *e)
{
    int fd = after(p->addr, "unix:") ? connect_unix(p, e) : connect_tcp(p, e);
    if (fd < 0)
        return NULL;
    struct wire *w = xcalloc(1, sizeof *w);
    w->peer = p;
    w->fd = fd;
    if (!is_clear(p) && begin_tls(w, e))
        wire_close(&w);
    return w;
}

/* A socket whose other side has gone raises SIGPIPE below OpenSSL. */
static int tls_write_quiet(SSL *ssl, const char *data, size_t len)
{
    sigset_t pipe_set, old;
    const struct timespec now = {0};
    sigemptyset(&pipe_set);
    sigaddset(&pipe_set, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_set, &old);
    int n = SSL_write(ssl, data, len > (1 << 20) ? 1 << 20 : (int)len);
    int error = errno;
    if (n <= 0 && !sigismember(&old, SIGPIPE))
        sigtimedwait(&pipe_set, NULL, &now);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    errno = error ? error : EPIPE;
    return n;
}

int wire_write(struct wire *w, const char *data, size_t len)
{
    while (len) {
        ssize_t n =
            w->ssl ? tls_write_quiet(w->ssl, data, len) : send(w->fd, data, len, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -1;
        data += n;
        len -= (size_t)n;
    }
    return 0;
}

ssize_t wire_read(struct wire *w, char *data, size_t len)
{
    if (!w->ssl) {
        ssize_t n;
        while ((n = recv(w->fd, data, len, 0)) < 0 && errno == EINTR)
            continue;
        return n;
    }
    ERR_clear_error();
    int n = SSL_read(w->ssl, data, len > (1 << 20) ? 1 << 20 : (int)len);
    if (n > 0)
        return n;
    int error = SSL_get_error(w->ssl, n);
    if (error == SSL_ERROR_ZERO_RETURN)
        return 0;
    if (error == SSL_ERROR_WANT_READ)
        errno = EAGAIN;
    else if (error == SSL_ERROR_SSL)
        errno = EPROTO;
    return -1;
}

void wire_close(struct wire **wp)
{
    struct wire *w = *wp;
    if (!w)
        return;
    SSL_free(w->ssl);
    SSL_CTX_free(w->ctx);
    if (w->peer->opened)
        w->peer->opened(-1, w->peer->arg);
    close(w->fd);
    free(w);
    *wp = NULL;
}
