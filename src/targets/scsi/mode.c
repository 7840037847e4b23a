/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * MODE SENSE and MODE SELECT: SPC-4, mode parameters; the caching page SBC-3. What can be
 * changed: WCE (where the device has a volatile cache), D_SENSE, SWP; of thin LUNs LBPERE and a
 * threshold. They are saved if somebody keeps records (scsi_set_store): PS says so; else SP is
 * refused.
 */
#include <errno.h>

#include "base/mem.h"
#include "targets/scsi/scsi_private.h"

enum { MODE_ROOM = 512, PAGE_MAX = 24, PAGE_ALL = 0x3f, SUBPAGE_ALL = 0xff };
enum { PC_CURRENT = 0, PC_CHANGEABLE = 1, PC_DEFAULT = 2, PC_SAVED = 3 };
enum { BIT_WCE = 0x04, BIT_D_SENSE = 0x04, BIT_SWP = 0x08, BIT_TAS = 0x40 };
enum { BIT_LBPERE = 0x80, BIT_ENABLED = 0x80, BIT_SPF = 0x40 };

struct page {
    uint8_t code, subpage, length; /* length of what follows the two bytes, or four */
    void (*fill)(const struct scsi_facts *f, unsigned pc, uint8_t *p);
};

/* 01h: LBPERE, notification of thresholds (SBC-4). It is on by default, a threshold is not. */
static void recovery(const struct scsi_facts *f, unsigned pc, uint8_t *p)
{
    bool lbpere = pc == PC_CURRENT ? f->lbpere : pc == PC_SAVED ? f->saved.lbpere : true;
    p[7] = lbpere && f->lbp ? BIT_LBPERE : 0;
}

/* 08h: WCE in byte 2. */
static void caching(const struct scsi_facts *f, unsigned pc, uint8_t *p)
{
    bool wce = pc == PC_CURRENT ? f->wce : pc == PC_SAVED ? f->saved.wce : true;
    wce = wce && f->write_cache;
    p[2] = wce ? BIT_WCE : 0;
}

/* 0Ah: TST 001b (a task set a nexus) and GLTSD; QAM 1 (unrestricted reordering); TAS:
 * who loses a command to another's reset gets TASK ABORTED instead of waiting for its own timer. */
static void control(const struct scsi_facts *f, unsigned pc, uint8_t *p)
{
    bool all = pc == PC_CHANGEABLE;
    bool d_sense = pc == PC_CURRENT ? f->d_sense : pc == PC_SAVED && f->saved.d_sense;
    bool swp = pc == PC_CURRENT ? f->swp : pc == PC_SAVED && f->saved.swp;
    p[2] = (uint8_t)((all ? 0 : 0x22) | (all || d_sense ? BIT_D_SENSE : 0));
    p[3] = all ? 0 : 0x10;
    p[4] = all || swp ? BIT_SWP : 0;
    p[5] = all ? 0 : BIT_TAS;
}

/* 1Ch: DEXCPT, there are no informational exceptions to report. */
static void exceptions(const struct scsi_facts *f, unsigned pc, uint8_t *p)
{
    (void)f;
    p[2] = pc == PC_CHANGEABLE ? 0 : 0x08;
}

/* 1Ch/02h (SBC-4), with SITUA 0 (all nexuses are told) and one descriptor: type 000b (a count),
 * armed increasing (001b), of resource 02h (used); what is available the device does not tell. */
static void thresholds(const struct scsi_facts *f, unsigned pc, uint8_t *p)
{
    bool all = pc == PC_CHANGEABLE;
    bool on = pc == PC_CURRENT ? f->threshold : pc == PC_SAVED && f->saved.threshold;
    uint32_t sets = all                ? UINT32_MAX
                    : pc == PC_CURRENT ? f->threshold_sets
                    : pc == PC_SAVED   ? f->saved.threshold_sets
                                       : 0;
    struct wr w = wr_make(p + SCSI_THRESHOLD_OFFSET, 8);
    wr_u8(&w, (all || on ? BIT_ENABLED : 0) | (all ? 0 : 1));
    wr_u8(&w, all ? 0 : 2);
    wr_be16(&w, 0);
    wr_be32(&w, sets);
}

