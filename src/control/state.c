/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "control/private.h"

/* Locks by key, the saved state, and JSON in short. */

struct key_lock {
    struct list link;
    struct tlock lock;
    unsigned users;
    char key[];
};
static struct list locks = LIST_INIT(locks);

static struct key_lock *find_lock(const char *key)
{
    struct key_lock *l;
    list_for_each (l, &locks, link) {
        if (!strcmp(l->key, key))
            return l;
    }
    l = xcalloc(1, sizeof *l + strlen(key) + 1);
    strcpy(l->key, key);
    tlock_init(&l->lock);
    list_add_tail(&locks, &l->link);
    return l;
}

struct key_lock *key_lock(const char *key)
{
    struct key_lock *l = find_lock(key);
    l->users++;
    tlock_lock(&l->lock);
    return l;
}

void key_unlock(struct key_lock **lock)
{
    struct key_lock *l = *lock;
    *lock = NULL;
    if (!l)
        return;
    tlock_unlock(&l->lock);
    if (--l->users)
        return;
    list_del(&l->link);
    free(l);
}

/* ---- state */

void state_key(char out[KEY_MAX], const char *kind, const char *a, const char *b)
{
    snprintf(out, KEY_MAX, "%s/%s%s%s", kind, a, b ? "/" : "", b ? b : "");
}

struct json_object *state_get(const char *kind, const char *name)
{
    char key[KEY_MAX];
    state_key(key, kind, name, NULL);
    return journal_get(control.journal, key);
}

int state_put(const char *kind, const char *name, struct json_object *value, struct err *e)
{
    char key[KEY_MAX];
    state_key(key, kind, name, NULL);
    kill_point();
    int rc = journal_put(control.journal, key, value, e);
    kill_point();
    return rc;
}

int state_del(const char *kind, const char *name, struct err *e)
{
    reason_set(kind, name, NULL);
    return state_put(kind, name, NULL, e);
}

int state_end_intent(uint64_t intent, const char *kind, const char *name, struct json_object *value,
                     struct err *e)
{
    char key[KEY_MAX], done[KEY_MAX];
    state_key(key, kind, name, NULL);
    snprintf(done, sizeof done, "intent/%llu", (unsigned long long)intent);
    struct journal_change c[] = {{key, value}, {done, NULL}};
    reason_set(kind, name, NULL);
    kill_point();
    int rc = journal_apply(control.journal, c, intent ? 2 : 1, e);
    kill_point();
    return rc;
}

void reason_set(const char *kind, const char *name, const char *why)
{
    char key[KEY_MAX];
    state_key(key, kind, name, NULL);
    if (why && *why)
        json_object_object_add(control.reasons, key, json_object_new_string(why));
    else
        json_object_object_del(control.reasons, key);
}

const char *reason_get(const char *kind, const char *name)
{
    char key[KEY_MAX];
    state_key(key, kind, name, NULL);
    return get_str(control.reasons, key);
}

/* ---- JSON */

void put_str(struct json_object *o, const char *key, const char *value)
{
    json_object_object_add(o, key, json_object_new_string(value ? value : ""));
}

void put_u64(struct json_object *o, const char *key, uint64_t value)
{
    json_object_object_add(o, key, json_object_new_uint64(value));
}

void put_bool(struct json_object *o, const char *key, bool value)
{
    json_object_object_add(o, key, json_object_new_boolean(value));
}

void put_time(struct json_object *o, const char *key, uint64_t ms)
{
    if (!ms) {
        json_object_object_add(o, key, NULL);
        return;
    }
    time_t t = (time_t)(ms / 1000);
    struct tm tm;
    char text[64];
    gmtime_r(&t, &tm);
    size_t n = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(text + n, sizeof text - n, ".%03uZ", (unsigned)(ms % 1000));
    put_str(o, key, text);
}

const char *get_str(struct json_object *o, const char *key)
{
    struct json_object *v = NULL;
    if (!json_object_object_get_ex(o, key, &v) || !json_object_is_type(v, json_type_string))
        return "";
    return json_object_get_string(v);
}

uint64_t get_u64(struct json_object *o, const char *key)
{
    struct json_object *v = NULL;
    if (!json_object_object_get_ex(o, key, &v) || !json_object_is_type(v, json_type_int))
        return 0;
    return json_object_get_uint64(v);
}

bool get_bool(struct json_object *o, const char *key)
{
    struct json_object *v = NULL;
    return json_object_object_get_ex(o, key, &v) && json_object_get_boolean(v);
}

struct json_object *users_json(const char *name)
{
    struct json_object *list = json_object_new_array();
    char users[2048], *rest = users, *one;
    struct bdev *b = bdev_find(name);
    if (!b || !bdev_users(b, users, sizeof users))
        return list;
    while ((one = strsep(&rest, ","))) {
        one += strspn(one, " ");
        if (*one)
            json_object_array_add(list, json_object_new_string(one));
    }
    return list;
}

struct reference {
    const char *name;
    char *out;
    size_t size;
    const char *what;
};

static void note_reference(const char *key, struct json_object *record, void *arg)
{
    struct reference *r = arg;
    if (*r->out || strcmp(get_str(record, "device"), r->name))
        return;
    snprintf(r->out, r->size, "%s %s", r->what, strchr(key, '/') + 1);
}

bool device_in_use(const char *name, char *out, size_t size)
{
    struct bdev *b = bdev_find(name);
    if (b && bdev_users(b, out, size))
        return true;
    /* Exports and LUNs whose device is not open at the moment count too. */
    *out = 0;
    struct reference r = {name, out, size, "nbd export"};
    journal_for_each(control.journal, "export/", note_reference, &r);
    r.what = "iscsi lun";
    journal_for_each(control.journal, "lun/", note_reference, &r);
    return *out;
}

bool name_is_taken(const char *name)
{
    return bdev_find(name) || state_get("device", name) || state_get("array", name) ||
           state_get("pool", name);
}
