/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>
#include <string.h>

#include <openssl/crypto.h>

#include "base/secret.h"
#include "targets/iscsi/registry.h"

/* Who must prove what. Secrets never go into a message. */

static struct iscsi_auth discovery; /* main's */

static int check_pair(const char *user, const char *secret, const char *user_field,
                      const char *secret_field, struct err *e)
{
    if (*user && !*secret)
        return err_set(e, ERR_INVALID, secret_field, "%s is missing; expected with %s",
                       secret_field, user_field);
    if (*secret && !*user)
        return err_set(e, ERR_INVALID, user_field, "%s is missing; expected with %s", user_field,
                       secret_field);
    if (*secret && strlen(secret) < ISCSI_SECRET_MIN)
        return err_set(e, ERR_INVALID, secret_field,
                       "%s has %zu bytes; expected %d to 255 (RFC 7143 9.2.1)", secret_field,
                       strlen(secret), ISCSI_SECRET_MIN);
    return 0;
}

int iscsi_auth_check(const struct iscsi_auth *a, struct err *e)
{
    if (check_pair(a->user, a->secret, "chap_user", "chap_secret", e) ||
        check_pair(a->mutual_user, a->mutual_secret, "mutual_user", "mutual_secret", e))
        return -1;
    if (*a->mutual_user && !*a->user)
        return err_set(e, ERR_INVALID, "mutual_user",
                       "the target proves itself only to initiators that do; expected chap_user "
                       "with mutual_user");
    if (*a->mutual_user && secret_equal(a->secret, a->mutual_secret))
        return err_set(e, ERR_INVALID, "mutual_secret",
                       "mutual_secret is chap_secret; expected another one (RFC 7143 9.2.1)");
    return 0;
}

int iscsi_discovery_auth(const struct iscsi_auth *auth, struct err *e)
{
    if (auth && iscsi_auth_check(auth, e))
        return -1;
    OPENSSL_cleanse(&discovery, sizeof discovery);
    if (auth)
        discovery = *auth;
    return 0;
}

void auth_needed(const struct iscsi_target *t, const char *initiator, struct iscsi_auth *auth_r)
{
    const struct iscsi_acl *a = t ? acl_find(t, initiator) : NULL;
    if (!t)
        *auth_r = discovery;
    else if (a)
        *auth_r = a->auth;
}

bool auth_same(const struct iscsi_auth *a, const struct iscsi_auth *b)
{
    bool users = secret_equal(a->user, b->user),
         mutual = secret_equal(a->mutual_user, b->mutual_user);
    bool secret = secret_equal(a->secret, b->secret);
    return secret_equal(a->mutual_secret, b->mutual_secret) && secret && users && mutual;
}
