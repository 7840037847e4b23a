/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Vital product data: SPC-4, SBC-3. */
#include <stdio.h>

#include "targets/scsi/scsi_private.h"

/* Where there is no LUN behind the command (the well-known one), only pages 00h and 83h make sense.
 */
static const struct scsi_facts *facts_of(const struct scsi_cmd *cmd)
{
    return cmd->view ? &cmd->view->now : NULL;
}

static void page_serial(const struct scsi_cmd *cmd, struct wr *w)
{
    wr_copy(w, cmd->unit->serial, strlen(cmd->unit->serial));
}

/* ---- 83h, device identification (SPC-4) */

enum {
    CODE_BINARY = 1,
    CODE_ASCII = 2,
    CODE_UTF8 = 3,
    OF_LUN = 0x00,
    OF_PORT = 0x90 /* association 01b, PIV */,
    OF_DEVICE = 0xa0,
    PROTOCOL_ISCSI = 5 << 4,
    TYPE_T10 = 1,
    TYPE_NAA = 3,
    TYPE_RELATIVE_PORT = 4,
    TYPE_PORT_GROUP = 5,
    TYPE_NAME = 8,
};

static void designator(struct wr *w, unsigned code_set, unsigned what, const void *data, size_t len,
                       size_t pad)
{
    wr_u8(w, code_set | (what & 0x80 ? PROTOCOL_ISCSI : 0));
    wr_u8(w, what);
    wr_u8(w, 0);
    wr_u8(w, len + pad);
    wr_copy(w, data, len);
    wr_zero(w, pad);
}

/* A SCSI name string ends with a zero byte and is padded to a multiple of 4. */
static void name_string(struct wr *w, unsigned association, const char *name)
{
    size_t len = strlen(name);
    designator(w, CODE_UTF8, association | TYPE_NAME, name, len, 4 - len % 4);
}

static void page_identification(const struct scsi_cmd *cmd, struct wr *w)
{
    const struct scsi_nexus *n = cmd->nexus;
    char text[sizeof n->target->name + 16];
    uint8_t port[4] = {0, 0, (uint8_t)(n->tpgt >> 8), (uint8_t)n->tpgt};
    if (cmd->unit) {
        designator(w, CODE_BINARY, OF_LUN | TYPE_NAA, cmd->unit->naa, sizeof cmd->unit->naa, 0);
        int len = snprintf(text, sizeof text, "ORION   %s", cmd->unit->serial);
        designator(w, CODE_ASCII, OF_LUN | TYPE_T10, text, (size_t)len, 0);
    }
    designator(w, CODE_BINARY, OF_PORT | TYPE_RELATIVE_PORT, port, sizeof port, 0);
    designator(w, CODE_BINARY, OF_PORT | TYPE_PORT_GROUP, port, sizeof port, 0);
    snprintf(text, sizeof text, "%s,t,0x%04x", n->target->name, n->tpgt);
    name_string(w, OF_PORT, text);
    name_string(w, OF_DEVICE, n->target->name);
}

/* ---- B0h, block limits (SBC-3) */

static void page_limits(const struct scsi_cmd *cmd, struct wr *w)
{
    const struct scsi_facts *f = facts_of(cmd);
    uint64_t gran = f->lbp ? f->discard_gran >> f->shift : 0;
    uint32_t most = SCSI_MAX_TRANSFER >> f->shift;
    uint32_t opt = f->opt_io >> f->shift;
    wr_u8(w, f->lbp ? 1 : 0); /* WSNZ */
    wr_u8(w, SCSI_MAX_COMPARE_BLOCKS);
    wr_be16(w, 1u << f->phys_shift);
    wr_be32(w, most);
    wr_be32(w, opt < most ? opt : most);
    wr_be32(w, 0); /* prefetch: no limit reported */
    wr_be32(w, f->lbp ? SCSI_MAX_UNMAP_BLOCKS : 0);
    wr_be32(w, f->lbp ? SCSI_MAX_UNMAP_DESCRIPTORS : 0);
    wr_be32(w, gran);
    wr_be32(w, f->lbp ? 0x80000000u : 0); /* UGAVALID, alignment 0 */
    wr_be64(w, SCSI_MAX_WRITE_SAME);
    wr_zero(w, 20); /* no atomic writes */
}

/* B1h: medium rotation rate 1 = does not rotate, 0 = not reported. */
static void page_characteristics(const struct scsi_cmd *cmd, struct wr *w)
{
    wr_be16(w, facts_of(cmd)->rotational ? 0 : 1);
    wr_u8(w, 0);
    wr_u8(w,
          facts_of(cmd)->lbp ? 0x40 : 0); /* WABEREQ 01b: what was erased is read without error */
    wr_zero(w, 56);
}

