/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What an array may hold, by what its clients did. A sector's last byte may be written alone, and
 * is judged alone; its body are the others. */
#include <unistd.h>

#include "powercut.h"
#include "raid/parity.h"

enum { BODY = PC_SECTOR - 1 };

struct expect {      /* by sector */
    uint64_t *floor; /* what had completed before this is gone; 0 = nothing is sure */
    uint64_t *last;  /* the same of the last byte */
    bool *zero;      /* zeroes are one of its versions */
    bool *soft;      /* a write of it was under way, or not yet durable */
    bool *open;      /* a write of it was under way */
};

static bool zeroes(const struct pc_op *o)
{
    return o->kind == PC_ZERO || o->kind == PC_DISCARD;
}

static uint64_t client_barrier(const struct pc_life *l, uint64_t at)
{
    uint64_t best = 0;
    for (unsigned i = 0; i < l->ops; i++) {
        const struct pc_op *o = &l->op[i];
        if (o->kind == PC_FLUSH && o->completed && o->completed <= at && o->submitted > best)
            best = o->submitted;
    }
    return best;
}

static bool op_durable(const struct pc_op *o, uint64_t at, uint64_t barrier_at)
{
    if (!o->completed || o->completed > at)
        return false;
    return at == UINT64_MAX || o->fua || o->completed < barrier_at;
}

/* May it be what is read, as far as the writes that are durable go? */
static bool op_allowed(const struct pc_op *o, uint64_t at, uint64_t floor)
{
    if (!o->submitted || o->submitted > at)
        return false;
    return !o->completed || o->completed > at || o->completed > floor;
}

static void expect_free(struct expect *x)
{
    free(x->floor);
    free(x->last);
    free(x->zero);
    free(x->soft);
    free(x->open);
}

static void expect_op(const struct pc_op *o, uint64_t at, bool durable, struct expect *x)
{
    bool whole = o->kind != PC_BYTE;
    for (uint64_t s = o->lba; s < o->lba + o->sectors; s++) {
        x->soft[s] = x->soft[s] || !durable;
        x->open[s] = x->open[s] || (whole && (!o->completed || o->completed > at));
        if (durable && whole && o->submitted > x->floor[s])
            x->floor[s] = o->submitted;
        if (durable && o->submitted > x->last[s])
            x->last[s] = o->submitted;
    }
}

static void expect_at(const struct pc_life *l, uint64_t at, struct expect *x)
{
    uint64_t n = l->size / PC_SECTOR, barrier_at = client_barrier(l, at);
    x->floor = calloc(n, sizeof *x->floor);
    x->last = calloc(n, sizeof *x->last);
    x->zero = calloc(n, sizeof *x->zero);
    x->soft = calloc(n, sizeof *x->soft);
    x->open = calloc(n, sizeof *x->open);
    check(x->floor && x->last && x->zero && x->soft && x->open);
    for (unsigned i = 0; i < l->ops; i++) {
        const struct pc_op *o = &l->op[i];
        if (o->kind != PC_FLUSH && o->submitted && o->submitted <= at)
            expect_op(o, at, op_durable(o, at, barrier_at), x);
    }
    for (unsigned i = 0; i < l->ops; i++) {
        const struct pc_op *o = &l->op[i];
        for (uint64_t s = o->lba; s < o->lba + o->sectors && zeroes(o); s++)
            x->zero[s] = x->zero[s] || op_allowed(o, at, x->floor[s]);
    }
}

static bool body_zero(const uint8_t *p)
{
    return !p[0] && !memcmp(p, p + 1, BODY - 1);
}

static bool body_is(const struct pc_life *l, const uint8_t *p, unsigned op, uint64_t s)
{
    uint8_t want[PC_SECTOR];
    pc_stamp(l, op, s, want);
    return !memcmp(p, want, BODY);
}

