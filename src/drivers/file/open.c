/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "drivers/file/file_private.h"

/* One FALLOCATE at most: it occupies a worker of the ring, and on slow media minutes a TiB. */
#define EXTENT_MAX ((uint64_t)1 << 30)

static int sys_err(struct err *e, const char *path, const char *what)
{
    enum err_code code = errno == EACCES || errno == EPERM ? ERR_DENIED
                         : errno == ENOSPC                 ? ERR_NO_SPACE
                                                           : ERR_IO;
    return err_set(e, code, "path", "%s: %s: %s", path, what, strerror(errno));
}

/* ---- making a missing file */

/* New files never go where the kernel shows itself as files. */
static bool below_kernel_fs(const char *folder)
{
    static const char *const roots[] = {"/dev", "/proc", "/sys"};
    /* /dev/shm is an ordinary tmpfs for everybody. */
    if (!strcmp(folder, "/dev/shm") || !strncmp(folder, "/dev/shm/", 9))
        return false;
    for (size_t i = 0; i < sizeof roots / sizeof *roots; i++) {
        size_t n = strlen(roots[i]);
        if (!strncmp(folder, roots[i], n) && (folder[n] == '/' || !folder[n]))
            return true;
    }
    return false;
}

static int sync_folder(const char *folder)
{
    autoclose int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? -1 : fsync(fd);
}

/* The file gets its name when it has its size: a crash in between leaves nothing. Not every file
 * system has files without a name. Returns the descriptor, or -1. */
static int make_file(const char *path, const char *folder, uint64_t size, struct err *e)
{
    char self[32];
    int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    bool named = fd < 0;
    if (named)
        fd = open(path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0)
        return sys_err(e, path, "cannot be made");
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    int rc = 0;
    if (ftruncate(fd, (off_t)size))
        rc = sys_err(e, path, "cannot be made that large");
    else if (fsync(fd))
        rc = sys_err(e, path, "cannot be made durable");
    else if (!named && linkat(AT_FDCWD, self, AT_FDCWD, path, AT_SYMLINK_FOLLOW))
        rc = sys_err(e, path, "cannot be made");
    else if (sync_folder(folder))
        rc = sys_err(e, path, "cannot be made durable");
    if (rc && named)
        unlink(path);
    if (!rc)
        return fd;
    close(fd);
    return -1;
}

static int create_file(struct file_dev *dev, uint64_t size, struct err *e)
{
    if (!size)
        return err_set(e, ERR_NOT_FOUND, "path", "%s does not exist; give a size to have it made",
                       dev->path);
    if (dev->bdev.read_only)
        return err_set(e, ERR_NOT_FOUND, "path",
                       "%s does not exist; a new file cannot be read-only", dev->path);
    autofree char *parent = xstrdup(dev->path);
    char *slash = strrchr(parent, '/');
    slash[slash == parent ? 1 : 0] = 0;
    autofree char *folder = realpath(parent, NULL);
    if (!folder)
        return err_set(e, ERR_INVALID, "path", "the folder %s: %s", parent, strerror(errno));
    if (below_kernel_fs(folder))
        return err_set(e, ERR_INVALID, "path",
                       "%s does not exist, and no file is made below /dev, /proc or /sys",
                       dev->path);
    autoclose int fd = make_file(dev->path, folder, size, e);
    if (fd < 0)
        return -1;
    dev->created = true;
    return 0;
}

/* ---- claiming */

static int claim_node(struct file_dev *dev, const struct stat *st, int flags, struct err *e)
{
    char why[300];
    if (probe_node_in_use(st->st_rdev, why, sizeof why))
        return err_set(e, ERR_IN_USE, "path", "%s is in use: %s", dev->path, why);
    dev->fd = open(dev->path, flags | O_EXCL | O_CLOEXEC);
    if (dev->fd < 0 && errno == EBUSY)
        return err_set(e, ERR_IN_USE, "path", "%s is in use: someone has it open exclusively",
                       dev->path);
    return dev->fd < 0 ? sys_err(e, dev->path, "cannot be opened") : 0;
}

static int claim_file(struct file_dev *dev, int flags, struct err *e)
{
    char why[300];
    if (probe_file_in_use(dev->path, why, sizeof why))
        return err_set(e, ERR_IN_USE, "path", "%s is in use: %s", dev->path, why);
    dev->fd = open(dev->path, flags | O_CLOEXEC);
    if (dev->fd < 0)
        return sys_err(e, dev->path, "cannot be opened");
    struct flock lock = {
        .l_type = dev->bdev.read_only ? F_RDLCK : F_WRLCK,
        .l_whence = SEEK_SET,
    };
    if (!fcntl(dev->fd, F_OFD_SETLK, &lock))
        return 0;
    if (errno == EAGAIN || errno == EACCES)
        return err_set(e, ERR_IN_USE, "path", "%s is in use: someone holds a lock on it",
                       dev->path);
    return sys_err(e, dev->path, "cannot be locked");
}

