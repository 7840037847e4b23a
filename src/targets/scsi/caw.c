/* SPDX-License-Identifier: GPL-2.0-or-later */
/* SBC-3, COMPARE AND WRITE. Data-out is the blocks to compare, then the blocks to write. */
#include <errno.h>

#include "targets/scsi/scsi_private.h"

bool scsi_prepare_caw(struct scsi_cmd *cmd)
{
    cmd->length = cmd->blocks << cmd->view->now.shift << 1;
    return true;
}

static void caw_done(struct bio *bio)
{
    struct scsi_cmd *cmd = bio->arg;
    struct sense s = {.code = SENSE_MISCOMPARE, .has_info = true};
    if (bio->error && bio->bad_offset != BIO_NO_OFFSET && bio->error == -EUCLEAN) {
        s.info = bio->bad_offset - bio->offset; /* offset in the data-out of the first difference */
        scsi_set_sense(cmd, &s);
    } else if (bio->error) {
        scsi_set_errno(cmd, bio->error, bio->bad_offset);
    }
    scsi_end(cmd);
}

void scsi_run_caw(struct scsi_cmd *cmd)
{
    const struct scsi_facts *f = &cmd->view->now;
    if (!cmd->length) {
        scsi_good(cmd);
        return;
    }
    scsi_bio(cmd, BIO_COMPARE_AND_WRITE, cmd->lba << f->shift, cmd->length / 2);
    cmd->iov = (struct iovec){cmd->buf->data, cmd->length};
    bio_data(&cmd->bio, &cmd->iov, 1);
    cmd->bio.buf = iobuf_ref(cmd->buf);
    if (f->write_cache && (cmd->fua || !f->wce))
        cmd->bio.flags = BIO_FUA;
    cmd->bio.done = caw_done;
    bio_submit(&cmd->bio);
}
