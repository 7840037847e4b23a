/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_TARGETS_ISCSI_REGISTRY_H
#define ORION_TARGETS_ISCSI_REGISTRY_H

#include <pthread.h>

#include "targets/iscsi/session.h"

/*
 * Targets, their access lists and portals. Main alone changes them, under registry_lock; other
 * threads read them under it (SendTargets). Nobody waits or posts while holding it.
 */
struct iscsi_acl {
    struct list link;
    char initiator[ISCSI_NAME_MAX + 1];
    struct iscsi_auth auth; /* main's, and so is */
    struct scsi_map *map;   /* what it sees; NULL: all LUNs as they are */
};

struct iscsi_target {
    struct list link;
    char iqn[ISCSI_NAME_MAX + 1];
    char alias[256];
    bool open; /* serves everyone everywhere */
    unsigned max_connections;
    bool removing; /* no login any more */
    struct list acls;
    unsigned acl_count;
    struct scsi_target *scsi;
    unsigned sessions; /* main's */
};

extern pthread_mutex_t registry_lock;
extern struct list registry_targets; /* struct iscsi_target */

struct iscsi_target *registry_find(const char *iqn); /* main, or under the lock */
/* May the initiator log in to the target through an address that is local or not? */
bool registry_permits(const struct iscsi_target *t, const char *initiator, bool local);

struct iscsi_acl *acl_find(const struct iscsi_target *t, const char *initiator);

/* auth.c; main: a copy of what the initiator must prove itself by; "" = nothing. `t` NULL: in a
 * discovery session. */
void auth_needed(const struct iscsi_target *t, const char *initiator, struct iscsi_auth *auth_r);
bool auth_same(const struct iscsi_auth *a, const struct iscsi_auth *b);

/* portal.c; main */
void portals_close(void);

/* front.c; main: connections in their login phase, and the list of sessions. */
void front_accept(int fd, const char *portal, uint16_t group);
/* In no callback of a connection: drops those that log in by the portal (NULL: by any). */
void front_close(const char *portal);
void front_sessions(void (*fn)(const struct iscsi_session *s, void *arg), void *arg);
struct iscsi_session *front_find(uint64_t id);
/* Which sessions; what is NULL is any. */
struct front_which {
    const struct iscsi_target *target;
    const char *initiator;
};
bool front_matches(const struct front_which *w, const struct iscsi_session *s);
/* A device that hangs keeps a session, not its connections: those are closed after this. */
enum { FRONT_CUT_US = 4000000 };
/* In a task: asks the sessions to log out, drops those that do not, and waits for their end, at
 * most so long (0: for ever). False: some have not ended. */
bool front_stop(const struct front_which *w, uint64_t wait_us);
/* In a task: the same for the connections that came by the portal, which is where it listens.
 * Those that are closed are waited for for FRONT_CUT_US, not more. */
void front_leave_portal(const char *portal);
void front_cut_orphans(const struct iscsi_target *t); /* in a task: session_cut_orphans of all */
void front_drop(const struct iscsi_target *t);        /* at once, without waiting */
/* In a task: until some session has ended, at most until then (reactor_now(); 0: for ever). False:
 * it is past that. */
bool front_wait_end(uint64_t until);

#endif
