/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Power cuts of every level:
 *
 *   unit-raid-cuts [NAME]      one of the rows below; without, all of them
 *
 * 200 cuts a level, ORION_CUTS_TIMES so many, or ORION_CUTS a row (0: without end), ORION_SEED for
 * others than those of the default suite. ORION_CUTS_IMAGES: a folder for the members as the cuts
 * left them, while nobody was missing. ORION_CUTS_CASE: a failure that was kept. A history is:
 * creation (with a resync, where members hold junk), writes, rest, a member that fails, writes
 * without it, its return or a new one, writes during and after, a stop, a start, writes, a stop;
 * cuts are anywhere in it, with a member lost too where redundancy stands for it. Some are double
 * cuts: clients write during the recovery, and the power goes again. What fails is printed with its
 * seed, and shrunk to the writes that matter.
 */
#include "powercut.h"

#include <malloc.h>
#include <signal.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

enum {
    A_HISTORY = 200, /* cuts of one history */
    CLIENTS = 3,
    SPARES = 2,
    CHANGES = 16,
};

struct row {
    const char *name;
    unsigned cuts; /* by default; 200 a level */
    const char *level;
    int32_t number;
    unsigned members, redundancy; /* how many may go at any time */
    bool bitmap, no_log;
    const char *layout; /* of raid10 */
};

static const struct row rows[] = {
    {"raid0", 200, "raid0", 0, 3, 0, false, false, NULL},
    {"raid1", 70, "raid1", 1, 2, 1, false, false, NULL},
    {"raid1-three", 70, "raid1", 1, 3, 2, false, false, NULL},
    {"raid1-bitmap", 70, "raid1", 1, 2, 1, true, false, NULL},
    {"raid10", 50, "raid10", 10, 4, 1, false, false, NULL},
    {"raid10-odd-bitmap", 50, "raid10", 10, 3, 1, true, false, NULL},
    {"raid10-far", 50, "raid10", 10, 4, 1, false, false, "f2"},
    {"raid10-offset-bitmap", 50, "raid10", 10, 3, 1, true, false, "o2"},
    {"raid4", 200, "raid4", 4, 4, 1, false, false, NULL},
    {"raid5", 70, "raid5", 5, 4, 1, false, false, NULL},
    {"raid5-bitmap", 70, "raid5", 5, 4, 1, true, false, NULL},
    {"raid5-no-log", 70, "raid5", 5, 4, 1, false, true, NULL},
    {"raid5-log-device", 70, "raid5", 5, 4, 1, false, false, NULL},
    {"raid6", 100, "raid6", 6, 5, 2, false, false, NULL},
    {"raid6-bitmap", 100, "raid6", 6, 5, 2, true, false, NULL},
    {"raid6-log-device", 70, "raid6", 6, 5, 2, false, false, NULL},
};
enum { ROWS = sizeof rows / sizeof *rows };

/* From `at` on so many more members may go. */
struct change {
    uint64_t at;
    unsigned left;
};

static const struct row *row;
static struct err e;
static bool log_apart; /* on a device of its own */
static uint64_t seed, chunk;
static struct uuid uuid;
static struct pc_life life, next;
static struct change change[CHANGES];
static unsigned changes;
static uint64_t cuts_wanted, cuts_done, recoveries;
static struct pc_cut first_cut, second_cut;
static bool second, junk; /* members held something before */
static unsigned beside;   /* requests of each client during the recovery */
static uint64_t lost;

/* ---- clients */

struct client {
    struct pc_life *life;
    struct bdev_desc *d;
    uint64_t random;
    unsigned index, requests;
    int error;
};

static unsigned running; /* atomic */

static void pick(struct client *c, uint64_t *lba_r, uint64_t *sectors_r)
{
    uint64_t all = c->life->size / PC_SECTOR, sectors = chunk / PC_SECTOR;
    unsigned data = row->members - (row->number >= 4 && row->number <= 6 ? row->redundancy : 0);
    uint64_t stripe = sectors * (data ? data : 1), lba, n;
    switch (pc_random(&c->random, 8)) {
    case 0: /* a stripe or two */
        n = stripe * (1 + pc_random(&c->random, 2));
        lba = pc_random(&c->random, 6) * stripe;
        break;
    case 1:
    case 2:
        n = 1 + pc_random(&c->random, 2 * sectors);
        lba = pc_random(&c->random, 6 * stripe);
        break;
    default: n = 1 + pc_random(&c->random, 12); lba = pc_random(&c->random, 6 * stripe);
    }
    if (!pc_random(&c->random, 9)) { /* at the end of the array, too */
        n = n < stripe ? n : stripe;
        lba = all - n - pc_random(&c->random, stripe);
    }
    n = n > 256 ? 256 : n;
    if (!row->redundancy) /* no order there, and memory mixes within sectors: each has its place */
        lba = c->index * 512 + lba % 256;
    *lba_r = lba + n > all ? all - n : lba;
    *sectors_r = n;
}

