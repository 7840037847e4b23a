/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_CONTROL_EVENTS_H
#define ORION_CONTROL_EVENTS_H

#include <stdint.h>

struct json_object;

/* The last CONTROL_EVENTS_MAX events, for streams. Main's. */
enum { CONTROL_EVENTS_MAX = 1024 };
uint64_t
control_events_first(void); /* the id of the oldest that is kept; > last when there is none */
/* One event; the caller's. NULL: not kept. */
struct json_object *control_event(uint64_t id);
/* fn is called on main after each event. */
enum { CONTROL_WATCHERS = 4 };
void control_events_watch(void (*fn)(void));
void control_events_unwatch(void (*fn)(void));

#endif
