/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "output.h"

#include <ctype.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "api.h"
#include "base/mem.h"
#include "base/size.h"
#include "help.h"
#include "tools.h"

enum { COLUMNS_MAX = 64 };

struct columns {
    unsigned count;
    const struct schema_field *field[COLUMNS_MAX];
};

void output_json(struct json_object *o)
{
    puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED |
                                               JSON_C_TO_STRING_NOSLASHESCAPE));
}

/* ---- which columns */
static const struct schema_field *field_find(const struct schema_field *fields, const char *key)
{
    for (; fields && fields->key; fields++)
        if (!strcmp(fields->key, key))
            return fields;
    return NULL;
}

static void add_defaults(struct columns *cols, const struct schema_field *f, unsigned flags)
{
    for (; f && f->key && cols->count < COLUMNS_MAX; f++)
        if (!flags || (f->flags & flags))
            cols->field[cols->count++] = f;
}

/* The columns of -o, or those with `flags`. Returns the first unknown key (the caller's to free).
 */
static char *choose(const struct command *c, unsigned flags, struct columns *cols)
{
    const struct schema_field *fields = c->verb->fields;
    const char *text = c->columns;
    cols->count = 0;
    if (!text || *text == '+')
        add_defaults(cols, fields, flags);
    if (!text)
        return NULL;
    autofree char *copy = xstrdup(text + (*text == '+'));
    char *rest = copy, *key;
    while ((key = strsep(&rest, ","))) {
        for (char *p = key; *p; p++)
            *p = *p == '-' ? '_' : (char)tolower((unsigned char)*p);
        const struct schema_field *f = field_find(fields, key);
        if (!strcmp(key, "all"))
            add_defaults(cols, fields, 0);
        else if (!f)
            return xstrdup(key);
        else if (cols->count < COLUMNS_MAX)
            cols->field[cols->count++] = f;
    }
    return NULL;
}

int output_check(const struct command *c)
{
    struct columns cols;
    if (!c->columns)
        return 0;
    autofree char *unknown = choose(c, 0, &cols);
    if (!unknown)
        return 0;
    return usage(c,
                 c->verb->fields ? "-o: there is no column '%.60s'"
                                 : "-o: nothing here has a column '%.60s'",
                 unknown);
}

/* ---- one value as text; malloc'ed */
static char *format_size(uint64_t v, char units)
{
    char text[16];
    static const char letters[] = "bkmgt";
    if (units == 'h')
        return xstrdup(size_format(v, text));
    unsigned shift = 10 * (unsigned)(strchr(letters, units) - letters);
    if (!shift)
        return xasprintf("%" PRIu64, v);
    return xasprintf("%.2f", (double)v / (double)(1ull << shift));
}

static char *format_percent(struct json_object *o, const char *key)
{
    struct json_object *done, *total;
    char first[64];
    size_t n = strcspn(key, "/");
    snprintf(first, sizeof first, "%.*s", (int)n, key);
    if (!json_object_object_get_ex(o, first, &done) ||
        !json_object_object_get_ex(o, key + n + 1, &total) || !json_object_get_int64(total))
        return xstrdup("-");
    return xasprintf("%d%%",
                     (int)(100 * json_object_get_double(done) / json_object_get_double(total)));
}

/* What an object in an array is called: its first field, with its state when that is no good news.
 */
static char *format_brief(struct json_object *o, const struct schema_field *of)
{
    const char *name = json_text(o, of->key), *state = json_text(o, "state");
    bool fine = !*state || !strcmp(state, "in-sync") || !strcmp(state, "ready");
    if (!*name)
        return xstrdup(*state ? state : "absent");
    return fine ? xstrdup(name) : xasprintf("%s(%s)", name, state);
}

