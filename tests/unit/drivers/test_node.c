/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The file driver on block nodes, by loop devices: needs root. */
#include "devices.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char image[PATH_MAX], loop[64];

/* Runs a command; its first line of output. False when it fails. */
static bool run(const char *command, char *line, size_t size)
{
    char text[1024] = "";
    FILE *f = popen(command, "re");
    if (!f)
        return false;
    if (!fgets(text, sizeof text, f))
        text[0] = 0;
    text[strcspn(text, "\n")] = 0;
    if (line)
        snprintf(line, size, "%s", text);
    return pclose(f) == 0;
}

static void detach(void)
{
    char command[256];
    if (*loop) {
        snprintf(command, sizeof command, "losetup -d %s 2>&1", loop);
        run(command, NULL, 0);
    }
    *loop = 0;
    unlink(image);
}

static bool attach(void)
{
    char command[PATH_MAX + 128];
    snprintf(image, sizeof image, "orion-node-%d.img", (int)getpid());
    int fd = open(image, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    bool ok = fd >= 0 && !ftruncate(fd, 16 << 20);
    close(fd);
    snprintf(command, sizeof command, "losetup -f --show %s 2>/dev/null", image);
    if (ok && geteuid() == 0 && run(command, loop, sizeof loop))
        return true;
    detach();
    return false;
}

/* A test with a loop device, or visibly none. */
#define NODE_TEST(name)            \
    static void name##_body(void); \
    static void name(void **state) \
    {                              \
        (void)state;               \
        if (!attach())             \
            skip();                \
        harness_run(name##_body);  \
        detach();                  \
    }                              \
    static void name##_body(void)

static const char *node_options(const char *more)
{
    static char text[128];
    snprintf(text, sizeof text, "path=%s%s", loop, more);
    return text;
}

NODE_TEST(a_node_takes_and_gives_data)
{
    device(&file_driver, "d", node_options(""));
    struct bdev_desc *d = open_device("d", CLAIM_EXCLUSIVE);
    static uint8_t in[65536], out[65536];
    struct bdev_info info;
    bdev_get_info(d, &info);
    check_int(info.size, 16 << 20);
    fill_pattern(in, sizeof in, 2);
    check_int(bdev_write(d, 512, in, sizeof in, BIO_FUA), 0);
    check_int(bdev_flush(d), 0);
    check_int(bdev_read(d, 512, out, sizeof out), 0);
    check(!memcmp(in, out, sizeof in));
    bdev_close(&d);
    remove_device("d");
}

NODE_TEST(a_node_discards_and_zeroes)
{
    device(&file_driver, "d", node_options(""));
    struct bdev_desc *d = open_device("d", CLAIM_EXCLUSIVE);
    static uint8_t buf[65536];
    struct extent x[2];
    fill_pattern(buf, sizeof buf, 2);
    check_int(bdev_write(d, 0, buf, sizeof buf, 0), 0);
    check_int(do_op(d, BIO_WRITE_ZEROES, 4096, 8192, BIO_NO_UNMAP), 0);
    check_int(do_op(d, BIO_WRITE_ZEROES, 12288, 4096, 0), 0);
    check_int(bdev_read(d, 4096, buf, 12288), 0);
    check(is_zero(buf, 12288));
    int rc = do_op(d, BIO_DISCARD, 1 << 20, 1 << 20, 0);
    check(rc == 0 || rc == -EOPNOTSUPP);
    check_int(get_extents(d, 0, 1 << 20, x, 2), 1); /* a node knows no holes */
    check_int(x[0].flags, 0);
    bdev_close(&d);
    remove_device("d");
}

NODE_TEST(a_node_open_exclusively_elsewhere_is_refused)
{
    struct bdev *b;
    struct err e = {0};
    int fd = open(loop, O_RDWR | O_EXCL | O_CLOEXEC);
    check(fd >= 0);
    check_int(try_device(&file_driver, "d", node_options(""), &b, &e), -1);
    check_int(e.code, ERR_IN_USE);
    close(fd);
    device(&file_driver, "d", node_options(""));
    check_int(open(loop, O_RDWR | O_EXCL | O_CLOEXEC), -1); /* and it is held now */
    remove_device("d");
}

NODE_TEST(a_size_that_is_not_the_nodes_is_refused)
{
    struct bdev *b;
    struct err e = {0};
    check_int(try_device(&file_driver, "d", node_options(",size=1M"), &b, &e), -1);
    check_int(strcmp(e.field, "size"), 0);
    device(&file_driver, "d", node_options(",size=16M"));
    remove_device("d");
}

NODE_TEST(the_file_behind_a_loop_device_is_refused)
{
    struct bdev *b;
    struct err e = {0};
    char path[PATH_MAX], text[PATH_MAX + 16];
    check(realpath(image, path));
    snprintf(text, sizeof text, "path=%s", path);
    check_int(try_device(&file_driver, "d", text, &b, &e), -1);
    check_int(e.code, ERR_IN_USE);
    check(strstr(e.msg, "/dev/loop"));
}

NODE_TEST(a_mounted_node_is_refused_and_says_where)
{
    struct bdev *b;
    struct err e = {0};
    char command[256], point[] = "/tmp/orion-mount-XXXXXX";
    check(mkdtemp(point));
    snprintf(command, sizeof command, "mkfs.ext4 -q %s 2>&1 && mount %s %s 2>&1", loop, loop,
             point);
    bool mounted = run(command, NULL, 0);
    if (mounted) {
        check_int(try_device(&file_driver, "d", node_options(",read_only=true"), &b, &e), -1);
        check_int(e.code, ERR_IN_USE);
        check(strstr(e.msg, point));
        snprintf(command, sizeof command, "umount %s", point);
        check(run(command, NULL, 0));
    } else {
        print_message("skipped: mount is not possible here\n");
    }
    rmdir(point);
}

NODE_TEST(a_node_that_is_swap_is_refused)
{
    struct bdev *b;
    struct err e = {0};
    char command[256];
    snprintf(command, sizeof command, "mkswap %s >/dev/null 2>&1 && swapon %s 2>&1", loop, loop);
    if (!run(command, NULL, 0)) {
        print_message("skipped: swapon is not possible here\n");
        return;
    }
    check_int(try_device(&file_driver, "d", node_options(""), &b, &e), -1);
    check_int(e.code, ERR_IN_USE);
    check(strstr(e.msg, "as swap"));
    snprintf(command, sizeof command, "swapoff %s", loop);
    check(run(command, NULL, 0));
}

/* A file of 8 MiB in a file system that has less: writes end in -ENOSPC until something is freed.
 */
static void fill_up(const char *folder)
{
    char text[256];
    static uint8_t buf[1 << 20], back[1 << 20];
    unsigned written = 0;
    int rc = 0;
    snprintf(text, sizeof text, "path=%s/disk,size=8M", folder);
    device(&file_driver, "d", text);
    struct bdev_desc *d = open_device("d", CLAIM_EXCLUSIVE);
    fill_pattern(buf, sizeof buf, 1);
    for (; written < 8 && !rc; written += !rc)
        rc = bdev_write(d, (uint64_t)written << 20, buf, sizeof buf, 0);
    check_int(rc, -ENOSPC);
    check(written > 0);
    check_int(bdev_flush(d), 0);
    check_int(bdev_read(d, 0, back, sizeof back), 0);
    check(!memcmp(buf, back, sizeof buf));
    check_int(do_op(d, BIO_DISCARD, 0, 1 << 20, 0), 0);
    check_int(bdev_flush(d), 0);
    check_int(bdev_write(d, 7 << 20, buf, 1 << 19, BIO_FUA), 0);
    bdev_close(&d);
    remove_device("d");
}

static void in_mount(const char *mount_command)
{
    char command[512], point[] = "/tmp/orion-mount-XXXXXX";
    check(mkdtemp(point));
    snprintf(command, sizeof command, "%s %s 2>&1", mount_command, point);
    if (run(command, NULL, 0)) {
        fill_up(point);
        snprintf(command, sizeof command, "umount %s", point);
        check(run(command, NULL, 0));
    } else {
        print_message("skipped: mount is not possible here\n");
    }
    rmdir(point);
}

NODE_TEST(a_full_tmpfs_is_no_space)
{
    in_mount("mount -t tmpfs -o size=3M tmpfs");
}

NODE_TEST(a_full_disk_is_no_space)
{
    char command[256];
    snprintf(command, sizeof command, "mkfs.ext4 -q -m 0 -O ^has_journal %s 6M 2>&1 && mount %s",
             loop, loop);
    in_mount(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_node_takes_and_gives_data),
        cmocka_unit_test(a_node_discards_and_zeroes),
        cmocka_unit_test(a_node_open_exclusively_elsewhere_is_refused),
        cmocka_unit_test(a_size_that_is_not_the_nodes_is_refused),
        cmocka_unit_test(the_file_behind_a_loop_device_is_refused),
        cmocka_unit_test(a_mounted_node_is_refused_and_says_where),
        cmocka_unit_test(a_node_that_is_swap_is_refused),
        cmocka_unit_test(a_full_tmpfs_is_no_space),
        cmocka_unit_test(a_full_disk_is_no_space),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
