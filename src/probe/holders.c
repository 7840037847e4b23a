/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "probe/probe.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* /dev/NAME as the kernel calls it: sysfs writes '!' for '/'. */
static void node_name(dev_t node, char *out, size_t size)
{
    char path[64], link[512];
    snprintf(path, sizeof path, "/sys/dev/block/%u:%u", major(node), minor(node));
    ssize_t n = readlink(path, link, sizeof link - 1);
    if (n <= 0) {
        snprintf(out, size, "node %u:%u", major(node), minor(node));
        return;
    }
    link[n] = 0;
    char *base = strrchr(link, '/');
    base = base ? base + 1 : link;
    for (char *c = base; *c; c++)
        if (*c == '!')
            *c = '/';
    snprintf(out, size, "/dev/%.200s", base);
}

/* Fields 3 and 5 of /proc/self/mountinfo, proc(5): MAJOR:MINOR and the mount point. File systems on
 * several devices, or with device numbers of their own (btrfs), show the node as source instead. */
static bool mounted(dev_t node, char *why, size_t size)
{
    FILE *f = fopen("/proc/self/mountinfo", "re");
    if (!f)
        return false;
    char *line = NULL, name[280];
    size_t room = 0;
    bool found = false;
    while (!found && getline(&line, &room, f) > 0) {
        unsigned ma, mi;
        char point[200], source[200] = "";
        if (sscanf(line, "%*s %*s %u:%u %*s %199s", &ma, &mi, point) != 3)
            continue;
        const char *dash = strstr(line, " - ");
        if (dash)
            sscanf(dash + 3, "%*s %199s", source);
        struct stat st;
        found = makedev(ma, mi) == node ||
                (*source == '/' && !stat(source, &st) && S_ISBLK(st.st_mode) && st.st_rdev == node);
        if (found) {
            node_name(node, name, sizeof name);
            snprintf(why, size, "%s is mounted on %s", name, point);
        }
    }
    free(line);
    fclose(f);
    return found;
}

/* Both are of the same node, or are the same file. */
static bool same_thing(const struct stat *a, const struct stat *b)
{
    if (S_ISBLK(a->st_mode) && S_ISBLK(b->st_mode))
        return a->st_rdev == b->st_rdev;
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

static bool swapped(const struct stat *what, char *why, size_t size)
{
    FILE *f = fopen("/proc/swaps", "re");
    if (!f)
        return false;
    char *line = NULL;
    size_t room = 0;
    bool found = false;
    while (!found && getline(&line, &room, f) > 0) {
        char path[300];
        struct stat st;
        if (sscanf(line, "%299s", path) != 1 || *path != '/' || stat(path, &st))
            continue;
        found = same_thing(&st, what);
        if (found)
            snprintf(why, size, "%s is used as swap", path);
    }
    free(line);
    fclose(f);
    return found;
}

static bool node_swapped(dev_t node, char *why, size_t size)
{
    struct stat st = {.st_mode = S_IFBLK, .st_rdev = node};
    return swapped(&st, why, size);
}

static bool held(dev_t node, char *why, size_t size)
{
    char path[64], name[280];
    snprintf(path, sizeof path, "/sys/dev/block/%u:%u/holders", major(node), minor(node));
    DIR *d = opendir(path);
    if (!d)
        return false;
    bool found = false;
    for (struct dirent *x; !found && (x = readdir(d));) {
        if (x->d_name[0] == '.')
            continue;
        node_name(node, name, sizeof name);
        snprintf(why, size, "%s is held by %s", name, x->d_name);
        found = true;
    }
    closedir(d);
    return found;
}

static bool read_dev(const char *path, dev_t *node_r)
{
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    unsigned ma, mi;
    bool ok = fscanf(f, "%u:%u", &ma, &mi) == 2;
    fclose(f);
    if (ok)
        *node_r = makedev(ma, mi);
    return ok;
}

static bool part_in_use(dev_t disk, char *why, size_t size)
{
    char path[400];
    snprintf(path, sizeof path, "/sys/dev/block/%u:%u", major(disk), minor(disk));
    DIR *d = opendir(path);
    if (!d)
        return false;
    bool found = false;
    for (struct dirent *x; !found && (x = readdir(d));) {
        dev_t part;
        snprintf(path, sizeof path, "/sys/dev/block/%u:%u/%s/partition", major(disk), minor(disk),
                 x->d_name);
        if (x->d_name[0] == '.' || access(path, F_OK))
            continue;
        snprintf(path, sizeof path, "/sys/dev/block/%u:%u/%s/dev", major(disk), minor(disk),
                 x->d_name);
        found = read_dev(path, &part) && (mounted(part, why, size) ||
                                          node_swapped(part, why, size) || held(part, why, size));
    }
    closedir(d);
    return found;
}

bool probe_node_in_use(dev_t node, char *why, size_t size)
{
    if (mounted(node, why, size) || node_swapped(node, why, size) || held(node, why, size) ||
        part_in_use(node, why, size))
        return true;
    /* Of a partition: who holds the whole disk (multipath, say) holds it too. */
    char path[80];
    dev_t disk;
    snprintf(path, sizeof path, "/sys/dev/block/%u:%u/partition", major(node), minor(node));
    if (access(path, F_OK))
        return false;
    snprintf(path, sizeof path, "/sys/dev/block/%u:%u/../dev", major(node), minor(node));
    return read_dev(path, &disk) && (mounted(disk, why, size) || held(disk, why, size));
}

/* loop(4) takes no lock on its backing file, but names it in sysfs. */
static bool looped(const struct stat *what, char *why, size_t size)
{
    DIR *d = opendir("/sys/block");
    if (!d)
        return false;
    bool found = false;
    for (struct dirent *x; !found && (x = readdir(d));) {
        char path[400], backing[4096] = "";
        struct stat st;
        snprintf(path, sizeof path, "/sys/block/%s/loop/backing_file", x->d_name);
        FILE *f = strncmp(x->d_name, "loop", 4) ? NULL : fopen(path, "re");
        if (!f)
            continue;
        if (fgets(backing, sizeof backing, f))
            backing[strcspn(backing, "\n")] = 0;
        fclose(f);
        found = *backing == '/' && !stat(backing, &st) && same_thing(&st, what);
        if (found)
            snprintf(why, size, "%s is behind /dev/%s", backing, x->d_name);
    }
    closedir(d);
    return found;
}

bool probe_file_in_use(const char *path, char *why, size_t size)
{
    struct stat st;
    return !stat(path, &st) && (swapped(&st, why, size) || looped(&st, why, size));
}