/* Which request the sector says that it is of; -1: of none of this life. */
static int op_of(const struct pc_life *l, const uint8_t *p, uint64_t s, unsigned ops)
{
    uint64_t first;
    memcpy(&first, p, sizeof first);
    unsigned n = (unsigned)(first >> 32 & 0xffff) - 1;
    return first >> 48 == l->number && n < ops && body_is(l, p, n, s) ? (int)n : -1;
}

static void junk(uint64_t first, void *out)
{
    uint64_t w[PC_SECTOR / 8];
    for (unsigned i = 0; i < PC_SECTOR / 8; i++)
        w[i] = i ? first * (2 * i + 1) ^ 0x2545f4914f6cdd1dull : first;
    memcpy(out, w, sizeof w);
}

void pc_junk(struct pc_life *l, uint64_t from)
{
    for (unsigned m = 0; m < l->members; m++)
        for (uint64_t at = from; at < PC_SIZE; at += PC_SECTOR) {
            junk((uint64_t)(m + 1) << 32 | at, l->base[m].data + at);
            l->base[m].blocks |= 1ull << at / PC_BLOCK;
        }
}

static bool is_junk(const uint8_t *p)
{
    uint8_t want[PC_SECTOR];
    uint64_t first;
    memcpy(&first, p, sizeof first);
    junk(first, want);
    return first >> 32 && first >> 32 <= PC_MEMBERS && !memcmp(p, want, BODY);
}

static bool is_fresh(const struct pc_life *l, uint64_t s)
{
    return l->fresh && s >= l->fresh / PC_SECTOR;
}

static bool base_has(const struct pc_life *l, const uint8_t *p, uint64_t s)
{
    if (is_fresh(l, s))
        return is_junk(p);
    return !memcmp(p, l->baseline + s * PC_SECTOR, BODY);
}

/* While others submit: sectors come last. */
static bool covers(const struct pc_op *o, uint64_t s)
{
    uint64_t n = __atomic_load_n(&o->sectors, __ATOMIC_SEQ_CST);
    return n && s >= o->lba && s < o->lba + n;
}

/* Is this last byte what the request leaves there? */
static bool leaves(const struct pc_life *l, unsigned op, uint8_t byte)
{
    return byte == (zeroes(&l->op[op]) ? 0 : pc_byte(op));
}

static bool is_bad(const struct pc_shape *shape, unsigned slot, uint64_t at)
{
    for (unsigned i = 0; i < shape->bads; i++)
        if (shape->bad[i].slot == slot && at >= shape->bad[i].from && at < shape->bad[i].to)
            return true;
    return false;
}

/* A sector on a member that is gone, or bad there, in rows that were being written: whole stripes
 * are not in the log, and without a log nothing is. With the member went what the others' caches
 * lost then; what was acknowledged before a member failed the others have. And it may have held the
 * log of rows of which another one has a bad block. */
static bool excused(const struct expect *x, const struct pc_shape *shape, uint64_t sector)
{
    struct parity_geometry g;
    struct parity_map map;
    if (shape->open_from && sector >= shape->open_from)
        return true;
    if (!(shape->lost | shape->missing | shape->bads) || shape->level < 4 || shape->level > 6)
        return false;
    uint64_t chunk = shape->chunk / PC_SECTOR, stripe = sector / (chunk * shape->data);
    uint64_t index = sector % (chunk * shape->data) / chunk, row = sector % chunk;
    unsigned under_way = 0;
    check(parity_geometry_init(&g, shape->level, shape->level == 4 ? 0 : LAYOUT_LEFT_SYMMETRIC,
                               shape->slots));
    parity_map_init(&map, &g, stripe);
    unsigned slot = map.slot_of[index];
    bool bad = is_bad(shape, slot, stripe * chunk + row), lost = bad || shape->lost >> slot & 1;
    uint64_t parities = 1ull << map.p | (map.parities == 2 ? 1ull << map.q : 0);
    bool no_log = shape->no_log || (bad && shape->lost & parities);
    if (!lost && !(shape->missing >> slot & 1))
        return false;
    for (unsigned i = 0; i < shape->data; i++) {
        uint64_t s = stripe * chunk * shape->data + i * chunk + row;
        under_way += lost || no_log ? x->soft[s] : x->open[s];
    }
    return no_log ? under_way > 0 : under_way == shape->data;
}

