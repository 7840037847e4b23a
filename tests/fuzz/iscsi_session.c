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
    struct iscsi_target_args target = {.max_connections = 2};
    if (iscsi_init(&e) || iscsi_target_add(IQN, &target, &e) || iscsi_lun_add(IQN, &lun, &e) ||
        iscsi_portal_add(addr, 1, &e))
        abort();
}

/* 0: no answer; else the session's handle. */
static unsigned exchange(int fd, uint8_t flags, const struct text *t, unsigned tsih)
{
    struct iscsi_pdu p = {.op = OP_LOGIN_REQ, .immediate = true, .flags = flags, .w24 = 1};
    p.lun[6] = (uint8_t)(tsih >> 8);
    p.lun[7] = (uint8_t)tsih;
    p.w20 = tsih ? 2 << 16 : 1 << 16; /* CID */
    p.data_len = (uint32_t)t->len;
    uint8_t head[ISCSI_BHS], pad[4] = {0}, in[8192];
    iscsi_pdu_build(&p, head);
    session_put(fd, head, sizeof head);
    session_put(fd, t->p, t->len);
    session_put(fd, pad, iscsi_pad(p.data_len));
    bool there = TEMP_FAILURE_RETRY(recv(fd, in, sizeof in, 0)) >= ISCSI_BHS;
    return there ? (unsigned)in[14] << 8 | in[15] : 0;
}

/* mode: bit 0 full feature phase, bit 1 discovery, bit 2 InitialR2T=No, bit 3 somebody else resets
 * the LUN in the middle of it, bit 4 there is a second connection. `tsih`: 0, or joins that. */
static unsigned log_in(int fd, unsigned mode, const char *name, unsigned tsih)
{
    struct text t = {0};
    text_add(&t, "InitiatorName", "%s", name);
    text_add(&t, "SessionType", "%s", mode & 2 ? "Discovery" : "Normal");
    text_add(&t, "TargetName", "%s", IQN);
    text_add(&t, "InitialR2T", "%s", mode & 4 ? "No" : "Yes");
    text_add(&t, "MaxConnections", "%d", mode & 16 ? 2 : 1);
    unsigned got = exchange(fd, F_TRANSIT | 1 << 2 | 3, &t, tsih);
    assert(got);
    text_free(&t);
    return got;
}

static void reset_lun(void)
{
    struct iscsi_pdu p = {.op = OP_TMF_REQ, .immediate = true, .flags = F_FINAL | 5, .w24 = 1};
    uint8_t head[ISCSI_BHS], in[512];
    int fd = session_dial(make);
    log_in(fd, 1, "iqn.a:j", 0);
    iscsi_pdu_build(&p, head);
    session_put(fd, head, sizeof head);
    ssize_t n = TEMP_FAILURE_RETRY(recv(fd, in, sizeof in, 0));
    assert(n >= ISCSI_BHS);
    close(fd);
}

/* Pieces, each behind a byte: on which connection, and how many bytes / 8. When they are used up,
 * or at a piece of none, the second connection goes. */
static void feed_two(int fd, unsigned tsih, const uint8_t *p, size_t size)
{
    int other = session_dial(make);
    log_in(other, 16, "iqn.a:i", tsih);
    while (size && *p & 0x7f) {
        size_t len = (*p & 0x7fu) * 8;
        int to = *p & 0x80 ? other : fd;
        p++;
        size--;
        if (len > size)
            len = size;
        session_put(to, p, len);
        p += len;
        size -= len;
    }
    close(other);
    if (size)
        session_put(fd, p + 1, size - 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    int fd = session_dial(make);
    unsigned tsih = data[0] & 1 ? log_in(fd, data[0], "iqn.a:i", 0) : 0;
    if (tsih && (data[0] & 0x12) == 0x10) {
        feed_two(fd, tsih, data + 1, size - 1);
        session_finish(fd);
        return 0;
    }
    size_t half = data[0] & 8 ? (size - 1) / 2 : size - 1;
    session_put(fd, data + 1, half);
    if (half < size - 1)
        reset_lun();
    session_put(fd, data + 1 + half, size - 1 - half);
    session_finish(fd);
    return 0;
}
