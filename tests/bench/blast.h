/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_TESTS_BENCH_BLAST_H
#define ORION_TESTS_BENCH_BLAST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

/* blast: a load generator for NBD and iSCSI servers that costs less CPU than the server it loads.
 * One thread, epoll, many requests a system call. blast.c has the usage. */

struct settings {
    const char *addr, *name; /* tcp:HOST:PORT or unix:PATH; export or target */
    unsigned lun;
    unsigned conns, depth, seconds, read_percent;
    uint32_t block; /* bytes a request */
    uint64_t limit; /* bytes of the device that are used, 0 = all */
    int server_pid; /* whose CPU time is counted, 0 = none */
    bool sequential, verify, digests, awake;
};
extern struct settings set;

struct req {
    uint64_t t0; /* ns */
    uint64_t off;
    bool read;
};

struct conn {
    int fd;
    struct req *req; /* by tag, 0..depth-1 */
    unsigned *free_tags, free_count;
    uint8_t *in;
    size_t in_len, in_cap;
    uint8_t *out;
    size_t out_len, out_pos, out_cap;
    uint64_t next_block; /* sequential */
    /* iSCSI */
    uint32_t cmd_sn, exp_stat_sn, max_cmd_sn, max_data, first_burst;
    bool digests; /* agreed on, and in use */
};

struct protocol {
    void (*open)(struct conn *c); /* dials, logs in, learns dev_size */
    bool (*may_send)(const struct conn *c);
    void (*send)(struct conn *c, unsigned tag);
    size_t (*parse)(struct conn *c, uint8_t *p,
                    size_t len);                    /* bytes of one message, 0 = not whole */
    size_t (*bye)(struct conn *c, uint8_t msg[48]); /* bytes of the farewell */
};
extern const struct protocol nbd_protocol, iscsi_protocol;

extern uint64_t dev_size;
extern uint8_t *write_data; /* set.block bytes */

void die(const char *what) __attribute__((noreturn));
int dial(void);
void read_all(int fd, void *p, size_t n);
void write_all(int fd, const void *p, size_t n);

void put(struct conn *c, const void *p, size_t n); /* to the connection's output */
/* Bytes [from, from + n) of a write request's data. */
void put_data(struct conn *c, const struct req *r, uint32_t from, uint32_t n);
/* Data of a read arrived: checked when verifying. */
void got_data(const struct req *r, const uint8_t *p, uint32_t from, uint32_t n);
void finished(struct conn *c, unsigned tag, bool failed);

#endif
