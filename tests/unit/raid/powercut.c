/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "powercut.h"

#include <stdarg.h>
#include <unistd.h>

char pc_why[512];

bool pc_fail(const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    vsnprintf(pc_why, sizeof pc_why, format, ap);
    va_end(ap);
    return false;
}

uint64_t pc_hash(uint64_t a, uint64_t b)
{
    uint64_t x = (a ^ (b + 0x9e3779b97f4a7c15u)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 29) * 0x94d049bb133111ebu;
    return x ^ x >> 32;
}

uint64_t pc_random(uint64_t *state, uint64_t below)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return below ? pc_hash(*state, below) % below : 0;
}

/* ---- a life */

void pc_life_begin(struct pc_life *l, const char *kind, unsigned members)
{
    static unsigned lives;
    memset(l, 0, sizeof *l);
    l->number = 1 + lives++ % 0xffff; /* of stamps it has 16 bits */
    snprintf(l->kind, sizeof l->kind, "%s", kind);
    l->members = members;
    l->op = calloc(PC_OPS, sizeof *l->op);
    check(l->op);
}

static void below_name(const struct pc_life *l, unsigned i, char out[16])
{
    snprintf(out, 16, "%s%u.m", l->kind, i);
}

static bool has_data(const struct pc_image *image, unsigned b)
{
    const uint8_t *p = image->data + (size_t)b * PC_BLOCK;
    return image->blocks >> b & 1 && (p[0] || memcmp(p, p + 1, PC_BLOCK - 1));
}

void pc_power_on(struct pc_life *l)
{
    char below[16], text[60];
    for (unsigned i = 0; i < l->members; i++) {
        if (!l->base[i].data)
            continue;
        below_name(l, i, below);
        snprintf(text, sizeof text, "size=%u,block_size=%u", (unsigned)PC_SIZE,
                 l->block ? l->block : PC_SECTOR);
        device(&mem_driver, below, text);
        if (l->base[i].blocks) {
            struct bdev_desc *d = open_device(below, CLAIM_EXCLUSIVE);
            for (unsigned b = 0; b < PC_BLOCKS; b++)
                if (has_data(&l->base[i], b))
                    check_int(bdev_write(d, (uint64_t)b * PC_BLOCK,
                                         l->base[i].data + (size_t)b * PC_BLOCK, PC_BLOCK, 0),
                              0);
            bdev_close(&d);
        }
        snprintf(text, sizeof text, "on=%s", below);
        fault_record_start_by(device(&fault_driver, name_of(l->kind, i), text), &l->clock);
    }
}

void pc_hold(struct pc_life *l)
{
    for (unsigned i = 0; i < l->members; i++) {
        struct pc_record *r = &l->record[i];
        if (!l->base[i].data || l->hold[i])
            continue;
        l->hold[i] = open_device(name_of(l->kind, i), CLAIM_READ);
        r->n = fault_record_count(bdev_find(name_of(l->kind, i)));
        r->entry = calloc(r->n + 1, sizeof *r->entry);
        check(r->entry);
        for (unsigned k = 0; k < r->n; k++)
            r->entry[k] = *fault_record_get(bdev_find(name_of(l->kind, i)), k);
    }
}

void pc_life_end(struct pc_life *l)
{
    char below[16];
    for (unsigned i = 0; i < l->members; i++) {
        if (!l->base[i].data)
            continue;
        free(l->record[i].entry);
        if (l->hold[i])
            bdev_close(&l->hold[i]);
        below_name(l, i, below);
        if (!bdev_find(below))
            continue; /* it came from a file */
        remove_device(name_of(l->kind, i));
        remove_device(below);
    }
    pc_free_images(l->base);
    free(l->op);
    free(l->baseline);
    memset(l, 0, sizeof *l);
}

/* ---- what clients write: each sector tells the request and its place; its last byte stands for
 * itself, so that it may be written alone */

uint8_t pc_byte(unsigned op)
{
    return (uint8_t)(1 + op % 251);
}

uint64_t pc_first_word(const struct pc_life *l, unsigned op, uint64_t lba)
{
    return (uint64_t)l->number << 48 | (uint64_t)(op + 1) << 32 | lba;
}

void pc_stamp(const struct pc_life *l, unsigned op, uint64_t lba, void *out)
{
    uint64_t w[PC_SECTOR / 8], first = pc_first_word(l, op, lba);
    w[0] = first;
    for (unsigned i = 1; i < PC_SECTOR / 8; i++)
        w[i] = first * (2 * i + 1) ^ 0x5851f42d4c957f2dull;
    memcpy(out, w, sizeof w);
    ((uint8_t *)out)[PC_SECTOR - 1] = pc_byte(op);
}

