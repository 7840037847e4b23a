/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_CONTROL_CONTROL_H
#define ORION_CONTROL_CONTROL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/opts.h"
#include "base/schema.h"
#include "block/bdev_driver.h"
#include "block/event.h"

struct json_object;

/*
 * Nouns and verbs: the only road to change. REST, the command line and start-up all take it.
 * Everything here belongs to main; functions marked T need a task.
 *
 * A verb runs alone on its object (a lock by name); verbs on different objects run side by side. A
 * verb that writes a disk saves an intent before and clears it in the record that saves its
 * outcome; start-up finishes or undoes what it finds open. docs/control.md has the whole.
 */
struct control_opts {
    const char *state_dir;               /* exists */
    const struct driver *const *drivers; /* ends with NULL */
    unsigned reactors;                   /* for status */
    unsigned array_wait_s; /* for how long arrays wait for absent members at start-up; 0: not */
    void (*progress)(const char *text); /* start-up tells how far it is; may be NULL */
};

enum control_phase { CONTROL_STARTING, CONTROL_READY, CONTROL_STOPPING };

/* Locks the folder, loads the state, initialises the targets. Blocks. */
int control_open(const struct control_opts *opts, struct err *e);
/* T: brings back all that is saved: devices, arrays, pools, exports and targets, then listeners.
 * What cannot start stays listed with the reason. Never creates, never formats. */
void control_start(void);
/* T: refuses new verbs, waits for running ones, closes the targets, flushes, marks arrays clean. */
void control_stop(void);
void control_close(void);

enum control_phase control_phase(void);
const char *control_phase_name(enum control_phase p); /* "starting", "ready", "stopping" */

/* T: the kernel said that the block device MAJOR:MINOR changed or went: devices on it look anew;
 * one that has gone is unregistered (its users are told) and stays listed with the reason. */
void control_node_changed(unsigned node_major, unsigned node_minor);

/* ---- verbs */
enum { CONTROL_ETAG_MAX = 36, CONTROL_LOCATION_MAX = 1600 };

/*
 * One request. The order of refusals is fixed: not found, precondition (428, 412), then the rest;
 * so the fields are asked for by `fields` only when the first two are passed. `fields` fills
 * call->opts by control_opts_new and control_opts_json / control_opts_text, or fails. It may be
 * NULL: no fields given.
 */
/* What one may do: viewer sees, operator changes, admin also deletes data, applies whole
 * configurations and gives tokens. */
enum control_role { ROLE_NONE, ROLE_VIEWER, ROLE_OPERATOR, ROLE_ADMIN };
const char *control_role_name(enum control_role role);
enum control_role control_verb_role(const struct schema_verb *verb); /* the least that may */

/* Who asks. */
enum { CONTROL_WHO_MAX = 128 };
struct control_who {
    char name[CONTROL_WHO_MAX]; /* "uid:0", "token:ci", "cert:host"; "" is the daemon itself */
    char from[CONTROL_WHO_MAX]; /* "unix pid 12", "10.0.0.1:4711" */
};

struct control_call {
    struct schema_match match;
    struct control_who who;
    enum control_role role; /* ROLE_NONE: the daemon itself, which may do everything */
    const char *if_match;   /* as in the header, NULL when absent */
    const char *if_none_match;
    int (*fields)(struct control_call *call, struct err *e);
    void *arg; /* fields' */

    /* -- result of a call that succeeded */
    int status;                /* 200, 201, 202, 204 */
    struct json_object *reply; /* NULL with 204 */
    char etag[CONTROL_ETAG_MAX];
    char location[CONTROL_LOCATION_MAX]; /* of a new object or a job, else "" */

    char before[CONTROL_ETAG_MAX], after[CONTROL_ETAG_MAX]; /* of the object; "" for none */

    /* -- between `fields` and the verb */
    struct opts *opts;
    struct json_object
        *errors; /* array of {field, detail}: every wrong field, not just the first */
};
int control_run(struct control_call *call, struct err *e); /* T */
/* Does the header If-Match (or, `weak`, If-None-Match) of RFC 9110 list the ETag? */
bool control_etag_listed(const char *header, const char *etag, bool weak);
void control_call_clear(struct control_call *call);

/* The fields of a request: a JSON object (NULL: empty) or name=value text. All wrong fields are
 * collected in call->errors; -1 with the first of them in *e. */
int control_opts_json(struct control_call *call, struct json_object *body, struct err *e);
/* One field: its JSON type must be that of the option. */
int control_field_json(struct opts *o, const char *name, struct json_object *v, struct err *e);
struct control_pair {
    const char *name, *value;
};
int control_opts_text(struct control_call *call, const struct control_pair *pairs, unsigned n,
                      struct err *e);
/* Items of a list one by one, as they come: takes the fields and checks them, for a call that has
 * its match; then each item as the request wants it, or NULL when a filter keeps it out (yours). */
int control_list_begin(struct control_call *call, struct err *e);
struct json_object *control_list_item(const struct control_call *call, struct json_object *item);
/* Something that was refused before it came to a verb: for the audit log, which only counts it when
 * `why` is NULL. */
void control_refused(const struct control_who *who, const char *method, const char *path,
                     const char *why);

/* ---- for metrics: sums that cost nothing */
uint64_t control_events_total(void);
uint64_t control_verbs_total(bool failed);
uint64_t control_state_generation(void);
uint64_t control_started_ms(void); /* wall clock */

/* T: reads secrets that stand elsewhere again; what cannot be read stays as it was. */
void control_reread_secrets(void);
/* Something outside of control is wrong ("" or NULL: no more): it is told of in `status`. */
void control_trouble(const char *what, const char *name, const char *why);
/* True when something is wrong; calls fn (may be NULL) with each problem, one sentence. */
bool control_problems(void (*fn)(const char *text, void *arg), void *arg);

#endif
