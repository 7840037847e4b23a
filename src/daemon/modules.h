/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_DAEMON_MODULES_H
#define ORION_DAEMON_MODULES_H

#include "block/bdev_driver.h"

/* The drivers that `device add --type` knows; ends with NULL. An explicit list: constructors would
 * be dropped with the static library that holds them. Levels and targets are listed by raid and
 * control. */
extern const struct driver *const modules_drivers[];

#endif
