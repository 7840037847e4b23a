/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * SANITIZE (SBC-4): overwrite and block erase of the whole medium, as a job. While it runs the LUN
 * is NOT READY with the progress; so it is after a failure, until EXIT FAILURE MODE. Neither resets
 * nor a restart of the daemon end it: where something can be saved, a record says what was asked
 * for, and when the device is attached again the job begins anew. Until then the gate of the device
 * is closed: whoever else serves it, by another LUN or by NBD, can neither read what shall be gone
 * nor write what would be lost.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/crc32c.h"
#include "base/log.h"
#include "base/mem.h"
#include "block/gate.h"
#include "block/job.h"
#include "targets/scsi/scsi_private.h"

enum { OVERWRITE = 0x01, BLOCK_ERASE = 0x02, EXIT_FAILED = 0x1f };
enum { IMMED = 0x80, AUSE = 0x20, INVERT = 0x80, STEP = 1 << 20, PATTERN_AT = 4 };
enum { RECORD_HEAD = 8, RECORD_MAX = RECORD_HEAD + 4096 + 4, RECORD_MAGIC = 0x4f53414e };
static const char KIND[] = "sanitize";

struct scsi_sanitize {
    struct list link; /* of a job */
    struct scsi_lun *lun;
    uint8_t action, passes;
    bool invert, ause;
    unsigned pattern_len;
    uint8_t pattern[4096];
    uint8_t *step;        /* one megabyte of it */
    struct scsi_cmd *cmd; /* of the request; the job has none, nobody can abort it */
    struct reactor *home;
    struct rpost post;
};

/* ---- the record: magic, action, passes, flags, zero, pattern, CRC32C; big-endian */

static size_t encode(const struct scsi_sanitize *s, uint8_t record[RECORD_MAX])
{
    struct wr w = wr_make(record, RECORD_MAX);
    wr_be32(&w, RECORD_MAGIC);
    wr_u8(&w, s->action);
    wr_u8(&w, s->passes);
    wr_u8(&w, (s->invert ? 1 : 0) | (s->ause ? 2 : 0));
    wr_u8(&w, 0);
    wr_copy(&w, s->pattern, s->pattern_len);
    wr_be32(&w, crc32c(0, record, w.pos));
    return w.pos;
}

static int save_record(const struct scsi_sanitize *s)
{
    uint8_t record[RECORD_MAX];
    if (!scsi_has_store())
        return 0;
    return scsi_store()->save(KIND, &s->lun->expect, record, encode(s, record));
}

static bool decode(struct scsi_sanitize *s, const uint8_t *data, size_t len)
{
    if (len < RECORD_HEAD + 4 || len > RECORD_MAX)
        return false;
    struct rd r = rd_make(data, len), tail = rd_make(data + len - 4, 4);
    uint32_t magic = rd_be32(&r);
    s->action = rd_u8(&r);
    s->passes = rd_u8(&r);
    unsigned flags = rd_u8(&r);
    rd_skip(&r, 1);
    s->invert = flags & 1;
    s->ause = flags & 2;
    s->pattern_len = (unsigned)(len - RECORD_HEAD - 4);
    rd_copy(&r, s->pattern, s->pattern_len);
    return magic == RECORD_MAGIC && crc32c(0, data, len - 4) == rd_be32(&tail) &&
           (s->action == BLOCK_ERASE || (s->action == OVERWRITE && s->pattern_len && s->passes));
}

bool scsi_sanitize_record(const void *data, size_t len, uint8_t **again_r, size_t *len_r)
{
    struct scsi_sanitize *s = xcalloc(1, sizeof *s);
    bool good = decode(s, data, len);
    *again_r = good ? xcalloc(1, RECORD_MAX) : NULL;
    *len_r = good ? encode(s, *again_r) : 0;
    free(s);
    return good;
}

bool scsi_sanitize_saved(const struct uuid *device)
{
    uint8_t *data = NULL;
    size_t len;
    int rc = scsi_store()->peek(KIND, device, &data, &len);
    free(data);
    return rc != -ENOENT;
}

/* ---- the job, on main */

static struct list jobs = LIST_INIT(jobs);

