/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "control/iscsi_acl.h"
#include "control/listen.h"
#include "control/shows.h"
#include "control/start.h"
#include "targets/iscsi/iscsi.h"

/*
 * iSCSI. Saved: "portal/ADDR" {"group"}, "target/IQN" {"alias", "open", "max_connections"},
 * "lun/IQN/N" {"device", "provisioning", "read_only", "identity", "size", "block_size"}; access in
 * iscsi_acl.c. A LUN is a record of its own, so that the thousandth costs what the first did.
 */

/* ---- portals */

/* Records of before there were groups have none. */
unsigned portal_group(struct json_object *record)
{
    uint64_t group = get_u64(record, "group");
    return group ? (unsigned)group : 1;
}

static int portal_start(const char *addr, struct json_object *record, struct err *e)
{
    return iscsi_portal_add(addr, portal_group(record), e);
}

const struct listening iscsi_listening = {"portal", iscsi_portal_for_each, portal_start,
                                          iscsi_portal_remove};

static struct json_object *show_portal(const char *addr)
{
    struct json_object *o = listening_show(&iscsi_listening, addr);
    put_u64(o, "group", portal_group(state_get("portal", addr)));
    return o;
}

SHOW(portal)
{
    const char *addr = schema_param(m, "addr");
    return state_get("portal", addr) ? show_portal(addr) : NULL;
}

static void list_portal(const char *key, struct json_object *record, void *arg)
{
    (void)record;
    json_object_array_add(arg, show_portal(strchr(key, '/') + 1));
}

LIST(portal)
{
    (void)m, (void)o, (void)e;
    journal_for_each(control.journal, "portal/", list_portal, items);
    return 0;
}

static int portal_add(struct verb_run *v, struct err *e)
{
    const char *addr = verb_param(v, "addr");
    unsigned group = (unsigned)opts_u64(v->opts, "group");
    if (v->existing && portal_group(v->existing) != group) {
        char have[8], want[8];
        snprintf(have, sizeof have, "%u", portal_group(v->existing));
        snprintf(want, sizeof want, "%u", group);
        return differs(e, "portal", addr, "group", have, want);
    }
    struct json_object *record = json_object_new_object();
    put_u64(record, "group", group);
    int rc = listening_add(v, &iscsi_listening, record, e);
    json_object_put(record);
    return rc;
}

static int portal_remove(struct verb_run *v, struct err *e)
{
    return listening_remove(v, &iscsi_listening, e);
}

/* ---- logical units */

static struct json_object *show_lun(const struct iscsi_lun_info *info)
{
    struct json_object *o = json_object_new_object();
    put_u64(o, "lun", info->lun);
    put_str(o, "device", info->device);
    put_str(o, "state", info->ready ? "ready" : info->failed ? "failed" : "not-ready");
    put_str(o, "reason", info->ready ? "" : info->why);
    put_u64(o, "size", info->size);
    put_u64(o, "block_size", info->block_size);
    put_str(o, "provisioning", info->thin ? "thin" : "full");
    put_bool(o, "read_only", info->read_only);
    put_str(o, "naa", info->naa);
    put_str(o, "serial", info->serial);
    return o;
}

/* -1: no number that a LUN may have */
static long lun_number(const char *text)
{
    char *end;
    if (!isdigit((unsigned char)*text) || (text[0] == '0' && text[1]))
        return -1;
    long n = strtol(text, &end, 10);
    return *end || n > ISCSI_LUN_MAX ? -1 : n;
}

/* One that is saved and could not be started. */
static struct json_object *show_saved_lun(const char *iqn, unsigned n)
{
    char name[KEY_MAX];
    snprintf(name, sizeof name, "%s/%u", iqn, n);
    struct json_object *record = state_get("lun", name);
    struct iscsi_lun_info info = {.lun = n, .read_only = get_bool(record, "read_only")};
    if (!record)
        return NULL;
    snprintf(info.device, sizeof info.device, "%s", get_str(record, "device"));
    snprintf(info.why, sizeof info.why, "%s", reason_get("lun", name));
    info.size = get_u64(record, "size");
    info.block_size = (uint32_t)get_u64(record, "block_size");
    info.thin = !strcmp(get_str(record, "provisioning"), "thin");
    return show_lun(&info);
}

SHOW(lun)
{
    long n = lun_number(schema_param(m, "lun"));
    struct iscsi_lun_info info;
    if (n < 0)
        return NULL;
    if (iscsi_lun_get(schema_param(m, "iqn"), (unsigned)n, &info))
        return show_lun(&info);
    return show_saved_lun(schema_param(m, "iqn"), (unsigned)n);
}

static void list_lun(const struct iscsi_lun_info *info, void *arg)
{
    json_object_array_add(arg, show_lun(info));
}