static const struct page pages[] = {
    {0x01, 0, 10, recovery},   {0x08, 0, 18, caching},    {0x0a, 0, 10, control},
    {0x1c, 0, 10, exceptions}, {0x1c, 2, 20, thresholds},
};

enum { PAGES = sizeof pages / sizeof pages[0] };

static bool is_there(const struct page *pg, const struct scsi_facts *f)
{
    return !pg->subpage || f->lbp;
}

static const struct page *find_page(const struct scsi_facts *f, unsigned code, unsigned subpage)
{
    for (unsigned i = 0; i < PAGES; i++)
        if (pages[i].code == code && pages[i].subpage == subpage && is_there(&pages[i], f))
            return &pages[i];
    return NULL;
}

static unsigned head_length(const struct page *pg)
{
    return pg->subpage ? 4 : 2;
}

static unsigned make_page(const struct page *pg, const struct scsi_facts *f, unsigned pc,
                          uint8_t out[PAGE_MAX])
{
    memset(out, 0, PAGE_MAX);
    out[0] = pg->code | (scsi_has_store() ? 0x80 : 0);
    if (pg->subpage) {
        out[0] |= BIT_SPF;
        out[1] = pg->subpage;
        out[3] = pg->length;
    } else {
        out[1] = pg->length;
    }
    pg->fill(f, pc, out);
    return pg->length + head_length(pg);
}

/* ---- MODE SENSE */

static bool is_six(const struct scsi_cmd *cmd)
{
    return cmd->op->cdb_len == 6;
}

static void put_block_descriptor(const struct scsi_facts *f, bool large, struct wr *w)
{
    if (large) {
        wr_be64(w, f->blocks);
        wr_be32(w, 0);
        wr_be32(w, f->block_size);
        return;
    }
    wr_be32(w, f->blocks > UINT32_MAX ? UINT32_MAX : f->blocks);
    wr_u8(w, 0);
    wr_be24(w, f->block_size);
}

/* The header: WP and DPOFUA; then the block descriptor unless DBD. */
static void put_header(const struct scsi_cmd *cmd, struct wr *w)
{
    const struct scsi_facts *f = &cmd->view->now;
    bool dbd = cmd->cdb[1] & 0x08, large = !is_six(cmd) && cmd->cdb[1] & 0x10;
    unsigned specific = 0x10u | (f->read_only || f->swp ? 0x80 : 0);
    unsigned length = dbd ? 0 : large ? 16 : 8;
    wr_zero(w, is_six(cmd) ? 1 : 2); /* mode data length, set at the end */
    wr_u8(w, 0);
    wr_u8(w, specific);
    if (is_six(cmd)) {
        wr_u8(w, length);
    } else {
        wr_u8(w, large && !dbd);
        wr_u8(w, 0);
        wr_be16(w, length);
    }
    if (!dbd)
        put_block_descriptor(f, large, w);
}

static void put_pages(const struct scsi_facts *f, unsigned code, unsigned subpage, unsigned pc,
                      struct wr *w)
{
    uint8_t page[PAGE_MAX];
    for (unsigned i = 0; i < PAGES; i++)
        if ((code == PAGE_ALL || code == pages[i].code) &&
            (subpage == SUBPAGE_ALL || subpage == pages[i].subpage) && is_there(&pages[i], f)) {
            unsigned n = make_page(&pages[i], f, pc, page);
            wr_copy(w, page, n);
        }
}

