/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reservations that outlive a loss of power (APTPL). A record, all little-endian:
 *
 *     0  8  "ORIONPR1"
 *     8  1  type, 0 = registrations only
 *     9  1  0
 *    10  2  number of the holder in the list, 0xffff = none
 *    12  4  number of registrants
 *    16     each: 8 key, 1 flags (bit 0: ALL_TG_PT), 1 zero, 2 length of the name, the name
 *    end 4  CRC32C of all that is before
 *
 * Names, not ids, are kept: ids mean something only while the daemon runs.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/crc32c.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "block/gate.h"
#include "targets/scsi/scsi_private.h"

enum { HEAD_LEN = 16, REG_LEN = 12, CRC_LEN = 4, NO_HOLDER = 0xffff, REGISTRANTS_MAX = 4096 };
static const char MAGIC[8] = {'O', 'R', 'I', 'O', 'N', 'P', 'R', '1'};
static const char KIND[] = "reservations";

static struct scsi_store store;

static bool saved_gate(const struct uuid *device, struct gate_state *state_r);

void scsi_set_store(const struct scsi_store *s)
{
    store = s ? *s : (struct scsi_store){0};
    gate_set_saved(store.peek ? saved_gate : NULL);
}

bool scsi_has_store(void)
{
    return store.save;
}

const struct scsi_store *scsi_store(void)
{
    return &store;
}

/* ---- the record */

size_t scsi_pr_encode(const struct gate_state *s, uint8_t **data_r)
{
    size_t room = HEAD_LEN + (size_t)s->count * (REG_LEN + SCSI_NEXUS_NAME) + CRC_LEN;
    unsigned holder = NO_HOLDER;
    for (unsigned i = 0; i < s->count; i++)
        if (s->type != GATE_NONE && s->reg[i].nexus == s->holder)
            holder = i;
    *data_r = xcalloc(1, room);
    struct wr w = wr_make(*data_r, room);
    wr_copy(&w, MAGIC, sizeof MAGIC);
    wr_u8(&w, s->type);
    wr_u8(&w, 0);
    wr_le16(&w, holder);
    wr_le32(&w, s->count);
    for (unsigned i = 0; i < s->count; i++) {
        char name[SCSI_NEXUS_NAME];
        gate_nexus_name(s->reg[i].nexus, name, sizeof name);
        wr_le64(&w, s->reg[i].key);
        wr_u8(&w, s->reg[i].all_tg_pt);
        wr_u8(&w, 0);
        wr_le16(&w, strlen(name));
        wr_copy(&w, name, strlen(name));
    }
    wr_le32(&w, crc32c(0, *data_r, w.pos));
    return w.pos;
}

static bool valid_type(unsigned type)
{
    return type == GATE_NONE || type == GATE_WRITE_EXCLUSIVE || type == GATE_EXCLUSIVE_ACCESS ||
           (type >= GATE_WRITE_EXCLUSIVE_REGISTRANTS && type <= GATE_EXCLUSIVE_ACCESS_ALL);
}

static int by_nexus(const void *a, const void *b)
{
    const struct gate_registrant *x = a, *y = b;
    return x->nexus < y->nexus ? -1 : x->nexus > y->nexus;
}

static bool decode_list(struct rd *r, struct gate_state *s, unsigned holder)
{
    for (unsigned i = 0; i < s->count; i++) {
        char name[SCSI_NEXUS_NAME];
        s->reg[i].key = rd_le64(r);
        s->reg[i].all_tg_pt = rd_u8(r) & 1;
        rd_skip(r, 1);
        unsigned length = rd_le16(r);
        if (length >= sizeof name)
            return false;
        rd_copy(r, name, length);
        name[length] = 0;
        if (!rd_ok(r) || !length || strlen(name) != length)
            return false;
        text_lower(name);
        s->reg[i].nexus = gate_nexus(name);
        if (i == holder)
            s->holder = s->reg[i].nexus;
    }
    qsort(s->reg, s->count, sizeof *s->reg, by_nexus);
    return !rd_left(r);
}

