/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "targets/iscsi/login.h"

#include <string.h>

#include <openssl/crypto.h>

enum { ISID_LEN = 6 };

void login_init(struct login *l, const struct login_env *env, uint16_t tpgt)
{
    *l = (struct login){.env = *env, .tpgt = tpgt};
    nego_init(&l->nego);
}

void login_free(struct login *l)
{
    text_free(&l->in);
    OPENSSL_cleanse(&l->auth, sizeof l->auth);
}

void login_refuse(struct login_reply *reply, enum login_status status)
{
    reply->status = status;
    reply->head.flags = 0;
    reply->head.w36 = (uint32_t)status << 16;
    text_free(&reply->text);
    reply->head.data_len = 0;
}

void login_set_tsih(struct login_reply *reply, uint16_t tsih)
{
    reply->head.lun[6] = (uint8_t)(tsih >> 8);
    reply->head.lun[7] = (uint8_t)tsih;
}

static uint16_t pdu_tsih(const struct iscsi_pdu *pdu)
{
    return (uint16_t)(pdu->lun[6] << 8 | pdu->lun[7]);
}

static unsigned csg(const struct iscsi_pdu *pdu)
{
    return pdu->flags >> 2 & 3;
}

static unsigned nsg(const struct iscsi_pdu *pdu)
{
    return pdu->flags & 3;
}

/* What the header must hold, 11.12. */
static enum login_status check_head(struct login *l, const struct iscsi_pdu *pdu)
{
    if (pdu->b3 > 0) /* Version-min; there is only version 0 */
        return LOGIN_BAD_VERSION;
    bool transit = pdu->flags & F_TRANSIT, more = pdu->flags & F_CONTINUE;
    if (csg(pdu) > STAGE_OPERATIONAL || (transit && more))
        return LOGIN_INITIATOR_ERROR;
    if (transit && (nsg(pdu) <= csg(pdu) || nsg(pdu) == 2))
        return LOGIN_INITIATOR_ERROR;
    if (!l->begun) {
        l->begun = true;
        l->stage = csg(pdu);
        memcpy(l->isid, pdu->lun, ISID_LEN);
        l->tsih = pdu_tsih(pdu);
        l->nego.joins = l->tsih;
        l->cid = (uint16_t)(pdu->w20 >> 16);
        l->itt = pdu->itt;
        l->cmdsn = pdu->w24;
        l->statsn = pdu->w28; /* any first value will do; the initiator's guess is as good */
        return LOGIN_SUCCESS;
    }
    bool same = !memcmp(l->isid, pdu->lun, ISID_LEN) && pdu_tsih(pdu) == l->tsih &&
                (uint16_t)(pdu->w20 >> 16) == l->cid && pdu->itt == l->itt;
    return same && csg(pdu) == l->stage ? LOGIN_SUCCESS : LOGIN_INITIATOR_ERROR;
}

static enum login_status of_nego(enum nego_result result, const char *key)
{
    switch (result) {
    case NEGO_OK: return LOGIN_SUCCESS;
    case NEGO_BAD:
        return strcmp(key, "SessionType") ? LOGIN_INITIATOR_ERROR : LOGIN_BAD_SESSION_TYPE;
    case NEGO_REPEATED:
    case NEGO_TOO_LONG: break;
    }
    return LOGIN_INITIATOR_ERROR;
}

static enum login_status take_keys(struct login *l, struct chap_keys *chap, struct text *reply)
{
    size_t pos = 0;
    for (;;) {
        const char *key, *value;
        enum text_next next = text_next(&l->in, &pos, &key, &value);
        if (next == TEXT_END)
            return of_nego(nego_text_end(&l->nego, reply), "");
        if (next == TEXT_BAD)
            return LOGIN_INITIATOR_ERROR;
        int noted = l->stage == STAGE_SECURITY ? chap_key(chap, key, value) : 0;
        if (noted < 0)
            return LOGIN_INITIATOR_ERROR;
        if (noted)
            continue;
        enum login_status status =
            of_nego(nego_login_key(&l->nego, l->stage, key, value, reply), key);
        if (status)
            return status;
    }
}

/* The first request, complete: who is it, and may it come in? */
static enum login_status take_names(struct login *l, struct text *reply)
{
    if (!l->nego.have_initiator || (!l->nego.discovery && !l->nego.have_target))
        return LOGIN_MISSING_PARAMETER;
    struct login_offer offer = {.max_connections = 1};
    enum login_status status = l->env.permit(l, &offer, &l->auth, l->env.arg);
    l->max_connections = offer.max_connections;
    if (status || l->nego.discovery)
        return status;
    l->named = true;
    bool fits = text_add(reply, "TargetPortalGroupTag", "%u", l->tpgt);
    if (offer.alias && *offer.alias)
        fits = text_add(reply, "TargetAlias", "%s", offer.alias) && fits;
    return fits ? LOGIN_SUCCESS : LOGIN_INITIATOR_ERROR;
}

