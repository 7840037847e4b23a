/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * EXTENDED COPY with the short list identifier (SPC-4, LID1) between LUNs of the same target, named
 * by their NAA designators; RECEIVE COPY RESULTS. Segments of type 02h (block to block). A segment
 * is copied by the block layer in steps, one at a time with a turn of the reactor between them, so
 * that the I/O of clients goes before.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "block/gate.h"
#include "targets/scsi/scsi_private.h"

enum { HEADER = 16, CSCD_LEN = 32, SEGMENT_LEN = 28, CSCD_ID = 0xe4, SEGMENT_BLOCKS = 0x02 };
enum { MAX_CSCDS = SCSI_COPY_CSCDS, MAX_SEGMENTS = SCSI_COPY_SEGMENTS };
enum { STEP = 1 << 20, USAGE_NO_ID = 3, CAT_DC = 0x02 };

struct segment {
    unsigned from, to;      /* index in the list of CSCDs */
    uint64_t src, dst, len; /* bytes */
};

struct xcopy {
    struct scsi_cmd *cmd;
    struct scsi_lun *lun[MAX_CSCDS]; /* NULL: not reachable */
    struct scsi_view *view[MAX_CSCDS];
    unsigned luns;
    struct segment *segment;
    unsigned segments;
    uint8_t id, usage;
};

/* ---- what became of the copies: the nexus remembers the last few */

static struct scsi_copy *status_find(struct scsi_nexus *n, unsigned id)
{
    for (unsigned i = 0; i < SCSI_COPIES_KEPT; i++)
        if (n->copies[i].used && n->copies[i].id == id)
            return &n->copies[i];
    return NULL;
}

static struct scsi_copy *status_new(struct xcopy *x)
{
    struct scsi_nexus *n = x->cmd->nexus;
    struct scsi_copy *c = status_find(n, x->id);
    for (unsigned i = 0; !c && i < SCSI_COPIES_KEPT; i++) {
        n->copy_next = (n->copy_next + 1) % SCSI_COPIES_KEPT;
        if (n->copies[n->copy_next].status != SCSI_COPY_RUNS || !n->copies[n->copy_next].used)
            c = &n->copies[n->copy_next];
    }
    if (c)
        *c = (struct scsi_copy){.used = true, .id = x->id, .status = SCSI_COPY_RUNS};
    return c;
}

/* ---- the copying */

static int copy_step(struct xcopy *x, const struct segment *s, uint64_t at, uint64_t len)
{
    struct bdev_desc *from = x->view[s->from]->now.desc, *to = x->view[s->to]->now.desc;
    struct bio bio;
    if (!from || !to)
        return -ENODEV;
    if (!gate_allows(bdev_of(from), x->cmd->nexus->gate, false))
        return -EBADE;
    bio_init(&bio, to, BIO_COPY, s->dst + at, len, NULL, NULL);
    bio.copy_src = from;
    bio.copy_offset = s->src + at;
    bio.nexus = x->cmd->nexus->gate;
    return bio_wait(&bio);
}

/* Where the areas overlap, the order matters. */
static bool must_go_backwards(const struct xcopy *x, const struct segment *s)
{
    return x->lun[s->from] == x->lun[s->to] && s->dst > s->src && s->dst - s->src < s->len;
}

static int copy_segment(struct xcopy *x, const struct segment *s)
{
    bool backwards = must_go_backwards(x, s);
    uint64_t most = backwards && s->dst - s->src < STEP ? s->dst - s->src : STEP;
    for (uint64_t done = 0; done < s->len;) {
        uint64_t len = s->len - done < most ? s->len - done : most;
        if (x->cmd->aborted)
            return -ECANCELED;
        int rc = copy_step(x, s, backwards ? s->len - done - len : done, len);
        if (rc)
            return rc;
        done += len;
        task_yield();
    }
    return 0;
}

static void hold(struct xcopy *x, int by)
{
    for (unsigned i = 0; i < x->luns; i++)
        if (x->lun[i]) {
            x->view[i]->users += (unsigned)by;
            x->view[i]->running += (unsigned)by;
        }
}

/* How the command ends: rc of the segment, or of the flush after the last one. */
static void set_outcome(struct xcopy *x, int rc, unsigned segment)
{
    struct scsi_cmd *cmd = x->cmd;
    struct sense s = {
        .code = rc == -ENODEV ? SENSE_COPY_UNREACHABLE : SENSE_THIRD_PARTY_FAILURE,
        .has_command = true,
        .command = segment,
    };
    if (rc == -EBADE && !cmd->aborted)
        cmd->status = SCSI_RESERVATION_CONFLICT;
    else if (rc)
        scsi_set_sense(cmd, &s);
}

