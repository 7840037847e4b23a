/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Certificates, private key, authorities and pre-shared keys, from files into an SSL_CTX. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/text.h"
#include "net/tls_private.h"

enum { FILE_LIMIT = 1 << 20, PSK_KEYS_LIMIT = 4096 };

const char *const tls_fields[TLS_FILES] = {"tls_cert", "tls_key", "tls_ca", "tls_psk_file"};
int tls_psk_index = -1;

/* What a file holds: `len` bytes and a NUL. May be a secret: cleansed when it is freed. */
struct content {
    char *p;
    size_t len;
};

static void content_free(struct content *c)
{
    OPENSSL_clear_free(c->p, FILE_LIMIT + 1);
}
#define autocontent __attribute__((cleanup(content_free)))

const char *tls_last_error(char out[200])
{
    unsigned long code = ERR_peek_error();
    const char *text = code ? ERR_reason_error_string(code) : NULL;
    snprintf(out, 200, "%s", text ? text : "the TLS library does not say why");
    ERR_clear_error();
    return out;
}

static int refuse(struct err *e, int field, const char *file, const char *what)
{
    char text[200];
    return err_set(e, ERR_INVALID, tls_fields[field], "%s %s: %s", what, file,
                   tls_last_error(text));
}

/* A FIFO is opened without waiting for its writer, and no device is read at all. */
static int open_regular(int field, const char *file, struct err *e)
{
    struct stat st;
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return err_set(e, ERR_INVALID, tls_fields[field], "cannot open %s: %s", file,
                       strerror(errno));
    const char *flaw = fstat(fd, &st)            ? strerror(errno)
                       : !S_ISREG(st.st_mode)    ? "it is not a regular file"
                       : st.st_size > FILE_LIMIT ? "it is longer than 1 MiB"
                                                 : NULL;
    if (!flaw)
        return fd;
    close(fd);
    return err_set(e, ERR_INVALID, tls_fields[field], "cannot use %s: %s", file, flaw);
}

static int read_file(int field, const char *file, struct content *c_r, struct err *e)
{
    autoclose int fd = open_regular(field, file, e);
    if (fd < 0)
        return -1;
    c_r->p = OPENSSL_zalloc(FILE_LIMIT + 1);
    if (!c_r->p)
        return err_set(e, ERR_IO, tls_fields[field], "out of memory");
    for (ssize_t got = 1; got && c_r->len < FILE_LIMIT; c_r->len += (size_t)got) {
        got = read(fd, c_r->p + c_r->len, FILE_LIMIT - c_r->len);
        if (got < 0)
            return err_set(e, ERR_INVALID, tls_fields[field], "cannot read %s: %s", file,
                           strerror(errno));
    }
    return 0;
}

/* ---- pre-shared keys */

static void psk_free(void *parent, void *list, CRYPTO_EX_DATA *ad, int index, long argl, void *argp)
{
    (void)parent, (void)ad, (void)index, (void)argl, (void)argp;
    struct psk_list *l = list;
    if (l)
        OPENSSL_clear_free(l, sizeof *l + l->count * sizeof l->psk[0]);
}