int need_target(const struct schema_match *m, struct err *e)
{
    const char *iqn = schema_param(m, "iqn");
    if (state_get("target", iqn))
        return 0;
    return err_set(e, ERR_NOT_FOUND, "iqn", "there is no target %s", iqn);
}

LIST(lun)
{
    (void)o;
    if (need_target(m, e))
        return -1;
    iscsi_lun_for_each(schema_param(m, "iqn"), list_lun, items);
    return 0;
}

int lun_start(const char *iqn, unsigned lun, struct json_object *record, struct err *e)
{
    const char *provisioning = get_str(record, "provisioning");
    struct iscsi_lun_args args = {.lun = lun,
                                  .device = get_str(record, "device"),
                                  .thin = !strcmp(provisioning, "thin"),
                                  .provisioning_given = *provisioning,
                                  .read_only = get_bool(record, "read_only"),
                                  .saved_size = get_u64(record, "size"),
                                  .saved_block_size = (uint32_t)get_u64(record, "block_size")};
    if (!uuid_parse(get_str(record, "identity"), &args.identity))
        return err_set(e, ERR_INTERNAL, "", "the saved record has no identity");
    return iscsi_lun_add(iqn, &args, e);
}

static struct json_object *lun_record(const struct opts *o)
{
    struct json_object *record = json_object_new_object();
    put_str(record, "device", opts_str(o, "device"));
    put_str(record, "provisioning", opts_str(o, "provisioning"));
    put_bool(record, "read_only", opts_bool(o, "read_only"));
    return record;
}

/* Identity and size as they are now; at start-up they stand in while the device is absent. */
static void add_identity(struct json_object *record)
{
    struct bdev_info info;
    char text[UUID_TEXT];
    if (!bdev_name_info(get_str(record, "device"), &info))
        return;
    put_str(record, "identity", uuid_format(&info.uuid, text));
    put_u64(record, "size", info.size);
    put_u64(record, "block_size", info.block_size);
}

struct size_change {
    const char *device;
    struct json_object *records; /* new ones, by key */
    uint64_t size;
};

static void change_size(const char *key, struct json_object *record, void *arg)
{
    struct size_change *c = arg;
    struct json_object *copy = NULL;
    if (strcmp(get_str(record, "device"), c->device) || get_u64(record, "size") == c->size ||
        json_object_deep_copy(record, &copy, NULL))
        return;
    put_u64(copy, "size", c->size);
    json_object_object_add(c->records, key, copy);
}

void luns_note_size(const char *device)
{
    struct bdev_info info;
    struct err e;
    if (!bdev_name_info(device, &info))
        return;
    struct size_change c = {device, json_object_new_object(), info.size};
    journal_for_each(control.journal, "lun/", change_size, &c);
    json_object_object_foreach(c.records, key, record)
    {
        /* The verb is done all the same: the saved size only stands in for an absent device. */
        if (journal_put(control.journal, key, record, &e))
            log_warn("control", "%s", e.msg);
    }
    json_object_put(c.records);
}

/* The same provisioning may have been chosen by default. */
static int compare_lun(const char *name, struct json_object *want, struct json_object *existing,
                       struct err *e)
{
    if (!*get_str(want, "provisioning"))
        json_object_object_del(want, "provisioning");
    return compare_records("LUN", name, existing, want, e);
}

static int lun_verb(struct verb_run *v, struct err *e)
{
    const char *iqn = verb_param(v, "iqn");
    long n = lun_number(verb_param(v, "lun"));
    char name[KEY_MAX];
    if (n < 0)
        return err_set(e, ERR_INVALID, "lun", "lun is '%.20s'; expected a number from 0 to %d",
                       verb_param(v, "lun"), ISCSI_LUN_MAX);
    snprintf(name, sizeof name, "%s/%ld", iqn, n);
    struct json_object *record = lun_record(v->opts);
    int rc;
    if (v->existing) {
        v->changed = false;
        rc = compare_lun(name, record, v->existing, e);
        json_object_put(record);
        return rc;
    }
    rc = check_device(get_str(record, "device"), e);
    if (!rc) {
        add_identity(record);
        rc = lun_start(iqn, (unsigned)n, record, e);
    }
    /* What was chosen by default holds from now on, whatever stands below later. */
    struct iscsi_lun_info info;
    if (!rc && iscsi_lun_get(iqn, (unsigned)n, &info))
        put_str(record, "provisioning", info.thin ? "thin" : "full");
    if (!rc && state_put("lun", name, record, e)) {
        struct target_left left;
        iscsi_lun_remove(iqn, (unsigned)n, true, &left, NULL);
        rc = -1;
    }
    json_object_put(record);
    return rc;
}

