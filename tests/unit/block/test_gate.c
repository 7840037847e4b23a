/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "testdev.h"

#include "base/mem.h"
#include "block/gate.h"

static struct testdev *t;
static struct bdev_desc *d;
static uint64_t alice, bob, carol;

static void up(void)
{
    alice = gate_nexus("iqn.alice");
    bob = gate_nexus("iqn.bob");
    carol = gate_nexus("iqn.carol");
    t = testdev_new("t");
    testdev_add(t);
    d = testdev_open("t", CLAIM_SHARED_WRITE);
}

static void down(void)
{
    bdev_drain_close(&d);
    bdev_unregister(&t->bdev);
    gate_nexus_put(alice);
    gate_nexus_put(bob);
    gate_nexus_put(carol);
}

/* alice and bob are registered; alice holds. */
static int reserve(struct gate_state *s, void *arg)
{
    s->type = *(enum gate_type *)arg;
    s->holder = alice;
    s->generation++;
    s->count = 2;
    s->reg = xrealloc(s->reg, 2 * sizeof *s->reg);
    s->reg[0] = (struct gate_registrant){.nexus = alice, .key = 1};
    s->reg[1] = (struct gate_registrant){.nexus = bob, .key = 2};
    return 0;
}

static int io(uint64_t nexus, enum bio_op op)
{
    uint8_t b[512];
    struct iovec iov = {b, sizeof b};
    struct bio bio;
    bio_init(&bio, d, op, 0, 512, NULL, NULL);
    bio_data(&bio, &iov, 1);
    bio.nexus = nexus;
    return bio_wait(&bio);
}

HARNESS_TEST(nexus_ids_are_stable_and_named)
{
    up();
    check(alice && bob && alice != bob);
    check_int(gate_nexus("iqn.alice"), alice);
    gate_nexus_put(alice);
    char name[32];
    check(gate_nexus_name(bob, name, sizeof name));
    check(!strcmp(name, "iqn.bob"));
    check(!gate_nexus_name(0, name, sizeof name));
    check(!gate_nexus_name(1u << 30, name, sizeof name));
    down();
}

static int clear(struct gate_state *s, void *arg)
{
    (void)arg;
    s->type = GATE_NONE;
    s->count = 0;
    return 0;
}

HARNESS_TEST(a_name_is_forgotten_when_nobody_refers_to_it)
{
    enum gate_type type = GATE_WRITE_EXCLUSIVE;
    char name[32];
    uint64_t many[5000];
    up();
    check_int(gate_change(&t->bdev, reserve, NULL, &type), 0);
    uint64_t held = alice, passing = gate_nexus("passing");
    gate_nexus_put(passing);
    check(!gate_nexus_name(passing, name, sizeof name));
    uint64_t again = gate_nexus("passing");
    check(again > passing);
    gate_nexus_put(again);
    gate_nexus_put(alice); /* its session ends: the registration stays */
    check(gate_nexus_name(held, name, sizeof name) && !strcmp(name, "iqn.alice"));
    alice = gate_nexus("iqn.alice");
    check_int(alice, held);
    gate_nexus_put(alice);
    check_int(gate_change(&t->bdev, clear, NULL, NULL), 0);
    check(!gate_nexus_name(held, name, sizeof name));
    alice = gate_nexus("iqn.alice");
    check(alice > held);
    for (unsigned i = 0; i < 5000; i++) { /* more than there are buckets */
        snprintf(name, sizeof name, "one of many %u", i);
        many[i] = gate_nexus(name);
    }
    for (unsigned i = 0; i < 5000; i++) {
        char want[32];
        snprintf(want, sizeof want, "one of many %u", i);
        check(gate_nexus_name(many[i], name, sizeof name) && !strcmp(name, want));
        gate_nexus_put(many[i]);
        check(!gate_nexus_name(many[i], name, sizeof name));
    }
    down();
}

struct row {
    enum gate_type type;
    int holder_w, bob_r, bob_w, carol_r, carol_w;
};

HARNESS_TEST(each_type_lets_through_what_spc_says)
{
    const int no = -EBADE;
    const struct row rows[] = {
        {GATE_WRITE_EXCLUSIVE, 0, 0, no, 0, no},
        {GATE_EXCLUSIVE_ACCESS, 0, no, no, no, no},
        {GATE_WRITE_EXCLUSIVE_REGISTRANTS, 0, 0, 0, 0, no},
        {GATE_EXCLUSIVE_ACCESS_REGISTRANTS, 0, 0, 0, no, no},
        {GATE_WRITE_EXCLUSIVE_ALL, 0, 0, 0, 0, no},
        {GATE_EXCLUSIVE_ACCESS_ALL, 0, 0, 0, no, no},
    };
    up();
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        enum gate_type type = rows[i].type;
        check_int(gate_change(&t->bdev, reserve, NULL, &type), 0);
        check_int(io(alice, BIO_WRITE), rows[i].holder_w);
        check_int(io(bob, BIO_READ), rows[i].bob_r);
        check_int(io(bob, BIO_WRITE), rows[i].bob_w);
        check_int(io(carol, BIO_READ), rows[i].carol_r);
        check_int(io(carol, BIO_WRITE), rows[i].carol_w);
        check_int(io(0, BIO_WRITE), 0); /* internal */
        check_int(gate_allows(&t->bdev, carol, true), !rows[i].carol_w);
    }
    check_int(bdev_flush(d), 0);
    down();
}

static int refuse(struct gate_state *s, void *arg)
{
    (void)s;
    (void)arg;
    return -EIO;
}

