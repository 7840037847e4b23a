/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "iscsi/client.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "targets/iscsi/text.h"
#include "targets/target.h"

char portal[80];
uint16_t tsih;

void target_begin(void)
{
    char dir[] = "/tmp/orion-iscsi-XXXXXX";
    struct err e = {0};
    check(mkdtemp(dir));
    snprintf(portal, sizeof portal, "unix:%s/s", dir);
    device(&mem_driver, "m", "size=4M");
    device(&fault_driver, "f", "on=m");
    check(!iscsi_init(&e));
    check(!iscsi_portal_add(portal, 1, &e));
    struct iscsi_target_args target = {.alias = "unit test", .max_connections = 2};
    check(!iscsi_target_add(IQN, &target, &e));
    struct iscsi_lun_args lun = {.lun = 0, .device = "f"};
    check(!iscsi_lun_add(IQN, &lun, &e));
}

void target_end(void)
{
    iscsi_shutdown();
    *strrchr(portal, '/') = '\0';
    check_int(rmdir(portal + 5), 0);
    remove_device("f");
    remove_device("m");
}

struct bdev *fault(void)
{
    return bdev_find("f");
}

void initiator(reactor_fn fn, void *arg)
{
    task_help(fn, arg);
}

static void count(const struct session_info *info, void *arg)
{
    (void)info;
    ++*(unsigned *)arg;
}

unsigned session_count(void)
{
    unsigned n = 0;
    target_sessions(count, &n);
    return n;
}

void wait_sessions(unsigned n)
{
    for (unsigned i = 0; i < 5000 && session_count() != n; i++)
        task_sleep_us(1000);
    check_int(session_count(), n);
}

void wait_held(unsigned n)
{
    for (unsigned i = 0; i < 5000 && fault_held(fault()) != n; i++)
        task_sleep_us(1000);
    check_int(fault_held(fault()), n);
}

int dial(void)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    check(fd >= 0);
    snprintf(sun.sun_path, sizeof sun.sun_path, "%s", portal + 5);
    check(!connect(fd, (struct sockaddr *)&sun, sizeof sun));
    struct timeval limit = {.tv_sec = 20};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    return fd;
}

void put(int fd, struct iscsi_pdu *pdu, const void *data, size_t len)
{
    static const uint8_t zeroes[4];
    uint8_t head[ISCSI_BHS];
    pdu->data_len = (uint32_t)len;
    iscsi_pdu_build(pdu, head);
    struct iovec iov[] = {{head, sizeof head},
                          {(void *)(uintptr_t)data, len},
                          {(void *)(uintptr_t)zeroes, iscsi_pad((uint32_t)len)}};
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 3};
    check_int(sendmsg(fd, &msg, MSG_NOSIGNAL), sizeof head + len + iov[2].iov_len);
}

static bool bytes(int fd, void *p, size_t len)
{
    return !len || recv(fd, p, len, MSG_WAITALL) == (ssize_t)len;
}

bool get(int fd, struct reply *r)
{
    uint8_t head[ISCSI_BHS], pad[4];
    if (!bytes(fd, head, sizeof head))
        return false;
    iscsi_pdu_parse(&r->pdu, head);
    r->pdu.cdb = NULL;
    check(r->pdu.data_len < sizeof r->data);
    if (!bytes(fd, r->data, r->pdu.data_len) || !bytes(fd, pad, iscsi_pad(r->pdu.data_len)))
        return false;
    r->data[r->pdu.data_len] = 0;
    return true;
}

static struct iscsi_pdu login_pdu(uint8_t flags, uint8_t isid)
{
    struct iscsi_pdu p = {.op = OP_LOGIN_REQ, .immediate = true, .flags = flags, .itt = 1};
    memcpy(p.lun, (uint8_t[]){0x40, 0, 0, 0, 0, isid}, 6);
    p.w24 = 1;
    return p;
}

