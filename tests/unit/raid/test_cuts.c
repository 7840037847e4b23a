/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Power cuts of every level:
 *
 *   unit-raid-cuts [NAME]      one of the rows below; without, all of them
 *
 * 200 cuts a level and more, ORION_CUTS_TIMES so many, or ORION_CUTS a row (0: without end),
 * ORION_SEED for others than those of the default suite. ORION_CUTS_IMAGES: a folder for the
 * members as the cuts left them, while nobody was missing. ORION_CUTS_CASE: a failure that was
 * kept. A history is: creation (with a resync, where members hold junk), writes, rest, a member
 * that fails, writes without it, its return or a new one, writes during and after (or another
 * course: cuts.h), a stop, a start, writes, a stop; cuts are anywhere in it, with a member lost too
 * where redundancy stands for it. Some are double cuts: clients write during the recovery, and the
 * power goes again. What fails is printed with its seed, and shrunk to the writes that matter.
 */
#include "cuts.h"

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

enum { A_HISTORY = 200 }; /* cuts of one history */

static const struct row rows[] = {
    {"raid0", 200, "raid0", 0, 3, 0, false, false, NULL, COURSE_FAILURE},
    {"raid1", 70, "raid1", 1, 2, 1, false, false, NULL, COURSE_FAILURE},
    {"raid1-three", 70, "raid1", 1, 3, 2, false, false, NULL, COURSE_FAILURE},
    {"raid1-bitmap", 70, "raid1", 1, 2, 1, true, false, NULL, COURSE_FAILURE},
    {"raid10", 50, "raid10", 10, 4, 1, false, false, NULL, COURSE_FAILURE},
    {"raid10-odd-bitmap", 50, "raid10", 10, 3, 1, true, false, NULL, COURSE_FAILURE},
    {"raid10-far", 50, "raid10", 10, 4, 1, false, false, "f2", COURSE_FAILURE},
    {"raid10-offset-bitmap", 50, "raid10", 10, 3, 1, true, false, "o2", COURSE_FAILURE},
    {"raid4", 200, "raid4", 4, 4, 1, false, false, NULL, COURSE_FAILURE},
    {"raid5", 70, "raid5", 5, 4, 1, false, false, NULL, COURSE_FAILURE},
    {"raid5-bitmap", 70, "raid5", 5, 4, 1, true, false, NULL, COURSE_FAILURE},
    {"raid5-no-log", 70, "raid5", 5, 4, 1, false, true, NULL, COURSE_FAILURE},
    {"raid5-log-device", 70, "raid5", 5, 4, 1, false, false, NULL, COURSE_FAILURE},
    {"raid6", 100, "raid6", 6, 5, 2, false, false, NULL, COURSE_FAILURE},
    {"raid6-bitmap", 100, "raid6", 6, 5, 2, true, false, NULL, COURSE_FAILURE},
    {"raid6-log-device", 70, "raid6", 6, 5, 2, false, false, NULL, COURSE_FAILURE},
    {"raid1-bad", 100, "raid1", 1, 2, 1, false, false, NULL, COURSE_BAD},
    {"raid10-bad", 100, "raid10", 10, 3, 1, false, false, NULL, COURSE_BAD},
    {"raid5-bad", 100, "raid5", 5, 4, 1, false, false, NULL, COURSE_BAD},
    {"raid6-bad", 100, "raid6", 6, 5, 2, false, false, NULL, COURSE_BAD},
    {"raid1-slots", 100, "raid1", 1, 2, 1, false, false, NULL, COURSE_SLOTS},
    {"raid1-larger", 100, "raid1", 1, 2, 1, false, false, NULL, COURSE_SIZE},
    {"raid10-larger", 100, "raid10", 10, 3, 1, false, false, NULL, COURSE_SIZE},
    {"raid5-larger", 100, "raid5", 5, 4, 1, false, false, NULL, COURSE_SIZE},
    {"raid6-larger", 100, "raid6", 6, 5, 2, false, false, NULL, COURSE_SIZE},
    {"raid5-log-fails", 100, "raid5", 5, 4, 1, false, false, NULL, COURSE_LOG},
    {"raid6-log-fails", 100, "raid6", 6, 5, 2, false, false, NULL, COURSE_LOG},
    {"raid5-log-device-fails", 100, "raid5", 5, 4, 1, false, false, NULL, COURSE_LOG},
};
enum { ROWS = sizeof rows / sizeof *rows };