static int unlun_verb(struct verb_run *v, struct err *e)
{
    const char *iqn = verb_param(v, "iqn");
    char name[KEY_MAX];
    long n = lun_number(verb_param(v, "lun"));
    struct iscsi_lun_info info;
    struct target_left left = {""};
    if (iscsi_lun_get(iqn, (unsigned)n, &info) &&
        iscsi_lun_remove(iqn, (unsigned)n, verb_flag(v, "disconnect"), &left, e))
        return -1;
    snprintf(name, sizeof name, "%s/%ld", iqn, n);
    if (state_del("lun", name, e))
        return -1;
    reply_note(v, left.text);
    return 0;
}

/* ---- targets */

static void add_acl_name(const char *initiator, void *arg)
{
    json_object_array_add(arg, json_object_new_string(initiator));
}

/* Records of before sessions could have several connections say nothing of them. */
static struct iscsi_target_args target_args(struct json_object *record)
{
    unsigned connections = (unsigned)get_u64(record, "max_connections");
    return (struct iscsi_target_args){
        .alias = get_str(record, "alias"),
        .open_access = get_bool(record, "open"),
        .max_connections = connections ? connections : 1,
    };
}

static struct json_object *show_target(const char *iqn, struct json_object *record)
{
    struct json_object *o = json_object_new_object(), *luns = json_object_new_array(),
                       *acls = json_object_new_array();
    struct iscsi_target_info info = {0};
    iscsi_target_get(iqn, &info);
    iscsi_lun_for_each(iqn, list_lun, luns);
    iscsi_acl_for_each(iqn, add_acl_name, acls);
    put_str(o, "iqn", iqn);
    put_str(o, "alias", get_str(record, "alias"));
    put_bool(o, "open", get_bool(record, "open"));
    put_u64(o, "max_connections", target_args(record).max_connections);
    put_str(o, "reason", reason_get("target", iqn));
    json_object_object_add(o, "luns", luns);
    json_object_object_add(o, "acls", acls);
    put_u64(o, "sessions", info.session_count);
    return o;
}

SHOW(target)
{
    const char *iqn = schema_param(m, "iqn");
    struct json_object *record = state_get("target", iqn);
    return record ? show_target(iqn, record) : NULL;
}

static void list_target(const char *key, struct json_object *record, void *arg)
{
    json_object_array_add(arg, show_target(strchr(key, '/') + 1, record));
}

LIST(target)
{
    (void)m, (void)o, (void)e;
    journal_for_each(control.journal, "target/", list_target, items);
    return 0;
}

int target_start(const char *iqn, struct json_object *record, struct err *e)
{
    struct iscsi_target_args args = target_args(record);
    return iscsi_target_add(iqn, &args, e);
}

static int compare_target(const char *iqn, struct json_object *want, struct err *e)
{
    struct json_object *record = state_get("target", iqn);
    char have[16], now[16];
    snprintf(have, sizeof have, "%u", target_args(record).max_connections);
    snprintf(now, sizeof now, "%u", target_args(want).max_connections);
    if (strcmp(have, now) != 0)
        return differs(e, "target", iqn, "max_connections", have, now);
    json_object_object_del(want, "max_connections");
    return compare_records("target", iqn, record, want, e);
}

static int create_verb(struct verb_run *v, struct err *e)
{
    const char *iqn = verb_param(v, "iqn");
    struct json_object *record = json_object_new_object();
    put_str(record, "alias", opts_str(v->opts, "alias"));
    put_bool(record, "open", opts_bool(v->opts, "open"));
    put_u64(record, "max_connections", opts_u64(v->opts, "max_connections"));
    int rc;
    if (v->existing) {
        v->changed = false;
        rc = compare_target(iqn, record, e);
    } else {
        rc = strlen(iqn) > ISCSI_NAME_MAX
                 ? err_set(e, ERR_INVALID, "iqn", "iqn is %zu bytes long; expected at most %d",
                           strlen(iqn), ISCSI_NAME_MAX)
                 : target_start(iqn, record, e);
        if (!rc && state_put("target", iqn, record, e)) {
            struct target_left left;
            iscsi_target_remove(iqn, true, &left, NULL);
            rc = -1;
        }
    }
    json_object_put(record);
    return rc;
}

static int set_target(const char *iqn, struct json_object *record, struct err *e)
{
    struct iscsi_target_args args = target_args(record);
    return iscsi_target_set(iqn, &args, e);
}

static int target_set_verb(struct verb_run *v, struct err *e)
{
    const char *iqn = verb_param(v, "iqn");
    struct json_object *have = json_object_get(state_get("target", iqn));
    struct json_object *want = patched(have, v->opts, &v->changed);
    int rc = v->changed ? set_target(iqn, want, e) : 0;
    if (!rc && v->changed && (rc = state_put("target", iqn, want, e)))
        set_target(iqn, have, NULL);
    json_object_put(have);
    json_object_put(want);
    return rc;
}