static void keep_outcome(struct scsi_copy *c, const struct scsi_cmd *cmd, int rc)
{
    c->status = rc ? SCSI_COPY_FAILED : SCSI_COPY_DONE;
    c->scsi_status = cmd->status;
    c->sense_len = (uint8_t)(cmd->sense_len <= sizeof c->sense ? cmd->sense_len : 0);
    memcpy(c->sense, cmd->sense, c->sense_len);
}

static void copy_task(void *arg)
{
    struct xcopy *x = arg;
    struct scsi_cmd *cmd = x->cmd;
    bool flush = false;
    int rc = 0;
    /* kept by value: it may be pushed out of the few that are remembered */
    struct scsi_copy *c = x->usage == USAGE_NO_ID ? NULL : status_new(x);
    unsigned i = 0;
    uint64_t bytes = 0;
    for (; i < x->segments && !rc; i++) {
        rc = copy_segment(x, &x->segment[i]);
        bytes += rc ? 0 : x->segment[i].len;
        const struct scsi_facts *f = &x->view[x->segment[i].to]->now;
        flush = flush || (f->write_cache && !f->wce);
    }
    for (unsigned k = 0; flush && !rc && k < x->luns; k++)
        if (x->lun[k] && x->view[k]->now.desc)
            rc = bdev_flush(x->view[k]->now.desc);
    set_outcome(x, rc, i ? i - 1 : 0);
    if (c) {
        c->segments = (uint16_t)(rc ? i - 1 : i);
        c->bytes = bytes;
        keep_outcome(c, cmd, rc);
    }
    hold(x, -1);
    scsi_wake_waiters(cmd->nexus->local);
    free(x->segment);
    free(x);
    scsi_end(cmd);
}

/* ---- the parameter list */

static bool fail(struct scsi_cmd *cmd, enum sense_code code)
{
    scsi_fail(cmd, code);
    return false;
}

static bool fail_at(struct scsi_cmd *cmd, unsigned byte)
{
    scsi_fail_parameter(cmd, byte, 7);
    return false;
}

static struct scsi_lun *find_naa(const struct scsi_nexus *n, const uint8_t naa[8])
{
    for (unsigned i = 0; i < scsi_lun_limit(n); i++) {
        struct scsi_lun *lun = scsi_lun_at(n, i);
        if (lun && !memcmp(lun->naa, naa, 8))
            return lun;
    }
    return NULL;
}

/* An identification descriptor: a disk by its NAA designator. LU ID TYPE is ignored: the designator
 * says what it is. */
static bool parse_cscd(struct xcopy *x, struct rd *r)
{
    unsigned at = (unsigned)r->pos;
    const uint8_t *d = rd_bytes(r, CSCD_LEN);
    if (!d || d[0] != CSCD_ID)
        return fail(x->cmd, SENSE_UNSUPPORTED_CSCD);
    if (d[1] & 0x20) /* NUL: no device at all */
        return fail(x->cmd, SENSE_COPY_ABORTED);
    if (d[1] & 0x1f) /* no disk */
        return fail(x->cmd, SENSE_UNSUPPORTED_CSCD);
    struct rd tail = rd_make(d + 29, 3);
    uint32_t block = rd_be24(&tail);
    struct scsi_lun *lun = NULL;
    if (d[4] == 1 && d[5] == 3 && d[7] == 8)
        lun = find_naa(x->cmd->nexus, d + 8);
    unsigned i = x->luns++;
    x->lun[i] = lun;
    x->view[i] = lun ? &lun->view[reactor_self_index()] : NULL;
    if (lun && block && block != x->view[i]->now.block_size)
        return fail_at(x->cmd, at + 29);
    return true;
}

static bool segment_range(struct xcopy *x, struct segment *s, uint64_t blocks, bool of_dst)
{
    const struct scsi_facts *f = &x->view[s->from]->now, *t = &x->view[s->to]->now;
    s->len = blocks << (of_dst ? t->shift : f->shift);
    uint64_t src = s->src, dst = s->dst;
    if (s->len & (t->block_size - 1) || s->len & (f->block_size - 1))
        return fail(x->cmd, SENSE_THIRD_PARTY_FAILURE);
    if (src > f->blocks || s->len >> f->shift > f->blocks - src || dst > t->blocks ||
        s->len >> t->shift > t->blocks - dst)
        return fail(x->cmd, SENSE_COPY_ABORTED);
    if (t->read_only || t->swp)
        return fail(x->cmd, SENSE_WRITE_PROTECTED);
    s->src = src << f->shift;
    s->dst = dst << t->shift;
    return true;
}

