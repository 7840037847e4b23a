/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_CONTROL_PLAN_PRIVATE_H
#define ORION_CONTROL_PLAN_PRIVATE_H

#include "control/plan.h"

/* plan_items.c */
void plan_collect(struct plan *plan, struct item_set *set, struct json_object *doc, bool have);
void plan_error(struct plan *plan, const char *field, const char *detail);
struct item *plan_find(struct json_object *map, const struct item_set *set, const char *key);
char *plan_place(const struct item *i);

#endif
