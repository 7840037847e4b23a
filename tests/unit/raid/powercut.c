/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "powercut.h"

#include <stdarg.h>
#include <unistd.h>

#include "raid/parity.h"
#include "raid/raid10.h"

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
    l->number = ++lives;
    snprintf(l->kind, sizeof l->kind, "%s", kind);
    l->members = members;
    l->op = calloc(PC_OPS, sizeof *l->op);
    check(l->op);
}

static void below_name(const struct pc_life *l, unsigned i, char out[16])
{
    snprintf(out, 16, "%s%u.m", l->kind, i);
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
                if (l->base[i].blocks >> b & 1)
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

/* ---- what clients write: each sector tells the request and its place */

static uint64_t first_word(const struct pc_life *l, unsigned op, uint64_t lba)
{
    return (uint64_t)l->number << 48 | (uint64_t)(op + 1) << 32 | lba;
}

static void fill_sector(uint64_t *w, uint64_t first)
{
    w[0] = first;
    for (unsigned i = 1; i < PC_SECTOR / 8; i++)
        w[i] = first * (2 * i + 1) ^ 0x5851f42d4c957f2dull;
}

static bool sector_is(const uint64_t *w, uint64_t first)
{
    if (w[0] != first)
        return false;
    for (unsigned i = 1; i < PC_SECTOR / 8; i++)
        if (w[i] != (first * (2 * i + 1) ^ 0x5851f42d4c957f2dull))
            return false;
    return true;
}

static uint64_t tick(struct pc_life *l)
{
    return __atomic_add_fetch(&l->clock, 1, __ATOMIC_SEQ_CST);
}

int pc_request(struct pc_life *l, struct bdev_desc *d, enum pc_kind kind, uint64_t lba,
               uint64_t sectors, bool fua)
{
    unsigned n = __atomic_fetch_add(&l->ops, 1, __ATOMIC_SEQ_CST);
    check(n < PC_OPS);
    struct pc_op *op = &l->op[n];
    uint64_t *data = kind == PC_WRITE ? malloc(sectors * PC_SECTOR) : NULL;
    for (uint64_t i = 0; data && i < sectors; i++)
        fill_sector(data + i * PC_SECTOR / 8, first_word(l, n, lba + i));
    op->kind = kind;
    op->fua = fua;
    op->lba = lba;
    op->submitted = tick(l);
    __atomic_store_n(&op->sectors, sectors, __ATOMIC_SEQ_CST); /* from here on it counts */
    int rc;
    if (kind == PC_FLUSH)
        rc = bdev_flush(d);
    else if (kind != PC_WRITE)
        rc = do_op(d, kind == PC_ZERO ? BIO_WRITE_ZEROES : BIO_DISCARD, lba * PC_SECTOR,
                   sectors * PC_SECTOR, fua ? BIO_FUA : 0);
    else
        rc = bdev_write(d, lba * PC_SECTOR, data, sectors * PC_SECTOR, fua ? BIO_FUA : 0);
    if (!rc)
        __atomic_store_n(&op->completed, tick(l), __ATOMIC_SEQ_CST);
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
    if (x->op == BIO_WRITE)
        memcpy(image->data + x->offset + from, x->data + from, len);
    else
        memset(image->data + x->offset + from, 0, len);
    for (uint64_t b = (x->offset + from) / PC_BLOCK; b <= (x->offset + from + len - 1) / PC_BLOCK;
         b++)
        image->blocks |= 1ull << b;
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
        out[m].data = calloc(1, PC_SIZE);
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
                    o->kind == PC_WRITE   ? "write"
                    : o->kind == PC_FLUSH ? "flush"
                                          : "zero",
                    (unsigned long long)o->lba, (unsigned long long)o->sectors,
                    o->fua ? " FUA" : "");
    }
}

/* ---- what may be read */

struct expect {
    uint64_t *floor; /* by sector: what had completed before this is gone; 0 = nothing is sure */
    bool *zero;      /* by sector: zeroes are one of its versions */
    bool *soft;      /* by sector: a write of it was under way, or not yet durable */
    bool *open;      /* by sector: a write of it was under way */
};

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

