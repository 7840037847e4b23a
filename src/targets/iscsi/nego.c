/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "targets/iscsi/nego.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "targets/iscsi/pdu.h"

enum key_kind {
    KEY_MIN,       /* number, the lesser of both */
    KEY_MAX,       /* number, the greater of both */
    KEY_AND,       /* Yes when both say Yes */
    KEY_OR,        /* Yes when one says Yes */
    KEY_DECLARE,   /* number that the initiator declares; no answer */
    KEY_DIGEST,    /* list: the first of the initiator's that we know */
    KEY_AUTH,      /* list: answered when it is known what is needed (login.c) */
    KEY_LATER,     /* MaxConnections, the same */
    KEY_REPORTING, /* list: RFC3720 is what we have */
    KEY_NAME,      /* text that the initiator declares */
    KEY_FIXED_NO,  /* obsolete: always No (13.25) */
    KEY_REJECT,    /* obsolete or ours alone to send: Reject */
};

enum key_when {
    W_SEC = 1 << STAGE_SECURITY,
    W_OPER = 1 << STAGE_OPERATIONAL,
    W_FULL = 1 << STAGE_FULL,
    W_LOGIN = W_SEC | W_OPER,
    W_NORMAL = 1 << 8, /* Irrelevant in a discovery session */
    W_LEADS = 1 << 9,  /* and on a further connection ("leading only") */
};

struct key {
    const char *name;
    enum key_kind kind;
    unsigned when;
    unsigned min, max; /* range of what may be offered */
    unsigned dflt, ours;
    size_t at; /* offset in struct iscsi_params */
};

#define AT(field) offsetof(struct iscsi_params, field)
#define NOWHERE SIZE_MAX

/* RFC 7143 section 13, in its order of kinds. */
static const struct key keys[] = {
    {"InitiatorName", KEY_NAME, W_LOGIN, 0, 0, 0, 0, NOWHERE},
    {"InitiatorAlias", KEY_NAME, W_LOGIN | W_FULL, 0, 0, 0, 0, NOWHERE},
    {"TargetName", KEY_NAME, W_LOGIN, 0, 0, 0, 0, NOWHERE},
    {"SessionType", KEY_NAME, W_LOGIN, 0, 0, 0, 0, NOWHERE},
    {"AuthMethod", KEY_AUTH, W_SEC, 0, 0, 0, 0, NOWHERE},
    {"HeaderDigest", KEY_DIGEST, W_OPER, 0, 0, 0, 1, AT(header_digest)},
    {"DataDigest", KEY_DIGEST, W_OPER, 0, 0, 0, 1, AT(data_digest)},
    {"MaxConnections", KEY_LATER, W_OPER | W_NORMAL | W_LEADS, 1, 65535, 1, 0, AT(max_connections)},
    {"InitialR2T", KEY_OR, W_OPER | W_NORMAL | W_LEADS, 0, 0, 1, 0, AT(initial_r2t)},
    {"ImmediateData", KEY_AND, W_OPER | W_NORMAL | W_LEADS, 0, 0, 1, 1, AT(immediate_data)},
    {"MaxRecvDataSegmentLength", KEY_DECLARE, W_OPER | W_FULL, 512, (1 << 24) - 1,
     ISCSI_DEFAULT_SEGMENT, 0, AT(max_xmit_segment)},
    {"MaxBurstLength", KEY_MIN, W_OPER | W_NORMAL | W_LEADS, 512, (1 << 24) - 1, 256 << 10, 1 << 20,
     AT(max_burst)},
    {"FirstBurstLength", KEY_MIN, W_OPER | W_NORMAL | W_LEADS, 512, (1 << 24) - 1, 64 << 10,
     256 << 10, AT(first_burst)},
    {"DefaultTime2Wait", KEY_MAX, W_OPER | W_LEADS, 0, 3600, 2, 0, AT(time2wait)},
    {"DefaultTime2Retain", KEY_MIN, W_OPER | W_LEADS, 0, 3600, 20, 0, AT(time2retain)},
    {"MaxOutstandingR2T", KEY_MIN, W_OPER | W_NORMAL | W_LEADS, 1, 65535, 1, 8, AT(max_r2t)},
    {"DataPDUInOrder", KEY_OR, W_OPER | W_NORMAL | W_LEADS, 0, 0, 1, 1, AT(pdu_in_order)},
    {"DataSequenceInOrder", KEY_OR, W_OPER | W_NORMAL | W_LEADS, 0, 0, 1, 1, AT(sequence_in_order)},
    {"ErrorRecoveryLevel", KEY_MIN, W_OPER | W_LEADS, 0, 2, 0, 0, AT(recovery_level)},
    {"TaskReporting", KEY_REPORTING, W_OPER | W_NORMAL | W_LEADS, 0, 0, 0, 0, NOWHERE},
    {"IFMarker", KEY_FIXED_NO, W_OPER, 0, 0, 0, 0, NOWHERE},
    {"OFMarker", KEY_FIXED_NO, W_OPER, 0, 0, 0, 0, NOWHERE},
    {"RDMAExtensions", KEY_FIXED_NO, W_OPER, 0, 0, 0, 0, NOWHERE},
    {"IFMarkInt", KEY_REJECT, W_OPER, 0, 0, 0, 0, NOWHERE},
    {"OFMarkInt", KEY_REJECT, W_OPER, 0, 0, 0, 0, NOWHERE},
    {"TargetAlias", KEY_REJECT, W_LOGIN | W_FULL, 0, 0, 0, 0, NOWHERE},
    {"TargetAddress", KEY_REJECT, W_LOGIN | W_FULL, 0, 0, 0, 0, NOWHERE},
    {"TargetPortalGroupTag", KEY_REJECT, W_LOGIN | W_FULL, 0, 0, 0, 0, NOWHERE},
    {"SendTargets", KEY_REJECT, W_LOGIN, 0, 0, 0, 0, NOWHERE},
};
enum { KEY_COUNT = sizeof keys / sizeof *keys };
_Static_assert(KEY_COUNT <= 64, "nego.seen has one bit a key");

