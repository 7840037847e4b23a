/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_CONTROL_LISTEN_H
#define ORION_CONTROL_LISTEN_H

#include "control/private.h"

/*
 * Addresses that a protocol listens on: NBD's listeners, iSCSI's portals. One that could not be
 * opened at start-up keeps its record with the reason, and may be asked for again. listen.c
 */
struct listening {
    const char *kind; /* of the state's keys: "listener", "portal" */
    void (*each)(void (*fn)(const char *addr, const char *bound, void *arg), void *arg);
    int (*start)(const char *addr, struct json_object *record, struct err *e);
    int (*stop)(const char *addr, struct err *e);
};
extern const struct listening nbd_listening, iscsi_listening;

/* {"addr", "bound", "reason"} of one that is saved; the caller's. */
struct json_object *listening_show(const struct listening *l, const char *addr);
/* Opens and saves it; an existing one must have been compared with the record before. */
int listening_add(struct verb_run *v, const struct listening *l, struct json_object *record,
                  struct err *e);
int listening_remove(struct verb_run *v, const struct listening *l, struct err *e);

#endif
