/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_CONTROL_APPLY_H
#define ORION_CONTROL_APPLY_H

#include "control/plan.h"

/*
 * A plan as a row of verbs (apply_steps.c), and what a restart has to say of one that was cut short
 * (apply_cut.c). Main's, in a task.
 */
struct step {
    const char *method, *undo_method; /* undo NULL: cannot be undone */
    char *path, *undo_path, *text;
    struct json_object *body, *undo_body;
};

struct steps {
    struct step *step;
    unsigned count, room;
    bool force; /* goes to each verb that knows it */
};

/*
 * In an order in which each step finds what it needs: what is not wanted goes first, but data only
 * when something could need its place, else last; then what stays gives up what others may want (a
 * volume shrinks, an export is the default no more, spares are let go); then the rest, each behind
 * what it stands on.
 */
void steps_make(struct steps *s, const struct plan *plan);
void steps_free(struct steps *s);

/* "apply/ID" is what a running apply is about: saved before its first step, gone with its end. */
int apply_save(uint64_t id, const char *config, const struct steps *s, struct err *e);
/* At start: of one that the daemon died in, what stands now. Sets `error` and `result` of its
 * record. */
void apply_cut_off(const char *id, struct json_object *record);

#endif