static bool job_runs_on(const struct uuid *device)
{
    const struct scsi_sanitize *s;
    list_for_each (s, &jobs, link)
        if (uuid_equal(&s->lun->expect, device))
            return true;
    return false;
}

static void set_state(struct scsi_lun *lun, uint8_t state)
{
    lun->facts.sanitize = state;
    scsi_lun_publish(lun, 0, NULL);
}

static int put_closed(struct gate_state *s, void *arg)
{
    s->closed = *(bool *)arg;
    return 0;
}

static void set_gate(struct bdev_desc *desc, bool closed)
{
    gate_change(bdev_of(desc), put_closed, NULL, &closed);
}

static void fill_step(struct scsi_sanitize *s, unsigned pass)
{
    for (unsigned i = 0; i < STEP; i++)
        s->step[i] = (uint8_t)(s->pattern[i % s->pattern_len] ^ (s->invert && pass % 2 ? 0xff : 0));
}

enum step { STEP_CLOSE, STEP_WRITE, STEP_FLUSH };

/* One step; the device stays open for it. Closing the gate waits for the I/O of all who serve the
 * device. */
static int do_step(struct scsi_sanitize *s, enum step step, uint64_t at, size_t len)
{
    struct scsi_view *v = &s->lun->view[reactor_self_index()];
    struct bdev_desc *desc = s->lun->removed ? NULL : v->now.desc;
    if (!desc)
        return -ENODEV;
    v->running++;
    int rc = 0;
    if (step == STEP_CLOSE) {
        set_gate(desc, true);
    } else if (step == STEP_FLUSH) {
        rc = bdev_flush(desc);
    } else if (s->action == OVERWRITE) {
        rc = bdev_write(desc, at, s->step, len, 0);
    } else {
        struct bio bio;
        bio_init(&bio, desc, BIO_WRITE_ZEROES, at, len, NULL, NULL);
        rc = bio_wait(&bio);
        if (!rc) { /* zero for certain; then deallocated where the device does that */
            bio_init(&bio, desc, BIO_DISCARD, at, len, NULL, NULL);
            rc = bio_wait(&bio);
        }
    }
    v->running--;
    scsi_wake_waiters(&s->lun->target->local[reactor_self_index()]);
    return rc;
}

static int do_pass(struct scsi_sanitize *s, struct job *job, unsigned pass, uint64_t size)
{
    uint64_t total = size * s->passes;
    if (s->action == OVERWRITE)
        fill_step(s, pass);
    for (uint64_t at = 0; at < size; at += STEP) {
        uint64_t done = size * pass + at;
        int rc = do_step(s, STEP_WRITE, at, size - at < STEP ? (size_t)(size - at) : STEP);
        if (rc)
            return rc;
        __atomic_store_n(&s->lun->progress, (uint16_t)(done * 65535 / total), __ATOMIC_RELAXED);
        job_step(job, done, total);
    }
    return do_step(s, STEP_FLUSH, 0, 0);
}

static void begin_anew(struct scsi_lun *lun);

/* The record goes before the gate opens: what is written then shall not be sanitized. If the device
 * went, it may be back already: then the job begins anew. */
static void finish(struct scsi_sanitize *s, int rc)
{
    struct scsi_lun *lun = s->lun;
    struct scsi_target *t = lun->target;
    tlock_lock(&t->lock);
    if (!rc && scsi_has_store())
        rc = scsi_store()->forget(KIND, &lun->expect);
    list_del(&s->link);
    lun->sanitizing = false;
    if (rc == -ENODEV && scsi_has_store()) {
        begin_anew(lun);
    } else {
        if (!rc && lun->desc)
            set_gate(lun->desc, false);
        set_state(lun, !rc ? SANITIZE_NONE : s->ause ? SANITIZE_FAILED_FREE : SANITIZE_FAILED);
    }
    tlock_unlock(&t->lock);
    free(s->step);
    free(s);
    scsi_lun_unref(lun);
    scsi_target_unref(t);
}

static int sanitize_job(struct job *job, void *arg, struct err *e)
{
    struct scsi_sanitize *s = arg;
    uint64_t size = s->lun->facts.blocks << s->lun->facts.shift;
    char device[BDEV_NAME_MAX + 1];
    snprintf(device, sizeof device, "%s", s->lun->device);
    int rc = do_step(s, STEP_CLOSE, 0, 0);
    for (unsigned pass = 0; pass < s->passes && !rc; pass++)
        rc = do_pass(s, job, pass, size);
    finish(s, rc);
    return rc ? err_set(e, ERR_IO, "", "%s: %s", device, strerror(-rc)) : 0;
}

