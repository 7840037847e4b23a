/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ORWRITE (SBC-3): read, OR with the data sent, write, with nothing of anybody else in between. The
 * block layer's COMPARE AND WRITE makes it so: what was read must still be there when the result is
 * written; else it begins anew.
 */
#include <errno.h>

#include "targets/scsi/scsi_private.h"

enum { TRIES = 64 };

static void read_old(struct scsi_cmd *cmd);

static void written(struct bio *bio)
{
    struct scsi_cmd *cmd = bio->arg;
    if (bio->error == -EUCLEAN && !cmd->aborted && ++cmd->cursor < TRIES) {
        read_old(cmd);
        return;
    }
    if (bio->error)
        scsi_set_errno(cmd, bio->error == -EUCLEAN ? -EAGAIN : bio->error, bio->bad_offset);
    scsi_end(cmd);
}

static void write_new(struct scsi_cmd *cmd)
{
    const struct scsi_facts *f = &cmd->view->now;
    const uint8_t *sent = cmd->buf->data, *old = cmd->scratch->data;
    uint8_t *fresh = cmd->scratch->data + cmd->length;
    if (!scsi_device(cmd))
        return;
    for (uint64_t i = 0; i < cmd->length; i++)
        fresh[i] = old[i] | sent[i];
    scsi_bio(cmd, BIO_COMPARE_AND_WRITE, cmd->lba << f->shift, cmd->length);
    cmd->iov = (struct iovec){cmd->scratch->data, 2 * cmd->length};
    bio_data(&cmd->bio, &cmd->iov, 1);
    cmd->bio.buf = iobuf_ref(cmd->scratch);
    if (f->write_cache && (cmd->fua || !f->wce))
        cmd->bio.flags = BIO_FUA;
    cmd->bio.done = written;
    bio_submit(&cmd->bio);
}

static void read_old(struct scsi_cmd *cmd)
{
    if (!scsi_device(cmd))
        return;
    scsi_bio(cmd, BIO_READ, cmd->lba << cmd->view->now.shift, cmd->length);
    cmd->iov = (struct iovec){cmd->scratch->data, cmd->length};
    bio_data(&cmd->bio, &cmd->iov, 1);
    cmd->bio.buf = iobuf_ref(cmd->scratch);
    scsi_submit(cmd, write_new);
}

/* What was there, and what shall be. */
bool scsi_prepare_orwrite(struct scsi_cmd *cmd)
{
    cmd->memory = 2 * cmd->length;
    return true;
}

void scsi_run_orwrite(struct scsi_cmd *cmd)
{
    if (!cmd->length) {
        scsi_good(cmd);
        return;
    }
    cmd->scratch = iobuf_get(2 * cmd->length);
    if (!cmd->scratch) {
        scsi_set_errno(cmd, -ENOMEM, BIO_NO_OFFSET);
        scsi_end_later(cmd);
        return;
    }
    read_old(cmd);
}
