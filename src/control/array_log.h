/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_CONTROL_ARRAY_LOG_H
#define ORION_CONTROL_ARRAY_LOG_H

#include "control/private.h"

/* Where the log of a parity array lies: "log_device" and "no_log" of its record and of its verbs.
 */
const char *array_log_device(struct json_object *record); /* NULL: on the members, or none */
void array_log_copy(struct json_object *to, struct json_object *from);
/* Of a creation's options: is the device there, and free? */
int array_log_check(const struct opts *o, struct err *e);
/* Of `array set`: in effect and saved. */
int array_log_set(struct verb_run *v, struct err *e);

#endif
