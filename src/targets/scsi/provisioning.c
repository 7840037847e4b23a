/* SPDX-License-Identifier: GPL-2.0-or-later */
/* UNMAP, WRITE SAME, GET LBA STATUS: SBC-3, logical block provisioning. */
#include <errno.h>

#include "targets/scsi/scsi_private.h"

/* ---- UNMAP: a header of 8 bytes, then descriptors of 16 */

enum { UNMAP_HEADER = 8, UNMAP_DESCRIPTOR = 16 };

struct unmap_range {
    uint64_t lba, blocks;
};

static struct unmap_range unmap_range(const struct scsi_cmd *cmd, uint64_t i)
{
    struct rd r = rd_make(cmd->buf->data, cmd->length);
    rd_seek(&r, UNMAP_HEADER + i * UNMAP_DESCRIPTOR);
    struct unmap_range range = {.lba = rd_be64(&r)};
    range.blocks = rd_be32(&r);
    return range;
}

/* cmd->blocks counts the descriptors, cmd->cursor is the next one's number. */
static void unmap_next(struct scsi_cmd *cmd)
{
    const struct scsi_facts *f = &cmd->view->now;
    while (cmd->cursor < cmd->blocks) {
        struct unmap_range range = unmap_range(cmd, cmd->cursor++);
        if (!range.blocks)
            continue;
        if (!scsi_device(cmd))
            return;
        scsi_bio(cmd, BIO_DISCARD, range.lba << f->shift, range.blocks << f->shift);
        scsi_submit(cmd, unmap_next);
        return;
    }
    scsi_good(cmd);
}

/* All descriptors are checked before the first one is done. */
static bool unmap_check(struct scsi_cmd *cmd)
{
    const struct scsi_facts *f = &cmd->view->now;
    uint64_t total = 0;
    for (uint64_t i = 0; i < cmd->blocks; i++) {
        struct unmap_range range = unmap_range(cmd, i);
        total += range.blocks;
        if (range.lba > f->blocks || range.blocks > f->blocks - range.lba) {
            scsi_fail(cmd, SENSE_LBA_OUT_OF_RANGE);
            return false;
        }
        if (total > SCSI_MAX_UNMAP_BLOCKS) {
            scsi_fail_parameter(cmd, (unsigned)(UNMAP_HEADER + i * UNMAP_DESCRIPTOR + 8), 7);
            return false;
        }
    }
    if (total && (f->read_only || f->swp)) { /* no blocks are no error, whatever the medium */
        scsi_fail(cmd, SENSE_WRITE_PROTECTED);
        return false;
    }
    return true;
}

void scsi_run_unmap(struct scsi_cmd *cmd)
{
    if (!cmd->length) {
        scsi_good(cmd);
        return;
    }
    struct rd r = rd_make(cmd->buf->data, cmd->length);
    rd_skip(&r, 2); /* UNMAP DATA LENGTH: the other length tells as much */
    unsigned length = rd_be16(&r);
    if (cmd->length < UNMAP_HEADER) {
        scsi_fail(cmd, SENSE_PARAMETER_LIST_LENGTH);
        return;
    }
    if (length > cmd->length - UNMAP_HEADER) /* a cut list: what is whole counts (SBC-3, UNMAP) */
        length = (unsigned)cmd->length - UNMAP_HEADER;
    cmd->blocks = length / UNMAP_DESCRIPTOR;
    if (cmd->blocks > SCSI_MAX_UNMAP_DESCRIPTORS)
        scsi_fail_parameter(cmd, 2, 7);
    else if (unmap_check(cmd))
        unmap_next(cmd);
}

/* ---- WRITE SAME */

enum { UNMAP_BIT = 3 };

static bool ndob(const struct scsi_cmd *cmd)
{
    return cmd->op->opcode == 0x93 && cmd->cdb[1] & 0x01;
}

/* No blocks mean "all up to the last" on a full LUN, and are an error on a thin one: as WSNZ in VPD
 * page B0h says. */
