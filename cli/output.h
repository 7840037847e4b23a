/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_CLI_OUTPUT_H
#define ORION_CLI_OUTPUT_H

#include "command.h"

struct json_object;

/* Checks -o against the verb's fields: 0, or EXIT_USAGE after a message. Before any request. */
int output_check(const struct command *c);

/* JSON of a list's items ({"items": ..., "next": null}) or a table with the columns asked for. */
void output_list(const struct command *c, struct json_object *items);
/* One more table row without headings, or one line of JSON: events that are followed. */
void output_row(const struct command *c, struct json_object *item);
/* One object: JSON, or "key  value" lines. */
void output_object(const struct command *c, struct json_object *object);
/* After a change: JSON, or one line that says what happened. `object` may be NULL. */
void output_change(const struct command *c, struct json_object *object);
void output_json(struct json_object *o);

#endif
