/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * raid50 and raid60: a raid0 over raid5 or raid6 arrays, made in one go. The parts of NAME are
 * NAME-0, NAME-1, ...; what stands on disk is plain nested md, and after a restart each part is an
 * array like any other. Their records say whose parts they are, so that they go when it goes.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "control/adopt.h"

enum { GROUPS_MAX = 16, CHUNK_DEFAULT = 512 << 10, CHUNK_MOST = 64 << 20 };

const char *array_nested_level(const char *level)
{
    if (!strcmp(level, "raid50") || !strcmp(level, "50"))
        return "raid5";
    return strcmp(level, "raid60") && strcmp(level, "60") ? NULL : "raid6";
}

struct nested {
    const char *name, *level;
    const struct opts *o;
    unsigned groups, width;
    char part[GROUPS_MAX][RAID_NAME_MAX + 1];
};

static int check(struct nested *n, struct err *e)
{
    unsigned count, least = strcmp(n->level, "raid5") ? 4 : 3;
    opts_list(n->o, "members", &count);
    n->groups = opts_is_set(n->o, "groups") ? (unsigned)opts_u64(n->o, "groups") : 2;
    n->width = count / n->groups;
    if (count % n->groups || n->width < least)
        return err_set(e, ERR_INVALID, "members",
                       "%u members do not make %u groups of equal size, of at least %u each", count,
                       n->groups, least);
    if (strlen(n->name) + 3 > RAID_NAME_MAX)
        return err_set(e, ERR_INVALID, "name",
                       "'%s' is too long: its parts have the number behind it", n->name);
    for (unsigned i = 0; i < n->groups; i++)
        snprintf(n->part[i], sizeof n->part[i], "%.*s-%u", RAID_NAME_MAX - 3, n->name, i);
    return 0;
}

/* ---- options of the parts and of the whole */

static int copy_option(struct opts *to, const struct opts *from, const struct opt *t, struct err *e)
{
    char number[24];
    unsigned n;
    switch (t->type) {
    case OPT_LIST: {
        char *const *list = opts_list(from, t->name, &n);
        return opts_put_list(to, t->name, (const char *const *)list, n, e);
    }
    case OPT_SIZE:
    case OPT_UINT:
        snprintf(number, sizeof number, "%" PRIu64, opts_u64(from, t->name));
        return opts_put(to, t->name, number, e);
    case OPT_BOOL: return opts_put(to, t->name, opts_bool(from, t->name) ? "true" : "false", e);
    default: return opts_put(to, t->name, opts_str(from, t->name), e);
    }
}

/* Each group's share of a list: members in a row, spares in turn. */
static int put_share(struct opts *to, const struct nested *n, unsigned group, struct err *e)
{
    const char *share[RAID_MEMBERS_MAX];
    unsigned count, spares = 0, k = 0;
    char *const *members = opts_list(n->o, "members", &count);
    if (opts_put_list(to, "members", (const char *const *)members + group * n->width, n->width, e))
        return -1;
    char *const *all = opts_is_set(n->o, "spares") ? opts_list(n->o, "spares", &spares) : NULL;
    for (unsigned i = group; i < spares; i += n->groups)
        share[k++] = all[i];
    return opts_put_list(to, "spares", share, k, e);
}

static struct opts *part_options(const struct nested *n, unsigned group, struct err *e)
{
    static const char *const own[] = {"level", "members", "spares", "groups"};
    struct opts *to = opts_new(n->o->table);
    int rc = opts_put(to, "level", n->level, e) || put_share(to, n, group, e);
    /* The parts lend each other their spares. */
    if (!rc && !opts_is_set(n->o, "spare_group"))
        rc = opts_put(to, "spare_group", n->name, e);
    for (const struct opt *t = n->o->table; t->name && !rc; t++) {
        bool mine = false;
        for (unsigned i = 0; i < sizeof own / sizeof *own; i++)
            mine = mine || !strcmp(t->name, own[i]);
        if (!mine && opts_is_set(n->o, t->name))
            rc = copy_option(to, n->o, t, e);
    }
    if (rc)
        opts_free(&to);
    return to;
}

/* A chunk of the whole is a stripe of a part, or the next power of two. */
static struct opts *whole_options(const struct nested *n, struct err *e)
{
    struct opts *to = opts_new(n->o->table);
    const char *names[GROUPS_MAX];
    uint64_t chunk = opts_is_set(n->o, "chunk") ? opts_u64(n->o, "chunk") : CHUNK_DEFAULT;
    uint64_t stripe = chunk * (n->width - (strcmp(n->level, "raid5") ? 2 : 1));
    char text[24];
    while (chunk < stripe && chunk < CHUNK_MOST)
        chunk *= 2;
    for (unsigned i = 0; i < n->groups; i++)
        names[i] = n->part[i];
    snprintf(text, sizeof text, "%" PRIu64, chunk);
    if (opts_put(to, "level", "raid0", e) || opts_put_list(to, "members", names, n->groups, e) ||
        opts_put(to, "chunk", text, e) ||
        (opts_bool(n->o, "force") && opts_put(to, "force", "true", e)))
        opts_free(&to);
    return to;
}

/* ---- the verbs */

static int make_part(const struct nested *n, unsigned group, bool *made_r, struct err *e)
{
    char key[KEY_MAX];
    struct opts *o = part_options(n, group, e);
    if (!o)
        return -1;
    snprintf(key, sizeof key, "name:%s", n->part[group]);
    struct key_lock *lock = key_lock(key);
    int rc = array_make(n->part[group], o, n->name, made_r, e);
    key_unlock(&lock);
    opts_free(&o);
    return rc;
}

int array_nested_create(struct verb_run *v, struct err *e)
{
    autofree struct nested *n = xcalloc(1, sizeof *n);
    bool made[GROUPS_MAX] = {false}, whole = false, any = false;
    n->name = verb_param(v, "name");
    n->level = array_nested_level(opts_str(v->opts, "level"));
    n->o = v->opts;
    if (check(n, e))
        return -1;
    int rc = 0;
    for (unsigned i = 0; i < n->groups && !rc; i++) {
        rc = make_part(n, i, &made[i], e);
        any = any || made[i];
    }
    struct opts *o = rc ? NULL : whole_options(n, e);
    rc = o ? array_make(n->name, o, NULL, &whole, e) : -1;
    opts_free(&o);
    v->changed = any || whole;
    for (unsigned i = 0; i < n->groups && rc; i++)
        if (made[i])
            array_end(n->part[i], true, NULL); /* nothing half-made stays */
    return rc;
}

struct parts {
    const char *of;
    char (*name)[RAID_NAME_MAX + 1];
    unsigned n;
};

static void collect(const char *key, struct json_object *record, void *arg)
{
    struct parts *p = arg;
    if (strcmp(get_str(record, "part_of"), p->of) != 0)
        return;
    p->name = xrealloc(p->name, (p->n + 1) * sizeof *p->name);
    snprintf(p->name[p->n++], sizeof *p->name, "%s", strchr(key, '/') + 1);
}

int array_end_parts(const char *name, bool wipe, struct err *e)
{
    struct parts p = {.of = name};
    int rc = 0;
    journal_for_each(control.journal, "array/", collect, &p);
    for (unsigned i = 0; i < p.n && !rc; i++) {
        char key[KEY_MAX];
        snprintf(key, sizeof key, "name:%s", p.name[i]);
        struct key_lock *lock = key_lock(key);
        rc = array_end(p.name[i], wipe, e);
        key_unlock(&lock);
    }
    free(p.name);
    return rc;
}
