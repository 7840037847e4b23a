/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/rand.h>

#include "base/mem.h"
#include "base/secret.h"
#include "control/iscsi_acl.h"
#include "control/shows.h"
#include "targets/iscsi/iscsi.h"

/*
 * Access to iSCSI targets. Saved: "acl/IQN/INITIATOR" {"chap_user", "mutual_user",
 * "chap_secret_ref", "mutual_secret_ref", "lun_map"}, and in a line with it
 * "secret/acl/IQN/INITIATOR" {"chap_secret", "mutual_secret"}: what is shown, listed or told in a
 * configuration is never made from a "secret/" key. Discovery has "discovery-auth/iscsi" and
 * "secret/discovery-auth/iscsi" alike.
 */
static const char *const user_fields[] = {"chap_user", "mutual_user"};
static const char *const secret_fields[] = {"chap_secret", "mutual_secret"};
static const char *const ref_fields[] = {"chap_secret_ref", "mutual_secret_ref"};

static void take_fields(struct json_object *to, struct json_object *from,
                        const char *const names[2])
{
    for (unsigned i = 0; i < 2; i++)
        if (*get_str(from, names[i]))
            put_str(to, names[i], get_str(from, names[i]));
}

static struct json_object *map_of(struct json_object *o)
{
    struct json_object *map = NULL;
    json_object_object_get_ex(o, "lun_map", &map);
    return map && json_object_array_length(map) ? map : NULL;
}

static void put_map(struct json_object *o, struct json_object *map)
{
    if (map)
        json_object_object_add(o, "lun_map", map);
}

struct json_object *secrets_of(const char *kind, const char *name)
{
    char key[KEY_MAX];
    state_key(key, kind, name, NULL);
    return state_get("secret", key);
}

/* ---- secrets that stand elsewhere */

enum { ISCSI_SECRET_TEXT = sizeof((struct iscsi_auth *)0)->secret };

struct reading {
    const char *ref, *field;
    char *text;
    int rc;
    struct err *e;
};

static void read_helper(void *arg)
{
    struct reading *r = arg;
    r->rc = secret_read(r->ref, r->field, r->text, ISCSI_SECRET_TEXT, r->e);
}

static int read_ref(struct json_object *users, unsigned i, char *text, struct err *e)
{
    struct err own;
    struct reading r = {get_str(users, ref_fields[i]), ref_fields[i], text, 0, e ? e : &own};
    if (*r.ref)
        task_help(read_helper, &r);
    return r.rc;
}

/* Nobody knows this one: who is meant to prove something does not get in without. */
static void bar(char *text)
{
    unsigned char bytes[24];
    if (RAND_bytes(bytes, sizeof bytes) != 1)
        abort(); /* an open door would be worse */
    for (unsigned i = 0; i < sizeof bytes; i++)
        sprintf(text + 2 * i, "%02x", bytes[i]);
}

/* A secret that cannot be read bars the way, and is the error. Waits. */
static int to_auth(struct json_object *users, struct json_object *secrets,
                   struct iscsi_auth *auth_r, struct err *e)
{
    char *const text[] = {auth_r->secret, auth_r->mutual_secret};
    int rc = 0;
    snprintf(auth_r->user, sizeof auth_r->user, "%s", get_str(users, "chap_user"));
    snprintf(auth_r->mutual_user, sizeof auth_r->mutual_user, "%s", get_str(users, "mutual_user"));
    for (unsigned i = 0; i < 2; i++) {
        snprintf(text[i], ISCSI_SECRET_TEXT, "%s", get_str(secrets, secret_fields[i]));
        if (read_ref(users, i, text[i], e)) {
            bar(text[i]);
            rc = -1;
        }
    }
    return rc;
}

static int check_refs(const struct opts *o, struct err *e)
{
    for (unsigned i = 0; i < 2; i++) {
        const char *ref = opts_str(o, ref_fields[i]), *secret = opts_str(o, secret_fields[i]);
        if (!ref || !*ref)
            continue;
        if (secret_check(ref, ref_fields[i], e))
            return -1;
        if (secret && *secret)
            return err_set(e, ERR_INVALID, ref_fields[i], "%s and %s do not go together",
                           ref_fields[i], secret_fields[i]);
    }
    return 0;
}

static struct json_object *given(const struct opts *o)
{
    struct json_object *all = json_object_new_object();
    for (unsigned i = 0; i < 2; i++) {
        put_str(all, user_fields[i], opts_str(o, user_fields[i]));
        put_str(all, secret_fields[i], opts_str(o, secret_fields[i]));
        put_str(all, ref_fields[i], opts_str(o, ref_fields[i]));
    }
    put_map(all, lun_map_given(o));
    return all;
}

