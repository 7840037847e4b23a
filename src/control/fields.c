/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "control/private.h"

/* The fields of a request, from JSON or from a query, into the verb's options. */

/* ---- tables that are put together: kept for good, one for each pair of parts */
struct joined {
    struct joined *next;
    const struct opt *a, *b;
    struct opt table[];
};
static struct joined *tables;

static unsigned count(const struct opt *t)
{
    unsigned n = 0;
    while (t && t[n].name)
        n++;
    return n;
}

static const struct opt *join(const struct opt *a, const struct opt *b)
{
    for (struct joined *j = tables; j; j = j->next)
        if (j->a == a && j->b == b)
            return j->table;
    unsigned na = count(a), nb = count(b);
    struct joined *j = xcalloc(1, sizeof *j + (na + nb + 1) * sizeof(struct opt));
    j->a = a;
    j->b = b;
    for (unsigned i = 0, n = 0; i < na + nb; i++) {
        const struct opt *from = i < na ? &a[i] : &b[i - na];
        /* What only orionctl understands is no field of a request. */
        if (!(from->flags & OPT_CLIENT))
            j->table[n++] = *from;
    }
    j->next = tables;
    tables = j;
    return j->table;
}

static const struct opt device_type_opt[] = {
    {.name = "type", .type = OPT_STRING, .max = 15, .help = "driver"},
    {.name = NULL},
};

static const struct driver *find_driver(const char *type)
{
    for (const struct driver *const *d = control.opts.drivers; *d; d++)
        if (!strcmp((*d)->name, type))
            return *d;
    return NULL;
}

/* `device add`: the options are those of the driver that `type` names. */
static const struct opt *device_table(struct json_object *body, struct err *e)
{
    struct json_object *v = NULL;
    const char *type = get_str(body, "type");
    if (json_object_object_get_ex(body, "type", &v) && !json_object_is_type(v, json_type_string)) {
        err_set(e, ERR_INVALID, "type", "type is of the wrong type; expected a string");
        return NULL;
    }
    if (!*type && json_object_object_get_ex(body, "path", &v))
        type = "file";
    if (!strcmp(type, "disk"))
        type = "file";
    if (!*type) {
        err_set(e, ERR_INVALID, "type", "type is missing; it is the driver, or give a path");
        return NULL;
    }
    const struct driver *d = find_driver(type);
    if (d)
        return join(device_type_opt, d->opts);
    char known[160] = "";
    for (const struct driver *const *k = control.opts.drivers; *k; k++) {
        size_t n = strlen(known);
        snprintf(known + n, sizeof known - n, "%s%s", n ? ", " : "", (*k)->name);
    }
    err_set(e, ERR_INVALID, "type", "type is '%.20s'; expected one of %s", type, known);
    return NULL;
}

static const struct opt *table_of(const struct control_call *call, struct json_object *body,
                                  struct err *e)
{
    const struct schema_verb *v = call->match.verb;
    if (!strcmp(v->path, "/v1/devices/{name}") && !strcmp(v->method, "PUT"))
        return device_table(body, e);
    return join(schema_is_list(v) ? schema_list_opts(v) : v->opts, NULL);
}

/* ---- values */

static const char *const expected[] = {
    [OPT_STRING] = "a string", [OPT_NAME] = "a string",
    [OPT_PATH] = "a string",   [OPT_SIZE] = "a number of bytes, or a string like \"10G\"",
    [OPT_UINT] = "a number",   [OPT_BOOL] = "true or false",
    [OPT_ENUM] = "a string",   [OPT_LIST] = "an array of strings",
    [OPT_JSON] = "an object",
};

static bool type_fits(enum opt_type want, struct json_object *v)
{
    enum json_type have = json_object_get_type(v);
    switch (want) {
    case OPT_SIZE: return have == json_type_string || have == json_type_int;
    case OPT_UINT: return have == json_type_int;
    case OPT_BOOL: return have == json_type_boolean;
    case OPT_LIST: return have == json_type_array;
    case OPT_JSON: return have == json_type_object;
    default: return have == json_type_string;
    }
}

static int put_list(struct opts *o, const char *name, struct json_object *v, struct err *e)
{
    size_t n = json_object_array_length(v);
    if (n > 1024)
        return err_set(e, ERR_INVALID, name, "%s has %zu entries; expected at most 1024", name, n);
    autofree const char **list = xcalloc(n + 1, sizeof *list);
    for (size_t i = 0; i < n; i++) {
        struct json_object *entry = json_object_array_get_idx(v, i);
        if (!json_object_is_type(entry, json_type_string))
            return err_set(e, ERR_INVALID, name, "entry %zu of %s is no string", i + 1, name);
        list[i] = json_object_get_string(entry);
    }
    return opts_put_list(o, name, list, (unsigned)n, e);
}

