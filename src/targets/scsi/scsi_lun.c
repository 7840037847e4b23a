/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A LUN's device: opened when it is there, watched while it is not. Main's, in tasks, target
 * locked. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/log.h"
#include "base/mem.h"
#include "targets/scsi/scsi_private.h"

/* ---- publishing */

struct publication {
    struct scsi_lun *lun;
    uint32_t ua;
    const struct scsi_nexus *except;
};

static void publish_here(void *arg)
{
    const struct publication *p = arg;
    unsigned i = reactor_self_index();
    p->lun->view[i].now = p->lun->facts;
    if (p->ua)
        scsi_ua_raise_local(&p->lun->target->local[i], p->lun, p->ua, p->except);
}

void scsi_lun_publish(struct scsi_lun *lun, uint32_t ua, const struct scsi_nexus *except)
{
    struct publication p = {lun, ua, except};
    task_call_all(publish_here, &p);
}

static void wait_running(void *arg)
{
    struct scsi_lun *lun = arg;
    unsigned i = reactor_self_index();
    while (lun->view[i].running)
        scsi_wait(&lun->target->local[i]);
}

/* ---- identity */

/* NAA 3h, locally assigned (SPC-4, NAA designators): 60 bits of the identity. The halves are folded
 * together because a uuid has constant bits in each. */
void scsi_lun_identify(struct scsi_lun *lun, const struct uuid *identity)
{
    lun->identity = *identity;
    for (unsigned i = 0; i < 8; i++)
        lun->naa[i] = identity->b[i] ^ identity->b[i + 8];
    lun->naa[0] = (uint8_t)(0x30 | (lun->naa[0] & 0x0f));
    for (unsigned i = 0; i < 16; i++)
        snprintf(lun->serial + 2 * i, 3, "%02x", identity->b[i]);
}

/* ---- the device's facts */

static uint8_t log2_of(uint32_t v)
{
    return (uint8_t)__builtin_ctz(v);
}

static void take_info(struct scsi_lun *lun, const struct bdev_info *i)
{
    struct scsi_facts *f = &lun->facts;
    bool cache = f->write_cache;
    f->block_size = i->block_size;
    f->shift = log2_of(i->block_size);
    f->phys_shift = i->phys_block > i->block_size ? log2_of(i->phys_block) - f->shift : 0;
    f->blocks = i->size >> f->shift;
    f->opt_io = i->opt_io;
    f->discard_gran = i->discard_gran;
    f->lbp =
        i->discard_gran && i->ops & 1u << BIO_DISCARD && !(lun->args.thin_given && !lun->args.thin);
    f->lbprz = i->discard_zeroes;
    f->read_only = lun->args.read_only || i->read_only;
    f->rotational = i->rotational;
    f->write_cache = i->write_cache;
    if (i->write_cache != cache)
        f->wce = f->saved.wce = i->write_cache;
    lun->saved_size = i->size;
}

static int check_info(const struct scsi_lun *lun, const struct bdev_info *i, struct err *e)
{
    if (i->block_size & (i->block_size - 1) || i->block_size < 512 || i->block_size > 4096)
        return err_set(e, ERR_UNSUPPORTED, "device",
                       "the device %s has blocks of %u bytes: a LUN needs 512, 1024, 2048 or 4096",
                       lun->device, i->block_size);
    if (lun->facts.block_size && lun->facts.block_size != i->block_size)
        return err_set(e, ERR_INVALID, "device",
                       "the device %s has blocks of %u bytes, the LUN was exported with %u",
                       lun->device, i->block_size, lun->facts.block_size);
    if (!uuid_is_null(&lun->expect) && !uuid_equal(&lun->expect, &i->uuid))
        return err_set(e, ERR_INVALID, "device",
                       "the device %s is not the one that this LUN was exported with", lun->device);
    if (lun->args.thin_given && lun->args.thin && !i->discard_gran)
        return err_set(e, ERR_INVALID, "provisioning",
                       "the device %s cannot discard: expected provisioning full", lun->device);
    return 0;
}

/* ---- events; main, outside tasks */

struct change {
    struct scsi_lun *lun;
    void (*fn)(struct scsi_lun *lun);
};

static void change_task(void *arg)
{
    struct change *c = arg;
    struct scsi_target *t = c->lun->target;
    tlock_lock(&t->lock);
    if (!c->lun->removed)
        c->fn(c->lun);
    tlock_unlock(&t->lock);
    scsi_lun_unref(c->lun);
    scsi_target_unref(t);
    free(c);
}

void scsi_lun_changed(struct scsi_lun *lun, void (*fn)(struct scsi_lun *lun))
{
    struct change *c = xcalloc(1, sizeof *c);
    c->lun = lun;
    c->fn = fn;
    lun->refs++;
    lun->target->refs++;
    task_start(reactor_main(), "scsi-lun", change_task, c);
}

