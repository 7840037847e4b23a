/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <assert.h>
#include <errno.h>

#include "targets/scsi/scsi_private.h"

/*
 * The life of a command: begin (decode, checks, into the task set), execute (now, or when the
 * commands it must wait for have ended), end.
 */
enum cmd_state {
    CMD_OUTSIDE, /* in no task set: refused at begin, or completed */
    CMD_BEGUN,   /* data-out is being gathered */
    CMD_WAITING, /* executed, held back by task attributes */
    CMD_RUNNING,
};

/* ---- status and sense */

void scsi_set_sense(struct scsi_cmd *cmd, const struct sense *s)
{
    cmd->status = SCSI_CHECK_CONDITION;
    bool descriptor = cmd->view && cmd->view->now.d_sense;
    cmd->sense_len = sense_format(s, descriptor, cmd->sense, sizeof cmd->sense);
    if (cmd->dir == SCSI_DIR_IN) {
        cmd->length = 0;
        cmd->datacnt = 0;
    }
}

void scsi_set_code(struct scsi_cmd *cmd, enum sense_code code)
{
    scsi_set_sense(cmd, &(struct sense){.code = code});
}

void scsi_set_field(struct scsi_cmd *cmd, bool in_cdb, unsigned byte, unsigned bit)
{
    struct sense s = {
        .code = in_cdb ? SENSE_INVALID_FIELD_IN_CDB : SENSE_INVALID_FIELD_IN_PARAMETERS,
        .has_field = true,
        .field_in_cdb = in_cdb,
        .bit = (uint8_t)bit,
        .field = (uint16_t)byte,
    };
    scsi_set_sense(cmd, &s);
}

void scsi_set_errno(struct scsi_cmd *cmd, int error, uint64_t bad_offset)
{
    struct sense s = {0};
    bool write = bio_is_write(cmd->bio.op) || cmd->bio.op == BIO_FLUSH;
    uint8_t status = sense_of_errno(error, write, &s.code);
    if (error == -EBADE && scsi_sanitize_sense(cmd, &s)) { /* it has begun meanwhile */
        scsi_set_sense(cmd, &s);
        return;
    }
    if (s.code >> 16 == 0x03) /* MEDIUM ERROR */
        scsi_note_error(cmd, write ? SCSI_ERROR_WRITE : SCSI_ERROR_READ);
    if (status == SCSI_CHECK_CONDITION) {
        if (bad_offset != BIO_NO_OFFSET) {
            s.has_info = true;
            s.info = bad_offset >> cmd->view->now.shift;
        }
        scsi_set_sense(cmd, &s);
        return;
    }
    cmd->status = status;
    if (cmd->dir == SCSI_DIR_IN)
        cmd->length = 0;
    cmd->datacnt = 0;
}

static bool refused(struct scsi_cmd *cmd)
{
    cmd->finished = true;
    cmd->dir = SCSI_DIR_NONE;
    cmd->length = 0;
    return false;
}

bool scsi_refuse(struct scsi_cmd *cmd, enum sense_code code)
{
    scsi_set_code(cmd, code);
    return refused(cmd);
}

bool scsi_refuse_sense(struct scsi_cmd *cmd, const struct sense *s)
{
    scsi_set_sense(cmd, s);
    return refused(cmd);
}

bool scsi_refuse_field(struct scsi_cmd *cmd, unsigned byte, unsigned bit)
{
    scsi_set_field(cmd, true, byte, bit);
    return refused(cmd);
}

/* ---- begin */

/* Where there is no LUN: INQUIRY says so, REPORT LUNS lists those there are. */
static void begin_nowhere(struct scsi_cmd *cmd)
{
    bool well_known = scsi_lun_is_well_known(cmd->lun);
    unsigned ok = well_known ? OP_WELL_KNOWN : OP_NO_LUN;
    if (!cmd->op || !(cmd->op->flags & ok)) {
        scsi_refuse(cmd, well_known ? SENSE_INVALID_OPCODE : SENSE_NO_SUCH_LUN);
        return;
    }
    unsigned bad = scsi_opcode_check(cmd->op, cmd->cdb);
    if (bad) {
        scsi_refuse_field(cmd, (bad - 1) / 8, (bad - 1) % 8);
        return;
    }
    cmd->dir = cmd->op->dir;
    cmd->length = cdb_be(cmd, cmd->op->count_at, cmd->op->count_len);
    cmd->memory = cmd->length < SCSI_REPLY_MAX ? cmd->length : SCSI_REPLY_MAX;
    if (cmd->op->prepare)
        cmd->op->prepare(cmd);
}

