/* SPDX-License-Identifier: GPL-2.0-or-later */
/* PERSISTENT RESERVE IN (SPC-4). */
#include <stdlib.h>

#include "block/gate.h"
#include "targets/scsi/scsi_private.h"

enum { READ_KEYS, READ_RESERVATION, REPORT_CAPABILITIES, READ_FULL_STATUS };
enum { HEADER = 8, STATUS_LEN = 24, TRANSPORT_ID_MAX = 4 + 256 + 4 };

static void put_keys(const struct gate_state *s, struct wr *w)
{
    for (unsigned i = 0; i < s->count; i++)
        wr_be64(w, s->reg[i].key);
}

/* Where every registrant holds, the key is 0. Scope 0 (the LUN) is the only one there is. */
static void put_reservation(const struct gate_state *s, struct wr *w)
{
    uint64_t key = 0;
    if (s->type == GATE_NONE)
        return;
    for (unsigned i = 0; i < s->count; i++)
        if (s->reg[i].nexus == s->holder && !gate_every_registrant_holds(s))
            key = s->reg[i].key;
    wr_be64(w, key);
    wr_be32(w, 0);
    wr_u8(w, 0);
    wr_u8(w, s->type);
    wr_be16(w, 0);
}

/* CRH, SIP_C, ATP_C, PTPL_C (where something can be saved); TMV, ALLOW COMMANDS 001b, PTPL_A; the
 * six types. */
static void put_capabilities(const struct gate_state *s, struct wr *w)
{
    wr_be16(w, 8);
    wr_u8(w, 0x10 | 0x08 | 0x04 | (scsi_has_store() ? 0x01 : 0));
    wr_u8(w, 0x80 | 0x10 | (s->durable ? 0x01 : 0));
    wr_be16(w, 0xea01);
    wr_be16(w, 0);
}

/* TransportID of an iSCSI initiator port (SPC-4, format 01b): zero-terminated, padded to 4, and the
 * name at least 20 bytes long. */
static void put_transport_id(const char *initiator, struct wr *w)
{
    size_t len = strlen(initiator) + 1, padded = (len + 3) / 4 * 4;
    if (padded < 20)
        padded = 20;
    wr_u8(w, 0x45);
    wr_u8(w, 0);
    wr_be16(w, padded);
    wr_copy(w, initiator, len);
    wr_zero(w, padded - len);
}

static void put_full_status(const struct gate_state *s, struct wr *w)
{
    for (unsigned i = 0; i < s->count; i++) {
        const struct gate_registrant *reg = &s->reg[i];
        char name[SCSI_NEXUS_NAME];
        const char *target, *initiator;
        unsigned port;
        if (!gate_nexus_name(reg->nexus, name, sizeof name) ||
            !scsi_nexus_name_split(name, &target, &port, &initiator))
            continue;
        bool holds = gate_is_held_by(s, reg->nexus);
        wr_be64(w, reg->key);
        wr_be32(w, 0);
        wr_u8(w, (reg->all_tg_pt ? 0x02 : 0) | (holds ? 0x01 : 0));
        wr_u8(w, holds ? s->type : 0);
        wr_be32(w, 0);
        wr_be16(w, port);
        uint8_t *length = wr_room(w, 4);
        size_t start = w->pos;
        put_transport_id(initiator, w);
        struct wr l = wr_make(length, 4);
        wr_be32(&l, w->pos - start);
    }
}

static void reply(struct scsi_cmd *cmd, const struct gate_state *s)
{
    size_t room = HEADER + 16 + (size_t)s->count * (STATUS_LEN + TRANSPORT_ID_MAX);
    uint8_t *p = scsi_reply_room(cmd, room);
    if (!p)
        return;
    struct wr w = wr_make(p, room);
    unsigned action = cmd->op->sa;
    if (action == REPORT_CAPABILITIES) {
        put_capabilities(s, &w);
        scsi_reply(cmd, w.pos);
        return;
    }
    wr_be32(&w, s->generation);
    wr_be32(&w, 0);
    if (action == READ_KEYS)
        put_keys(s, &w);
    else if (action == READ_RESERVATION)
        put_reservation(s, &w);
    else
        put_full_status(s, &w);
    struct wr head = wr_make(p, HEADER);
    wr_be32(&head, s->generation);
    wr_be32(&head, w.pos - HEADER);
    scsi_reply(cmd, w.pos);
}

void scsi_run_pr_in(struct scsi_cmd *cmd)
{
    struct gate_state s;
    gate_get(bdev_of(cmd->view->now.desc), &s);
    if (s.type == GATE_RESERVE6) { /* SPC-2: the two kinds of reservation do not mix */
        cmd->status = SCSI_RESERVATION_CONFLICT;
        cmd->length = 0;
        scsi_end_later(cmd);
    } else {
        reply(cmd, &s);
    }
    free(s.reg);
}
