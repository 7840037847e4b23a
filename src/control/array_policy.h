/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_CONTROL_ARRAY_POLICY_H
#define ORION_CONTROL_ARRAY_POLICY_H

#include "control/private.h"
#include "raid/raid.h"

/* How an array syncs and what it forgives its members: fields of its record and of its verbs. */
enum { ARRAY_NUMBER_MAX = 1000 * 1000 * 1000 };

int array_policy_check(const struct opts *o, struct err *e);
/* From a creation's options into the record. */
void array_policy_keep(struct json_object *record, const struct opts *o);
void array_policy_copy(struct json_object *record, struct json_object *from);
/* T. From the record to the running array. */
int array_policy_apply(const char *name, struct json_object *record, struct err *e);
void array_policy_show(struct json_object *o, struct json_object *record);
/* ERR_EXISTS when the options ask for something else. */
int array_policy_compare(const char *name, struct json_object *record, const struct opts *o,
                         struct err *e);
/* Those of a verb's options that are such fields, saved and in effect. */
int array_policy_set(struct verb_run *v, struct err *e);

#endif
