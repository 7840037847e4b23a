/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/net_private.h"
#include "reactor/task.h"

enum { HOST_MAX = 255 };

struct lookup {
    const char *host, *port;
    struct addrinfo *found;
    int rc;
};

static const struct addrinfo stream_hints = {.ai_socktype = SOCK_STREAM};

static void lookup_run(void *arg)
{
    struct lookup *l = arg;
    l->rc = getaddrinfo(l->host, l->port, &stream_hints, &l->found);
}

static int parse_unix(const char *path, const char *field, struct net_addr *addr_r, struct err *e)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    if (path[0] != '/')
        return err_set(e, ERR_INVALID, field,
                       "\"unix:%s\": expected an absolute path after unix:", path);
    size_t len = strlen(path);
    if (len >= sizeof sun.sun_path)
        return err_set(e, ERR_INVALID, field, "the path of a unix socket is at most %zu bytes long",
                       sizeof sun.sun_path - 1);
    memcpy(sun.sun_path, path, len + 1);
    memcpy(&addr_r->ss, &sun, sizeof sun);
    addr_r->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + 1);
    return 0;
}

/* Splits TEXT into host and port text; port_r is "" when there is none. False: not of that shape.
 */
static bool split(const char *text, char host[HOST_MAX + 1], char port_r[12])
{
    const char *end, *colon = NULL, *start = text;
    if (*text == '[') {
        start = text + 1;
        end = strchr(start, ']');
        if (!end || (end[1] != '\0' && end[1] != ':'))
            return false;
        colon = end[1] == ':' ? end + 1 : NULL;
    } else {
        colon = strchr(text, ':');
        if (colon && strchr(colon + 1, ':'))
            return false; /* IPv6 needs brackets, or the port cannot be told */
        end = colon ? colon : text + strlen(text);
    }
    if (end == start || end - start > HOST_MAX)
        return false;
    memcpy(host, start, (size_t)(end - start));
    host[end - start] = '\0';
    port_r[0] = '\0';
    if (colon) {
        size_t len = strlen(colon + 1);
        if (!len || len > 5 || strspn(colon + 1, "0123456789") != len)
            return false;
        memcpy(port_r, colon + 1, len + 1);
    }
    return true;
}

