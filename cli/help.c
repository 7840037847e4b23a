/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "help.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* ---- near misses */
enum { WORD_MAX = 40 };

/* Levenshtein distance; words longer than WORD_MAX are far from everything. */
static unsigned distance(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b);
    unsigned row[WORD_MAX + 1];
    if (n > WORD_MAX || m > WORD_MAX)
        return WORD_MAX;
    for (size_t j = 0; j <= m; j++)
        row[j] = (unsigned)j;
    for (size_t i = 1; i <= n; i++) {
        unsigned diagonal = row[0];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= m; j++) {
            unsigned best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[m];
}

struct nearest {
    const char *word;
    unsigned best;
};

static void consider(struct nearest *n, const char *given, const char *candidate)
{
    unsigned d = distance(given, candidate);
    if (strlen(given) >= 3 && !strncmp(given, candidate, strlen(given)))
        d = 1;
    if (d < n->best) {
        n->best = d;
        n->word = candidate;
    }
}

/* ---- usage errors */
static int complain(const struct command *c, const char *text, const char *did_you_mean)
{
    fprintf(stderr, "orionctl: %s", text);
    if (did_you_mean)
        fprintf(stderr, "; did you mean '%s'?", did_you_mean);
    fprintf(stderr, "\nTry: orionctl%s%s%s%s --help\n", c->noun ? " " : "",
            c->noun ? c->noun->name : "", c->verb && *c->verb->name ? " " : "",
            c->verb ? c->verb->name : "");
    return EXIT_USAGE;
}

int usage(const struct command *c, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return complain(c, text, NULL);
}

int usage_unknown_noun(const struct command *c, const char *word)
{
    char text[128];
    struct nearest n = {.best = 3};
    for (const struct schema_noun *const *o = schema_nouns; *o; o++)
        consider(&n, word, (*o)->name);
    snprintf(text, sizeof text, "unknown noun '%.60s'", word);
    return complain(c, text, n.word);
}

int usage_unknown_verb(const struct command *c, const char *words)
{
    char text[160];
    struct nearest n = {.best = 3};
    for (const struct schema_verb *v = c->noun->verbs; v->name; v++)
        if (command_visible(v))
            consider(&n, words, v->name);
    snprintf(text, sizeof text, "%s has no verb '%.60s'", c->noun->name, words);
    return complain(c, text, n.word);
}

int usage_unknown_option(const struct command *c, const char *given, size_t len)
{
    char text[128], name[WORD_MAX + 2], spelled[64];
    struct nearest n = {.best = 3};
    snprintf(name, sizeof name, "%.*s", (int)len, given);
    for (char *p = name; *p; p++)
        if (*p == '-')
            *p = '_';
    for (const struct opt *o = c->verb ? command_opts(c->verb) : NULL; o && o->name; o++)
        if (!(o->flags & OPT_REST))
            consider(&n, name, o->name);
    for (const struct opt *o = command_globals; o->name; o++)
        consider(&n, name, o->name);
    snprintf(text, sizeof text, "unknown option '--%.*s'", len > 60 ? 60 : (int)len, given);
    return complain(c, text, n.word ? command_spell(n.word, spelled) : NULL);
}

/* ---- help */
static const char *metavar(const struct opt *o)
{
    static const char *const text[] = {
        [OPT_STRING] = "TEXT", [OPT_NAME] = "NAME",    [OPT_PATH] = "PATH",
        [OPT_SIZE] = "SIZE",   [OPT_UINT] = "N",       [OPT_BOOL] = "",
        [OPT_ENUM] = "WORD",   [OPT_LIST] = "A,B,...", [OPT_JSON] = "FILE",
    };
    return o->flags & OPT_SECRET ? "FILE" : text[o->type];
}

/* An option that is also a positional argument is not shown a second time. */
static bool positional(const struct schema_verb *v, const struct opt *o)
{
    for (const struct schema_arg *a = v->args; a->field; a++)
        if (!strcmp(a->field, o->name))
            return true;
    return false;
}

