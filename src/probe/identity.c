/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "probe/probe.h"

#include <blkid/blkid.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/mem.h"

/* A sysfs attribute of the node without blanks around it; "" when there is none. */
static void sys_attr(dev_t node, const char *name, char *out, size_t size)
{
    char path[128];
    *out = 0;
    snprintf(path, sizeof path, "/sys/dev/block/%u:%u/%s", major(node), minor(node), name);
    FILE *f = fopen(path, "re");
    if (!f)
        return;
    char line[256] = "";
    if (fgets(line, sizeof line, f)) {
        char *s = line + strspn(line, " \t");
        size_t n = strlen(s);
        while (n && isspace((unsigned char)s[n - 1]))
            n--;
        if (n < size) {
            memcpy(out, s, n);
            out[n] = 0;
        }
    }
    fclose(f);
    for (char *c = out; *c; c++) /* it goes into names and JSON: printable, no blanks */
        if (!isgraph((unsigned char)*c))
            *c = '_';
}

/* udev's own database, which knows what sysfs does not (ATA serials); absent without udev. */
static void udev_value(dev_t node, const char *name, char *out, size_t size)
{
    char path[64], line[512];
    snprintf(path, sizeof path, "/run/udev/data/b%u:%u", major(node), minor(node));
    FILE *f = fopen(path, "re");
    size_t n = strlen(name);
    *out = 0;
    if (!f)
        return;
    while (!*out && fgets(line, sizeof line, f))
        if (!strncmp(line, "E:", 2) && !strncmp(line + 2, name, n) && line[2 + n] == '=')
            snprintf(out, size, "%.*s", (int)strcspn(line + 3 + n, "\n"), line + 3 + n);
    fclose(f);
}

static void first_of(dev_t node, const char *const *attrs, const char *udev, char *out, size_t size)
{
    *out = 0;
    for (; *attrs && !*out; attrs++)
        sys_attr(node, *attrs, out, size);
    if (!*out)
        udev_value(node, udev, out, size);
}

/* The disk that a partition is on; the node itself for a whole disk. *part_r is 0 or its number. */
static dev_t whole_disk(dev_t node, unsigned *part_r)
{
    char text[32];
    unsigned ma, mi;
    sys_attr(node, "partition", text, sizeof text);
    *part_r = (unsigned)strtoul(text, NULL, 10);
    sys_attr(node, "../dev", text, sizeof text);
    return *part_r && sscanf(text, "%u:%u", &ma, &mi) == 2 ? makedev(ma, mi) : node;
}

/* The PARTUUID as the kernel published it when it read the table. */
static void part_uuid(dev_t node, char *out, size_t size)
{
    char path[64], line[256];
    *out = 0;
    snprintf(path, sizeof path, "/sys/dev/block/%u:%u/uevent", major(node), minor(node));
    FILE *f = fopen(path, "re");
    if (f) {
        while (!*out && fgets(line, sizeof line, f))
            if (!strncmp(line, "PARTUUID=", 9))
                snprintf(out, size, "%.*s", (int)strcspn(line + 9, "\n"), line + 9);
        fclose(f);
    }
    if (!*out)
        udev_value(node, "ID_PART_ENTRY_UUID", out, size);
}

/* Of several links the one that names the unit best: wwn- and nvme-eui. last, they say nothing to a
 * person; else the longest. */
static int link_rank(const char *name)
{
    bool number = !strncmp(name, "wwn-", 4) || !strncmp(name, "nvme-eui.", 9);
    return (number ? 0 : 1000) + (int)strlen(name);
}

static void by_id_link(dev_t node, char *out, size_t size)
{
    static const char folder[] = "/dev/disk/by-id";
    int best = -1;
    *out = 0;
    DIR *d = opendir(folder);
    if (!d)
        return;
    for (struct dirent *x; (x = readdir(d));) {
        char path[300];
        struct stat st;
        if (x->d_name[0] == '.' ||
            (size_t)snprintf(path, sizeof path, "%s/%s", folder, x->d_name) >= sizeof path ||
            stat(path, &st) || !S_ISBLK(st.st_mode) || st.st_rdev != node)
            continue;
        if (link_rank(x->d_name) > best) {
            best = link_rank(x->d_name);
            snprintf(out, size, "%s", path);
        }
    }
    closedir(d);
}

static void node_identity(dev_t node, struct probe_identity *id)
{
    static const char *const wwns[] = {"wwid", "device/wwid", NULL};
    static const char *const serials[] = {"serial", "device/serial", NULL};
    unsigned part;
    dev_t disk = whole_disk(node, &part);
    id->is_node = true;
    first_of(disk, wwns, "ID_WWN", id->wwn, sizeof id->wwn);
    first_of(disk, serials, "ID_SERIAL", id->serial, sizeof id->serial);
    if (part)
        part_uuid(node, id->partuuid, sizeof id->partuuid);
    by_id_link(node, id->by_id, sizeof id->by_id);

    char suffix[24] = "";
    if (part)
        snprintf(suffix, sizeof suffix, ":part%u", part);
    if (*id->partuuid)
        snprintf(id->key, sizeof id->key, "partuuid:%s", id->partuuid);
    else if (*id->wwn)
        snprintf(id->key, sizeof id->key, "wwn:%s%s", id->wwn, suffix);
    else if (*id->serial)
        snprintf(id->key, sizeof id->key, "serial:%s%s", id->serial, suffix);
}

int probe_identity(const char *path, struct probe_identity *id_r, struct err *e)
{
    *id_r = (struct probe_identity){0};
    struct stat st;
    if (stat(path, &st))
        return err_set(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "path", "%s: %s", path,
                       strerror(errno));
    if (S_ISBLK(st.st_mode)) {
        node_identity(st.st_rdev, id_r);
        return 0;
    }
    if (!S_ISREG(st.st_mode))
        return err_set(e, ERR_INVALID, "path", "%s is neither a regular file nor a block device",
                       path);
    struct statfs fs;
    if (statfs(path, &fs))
        return err_set(e, ERR_IO, "path", "%s: %s", path, strerror(errno));
    /* st_dev changes from boot to boot; f_fsid comes from the file system's UUID on most. */
    uint32_t fsid[2];
    memcpy(fsid, &fs.f_fsid, sizeof fsid);
    snprintf(id_r->key, sizeof id_r->key, "file:%08x%08x:%llx", fsid[1], fsid[0],
             (unsigned long long)st.st_ino);
    return 0;
}

bool probe_find(const char *key, char *path, size_t size)
{
    DIR *d = *key && strncmp(key, "file:", 5) ? opendir("/sys/dev/block") : NULL;
    if (!d)
        return false;
    bool found = false;
    for (struct dirent *x; !found && (x = readdir(d));) {
        unsigned ma, mi;
        if (sscanf(x->d_name, "%u:%u", &ma, &mi) != 2)
            continue;
        struct probe_identity id = {0};
        node_identity(makedev(ma, mi), &id);
        if (strcmp(id.key, key))
            continue;
        char *name = *id.by_id ? xstrdup(id.by_id) : blkid_devno_to_devname(makedev(ma, mi));
        found = name != NULL;
        if (found)
            snprintf(path, size, "%s", name);
        free(name);
    }
    closedir(d);
    return found;
}