static struct text names(const char *iqn, const char *name)
{
    struct text t = {0};
    text_add(&t, "InitiatorName", "%s", name);
    text_add(&t, "TargetName", "%s", iqn);
    text_add(&t, "AuthMethod", "None");
    return t;
}

uint16_t login_status(const char *iqn, const char *initiator_name)
{
    int fd = dial();
    struct text t = names(iqn, initiator_name);
    struct iscsi_pdu p = login_pdu(F_TRANSIT | 1, 9);
    struct reply r;
    put(fd, &p, t.p, t.len);
    check(get(fd, &r));
    text_free(&t);
    close(fd);
    return (uint16_t)(r.pdu.w36 >> 16);
}

int log_in(const char *iqn, uint8_t isid, const void *more, size_t len)
{
    int fd = dial();
    struct text t = names(iqn, "iqn.2026-11.test:me");
    struct iscsi_pdu p = login_pdu(F_TRANSIT | 1, isid);
    struct reply r;
    put(fd, &p, t.p, t.len);
    text_free(&t);
    check(get(fd, &r) && r.pdu.op == OP_LOGIN_RSP && !r.pdu.w36);
    uint8_t both[ISCSI_BHS + 4096];
    check(len <= 4096);
    p = login_pdu(F_TRANSIT | 1 << 2 | 3, isid);
    iscsi_pdu_build(&p, both);
    if (len)
        memcpy(both + ISCSI_BHS, more, len);
    check_int(send(fd, both, ISCSI_BHS + len, MSG_NOSIGNAL), ISCSI_BHS + len);
    check(get(fd, &r) && r.pdu.op == OP_LOGIN_RSP && !r.pdu.w36);
    check_int(r.pdu.flags, F_TRANSIT | 1 << 2 | 3);
    tsih = (uint16_t)(r.pdu.lun[6] << 8 | r.pdu.lun[7]);
    check(tsih);
    return fd;
}

int join(const char *iqn, uint8_t isid)
{
    int fd = dial();
    struct text t = names(iqn, "iqn.2026-11.test:me");
    struct iscsi_pdu p = login_pdu(F_TRANSIT | 1 << 2 | 3, isid);
    p.lun[6] = (uint8_t)(tsih >> 8);
    p.lun[7] = (uint8_t)tsih;
    t.len -= sizeof "AuthMethod=None"; /* belongs to the stage that is left out */
    put(fd, &p, t.p, t.len);
    text_free(&t);
    return fd;
}

void command(struct iscsi_pdu *pdu, uint32_t itt, uint32_t cmdsn, const uint8_t cdb[16],
             uint32_t expected)
{
    uint8_t head[ISCSI_BHS] = {0};
    memcpy(head + 32, cdb, 16);
    iscsi_pdu_parse(pdu, head);
    pdu->op = OP_SCSI_CMD;
    pdu->flags = F_FINAL | (expected ? F_CMD_READ : 0) | 1;
    pdu->itt = itt;
    pdu->w20 = expected;
    pdu->w24 = cmdsn;
}

void read10(struct iscsi_pdu *pdu, uint32_t itt, uint32_t cmdsn, uint32_t lba, uint16_t blocks)
{
    const uint8_t cdb[16] = {
        0x28,         0, (uint8_t)(lba >> 24),   (uint8_t)(lba >> 16), (uint8_t)(lba >> 8),
        (uint8_t)lba, 0, (uint8_t)(blocks >> 8), (uint8_t)blocks};
    command(pdu, itt, cmdsn, cdb, blocks * 512u);
}

uint32_t ready(int fd)
{
    static const uint8_t test_unit_ready[16];
    for (uint32_t sn = 1; sn < 10; sn++) {
        struct iscsi_pdu p;
        struct reply r;
        command(&p, sn, sn, test_unit_ready, 0);
        put(fd, &p, NULL, 0);
        check(get(fd, &r) && r.pdu.op == OP_SCSI_RSP);
        if (!r.pdu.b3)
            return sn + 1;
    }
    check(!"the LUN does not get ready");
    return 0;
}
