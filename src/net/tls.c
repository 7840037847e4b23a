/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "net/tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/secret.h"
#include "base/text.h"
#include "net/tls_private.h"
#include "reactor/reactor.h"

enum { NAME_MAX_ = 256 };

struct tls_server { /* main's */
    char *file[TLS_FILES];
    struct timespec changed[TLS_FILES];
    SSL_CTX *ctx;
};

struct tls {
    SSL *ssl;
    bool broken; /* no goodbye is possible */
    char identity[NAME_MAX_];
};

static int tls_index = -1;

/* ---- pre-shared keys */

static const struct psk *find_psk(const SSL *ssl, const unsigned char *identity, size_t len)
{
    const struct psk_list *list = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), tls_psk_index);
    for (size_t i = 0; list && i < list->count; i++) {
        if (strlen(list->psk[i].identity) == len && !memcmp(list->psk[i].identity, identity, len))
            return &list->psk[i];
    }
    return NULL;
}

static void note_identity(SSL *ssl, const char *identity)
{
    struct tls *t = SSL_get_ex_data(ssl, tls_index);
    snprintf(t->identity, sizeof t->identity, "%s", identity);
}

/* TLS 1.2: returns the length of the key, 0 for an unknown identity. */
static unsigned psk_of_12(SSL *ssl, const char *identity, unsigned char *key, unsigned max)
{
    const struct psk *psk =
        identity ? find_psk(ssl, (const void *)identity, strlen(identity)) : NULL;
    if (!psk || psk->key_len > max)
        return 0;
    memcpy(key, psk->key, psk->key_len);
    note_identity(ssl, psk->identity);
    return (unsigned)psk->key_len;
}

/* TLS 1.3: no session means "not this one", and the handshake goes on without. RFC 8446, 4.2.11: a
 * key that came from elsewhere goes with SHA-256. */
static int psk_of_13(SSL *ssl, const unsigned char *identity, size_t len, SSL_SESSION **session_r)
{
    static const unsigned char aes_128_gcm_sha256[] = {0x13, 0x01};
    const struct psk *psk = find_psk(ssl, identity, len);
    *session_r = NULL;
    if (!psk)
        return 1;
    SSL_SESSION *s = SSL_SESSION_new();
    const SSL_CIPHER *cipher = SSL_CIPHER_find(ssl, aes_128_gcm_sha256);
    if (!s || !cipher || !SSL_SESSION_set1_master_key(s, psk->key, psk->key_len) ||
        !SSL_SESSION_set_cipher(s, cipher) ||
        !SSL_SESSION_set_protocol_version(s, TLS1_3_VERSION)) {
        SSL_SESSION_free(s);
        return 0;
    }
    note_identity(ssl, psk->identity);
    *session_r = s;
    return 1;
}

/* ---- the files */

static int load_files(SSL_CTX *ctx, char *const *file, struct err *e)
{
    if (tls_files_load(ctx, file, e))
        return -1;
    if (file[TLS_CA])
        SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    if (file[TLS_PSK]) {
        SSL_CTX_set_psk_server_callback(ctx, psk_of_12);
        SSL_CTX_set_psk_find_session_callback(ctx, psk_of_13);
    }
    return 0;
}

static SSL_CTX *make_ctx(char *const *file, struct err *e)
{
    static const unsigned char context[] = "orion";
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    if (!ctx) {
        err_set(e, ERR_IO, "tls", "out of memory");
        return NULL;
    }
    SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
    /* TLS 1.2 leaves the choice of PSK suites to us: those with forward secrecy. */
    SSL_CTX_set_cipher_list(ctx, "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:ECDHEPSK+AES:DHEPSK+AES:"
                                 "PSK+AESGCM:@STRENGTH");
    /* Keys of ours go with SHA-256 (psk_of_13): with other suites before it, they would lose to a
     * certificate that the client may know nothing of. */
    SSL_CTX_set_ciphersuites(ctx, "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:"
                                  "TLS_AES_256_GCM_SHA384");
    SSL_CTX_set_dh_auto(ctx, 1);
    /* Sessions are long: there is no use in tickets and caches, nor in two handshakes in one. */
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_NO_TICKET |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_num_tickets(ctx, 0);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_session_id_context(ctx, context, sizeof context - 1);
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_read_ahead(ctx, 1); /* a record by one read, not its header first */
    if (load_files(ctx, file, e)) {
        SSL_CTX_free(ctx);
        return NULL;
    }
    return ctx;
}

