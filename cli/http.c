/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "http.h"

#include <ctype.h>
#include <errno.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/mem.h"

static int no_daemon(struct err *e, const char *addr, int error)
{
    return err_set(e, error == EACCES || error == EPERM ? ERR_DENIED : ERR_IO, "",
                   "cannot reach oriond at %s: %s", addr, strerror(error));
}

static int connect_unix(const char *addr, const char *path, struct err *e)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    if (!*path || strlen(path) >= sizeof sun.sun_path)
        return err_set(e, ERR_INVALID, "api", "%s: the path of a socket has 1 to %zu bytes", addr,
                       sizeof sun.sun_path - 1);
    strcpy(sun.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&sun, sizeof sun)) {
        int error = errno;
        if (fd >= 0)
            close(fd);
        return no_daemon(e, addr, error);
    }
    return fd;
}

/* "HOST:PORT" or "[IPV6]:PORT" into two strings. */
static bool split_host(const char *addr, char host[256], char port[16])
{
    const char *colon = strrchr(addr, ':');
    if (!colon || colon == addr || !colon[1] || strlen(colon + 1) >= 16)
        return false;
    const char *begin = addr;
    size_t n = (size_t)(colon - addr);
    if (*addr == '[' && n > 2 && colon[-1] == ']') {
        begin++;
        n -= 2;
    }
    if (n >= 256)
        return false;
    snprintf(host, 256, "%.*s", (int)n, begin);
    snprintf(port, 16, "%s", colon + 1);
    return true;
}

static int connect_tcp(const char *addr, struct err *e)
{
    char host[256], port[16];
    if (!split_host(addr, host, port))
        return err_set(e, ERR_INVALID, "api",
                       "'%s' is no address; expected unix:PATH, HOST:PORT or [IPV6]:PORT", addr);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list;
    int rc = getaddrinfo(host, port, &hints, &list);
    if (rc)
        return err_set(e, ERR_IO, "", "cannot reach oriond at %s: %s", addr, gai_strerror(rc));
    int fd = -1, error = ECONNREFUSED;
    for (struct addrinfo *a = list; a && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
        if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen)) {
            error = errno;
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(list);
    return fd >= 0 ? fd : no_daemon(e, addr, error);
}