/* Users and secrets in one line of the journal; `all` NULL deletes them. */
static int save(const char *kind, const char *name, struct json_object *all, struct err *e)
{
    char key[KEY_MAX], secret[KEY_MAX + 8];
    state_key(key, kind, name, NULL);
    snprintf(secret, sizeof secret, "secret/%s", key);
    struct json_object *users = all ? json_object_new_object() : NULL,
                       *secrets = all ? json_object_new_object() : NULL;
    if (all) {
        take_fields(users, all, user_fields);
        take_fields(users, all, ref_fields);
        take_fields(secrets, all, secret_fields);
        put_map(users, json_object_get(map_of(all)));
    }
    bool none = secrets && !json_object_object_length(secrets);
    struct journal_change c[] = {{key, users}, {secret, none ? NULL : secrets}};
    /* Nothing is written of secrets that there never were. */
    unsigned n = (all && !none) || journal_get(control.journal, secret) ? 2 : 1;
    int rc = journal_apply(control.journal, c, n, e);
    json_object_put(users);
    json_object_put(secrets);
    return rc;
}

/* The same again is no change; a secret that is left out is kept. */
static int compare_field(const char *what, const char *name, const char *field,
                         struct json_object *all, struct json_object *users, struct err *e)
{
    const char *want = get_str(all, field), *have = get_str(users, field);
    if (!strcmp(want, have))
        return 0;
    return differs(e, what, name, field, *have ? have : "not set", *want ? want : "not set");
}

static int compare(const char *what, const char *name, struct json_object *all,
                   struct json_object *users, struct json_object *secrets, struct err *e)
{
    for (unsigned i = 0; i < 2; i++) {
        if (compare_field(what, name, user_fields[i], all, users, e) ||
            compare_field(what, name, ref_fields[i], all, users, e))
            return -1;
        const char *want = get_str(all, secret_fields[i]);
        if (*want && !secret_equal(want, get_str(secrets, secret_fields[i])))
            return differs(e, what, name, secret_fields[i], "another one", "the one given");
    }
    struct json_object *have = map_of(users), *want = map_of(all);
    if (json_object_equal(have, want))
        return 0;
    return differs(e, what, name, "lun_map", have ? json_object_get_string(have) : "not set",
                   want ? json_object_get_string(want) : "not set");
}

/* What is given over what is saved; a user that is given empty takes its secret along, and a secret
 * and a reference to one take the place of each other. */
static struct json_object *merged(const struct opts *o, struct json_object *users,
                                  struct json_object *secrets)
{
    struct json_object *all = json_object_new_object();
    for (unsigned i = 0; i < 2; i++) {
        bool user = opts_is_set(o, user_fields[i]), secret = opts_is_set(o, secret_fields[i]),
             ref = opts_is_set(o, ref_fields[i]);
        const char *name = user ? opts_str(o, user_fields[i]) : get_str(users, user_fields[i]);
        bool keep = *name && !secret && !ref;
        put_str(all, user_fields[i], name);
        put_str(all, secret_fields[i],
                secret ? opts_str(o, secret_fields[i])
                : keep ? get_str(secrets, secret_fields[i])
                       : "");
        put_str(all, ref_fields[i],
                ref    ? opts_str(o, ref_fields[i])
                : keep ? get_str(users, ref_fields[i])
                       : "");
    }
    bool map = opts_find(o->table, "lun_map") && opts_is_set(o, "lun_map");
    put_map(all, map ? lun_map_given(o) : json_object_get(map_of(users)));
    return all;
}

/* ---- access lists */

static void show_users(struct json_object *o, struct json_object *record)
{
    for (unsigned i = 0; i < 2; i++) {
        put_str(o, user_fields[i], get_str(record, user_fields[i]));
        put_str(o, ref_fields[i], get_str(record, ref_fields[i]));
    }
}

static struct json_object *show_acl(const char *initiator, struct json_object *record)
{
    struct json_object *o = json_object_new_object();
    put_str(o, "initiator", initiator);
    show_users(o, record);
    struct json_object *map = map_of(record);
    json_object_object_add(o, "lun_map", map ? json_object_get(map) : json_object_new_array());
    return o;
}

static void acl_name(const struct schema_match *m, char name[KEY_MAX])
{
    snprintf(name, KEY_MAX, "%s/%s", schema_param(m, "iqn"), schema_param(m, "initiator"));
}

SHOW(acl)
{
    char name[KEY_MAX];
    acl_name(m, name);
    struct json_object *record = state_get("acl", name);
    return record ? show_acl(schema_param(m, "initiator"), record) : NULL;
}

