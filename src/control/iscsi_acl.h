/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_CONTROL_ISCSI_ACL_H
#define ORION_CONTROL_ISCSI_ACL_H

#include "control/private.h"

/* Who may log in to a target, and what with. iscsi_acl.c */
int acl_verb(struct verb_run *v, struct err *e);
int acl_set_verb(struct verb_run *v, struct err *e);
int unacl_verb(struct verb_run *v, struct err *e);
int discovery_set_verb(struct verb_run *v, struct err *e);
int discovery_remove_verb(struct verb_run *v, struct err *e);

/* Start-up. `name` is IQN/INITIATOR. */
int acl_start(const char *name, struct json_object *record, struct err *e);
int discovery_start(struct err *e); /* does nothing when nothing is saved */

/* What an initiator sees of a target's LUNs, iscsi_map.c. As saved: an array of texts, or NULL for
 * all LUNs as they are. */
struct scsi_map;
struct json_object *lun_map_given(const struct opts *o);
int lun_map_parse(struct json_object *texts, struct scsi_map **map_r, struct err *e); /* free() */

/* Access states of port groups, iscsi_alua.c. `name` is IQN/GROUP. */
struct scsi_group;
int alua_verb(struct verb_run *v, struct err *e);
int unalua_verb(struct verb_run *v, struct err *e);
int alua_keep(const char *iqn, const struct scsi_group *groups, unsigned count, struct err *e);
int alua_start(const char *name, struct json_object *record, struct err *e);

/* The saved secrets of "acl" IQN/INITIATOR or "discovery-auth" iscsi: chap_secret, mutual_secret;
 * NULL when there are none. Never to be shown. */
struct json_object *secrets_of(const char *kind, const char *name);

/* iscsi.c */

#endif
