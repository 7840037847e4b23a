/* SPDX-License-Identifier: GPL-2.0-or-later */
/* iSCSI (RFC 7143) as an initiator: one connection a session, READ(10) and WRITE(10).
 */
#include "blast.h"

#include "base/crc32c.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { BHS = 48, DIGEST = 4, LOGIN_TEXT_MAX = 2048 };
enum { /* opcodes, RFC 7143 11.2.1.2 */
       OP_NOP_OUT = 0x00,
       OP_COMMAND = 0x01,
       OP_LOGIN = 0x43, /* immediate */
       OP_DATA_OUT = 0x05,
       OP_LOGOUT = 0x46, /* immediate */
       OP_NOP_IN = 0x20,
       OP_RESPONSE = 0x21,
       OP_DATA_IN = 0x25,
       OP_R2T = 0x31,
};
enum { FINAL = 0x80, READ = 0x40, WRITE = 0x20, SIMPLE = 1 };
static const uint32_t no_tag = 0xffffffff;

static uint32_t lba_bytes = 512;
static unsigned sessions;

static void set_at(uint8_t *h, size_t at, uint64_t v, unsigned n)
{
    struct wr w = wr_make(h + at, n);
    wr_be(&w, v, n);
}

static uint32_t get_at(const uint8_t *h, size_t at, unsigned n)
{
    struct rd r = rd_make(h + at, n);
    return (uint32_t)rd_be(&r, n);
}

static uint32_t padded(uint32_t n)
{
    return (n + 3) & ~3u;
}

static void header(const struct conn *c, uint8_t h[BHS], unsigned op, unsigned flags)
{
    memset(h, 0, BHS);
    h[0] = (uint8_t)op;
    h[1] = (uint8_t)flags;
    set_at(h, 28, c->exp_stat_sn, 4);
}

/* ---- login, step by step */

struct text {
    char b[LOGIN_TEXT_MAX];
    size_t n;
};

