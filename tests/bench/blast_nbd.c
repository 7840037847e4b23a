/* SPDX-License-Identifier: GPL-2.0-or-later */
/* NBD protocol, fixed newstyle handshake and simple replies (doc/proto.md of the NBD project). */
#include "blast.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    OPT_GO = 7,
    REP_ACK = 1,
    REP_INFO = 3,
    CMD_READ = 0,
    CMD_WRITE = 1,
    CMD_DISC = 2,
    REQUEST_LEN = 28,
    REPLY_LEN = 16,
};
static const uint32_t request_magic = 0x25609513, reply_magic = 0x67446698;

static void send_go(int fd)
{
    uint8_t b[512];
    size_t n = strlen(set.name);
    struct wr w = wr_make(b, sizeof b);
    wr_be32(&w, 1 | 2); /* fixed newstyle, no zeroes */
    wr_copy(&w, "IHAVEOPT", 8);
    wr_be32(&w, OPT_GO);
    wr_be32(&w, 4 + n + 2);
    wr_be32(&w, n);
    wr_copy(&w, set.name, n);
    wr_be16(&w, 0);
    if (!wr_ok(&w))
        die("the export's name is too long");
    write_all(fd, b, w.pos);
}

/* One option reply; its type. */
static uint32_t option_reply(int fd)
{
    uint8_t head[20], b[4096];
    read_all(fd, head, sizeof head);
    struct rd r = rd_make(head + 12, 8);
    uint32_t type = rd_be32(&r), len = rd_be32(&r);
    if (len > sizeof b)
        die("an option reply is too long");
    read_all(fd, b, len);
    if (type & 0x80000000u) {
        fprintf(stderr, "blast: the export was refused: %x %.*s\n", type, (int)len, (char *)b);
        exit(2);
    }
    r = rd_make(b, len);
    if (type == REP_INFO && rd_be16(&r) == 0)
        dev_size = rd_be64(&r);
    return type;
}

static void nbd_open(struct conn *c)
{
    uint8_t hello[18];
    c->fd = dial();
    read_all(c->fd, hello, sizeof hello);
    if (memcmp(hello, "NBDMAGICIHAVEOPT", 16))
        die("not an NBD server");
    send_go(c->fd);
    while (option_reply(c->fd) != REP_ACK)
        ;
}

static bool nbd_may_send(const struct conn *c)
{
    (void)c;
    return true;
}

static void request(uint8_t b[REQUEST_LEN], unsigned type, uint64_t cookie, uint64_t off,
                    uint32_t len)
{
    struct wr w = wr_make(b, REQUEST_LEN);
    wr_be32(&w, request_magic);
    wr_be16(&w, 0);
    wr_be16(&w, type);
    wr_be64(&w, cookie);
    wr_be64(&w, off);
    wr_be32(&w, len);
}

static void nbd_send(struct conn *c, unsigned tag)
{
    const struct req *r = &c->req[tag];
    uint8_t b[REQUEST_LEN];
    request(b, r->read ? CMD_READ : CMD_WRITE, tag, r->off, set.block);
    put(c, b, sizeof b);
    if (!r->read)
        put_data(c, r, 0, set.block);
}

static size_t nbd_parse(struct conn *c, uint8_t *p, size_t len)
{
    if (len < REPLY_LEN)
        return 0;
    struct rd r = rd_make(p, REPLY_LEN);
    if (rd_be32(&r) != reply_magic)
        die("bad reply magic");
    uint32_t error = rd_be32(&r);
    uint64_t tag = rd_be64(&r);
    if (tag >= set.depth)
        die("a reply to no request");
    uint32_t data = c->req[tag].read && !error ? set.block : 0;
    if (len < REPLY_LEN + data)
        return 0;
    if (data)
        got_data(&c->req[tag], p + REPLY_LEN, 0, data);
    finished(c, (unsigned)tag, error);
    return REPLY_LEN + data;
}

static size_t nbd_bye(struct conn *c, uint8_t msg[48])
{
    (void)c;
    request(msg, CMD_DISC, 0, 0, 0);
    return REQUEST_LEN;
}

const struct protocol nbd_protocol = {
    .open = nbd_open,
    .may_send = nbd_may_send,
    .send = nbd_send,
    .parse = nbd_parse,
    .bye = nbd_bye,
};