static char *format_array(struct json_object *v, const struct schema_field *f)
{
    char *out = xstrdup("");
    for (size_t i = 0; i < json_object_array_length(v); i++) {
        struct json_object *o = json_object_array_get_idx(v, i);
        autofree char *one = f->of ? format_brief(o, f->of) : xstrdup(json_object_get_string(o));
        char *longer = xasprintf("%s%s%s", out, i ? ", " : "", one ? one : "");
        free(out);
        out = longer;
    }
    return out;
}

static char *format_value(const struct command *c, struct json_object *o,
                          const struct schema_field *f)
{
    struct json_object *v;
    if (f->format == FMT_PERCENT)
        return format_percent(o, f->key);
    if (!json_object_object_get_ex(o, f->key, &v) || !v)
        return xstrdup("-");
    if (json_object_is_type(v, json_type_array))
        return format_array(v, f);
    if (json_object_is_type(v, json_type_object))
        return xstrdup(json_object_to_json_string_ext(v, JSON_C_TO_STRING_PLAIN));
    if (f->format == FMT_BOOL)
        return xstrdup(json_object_get_boolean(v) ? "yes" : "no");
    if (f->format == FMT_SIZE && json_object_is_type(v, json_type_int))
        return format_size((uint64_t)json_object_get_int64(v), c->units);
    return xstrdup(json_object_get_string(v));
}

/* ---- tables */
static int text_width(const char *s)
{
    int n = 0;
    for (; *s; s++)
        n += (*s & 0xc0) != 0x80; /* UTF-8: continuation bytes take no room */
    return n;
}

static bool to_the_right(const struct schema_field *f)
{
    return f->format == FMT_NUMBER || f->format == FMT_SIZE || f->format == FMT_PERCENT;
}

static char *heading(const struct schema_field *f)
{
    char *out = xstrdup(f->format == FMT_PERCENT ? "progress" : f->key);
    for (char *p = out; *p; p++)
        *p = *p == '_' ? ' ' : (char)toupper((unsigned char)*p);
    return out;
}

static void print_cell(const char *text, int width, bool right, bool last)
{
    int pad = width - text_width(text);
    enum paint p = paint_of_state(text);
    if (right)
        printf("%*s%s", pad, "", text);
    else if (p)
        printf("%s%s%s%*s", paint(p), text, paint(PAINT_PLAIN), last ? 0 : pad, "");
    else
        printf("%s%*s", text, last ? 0 : pad, "");
    fputs(last ? "\n" : "  ", stdout);
}

static void print_table(const struct command *c, const struct columns *cols,
                        struct json_object *items, bool headings, const char *indent)
{
    size_t rows = json_object_array_length(items) + 1;
    unsigned n = cols->count;
    char **cell = xcalloc(rows * n, sizeof *cell);
    int width[COLUMNS_MAX] = {0};
    for (size_t r = headings ? 0 : 1; r < rows; r++) {
        for (unsigned i = 0; i < n; i++) {
            char **at = &cell[r * n + i];
            *at = r ? format_value(c, json_object_array_get_idx(items, r - 1), cols->field[i])
                    : heading(cols->field[i]);
            if (!**at) {
                free(*at);
                *at = xstrdup("-");
            }
            if (text_width(*at) > width[i])
                width[i] = text_width(*at);
        }
    }
    for (size_t r = headings ? 0 : 1; r < rows; r++) {
        fputs(indent, stdout);
        for (unsigned i = 0; i < n; i++)
            print_cell(cell[r * n + i], width[i], to_the_right(cols->field[i]), i + 1 == n);
    }
    for (size_t i = 0; i < rows * n; i++)
        free(cell[i]);
    free(cell);
}

/* An object with only the keys that -o names. The caller's to put. */
static struct json_object *filtered(const struct command *c, struct json_object *o)
{
    struct columns cols;
    struct json_object *v;
    if (!c->columns)
        return json_object_get(o);
    free(choose(c, 0, &cols));
    struct json_object *out = json_object_new_object();
    for (unsigned i = 0; i < cols.count; i++)
        if (json_object_object_get_ex(o, cols.field[i]->key, &v))
            json_object_object_add(out, cols.field[i]->key, json_object_get(v));
    return out;
}

