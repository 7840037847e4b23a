/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The block devices that the machine has. */
#include "probe/probe.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

static int by_path(const void *a, const void *b)
{
    const struct probe_disk *x = a, *y = b;
    return strverscmp(x->path, y->path);
}

static void read_signature(int fd, struct probe_disk *d)
{
    int block = 512;
    struct err e;
    ioctl(fd, BLKSSZGET, &block);
    if (probe_signature_fd(fd, d->size, (unsigned)block, d->signature, sizeof d->signature, &e) < 0)
        snprintf(d->signature, sizeof d->signature, "?");
}

/* False: not there, no medium, or no size (an unused loop device). */
static bool look_at(const char *name, struct probe_disk *d)
{
    struct stat st;
    struct err e;
    memset(d, 0, sizeof *d);
    if ((size_t)snprintf(d->path, sizeof d->path, "/dev/%s", name) >= sizeof d->path)
        return false;
    for (char *c = d->path + 5; *c; c++) /* sysfs writes '!' where the node's name has '/' */
        *c = *c == '!' ? '/' : *c;
    autoclose int fd = open(d->path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) || !S_ISBLK(st.st_mode) || ioctl(fd, BLKGETSIZE64, &d->size) ||
        !d->size)
        return false;
    int read_only = 0;
    ioctl(fd, BLKROGET, &read_only);
    d->read_only = read_only;
    d->node = st.st_rdev;
    if (probe_identity(d->path, &d->id, &e))
        memset(&d->id, 0, sizeof d->id);
    if (!probe_node_in_use(d->node, d->in_use, sizeof d->in_use))
        *d->in_use = 0;
    read_signature(fd, d);
    return true;
}

unsigned probe_disks(struct probe_disk **list_r)
{
    DIR *dir = opendir("/sys/class/block");
    struct probe_disk *list = NULL;
    unsigned n = 0;
    struct dirent *entry;
    while (dir && (entry = readdir(dir))) {
        if (*entry->d_name == '.')
            continue;
        list = xrealloc(list, (n + 1) * sizeof *list);
        if (look_at(entry->d_name, &list[n]))
            n++;
    }
    if (dir)
        closedir(dir);
    if (n)
        qsort(list, n, sizeof *list, by_path);
    *list_r = list;
    return n;
}
