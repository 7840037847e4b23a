/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Arrays of every level against a plain list of what was written:
 *
 *   unit-raid-model [NAME]     one of the rows below; without, all of them
 *
 * A run is a sequence of moves by chance: clients that read, write, zero, discard and flush at
 * once, members that fail, fill up with errors or go slow, spares, re-adds, scrubs, stops, power
 * cuts. Each move has a chance of its own, so that a run without some of them is the same
 * otherwise. A run that fails is tried again with fewer moves, in processes of their own, and what
 * is left is printed. ORION_MODEL runs each (0: without end), ORION_SEED for others than those of
 * the default suite.
 */
#include "powercut.h"

#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"

enum { MOVES = 14, CLIENTS = 3, SPARES = 3, TRIES = 3, EVERY = (1 << MOVES) - 1 };

struct row {
    const char *name, *level;
    int32_t number;
    unsigned members, redundancy;
    bool bitmap, no_log;
};

static const struct row rows[] = {
    {"raid0", "raid0", 0, 3, 0, false, false},
    {"raid1", "raid1", 1, 3, 2, false, false},
    {"raid1-bitmap", "raid1", 1, 2, 1, true, false},
    {"raid10", "raid10", 10, 4, 1, false, false},
    {"raid10-odd", "raid10", 10, 3, 1, true, false},
    {"raid4", "raid4", 4, 4, 1, false, false},
    {"raid5", "raid5", 5, 4, 1, true, false},
    {"raid5-no-log", "raid5", 5, 3, 1, false, true},
    {"raid6", "raid6", 6, 5, 2, true, false},
};
enum { ROWS = sizeof rows / sizeof *rows };

static const struct row *row;
static struct pc_life lives[2], *life = lives;
static uint64_t seed, chunk;
static struct uuid uuid;
static struct err e;
static bool told; /* what is done is printed */

#define tell(...) (void)(told && fprintf(stderr, __VA_ARGS__))

static void must_be(bool good)
{
    if (good)
        return;
    fprintf(stderr, "%s\n", pc_why);
    abort();
}

/* ---- clients */

struct client {
    uint64_t random;
    struct bdev_desc *d;
    unsigned index, requests;
};

static unsigned running; /* atomic */

static void request(struct client *c)
{
    uint64_t all = life->size / PC_SECTOR, what = pc_random(&c->random, 24);
    uint64_t most = pc_random(&c->random, 6) ? 40 : 400;
    uint64_t n = 1 + pc_random(&c->random, most);
    uint64_t lba = pc_random(&c->random, pc_random(&c->random, 8) ? 900 : all - n);
    int rc;
    if (!row->redundancy) /* no order there, and memory mixes within sectors: each has its place */
        lba = c->index * 1024 + lba % 600;
    if (pc_random(&c->random, 4) == 0) { /* as file systems do */
        lba = lba / 8 * 8;
        n = (n + 7) / 8 * 8;
    }
    if (what < 9)
        rc = pc_read(life, c->d, lba, n);
    else if (what < 11)
        rc = pc_request(life, c->d, PC_FLUSH, 0, 0, false);
    else {
        enum pc_kind kind = pc_kind_by(what - 11, c->d, &lba, &n);
        rc = pc_request(life, c->d, kind, lba, n, pc_random(&c->random, 6) == 0);
    }
    if (rc < 0)
        pc_fail("a %s of %llu+%llu failed: %s", what < 9 ? "read" : "write",
                (unsigned long long)lba, (unsigned long long)n, strerror(-rc));
    must_be(!rc);
}

static void client(void *arg)
{
    struct client *c = arg;
    for (unsigned i = 0; i < c->requests; i++)
        request(c);
    __atomic_fetch_sub(&running, 1, __ATOMIC_SEQ_CST);
}

static struct client crowd[CLIENTS];

static void crowd_begin(uint64_t *random, unsigned requests)
{
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    __atomic_fetch_add(&running, CLIENTS, __ATOMIC_SEQ_CST);
    for (unsigned i = 0; i < CLIENTS; i++) {
        crowd[i] = (struct client){pc_random(random, 1ull << 40), d, i, requests};
        task_start(reactor_get(i % (reactor_count() + 1)), "client", client, &crowd[i]);
    }
}

static void crowd_end(void)
{
    while (__atomic_load_n(&running, __ATOMIC_SEQ_CST))
        task_sleep_us(300);
    bdev_drain_close(&crowd[0].d);
}

/* ---- what the array says of itself */

