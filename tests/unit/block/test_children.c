/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Fan-out, merging of errors, forwarding. */
#include "testdev.h"

#include "base/mem.h"

static struct testdev *leg[2], *top;
static struct bdev_desc *d;

static void up(void)
{
    leg[0] = testdev_new("leg0");
    leg[1] = testdev_new("leg1");
    top = testdev_new("top");
    for (int i = 0; i < 2; i++) {
        testdev_add(leg[i]);
        top->below[i] = testdev_open(leg[i]->bdev.name, CLAIM_EXCLUSIVE);
    }
    top->below_count = 2;
    top->bdev.fanout = 2;
    top->bdev.redundant = true;
    testdev_add(top);
    d = testdev_open("top", CLAIM_SHARED_WRITE);
}

static void down(void)
{
    bdev_drain_close(&d);
    struct bdev_desc *below[2] = {top->below[0], top->below[1]};
    bdev_unregister(&top->bdev);
    for (int i = 0; i < 2; i++) {
        bdev_close(&below[i]);
        bdev_unregister(&leg[i]->bdev);
    }
}

HARNESS_TEST(children_inherit_and_all_must_end)
{
    up();
    static uint8_t a[4096];
    fill(a, sizeof a, 1);
    check_int(bdev_write(d, 8192, a, sizeof a, BIO_FUA), 0);
    for (int i = 0; i < 2; i++) {
        check_int(leg[i]->log_count, 1);
        check_int(leg[i]->log[0].flags, BIO_FUA);
        check(!memcmp(leg[i]->data + 8192, a, sizeof a));
    }
    down();
}

HARNESS_TEST(first_error_of_a_child_is_the_parents)
{
    up();
    static uint8_t a[512];
    leg[1]->fail[BIO_WRITE] = -ENOSPC;
    check_int(bdev_write(d, 0, a, sizeof a, 0), -ENOSPC);
    check_int(leg[0]->log_count, 1);
    down();
}

struct many {
    struct bio bio[600];
    struct iovec iov;
    uint8_t data[512];
    unsigned left;
    struct task *task;
};

static void many_done(struct bio *bio)
{
    struct many *m = bio->arg;
    check_int(bio->error, 0);
    if (!--m->left)
        task_wake(m->task);
}

static void many(void *arg)
{
    struct many *m = xcalloc(1, sizeof *m);
    (void)arg;
    m->task = task_self();
    m->left = 600;
    m->iov = (struct iovec){m->data, 512};
    for (unsigned i = 0; i < 600; i++) {
        uint64_t own = reactor_self_index() * 600;
        bio_init(&m->bio[i], d, BIO_WRITE, (own + i) * 512, 512, many_done, m);
        bio_data(&m->bio[i], &m->iov, 1);
        bio_submit(&m->bio[i]);
    }
    task_park();
    free(m);
}

HARNESS_TEST(many_parents_at_once_on_all_reactors)
{
    up();
    task_call_all(many, NULL);
    check_int(top->log_count, 1800);
    check_int(leg[0]->log_count, 1800);
    check_int(leg[1]->log_count, 1800);
    down();
}

/* ---- forwarding: a device whose state belongs to reactor 1 */

static unsigned ran_on;

static void run_there(struct bdev *bdev, struct bio *bio)
{
    struct testdev *t = container_of(bdev, struct testdev, bdev);
    ran_on = reactor_self_index();
    bio_copy_out(bio, 0, t->data + bio->offset, bio->length);
    bio->bad_offset = 77;
    bio_complete(bio, t->fail[BIO_WRITE]);
}

static void forwarding_submit(struct bdev *bdev, struct bio *bio)
{
    (void)bdev;
    bio_forward(bio, reactor_get(1), run_there);
}

static unsigned done_on;

static void where_done(struct bio *bio)
{
    done_on = reactor_self_index();
    task_wake(bio->arg);
}

static struct testdev *fw;

static void write_from_here(void *arg)
{
    uint8_t b[512];
    fill(b, sizeof b, 6);
    struct iovec iov = {b, sizeof b};
    struct bio bio;
    bio_init(&bio, d, BIO_WRITE, 1024, 512, where_done, task_self());
    bio_data(&bio, &iov, 1);
    bio_submit(&bio);
    task_park();
    check_int(bio.error, *(int *)arg);
    check_int(done_on, reactor_self_index());
    check_int(ran_on, 1);
    if (bio.error)
        check_int(bio.bad_offset, 77);
    check(!memcmp(fw->data + 1024, b, sizeof b));
}

HARNESS_TEST(forwarded_bio_runs_on_the_owner_and_completes_at_home)
{
    fw = testdev_new("fw");
    struct bdev_ops forward_ops = *fw->bdev.ops;
    forward_ops.submit = forwarding_submit;
    fw->bdev.ops = &forward_ops;
    fw->bdev.fanout = 1;
    testdev_add(fw);
    d = testdev_open("fw", CLAIM_SHARED_WRITE);
    int expected = 0;
    for (unsigned r = 0; r < 3; r++)
        task_call(reactor_get(r), write_from_here, &expected);
    expected = fw->fail[BIO_WRITE] = -ENODATA;
    task_call(reactor_get(0), write_from_here, &expected);
    bdev_drain_close(&d);
    bdev_unregister(&fw->bdev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(children_inherit_and_all_must_end),
        cmocka_unit_test(first_error_of_a_child_is_the_parents),
        cmocka_unit_test(many_parents_at_once_on_all_reactors),
        cmocka_unit_test(forwarded_bio_runs_on_the_owner_and_completes_at_home),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
