/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/event.h"
#include "control/iscsi_acl.h"
#include "control/shows.h"
#include "control/start.h"
#include "targets/iscsi/iscsi.h"
#include "targets/scsi/scsi.h"

/*
 * Access states of a target's port groups (ALUA). Saved: "alua/IQN/GROUP" {"state", "by_host"}, by
 * whoever sets it, the API or a host with SET TARGET PORT GROUPS; a group without a record is
 * optimized. Such a command comes while a verb may hold the target's lock and wait for the session
 * to end, so that it takes none: the device server lets one change of a target in at a time.
 */

static void group_name(const char *iqn, unsigned group, char name[KEY_MAX])
{
    snprintf(name, KEY_MAX, "%s/%u", iqn, group);
}

/* 0: no number that a group may have */
static unsigned group_number(const char *text)
{
    char *end;
    if (*text < '1' || *text > '9')
        return 0;
    unsigned long n = strtoul(text, &end, 10);
    return *end || n > ISCSI_GROUP_MAX ? 0 : (unsigned)n;
}

/* ---- showing: groups that have a portal, and those whose state was set */

struct portals {
    unsigned group;
    struct json_object *list;
};

static void add_portal(const char *key, struct json_object *record, void *arg)
{
    const struct portals *p = arg;
    if (portal_group(record) == p->group)
        json_object_array_add(p->list, json_object_new_string(strchr(key, '/') + 1));
}

static struct json_object *show_group(const char *iqn, unsigned group)
{
    char name[KEY_MAX];
    group_name(iqn, group, name);
    struct json_object *record = state_get("alua", name), *o;
    struct portals p = {group, json_object_new_array()};
    journal_for_each(control.journal, "portal/", add_portal, &p);
    if (!record && !json_object_array_length(p.list)) {
        json_object_put(p.list);
        return NULL;
    }
    o = json_object_new_object();
    put_u64(o, "group", group);
    put_str(o, "state", record ? get_str(record, "state") : scsi_alua_name(SCSI_ALUA_OPTIMIZED));
    put_str(o, "set_by", !record ? "" : get_bool(record, "by_host") ? "host" : "administrator");
    json_object_object_add(o, "portals", p.list);
    return o;
}

SHOW(group)
{
    const char *iqn = schema_param(m, "iqn");
    unsigned group = group_number(schema_param(m, "group"));
    return group && state_get("target", iqn) ? show_group(iqn, group) : NULL;
}

LIST(group)
{
    (void)o;
    if (need_target(m, e))
        return -1;
    for (unsigned group = 1; group <= ISCSI_GROUP_MAX; group++) {
        struct json_object *one = show_group(schema_param(m, "iqn"), group);
        if (one)
            json_object_array_add(items, one);
    }
    return 0;
}

/* ---- keeping */

static struct json_object *record_of(const struct scsi_group *g)
{
    if (g->by_default)
        return NULL; /* deletes the key */
    struct json_object *record = json_object_new_object();
    put_str(record, "state", scsi_alua_name(g->state));
    put_bool(record, "by_host", g->by_host);
    return record;
}

static const char *why(const struct scsi_group *g)
{
    if (g->by_default)
        return "its state was given up";
    return g->by_host ? "a host set it" : "the administrator set it";
}

/* In a task on main, the target locked in the device server. */
int alua_keep(const char *iqn, const struct scsi_group *groups, unsigned count, struct err *e)
{
    struct journal_change c[ISCSI_GROUP_MAX] = {{0}};
    char key[ISCSI_GROUP_MAX][KEY_MAX], object[96];
    for (unsigned i = 0; i < count; i++) {
        char name[KEY_MAX];
        group_name(iqn, groups[i].group, name);
        state_key(key[i], "alua", name, NULL);
        c[i] = (struct journal_change){key[i], record_of(&groups[i])};
    }
    int rc = journal_apply(control.journal, c, count, e);
    snprintf(object, sizeof object, "target %.80s", iqn);
    for (unsigned i = 0; i < count; i++) {
        json_object_put(c[i].value);
        if (!rc)
            event_raise(object, "access-state", "target port group %u of %s is %s: %s",
                        groups[i].group, iqn, scsi_alua_name(groups[i].state), why(&groups[i]));
    }
    return rc;
}

static int to_group(unsigned group, struct json_object *record, struct scsi_group *group_r,
                    struct err *e)
{
    *group_r = (struct scsi_group){.group = group, .by_host = get_bool(record, "by_host")};
    if (scsi_alua_parse(get_str(record, "state"), &group_r->state))
        return 0;
    return err_set(e, ERR_INVALID, "state", "the saved state '%.40s' is not known",
                   get_str(record, "state"));
}

int alua_start(const char *name, struct json_object *record, struct err *e)
{
    char iqn[KEY_MAX];
    struct scsi_group g;
    snprintf(iqn, sizeof iqn, "%.*s", (int)strcspn(name, "/"), name);
    return to_group(group_number(strchr(name, '/') + 1), record, &g, e) ||
                   iscsi_alua_restore(iqn, &g, e)
               ? -1
               : 0;
}

/* ---- verbs */

static int need_group(const struct verb_run *v, unsigned *group_r, struct err *e)
{
    const char *text = verb_param(v, "group");
    *group_r = group_number(text);
    if (*group_r)
        return 0;
    return err_set(e, ERR_INVALID, "group", "group is '%.20s'; expected a number from 1 to %d",
                   text, ISCSI_GROUP_MAX);
}

int alua_verb(struct verb_run *v, struct err *e)
{
    struct scsi_group g = {0};
    const char *state = opts_str(v->opts, "state");
    if (need_group(v, &g.group, e))
        return -1;
    scsi_alua_parse(state, &g.state); /* one of the table's choices */
    /* What a host set is the administrator's from now on, even if it is the same. */
    v->changed = !v->existing || strcmp(get_str(v->existing, "state"), state) ||
                 strcmp(get_str(v->existing, "set_by"), "administrator");
    bool was_set = v->existing && *get_str(v->existing, "set_by");
    if (v->changed && was_set && need_match(v, e))
        return -1;
    return v->changed ? iscsi_alua_set(verb_param(v, "iqn"), &g, e) : 0;
}

int unalua_verb(struct verb_run *v, struct err *e)
{
    char name[KEY_MAX];
    struct scsi_group g = {.state = SCSI_ALUA_OPTIMIZED, .by_default = true};
    if (need_group(v, &g.group, e))
        return -1;
    group_name(verb_param(v, "iqn"), g.group, name);
    if (!state_get("alua", name)) {
        v->changed = false;
        return 0;
    }
    return iscsi_alua_set(verb_param(v, "iqn"), &g, e);
}
