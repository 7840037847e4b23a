/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "devices.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include "reactor/iobuf.h"

/* Each behaviour is tested in a folder of the disk (O_DIRECT through the ring where the file system
 * has it) and on tmpfs (inline system calls). */
static char folder[PATH_MAX];

static const char *in_folder(const char *name)
{
    static char path[PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static const char *options(const char *path, const char *more)
{
    static char text[PATH_MAX + 128];
    snprintf(text, sizeof text, "path=%s%s%s", path, *more ? "," : "", more);
    return text;
}

static struct bdev_desc *file_device(const char *more)
{
    device(&file_driver, "d", options(in_folder("disk"), more));
    return open_device("d", CLAIM_EXCLUSIVE);
}

static void file_gone(struct bdev_desc *d)
{
    bdev_close(&d);
    remove_device("d");
    check_int(unlink(in_folder("disk")), 0);
}

static void refused(const char *opts, enum err_code code, const char *field)
{
    struct bdev *b;
    struct err e = {0};
    if (!try_device(&file_driver, "d", opts, &b, &e))
        fprintf(stderr, "taken: %s\n", opts);
    if (e.code != code || strcmp(e.field, field))
        fprintf(stderr, "%s: [%s] %s\n", opts, e.field, e.msg);
    check_int(e.code, code);
    check_int(strcmp(e.field, field), 0);
    check(!bdev_find("d"));
}

static void make_file(const char *path, off_t size)
{
    int fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    check(fd >= 0);
    check_int(pwrite(fd, "data", 4, 0), 4);
    check_int(ftruncate(fd, size), 0);
    close(fd);
}

static bool on_tmpfs(void)
{
    return !strncmp(folder, "/dev/shm", 8);
}

static void a_missing_file_is_made_sparse_with_the_size(void)
{
    struct bdev_desc *d = file_device("size=16M");
    struct bdev_info info;
    struct stat st;
    bdev_get_info(d, &info);
    check_int(stat(in_folder("disk"), &st), 0);
    check_int(st.st_size, 16 << 20);
    check(st.st_blocks < 64);
    check_int(st.st_mode & 0777, 0600);
    check_int(info.size, 16 << 20);
    check(info.known_zero && info.discard_zeroes);
    check_int(info.write_cache, !on_tmpfs());
    file_gone(d);
}

static void nothing_is_made_without_a_size_or_in_a_wrong_place(void)
{
    char text[PATH_MAX + 64];
    refused(options(in_folder("disk"), ""), ERR_NOT_FOUND, "path");
    snprintf(text, sizeof text, "path=%s/no/disk,size=1M", folder);
    refused(text, ERR_INVALID, "path");
    refused("path=/dev/orion-test,size=1M", ERR_INVALID, "path");
    refused("path=/proc/orion-test,size=1M", ERR_INVALID, "path");
    refused("path=/sys/kernel/../orion-test,size=1M", ERR_INVALID, "path");
    refused(options(in_folder("disk"), "size=1M,read_only=true"), ERR_NOT_FOUND, "path");
    refused(options(folder, "size=1M"), ERR_INVALID, "path");
    refused("path=/dev/null", ERR_INVALID, "path");
    check_int(access(in_folder("disk"), F_OK), -1);
    check_int(access("/dev/orion-test", F_OK), -1);
}

static void a_file_that_a_failed_add_made_is_gone(void)
{
    device(&mem_driver, "d", "size=1M");
    struct bdev *b;
    struct err e = {0};
    check_int(try_device(&file_driver, "d", options(in_folder("disk"), "size=1M"), &b, &e), -1);
    check_int(e.code, ERR_EXISTS);
    check_int(access(in_folder("disk"), F_OK), -1);
    remove_device("d");
}

static void an_existing_file_keeps_its_size_and_data(void)
{
    uint8_t buf[512];
    make_file(in_folder("disk"), 1 << 20);
    refused(options(in_folder("disk"), "size=2M"), ERR_INVALID, "size");
    struct bdev_desc *d = file_device("size=1M");
    struct bdev_info info;
    bdev_get_info(d, &info);
    check(!info.known_zero);
    check_int(bdev_read(d, 0, buf, sizeof buf), 0);
    check(!memcmp(buf, "data", 4) && is_zero(buf + 4, 508));
    file_gone(d);
}

static void data_comes_back_through_any_shape_of_buffer(void)
{
    struct bdev_desc *d = file_device("size=16M");
    static uint8_t in[1 << 20], out[(1 << 20) + 64];
    fill_pattern(in, sizeof in, 5);
    /* odd address */
    check_int(bdev_write(d, 4096, in, sizeof in, 0), 0);
    check_int(bdev_read(d, 4096, out + 3, sizeof in), 0);
    check(!memcmp(in, out + 3, sizeof in));
    /* aligned buffer, two pieces, beginning in the middle of the first */
    struct iobuf *b = iobuf_get(1 << 20);
    memcpy(b->data, in, 1 << 20);
    struct iovec iov[2] = {{b->data, 8192}, {b->data + 16384, 65536}};
    struct bio bio;
    bio_init(&bio, d, BIO_WRITE, 2 << 20, 8192, NULL, NULL);
    bio_data(&bio, iov, 2);
    bio.iov_skip = 4096;
    check_int(bio_wait(&bio), 0);
    check_int(bdev_read(d, 2 << 20, out, 12288), 0);
    check(!memcmp(out, in + 4096, 4096) && !memcmp(out + 4096, in + 16384, 4096));
    check(is_zero(out + 8192, 4096));
    iobuf_put(&b);
    file_gone(d);
}

static void a_bio_of_more_pieces_than_a_system_call_takes_is_done_in_parts(void)
{
    struct bdev_desc *d = file_device("size=16M");
    enum { N = 2500, STEP = 4096 };
    struct iovec *iov = calloc(N, sizeof *iov);
    struct iobuf *b = iobuf_get((size_t)N * STEP);
    fill_pattern(b->data, (size_t)N * STEP, 9);
    for (unsigned i = 0; i < N; i++)
        iov[i] = (struct iovec){b->data + (size_t)(N - 1 - i) * STEP, STEP};
    struct bio bio;
    bio_init(&bio, d, BIO_WRITE, 0, (uint64_t)N * STEP, NULL, NULL);
    bio_data(&bio, iov, N);
    check_int(bio_wait(&bio), 0);
    uint8_t *back = malloc((size_t)N * STEP);
    check_int(bdev_read(d, 0, back, (size_t)N * STEP), 0);
    for (unsigned i = 0; i < N; i++)
        check(!memcmp(back + (size_t)i * STEP, iov[i].iov_base, STEP));
    free(back);
    free(iov);
    iobuf_put(&b);
    file_gone(d);
}

static void flush_and_fua_work(void)
{
    struct bdev_desc *d = file_device("size=1M");
    uint8_t buf[4096] = {7};
    check_int(bdev_write(d, 0, buf, sizeof buf, BIO_FUA), 0);
    check_int(do_op(d, BIO_WRITE_ZEROES, 0, 4096, BIO_FUA), 0);
    check_int(bdev_flush(d), 0);
    check_int(bdev_read(d, 0, buf, sizeof buf), 0);
    check(is_zero(buf, sizeof buf));
    file_gone(d);
}

static void a_discard_makes_a_hole_that_reads_zero(void)
{
    struct bdev_desc *d = file_device("size=4M");
    static uint8_t buf[1 << 20], out[1 << 20];
    struct stat before, after;
    struct extent x[8];
    fill_pattern(buf, sizeof buf, 1);
    check_int(bdev_write(d, 1 << 20, buf, sizeof buf, 0), 0);
    check_int(bdev_flush(d), 0);
    check_int(get_extents(d, 0, 4 << 20, x, 8), 3);
    check_int(x[0].length, 1 << 20);
    check_int(x[0].flags, EXTENT_HOLE | EXTENT_ZERO);
    check_int(x[1].length, 1 << 20);
    check_int(x[1].flags, 0);
    check_int(x[2].length, 2 << 20);
    check_int(stat(in_folder("disk"), &before), 0);
    check_int(do_op(d, BIO_DISCARD, (1 << 20) + 65536, 1 << 19, 0), 0);
    check_int(stat(in_folder("disk"), &after), 0);
    check(after.st_blocks < before.st_blocks && after.st_size == before.st_size);
    check_int(bdev_read(d, 1 << 20, out, sizeof out), 0);
    check(!memcmp(out, buf, 65536) && is_zero(out + 65536, 1 << 19));
    check(!memcmp(out + 65536 + (1 << 19), buf + 65536 + (1 << 19), (1 << 19) - 65536));
    check_int(get_extents(d, 1 << 20, 1 << 20, x, 8), 3);
    check_int(x[1].length, 1 << 19);
    check_int(get_extents(d, 0, 4 << 20, x, 1), 1);
    file_gone(d);
}

static void a_sparse_terabyte_is_told_in_one_answer(void)
{
    struct bdev_desc *d = file_device("size=1T");
    static uint8_t buf[65536];
    struct extent x[8];
    check_int(get_extents(d, 0, 1ull << 40, x, 8), 1);
    check_int(x[0].length, 1ull << 40);
    check_int(bdev_write(d, 1ull << 39, buf, sizeof buf, 0), 0);
    check_int(get_extents(d, 0, 1ull << 40, x, 8), 3);
    check_int(x[0].length, 1ull << 39);
    check_int(x[1].length, sizeof buf);
    check_int(x[1].flags, 0);
    check_int(x[2].length, (1ull << 39) - sizeof buf);
    file_gone(d);
}

/* tmpfs has no FALLOC_FL_ZERO_RANGE: there this is the core's writing of zeroes. */
static void zeroes_without_unmapping_stay_allocated(void)
{
    struct bdev_desc *d = file_device("size=4M");
    static uint8_t buf[1 << 20];
    struct stat st;
    for (unsigned i = 0; i < 2; i++) {
        fill_pattern(buf, sizeof buf, 1);
        check_int(bdev_write(d, 0, buf, sizeof buf, 0), 0);
        check_int(do_op(d, BIO_WRITE_ZEROES, 0, sizeof buf, BIO_NO_UNMAP), 0);
        check_int(bdev_read(d, 0, buf, sizeof buf), 0);
        check(is_zero(buf, sizeof buf));
        check_int(stat(in_folder("disk"), &st), 0);
        check(st.st_blocks >= (1 << 20) / 512);
    }
    check_int(do_op(d, BIO_WRITE_ZEROES, 0, sizeof buf, BIO_FAST_ZERO), 0);
    file_gone(d);
}

static void a_second_device_on_the_same_file_is_refused(void)
{
    struct bdev_desc *d = file_device("size=1M");
    struct bdev *b;
    struct err e = {0};
    char link_path[PATH_MAX + 64];
    check_int(try_device(&file_driver, "d2", options(in_folder("disk"), ""), &b, &e), -1);
    check_int(e.code, ERR_IN_USE);
    snprintf(link_path, sizeof link_path, "%s", in_folder("alias"));
    check_int(link(in_folder("disk"), link_path), 0);
    check_int(try_device(&file_driver, "d2", options(link_path, "read_only=true"), &b, &e), -1);
    check_int(e.code, ERR_IN_USE);
    check_int(unlink(link_path), 0);
    file_gone(d);
}

static void a_file_locked_by_another_is_refused(void)
{
    make_file(in_folder("disk"), 1 << 20);
    int fd = open(in_folder("disk"), O_RDWR | O_CLOEXEC);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    check_int(fcntl(fd, F_OFD_SETLK, &lock), 0);
    refused(options(in_folder("disk"), ""), ERR_IN_USE, "path");
    close(fd);
    file_gone(file_device(""));
}

static void a_read_only_device_takes_no_writes(void)
{
    make_file(in_folder("disk"), 1 << 20);
    device(&file_driver, "d", options(in_folder("disk"), "read_only=true"));
    struct bdev_user user = {.label = "test"};
    uint8_t buf[512] = {0};
    check(!bdev_open("d", CLAIM_EXCLUSIVE, &user, NULL));
    struct bdev_desc *d = open_device("d", CLAIM_READ);
    check_int(bdev_write(d, 0, buf, sizeof buf, 0), -EROFS);
    check_int(bdev_flush(d), 0);
    check_int(bdev_read(d, 0, buf, sizeof buf), 0);
    check(!memcmp(buf, "data", 4));
    file_gone(d);
}

static void a_file_that_became_shorter_gives_an_error_and_the_place(void)
{
    struct bdev_desc *d = file_device("size=1M");
    static uint8_t buf[16384];
    struct iovec iov = {buf, sizeof buf};
    struct bio bio;
    check_int(truncate(in_folder("disk"), 8192), 0);
    bio_init(&bio, d, BIO_READ, 0, sizeof buf, NULL, NULL);
    bio_data(&bio, &iov, 1);
    check_int(bio_wait(&bio), -ENODEV);
    check_int(bio.bad_offset, 8192);
    file_gone(d);
}

static void a_shortened_file_is_noticed_before_anything_is_called_durable(void)
{
    static uint8_t buf[8192];
    for (int fua = 0; fua < 2; fua++) {
        struct bdev_desc *d = file_device("size=1M");
        check_int(truncate(in_folder("disk"), 0), 0);
        check_int(bdev_write(d, 65536, buf, sizeof buf, fua ? BIO_FUA : 0), fua ? -ENODEV : 0);
        if (!fua)
            check_int(bdev_flush(d), -ENODEV);
        file_gone(d);
    }
}

static void a_shortened_file_is_lost_even_when_it_is_long_again(void)
{
    static uint8_t buf[8192];
    struct bdev_desc *d = file_device("size=1M");
    check_int(truncate(in_folder("disk"), 0), 0);
    check_int(bdev_read(d, 0, buf, sizeof buf), -ENODEV);
    check_int(truncate(in_folder("disk"), 1 << 20), 0);
    check_int(bdev_read(d, 0, buf, sizeof buf), -ENODEV);
    check_int(bdev_write(d, 0, buf, sizeof buf, 0), -ENODEV);
    file_gone(d);
}

static void buffered_works_too(void)
{
    struct bdev_desc *d = file_device("size=1M,buffered=true");
    static uint8_t in[65536], out[65536];
    struct attr_query q = {.key = "direct"};
    bdev_attrs(bdev_find("d"), attr_take, &q);
    check_int(strcmp(q.value, "false"), 0);
    fill_pattern(in, sizeof in, 1);
    check_int(bdev_write(d, 512, in, sizeof in, 0), 0);
    check_int(bdev_flush(d), 0);
    check_int(bdev_read(d, 512, out, sizeof out), 0);
    check(!memcmp(in, out, sizeof in));
    file_gone(d);
}

static void the_way_to_the_kernel_fits_the_file_system(void)
{
    struct bdev_desc *d = file_device("size=1M");
    struct attr_query io = {.key = "io"}, direct = {.key = "direct"};
    bdev_attrs(bdev_find("d"), attr_take, &io);
    bdev_attrs(bdev_find("d"), attr_take, &direct);
    int fd = open(in_folder("disk"), O_RDONLY | O_DIRECT | O_CLOEXEC);
    check_int(strcmp(io.value, on_tmpfs() ? "inline" : "ring"), 0);
    check_int(strcmp(direct.value, fd >= 0 && !on_tmpfs() ? "true" : "false"), 0);
    if (fd >= 0)
        close(fd);
    file_gone(d);
}

static void the_identity_is_the_files_not_the_paths(void)
{
    struct bdev_desc *d = file_device("size=1M");
    struct attr_query a = {.key = "identity"}, b = {.key = "identity"};
    bdev_attrs(bdev_find("d"), attr_take, &a);
    bdev_close(&d);
    remove_device("d");
    char other[PATH_MAX + 64];
    snprintf(other, sizeof other, "%s", in_folder("other"));
    check_int(rename(in_folder("disk"), other), 0);
    device(&file_driver, "d", options(other, ""));
    bdev_attrs(bdev_find("d"), attr_take, &b);
    check(*a.value && !strcmp(a.value, b.value));
    remove_device("d");
    check_int(unlink(other), 0);
}

/* A hundred writers at once on two reactors, each reading back its own. */
struct worker {
    struct bdev_desc *d;
    unsigned index;
    struct twait *wait;
};

static void work(void *arg)
{
    struct worker *w = arg;
    uint8_t in[8192], out[8192];
    for (unsigned i = 0; i < 8; i++) {
        uint64_t at = (w->index * 8 + i) * 8192;
        fill_pattern(in, sizeof in, w->index * 8 + i);
        check_int(bdev_write(w->d, at, in, sizeof in, i % 4 == 3 ? BIO_FUA : 0), 0);
        check_int(bdev_read(w->d, at, out, sizeof out), 0);
        check(!memcmp(in, out, sizeof in));
    }
}

static void work_task(void *arg)
{
    struct worker *w = arg;
    task_call(reactor_get(w->index % reactor_count()), work, w);
    twait_done(w->wait);
}

static void many_at_once_keep_their_data_apart(void)
{
    struct bdev_desc *d = file_device("size=16M");
    enum { N = 40 };
    struct worker w[N];
    struct twait wait = TWAIT(N);
    for (unsigned i = 0; i < N; i++) {
        w[i] = (struct worker){d, i, &wait};
        task_start(reactor_main(), "worker", work_task, &w[i]);
    }
    twait_all(&wait);
    file_gone(d);
}

#define EACH(X)                                                       \
    X(a_missing_file_is_made_sparse_with_the_size)                    \
    X(nothing_is_made_without_a_size_or_in_a_wrong_place)             \
    X(a_file_that_a_failed_add_made_is_gone)                          \
    X(an_existing_file_keeps_its_size_and_data)                       \
    X(data_comes_back_through_any_shape_of_buffer)                    \
    X(a_bio_of_more_pieces_than_a_system_call_takes_is_done_in_parts) \
    X(flush_and_fua_work)                                             \
    X(a_discard_makes_a_hole_that_reads_zero)                         \
    X(a_sparse_terabyte_is_told_in_one_answer)                        \
    X(zeroes_without_unmapping_stay_allocated)                        \
    X(a_second_device_on_the_same_file_is_refused)                    \
    X(a_file_locked_by_another_is_refused)                            \
    X(a_read_only_device_takes_no_writes)                             \
    X(a_file_that_became_shorter_gives_an_error_and_the_place)        \
    X(a_shortened_file_is_noticed_before_anything_is_called_durable)  \
    X(a_shortened_file_is_lost_even_when_it_is_long_again)            \
    X(buffered_works_too)                                             \
    X(the_way_to_the_kernel_fits_the_file_system)                     \
    X(the_identity_is_the_files_not_the_paths)                        \
    X(many_at_once_keep_their_data_apart)

#define AS_TEST(name)                     \
    static void test_##name(void **state) \
    {                                     \
        (void)state;                      \
        harness_run(name);                \
    }
#define IN_LIST(name) cmocka_unit_test(test_##name),

EACH(AS_TEST)

static int run_in(const char *where)
{
    const struct CMUnitTest tests[] = {EACH(IN_LIST)};
    snprintf(folder, sizeof folder, "%s/orion-file-XXXXXX", where);
    if (!mkdtemp(folder)) {
        print_message("skipped: no folder can be made in %s\n", where);
        return 0;
    }
    int failed = cmocka_run_group_tests_name(where, tests, NULL, NULL);
    rmdir(folder);
    return failed;
}

int main(void)
{
    char here[PATH_MAX - 64];
    if (!getcwd(here, sizeof here))
        return 1;
    return run_in(here) + run_in("/dev/shm");
}