static bool check_last(const struct pc_life *l, const struct expect *x, const uint8_t *p,
                       uint64_t s, uint64_t at)
{
    uint8_t byte = p[BODY];
    int n = op_of(l, p, s, l->ops);
    if (n >= 0 && leaves(l, (unsigned)n, byte) && op_allowed(&l->op[n], at, x->last[s]))
        return true;
    if (!x->last[s] && (is_fresh(l, s) || byte == l->baseline[s * PC_SECTOR + BODY]))
        return true;
    for (unsigned i = 0; i < l->ops; i++)
        if (covers(&l->op[i], s) && leaves(l, i, byte) && op_allowed(&l->op[i], at, x->last[s]))
            return true;
    return pc_fail("the last byte of sector %llu is %02x; what began at %llu is durable",
                   (unsigned long long)s, byte, (unsigned long long)x->last[s]);
}

static bool check_body(const struct pc_life *l, const struct expect *x, const uint8_t *p,
                       uint64_t s, uint64_t at)
{
    uint64_t w[2];
    memcpy(w, p, sizeof w);
    if ((!x->floor[s] && base_has(l, p, s)) || (x->zero[s] && body_zero(p)))
        return true;
    int n = op_of(l, p, s, l->ops);
    if (n < 0)
        return pc_fail("sector %llu holds %s (%016llx %016llx...)%s", (unsigned long long)s,
                       body_zero(p)        ? "zeroes"
                       : base_has(l, p, s) ? "what it held at first"
                                           : "garbage",
                       (unsigned long long)w[0], (unsigned long long)w[1],
                       x->floor[s] ? "; something later is durable" : "");
    const struct pc_op *o = &l->op[n];
    if (!op_allowed(o, at, x->floor[s]))
        return pc_fail("sector %llu holds request %d, done at %llu; what began at %llu is durable",
                       (unsigned long long)s, n, (unsigned long long)o->completed,
                       (unsigned long long)x->floor[s]);
    return true;
}

static bool check_sector(const struct pc_life *l, const struct expect *x, const uint8_t *p,
                         uint64_t s, uint64_t at)
{
    return check_body(l, x, p, s, at) && check_last(l, x, p, s, at);
}

static uint64_t done_at(const struct pc_op *o)
{
    return __atomic_load_n(&o->completed, __ATOMIC_SEQ_CST);
}

static bool last_fits(const struct pc_life *l, uint8_t byte, uint64_t s, uint64_t floor,
                      unsigned ops)
{
    for (unsigned i = 0; i < ops; i++)
        if (covers(&l->op[i], s) && leaves(l, i, byte) && done_at(&l->op[i]) > floor)
            return true;
    return (!floor && byte == l->baseline[s * PC_SECTOR + BODY]) ||
           pc_fail("a read of sector %llu ends with %02x; what began at %llu was done",
                   (unsigned long long)s, byte, (unsigned long long)floor);
}

/* Against the requests as far as they had come by then; one that has failed may have been done.
 * What was written during the read may be half there, within a sector, too: memory is no disk. */
