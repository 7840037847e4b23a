/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/schema.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/schema_private.h"
#include "base/text.h"

const struct schema_noun *const schema_nouns[] = {
    &schema_device,  &schema_array,
    &schema_pool,    &schema_volume,
    &schema_nbd,     &schema_iscsi,
    &schema_session, &schema_job,
    &schema_events,  &schema_status,
    &schema_tree,    &schema_top,
    &schema_explain, &schema_completion,
    &schema_support, &schema_config,
    &schema_debug,   &schema_version,
    &schema_token,   &schema_audit,
    &schema_log,     NULL,
};

const struct schema_noun *schema_noun_find(const char *name)
{
    for (const struct schema_noun *const *n = schema_nouns; *n; n++)
        if (!strcmp((*n)->name, name))
            return *n;
    return NULL;
}

const struct schema_verb *schema_verb_find(const struct schema_noun *noun, const char *name)
{
    for (const struct schema_verb *v = noun->verbs; v->name; v++)
        if (!strcmp(v->name, name))
            return v;
    return NULL;
}

/* Decodes one percent-encoded segment. False: it is malformed, holds a NUL, or is too long. */
static bool decode(const char *p, size_t n, char *out, size_t size)
{
    size_t used = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned c = (unsigned char)p[i];
        if (c == '%') {
            char hex[3] = {0};
            if (n - i < 3 || !isxdigit((unsigned char)p[i + 1]) ||
                !isxdigit((unsigned char)p[i + 2]))
                return false;
            memcpy(hex, p + i + 1, 2);
            c = (unsigned)strtoul(hex, NULL, 16);
            i += 2;
        }
        if (!c || used + 1 >= size)
            return false;
        out[used++] = (char)c;
    }
    out[used] = 0;
    return used > 0;
}

/* Matches a path against a pattern, segment by segment, and collects the parameters. */
static bool match(const char *pattern, const char *path, struct schema_match *m)
{
    m->count = 0;
    while (*pattern == '/' && *path == '/') {
        pattern++, path++;
        size_t want = strcspn(pattern, "/"), have = strcspn(path, "/");
        if (*pattern == '{') {
            if (m->count == SCHEMA_PARAMS || want < 3)
                return false;
            snprintf(m->param[m->count].name, sizeof m->param->name, "%.*s", (int)want - 2,
                     pattern + 1);
            if (!decode(path, have, m->param[m->count].value, sizeof m->param->value))
                return false;
            m->count++;
        } else if (want != have || strncmp(pattern, path, want)) {
            return false;
        }
        pattern += want;
        path += have;
    }
    return !*pattern && !*path;
}

/* What stands in a path comes out again in answers, in the journal and in the log. Names of iSCSI
 * are the same however they are written: here they get the one form that everything else knows (RFC
 * 7143 4.2.7.2). */
static int check_params(struct schema_match *m, struct err *e)
{
    for (unsigned i = 0; i < m->count; i++) {
        if (!strcmp(m->param[i].name, "iqn") || !strcmp(m->param[i].name, "initiator"))
            text_lower(m->param[i].value);
        if (text_check(m->param[i].value, sizeof m->param->value, m->param[i].name, e))
            return -1;
    }
    return 0;
}

static void allow_add(char allow[64], const char *method)
{
    size_t n = strlen(allow);
    if (!strstr(allow, method))
        snprintf(allow + n, 64 - n, "%s%s", n ? ", " : "", method);
}

int schema_route(const char *method, const char *path, struct schema_match *match_r,
                 char allow_r[64], struct err *e)
{
    char allow[64] = "";
    for (const struct schema_noun *const *n = schema_nouns; *n; n++) {
        for (const struct schema_verb *v = (*n)->verbs; v->name; v++) {
            if (!v->path || !match(v->path, path, match_r))
                continue;
            match_r->noun = *n;
            match_r->verb = v;
            if (!strcmp(v->method, method))
                return check_params(match_r, e);
            allow_add(allow, v->method);
        }
    }
    match_r->noun = NULL;
    match_r->verb = NULL;
    if (allow_r)
        strcpy(allow_r, allow);
    if (*allow)
        return err_set(e, ERR_UNSUPPORTED, "", "%.16s is not possible here; expected %s", method,
                       allow);
    return err_set(e, ERR_NOT_FOUND, "", "there is nothing at this path; /openapi.json lists all");
}

const char *schema_param(const struct schema_match *m, const char *name)
{
    for (unsigned i = 0; i < m->count; i++)
        if (!strcmp(m->param[i].name, name))
            return m->param[i].value;
    return NULL;
}

/* The characters RFC 3986 leaves as they are in a segment, without those of other meaning here. */
static bool plain(char c)
{
    return isalnum((unsigned char)c) || (c && strchr("-_.~:", c));
}

char *schema_expand(const char *path, const char *(*value)(const char *param, void *arg), void *arg)
{
    char *out = xstrdup("");
    while (*path) {
        size_t n = strcspn(path, "{");
        char *more = xasprintf("%s%.*s", out, (int)n, path);
        free(out);
        out = more;
        path += n;
        if (!*path)
            break;
        size_t len = strcspn(path, "}");
        autofree char *param = xasprintf("%.*s", (int)len - 1, path + 1);
        path += len + 1;
        const char *v = value(param, arg);
        size_t at = strlen(out);
        out = xrealloc(out, at + 3 * strlen(v) + 1);
        for (; *v; v++)
            at += (size_t)sprintf(out + at, plain(*v) ? "%c" : "%%%02X", (unsigned char)*v);
        out[at] = 0;
    }
    return out;
}

char *schema_item_path(const char *path)
{
    const char *actions = strstr(path, "/actions/");
    return xasprintf("%.*s", actions ? (int)(actions - path) : (int)strlen(path), path);
}