static int resolve(const char *host, const char *port, const char *field, struct net_addr *addr_r,
                   struct err *e)
{
    struct addrinfo numeric = {.ai_socktype = SOCK_STREAM,
                               .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
    struct lookup l = {.host = host, .port = port};
    l.rc = getaddrinfo(host, port, &numeric, &l.found);
    if (l.rc == EAI_NONAME && (task_in() || !reactor_count())) {
        l.found = NULL;
        if (task_in())
            task_help(lookup_run, &l);
        else
            lookup_run(&l);
    }
    if (l.rc)
        return err_set(e, ERR_INVALID, field, "cannot resolve \"%s\": %s", host,
                       gai_strerror(l.rc));
    memcpy(&addr_r->ss, l.found->ai_addr, l.found->ai_addrlen);
    addr_r->len = l.found->ai_addrlen;
    freeaddrinfo(l.found);
    return 0;
}

int net_addr_parse(const char *text, unsigned default_port, const char *field,
                   struct net_addr *addr_r, struct err *e)
{
    memset(addr_r, 0, sizeof *addr_r);
    if (!strncmp(text, "unix:", 5))
        return parse_unix(text + 5, field, addr_r, e);
    char host[HOST_MAX + 1], port[12];
    if (!split(text, host, port))
        return err_set(
            e, ERR_INVALID, field,
            "\"%.100s\" is not an address: expected HOST:PORT, [IPV6]:PORT%s or unix:PATH", text,
            default_port ? ", HOST" : "");
    if (!port[0] && !default_port)
        return err_set(e, ERR_INVALID, field, "\"%.100s\": expected HOST:PORT, the port is missing",
                       text);
    if (!port[0])
        snprintf(port, sizeof port, "%u", default_port);
    if (strtoul(port, NULL, 10) > 65535)
        return err_set(e, ERR_INVALID, field, "\"%.100s\": a port is 0 to 65535", text);
    return resolve(host, port, field, addr_r, e);
}

const char *net_addr_format(const struct net_addr *a, char *out, size_t size)
{
    if (net_addr_is_unix(a)) {
        const struct sockaddr_un *sun = (const void *)&a->ss;
        size_t head = offsetof(struct sockaddr_un, sun_path);
        size_t len = a->len > head ? a->len - head : 0;
        len = strnlen(sun->sun_path, len < sizeof sun->sun_path ? len : sizeof sun->sun_path);
        snprintf(out, size, "unix:%.*s", (int)len, sun->sun_path);
        return out;
    }
    char host[INET6_ADDRSTRLEN + 20], port[8];
    if (getnameinfo((const struct sockaddr *)&a->ss, a->len, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV))
        snprintf(out, size, "?");
    else
        snprintf(out, size, a->ss.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
    return out;
}

const char *net_peer_format(int fd, const struct net_addr *peer, char *out, size_t size)
{
    struct ucred cred;
    socklen_t len = sizeof cred;
    net_addr_format(peer, out, size);
    if (!strcmp(out, "unix:") && !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len))
        snprintf(out, size, "unix:pid=%d,uid=%u", (int)cred.pid, (unsigned)cred.uid);
    return out;
}

bool net_addr_is_unix(const struct net_addr *a)
{
    return a->ss.ss_family == AF_UNIX;
}

const char *net_addr_place(const struct net_addr *a, char out[NET_PLACE_TEXT])
{
    if (a->ss.ss_family == AF_INET) {
        inet_ntop(AF_INET, &((const struct sockaddr_in *)&a->ss)->sin_addr, out, NET_PLACE_TEXT);
    } else if (a->ss.ss_family == AF_INET6) {
        struct in6_addr six = ((const struct sockaddr_in6 *)&a->ss)->sin6_addr;
        if (IN6_IS_ADDR_V4MAPPED(&six)) {
            inet_ntop(AF_INET, &six.s6_addr[12], out, NET_PLACE_TEXT);
            return out;
        }
        memset(&six.s6_addr[8], 0, 8);
        inet_ntop(AF_INET6, &six, out, NET_PLACE_TEXT - 3);
        strcat(out, "/64");
    } else {
        strcpy(out, "unix");
    }
    return out;
}

bool net_addr_is_local(const struct net_addr *a)
{
    if (a->ss.ss_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)&a->ss;
        return ntohl(in->sin_addr.s_addr) >> 24 == 127;
    }
    if (a->ss.ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const void *)&a->ss;
        return IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr);
    }
    return net_addr_is_unix(a);
}

unsigned net_addr_port(const struct net_addr *a)
{
    if (a->ss.ss_family == AF_INET)
        return ntohs(((const struct sockaddr_in *)&a->ss)->sin_port);
    if (a->ss.ss_family == AF_INET6)
        return ntohs(((const struct sockaddr_in6 *)&a->ss)->sin6_port);
    return 0;
}

bool net_addr_equal(const struct net_addr *a, const struct net_addr *b)
{
    char x[NET_ADDR_TEXT], y[NET_ADDR_TEXT];
    return a->ss.ss_family == b->ss.ss_family &&
           !strcmp(net_addr_format(a, x, sizeof x), net_addr_format(b, y, sizeof y));
}

void net_addr_plain(struct net_addr *a)
{
    struct sockaddr_in6 in6;
    memcpy(&in6, &a->ss, sizeof in6);
    if (a->ss.ss_family != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(&in6.sin6_addr))
        return;
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = in6.sin6_port};
    memcpy(&in.sin_addr, &in6.sin6_addr.s6_addr[12], sizeof in.sin_addr);
    *a = (struct net_addr){.len = sizeof in};
    memcpy(&a->ss, &in, sizeof in);
}

void net_addr_of_socket(int fd, struct net_addr *addr_r)
{
    memset(addr_r, 0, sizeof *addr_r);
    addr_r->len = sizeof addr_r->ss;
    if (getsockname(fd, (struct sockaddr *)&addr_r->ss, &addr_r->len))
        *addr_r = (struct net_addr){.ss.ss_family = AF_UNSPEC};
    net_addr_plain(addr_r);
}
