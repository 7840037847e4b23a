/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>
#include <string.h>

#include <openssl/sha.h>

#include "control/private.h"
#include "control/shows.h"

/* The items of the API: how each is shown, listed, locked and told apart. */

static const char *const no_keys[] = {NULL};
static const char *const device_live[] = {"users", NULL};
static const char *const array_live[] = {"users",      "events",     "sync_action", "sync_done",
                                         "sync_total", "sync_saved", "sync_rate",   "sync_limit",
                                         "sync_eta",   "client_p99", "sync_job",    NULL};
static const char *const pool_live[] = {"seqno", "free", "volume_count", NULL};
static const char *const volume_live[] = {"users", NULL};
static const char *const export_live[] = {"connections", "size", "state", "reason", NULL};
static const char *const target_live[] = {"sessions", NULL};
static const char *const lun_live[] = {"size", "state", "reason", NULL};
static const char *const session_live[] = {"inflight",   "reads",         "writes",
                                           "read_bytes", "written_bytes", NULL};
static const char *const token_live[] = {"expired", NULL};
static const char *const system_live[] = {"counts", "state_generation", NULL};
static const char *const job_live[] = {"done", "total", "rate", "eta", NULL};

static const struct resource resources[] = {
    {"/v1/devices/{name}", "/v1/devices", "name", show_of_device, list_of_device, lock_name,
     device_live, "device", NULL},
    {"/v1/arrays/{name}", "/v1/arrays", "name", show_of_array, list_of_array, lock_name, array_live,
     "array", NULL},
    {"/v1/pools/{name}", "/v1/pools", "name", show_of_pool, list_of_pool, lock_name, pool_live,
     "pool", NULL},
    {"/v1/pools/{pool}/volumes/{volume}", "/v1/pools/{pool}/volumes", "name", show_of_volume,
     list_of_volume, lock_pool, volume_live, "volume", need_pool},
    {NULL, "/v1/volumes", "name", NULL, list_of_volume, NULL, NULL, "volume", NULL},
    {"/v1/nbd/listeners/{addr}", "/v1/nbd/listeners", "addr", show_of_listener, list_of_listener,
     lock_addr, no_keys, "listener", NULL},
    {"/v1/nbd/exports/{name}", "/v1/nbd/exports", "name", show_of_export, list_of_export,
     lock_export, export_live, "export", NULL},
    {"/v1/iscsi/portals/{addr}", "/v1/iscsi/portals", "addr", show_of_portal, list_of_portal,
     lock_addr, no_keys, "portal", NULL},
    {"/v1/iscsi/targets/{iqn}", "/v1/iscsi/targets", "iqn", show_of_target, list_of_target,
     lock_iqn, target_live, "target", NULL},
    {"/v1/iscsi/targets/{iqn}/luns/{lun}", "/v1/iscsi/targets/{iqn}/luns", "lun", show_of_lun,
     list_of_lun, lock_iqn, lun_live, "LUN", need_target},
    {"/v1/iscsi/targets/{iqn}/acls/{initiator}", "/v1/iscsi/targets/{iqn}/acls", "initiator",
     show_of_acl, list_of_acl, lock_iqn, no_keys, "ACL", need_target},
    {"/v1/iscsi/targets/{iqn}/groups/{group}", "/v1/iscsi/targets/{iqn}/groups", "group",
     show_of_group, list_of_group, lock_iqn, no_keys, "target port group", need_target},
    {"/v1/iscsi/discovery-auth", "", "", show_of_discovery_auth, NULL, lock_discovery, no_keys,
     "discovery authentication", NULL},
    {"/v1/sessions/{id}", "/v1/sessions", "id", show_of_session, list_of_session, lock_session,
     session_live, "session", NULL},
    {"/v1/jobs/{id}", "/v1/jobs", "id", show_of_job, list_of_job, lock_job, job_live, "job", NULL},
    {"/v1/tokens/{name}", "/v1/tokens", "name", show_of_token, list_of_token, lock_token,
     token_live, "token", NULL},
    {"/v1/system", "", "", show_of_system, NULL, lock_config, system_live, "system", NULL},
    {"/v1/system/log", "", "", show_of_log, NULL, lock_config, no_keys, "log level", NULL},
    {"/v1/config", "", "", show_of_config, NULL, lock_config, no_keys, "configuration", NULL},
    {NULL, "/v1/events", "id", NULL, list_of_event, NULL, NULL, "event", NULL},
    {NULL, "/v1/system/inflight", "offset", NULL, list_of_inflight, NULL, NULL, "I/O", NULL},
};