void scsi_run_mode_sense(struct scsi_cmd *cmd)
{
    unsigned code = cmd->cdb[2] & 0x3f, pc = cmd->cdb[2] >> 6, subpage = cmd->cdb[3];
    const struct scsi_facts *f = &cmd->view->now;
    if (code != PAGE_ALL && !find_page(f, code, 0)) {
        scsi_fail_field(cmd, 2, 5);
        return;
    }
    if (subpage && subpage != SUBPAGE_ALL && !find_page(f, code, subpage)) {
        scsi_fail_field(cmd, 3, 7);
        return;
    }
    if (pc == PC_SAVED && !scsi_has_store()) {
        scsi_fail(cmd, SENSE_NO_SAVED_PARAMETERS);
        return;
    }
    uint8_t *p = scsi_reply_room(cmd, MODE_ROOM);
    if (!p)
        return;
    struct wr w = wr_make(p, MODE_ROOM);
    put_header(cmd, &w);
    put_pages(f, code, subpage, pc, &w);
    struct wr head = wr_make(p, 2);
    if (is_six(cmd))
        wr_u8(&head, w.pos - 1);
    else
        wr_be16(&head, w.pos - 2);
    scsi_reply(cmd, w.pos);
}

/* ---- MODE SELECT */

struct select {
    struct scsi_cmd *cmd;
    struct scsi_mode mode;
    struct reactor *home;
    struct rpost post;
    bool save;
    int rc;
};

/* The medium has the block length and capacity that it has. */
static bool check_block_descriptor(struct scsi_cmd *cmd, struct rd *r, unsigned length)
{
    const struct scsi_facts *f = &cmd->view->now;
    unsigned at = (unsigned)r->pos;
    uint64_t blocks = rd_be(r, length == 16 ? 8 : 4);
    rd_skip(r, length == 16 ? 4 : 1);
    uint64_t size = rd_be(r, length == 16 ? 4 : 3);
    uint64_t any = length == 16 ? UINT64_MAX : UINT32_MAX;
    if (!rd_ok(r))
        scsi_fail(cmd, SENSE_PARAMETER_LIST_LENGTH);
    else if (blocks && blocks != any && blocks != f->blocks)
        scsi_fail_parameter(cmd, at, 7);
    else if (size != f->block_size)
        scsi_fail_parameter(cmd, at + (length == 16 ? 12 : 5), 7);
    else
        return true;
    return false;
}

static bool select_header(struct scsi_cmd *cmd, struct rd *r)
{
    bool large = false;
    unsigned length;
    rd_skip(r, is_six(cmd) ? 1 : 2);
    if (rd_u8(r)) {
        scsi_fail_parameter(cmd, is_six(cmd) ? 1 : 2, 7); /* medium type */
        return false;
    }
    rd_skip(r, 1);
    if (is_six(cmd)) {
        length = rd_u8(r);
    } else {
        large = rd_u8(r) & 1;
        rd_skip(r, 1);
        length = rd_be16(r);
    }
    if (!rd_ok(r)) {
        scsi_fail(cmd, SENSE_PARAMETER_LIST_LENGTH);
        return false;
    }
    if (length && length != (large ? 16 : 8)) {
        scsi_fail_parameter(cmd, is_six(cmd) ? 3 : 6, 7);
        return false;
    }
    return !length || check_block_descriptor(cmd, r, length);
}

/* Each bit that is not changeable must be what it is. */
static bool check_page(struct scsi_cmd *cmd, const struct page *pg, const uint8_t *given,
                       unsigned at)
{
    const struct scsi_facts *f = &cmd->view->now;
    uint8_t now[PAGE_MAX], can[PAGE_MAX];
    unsigned n = make_page(pg, f, PC_CURRENT, now);
    make_page(pg, f, PC_CHANGEABLE, can);
    unsigned head = head_length(pg);
    for (unsigned i = head; i < n; i++) {
        unsigned wrong = (given[i - head] ^ now[i]) & ~(unsigned)can[i];
        if (!wrong)
            continue;
        scsi_fail_parameter(cmd, at + i, 31 - (unsigned)__builtin_clz(wrong));
        return false;
    }
    return true;
}

