/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_BLOCK_EVENT_H
#define ORION_BLOCK_EVENT_H

#include <stdint.h>

/* What layers tell the world: a member was kicked, a spare went in, a write cache failed. Raised on
 * any thread, logged at once (failures as warnings or errors), delivered to control on main in
 * order. */
struct event {
    uint64_t time_ms;                  /* wall clock */
    char object[512];                  /* "array a0" */
    char kind[40];                     /* "member-failed" */
    char message[256];                 /* one sentence */
    char old_state[24], new_state[24]; /* "": whoever gets it looks */
};

void event_raise(const char *object, const char *kind, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* When the states are known: "absent" before it was made, and after it went. */
void event_raise_change(const char *object, const char *kind, const char *old_state,
                        const char *new_state, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
/* One observer (control); fn runs on main. */
void event_observe(void (*fn)(const struct event *ev, void *arg), void *arg);

#endif
