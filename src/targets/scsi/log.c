/* SPDX-License-Identifier: GPL-2.0-or-later */
/* LOG SENSE, LOG SELECT (SPC-4), READ DEFECT DATA (SBC-3): what has gone wrong, and what is used.
 */
#include <errno.h>

#include "targets/scsi/scsi_private.h"

enum { ROOM = 256, PAGE_ALL_SUBPAGES = 0xff, PAGE_PROVISIONING = 0x0c };
enum { PARAM_CORRECTED = 3, PARAM_UNCORRECTED = 6 };
enum { NO_TEMPERATURE = 0xff }; /* of a sensor that has no valid one */

void scsi_note_error(struct scsi_cmd *cmd, enum scsi_error_kind kind)
{
    uint64_t *n = &cmd->view->errors[kind];
    __atomic_store_n(n, *n + 1, __ATOMIC_RELAXED); /* this reactor's own; others read it */
}

static void parameter(struct wr *w, unsigned code, unsigned control, uint64_t value, unsigned len)
{
    wr_be16(w, code);
    wr_u8(w, control);
    wr_u8(w, len);
    for (unsigned i = len; i-- > 0;)
        wr_u8(w, value >> (8 * i) & 0xff);
}

static void put_errors(const struct scsi_cmd *cmd, enum scsi_error_kind kind, struct wr *w)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < REACTOR_MAX; i++)
        n += __atomic_load_n(&cmd->unit->view[i].errors[kind], __ATOMIC_RELAXED);
    parameter(w, PARAM_CORRECTED, 0x02, 0, 8);
    parameter(w, PARAM_UNCORRECTED, 0x02, n, 8);
}

static void write_errors(const struct scsi_cmd *cmd, struct wr *w)
{
    put_errors(cmd, SCSI_ERROR_WRITE, w);
}

static void read_errors(const struct scsi_cmd *cmd, struct wr *w)
{
    put_errors(cmd, SCSI_ERROR_READ, w);
}

static void verify_errors(const struct scsi_cmd *cmd, struct wr *w)
{
    put_errors(cmd, SCSI_ERROR_VERIFY, w);
}

static void temperature(const struct scsi_cmd *cmd, struct wr *w)
{
    (void)cmd;
    parameter(w, 0, 0x03, NO_TEMPERATURE, 2);
    parameter(w, 1, 0x03, NO_TEMPERATURE, 2);
}

/* No exception to report: ASC and ASCQ 0, and the temperature. */
static void exceptions(const struct scsi_cmd *cmd, struct wr *w)
{
    (void)cmd;
    parameter(w, 0, 0x03, (uint64_t)NO_TEMPERATURE << 8, 4);
}

uint64_t scsi_threshold_sets(uint64_t used)
{
    uint64_t sets = used / SCSI_THRESHOLD_SET + (used % SCSI_THRESHOLD_SET > 0);
    return sets < UINT32_MAX ? sets : UINT32_MAX;
}

/* 0Ch, logical block provisioning (SBC-3): what is used, in threshold sets (VPD page B2h), all of
 * it this LUN's own. What is available the device does not tell. cmd->cursor: bytes in use. */
static void provisioning(const struct scsi_cmd *cmd, struct wr *w)
{
    uint64_t sets = scsi_threshold_sets(cmd->cursor);
    wr_be16(w, 0x0002);
    wr_u8(w, 0x03);
    wr_u8(w, 8);
    wr_be32(w, sets);
    wr_u8(w, 0x01);
    wr_zero(w, 3);
}

static void list_pages(const struct scsi_cmd *cmd, struct wr *w);

static const struct {
    uint8_t code;
    void (*fill)(const struct scsi_cmd *cmd, struct wr *w);
} pages[] = {
    {0x00, list_pages},
    {0x02, write_errors},
    {0x03, read_errors},
    {0x05, verify_errors},
    {PAGE_PROVISIONING, provisioning},
    {0x0d, temperature},
    {0x2f, exceptions},
};

enum { PAGES = sizeof pages / sizeof pages[0] };

static bool is_there(const struct scsi_cmd *cmd, unsigned i)
{
    return pages[i].code != PAGE_PROVISIONING || cmd->view->now.lbp;
}

static void list_pages(const struct scsi_cmd *cmd, struct wr *w)
{
    bool subpages = cmd->cdb[3];
    for (unsigned i = 0; i < PAGES; i++) {
        if (!is_there(cmd, i))
            continue;
        wr_u8(w, pages[i].code);
        if (subpages)
            wr_u8(w, 0);
    }
    if (subpages)
        wr_be16(w, PAGE_ALL_SUBPAGES); /* page 00h, subpage FFh: this one */
}

static unsigned find_page(unsigned code)
{
    unsigned i = 0;
    while (i < PAGES && pages[i].code != code)
        i++;
    return i;
}

