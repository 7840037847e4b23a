/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writes the reference from the tables: `orion-reference md` is docs/reference.md, `orion-reference
 * man` is docs/man/orionctl.8. tests/checks fails when they are not fresh; the target `reference`
 * makes them anew.
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "command.h"
#include "help.h"

static const char *type_name(const struct opt *o)
{
    static const char *const names[] = {
        [OPT_STRING] = "text", [OPT_NAME] = "name",   [OPT_PATH] = "path",
        [OPT_SIZE] = "size",   [OPT_UINT] = "number", [OPT_BOOL] = "true or false",
        [OPT_ENUM] = "word",   [OPT_LIST] = "list",   [OPT_JSON] = "object",
    };
    return names[o->type];
}

static const char *format_name(const struct schema_field *f)
{
    static const char *const names[] = {
        [FMT_TEXT] = "string",
        [FMT_NUMBER] = "integer",
        [FMT_SIZE] = "integer, bytes",
        [FMT_BOOL] = "boolean",
        [FMT_TIME] = "RFC 3339 time",
        [FMT_NAMES] = "array of strings",
        [FMT_OBJECTS] = "array of objects",
        [FMT_MAP] = "object",
        [FMT_PERCENT] = "",
    };
    return names[f->format];
}

static const char *range(const struct opt *o, char out[96])
{
    *out = 0;
    if (o->type == OPT_ENUM)
        snprintf(out, 96, " (%s)", o->choices);
    else if (o->type == OPT_UINT && (o->min || o->max))
        snprintf(out, 96, " (%llu to %llu)", (unsigned long long)o->min,
                 (unsigned long long)o->max);
    return out;
}

/* ---- Markdown */

/* A bar would end the cell. */
static void md_cell(const char *text)
{
    for (; *text; text++)
        fputs((char[]){*text == '|' ? '\\' : *text, *text == '|' ? '|' : 0, 0}, stdout);
}

static void md_fields(const struct schema_field *f, const char *prefix)
{
    for (; f->key; f++) {
        if (f->format == FMT_PERCENT)
            continue;
        printf("| `%s%s` | %s | ", prefix, f->key, format_name(f));
        md_cell(f->help);
        puts(" |");
        if (f->of) {
            char deeper[64];
            snprintf(deeper, sizeof deeper, "%s%s%s.", prefix, f->key,
                     f->format == FMT_OBJECTS ? "[]" : "");
            md_fields(f->of, deeper);
        }
    }
}

static void md_opts(const struct opt *o)
{
    char text[96];
    puts("\n| field | type | |\n|---|---|---|");
    for (; o->name; o++) {
        printf("| `%s`%s | %s", o->name, o->flags & OPT_REQUIRED ? ", required" : "", type_name(o));
        md_cell(range(o, text));
        fputs(" | ", stdout);
        md_cell(o->help);
        puts(o->flags & OPT_CLIENT ? " (orionctl only) |" : " |");
    }
}

static void md_verb(const struct schema_noun *n, const struct schema_verb *v)
{
    printf("\n### %s%s%s\n\n%c%s.\n", n->name, *v->name ? " " : "", v->name, toupper(v->help[0]),
           v->help + 1);
    if (command_visible(v)) {
        fputs("\n    ", stdout);
        help_synopsis(stdout, n, v);
        puts("");
    }
    if (v->path)
        printf("\n`%s %s`%s\n", v->method, v->path,
               v->flags & VERB_IF_MATCH ? ", with If-Match" : "");
    if (v->opts)
        md_opts(v->opts);
    if (!schema_is_list(v))
        return;
    const char *comma = "\nFilters: ";
    for (const struct opt *o = schema_list_opts(v); o->name; o++)
        if (o->flags & OPT_FILTER) {
            printf("%s`%s`", comma, o->name);
            comma = ", ";
        }
    puts(".");
}

/* The fields of an answer are told once for all verbs of a noun that give them. */
static void md_answers(const struct schema_noun *n)
{
    for (const struct schema_verb *v = n->verbs; v->name; v++) {
        bool told = !v->fields;
        for (const struct schema_verb *w = n->verbs; w != v; w++)
            told |= w->fields == v->fields;
        if (told)
            continue;
        const char *comma = "";
        printf("\nAnswer of ");
        for (const struct schema_verb *w = v; w->name; w++) {
            if (w->fields == v->fields) {
                printf("%s%s%s%s", comma, n->name, *w->name ? " " : "", w->name);
                comma = ", ";
            }
        }
        puts(":\n\n| key | type | |\n|---|---|---|");
        md_fields(v->fields, "");
    }
}

static void markdown(void)
{
    puts("# Reference: orionctl and the REST API\n\n"
         "Made from the tables in src/base/schema*.c by `cmake --build DIR --target reference`.\n\n"
         "Sizes are given in bytes or as \"10G\" and answered in bytes. Lists are answered as\n"
         "`{\"items\": [...], \"next\": CURSOR or null}` and take `limit`, `cursor`, `fields` and "
         "filters:\nonly items whose field is so. Fields go "
         "into the\nJSON body of PUT, PATCH and POST and into the query of GET and DELETE. On the "
         "command "
         "line `_` is\nwritten `-`. Errors are `application/problem+json`; every item answers GET "
         "with an ETag.");
    for (const struct schema_noun *const *n = schema_nouns; *n; n++) {
        printf("\n## %s\n\n%c%s.\n", (*n)->name, toupper((*n)->help[0]), (*n)->help + 1);
        for (const struct schema_verb *v = (*n)->verbs; v->name; v++)
            md_verb(*n, v);
        md_answers(*n);
    }
}