bool scsi_prepare_write_same(struct scsi_cmd *cmd)
{
    const struct scsi_facts *f = &cmd->view->now;
    if (cmd->cdb[1] & 1u << UNMAP_BIT && !f->lbp)
        return scsi_refuse_field(cmd, 1, UNMAP_BIT);
    if (cmd->lba > f->blocks)
        return true; /* the range check has the better answer */
    if (!cmd->blocks && !f->lbp)
        cmd->blocks = cmd->lba < f->blocks ? f->blocks - cmd->lba : 1;
    if (!cmd->blocks || cmd->blocks > SCSI_MAX_WRITE_SAME)
        return scsi_refuse_field(cmd, cmd->op->count_at, 7);
    if (ndob(cmd))
        cmd->dir = SCSI_DIR_NONE;
    else
        cmd->length = f->block_size;
    cmd->memory = ndob(cmd) ? 0 : scsi_step_room(cmd->blocks << f->shift);
    return true;
}

static bool all_zero(const uint8_t *p, size_t n)
{
    return !p[0] && !memcmp(p, p + 1, n - 1);
}

static void same_step(struct scsi_cmd *cmd);

static void same_written(struct scsi_cmd *cmd)
{
    cmd->cursor += cmd->step;
    same_step(cmd);
}

static unsigned same_flags(const struct scsi_facts *f)
{
    return f->write_cache && !f->wce ? BIO_FUA : 0;
}

static void same_step(struct scsi_cmd *cmd)
{
    const struct scsi_facts *f = &cmd->view->now;
    uint64_t left = (cmd->blocks << f->shift) - cmd->cursor;
    if (!left) {
        scsi_good(cmd);
        return;
    }
    if (!scsi_device(cmd))
        return;
    cmd->step = scsi_step_room(left);
    scsi_bio(cmd, BIO_WRITE, (cmd->lba << f->shift) + cmd->cursor, cmd->step);
    cmd->iov = (struct iovec){cmd->scratch->data, cmd->step};
    bio_data(&cmd->bio, &cmd->iov, 1);
    cmd->bio.buf = iobuf_ref(cmd->scratch);
    cmd->bio.flags = (uint8_t)same_flags(f);
    scsi_submit(cmd, same_written);
}

static void fill_pattern(struct scsi_cmd *cmd, size_t size)
{
    uint8_t *p = cmd->scratch->data;
    size_t have = cmd->length;
    memcpy(p, cmd->buf->data, have);
    for (; have < size; have *= 2)
        memcpy(p + have, p, have < size - have ? have : size - have);
}

/* Zeroes are the device's to write; UNMAP lets it give the blocks back. Other data is written,
 * UNMAP or not: blocks that read as something else than zero cannot be unmapped. */
static void same_zeroes(struct scsi_cmd *cmd)
{
    const struct scsi_facts *f = &cmd->view->now;
    scsi_bio(cmd, BIO_WRITE_ZEROES, cmd->lba << f->shift, cmd->blocks << f->shift);
    cmd->bio.flags = (uint8_t)(same_flags(f) | (cmd->cdb[1] & 1u << UNMAP_BIT ? 0 : BIO_NO_UNMAP));
    scsi_submit(cmd, scsi_good);
}

void scsi_run_write_same(struct scsi_cmd *cmd)
{
    if (!cmd->length || all_zero(cmd->buf->data, cmd->length)) {
        same_zeroes(cmd);
        return;
    }
    size_t size = scsi_step_room(cmd->blocks << cmd->view->now.shift);
    cmd->scratch = iobuf_get(size);
    if (!cmd->scratch) {
        scsi_set_errno(cmd, -ENOMEM, BIO_NO_OFFSET);
        scsi_end_later(cmd);
        return;
    }
    fill_pattern(cmd, size);
    same_step(cmd);
}

/* ---- GET LBA STATUS: a header of 8 bytes, then descriptors of 16 */