bool scsi_refuse_status(struct scsi_cmd *cmd, enum scsi_status status)
{
    cmd->status = status;
    return refused(cmd);
}

static bool check_range(struct scsi_cmd *cmd, const struct scsi_facts *f)
{
    if (cmd->lba <= f->blocks && cmd->blocks <= f->blocks - cmd->lba)
        return true;
    struct sense s = {
        .code = SENSE_LBA_OUT_OF_RANGE,
        .has_info = true,
        .info = cmd->lba > f->blocks ? cmd->lba : f->blocks,
    };
    scsi_set_sense(cmd, &s);
    return refused(cmd);
}

/* What the table says of the command: fields, range, length, permission. */
static bool decode(struct scsi_cmd *cmd, const struct scsi_facts *f)
{
    const struct scsi_opcode *op = cmd->op;
    cmd->dir = op->dir;
    cmd->memory = 0; /* `prepare` tells what it takes beside its data */
    if (op->lba_len)
        cmd->lba = cdb_be(cmd, op->lba_at, op->lba_len);
    if (op->count_len)
        cmd->blocks = cdb_be(cmd, op->count_at, op->count_len);
    if (op->flags & OP_LENGTH)
        cmd->length = cmd->blocks;
    else if (op->flags & OP_MOVES)
        cmd->length = cmd->blocks << f->shift;
    if (op->flags & OP_FUA)
        cmd->fua = cmd->cdb[1] & 0x08;
    if (op->prepare && !op->prepare(cmd))
        return false;
    if (op->flags & OP_RANGE && !check_range(cmd, f))
        return false;
    bool nothing = op->flags & OP_MOVES && !cmd->blocks; /* no error, whatever the medium */
    if (op->flags & OP_WRITES && (f->read_only || f->swp) && !nothing)
        return scsi_refuse(cmd, SENSE_WRITE_PROTECTED);
    if ((!(op->flags & OP_LENGTH) || op->dir == SCSI_DIR_OUT) && cmd->length > SCSI_MAX_TRANSFER)
        return scsi_refuse_field(cmd, op->count_at, 7);
    bool reply =
        op->flags & OP_LENGTH && op->dir == SCSI_DIR_IN; /* length: what there is room for */
    cmd->memory += reply && cmd->length > SCSI_REPLY_MAX ? SCSI_REPLY_MAX : cmd->length;
    return true;
}

/* An opcode without the service action: that is a wrong field (SPC-4, "service action"). */
static bool refuse_unknown(struct scsi_cmd *cmd)
{
    bool has_sa = false;
    if (cmd->cdb_len)
        scsi_opcode_find(cmd->cdb[0], 0x1f, &has_sa);
    return has_sa ? scsi_refuse_field(cmd, 1, 4) : scsi_refuse(cmd, SENSE_INVALID_OPCODE);
}

/* A threshold is told with the place of its descriptor in mode page 1Ch/02h (SBC-4). */
static bool refuse_attention(struct scsi_cmd *cmd)
{
    struct sense s = {.code = scsi_ua_take(cmd->itl), .info = SCSI_THRESHOLD_OFFSET};
    s.has_info = s.code == SENSE_THIN_THRESHOLD;
    return scsi_refuse_sense(cmd, &s);
}

static bool checks(struct scsi_cmd *cmd)
{
    const struct scsi_facts *f = &cmd->view->now;
    const struct scsi_opcode *op = cmd->op;
    if (cmd->itl->ua && !(op && op->flags & OP_NO_UA))
        return refuse_attention(cmd);
    if (!op || !scsi_opcode_present(op, f->lbp))
        return refuse_unknown(cmd);
    if (cmd->attr == SCSI_ACA) /* there is never an ACA condition (NACA is refused) */
        return scsi_refuse(cmd, SENSE_INVALID_MESSAGE);
    if (f->sanitize && scsi_sanitize_refuses(cmd, op))
        return false;
    unsigned bad = scsi_opcode_check(op, cmd->cdb);
    if (bad)
        return scsi_refuse_field(cmd, (bad - 1) / 8, (bad - 1) % 8);
    if (scsi_alua_refuses(cmd, op))
        return false;
    if (!f->desc && !(op->flags & OP_NO_MEDIUM))
        return scsi_refuse(cmd, SENSE_BECOMING_READY);
    if (!(op->flags & OP_GATED) && f->desc && scsi_reserved(cmd, op))
        return scsi_refuse_status(cmd, SCSI_RESERVATION_CONFLICT);
    if (decode(cmd, f))
        return true;
    /* It never comes to the gate, whose answer goes before this one: write protection, or a range
     * that is none, is nothing to whom the reservation stops. */
    if (op->flags & OP_GATED && f->desc && scsi_reserved(cmd, op)) {
        cmd->sense_len = 0;
        scsi_refuse_status(cmd, SCSI_RESERVATION_CONFLICT);
    }
    return false;
}

