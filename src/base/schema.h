/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_BASE_SCHEMA_H
#define ORION_BASE_SCHEMA_H

#include <stdbool.h>
#include <stddef.h>

#include "base/opts.h"

/*
 * The API, described once. The daemon's router, validation and OpenAPI document, orionctl's
 * commands, options, help and tables, and the reference page all come from these tables. A verb
 * that is not built is not in them.
 *
 * Conventions of the HTTP side, for every verb:
 *  - `{param}` in a path is one percent-encoded segment. It is matched before it is decoded, so
 * that an address like unix:/run/x (unix:%2Frun%2Fx) is one segment.
 *  - The fields of `opts` without OPT_CLIENT are the JSON body of PUT and POST, and the query
 * string of GET and DELETE (`?yes=true&force=true`). A parameter of the path is not repeated in
 * them.
 *  - PUT creates: 201 with the object; 200 with "changed": false when it stands with the same
 *    settings; 409 naming the field when it stands with others. It needs no
 *    If-Match, but for the few that change what is there by PUT.
 *  - VERB_IF_MATCH: the ETag of the item (schema_item_path) must be sent. An ETag covers what a
 *    person set and the states; progress, counters and rates do not change it.
 *  - VERB_LIST answers {"items": [...], "next": CURSOR or null} and takes ?limit=, ?cursor=,
 *    ?fields= and filters like ?state=degraded.
 *  - VERB_OBJECT answers one bare object; after a change it has "changed" too.
 *  - VERB_DONE answers 204, or 200 with an object when there is something to tell.
 *  - VERB_JOB answers 202 with Location: /v1/jobs/ID and the job's object, or as its result says
 * when there is nothing to be done.
 */
enum schema_result { VERB_OBJECT, VERB_LIST, VERB_DONE };

enum schema_verb_flags {
    VERB_IF_MATCH = 1 << 0,
    VERB_REST_ONLY = 1 << 1, /* not a command of orionctl; `name` is for the OpenAPI operation */
    VERB_ADMIN = 1 << 3,     /* needs the role admin */
    VERB_READ = 1 << 4, /* changes nothing though no GET: a viewer may; on record when refused */
    VERB_CLI_ONLY = 1 << 2, /* orionctl puts it together from other verbs; path is NULL */
    VERB_JOB = 1 << 5,      /* answers 202 with the job that does it */
    VERB_WAIT = 1 << 6,     /* and orionctl waits for that, unless it is told not to */
};

/* A positional argument. Its value goes into the path where `{field}` stands in it, else into the
 * body as `field`. ARG_VOLUME is "POOL/VOLUME" and fills {pool} and {volume}. */
enum schema_arg_flags { ARG_OPTIONAL = 1 << 0, ARG_VOLUME = 1 << 1 };
struct schema_arg {
    const char *field; /* a field in the body is also in `opts` */
    const char *show;  /* as in the synopsis: "NAME" */
    unsigned flags;
};

/* How a value of an answer is shown in tables. JSON has the raw value. */
enum schema_format {
    FMT_TEXT,   /* string */
    FMT_NUMBER, /* integer */
    FMT_SIZE,   /* integer, bytes */
    FMT_BOOL,
    FMT_TIME,    /* RFC 3339 string */
    FMT_NAMES,   /* array of strings */
    FMT_OBJECTS, /* array of objects of `of`; in tables their first fields */
    FMT_MAP,     /* object of strings or numbers */
    FMT_PERCENT, /* no JSON key: `key` is "DONE/TOTAL", two integer keys */
};

enum schema_field_flags { FIELD_TABLE = 1 << 0 /* in the default table */ };
struct schema_field {
    const char *key;
    enum schema_format format;
    unsigned flags;
    const char *help;
    const struct schema_field *of;
};

enum { SCHEMA_ARGS = 3 };
struct schema_verb {
    const char *name;   /* "create"; "portal add"; "" for a noun that is a command itself */
    const char *method; /* "GET", "PUT", "POST", "DELETE" */
    const char *path;   /* "/v1/arrays/{name}/actions/fail" */
    struct schema_arg args[SCHEMA_ARGS + 1];
    const struct opt *opts; /* NULL: none */
    enum schema_result result;
    unsigned flags;
    const struct schema_field *fields; /* of the answer (each item of a list); NULL: none */
    const char *help;
};

struct schema_noun {
    const char *name; /* "array" */
    const char *help;
    const struct schema_verb *verbs; /* ends with name == NULL */
};

/* All nouns; ends with NULL. */
extern const struct schema_noun *const schema_nouns[];

const struct schema_noun *schema_noun_find(const char *name);
const struct schema_verb *schema_verb_find(const struct schema_noun *noun, const char *name);

/* GET of a list; and what it takes in its query: the options of the verb, limit, cursor, fields,
 * and a filter (OPT_FILTER) for each text, number, size and yes/no field of its items. Kept for
 * good. Any thread. */
bool schema_is_list(const struct schema_verb *v);
const struct opt *schema_list_opts(const struct schema_verb *v);

/* ---- routes */
enum { SCHEMA_PARAMS = 2, SCHEMA_PARAM_MAX = 512 };
struct schema_match {
    const struct schema_noun *noun;
    const struct schema_verb *verb;
    unsigned count;
    struct {
        char name[16];
        char value[SCHEMA_PARAM_MAX]; /* decoded */
    } param[SCHEMA_PARAMS];
};
/* Finds the verb of a request line; `path` is still percent-encoded and has no query. Fails with
 * ERR_NOT_FOUND, or ERR_UNSUPPORTED (405) when the path is known with other methods, which are then
 * in *allow_r ("GET, PUT"; may be NULL). */
int schema_route(const char *method, const char *path, struct schema_match *match_r,
                 char allow_r[64], struct err *e);
/* NULL when the path has no such parameter. */
const char *schema_param(const struct schema_match *match, const char *name);

/* The verb's path with its parameters filled in, percent-encoded; value() gives each by name.
 * malloc'ed. */
char *schema_expand(const char *path, const char *(*value)(const char *param, void *arg),
                    void *arg);
/* The path of the item whose ETag counts: without "/actions/...". malloc'ed. */
char *schema_item_path(const char *path);

#endif
