/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/token.h"

#include <inttypes.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "control/shows.h"

/*
 * Tokens: "orion_NAME_SECRET". Saved is "token/NAME": {"role", "hash", "created_ms", "expires_ms"}.
 * SECRET is 256 random bits, so that one SHA-256 keeps it as safe as a slow hash would: there is
 * nothing to guess.
 */
enum { SECRET_BYTES = 32, HASH_TEXT = 2 * SHA256_DIGEST_LENGTH + 1 };

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void hash_of(const char *text, char out[HASH_TEXT])
{
    unsigned char sum[SHA256_DIGEST_LENGTH];
    SHA256((const unsigned char *)text, strlen(text), sum);
    for (unsigned i = 0; i < sizeof sum; i++)
        sprintf(out + 2 * i, "%02x", sum[i]);
}

static struct json_object *show_token(const char *name, struct json_object *record)
{
    struct json_object *o = json_object_new_object();
    put_str(o, "name", name);
    put_str(o, "role", get_str(record, "role"));
    put_time(o, "created", get_u64(record, "created_ms"));
    put_time(o, "expires", get_u64(record, "expires_ms"));
    put_bool(o, "expired", get_u64(record, "expires_ms") <= now_ms());
    return o;
}

uint64_t control_token_made(const struct control_who *who)
{
    static const char prefix[] = "token:";
    if (strncmp(who->name, prefix, sizeof prefix - 1) != 0)
        return UINT64_MAX;
    struct json_object *record = state_get("token", who->name + sizeof prefix - 1);
    return record && get_u64(record, "expires_ms") > now_ms() ? get_u64(record, "created_ms") : 0;
}

SHOW(token)
{
    const char *name = schema_param(m, "name");
    struct json_object *record = state_get("token", name);
    return record ? show_token(name, record) : NULL;
}

static void list_one(const char *key, struct json_object *record, void *arg)
{
    json_object_array_add(arg, show_token(strchr(key, '/') + 1, record));
}

LIST(token)
{
    (void)m, (void)o, (void)e;
    journal_for_each(control.journal, "token/", list_one, items);
    return 0;
}

enum { DAY_MS = 86400000 };

/* Days that are not given are those that it has. */
static int compare(const struct verb_run *v, struct json_object *record, struct err *e)
{
    const char *name = verb_param(v, "name"), *role = opts_str(v->opts, "role");
    uint64_t days = (get_u64(record, "expires_ms") - get_u64(record, "created_ms")) / DAY_MS,
             wanted = opts_is_set(v->opts, "days") ? opts_u64(v->opts, "days") : days;
    if (strcmp(get_str(record, "role"), role) != 0)
        return differs(e, "token", name, "role", get_str(record, "role"), role);
    if (days == wanted)
        return 0;
    char have[24], want[24];
    snprintf(have, sizeof have, "%" PRIu64, days);
    snprintf(want, sizeof want, "%" PRIu64, wanted);
    return differs(e, "token", name, "days", have, want);
}

static int token_add(struct verb_run *v, struct err *e)
{
    const char *name = verb_param(v, "name"), *role = opts_str(v->opts, "role");
    unsigned char bytes[SECRET_BYTES];
    char secret[2 * SECRET_BYTES + 1], hash[HASH_TEXT];
    if (v->existing) {
        v->changed = false;
        return compare(v, state_get("token", name), e);
    }
    if (!bdev_name_valid(name))
        return err_set(e, ERR_INVALID, "name",
                       "name is '%.40s'; expected a letter or digit, then letters, digits, '_', "
                       "'.', '-', at most 32 in all",
                       name);
    if (RAND_bytes(bytes, sizeof bytes) != 1)
        return err_set(e, ERR_INTERNAL, "", "no random numbers are to be had");
    for (unsigned i = 0; i < sizeof bytes; i++)
        sprintf(secret + 2 * i, "%02x", bytes[i]);
    autofree char *token = xasprintf("orion_%s_%s", name, secret);
    hash_of(token, hash);
    struct json_object *record = json_object_new_object();
    put_str(record, "role", role);
    put_str(record, "hash", hash);
    uint64_t now = now_ms();
    put_u64(record, "created_ms", now);
    put_u64(record, "expires_ms", now + opts_u64(v->opts, "days") * DAY_MS);
    int rc = state_put("token", name, record, e);
    if (!rc) {
        v->reply = show_token(name, record);
        put_str(v->reply, "token", token);
        put_bool(v->reply, "changed", true);
    }
    json_object_put(record);
    OPENSSL_cleanse(secret, sizeof secret);
    OPENSSL_cleanse(bytes, sizeof bytes);
    return rc;
}

static int token_remove(struct verb_run *v, struct err *e)
{
    return state_del("token", verb_param(v, "name"), e);
}

static bool role_of(const char *text, enum control_role *role_r)
{
    for (enum control_role r = ROLE_VIEWER; r <= ROLE_ADMIN; r++)
        if (!strcmp(text, control_role_name(r))) {
            *role_r = r;
            return true;
        }
    return false;
}

bool control_token_check(const char *secret, struct control_who *who, enum control_role *role_r)
{
    char name[40] = "", hash[HASH_TEXT];
    const char *last = strrchr(secret, '_');
    if (strncmp(secret, "orion_", 6) || last < secret + 7 || last - secret - 6 > 32)
        return false;
    snprintf(name, sizeof name, "%.*s", (int)(last - secret - 6), secret + 6);
    struct json_object *record = control.journal ? state_get("token", name) : NULL;
    hash_of(secret, hash);
    const char *want = record ? get_str(record, "hash") : "";
    char padded[HASH_TEXT] = "";
    snprintf(padded, sizeof padded, "%s", want);
    bool good = !CRYPTO_memcmp(padded, hash, sizeof hash);
    if (!good || get_u64(record, "expires_ms") <= now_ms() ||
        !role_of(get_str(record, "role"), role_r))
        return false;
    snprintf(who->name, sizeof who->name, "token:%s", name);
    return true;
}

const struct verb_entry token_verbs[] = {
    {"token", "add", token_add},
    {"token", "remove", token_remove},
    {NULL, NULL, NULL},
};
