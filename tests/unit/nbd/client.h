/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_TESTS_NBD_CLIENT_H
#define ORION_TESTS_NBD_CLIENT_H

#include "harness.h"

#include "drivers/devices.h"
#include "targets/nbd/nbd.h"
#include "targets/nbd/nbd_wire.h"

/*
 * A server in a temporary folder and a blocking client for it. The client runs on a helper thread,
 * so that main can serve it: client(fn, arg).
 */
extern char server_addr[80]; /* unix:/tmp/.../s */

void server_begin(void); /* T: nbd_init, listens on server_addr */
void server_end(void);   /* T: nbd_shutdown, removes the folder */
void export_device(const char *name, const char *device, bool read_only); /* T */
void client(reactor_fn fn, void *arg);                                    /* T */
/* T: waits until so many sessions are there. */
void wait_sessions(unsigned n);

/* ---- on the helper thread */
int dial(void);
struct go {
    uint64_t size;
    uint16_t flags;
    char why[200];
};
/* 0 or the error reply. */
uint32_t go(int fd, const char *name, struct go *go_r);
int connect_to(const char *name); /* dial and go, which must work */
void send_bytes(int fd, const void *p, size_t len);
bool recv_bytes(int fd, void *p, size_t len); /* false: the server closed */
bool is_closed(int fd);                       /* waits for the end of the stream */
void put_request(struct wr *w, unsigned type, unsigned flags, uint64_t cookie, uint64_t offset,
                 uint32_t len);
void send_request(int fd, unsigned type, unsigned flags, uint64_t cookie, uint64_t offset,
                  uint32_t len);
enum nbd_error recv_reply(int fd, uint64_t *cookie_r);
/* One request and its reply. */
enum nbd_error do_read(int fd, uint64_t offset, void *buf, uint32_t len);
enum nbd_error do_write(int fd, unsigned flags, uint64_t offset, const void *buf, uint32_t len);
enum nbd_error do_simple(int fd, unsigned type, unsigned flags, uint64_t offset, uint32_t len);
/* Bytes that depend on the place. */
void fill(uint8_t *buf, size_t len, uint64_t seed);

#endif
