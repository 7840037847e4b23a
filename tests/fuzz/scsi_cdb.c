/* SPDX-License-Identifier: GPL-2.0-or-later */
/* CDBs with data to a LUN on a mem device. Input: records of { CDB length, 16 bytes of CDB, LUN,
 * data length (2), data }. The reactors run for the whole process; each input is one batch of
 * commands. */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/log.h"
#include "drivers/drivers.h"
#include "reactor/task.h"
#include "targets/scsi/scsi.h"

static sem_t ready, finished;
static struct scsi_target *target;
static const uint8_t *input;
static size_t input_len;

struct run {
    struct scsi_cmd cmd;
    struct task *task;
};

static void on_done(struct scsi_cmd *cmd)
{
    task_wake(((struct run *)cmd->arg)->task);
}

static void one(struct scsi_nexus *n, struct rd *r)
{
    struct run run = {.task = task_self()};
    struct scsi_cmd *c = &run.cmd;
    c->nexus = n;
    c->arg = &run;
    c->done = on_done;
    c->cdb_len = rd_u8(r) % 17;
    rd_copy(r, c->cdb, 16);
    c->lun[1] = rd_u8(r) & 3;
    size_t len = rd_be16(r);
    if (len > rd_left(r))
        len = rd_left(r);
    const uint8_t *data = rd_bytes(r, len);
    c->expected = len;
    scsi_cmd_begin(c);
    if (!c->finished) {
        size_t received = 0;
        if (c->dir == SCSI_DIR_OUT) {
            uint8_t *p = scsi_cmd_buffer(c);
            received = len < c->length ? len : c->length;
            if (received)
                memcpy(p, data, received);
        }
        scsi_cmd_execute(c, received);
        task_park();
    }
    uint64_t sum = 0;
    for (unsigned i = 0; i < c->datacnt; i++)
        for (size_t k = 0; k < c->data[i].iov_len; k++)
            sum += ((const uint8_t *)c->data[i].iov_base)[k];
    assert(sum || c->status != SCSI_CHECK_CONDITION || c->sense_len >= 8);
    scsi_cmd_end(c);
}

static void batch(void *arg)
{
    (void)arg;
    struct scsi_nexus *n = scsi_nexus_new(target, "iqn.fuzz,i,0x1", 1);
    struct rd r = rd_make(input, input_len);
    for (unsigned i = 0; rd_left(&r) && i < 64; i++)
        one(n, &r);
    scsi_nexus_free(&n);
    sem_post(&finished);
}

static void add_lun(unsigned number, const char *name, const char *block_size, bool full)
{
    struct err e;
    struct bdev *b;
    struct opts *o = opts_new(mem_driver.opts);
    opts_put(o, "size", "16M", &e);
    opts_put(o, "block_size", block_size, &e);
    if (mem_driver.create(name, NULL, o, &b, &e))
        abort();
    opts_free(&o);
    struct scsi_lun_args a = {.lun = number, .device = name, .thin_given = full};
    if (scsi_lun_add(target, &a, &e))
        abort();
}

static void setup(void *arg)
{
    (void)arg;
    target = scsi_target_new("iqn.fuzz:t");
    add_lun(0, "a", "512", false);
    add_lun(1, "b", "4096", true);
    sem_post(&ready);
}

static void *main_reactor(void *arg)
{
    struct err e;
    struct reactor_opts opts = {.count = 1};
    if (reactors_start(&opts, &e))
        abort();
    task_start(reactor_main(), "setup", setup, arg);
    reactors_run();
    return NULL;
}

/* libFuzzer's alarm interrupts waits. */
static void wait_for(sem_t *s)
{
    while (sem_wait(s))
        assert(errno == EINTR);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static pthread_t thread;
    if (!target) {
        log_set_level(LOG_LEVEL_ERROR);
        sem_init(&ready, 0, 0);
        sem_init(&finished, 0, 0);
        pthread_create(&thread, NULL, main_reactor, NULL);
        wait_for(&ready);
    }
    input = data;
    input_len = size;
    task_start(reactor_get(0), "fuzz", batch, NULL);
    wait_for(&finished);
    return 0;
}