static void settle(void)
{
    unsigned idle = 0;
    for (unsigned i = 0; i < 60000 && row->redundancy; i++) {
        struct raid_info info = info_of("a");
        idle = info.sync == RAID_SYNC_IDLE && !info.sync_job ? idle + 1 : 0;
        if (idle == 3)
            return;
        task_sleep_us(i < 200 ? 300 : 1000);
    }
    must_be(!row->redundancy || pc_fail("the sync does not end"));
}

static unsigned in_sync(const struct raid_info *info)
{
    unsigned n = 0;
    for (unsigned i = 0; i < info->member_count; i++)
        n += info->member[i].slot >= 0 && info->member[i].state == RAID_MEMBER_IN_SYNC;
    return n;
}

static bool may_lose(void)
{
    struct raid_info info = info_of("a");
    return in_sync(&info) + row->redundancy > row->members && info.sync != RAID_SYNC_RESYNC;
}

static int device_of(const struct raid_member_info *m)
{
    return m->device[0] ? atoi(m->device + strlen(life->kind)) : -1;
}

static int some_member(uint64_t *random, enum raid_member_state state)
{
    struct raid_info info = info_of("a");
    for (unsigned tries = 0; tries < 20 && info.member_count; tries++) {
        const struct raid_member_info *m = &info.member[pc_random(random, info.member_count)];
        if (m->state == state && device_of(m) >= 0)
            return device_of(m);
    }
    return -1;
}

static void set_rules(int device, const char *text)
{
    if (device >= 0)
        check_int(fault_set_rules(bdev_find(name_of(life->kind, (unsigned)device)), text, &e), 0);
}

/* ---- moves */

static void move_work(uint64_t *random)
{
    crowd_begin(random, 30);
    crowd_end();
}

static void move_slow(uint64_t *random)
{
    int victim = some_member(random, RAID_MEMBER_IN_SYNC);
    set_rules(victim, "any:delay=1ms:probability=0.3");
    tell("device %d is slow\n", victim);
    move_work(random);
    set_rules(victim, "");
}

/* Reads that fail are answered from the others and repaired. */
static void move_unreadable(uint64_t *random)
{
    struct raid_info info = info_of("a");
    if (!row->redundancy || in_sync(&info) < row->members || info.sync != RAID_SYNC_IDLE)
        return;
    int victim = some_member(random, RAID_MEMBER_IN_SYNC);
    tell("device %d cannot read now and then\n", victim);
    set_rules(victim, "read:error=EIO:offset=1M-2M:every=7:count=6");
    move_work(random);
    set_rules(victim, "");
}

/* Writes that fail, or are torn, and flushes: the member has to go. */
static void move_breaks(uint64_t *random)
{
    static const char *const how[] = {"write:error=EIO:offset=1M-3M:after=5",
                                      "write:torn=1024:error=EIO:offset=1M-3M:after=3",
                                      "flush:error=EIO:after=2", "write:error=EIO:offset=4K-8191"};
    if (!row->redundancy || !may_lose())
        return;
    int victim = some_member(random, RAID_MEMBER_IN_SYNC);
    unsigned which = (unsigned)pc_random(random, 4);
    tell("device %d: %s\n", victim, how[which]);
    set_rules(victim, how[which]);
    move_work(random);
    if (victim >= 0 && raid_fail_member("a", name_of(life->kind, (unsigned)victim), false, &e))
        tell("device %d stays: %s\n", victim, e.msg);
    set_rules(victim, "");
}

static void move_fail(uint64_t *random)
{
    int victim = may_lose() ? some_member(random, RAID_MEMBER_IN_SYNC) : -1;
    if (!row->redundancy || victim < 0)
        return;
    tell("device %d is failed\n", victim);
    crowd_begin(random, 12);
    if (raid_fail_member("a", name_of(life->kind, (unsigned)victim), false, &e) &&
        e.code != ERR_NOT_FOUND) /* a replacement may have its place by now */
        must(-1, &e);
    crowd_end();
}

/* Who is out comes back, or another one comes. */
static void move_join(uint64_t *random)
{
    if (!row->redundancy)
        return;
    crowd_begin(random, 20);
    int out = some_member(random, RAID_MEMBER_FAULTY);
    if (out >= 0)
        must(raid_remove_member("a", name_of(life->kind, (unsigned)out), false, &e), &e);
    struct raid_info info = info_of("a");
    unsigned any = (unsigned)pc_random(random, life->members);
    const char *name = name_of(life->kind, out >= 0 && any % 2 ? (unsigned)out : any);
    char users[64];
    if (info.missing && !bdev_users(bdev_find(name), users, sizeof users)) {
        bool back = any % 3 && !raid_readd_member("a", name, &e);
        if (!back)
            must(raid_add_member("a", name, true, &e), &e);
        tell("%s %s\n", name, back ? "comes back" : "is added");
    }
    crowd_end();
}