static void client(void *arg)
{
    struct client *c = arg;
    for (unsigned i = 0; i < c->requests && !c->error; i++) {
        uint64_t lba, n, what = pc_random(&c->random, 20);
        pick(c, &lba, &n);
        enum pc_kind kind = what < 2 ? PC_FLUSH : pc_kind_by(what - 2, c->d, &lba, &n);
        if (kind == PC_FLUSH)
            lba = n = 0;
        c->error = pc_request(c->life, c->d, kind, lba, n, pc_random(&c->random, 6) == 0);
    }
    __atomic_fetch_sub(&running, 1, __ATOMIC_SEQ_CST);
}

struct crowd {
    struct client client[CLIENTS];
    struct bdev_desc *d;
};

static void crowd_begin(struct crowd *w, struct pc_life *l, const char *array, unsigned requests)
{
    uint64_t salt = l->number * 97 + l->ops * 7;
    w->d = open_device(array, CLAIM_SHARED_WRITE);
    __atomic_fetch_add(&running, CLIENTS, __ATOMIC_SEQ_CST);
    for (unsigned i = 0; i < CLIENTS; i++) {
        w->client[i] = (struct client){.life = l,
                                       .d = w->d,
                                       .random = pc_hash(seed, salt + i),
                                       .index = i,
                                       .requests = requests};
        task_start(reactor_get(i % (reactor_count() + 1)), "client", client, &w->client[i]);
    }
}

static int crowd_end(struct crowd *w)
{
    int error = 0;
    while (__atomic_load_n(&running, __ATOMIC_SEQ_CST))
        task_sleep_us(300);
    bdev_drain_close(&w->d);
    for (unsigned i = 0; i < CLIENTS; i++)
        error = error ? error : w->client[i].error;
    return error;
}

static void work(const char *array, unsigned requests)
{
    struct crowd w;
    crowd_begin(&w, &life, array, requests);
    check_int(crowd_end(&w), 0);
}

static bool settled(const char *name)
{
    unsigned idle = 0;
    for (unsigned i = 0; i < 60000; i++) {
        struct raid_info info = info_of(name);
        idle = info.sync == RAID_SYNC_IDLE && !info.sync_job ? idle + 1 : 0;
        if (idle == 3)
            return true;
        task_sleep_us(i < 200 ? 300 : 1000);
    }
    return pc_fail("the sync does not end");
}

/* ---- a history */

static void set_redundancy(unsigned left)
{
    check(changes < CHANGES);
    change[changes++] = (struct change){pc_now(&life), left};
}

static unsigned redundancy_at(uint64_t at)
{
    unsigned left = 0;
    for (unsigned i = 0; i < changes; i++)
        if (at > change[i].at)
            left = change[i].left;
    for (unsigned i = 0; i < changes; i++) /* changes take their time */
        if (at > change[i].at && i + 1 < changes && at > change[i + 1].at)
            left = change[i + 1].left;
    return left;
}

static bool toss(unsigned of, unsigned what)
{
    return pc_hash(seed, 1000 + what) % of == 0;
}

static void make_bases(void)
{
    for (unsigned i = 0; i < life.members; i++) {
        life.base[i].data = calloc(1, PC_SIZE);
        check(life.base[i].data);
        if (!junk)
            continue;
        for (uint64_t at = DATA; at < DATA + 8 * PC_BLOCK; at += 8) {
            uint64_t word = pc_hash(seed, at << 8 | i);
            memcpy(life.base[i].data + at, &word, sizeof word);
        }
        life.base[i].blocks = 0xffull << DATA / PC_BLOCK;
    }
}

