/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Options, then requests, to a whole server. */
#include "session.h"

#include "targets/nbd/nbd.h"
#include "targets/nbd/nbd_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void make(const char *addr)
{
    struct err e = {0};
    struct nbd_listen_args listen = {.addr = addr};
    struct nbd_export_args args = {.name = "m", .device = "m"};
    if (nbd_init(&e) || nbd_export_add(&args, &e) || nbd_listen(&listen, &e))
        abort();
}

static void put_option(int fd, uint32_t option, const void *data, uint32_t len)
{
    uint8_t head[NBD_OPTION_HEADER_SIZE];
    struct wr w = wr_make(head, sizeof head);
    wr_be64(&w, NBD_OPTION_MAGIC);
    wr_be32(&w, option);
    wr_be32(&w, len);
    session_put(fd, head, sizeof head);
    session_put(fd, data, len);
}

/* The way to transmission; the input's first byte is how: 1 structured replies, 2 extended headers,
 * 4 with base:allocation; 8: the input is options itself. */
static void enter(int fd, uint8_t how)
{
    static const uint8_t context[] = "\0\0\0\1m\0\0\0\1\0\0\0\17base:allocation";
    session_put(fd, "\0\0\0\3", 4);
    if (how & 8)
        return;
    if (how & 3)
        put_option(fd, how & 2 ? NBD_OPT_EXTENDED_HEADERS : NBD_OPT_STRUCTURED_REPLY, NULL, 0);
    if (how & 4)
        put_option(fd, NBD_OPT_SET_META_CONTEXT, context, sizeof context - 1);
    put_option(fd, NBD_OPT_GO, "\0\0\0\1m\0\0", 7);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size || size > 65536)
        return 0;
    int fd = session_dial(make);
    enter(fd, data[0]);
    session_put(fd, data + 1, size - 1);
    session_finish(fd);
    return 0;
}