/* Main, the target locked; takes s over. */
static void start_job(struct scsi_sanitize *s)
{
    struct scsi_lun *lun = s->lun;
    lun->refs++;
    lun->target->refs++;
    lun->sanitizing = true;
    list_add_tail(&jobs, &s->link);
    s->step = s->action == OVERWRITE ? xcalloc(1, STEP) : NULL;
    __atomic_store_n(&lun->progress, 0, __ATOMIC_RELAXED);
    set_state(lun, SANITIZE_RUNS);
    job_start(reactor_main(), KIND, lun->device, false, sanitize_job, s);
}

/* A device that was being sanitized when it went. If it is another LUN's to go on, this one meets a
 * closed gate until that has ended. */
static void begin_anew(struct scsi_lun *lun)
{
    uint8_t *data = NULL;
    size_t len;
    if (lun->removed)
        return;
    int rc = lun->desc ? scsi_store()->load(KIND, &lun->expect, &data, &len) : -ENOENT;
    if (rc == -ENOENT || job_runs_on(&lun->expect)) {
        free(data);
        set_state(lun, SANITIZE_NONE);
        return;
    }
    struct scsi_sanitize *s = xcalloc(1, sizeof *s);
    s->lun = lun;
    if (!rc && decode(s, data, len)) {
        start_job(s);
    } else {
        log_warn("scsi", "%s: the record of a sanitize operation cannot be read", lun->label);
        set_state(lun, SANITIZE_FAILED);
        set_gate(lun->desc, true);
        free(s);
    }
    free(data);
}

static void resume_locked(struct scsi_lun *lun)
{
    if (!lun->sanitizing && lun->facts.sanitize == SANITIZE_RUNS)
        begin_anew(lun);
}

void scsi_sanitize_restore(struct scsi_lun *lun)
{
    uint8_t *data = NULL;
    size_t len;
    if (!scsi_has_store())
        return;
    if (scsi_store()->load(KIND, &lun->expect, &data, &len) != -ENOENT)
        lun->facts.sanitize = SANITIZE_RUNS;
    free(data);
}

void scsi_sanitize_resume(struct scsi_lun *lun)
{
    if (lun->facts.sanitize == SANITIZE_RUNS)
        scsi_lun_changed(lun, resume_locked);
}

/* ---- the command */

static void reply_here(void *arg)
{
    struct scsi_sanitize *s = arg;
    struct scsi_cmd *cmd = s->cmd;
    free(s);
    scsi_end(cmd);
}

/* Without IMMED: the command looks on until the end. Aborted, it goes, and the operation goes on.
 */
static void look_on(void *arg)
{
    struct scsi_cmd *cmd = arg;
    const struct scsi_facts *f = &cmd->view->now;
    while (f->sanitize == SANITIZE_RUNS && !cmd->aborted)
        task_sleep_us(2000);
    if (f->sanitize == SANITIZE_FAILED || f->sanitize == SANITIZE_FAILED_FREE)
        scsi_set_code(cmd, SENSE_SANITIZE_FAILED);
    else if (!f->desc)
        scsi_set_code(cmd, SENSE_BECOMING_READY);
    scsi_end(cmd);
}

static void look_on_here(void *arg)
{
    struct scsi_sanitize *s = arg;
    task_start(reactor_self(), "scsi-sanitize", look_on, s->cmd);
    free(s);
}

static void start_task(void *arg)
{
    struct scsi_sanitize *s = arg;
    struct scsi_lun *lun = s->lun;
    struct scsi_target *t = lun->target;
    tlock_lock(&t->lock);
    bool other = lun->sanitizing || job_runs_on(&lun->expect);
    int rc = lun->removed || !lun->desc ? -ENODEV : other ? -EBUSY : save_record(s);
    if (rc) {
        scsi_set_code(s->cmd, other ? SENSE_SANITIZING : SENSE_INTERNAL_FAILURE);
        reactor_post(s->home, &s->post, reply_here, s);
    } else {
        struct scsi_sanitize *job = xcalloc(1, sizeof *job);
        *job = *s;
        job->cmd = NULL;
        start_job(job);
        reactor_post(s->home, &s->post, s->cmd->cdb[1] & IMMED ? reply_here : look_on_here, s);
    }
    tlock_unlock(&t->lock);
}

