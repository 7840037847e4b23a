/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_BASE_OPTS_H
#define ORION_BASE_OPTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/*
 * Option tables: one description of a field feeds REST validation, the OpenAPI document, CLI
 * options, help, completion and the reference page. A field is spelled with `_` in REST
 * ("read_only") and in the tables, with `-` on the command line ("--read-only").
 */
enum opt_type {
    OPT_STRING, /* free text, at most `max` bytes (0 = 255) */
    OPT_NAME,   /* an object's name; max 2: POOL/VOLUME is one too */
    OPT_PATH,   /* absolute path */
    OPT_SIZE,   /* bytes or "10G"; min, max in bytes (max 0 = none) */
    OPT_UINT,
    OPT_BOOL,
    OPT_ENUM, /* `choices`: "a|b|c" */
    OPT_JSON, /* an object in REST, a file of it (or -) on the command line; as long as it came */
    OPT_LIST, /* comma list on the command line, array of strings in REST; min, max entries */
};

enum opt_flags {
    OPT_REQUIRED = 1 << 0,
    OPT_SECRET = 1 << 1,     /* by file only on the command line; never read back, never logged */
    OPT_CONSENT = 1 << 2,    /* --yes, --force: not part of the object */
    OPT_CLIENT = 1 << 3,     /* orionctl's own: never sent */
    OPT_FILTER = 1 << 4,     /* of a list: only items whose field of this name is so */
    OPT_REST = 1 << 5,       /* no option of the command line */
    OPT_CREDENTIAL = 1 << 6, /* PATH: credential:NAME is one too (base/secret.h) */
};

struct opt {
    const char *name;
    enum opt_type type;
    unsigned flags;
    uint64_t min, max;
    const char *choices;
    const char *dflt; /* as text, or NULL */
    const char *help; /* one line, lower case, no full stop */
};

struct optval {
    bool set; /* given by the caller (not the default) */
    union {
        uint64_t u; /* SIZE, UINT, BOOL */
        char *s;    /* STRING, NAME, PATH, ENUM */
        struct {
            char **v;
            unsigned n;
        } list;
    };
};

/* Values of one table: the defaults, then what was put. */
struct opts {
    const struct opt *table;
    unsigned count;
    struct optval *val;
};

struct opts *opts_new(const struct opt *table);
void opts_free(struct opts **o);
const struct opt *opts_find(const struct opt *table, const char *name); /* NULL: unknown */
/* Parses and range-checks a value given as text (a list: comma separated). The error names the
 * field, what was given and what was expected. An unknown name is ERR_INVALID listing the known
 * ones. */
int opts_put(struct opts *o, const char *name, const char *text, struct err *e);
int opts_put_list(struct opts *o, const char *name, const char *const *v, unsigned n,
                  struct err *e);
/* Back to the default or to nothing, as given by the caller: what null in a merge patch (RFC 7396)
 * asks for. ERR_INVALID for what cannot be without a value. */
int opts_clear(struct opts *o, const char *name, struct err *e);
/* All OPT_REQUIRED ones are set? */
int opts_check(const struct opts *o, struct err *e);

/* Getters assert that the name is in the table. Strings and lists are the table's, not the
 * caller's. */
bool opts_is_set(const struct opts *o, const char *name);
uint64_t opts_u64(const struct opts *o, const char *name);
bool opts_bool(const struct opts *o, const char *name);
const char *opts_str(const struct opts *o,
                     const char *name); /* NULL when neither set nor default */
char *const *opts_list(const struct opts *o, const char *name, unsigned *n_r);

#endif