static bool authenticated(const struct login *l)
{
    return !*l->auth.user || l->chap.state == CHAP_PASSED;
}

/* AuthMethod: the initiator offers, what is needed decides. */
static enum login_status tell_method(struct login *l, struct text *reply)
{
    bool need = *l->auth.user;
    if (!l->nego.auth_offered || l->method_told)
        return LOGIN_SUCCESS;
    l->method_told = true;
    if (need ? !l->nego.auth_chap : !l->nego.auth_none)
        return LOGIN_AUTH_FAILED;
    if (need)
        chap_begin(&l->chap);
    return text_add(reply, "AuthMethod", need ? "CHAP" : "None") ? LOGIN_SUCCESS
                                                                 : LOGIN_INITIATOR_ERROR;
}

/* Whoever has to prove itself gets out of this stage by that alone; `leaving` is the T bit. */
static enum login_status secure(struct login *l, const struct chap_keys *keys, bool leaving,
                                struct text *reply)
{
    if (l->stage != STAGE_SECURITY)
        return authenticated(l) ? LOGIN_SUCCESS : LOGIN_AUTH_FAILED;
    enum login_status status = tell_method(l, reply);
    if (status)
        return status;
    switch (chap_step(&l->chap, &l->auth, keys, reply)) {
    case CHAP_OK: break;
    case CHAP_REFUSED: return LOGIN_AUTH_FAILED;
    case CHAP_MALFORMED: return LOGIN_INITIATOR_ERROR;
    }
    bool stuck = leaving && !authenticated(l) && l->chap.state == CHAP_OFF;
    return stuck ? LOGIN_AUTH_FAILED : LOGIN_SUCCESS;
}

static enum login_status process(struct login *l, bool leaving, struct text *reply)
{
    struct chap_keys keys = {0};
    enum login_status status = take_keys(l, &keys, reply);
    if (!status && !l->named) {
        status = take_names(l, reply);
        l->named = true;
    }
    if (!status && !nego_connections(&l->nego, l->max_connections, reply))
        status = LOGIN_INITIATOR_ERROR;
    if (!status)
        status = secure(l, &keys, leaving, reply);
    bool rejected = l->nego.segment_rejected; /* one answer has the key once */
    l->nego.segment_rejected = false;
    if (!status && l->stage == STAGE_OPERATIONAL && !l->declared && !rejected) {
        l->declared = true;
        if (!text_add(reply, "MaxRecvDataSegmentLength", "%u", ISCSI_RECV_SEGMENT))
            status = LOGIN_INITIATOR_ERROR;
    }
    return status;
}

static void fill_head(struct login *l, const struct iscsi_pdu *pdu, struct iscsi_pdu *head)
{
    head->op = OP_LOGIN_RSP;
    head->flags = (uint8_t)(pdu->flags & 0x0c); /* CSG */
    memcpy(head->lun, pdu->lun, sizeof head->lun);
    head->itt = pdu->itt;
    head->w24 = l->statsn++;
    head->w28 = l->cmdsn;
    head->w32 = l->cmdsn + ISCSI_WINDOW - 1;
    if (l->tsih) /* the session knows: MaxCmdSN < ExpCmdSN - 1 says to ignore both, 4.2.2.1 */
        head->w32 = l->cmdsn - 2;
}

enum login_next login_request(struct login *l, const struct iscsi_pdu *pdu, const void *data,
                              struct login_reply *reply_r)
{
    *reply_r = (struct login_reply){.text.max = ISCSI_DEFAULT_SEGMENT};
    enum login_status status = check_head(l, pdu);
    fill_head(l, pdu, &reply_r->head);
    if (!status && !text_append(&l->in, data, pdu->data_len))
        status = LOGIN_INITIATOR_ERROR;
    if (!status && pdu->flags & F_CONTINUE)
        return LOGIN_MORE; /* an empty response asks for the rest */
    if (!status)
        status = process(l, pdu->flags & F_TRANSIT, &reply_r->text);
    text_free(&l->in);
    if (status) {
        login_refuse(reply_r, status);
        return LOGIN_FAILED;
    }
    reply_r->head.data_len = (uint32_t)reply_r->text.len;
    if (!(pdu->flags & F_TRANSIT) || !authenticated(l))
        return LOGIN_MORE;
    reply_r->head.flags |= F_TRANSIT | nsg(pdu);
    l->stage = nsg(pdu);
    return l->stage == STAGE_FULL ? LOGIN_DONE : LOGIN_MORE;
}
