/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_CLI_PLAN_H
#define ORION_CLI_PLAN_H

#include "command.h"

struct json_object;

/* Prints what `config plan` answered. Returns the exit code: 10 for changes when
 * --detailed-exitcode asks for it. */
int plan_print(const struct command *c, struct json_object *plan);

#endif
