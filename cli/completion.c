/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Completion scripts, from the same tables as everything else. */
#include <stdio.h>
#include <string.h>

#include "help.h"
#include "tools.h"

/* Names of objects come from the daemon: what lists them, and the column that has them. */
static const struct lister {
    const char *noun, *field, *list, *key;
} listers[] = {
    {"device", "name", "device list", "name"}, {"array", "name", "array list", "name"},
    {"pool", "name", "pool list", "name"},     {"volume", "name", "volume list", "name"},
    {"session", "id", "session list", "id"},   {"job", "id", "job list", "id"},
    {"nbd", "name", "nbd list", "name"},       {"nbd", "addr", "nbd listeners", "addr"},
    {"iscsi", "iqn", "iscsi list", "iqn"},     {"iscsi", "addr", "iscsi portal list", "addr"},
    {"token", "name", "token list", "name"},
};

static const struct lister *lister_of(const struct schema_noun *n, const struct schema_verb *v)
{
    const struct schema_arg *a = v->args;
    /* The object of a PUT is new; what is below a target is its part. */
    bool part = a->field && a[1].field && !strcmp(a->field, "iqn");
    if (!a->field || (v->method && !strcmp(v->method, "PUT") && !part))
        return NULL;
    for (unsigned i = 0; i < sizeof listers / sizeof *listers; i++)
        if (!strcmp(n->name, listers[i].noun) && !strcmp(a->field, listers[i].field))
            return &listers[i];
    return NULL;
}

static void print_options(const struct opt *o)
{
    char spelled[64];
    for (; o && o->name; o++)
        if (!(o->flags & OPT_REST))
            printf(" %s", command_spell_opt(o, spelled));
}

/* "noun" and "noun verb" as patterns of a case, each with the words that may follow. */
static void print_noun(const struct schema_noun *n)
{
    printf("    '%s') words='", n->name);
    for (const struct schema_verb *v = n->verbs; v->name; v++)
        if (command_visible(v) && *v->name)
            printf("%.*s ", (int)strcspn(v->name, " "), v->name);
        else if (command_visible(v))
            print_options(command_opts(v));
    printf("%s'%s ;;\n", strcmp(n->name, "completion") ? "" : "bash zsh",
           strcmp(n->name, "explain") ? "" : "; names='device list' key=name");
}

/* The second words of verbs like "portal add", below their first one. */
static void print_second_words(const struct schema_noun *n, const struct schema_verb *v)
{
    size_t first = strcspn(v->name, " ") + 1;
    for (const struct schema_verb *w = n->verbs; w != v; w++)
        if (!strncmp(w->name, v->name, first))
            return; /* told already */
    printf("    '%s %.*s') words='", n->name, (int)first - 1, v->name);
    for (const struct schema_verb *w = v; w->name; w++)
        if (command_visible(w) && !strncmp(w->name, v->name, first))
            printf("%s ", w->name + first);
    printf("' ;;\n");
}

static void print_verb(const struct schema_noun *n, const struct schema_verb *v)
{
    if (strchr(v->name, ' '))
        print_second_words(n, v);
    printf("    '%s %s') words='", n->name, v->name);
    print_options(command_opts(v));
    printf("'");
    const struct lister *l = lister_of(n, v);
    if (l)
        printf("; names='%s' key=%s", l->list, l->key);
    printf(" ;;\n");
}

static void print_choices(void)
{
    for (const struct schema_noun *const *n = schema_nouns; *n; n++)
        for (const struct schema_verb *v = (*n)->verbs; v->name; v++)
            for (const struct opt *o = command_visible(v) ? v->opts : NULL; o && o->name; o++) {
                char spelled[64];
                if (!o->choices || o->type != OPT_ENUM)
                    continue;
                printf("    '%s%s%s %s') words='", (*n)->name, *v->name ? " " : "", v->name,
                       command_spell_opt(o, spelled));
                for (const char *p = o->choices; *p; p++)
                    putchar(*p == '|' ? ' ' : *p);
                printf("'; names= ;;\n");
            }
}

static void print_globals(void)
{
    char spelled[64];
    for (const struct opt *o = command_globals; o->name; o++)
        printf(" %s", command_spell_opt(o, spelled));
}

/* The longest beginning of what was typed that the tables know decides. */
static const char body[] =
    "_orionctl() {\n"
    "  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words= names= key= w "
    "n\n"
    "  local -a typed=()\n"
    "  COMPREPLY=()\n"
    "  for w in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n"
    "    [[ $w == -* ]] || typed+=(\"$w\")\n"
    "  done\n"
    "  for n in 3 2 1 0; do\n"
    "    ((${#typed[@]} >= n)) && _orionctl_words \"${typed[*]:0:n}\" && break\n"
    "  done\n"
    "  if [[ $names && $cur != -* ]]; then\n"
    "    words=\"$words $(eval \"orionctl $names --noheadings -o $key\" 2>/dev/null)\"\n"
    "  fi\n"
    "  [[ $prev == --* ]] && _orionctl_choices \"${typed[*]:0:n} $prev\"\n";

static void print_bash(void)
{
    fputs("# bash completion of orionctl; made by: orionctl completion bash\n", stdout);
    fputs(body, stdout);
    printf("  [[ $cur == -* ]] && words=\"$words");
    print_globals();
    printf("\"\n"
           "  COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
           "}\n");
    printf("_orionctl_words() {\n  case \"$1\" in\n    '') words='");
    for (const struct schema_noun *const *n = schema_nouns; *n; n++)
        printf("%s ", (*n)->name);
    printf("' ;;\n");
    for (const struct schema_noun *const *n = schema_nouns; *n; n++) {
        print_noun(*n);
        for (const struct schema_verb *v = (*n)->verbs; v->name; v++)
            if (command_visible(v) && *v->name)
                print_verb(*n, v);
    }
    printf("    *) return 1 ;;\n  esac\n}\n_orionctl_choices() {\n  case \"$1\" in\n");
    print_choices();
    printf("    *) : ;;\n  esac\n}\ncomplete -F _orionctl orionctl\n");
}

int completion_run(const struct command *c)
{
    bool zsh = !strcmp(c->arg[0], "zsh");
    if (!zsh && strcmp(c->arg[0], "bash"))
        return usage(c, "'%.40s' is no shell that is known here: expected bash or zsh", c->arg[0]);
    if (zsh) /* zsh runs bash's completions itself */
        puts("#compdef orionctl\nautoload -U +X bashcompinit && bashcompinit");
    print_bash();
    return 0;
}