HARNESS_TEST(nothing_is_published_when_it_cannot_be_made_durable)
{
    up();
    enum gate_type type = GATE_EXCLUSIVE_ACCESS;
    check_int(gate_change(&t->bdev, reserve, refuse, &type), -EIO);
    check_int(io(carol, BIO_WRITE), 0);
    struct gate_state s;
    gate_get(&t->bdev, &s);
    check_int(s.type, GATE_NONE);
    check_int(s.count, 0);
    free(s.reg);
    down();
}

static bool changed;

static void change_task(void *arg)
{
    check_int(gate_change(&t->bdev, reserve, NULL, arg), 0);
    changed = true;
}

struct io {
    struct bio bio;
    struct iovec iov;
    uint8_t data[512];
    int done;
};

static bool is_done(const struct io *io)
{
    return __atomic_load_n(&io->done, __ATOMIC_SEQ_CST);
}

static void io_done(struct bio *bio)
{
    struct io *x = (struct io *)bio;
    check_int(bio->error, 0);
    __atomic_store_n(&x->done, 1, __ATOMIC_SEQ_CST);
}

static void start_write(void *arg)
{
    struct io *x = arg;
    x->iov = (struct iovec){x->data, 512};
    bio_init(&x->bio, d, BIO_WRITE, 0, 512, io_done, NULL);
    bio_data(&x->bio, &x->iov, 1);
    x->bio.nexus = carol;
    bio_submit(&x->bio);
}

static void let_go(void *arg)
{
    testdev_release(arg);
}

HARNESS_TEST(change_waits_for_conflicting_bios_in_flight)
{
    up();
    static struct io x;
    x.done = 0;
    changed = false;
    t->hold = true;
    task_call(reactor_get(1), start_write, &x);
    enum gate_type type = GATE_WRITE_EXCLUSIVE;
    task_start(reactor_main(), "change", change_task, &type);
    for (int i = 0; i < 6000 && gate_allows(&t->bdev, carol, true); i++)
        task_sleep_us(10000);
    check(!changed && !is_done(&x));
    check(!gate_allows(&t->bdev, carol, true)); /* already in force for newcomers */
    t->hold = false;
    task_call(reactor_get(1), let_go, t);
    for (int i = 0; i < 6000 && !(changed && is_done(&x)); i++)
        task_sleep_us(10000);
    check(changed && is_done(&x));
    down();
}

static bool saved_for(const struct uuid *device, struct gate_state *s)
{
    (void)device;
    enum gate_type type = GATE_WRITE_EXCLUSIVE;
    *s = (struct gate_state){0};
    reserve(s, &type);
    gate_nexus("iqn.alice"); /* handed over with the state */
    gate_nexus("iqn.bob");
    return true;
}

HARNESS_TEST(what_was_saved_holds_from_the_beginning)
{
    gate_set_saved(saved_for);
    up();
    check_int(io(carol, BIO_WRITE), -EBADE);
    check_int(io(carol, BIO_READ), 0);
    check_int(io(alice, BIO_WRITE), 0);
    check(!gate_allows(&t->bdev, carol, true));
    down();
    gate_set_saved(NULL);
}

HARNESS_TEST(a_device_that_is_read_only_has_a_gate_too)
{
    up();
    bdev_drain_close(&d);
    bdev_unregister(&t->bdev);
    t = testdev_new("t");
    t->bdev.read_only = true;
    testdev_add(t);
    struct bdev_user served = {.label = "served", .gated = true};
    struct err e;
    d = bdev_open("t", CLAIM_READ, &served, &e);
    enum gate_type type = GATE_EXCLUSIVE_ACCESS;
    check_int(gate_change(&t->bdev, reserve, NULL, &type), 0);
    check_int(io(carol, BIO_READ), -EBADE);
    check_int(io(alice, BIO_READ), 0);
    bdev_drain_close(&d);
    d = testdev_open("t", CLAIM_READ); /* a layer of ours */
    check_int(io(carol, BIO_READ), 0);
    down();
}

static int put_closed(struct gate_state *s, void *arg)
{
    s->closed = *(bool *)arg;
    return 0;
}

HARNESS_TEST(a_closed_gate_lets_nobody_through_but_the_daemon)
{
    up();
    bool closed = true;
    enum gate_type type = GATE_WRITE_EXCLUSIVE;
    check_int(gate_change(&t->bdev, reserve, NULL, &type), 0);
    check_int(gate_change(&t->bdev, put_closed, NULL, &closed), 0);
    check_int(io(alice, BIO_READ), -EBADE);
    check_int(io(carol, BIO_READ), -EBADE);
    check_int(io(0, BIO_WRITE), 0);
    check(!gate_allows(&t->bdev, alice, false) && gate_reservation_allows(&t->bdev, alice, true));
    closed = false;
    check_int(gate_change(&t->bdev, put_closed, NULL, &closed), 0);
    check_int(io(alice, BIO_WRITE), 0);
    check_int(io(carol, BIO_WRITE), -EBADE);
    down();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nexus_ids_are_stable_and_named),
        cmocka_unit_test(a_name_is_forgotten_when_nobody_refers_to_it),
        cmocka_unit_test(each_type_lets_through_what_spc_says),
        cmocka_unit_test(nothing_is_published_when_it_cannot_be_made_durable),
        cmocka_unit_test(what_was_saved_holds_from_the_beginning),
        cmocka_unit_test(a_device_that_is_read_only_has_a_gate_too),
        cmocka_unit_test(a_closed_gate_lets_nobody_through_but_the_daemon),
        cmocka_unit_test(change_waits_for_conflicting_bios_in_flight),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
