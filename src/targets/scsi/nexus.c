/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "block/gate.h"
#include "targets/scsi/scsi_private.h"

/* ---- addresses (SAM-5): peripheral device (00b) and flat space (01b) addressing, one level */

static bool lun_number(const uint8_t lun[8], unsigned *number_r)
{
    struct rd r = rd_make(lun, 8);
    unsigned first = rd_be16(&r);
    uint64_t rest = rd_be(&r, 6);
    unsigned method = first >> 14;
    if (rest || method > 1 || (method == 0 && first > 0xff))
        return false;
    *number_r = first & 0x3fff;
    return true;
}

bool scsi_lun_is_well_known(const uint8_t lun[8])
{
    struct rd r = rd_make(lun, 8);
    return rd_be64(&r) == 0xc101000000000000;
}

void scsi_lun_address(unsigned number, struct wr *w)
{
    wr_be16(w, number <= 0xff ? number : 0x4000 | number);
    wr_zero(w, 6);
}

unsigned scsi_lun_limit(const struct scsi_nexus *n)
{
    return n->map ? n->map->size : n->local->table->size;
}

struct scsi_lun *scsi_lun_at(const struct scsi_nexus *n, unsigned number)
{
    const struct scsi_table *t = n->local->table;
    if (n->map) {
        if (number >= n->map->size)
            return NULL;
        number = n->map->lun[number];
    }
    return number < t->size ? t->lun[number] : NULL;
}

struct scsi_lun *scsi_lun_find(const struct scsi_nexus *n, const uint8_t lun[8])
{
    unsigned number;
    return lun_number(lun, &number) ? scsi_lun_at(n, number) : NULL;
}

/* ---- target ports */

static uint32_t ports = 1u << 1;

void scsi_set_ports(uint32_t mask)
{
    assert(mask && !(mask & 1) && mask >> SCSI_GROUP_MAX <= 1);
    __atomic_store_n(&ports, mask, __ATOMIC_RELAXED);
}

bool scsi_port_exists(unsigned port)
{
    return port <= SCSI_GROUP_MAX && __atomic_load_n(&ports, __ATOMIC_RELAXED) >> port & 1;
}

/* A nexus that comes by a port makes it known. */
static void note_port(unsigned port)
{
    if (port && port <= SCSI_GROUP_MAX && !scsi_port_exists(port))
        __atomic_fetch_or(&ports, 1u << port, __ATOMIC_RELAXED);
}

/* ---- nexuses */

/* Each reactor touches only its own. */
struct list *scsi_nexuses_here(void)
{
    static struct {
        struct list list;
    } __attribute__((aligned(64))) all[REACTOR_MAX];
    struct list *l = &all[reactor_self_index()].list;
    if (!l->next)
        list_init(l);
    return l;
}

struct scsi_nexus *scsi_nexus_new(struct scsi_target *t, const char *initiator, uint16_t tpgt)
{
    struct scsi_nexus *n = xcalloc(1, sizeof *n);
    n->target = t;
    n->local = &t->local[reactor_self_index()];
    n->tpgt = tpgt;
    note_port(tpgt);
    snprintf(n->initiator, sizeof n->initiator, "%s", initiator);
    char name[SCSI_NEXUS_NAME];
    scsi_nexus_name(t->name, tpgt, initiator, name);
    n->gate = gate_nexus(name);
    list_add_tail(&n->local->nexuses, &n->link);
    list_add_tail(scsi_nexuses_here(), &n->all);
    return n;
}

void scsi_nexus_free(struct scsi_nexus **n)
{
    if (!*n)
        return;
    scsi_nexus_lost(*n);
    for (unsigned i = 0; i < (*n)->itls; i++) {
        struct scsi_itl *itl = (*n)->itl[i];
        assert(!itl || list_empty(&itl->cmds));
        free(itl);
    }
    list_del(&(*n)->link);
    list_del(&(*n)->all);
    gate_nexus_put((*n)->gate);
    free((*n)->itl);
    free((*n)->map);
    free(*n);
    *n = NULL;
}

/* ---- maps */

struct scsi_map *scsi_map_copy(const struct scsi_map *map)
{
    if (!map)
        return NULL;
    size_t len = sizeof *map + map->size * sizeof map->lun[0];
    struct scsi_map *copy = xcalloc(1, len);
    memcpy(copy, map, len);
    return copy;
}