const struct resource *resource_of_item(const char *path)
{
    for (unsigned i = 0; i < sizeof resources / sizeof *resources; i++)
        if (resources[i].item && !strcmp(resources[i].item, path))
            return &resources[i];
    return NULL;
}

const struct resource *resource_of_collection(const char *path)
{
    for (unsigned i = 0; i < sizeof resources / sizeof *resources; i++)
        if (!strcmp(resources[i].collection, path))
            return &resources[i];
    return NULL;
}

static bool is_live(const struct resource *r, const char *key)
{
    for (const char *const *l = r->live; *l; l++)
        if (!strcmp(*l, key))
            return true;
    return false;
}

void resource_etag(const struct resource *r, struct json_object *object,
                   char etag[CONTROL_ETAG_MAX])
{
    struct json_object *copy = json_object_new_object();
    json_object_object_foreach(object, key, value)
    {
        /* An array goes from clean to active and back with every burst of writes. */
        bool flips = r->item && !strcmp(key, "state") &&
                     !strcmp(json_object_get_string(value), "active") && !strcmp(r->what, "array");
        if (!is_live(r, key))
            json_object_object_add(
                copy, key, flips ? json_object_new_string("clean") : json_object_get(value));
    }
    const char *text = json_object_to_json_string_ext(copy, JSON_C_TO_STRING_PLAIN);
    unsigned char sum[SHA256_DIGEST_LENGTH];
    SHA256((const unsigned char *)text, strlen(text), sum);
    json_object_put(copy);
    char *p = etag;
    *p++ = '"';
    for (unsigned i = 0; i < 16; i++)
        p += sprintf(p, "%02x", sum[i]);
    strcpy(p, "\"");
}

static void lock_as(const struct schema_match *m, const char *space, const char *param,
                    char key[KEY_MAX])
{
    snprintf(key, KEY_MAX, "%s:%s", space, schema_param(m, param));
}

void lock_name(const struct schema_match *m, char key[KEY_MAX])
{
    lock_as(m, "name", "name", key);
}

void lock_pool(const struct schema_match *m, char key[KEY_MAX])
{
    lock_as(m, "name", "pool", key);
}

void lock_addr(const struct schema_match *m, char key[KEY_MAX])
{
    lock_as(m, "addr", "addr", key);
}

void lock_export(const struct schema_match *m, char key[KEY_MAX])
{
    lock_as(m, "export", "name", key);
}

void lock_iqn(const struct schema_match *m, char key[KEY_MAX])
{
    lock_as(m, "iqn", "iqn", key);
}

void lock_discovery(const struct schema_match *m, char key[KEY_MAX])
{
    (void)m;
    snprintf(key, KEY_MAX, "discovery");
}

void lock_session(const struct schema_match *m, char key[KEY_MAX])
{
    lock_as(m, "session", "id", key);
}

void lock_job(const struct schema_match *m, char key[KEY_MAX])
{
    lock_as(m, "job", "id", key);
}

void lock_config(const struct schema_match *m, char key[KEY_MAX])
{
    (void)m;
    strcpy(key, "config");
}

void lock_token(const struct schema_match *m, char key[KEY_MAX])
{
    lock_as(m, "token", "name", key);
}
