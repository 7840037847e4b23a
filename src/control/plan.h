/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_CONTROL_PLAN_H
#define ORION_CONTROL_PLAN_H

#include "control/private.h"

/*
 * What would have to be done so that the configuration is as a document says (plan.c), and doing it
 * (apply.c). A document is what `config show` prints. A section that it does not have is left
 * alone; what stands in a section that it has, and is not named there, is deleted.
 */
enum item_kind {
    ITEM_DEVICE,
    ITEM_ARRAY,
    ITEM_POOL,
    ITEM_VOLUME,
    ITEM_EXPORT,
    ITEM_TARGET,
    ITEM_LUN,
    ITEM_ACL,
    ITEM_GROUP,
    ITEM_LISTENER,
    ITEM_PORTAL,
    ITEM_DISCOVERY, /* there is one */
    ITEM_KINDS
};
enum item_action { ACT_KEEP, ACT_CREATE, ACT_CHANGE, ACT_REPLACE, ACT_DELETE };

struct item {
    enum item_kind kind;
    char *name; /* "d0", "p0/v0", "IQN/0" */
    char *path; /* in the API */
    struct item *parent;
    struct json_object *fields; /* as in the document, without the children */
    struct opts *opts;          /* the same, checked and parsed */
    struct item *other;         /* what stands (of a wanted one), what is wanted (of one that is) */
    enum item_action action;
    const char *loses;           /* data that goes by this action; "" for none */
    struct json_object *differs; /* array of {field, have, want}; NULL */
    unsigned children_named;     /* bit KIND: the document has this section of its children */
    unsigned mark;               /* of the walk that orders them */
};

struct item_set {
    struct item **item; /* in order of dependency after plan_make */
    unsigned count, room;
    struct json_object *by_path, *by_name; /* index in `unordered` */
    struct item **unordered;
    bool section[ITEM_KINDS];
};

struct plan {
    struct item_set want, have;
    unsigned count[ACT_DELETE + 1];
    struct json_object *errors; /* array of {field, detail} */
    struct json_object *doc;
};

/* T. Fails with every wrong field in plan->errors (call plan_free all the same). */
int plan_make(struct json_object *doc, struct plan *plan, struct err *e);
void plan_free(struct plan *plan);
/* {"create": [...], "change": [...], "replace": [...], "delete": [...]}, each in the order in which
 * apply goes. */
struct json_object *plan_json(const struct plan *plan);
bool plan_is_empty(const struct plan *plan);
const char *item_kind_name(enum item_kind kind);
/* What is saved of its secrets, by field; NULL: none. Never to be shown. */
struct json_object *item_secrets(const struct item *i);
/* Fields that apply could change in place: the verb's path and its body. NULL: none. */
struct json_object *plan_change_body(const struct item *want, const char **method_r, char **path_r);

#endif