void scsi_nexus_map(struct scsi_nexus *n, const struct scsi_map *map)
{
    free(n->map);
    n->map = scsi_map_copy(map);
}

struct mapping {
    struct scsi_target *target;
    const char *initiator;
    const struct scsi_map *map;
};

static bool is_initiator(const struct scsi_nexus *n, const char *initiator)
{
    size_t len = strlen(initiator);
    return !strncasecmp(n->initiator, initiator, len) && n->initiator[len] == ',';
}

static void map_here(void *arg)
{
    const struct mapping *m = arg;
    struct scsi_nexus *n;
    list_for_each (n, &m->target->local[reactor_self_index()].nexuses, link) {
        if (!is_initiator(n, m->initiator))
            continue;
        scsi_nexus_map(n, m->map);
        n->remapped = true;
        for (unsigned i = 0; i < n->itls; i++)
            if (n->itl[i])
                n->itl[i]->ua |= UA_LUNS_CHANGED;
    }
}

void scsi_target_map(struct scsi_target *t, const char *initiator, const struct scsi_map *map)
{
    struct mapping m = {t, initiator, map};
    tlock_lock(&t->lock); /* one at a time: the last one holds on every reactor */
    task_call_all(map_here, &m);
    tlock_unlock(&t->lock);
}

/* ---- a nexus's LUNs */

static struct scsi_itl *itl_make(struct scsi_nexus *n, struct scsi_lun *lun)
{
    if (lun->number >= n->itls) {
        unsigned want = lun->number + 8;
        n->itl = xrealloc(n->itl, want * sizeof *n->itl);
        memset(n->itl + n->itls, 0, (want - n->itls) * sizeof *n->itl);
        n->itls = want;
    }
    struct scsi_itl *itl = xcalloc(1, sizeof *itl);
    itl->nexus = n;
    itl->unit = lun;
    itl->ua = UA_POWER_ON | (n->remapped ? UA_LUNS_CHANGED : 0);
    if (lun->view[reactor_self_index()].now.over_threshold)
        itl->ua |= UA_THIN_THRESHOLD;
    list_init(&itl->cmds);
    n->itl[lun->number] = itl;
    return itl;
}

struct scsi_itl *scsi_itl_get(struct scsi_nexus *n, struct scsi_lun *lun)
{
    if (lun->number < n->itls && n->itl[lun->number])
        return n->itl[lun->number];
    return itl_make(n, lun);
}

void scsi_itl_forget(struct scsi_local *l, struct scsi_lun *lun)
{
    struct scsi_nexus *n;
    list_for_each (n, &l->nexuses, link) {
        if (lun->number >= n->itls || !n->itl[lun->number])
            continue;
        assert(n->itl[lun->number]->unit == lun && list_empty(&n->itl[lun->number]->cmds));
        free(n->itl[lun->number]);
        n->itl[lun->number] = NULL;
        n->remapped = true; /* what gets the number next is another disk */
    }
}

/* ---- unit attentions */

static const enum sense_code ua_codes[] = {
    SENSE_POWER_ON,
    SENSE_LUN_RESET,
    SENSE_READY_CHANGE,
    SENSE_CAPACITY_CHANGED,
    SENSE_MODE_CHANGED,
    SENSE_RESERVATIONS_PREEMPTED,
    SENSE_RESERVATIONS_RELEASED,
    SENSE_REGISTRATIONS_PREEMPTED,
    SENSE_ALUA_CHANGED,
    SENSE_LOG_CHANGED,
    SENSE_LUNS_CHANGED,
    SENSE_THIN_THRESHOLD,
};

enum sense_code scsi_ua_take(struct scsi_itl *itl)
{
    if (!itl->ua)
        return SENSE_NONE;
    unsigned bit = (unsigned)__builtin_ctz(itl->ua);
    assert(bit < sizeof ua_codes / sizeof ua_codes[0]);
    itl->ua &= itl->ua - 1;
    return ua_codes[bit];
}

void scsi_ua_raise_local(struct scsi_local *l, struct scsi_lun *lun, uint32_t ua,
                         const struct scsi_nexus *except)
{
    struct scsi_nexus *n;
    list_for_each (n, &l->nexuses, link) {
        if (n == except)
            continue;
        for (unsigned i = 0; i < n->itls; i++)
            if (n->itl[i] && (!lun || n->itl[i]->unit == lun))
                n->itl[i]->ua |= ua;
    }
}
