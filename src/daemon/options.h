/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_DAEMON_OPTIONS_H
#define ORION_DAEMON_OPTIONS_H

#include <stdbool.h>

#include "base/opts.h"

/* The daemon's settings: the command line, then the configuration file, then the defaults. */
struct options {
    const char *config; /* NULL: none */
    bool foreground, check_config, version, help;
    struct opts *line, *file; /* of option_table */
    char *state_dir, *api;    /* of the defaults */
};

/* api, metrics, tls_*, viewers, operators, admins, state_dir, reactors, spin_us, log */
extern const struct opt option_table[];

/* -1: wrong usage, told on stderr. */
int options_parse(struct options *o, int argc, char **argv);
/* Reads the file (again). A file that was named must be there; the default one need not. */
int options_read_file(struct options *o, struct err *e);
void options_free(struct options *o);
void options_usage(void);

const char *options_str(const struct options *o, const char *name); /* NULL: not set */
uint64_t options_u64(const struct options *o, const char *name);
char *const *options_list(const struct options *o, const char *name, unsigned *n_r);

/* Parses a configuration: JSON, comments allowed, unknown keys refused. For the fuzzer too. */
struct opts *options_parse_config(const char *text, size_t len, struct err *e);

#endif