static uint32_t *param(struct nego *n, const struct key *k)
{
    return (uint32_t *)((char *)&n->params + k->at);
}

void nego_init(struct nego *n)
{
    *n = (struct nego){0};
    for (unsigned i = 0; i < KEY_COUNT; i++) {
        if (keys[i].at != NOWHERE)
            *param(n, &keys[i]) = keys[i].dflt;
    }
}

/* Is `word` in the comma list? */
static bool list_has(const char *list, const char *word)
{
    size_t len = strlen(word);
    for (const char *p = list; p; p = strchr(p, ',')) {
        if (*p == ',')
            p++;
        if (!strncmp(p, word, len) && (p[len] == ',' || !p[len]))
            return true;
    }
    return false;
}

static enum nego_result answer(struct text *reply, const char *key, const char *value)
{
    return text_add(reply, key, "%s", value) ? NEGO_OK : NEGO_TOO_LONG;
}

static enum nego_result put_number(struct nego *n, const struct key *k, const char *value,
                                   struct text *reply)
{
    unsigned offer;
    if (!text_number(value, &offer) || offer < k->min || offer > k->max) {
        n->segment_rejected = n->segment_rejected || k->kind == KEY_DECLARE;
        return answer(reply, k->name, "Reject");
    }
    if (k->kind == KEY_DECLARE) {
        *param(n, k) = offer;
        return NEGO_OK;
    }
    bool take_offer = k->kind == KEY_MIN ? offer < k->ours : offer > k->ours;
    unsigned result = take_offer ? offer : k->ours;
    *param(n, k) = result;
    if (k->at == AT(first_burst)) { /* MaxBurstLength may be in the same text, behind it */
        n->first_burst_due = true;
        return NEGO_OK;
    }
    return text_add(reply, k->name, "%u", result) ? NEGO_OK : NEGO_TOO_LONG;
}

/* A MaxBurstLength that comes in a later text is no reason to hold the initiator to less than what
 * it was told: more unasked data than a burst (against 13.14) does no harm. */
enum nego_result nego_text_end(struct nego *n, struct text *reply)
{
    if (!n->first_burst_due)
        return NEGO_OK;
    n->first_burst_due = false;
    if (n->params.first_burst > n->params.max_burst)
        n->params.first_burst = n->params.max_burst;
    return text_add(reply, "FirstBurstLength", "%u", n->params.first_burst) ? NEGO_OK
                                                                            : NEGO_TOO_LONG;
}

static enum nego_result put_bool(struct nego *n, const struct key *k, const char *value,
                                 struct text *reply)
{
    bool yes = !strcmp(value, "Yes");
    if (!yes && strcmp(value, "No"))
        return answer(reply, k->name, "Reject");
    bool result = k->kind == KEY_AND ? yes && k->ours : yes || k->ours;
    *param(n, k) = result;
    return answer(reply, k->name, result ? "Yes" : "No");
}

