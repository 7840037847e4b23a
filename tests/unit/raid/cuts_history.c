/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What all histories of unit-raid-cuts have in common: clients, creation, the end; and members that
 * fail. */
#include "cuts.h"

struct story story;
struct pc_life life;
struct err cuts_e;

/* ---- clients */

static unsigned running; /* atomic */

static void pick(struct client *c, uint64_t *lba_r, uint64_t *sectors_r)
{
    uint64_t all = bdev_size(c->d) / PC_SECTOR, sectors = story.chunk / PC_SECTOR;
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
    if (story.small && pc_random(&c->random, 2)) /* around what was the end before it grew */
        lba += story.small / PC_SECTOR - 3 * stripe;
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

void crowd_begin(struct crowd *w, struct pc_life *l, const char *array, unsigned requests)
{
    uint64_t salt = l->number * 97 + l->ops * 7;
    w->d = open_device(array, CLAIM_SHARED_WRITE);
    __atomic_fetch_add(&running, CLIENTS, __ATOMIC_SEQ_CST);
    for (unsigned i = 0; i < CLIENTS; i++) {
        w->client[i] = (struct client){.life = l,
                                       .d = w->d,
                                       .random = pc_hash(story.seed, salt + i),
                                       .index = i,
                                       .requests = requests};
        task_start(reactor_get(i % (reactor_count() + 1)), "client", client, &w->client[i]);
    }
}

int crowd_end(struct crowd *w)
{
    int error = 0;
    while (__atomic_load_n(&running, __ATOMIC_SEQ_CST))
        task_sleep_us(300);
    bdev_drain_close(&w->d);
    for (unsigned i = 0; i < CLIENTS; i++)
        error = error ? error : w->client[i].error;
    return error;
}

void work(const char *array, unsigned requests)
{
    struct crowd w;
    crowd_begin(&w, &life, array, requests);
    check_int(crowd_end(&w), 0);
}

bool settled(const char *name)
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

/* ---- who may go */

bool toss(unsigned of, unsigned what)
{
    return pc_hash(story.seed, 1000 + what) % of == 0;
}

void set_redundancy(unsigned left)
{
    check(story.changes < CHANGES);
    story.change[story.changes++] = (struct change){pc_now(&life), left};
}

unsigned redundancy_at(uint64_t at)
{
    const struct change *change = story.change;
    unsigned left = 0;
    for (unsigned i = 0; i < story.changes; i++)
        if (at > change[i].at)
            left = change[i].left;
    for (unsigned i = 0; i < story.changes; i++) /* changes take their time */
        if (at > change[i].at && i + 1 < story.changes && at > change[i + 1].at)
            left = change[i + 1].left;
    return left;
}

/* ---- what devices cannot do */

void put_rules(const char *kind, unsigned i, uint64_t at, const char *more)
{
    char text[800];
    int n = 0;
    for (unsigned k = 0; k < story.places; k++) {
        const struct place *p = &story.place[k];
        if (p->device == i && p->since <= at && p->until > at)
            n += snprintf(text + n, sizeof text - n,
                          "%s%swrite+write_zeroes+discard:error=EIO:offset=%llu-%llu", n ? ";" : "",
                          p->reads ? "read+" : "", (unsigned long long)p->from,
                          (unsigned long long)p->to - 1);
    }
    snprintf(text + n, sizeof text - n, "%s%s", n && *more ? ";" : "", more);
    check_int(fault_set_rules(bdev_find(name_of(kind, i)), text, &cuts_e), 0);
}

static bool slow;

void refresh(unsigned i)
{
    char text[160] = "";
    if (slow)
        snprintf(text, sizeof text,
                 "write:delay=400us:probability=0.2:seed=%u;flush:delay=300us:probability=0.3",
                 (unsigned)(pc_hash(story.seed, i) % 1000 + 1));
    put_rules("d", i, pc_now(&life), text);
}

static void slow_down(bool on)
{
    slow = on;
    for (unsigned i = 0; i < life.members; i++)
        refresh(i);
}

/* ---- a history */

static void make_bases(void)
{
    for (unsigned i = 0; i < life.members; i++) {
        life.base[i].data = calloc(1, PC_SIZE);
        check(life.base[i].data);
        if (!story.junk)
            continue;
        for (uint64_t at = DATA; at < DATA + 8 * PC_BLOCK; at += 8) {
            uint64_t word = pc_hash(story.seed, at << 8 | i);
            memcpy(life.base[i].data + at, &word, sizeof word);
        }
        life.base[i].blocks = 0xffull << DATA / PC_BLOCK;
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

unsigned log_device_index(void)
{
    return row->members + SPARES;
}

const char *log_device(void)
{
    return story.log_apart ? name_of("d", log_device_index()) : NULL;
}

void restart_array(void)
{
    struct raid_assemble r = {.name = "a", .uuid = story.uuid, .no_log = row->no_log};
    must(raid_stop("a", &cuts_e), &cuts_e);
    must(raid_assemble(&r, &cuts_e), &cuts_e);
}

static void create_it(void)
{
    const char *members[PC_MEMBERS];
    for (unsigned i = 0; i < row->members; i++)
        members[i] = name_of("d", i);
    story.uuid = uuid_random();
    struct raid_create c = {.name = "a",
                            .level = row->level,
                            .members = members,
                            .member_count = row->members,
                            .chunk = story.chunk,
                            .layout = row->layout,
                            .no_log = row->no_log,
                            .assume_clean = row->course == COURSE_SIZE,
                            .log_device = log_device(),
                            .force = story.log_apart, /* of junk */
                            .bitmap = row->bitmap || (row->course && toss(2, 10))
                                          ? RAID_BITMAP_INTERNAL
                                          : RAID_BITMAP_NONE,
                            .bitmap_chunk = 256 << 10,
                            .uuid = &story.uuid};
    must(raid_create(&c, &cuts_e), &cuts_e);
    struct raid_assemble r = {.name = "a", .uuid = story.uuid};
    if (row->course == COURSE_BAD || row->course == COURSE_SIZE) {
        must(raid_stop("a", &cuts_e), &cuts_e);
        if (row->course == COURSE_BAD)
            give_lists();
        else
            make_small();
        must(raid_assemble(&r, &cuts_e), &cuts_e);
    }
    life.created = pc_now(&life);
}

static void lose_members(void)
{
    unsigned victim = (unsigned)(pc_hash(story.seed, 5) % row->members);
    struct crowd w;
    struct err *e = &cuts_e;
    set_redundancy(0);
    if (toss(2, 1))
        rules(victim, "write:error=EIO:offset=1M-4M");
    crowd_begin(&w, &life, "a", 12);
    task_sleep_us(2000);
    must(raid_fail_member("a", name_of("d", victim), false, e), e);
    check_int(crowd_end(&w), 0);
    work("a", 12);
    bool two = row->redundancy > 1 && toss(2, 2);
    if (two) { /* and the one that comes has the slot of the first */
        unsigned other = (victim + 1) % row->members;
        must(raid_fail_member("a", name_of("d", other), false, e), e);
        work("a", 12);
        must(raid_remove_member("a", name_of("d", other), false, e), e);
        must(raid_add_member("a", name_of("d", row->members + 1), true, e), e);
    }
    must(raid_remove_member("a", name_of("d", victim), false, e), e);
    rules(victim, "");
    crowd_begin(&w, &life, "a", 25);
    if (row->bitmap && !two && toss(2, 3))
        must(raid_readd_member("a", name_of("d", victim), e), e);
    else /* the very disk again, or a new one */
        must(raid_add_member("a", name_of("d", toss(2, 4) ? victim : row->members), true, e), e);
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
    must(raid_set_log("a", false, NULL, false, &cuts_e), &cuts_e);
    check_int(crowd_end(&w), 0);
    crowd_begin(&w, &life, "a", 12);
    must(raid_set_log("a", false, log_device(), true, &cuts_e), &cuts_e);
    check_int(crowd_end(&w), 0);
    work("a", 10);
}

static void run_course(void)
{
    switch (row->course) {
    case COURSE_BAD: bad_blocks(); break;
    case COURSE_SLOTS: more_slots(); break;
    case COURSE_SIZE: more_room(); break;
    case COURSE_LOG: log_fails(); break;
    default:
        if (row->redundancy)
            lose_members();
    }
    work("a", 20);
    if (story.log_apart && row->course == COURSE_FAILURE)
        move_log();
}

static void begin_story(void)
{
    static const uint64_t chunks[] = {4 << 10, 16 << 10, 64 << 10};
    uint64_t seed = story.seed;
    story = (struct story){.seed = seed, .chunk = chunks[pc_hash(seed, 7) % 3]};
    story.junk = row->redundancy && row->course != COURSE_SIZE && toss(3, 0);
    story.log_apart = strstr(row->name, "-log-device");
    pc_life_begin(&life, "d", row->members + SPARES + story.log_apart);
    raid_set_checkpoint_ms(toss(2, 6) ? 1 : 1000);
    make_bases();
    if (row->course == COURSE_SIZE)
        pc_junk(&life, DATA + SMALL);
}

void history(void)
{
    begin_story();
    pc_power_on(&life);
    slow_down(true);
    set_redundancy(0);
    create_it();
    take_baseline(&life, "a");
    if (row->course == COURSE_SIZE)
        story.small = life.fresh = life.size;
    if (!story.junk)
        set_redundancy(row->redundancy);
    work("a", 20);
    if (row->redundancy)
        check(settled("a"));
    set_redundancy(row->redundancy);
    task_sleep_us(toss(2, 9) ? 300 * 1000 : 0); /* marked clean */
    work("a", 15);
    run_course();
    restart_array();
    work("a", 12);
    must(raid_stop("a", &cuts_e), &cuts_e);
    slow_down(false);
    pc_hold(&life);
}
