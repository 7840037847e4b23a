/* SPDX-License-Identifier: GPL-2.0-or-later */
/* INQUIRY and REQUEST SENSE (SPC-4). Both answer whatever state the LUN is in. */
#include <stdio.h>

#include "targets/scsi/scsi_private.h"

enum { REPLY_ROOM = 8192, STANDARD_LEN = 96, EVPD = 0x01 };

enum { /* byte 0: peripheral qualifier and device type */
       DEVICE_DISK = 0x00,
       DEVICE_WELL_KNOWN = 0x1e,
       DEVICE_NONE = 0x7f, /* 011b, 1Fh: no LUN here, and none can be */
};

bool scsi_prepare_inquiry(struct scsi_cmd *cmd)
{
    if (cmd->cdb[1] & EVPD)
        return cmd->unit || scsi_lun_is_well_known(cmd->lun) || scsi_refuse_field(cmd, 1, 0);
    return !cmd->cdb[2] || scsi_refuse_field(cmd, 2, 7);
}

static void padded(struct wr *w, const char *text, size_t len)
{
    for (size_t i = 0, n = strlen(text); i < len; i++)
        wr_u8(w, i < n ? text[i] : ' ');
}

/* Standard INQUIRY data. */
static void standard(const struct scsi_cmd *cmd, struct wr *w)
{
    static const uint16_t versions[] = {0x00a0, 0x0460, 0x04c0,
                                        0x0960}; /* SAM-5 SPC-4 SBC-3 iSCSI */
    wr_u8(w, cmd->unit                          ? DEVICE_DISK
             : scsi_lun_is_well_known(cmd->lun) ? DEVICE_WELL_KNOWN
                                                : DEVICE_NONE);
    wr_u8(w, 0);
    wr_u8(w, 0x06);                 /* SPC-4 */
    wr_u8(w, 0x12);                 /* HISUP, response data format 2 */
    wr_u8(w, STANDARD_LEN - 5);     /* additional length */
    wr_u8(w, cmd->unit ? 0x38 : 0); /* TPGS: implicit and explicit; 3PC */
    wr_u8(w, 0);
    wr_u8(w, 0x02); /* CMDQUE */
    padded(w, "ORION", 8);
    padded(w, "VIRTUAL-DISK", 16);
    padded(w, ORION_VERSION, 4);
    wr_zero(w, 22);
    for (unsigned i = 0; i < sizeof versions / sizeof versions[0]; i++)
        wr_be16(w, versions[i]);
    wr_zero(w, STANDARD_LEN - w->pos);
}

void scsi_run_inquiry(struct scsi_cmd *cmd)
{
    uint8_t *p = scsi_reply_room(cmd, REPLY_ROOM);
    if (!p)
        return;
    struct wr w = wr_make(p, REPLY_ROOM);
    if (!(cmd->cdb[1] & EVPD)) {
        standard(cmd, &w);
    } else if (!scsi_vpd_page(cmd, cmd->cdb[2], &w)) {
        scsi_fail_field(cmd, 2, 7);
        return;
    }
    scsi_reply(cmd, w.pos);
}

/* What the sense data would be: a pending unit attention (which is then reported), the LUN's state.
 */
static enum sense_code present_sense(struct scsi_cmd *cmd)
{
    if (scsi_lun_is_well_known(cmd->lun))
        return SENSE_NONE;
    if (!cmd->unit)
        return SENSE_NO_SUCH_LUN;
    enum sense_code ua = scsi_ua_take(cmd->itl);
    if (ua != SENSE_NONE)
        return ua;
    struct sense s;
    if (cmd->view->now.desc && scsi_sanitize_sense(cmd, &s))
        return s.code;
    return cmd->view->now.desc ? SENSE_NONE : SENSE_BECOMING_READY;
}

void scsi_run_request_sense(struct scsi_cmd *cmd)
{
    uint8_t *p = scsi_reply_room(cmd, SENSE_DESCRIPTOR_MAX);
    if (!p)
        return;
    struct sense s = {.code = present_sense(cmd), .info = SCSI_THRESHOLD_OFFSET};
    s.has_info = s.code == SENSE_THIN_THRESHOLD;
    if (s.code == SENSE_SANITIZING)
        scsi_sanitize_sense(cmd, &s);
    bool descriptor = cmd->cdb[1] & 0x01;
    scsi_reply(cmd, sense_format(&s, descriptor, p, SENSE_DESCRIPTOR_MAX));
}
