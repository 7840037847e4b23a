/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "targets/target.h"

#include <assert.h>
#include <stddef.h>

enum { PROTOCOL_MAX = 8 };

static const struct target_protocol *protocols[PROTOCOL_MAX]; /* main's */
static unsigned protocol_count;
static uint64_t last_session; /* atomic */

void target_register(const struct target_protocol *p)
{
    for (unsigned i = 0; i < protocol_count; i++) {
        if (protocols[i] == p)
            return; /* a protocol that was shut down and started again */
    }
    assert(protocol_count < PROTOCOL_MAX);
    protocols[protocol_count++] = p;
}

uint64_t target_next_session_id(void)
{
    return __atomic_add_fetch(&last_session, 1, __ATOMIC_RELAXED);
}

void target_sessions(void (*fn)(const struct session_info *info, void *arg), void *arg)
{
    for (unsigned i = 0; i < protocol_count; i++)
        protocols[i]->sessions(fn, arg);
}

bool target_kill(uint64_t id)
{
    for (unsigned i = 0; i < protocol_count; i++) {
        if (protocols[i]->kill(id))
            return true;
    }
    return false;
}
