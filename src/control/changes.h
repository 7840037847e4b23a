/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_CONTROL_CHANGES_H
#define ORION_CONTROL_CHANGES_H

#include <stdbool.h>

#include "control/private.h"

/*
 * What verbs change and what changes by itself, as events. Main's.
 */

/* The verb has succeeded: raises KIND-created, -changed, -deleted or -stopped of its object.
 * `after` is NULL when that is gone. */
void changes_tell(const struct verb_run *v, const struct resource *r, struct json_object *after);

/* The state of "array a0", "export e" and so on: "absent" when there is none, "" when it is of a
 * kind without states. */
enum { STATE_TEXT = 24 };
void changes_state_now(const char *object, char state[STATE_TEXT]);
/* fn gets every object that has states, with why it is in its state, or "". */
void changes_for_each_state(void (*fn)(const char *object, const char *state, const char *why));

#endif
