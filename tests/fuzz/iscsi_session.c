/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "session.h"

#include "targets/iscsi/iscsi.h"
#include "targets/iscsi/pdu.h"
#include "targets/iscsi/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define IQN "iqn.2026-11.fuzz:t"

static void make(const char *addr)
{
    struct err e = {0};
    struct iscsi_lun_args lun = {.lun = 0, .device = "m"};
    if (iscsi_init(&e) || iscsi_target_add(IQN, NULL, false, &e) || iscsi_lun_add(IQN, &lun, &e) ||
        iscsi_portal_add(addr, 1, &e))
        abort();
}

static bool exchange(int fd, uint8_t flags, const struct text *t)
{
    struct iscsi_pdu p = {.op = OP_LOGIN_REQ, .immediate = true, .flags = flags, .w24 = 1};
    p.data_len = (uint32_t)t->len;
    uint8_t head[ISCSI_BHS], pad[4] = {0}, in[8192];
    iscsi_pdu_build(&p, head);
    session_put(fd, head, sizeof head);
    session_put(fd, t->p, t->len);
    session_put(fd, pad, iscsi_pad(p.data_len));
    return TEMP_FAILURE_RETRY(recv(fd, in, sizeof in, 0)) >= ISCSI_BHS;
}

/* mode: bit 0 full feature phase, bit 1 discovery, bit 2 InitialR2T=No, bit 3 somebody else resets
 * the LUN in the middle of it */
static void log_in(int fd, unsigned mode, const char *name)
{
    struct text t = {0};
    text_add(&t, "InitiatorName", "%s", name);
    text_add(&t, "SessionType", "%s", mode & 2 ? "Discovery" : "Normal");
    text_add(&t, "TargetName", "%s", IQN);
    text_add(&t, "InitialR2T", "%s", mode & 4 ? "No" : "Yes");
    bool ok = exchange(fd, F_TRANSIT | 1 << 2 | 3, &t);
    assert(ok);
    text_free(&t);
}

static void reset_lun(void)
{
    struct iscsi_pdu p = {.op = OP_TMF_REQ, .immediate = true, .flags = F_FINAL | 5, .w24 = 1};
    uint8_t head[ISCSI_BHS], in[512];
    int fd = session_dial(make);
    log_in(fd, 1, "iqn.a:j");
    iscsi_pdu_build(&p, head);
    session_put(fd, head, sizeof head);
    ssize_t n = TEMP_FAILURE_RETRY(recv(fd, in, sizeof in, 0));
    assert(n >= ISCSI_BHS);
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    int fd = session_dial(make);
    if (data[0] & 1)
        log_in(fd, data[0], "iqn.a:i");
    size_t half = data[0] & 8 ? (size - 1) / 2 : size - 1;
    session_put(fd, data + 1, half);
    if (half < size - 1)
        reset_lun();
    session_put(fd, data + 1 + half, size - 1 - half);
    session_finish(fd);
    return 0;
}