static void slow_down(bool on)
{
    char text[160];
    for (unsigned i = 0; i < life.members; i++) {
        snprintf(text, sizeof text,
                 "write:delay=400us:probability=0.2:seed=%u;flush:delay=300us:probability=0.3",
                 (unsigned)(pc_hash(seed, i) % 1000 + 1));
        rules(i, on ? text : "");
    }
}

static void take_baseline(struct pc_life *l, const char *array)
{
    struct bdev_desc *d = open_device(array, CLAIM_READ);
    l->size = bdev_size(d);
    l->baseline = malloc(l->size);
    check(l->baseline);
    check_int(bdev_read(d, 0, l->baseline, l->size), 0);
    bdev_close(&d);
}

/* The last of the devices. */
static const char *log_device(void)
{
    return log_apart ? name_of("d", row->members + SPARES) : NULL;
}

static void create_it(void)
{
    const char *members[PC_MEMBERS];
    for (unsigned i = 0; i < row->members; i++)
        members[i] = name_of("d", i);
    uuid = uuid_random();
    struct raid_create c = {.name = "a",
                            .level = row->level,
                            .members = members,
                            .member_count = row->members,
                            .chunk = chunk,
                            .layout = row->layout,
                            .no_log = row->no_log,
                            .log_device = log_device(),
                            .force = log_apart, /* of junk */
                            .bitmap = row->bitmap ? RAID_BITMAP_INTERNAL : RAID_BITMAP_NONE,
                            .bitmap_chunk = 256 << 10,
                            .uuid = &uuid};
    must(raid_create(&c, &e), &e);
    life.created = pc_now(&life);
}

static void lose_members(void)
{
    unsigned victim = (unsigned)(pc_hash(seed, 5) % row->members);
    struct crowd w;
    set_redundancy(0);
    if (toss(2, 1))
        rules(victim, "write:error=EIO:offset=1M-4M");
    crowd_begin(&w, &life, "a", 12);
    task_sleep_us(2000);
    must(raid_fail_member("a", name_of("d", victim), false, &e), &e);
    check_int(crowd_end(&w), 0);
    work("a", 12);
    bool two = row->redundancy > 1 && toss(2, 2);
    if (two) { /* and the one that comes has the slot of the first */
        unsigned other = (victim + 1) % row->members;
        must(raid_fail_member("a", name_of("d", other), false, &e), &e);
        work("a", 12);
        must(raid_remove_member("a", name_of("d", other), false, &e), &e);
        must(raid_add_member("a", name_of("d", row->members + 1), true, &e), &e);
    }
    must(raid_remove_member("a", name_of("d", victim), false, &e), &e);
    rules(victim, "");
    crowd_begin(&w, &life, "a", 25);
    if (row->bitmap && !two && toss(2, 3))
        must(raid_readd_member("a", name_of("d", victim), &e), &e);
    else /* the very disk again, or a new one */
        must(raid_add_member("a", name_of("d", toss(2, 4) ? victim : row->members), true, &e), &e);
    check_int(crowd_end(&w), 0);
    work("a", 8);
    check(settled("a"));
    set_redundancy(row->redundancy);
}

/* To the members and back, with clients who never stop; by half of the lives. */
static void move_log(void)
{
    struct crowd w;
    if (toss(2, 8))
        return;
    crowd_begin(&w, &life, "a", 12);
    must(raid_set_log("a", false, NULL, false, &e), &e);
    check_int(crowd_end(&w), 0);
    crowd_begin(&w, &life, "a", 12);
    must(raid_set_log("a", false, log_device(), true, &e), &e);
    check_int(crowd_end(&w), 0);
    work("a", 10);
}

static void history(void)
{
    static const uint64_t chunks[] = {4 << 10, 16 << 10, 64 << 10};
    junk = row->redundancy && toss(3, 0);
    log_apart = strstr(row->name, "-log-device");
    pc_life_begin(&life, "d", row->members + SPARES + log_apart);
    changes = 0;
    chunk = chunks[pc_hash(seed, 7) % 3];
    raid_set_checkpoint_ms(toss(2, 6) ? 1 : 1000);
    make_bases();
    pc_power_on(&life);
    slow_down(true);
    set_redundancy(0);
    create_it();
    take_baseline(&life, "a");
    if (!junk)
        set_redundancy(row->redundancy);
    work("a", 20);
    if (row->redundancy)
        check(settled("a"));
    set_redundancy(row->redundancy);
    task_sleep_us(toss(2, 9) ? 300 * 1000 : 0); /* marked clean */
    work("a", 15);
    if (row->redundancy)
        lose_members();
    work("a", 20);
    if (log_apart)
        move_log();
    must(raid_stop("a", &e), &e);
    struct raid_assemble r = {.name = "a", .uuid = uuid, .no_log = row->no_log};
    must(raid_assemble(&r, &e), &e);
    work("a", 12);
    must(raid_stop("a", &e), &e);
    slow_down(false);
    pc_hold(&life);
}

