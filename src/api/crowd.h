/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_API_CROWD_H
#define ORION_API_CROWD_H

#include <microhttpd.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"

/*
 * The connections of one HTTP server, so that a newcomer always finds room: everyone on the machine
 * may connect, and whoever opens many and says nothing must not keep the administrator out. Main.
 */
struct crowd {
    struct list idle; /* without a request under way; the longest idle first */
    unsigned count;   /* all of them */
};

void crowd_init(struct crowd *c);
/* MHD_OPTION_NOTIFY_CONNECTION, with the crowd as its closure. */
void crowd_notify(void *crowd, struct MHD_Connection *connection, void **context,
                  enum MHD_ConnectionNotificationCode what);
/* A request of the connection begins or has ended. */
void crowd_busy(struct crowd *c, struct MHD_Connection *connection, bool busy);
/* The head of a request has come: its body has as long again. */
void crowd_head(struct crowd *c, struct MHD_Connection *connection);
/* Shuts those down whose next request is not complete `patience_s` after the last one ended,
 * however they trickle it. Returns the microseconds until this has to be asked again, 0: there is
 * nobody. */
uint64_t crowd_expire(struct crowd *c, unsigned patience_s);
/* Shuts the longest idle connection down; libmicrohttpd closes it on its next run. False: all have
 * requests under way. */
bool crowd_drop_one(struct crowd *c);

#endif