void scsi_cmd_begin(struct scsi_cmd *cmd)
{
    struct scsi_nexus *n = cmd->nexus;
    list_init(&cmd->link);
    cmd->op = cmd->cdb_len ? scsi_opcode_of_cdb(cmd->cdb) : NULL;
    if (cmd->op && cmd->cdb_len < cmd->op->cdb_len)
        cmd->op = NULL;
    cmd->unit = scsi_lun_find(n, cmd->lun);
    if (!cmd->unit) {
        begin_nowhere(cmd);
        return;
    }
    cmd->view = &cmd->unit->view[n->local - n->target->local];
    cmd->view->users++;
    cmd->itl = scsi_itl_get(n, cmd->unit);
    if (!checks(cmd))
        return;
    list_add_tail(&cmd->itl->cmds, &cmd->link);
    if (cmd->attr != SCSI_SIMPLE)
        cmd->itl->barriers++;
    cmd->state = CMD_BEGUN;
}

uint8_t *scsi_cmd_buffer(struct scsi_cmd *cmd)
{
    assert(cmd->dir == SCSI_DIR_OUT);
    if (!cmd->buf)
        cmd->buf = iobuf_get(cmd->length ? cmd->length : 1);
    return cmd->buf ? cmd->buf->data : NULL;
}

/* ---- execute */

static void run(struct scsi_cmd *cmd)
{
    cmd->state = CMD_RUNNING;
    if (!(cmd->op->flags & OP_NO_MEDIUM)) {
        const struct scsi_facts *f = &cmd->view->now;
        cmd->uses_device = true;
        cmd->cached = cmd->op->flags & OP_WRITES && f->write_cache && f->wce;
        cmd->times.submitted = reactor_now();
        cmd->view->running++;
        if (!scsi_device(cmd))
            return;
    }
    cmd->op->run(cmd);
}

/* SAM-5, task attributes: HEAD OF QUEUE goes at once; ORDERED waits for all earlier commands;
 * SIMPLE waits for earlier ones that are not SIMPLE. */
static bool held_back(const struct scsi_cmd *cmd)
{
    const struct scsi_itl *itl = cmd->itl;
    if (cmd->attr == SCSI_HEAD_OF_QUEUE || (!itl->barriers && cmd->attr == SCSI_SIMPLE))
        return false;
    const struct scsi_cmd *c;
    if (cmd->attr == SCSI_ORDERED && itl->lent)
        return true;
    list_for_each (c, &itl->cmds, link) {
        if (c == cmd)
            return false;
        if (cmd->attr == SCSI_ORDERED || c->attr != SCSI_SIMPLE)
            return true;
    }
    return false;
}

/* Starts what had to wait. Commands never end within run(), so the list stays as it is. */
static void kick(struct scsi_itl *itl)
{
    bool any = itl->lent, barrier = false;
    struct scsi_cmd *c;
    list_for_each (c, &itl->cmds, link) {
        bool hold = c->attr == SCSI_ORDERED ? any : barrier;
        if (c->state == CMD_WAITING && !hold)
            run(c);
        any = true;
        barrier = barrier || c->attr != SCSI_SIMPLE;
    }
}

/* Commands whose data-out has a meaning only as a whole refuse any other amount; the rest take what
 * is enough. */
