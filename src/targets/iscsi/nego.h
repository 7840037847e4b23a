/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_TARGETS_ISCSI_NEGO_H
#define ORION_TARGETS_ISCSI_NEGO_H

#include <stdbool.h>
#include <stdint.h>

#include "targets/iscsi/iscsi.h"
#include "targets/iscsi/text.h"

/*
 * Negotiation of login keys (RFC 7143 sections 6.2 and 13). The initiator offers, we answer; what
 * we declare ourselves (MaxRecvDataSegmentLength, TargetPortalGroupTag, TargetAlias) needs no
 * answer.
 */

/* What was agreed: plain data that moves with the session. Lengths in bytes, times in seconds. */
struct iscsi_params {
    uint32_t max_connections;
    uint32_t max_xmit_segment; /* the initiator's MaxRecvDataSegmentLength */
    uint32_t max_burst, first_burst;
    uint32_t time2wait, time2retain;
    uint32_t max_r2t;
    uint32_t recovery_level;
    uint32_t header_digest, data_digest; /* 0 or 1 (CRC32C) */
    uint32_t initial_r2t, immediate_data;
    uint32_t pdu_in_order, sequence_in_order;
};

enum nego_stage { STAGE_SECURITY = 0, STAGE_OPERATIONAL = 1, STAGE_FULL = 3 }; /* CSG, NSG */

struct nego {
    struct iscsi_params params;
    bool discovery; /* SessionType=Discovery */
    bool have_initiator, have_target;
    bool joins;           /* a further connection of a session: what the session has is settled */
    unsigned connections; /* MaxConnections as offered, until it is answered; or 0 */
    bool auth_offered, auth_none, auth_chap; /* AuthMethod: the login answers it */
    char initiator[ISCSI_NAME_MAX + 1];
    char initiator_alias[256];
    char target[ISCSI_NAME_MAX + 1];
    uint64_t seen;         /* bit per key of the table */
    bool first_burst_due;  /* its answer */
    bool segment_rejected; /* MaxRecvDataSegmentLength was; the one who reads it clears it */
};

enum nego_result {
    NEGO_OK,
    NEGO_REPEATED, /* a key was negotiated before: the login fails, 6.2 */
    NEGO_BAD,      /* a declaration that cannot be used (a malformed name, a bad session type) */
    NEGO_TOO_LONG, /* the answers do not fit the reply */
};

void nego_init(struct nego *n); /* RFC defaults */

/* One pair of a login request; answers go to reply. */
enum nego_result nego_login_key(struct nego *n, enum nego_stage stage, const char *key,
                                const char *value, struct text *reply);
/* After the last pair of a login request: what is answered by all of them. */
enum nego_result nego_text_end(struct nego *n, struct text *reply);
/* The same as nego_login_key for a text request in full feature phase, for every key but
 * SendTargets. */
enum nego_result nego_full_key(struct nego *n, const char *key, const char *value,
                               struct text *reply);
/* Answers MaxConnections, when it was offered: `limit` is known only with the target. False: the
 * answer does not fit. */
bool nego_connections(struct nego *n, unsigned limit, struct text *reply);

/* Of whoever logs in: iqn., eui. or naa. followed by letters, digits, '-', '.', ':' or what else
 * UTF-8 has; at most 223 bytes (RFC 7143 4.2.7). */
bool iscsi_name_ok(const char *name);
/* Of what we create or list, in the formats of 4.2.7.3 to 4.2.7.5: iqn.YYYY-MM.DOMAIN[:STRING],
 * eui. and 16 hexadecimal digits, naa. and 16 or 32; in lower case. */
int iscsi_name_check(const char *name, const char *field, struct err *e);

#endif