/* ---- after a cut */

static struct pc_shape shape_of(uint64_t missing)
{
    bool parity = row->number >= 4 && row->number <= 6;
    return (struct pc_shape){.level = row->number,
                             .slots = row->members,
                             .data = row->members - (parity ? row->redundancy : 0),
                             .chunk = chunk,
                             .lost = lost ? missing : 0, /* nobody else was missing */
                             .missing = missing,
                             .no_log = row->no_log};
}

/* 1: runs; 0: it need not. */
static int start_it(const struct pc_life *before, const struct pc_cut *c, bool *forced_r)
{
    struct raid_assemble r = {
        .name = "b", .uuid = uuid, .degraded_ok = true, .no_log = row->no_log};
    *forced_r = false;
    if (!raid_assemble(&r, &e))
        return 1;
    if (c->at < before->created)
        return 0;
    if (row->no_log && e.code == ERR_NEEDS_FORCE) { /* as documented: dirty and degraded */
        r.force = true;
        *forced_r = true;
        if (!raid_assemble(&r, &e))
            return 1;
    }
    pc_fail("it is not assembled: %s", e.msg);
    return -1;
}

static uint64_t missing_slots(const char *array)
{
    struct raid_info info = info_of(array);
    uint64_t there = 0;
    for (unsigned i = 0; i < info.member_count; i++)
        if (info.member[i].slot >= 0 && info.member[i].state == RAID_MEMBER_IN_SYNC)
            there |= 1ull << info.member[i].slot;
    return ((1ull << row->members) - 1) & ~there;
}

static bool read_all(struct pc_life *l, uint8_t **out)
{
    struct bdev_desc *d = open_device("b", CLAIM_READ);
    bool fits = bdev_size(d) == l->size;
    int error = fits ? bdev_read(d, 0, *out, l->size) : 0;
    bdev_close(&d);
    if (!fits)
        return pc_fail("its size is another one");
    return error ? pc_fail("the array cannot be read: %s", strerror(-error)) : true;
}

/* It runs: what does it hold, now, while it recovers, and then? */
static bool look(struct pc_life *l, const struct pc_life *before, const struct pc_cut *c)
{
    struct pc_shape shape = shape_of(missing_slots("b"));
    autofree uint8_t *again = malloc(before->size);
    l->size = before->size;
    l->baseline = malloc(l->size);
    check(again && l->baseline);
    /* Of members with junk some may not belong to it yet: then it is other junk. */
    bool any = junk && c->at < before->created;
    if (!read_all(l, &l->baseline) ||
        (!any && !pc_check_content(before, l->baseline, c->at, &shape)))
        return false;
    if (beside) {
        struct crowd w;
        crowd_begin(&w, l, "b", beside);
        int error = crowd_end(&w);
        if (error)
            return pc_fail("a client's request failed: %s", strerror(-error));
    }
    if (row->redundancy && !settled("b"))
        return false;
    if (!read_all(l, &again))
        return false;
    if (!pc_check_content(l, again, UINT64_MAX, NULL)) {
        char why[sizeof pc_why];
        snprintf(why, sizeof why, "%s", pc_why);
        return pc_fail("after the recovery: %.400s", why);
    }
    struct raid_info info = info_of("b");
    if (info.state == RAID_FAILED)
        return pc_fail("the array has failed");
    if (!lost && redundancy_at(c->at) == row->redundancy && info.missing && before == &life)
        return pc_fail("%u members were left out", info.missing);
    return true;
}