void tls_files_init(void)
{
    if (tls_psk_index < 0)
        tls_psk_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, psk_free);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)tolower((unsigned char)c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* IDENTITY:HEX; false: it is not. A line with a NUL in it ends there and is none. */
static bool parse_psk(const char *line, size_t len, struct psk *psk)
{
    const char *colon = memrchr(line, ':', len);
    size_t name = colon ? (size_t)(colon - line) : 0;
    *psk = (struct psk){.key_len = 0};
    if (!name || name >= sizeof psk->identity || text_flaw(line, name) != name)
        return false;
    memcpy(psk->identity, line, name);
    const char *p = colon + 1, *end = line + len;
    for (; p < end && hex_digit(p[0]) >= 0 && hex_digit(p[1]) >= 0; p += 2) {
        if (psk->key_len == sizeof psk->key)
            return false;
        psk->key[psk->key_len++] = (unsigned char)(hex_digit(p[0]) << 4 | hex_digit(p[1]));
    }
    return p == end && psk->key_len;
}

static int add_psk(struct psk_list *list, const char *line, size_t len, unsigned number,
                   const char *file, struct err *e)
{
    if (list->count == PSK_KEYS_LIMIT)
        return err_set(e, ERR_INVALID, tls_fields[TLS_PSK], "%s has more than %d keys", file,
                       PSK_KEYS_LIMIT);
    if (!parse_psk(line, len, &list->psk[list->count]))
        return err_set(e, ERR_INVALID, tls_fields[TLS_PSK],
                       "%s: line %u: expected IDENTITY:HEX, at most 127 bytes of text and 64 bytes",
                       file, number);
    list->count++;
    return 0;
}

static int parse_psks(struct psk_list *list, const struct content *c, const char *file,
                      struct err *e)
{
    unsigned number = 0;
    for (size_t pos = 0, len; pos < c->len; pos += len + 1) {
        const char *line = c->p + pos, *end = memchr(line, '\n', c->len - pos);
        len = end ? (size_t)(end - line) : c->len - pos;
        size_t text = len && line[len - 1] == '\r' ? len - 1 : len;
        number++;
        if (text && *line != '#' && add_psk(list, line, text, number, file, e))
            return -1;
    }
    if (list->count)
        return 0;
    return err_set(e, ERR_INVALID, tls_fields[TLS_PSK], "%s has no key", file);
}

static int load_psks(SSL_CTX *ctx, const char *file, struct err *e)
{
    autocontent struct content c = {0};
    if (read_file(TLS_PSK, file, &c, e))
        return -1;
    struct psk_list *list = OPENSSL_zalloc(sizeof *list + PSK_KEYS_LIMIT * sizeof list->psk[0]);
    if (!list)
        return err_set(e, ERR_IO, tls_fields[TLS_PSK], "out of memory");
    SSL_CTX_set_ex_data(ctx, tls_psk_index, list); /* freed with ctx */
    return parse_psks(list, &c, file, e);
}

/* ---- PEM */

/* An encrypted key must not make anybody wait for a passphrase. */
static int no_passphrase(char *buf, int size, int writing, void *arg)
{
    (void)buf, (void)size, (void)writing, (void)arg;
    return 0;
}

static BIO *open_pem(int field, const char *file, struct content *c, struct err *e)
{
    if (read_file(field, file, c, e))
        return NULL;
    BIO *bio = BIO_new_mem_buf(c->p, (int)c->len);
    if (!bio)
        err_set(e, ERR_IO, tls_fields[field], "out of memory");
    return bio;
}

/* True when the last certificate was followed by the end and not by a broken one. */
static bool at_end(void)
{
    unsigned long code = ERR_peek_last_error();
    bool end = ERR_GET_LIB(code) == ERR_LIB_PEM && ERR_GET_REASON(code) == PEM_R_NO_START_LINE;
    if (end)
        ERR_clear_error();
    return end;
}

/* The server's certificate, then those between it and its authority. */
static bool take_chain(SSL_CTX *ctx, BIO *bio)
{
    X509 *x = PEM_read_bio_X509_AUX(bio, NULL, no_passphrase, NULL);
    bool ok = x && SSL_CTX_use_certificate(ctx, x) == 1;
    X509_free(x);
    while (ok && (x = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL))) {
        ok = SSL_CTX_add0_chain_cert(ctx, x) == 1;
        if (!ok)
            X509_free(x);
    }
    return ok && at_end();
}

static int load_cert(SSL_CTX *ctx, const char *file, struct err *e)
{
    autocontent struct content c = {0};
    BIO *bio = open_pem(TLS_CERT, file, &c, e);
    if (!bio)
        return -1;
    bool ok = take_chain(ctx, bio);
    BIO_free(bio);
    return ok ? 0 : refuse(e, TLS_CERT, file, "cannot use the certificate in");
}

static int load_key(SSL_CTX *ctx, const char *file, struct err *e)
{
    autocontent struct content c = {0};
    BIO *bio = open_pem(TLS_KEY, file, &c, e);
    if (!bio)
        return -1;
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL);
    bool ok = key && SSL_CTX_use_PrivateKey(ctx, key) == 1;
    EVP_PKEY_free(key);
    BIO_free(bio);
    return ok ? 0 : refuse(e, TLS_KEY, file, "cannot use the private key in");
}

/* Certificates of authorities, which clients are told of, too. */
static bool take_authorities(SSL_CTX *ctx, BIO *bio)
{
    X509_STORE *store = SSL_CTX_get_cert_store(ctx);
    unsigned n = 0;
    bool ok = true;
    for (X509 *x; ok && (x = PEM_read_bio_X509_AUX(bio, NULL, no_passphrase, NULL)); n++) {
        ok = X509_STORE_add_cert(store, x) == 1 && SSL_CTX_add_client_CA(ctx, x) == 1;
        X509_free(x);
    }
    return ok && n && at_end();
}

static int load_ca(SSL_CTX *ctx, const char *file, struct err *e)
{
    autocontent struct content c = {0};
    BIO *bio = open_pem(TLS_CA, file, &c, e);
    if (!bio)
        return -1;
    bool ok = take_authorities(ctx, bio);
    BIO_free(bio);
    return ok ? 0 : refuse(e, TLS_CA, file, "cannot use the authorities in");
}

int tls_files_load(SSL_CTX *ctx, char *const file[TLS_FILES], struct err *e)
{
    ERR_clear_error();
    if (file[TLS_CERT] && (load_cert(ctx, file[TLS_CERT], e) || load_key(ctx, file[TLS_KEY], e)))
        return -1;
    if (file[TLS_CERT] && SSL_CTX_check_private_key(ctx) != 1)
        return refuse(e, TLS_KEY, file[TLS_KEY], "the certificate has another key than that in");
    if (file[TLS_CA] && load_ca(ctx, file[TLS_CA], e))
        return -1;
    return file[TLS_PSK] ? load_psks(ctx, file[TLS_PSK], e) : 0;
}
