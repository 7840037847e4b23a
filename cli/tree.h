/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_CLI_TREE_H
#define ORION_CLI_TREE_H

#include "command.h"

/* `orionctl tree`: what stands on what. Returns the exit code. */
int tree_run(const struct command *c);

#endif
