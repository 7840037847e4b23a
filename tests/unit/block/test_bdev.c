/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names, claims, lifetime, size, quiesce, in-flight listing. */
#include "testdev.h"

#include "base/mem.h"

static struct bdev_user user(const char *label)
{
    struct bdev_user u = {0};
    snprintf(u.label, sizeof u.label, "%s", label);
    return u;
}

HARNESS_TEST(names_are_checked_and_shared)
{
    struct err e;
    check(bdev_name_valid("a"));
    check(bdev_name_valid("0_.-Z"));
    check(!bdev_name_valid(""));
    check(!bdev_name_valid(".a"));
    check(!bdev_name_valid("a b"));
    check(!bdev_name_valid("a/b"));
    check(!bdev_name_valid("123456789012345678901234567890123"));
    struct testdev *t = testdev_new("x");
    testdev_add(t);
    struct testdev *u = testdev_new("x");
    check(bdev_register(&u->bdev, &e) == -1);
    check_int(e.code, ERR_EXISTS);
    check(bdev_name_reserve("x", "pool", &e) == -1);
    check(!bdev_name_reserve("p", "pool", &e));
    snprintf(u->bdev.name, sizeof u->bdev.name, "p");
    check(bdev_register(&u->bdev, &e) == -1);
    check(strstr(e.msg, "pool"));
    snprintf(u->bdev.name, sizeof u->bdev.name, "p/v");
    testdev_add(u);
    bdev_unregister(&u->bdev);
    bdev_name_release("p");
    bdev_unregister(&t->bdev);
    check(!bdev_find("x"));
}

HARNESS_TEST(devices_are_found_by_name_and_uuid_and_under_a_new_name)
{
    struct testdev *t[40];
    char name[8];
    for (int i = 0; i < 40; i++) {
        snprintf(name, sizeof name, "n%d", i);
        t[i] = testdev_new(name);
        testdev_add(t[i]);
    }
    bdev_rename(&t[7]->bdev, "other");
    check(!bdev_find("n7") && bdev_find("other") == &t[7]->bdev);
    for (int i = 8; i < 40; i++) {
        snprintf(name, sizeof name, "n%d", i);
        check(bdev_find(name) == &t[i]->bdev);
        check(bdev_find_uuid(&t[i]->bdev.uuid) == &t[i]->bdev);
    }
    struct uuid gone = t[7]->bdev.uuid;
    for (int i = 0; i < 40; i++)
        bdev_unregister(&t[i]->bdev);
    check(!bdev_find("other") && !bdev_find_uuid(&gone));
}

HARNESS_TEST(exclusive_claim_excludes_and_names_the_holder)
{
    struct testdev *t = testdev_new("x");
    testdev_add(t);
    struct err e;
    struct bdev_user raid = user("array a0"), nbd = user("nbd export e");
    struct bdev_desc *d = bdev_open("x", CLAIM_EXCLUSIVE, &raid, &e);
    check(d);
    check(!bdev_open("x", CLAIM_SHARED_WRITE, &nbd, &e));
    check_int(e.code, ERR_IN_USE);
    check(strstr(e.msg, "array a0"));
    check(!bdev_open("x", CLAIM_READ, &nbd, &e));
    bdev_close(&d);
    struct bdev_desc *a = bdev_open("x", CLAIM_SHARED_WRITE, &nbd, &e);
    struct bdev_desc *b = bdev_open("x", CLAIM_SHARED_WRITE, &raid, &e);
    check(a && b);
    check(!bdev_open("x", CLAIM_EXCLUSIVE, &raid, &e));
    char users[200];
    check(bdev_users(&t->bdev, users, sizeof users));
    check(!strcmp(users, "nbd export e, array a0"));
    bdev_close(&a);
    bdev_close(&b);
    check(!bdev_open("nope", CLAIM_READ, &nbd, &e));
    check_int(e.code, ERR_NOT_FOUND);
    bdev_unregister(&t->bdev);
}