static void move_scrub(uint64_t *random)
{
    uint64_t job = 0;
    bool repair = pc_random(random, 2);
    settle();
    if (!row->redundancy || raid_scrub("a", repair, &job, &e))
        return;
    tell("%s\n", repair ? "repair" : "check");
    move_work(random);
    job_wait(job);
    must_be(!info_of("a").mismatch || pc_fail("a scrub finds %llu bytes that do not fit",
                                              (unsigned long long)info_of("a").mismatch));
}

static void start(void)
{
    struct raid_assemble r = {
        .name = "a", .uuid = uuid, .degraded_ok = true, .no_log = row->no_log};
    int rc = raid_assemble(&r, &e);
    if (rc && row->no_log && e.code == ERR_NEEDS_FORCE) {
        r.force = true;
        rc = raid_assemble(&r, &e);
    }
    must(rc, &e);
}

static uint8_t *read_all(uint64_t size)
{
    struct bdev_desc *d = open_device("a", CLAIM_READ);
    uint8_t *all = malloc(size);
    check(all && bdev_size(d) == size);
    check_int(bdev_read(d, 0, all, size), 0);
    bdev_close(&d);
    return all;
}

static void move_restart(uint64_t *random)
{
    (void)random;
    tell("stop and start\n");
    must(raid_stop("a", &e), &e);
    start();
    autofree uint8_t *all = read_all(life->size);
    must_be(pc_check_content(life, all, UINT64_MAX, NULL));
}

static struct pc_shape shape_of(const struct raid_info *info)
{
    bool parity = row->number >= 4 && row->number <= 6;
    uint64_t there = 0;
    for (unsigned i = 0; i < info->member_count; i++)
        if (info->member[i].slot >= 0 && info->member[i].state == RAID_MEMBER_IN_SYNC)
            there |= 1ull << info->member[i].slot;
    return (struct pc_shape){.level = row->number,
                             .slots = row->members,
                             .data = row->members - (parity ? row->redundancy : 0),
                             .chunk = chunk,
                             .missing = ((1ull << row->members) - 1) & ~there,
                             .no_log = row->no_log};
}

/* What happened after the moment of the cut has not happened: the array is what it was then. */
static void move_crash(uint64_t *random)
{
    struct pc_life *next = life == lives ? lives + 1 : lives;
    uint64_t from = life->clock;
    move_work(random);
    struct pc_cut c = {.at = from + pc_random(random, life->clock - from + 1),
                       .keep = (unsigned)pc_random(random, 101),
                       .torn = (unsigned)pc_random(random, 60),
                       .seed = pc_random(random, 1ull << 40)};
    if (c.at < life->created)
        c.at = life->created;
    tell("crash at %llu of %llu, keep %u%%\n", (unsigned long long)c.at,
         (unsigned long long)life->clock, c.keep);
    must(raid_stop("a", &e), &e);
    pc_life_begin(next, next == lives ? "d" : "c", life->members);
    next->block = life->block;
    pc_hold(life);
    pc_build(life, &c, next->base);
    pc_power_on(next);
    start();
    struct raid_info info = info_of("a");
    struct pc_shape shape = shape_of(&info);
    next->size = life->size;
    next->baseline = read_all(life->size);
    must_be(pc_check_content(life, next->baseline, c.at, &shape));
    pc_life_end(life);
    life = next;
}

static void move_replace(uint64_t *random)
{
    if (!row->redundancy)
        return;
    int victim = some_member(random, RAID_MEMBER_IN_SYNC);
    const char *name = name_of(life->kind, (unsigned)pc_random(random, life->members));
    char users[64];
    crowd_begin(random, 20);
    if (victim >= 0 && !bdev_users(bdev_find(name), users, sizeof users)) {
        int rc =
            raid_replace_member("a", name_of(life->kind, (unsigned)victim), name, true, NULL, &e);
        tell("device %d is replaced by %s: %s\n", victim, name, rc ? e.msg : "yes");
    }
    crowd_end();
}

static const struct {
    const char *name;
    void (*fn)(uint64_t *random);
    unsigned weight;
} moves[] = {
    {"work", move_work, 3},       {"slow", move_slow, 1},       {"unreadable", move_unreadable, 2},
    {"breaks", move_breaks, 3},   {"fail", move_fail, 2},       {"join", move_join, 5},
    {"scrub", move_scrub, 2},     {"restart", move_restart, 2}, {"crash", move_crash, 4},
    {"replace", move_replace, 2},
};

