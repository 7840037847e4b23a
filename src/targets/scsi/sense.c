/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "targets/scsi/sense.h"

#include <errno.h>

#include "base/buf.h"
#include "targets/scsi/scsi.h"

static const struct {
    int error;
    uint8_t status;
    enum sense_code read, write;
} classes[] = {
    {EIO, SCSI_CHECK_CONDITION, SENSE_READ_ERROR, SENSE_WRITE_ERROR},
    {ENODATA, SCSI_CHECK_CONDITION, SENSE_READ_ERROR, SENSE_WRITE_ERROR},
    {EILSEQ, SCSI_CHECK_CONDITION, SENSE_CRC_ERROR, SENSE_CRC_ERROR},
    {ENODEV, SCSI_CHECK_CONDITION, SENSE_BECOMING_READY, SENSE_BECOMING_READY},
    {ETIMEDOUT, SCSI_CHECK_CONDITION, SENSE_COMMUNICATION_TIMEOUT, SENSE_COMMUNICATION_TIMEOUT},
    {ENOSPC, SCSI_CHECK_CONDITION, SENSE_NO_SPACE, SENSE_NO_SPACE},
    {EROFS, SCSI_CHECK_CONDITION, SENSE_WRITE_PROTECTED, SENSE_WRITE_PROTECTED},
    {EOPNOTSUPP, SCSI_CHECK_CONDITION, SENSE_INVALID_OPCODE, SENSE_INVALID_OPCODE},
    {EUCLEAN, SCSI_CHECK_CONDITION, SENSE_MISCOMPARE, SENSE_MISCOMPARE},
    {ENXIO, SCSI_CHECK_CONDITION, SENSE_LBA_OUT_OF_RANGE, SENSE_LBA_OUT_OF_RANGE},
    {EBADE, SCSI_RESERVATION_CONFLICT, SENSE_NONE, SENSE_NONE},
    {EAGAIN, SCSI_BUSY, SENSE_NONE, SENSE_NONE},
    {ENOMEM, SCSI_BUSY, SENSE_NONE, SENSE_NONE},
};

uint8_t sense_of_errno(int error, bool write, enum sense_code *code_r)
{
    for (unsigned i = 0; i < sizeof classes / sizeof classes[0]; i++)
        if (classes[i].error == -error) {
            *code_r = write ? classes[i].write : classes[i].read;
            return classes[i].status;
        }
    *code_r = SENSE_INTERNAL_FAILURE; /* -EINVAL: our own mistake */
    return SCSI_CHECK_CONDITION;
}

/* Progress: SKSV, then 16 bits. Field pointer: SKSV, C/D, BPV and bit pointer, then the byte. */
static void put_specific(struct wr *w, const struct sense *s)
{
    if (s->has_progress) {
        wr_u8(w, 0x80);
        wr_be16(w, s->progress);
        return;
    }
    unsigned flags = 0x80 | (s->field_in_cdb ? 0x40 : 0);
    if (s->bit <= 7)
        flags |= 0x08u | s->bit;
    wr_u8(w, flags);
    wr_be16(w, s->field);
}

/* Fixed format. */
static void format_fixed(const struct sense *s, struct wr *w)
{
    bool info = s->has_info && s->info <= UINT32_MAX;
    wr_u8(w, 0x70 | (info ? 0x80 : 0));
    wr_u8(w, 0);
    wr_u8(w, s->code >> 16 & 0x0f);
    wr_be32(w, info ? s->info : 0);
    wr_u8(w, SENSE_FIXED_LEN - 8);
    wr_be32(w, s->has_command ? s->command : 0);
    wr_be16(w, s->code & 0xffff);
    wr_u8(w, 0);
    if (s->has_field || s->has_progress)
        put_specific(w, s);
    else
        wr_zero(w, 3);
}

/* Descriptor format: the header, then descriptors 00h (information), 01h (command specific) and 02h
 * (sense key specific). */
static void format_descriptor(const struct sense *s, struct wr *w)
{
    wr_u8(w, 0x72);
    wr_u8(w, s->code >> 16 & 0x0f);
    wr_be16(w, s->code & 0xffff);
    wr_zero(w, 3);
    wr_u8(w, (s->has_info ? 12 : 0) + (s->has_command ? 12 : 0) +
                 (s->has_field || s->has_progress ? 8 : 0));
    if (s->has_info) {
        wr_u8(w, 0x00);
        wr_u8(w, 10);
        wr_u8(w, 0x80); /* VALID */
        wr_u8(w, 0);
        wr_be64(w, s->info);
    }
    if (s->has_command) {
        wr_u8(w, 0x01);
        wr_u8(w, 10);
        wr_be16(w, 0);
        wr_be64(w, s->command);
    }
    if (s->has_field || s->has_progress) {
        wr_u8(w, 0x02);
        wr_u8(w, 6);
        wr_be16(w, 0);
        put_specific(w, s);
        wr_u8(w, 0);
    }
}

unsigned sense_format(const struct sense *s, bool descriptor, uint8_t *out, unsigned cap)
{
    struct wr w = wr_make(out, cap);
    if (descriptor)
        format_descriptor(s, &w);
    else
        format_fixed(s, &w);
    return (unsigned)w.pos;
}