static bool read_fits(const struct pc_life *l, const uint8_t *p, uint64_t s, uint64_t from,
                      unsigned ops)
{
    uint64_t floor = 0, last = 0; /* of those that are there now: others begin all the time */
    int n = op_of(l, p, s, ops);
    bool zero = body_zero(p), fits = false;
    for (unsigned i = 0; i < ops; i++) {
        const struct pc_op *o = &l->op[i];
        if (!covers(o, s))
            continue;
        if (!done_at(o) || done_at(o) > from)
            return true;
        if (o->submitted > floor && o->kind != PC_BYTE)
            floor = o->submitted;
        if (o->submitted > last)
            last = o->submitted;
    }
    for (unsigned i = 0; i < ops && (zero || n >= 0) && !fits; i++) {
        const struct pc_op *o = &l->op[i];
        fits = covers(o, s) && (n >= 0 ? (int)i == n : zeroes(o)) && done_at(o) > floor;
    }
    if (fits || (!floor && base_has(l, p, s)))
        return last_fits(l, p[BODY], s, last, ops);
    return pc_fail("a read of sector %llu gives %s; what began at %llu was done",
                   (unsigned long long)s,
                   zero     ? "zeroes"
                   : n >= 0 ? "old data"
                            : "garbage",
                   (unsigned long long)floor);
}

int pc_read(struct pc_life *l, struct bdev_desc *d, uint64_t lba, uint64_t sectors)
{
    uint8_t *p = malloc(sectors * PC_SECTOR);
    uint64_t from = pc_tick(l);
    int rc = bdev_read(d, lba * PC_SECTOR, p, sectors * PC_SECTOR);
    unsigned ops = __atomic_load_n(&l->ops, __ATOMIC_SEQ_CST);
    for (uint64_t i = 0; i < sectors && !rc; i++)
        rc = read_fits(l, p + i * PC_SECTOR, lba + i, from, ops) ? 0 : 1;
    free(p);
    return rc;
}

bool pc_check_content(const struct pc_life *l, const uint8_t *content, uint64_t at,
                      const struct pc_shape *shape)
{
    struct expect x;
    bool good = true;
    uint64_t size = shape && shape->size ? shape->size : l->size;
    expect_at(l, at, &x);
    for (uint64_t s = 0; s < size / PC_SECTOR && good; s++)
        good =
            check_sector(l, &x, content + s * PC_SECTOR, s, at) || (shape && excused(&x, shape, s));
    expect_free(&x);
    return good;
}

/* ---- for other eyes */

static void dump_image(const struct pc_image *image, const char *path)
{
    FILE *f = fopen(path, "w");
    check(f && !ftruncate(fileno(f), PC_SIZE));
    for (unsigned b = 0; b < PC_BLOCKS; b++)
        check(!(image->blocks >> b & 1) ||
              (!fseek(f, (long)b * PC_BLOCK, SEEK_SET) &&
               fwrite(image->data + (size_t)b * PC_BLOCK, PC_BLOCK, 1, f) == 1));
    check(!fclose(f));
}

void pc_dump(const struct pc_life *l, uint64_t at, const struct pc_image image[PC_MEMBERS],
             const char *dir, uint64_t number)
{
    struct expect x;
    char path[512];
    for (unsigned i = 0; i < l->members; i++) {
        snprintf(path, sizeof path, "%s/%llu-%u", dir, (unsigned long long)number, i);
        if (image[i].data)
            dump_image(&image[i], path);
    }
    snprintf(path, sizeof path, "%s/%llu-must", dir, (unsigned long long)number);
    FILE *f = fopen(path, "w");
    check(f);
    expect_at(l, at, &x);
    for (uint64_t s = 0; s < l->size / PC_SECTOR; s++) {
        unsigned only = 0, n = 0;
        for (unsigned i = 0; i < l->ops && x.floor[s]; i++)
            if (covers(&l->op[i], s) && l->op[i].kind != PC_BYTE &&
                op_allowed(&l->op[i], at, x.floor[s])) {
                only = i;
                n++;
            }
        if (n == 1 && l->op[only].kind == PC_WRITE)
            fprintf(f, "%llu %llu\n", (unsigned long long)s,
                    (unsigned long long)pc_first_word(l, only, s));
    }
    check(!fclose(f));
    expect_free(&x);
}
