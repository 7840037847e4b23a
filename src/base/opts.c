/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/opts.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/secret.h"
#include "base/size.h"
#include "base/text.h"

enum { STRING_MAX = 255, PATH_LIMIT = 4095, LIST_MAX = 256, NAME_MAX_LEN = 32 };

static bool holds_text(enum opt_type t)
{
    return t == OPT_STRING || t == OPT_NAME || t == OPT_PATH || t == OPT_ENUM || t == OPT_JSON;
}

static void value_clear(enum opt_type type, struct optval *v)
{
    if (holds_text(type)) {
        free(v->s);
    } else if (type == OPT_LIST) {
        for (unsigned i = 0; i < v->list.n; i++)
            free(v->list.v[i]);
        free(v->list.v);
    }
    memset(v, 0, sizeof *v);
}

/* Text from outside goes into messages: cut short and without control characters. */
static const char *shown(const char *text, char out[48])
{
    size_t n = 0;
    for (; text[n] && n < 44; n++)
        out[n] = isprint((unsigned char)text[n]) ? text[n] : '?';
    strcpy(out + n, text[n] ? "..." : "");
    return out;
}

static int bad(struct err *e, const struct opt *opt, const char *text, const char *expected)
{
    char what[48];
    if (opt->flags & OPT_SECRET)
        return err_set(e, ERR_INVALID, opt->name, "%s is no %s", opt->name, expected);
    return err_set(e, ERR_INVALID, opt->name, "%s is '%s'; expected %s", opt->name,
                   shown(text, what), expected);
}

static int parse_size(const struct opt *opt, const char *text, uint64_t *v_r, struct err *e)
{
    char lo[16], hi[16], range[64];
    if (!size_parse(text, v_r))
        return bad(e, opt, text, "a size: bytes, or a number with K, M, G or T (10G)");
    bool low = *v_r < opt->min, high = opt->max && *v_r > opt->max;
    if (!low && !high)
        return 0;
    size_format(opt->min, lo);
    if (opt->max)
        snprintf(range, sizeof range, "%s to %s", lo, size_format(opt->max, hi));
    else
        snprintf(range, sizeof range, "at least %s", lo);
    bool bare = isdigit((unsigned char)text[strlen(text) - 1]);
    if (low && bare && *v_r)
        return err_set(e, ERR_INVALID, opt->name,
                       "%s is %" PRIu64 " bytes; expected %s; a size without a letter is in bytes: "
                       "did you mean %" PRIu64 "K?",
                       opt->name, *v_r, range, *v_r);
    return bad(e, opt, text, range);
}

static int parse_uint(const struct opt *opt, const char *text, uint64_t *v_r, struct err *e)
{
    char range[64];
    uint64_t max = opt->max ? opt->max : UINT64_MAX;
    char *end;
    errno = 0;
    unsigned long long v = isdigit((unsigned char)*text) ? strtoull(text, &end, 10) : 0;
    if (isdigit((unsigned char)*text) && !*end && !errno && v >= opt->min && v <= max) {
        *v_r = v;
        return 0;
    }
    if (opt->max)
        snprintf(range, sizeof range, "a number from %" PRIu64 " to %" PRIu64, opt->min, max);
    else
        snprintf(range, sizeof range, "a number, at least %" PRIu64, opt->min);
    return bad(e, opt, text, range);
}

static int parse_bool(const struct opt *opt, const char *text, uint64_t *v_r, struct err *e)
{
    static const char *const yes[] = {"true", "yes", "on", "1"};
    static const char *const no[] = {"false", "no", "off", "0"};
    for (unsigned i = 0; i < 4; i++) {
        if (!strcmp(text, yes[i]) || !strcmp(text, no[i])) {
            *v_r = !strcmp(text, yes[i]);
            return 0;
        }
    }
    return bad(e, opt, text, "true or false");
}

static bool name_part(const char *p, size_t n)
{
    if (!n || n > NAME_MAX_LEN || !isalnum((unsigned char)*p))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)p[i]) && !strchr("_.-", p[i]))
            return false;
    return true;
}

static int check_name(const struct opt *opt, const char *text, struct err *e)
{
    const char *slash = opt->max == 2 ? strchr(text, '/') : NULL;
    if (slash ? name_part(text, (size_t)(slash - text)) && name_part(slash + 1, strlen(slash + 1))
              : name_part(text, strlen(text)))
        return 0;
    return bad(e, opt, text,
               opt->max == 2 ? "a name (letters, digits, '_', '.', '-', at most 32) or POOL/VOLUME"
                             : "a name: a letter or digit, then letters, digits, '_', '.', '-', at "
                               "most 32 in all");
}

