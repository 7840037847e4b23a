/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What happens in the middle of a history of unit-raid-cuts, but for members that fail. */
#include "cuts.h"

enum {
    LIST_AT = 32,       /* sectors from the superblock */
    LIST = 4096,        /* bytes */
    LOG_AT = 160 << 10, /* of a member, to where its data begins; the last 8 KiB are heads */
    LOG_HEADS = 8 << 10,
    LABEL = 8 << 10, /* of a log device; behind it lies the log */
};

static void put_durable(unsigned i, uint64_t offset, const void *data, size_t len)
{
    struct bdev_desc *d = open_device(name_of("d", i), CLAIM_EXCLUSIVE);
    check_int(bdev_write(d, offset, data, len, BIO_FUA), 0);
    bdev_close(&d);
}

static void change_super(unsigned i, const struct md_super *sb)
{
    uint8_t bytes[MD_SUPER_SIZE];
    md_super_write(sb, bytes);
    put_durable(i, MD_SUPER_OFFSET, bytes, sizeof bytes);
}

void give_lists(void)
{
    uint8_t list[LIST];
    memset(list, 0xff, sizeof list);
    for (unsigned i = 0; i < row->members; i++) {
        struct md_super sb = super_of(i);
        put_durable(i, MD_SUPER_OFFSET + LIST_AT * PC_SECTOR, list, sizeof list);
        sb.bblog_offset = LIST_AT;
        sb.bblog_size = LIST / PC_SECTOR;
        change_super(i, &sb);
    }
}

void make_small(void)
{
    for (unsigned i = 0; i < row->members; i++) {
        struct md_super sb = super_of(i);
        sb.size = sb.data_size = SMALL / PC_SECTOR;
        change_super(i, &sb);
    }
}

/* ---- places */

static void go_bad(unsigned device, uint64_t from, uint64_t to, bool reads)
{
    check(story.places < PLACES);
    story.place[story.places] = (struct place){.device = device,
                                               .from = from,
                                               .to = to,
                                               .since = pc_now(&life),
                                               .until = UINT64_MAX,
                                               .reads = reads};
    story.places++;
    refresh(device);
}

static void get_well(void)
{
    for (unsigned i = 0; i < story.places; i++)
        if (story.place[i].until == UINT64_MAX) {
            story.place[i].until = pc_now(&life);
            refresh(story.place[i].device);
        }
}

/* ---- bad blocks */

/* Of the first rows, where clients are. `deep`: of another member in the same rows, too. */
static void place_goes_bad(unsigned n, bool deep)
{
    uint64_t sizes[] = {PC_SECTOR, 4096, story.chunk}, random = pc_hash(story.seed, 50 + n);
    uint64_t index = (pc_hash(story.seed, 40) + (deep ? 0 : n)) % 6;
    uint64_t size = sizes[pc_random(&random, 3)];
    uint64_t within = pc_random(&random, story.chunk / size) * size;
    unsigned first = (unsigned)(pc_hash(story.seed, 41) % row->members);
    /* Copies of raid10 are in other rows of other members. */
    unsigned member = row->number == 10 ? first : (first + n) % row->members;
    uint64_t from = DATA + index * story.chunk + within;
    go_bad(member, from, from + size, pc_random(&random, 2));
}

static uint64_t listed(void)
{
    struct raid_info info = info_of("a");
    uint64_t sum = 0;
    for (unsigned i = 0; i < info.member_count; i++)
        sum += info.member[i].bad;
    return sum;
}

static void repair(void)
{
    must(raid_scrub("a", true, NULL, &cuts_e), &cuts_e);
    check(settled("a"));
    until(!listed());
    restart_array(); /* and that is on disk by now */
    set_redundancy(row->redundancy);
}

void bad_blocks(void)
{
    bool deep = row->redundancy > 1 && toss(2, 30);
    struct crowd w;
    set_redundancy(row->redundancy - 1 - deep);
    for (unsigned n = 0; n < 2; n++) {
        crowd_begin(&w, &life, "a", 15);
        task_sleep_us(toss(2, 31 + n) ? 1500 : 0);
        place_goes_bad(n, deep);
        check_int(crowd_end(&w), 0);
        work("a", 12);
    }
    if (toss(2, 33)) {
        restart_array();
        work("a", 10);
    }
    crowd_begin(&w, &life, "a", 15);
    task_sleep_us(1000);
    get_well();
    check_int(crowd_end(&w), 0);
    check(settled("a"));
    if (toss(3, 34))
        work("a", 15);
    else
        repair();
    check_int(info_of("a").missing, 0);
}

/* ---- growth */