static void expect_at(const struct pc_life *l, uint64_t at, struct expect *x)
{
    uint64_t n = l->size / PC_SECTOR, barrier_at = client_barrier(l, at);
    x->floor = calloc(n, sizeof *x->floor);
    x->zero = calloc(n, sizeof *x->zero);
    x->soft = calloc(n, sizeof *x->soft);
    x->open = calloc(n, sizeof *x->open);
    check(x->floor && x->zero && x->soft && x->open);
    for (unsigned i = 0; i < l->ops; i++) {
        const struct pc_op *o = &l->op[i];
        if (o->kind == PC_FLUSH || !o->submitted || o->submitted > at)
            continue;
        bool durable = op_durable(o, at, barrier_at);
        for (uint64_t s = o->lba; s < o->lba + o->sectors; s++) {
            x->soft[s] = x->soft[s] || !durable;
            x->open[s] = x->open[s] || !o->completed || o->completed > at;
            if (durable && o->submitted > x->floor[s])
                x->floor[s] = o->submitted;
        }
    }
    for (unsigned i = 0; i < l->ops; i++) {
        const struct pc_op *o = &l->op[i];
        bool zeroes = o->kind == PC_ZERO || o->kind == PC_DISCARD;
        for (uint64_t s = o->lba; s < o->lba + o->sectors && zeroes; s++)
            x->zero[s] = x->zero[s] || op_allowed(o, at, x->floor[s]);
    }
}

static bool sector_zero(const uint8_t *p)
{
    return !p[0] && !memcmp(p, p + 1, PC_SECTOR - 1);
}

/* A sector on a member that is gone, in rows that were being written: whole stripes are not in the
 * log, and without a log nothing is. With the member went what the others' caches lost then; what
 * was acknowledged before a member failed the others have. */
static bool excused(const struct expect *x, const struct pc_shape *shape, uint64_t sector)
{
    struct parity_geometry g;
    struct parity_map map;
    if (!(shape->lost | shape->missing) || shape->level < 4 || shape->level > 6)
        return false;
    uint64_t chunk = shape->chunk / PC_SECTOR, stripe = sector / (chunk * shape->data);
    uint64_t index = sector % (chunk * shape->data) / chunk, row = sector % chunk;
    unsigned under_way = 0;
    check(parity_geometry_init(&g, shape->level, shape->level == 4 ? 0 : LAYOUT_LEFT_SYMMETRIC,
                               shape->slots));
    parity_map_init(&map, &g, stripe);
    bool lost = shape->lost >> map.slot_of[index] & 1;
    if (!lost && !(shape->missing >> map.slot_of[index] & 1))
        return false;
    for (unsigned i = 0; i < shape->data; i++) {
        uint64_t s = stripe * chunk * shape->data + i * chunk + row;
        under_way += lost || shape->no_log ? x->soft[s] : x->open[s];
    }
    return shape->no_log ? under_way > 0 : under_way == shape->data;
}

static bool check_sector(const struct pc_life *l, const struct expect *x, const uint8_t *p,
                         uint64_t s, uint64_t at)
{
    uint64_t w[PC_SECTOR / 8];
    memcpy(w, p, sizeof w);
    if (!x->floor[s] && !memcmp(p, l->baseline + s * PC_SECTOR, PC_SECTOR))
        return true;
    if (x->zero[s] && sector_zero(p))
        return true;
    unsigned n = (unsigned)(w[0] >> 32 & 0xffff) - 1;
    if (w[0] >> 48 != l->number || n >= l->ops || !sector_is(w, first_word(l, n, s)))
        return pc_fail("sector %llu holds %s (%016llx %016llx...)%s", (unsigned long long)s,
                       sector_zero(p) ? "zeroes"
                       : !memcmp(p, l->baseline + s * PC_SECTOR, PC_SECTOR)
                           ? "what it held at first"
                           : "garbage",
                       (unsigned long long)w[0], (unsigned long long)w[1],
                       x->floor[s] ? "; something later is durable" : "");
    const struct pc_op *o = &l->op[n];
    if (!op_allowed(o, at, x->floor[s]))
        return pc_fail("sector %llu holds request %u, done at %llu; what began at %llu is durable",
                       (unsigned long long)s, n, (unsigned long long)o->completed,
                       (unsigned long long)x->floor[s]);
    return true;
}

/* While others submit: sectors come last. */
static bool covers(const struct pc_op *o, uint64_t s)
{
    uint64_t n = __atomic_load_n(&o->sectors, __ATOMIC_SEQ_CST);
    return n && s >= o->lba && s < o->lba + n;
}

static uint64_t done_at(const struct pc_op *o)
{
    return __atomic_load_n(&o->completed, __ATOMIC_SEQ_CST);
}