uint64_t pc_tick(struct pc_life *l)
{
    return __atomic_add_fetch(&l->clock, 1, __ATOMIC_SEQ_CST);
}

uint64_t pc_now(const struct pc_life *l)
{
    return __atomic_load_n(&l->clock, __ATOMIC_SEQ_CST);
}

enum pc_kind pc_kind_by(uint64_t dice, struct bdev_desc *d, uint64_t *lba, uint64_t *sectors)
{
    struct bdev_info info;
    bdev_get_info(d, &info);
    uint64_t grain = info.discard_gran / PC_SECTOR;
    if (dice == 0)
        return PC_ZERO;
    if (dice == 1 && grain && info.discard_zeroes) { /* the whole of it, or it may stay */
        *lba = *lba / grain * grain;
        *sectors = (*sectors + grain - 1) / grain * grain;
        if (*lba + *sectors <= bdev_size(d) / PC_SECTOR)
            return PC_DISCARD;
        *lba = 0;
        return PC_DISCARD;
    }
    if (dice == 2 || dice == 3) {
        *sectors = 1;
        return PC_BYTE;
    }
    return PC_WRITE;
}

static int send(struct pc_op *op, struct bdev_desc *d, unsigned n, const uint8_t *data)
{
    unsigned flags = op->fua ? BIO_FUA : 0;
    uint64_t at = op->lba * PC_SECTOR, len = op->sectors * PC_SECTOR;
    uint8_t byte = pc_byte(n);
    switch (op->kind) {
    case PC_FLUSH: return bdev_flush(d);
    case PC_ZERO: return do_op(d, BIO_WRITE_ZEROES, at, len, flags);
    case PC_DISCARD: return do_op(d, BIO_DISCARD, at, len, flags);
    case PC_BYTE: return bdev_write(d, at + PC_SECTOR - 1, &byte, 1, flags);
    default: return bdev_write(d, at, data, len, flags);
    }
}

int pc_request(struct pc_life *l, struct bdev_desc *d, enum pc_kind kind, uint64_t lba,
               uint64_t sectors, bool fua)
{
    unsigned n = __atomic_fetch_add(&l->ops, 1, __ATOMIC_SEQ_CST);
    check(n < PC_OPS);
    struct pc_op *op = &l->op[n];
    uint8_t *data = kind == PC_WRITE ? malloc(sectors * PC_SECTOR) : NULL;
    for (uint64_t i = 0; data && i < sectors; i++)
        pc_stamp(l, n, lba + i, data + i * PC_SECTOR);
    op->kind = kind;
    op->fua = fua && kind != PC_FLUSH && kind != PC_DISCARD;
    op->lba = lba;
    op->submitted = pc_tick(l);
    __atomic_store_n(&op->sectors, sectors, __ATOMIC_SEQ_CST); /* from here on it counts */
    int rc = send(op, d, n, data);
    if (!rc)
        __atomic_store_n(&op->completed, pc_tick(l), __ATOMIC_SEQ_CST);
    free(data);
    return rc;
}

/* ---- what the caches left */

static uint64_t barrier(const struct pc_record *r, uint64_t at)
{
    uint64_t best = 0;
    for (unsigned i = 0; i < r->n; i++) {
        const struct fault_entry *x = &r->entry[i];
        if (x->op == BIO_FLUSH && x->completed && x->completed <= at && !x->error && !x->dropped &&
            x->submitted > best)
            best = x->submitted;
    }
    return best;
}

enum fate { ABSENT, THERE, TORN, DURABLE };

static enum fate fate_of(const struct pc_cut *c, const struct fault_entry *x, unsigned member,
                         unsigned i, uint64_t barrier_at)
{
    if (x->submitted > c->at || x->dropped || x->op == BIO_FLUSH)
        return ABSENT;
    bool done = x->completed && x->completed <= c->at;
    if (done && (x->completed < barrier_at || x->flags & BIO_FUA))
        return DURABLE;
    if (c->whole[member] && c->whole[member][i])
        return THERE;
    uint64_t dice = pc_hash(c->seed, (uint64_t)member << 32 | i);
    if (dice % 100 < c->keep)
        return THERE;
    return dice / 100 % 100 < c->torn ? TORN : ABSENT;
}