static bool data_fits(struct scsi_cmd *cmd, uint64_t received)
{
    if (cmd->dir != SCSI_DIR_OUT)
        return true;
    if (cmd->op->flags & OP_EXACT && cmd->expected != cmd->length) {
        scsi_fail_field(cmd, cmd->op->count_at, 7);
        return false;
    }
    cmd->came = received < cmd->length ? received : cmd->length;
    if (cmd->came == cmd->length || cmd->op->flags & OP_PARTIAL)
        return true;
    scsi_fail(cmd, SENSE_INFORMATION_UNIT);
    return false;
}

void scsi_cmd_execute(struct scsi_cmd *cmd, uint64_t received)
{
    assert(!cmd->finished && !cmd->aborted);
    if (!cmd->unit) {
        cmd->state = CMD_RUNNING;
        cmd->op->run(cmd);
        return;
    }
    assert(cmd->state == CMD_BEGUN);
    if (!data_fits(cmd, received))
        cmd->state = CMD_RUNNING;
    else if (held_back(cmd))
        cmd->state = CMD_WAITING;
    else
        run(cmd);
}

struct bdev_desc *scsi_device(struct scsi_cmd *cmd)
{
    struct bdev_desc *desc = cmd->view->now.desc;
    if (!desc)
        scsi_fail(cmd, SENSE_BECOMING_READY);
    return desc;
}

/* ---- end */

void scsi_wake_waiters(struct scsi_local *l)
{
    struct list *e;
    while ((e = list_pop(&l->waiters)))
        task_wake(list_entry(e, struct scsi_waiter, link)->task);
}

void scsi_wait(struct scsi_local *l)
{
    struct scsi_waiter w = {.task = task_self()};
    list_add_tail(&l->waiters, &w.link);
    task_park();
}

static void leave_task_set(struct scsi_cmd *cmd)
{
    struct scsi_itl *itl = cmd->itl;
    list_del(&cmd->link);
    if (cmd->lent) { /* what comes now may still change what it read: it goes on using the device */
        itl->lent++;
    } else if (cmd->uses_device) {
        cmd->uses_device = false;
        cmd->view->running--;
    }
    if (itl->barriers) {
        if (cmd->attr != SCSI_SIMPLE)
            itl->barriers--;
        kick(itl);
    }
}

/* What was lent to it is looked at no more. */
static void give_back(struct scsi_cmd *cmd)
{
    cmd->lent = false;
    cmd->uses_device = false;
    cmd->view->running--;
    cmd->itl->lent--;
    if (cmd->itl->barriers)
        kick(cmd->itl);
}

/* SAM-5, TAS 1: whoever did not ask for the abort learns of it. */
static void tell_of_abort(struct scsi_cmd *cmd)
{
    cmd->status = SCSI_TASK_ABORTED;
    cmd->sense_len = 0;
    cmd->dir = SCSI_DIR_NONE;
    cmd->length = 0;
}

static void written_out(struct bio *bio)
{
    struct scsi_cmd *cmd = bio->arg;
    if (bio->error)
        scsi_set_errno(cmd, bio->error, bio->bad_offset);
    scsi_end(cmd);
}

/* It wrote to the cache, and while it did WCE was cleared: its GOOD says that the data is durable.
 * True: it ends when that is so. What ended before, MODE SELECT writes out (scsi_lun_set_mode). */
static bool write_out(struct scsi_cmd *cmd)
{
    bool wrote = cmd->cached && cmd->bio.desc && bio_is_write(cmd->bio.op);
    cmd->cached = false;
    if (!wrote || cmd->view->now.wce || cmd->status != SCSI_GOOD || cmd->aborted)
        return false;
    bio_init(&cmd->bio, cmd->bio.desc, BIO_FLUSH, 0, 0, written_out, cmd);
    cmd->bio.nexus = cmd->nexus->gate;
    bio_submit(&cmd->bio);
    return true;
}

void scsi_end(struct scsi_cmd *cmd)
{
    assert(cmd->state == CMD_RUNNING);
    if (cmd->cached && write_out(cmd))
        return;
    cmd->state = CMD_OUTSIDE;
    if (cmd->told)
        tell_of_abort(cmd);
    else if (cmd->aborted)
        cmd->status = SCSI_GOOD; /* never TASK ABORTED: nobody is to hear */
    if (cmd->times.submitted)
        cmd->times.done = reactor_now();
    if (cmd->itl)
        leave_task_set(cmd);
    struct scsi_local *l = cmd->nexus->local;
    cmd->done(cmd);
    if (!list_empty(&l->waiters))
        scsi_wake_waiters(l);
}