static int send_all(int fd, const char *data, size_t len)
{
    while (len) {
        ssize_t n = send(fd, data, len, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        data += n;
        len -= (size_t)n;
    }
    return 0;
}

/* Reads until the server closes. malloc'ed and NUL-terminated; NULL on error with errno set. */
static char *receive_all(int fd, size_t *len_r)
{
    size_t cap = 16 << 10, len = 0;
    char *data = xrealloc(NULL, cap + 1);
    for (;;) {
        ssize_t n = recv(fd, data + len, cap - len, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 || len + (size_t)n > HTTP_BODY_MAX + HTTP_HEAD_MAX) {
            if (n >= 0)
                errno = EMSGSIZE;
            free(data);
            return NULL;
        }
        if (!n)
            break;
        len += (size_t)n;
        if (len == cap)
            data = xrealloc(data, (cap *= 2) + 1);
    }
    data[len] = 0;
    *len_r = len;
    return data;
}

/* ---- the answer */
static int malformed(struct err *e, const char *what)
{
    return err_set(e, ERR_IO, "", "the answer is no HTTP that orionctl understands: %s", what);
}

struct head {
    long long length; /* -1: not said */
    bool chunked;
};

static void take_header(char *line, struct http_reply *r, struct head *h)
{
    char *value = strchr(line, ':');
    if (!value)
        return;
    *value++ = 0;
    value += strspn(value, " \t");
    if (!strcasecmp(line, "content-length") && isdigit((unsigned char)*value))
        h->length = atoll(value);
    else if (!strcasecmp(line, "transfer-encoding"))
        h->chunked = !strcasecmp(value, "chunked");
    else if (!strcasecmp(line, "etag"))
        snprintf(r->etag, sizeof r->etag, "%s", value);
    else if (!strcasecmp(line, "location"))
        snprintf(r->location, sizeof r->location, "%s", value);
}

/* A chunk's length in hex digits; false when there is none or it is beyond reason. */
static bool chunk_size(const char **p, const char *end, size_t *size_r)
{
    size_t n = 0;
    const char *q = *p;
    for (; q < end && isxdigit((unsigned char)*q) && n <= HTTP_BODY_MAX; q++)
        n = n * 16 + (size_t)(isdigit((unsigned char)*q) ? *q - '0' : (*q | 0x20) - 'a' + 10);
    bool any = q > *p;
    *p = q;
    *size_r = n;
    return any && n <= HTTP_BODY_MAX;
}

/* Joins the chunks into r->body (RFC 9112 section 7.1). False: malformed or cut off. */
static bool dechunk(const char *p, const char *end, struct http_reply *r)
{
    r->body = xcalloc(1, (size_t)(end - p) + 1);
    for (;;) {
        size_t n;
        if (!chunk_size(&p, end, &n))
            return false;
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        if (!nl)
            return false;
        p = nl + 1;
        if (!n)
            return true;
        if (n > (size_t)(end - p) || (size_t)(end - p) - n < 2)
            return false;
        memcpy(r->body + r->len, p, n);
        r->len += n;
        p += n + 2;
    }
}

static int take_body(const char *p, size_t n, const struct head *h, struct http_reply *r,
                     struct err *e)
{
    if (h->chunked) {
        if (!dechunk(p, p + n, r))
            return malformed(e, "a chunk is cut off");
        return 0;
    }
    if (h->length >= 0 && (unsigned long long)h->length > n)
        return malformed(e, "the body is cut off");
    r->len = h->length >= 0 ? (size_t)h->length : n;
    r->body = xcalloc(1, r->len + 1);
    memcpy(r->body, p, r->len);
    return 0;
}

int http_parse(const char *data, size_t len, struct http_reply *r, struct err *e)
{
    memset(r, 0, sizeof *r);
    const char *end = memmem(data, len, "\r\n\r\n", 4);
    if (!end || end - data > HTTP_HEAD_MAX)
        return malformed(e, len ? "its head does not end" : "it is empty");
    autofree char *head = xasprintf("%.*s", (int)(end - data), data);
    char *rest = head, *line = strsep(&rest, "\n");
    int minor;
    if (sscanf(line, "HTTP/1.%1d %3d", &minor, &r->status) != 2 || r->status < 100)
        return malformed(e, "its first line");
    struct head h = {.length = -1};
    while ((line = strsep(&rest, "\n"))) {
        line[strcspn(line, "\r")] = 0;
        take_header(line, r, &h);
    }
    if (r->status == 204)
        h = (struct head){.length = 0};
    int rc = take_body(end + 4, len - (size_t)(end + 4 - data), &h, r, e);
    if (rc)
        http_reply_clear(r);
    return rc;
}

void http_reply_clear(struct http_reply *r)
{
    free(r->body);
    memset(r, 0, sizeof *r);
}

int http_send(const struct http_request *q, struct http_reply *r, struct err *e)
{
    bool local = !strncmp(q->addr, "unix:", 5);
    autoclose int fd = local ? connect_unix(q->addr, q->addr + 5, e) : connect_tcp(q->addr, e);
    if (fd < 0)
        return -1;
    autofree char *match = q->if_match ? xasprintf("If-Match: %s\r\n", q->if_match) : xstrdup("");
    autofree char *type = q->body
                              ? xasprintf("Content-Type: application/json\r\n"
                                          "Content-Length: %zu\r\n",
                                          strlen(q->body))
                              : xstrdup(strcmp(q->method, "GET") ? "Content-Length: 0\r\n" : "");
    autofree char *text = xasprintf(
        "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: orionctl/" ORION_VERSION "\r\n"
        "Connection: close\r\n%s%s\r\n%s",
        q->method, q->path, local ? "localhost" : q->addr, match, type, q->body ? q->body : "");
    size_t len = 0;
    /* A server may answer and close before it has read all; then the answer counts. */
    bool sent = !send_all(fd, text, strlen(text));
    int error = errno;
    autofree char *data = receive_all(fd, &len);
    if (!data || (!len && !sent))
        return no_daemon(e, q->addr, data ? error : errno);
    return http_parse(data, len, r, e);
}
