/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "probe/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/crc32c.h"
#include "base/mem.h"

/* Larger than any metadata area that is saved before a write (an LVM2 area is 1 MiB by default). */
static const uint64_t backup_max = (uint64_t)256 << 20;

static int write_all(int fd, const void *p, size_t len)
{
    const uint8_t *b = p;
    while (len) {
        ssize_t n = write(fd, b, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -1;
        b += n;
        len -= (size_t)n;
    }
    return 0;
}

/* A name that does not exist yet: the time, and a number when several fall into one second. */
static int open_new(const char *dir, const char *device, uint64_t offset, char *path, size_t size)
{
    char stamp[32], safe[BDEV_NAME_MAX + 1];
    struct tm tm;
    time_t now = time(NULL);
    gmtime_r(&now, &tm);
    strftime(stamp, sizeof stamp, "%Y%m%dT%H%M%SZ", &tm);
    snprintf(safe, sizeof safe, "%s", device);
    for (char *c = safe; *c; c++)
        if (*c == '/')
            *c = '+';
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(path, size, "%s/%s-%llu-%s.%u.area", dir, safe, (unsigned long long)offset, stamp,
                 i);
        int fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
        if (fd >= 0 || errno != EEXIST)
            return fd;
    }
    return -1;
}

static int sync_folder(const char *dir)
{
    autoclose int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? -1 : fsync(fd);
}

int probe_backup_area(const char *dir, const char *device, uint64_t offset, const void *data,
                      uint64_t len, struct err *e)
{
    char path[600], header[PROBE_BACKUP_HEADER] = "";
    if (len > backup_max)
        return err_set(e, ERR_INTERNAL, "", "a metadata area of %llu bytes is too long to save",
                       (unsigned long long)len);
    if (mkdir(dir, 0700) && errno != EEXIST)
        return err_set(e, ERR_IO, "", "%s: %s", dir, strerror(errno));
    autoclose int fd = open_new(dir, device, offset, path, sizeof path);
    if (fd < 0)
        return err_set(e, ERR_IO, "", "%s: %s", path, strerror(errno));
    snprintf(header, sizeof header,
             "orion-area 1\ndevice %s\noffset %llu\nlength %llu\ncrc32c %08x\n\n"
             "To put it back: dd if=THIS-FILE bs=4096 skip=1 iflag=fullblock | dd of=DISK bs=64K "
             "oflag=seek_bytes seek=%llu conv=notrunc,fsync\n",
             device, (unsigned long long)offset, (unsigned long long)len, crc32c(0, data, len),
             (unsigned long long)offset);
    if (write_all(fd, header, sizeof header) || write_all(fd, data, len) || fsync(fd) ||
        sync_folder(dir)) {
        int error = errno;
        unlink(path);
        return err_set(e, error == ENOSPC ? ERR_NO_SPACE : ERR_IO, "", "%s: %s", path,
                       strerror(error));
    }
    return 0;
}

/* "KEY VALUE\n" at the cursor; the value without the newline. */
static bool line(struct rd *r, const char *key, char *value, size_t size)
{
    size_t n = strlen(key);
    const uint8_t *k = rd_bytes(r, n);
    if (!k || memcmp(k, key, n) || rd_u8(r) != ' ')
        return false;
    size_t len = 0;
    for (uint8_t c; (c = rd_u8(r)) != '\n'; value[len++] = (char)c)
        if (rd_left(r) == 0 || c < ' ' || c > '~' || len + 1 >= size)
            return false;
    value[len] = 0;
    return rd_ok(r) && len;
}

static bool number(const char *text, int base, uint64_t *v_r)
{
    char *end;
    if (!strchr("0123456789abcdef", *text))
        return false;
    errno = 0;
    *v_r = strtoull(text, &end, base);
    return !errno && !*end;
}

bool probe_backup_parse(const void *header, size_t len, struct probe_backup *b_r)
{
    struct rd r = rd_make(header, len);
    char text[32];
    uint64_t crc = 0;
    *b_r = (struct probe_backup){0};
    bool ok = line(&r, "orion-area", text, sizeof text) && !strcmp(text, "1") &&
              line(&r, "device", b_r->device, sizeof b_r->device) &&
              line(&r, "offset", text, sizeof text) && number(text, 10, &b_r->offset) &&
              line(&r, "length", text, sizeof text) && number(text, 10, &b_r->length) &&
              line(&r, "crc32c", text, sizeof text) && number(text, 16, &crc);
    b_r->crc = (uint32_t)crc;
    return ok && crc <= UINT32_MAX && b_r->length <= backup_max;
}

int probe_backup_read(const char *path, struct probe_backup *b_r, void **data_r, struct err *e)
{
    uint8_t header[PROBE_BACKUP_HEADER];
    autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_set(e, ERR_IO, "", "%s: %s", path, strerror(errno));
    if (pread(fd, header, sizeof header, 0) != sizeof header ||
        !probe_backup_parse(header, sizeof header, b_r))
        return err_set(e, ERR_INVALID, "", "%s is not a saved metadata area", path);
    uint8_t *data = xcalloc(1, b_r->length);
    uint64_t have = 0;
    for (ssize_t n; have < b_r->length; have += (uint64_t)n)
        if ((n = pread(fd, data + have, b_r->length - have, (off_t)(PROBE_BACKUP_HEADER + have))) <=
            0)
            break;
    if (have < b_r->length || crc32c(0, data, b_r->length) != b_r->crc) {
        free(data);
        return err_set(e, ERR_INVALID, "", "%s is damaged: its data does not match its checksum",
                       path);
    }
    *data_r = data;
    return 0;
}
