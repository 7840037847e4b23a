/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the SCSI device server wants to keep: one file a record, KIND/UUID in the state folder,
 * replaced as a whole. The record has its own checksum; the file is written aside, synced, renamed,
 * and the folder synced, so that after a loss of power it is the old one or the new one.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "control/iscsi_acl.h"
#include "control/private.h"
#include "targets/scsi/scsi.h"

enum { RECORD_MAX = 8 << 20, PATH_LEN = 4096 };

struct file_job {
    char folder[PATH_LEN], path[PATH_LEN + 64];
    uint8_t *data;
    size_t len;
    int rc;
};

static void set_paths(struct file_job *j, const char *kind, const struct uuid *id)
{
    char text[UUID_TEXT];
    snprintf(j->folder, sizeof j->folder, "%s/%s", control.opts.state_dir, kind);
    snprintf(j->path, sizeof j->path, "%s/%s", j->folder, uuid_format(id, text));
}

static int sync_folder(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = fd < 0 || fsync(fd) ? -errno : 0;
    if (fd >= 0)
        close(fd);
    return rc;
}

static int write_all(int fd, const uint8_t *p, size_t len)
{
    while (len) {
        ssize_t n = write(fd, p, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

static int write_aside(const struct file_job *j, const char *aside)
{
    int fd = open(aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    int rc = write_all(fd, j->data, j->len);
    if (!rc && fsync(fd))
        rc = -errno;
    if (close(fd) && !rc)
        rc = -errno;
    return rc;
}

static void save_file(void *arg)
{
    struct file_job *j = arg;
    char aside[sizeof j->path + 8];
    bool made = !mkdir(j->folder, 0700);
    snprintf(aside, sizeof aside, "%s.tmp", j->path);
    j->rc = !made && errno != EEXIST ? -errno : write_aside(j, aside);
    if (!j->rc && rename(aside, j->path))
        j->rc = -errno;
    if (!j->rc)
        j->rc = sync_folder(j->folder);
    if (!j->rc && made)
        j->rc = sync_folder(control.opts.state_dir);
}

static void forget_file(void *arg)
{
    struct file_job *j = arg;
    if (!unlink(j->path))
        j->rc = sync_folder(j->folder);
    else
        j->rc = errno == ENOENT ? 0 : -errno;
}

static int read_all(struct file_job *j, int fd)
{
    struct stat st;
    if (fstat(fd, &st))
        return -errno;
    if (st.st_size > RECORD_MAX)
        return -EFBIG;
    j->data = xcalloc(1, (size_t)st.st_size + 1);
    while (j->len < (size_t)st.st_size) {
        ssize_t n = read(fd, j->data + j->len, (size_t)st.st_size - j->len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n ? -errno : -EIO;
        j->len += (size_t)n;
    }
    return 0;
}

static void load_file(void *arg)
{
    struct file_job *j = arg;
    int fd = open(j->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        j->rc = -errno;
        return;
    }
    j->rc = read_all(j, fd);
    close(fd);
}

static int run_file(const char *kind, const struct uuid *id, reactor_fn fn, struct file_job *j)
{
    set_paths(j, kind, id);
    task_help(fn, j);
    return j->rc;
}

static int loaded(struct file_job *j, uint8_t **data_r, size_t *len_r)
{
    int rc = j->rc;
    *data_r = NULL;
    *len_r = j->len;
    if (rc)
        free(j->data);
    else
        *data_r = j->data;
    free(j);
    return rc;
}

static int store_load(const char *kind, const struct uuid *id, uint8_t **data_r, size_t *len_r)
{
    struct file_job *j = xcalloc(1, sizeof *j);
    run_file(kind, id, load_file, j);
    return loaded(j, data_r, len_r);
}

/* No task: devices are registered from wherever. */
static int store_peek(const char *kind, const struct uuid *id, uint8_t **data_r, size_t *len_r)
{
    struct file_job *j = xcalloc(1, sizeof *j);
    set_paths(j, kind, id);
    load_file(j);
    return loaded(j, data_r, len_r);
}

static int store_save(const char *kind, const struct uuid *id, const void *data, size_t len)
{
    struct file_job *j = xcalloc(1, sizeof *j);
    j->data = xcalloc(1, len + 1);
    memcpy(j->data, data, len);
    j->len = len;
    int rc = run_file(kind, id, save_file, j);
    free(j->data);
    free(j);
    return rc;
}

static int store_forget(const char *kind, const struct uuid *id)
{
    struct file_job *j = xcalloc(1, sizeof *j);
    int rc = run_file(kind, id, forget_file, j);
    free(j);
    return rc;
}

void store_init(void)
{
    static const struct scsi_store store = {store_load, store_save, store_forget, store_peek};
    scsi_set_store(&store);
    scsi_set_alua_keeper(alua_keep);
}
