/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_CONTROL_SHOWS_H
#define ORION_CONTROL_SHOWS_H

#include "control/private.h"

/* How every kind of object is shown and listed: struct resource has the contract. */
#define SHOW(kind) struct json_object *show_of_##kind(const struct schema_match *m)
#define LIST(kind)                                                         \
    int list_of_##kind(const struct schema_match *m, const struct opts *o, \
                       struct json_object *items, struct err *e)

SHOW(device);
SHOW(array);
SHOW(pool);
SHOW(volume);
SHOW(listener);
SHOW(export);
SHOW(portal);
SHOW(target);
SHOW(lun);
SHOW(acl);
SHOW(group);
SHOW(discovery_auth);
SHOW(session);
SHOW(job);
SHOW(config);
SHOW(token);
SHOW(log);
SHOW(system);
LIST(token);
LIST(device);
LIST(array);
LIST(pool);
LIST(volume);
LIST(listener);
LIST(export);
LIST(portal);
LIST(target);
LIST(lun);
LIST(acl);
LIST(group);
LIST(session);
LIST(job);
LIST(event);
LIST(inflight);

/* The parents of items: ERR_NOT_FOUND. */
int need_pool(const struct schema_match *m, struct err *e);
int need_target(const struct schema_match *m, struct err *e);

void lock_name(const struct schema_match *m, char key[KEY_MAX]);
void lock_pool(const struct schema_match *m, char key[KEY_MAX]);
void lock_addr(const struct schema_match *m, char key[KEY_MAX]);
void lock_export(const struct schema_match *m, char key[KEY_MAX]);
void lock_iqn(const struct schema_match *m, char key[KEY_MAX]);
void lock_discovery(const struct schema_match *m, char key[KEY_MAX]);
void lock_session(const struct schema_match *m, char key[KEY_MAX]);
void lock_token(const struct schema_match *m, char key[KEY_MAX]);
void lock_config(const struct schema_match *m, char key[KEY_MAX]);
void lock_job(const struct schema_match *m, char key[KEY_MAX]);

#endif