static void list_acl(const char *key, struct json_object *record, void *arg)
{
    json_object_array_add(arg, show_acl(strrchr(key, '/') + 1, record));
}

LIST(acl)
{
    char prefix[KEY_MAX];
    (void)o;
    if (need_target(m, e))
        return -1;
    state_key(prefix, "acl", schema_param(m, "iqn"), "");
    journal_for_each(control.journal, prefix, list_acl, items);
    return 0;
}

/* Nobody logs in between the two: nothing here waits before the map is there. */
/* `barred_r`: the secret cannot be read; the initiator is listed, and cannot log in. NULL: then it
 * is not listed at all. */
static int add_acl(const char *iqn, const char *initiator, struct json_object *users,
                   struct json_object *secrets, bool *barred_r, struct err *e)
{
    struct iscsi_auth auth = {0};
    autofree struct scsi_map *map = NULL;
    if (lun_map_parse(map_of(users), &map, e))
        return -1;
    bool barred = to_auth(users, secrets, &auth, e);
    if (barred_r)
        *barred_r = barred;
    else if (barred)
        return -1;
    if (barred)
        e = NULL; /* it tells of that */
    int rc = iscsi_acl_add(iqn, initiator, &auth, e);
    if (!rc) /* without a map, too: sessions may still have that of an entry before */
        rc = iscsi_acl_set_map(iqn, initiator, map, e);
    OPENSSL_cleanse(&auth, sizeof auth);
    return rc;
}

static int new_acl(const char *iqn, const char *initiator, const char *name,
                   struct json_object *all, struct err *e)
{
    if (strlen(initiator) > ISCSI_NAME_MAX)
        return err_set(e, ERR_INVALID, "initiator",
                       "initiator is %zu bytes long; expected at most %d", strlen(initiator),
                       ISCSI_NAME_MAX);
    int rc = add_acl(iqn, initiator, all, all, NULL, e);
    if (!rc && save("acl", name, all, e)) {
        iscsi_acl_remove(iqn, initiator, true, NULL);
        rc = -1;
    }
    return rc;
}

static int set_acl(const struct verb_run *v, const char *name, struct json_object *all,
                   struct err *e)
{
    const char *iqn = verb_param(v, "iqn"), *initiator = verb_param(v, "initiator");
    struct iscsi_auth auth = {0};
    autofree struct scsi_map *map = NULL;
    int rc = to_auth(all, all, &auth, e) || iscsi_auth_check(&auth, e) ||
                     lun_map_parse(map_of(all), &map, e)
                 ? -1
                 : 0;
    bool remaps = !json_object_equal(map_of(all), map_of(state_get("acl", name)));
    if (!rc)
        rc = save("acl", name, all, e) || iscsi_acl_set_auth(iqn, initiator, &auth, e) ||
                     (remaps && iscsi_acl_set_map(iqn, initiator, map, e))
                 ? -1
                 : 0;
    if (!rc)
        reason_set("acl", name, NULL);
    OPENSSL_cleanse(&auth, sizeof auth);
    return rc;
}

int acl_verb(struct verb_run *v, struct err *e)
{
    char name[KEY_MAX];
    acl_name(v->match, name);
    if (check_refs(v->opts, e))
        return -1;
    struct json_object *all = given(v->opts);
    v->changed = !v->existing;
    int rc = v->existing ? compare("ACL", name, all, v->existing, secrets_of("acl", name), e)
                         : new_acl(verb_param(v, "iqn"), verb_param(v, "initiator"), name, all, e);
    /* One whose secret could not be read may be asked for again. */
    if (!rc && v->existing && *reason_get("acl", name))
        rc = set_acl(v, name, all, e);
    json_object_put(all);
    return rc;
}

int acl_set_verb(struct verb_run *v, struct err *e)
{
    char name[KEY_MAX];
    acl_name(v->match, name);
    if (check_refs(v->opts, e))
        return -1;
    struct json_object *users = state_get("acl", name), *secrets = secrets_of("acl", name),
                       *all = merged(v->opts, users, secrets);
    v->changed = compare("ACL", name, all, users, secrets, NULL);
    int rc = v->changed ? set_acl(v, name, all, e) : 0;
    json_object_put(all);
    return rc;
}

int unacl_verb(struct verb_run *v, struct err *e)
{
    char name[KEY_MAX];
    acl_name(v->match, name);
    if (iscsi_acl_remove(verb_param(v, "iqn"), verb_param(v, "initiator"),
                         verb_flag(v, "disconnect"), e))
        return -1;
    reason_set("acl", name, NULL);
    return save("acl", name, NULL, e);
}

