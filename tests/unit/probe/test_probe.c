/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "drivers/devices.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "probe/probe.h"

enum { MIB = 1 << 20 };

static bool have_tool(const char *tool)
{
    char command[128];
    snprintf(command, sizeof command, "PATH=$PATH:/sbin:/usr/sbin command -v %s >/dev/null 2>&1",
             tool);
    return system(command) == 0;
}

/* An image in the working folder that `command` (with %s for its path) has written to. */
static char image[PATH_MAX];
static void make_image(off_t size, const char *command)
{
    char here[PATH_MAX - 64], text[PATH_MAX + 512] = "PATH=$PATH:/sbin:/usr/sbin; ";
    check(getcwd(here, sizeof here));
    snprintf(image, sizeof image, "%s/probe-%d.img", here, (int)getpid());
    int fd = open(image, O_CREAT | O_RDWR | O_TRUNC | O_CLOEXEC, 0600);
    check(fd >= 0 && !ftruncate(fd, size));
    close(fd);
    size_t n = strlen(text);
    snprintf(text + n, sizeof text - n, command, image);
    if (system(text))
        fprintf(stderr, "failed: %s\n", text);
}

/* What is found on the image as a device. */
static int probed(char *what, size_t size, const char *more)
{
    struct err e = {0};
    char text[PATH_MAX + 64];
    snprintf(text, sizeof text, "path=%s,read_only=true%s", image, more);
    device(&file_driver, "d", text);
    struct bdev_desc *d = open_device("d", CLAIM_READ);
    int rc = probe_signature(d, what, size, &e);
    if (rc < 0)
        fprintf(stderr, "%s\n", e.msg);
    bdev_close(&d);
    remove_device("d");
    unlink(image);
    return rc;
}

static void expect(const char *part)
{
    char what[512];
    check_int(probed(what, sizeof what, ""), 1);
    if (!strstr(what, part))
        fprintf(stderr, "found: %s\n", what);
    check(strstr(what, part));
}

HARNESS_TEST(an_empty_device_has_no_signature)
{
    char what[64] = "x";
    make_image(64 * MIB, "true %s");
    check_int(probed(what, sizeof what, ""), 0);
    check_int(strcmp(what, ""), 0);
}

HARNESS_TEST(a_device_smaller_than_the_windows_is_probed_whole)
{
    char what[64];
    make_image(8192, "true %s");
    check_int(probed(what, sizeof what, ""), 0);
    make_image(5 * MIB, "true %s");
    check_int(probed(what, sizeof what, ""), 0);
}

HARNESS_TEST(random_data_is_no_signature)
{
    device(&mem_driver, "m", "size=8M");
    struct bdev_desc *d = open_device("m", CLAIM_EXCLUSIVE);
    static uint8_t buf[MIB];
    char what[64];
    for (unsigned i = 0; i < 8; i++) {
        fill_pattern(buf, sizeof buf, i);
        check_int(bdev_write(d, (uint64_t)i * MIB, buf, sizeof buf, 0), 0);
    }
    check_int(probe_signature(d, what, sizeof what, NULL), 0);
    bdev_close(&d);
    remove_device("m");
}

HARNESS_TEST(an_unreadable_device_is_an_error)
{
    device(&mem_driver, "m", "size=8M");
    device(&fault_driver, "f", "on=m,rules=read:error=EIO:offset=7M");
    struct bdev_desc *d = open_device("f", CLAIM_READ);
    char what[64];
    struct err e = {0};
    check_int(probe_signature(d, what, sizeof what, &e), -1);
    check_int(e.code, ERR_IO);
    bdev_close(&d);
    remove_device("f");
    remove_device("m");
}

static void ext4_body(void)
{
    make_image(64 * MIB, "mkfs.ext4 -q -L label-x -U 11111111-2222-3333-4444-555555555555 %s");
    expect("ext4 filesystem, LABEL=label-x, UUID=11111111-2222-3333-4444-555555555555");
}

static void damaged_ext4_body(void)
{
    char what[256];
    make_image(64 * MIB, "mkfs.ext4 -q %s");
    int fd = open(image, O_RDWR | O_CLOEXEC);
    check_int(pwrite(fd, "\x7f\x7f", 2, 1024 + 0x60), 2); /* features: the checksum is wrong now */
    close(fd);
    check_int(probed(what, sizeof what, ""), 1);
}

static void gpt_body(void)
{
    make_image(64 * MIB, "printf 'label: gpt\\nsize=10M\\n' | sfdisk -q %s >/dev/null");
    expect("gpt partition table");
}

static void dos_body(void)
{
    make_image(64 * MIB, "printf 'label: dos\\nsize=10M\\n' | sfdisk -q %s >/dev/null");
    expect("dos partition table");
}