static void device_removed(struct scsi_lun *lun)
{
    scsi_lun_detach(lun, "the device was removed");
}

static void on_event(struct bdev_desc *desc, enum bdev_event event, void *arg)
{
    (void)desc;
    scsi_lun_changed(arg, event == BDEV_EVENT_REMOVE ? device_removed : scsi_lun_refresh);
}

/* ---- attach, detach */

int scsi_lun_open(struct scsi_lun *lun, struct err *e)
{
    struct bdev_info info;
    struct bdev_user user = {.event = on_event, .arg = lun, .gated = true};
    snprintf(user.label, sizeof user.label, "%s", lun->label);
    if (!bdev_name_info(lun->device, &info))
        return err_set(e, ERR_NOT_FOUND, "device", "there is no device %s", lun->device);
    if (check_info(lun, &info, e))
        return -1;
    enum bdev_claim claim = info.read_only ? CLAIM_READ : CLAIM_SHARED_WRITE;
    lun->desc = bdev_open(lun->device, claim, &user, e);
    if (!lun->desc)
        return -1;
    if (scsi_pr_restore(bdev_of(lun->desc), &info.uuid, e)) {
        bdev_close(&lun->desc);
        return -1;
    }
    take_info(lun, &info);
    lun->expect = info.uuid;
    scsi_sanitize_restore(lun);
    if (uuid_is_null(&lun->identity))
        scsi_lun_identify(lun, &info.uuid);
    scsi_lun_load_mode(lun);
    lun->facts.desc = lun->desc;
    lun->why[0] = 0;
    return 0;
}

void scsi_lun_attach(struct scsi_lun *lun)
{
    struct err e;
    if (lun->desc)
        return;
    if (scsi_lun_open(lun, &e)) {
        snprintf(lun->why, sizeof lun->why, "%.*s", (int)sizeof lun->why - 1, e.msg);
        log_warn("scsi", "%s is not ready: %s", lun->label, e.msg);
        return;
    }
    log_info("scsi", "%s is ready: device %s", lun->label, lun->device);
    scsi_threshold_update(lun);
    scsi_lun_publish(lun, UA_READY_CHANGE, NULL);
    scsi_sanitize_resume(lun);
}

void scsi_lun_detach(struct scsi_lun *lun, const char *why)
{
    if (!lun->desc)
        return;
    snprintf(lun->why, sizeof lun->why, "%s", why);
    lun->facts.desc = NULL;
    scsi_threshold_update(lun);
    scsi_lun_publish(lun, 0, NULL);
    task_call_all(wait_running, lun);
    bdev_drain_close(&lun->desc);
    if (!lun->removed)
        log_warn("scsi", "%s is not ready: %s", lun->label, why);
}

void scsi_lun_refresh(struct scsi_lun *lun)
{
    if (!lun->desc)
        return;
    struct bdev_info info;
    uint64_t blocks = lun->facts.blocks;
    bdev_get_info(lun->desc, &info);
    take_info(lun, &info);
    scsi_threshold_update(lun);
    scsi_lun_publish(lun, lun->facts.blocks != blocks ? UA_CAPACITY_CHANGED : 0, NULL);
}

/* ---- mode parameters. Saved: "MODE", 2, a byte of flags, the threshold, CRC32C of these; in
 * version 1 without a threshold, and with notification on. */

enum {
    MODE_MAGIC = 0x4d4f4445,
    SAVED_SWP = 1,
    SAVED_D_SENSE = 2,
    SAVED_WCE = 4,
    SAVED_LBPERE = 8,
    SAVED_THRESHOLD = 16,
};
static const char MODE_KIND[] = "modes";

struct scsi_mode scsi_mode_of(const struct scsi_facts *f)
{
    return (struct scsi_mode){.swp = f->swp,
                              .d_sense = f->d_sense,
                              .wce = f->wce,
                              .lbpere = f->lbpere,
                              .threshold = f->threshold,
                              .threshold_sets = f->threshold_sets};
}

bool scsi_mode_equal(const struct scsi_mode *a, const struct scsi_mode *b)
{
    return a->swp == b->swp && a->d_sense == b->d_sense && a->wce == b->wce &&
           a->lbpere == b->lbpere && a->threshold == b->threshold &&
           a->threshold_sets == b->threshold_sets;
}

static void use_mode(struct scsi_facts *f, const struct scsi_mode *m)
{
    f->swp = m->swp;
    f->d_sense = m->d_sense;
    f->wce = m->wce;
    f->lbpere = m->lbpere;
    f->threshold = m->threshold;
    f->threshold_sets = m->threshold_sets;
}

