/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_DAEMON_HOOKS_H
#define ORION_DAEMON_HOOKS_H

/*
 * Events for others: each is given to a program or posted to a URL, one after the other and in
 * order. What cannot be delivered is tried again, 1 to 60 seconds apart, HOOK_TRIES times, and then
 * left out; meanwhile those behind it wait in control's ring, whose oldest go first. Main never
 * waits for any of it.
 */
enum { HOOK_TRIES = 10, HOOK_TIMEOUT_S = 10 };

struct hooks_opts { /* each may be NULL */
    const char *command, *url, *ca, *token;
};
/* Main. Begins, or goes on with other settings; copies them. */
void hooks_set(const struct hooks_opts *opts);
/* T. Ends what is under way and waits for that: a moment. */
void hooks_stop(void);

#endif
