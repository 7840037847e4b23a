/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_TARGETS_ISCSI_CHAP_H
#define ORION_TARGETS_ISCSI_CHAP_H

#include "targets/iscsi/iscsi.h"
#include "targets/iscsi/text.h"

/*
 * CHAP (RFC 1994) within the security stage of a login (RFC 7143 section 12.1), the target's side,
 * as a machine without I/O: the CHAP keys of one login request in, our keys out.
 */
enum {
    CHAP_DIGEST_MAX = 32,      /* bytes of a response, and of the challenges that we make */
    CHAP_BINARY_MAX = 1024,    /* bytes of a binary value, 12.1.3 */
    CHAP_ALGORITHM_LIST = 255, /* bytes of a CHAP_A that is looked at */
};

/* The CHAP keys of one request; NULL: not given. They need only live during chap_step. */
struct chap_keys {
    const char *algorithm, *id, *challenge, *name, *response; /* CHAP_A, _I, _C, _N, _R */
};
/* Notes a key. 1: noted; 0: none of CHAP's; -1: it is there already. */
int chap_key(struct chap_keys *k, const char *key, const char *value);

struct chap {
    enum { CHAP_OFF, CHAP_ALGORITHM, CHAP_ANSWER, CHAP_PASSED } state;
    unsigned algorithm; /* CHAP_A */
    uint8_t id;
    uint8_t challenge[CHAP_DIGEST_MAX]; /* ours; the digest's length of it */
};

enum chap_result {
    CHAP_OK,
    CHAP_REFUSED,   /* not authentic, or no algorithm in common */
    CHAP_MALFORMED, /* keys that do not belong here */
};

/* AuthMethod=CHAP was agreed on. */
void chap_begin(struct chap *c);
/* One request's keys. state is CHAP_PASSED when the initiator has proved itself (and we have, when
 * it asked for it). */
enum chap_result chap_step(struct chap *c, const struct iscsi_auth *auth, const struct chap_keys *k,
                           struct text *reply);

/* 0: an algorithm that is not known. */
size_t chap_digest_len(unsigned algorithm);
/* digest(id, secret, challenge); false when the algorithm cannot be had. */
bool chap_digest(unsigned algorithm, uint8_t id, const char *secret, const uint8_t *challenge,
                 size_t len, uint8_t out[CHAP_DIGEST_MAX]);
/* A binary value of 6.1: hex after 0x, base64 after 0b. -1: malformed, or longer than `max`. */
int chap_binary(const char *value, uint8_t *out, size_t max);

#endif