static bool parse_segment(struct xcopy *x, struct rd *r)
{
    unsigned at = (unsigned)r->pos;
    unsigned type = rd_u8(r), flags = rd_u8(r), length = rd_be16(r);
    if (type != SEGMENT_BLOCKS)
        return fail(x->cmd, SENSE_UNSUPPORTED_SEGMENT);
    if (length != SEGMENT_LEN - 4)
        return fail_at(x->cmd, at + 2);
    struct segment s = {.from = rd_be16(r)};
    s.to = rd_be16(r);
    rd_skip(r, 2);
    uint64_t blocks = rd_be16(r);
    s.src = rd_be64(r);
    s.dst = rd_be64(r);
    if (!rd_ok(r))
        return fail(x->cmd, SENSE_PARAMETER_LIST_LENGTH);
    if (s.from >= x->luns || s.to >= x->luns)
        return fail(x->cmd, SENSE_COPY_UNREACHABLE);
    if (!x->lun[s.from] || !x->lun[s.to] || !x->view[s.from]->now.desc ||
        !x->view[s.to]->now.desc || x->view[s.from]->now.sanitize || x->view[s.to]->now.sanitize)
        return fail(x->cmd, SENSE_COPY_UNREACHABLE);
    if (!segment_range(x, &s, blocks, flags & CAT_DC))
        return false;
    x->segment[x->segments++] = s;
    return true;
}

static bool check_id(struct xcopy *x)
{
    const struct scsi_copy *c = status_find(x->cmd->nexus, x->id);
    if (x->usage == 1)
        return fail_at(x->cmd, 1);
    if (x->usage == USAGE_NO_ID)
        return !x->id || fail_at(x->cmd, 0);
    return !c || c->status != SCSI_COPY_RUNS || fail(x->cmd, SENSE_OPERATION_IN_PROGRESS);
}

static bool parse(struct xcopy *x)
{
    struct scsi_cmd *cmd = x->cmd;
    struct rd r = rd_make(cmd->buf->data, cmd->length);
    x->id = rd_u8(&r);
    x->usage = rd_u8(&r) >> 3 & 3;
    unsigned cscds = rd_be16(&r);
    rd_skip(&r, 4);
    uint32_t segments = rd_be32(&r), inline_data = rd_be32(&r);
    if (!rd_ok(&r))
        return fail(cmd, SENSE_PARAMETER_LIST_LENGTH);
    if ((uint64_t)cscds + segments > MAX_CSCDS * CSCD_LEN + MAX_SEGMENTS * SEGMENT_LEN)
        return fail(cmd, SENSE_PARAMETER_LIST_LENGTH);
    if (cscds > MAX_CSCDS * CSCD_LEN)
        return fail(cmd, SENSE_TOO_MANY_CSCDS);
    if (cscds % CSCD_LEN)
        return fail_at(cmd, 2);
    if (segments > MAX_SEGMENTS * SEGMENT_LEN)
        return fail(cmd, SENSE_TOO_MANY_SEGMENTS);
    if (inline_data)
        return fail(cmd, SENSE_INLINE_DATA_TOO_LONG);
    if (cscds + segments > rd_left(&r))
        return fail(cmd, SENSE_PARAMETER_LIST_LENGTH);
    r.len = HEADER + cscds + segments;
    if (!check_id(x))
        return false;
    while (r.pos < HEADER + cscds)
        if (!parse_cscd(x, &r))
            return false;
    x->segment = xcalloc(MAX_SEGMENTS, sizeof *x->segment);
    while (rd_left(&r))
        if (!parse_segment(x, &r))
            return false;
    return true;
}

void scsi_run_extended_copy(struct scsi_cmd *cmd)
{
    if (!cmd->length) { /* SPC-4: no parameter list is no error */
        scsi_good(cmd);
        return;
    }
    struct xcopy *x = xcalloc(1, sizeof *x);
    x->cmd = cmd;
    if (!parse(x)) {
        free(x->segment);
        free(x);
        return;
    }
    hold(x, 1);
    task_start(reactor_self(), "scsi-xcopy", copy_task, x);
}

/* ---- RECEIVE COPY RESULTS */

