/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "command.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "help.h"

const struct opt command_globals[] = {
    {"api", OPT_STRING, .max = 4095, .help = "the daemon: unix:PATH, or HOST:PORT by TLS"},
    {"ca", OPT_STRING, .max = 4095,
     .help = "TLS: PEM file of who signs the daemon (default: whom this machine trusts)"},
    {"cert", OPT_STRING, .max = 4095, .help = "TLS: PEM file of our certificate"},
    {"key", OPT_STRING, .max = 4095, .help = "TLS: PEM file of its private key"},
    {"token_file", OPT_STRING, .max = 4095, .help = "file with a bearer token"},
    {"json", OPT_BOOL, .help = "print JSON, as REST answers"},
    {"output", OPT_STRING, .max = 4095, .help = "columns, also as -o: KEY,KEY; +KEY adds; all"},
    {"noheadings", OPT_BOOL, .help = "tables without their first line"},
    {"units", OPT_ENUM, .choices = "h|b|k|m|g|t", .help = "sizes for people (h), or in one unit"},
    {"watch", OPT_UINT, .help = "do it again every so many seconds (2), on a terminal in place"},
    {"wait", OPT_BOOL, .help = "wait for the job that a verb started; apply does so by itself"},
    {"no_wait", OPT_BOOL, .help = "print the number of that job and don't wait for it"},
    {"yes", OPT_BOOL, .help = "consent; every verb takes it, those that destroy data need it"},
    {"help", OPT_BOOL, .help = "help for what stands before it"},
    {.name = NULL},
};

const struct opt *command_opts(const struct schema_verb *v)
{
    return schema_is_list(v) ? schema_list_opts(v) : v->opts;
}

bool command_visible(const struct schema_verb *v)
{
    return !(v->flags & VERB_REST_ONLY);
}

const char *command_spell(const char *name, char out[64])
{
    snprintf(out, 64, "--%s", name);
    for (char *p = out; *p; p++)
        if (*p == '_')
            *p = '-';
    return out;
}

const char *command_spell_opt(const struct opt *o, char out[64])
{
    command_spell(o->name, out);
    size_t n = strlen(out);
    if (o->flags & OPT_SECRET)
        snprintf(out + n, 64 - n, "-file");
    return out;
}

const char *command_option(const struct command *c, const char *name)
{
    const char *value = NULL;
    for (unsigned i = 0; i < c->option_count; i++)
        if (!strcmp(c->option[i].opt->name, name))
            value = c->option[i].value;
    return value;
}

bool command_flag(const struct command *c, const char *name)
{
    const char *value = command_option(c, name);
    return value && !strcmp(value, "true");
}

/* ---- parsing */
struct parser {
    struct command *c;
    int argc, at;
    const char *const *argv;
    unsigned args;
    const char *first; /* first word of a verb of two */
    bool only_words;   /* after "--" */
};

static bool is_true(const char *v)
{
    return !strcmp(v, "true") || !strcmp(v, "yes") || !strcmp(v, "on") || !strcmp(v, "1");
}

static bool is_false(const char *v)
{
    return !strcmp(v, "false") || !strcmp(v, "no") || !strcmp(v, "off") || !strcmp(v, "0");
}

/* What cannot even be read is a usage error; whether it is acceptable, the daemon says. */
static bool readable(const struct opt *opt, const char *v)
{
    uint64_t n;
    if (opt->type == OPT_BOOL)
        return is_true(v) || is_false(v);
    if (opt->type == OPT_SIZE)
        return size_parse(v, &n);
    if (opt->type == OPT_UINT)
        return *v && strspn(v, "0123456789") == strlen(v) && strlen(v) < 20;
    return true;
}

static const char *expected(const struct opt *opt)
{
    return opt->type == OPT_BOOL   ? "true or false"
           : opt->type == OPT_SIZE ? "a size: bytes, or a number with K, M, G or T (10G)"
                                   : "a number";
}

static int put_global(struct parser *p, const struct opt *opt, const char *value)
{
    struct command *c = p->c;
    bool on = opt->type == OPT_BOOL && is_true(value);
    if (!strcmp(opt->name, "api"))
        c->api = value;
    else if (!strcmp(opt->name, "ca"))
        c->ca = value;
    else if (!strcmp(opt->name, "cert"))
        c->cert = value;
    else if (!strcmp(opt->name, "key"))
        c->key = value;
    else if (!strcmp(opt->name, "token_file"))
        c->token_file = value;
    else if (!strcmp(opt->name, "output"))
        c->columns = value;
    else if (!strcmp(opt->name, "json"))
        c->json = on;
    else if (!strcmp(opt->name, "noheadings"))
        c->noheadings = on;
    else if (!strcmp(opt->name, "wait"))
        c->wait = on, c->no_wait = !on;
    else if (!strcmp(opt->name, "no_wait"))
        c->wait = !on, c->no_wait = on;
    else if (!strcmp(opt->name, "watch"))
        c->watch = (unsigned)strtoul(value, NULL, 10);
    else if (!strcmp(opt->name, "help"))
        c->help = on;
    else if (!strcmp(opt->name, "yes")) /* a verb that needs it has it in its own table */
        return 0;
    else if (strlen(value) == 1 && strchr("hbkmgt", tolower((unsigned char)*value)))
        c->units = (char)tolower((unsigned char)*value);
    else
        return usage(c, "--units is '%s'; expected one of h, b, k, m, g, t", value);
    return 0;
}