static int check_choice(const struct opt *opt, const char *text, struct err *e)
{
    size_t n = strlen(text);
    for (const char *p = opt->choices; p; p = strchr(p, '|') ? strchr(p, '|') + 1 : NULL)
        if (n && !strchr(text, '|') && !strncmp(p, text, n) && (p[n] == '|' || !p[n]))
            return 0;
    char expected[256];
    snprintf(expected, sizeof expected, "one of %s", opt->choices);
    return bad(e, opt, text, expected);
}

static int check_text(const struct opt *opt, const char *text, struct err *e)
{
    uint64_t max = opt->max ? opt->max : opt->type == OPT_PATH ? PATH_LIMIT : STRING_MAX;
    switch (opt->type) {
    case OPT_NAME: return check_name(opt, text, e);
    case OPT_ENUM: return check_choice(opt, text, e);
    case OPT_PATH:
        if (opt->flags & OPT_CREDENTIAL && !strncmp(text, "credential:", 11))
            return secret_check(text, opt->name, e);
        if (*text != '/')
            return bad(e, opt, text,
                       opt->flags & OPT_CREDENTIAL ? "an absolute path or credential:NAME"
                                                   : "an absolute path");
        break;
    case OPT_JSON: return 0; /* who reads a request bounds it: here it is written out anew */
    default: break;
    }
    size_t n = strlen(text);
    if (n < opt->min || n > max)
        return err_set(e, ERR_INVALID, opt->name,
                       "%s is %zu bytes long; expected %" PRIu64 " to %" PRIu64, opt->name, n,
                       opt->min, max);
    if (text_flaw(text, n) < n)
        return bad(e, opt, text, "text: UTF-8 without control characters");
    return 0;
}

static int unknown(const struct opts *o, const char *name, struct err *e)
{
    char known[300] = "", what[48];
    size_t n = 0;
    for (unsigned i = 0; i < o->count && n < sizeof known; i++)
        n += (size_t)snprintf(known + n, sizeof known - n, "%s%s", i ? ", " : "", o->table[i].name);
    if (!o->count)
        return err_set(e, ERR_INVALID, name, "unknown field '%s'; none is expected here",
                       shown(name, what));
    return err_set(e, ERR_INVALID, name, "unknown field '%s'; expected one of %s",
                   shown(name, what), known);
}

static int parse_value(const struct opt *opt, const char *text, struct optval *v, struct err *e)
{
    switch (opt->type) {
    case OPT_SIZE: return parse_size(opt, text, &v->u, e);
    case OPT_UINT: return parse_uint(opt, text, &v->u, e);
    case OPT_BOOL: return parse_bool(opt, text, &v->u, e);
    default: break;
    }
    if (check_text(opt, text, e))
        return -1;
    v->s = xstrdup(text);
    return 0;
}

struct opts *opts_new(const struct opt *table)
{
    struct opts *o = xcalloc(1, sizeof *o);
    o->table = table;
    while (table[o->count].name)
        o->count++;
    o->val = xcalloc(o->count, sizeof *o->val);
    for (unsigned i = 0; i < o->count; i++) {
        if (!table[i].dflt)
            continue;
        struct err e;
        int rc = opts_put(o, table[i].name, table[i].dflt, &e);
        assert(!rc && "a default must be valid");
        o->val[i].set = false;
    }
    return o;
}

void opts_free(struct opts **o)
{
    if (!*o)
        return;
    for (unsigned i = 0; i < (*o)->count; i++)
        value_clear((*o)->table[i].type, &(*o)->val[i]);
    free((*o)->val);
    free(*o);
    *o = NULL;
}

const struct opt *opts_find(const struct opt *table, const char *name)
{
    for (; table->name; table++)
        if (!strcmp(table->name, name))
            return table;
    return NULL;
}

