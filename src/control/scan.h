/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_CONTROL_SCAN_H
#define ORION_CONTROL_SCAN_H

#include "control/private.h"

int device_scan(struct verb_run *v, struct err *e); /* the verb `device scan` */

#endif