void output_list(const struct command *c, struct json_object *items)
{
    if (!c->json) {
        struct columns cols;
        free(choose(c, FIELD_TABLE, &cols));
        print_table(c, &cols, items, !c->noheadings, "");
        return;
    }
    struct json_object *list = json_object_new_array(), *out = json_object_new_object();
    for (size_t i = 0; i < json_object_array_length(items); i++)
        json_object_array_add(list, filtered(c, json_object_array_get_idx(items, i)));
    json_object_object_add(out, "items", list);
    json_object_object_add(out, "next", NULL);
    output_json(out);
    json_object_put(out);
}

void output_row(const struct command *c, struct json_object *item)
{
    if (c->json) {
        struct json_object *o = filtered(c, item);
        puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN));
        json_object_put(o);
        return;
    }
    struct columns cols;
    free(choose(c, FIELD_TABLE, &cols));
    struct json_object *one = json_object_new_array();
    json_object_array_add(one, json_object_get(item));
    print_table(c, &cols, one, false, "");
    json_object_put(one);
}

static void print_nested(const struct command *c, const struct schema_field *f,
                         struct json_object *items)
{
    struct columns cols = {0};
    add_defaults(&cols, f->of, FIELD_TABLE);
    printf("%s:\n", f->key);
    print_table(c, &cols, items, !c->noheadings, "  ");
}

void output_object(const struct command *c, struct json_object *o)
{
    struct columns cols;
    struct json_object *v;
    if (c->json || !c->verb->fields) {
        struct json_object *out = filtered(c, o);
        output_json(out);
        json_object_put(out);
        return;
    }
    free(choose(c, 0, &cols));
    for (unsigned i = 0; i < cols.count; i++) {
        const struct schema_field *f = cols.field[i];
        if (f->format == FMT_PERCENT || !json_object_object_get_ex(o, f->key, &v))
            continue;
        if (f->of && json_object_is_type(v, json_type_array) && json_object_array_length(v)) {
            print_nested(c, f, v);
            continue;
        }
        if (f->format == FMT_MAP && json_object_is_type(v, json_type_object)) {
            json_object_object_foreach(v, key, count)
                printf("%-20s %s\n", key, json_object_get_string(count));
            continue;
        }
        autofree char *text = format_value(c, o, f);
        printf("%-20s %s\n", f->key, *text ? text : "-");
    }
}

/* ---- changes */
static void print_notes(struct json_object *o)
{
    struct json_object *notes;
    if (!json_object_object_get_ex(o, "notes", &notes) ||
        !json_object_is_type(notes, json_type_array))
        return;
    for (size_t i = 0; i < json_object_array_length(notes); i++)
        fprintf(stderr, "note: %s\n", json_object_get_string(json_object_array_get_idx(notes, i)));
}

void output_change(const struct command *c, struct json_object *o)
{
    struct json_object *changed = NULL;
    if (c->json) {
        struct json_object *out = o ? filtered(c, o) : json_object_new_object();
        if (!o)
            json_object_object_add(out, "changed", json_object_new_boolean(true));
        output_json(out);
        json_object_put(out);
        return;
    }
    bool same = json_object_object_get_ex(o, "changed", &changed) && changed &&
                !json_object_get_boolean(changed);
    printf("%s %s", c->noun->name, c->verb->name);
    for (unsigned i = 0; i < SCHEMA_ARGS && c->arg[i]; i++)
        printf(" %s", c->arg[i]);
    puts(same ? ": unchanged" : ": done");
    /* A new token is told this once. */
    struct json_object *token;
    if (json_object_object_get_ex(o, "token", &token) &&
        json_object_is_type(token, json_type_string))
        puts(json_object_get_string(token));
    print_notes(o);
}