static void note_times(struct tls_server *s)
{
    for (int i = 0; i < TLS_FILES; i++) {
        struct stat st;
        if (s->file[i] && !stat(s->file[i], &st))
            s->changed[i] = st.st_mtim;
    }
}

static bool is_stale(const struct tls_server *s)
{
    for (int i = 0; i < TLS_FILES; i++) {
        struct stat st;
        if (s->file[i] && !stat(s->file[i], &st) &&
            (st.st_mtim.tv_sec != s->changed[i].tv_sec ||
             st.st_mtim.tv_nsec != s->changed[i].tv_nsec))
            return true;
    }
    return false;
}

static void reload(struct tls_server *s)
{
    struct err e = {0};
    note_times(s);
    SSL_CTX *ctx = make_ctx(s->file, &e);
    if (!ctx) {
        log_warn("net", "cannot take the new TLS files, the old ones serve on: %s", e.msg);
        return;
    }
    SSL_CTX_free(s->ctx);
    s->ctx = ctx;
    log_info("net", "TLS files have changed and were read anew");
}

static int check_config(const struct tls_config *c, struct err *e)
{
    if (!c->cert && !c->psk)
        return err_set(e, ERR_INVALID, tls_fields[TLS_CERT],
                       "TLS needs tls_cert and tls_key, tls_psk_file, or both");
    if (!c->cert != !c->key)
        return err_set(e, ERR_INVALID, tls_fields[c->cert ? TLS_KEY : TLS_CERT],
                       "tls_cert and tls_key go together");
    if (c->ca && !c->cert)
        return err_set(e, ERR_INVALID, tls_fields[TLS_CA], "tls_ca needs tls_cert and tls_key");
    return 0;
}

struct tls_server *tls_server_new(const struct tls_config *config, struct err *e)
{
    tls_files_init();
    if (tls_index < 0)
        tls_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    if (check_config(config, e))
        return NULL;
    struct tls_server *s = xcalloc(1, sizeof *s);
    const char *const from[TLS_FILES] = {config->cert, config->key, config->ca, config->psk};
    int rc = 0;
    for (int i = 0; i < TLS_FILES && !rc; i++) {
        char path[SECRET_PATH_MAX];
        rc = from[i] ? secret_path(from[i], tls_fields[i], path, e) : 0;
        s->file[i] = from[i] && !rc ? xstrdup(path) : NULL;
    }
    note_times(s);
    s->ctx = rc ? NULL : make_ctx(s->file, e);
    if (!s->ctx)
        tls_server_free(&s);
    return s;
}

void tls_server_free(struct tls_server **server)
{
    struct tls_server *s = *server;
    *server = NULL;
    if (!s)
        return;
    SSL_CTX_free(s->ctx);
    for (int i = 0; i < TLS_FILES; i++)
        free(s->file[i]);
    free(s);
}

/* ---- connections */

struct tls *tls_accept(struct tls_server *server, int fd)
{
    if (is_stale(server))
        reload(server);
    struct tls *t = xcalloc(1, sizeof *t);
    t->ssl = SSL_new(server->ctx);
    if (!t->ssl || SSL_set_fd(t->ssl, fd) != 1 || SSL_set_ex_data(t->ssl, tls_index, t) != 1) {
        SSL_free(t->ssl);
        free(t);
        return NULL;
    }
    SSL_set_accept_state(t->ssl);
    return t;
}

