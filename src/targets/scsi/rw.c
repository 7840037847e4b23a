/* SPDX-License-Identifier: GPL-2.0-or-later */
/* READ, WRITE, SYNCHRONIZE CACHE, PRE-FETCH (SBC-3). The hot path: no memory but the data's. And
 * SEND DIAGNOSTIC, which reads. */
#include <assert.h>
#include <errno.h>

#include "targets/scsi/scsi_private.h"

/* 21 bits of LBA share byte 1 with reserved bits; 0 blocks mean 256 (SBC-3, READ (6)). */
bool scsi_prepare_rw6(struct scsi_cmd *cmd)
{
    cmd->lba &= 0x1fffff;
    if (!cmd->blocks)
        cmd->blocks = 256;
    cmd->length = cmd->blocks << cmd->view->now.shift;
    return true;
}

static void rw_done(struct bio *bio)
{
    struct scsi_cmd *cmd = bio->arg;
    if (bio->error) {
        scsi_set_errno(cmd, bio->error, bio->bad_offset);
    } else if (cmd->dir == SCSI_DIR_IN) {
        cmd->data = &cmd->iov;
        cmd->datacnt = 1;
        if (bio->lent) { /* iovec has no const; nobody writes there */
            cmd->iov.iov_base = (void *)(uintptr_t)bio->lent;
            cmd->lent = true;
            iobuf_put(&cmd->buf);
        }
    }
    scsi_end(cmd);
}

static void submit_data(struct scsi_cmd *cmd, enum bio_op op)
{
    unsigned shift = cmd->view->now.shift;
    uint64_t length = op == BIO_WRITE ? cmd->came : cmd->length;
    scsi_bio(cmd, op, cmd->lba << shift, length);
    cmd->iov = (struct iovec){cmd->buf->data, length};
    bio_data(&cmd->bio, &cmd->iov, 1);
    cmd->bio.buf = iobuf_ref(cmd->buf);
    cmd->bio.done = rw_done;
}

static void read_data(struct scsi_cmd *cmd)
{
    if (!scsi_device(cmd))
        return;
    submit_data(cmd, BIO_READ);
    if (cmd->may_borrow && cmd->attr == SCSI_SIMPLE)
        cmd->bio.flags = BIO_BORROW;
    bio_submit(&cmd->bio);
}

void scsi_run_read(struct scsi_cmd *cmd)
{
    if (!cmd->length) {
        scsi_good(cmd);
        return;
    }
    cmd->buf = iobuf_get(cmd->length);
    if (!cmd->buf) {
        scsi_set_errno(cmd, -ENOMEM, BIO_NO_OFFSET);
        scsi_end_later(cmd);
        return;
    }
    if (cmd->fua && cmd->view->now.write_cache) {
        /* FUA on a read: what a volatile cache holds goes to the medium first (SBC-3, caches). */
        scsi_bio(cmd, BIO_FLUSH, 0, 0);
        scsi_submit(cmd, read_data);
        return;
    }
    read_data(cmd);
}

void scsi_run_write(struct scsi_cmd *cmd)
{
    const struct scsi_facts *f = &cmd->view->now;
    if (!cmd->came) {
        scsi_good(cmd);
        return;
    }
    assert(cmd->buf);
    submit_data(cmd, BIO_WRITE);
    if (f->write_cache && (cmd->fua || !f->wce))
        cmd->bio.flags = BIO_FUA;
    bio_submit(&cmd->bio);
}

static void self_tested(struct bio *bio)
{
    struct scsi_cmd *cmd = bio->arg;
    if (bio->error)
        scsi_set_code(cmd, SENSE_SELF_TEST_FAILED);
    scsi_end(cmd);
}

/* SEND DIAGNOSTIC (SPC-4). The self-test: the first block can be read. */
void scsi_run_send_diagnostic(struct scsi_cmd *cmd)
{
    uint32_t size = cmd->view->now.block_size;
    if (!(cmd->cdb[1] & 0x04)) {
        scsi_good(cmd);
        return;
    }
    cmd->scratch = iobuf_get(size);
    if (!cmd->scratch) {
        scsi_set_errno(cmd, -ENOMEM, BIO_NO_OFFSET);
        scsi_end_later(cmd);
        return;
    }
    scsi_bio(cmd, BIO_READ, 0, size);
    cmd->iov = (struct iovec){cmd->scratch->data, size};
    bio_data(&cmd->bio, &cmd->iov, 1);
    cmd->bio.buf = iobuf_ref(cmd->scratch);
    cmd->bio.done = self_tested;
    bio_submit(&cmd->bio);
}

/* The range is checked and otherwise ignored: a FLUSH covers the whole device. IMMED is accepted
 * and the status still waits for the flush, so that a failure is reported where it belongs. */
void scsi_run_sync(struct scsi_cmd *cmd)
{
    scsi_bio(cmd, BIO_FLUSH, 0, 0);
    cmd->bio.done = rw_done;
    bio_submit(&cmd->bio);
}

/* GOOD, never CONDITION MET: nobody here knows that the blocks will stay in a cache. */
void scsi_run_prefetch(struct scsi_cmd *cmd)
{
    const struct scsi_facts *f = &cmd->view->now;
    uint64_t blocks = cmd->blocks ? cmd->blocks : f->blocks - cmd->lba; /* 0: up to the last one */
    uint64_t most = SCSI_MAX_TRANSFER >> f->shift;
    if (!blocks) {
        scsi_good(cmd);
        return;
    }
    scsi_bio(cmd, BIO_PREFETCH, cmd->lba << f->shift, (blocks < most ? blocks : most) << f->shift);
    cmd->bio.done = rw_done;
    bio_submit(&cmd->bio);
}
