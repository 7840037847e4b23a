/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_TARGETS_ISCSI_PDU_H
#define ORION_TARGETS_ISCSI_PDU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * iSCSI protocol data units (RFC 7143 section 11): a basic header segment of 48 bytes, additional
 * header segments, a data segment padded to 4 bytes, each with an optional CRC32C digest. Integers
 * are big-endian.
 */
enum {
    ISCSI_BHS = 48,
    ISCSI_AHS_MAX = 255 * 4, /* TotalAHSLength is one byte, in words */
    ISCSI_HEAD_MAX = ISCSI_BHS + ISCSI_AHS_MAX + 4,
    ISCSI_DIGEST = 4,
    ISCSI_NO_TAG = 0xffffffffu,     /* reserved Initiator or Target Transfer Tag */
    ISCSI_DEFAULT_SEGMENT = 8192,   /* MaxRecvDataSegmentLength before it is declared */
    ISCSI_RECV_SEGMENT = 256 << 10, /* what we declare */
};

enum iscsi_op { /* bits 0-5 of byte 0; bit 6 is the I (immediate delivery) bit */
                OP_NOP_OUT = 0x00,
                OP_SCSI_CMD = 0x01,
                OP_TMF_REQ = 0x02,
                OP_LOGIN_REQ = 0x03,
                OP_TEXT_REQ = 0x04,
                OP_DATA_OUT = 0x05,
                OP_LOGOUT_REQ = 0x06,
                OP_SNACK = 0x10,
                OP_NOP_IN = 0x20,
                OP_SCSI_RSP = 0x21,
                OP_TMF_RSP = 0x22,
                OP_LOGIN_RSP = 0x23,
                OP_TEXT_RSP = 0x24,
                OP_DATA_IN = 0x25,
                OP_LOGOUT_RSP = 0x26,
                OP_R2T = 0x31,
                OP_ASYNC = 0x32,
                OP_REJECT = 0x3f,
};

enum iscsi_flag {
    F_IMMEDIATE = 0x40, /* byte 0 */
    F_FINAL = 0x80,     /* byte 1 */
    F_TRANSIT = 0x80,   /* login */
    F_CONTINUE = 0x40,  /* login, text: more of the key=value text follows */
    F_CMD_READ = 0x40,  /* SCSI Command */
    F_CMD_WRITE = 0x20,
    F_CMD_ATTR = 0x07,
    F_RSP_OVERFLOW = 0x04, /* SCSI Response and Data-In */
    F_RSP_UNDERFLOW = 0x02,
    F_DATA_STATUS = 0x01, /* Data-In: status is in this PDU */
};

enum iscsi_reject { /* 11.17.1 */
                    REJECT_DATA_DIGEST = 0x02,
                    REJECT_SNACK = 0x03,
                    REJECT_PROTOCOL = 0x04,
                    REJECT_UNSUPPORTED = 0x05,
                    REJECT_IMMEDIATE = 0x06, /* too many immediate commands */
                    REJECT_FIELD = 0x09,
};

/*
 * A basic header, decoded. Bytes 20-47 mean different things from one opcode to the next; they are
 * kept as words, under their commonest names:
 *            w20               w24     w28        w32      w36     w40       w44
 *   command  expected length   CmdSN   ExpStatSN  CDB ...
 *   data-out transfer tag      -       ExpStatSN  -        DataSN  offset    -
 *   TMF      referenced tag    CmdSN   ExpStatSN  RefCmdSN ExpDataSN
 *   login    CID (high half)   CmdSN   ExpStatSN
 *   text,nop transfer tag      CmdSN   ExpStatSN
 *   logout   CID (high half)   CmdSN   ExpStatSN
 *   replies  (own)             StatSN  ExpCmdSN   MaxCmdSN (own)   (own)     (own)
 */
struct iscsi_pdu {
    uint8_t op; /* enum iscsi_op */
    bool immediate;
    uint8_t flags;     /* byte 1 */
    uint8_t b2, b3;    /* bytes 2 and 3 */
    uint16_t ahs_len;  /* bytes */
    uint32_t data_len; /* bytes, without padding */
    uint8_t lun[8];    /* login: ISID (6) and TSIH (2) */
    uint32_t itt;
    uint32_t w20, w24, w28, w32, w36, w40, w44;
    const uint8_t *cdb; /* bytes 32..47 in the caller's buffer (parse only) */
};

/* Decodes 48 bytes. Any bytes decode; meaning is for the caller to check. */
void iscsi_pdu_parse(struct iscsi_pdu *pdu, const uint8_t bhs[ISCSI_BHS]);
/* Encodes into 48 bytes (ahs_len must be 0). */
void iscsi_pdu_build(const struct iscsi_pdu *pdu, uint8_t bhs[ISCSI_BHS]);

static inline uint32_t iscsi_pad(uint32_t len) /* 0..3 bytes that follow len bytes of data */
{
    return -len & 3;
}

/* Serial number arithmetic (RFC 1982, 32 bits): a < b. */
static inline bool sn_before(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) < 0;
}

/*
 * Looks through additional header segments for an extended CDB (type 1, 11.2.2.3). Returns false
 * when they are malformed or of an unknown type. *ext_r is NULL when there is none; else it points
 * at the *len_r bytes that continue the CDB.
 */
bool iscsi_ahs_cdb(const uint8_t *ahs, size_t len, const uint8_t **ext_r, size_t *len_r);

#endif