static int put_option(struct parser *p, const struct opt *opt, bool global, const char *value)
{
    struct command *c = p->c;
    char spelled[64];
    if (!readable(opt, value))
        return usage(c, "%s is '%s'; expected %s", command_spell_opt(opt, spelled), value,
                     expected(opt));
    if (global)
        return put_global(p, opt, value);
    if (c->option_count == COMMAND_OPTIONS)
        return usage(c, "too many options");
    if (opt->type == OPT_BOOL)
        value = is_true(value) ? "true" : "false";
    c->option[c->option_count].opt = opt;
    c->option[c->option_count++].value = value;
    return 0;
}

/* What other users of the machine could see in the list of processes is read from a file. Kept
 * until the command ends. */
static int put_secret(struct parser *p, const struct opt *opt, const char *path)
{
    static char text[COMMAND_SECRETS][4096];
    static unsigned used;
    if (used == COMMAND_SECRETS)
        return usage(p->c, "too many options");
    FILE *f = strcmp(path, "-") ? fopen(path, "re") : stdin;
    size_t n = f ? fread(text[used], 1, sizeof text[used], f) : 0;
    bool bad = !f || ferror(f);
    if (f && f != stdin)
        fclose(f);
    if (bad) {
        fprintf(stderr, "orionctl: %s: %s\n", path, strerror(errno));
        return EXIT_REFUSED;
    }
    if (n && text[used][n - 1] == '\n')
        n--;
    if (n && text[used][n - 1] == '\r')
        n--;
    if (n == sizeof text[used] || memchr(text[used], 0, n)) {
        fprintf(stderr, "orionctl: %s is no secret: it is too long, or has a NUL in it\n", path);
        return EXIT_REFUSED;
    }
    text[used][n] = 0;
    return put_option(p, opt, false, text[used++]);
}

static const struct opt *find_secret(const struct opt *table, const char *name)
{
    size_t n = strlen(name);
    if (!table || n < 6 || strcmp(name + n - 5, "_file") != 0)
        return NULL;
    char bare[64];
    snprintf(bare, sizeof bare, "%.*s", (int)(n - 5), name);
    const struct opt *opt = opts_find(table, bare);
    return opt && opt->flags & OPT_SECRET ? opt : NULL;
}

static int parse_option(struct parser *p, const char *text)
{
    char name[64];
    size_t n = strcspn(text, "=");
    snprintf(name, sizeof name, "%.*s", (int)n, text);
    for (char *q = name; *q; q++)
        if (*q == '-')
            *q = '_';
    const struct opt *table = p->c->verb ? command_opts(p->c->verb) : NULL;
    const struct opt *opt = n < sizeof name && table ? opts_find(table, name) : NULL;
    if (opt && opt->flags & OPT_REST)
        opt = NULL;
    const struct opt *secret = n < sizeof name ? find_secret(table, name) : NULL;
    if (opt && opt->flags & OPT_SECRET)
        return usage(p->c, "--%.*s takes no value on the command line; expected --%.*s-file FILE",
                     (int)n, text, (int)n, text);
    if (secret && !text[n] && p->at == p->argc)
        return usage(p->c, "--%s needs a value", text);
    if (secret)
        return put_secret(p, secret, text[n] ? text + n + 1 : p->argv[p->at++]);
    bool global = !opt;
    if (!opt && n < sizeof name)
        opt = opts_find(command_globals, name);
    if (!opt)
        return usage_unknown_option(p->c, text, n);
    if (text[n])
        return put_option(p, opt, global, text + n + 1);
    if (opt->type == OPT_BOOL)
        return put_option(p, opt, global, "true");
    bool number = p->at < p->argc && *p->argv[p->at] >= '0' && *p->argv[p->at] <= '9';
    if (global && !strcmp(opt->name, "watch") && !number)
        return put_option(p, opt, global, "2");
    if (p->at == p->argc)
        return usage(p->c, "--%s needs a value", text);
    return put_option(p, opt, global, p->argv[p->at++]);
}

static const struct schema_verb *visible_verb(const struct schema_noun *noun, const char *name)
{
    const struct schema_verb *v = schema_verb_find(noun, name);
    return v && command_visible(v) ? v : NULL;
}