void more_slots(void)
{
    char device[16];
    const char *devices[] = {device};
    struct raid_grow g = {
        .raid_devices = row->members + 1, .devices = devices, .device_count = 1, .force = true};
    struct crowd w;
    bool changed;
    snprintf(device, sizeof device, "d%u", row->members);
    crowd_begin(&w, &life, "a", 25);
    task_sleep_us(toss(2, 31) ? 1500 : 0);
    must(raid_grow("a", &g, &changed, NULL, &cuts_e), &cuts_e);
    check_int(crowd_end(&w), 0);
    work("a", 12);
    check(settled("a"));
    check_int(info_of("a").missing, 0);
    set_redundancy(row->redundancy + 1);
}

void more_room(void)
{
    struct raid_grow g = {.resize = true, .size = UINT64_MAX};
    struct crowd w;
    bool changed;
    crowd_begin(&w, &life, "a", 25);
    task_sleep_us(toss(2, 31) ? 1500 : 0);
    story.grow_begins = pc_now(&life);
    must(raid_grow("a", &g, &changed, NULL, &cuts_e), &cuts_e);
    story.grow_ends = pc_now(&life);
    check_int(crowd_end(&w), 0);
    work("a", 15);
    check(settled("a"));
    story.grow_synced = pc_now(&life);
    life.size = story.large = info_of("a").size;
    check(story.large > story.small);
    life.baseline = realloc(life.baseline, life.size);
    check(life.baseline);
    memset(life.baseline + story.small, 0, life.size - story.small); /* never looked at */
    work("a", 15);
}

/* ---- the log */

static void log_goes_bad(unsigned device, unsigned n)
{
    uint64_t heads = DATA - LOG_HEADS;
    switch (pc_hash(story.seed, 60 + n) % 3) {
    case 0: go_bad(device, LOG_AT, heads, false); break;
    case 1: go_bad(device, heads, DATA, false); break;
    default: go_bad(device, LOG_AT, DATA, false);
    }
}

static int state_of(unsigned i)
{
    struct raid_info info = info_of("a");
    for (unsigned k = 0; k < info.member_count; k++)
        if (!strcmp(info.member[k].device, name_of("d", i)))
            return (int)info.member[k].state;
    return -1;
}

static void bring_back(void)
{
    struct err *e = &cuts_e;
    for (unsigned i = 0; i < row->members; i++) {
        int state = state_of(i);
        if (state == RAID_MEMBER_FAULTY)
            must(raid_remove_member("a", name_of("d", i), false, e), e);
        if ((state == RAID_MEMBER_FAULTY || state < 0) &&
            (toss(2, 44) || raid_readd_member("a", name_of("d", i), e)))
            must(raid_add_member("a", name_of("d", i), true, e), e);
    }
    work("a", 12);
    check(settled("a"));
    check_int(info_of("a").missing, 0);
}

/* Of one member, or of two at once: then a raid5 fails, and all that it has acknowledged is there
 * when it starts again. */
static void member_log_fails(void)
{
    unsigned victim = (unsigned)(pc_hash(story.seed, 5) % row->members);
    bool both = toss(3, 43);
    struct crowd w;
    crowd_begin(&w, &life, "a", 15);
    task_sleep_us(toss(2, 31) ? 1500 : 0);
    log_goes_bad(victim, 0);
    if (both)
        log_goes_bad((victim + 1) % row->members, 1);
    story.fatal = both && row->redundancy < 2;
    int error = crowd_end(&w);
    check(!error || story.fatal);
    if (!story.fatal && toss(2, 32))
        work("a", 12);
    get_well();
    bool out = !raid_fail_member("a", name_of("d", victim), false, &cuts_e);
    check(out || story.fatal);
    if (info_of("a").state == RAID_FAILED) {
        check(story.fatal);
        struct raid_assemble r = {.name = "a", .uuid = story.uuid, .degraded_ok = true};
        must(raid_stop("a", &cuts_e), &cuts_e);
        must(raid_assemble(&r, &cuts_e), &cuts_e);
    }
    work("a", 12);
    bring_back();
}

static void device_log_fails(void)
{
    struct crowd w;
    crowd_begin(&w, &life, "a", 15);
    task_sleep_us(toss(2, 31) ? 1500 : 0);
    go_bad(log_device_index(), toss(2, 45) ? LABEL : 0, PC_SIZE, false);
    check_int(crowd_end(&w), 0);
    while (!strcmp(info_of("a").log, "on"))
        work("a", 3);
    if (toss(2, 46))
        get_well();
    work("a", 15);
    if (toss(2, 47)) { /* from the start, if it answers */
        restart_array();
        work("a", 15);
    }
    get_well();
    crowd_begin(&w, &life, "a", 12);
    must(raid_set_log("a", false, NULL, true, &cuts_e), &cuts_e);
    if (toss(2, 48)) /* which it lets go only now */
        must(raid_set_log("a", false, log_device(), true, &cuts_e), &cuts_e);
    check_int(crowd_end(&w), 0);
    check(!strcmp(info_of("a").log, "on"));
}

void log_fails(void)
{
    set_redundancy(0);
    if (story.log_apart)
        device_log_fails();
    else
        member_log_fails();
    set_redundancy(row->redundancy);
}