/* ---- measuring */

static void sys_queue(dev_t node, const char *name, char *out, size_t size)
{
    /* A partition has its queue one folder up. */
    static const char *const forms[] = {"/sys/dev/block/%u:%u/queue/%s",
                                        "/sys/dev/block/%u:%u/../queue/%s"};
    *out = 0;
    for (size_t i = 0; i < 2; i++) {
        char path[128];
        snprintf(path, sizeof path, i ? forms[1] : forms[0], major(node), minor(node), name);
        FILE *f = fopen(path, "re");
        if (!f)
            continue;
        if (!fgets(out, (int)size, f))
            *out = 0;
        fclose(f);
        out[strcspn(out, "\n")] = 0;
        return;
    }
}

static uint64_t sys_queue_number(dev_t node, const char *name)
{
    char text[32];
    sys_queue(node, name, text, sizeof text);
    return strtoull(text, NULL, 10);
}

static int measure_node(struct file_dev *dev, const struct stat *st, struct err *e)
{
    struct bdev *b = &dev->bdev;
    int block = 0;
    unsigned phys = 0;
    char cache[32];
    if (ioctl(dev->fd, BLKGETSIZE64, &b->size) || ioctl(dev->fd, BLKSSZGET, &block) ||
        ioctl(dev->fd, BLKPBSZGET, &phys))
        return sys_err(e, dev->path, "cannot be measured");
    if (!b->size)
        return err_set(e, ERR_INVALID, "path", "%s has no medium in it", dev->path);
    if (block < 512 || block > 4096)
        return err_set(e, ERR_UNSUPPORTED, "path",
                       "%s has blocks of %d bytes; expected 512 to 4096", dev->path, block);
    b->block_size = (uint32_t)block;
    b->phys_block = phys;
    sys_queue(st->st_rdev, "write_cache", cache, sizeof cache);
    /* Without sysfs the worst is assumed; the page cache of a buffered node is volatile too. */
    b->write_cache = !dev->direct || strcmp(cache, "write through");
    b->rotational = sys_queue_number(st->st_rdev, "rotational");
    b->opt_io = (uint32_t)sys_queue_number(st->st_rdev, "optimal_io_size");
    dev->fast_zero = sys_queue_number(st->st_rdev, "write_zeroes_max_bytes") > 0;
    if (sys_queue_number(st->st_rdev, "discard_max_bytes")) {
        uint64_t gran = sys_queue_number(st->st_rdev, "discard_granularity");
        b->discard_gran = gran ? gran : b->block_size;
    }
    return 0;
}

static int measure_file(struct file_dev *dev, const struct stat *st, struct err *e)
{
    struct bdev *b = &dev->bdev;
    b->block_size = b->block_size ? b->block_size : 512;
    b->phys_block =
        st->st_blksize >= 512 && st->st_blksize <= 65536 ? (uint32_t)st->st_blksize : b->block_size;
    b->size = (uint64_t)st->st_size / b->block_size * b->block_size;
    if (!b->size)
        return err_set(e, ERR_INVALID, "path", "%s is %llu bytes long; expected at least %u",
                       dev->path, (unsigned long long)st->st_size, b->block_size);
    dev->tail = (uint32_t)((uint64_t)st->st_size - b->size);
    if (dev->tail)
        log_warn("file", "%s: the last %llu bytes are less than a block and are left alone",
                 dev->path, (unsigned long long)st->st_size - b->size);
    b->write_cache = !dev->in_memory;
    b->rotational = !dev->in_memory && sys_queue_number(st->st_dev, "rotational");
    b->discard_gran = b->phys_block;
    b->discard_zeroes = true;
    dev->fast_zero = true;
    b->known_zero = lseek(dev->fd, 0, SEEK_DATA) < 0 && errno == ENXIO;
    return 0;
}

/* With O_DIRECT on: what alignment it wants. statx says since Linux 6.1, for most file systems;
 * where it does not, a read tells. False: not possible after all. */