const struct row *row;
static struct pc_life next;
static uint64_t cuts_wanted, cuts_done, recoveries;
static struct pc_cut first_cut, second_cut;
static bool second;
static unsigned beside; /* requests of each client during the recovery */
static uint64_t lost;

/* ---- after a cut */

/* Is it bad after the cut? */
static bool is_bad(const struct place *p)
{
    return story.bad_at && p->since <= story.bad_at && p->until > story.bad_at;
}

/* Rows that a member cannot read; with a member lost, those that were on its list: what was logged
 * may be lost with that one. Slots are as devices. */
static void shape_bad(struct pc_shape *shape, uint64_t at)
{
    bool listed = lost && redundancy_at(at) < row->redundancy;
    for (unsigned i = 0; i < story.places && row->course == COURSE_BAD; i++) {
        const struct place *p = &story.place[i];
        if ((is_bad(p) && p->reads) || listed)
            shape->bad[shape->bads++] = (struct pc_bad){p->device, (p->from - DATA) / PC_SECTOR,
                                                        (p->to - DATA) / PC_SECTOR};
    }
}

/* Nothing is promised of what the array has gained before that is synced, when a member is lost. */
static uint64_t open_from(const struct pc_life *before, uint64_t at)
{
    bool open = story.small && lost &&
                (before != &life || (at > story.grow_begins && at <= story.grow_synced));
    return open ? story.small / PC_SECTOR : 0;
}

static struct pc_shape shape_of(const struct pc_life *before, uint64_t at, uint64_t missing)
{
    bool parity = row->number >= 4 && row->number <= 6;
    struct pc_shape shape = {.level = row->number,
                             .slots = row->members,
                             .data = row->members - (parity ? row->redundancy : 0),
                             .chunk = story.chunk,
                             .lost = lost ? missing : 0, /* nobody else was missing */
                             .missing = missing,
                             .no_log = row->no_log,
                             .open_from = open_from(before, at)};
    shape_bad(&shape, at);
    return shape;
}