/* The initiator's order is its preference. */
static enum nego_result put_digest(struct nego *n, const struct key *k, const char *value,
                                   struct text *reply)
{
    bool crc = list_has(value, "CRC32C"), none = list_has(value, "None");
    if (!crc && !none)
        return answer(reply, k->name, "Reject");
    if (crc && none)
        crc = strstr(value, "CRC32C") < strstr(value, "None");
    *param(n, k) = crc;
    return answer(reply, k->name, crc ? "CRC32C" : "None");
}

static enum nego_result put_name(struct nego *n, const char *key, const char *value)
{
    if (!strcmp(key, "InitiatorName") || !strcmp(key, "TargetName")) {
        bool target = *key == 'T'; /* a target that cannot be is found not to be, by its lookup */
        if (target ? strlen(value) > ISCSI_NAME_MAX : !iscsi_name_ok(value))
            return NEGO_BAD;
        char *name = target ? n->target : n->initiator;
        snprintf(name, sizeof n->target, "%s", value);
        text_lower(name); /* 4.2.7.2: that is how names are compared, and shown */
        *(target ? &n->have_target : &n->have_initiator) = true;
    } else if (!strcmp(key, "SessionType")) {
        n->discovery = !strcmp(value, "Discovery");
        if (!n->discovery && strcmp(value, "Normal"))
            return NEGO_BAD;
    } else {
        snprintf(n->initiator_alias, sizeof n->initiator_alias, "%s", value);
    }
    return NEGO_OK;
}

static enum nego_result put(struct nego *n, const struct key *k, const char *value,
                            struct text *reply)
{
    switch (k->kind) {
    case KEY_MIN:
    case KEY_MAX:
    case KEY_DECLARE: return put_number(n, k, value, reply);
    case KEY_AND:
    case KEY_OR: return put_bool(n, k, value, reply);
    case KEY_DIGEST: return put_digest(n, k, value, reply);
    case KEY_LATER:
        if (!text_number(value, &n->connections) || n->connections < k->min ||
            n->connections > k->max) {
            n->connections = 0;
            return answer(reply, k->name, "Reject");
        }
        return NEGO_OK;
    case KEY_NAME: return put_name(n, k->name, value);
    case KEY_AUTH:
        n->auth_offered = true;
        n->auth_none = list_has(value, "None");
        n->auth_chap = list_has(value, "CHAP");
        return NEGO_OK;
    case KEY_REPORTING:
        return answer(reply, k->name, list_has(value, "RFC3720") ? "RFC3720" : "Reject");
    case KEY_FIXED_NO: return answer(reply, k->name, "No");
    case KEY_REJECT: break;
    }
    return answer(reply, k->name, "Reject");
}

static const struct key *find(const char *name, unsigned *index_r)
{
    for (unsigned i = 0; i < KEY_COUNT; i++) {
        if (!strcmp(keys[i].name, name)) {
            *index_r = i;
            return &keys[i];
        }
    }
    return NULL;
}

enum nego_result nego_login_key(struct nego *n, enum nego_stage stage, const char *key,
                                const char *value, struct text *reply)
{
    unsigned index;
    const struct key *k = find(key, &index);
    if (!k)
        return answer(reply, key, "NotUnderstood");
    if (n->seen & UINT64_C(1) << index)
        return NEGO_REPEATED;
    n->seen |= UINT64_C(1) << index;
    if (!(k->when & 1u << stage))
        return answer(reply, key, "Reject");
    if ((n->discovery && k->when & W_NORMAL) || (n->joins && k->when & W_LEADS))
        return answer(reply, key, "Irrelevant");
    return put(n, k, value, reply);
}

enum nego_result nego_full_key(struct nego *n, const char *key, const char *value,
                               struct text *reply)
{
    unsigned index;
    const struct key *k = find(key, &index);
    if (!k)
        return answer(reply, key, "NotUnderstood");
    if (!(k->when & W_FULL))
        return answer(reply, key, "Reject");
    return put(n, k, value, reply);
}

bool nego_connections(struct nego *n, unsigned limit, struct text *reply)
{
    if (!n->connections)
        return true;
    n->params.max_connections = n->connections < limit ? n->connections : limit;
    n->connections = 0;
    return text_add(reply, "MaxConnections", "%u", n->params.max_connections);
}
