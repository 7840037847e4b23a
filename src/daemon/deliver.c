/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/deliver.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/secret.h"
#include "client/client.h"
#include "daemon/hooks.h"

static void fail(struct delivery *d, const char *what, int error)
{
    snprintf(d->why, sizeof d->why, "%s: %s", what, strerror(error));
}

/* ---- a program */

/* Its standard input: the event as one line. */
static int event_fd(const char *text)
{
    int fd = memfd_create("orion-event", MFD_CLOEXEC);
    size_t n = strlen(text);
    if (fd >= 0 && (write(fd, text, n) != (ssize_t)n || write(fd, "\n", 1) != 1 ||
                    lseek(fd, 0, SEEK_SET) < 0)) {
        close(fd);
        fd = -1;
    }
    return fd;
}

/* In a group of its own, so that it can be ended with all that it started; signals as they are by
 * default; nothing of ours is open in it but the event. */
static int spawn(struct delivery *d, int in, pid_t *pid_r)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    sigset_t none, all;
    autofree char *event = xasprintf("ORION_EVENT=%s", d->kind);
    autofree char *object = xasprintf("ORION_OBJECT=%s", d->object);
    char path[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    autofree char *name = xstrdup(d->command);
    char *const argv[] = {name, NULL}, *const env[] = {path, event, object, NULL};
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, in, STDIN_FILENO);
    posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawnattr_init(&attr);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
                                        POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setpgroup(&attr, 0);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &all);
    int rc = posix_spawn(pid_r, d->command, &files, &attr, argv, env);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&files);
    return rc;
}

static void await(struct delivery *d, pid_t pid)
{
    int status = 0;
    autoclose int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int n = fd >= 0 ? poll(&p, 1, HOOK_TIMEOUT_S * 1000) : 0;
    if (n <= 0)
        kill(-pid, SIGKILL);
    /* Its number is free only when it is waited for: nobody else is hit by deliver_abort. */
    siginfo_t info;
    waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT);
    pthread_mutex_lock(&d->lock);
    d->pid = 0;
    waitpid(pid, &status, 0);
    pthread_mutex_unlock(&d->lock);
    if (n <= 0)
        snprintf(d->why, sizeof d->why, "%.100s took more than %d s", d->command, HOOK_TIMEOUT_S);
    else if (WIFSIGNALED(status))
        snprintf(d->why, sizeof d->why, "%.100s was ended by signal %d", d->command,
                 WTERMSIG(status));
    else if (WEXITSTATUS(status))
        snprintf(d->why, sizeof d->why, "%.100s exited with %d", d->command, WEXITSTATUS(status));
}

static void run_command(struct delivery *d)
{
    pid_t pid = 0;
    autoclose int in = event_fd(d->text);
    if (in < 0) {
        fail(d, "no memory for the event", errno);
        return;
    }
    pthread_mutex_lock(&d->lock);
    int rc = d->aborted ? ECANCELED : spawn(d, in, &pid);
    d->pid = rc ? 0 : pid;
    pthread_mutex_unlock(&d->lock);
    if (rc)
        fail(d, d->command, rc);
    else
        await(d, pid);
}

/* ---- a URL */

static void on_socket(int fd, void *arg)
{
    struct delivery *d = arg;
    pthread_mutex_lock(&d->lock);
    d->fd = fd;
    if (fd >= 0 && d->aborted)
        shutdown(fd, SHUT_RDWR);
    pthread_mutex_unlock(&d->lock);
}

static void post(struct delivery *d)
{
    char token[SECRET_REF_MAX];
    struct err e = {0};
    struct client_reply r;
    const char *host = strstr(d->url, "://");
    size_t n = host ? (size_t)(host - d->url) + 3 : 0;
    n += strcspn(d->url + n, "/?#");
    autofree char *addr = xasprintf("%.*s", (int)n, d->url);
    autofree char *path = xasprintf("%s%s", d->url[n] == '/' ? "" : "/", d->url + n);
    if (d->token && secret_read(d->token, "event_token", token, sizeof token, &e)) {
        snprintf(d->why, sizeof d->why, "%s", e.msg);
        return;
    }
    struct client_peer p = {.addr = addr,
                            .ca = d->ca,
                            .token = d->token ? token : NULL,
                            .timeout_s = HOOK_TIMEOUT_S,
                            .opened = on_socket,
                            .arg = d};
    struct client_request q = {.peer = &p, .method = "POST", .path = path, .body = d->text};
    if (client_send(&q, &r, &e)) {
        snprintf(d->why, sizeof d->why, "%s", e.msg);
    } else {
        if (r.status / 100 != 2)
            snprintf(d->why, sizeof d->why, "%.120s answered with status %d", addr, r.status);
        client_reply_clear(&r);
    }
    explicit_bzero(token, sizeof token);
}

void deliver_run(void *arg)
{
    struct delivery *d = arg;
    d->why[0] = 0;
    if (d->command)
        run_command(d);
    else
        post(d);
}

void deliver_abort(struct delivery *d)
{
    pthread_mutex_lock(&d->lock);
    d->aborted = true;
    if (d->pid)
        kill(-d->pid, SIGKILL);
    if (d->fd >= 0)
        shutdown(d->fd, SHUT_RDWR);
    pthread_mutex_unlock(&d->lock);
}
