/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_CONTROL_TOKEN_H
#define ORION_CONTROL_TOKEN_H

#include "control/control.h"

/* Bearer tokens: whose is this one? False: nobody's, or it has expired. Takes the same time for
 * every wrong one of a name. Main's. */
bool control_token_check(const char *secret, struct control_who *who, enum control_role *role_r);
/* When the token of who shows one was made, in ms; 0 when it is gone or has expired. Of others
 * always the same. For what goes on behind the request: whoever asked before asks again. */
uint64_t control_token_made(const struct control_who *who);

#endif
