/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lab.h"

#include <string.h>

#include "base/mem.h"
#include "drivers/drivers.h"

void lab_mem(const char *name, uint64_t size, unsigned block_size)
{
    struct opts *o = opts_new(mem_driver.opts);
    char text[32];
    struct err e;
    struct bdev *b;
    snprintf(text, sizeof text, "%llu", (unsigned long long)size);
    check_int(opts_put(o, "size", text, &e), 0);
    snprintf(text, sizeof text, "%u", block_size);
    check_int(opts_put(o, "block_size", text, &e), 0);
    check_int(mem_driver.create(name, NULL, o, &b, &e), 0);
    opts_free(&o);
}

/* ---- nexuses */

struct login {
    struct scsi_target *target;
    const char *initiator;
    struct scsi_nexus *nexus;
};

static void login_here(void *arg)
{
    struct login *l = arg;
    l->nexus = scsi_nexus_new(l->target, l->initiator, 1);
}

struct scsi_nexus *lab_login(struct lab *lab, unsigned reactor, const char *initiator)
{
    struct login l = {lab->target, initiator, NULL};
    task_call(reactor_get(reactor), login_here, &l);
    return l.nexus;
}

static void logout_here(void *arg)
{
    scsi_nexus_free(arg);
}

void lab_logout(struct scsi_nexus **n, unsigned reactor)
{
    task_call(reactor_get(reactor), logout_here, n);
}

/* ---- the lab */

struct lab *lab_with(const struct scsi_lun_args *args)
{
    struct lab *lab = xcalloc(1, sizeof *lab);
    struct err e = {0};
    lab->target = scsi_target_new("iqn.2026-11.lab:t");
    if (scsi_lun_add(lab->target, args, &e))
        fprintf(stderr, "%s\n", e.msg);
    check_int(e.code, 0);
    lab->nexus = lab_login(lab, 0, "iqn.2026-11.lab:i,i,0x1");
    const uint8_t request_sense[6] = {0x03, 0, 0, 0, 18};
    struct io *io = lab_cmd(lab, request_sense, 6); /* takes POWER ON */
    expect_good(io);
    return lab;
}

struct lab *lab_new(void)
{
    lab_mem("m", LAB_SIZE, 512);
    return lab_with(&(struct scsi_lun_args){.lun = 0, .device = "m", .label = "lab"});
}

void lab_free(struct lab **lab)
{
    lab_logout(&(*lab)->nexus, 0);
    scsi_target_free(&(*lab)->target);
    free(*lab);
    *lab = NULL;
}

void lab_end(struct lab **lab)
{
    lab_free(lab);
    bdev_unregister(bdev_find("m"));
}

/* ---- commands */

struct io *io_new(struct scsi_nexus *n, unsigned reactor, unsigned lun, const void *cdb,
                  unsigned len)
{
    struct io *io = xcalloc(1, sizeof *io);
    io->nexus = n;
    io->reactor = reactor_get(reactor);
    io->cmd.nexus = n;
    io->cmd.lun[1] = (uint8_t)lun;
    memcpy(io->cmd.cdb, cdb, len);
    io->cmd.cdb_len = len;
    return io;
}

static void on_done(struct scsi_cmd *cmd)
{
    struct io *io = cmd->arg;
    if (cmd->dir == SCSI_DIR_IN && cmd->status == SCSI_GOOD) {
        io->in = xcalloc(1, cmd->length + 1);
        for (unsigned i = 0; i < cmd->datacnt; i++) {
            memcpy(io->in + io->in_len, cmd->data[i].iov_base, cmd->data[i].iov_len);
            io->in_len += cmd->data[i].iov_len;
        }
        check_int(io->in_len, cmd->length);
    }
    __atomic_store_n(&io->done, true, __ATOMIC_RELEASE);
}

static void begin_here(void *arg)
{
    struct io *io = arg;
    io->cmd.done = on_done;
    io->cmd.arg = io;
    io->cmd.expected = io->out_len;
    scsi_cmd_begin(&io->cmd);
    if (io->cmd.finished)
        __atomic_store_n(&io->done, true, __ATOMIC_RELEASE);
}

static void execute_here(void *arg)
{
    struct io *io = arg;
    size_t n = 0;
    if (io->cmd.finished)
        return;
    if (io->cmd.dir == SCSI_DIR_OUT) {
        uint8_t *p = scsi_cmd_buffer(&io->cmd);
        check(p);
        n = io->out_len < io->cmd.length ? io->out_len : io->cmd.length;
        if (n)
            memcpy(p, io->out, n);
    }
    scsi_cmd_execute(&io->cmd, n);
    check(!io->done);
}

