/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_TARGETS_TARGET_H
#define ORION_TARGETS_TARGET_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/* What the targets have in common: sessions, listed and killed through one door. Main. */
struct session_info {
    uint64_t id;      /* > 0, unique over all targets while the daemon runs */
    char protocol[8]; /* "nbd", "iscsi" */
    char peer[128];   /* address of the client */
    char client[256]; /* initiator name, or "" */
    char object[256]; /* export name or target IQN */
    char portal[128]; /* the listener's address */
    unsigned reactor;
    uint64_t since_ms;    /* wall clock */
    uint64_t connections; /* 1, but for iSCSI sessions of several */
    uint64_t inflight, reads, writes, read_bytes, written_bytes;
};

struct target_protocol {
    const char *name;
    void (*sessions)(void (*fn)(const struct session_info *info, void *arg), void *arg);
    /* In a task: drains and closes; false: no such session. */
    bool (*kill)(uint64_t id);
};
void target_register(const struct target_protocol *p);
uint64_t target_next_session_id(void); /* any reactor */
void target_sessions(void (*fn)(const struct session_info *info, void *arg), void *arg);
bool target_kill(uint64_t id);

/*
 * A device as targets hold it: opened when it is there, watched while it is not. Main owns it;
 * reactors read `desc` through the published pointer of the target that embeds it.
 */

#endif