static bool select_page(struct scsi_cmd *cmd, struct rd *r, struct scsi_mode *mode)
{
    unsigned at = (unsigned)r->pos;
    unsigned first = rd_u8(r), code = first & 0x3f; /* PS is reserved here */
    unsigned subpage = first & BIT_SPF ? rd_u8(r) : 0;
    unsigned length = first & BIT_SPF ? rd_be16(r) : rd_u8(r);
    const struct page *pg = find_page(&cmd->view->now, code, subpage);
    if (pg && !pg->subpage && first & BIT_SPF)
        pg = NULL;
    if (rd_ok(r) && !pg) {
        scsi_fail_parameter(cmd, at, 6);
        return false;
    }
    if (rd_ok(r) && length != pg->length) {
        scsi_fail_parameter(cmd, at + head_length(pg) / 2, 7);
        return false;
    }
    const uint8_t *given = rd_bytes(r, length);
    if (!given) {
        scsi_fail(cmd, SENSE_PARAMETER_LIST_LENGTH);
        return false;
    }
    if (!check_page(cmd, pg, given, at))
        return false;
    if (code == 0x01 && cmd->view->now.lbp)
        mode->lbpere = given[5] & BIT_LBPERE;
    if (subpage) {
        struct rd d = rd_make(given + SCSI_THRESHOLD_OFFSET - 4, 8);
        mode->threshold = rd_u8(&d) & BIT_ENABLED;
        rd_skip(&d, 3);
        mode->threshold_sets = rd_be32(&d);
    }
    if (code == 0x08)
        mode->wce = given[0] & BIT_WCE;
    if (code == 0x0a) {
        mode->d_sense = given[0] & BIT_D_SENSE;
        mode->swp = given[2] & BIT_SWP;
    }
    return true;
}

static void select_done(void *arg)
{
    struct select *s = arg;
    struct scsi_cmd *cmd = s->cmd;
    if (s->rc == -EREMOTEIO)
        scsi_set_code(cmd, SENSE_WRITE_ERROR);
    else if (s->rc)
        scsi_set_code(cmd, s->rc == -ENODEV ? SENSE_NO_SUCH_LUN : SENSE_INTERNAL_FAILURE);
    free(s);
    scsi_end(cmd);
}

static void select_task(void *arg)
{
    struct select *s = arg;
    s->rc = scsi_lun_set_mode(s->cmd->unit, &s->mode, s->save, s->cmd->nexus);
    reactor_post(s->home, &s->post, select_done, s);
}

static void apply(struct scsi_cmd *cmd, const struct scsi_mode *mode)
{
    const struct scsi_facts *f = &cmd->view->now;
    bool save = cmd->cdb[1] & 0x01;
    struct scsi_mode now = scsi_mode_of(f);
    if (!save && scsi_mode_equal(mode, &now)) {
        scsi_good(cmd);
        return;
    }
    struct select *s = xcalloc(1, sizeof *s);
    s->cmd = cmd;
    s->mode = *mode;
    s->save = save;
    s->home = reactor_self();
    task_start(reactor_main(), "scsi-mode-select", select_task, s);
}

void scsi_run_mode_select(struct scsi_cmd *cmd)
{
    const struct scsi_facts *f = &cmd->view->now;
    struct scsi_mode mode = scsi_mode_of(f);
    if (cmd->cdb[1] & 0x01 && !scsi_has_store()) { /* SP */
        scsi_fail_field(cmd, 1, 0);
        return;
    }
    if (!(cmd->cdb[1] & 0x10)) { /* PF */
        scsi_fail_field(cmd, 1, 4);
        return;
    }
    if (!cmd->length) {
        scsi_good(cmd);
        return;
    }
    struct rd r = rd_make(cmd->buf->data, cmd->length);
    if (!select_header(cmd, &r))
        return;
    while (rd_left(&r))
        if (!select_page(cmd, &r, &mode))
            return;
    apply(cmd, &mode);
}
