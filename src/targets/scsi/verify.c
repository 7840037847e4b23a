/* SPDX-License-Identifier: GPL-2.0-or-later */
/* VERIFY, WRITE AND VERIFY (SBC-3). The medium is read in steps and compared if asked. */
#include <errno.h>

#include "targets/scsi/scsi_private.h"

/* BYTCHK, byte 1 bits 2..1: 0 only read; 1 compare all; 3 compare each block with the one sent. */
static unsigned bytchk(const struct scsi_cmd *cmd)
{
    return cmd->cdb[1] >> 1 & 3;
}

bool scsi_prepare_verify(struct scsi_cmd *cmd)
{
    unsigned shift = cmd->view->now.shift;
    cmd->memory = scsi_step_room(cmd->blocks << shift);
    switch (bytchk(cmd)) {
    case 0: cmd->dir = SCSI_DIR_NONE; return true;
    case 1: cmd->length = cmd->blocks << shift; return true;
    case 3: cmd->length = cmd->blocks ? 1u << shift : 0; return true;
    default: return scsi_refuse_field(cmd, 1, 2);
    }
}

bool scsi_prepare_write_verify(struct scsi_cmd *cmd)
{
    cmd->memory = scsi_step_room(cmd->length);
    return bytchk(cmd) <= 1 || scsi_refuse_field(cmd, 1, 2);
}

/* The sense data of a miscompare tells the block. */
static void miscompare(struct scsi_cmd *cmd, uint64_t at)
{
    struct sense s = {
        .code = SENSE_MISCOMPARE,
        .has_info = true,
        .info = cmd->lba + (at >> cmd->view->now.shift),
    };
    scsi_set_sense(cmd, &s);
    scsi_end_later(cmd);
}

static uint64_t first_difference(const uint8_t *a, const uint8_t *b, uint64_t length)
{
    uint64_t i = 0;
    while (i < length && a[i] == b[i])
        i++;
    return i;
}

/* True: the step equals what was sent, or nothing was to be compared. */
static bool compare(struct scsi_cmd *cmd)
{
    const uint8_t *read = cmd->scratch->data;
    uint64_t unit = bytchk(cmd) == 3 ? cmd->length : cmd->step;
    if (!bytchk(cmd))
        return true;
    for (uint64_t at = 0; at < cmd->step; at += unit) {
        const uint8_t *sent = cmd->buf->data + (bytchk(cmd) == 3 ? 0 : cmd->cursor);
        if (!memcmp(read + at, sent, unit))
            continue;
        miscompare(cmd, cmd->cursor + at + first_difference(read + at, sent, unit));
        return false;
    }
    return true;
}

/* Bytes to read: of WRITE AND VERIFY what was written. */
static uint64_t total(const struct scsi_cmd *cmd)
{
    return cmd->op->flags & OP_WRITES ? cmd->came : cmd->blocks << cmd->view->now.shift;
}

static void read_step(struct scsi_cmd *cmd);

static void step_read(struct scsi_cmd *cmd)
{
    if (!compare(cmd))
        return;
    cmd->cursor += cmd->step;
    read_step(cmd);
}

static void read_step(struct scsi_cmd *cmd)
{
    const struct scsi_facts *f = &cmd->view->now;
    uint64_t left = total(cmd) - cmd->cursor;
    if (!left) {
        scsi_good(cmd);
        return;
    }
    if (!scsi_device(cmd))
        return;
    cmd->step = scsi_step_room(left);
    scsi_bio(cmd, BIO_READ, (cmd->lba << f->shift) + cmd->cursor, cmd->step);
    cmd->iov = (struct iovec){cmd->scratch->data, cmd->step};
    bio_data(&cmd->bio, &cmd->iov, 1);
    cmd->bio.buf = iobuf_ref(cmd->scratch);
    scsi_submit(cmd, step_read);
}

static void start_reading(struct scsi_cmd *cmd)
{
    cmd->scratch = iobuf_get(scsi_step_room(total(cmd)));
    if (!cmd->scratch) {
        scsi_set_errno(cmd, -ENOMEM, BIO_NO_OFFSET);
        scsi_end_later(cmd);
        return;
    }
    read_step(cmd);
}

void scsi_run_verify(struct scsi_cmd *cmd)
{
    if (cmd->blocks)
        start_reading(cmd);
    else
        scsi_good(cmd);
}

/* Written through to the medium, then read back. */
void scsi_run_write_verify(struct scsi_cmd *cmd)
{
    unsigned shift = cmd->view->now.shift;
    if (!cmd->came) {
        scsi_good(cmd);
        return;
    }
    scsi_bio(cmd, BIO_WRITE, cmd->lba << shift, cmd->came);
    cmd->iov = (struct iovec){cmd->buf->data, cmd->came};
    bio_data(&cmd->bio, &cmd->iov, 1);
    cmd->bio.buf = iobuf_ref(cmd->buf);
    cmd->bio.flags = BIO_FUA;
    scsi_submit(cmd, start_reading);
}