/* Against the requests as far as they had come by then; one that has failed may have been done.
 * What was written during the read may be half there, within a sector, too: memory is no disk. */
static bool read_fits(const struct pc_life *l, const uint8_t *p, uint64_t s, uint64_t from,
                      unsigned ops)
{
    uint64_t w[PC_SECTOR / 8], floor = 0;
    memcpy(w, p, sizeof w);
    unsigned n = (unsigned)(w[0] >> 32 & 0xffff) - 1;
    bool zero = sector_zero(p), base = !memcmp(p, l->baseline + s * PC_SECTOR, PC_SECTOR);
    bool stamped = w[0] >> 48 == l->number && n < ops && sector_is(w, first_word(l, n, s));
    for (unsigned i = 0; i < ops; i++) {
        const struct pc_op *o = &l->op[i];
        if (!covers(o, s))
            continue;
        if (!done_at(o) || done_at(o) > from)
            return true;
        if (o->submitted > floor)
            floor = o->submitted;
    }
    for (unsigned i = 0; i < ops && (zero || stamped); i++) {
        const struct pc_op *o = &l->op[i];
        if (covers(o, s) && (stamped ? i == n : o->kind != PC_WRITE) && done_at(o) > floor)
            return true;
    }
    return (base && !floor) ||
           pc_fail("a read of sector %llu gives %s (%016llx); what began at %llu was done",
                   (unsigned long long)s,
                   zero      ? "zeroes"
                   : stamped ? "old data"
                             : "garbage",
                   (unsigned long long)w[0], (unsigned long long)floor);
}

int pc_read(struct pc_life *l, struct bdev_desc *d, uint64_t lba, uint64_t sectors)
{
    uint8_t *p = malloc(sectors * PC_SECTOR);
    uint64_t from = tick(l);
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
    expect_at(l, at, &x);
    for (uint64_t s = 0; s < l->size / PC_SECTOR && good; s++)
        good =
            check_sector(l, &x, content + s * PC_SECTOR, s, at) || (shape && excused(&x, shape, s));
    free(x.floor);
    free(x.zero);
    free(x.soft);
    free(x.open);
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
            if (covers(&l->op[i], s) && op_allowed(&l->op[i], at, x.floor[s])) {
                only = i;
                n++;
            }
        if (n == 1 && l->op[only].kind == PC_WRITE)
            fprintf(f, "%llu %llu\n", (unsigned long long)s,
                    (unsigned long long)first_word(l, only, s));
    }
    check(!fclose(f));
    free(x.floor);
    free(x.zero);
    free(x.soft);
    free(x.open);
}

/* ---- do members fit? */

struct members {
    unsigned devices;
    struct md_super sb;         /* the freshest */
    struct bdev_desc *desc[64]; /* by slot; NULL: nobody in sync */
    uint64_t offset[64];
};

static bool read_super(const char *kind, unsigned i, struct md_super *sb)
{
    uint8_t bytes[MD_SUPER_SIZE];
    struct err e;
    struct bdev_desc *d = open_device(name_of(kind, i), CLAIM_READ);
    check_int(bdev_read(d, MD_SUPER_OFFSET, bytes, sizeof bytes), 0);
    bdev_close(&d);
    return !md_super_read(sb, bytes, &e);
}

static void find_members(const char *kind, unsigned devices, uint64_t absent, struct members *all)
{
    static struct md_super sb[PC_MEMBERS];
    memset(all, 0, sizeof *all);
    for (unsigned i = 0; i < devices; i++) {
        memset(&sb[i], 0, sizeof sb[i]);
        if (!(absent >> i & 1) && read_super(kind, i, &sb[i]) && md_super_role(&sb[i]) < 64 &&
            sb[i].events > all->sb.events)
            all->sb = sb[i];
    }
    for (unsigned i = 0; i < devices; i++) {
        unsigned role = sb[i].max_dev ? md_super_role(&sb[i]) : MD_ROLE_SPARE;
        if (role >= 64 || sb[i].events + 1 < all->sb.events || sb[i].features & 2 ||
            all->sb.role[sb[i].dev_number] != role)
            continue;
        all->desc[role] = open_device(name_of(kind, i), CLAIM_READ);
        all->offset[role] = sb[i].data_offset * MD_SECTOR;
    }
}