void help_synopsis(FILE *out, const struct schema_noun *noun, const struct schema_verb *v)
{
    char spelled[64];
    fprintf(out, "orionctl %s%s%s", noun->name, *v->name ? " " : "", v->name);
    for (const struct schema_arg *a = v->args; a->field; a++)
        fprintf(out, a->flags & ARG_OPTIONAL ? " [%s]" : " %s", a->show);
    for (const struct opt *o = v->opts; o && o->name; o++) {
        if (positional(v, o))
            continue;
        bool must = o->flags & OPT_REQUIRED;
        fprintf(out, " %s%s%s%s%s", must ? "" : "[", command_spell_opt(o, spelled),
                *metavar(o) ? " " : "", metavar(o), must ? "" : "]");
    }
    if (schema_is_list(v))
        fputs(" [--FIELD VALUE]...", out);
}

static void print_option(FILE *out, const struct opt *o)
{
    char spelled[64], left[96];
    snprintf(left, sizeof left, "%s %s", command_spell_opt(o, spelled), metavar(o));
    fprintf(out, "  %-24s %s", left, o->help);
    if (o->type == OPT_ENUM)
        fprintf(out, " (%s)", o->choices);
    if (o->dflt)
        fprintf(out, " (default %s)", o->dflt);
    fputc('\n', out);
}

static void help_verb(FILE *out, const struct schema_noun *noun, const struct schema_verb *v)
{
    fputs("usage: ", out);
    help_synopsis(out, noun, v);
    fprintf(out, "\n\n%s\n", v->help);
    bool any = false;
    for (const struct opt *o = v->opts; o && o->name; o++) {
        if (positional(v, o))
            continue;
        if (!any)
            fputs("\nOptions:\n", out);
        any = true;
        print_option(out, o);
    }
    if (schema_is_list(v)) {
        fputs("\nOnly items with", out);
        for (const struct opt *o = schema_list_opts(v); o->name; o++) {
            char spelled[64];
            if (o->flags & OPT_FILTER)
                fprintf(out, " [%s %s]", command_spell(o->name, spelled),
                        o->type == OPT_BOOL ? "yes|no" : metavar(o));
        }
        fputc('\n', out);
    }
    if (!v->fields || v->result == VERB_DONE)
        return;
    fputs("\nColumns for -o (those with * are shown without it):\n", out);
    for (const struct schema_field *f = v->fields; f->key; f++)
        fprintf(out, "  %c %-22s %s\n", f->flags & FIELD_TABLE ? '*' : ' ', f->key, f->help);
}

static void help_noun(FILE *out, const struct schema_noun *noun)
{
    fprintf(out, "usage: orionctl %s VERB ...: %s\n\n", noun->name, noun->help);
    for (const struct schema_verb *v = noun->verbs; v->name; v++) {
        if (!command_visible(v))
            continue;
        fputs("  ", out);
        help_synopsis(out, noun, v);
        fprintf(out, "\n      %s\n", v->help);
    }
}

static void help_all(FILE *out)
{
    fputs("usage: orionctl [--api ADDR] [--json] [-o COLUMNS] [--noheadings] [--units U] NOUN VERB "
          "[NAME] [--option value]...\n\nNouns:\n",
          out);
    for (const struct schema_noun *const *n = schema_nouns; *n; n++) {
        fprintf(out, "  %-8s %s\n          ", (*n)->name, (*n)->help);
        const char *comma = "";
        for (const struct schema_verb *v = (*n)->verbs; v->name && *v->name; v++) {
            if (command_visible(v)) {
                fprintf(out, "%s%s", comma, v->name);
                comma = ", ";
            }
        }
        fputc('\n', out);
    }
    fputs("\nEverywhere:\n", out);
    for (const struct opt *o = command_globals; o->name; o++)
        print_option(out, o);
    fputs(
        "\nThe daemon is looked for at --api, $ORION_API, orionctl.json, then the usual sockets.\n"
        "Exit codes: 0 done, 1 refused or failed, 2 usage, 3 no daemon, 4 not found, 5 conflict or "
        "in use,\n6 needs --yes or --force, 7 job failed, 8 not permitted, 10 changes are due "
        "(--detailed-exitcode).\n"
        "orionctl NOUN VERB --help tells more.\n",
        out);
}

void help_print(FILE *out, const struct command *c)
{
    if (c->verb)
        help_verb(out, c->noun, c->verb);
    else if (c->noun)
        help_noun(out, c->noun);
    else
        help_all(out);
}
