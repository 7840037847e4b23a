/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_CLI_HELP_H
#define ORION_CLI_HELP_H

#include <stdio.h>

#include "command.h"

/* Help of everything, of a noun, or of a verb, as far as the command was understood. */
void help_print(FILE *out, const struct command *c);
/* "orionctl array fail NAME MEMBER [--force]" */
void help_synopsis(FILE *out, const struct schema_noun *noun, const struct schema_verb *verb);

/* Usage errors: one line on stderr and a pointer to the help. All return EXIT_USAGE. */
int usage(const struct command *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int usage_unknown_noun(const struct command *c, const char *word);
int usage_unknown_verb(const struct command *c, const char *words);
int usage_unknown_option(const struct command *c, const char *text, size_t len);

#endif