static void read_at(const struct members *all, unsigned slot, uint64_t at, void *out, size_t len)
{
    check_int(bdev_read(all->desc[slot], all->offset[slot] + at, out, len), 0);
}

static bool check_mirror(const struct members *all)
{
    static uint8_t want[256 << 10], got[256 << 10];
    uint64_t bytes = all->sb.size * MD_SECTOR;
    for (uint64_t at = 0; at < bytes; at += sizeof want) {
        size_t len = bytes - at < sizeof want ? bytes - at : sizeof want;
        const struct bdev_desc *first = NULL;
        for (unsigned i = 0; i < all->sb.raid_disks; i++) {
            if (!all->desc[i])
                continue;
            read_at(all, i, at, first ? got : want, len);
            if (first && memcmp(want, got, len))
                return pc_fail("copies differ in the %zu bytes at %llu", len,
                               (unsigned long long)at);
            first = all->desc[i];
        }
    }
    return true;
}

static bool check_copies(const struct members *all)
{
    static uint8_t want[64 << 10], got[64 << 10];
    struct raid10_copy copy[RAID10_COPIES_MAX];
    struct raid10_geometry g;
    check(raid10_geometry_init(&g, &all->sb) && g.chunk <= sizeof want);
    for (uint64_t at = 0; at < g.size; at += g.chunk) {
        bool first = true;
        raid10_copies(&g, at, copy);
        for (unsigned i = 0; i < g.copies; i++) {
            if (!all->desc[copy[i].slot])
                continue;
            read_at(all, copy[i].slot, copy[i].offset, first ? want : got, g.chunk);
            if (!first && memcmp(want, got, g.chunk))
                return pc_fail("copies of the chunk at %llu differ", (unsigned long long)at);
            first = false;
        }
    }
    return true;
}

static bool check_stripe(const struct members *all, const struct parity_geometry *g, uint64_t s,
                         uint64_t chunk)
{
    static _Alignas(PARITY_ALIGN) uint8_t block[PC_MEMBERS][64 << 10], want[2][64 << 10];
    uint8_t *p[PARITY_SLOTS_MAX] = {0};
    struct parity_map map;
    uint64_t lost = 0;
    parity_map_init(&map, g, s);
    for (unsigned i = 0; i < g->slots; i++) {
        p[i] = block[i];
        if (all->desc[i])
            read_at(all, i, s * chunk, block[i], chunk);
        else
            lost |= 1ull << i;
    }
    if (lost && !parity_recover(&map, lost, p, chunk))
        return pc_fail("too few members to look at stripe %llu", (unsigned long long)s);
    p[map.p] = want[0];
    if (map.parities == 2)
        p[map.q] = want[1];
    parity_generate(&map, p, chunk);
    if (memcmp(want[0], block[map.p], chunk))
        return pc_fail("P of stripe %llu does not fit", (unsigned long long)s);
    if (map.parities == 2 && memcmp(want[1], block[map.q], chunk))
        return pc_fail("Q of stripe %llu does not fit", (unsigned long long)s);
    return true;
}

static bool check_parity(const struct members *all)
{
    struct parity_geometry g;
    uint64_t chunk = (uint64_t)all->sb.chunk * MD_SECTOR;
    check(chunk <= 64 << 10);
    check(parity_geometry_init(&g, all->sb.level, all->sb.layout, all->sb.raid_disks));
    for (uint64_t s = 0; s < all->sb.size / all->sb.chunk; s++)
        if (!check_stripe(all, &g, s, chunk))
            return false;
    return true;
}

bool pc_check_members(const char *kind, unsigned devices, uint64_t absent)
{
    static struct members all; /* one task at a time */
    find_members(kind, devices, absent, &all);
    bool good = true;
    unsigned in_sync = 0; /* the only one agrees with itself, and is not written to */
    for (unsigned i = 0; i < 64; i++)
        in_sync += all.desc[i] != NULL;
    if (!all.sb.raid_disks)
        good = pc_fail("no superblock is left");
    else if (all.sb.level > 0 && all.sb.resync_offset != MD_CLEAN && in_sync > 1)
        good = pc_fail("the array is not clean after a stop");
    else if (all.sb.level == 1)
        good = check_mirror(&all);
    else if (all.sb.level == 10)
        good = check_copies(&all);
    else if (all.sb.level > 0)
        good = check_parity(&all);
    for (unsigned i = 0; i < 64; i++)
        if (all.desc[i])
            bdev_close(&all.desc[i]);
    return good;
}