/* Which sectors of a torn write are there: some first ones, some last ones, or any. */
static bool torn_has(uint64_t dice, uint64_t sector, uint64_t sectors)
{
    uint64_t at = dice / 4 % (sectors + 1);
    switch (dice % 4) {
    case 0: return sector >= at;
    case 1: return pc_hash(dice, sector) & 1;
    default: return sector < at;
    }
}

static void put(struct pc_image *image, const struct fault_entry *x, uint64_t from, uint64_t len)
{
    uint64_t first = (x->offset + from) / PC_BLOCK, last = (x->offset + from + len - 1) / PC_BLOCK;
    for (uint64_t b = first; b <= last; b++)
        if (!(image->blocks >> b & 1)) {
            memset(image->data + b * PC_BLOCK, 0, PC_BLOCK);
            image->blocks |= 1ull << b;
        }
    if (x->op == BIO_WRITE)
        memcpy(image->data + x->offset + from, x->data + from, len);
    else
        memset(image->data + x->offset + from, 0, len);
}

static void apply(struct pc_image *image, const struct pc_cut *c, const struct fault_entry *x,
                  enum fate fate, unsigned member, unsigned i)
{
    uint64_t bytes = x->torn / PC_SECTOR * PC_SECTOR;
    if (fate == ABSENT || !bytes)
        return;
    check(x->offset + x->length <= PC_SIZE);
    if (fate != TORN) {
        put(image, x, 0, bytes);
        return;
    }
    uint64_t dice = pc_hash(c->seed + 1, (uint64_t)member << 32 | i);
    for (uint64_t s = 0; s < bytes / PC_SECTOR; s++)
        if (torn_has(dice, s, bytes / PC_SECTOR))
            put(image, x, s * PC_SECTOR, PC_SECTOR);
}

void pc_free_images(struct pc_image image[PC_MEMBERS])
{
    for (unsigned i = 0; i < PC_MEMBERS; i++) {
        free(image[i].data);
        image[i] = (struct pc_image){0};
    }
}

/* In order of submission: a cache never brings old data back over newer data of the same place. */
void pc_build(const struct pc_life *l, const struct pc_cut *c, struct pc_image out[PC_MEMBERS])
{
    pc_free_images(out);
    for (unsigned m = 0; m < l->members; m++) {
        const struct pc_image *base = &l->base[m];
        if (!base->data)
            continue;
        out[m].data = malloc(PC_SIZE);
        check(out[m].data);
        out[m].blocks = base->blocks;
        for (unsigned b = 0; b < PC_BLOCKS; b++)
            if (base->blocks >> b & 1)
                memcpy(out[m].data + (size_t)b * PC_BLOCK, base->data + (size_t)b * PC_BLOCK,
                       PC_BLOCK);
        const struct pc_record *r = &l->record[m];
        uint64_t barrier_at = barrier(r, c->at);
        for (unsigned i = 0; i < r->n; i++)
            apply(&out[m], c, &r->entry[i], fate_of(c, &r->entry[i], m, i, barrier_at), m, i);
    }
}

void pc_print_cut(const struct pc_life *l, const struct pc_cut *c)
{
    static const char *const names[] = {"absent", "there", "torn", "durable"};
    static const char *const kinds[] = {"write", "zero", "flush", "discard", "byte"};
    for (unsigned m = 0; m < l->members; m++) {
        const struct pc_record *r = &l->record[m];
        uint64_t barrier_at = barrier(r, c->at);
        for (unsigned i = 0; i < r->n; i++) {
            const struct fault_entry *x = &r->entry[i];
            enum fate fate = fate_of(c, x, m, i, barrier_at);
            if (x->op != BIO_FLUSH && x->submitted <= c->at && !x->dropped &&
                (fate == ABSENT || fate == TORN))
                fprintf(stderr, "  member %u, write %u at %llu to %llu: %llu+%llu%s is %s\n", m, i,
                        (unsigned long long)x->submitted, (unsigned long long)x->completed,
                        (unsigned long long)x->offset, (unsigned long long)x->length,
                        x->flags & BIO_FUA ? " FUA" : "", names[fate]);
        }
    }
    for (unsigned i = 0; i < l->ops; i++) {
        const struct pc_op *o = &l->op[i];
        if (o->submitted && o->submitted <= c->at && (!o->completed || o->completed + 60 > c->at))
            fprintf(stderr, "  client %u at %llu to %llu: %s %llu+%llu%s\n", i,
                    (unsigned long long)o->submitted, (unsigned long long)o->completed,
                    kinds[o->kind], (unsigned long long)o->lba, (unsigned long long)o->sectors,
                    o->fua ? " FUA" : "");
    }
}