static void reply_page(struct scsi_cmd *cmd, unsigned i)
{
    unsigned subpage = cmd->cdb[3];
    uint8_t *p = scsi_reply_room(cmd, ROOM);
    if (!p)
        return;
    struct wr w = wr_make(p, ROOM), head = wr_make(p + 2, 2);
    wr_u8(&w, 0x80 | (subpage ? 0x40 : 0) | pages[i].code); /* DS: not saved; SPF */
    wr_u8(&w, subpage);
    wr_be16(&w, 0);
    pages[i].fill(cmd, &w);
    wr_be16(&head, w.pos - 4);
    scsi_reply(cmd, w.pos);
}

/* ---- how much is in use: the device's extents, looked at in many steps. A device of very many is
 * looked at in part, and the rest taken to be alike: the standard asks for an estimate. */

enum { EXTENTS = 64, EXTENTS_MAX = 1 << 16 };

int scsi_count_used(struct bdev_desc *desc, uint64_t size, const bool *stop, uint64_t *used_r)
{
    struct bio bio;
    struct extent list[EXTENTS];
    struct bio_extents extents = {.list = list, .max = EXTENTS};
    uint64_t at = 0, used = 0;
    for (unsigned seen = 0; at < size && seen < EXTENTS_MAX && !*stop; task_yield()) {
        bio_init(&bio, desc, BIO_EXTENTS, at, size - at, NULL, NULL);
        bio.extents = &extents;
        int rc = bio_wait(&bio);
        if (rc)
            return rc;
        for (unsigned i = 0; i < extents.count; i++) {
            used += list[i].flags & EXTENT_HOLE ? 0 : list[i].length;
            at += list[i].length;
        }
        seen += extents.count;
    }
    *used_r = at ? (uint64_t)((unsigned __int128)used * size / at) : 0;
    return 0;
}

static void usage_task(void *arg)
{
    struct scsi_cmd *cmd = arg;
    const struct scsi_facts *f = &cmd->view->now;
    int rc = f->desc ? scsi_count_used(f->desc, f->blocks << f->shift, &cmd->aborted, &cmd->cursor)
                     : -ENODEV;
    if (!rc) {
        reply_page(cmd, find_page(PAGE_PROVISIONING));
        return;
    }
    scsi_set_errno(cmd, rc, BIO_NO_OFFSET);
    scsi_end(cmd);
}

/* LOG SENSE answers without a device, too, so only here it must not go meanwhile. */
static void reply_usage(struct scsi_cmd *cmd)
{
    cmd->uses_device = true;
    cmd->view->running++;
    task_start(reactor_self(), "scsi-log-sense", usage_task, cmd);
}

/* All values are cumulative, whatever PC asks for: there are no thresholds and no others. */
void scsi_run_log_sense(struct scsi_cmd *cmd)
{
    unsigned code = cmd->cdb[2] & 0x3f, subpage = cmd->cdb[3], i = find_page(code);
    if (i == PAGES || !is_there(cmd, i)) {
        scsi_fail_field(cmd, 2, 5);
        return;
    }
    if (subpage && !(code == 0 && subpage == PAGE_ALL_SUBPAGES)) {
        scsi_fail_field(cmd, 3, 7);
        return;
    }
    if (cdb_be(cmd, 5, 2)) { /* the pages are short: they begin with their first parameter */
        scsi_fail_field(cmd, 5, 7);
        return;
    }
    if (code == PAGE_PROVISIONING)
        reply_usage(cmd);
    else
        reply_page(cmd, i);
}

/* ---- LOG SELECT: PCR sets the counters to zero; there is nothing else to set */

static void reset_here(void *arg)
{
    struct scsi_cmd *cmd = arg;
    unsigned here = reactor_self_index();
    uint64_t *errors = cmd->unit->view[here].errors;
    for (unsigned i = 0; i < SCSI_ERROR_KINDS; i++)
        __atomic_store_n(&errors[i], 0, __ATOMIC_RELAXED);
    scsi_ua_raise_local(&cmd->unit->target->local[here], cmd->unit, UA_LOG_CHANGED, cmd->nexus);
}

static void reset_task(void *arg)
{
    task_call_all(reset_here, arg);
    scsi_end(arg);
}

void scsi_run_log_select(struct scsi_cmd *cmd)
{
    if (cmd->length) {
        scsi_fail_field(cmd, 7, 7);
        return;
    }
    if (cmd->cdb[1] & 0x02)
        task_start(reactor_self(), "scsi-log-select", reset_task, cmd);
    else
        scsi_good(cmd);
}

/* ---- READ DEFECT DATA: both lists are empty. Formats: short, extended and long block, bytes from
 * index, physical sector. */

static bool defect_format(struct scsi_cmd *cmd, unsigned byte)
{
    unsigned format = cmd->cdb[byte] & 7;
    if (format == 0 || format == 3 || format == 4 || format == 5)
        return true;
    scsi_fail_field(cmd, byte, 2);
    return false;
}

void scsi_run_read_defects(struct scsi_cmd *cmd)
{
    bool ten = cmd->op->cdb_len == 10;
    unsigned at = ten ? 2 : 1, length = ten ? 4 : 8;
    if (!defect_format(cmd, at))
        return;
    uint8_t *p = scsi_reply_room(cmd, length);
    if (!p)
        return;
    p[1] = cmd->cdb[at] & 0x1f;
    scsi_reply(cmd, length);
}