static void exit_failure_task(void *arg)
{
    struct scsi_sanitize *s = arg;
    struct scsi_target *t = s->lun->target;
    tlock_lock(&t->lock);
    uint8_t state = s->lun->facts.sanitize;
    if (state == SANITIZE_FAILED) {
        scsi_set_code(s->cmd, SENSE_SANITIZE_FAILED);
    } else if (state == SANITIZE_FAILED_FREE) {
        int rc = scsi_has_store() ? scsi_store()->forget(KIND, &s->lun->expect) : 0;
        if (rc) {
            scsi_set_code(s->cmd, SENSE_INTERNAL_FAILURE);
        } else {
            if (s->lun->desc)
                set_gate(s->lun->desc, false);
            set_state(s->lun, SANITIZE_NONE);
        }
    }
    tlock_unlock(&t->lock);
    reactor_post(s->home, &s->post, reply_here, s);
}

/* The parameter list of OVERWRITE: INVERT, TEST and count; a zero; the pattern's length; it. */
static bool parse_overwrite(struct scsi_cmd *cmd, struct scsi_sanitize *s)
{
    struct rd r = rd_make(cmd->buf ? cmd->buf->data : NULL, cmd->length);
    if (cmd->length <= PATTERN_AT || cmd->length > PATTERN_AT + cmd->view->now.block_size) {
        scsi_fail_field(cmd, 7, 7);
        return false;
    }
    unsigned flags = rd_u8(&r);
    rd_skip(&r, 1);
    s->invert = flags & INVERT;
    s->passes = flags & 0x1f;
    s->pattern_len = rd_be16(&r);
    if (flags & 0x60 || !s->passes) {
        scsi_fail_parameter(cmd, 0, flags & 0x60 ? 6 : 4);
        return false;
    }
    if (!s->pattern_len || s->pattern_len != rd_left(&r)) {
        scsi_fail_parameter(cmd, 2, 7);
        return false;
    }
    rd_copy(&r, s->pattern, s->pattern_len);
    return true;
}

void scsi_run_sanitize(struct scsi_cmd *cmd)
{
    struct scsi_sanitize *s = xcalloc(1, sizeof *s);
    s->lun = cmd->unit;
    s->cmd = cmd;
    s->home = reactor_self();
    s->action = (uint8_t)cmd->op->sa;
    s->passes = 1;
    s->ause = cmd->cdb[1] & AUSE;
    if (s->action == OVERWRITE ? !parse_overwrite(cmd, s) : cmd->length != 0) {
        if (s->action != OVERWRITE)
            scsi_fail_field(cmd, 7, 7);
        free(s);
        return;
    }
    task_start(reactor_main(), "scsi-sanitize",
               s->action == EXIT_FAILED ? exit_failure_task : start_task, s);
}

/* ---- the state, as other commands meet it */

bool scsi_sanitize_sense(const struct scsi_cmd *cmd, struct sense *s)
{
    if (cmd->view->now.sanitize == SANITIZE_NONE)
        return false;
    bool runs = cmd->view->now.sanitize == SANITIZE_RUNS;
    s->code = runs ? SENSE_SANITIZING : SENSE_SANITIZE_FAILED;
    s->has_progress = runs;
    s->progress = __atomic_load_n(&cmd->unit->progress, __ATOMIC_RELAXED);
    return true;
}

bool scsi_sanitize_refuses(struct scsi_cmd *cmd, const struct scsi_opcode *op)
{
    struct sense s = {.code = SENSE_NONE};
    if (op->flags & (OP_NO_UA | OP_UNREADY))
        return false;
    if (op->opcode == 0x48 && cmd->view->now.sanitize != SANITIZE_RUNS)
        return false; /* after a failure: another try, or EXIT FAILURE MODE */
    return scsi_sanitize_sense(cmd, &s) && !scsi_refuse_sense(cmd, &s);
}