static void take_name(struct tls *t)
{
    X509 *cert = SSL_get1_peer_certificate(t->ssl);
    if (!cert)
        return;
    char name[NAME_MAX_];
    /* A name with a NUL in it is another name than it looks like, and one that is no text would
     * spoil whatever tells it. */
    int len =
        X509_NAME_get_text_by_NID(X509_get_subject_name(cert), NID_commonName, name, sizeof name);
    if (len > 0 && text_flaw(name, (size_t)len) == (size_t)len)
        snprintf(t->identity, sizeof t->identity, "%s", name);
    X509_free(cert);
}

/* OpenSSL asks for the key of a name before it knows whether the handshake will use it: a client
 * that names one and goes on with the certificate has shown no key. */
static void forget_unproven(struct tls *t)
{
    const SSL_CIPHER *cipher = SSL_get_current_cipher(t->ssl);
    if (!SSL_session_reused(t->ssl) && SSL_CIPHER_get_auth_nid(cipher) != NID_auth_psk)
        t->identity[0] = '\0';
}

int tls_handshake(struct tls *t, char *why_r, size_t why_size)
{
    ERR_clear_error();
    int rc = SSL_do_handshake(t->ssl);
    if (rc == 1) {
        forget_unproven(t);
        take_name(t);
        return 0;
    }
    switch (SSL_get_error(t->ssl, rc)) {
    case SSL_ERROR_WANT_READ: return FD_READ;
    case SSL_ERROR_WANT_WRITE: return FD_WRITE;
    default: break;
    }
    char text[200];
    bool gone = !ERR_peek_last_error();
    snprintf(why_r, why_size, "%s", gone ? "the client went away" : tls_last_error(text));
    t->broken = true;
    return -1;
}

/* What a failed SSL_read or SSL_write means: 0 for the end, -1 with errno. */
static ssize_t trouble(struct tls *t, int rc)
{
    int error = errno;
    switch (SSL_get_error(t->ssl, rc)) {
    case SSL_ERROR_ZERO_RETURN: return 0;
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE: errno = EAGAIN; return -1;
    case SSL_ERROR_SYSCALL:
        t->broken = true;
        errno = error ? error : ECONNRESET;
        return -1;
    default:
        t->broken = true;
        ERR_clear_error();
        errno = EPROTO;
        return -1;
    }
}

ssize_t tls_read(struct tls *t, void *buf, size_t len)
{
    size_t done = 0, n;
    while (done < len) { /* a record at a time */
        ERR_clear_error();
        errno = 0;
        int rc = SSL_read_ex(t->ssl, (char *)buf + done, len - done, &n);
        if (rc != 1) {
            ssize_t result = trouble(t, rc);
            return done ? (ssize_t)done : result;
        }
        done += n;
    }
    return (ssize_t)done;
}

ssize_t tls_write(struct tls *t, const void *buf, size_t len)
{
    size_t done = 0, n;
    while (done < len) {
        ERR_clear_error();
        errno = 0;
        int rc = SSL_write_ex(t->ssl, (const char *)buf + done, len - done, &n);
        if (rc != 1) {
            ssize_t result = trouble(t, rc);
            if (!done && !result)
                errno = EPIPE;
            return done ? (ssize_t)done : -1;
        }
        done += n;
    }
    return (ssize_t)done;
}

bool tls_pending(const struct tls *t)
{
    return SSL_has_pending(t->ssl);
}

const char *tls_identity(const struct tls *t)
{
    return t->identity;
}

const char *tls_version(const struct tls *t)
{
    return SSL_get_version(t->ssl);
}

void tls_close(struct tls **tls)
{
    struct tls *t = *tls;
    *tls = NULL;
    if (!t)
        return;
    ERR_clear_error();
    if (!t->broken && SSL_is_init_finished(t->ssl))
        SSL_shutdown(t->ssl);
    ERR_clear_error();
    SSL_free(t->ssl);
    free(t);
}