void scsi_run_copy_status(struct scsi_cmd *cmd)
{
    const struct scsi_copy *c = status_find(cmd->nexus, cmd->cdb[2]);
    if (!c) {
        scsi_fail_field(cmd, 2, 7);
        return;
    }
    uint8_t *p = scsi_reply_room(cmd, 12);
    if (!p)
        return;
    struct wr w = wr_make(p, 12);
    wr_be32(&w, 8);
    wr_u8(&w, c->status);
    wr_be16(&w, c->segments);
    wr_u8(&w, 1); /* in units of 1024 bytes */
    wr_be32(&w, c->bytes >> 10);
    scsi_reply(cmd, w.pos);
}

/* What segments left to be fetched: there are none of a type that does, so it is always nothing. */
void scsi_run_copy_data(struct scsi_cmd *cmd)
{
    if (!status_find(cmd->nexus, cmd->cdb[2]))
        scsi_fail_field(cmd, 2, 7);
    else if (scsi_reply_room(cmd, 4))
        scsi_reply(cmd, 4);
}

/* Byte 56 the status of the command, then its sense data. */
void scsi_run_copy_failure(struct scsi_cmd *cmd)
{
    enum { HEAD = 56, ROOM = HEAD + 4 + SENSE_DESCRIPTOR_MAX };
    const struct scsi_copy *c = status_find(cmd->nexus, cmd->cdb[2]);
    if (!c || c->status == SCSI_COPY_RUNS) {
        scsi_fail_field(cmd, 2, 7);
        return;
    }
    uint8_t *p = scsi_reply_room(cmd, ROOM);
    if (!p)
        return;
    struct wr w = wr_make(p, ROOM);
    wr_be32(&w, HEAD + c->sense_len);
    wr_zero(&w, HEAD - 4);
    wr_u8(&w, c->scsi_status);
    wr_u8(&w, 0);
    wr_be16(&w, c->sense_len);
    wr_copy(&w, c->sense, c->sense_len);
    scsi_reply(cmd, w.pos);
}

void scsi_run_copy_parameters(struct scsi_cmd *cmd)
{
    uint8_t *p = scsi_reply_room(cmd, 64);
    if (!p)
        return;
    struct wr w = wr_make(p, 64);
    wr_be32(&w, 42);
    wr_u8(&w, 0x01); /* SNLID */
    wr_zero(&w, 3);
    wr_be16(&w, MAX_CSCDS);
    wr_be16(&w, MAX_SEGMENTS);
    wr_be32(&w, MAX_CSCDS * CSCD_LEN + MAX_SEGMENTS * SEGMENT_LEN);
    wr_be32(&w, SCSI_COPY_SEGMENT_MAX);
    wr_zero(&w, 14); /* no inline, held, or stream data; reserved */
    wr_be16(&w, SCSI_COPIES_KEPT);
    wr_u8(&w, SCSI_COPIES_KEPT);
    wr_u8(&w, 9); /* granularity: 512 bytes */
    wr_zero(&w, 5);
    wr_u8(&w, 2);
    wr_u8(&w, SEGMENT_BLOCKS);
    wr_u8(&w, CSCD_ID);
    scsi_reply(cmd, w.pos);
}

/* ---- VPD page 8Fh, third-party copy (SPC-4) */

void scsi_put_third_party_copy(struct wr *w)
{
    static const uint8_t commands[] = {0x00, 0x01, 0,    12,   9,    0x83, 1, 0x00,
                                       0x84, 4,    0x00, 0x01, 0x03, 0x04, 0, 0};
    wr_copy(w, commands, sizeof commands);
    wr_be16(w, 0x0004); /* parameter data */
    wr_be16(w, 28);
    wr_zero(w, 8);
    wr_be16(w, MAX_CSCDS);
    wr_be16(w, MAX_SEGMENTS);
    wr_be32(w, MAX_CSCDS * CSCD_LEN + MAX_SEGMENTS * SEGMENT_LEN);
    wr_zero(w, 12);
    wr_be16(w, 0x0008); /* supported descriptors */
    wr_be16(w, 4);
    wr_be32(w, 0x0202e400);
    wr_be16(w, 0x000c); /* supported CSCD identifiers: none beyond the list's own */
    wr_be16(w, 4);
    wr_be32(w, 0);
    wr_be16(w, 0x8001); /* general copy operations */
    wr_be16(w, 32);
    wr_be32(w, SCSI_COPIES_KEPT);
    wr_be32(w, SCSI_COPIES_KEPT);
    wr_be32(w, SCSI_COPY_SEGMENT_MAX);
    wr_be16(w, 0x0900);
    wr_zero(w, 18);
}
