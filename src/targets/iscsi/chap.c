/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "targets/iscsi/chap.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include "base/secret.h"

/* IANA's registry of CHAP algorithms for iSCSI; the strongest first. */
static const struct algorithm {
    unsigned number;
    const char *name; /* OpenSSL's */
    size_t len;
} algorithms[] = {
    {8, "SHA3-256", 32},
    {7, "SHA256", 32},
    {6, "SHA1", 20},
    {5, "MD5", 16},
};
enum { ALGORITHMS = sizeof algorithms / sizeof *algorithms };

static const struct algorithm *by_number(unsigned number)
{
    for (unsigned i = 0; i < ALGORITHMS; i++) {
        if (algorithms[i].number == number)
            return &algorithms[i];
    }
    return NULL;
}

size_t chap_digest_len(unsigned algorithm)
{
    const struct algorithm *a = by_number(algorithm);
    return a ? a->len : 0;
}

bool chap_digest(unsigned algorithm, uint8_t id, const char *secret, const uint8_t *challenge,
                 size_t len, uint8_t out[CHAP_DIGEST_MAX])
{
    const struct algorithm *a = by_number(algorithm);
    EVP_MD *md = a ? EVP_MD_fetch(NULL, a->name, NULL) : NULL;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    unsigned n = 0;
    bool ok = md && ctx && EVP_DigestInit_ex(ctx, md, NULL) && EVP_DigestUpdate(ctx, &id, 1) &&
              EVP_DigestUpdate(ctx, secret, strlen(secret)) &&
              EVP_DigestUpdate(ctx, challenge, len) && EVP_DigestFinal_ex(ctx, out, &n);
    EVP_MD_CTX_free(ctx);
    EVP_MD_free(md);
    return ok && n == a->len;
}

/* ---- values */

static int hex(const char *p, uint8_t *out, size_t max)
{
    size_t n = strlen(p), len = (n + 1) / 2;
    if (!n || len > max || strspn(p, "0123456789abcdefABCDEF") != n)
        return -1;
    memset(out, 0, len);
    for (size_t i = 0; i < n; i++) {
        size_t at = i + (n & 1); /* an odd number of digits begins with half a byte */
        int digit =
            isdigit((unsigned char)p[i]) ? p[i] - '0' : tolower((unsigned char)p[i]) - 'a' + 10;
        out[at / 2] = (uint8_t)(out[at / 2] << 4 | digit);
    }
    return (int)len;
}