static struct bdev_desc *held;
static unsigned removed_events, resized_events;

static void close_later(void *arg)
{
    (void)arg;
    task_sleep_us(30000);
    bdev_drain_close(&held);
}

static void on_event(struct bdev_desc *desc, enum bdev_event ev, void *arg)
{
    (void)arg;
    check(desc == held && !task_in());
    if (ev == BDEV_EVENT_RESIZE)
        resized_events++;
    if (ev == BDEV_EVENT_REMOVE) {
        removed_events++;
        task_start(reactor_main(), "closer", close_later, NULL);
    }
}

HARNESS_TEST(removal_tells_users_refuses_io_and_waits_for_the_last_close)
{
    bool destroyed = false;
    struct testdev *t = testdev_new("x");
    t->destroyed = &destroyed;
    testdev_add(t);
    struct err e;
    struct bdev_user u = user("u");
    u.event = on_event;
    removed_events = 0;
    held = bdev_open("x", CLAIM_SHARED_WRITE, &u, &e);
    static uint8_t b[512];
    check_int(bdev_read(held, 0, b, 512), 0);
    uint64_t t0 = clock_ns();
    bdev_unregister(&t->bdev);
    check(destroyed && removed_events == 1 && !held);
    check(clock_ns() - t0 >= 24000000);
    check(!bdev_find("x"));
    struct testdev *again = testdev_new("x"); /* the name is free now */
    testdev_add(again);
    bdev_unregister(&again->bdev);
}

static void unregister_task(void *arg)
{
    bdev_unregister(arg);
}

HARNESS_TEST(removing_device_ends_new_bios_with_enodev)
{
    struct testdev *t = testdev_new("x");
    testdev_add(t);
    struct bdev_desc *d = testdev_open("x", CLAIM_SHARED_WRITE);
    task_start(reactor_main(), "remover", unregister_task, &t->bdev);
    static uint8_t b[512];
    until(bdev_read(d, 0, b, 512) == -ENODEV);
    struct err e;
    struct bdev_user u = user("late");
    check(!bdev_open("x", CLAIM_READ, &u, &e));
    bdev_close(&d);
    until(!bdev_find("x"));
}

HARNESS_TEST(grow_and_shrink_are_seen_and_told)
{
    struct testdev *t = testdev_new("x");
    t->bdev.size = 1 << 20;
    testdev_add(t);
    struct err e;
    struct bdev_user u = user("u");
    u.event = on_event;
    resized_events = 0;
    held = bdev_open("x", CLAIM_SHARED_WRITE, &u, &e);
    static uint8_t b[512];
    check_int(bdev_read(held, 1 << 20, b, 512), -ENXIO);
    bdev_set_size(&t->bdev, 2 << 20);
    check_int(bdev_read(held, 1 << 20, b, 512), 0);
    bdev_set_size(&t->bdev, 1 << 20);
    check_int(bdev_read(held, 1 << 20, b, 512), -ENXIO);
    check_int(bdev_size(held), 1 << 20);
    until(resized_events >= 1);
    bdev_close(&held);
    bdev_unregister(&t->bdev);
}

struct io {
    struct bio bio;
    struct iovec iov;
    uint8_t data[512];
    bool done;
};

static bool is_done(const struct io *io)
{
    return __atomic_load_n(&io->done, __ATOMIC_SEQ_CST);
}

static void io_done(struct bio *bio)
{
    __atomic_store_n(&((struct io *)bio)->done, true, __ATOMIC_SEQ_CST);
}

static struct bdev_desc *shared;

static void start_io(void *arg)
{
    struct io *io = arg;
    io->iov = (struct iovec){io->data, 512};
    bio_init(&io->bio, shared, BIO_WRITE, 0, 512, io_done, NULL);
    bio_data(&io->bio, &io->iov, 1);
    bio_submit(&io->bio);
}

static bool quiesced;