static bool begins_verb(const struct schema_noun *noun, const char *word)
{
    size_t n = strlen(word);
    for (const struct schema_verb *v = noun->verbs; v->name; v++)
        if (command_visible(v) && !strncmp(v->name, word, n) && v->name[n] == ' ')
            return true;
    return false;
}

static int parse_verb(struct parser *p, const char *word)
{
    struct command *c = p->c;
    if (p->first) {
        char both[64];
        snprintf(both, sizeof both, "%s %s", p->first, word);
        c->verb = visible_verb(c->noun, both);
        return c->verb ? 0 : usage_unknown_verb(c, both);
    }
    c->verb = visible_verb(c->noun, word);
    if (c->verb)
        return 0;
    if (!begins_verb(c->noun, word))
        return usage_unknown_verb(c, word);
    p->first = word;
    return 0;
}

static int parse_word(struct parser *p, const char *word)
{
    struct command *c = p->c;
    if (!c->noun) {
        if (!strcmp(word, "help")) {
            c->help = true;
            return 0;
        }
        c->noun = schema_noun_find(word);
        /* `plan FILE` and `apply FILE` are said so often that the noun may be left out. */
        if (!c->noun && (!strcmp(word, "plan") || !strcmp(word, "apply"))) {
            c->noun = schema_noun_find("config");
            return parse_verb(p, word);
        }
        if (!c->noun)
            return usage_unknown_noun(c, word);
        c->verb = visible_verb(c->noun, "");
        return 0;
    }
    if (!c->verb)
        return parse_verb(p, word);
    if (p->args == SCHEMA_ARGS || !c->verb->args[p->args].field)
        return usage(c, "'%s' is one word too many", word);
    c->arg[p->args++] = word;
    return 0;
}

/* What there is one of, like the log level, is shown when no verb is said. */
static const struct schema_verb *bare_show(const struct schema_noun *noun)
{
    const struct schema_verb *v = visible_verb(noun, "show");
    return v && !v->args[0].field ? v : NULL;
}

static int check_complete(struct parser *p)
{
    struct command *c = p->c;
    char spelled[64];
    if (!c->noun)
        return usage(c, "what shall be done? A noun and a verb are expected");
    if (!c->verb && !p->first)
        c->verb = bare_show(c->noun);
    if (!c->verb)
        return usage(c, "what shall be done with %s%s%s? A verb is expected", c->noun->name,
                     p->first ? " " : "", p->first ? p->first : "");
    const struct schema_arg *next = &c->verb->args[p->args];
    if (next->field && !(next->flags & ARG_OPTIONAL))
        return usage(c, "%s is missing", next->show);
    for (unsigned i = 0; i < p->args; i++) {
        const char *slash = strchr(c->arg[i], '/');
        if ((c->verb->args[i].flags & ARG_VOLUME) &&
            (!slash || slash == c->arg[i] || !slash[1] || strchr(slash + 1, '/')))
            return usage(c, "'%s' is no name of a volume; expected POOL/VOLUME", c->arg[i]);
        if (!*c->arg[i])
            return usage(c, "%s is empty", c->verb->args[i].show);
        if (c->verb->args[i].flags & ARG_OPTIONAL && command_option(c, c->verb->args[i].field))
            return usage(c, "%s and --%s say the same: one of them is enough",
                         c->verb->args[i].show, c->verb->args[i].field);
    }
    for (const struct opt *o = c->verb->opts; o && o->name; o++) {
        bool positional = false;
        for (unsigned i = 0; i < p->args; i++)
            positional |= !strcmp(c->verb->args[i].field, o->name);
        if ((o->flags & OPT_REQUIRED) && !positional && !command_option(c, o->name))
            return usage(c, "%s is missing: %s", command_spell_opt(o, spelled), o->help);
    }
    return 0;
}

int command_parse(struct command *c, int argc, const char *const *argv)
{
    memset(c, 0, sizeof *c);
    c->units = 'h';
    struct parser p = {.c = c, .argc = argc, .argv = argv, .at = 1};
    while (p.at < argc) {
        const char *word = argv[p.at++];
        int rc = 0;
        if (p.only_words || *word != '-' || !word[1])
            rc = parse_word(&p, word);
        else if (!strcmp(word, "--"))
            p.only_words = true;
        else if (!strcmp(word, "-h"))
            c->help = true;
        else if (!strcmp(word, "--version") && !c->noun)
            rc = parse_word(&p, "version");
        else if (!strcmp(word, "-o"))
            rc = parse_option(&p, "output");
        else if (!strncmp(word, "--", 2))
            rc = parse_option(&p, word + 2);
        else
            rc = usage(c, "unknown option '%s'", word);
        if (rc)
            return rc;
    }
    if (c->help || argc < 2) {
        c->help = true;
        return 0;
    }
    return check_complete(&p);
}
