/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_TESTS_SCSI_LAB_H
#define ORION_TESTS_SCSI_LAB_H

#include "harness.h"

#include "block/bdev_driver.h"
#include "targets/scsi/scsi.h"
#include "targets/scsi/sense.h"

/* A transport of a few lines: commands go to a nexus on any reactor and come back to the test's
 * task. */
struct io {
    struct scsi_nexus *nexus;
    struct reactor *reactor;
    struct scsi_cmd cmd;
    const void *out; /* data-out: `out_len` bytes are announced and sent */
    size_t out_len;
    uint8_t *in; /* data-in of a GOOD command, `in_len` bytes */
    size_t in_len;
    bool done, ended;
    struct task *waiter;
};

struct lab {
    struct scsi_target *target;
    struct scsi_nexus *nexus; /* on reactor 0; its unit attentions are taken */
};

enum { LAB_SIZE = 4 << 20 };

/* A mem device "m" of 4 MiB as LUN 0 of a target, thin unless `options` say so: they go to mem. */
struct lab *lab_new(void);
/* LUN 0 on whatever device; lab_new with the given LUN. */
struct lab *lab_with(const struct scsi_lun_args *args);
void lab_free(struct lab **lab); /* removes the target, not devices */
void lab_end(struct lab **lab);  /* and device "m" */

void lab_mem(const char *name, uint64_t size, unsigned block_size);
struct scsi_nexus *lab_login(struct lab *lab, unsigned reactor, const char *initiator);
void lab_logout(struct scsi_nexus **n, unsigned reactor);

/* Starts a command on LUN `lun` and waits for it; with wait false only starts it. */
struct io *io_new(struct scsi_nexus *n, unsigned reactor, unsigned lun, const void *cdb,
                  unsigned len);
void io_start(struct io *io);
void io_begin(struct io *io); /* begin without execute */
void io_execute(struct io *io);
void io_wait(struct io *io);
void io_free(struct io **io);

/* The common way: a CDB as bytes on LUN 0 of the lab's nexus. */
struct io *lab_cmd(struct lab *lab, const void *cdb, unsigned len);
struct io *lab_out(struct lab *lab, const void *cdb, unsigned len, const void *data, size_t n);
#define CMD(lab, ...) \
    lab_cmd(lab, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))
#define OUT(lab, data, n, ...) \
    lab_out(lab, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}), data, n)

/* Checks and frees. */
unsigned io_code(const struct io *io); /* 0xKKAAQQ of the sense, 0 when there is none */
void expect_status(struct io *io, unsigned status);
void expect_sense(struct io *io, enum sense_code code);
/* INVALID FIELD IN CDB (or in the parameter list) with this pointer. */
void expect_field(struct io *io, bool in_cdb, unsigned byte, unsigned bit);
#define expect_good(io) expect_status(io, SCSI_GOOD)

unsigned be(const uint8_t *p, unsigned n);

/* Task management; returns the response. */
enum scsi_tmf_response lab_tmf(struct scsi_nexus *n, unsigned reactor, enum scsi_tmf fn,
                               unsigned lun, struct scsi_cmd *task);

#endif