static void quiesce_task(void *arg)
{
    bdev_quiesce(arg);
    quiesced = true;
}

static void release_here(void *arg)
{
    testdev_release(arg);
}

HARNESS_TEST(quiesce_waits_for_all_reactors_and_holds_new_bios)
{
    struct testdev *t = testdev_new("x");
    testdev_add(t);
    shared = testdev_open("x", CLAIM_SHARED_WRITE);
    static struct io first, second;
    first.done = second.done = quiesced = false;
    t->hold = true;
    task_call(reactor_get(1), start_io, &first);
    task_start(reactor_main(), "quiesce", quiesce_task, &t->bdev);
    task_sleep_us(5000);
    check(!quiesced && !is_done(&first)); /* a bio is out on reactor 1 */
    t->hold = false;
    task_call(reactor_get(1), release_here, t);
    until(quiesced && is_done(&first));
    unsigned before = t->log_count;
    task_call(reactor_get(0), start_io, &second);
    task_sleep_us(5000);
    check(!is_done(&second));
    check_int(t->log_count, before);
    bdev_quiesce(&t->bdev); /* counted */
    bdev_resume(&t->bdev);
    check(!is_done(&second));
    bdev_resume(&t->bdev);
    until(is_done(&second));
    bdev_drain_close(&shared);
    bdev_unregister(&t->bdev);
}

static unsigned listed;

static void look(const struct inflight_info *i, void *arg)
{
    (void)arg;
    check(!strcmp(i->device, "x"));
    check_int(i->op, BIO_WRITE);
    check_int(i->length, 512);
    check_int(i->reactor, 1);
    check(i->age_us >= 3000);
    check(!strcmp(i->where, "driver"));
    listed++;
}

HARNESS_TEST(bios_in_flight_are_listed_with_age_and_layer)
{
    struct testdev *t = testdev_new("x");
    testdev_add(t);
    shared = testdev_open("x", CLAIM_SHARED_WRITE);
    static struct io io;
    io.done = false;
    t->hold = true;
    task_call(reactor_get(1), start_io, &io);
    task_sleep_us(5000);
    listed = 0;
    check_int(bdev_inflight(&t->bdev), 1);
    bdev_inflight_list(look, NULL);
    check_int(listed, 1);
    t->hold = false;
    task_call(reactor_get(1), release_here, t);
    bdev_drain_close(&shared);
    check(is_done(&io));
    bdev_unregister(&t->bdev);
}

static unsigned added, gone;

static void on_watch(struct bdev *bdev, bool is_added, void *arg)
{
    (void)arg;
    check(!strcmp(bdev_name(bdev), "w"));
    *(is_added ? &added : &gone) += 1;
}

HARNESS_TEST(watchers_hear_of_arrivals_and_removals)
{
    struct bdev_watch w = {.fn = on_watch};
    bdev_watch(&w);
    added = gone = 0;
    struct testdev *t = testdev_new("w");
    testdev_add(t);
    check(added == 1 && !gone);
    bdev_unregister(&t->bdev);
    check(added == 1 && gone == 1);
    bdev_unwatch(&w);
    t = testdev_new("w");
    testdev_add(t);
    bdev_unregister(&t->bdev);
    check_int(added, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_checked_and_shared),
        cmocka_unit_test(devices_are_found_by_name_and_uuid_and_under_a_new_name),
        cmocka_unit_test(exclusive_claim_excludes_and_names_the_holder),
        cmocka_unit_test(removal_tells_users_refuses_io_and_waits_for_the_last_close),
        cmocka_unit_test(removing_device_ends_new_bios_with_enodev),
        cmocka_unit_test(grow_and_shrink_are_seen_and_told),
        cmocka_unit_test(quiesce_waits_for_all_reactors_and_holds_new_bios),
        cmocka_unit_test(bios_in_flight_are_listed_with_age_and_layer),
        cmocka_unit_test(watchers_hear_of_arrivals_and_removals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
