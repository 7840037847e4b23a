/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_TESTS_UNIT_H
#define ORION_TESTS_UNIT_H

/* CMocka's header with what it needs before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#endif