static void end_here(void *arg)
{
    scsi_cmd_end(&((struct io *)arg)->cmd);
}

void io_begin(struct io *io)
{
    task_call(io->reactor, begin_here, io);
}

void io_execute(struct io *io)
{
    task_call(io->reactor, execute_here, io);
}

void io_start(struct io *io)
{
    io_begin(io);
    io_execute(io);
}

void io_wait(struct io *io)
{
    while (!__atomic_load_n(&io->done, __ATOMIC_ACQUIRE))
        task_sleep_us(50);
    if (!io->ended)
        task_call(io->reactor, end_here, io);
    io->ended = true;
}

void io_free(struct io **io)
{
    check((*io)->ended);
    free((*io)->in);
    free(*io);
    *io = NULL;
}

struct io *lab_out(struct lab *lab, const void *cdb, unsigned len, const void *data, size_t n)
{
    struct io *io = io_new(lab->nexus, 0, 0, cdb, len);
    io->out = data;
    io->out_len = n;
    io_start(io);
    io_wait(io);
    return io;
}

struct io *lab_cmd(struct lab *lab, const void *cdb, unsigned len)
{
    return lab_out(lab, cdb, len, NULL, 0);
}

/* ---- checks */

unsigned be(const uint8_t *p, unsigned n)
{
    unsigned v = 0;
    while (n--)
        v = v << 8 | *p++;
    return v;
}

unsigned io_code(const struct io *io)
{
    const uint8_t *s = io->cmd.sense;
    if (!io->cmd.sense_len)
        return 0;
    if ((s[0] & 0x7f) == 0x72)
        return (s[1] & 0x0fu) << 16 | be(s + 2, 2);
    return (s[2] & 0x0fu) << 16 | be(s + 12, 2);
}

void expect_status(struct io *io, unsigned status)
{
    if (io->cmd.status != status)
        fprintf(stderr, "opcode %02x: status %02x sense %06x\n", io->cmd.cdb[0], io->cmd.status,
                io_code(io));
    check_int(io->cmd.status, status);
    io_free(&io);
}

void expect_sense(struct io *io, enum sense_code code)
{
    if (io_code(io) != code)
        fprintf(stderr, "opcode %02x: status %02x sense %06x\n", io->cmd.cdb[0], io->cmd.status,
                io_code(io));
    check_int(io->cmd.status, SCSI_CHECK_CONDITION);
    check_int(io_code(io), code);
    io_free(&io);
}

void expect_field(struct io *io, bool in_cdb, unsigned byte, unsigned bit)
{
    const uint8_t *s = io->cmd.sense;
    check_int(s[0] & 0x7f, 0x70);
    check_int(s[15], 0x80u | (in_cdb ? 0x40 : 0) | (bit <= 7 ? 0x08u | bit : 0));
    check_int(be(s + 16, 2), byte);
    expect_sense(io, in_cdb ? SENSE_INVALID_FIELD_IN_CDB : SENSE_INVALID_FIELD_IN_PARAMETERS);
}

/* ---- task management */

struct tmf_call {
    struct scsi_nexus *nexus;
    enum scsi_tmf fn;
    uint8_t lun[8];
    struct scsi_cmd *task;
    enum scsi_tmf_response response;
    bool done;
};

static void tmf_done(enum scsi_tmf_response response, void *arg)
{
    struct tmf_call *c = arg;
    c->response = response;
    __atomic_store_n(&c->done, true, __ATOMIC_RELEASE);
}

static void tmf_here(void *arg)
{
    struct tmf_call *c = arg;
    scsi_tmf(c->nexus, c->fn, c->lun, c->task, tmf_done, c);
    check(!c->done);
}

enum scsi_tmf_response lab_tmf(struct scsi_nexus *n, unsigned reactor, enum scsi_tmf fn,
                               unsigned lun, struct scsi_cmd *task)
{
    struct tmf_call c = {.nexus = n, .fn = fn, .lun = {0, (uint8_t)lun}, .task = task};
    task_call(reactor_get(reactor), tmf_here, &c);
    while (!__atomic_load_n(&c.done, __ATOMIC_ACQUIRE))
        task_sleep_us(50);
    return c.response;
}