/* From images in l->base: true when all is as promised. The devices stay, for a second cut. */
static bool restart(struct pc_life *l, const struct pc_life *before, const struct pc_cut *c)
{
    bool forced, good;
    pc_power_on(l);
    if (row->redundancy && beside)
        for (unsigned i = 0; i < l->members; i++)
            if (l->base[i].data)
                check_int(fault_set_rules(bdev_find(name_of(l->kind, i)),
                                          "write:delay=200us:probability=0.2", &e),
                          0);
    int runs = start_it(before, c, &forced);
    if (runs <= 0)
        return runs == 0;
    good = look(l, before, c);
    if (raid_stop("b", &e))
        return good && pc_fail("it cannot be stopped: %s", e.msg);
    return good && (!row->redundancy || forced || pc_check_members(l->kind, l->members, lost));
}

static void take_away(struct pc_image *image)
{
    for (unsigned i = 0; i < PC_MEMBERS; i++)
        if (lost >> i & 1) {
            free(image[i].data);
            image[i] = (struct pc_image){0};
        }
}

static bool try_cut(const struct pc_life *before, const struct pc_cut *c, const char *kind)
{
    struct pc_life l;
    pc_life_begin(&l, kind, before->members);
    pc_build(before, c, l.base);
    take_away(l.base);
    const char *images = getenv("ORION_CUTS_IMAGES");
    if (images && before == &life && !lost && c->at > life.created &&
        redundancy_at(c->at) == row->redundancy)
        pc_dump(&life, c->at, l.base, images, cuts_done);
    bool good = restart(&l, before, c);
    pc_life_end(&l);
    recoveries++;
    return good;
}

/* ---- which cuts */

/* What makes something durable ends here, on some member. */
static uint64_t boundary(const struct pc_life *l, uint64_t *random)
{
    for (unsigned tries = 0; tries < 60; tries++) {
        const struct pc_record *r = &l->record[pc_random(random, l->members)];
        const struct fault_entry *x = r->n ? &r->entry[pc_random(random, r->n)] : NULL;
        if (x && x->completed && (x->op == BIO_FLUSH || x->flags & BIO_FUA))
            return x->completed - pc_random(random, 2);
    }
    return pc_random(random, l->clock + 1);
}

static struct pc_cut choose(const struct pc_life *l, uint64_t *random)
{
    struct pc_cut c = {.seed = pc_random(random, 1ull << 40)};
    c.at = pc_random(random, 2) ? boundary(l, random) : pc_random(random, l->clock + 1);
    switch (pc_random(random, 6)) {
    case 0: break; /* all of the cache is lost */
    case 1: c.keep = 100; break;
    default: c.keep = 5 + (unsigned)pc_random(random, 90); c.torn = (unsigned)pc_random(random, 70);
    }
    return c;
}

static void choose_lost(const struct pc_cut *c, uint64_t *random)
{
    lost = 0;
    if (row->redundancy && !row->no_log && redundancy_at(c->at) == row->redundancy &&
        pc_random(random, 4) == 0)
        lost = 1ull << pc_random(random, row->members);
}

/* ---- what fails is made small */

static bool fails(const struct pc_life *l, const struct pc_cut *c)
{
    return !try_cut(l, c, "s");
}

static void print_cut(const char *what, const struct pc_cut *c)
{
    fprintf(stderr, "%s cut: at %llu, keep %u%%, torn %u%%, seed %llu\n", what,
            (unsigned long long)c->at, c->keep, c->torn, (unsigned long long)c->seed);
}

static void print_case(void)
{
    fprintf(stderr,
            "%s, ORION_SEED=%llu, cut %llu: created at %llu, chunk %llu, lost members %llx\n",
            row->name, (unsigned long long)seed, (unsigned long long)cuts_done,
            (unsigned long long)life.created, (unsigned long long)chunk, (unsigned long long)lost);
    for (unsigned i = 0; i < changes; i++)
        fprintf(stderr, "  from %llu on %u more may go\n", (unsigned long long)change[i].at,
                change[i].left);
    print_cut("first", &first_cut);
    if (second)
        print_cut("second", &second_cut);
}

/* What a case needs besides its life. */
static struct pc_cut kept_cut;
static const struct iovec frame[] = {
    {&seed, sizeof seed},           {&chunk, sizeof chunk},       {&lost, sizeof lost},
    {&cuts_done, sizeof cuts_done}, {&uuid, sizeof uuid},         {&junk, sizeof junk},
    {&changes, sizeof changes},     {change, sizeof change},      {&second, sizeof second},
    {&beside, sizeof beside},       {&kept_cut, sizeof kept_cut},
};
enum { FRAME = sizeof frame / sizeof *frame };