size_t scsi_mode_encode(const struct scsi_mode *m, uint8_t record[SCSI_MODE_RECORD])
{
    struct wr w = wr_make(record, SCSI_MODE_RECORD);
    wr_be32(&w, MODE_MAGIC);
    wr_u8(&w, 2);
    wr_u8(&w, (m->swp ? SAVED_SWP : 0) | (m->d_sense ? SAVED_D_SENSE : 0) |
                  (m->wce ? SAVED_WCE : 0) | (m->lbpere ? SAVED_LBPERE : 0) |
                  (m->threshold ? SAVED_THRESHOLD : 0));
    wr_be32(&w, m->threshold_sets);
    wr_be32(&w, crc32c(0, record, w.pos));
    return w.pos;
}

bool scsi_mode_decode(const void *data, size_t len, struct scsi_mode *m)
{
    struct rd r = rd_make(data, len);
    unsigned magic = rd_be32(&r), version = rd_u8(&r), flags = rd_u8(&r);
    uint32_t sets = version == 2 ? rd_be32(&r) : 0;
    if (magic != MODE_MAGIC || version < 1 || version > 2 ||
        len != (version == 1 ? SCSI_MODE_RECORD_1 : SCSI_MODE_RECORD) ||
        rd_be32(&r) != crc32c(0, data, len - 4))
        return false;
    m->swp = flags & SAVED_SWP;
    m->d_sense = flags & SAVED_D_SENSE;
    m->wce = flags & SAVED_WCE;
    m->lbpere = version == 1 || flags & SAVED_LBPERE;
    m->threshold = version == 2 && flags & SAVED_THRESHOLD;
    m->threshold_sets = sets;
    return true;
}

static int save_mode(const struct scsi_lun *lun, const struct scsi_mode *m)
{
    uint8_t record[SCSI_MODE_RECORD];
    size_t len = scsi_mode_encode(m, record);
    return scsi_store()->save(MODE_KIND, &lun->identity, record, len);
}

/* What is damaged counts as not saved: the defaults are always safe, but for write protection, and
 * that is no data at risk. */
void scsi_lun_load_mode(struct scsi_lun *lun)
{
    struct scsi_facts *f = &lun->facts;
    uint8_t *data = NULL;
    size_t len = 0;
    f->saved = (struct scsi_mode){.wce = f->write_cache, .lbpere = true};
    if (!scsi_has_store() || scsi_store()->load(MODE_KIND, &lun->identity, &data, &len))
        return;
    if (scsi_mode_decode(data, len, &f->saved))
        f->saved.wce = f->saved.wce && f->write_cache;
    else
        log_warn("scsi", "%s: the saved mode parameters are damaged", lun->label);
    free(data);
    use_mode(f, &f->saved);
}

/* Who cleared WCE flushes no more, and takes all that was written for durable (SBC-3, WCE). On
 * every reactor writes are durable from here on; those under way see to themselves (cmd.c). The
 * device stays open meanwhile; the target is not locked, for a flush may take long. */
static int write_out(struct scsi_lun *lun, struct bdev_desc *desc)
{
    unsigned here = reactor_self_index();
    int rc = bdev_flush(desc);
    lun->view[here].running--;
    scsi_wake_waiters(&lun->target->local[here]);
    return rc ? -EREMOTEIO : 0;
}

int scsi_lun_set_mode(struct scsi_lun *lun, const struct scsi_mode *mode, bool save,
                      const struct scsi_nexus *by)
{
    struct scsi_target *t = lun->target;
    struct scsi_facts *f = &lun->facts;
    tlock_lock(&t->lock);
    struct bdev_desc *desc = NULL;
    int rc = lun->removed ? -ENODEV : save ? save_mode(lun, mode) : 0;
    if (!rc) {
        struct scsi_mode old = scsi_mode_of(f);
        bool changed = !scsi_mode_equal(&old, mode);
        if (f->wce && !mode->wce && lun->desc) {
            desc = lun->desc;
            lun->view[reactor_self_index()].running++;
        }
        use_mode(f, mode);
        if (save)
            f->saved = *mode;
        scsi_threshold_update(lun);
        scsi_lun_publish(lun, changed ? UA_MODE_CHANGED : 0, by);
    }
    tlock_unlock(&t->lock);
    return desc ? write_out(lun, desc) : rc;
}

/* A reset brings the saved values back, or the defaults. The reset's own unit attention tells of
 * it. What had been told of a threshold counts as not told (SBC-4 4.7.3.7.6). */
void scsi_lun_reset_mode(struct scsi_lun *lun)
{
    struct scsi_facts *f = &lun->facts;
    struct scsi_mode now = scsi_mode_of(f);
    bool cleared = f->wce && !f->saved.wce;
    if (scsi_mode_equal(&now, &f->saved) && !lun->threshold.on)
        return;
    use_mode(f, &f->saved);
    scsi_threshold_restart(lun);
    scsi_lun_publish(lun, 0, NULL);
    if (cleared && lun->desc && bdev_flush(lun->desc))
        log_warn("scsi", "%s: the cache could not be written out at the reset", lun->label);
}
