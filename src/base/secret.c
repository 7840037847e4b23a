/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/secret.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "base/mem.h"

static const char *after(const char *text, const char *prefix)
{
    size_t n = strlen(prefix);
    return strncmp(text, prefix, n) ? NULL : text + n;
}

/* Credentials lie flat in one folder. */
static bool name_ok(const char *name)
{
    size_t n = 0;
    for (; name[n]; n++)
        if (!isalnum((unsigned char)name[n]) && !strchr("_.-", name[n]))
            return false;
    return n && n < 256 && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

int secret_check(const char *ref, const char *field, struct err *e)
{
    const char *path = after(ref, "file:"), *name = after(ref, "credential:");
    if ((path && *path == '/') || (name && name_ok(name)))
        return 0;
    return err_set(e, ERR_INVALID, field,
                   "%s is '%.60s'; expected file:/PATH, or credential:NAME of systemd", field, ref);
}

int secret_path(const char *ref, const char *field, char path_r[SECRET_PATH_MAX], struct err *e)
{
    const char *name = after(ref, "credential:"), *path = after(ref, "file:");
    const char *folder = getenv("CREDENTIALS_DIRECTORY");
    if (name && !name_ok(name))
        return secret_check(ref, field, e);
    if (name && (!folder || *folder != '/'))
        return err_set(e, ERR_NOT_FOUND, field,
                       "%s: there is no %.260s: oriond was started without credentials", field,
                       ref);
    snprintf(path_r, SECRET_PATH_MAX, "%s%s%s", name ? folder : "", name ? "/" : "",
             name   ? name
             : path ? path
                    : ref);
    return 0;
}

static int unreadable(const char *ref, const char *field, int error, struct err *e)
{
    return err_set(e, error == ENOENT ? ERR_NOT_FOUND : ERR_IO, field, "%s: cannot read %.260s: %s",
                   field, ref, strerror(error));
}

int secret_read(const char *ref, const char *field, char *text, size_t size, struct err *e)
{
    char path[SECRET_PATH_MAX];
    size_t n = 0;
    if (secret_check(ref, field, e) || secret_path(ref, field, path, e))
        return -1;
    autoclose int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return unreadable(ref, field, errno, e);
    for (ssize_t got = 1; got > 0 && n < size; n += (size_t)got) {
        got = read(fd, text + n, size - n);
        if (got < 0)
            return unreadable(ref, field, errno, e);
    }
    if (n && n < size + 1 && text[n - 1] == '\n')
        n--;
    if (n && text[n - 1] == '\r')
        n--;
    if (!n || n >= size || memchr(text, 0, n))
        return err_set(e, ERR_INVALID, field, "%s: %.260s is no secret: %s", field, ref,
                       !n          ? "it is empty"
                       : n >= size ? "it is too long"
                                   : "it has a NUL in it");
    text[n] = 0;
    return 0;
}

bool secret_equal(const char *a, const char *b)
{
    size_t a_len = strlen(a), b_len = strlen(b), most = a_len > b_len ? a_len : b_len;
    char *x = xcalloc(2, most + 1), *y = x + most + 1;
    memcpy(x, a, a_len);
    memcpy(y, b, b_len);
    bool same = !CRYPTO_memcmp(x, y, most + 1) && a_len == b_len;
    OPENSSL_cleanse(x, 2 * (most + 1));
    free(x);
    return same;
}