/* LVM's CRC: the polynomial of CRC-32 with a start value of its own and no final complement. */
static uint32_t lvm_crc(const uint8_t *p, size_t len)
{
    uint32_t crc = 0xf597a6cf;
    for (size_t i = 0; i < len; i++) {
        crc ^= p[i];
        for (unsigned bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
    }
    return crc;
}

HARNESS_TEST(an_lvm_member_is_found)
{
    /* pvcreate wants block nodes; its label is in sector 1. */
    uint8_t label[512] = "LABELONE";
    label[8] = 1;   /* sector */
    label[20] = 32; /* offset of the physical volume's header */
    memcpy(label + 24, "LVM2 001", 8);
    memcpy(label + 32, "0123456789abcdefghijABCDEFGHIJKL", 32);
    uint32_t crc = lvm_crc(label + 20, sizeof label - 20);
    for (unsigned i = 0; i < 4; i++)
        label[16 + i] = (uint8_t)(crc >> 8 * i);
    make_image(64 * MIB, "true %s");
    int fd = open(image, O_RDWR | O_CLOEXEC);
    check_int(pwrite(fd, label, sizeof label, 512), sizeof label);
    close(fd);
    expect("LVM2_member, UUID=012345-6789-");
}

HARNESS_TEST(an_md_member_is_found)
{
    /* mdadm wants block nodes; md's magic is a fact of its format, version 1.2: superblock at 4
     * KiB. */
    make_image(64 * MIB, "true %s");
    uint8_t sb[256] = {0xfc, 0x4e, 0x2b, 0xa9, 1};
    memset(sb + 16, 0x5a, 16); /* set_uuid */
    memcpy(sb + 32, "host:name", 9);
    sb[72] = 1;  /* level */
    sb[144] = 8; /* super_offset, in sectors */
    uint64_t sum = 0;
    for (unsigned i = 0; i < sizeof sb; i += 4)
        sum += (uint32_t)(sb[i] | sb[i + 1] << 8 | sb[i + 2] << 16 | (uint32_t)sb[i + 3] << 24);
    uint32_t csum = (uint32_t)(sum + (sum >> 32));
    for (unsigned i = 0; i < 4; i++)
        sb[216 + i] = (uint8_t)(csum >> 8 * i);
    int fd = open(image, O_RDWR | O_CLOEXEC);
    check_int(pwrite(fd, sb, sizeof sb, 4096), sizeof sb);
    close(fd);
    expect("linux_raid_member, LABEL=host:name, UUID=5a5a5a5a-");
}

HARNESS_TEST(a_signature_at_the_end_is_found)
{
    /* md 0.90 keeps its magic in the last 64 KiB of a device. */
    make_image(64 * MIB, "true %s");
    uint8_t sb[4096] = {0xfc, 0x4e, 0x2b, 0xa9, 0, 0, 0, 0, 90};
    int fd = open(image, O_RDWR | O_CLOEXEC);
    check_int(pwrite(fd, sb, sizeof sb, 64 * MIB - 65536), sizeof sb);
    close(fd);
    expect("linux_raid_member");
}

HARNESS_TEST(a_luks2_container_without_its_first_header_is_found)
{
    make_image(64 * MIB, "true %s");
    uint8_t header[512] = {'S', 'K', 'U', 'L', 0xba, 0xbe, 0, 2};
    memcpy(header + 168, "22222222-3333-4444-5555-666666666666", 36);
    header[256 + 5] = 0x40; /* its own place, big endian: 4 MiB */
    int fd = open(image, O_RDWR | O_CLOEXEC);
    check_int(pwrite(fd, header, sizeof header, 4 * MIB), sizeof header);
    close(fd);
    expect("crypto_LUKS, UUID=22222222-3333-4444-5555-666666666666");
}

#define TOOL_TEST(tool, name, body)                                \
    static void name(void **state)                                 \
    {                                                              \
        (void)state;                                               \
        if (!have_tool(tool)) {                                    \
            print_message("skipped: %s is not installed\n", tool); \
            skip();                                                \
        }                                                          \
        harness_run(body);                                         \
    }
TOOL_TEST("mkfs.ext4", ext4_is_found_with_label_and_uuid, ext4_body)
TOOL_TEST("mkfs.ext4", a_damaged_ext4_still_counts, damaged_ext4_body)
TOOL_TEST("sfdisk", a_gpt_is_found, gpt_body)
TOOL_TEST("sfdisk", a_dos_table_is_found, dos_body)

static void the_root_file_systems_node_is_in_use(void **state)
{
    (void)state;
    struct stat st;
    char why[300] = "", path[64];
    check_int(stat("/", &st), 0);
    snprintf(path, sizeof path, "/sys/dev/block/%u:%u", major(st.st_dev), minor(st.st_dev));
    if (access(path, F_OK))
        skip(); /* an overlay, say: / is on no node */
    check(probe_node_in_use(st.st_dev, why, sizeof why));
    check(strstr(why, "is mounted on"));
}

static void a_free_file_is_not_in_use(void **state)
{
    (void)state;
    char why[300];
    make_image(MIB, "true %s");
    check(!probe_file_in_use(image, why, sizeof why));
    unlink(image);
}

static void a_file_keeps_its_identity_when_renamed_and_a_copy_has_another(void **state)
{
    (void)state;
    struct probe_identity a, b, c;
    struct err e = {0};
    char other[PATH_MAX + 8], text[2 * PATH_MAX + 64];
    make_image(MIB, "true %s");
    snprintf(other, sizeof other, "%s.moved", image);
    check_int(probe_identity(image, &a, &e), 0);
    check_int(rename(image, other), 0);
    check_int(probe_identity(other, &b, &e), 0);
    snprintf(text, sizeof text, "cp %s %s", other, image);
    check_int(system(text), 0);
    check_int(probe_identity(image, &c, &e), 0);
    check(!a.is_node && !strncmp(a.key, "file:", 5));
    check(!strcmp(a.key, b.key) && strcmp(a.key, c.key));
    unlink(image);
    unlink(other);
    check_int(probe_identity(image, &a, &e), -1);
    check_int(e.code, ERR_NOT_FOUND);
    check_int(probe_identity("/", &a, &e), -1);
    check_int(e.code, ERR_INVALID);
}

static void a_node_is_found_again_by_its_key(void **state)
{
    (void)state;
    struct stat st;
    struct probe_identity id, again;
    struct err e = {0};
    char path[512], node[64], target[PATH_MAX] = "";
    check_int(stat("/", &st), 0);
    snprintf(node, sizeof node, "/sys/dev/block/%u:%u", major(st.st_dev), minor(st.st_dev));
    if (!realpath(node, target))
        skip();
    snprintf(path, sizeof path, "/dev/%.200s", strrchr(target, '/') + 1);
    if (probe_identity(path, &id, &e) || !*id.key) {
        print_message("skipped: %s has no identity\n", path);
        skip();
    }
    check(probe_find(id.key, path, sizeof path));
    check_int(probe_identity(path, &again, &e), 0);
    check_int(strcmp(id.key, again.key), 0);
    check(!probe_find("wwn:nobody-has-this", path, sizeof path));
}

/* The only file of the folder. */
static void only_file(const char *dir, char *path, size_t size)
{
    unsigned n = 0;
    DIR *d = opendir(dir);
    for (struct dirent *x; (x = readdir(d));)
        if (x->d_name[0] != '.') {
            snprintf(path, size, "%s/%s", dir, x->d_name);
            n++;
        }
    closedir(d);
    check_int(n, 1);
}

static void a_saved_area_reads_back_and_damage_is_seen(void **state)
{
    (void)state;
    char dir[] = "probe-areas-XXXXXX", inner[64], path[512];
    uint8_t data[10000];
    struct probe_backup b;
    struct err e = {0};
    void *back = NULL;
    check(mkdtemp(dir));
    snprintf(inner, sizeof inner, "%s/areas", dir);
    fill_pattern(data, sizeof data, 4);
    check_int(probe_backup_area(inner, "pool/vol", 1048576, data, sizeof data, &e), 0);
    only_file(inner, path, sizeof path);
    check_int(probe_backup_read(path, &b, &back, &e), 0);
    check(b.offset == 1048576 && b.length == sizeof data && !strcmp(b.device, "pool/vol"));
    check(!memcmp(back, data, sizeof data));
    free(back);

    int fd = open(path, O_RDWR | O_CLOEXEC);
    check_int(pwrite(fd, "x", 1, PROBE_BACKUP_HEADER + 5000), 1);
    close(fd);
    check_int(probe_backup_read(path, &b, &back, &e), -1);
    check(strstr(e.msg, "damaged"));
    check_int(truncate(path, 2000), 0);
    check_int(probe_backup_read(path, &b, &back, &e), -1);
    unlink(path);
    rmdir(inner);
    rmdir(dir);
}

static void two_saves_of_one_area_are_two_files(void **state)
{
    (void)state;
    char dir[] = "probe-areas-XXXXXX", command[128];
    check(mkdtemp(dir));
    check_int(probe_backup_area(dir, "d", 0, "one", 3, NULL), 0);
    check_int(probe_backup_area(dir, "d", 0, "two", 3, NULL), 0);
    snprintf(command, sizeof command, "test $(ls %s | wc -l) = 2 && rm -r %s", dir, dir);
    check_int(system(command), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_device_has_no_signature),
        cmocka_unit_test(a_device_smaller_than_the_windows_is_probed_whole),
        cmocka_unit_test(random_data_is_no_signature),
        cmocka_unit_test(an_unreadable_device_is_an_error),
        cmocka_unit_test(ext4_is_found_with_label_and_uuid),
        cmocka_unit_test(a_damaged_ext4_still_counts),
        cmocka_unit_test(a_gpt_is_found),
        cmocka_unit_test(a_dos_table_is_found),
        cmocka_unit_test(an_lvm_member_is_found),
        cmocka_unit_test(an_md_member_is_found),
        cmocka_unit_test(a_signature_at_the_end_is_found),
        cmocka_unit_test(a_luks2_container_without_its_first_header_is_found),
        cmocka_unit_test(the_root_file_systems_node_is_in_use),
        cmocka_unit_test(a_free_file_is_not_in_use),
        cmocka_unit_test(a_file_keeps_its_identity_when_renamed_and_a_copy_has_another),
        cmocka_unit_test(a_node_is_found_again_by_its_key),
        cmocka_unit_test(a_saved_area_reads_back_and_damage_is_seen),
        cmocka_unit_test(two_saves_of_one_area_are_two_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