/* The records of a target's LUNs and access list go with it, in one line of the journal. */
struct part_keys {
    char prefix[KEY_MAX];
    char **key;
    unsigned n;
};

static void collect_key(const char *key, struct json_object *record, void *arg)
{
    struct part_keys *p = arg;
    (void)record;
    p->key = xrealloc(p->key, (p->n + 1) * sizeof *p->key);
    p->key[p->n++] = xstrdup(key);
}

static int forget_target(const char *iqn, struct err *e)
{
    struct part_keys p = {.n = 0};
    char own[KEY_MAX];
    state_key(p.prefix, "lun", iqn, "");
    journal_for_each(control.journal, p.prefix, collect_key, &p);
    state_key(p.prefix, "acl", iqn, "");
    journal_for_each(control.journal, p.prefix, collect_key, &p);
    state_key(p.prefix, "secret/acl", iqn, "");
    journal_for_each(control.journal, p.prefix, collect_key, &p);
    state_key(p.prefix, "alua", iqn, "");
    journal_for_each(control.journal, p.prefix, collect_key, &p);
    state_key(own, "target", iqn, NULL);
    struct journal_change *c = xcalloc(p.n + 1, sizeof *c);
    for (unsigned i = 0; i < p.n; i++)
        c[i].key = p.key[i];
    c[p.n].key = own;
    int rc = journal_apply(control.journal, c, p.n + 1, e);
    for (unsigned i = 0; i < p.n; i++)
        free(p.key[i]);
    free(p.key);
    free(c);
    return rc;
}

struct parts_text {
    char text[300];
    size_t used;
    unsigned n;
};

static void name_part(const char *key, struct json_object *record, void *arg)
{
    enum { NAMED = 8 };
    struct parts_text *t = arg;
    (void)record;
    if (t->n++ < NAMED && t->used < sizeof t->text)
        t->used += (size_t)snprintf(t->text + t->used, sizeof t->text - t->used, "%s%s",
                                    t->n > 1 ? ", " : "", strrchr(key, '/') + 1);
    else if (t->n == NAMED + 1 && t->used < sizeof t->text)
        t->used += (size_t)snprintf(t->text + t->used, sizeof t->text - t->used, ", ...");
}

/* What goes with a target is told: its LUNs and access list are nobody else's, and no data. */
static void note_parts(struct json_object *notes, const char *iqn, const char *kind,
                       const char *what)
{
    struct parts_text t = {.n = 0};
    char prefix[KEY_MAX];
    state_key(prefix, kind, iqn, "");
    journal_for_each(control.journal, prefix, name_part, &t);
    autofree char *text = xasprintf("with it went %u %s: %s", t.n, what, t.text);
    if (t.n)
        json_object_array_add(notes, json_object_new_string(text));
}

static struct json_object *parting_notes(const char *iqn)
{
    struct json_object *notes = json_object_new_array();
    note_parts(notes, iqn, "lun", "LUNs");
    note_parts(notes, iqn, "acl", "entries of its access list");
    note_parts(notes, iqn, "alua", "target port groups");
    if (json_object_array_length(notes))
        return notes;
    json_object_put(notes);
    return NULL;
}

static int delete_verb(struct verb_run *v, struct err *e)
{
    const char *iqn = verb_param(v, "iqn");
    struct iscsi_target_info info;
    struct target_left left = {""};
    if (iscsi_target_get(iqn, &info) &&
        iscsi_target_remove(iqn, verb_flag(v, "disconnect"), &left, e))
        return -1;
    reason_set("target", iqn, NULL);
    struct json_object *notes = parting_notes(iqn);
    if (forget_target(iqn, e)) {
        json_object_put(notes);
        return -1;
    }
    if (notes) {
        v->reply = json_object_new_object();
        put_bool(v->reply, "changed", true);
        json_object_object_add(v->reply, "notes", notes);
    }
    reply_note(v, left.text);
    return 0;
}

const struct verb_entry iscsi_verbs[] = {
    {"iscsi", "portal add", portal_add},
    {"iscsi", "portal remove", portal_remove},
    {"iscsi", "create", create_verb},
    {"iscsi", "set", target_set_verb},
    {"iscsi", "delete", delete_verb},
    {"iscsi", "lun", lun_verb},
    {"iscsi", "unlun", unlun_verb},
    {"iscsi", "acl", acl_verb},
    {"iscsi", "acl-set", acl_set_verb},
    {"iscsi", "acl-patch", acl_set_verb},
    {"iscsi", "unacl", unacl_verb},
    {"iscsi", "alua", alua_verb},
    {"iscsi", "unalua", unalua_verb},
    {"iscsi", "discovery-auth set", discovery_set_verb},
    {"iscsi", "discovery-auth patch", discovery_set_verb},
    {"iscsi", "discovery-auth remove", discovery_remove_verb},
    {NULL, NULL, NULL},
};