/* 1: runs; 0: it need not. */
static int start_it(const struct pc_life *before, const struct pc_cut *c, bool *forced_r)
{
    struct raid_assemble r = {
        .name = "b", .uuid = story.uuid, .degraded_ok = true, .no_log = row->no_log};
    *forced_r = false;
    if (!raid_assemble(&r, &cuts_e))
        return 1;
    if (c->at < before->created)
        return 0;
    if (row->no_log && cuts_e.code == ERR_NEEDS_FORCE) { /* as documented: dirty and degraded */
        r.force = true;
        *forced_r = true;
        if (!raid_assemble(&r, &cuts_e))
            return 1;
    }
    pc_fail("it is not assembled: %s", cuts_e.msg);
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

static bool read_all(uint8_t *out)
{
    struct bdev_desc *d = open_device("b", CLAIM_READ);
    int error = bdev_read(d, 0, out, bdev_size(d));
    bdev_close(&d);
    return error ? pc_fail("the array cannot be read: %s", strerror(-error)) : true;
}

/* Has somebody written beyond the old end? */
static bool grown_in_use(uint64_t at)
{
    for (unsigned i = 0; i < life.ops; i++) {
        const struct pc_op *o = &life.op[i];
        if (o->submitted && o->submitted <= at && (o->lba + o->sectors) * PC_SECTOR > story.small)
            return true;
    }
    return false;
}

static bool size_fits(const struct pc_life *before, uint64_t at, uint64_t size)
{
    bool grows = before == &life && story.large;
    bool small = grows && (at <= story.grow_ends && !grown_in_use(at));
    bool large = !grows || at >= story.grow_begins;
    if (before == &life && at < life.created)
        return true;
    return (small && size == story.small) || (large && size == before->size) ||
           pc_fail("its size is %llu", (unsigned long long)size);
}

/* It runs: what does it hold, now, while it recovers, and then? */
static bool look(struct pc_life *l, const struct pc_life *before, const struct pc_cut *c)
{
    struct pc_shape shape = shape_of(before, c->at, missing_slots("b"));
    autofree uint8_t *again = malloc(before->size);
    l->size = shape.size = info_of("b").size;
    l->baseline = malloc(before->size);
    check(again && l->baseline);
    if (!size_fits(before, c->at, l->size))
        return false;
    /* Of members with junk some may not belong to it yet: then it is other junk. */
    bool any = (story.junk || story.small) && c->at < before->created;
    if (!read_all(l->baseline) || (!any && !pc_check_content(before, l->baseline, c->at, &shape)))
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
    if (!read_all(again))
        return false;
    if (!pc_check_content(l, again, UINT64_MAX, NULL)) {
        char why[sizeof pc_why];
        snprintf(why, sizeof why, "%s", pc_why);
        return pc_fail("after the recovery: %.400s", why);
    }
    struct raid_info info = info_of("b");
    if (info.state == RAID_FAILED)
        return pc_fail("the array has failed");
    bool whole = redundancy_at(c->at) >= row->redundancy ||
                 (row->course != COURSE_FAILURE && row->course != COURSE_LOG);
    if (!lost && whole && info.missing && before == &life && c->at >= before->created)
        return pc_fail("%u members were left out", info.missing);
    return true;
}

/* From images in l->base: true when all is as promised. The devices stay, for a second cut. */
static bool restart(struct pc_life *l, const struct pc_life *before, const struct pc_cut *c)
{
    bool forced, good;
    bool slowly = row->redundancy && beside;
    pc_power_on(l);
    for (unsigned i = 0; i < l->members; i++)
        if (l->base[i].data && (slowly || story.bad_at))
            put_rules(l->kind, i, story.bad_at, slowly ? "write:delay=200us:probability=0.2" : "");
    int runs = start_it(before, c, &forced);
    if (runs <= 0)
        return runs == 0;
    good = look(l, before, c);
    if (raid_stop("b", &cuts_e))
        return good && pc_fail("it cannot be stopped: %s", cuts_e.msg);
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
        redundancy_at(c->at) >= row->redundancy)
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
    if (story.small && c.at < l->created) /* members agree where an array of that size has data */
        c.at = l->created + c.at;
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
    if (row->redundancy && !row->no_log && redundancy_at(c->at) && pc_random(random, 4) == 0)
        lost = 1ull << pc_random(random, row->members + (row->course == COURSE_SLOTS));
    story.bad_at = !lost && story.places && !story.fatal && c->seed % 2 ? c->at : 0;
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
            row->name, (unsigned long long)story.seed, (unsigned long long)cuts_done,
            (unsigned long long)life.created, (unsigned long long)story.chunk,
            (unsigned long long)lost);
    for (unsigned i = 0; i < story.changes; i++)
        fprintf(stderr, "  from %llu on %u more may go\n", (unsigned long long)story.change[i].at,
                story.change[i].left);
    for (unsigned i = 0; i < story.places; i++) {
        const struct place *p = &story.place[i];
        fprintf(stderr, "  from %llu to %llu %llu+%llu of member %u cannot be %s%s\n",
                (unsigned long long)p->since, (unsigned long long)p->until,
                (unsigned long long)p->from, (unsigned long long)(p->to - p->from), p->device,
                p->reads ? "read or written" : "written", is_bad(p) ? ", nor after the cut" : "");
    }
    if (story.large)
        fprintf(stderr, "  from %llu to %llu it grows from %llu to %llu bytes, synced at %llu\n",
                (unsigned long long)story.grow_begins, (unsigned long long)story.grow_ends,
                (unsigned long long)story.small, (unsigned long long)story.large,
                (unsigned long long)story.grow_synced);
    print_cut("first", &first_cut);
    if (second)
        print_cut("second", &second_cut);
}

/* What a case needs besides its life. */
static struct pc_cut kept_cut;
static const struct iovec frame[] = {
    {&story, sizeof story},   {&lost, sizeof lost},     {&cuts_done, sizeof cuts_done},
    {&second, sizeof second}, {&beside, sizeof beside}, {&kept_cut, sizeof kept_cut},
};
enum { FRAME = sizeof frame / sizeof *frame };

static void found(struct pc_life *l, struct pc_cut *c)
{
    char path[80];
    fprintf(stderr, "FAILED: %s\n", pc_why);
    print_case();
    snprintf(path, sizeof path, "%s-%llu.case", row->name, (unsigned long long)story.seed);
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
    uint64_t random = pc_hash(story.seed, 77), end = cuts_done + cuts;
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
    lost = story.bad_at = 0;
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
    for (story.seed = base; !cuts_wanted || cuts_done < cuts_wanted; story.seed++) {
        uint64_t left = cuts_wanted ? cuts_wanted - cuts_done : A_HISTORY;
        cut_history(left < A_HISTORY ? left : A_HISTORY);
    }
    signal(SIGABRT, SIG_DFL);
    log_set_level(LOG_LEVEL_INFO);
    printf("%s: %llu cuts, %llu recoveries, seeds %llu to %llu\n", row->name,
           (unsigned long long)cuts_done, (unsigned long long)recoveries, (unsigned long long)base,
           (unsigned long long)story.seed - 1);
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
