/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A pool on an array, and the power goes while a volume is made: at each moment the members are
 * what their caches left, the array is assembled, and the pool on it has its old text or the new
 * one, the new one once the verb had returned.
 */
#include "../raid/powercut.h"
#include "pools.h"

#include "base/log.h"

enum { EXTENT = 64 << 10, CUTS = 40 };

static struct pc_life life;
static struct uuid uuid;
static uint64_t begun, done;

static void make_array(const char *level, unsigned members)
{
    const char *names[PC_MEMBERS];
    struct err e;
    pc_life_begin(&life, "d", members);
    for (unsigned i = 0; i < members; i++) {
        life.base[i].data = calloc(1, PC_SIZE);
        check(life.base[i].data);
        names[i] = name_of("d", i);
    }
    pc_power_on(&life);
    for (unsigned i = 0; i < members; i++)
        names[i] = name_of("d", i);
    uuid = uuid_random();
    struct raid_create c = {.name = "a",
                            .level = level,
                            .members = names,
                            .member_count = members,
                            .chunk = 4096,
                            .uuid = &uuid};
    must(raid_create(&c, &e), &e);
}

static void make_history(void)
{
    static const char *const devices[] = {"a"};
    struct pool_create c = {
        .name = "p", .devices = devices, .device_count = 1, .extent_size = EXTENT};
    struct err e = {0};
    ok(pool_create(&c, &e), &e, "pool_create");
    ok(volume_create("p", "v", EXTENT, &e), &e, "volume_create");
    begun = life.clock;
    ok(volume_create("p", "new", EXTENT, &e), &e, "volume_create");
    done = life.clock;
    stop_pool("p");
    must(raid_stop("a", &e), &e);
    pc_hold(&life);
}

static bool made_after(const struct pc_cut *c)
{
    struct pc_life next;
    struct err e;
    pc_life_begin(&next, "c", life.members);
    pc_build(&life, c, next.base);
    pc_power_on(&next);
    struct raid_assemble r = {.name = "a", .uuid = uuid};
    must(raid_assemble(&r, &e), &e);
    import_pool("p");
    struct pool_info info = pool_info_of("p");
    check_int(info.state, POOL_ACTIVE);
    check(bdev_find("p/v"));
    bool made = bdev_find("p/new");
    check(made || c->at < done);
    stop_pool("p");
    must(raid_stop("a", &e), &e);
    pc_life_end(&next);
    return made;
}

static void cut_it(const char *level, unsigned members)
{
    unsigned made = 0, cuts = 0;
    uint64_t random = members;
    log_set_level(LOG_LEVEL_ERROR);
    make_array(level, members);
    make_history();
    uint64_t step = (done - begun) / CUTS + 1;
    for (uint64_t at = begun; at <= done + step; at += step, cuts++) {
        struct pc_cut c = {.at = at,
                           .keep = cuts % 3 ? (unsigned)pc_random(&random, 101) : 0,
                           .torn = cuts % 3 ? 40 : 0,
                           .seed = at};
        made += made_after(&c);
    }
    check(made && made < cuts); /* the moments are those between */
    pc_life_end(&life);
    log_set_level(LOG_LEVEL_INFO);
}

HARNESS_TEST(a_pool_on_a_mirror_has_the_old_text_or_the_new_one)
{
    cut_it("raid1", 2);
}

HARNESS_TEST(a_pool_on_a_raid5_has_the_old_text_or_the_new_one)
{
    cut_it("raid5", 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pool_on_a_mirror_has_the_old_text_or_the_new_one),
        cmocka_unit_test(a_pool_on_a_raid5_has_the_old_text_or_the_new_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
