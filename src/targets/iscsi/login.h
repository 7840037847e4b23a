/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_TARGETS_ISCSI_LOGIN_H
#define ORION_TARGETS_ISCSI_LOGIN_H

#include "targets/iscsi/chap.h"
#include "targets/iscsi/nego.h"
#include "targets/iscsi/pdu.h"

/*
 * The login phase (RFC 7143 sections 6.3, 11.12, 11.13) as a machine without I/O: login requests
 * in, login responses out. What it must know of the world it asks through login_env.
 */
enum login_status { /* class << 8 | detail, 11.13.5 */
                    LOGIN_SUCCESS = 0x0000,
                    LOGIN_INITIATOR_ERROR = 0x0200,
                    LOGIN_AUTH_FAILED = 0x0201,
                    LOGIN_FORBIDDEN = 0x0202,
                    LOGIN_NOT_FOUND = 0x0203,
                    LOGIN_REMOVED = 0x0204,
                    LOGIN_BAD_VERSION = 0x0205,
                    LOGIN_TOO_MANY_CONNECTIONS = 0x0206,
                    LOGIN_MISSING_PARAMETER = 0x0207,
                    LOGIN_BAD_SESSION_TYPE = 0x0209,
                    LOGIN_NO_SESSION = 0x020a,
                    LOGIN_TARGET_ERROR = 0x0300,
                    LOGIN_UNAVAILABLE = 0x0301,
                    LOGIN_NO_RESOURCES = 0x0302,
};

enum { ISCSI_WINDOW = 128 /* commands in flight a session */ };

/* What is known of a session once its names are. */
struct login_offer {
    const char *alias;        /* of the target, or NULL */
    unsigned max_connections; /* 1 to ISCSI_CONNECTIONS_MAX */
};

struct login;
struct login_env {
    /* The names and session type are known: may this initiator have this session, and what must it
     * prove itself by? *auth_r is zeroed before; *offer_r is one connection and no alias. Called
     * once. */
    enum login_status (*permit)(const struct login *l, struct login_offer *offer_r,
                                struct iscsi_auth *auth_r, void *arg);
    void *arg;
};

struct login {
    struct login_env env;
    struct nego nego;
    enum nego_stage stage;
    bool begun, named, declared, method_told;
    struct iscsi_auth auth; /* what permit asked for; cleansed by login_free */
    unsigned max_connections;
    struct chap chap;
    uint8_t isid[6];
    uint16_t tsih; /* as asked for; 0 = a new session, else the one that it joins */
    uint16_t cid;
    uint16_t tpgt; /* of the portal */
    uint32_t itt;
    uint32_t cmdsn;  /* the session's first ExpCmdSN */
    uint32_t statsn; /* of the next response */
    struct text in;
};

enum login_next {
    LOGIN_MORE,   /* send the reply, await the next request */
    LOGIN_DONE,   /* stamp the TSIH on the reply (login_set_tsih), send it: full feature phase */
    LOGIN_FAILED, /* send the reply, close */
};

struct login_reply {
    struct iscsi_pdu head;
    struct text text; /* the caller frees it */
    enum login_status status;
};

void login_init(struct login *l, const struct login_env *env, uint16_t tpgt);
void login_free(struct login *l);
/* `data` holds pdu->data_len bytes. Fills *reply_r (zeroed by this). */
enum login_next login_request(struct login *l, const struct iscsi_pdu *pdu, const void *data,
                              struct login_reply *reply_r);
/* Turns a reply into a refusal: when the world changed between the machine's yes and the sending.
 */
void login_refuse(struct login_reply *reply, enum login_status status);
void login_set_tsih(struct login_reply *reply, uint16_t tsih);

#endif
