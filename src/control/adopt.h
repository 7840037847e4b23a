/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_CONTROL_ADOPT_H
#define ORION_CONTROL_ADOPT_H

#include "control/private.h"
#include "raid/raid.h"
#include "volumes/volumes.h"

/* Arrays and pools that stand on devices already: adopt.c. All T. */
int array_assemble(struct verb_run *v, struct err *e);
int pool_import_verb(struct verb_run *v, struct err *e);

/* array.c: the record that is saved; creation with the facts of an intent. */
struct json_object *array_record(const struct raid_info *info);
struct json_object *array_facts_record(struct json_object *facts); /* of an intent to create it */
/* What makes it what it is, as the verb that creates it takes it. Of one that does not run: as it
 * was when it last started. */
struct json_object *array_config(const char *name, struct json_object *record);
void array_note(const char *name); /* saves that, when it has changed */
/* Creates it, or finds it as wanted; `part_of` (may be NULL) is kept. */
int array_make(const char *name, const struct opts *o, const char *part_of, bool *made_r,
               struct err *e);
int array_end(const char *name, bool wipe, struct err *e); /* stops or deletes it */
/* array_nested.c: "raid5" for "raid50", NULL for what is not nested. */
const char *array_nested_level(const char *level);
int array_nested_create(struct verb_run *v, struct err *e);
int array_end_parts(const char *name, bool wipe, struct err *e);
/* spares.c */
int array_set(struct verb_run *v, struct err *e);
void spares_start(void); /* after start-up: from here on spares move between arrays of a group */
void spares_stop(void);
void spares_look(void); /* is there one to move? */
int array_create_as(const char *name, struct json_object *facts, bool assume_clean, bool force,
                    struct err *e);
const char *array_level_plain(const char *level); /* "raid1" for "mirror" and "1" */
/* pool.c */
int pool_create_as(const char *name, struct json_object *facts, bool force, struct err *e);
struct json_object *pool_record(const char *name); /* of a running pool */
/* As a configuration has it, but for the volumes; of one that is not here as it was last. */
struct json_object *pool_config(const char *name, struct json_object *record);

/* A copy of what is about to be overwritten goes to STATE_DIR/backup (raid_assemble's and
 * pool_import's `backup`). */
int adopt_backup(const char *device, uint64_t offset, const void *data, uint64_t len, void *arg);

/* Our own, at start-up. */
int array_start_saved(const char *name, struct json_object *record, bool degraded_ok,
                      struct err *e);
int pool_start_saved(const char *name, struct json_object *record, struct err *e);

#endif
