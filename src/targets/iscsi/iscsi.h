/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_TARGETS_ISCSI_H
#define ORION_TARGETS_ISCSI_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/uuid.h"
#include "targets/linger.h"
#include "targets/target.h"

/* The iSCSI target, for control. Called on main; those marked T in a task. */
enum {
    ISCSI_NAME_MAX = 223,
    ISCSI_LUN_MAX = 16383,
    ISCSI_GROUP_MAX = 15,
    ISCSI_CONNECTIONS_MAX = 8, /* of one session */
    ISCSI_CONNECTIONS_DEFAULT = 1024,
};

struct iscsi_target_info {
    char iqn[ISCSI_NAME_MAX + 1];
    char alias[256];
    bool open_access;
    unsigned max_connections;
    unsigned lun_count, acl_count, session_count;
};
struct iscsi_lun_args {
    unsigned lun;
    const char *device;      /* it may be absent: then the LUN answers NOT READY, 02/04/01 */
    bool thin;               /* --provisioning thin: LBPME, UNMAP (needs a device that discards) */
    bool provisioning_given; /* else thin iff the device discards */
    bool read_only;
    struct uuid identity; /* NAA and serial derive from it */
    uint64_t saved_size;  /* size and block size to report while the device is absent; 0 = none */
    uint32_t saved_block_size;
};
struct iscsi_lun_info {
    unsigned lun;
    char device[66];
    bool thin, read_only, ready;
    bool failed; /* open, but its device has failed */
    char why[160];
    uint64_t size;
    uint32_t block_size;
    struct uuid identity;
    char naa[40], serial[40];
};

int iscsi_init(struct err *e);
void iscsi_shutdown(void); /* T */
/* How many connections may be in sessions, all together; logins beyond that are refused (0302), but
 * for those that take the place of a connection or session. Who is in stays. */
void iscsi_set_limit(unsigned connections);

/* T; default port 3260. Portals of one group are ways to one target port (its number is the
 * group's, 1 to ISCSI_GROUP_MAX): access states and persistent reservations know groups. */
int iscsi_portal_add(const char *addr, unsigned group, struct err *e);
/* T: nobody is accepted any more; the connections that came by it are asked to log out, and closed
 * when they do not within a second. */
int iscsi_portal_remove(const char *addr, struct err *e);
void iscsi_portal_for_each(void (*fn)(const char *addr, const char *bound, void *arg), void *arg);

/* Contract: without access rules a target serves everyone on loopback and unix portals only. */
struct iscsi_target_args {
    const char *alias; /* or NULL */
    bool open_access;
    unsigned max_connections; /* a session, 1 to ISCSI_CONNECTIONS_MAX */
};
int iscsi_target_add(const char *iqn, const struct iscsi_target_args *args, struct err *e);
/* For logins to come; sessions keep the number of connections that they agreed on. */
int iscsi_target_set(const char *iqn, const struct iscsi_target_args *args, struct err *e);
/* T: ERR_IN_USE naming the sessions, unless disconnect. What its devices have not answered in 5 s
 * is not waited for: the target is gone for everybody, `left_r` tells what is in use until then. */
int iscsi_target_remove(const char *iqn, bool disconnect, struct target_left *left_r,
                        struct err *e);
bool iscsi_target_get(const char *iqn, struct iscsi_target_info *info_r);
void iscsi_target_for_each(void (*fn)(const struct iscsi_target_info *info, void *arg), void *arg);

int iscsi_lun_add(const char *iqn, const struct iscsi_lun_args *args, struct err *e); /* T */
/* ERR_IN_USE while sessions are logged in to the target, unless disconnect: then the LUN goes from
 * under them (running commands are aborted; the initiators are told by a unit attention), and they
 * stay for the other LUNs; but a connection that does not take its replies in 3 s goes. A
 * device that does not answer is waited for as above; the number is free once it has. */
int iscsi_lun_remove(const char *iqn, unsigned lun, bool disconnect, struct target_left *left_r,
                     struct err *e); /* T */
bool iscsi_lun_get(const char *iqn, unsigned lun, struct iscsi_lun_info *info_r);
void iscsi_lun_for_each(const char *iqn, void (*fn)(const struct iscsi_lun_info *info, void *arg),
                        void *arg);

/* Access states of target port groups, which are the portal groups: scsi.h has the contract. */
struct scsi_group;
int iscsi_alua_set(const char *iqn, const struct scsi_group *group, struct err *e); /* T */
int iscsi_alua_restore(const char *iqn, const struct scsi_group *group, struct err *e);

/*
 * CHAP (RFC 7143 section 12.1): the initiator proves with user and secret who it is; when it asks
 * the target to do the same, the target uses the mutual ones. No user: no authentication. Names
 * have 1 to 255 bytes, secrets ISCSI_SECRET_MIN to 255, and the two of them differ (9.2.1).
 */
enum { ISCSI_SECRET_MIN = 12 };
struct iscsi_auth {
    char user[256], secret[256], mutual_user[256], mutual_secret[256];
};
/* The fields that errors name are chap_user, chap_secret, mutual_user, mutual_secret. */
int iscsi_auth_check(const struct iscsi_auth *auth, struct err *e);
/* For discovery sessions; NULL: they need none. */
int iscsi_discovery_auth(const struct iscsi_auth *auth, struct err *e);

/* Access by initiator name, with authentication unless `auth` is NULL or has no user. */
int iscsi_acl_add(const char *iqn, const char *initiator, const struct iscsi_auth *auth,
                  struct err *e);
/* Other credentials from the next login on. */
int iscsi_acl_set_auth(const char *iqn, const char *initiator, const struct iscsi_auth *auth,
                       struct err *e);
/* T: what it sees, from now on (scsi.h has the contract); NULL: all LUNs under their own numbers.
 */
struct scsi_map;
int iscsi_acl_set_map(const char *iqn, const char *initiator, const struct scsi_map *map,
                      struct err *e);
/* T: ERR_IN_USE while the initiator has sessions, unless disconnect: then they are asked to log
 * out.
 */
int iscsi_acl_remove(const char *iqn, const char *initiator, bool disconnect, struct err *e);
void iscsi_acl_for_each(const char *iqn, void (*fn)(const char *initiator, void *arg), void *arg);

#endif