/* ---- the manual page */

/* A dash of an option must stay a dash, a leading dot must not be a request. */
static void man_text(const char *text)
{
    if (*text == '.' || *text == '\'')
        fputs("\\&", stdout);
    for (; *text; text++) {
        if (*text == '-')
            fputs("\\-", stdout);
        else if (*text == '\\')
            fputs("\\e", stdout);
        else
            putchar(*text);
    }
}

static void man_opts(const struct opt *o)
{
    char spelled[64], text[96];
    for (; o && o->name; o++) {
        fputs(".TP\n.B ", stdout);
        man_text(command_spell_opt(o, spelled));
        if (o->type != OPT_BOOL)
            printf(" \\fI%s\\fR", type_name(o));
        putchar('\n');
        man_text(o->help);
        man_text(range(o, text));
        putchar('\n');
    }
}

static void man_verb(const struct schema_noun *n, const struct schema_verb *v)
{
    char line[1024] = "";
    FILE *f = fmemopen(line, sizeof line - 1, "w");
    help_synopsis(f, n, v);
    fclose(f);
    puts(".TP");
    fputs(".B ", stdout);
    man_text(line);
    putchar('\n');
    man_text(v->help);
    puts(".");
    if (v->opts) {
        puts(".RS");
        man_opts(v->opts);
        puts(".RE");
    }
}

static const char man_head[] =
    ".\\\" SPDX-License-Identifier: GPL-2.0-or-later\n"
    ".\\\" Made from the tables in src/base by the target \"reference\".\n"
    ".TH ORIONCTL 8 \"\" \"Orion " ORION_VERSION "\" \"System Administration\"\n"
    ".SH NAME\norionctl \\- run the storage daemon oriond\n"
    ".SH SYNOPSIS\n.B orionctl\n[\\fIoptions\\fR] \\fINOUN VERB\\fR [\\fINAME\\fR] "
    "[\\fB\\-\\-option\\fR \\fIvalue\\fR]...\n"
    ".SH DESCRIPTION\n"
    "orionctl asks\n.BR oriond (8)\nover its REST API. A verb returns when the object is usable; "
    "work "
    "in the background, like the\nfirst sync of an array, is a job.\n.PP\n"
    "Creating what stands already with the same settings is no error. What something else stands "
    "on "
    "is\nnever removed. Verbs that destroy data or its description want\n.BR \\-\\-yes ;\n"
    "safety refusals are overridden by\n.BR \\-\\-force .\n"
    ".SH OPTIONS\nThese stand anywhere on the command line, as \\fB\\-\\-option value\\fR or "
    "\\fB\\-\\-option=value\\fR.\n";

static const char man_tail[] =
    ".SH SIZES\nBytes, or a number with K, M, G or T (powers of 1024): 10G is 10GiB.\n"
    ".SH EXIT STATUS\n"
    ".TP\n.B 0\ndone\n.TP\n.B 1\nrefused or failed\n.TP\n.B 2\nusage\n.TP\n.B 3\nno daemon\n"
    ".TP\n.B 4\nnot found\n.TP\n.B 5\nconflict or in use\n.TP\n.B 6\nneeds \\-\\-yes or "
    "\\-\\-force\n"
    ".TP\n.B 7\na job failed\n.TP\n.B 8\nnot permitted\n"
    ".TP\n.B 10\nsomething would be done (config plan \\-\\-detailed\\-exitcode)\n"
    ".SH ENVIRONMENT\n.TP\n.B ORION_API\nwhere the daemon is, when \\-\\-api is not given: "
    "unix:\\fIPATH\\fR or \\fIHOST\\fR:\\fIPORT\\fR\n"
    ".TP\n.B ORION_CA, ORION_CERT, ORION_KEY, ORION_TOKEN_FILE\nas \\-\\-ca, \\-\\-cert, "
    "\\-\\-key, \\-\\-token\\-file\n.TP\n.B ORION_TOKEN\nthe token itself\n"
    ".SH FILES\n.TP\n.I ~/.config/orion/orionctl.json, /etc/orion/orionctl.json\napi, ca, cert, "
    "key and token_file, for what neither options nor the environment say\n.TP\n.I "
    "/run/orion/api.sock\nthe daemon's socket when root runs it\n"
    ".TP\n.I $XDG_RUNTIME_DIR/orion/api.sock\nits socket when a user runs it\n"
    ".SH SEE ALSO\n.BR oriond (8)\n";

static void manual(void)
{
    fputs(man_head, stdout);
    man_opts(command_globals);
    puts(".SH COMMANDS");
    for (const struct schema_noun *const *n = schema_nouns; *n; n++) {
        fputs(".SS ", stdout);
        printf("%s: ", (*n)->name);
        man_text((*n)->help);
        putchar('\n');
        for (const struct schema_verb *v = (*n)->verbs; v->name; v++)
            if (command_visible(v))
                man_verb(*n, v);
    }
    fputs(man_tail, stdout);
}

int main(int argc, char **argv)
{
    if (argc == 2 && !strcmp(argv[1], "md"))
        markdown();
    else if (argc == 2 && !strcmp(argv[1], "man"))
        manual();
    else
        return fprintf(stderr, "usage: orion-reference md|man\n"), EXIT_USAGE;
    return 0;
}
