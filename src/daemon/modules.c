/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/modules.h"

#include "drivers/drivers.h"

const struct driver *const modules_drivers[] = {
    &file_driver, &mem_driver, &null_driver, &fault_driver, NULL,
};