enum { STATUS_HEADER = 8, STATUS_DESCRIPTOR = 16, STATUS_MAX = 64 };

struct status_room {
    struct bio_extents extents;
    struct extent list[STATUS_MAX];
    struct extent merged[STATUS_MAX]; /* equal neighbours are one descriptor */
    unsigned count;
    uint64_t done; /* bytes looked at */
};

static struct status_room *status_room(struct scsi_cmd *cmd)
{
    return (struct status_room *)cmd->scratch->data;
}

static void status_reply(struct scsi_cmd *cmd)
{
    const struct scsi_facts *f = &cmd->view->now;
    const struct status_room *room = status_room(cmd);
    uint8_t *p = scsi_reply_room(cmd, STATUS_HEADER + STATUS_MAX * STATUS_DESCRIPTOR);
    if (!p)
        return;
    struct wr w = wr_make(p, STATUS_HEADER + STATUS_MAX * STATUS_DESCRIPTOR);
    uint64_t lba = cmd->lba;
    wr_be32(&w, 4 + (uint64_t)room->count * STATUS_DESCRIPTOR);
    wr_be32(&w, 0);
    for (unsigned i = 0; i < room->count; i++) {
        uint64_t blocks = room->merged[i].length >> f->shift;
        wr_be64(&w, lba);
        wr_be32(&w, blocks);
        wr_u8(&w, room->merged[i].flags ? 1 : 0); /* deallocated, mapped */
        wr_zero(&w, 3);
        lba += blocks;
    }
    scsi_reply(cmd, w.pos);
}

/* False: there is no room for more. */
static bool status_merge(const struct scsi_facts *f, struct status_room *room)
{
    for (unsigned i = 0; i < room->extents.count; i++) {
        struct extent e = room->list[i];
        e.flags = f->lbp ? e.flags & EXTENT_HOLE : 0; /* a full LUN's blocks are all mapped */
        struct extent *last = room->count ? &room->merged[room->count - 1] : NULL;
        if (last && last->flags == e.flags)
            last->length += e.length;
        else if (room->count == STATUS_MAX)
            return false;
        else
            room->merged[room->count++] = e;
        room->done += e.length;
    }
    return true;
}

static void status_next(struct scsi_cmd *cmd);

static void status_got(struct scsi_cmd *cmd)
{
    struct status_room *room = status_room(cmd);
    uint64_t wanted =
        cmd->length > STATUS_HEADER ? (cmd->length - STATUS_HEADER) / STATUS_DESCRIPTOR : 0;
    if (status_merge(&cmd->view->now, room) && room->done < cmd->step && room->count <= wanted)
        status_next(cmd);
    else
        status_reply(cmd);
}

static void status_next(struct scsi_cmd *cmd)
{
    struct status_room *room = status_room(cmd);
    if (!scsi_device(cmd))
        return;
    room->extents = (struct bio_extents){.list = room->list, .max = STATUS_MAX};
    scsi_bio(cmd, BIO_EXTENTS, (cmd->lba << cmd->view->now.shift) + room->done,
             cmd->step - room->done);
    cmd->bio.extents = &room->extents;
    scsi_submit(cmd, status_got);
}

void scsi_run_get_lba_status(struct scsi_cmd *cmd)
{
    const struct scsi_facts *f = &cmd->view->now;
    uint64_t left = f->blocks - cmd->lba, most = UINT32_MAX;
    if (cmd->lba >= f->blocks) {
        scsi_fail(cmd, SENSE_LBA_OUT_OF_RANGE);
        return;
    }
    cmd->scratch = iobuf_get(sizeof(struct status_room));
    if (!cmd->scratch) {
        scsi_set_errno(cmd, -ENOMEM, BIO_NO_OFFSET);
        scsi_end_later(cmd);
        return;
    }
    memset(cmd->scratch->data, 0, sizeof(struct status_room));
    cmd->step = (left < most ? left : most) << f->shift;
    status_next(cmd);
}
