/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_CLI_COMMAND_H
#define ORION_CLI_COMMAND_H

#include <stdbool.h>

#include "base/schema.h"

/* Exit codes beside those of err_code_exit(). */
enum { EXIT_DONE = 0, EXIT_REFUSED = 1, EXIT_USAGE = 2, EXIT_NO_DAEMON = 3, EXIT_JOB_FAILED = 7 };

enum { COMMAND_OPTIONS = 64, COMMAND_SECRETS = 4 };

/* A command line, understood. Strings are argv's. */
struct command {
    const char *api;                          /* NULL: the defaults */
    const char *ca, *cert, *key, *token_file; /* the same */
    bool json, noheadings, wait, no_wait, help;
    const char *columns; /* -o */
    unsigned watch;      /* seconds; 0: once */
    char units;          /* 'h' for people, 'b', 'k', 'm', 'g', 't' */

    const struct schema_noun *noun; /* NULL with help of everything */
    const struct schema_verb *verb; /* NULL with help of a noun */
    const char *arg[SCHEMA_ARGS];   /* positional, NULL when not given */
    unsigned option_count;
    struct {
        const struct opt *opt;
        const char *value; /* "true" for a bare flag */
    } option[COMMAND_OPTIONS];
};

/* The options that every command takes; for help and the reference page. */
extern const struct opt command_globals[];

/* 0, or EXIT_USAGE after a message on stderr. */
int command_parse(struct command *c, int argc, const char *const *argv);
/* The value of one of the verb's options, NULL when not given. */
const char *command_option(const struct command *c, const char *name);
bool command_flag(const struct command *c, const char *name);

/* The options of a verb, as the command line takes them: a list has its filters too; those flagged
 * OPT_REST are none. */
const struct opt *command_opts(const struct schema_verb *v);
/* A verb that is a command of orionctl. */
bool command_visible(const struct schema_verb *v);
/* "--read-only" for "read_only". Returns out. */
const char *command_spell(const char *name, char out[64]);
/* The same of an option: a secret is spelled --NAME-file, it is never given in words. */
const char *command_spell_opt(const struct opt *o, char out[64]);

#endif
