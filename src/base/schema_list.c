/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <pthread.h>
#include <string.h>

#include "base/mem.h"
#include "base/schema.h"

/* What every list takes beside the options of its own: pages, columns, filters. */

static const struct opt page_opts[] = {
    {"limit", OPT_UINT, OPT_REST, .min = 1, .max = 10000, .dflt = "10000",
     .help = "at most so many items"},
    {"cursor", OPT_STRING, OPT_REST, .max = 512,
     .help = "go on after this one: `next` of the page before"},
    {"fields", OPT_LIST, OPT_REST, .min = 1, .max = 64, .help = "only these fields of each item"},
    {.name = NULL},
};

enum { LISTS_MAX = 64, OPTS_MAX = 64 };
static struct {
    const struct schema_verb *verb;
    struct opt table[OPTS_MAX + 1];
} * made[LISTS_MAX];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

bool schema_is_list(const struct schema_verb *v)
{
    return v->result == VERB_LIST && v->method && !strcmp(v->method, "GET");
}

static bool filter_type(enum schema_format f, enum opt_type *type_r)
{
    switch (f) {
    case FMT_TEXT: *type_r = OPT_STRING; return true;
    case FMT_NUMBER: *type_r = OPT_UINT; return true;
    case FMT_SIZE: *type_r = OPT_SIZE; return true;
    case FMT_BOOL: *type_r = OPT_BOOL; return true;
    default: return false;
    }
}

static void fill(struct opt table[OPTS_MAX + 1], const struct schema_verb *v)
{
    unsigned n = 0;
    for (const struct opt *o = v->opts; o && o->name && n < OPTS_MAX; o++)
        table[n++] = *o;
    for (const struct opt *o = page_opts; o->name && n < OPTS_MAX; o++)
        table[n++] = *o;
    for (const struct schema_field *f = v->fields; f && f->key && n < OPTS_MAX; f++) {
        enum opt_type type;
        /* `changed` is of answers to changes. An option of this name says what it does itself. */
        if (!filter_type(f->format, &type) || opts_find(table, f->key) ||
            !strcmp(f->key, "changed"))
            continue;
        table[n++] = (struct opt){.name = f->key,
                                  .type = type,
                                  .flags = OPT_FILTER,
                                  .max = type == OPT_STRING ? 512 : 0,
                                  .help = f->help};
    }
}

const struct opt *schema_list_opts(const struct schema_verb *v)
{
    unsigned i = 0;
    pthread_mutex_lock(&lock);
    while (i < LISTS_MAX && made[i] && made[i]->verb != v)
        i++;
    if (i == LISTS_MAX)
        i--; /* the tables have fewer lists; a test sees to that */
    if (!made[i]) {
        made[i] = xcalloc(1, sizeof *made[i]);
        made[i]->verb = v;
        fill(made[i]->table, v);
    }
    pthread_mutex_unlock(&lock);
    return made[i]->table;
}