static bool direct_alignment(int fd, bool is_node, uint32_t *mem_r, uint32_t *offset_r)
{
    struct statx sx;
    if (!statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &sx) && sx.stx_mask & STATX_DIOALIGN) {
        *mem_r = sx.stx_dio_mem_align;
        *offset_r = sx.stx_dio_offset_align;
        return *offset_r && *offset_r <= 4096 && *mem_r <= 4096;
    }
    int block = 512;
    void *p = NULL;
    bool ok = false;
    if (is_node && ioctl(fd, BLKSSZGET, &block))
        return false;
    if (posix_memalign(&p, 8192, 8192))
        return false;
    for (; !ok && block <= 4096; block *= 2)
        if (pread(fd, (char *)p + block, (size_t)block, 0) >= 0) {
            *mem_r = *offset_r = (uint32_t)block;
            ok = true;
        }
    free(p);
    return ok;
}

static void try_direct(struct file_dev *dev)
{
    uint32_t mem = 0, offset = 0;
    int flags = fcntl(dev->fd, F_GETFL);
    if (fcntl(dev->fd, F_SETFL, flags | O_DIRECT))
        return;
    if (!direct_alignment(dev->fd, dev->is_node, &mem, &offset)) {
        fcntl(dev->fd, F_SETFL, flags);
        return;
    }
    dev->direct = true;
    /* A piece of an iovec may begin where it pleases the memory, but also must end on a block. */
    dev->bdev.mem_align = mem > offset ? mem : offset;
    if (!dev->is_node)
        dev->bdev.block_size = offset > 512 ? offset : 512;
}

static int open_claimed(struct file_dev *dev, const struct stat *st, uint64_t size, bool buffered,
                        struct err *e)
{
    int flags = dev->bdev.read_only ? O_RDONLY : O_RDWR;
    if (dev->is_node ? claim_node(dev, st, flags, e) : claim_file(dev, flags, e))
        return -1;
    struct statfs fs;
    if (!dev->is_node && !fstatfs(dev->fd, &fs))
        dev->in_memory = fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC;
    dev->rw_way = dev->in_memory ? WAY_INLINE : WAY_RING;
    if (!buffered && !dev->in_memory)
        try_direct(dev);
    struct stat now;
    if (fstat(dev->fd, &now)) /* another may have resized it until the lock was ours */
        return sys_err(e, dev->path, "cannot be looked at");
    if (dev->is_node ? measure_node(dev, &now, e) : measure_file(dev, &now, e))
        return -1;
    uint64_t have = dev->is_node ? dev->bdev.size : (uint64_t)now.st_size;
    if (size && size != have)
        return err_set(e, ERR_INVALID, "size",
                       "%s is %llu bytes long, not %llu; leave the size out to take it as it is",
                       dev->path, (unsigned long long)have, (unsigned long long)size);
    return probe_identity(dev->path, &dev->id, e);
}

static void take_ops(struct file_dev *dev)
{
    struct bdev *b = &dev->bdev;
    b->native = 1u << BIO_READ | 1u << BIO_FLUSH;
    if (!b->read_only)
        b->native |= 1u << BIO_WRITE | 1u << BIO_WRITE_ZEROES;
    if (!b->read_only && b->discard_gran)
        b->native |= 1u << BIO_DISCARD;
    if (!dev->is_node)
        b->native |= 1u << BIO_EXTENTS;
    b->native_fua = true;
    b->max_extent_io = EXTENT_MAX;
}

int file_open(struct file_dev *dev, uint64_t size, bool buffered, struct err *e)
{
    struct stat st;
    dev->fd = -1;
    if (*dev->path != '/')
        return err_set(e, ERR_INVALID, "path", "%s is no absolute path", dev->path);
    if (stat(dev->path, &st)) {
        if (errno != ENOENT)
            return sys_err(e, dev->path, "cannot be looked at");
        if (create_file(dev, size, e))
            return -1;
        if (stat(dev->path, &st)) {
            file_close(dev, true);
            return sys_err(e, dev->path, "cannot be looked at");
        }
    }
    dev->is_node = S_ISBLK(st.st_mode);
    dev->node = st.st_rdev;
    if (!dev->is_node && !S_ISREG(st.st_mode))
        return err_set(e, ERR_INVALID, "path", "%s is neither a regular file nor a block device",
                       dev->path);
    if (open_claimed(dev, &st, size, buffered, e)) {
        file_close(dev, true);
        return -1;
    }
    take_ops(dev);
    return 0;
}

void file_close(struct file_dev *dev, bool undo)
{
    if (dev->fd >= 0)
        close(dev->fd);
    dev->fd = -1;
    if (undo && dev->created)
        unlink(dev->path);
}

uint64_t file_size_now(const struct file_dev *dev)
{
    uint64_t size = 0;
    struct stat st;
    if (dev->is_node)
        return ioctl(dev->fd, BLKGETSIZE64, &size) ? 0 : size;
    return fstat(dev->fd, &st) ? 0 : (uint64_t)st.st_size;
}
