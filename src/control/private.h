/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_CONTROL_PRIVATE_H
#define ORION_CONTROL_PRIVATE_H

#include <json-c/json.h>

#include "base/killpoint.h"
#include "block/bdev.h"
#include "control/control.h"
#include "control/journal.h"
#include "reactor/task.h"

/* Main's. */
struct control {
    struct control_opts opts;
    struct journal *journal;
    enum control_phase phase;
    unsigned running; /* verbs under way */
    uint64_t verbs, verbs_failed;
    uint64_t started_ms;
    struct json_object *reasons; /* state key -> why it is not there */
    struct json_object *damage;  /* array of strings: what journal_open reported */
};
extern struct control control;

enum { KEY_MAX = 560 };

/* ---- resources: what stands at an item's path. One table, resource.c */
struct resource {
    const char *item;       /* path of the item in the schema */
    const char *collection; /* and of its list */
    const char *key;        /* field that tells items apart */
    /* The object as GET shows it (the caller's), or NULL. */
    struct json_object *(*show)(const struct schema_match *m);
    /* Adds every object to the array; o has the list's fields. -1: no such parent. */
    int (*list)(const struct schema_match *m, const struct opts *o, struct json_object *items,
                struct err *e);
    void (*lock)(const struct schema_match *m, char key[KEY_MAX]);
    const char *const *live; /* keys that are no part of the ETag; ends with NULL; may be NULL */
    const char *what;        /* "device": for messages */
    /* Of what stands below another item: ERR_NOT_FOUND when that is not there. May be NULL. */
    int (*parent)(const struct schema_match *m, struct err *e);
};
const struct resource *resource_of_item(const char *path);
const struct resource *resource_of_collection(const char *path);
/* `"0123..."`, quoted; over all but the live keys. */
void resource_etag(const struct resource *r, struct json_object *object,
                   char etag[CONTROL_ETAG_MAX]);

/* ---- verbs. The object's lock is held; `existing` is what stood there (NULL for a PUT that is
 * new). */
struct verb_run {
    struct control_call *call;
    const struct schema_match *match;
    const struct opts *opts;
    struct json_object *existing; /* borrowed */
    bool changed;                 /* preset true */
    struct json_object *reply;    /* instead of the object itself */
    uint64_t job;                 /* 202 */
    const char *note;             /* one sentence that a person should know, or NULL */
};
typedef int (*verb_fn)(struct verb_run *v, struct err *e);
struct verb_entry {
    const char *noun, *verb;
    verb_fn run;
};
extern const struct verb_entry device_verbs[], array_verbs[], pool_verbs[], volume_verbs[],
    nbd_verbs[], iscsi_verbs[], live_verbs[], config_verbs[], audit_verbs[], token_verbs[];
int job_cancel_verb(struct verb_run *v, struct err *e); /* jobs.c */

/* Of a verb that answers nothing else: adds a sentence that a person should know, unless it is "".
 */
void reply_note(struct verb_run *v, const char *text);
/* {"items": items, "next": null}: the reply of a verb that answers a list. */
struct json_object *reply_list(struct json_object *items);

const char *verb_param(const struct verb_run *v, const char *name);
bool verb_flag(const struct verb_run *v, const char *name); /* a bool option that may not exist */
/* A record with the fields that a merge patch gave; the caller's. *changed_r: it differs. */
struct json_object *patched(struct json_object *record, const struct opts *o, bool *changed_r);
/* For a PUT that changes what stands, other than what it makes: ERR_NO_MATCH unless If-Match was
 * given, which has been checked then. */
int need_match(const struct verb_run *v, struct err *e);
/* ERR_NEEDS_YES unless `yes` was given. */
int need_yes(const struct verb_run *v, const char *what, struct err *e);
/* ERR_EXISTS: the object stands with another value of the field. */
int differs(struct err *e, const char *what, const char *name, const char *field, const char *have,
            const char *want);

/* ---- locks by key; FIFO. In a task. */
struct key_lock;
struct key_lock *key_lock(const char *key);
void key_unlock(struct key_lock **l);

/* ---- state: keys are "KIND/NAME" */
void state_key(char out[KEY_MAX], const char *kind, const char *a, const char *b);
struct json_object *state_get(const char *kind, const char *name);
int state_put(const char *kind, const char *name, struct json_object *value, struct err *e);
int state_del(const char *kind, const char *name, struct err *e);
/* Several at once, with an intent that ends by it (0: none). */
int state_end_intent(uint64_t intent, const char *kind, const char *name, struct json_object *value,
                     struct err *e);
void reason_set(const char *kind, const char *name, const char *why); /* NULL or "": none */
const char *reason_get(const char *kind, const char *name);           /* "" when there is none */

/* ---- intents, intent.c. `facts` is taken over. 0 on error. */
uint64_t intent_open(const char *verb, const char *name, struct json_object *facts, struct err *e);
int intent_close(uint64_t id, struct err *e);
void intents_finish(void); /* start-up, after devices, arrays and pools are there */

/* ---- JSON */
void put_str(struct json_object *o, const char *key, const char *value); /* NULL: "" */
void put_u64(struct json_object *o, const char *key, uint64_t value);
void put_bool(struct json_object *o, const char *key, bool value);
void put_time(struct json_object *o, const char *key, uint64_t ms); /* 0: null */
const char *get_str(struct json_object *o, const char *key);        /* "" when absent */
uint64_t get_u64(struct json_object *o, const char *key);
bool get_bool(struct json_object *o, const char *key);
struct json_object *users_json(const char *name); /* of a block device, an array of strings */
/* "array a0, nbd export x": who has the device open, or exports it while it is not open. */
bool device_in_use(const char *name, char *out, size_t size);

/* ---- start-up and adoption */
void progress(const char *text); /* tells whoever waits for the start how far it is */
void replay_devices(void);
void replay_stacks(void);
void replay_passes(void);      /* tries all devices, arrays and pools that are not there */
void replay_arrays_last(void); /* the same of arrays; what does not come gets its reason */
/* await.c: the time begins; what was left waiting by replay_stacks goes on waiting. */
void await_begin(void);
void await_go_on(void);
/* True, and why, while the saved array waits for a device that served it last and is absent. */
bool members_awaited(struct json_object *record, struct err *e); /* its log device counts, too */
bool log_awaited(struct json_object *record, struct err *e);
void replay_targets(void);
void replay_listeners(void);
/* After the targets are closed. T. */
void close_stacks(void);
int device_start(const char *name, struct json_object *record, struct err *e);
int device_end(struct bdev *bdev, struct err *e);
/* ERR_NEEDS_FORCE when a device carries a signature. Before an intent is saved: what start-up finds
 * of a creation that was cut short must never be somebody's data. */
int check_signatures(const char *const *devices, unsigned n, const char *field, struct err *e);
bool name_is_taken(const char *name); /* device, array, pool: running or saved */
struct json_object *config_json(void);

/* ---- the SCSI records, store.c */
void store_init(void);

/* ---- events, events.c */
void events_init(void);
void events_start(void); /* the objects are there: from here on their states are followed */
void events_fini(void);

#endif