int control_field_json(struct opts *o, const char *name, struct json_object *v, struct err *e)
{
    const struct opt *opt = opts_find(o->table, name);
    if (!opt)
        return opts_put(o, name, "", e); /* its message lists the known ones */
    if (!type_fits(opt->type, v))
        return err_set(e, ERR_INVALID, name, "%s is of the wrong type; expected %s", name,
                       expected[opt->type]);
    if (opt->type == OPT_LIST)
        return put_list(o, name, v, e);
    if (json_object_is_type(v, json_type_string) &&
        strlen(json_object_get_string(v)) != (size_t)json_object_get_string_len(v))
        return err_set(e, ERR_INVALID, name, "%s has a NUL character in it", name);
    if (json_object_is_type(v, json_type_int) && json_object_get_int64(v) < 0)
        return err_set(e, ERR_INVALID, name, "%s is negative; expected %s", name,
                       expected[opt->type]);
    /* The parser takes what is larger for the largest there is. */
    if (json_object_is_type(v, json_type_int) && json_object_get_uint64(v) == UINT64_MAX)
        return err_set(e, ERR_INVALID, name, "%s is too large", name);
    return opts_put(o, name, json_object_get_string(v), e);
}

/* ---- errors: all of them */

static void note(struct control_call *call, const struct err *one, struct err *e)
{
    if (!call->errors) {
        call->errors = json_object_new_array();
        if (e)
            *e = *one;
    }
    if (json_object_array_length(call->errors) >= 32)
        return;
    struct json_object *o = json_object_new_object();
    put_str(o, "field", one->field);
    put_str(o, "detail", one->msg);
    json_object_array_add(call->errors, o);
}

static int finish(struct control_call *call, struct err *e)
{
    struct err one;
    if (!call->errors && opts_check(call->opts, &one))
        note(call, &one, e);
    return call->errors ? -1 : 0;
}

int control_opts_json(struct control_call *call, struct json_object *body, struct err *e)
{
    struct err one;
    struct json_object *empty = NULL;
    if (!body)
        body = empty = json_object_new_object();
    const struct opt *table = table_of(call, body, &one);
    if (!table) {
        note(call, &one, e);
        json_object_put(empty);
        return -1;
    }
    call->opts = opts_new(table);
    bool patch = call->match.verb && !strcmp(call->match.verb->method, "PATCH");
    json_object_object_foreach(body, name, value)
    {
        if (patch && !value ? opts_clear(call->opts, name, &one)
                            : control_field_json(call->opts, name, value, &one))
            note(call, &one, e);
    }
    json_object_put(empty);
    return finish(call, e);
}

struct json_object *patched(struct json_object *record, const struct opts *o, bool *changed_r)
{
    struct json_object *next = json_object_new_object();
    json_object_object_foreach(record, key, value)
    {
        json_object_object_add(next, key, json_object_get(value));
    }
    for (const struct opt *opt = o->table; opt->name; opt++) {
        unsigned n = 0;
        if (!opts_is_set(o, opt->name) || opt->flags & OPT_CONSENT)
            continue;
        switch (opt->type) {
        case OPT_BOOL: put_bool(next, opt->name, opts_bool(o, opt->name)); break;
        case OPT_LIST: {
            char *const *list = opts_list(o, opt->name, &n);
            struct json_object *array = json_object_new_array();
            for (unsigned i = 0; i < n; i++)
                json_object_array_add(array, json_object_new_string(list[i]));
            json_object_object_add(next, opt->name, array);
            if (!n)
                json_object_object_del(next, opt->name); /* no rules at all */
            break;
        }
        case OPT_SIZE:
        case OPT_UINT: put_u64(next, opt->name, opts_u64(o, opt->name)); break;
        default: put_str(next, opt->name, opts_str(o, opt->name)); break;
        }
    }
    *changed_r = !json_object_equal(record, next);
    return next;
}

int control_opts_text(struct control_call *call, const struct control_pair *pairs, unsigned n,
                      struct err *e)
{
    struct err one;
    call->opts = opts_new(table_of(call, NULL, e));
    for (unsigned i = 0; i < n; i++) {
        /* `?yes` is what `?yes=true` is. */
        const struct opt *opt = opts_find(call->opts->table, pairs[i].name);
        const char *value = pairs[i].value;
        if (!value)
            value = opt && opt->type == OPT_BOOL ? "true" : "";
        if (opts_put(call->opts, pairs[i].name, value, &one))
            note(call, &one, e);
    }
    return finish(call, e);
}