int opts_put(struct opts *o, const char *name, const char *text, struct err *e)
{
    const struct opt *opt = opts_find(o->table, name);
    if (!opt)
        return unknown(o, name, e);
    if (opt->type == OPT_LIST) {
        char *copy = xstrdup(text), *rest = copy, *part;
        const char *v[LIST_MAX + 1];
        unsigned n = 0;
        while (*text && (part = strsep(&rest, ",")) && n <= LIST_MAX)
            v[n++] = part;
        int rc = opts_put_list(o, name, v, n, e);
        free(copy);
        return rc;
    }
    struct optval v = {.set = true};
    if (parse_value(opt, text, &v, e))
        return -1;
    struct optval *old = &o->val[opt - o->table];
    value_clear(opt->type, old);
    *old = v;
    return 0;
}

int opts_put_list(struct opts *o, const char *name, const char *const *v, unsigned n, struct err *e)
{
    const struct opt *opt = opts_find(o->table, name);
    if (!opt)
        return unknown(o, name, e);
    if (opt->type != OPT_LIST)
        return err_set(e, ERR_INVALID, name, "%s is a list; expected a single value", name);
    unsigned max = opt->max ? (unsigned)opt->max : LIST_MAX;
    if (n < opt->min || n > max)
        return err_set(e, ERR_INVALID, name, "%s has %s%u entries; expected %" PRIu64 " to %u",
                       name, n > LIST_MAX ? "over " : "", n > LIST_MAX ? LIST_MAX : n, opt->min,
                       max);
    for (unsigned i = 0; i < n; i++) {
        if (!*v[i])
            return err_set(e, ERR_INVALID, name, "entry %u of %s is empty", i + 1, name);
        struct opt entry = {.name = name, .type = OPT_STRING};
        if (check_text(&entry, v[i], e))
            return -1;
    }
    struct optval *val = &o->val[opt - o->table];
    value_clear(OPT_LIST, val);
    val->list.v = xcalloc(n, sizeof *val->list.v);
    for (unsigned i = 0; i < n; i++)
        val->list.v[i] = xstrdup(v[i]);
    val->list.n = n;
    val->set = true;
    return 0;
}

int opts_clear(struct opts *o, const char *name, struct err *e)
{
    const struct opt *opt = opts_find(o->table, name);
    if (!opt)
        return unknown(o, name, e);
    bool empty = opt->type == OPT_STRING || opt->type == OPT_BOOL || opt->type == OPT_LIST;
    if ((opt->flags & OPT_REQUIRED) || (!opt->dflt && !empty))
        return err_set(e, ERR_INVALID, name, "%s cannot be without a value", name);
    struct optval *v = &o->val[opt - o->table];
    value_clear(opt->type, v);
    if (opt->dflt && opts_put(o, name, opt->dflt, e))
        return -1;
    if (!opt->dflt && opt->type == OPT_STRING)
        v->s = xstrdup("");
    v->set = true;
    return 0;
}

int opts_check(const struct opts *o, struct err *e)
{
    for (unsigned i = 0; i < o->count; i++)
        if ((o->table[i].flags & OPT_REQUIRED) && !o->val[i].set)
            return err_set(e, ERR_INVALID, o->table[i].name, "%s is missing; it is the %s",
                           o->table[i].name, o->table[i].help);
    return 0;
}

static const struct optval *value(const struct opts *o, const char *name, const struct opt **opt_r)
{
    const struct opt *opt = opts_find(o->table, name);
    assert(opt && "the option must be in the table");
    *opt_r = opt;
    return &o->val[opt - o->table];
}

bool opts_is_set(const struct opts *o, const char *name)
{
    const struct opt *opt;
    return value(o, name, &opt)->set;
}

uint64_t opts_u64(const struct opts *o, const char *name)
{
    const struct opt *opt;
    const struct optval *v = value(o, name, &opt);
    assert(opt->type == OPT_SIZE || opt->type == OPT_UINT);
    return v->u;
}

bool opts_bool(const struct opts *o, const char *name)
{
    const struct opt *opt;
    const struct optval *v = value(o, name, &opt);
    assert(opt->type == OPT_BOOL);
    return v->u != 0;
}

const char *opts_str(const struct opts *o, const char *name)
{
    const struct opt *opt;
    const struct optval *v = value(o, name, &opt);
    assert(holds_text(opt->type));
    return v->s;
}

char *const *opts_list(const struct opts *o, const char *name, unsigned *n_r)
{
    const struct opt *opt;
    const struct optval *v = value(o, name, &opt);
    assert(opt->type == OPT_LIST);
    *n_r = v->list.n;
    return v->list.v;
}