int scsi_pr_decode(const void *data, size_t len, struct gate_state *s)
{
    *s = (struct gate_state){.durable = true};
    if (len < HEAD_LEN + CRC_LEN)
        return -EILSEQ;
    struct rd r = rd_make(data, len), tail = rd_make(data, len);
    rd_seek(&tail, len - CRC_LEN);
    const uint8_t *magic = rd_bytes(&r, sizeof MAGIC);
    if (memcmp(magic, MAGIC, sizeof MAGIC) || crc32c(0, data, len - CRC_LEN) != rd_le32(&tail))
        return -EILSEQ;
    r.len -= CRC_LEN;
    unsigned type = rd_u8(&r);
    rd_skip(&r, 1);
    unsigned holder = rd_le16(&r);
    uint32_t count = rd_le32(&r);
    bool held = type != GATE_NONE;
    if (!valid_type(type) || count > REGISTRANTS_MAX || count > rd_left(&r) / REG_LEN ||
        (held ? holder >= count : holder != NO_HOLDER))
        return -EILSEQ;
    s->type = (enum gate_type)type;
    s->count = count;
    s->reg = xcalloc(count + 1, sizeof *s->reg);
    if (decode_list(&r, s, holder))
        return 0;
    gate_state_put(s);
    return -EILSEQ;
}

/* ---- in the store */

int scsi_pr_save(const struct uuid *id, const struct gate_state *state)
{
    uint8_t *data;
    if (!store.save)
        return -EOPNOTSUPP;
    size_t len = scsi_pr_encode(state, &data);
    int rc = store.save(KIND, id, data, len);
    free(data);
    return rc;
}

int scsi_pr_forget(const struct uuid *id)
{
    return store.forget ? store.forget(KIND, id) : 0;
}

/* What a device must have before anybody opens it: its reservations, and nobody gets through while
 * it waits for SANITIZE to begin anew, or when the reservations cannot be read. */
static bool saved_gate(const struct uuid *device, struct gate_state *state_r)
{
    uint8_t *data = NULL;
    size_t len = 0;
    int rc = store.peek(KIND, device, &data, &len);
    *state_r = (struct gate_state){0};
    if (!rc)
        rc = scsi_pr_decode(data, len, state_r);
    free(data);
    state_r->closed = (rc && rc != -ENOENT) || scsi_sanitize_saved(device);
    return !rc || state_r->closed;
}

/* Unless there is a state already. */
static int put_back(struct gate_state *s, void *arg)
{
    const struct gate_state *saved = arg;
    if (s->count || s->type != GATE_NONE)
        return -EALREADY;
    struct gate_registrant *reg = xcalloc(saved->count + 1, sizeof *reg);
    memcpy(reg, saved->reg, saved->count * sizeof *reg);
    free(s->reg);
    bool closed = s->closed;
    *s = *saved;
    s->reg = reg;
    s->closed = closed;
    return 0;
}

int scsi_pr_restore(struct bdev *bdev, const struct uuid *id, struct err *e)
{
    uint8_t *data = NULL;
    size_t len = 0;
    struct gate_state saved = {0};
    int rc = store.load ? store.load(KIND, id, &data, &len) : -ENOENT;
    if (rc == -ENOENT)
        return 0;
    if (!rc)
        rc = scsi_pr_decode(data, len, &saved);
    free(data);
    if (rc) /* to serve the disk without them might let two hosts write it */
        return err_set(e, ERR_IO, "device",
                       "the reservations saved for the device %s cannot be read: %s",
                       bdev_name(bdev), strerror(-rc));
    if (!gate_change(bdev, put_back, NULL, &saved))
        log_info("scsi", "the reservations of %s are back", bdev_name(bdev));
    gate_state_put(&saved);
    return 0;
}