static int base64(const char *p, uint8_t *out, size_t max)
{
    static const char set[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t n = strlen(p), pad = 0;
    while (pad < 2 && pad < n && p[n - pad - 1] == '=')
        pad++;
    if (!n || n % 4 || n / 4 * 3 - pad > max)
        return -1;
    uint32_t bits = 0;
    size_t have = 0;
    for (size_t i = 0; i < n - pad; i++) {
        const char *at = strchr(set, p[i]);
        if (!at)
            return -1;
        bits = bits << 6 | (uint32_t)(at - set);
        if (i % 4 != 0)
            out[have++] = (uint8_t)(bits >> (6 - 2 * (i % 4)));
    }
    return (int)have;
}

int chap_binary(const char *value, uint8_t *out, size_t max)
{
    if (value[0] != '0')
        return -1;
    switch (value[1]) {
    case 'x':
    case 'X': return hex(value + 2, out, max);
    case 'b':
    case 'B': return base64(value + 2, out, max);
    default: return -1;
    }
}

static bool add_binary(struct text *reply, const char *key, const uint8_t *p, size_t len)
{
    char digits[2 * CHAP_DIGEST_MAX + 1];
    for (size_t i = 0; i < len; i++)
        snprintf(digits + 2 * i, 3, "%02x", p[i]);
    return text_add(reply, key, "0x%s", digits);
}

/* ---- the machine */

int chap_key(struct chap_keys *k, const char *key, const char *value)
{
    const char **at = !strcmp(key, "CHAP_A")   ? &k->algorithm
                      : !strcmp(key, "CHAP_I") ? &k->id
                      : !strcmp(key, "CHAP_C") ? &k->challenge
                      : !strcmp(key, "CHAP_N") ? &k->name
                      : !strcmp(key, "CHAP_R") ? &k->response
                                               : NULL;
    if (!at)
        return 0;
    if (*at)
        return -1;
    *at = value;
    return 1;
}

void chap_begin(struct chap *c)
{
    *c = (struct chap){.state = CHAP_ALGORITHM};
}

/* The strongest of the initiator's that we have, whatever its order. */
static const struct algorithm *choose(const char *list)
{
    const struct algorithm *best = NULL;
    if (strlen(list) > CHAP_ALGORITHM_LIST)
        return NULL;
    for (const char *p = list; p; p = strchr(p, ',')) {
        char number[12];
        unsigned n;
        p += *p == ',';
        snprintf(number, sizeof number, "%.*s", (int)strcspn(p, ","), p);
        const struct algorithm *a = text_number(number, &n) ? by_number(n) : NULL;
        if (a && (!best || a < best))
            best = a;
    }
    return best;
}

static enum chap_result challenge(struct chap *c, const struct chap_keys *k, struct text *reply)
{
    if (!k->algorithm || k->id || k->challenge || k->name || k->response)
        return CHAP_MALFORMED;
    const struct algorithm *a = choose(k->algorithm);
    if (!a)
        return CHAP_REFUSED;
    c->algorithm = a->number;
    if (RAND_bytes(&c->id, 1) != 1 || RAND_bytes(c->challenge, (int)a->len) != 1)
        return CHAP_REFUSED;
    c->state = CHAP_ANSWER;
    bool fits = text_add(reply, "CHAP_A", "%u", a->number) &&
                text_add(reply, "CHAP_I", "%u", c->id) &&
                add_binary(reply, "CHAP_C", c->challenge, a->len);
    return fits ? CHAP_OK : CHAP_MALFORMED;
}

static bool authentic(const struct chap *c, const struct iscsi_auth *auth, const char *name,
                      const uint8_t *response, int len)
{
    uint8_t want[CHAP_DIGEST_MAX] = {0};
    size_t digest = chap_digest_len(c->algorithm);
    bool same_name = secret_equal(name, auth->user);
    bool ok = chap_digest(c->algorithm, c->id, auth->secret, c->challenge, digest, want) &&
              len == (int)digest && !CRYPTO_memcmp(want, response, digest);
    OPENSSL_cleanse(want, sizeof want);
    return ok && same_name;
}

/* The initiator wants us to prove ourselves too. */
static enum chap_result prove(const struct chap *c, const struct iscsi_auth *auth,
                              const struct chap_keys *k, struct text *reply)
{
    uint8_t theirs[CHAP_BINARY_MAX], proof[CHAP_DIGEST_MAX];
    unsigned id;
    size_t digest = chap_digest_len(c->algorithm);
    int len = chap_binary(k->challenge, theirs, sizeof theirs);
    if (len <= 0 || !text_number(k->id, &id) || id > 255)
        return CHAP_MALFORMED;
    /* Our own challenge sent back is to make us answer it: 12.1.3 has it that this ends the login.
     */
    if (len == (int)digest && !CRYPTO_memcmp(theirs, c->challenge, digest))
        return CHAP_REFUSED;
    if (!*auth->mutual_user)
        return CHAP_REFUSED; /* we have nothing to prove it with */
    if (!chap_digest(c->algorithm, (uint8_t)id, auth->mutual_secret, theirs, (size_t)len, proof))
        return CHAP_REFUSED;
    bool fits = text_add(reply, "CHAP_N", "%s", auth->mutual_user) &&
                add_binary(reply, "CHAP_R", proof, digest);
    return fits ? CHAP_OK : CHAP_MALFORMED;
}

static enum chap_result answer(struct chap *c, const struct iscsi_auth *auth,
                               const struct chap_keys *k, struct text *reply)
{
    uint8_t response[CHAP_BINARY_MAX];
    if (k->algorithm || !k->name || !k->response || !k->id != !k->challenge)
        return CHAP_MALFORMED;
    int len = chap_binary(k->response, response, sizeof response);
    if (len < 0)
        return CHAP_MALFORMED;
    if (!authentic(c, auth, k->name, response, len))
        return CHAP_REFUSED;
    enum chap_result result = k->challenge ? prove(c, auth, k, reply) : CHAP_OK;
    if (result == CHAP_OK)
        c->state = CHAP_PASSED;
    return result;
}

enum chap_result chap_step(struct chap *c, const struct iscsi_auth *auth, const struct chap_keys *k,
                           struct text *reply)
{
    bool any = k->algorithm || k->id || k->challenge || k->name || k->response;
    if (!any)
        return CHAP_OK;
    switch (c->state) {
    case CHAP_ALGORITHM: return challenge(c, k, reply);
    case CHAP_ANSWER: return answer(c, auth, k, reply);
    case CHAP_OFF:
    case CHAP_PASSED: break;
    }
    return CHAP_MALFORMED;
}