/* B2h: the unit of log page 0Ch as a power of two of blocks; LBPU, LBPWS, LBPWS10, LBPRZ;
 * provisioning type 2 = thin. */
static void page_provisioning(const struct scsi_cmd *cmd, struct wr *w)
{
    const struct scsi_facts *f = facts_of(cmd);
    wr_u8(w, f->lbp ? (unsigned)__builtin_ctz(SCSI_THRESHOLD_SET) - f->shift : 0);
    wr_u8(w, f->lbp ? 0xe0 | (f->lbprz ? 0x04 : 0) : 0);
    wr_u8(w, f->lbp ? 2 : 0);
    wr_u8(w, 0);
}

/* 86h, extended INQUIRY data (SPC-4): HEADSUP, ORDSUP, SIMPSUP; V_SUP where the device has a
 * volatile cache; LUICLR; the most sense data that is sent. */
static void page_extended(const struct scsi_cmd *cmd, struct wr *w)
{
    wr_u8(w, 0);
    wr_u8(w, 0x07);
    wr_u8(w, facts_of(cmd)->write_cache ? 0x01 : 0);
    wr_u8(w, 0x01);
    wr_zero(w, 5);
    wr_u8(w, SCSI_SENSE_MAX);
    wr_zero(w, 50);
}

/* 87h, mode page policy: all pages and subpages are shared. */
static void page_mode_policy(const struct scsi_cmd *cmd, struct wr *w)
{
    (void)cmd;
    wr_be32(w, 0x3fff0000);
}

/* 88h, SCSI ports: each with its name. */
static void page_ports(const struct scsi_cmd *cmd, struct wr *w)
{
    char text[sizeof cmd->nexus->target->name + 16];
    for (unsigned port = 1; port <= SCSI_GROUP_MAX; port++) {
        if (!scsi_port_exists(port))
            continue;
        wr_be16(w, 0);
        wr_be16(w, port);
        wr_be32(w, 0); /* no initiator port */
        wr_be16(w, 0);
        uint8_t *length = wr_room(w, 2);
        size_t start = w->pos;
        snprintf(text, sizeof text, "%s,t,0x%04x", cmd->nexus->target->name, port);
        name_string(w, OF_PORT, text);
        struct wr l = wr_make(length, length ? 2 : 0);
        wr_be16(&l, w->pos - start);
    }
}

/* B3h, referrals (SBC-3): user data segments of no particular size, one for the whole medium. */
static void page_referrals(const struct scsi_cmd *cmd, struct wr *w)
{
    (void)cmd;
    wr_zero(w, 12);
}

/* B4h, supported block lengths and protection types (SBC-4): the one there is, type 0 only. */
static void page_block_lengths(const struct scsi_cmd *cmd, struct wr *w)
{
    wr_be32(w, facts_of(cmd)->block_size);
    wr_be32(w, 0x00010000);
}

static void page_copy(const struct scsi_cmd *cmd, struct wr *w)
{
    (void)cmd;
    scsi_put_third_party_copy(w);
}

static void page_list(const struct scsi_cmd *cmd, struct wr *w);

static const struct {
    uint8_t code;
    bool well_known;
    void (*fill)(const struct scsi_cmd *cmd, struct wr *w);
} pages[] = {
    {0x00, true, page_list},
    {0x80, false, page_serial},
    {0x83, true, page_identification},
    {0x86, false, page_extended},
    {0x87, false, page_mode_policy},
    {0x88, false, page_ports},
    {0x8f, false, page_copy},
    {0xb0, false, page_limits},
    {0xb1, false, page_characteristics},
    {0xb2, false, page_provisioning},
    {0xb3, false, page_referrals},
    {0xb4, false, page_block_lengths},
};

enum { PAGES = sizeof pages / sizeof pages[0] };

static void page_list(const struct scsi_cmd *cmd, struct wr *w)
{
    for (unsigned i = 0; i < PAGES; i++)
        if (cmd->unit || pages[i].well_known)
            wr_u8(w, pages[i].code);
}

bool scsi_vpd_page(const struct scsi_cmd *cmd, uint8_t page, struct wr *w)
{
    unsigned i = 0;
    while (i < PAGES && pages[i].code != page)
        i++;
    if (i == PAGES || (!cmd->unit && !pages[i].well_known))
        return false;
    wr_u8(w, cmd->unit ? 0x00 : 0x1e);
    wr_u8(w, page);
    uint8_t *length = wr_room(w, 2);
    size_t start = w->pos;
    pages[i].fill(cmd, w);
    struct wr l = wr_make(length, 2);
    wr_be16(&l, w->pos - start);
    return wr_ok(w);
}
