/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "targets/iscsi/pdu.h"

#include <assert.h>

#include "base/buf.h"

enum { AHS_EXTENDED_CDB = 1, AHS_BIDI_READ_LENGTH = 2 };

void iscsi_pdu_parse(struct iscsi_pdu *pdu, const uint8_t bhs[ISCSI_BHS])
{
    struct rd r = rd_make(bhs, ISCSI_BHS);
    uint8_t op = rd_u8(&r);
    pdu->op = op & 0x3f;
    pdu->immediate = op & F_IMMEDIATE;
    pdu->flags = rd_u8(&r);
    pdu->b2 = rd_u8(&r);
    pdu->b3 = rd_u8(&r);
    pdu->ahs_len = (uint16_t)(rd_u8(&r) * 4);
    pdu->data_len = rd_be24(&r);
    rd_copy(&r, pdu->lun, sizeof pdu->lun);
    pdu->itt = rd_be32(&r);
    pdu->w20 = rd_be32(&r);
    pdu->w24 = rd_be32(&r);
    pdu->w28 = rd_be32(&r);
    pdu->cdb = bhs + r.pos;
    pdu->w32 = rd_be32(&r);
    pdu->w36 = rd_be32(&r);
    pdu->w40 = rd_be32(&r);
    pdu->w44 = rd_be32(&r);
    assert(rd_ok(&r) && !rd_left(&r));
}

void iscsi_pdu_build(const struct iscsi_pdu *pdu, uint8_t bhs[ISCSI_BHS])
{
    assert(!pdu->ahs_len && pdu->data_len < 1u << 24);
    struct wr w = wr_make(bhs, ISCSI_BHS);
    wr_u8(&w, pdu->op | (pdu->immediate ? F_IMMEDIATE : 0));
    wr_u8(&w, pdu->flags);
    wr_u8(&w, pdu->b2);
    wr_u8(&w, pdu->b3);
    wr_u8(&w, 0);
    wr_be24(&w, pdu->data_len);
    wr_copy(&w, pdu->lun, sizeof pdu->lun);
    wr_be32(&w, pdu->itt);
    wr_be32(&w, pdu->w20);
    wr_be32(&w, pdu->w24);
    wr_be32(&w, pdu->w28);
    wr_be32(&w, pdu->w32);
    wr_be32(&w, pdu->w36);
    wr_be32(&w, pdu->w40);
    wr_be32(&w, pdu->w44);
    assert(wr_ok(&w) && w.pos == ISCSI_BHS);
}

bool iscsi_ahs_cdb(const uint8_t *ahs, size_t len, const uint8_t **ext_r, size_t *len_r)
{
    *ext_r = NULL;
    *len_r = 0;
    struct rd r = rd_make(ahs, len);
    while (rd_left(&r)) {
        uint16_t length = rd_be16(&r); /* of what follows the type byte */
        uint8_t type = rd_u8(&r);
        const uint8_t *body = rd_bytes(&r, length);
        if (!rd_ok(&r) || !length)
            return false;
        if (type == AHS_EXTENDED_CDB) {
            if (*ext_r || length < 2)
                return false;
            *ext_r = body + 1; /* one reserved byte first */
            *len_r = length - 1u;
        } else if (type != AHS_BIDI_READ_LENGTH) {
            return false;
        }
        rd_skip(&r, iscsi_pad(3u + length));
    }
    return rd_ok(&r);
}
