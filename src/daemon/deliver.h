/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_DAEMON_DELIVER_H
#define ORION_DAEMON_DELIVER_H

#include <pthread.h>
#include <stdbool.h>
#include <sys/types.h>

/* One event on its way out, on a helper thread. */
struct delivery {
    const char *command;              /* or */
    const char *url, *ca, *token;     /* token: a reference */
    const char *object, *kind, *text; /* of the event; its JSON */
    char why[200];                    /* why it was not delivered, else "" */

    /* -- shared with deliver_abort */
    pthread_mutex_t lock;
    pid_t pid; /* 0: none */
    int fd;    /* -1: none */
    bool aborted;
};
void deliver_run(void *delivery);       /* blocks, HOOK_TIMEOUT_S at most */
void deliver_abort(struct delivery *d); /* any thread: it ends at once */

#endif
