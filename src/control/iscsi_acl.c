/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>
#include <string.h>

#include <openssl/crypto.h>

#include "base/mem.h"
#include "control/iscsi_acl.h"
#include "control/shows.h"
#include "targets/iscsi/iscsi.h"

/*
 * Access to iSCSI targets. Saved: "acl/IQN/INITIATOR" {"chap_user", "mutual_user", "lun_map"}, and
 * in a line with it "secret/acl/IQN/INITIATOR" {"chap_secret", "mutual_secret"}: what is shown,
 * listed or told in a configuration is never made from a "secret/" key. Discovery has
 * "discovery-auth/iscsi" and "secret/discovery-auth/iscsi" alike.
 */
static const char *const user_fields[] = {"chap_user", "mutual_user"};
static const char *const secret_fields[] = {"chap_secret", "mutual_secret"};

static struct json_object *fields_of(struct json_object *from, const char *const names[2])
{
    struct json_object *o = json_object_new_object();
    for (unsigned i = 0; i < 2; i++) {
        if (*get_str(from, names[i]))
            put_str(o, names[i], get_str(from, names[i]));
    }
    return o;
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

static void to_auth(struct json_object *users, struct json_object *secrets,
                    struct iscsi_auth *auth_r)
{
    snprintf(auth_r->user, sizeof auth_r->user, "%s", get_str(users, "chap_user"));
    snprintf(auth_r->mutual_user, sizeof auth_r->mutual_user, "%s", get_str(users, "mutual_user"));
    snprintf(auth_r->secret, sizeof auth_r->secret, "%s", get_str(secrets, "chap_secret"));
    snprintf(auth_r->mutual_secret, sizeof auth_r->mutual_secret, "%s",
             get_str(secrets, "mutual_secret"));
}

static struct json_object *given(const struct opts *o)
{
    struct json_object *all = json_object_new_object();
    for (unsigned i = 0; i < 2; i++) {
        put_str(all, user_fields[i], opts_str(o, user_fields[i]));
        put_str(all, secret_fields[i], opts_str(o, secret_fields[i]));
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
    struct json_object *users = all ? fields_of(all, user_fields) : NULL,
                       *secrets = all ? fields_of(all, secret_fields) : NULL;
    if (users)
        put_map(users, json_object_get(map_of(all)));
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
static int compare(const char *what, const char *name, struct json_object *all,
                   struct json_object *users, struct json_object *secrets, struct err *e)
{
    for (unsigned i = 0; i < 2; i++) {
        const char *want = get_str(all, user_fields[i]), *have = get_str(users, user_fields[i]);
        if (strcmp(want, have) != 0)
            return differs(e, what, name, user_fields[i], *have ? have : "not set",
                           *want ? want : "not set");
        want = get_str(all, secret_fields[i]);
        if (*want && strcmp(want, get_str(secrets, secret_fields[i])) != 0)
            return differs(e, what, name, secret_fields[i], "another one", "the one given");
    }
    struct json_object *have = map_of(users), *want = map_of(all);
    if (json_object_equal(have, want))
        return 0;
    return differs(e, what, name, "lun_map", have ? json_object_get_string(have) : "not set",
                   want ? json_object_get_string(want) : "not set");
}

/* What is given over what is saved; a user that is given empty takes its secret along. */
static struct json_object *merged(const struct opts *o, struct json_object *users,
                                  struct json_object *secrets)
{
    struct json_object *all = json_object_new_object();
    for (unsigned i = 0; i < 2; i++) {
        bool user = opts_is_set(o, user_fields[i]), secret = opts_is_set(o, secret_fields[i]);
        const char *name = user ? opts_str(o, user_fields[i]) : get_str(users, user_fields[i]);
        put_str(all, user_fields[i], name);
        put_str(all, secret_fields[i],
                secret  ? opts_str(o, secret_fields[i])
                : *name ? get_str(secrets, secret_fields[i])
                        : "");
    }
    bool map = opts_find(o->table, "lun_map") && opts_is_set(o, "lun_map");
    put_map(all, map ? lun_map_given(o) : json_object_get(map_of(users)));
    return all;
}

/* ---- access lists */

static struct json_object *show_acl(const char *initiator, struct json_object *record)
{
    struct json_object *o = json_object_new_object();
    put_str(o, "initiator", initiator);
    for (unsigned i = 0; i < 2; i++)
        put_str(o, user_fields[i], get_str(record, user_fields[i]));
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
static int add_acl(const char *iqn, const char *initiator, struct json_object *users,
                   struct json_object *secrets, struct err *e)
{
    struct iscsi_auth auth = {0};
    autofree struct scsi_map *map = NULL;
    if (lun_map_parse(map_of(users), &map, e))
        return -1;
    to_auth(users, secrets, &auth);
    int rc = iscsi_acl_add(iqn, initiator, &auth, e) ||
                     (map && iscsi_acl_set_map(iqn, initiator, map, e))
                 ? -1
                 : 0;
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
    int rc = add_acl(iqn, initiator, all, all, e);
    if (!rc && save("acl", name, all, e)) {
        iscsi_acl_remove(iqn, initiator, NULL);
        rc = -1;
    }
    return rc;
}

int acl_verb(struct verb_run *v, struct err *e)
{
    char name[KEY_MAX];
    if (need_target(v->match, e))
        return -1;
    acl_name(v->match, name);
    struct json_object *all = given(v->opts);
    v->changed = !v->existing;
    int rc = v->existing ? compare("ACL", name, all, v->existing, secrets_of("acl", name), e)
                         : new_acl(verb_param(v, "iqn"), verb_param(v, "initiator"), name, all, e);
    json_object_put(all);
    return rc;
}

static int set_acl(const struct verb_run *v, const char *name, struct json_object *all,
                   struct err *e)
{
    const char *iqn = verb_param(v, "iqn"), *initiator = verb_param(v, "initiator");
    struct iscsi_auth auth = {0};
    autofree struct scsi_map *map = NULL;
    to_auth(all, all, &auth);
    int rc = iscsi_auth_check(&auth, e) || lun_map_parse(map_of(all), &map, e) ? -1 : 0;
    bool remaps = !json_object_equal(map_of(all), map_of(state_get("acl", name)));
    if (!rc)
        rc = save("acl", name, all, e) || iscsi_acl_set_auth(iqn, initiator, &auth, e) ||
                     (remaps && iscsi_acl_set_map(iqn, initiator, map, e))
                 ? -1
                 : 0;
    OPENSSL_cleanse(&auth, sizeof auth);
    return rc;
}

int acl_set_verb(struct verb_run *v, struct err *e)
{
    char name[KEY_MAX];
    acl_name(v->match, name);
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
    if (iscsi_acl_remove(verb_param(v, "iqn"), verb_param(v, "initiator"), e))
        return -1;
    reason_set("acl", name, NULL);
    return save("acl", name, NULL, e);
}

int acl_start(const char *name, struct json_object *record, struct err *e)
{
    char iqn[KEY_MAX];
    snprintf(iqn, sizeof iqn, "%.*s", (int)strcspn(name, "/"), name);
    return add_acl(iqn, strchr(name, '/') + 1, record, secrets_of("acl", name), e);
}

/* ---- discovery */

SHOW(discovery_auth)
{
    (void)m;
    struct json_object *record = state_get("discovery-auth", "iscsi");
    struct json_object *o = json_object_new_object();
    for (unsigned i = 0; i < 2; i++)
        put_str(o, user_fields[i], get_str(record, user_fields[i]));
    return o;
}

static int apply_discovery(struct json_object *all, struct err *e)
{
    struct iscsi_auth auth = {0};
    to_auth(all, all, &auth);
    int rc = iscsi_auth_check(&auth, e) || save("discovery-auth", "iscsi", all, e) ||
                     iscsi_discovery_auth(&auth, e)
                 ? -1
                 : 0;
    OPENSSL_cleanse(&auth, sizeof auth);
    return rc;
}

int discovery_set_verb(struct verb_run *v, struct err *e)
{
    struct json_object *users = state_get("discovery-auth", "iscsi"),
                       *secrets = secrets_of("discovery-auth", "iscsi"),
                       *all = merged(v->opts, users, secrets);
    int rc = 0;
    v->changed = compare("discovery-auth", "iscsi", all, users, secrets, NULL);
    if (v->changed)
        rc = apply_discovery(all, e);
    json_object_put(all);
    return rc;
}

int discovery_remove_verb(struct verb_run *v, struct err *e)
{
    (void)v;
    return save("discovery-auth", "iscsi", NULL, e) || iscsi_discovery_auth(NULL, e) ? -1 : 0;
}

int discovery_start(struct err *e)
{
    struct iscsi_auth auth = {0};
    struct json_object *users = state_get("discovery-auth", "iscsi");
    if (!users)
        return 0;
    to_auth(users, secrets_of("discovery-auth", "iscsi"), &auth);
    int rc = iscsi_discovery_auth(&auth, e);
    OPENSSL_cleanse(&auth, sizeof auth);
    return rc;
}
