/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_CONTROL_START_H
#define ORION_CONTROL_START_H

#include "control/private.h"

/* Targets from their saved records: the same road for a verb and for start-up. T. */
int export_start(const char *name, struct json_object *record, struct err *e);
unsigned portal_group(struct json_object *record);
int target_start(const char *iqn, struct json_object *record, struct err *e);
int lun_start(const char *iqn, unsigned lun, struct json_object *record, struct err *e);

/* The device has another size now: LUNs on it report that, also while it is absent. */
void luns_note_size(const char *device);

int compare_records(const char *what, const char *name, struct json_object *have,
                    struct json_object *want, struct err *e);
int check_device(const char *device, struct err *e);

#endif