static void end_deferred(void *arg)
{
    scsi_end(arg);
}

void scsi_end_later(struct scsi_cmd *cmd)
{
    reactor_defer(&cmd->defer, end_deferred, cmd);
}

void scsi_fail(struct scsi_cmd *cmd, enum sense_code code)
{
    scsi_set_code(cmd, code);
    scsi_end_later(cmd);
}

void scsi_fail_field(struct scsi_cmd *cmd, unsigned byte, unsigned bit)
{
    scsi_set_field(cmd, true, byte, bit);
    scsi_end_later(cmd);
}

void scsi_fail_parameter(struct scsi_cmd *cmd, unsigned byte, unsigned bit)
{
    scsi_set_field(cmd, false, byte, bit);
    scsi_end_later(cmd);
}

void scsi_good(struct scsi_cmd *cmd)
{
    cmd->status = SCSI_GOOD;
    scsi_end_later(cmd);
}

/* Task management: a command that has not run yet ends now; one that runs, when its bio is back. */
void scsi_abort(struct scsi_cmd *cmd, bool by_another)
{
    assert(cmd->state != CMD_OUTSIDE);
    cmd->aborted = true;
    cmd->told = by_another;
    if (cmd->state == CMD_RUNNING)
        return;
    cmd->state = CMD_RUNNING;
    scsi_end_later(cmd);
}

static void count(struct scsi_cmd *cmd)
{
    stages_count(&cmd->unit->stages,
                 &(struct stage_request){
                     .times = &cmd->times,
                     .sent = cmd->sent,
                     .op = (enum bio_op)cmd->bio.op,
                     .offset = cmd->lba << cmd->view->now.shift,
                     .length = cmd->length,
                     .failed = cmd->status != SCSI_GOOD && cmd->status != SCSI_CONDITION_MET,
                     .client = cmd->nexus->initiator,
                 });
}

void scsi_cmd_end(struct scsi_cmd *cmd)
{
    if (cmd->state != CMD_OUTSIDE) { /* given up before execute */
        assert(cmd->state == CMD_BEGUN && cmd->itl);
        cmd->state = CMD_OUTSIDE;
        leave_task_set(cmd);
    }
    iobuf_put(&cmd->buf);
    iobuf_put(&cmd->scratch);
    if (!cmd->view)
        return;
    if (cmd->lent)
        give_back(cmd);
    if (cmd->sent && cmd->bio.desc)
        count(cmd);
    struct scsi_local *l = cmd->nexus->local;
    cmd->view->users--;
    cmd->view = NULL;
    if (!list_empty(&l->waiters))
        scsi_wake_waiters(l);
}

/* ---- data-in */

uint8_t *scsi_reply_room(struct scsi_cmd *cmd, size_t size)
{
    cmd->buf = iobuf_get(size);
    if (!cmd->buf) {
        scsi_set_errno(cmd, -ENOMEM, BIO_NO_OFFSET);
        scsi_end_later(cmd);
        return NULL;
    }
    memset(cmd->buf->data, 0, size);
    return cmd->buf->data;
}

void scsi_reply(struct scsi_cmd *cmd, size_t length)
{
    assert(length <= cmd->buf->size);
    if (length < cmd->length)
        cmd->length = length;
    cmd->iov = (struct iovec){cmd->buf->data, cmd->length};
    cmd->data = &cmd->iov;
    cmd->datacnt = cmd->length ? 1 : 0;
    scsi_good(cmd);
}

/* ---- commands in steps */

void scsi_bio(struct scsi_cmd *cmd, enum bio_op op, uint64_t offset, uint64_t length)
{
    bio_init(&cmd->bio, cmd->view->now.desc, op, offset, length, NULL, cmd);
    cmd->bio.nexus = cmd->nexus->gate;
}

static void step_done(struct bio *bio)
{
    struct scsi_cmd *cmd = bio->arg;
    if (bio->error) {
        scsi_set_errno(cmd, bio->error, bio->bad_offset);
        scsi_end(cmd);
    } else if (cmd->aborted) {
        scsi_end(cmd);
    } else {
        cmd->next(cmd);
    }
}

void scsi_submit(struct scsi_cmd *cmd, void (*next)(struct scsi_cmd *cmd))
{
    cmd->next = next;
    cmd->bio.done = step_done;
    bio_submit(&cmd->bio);
}