static void key(struct text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void key(struct text *t, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(t->b + t->n, sizeof t->b - t->n, fmt, ap);
    va_end(ap);
    t->n += (size_t)n + 1;
    if (t->n > sizeof t->b)
        die("too much login text");
}

static uint32_t receive(struct conn *c, uint8_t h[BHS], uint8_t *data, size_t room)
{
    read_all(c->fd, h, BHS);
    uint32_t len = get_at(h, 5, 3);
    if (padded(len) > room)
        die("a PDU at the start is too long");
    read_all(c->fd, data, padded(len));
    return len;
}

/* Sends one login request and takes the response, text into `data`. */
static uint32_t login_step(struct conn *c, uint8_t h[BHS], const struct text *t, unsigned stages,
                           uint16_t tsih, uint8_t *data, size_t room)
{
    static const uint8_t zeroes[4];
    header(c, h, OP_LOGIN, FINAL | stages);
    set_at(h, 5, t->n, 3);
    set_at(h, 8, 0x40370000, 4); /* ISID: EN format, then the session's number */
    set_at(h, 12, sessions, 2);
    set_at(h, 14, tsih, 2);
    set_at(h, 16, 1, 4);
    set_at(h, 24, 1, 4);
    write_all(c->fd, h, BHS);
    write_all(c->fd, t->b, t->n);
    write_all(c->fd, zeroes, padded((uint32_t)t->n) - t->n);
    uint32_t len = receive(c, h, data, room);
    if (get_at(h, 36, 2)) {
        fprintf(stderr, "blast: login refused: status %04x\n", get_at(h, 36, 2));
        exit(2);
    }
    c->exp_stat_sn = get_at(h, 24, 4) + 1;
    return len;
}

static void take_keys(struct conn *c, const char *p, size_t len)
{
    for (const char *s = p; s < p + len; s += strlen(s) + 1) {
        unsigned v;
        if (sscanf(s, "MaxRecvDataSegmentLength=%u", &v) == 1)
            c->max_data = v;
        else if (sscanf(s, "FirstBurstLength=%u", &v) == 1)
            c->first_burst = v;
        else if (!strcmp(s, "ImmediateData=No"))
            c->first_burst = 0;
    }
}

static void login(struct conn *c)
{
    static uint8_t data[1 << 17];
    uint8_t h[BHS];
    struct text t = {.n = 0};
    sessions++;
    key(&t, "InitiatorName=iqn.2026-11.test.blast:p%d.c%u", (int)getpid(), sessions);
    key(&t, "TargetName=%s", set.name);
    key(&t, "SessionType=Normal");
    key(&t, "AuthMethod=None");
    login_step(c, h, &t, 0x01, 0, data, sizeof data); /* security to operational */
    uint16_t tsih = (uint16_t)get_at(h, 14, 2);
    t.n = 0;
    key(&t, "HeaderDigest=%s", set.digests ? "CRC32C" : "None");
    key(&t, "DataDigest=%s", set.digests ? "CRC32C" : "None");
    key(&t, "InitialR2T=No");
    key(&t, "ImmediateData=Yes");
    key(&t, "MaxRecvDataSegmentLength=262144");
    key(&t, "FirstBurstLength=262144");
    key(&t, "MaxBurstLength=1048576");
    key(&t, "MaxOutstandingR2T=8");
    key(&t, "MaxConnections=1");
    key(&t, "DefaultTime2Wait=2");
    key(&t, "DefaultTime2Retain=0");
    key(&t, "ErrorRecoveryLevel=0");
    for (unsigned i = 0; i < 8; i++) { /* operational to full feature */
        uint32_t len = login_step(c, h, &t, 0x07, tsih, data, sizeof data - 1);
        data[len] = 0;
        take_keys(c, (char *)data, len);
        t.n = 0;
        if ((h[1] & 0x83) == 0x83)
            break;
    }
    c->digests = set.digests;
    c->cmd_sn = 1;
    c->max_cmd_sn = get_at(h, 32, 4);
}

static void digest(const void *p, size_t n, uint8_t out[DIGEST])
{
    struct wr w = wr_make(out, DIGEST);
    wr_le32(&w, crc32c(0, p, n));
}

/* Bytes of digests that a PDU has. */
static size_t digests_of(const struct conn *c, uint32_t data)
{
    return c->digests ? DIGEST + (data ? DIGEST : 0) : 0;
}

/* Sends a command of at most 32 bytes of data and waits for its end. */
static void command(struct conn *c, uint8_t h[BHS], uint8_t *data, size_t room)
{
    uint8_t crc[DIGEST];
    set_at(h, 24, c->cmd_sn++, 4);
    set_at(h, 16, 0xffff0000, 4);
    h[9] = (uint8_t)set.lun;
    write_all(c->fd, h, BHS);
    digest(h, BHS, crc);
    write_all(c->fd, crc, digests_of(c, 0));
    for (;;) {
        uint8_t r[BHS], other[1024];
        bool is_data = false;
        read_all(c->fd, r, BHS);
        read_all(c->fd, crc, digests_of(c, 0));
        uint32_t len = get_at(r, 5, 3);
        is_data = r[0] == OP_DATA_IN && padded(len) <= room;
        if (padded(len) > sizeof other)
            die("a PDU at the start is too long");
        read_all(c->fd, is_data ? data : other, padded(len));
        read_all(c->fd, crc, digests_of(c, len) - digests_of(c, 0));
        if ((r[0] & 0x3f) == OP_NOP_IN)
            continue;
        c->max_cmd_sn = get_at(r, 32, 4);
        if ((r[0] & 0x3f) == OP_RESPONSE || (is_data && r[1] & 1)) {
            c->exp_stat_sn = get_at(r, 24, 4) + 1;
            return;
        }
    }
}

static void iscsi_open(struct conn *c)
{
    uint8_t h[BHS], cap[64] = {0};
    c->fd = dial();
    c->max_data = 8192;
    c->first_burst = 65536;
    login(c);
    for (unsigned i = 0; i < 9; i++) { /* TEST UNIT READY until the unit attentions are told */
        header(c, h, OP_COMMAND, FINAL);
        command(c, h, cap, sizeof cap);
    }
    header(c, h, OP_COMMAND, FINAL | READ | SIMPLE); /* READ CAPACITY(16) */
    set_at(h, 20, 32, 4);
    h[32] = 0x9e;
    h[33] = 0x10;
    set_at(h, 42, 32, 4);
    command(c, h, cap, sizeof cap);
    struct rd r = rd_make(cap, sizeof cap);
    uint64_t last = rd_be64(&r);
    lba_bytes = rd_be32(&r);
    dev_size = (last + 1) * lba_bytes;
    if (!lba_bytes)
        die("the LUN tells no capacity");
}

/* ---- full feature phase */

static void put_head(struct conn *c, const uint8_t h[BHS])
{
    uint8_t crc[DIGEST];
    put(c, h, BHS);
    if (!c->digests)
        return;
    digest(h, BHS, crc);
    put(c, crc, DIGEST);
}

/* Blocks are multiples of 512: there is no padding. */
static void put_segment(struct conn *c, const struct req *r, uint32_t from, uint32_t n)
{
    uint8_t crc[DIGEST];
    put_data(c, r, from, n);
    if (!c->digests || !n)
        return;
    digest(c->out + c->out_len - n, n, crc);
    put(c, crc, DIGEST);
}

static bool iscsi_may_send(const struct conn *c)
{
    return (int32_t)(c->max_cmd_sn - c->cmd_sn) >= 0;
}

static void iscsi_send(struct conn *c, unsigned tag)
{
    const struct req *r = &c->req[tag];
    uint8_t h[BHS];
    header(c, h, OP_COMMAND, FINAL | (r->read ? READ : WRITE) | SIMPLE);
    h[9] = (uint8_t)set.lun;
    set_at(h, 16, tag, 4);
    set_at(h, 20, set.block, 4);
    set_at(h, 24, c->cmd_sn++, 4);
    h[32] = r->read ? 0x28 : 0x2a;
    set_at(h, 34, r->off / lba_bytes, 4);
    set_at(h, 39, set.block / lba_bytes, 2);
    uint32_t immediate = set.block < c->max_data ? set.block : c->max_data;
    if (immediate > c->first_burst)
        immediate = c->first_burst;
    if (!r->read)
        set_at(h, 5, immediate, 3);
    put_head(c, h);
    if (!r->read)
        put_segment(c, r, 0, immediate);
}

/* Answers an R2T. */
static void data_out(struct conn *c, const uint8_t *r2t)
{
    uint32_t tag = get_at(r2t, 16, 4), from = get_at(r2t, 40, 4), left = get_at(r2t, 44, 4);
    if (tag >= set.depth || from > set.block || left > set.block - from)
        die("an R2T for what is not there");
    for (uint32_t sn = 0, n; left; left -= n, from += n) {
        uint8_t h[BHS];
        n = left < c->max_data ? left : c->max_data;
        header(c, h, OP_DATA_OUT, n == left ? FINAL : 0);
        set_at(h, 5, n, 3);
        memcpy(h + 8, r2t + 8, 8);
        set_at(h, 16, tag, 4);
        memcpy(h + 20, r2t + 20, 4);
        set_at(h, 36, sn++, 4);
        set_at(h, 40, from, 4);
        put_head(c, h);
        put_segment(c, &c->req[tag], from, n);
    }
}

static void nop_out(struct conn *c, const uint8_t *nop_in)
{
    uint8_t h[BHS];
    if (get_at(nop_in, 20, 4) == no_tag)
        return;
    header(c, h, OP_NOP_OUT | 0x40, FINAL);
    set_at(h, 16, no_tag, 4);
    memcpy(h + 20, nop_in + 20, 4);
    set_at(h, 24, c->cmd_sn, 4);
    put_head(c, h);
}

static void take(struct conn *c, uint8_t *h, uint32_t len)
{
    uint32_t tag = get_at(h, 16, 4), max = get_at(h, 32, 4);
    if ((int32_t)(max - c->max_cmd_sn) > 0)
        c->max_cmd_sn = max;
    switch (h[0] & 0x3f) {
    case OP_DATA_IN:
        if (tag >= set.depth)
            die("data for no request");
        got_data(&c->req[tag], h + BHS + digests_of(c, 0), get_at(h, 40, 4), len);
        if (!(h[1] & 1))
            return;
        c->exp_stat_sn = get_at(h, 24, 4) + 1;
        finished(c, tag, h[3]);
        return;
    case OP_RESPONSE:
        c->exp_stat_sn = get_at(h, 24, 4) + 1;
        finished(c, tag, h[2] || h[3]);
        return;
    case OP_R2T: data_out(c, h); return;
    case OP_NOP_IN: nop_out(c, h); return;
    default: fprintf(stderr, "blast: opcode %02x\n", h[0]); die("unexpected PDU");
    }
}

static size_t iscsi_parse(struct conn *c, uint8_t *p, size_t len)
{
    if (len < BHS)
        return 0;
    uint32_t data = get_at(p, 5, 3);
    size_t total = BHS + p[4] * 4u + padded(data) + digests_of(c, data);
    if (len < total)
        return 0;
    take(c, p, data);
    return total;
}

static size_t iscsi_bye(struct conn *c, uint8_t msg[48])
{
    header(c, msg, OP_LOGOUT, FINAL);
    set_at(msg, 24, c->cmd_sn, 4);
    if (c->digests) /* there is room for a header alone: closing is farewell enough */
        return 0;
    return BHS;
}

const struct protocol iscsi_protocol = {
    .open = iscsi_open,
    .may_send = iscsi_may_send,
    .send = iscsi_send,
    .parse = iscsi_parse,
    .bye = iscsi_bye,
};
