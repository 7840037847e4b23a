/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <assert.h>
#include <string.h>

#include "targets/iscsi/login.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum login_status permit(const struct login *l, struct login_offer *offer_r,
                                struct iscsi_auth *auth_r, void *arg)
{
    (void)arg;
    if (strstr(l->nego.initiator, "chap"))
        *auth_r = (struct iscsi_auth){"user", "a secret of it", "target", "another secret"};
    offer_r->alias = "alias";
    return l->tsih ? LOGIN_NO_SESSION : LOGIN_SUCCESS;
}

/* Login requests, each: flags, two bytes of length, text. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct login l;
    struct login_env env = {.permit = permit};
    login_init(&l, &env, 1);
    enum login_next next = LOGIN_MORE;
    while (size >= 3 && next == LOGIN_MORE) {
        struct iscsi_pdu pdu = {.op = OP_LOGIN_REQ, .flags = data[0]};
        pdu.data_len = (uint32_t)data[1] << 8 | data[2];
        data += 3;
        size -= 3;
        if (pdu.data_len > size)
            pdu.data_len = (uint32_t)size;
        struct login_reply reply;
        next = login_request(&l, &pdu, data, &reply);
        assert(reply.text.len <= ISCSI_DEFAULT_SEGMENT);
        assert((next == LOGIN_FAILED) == (reply.status != LOGIN_SUCCESS));
        text_free(&reply.text);
        data += pdu.data_len;
        size -= pdu.data_len;
    }
    if (next == LOGIN_DONE) {
        const struct iscsi_params *p = &l.nego.params;
        assert(p->max_xmit_segment >= 512 && p->max_burst >= 512);
        assert(!*l.auth.user || l.chap.state == CHAP_PASSED);
        assert(p->first_burst >= 512 && p->first_burst <= 256 << 10); /* see nego_text_end */
        assert(p->max_r2t >= 1 && !p->recovery_level);
    }
    login_free(&l);
    return 0;
}