static void one_move(unsigned i)
{
    uint64_t random = pc_hash(seed, i);
    unsigned all = 0, dice;
    for (unsigned k = 0; k < sizeof moves / sizeof *moves; k++)
        all += moves[k].weight;
    dice = (unsigned)pc_random(&random, all);
    for (unsigned k = 0; k < sizeof moves / sizeof *moves; k++) {
        if (dice < moves[k].weight) {
            tell("move %u: %s\n", i, moves[k].name);
            moves[k].fn(&random);
            return;
        }
        dice -= moves[k].weight;
    }
}

/* ---- a run */

static uint64_t chosen; /* moves, a bit each */

static void begin(void)
{
    const char *members[PC_MEMBERS];
    chunk = 4096u << 2 * (pc_hash(seed, 100) % 3);
    pc_life_begin(life, "d", row->members + SPARES);
    life->block = pc_hash(seed, 101) % 3 ? 512 : 4096;
    for (unsigned i = 0; i < life->members; i++) {
        life->base[i].data = calloc(1, PC_SIZE);
        check(life->base[i].data);
    }
    pc_power_on(life);
    raid_set_checkpoint_ms(pc_hash(seed, 102) % 3 ? 1 : 1000);
    for (unsigned i = 0; i < row->members; i++)
        members[i] = name_of("d", i);
    uuid = uuid_random();
    struct raid_create c = {.name = "a",
                            .level = row->level,
                            .members = members,
                            .member_count = row->members,
                            .chunk = chunk,
                            .no_log = row->no_log,
                            .bitmap = row->bitmap ? RAID_BITMAP_INTERNAL : RAID_BITMAP_NONE,
                            .bitmap_chunk = 256 << 10,
                            .uuid = &uuid};
    must(raid_create(&c, &e), &e);
    life->created = life->clock;
    struct bdev_desc *d = open_device("a", CLAIM_READ);
    life->size = bdev_size(d);
    bdev_close(&d);
    life->baseline = calloc(1, life->size);
    check(life->baseline);
}

static void run(void)
{
    log_set_level(LOG_LEVEL_ERROR);
    tell("chunk %llu, blocks of %u\n", (unsigned long long)chunk, life->block);
    begin();
    for (unsigned i = 0; i < MOVES; i++)
        if (chosen >> i & 1)
            one_move(i);
    settle();
    autofree uint8_t *all = read_all(life->size);
    must_be(pc_check_content(life, all, UINT64_MAX, NULL));
    must(raid_stop("a", &e), &e);
    must_be(!row->redundancy || pc_check_members(life->kind, life->members, 0));
    pc_life_end(life);
}

/* In a process of its own; true when it went well. */
static bool run_apart(uint64_t moves_chosen, bool aloud)
{
    int status;
    fflush(NULL);
    pid_t pid = fork();
    check(pid >= 0);
    if (!pid) {
        chosen = moves_chosen;
        told = aloud;
        if (!aloud && !freopen("/dev/null", "w", stderr))
            _exit(3);
        harness_run(run);
        _exit(0);
    }
    check(waitpid(pid, &status, 0) == pid);
    if (aloud && WIFSIGNALED(status))
        fprintf(stderr, "ended by signal %d\n", WTERMSIG(status));
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool fails(uint64_t moves_chosen)
{
    for (unsigned i = 0; i < TRIES; i++)
        if (!run_apart(moves_chosen, false))
            return true;
    return false;
}

static void shrink(void)
{
    uint64_t left = EVERY;
    for (unsigned i = 0; i < MOVES; i++)
        if (fails(left & ~(1ull << i)))
            left &= ~(1ull << i);
    fprintf(stderr, "%s, ORION_SEED=%llu: enough are the moves %llx\n", row->name,
            (unsigned long long)seed, (unsigned long long)left);
    for (unsigned i = 0; i < TRIES && run_apart(left, true); i++)
        ;
}

static void test_row(void **state)
{
    const char *n = getenv("ORION_MODEL"), *s = getenv("ORION_SEED");
    uint64_t runs = n ? strtoull(n, NULL, 10) : 1;
    row = *state;
    seed = s ? strtoull(s, NULL, 10) : 1;
    for (uint64_t i = 0; !runs || i < runs; i++, seed++) {
        if (run_apart(EVERY, true))
            continue;
        fprintf(stderr, "%s, ORION_SEED=%llu FAILED\n", row->name, (unsigned long long)seed);
        shrink();
        fail();
    }
}

int main(int argc, char **argv)
{
    return pc_rows("model", rows, sizeof *rows, ROWS, test_row, argc < 2 ? NULL : argv[1]);
}