int acl_start(const char *name, struct json_object *record, struct err *e)
{
    char iqn[KEY_MAX];
    snprintf(iqn, sizeof iqn, "%.*s", (int)strcspn(name, "/"), name);
    bool barred = false;
    int rc = add_acl(iqn, strchr(name, '/') + 1, record, secrets_of("acl", name), &barred, e);
    return barred ? -1 : rc;
}

/* ---- discovery */

SHOW(discovery_auth)
{
    (void)m;
    struct json_object *record = state_get("discovery-auth", "iscsi");
    struct json_object *o = json_object_new_object();
    show_users(o, record);
    return o;
}

static int apply_discovery(struct json_object *all, struct err *e)
{
    struct iscsi_auth auth = {0};
    int rc = to_auth(all, all, &auth, e) || iscsi_auth_check(&auth, e) ||
                     save("discovery-auth", "iscsi", all, e) || iscsi_discovery_auth(&auth, e)
                 ? -1
                 : 0;
    if (!rc)
        reason_set("discovery-auth", "iscsi", NULL);
    OPENSSL_cleanse(&auth, sizeof auth);
    return rc;
}

int discovery_set_verb(struct verb_run *v, struct err *e)
{
    if (check_refs(v->opts, e))
        return -1;
    struct json_object *users = state_get("discovery-auth", "iscsi"),
                       *secrets = secrets_of("discovery-auth", "iscsi"),
                       *all = merged(v->opts, users, secrets);
    int rc = 0;
    bool put = !strcmp(v->match->verb->method, "PUT");
    v->changed = compare("discovery-auth", "iscsi", all, users, secrets, NULL);
    if (v->changed && put && users)
        rc = need_match(v, e);
    if (v->changed && !rc)
        rc = apply_discovery(all, e);
    json_object_put(all);
    return rc;
}

int discovery_remove_verb(struct verb_run *v, struct err *e)
{
    (void)v;
    reason_set("discovery-auth", "iscsi", NULL);
    return save("discovery-auth", "iscsi", NULL, e) || iscsi_discovery_auth(NULL, e) ? -1 : 0;
}

int discovery_start(struct err *e)
{
    struct iscsi_auth auth = {0};
    struct json_object *users = state_get("discovery-auth", "iscsi");
    if (!users)
        return 0;
    bool barred = to_auth(users, secrets_of("discovery-auth", "iscsi"), &auth, e);
    int rc = iscsi_discovery_auth(&auth, barred ? NULL : e);
    OPENSSL_cleanse(&auth, sizeof auth);
    return barred ? -1 : rc;
}

/* ---- references are read again when the daemon is told to reload */

static void collect_refs(const char *key, struct json_object *record, void *arg)
{
    if (*get_str(record, ref_fields[0]) || *get_str(record, ref_fields[1]))
        json_object_object_add(arg, strchr(key, '/') + 1, json_object_get(record));
}

static void reread(const char *name, struct json_object *record)
{
    struct iscsi_auth auth = {0};
    struct err e = {0};
    autofree char *iqn = xasprintf("%.*s", (int)strcspn(name, "/"), name);
    struct key_lock *lock;
    char key[KEY_MAX];
    snprintf(key, sizeof key, "iqn:%s", iqn);
    lock = key_lock(key);
    /* What cannot be read now stays as it was. */
    if (state_get("acl", name) && !to_auth(record, secrets_of("acl", name), &auth, &e) &&
        !iscsi_auth_check(&auth, &e) && !iscsi_acl_set_auth(iqn, strchr(name, '/') + 1, &auth, &e))
        e.msg[0] = 0;
    reason_set("acl", name, e.msg);
    key_unlock(&lock);
    OPENSSL_cleanse(&auth, sizeof auth);
}

static void reread_discovery(void)
{
    struct iscsi_auth auth = {0};
    struct err e = {0};
    struct key_lock *lock = key_lock("discovery");
    struct json_object *users = state_get("discovery-auth", "iscsi"),
                       *secrets = secrets_of("discovery-auth", "iscsi");
    if (*get_str(users, ref_fields[0]) || *get_str(users, ref_fields[1])) {
        if (!to_auth(users, secrets, &auth, &e) && !iscsi_auth_check(&auth, &e) &&
            !iscsi_discovery_auth(&auth, &e))
            e.msg[0] = 0;
        reason_set("discovery-auth", "iscsi", e.msg);
    }
    key_unlock(&lock);
    OPENSSL_cleanse(&auth, sizeof auth);
}

void control_reread_secrets(void)
{
    struct json_object *records = json_object_new_object();
    journal_for_each(control.journal, "acl/", collect_refs, records);
    json_object_object_foreach(records, name, record)
    {
        reread(name, record);
    }
    json_object_put(records);
    reread_discovery();
}