static void found(struct pc_life *l, struct pc_cut *c)
{
    char path[80];
    fprintf(stderr, "FAILED: %s\n", pc_why);
    print_case();
    snprintf(path, sizeof path, "%s-%llu.case", row->name, (unsigned long long)seed);
    if (!getenv("ORION_CUTS_CASE")) {
        kept_cut = *c;
        pc_save(l, frame, FRAME, path);
        fprintf(stderr, "kept: ORION_CUTS_CASE=%s unit-raid-cuts %s\n", path, row->name);
    }
    pc_shrink(l, c, fails);
    pc_print_cut(l, c);
    abort();
}

/* A failure that was kept. */
static void one_case(const char *path)
{
    struct pc_life loaded, *l = &life;
    pc_load(&loaded, frame, FRAME, path);
    if (second)
        l = &next;
    *l = loaded;
    if (!try_cut(l, &kept_cut, "e"))
        found(l, &kept_cut);
    printf("%s holds\n", path);
    pc_life_end(l);
}

static void on_abort(int sig)
{
    signal(sig, SIG_DFL);
    print_case();
    abort();
}

/* ---- the loop */

/* Clients write while it recovers from the first cut, then the power goes again. */
static void double_cut(uint64_t *random)
{
    enum { SECONDS = 4 };
    pc_life_begin(&next, "c", life.members);
    pc_build(&life, &first_cut, next.base);
    take_away(next.base);
    beside = (unsigned)pc_random(random, 2) * 8;
    bool good = restart(&next, &life, &first_cut);
    pc_hold(&next); /* what follows makes devices of the same array */
    if (!good)
        found(&life, &first_cut);
    beside = 0;
    recoveries++;
    for (unsigned i = 0; i < SECONDS && next.baseline; i++, cuts_done++) {
        second = true;
        second_cut = choose(&next, random);
        if (!try_cut(&next, &second_cut, "e"))
            found(&next, &second_cut);
        second = false;
    }
    pc_life_end(&next);
}

static void cut_history(uint64_t cuts)
{
    uint64_t random = pc_hash(seed, 77), end = cuts_done + cuts;
    history();
    log_set_level(LOG_LEVEL_ERROR);
    while (cuts_done < end) {
        first_cut = choose(&life, &random);
        choose_lost(&first_cut, &random);
        cuts_done++;
        if (!try_cut(&life, &first_cut, "e"))
            found(&life, &first_cut);
        if (pc_random(&random, 20) == 0)
            double_cut(&random);
    }
    log_set_level(LOG_LEVEL_WARN);
    lost = 0;
    pc_life_end(&life);
}

static uint64_t number_of(const char *variable, uint64_t otherwise)
{
    const char *text = getenv(variable);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

static void cuts(void)
{
    uint64_t base = number_of("ORION_SEED", 1), times = number_of("ORION_CUTS_TIMES", 1);
    cuts_wanted = number_of("ORION_CUTS", row->cuts * times / (SANITIZED ? 5 : 1));
    cuts_done = recoveries = 0;
    log_set_level(LOG_LEVEL_WARN);
    signal(SIGABRT, on_abort);
    if (getenv("ORION_CUTS_CASE")) {
        one_case(getenv("ORION_CUTS_CASE"));
        return;
    }
    for (seed = base; !cuts_wanted || cuts_done < cuts_wanted; seed++) {
        uint64_t left = cuts_wanted ? cuts_wanted - cuts_done : A_HISTORY;
        cut_history(left < A_HISTORY ? left : A_HISTORY);
    }
    signal(SIGABRT, SIG_DFL);
    log_set_level(LOG_LEVEL_INFO);
    printf("%s: %llu cuts, %llu recoveries, seeds %llu to %llu\n", row->name,
           (unsigned long long)cuts_done, (unsigned long long)recoveries, (unsigned long long)base,
           (unsigned long long)seed - 1);
}

static void test_row(void **state)
{
    row = *state;
    harness_run(cuts);
}

int main(int argc, char **argv)
{
    mallopt(M_MMAP_THRESHOLD, 64 << 20); /* what is large comes and goes all the time */
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
    return pc_rows("cuts", rows, sizeof *rows, ROWS, test_row, argc < 2 ? NULL : argv[1]);
}
