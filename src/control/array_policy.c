/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/array_policy.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "control/shows.h"

/*
 * How an array syncs and what it forgives its members. The fields stand in its record, as they were
 * given; who has none of them is as raid_policy_defaults says. "member_options" are texts:
 * DEVICE:timeout=MS and DEVICE:read_errors_max=N.
 */
static const char *const fields[] = {"sync_latency",   "sync_rate_min",   "sync_rate_max",
                                     "member_timeout", "read_errors_max", "member_options"};
enum { FIELDS = sizeof fields / sizeof *fields };

static struct json_object *field_of(struct json_object *record, const char *field)
{
    struct json_object *v = NULL;
    json_object_object_get_ex(record, field, &v);
    return v;
}

static void read_policy(struct json_object *record, struct raid_policy *p)
{
    raid_policy_defaults(p);
    if (field_of(record, "sync_latency"))
        p->latency_us = (uint32_t)get_u64(record, "sync_latency") * 1000;
    if (field_of(record, "sync_rate_min"))
        p->rate_min = get_u64(record, "sync_rate_min");
    p->rate_max = get_u64(record, "sync_rate_max");
    p->timeout_ms = (uint32_t)get_u64(record, "member_timeout");
    if (field_of(record, "read_errors_max"))
        p->read_errors_max = (uint32_t)get_u64(record, "read_errors_max");
}

/* ---- options of members */

static bool take_number(const char *text, const char *name, bool *has_r, uint32_t *value_r)
{
    size_t n = strlen(name);
    char *end;
    if (strncmp(text, name, n) != 0 || text[n] != '=' || text[n + 1] < '0' || text[n + 1] > '9')
        return false;
    unsigned long v = strtoul(text + n + 1, &end, 10);
    if (*end || v > ARRAY_NUMBER_MAX)
        return false;
    *has_r = true;
    *value_r = (uint32_t)v;
    return true;
}

static int parse_one(const char *text, struct raid_member_policy *own, struct err *e)
{
    const char *colon = strrchr(text, ':');
    size_t n = colon ? (size_t)(colon - text) : 0;
    memset(own, 0, sizeof *own);
    if (n && n < sizeof own->device) {
        memcpy(own->device, text, n);
        if (take_number(colon + 1, "timeout", &own->has_timeout, &own->timeout_ms) ||
            take_number(colon + 1, "read_errors_max", &own->has_read_errors, &own->read_errors_max))
            return 0;
    }
    return err_set(e, ERR_INVALID, "member_options",
                   "member_options has '%.80s'; expected DEVICE:timeout=MS or "
                   "DEVICE:read_errors_max=N",
                   text);
}

/* Into the entry of its device. */
static void merge(struct raid_member_policy *all, unsigned *n, const struct raid_member_policy *one)
{
    unsigned i = 0;
    while (i < *n && strcmp(all[i].device, one->device) != 0)
        i++;
    if (i == *n)
        memset(&all[(*n)++], 0, sizeof *all);
    struct raid_member_policy *to = &all[i];
    memcpy(to->device, one->device, sizeof to->device);
    if (one->has_timeout) {
        to->has_timeout = true;
        to->timeout_ms = one->timeout_ms;
    }
    if (one->has_read_errors) {
        to->has_read_errors = true;
        to->read_errors_max = one->read_errors_max;
    }
}

int array_policy_check(const struct opts *o, struct err *e)
{
    unsigned n = 0;
    char *const *list =
        opts_is_set(o, "member_options") ? opts_list(o, "member_options", &n) : NULL;
    struct raid_member_policy one;
    for (unsigned i = 0; i < n; i++)
        if (parse_one(list[i], &one, e))
            return -1;
    return 0;
}

int array_policy_apply(const char *name, struct json_object *record, struct err *e)
{
    struct raid_policy p;
    struct json_object *list = field_of(record, "member_options");
    size_t all = list ? json_object_array_length(list) : 0;
    autofree struct raid_member_policy *own = xcalloc(all + 1, sizeof *own);
    unsigned n = 0;
    for (size_t i = 0; i < all; i++) {
        struct raid_member_policy one;
        if (!parse_one(json_object_get_string(json_object_array_get_idx(list, i)), &one, NULL))
            merge(own, &n, &one);
    }
    read_policy(record, &p);
    return raid_set_policy(name, &p, own, n, e);
}

/* ---- records, what is shown */

void array_policy_keep(struct json_object *record, const struct opts *o)
{
    bool changed;
    struct json_object *all = patched(record, o, &changed);
    for (unsigned i = 0; i < FIELDS; i++) {
        struct json_object *v = field_of(all, fields[i]);
        if (v)
            json_object_object_add(record, fields[i], json_object_get(v));
        else
            json_object_object_del(record, fields[i]);
    }
    json_object_put(all);
}

void array_policy_copy(struct json_object *record, struct json_object *from)
{
    for (unsigned i = 0; i < FIELDS; i++)
        if (field_of(from, fields[i]))
            json_object_object_add(record, fields[i], json_object_get(field_of(from, fields[i])));
}

void array_policy_show(struct json_object *o, struct json_object *record)
{
    struct raid_policy p;
    struct json_object *list = field_of(record, "member_options");
    read_policy(record, &p);
    put_u64(o, "sync_latency", p.latency_us / 1000);
    put_u64(o, "sync_rate_min", p.rate_min);
    put_u64(o, "sync_rate_max", p.rate_max);
    put_u64(o, "member_timeout", p.timeout_ms);
    put_u64(o, "read_errors_max", p.read_errors_max);
    json_object_object_add(o, "member_options",
                           list ? json_object_get(list) : json_object_new_array());
}

/* A creation asks for what the array is not: it is not created anew, and not changed either. */
int array_policy_compare(const char *name, struct json_object *record, const struct opts *o,
                         struct err *e)
{
    struct json_object *have = json_object_new_object(), *want = json_object_new_object();
    bool changed;
    struct json_object *next = patched(record, o, &changed);
    int rc = 0;
    array_policy_show(have, record);
    array_policy_show(want, next);
    for (unsigned i = 0; i < FIELDS && !rc; i++)
        if (!json_object_equal(field_of(have, fields[i]), field_of(want, fields[i])))
            rc = differs(e, "array", name, fields[i],
                         json_object_get_string(field_of(have, fields[i])),
                         json_object_get_string(field_of(want, fields[i])));
    json_object_put(have);
    json_object_put(want);
    json_object_put(next);
    return rc;
}

/* ---- the verb */

static int change(const char *name, struct json_object *have, struct json_object *want,
                  struct err *e)
{
    autofree struct raid_info *info = xcalloc(1, sizeof *info);
    bool runs = raid_get(name, info);
    if (runs && array_policy_apply(name, want, e))
        return -1;
    if (!state_put("array", name, want, e))
        return 0;
    if (runs)
        array_policy_apply(name, have, NULL);
    return -1;
}

int array_policy_set(struct verb_run *v, struct err *e)
{
    const char *name = verb_param(v, "name");
    if (array_policy_check(v->opts, e))
        return -1;
    struct json_object *have = json_object_get(state_get("array", name)), *want = NULL;
    json_object_deep_copy(have, &want, NULL);
    array_policy_keep(want, v->opts);
    v->changed = !json_object_equal(have, want);
    int rc = v->changed ? change(name, have, want, e) : 0;
    json_object_put(have);
    json_object_put(want);
    return rc;
}
