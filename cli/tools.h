/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_CLI_TOOLS_H
#define ORION_CLI_TOOLS_H

#include "command.h"

struct json_object;

/* Commands that orionctl puts together itself. Each returns the exit code. */
int top_run(const struct command *c);
int follow_run(const struct command *c);
int explain_run(const struct command *c);
int completion_run(const struct command *c);
int support_run(const struct command *c);

/* `status` for people: what is wrong first. */
void status_print(struct json_object *system);

/* ---- paint.c: colours, on a terminal only (and not with NO_COLOR or TERM=dumb) */
enum paint { PAINT_PLAIN, PAINT_GOOD, PAINT_WARN, PAINT_BAD, PAINT_BOLD };
bool paint_on(void);
/* The escape sequence that begins a colour, or "". PAINT_PLAIN ends it. */
const char *paint(enum paint p);
/* How bad a state is: "failed" is bad, "degraded" a warning, what is not known plain. */
enum paint paint_of_state(const char *state);

/* top.c, for its unit test: one line of Prometheus text. False: no sample. */
struct sample {
    char name[64];
    char label[6][2][300];
    unsigned labels;
    double value;
};
bool sample_parse(const char *line, struct sample *s);
const char *sample_label(const struct sample *s, const char *name); /* "" when absent */

#endif
