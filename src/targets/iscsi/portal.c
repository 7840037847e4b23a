/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/log.h"
#include "base/mem.h"
#include "net/net.h"
#include "targets/iscsi/registry.h"

enum { DEFAULT_PORT = 3260 };

struct portal {
    struct list link;
    struct net_listener *listener;
    char bound[NET_ADDR_TEXT];
    uint16_t group;
    bool local, any; /* any: bound to the wildcard address */
};

static struct list portals = LIST_INIT(portals); /* under registry_lock */

static void on_accept(int fd, const struct net_addr *peer, struct net_listener *l, void *arg)
{
    (void)peer;
    (void)l;
    const struct portal *p = arg;
    front_accept(fd, p->bound, p->group);
}

static struct portal *find(const char *addr)
{
    struct portal *p;
    list_for_each (p, &portals, link) {
        if (!strcmp(net_listener_text(p->listener), addr) || !strcmp(p->bound, addr))
            return p;
    }
    return NULL;
}

static bool is_any(const struct net_addr *a)
{
    char text[NET_ADDR_TEXT];
    net_addr_format(a, text, sizeof text);
    return !strncmp(text, "0.0.0.0:", 8) || !strncmp(text, "[::]:", 5);
}

/* The LUNs tell the groups as target ports. Registrations and access states outlive a portal, and
 * so do groups; port 1 is there from the first. */
static void tell_ports(void)
{
    static uint32_t ports = 1u << 1;
    const struct portal *p;
    list_for_each (p, &portals, link)
        ports |= 1u << p->group;
    scsi_set_ports(ports);
}

int iscsi_portal_add(const char *addr, unsigned group, struct err *e)
{
    if (!group || group > ISCSI_GROUP_MAX)
        return err_set(e, ERR_INVALID, "group", "group is %u; expected 1 to %d", group,
                       ISCSI_GROUP_MAX);
    if (find(addr))
        return err_set(e, ERR_EXISTS, "addr", "portal %s exists already", addr);
    struct portal *p = xcalloc(1, sizeof *p);
    p->listener = net_listen(addr, DEFAULT_PORT, "addr", on_accept, p, e);
    if (!p->listener) {
        free(p);
        return -1;
    }
    const struct net_addr *bound = net_listener_addr(p->listener);
    net_addr_format(bound, p->bound, sizeof p->bound);
    p->group = (uint16_t)group;
    p->local = net_addr_is_local(bound);
    p->any = is_any(bound);
    pthread_mutex_lock(&registry_lock);
    list_add_tail(&portals, &p->link);
    pthread_mutex_unlock(&registry_lock);
    tell_ports();
    log_info("iscsi", "listening portal=%s group=%u", p->bound, group);
    return 0;
}

static void close_portal(struct portal *p)
{
    pthread_mutex_lock(&registry_lock);
    list_del(&p->link);
    pthread_mutex_unlock(&registry_lock);
    net_unlisten(&p->listener);
    free(p);
}

int iscsi_portal_remove(const char *addr, struct err *e)
{
    struct portal *p = find(addr);
    if (!p)
        return err_set(e, ERR_NOT_FOUND, "addr", "there is no portal %s", addr);
    char bound[NET_ADDR_TEXT];
    snprintf(bound, sizeof bound, "%s", p->bound);
    close_portal(p);
    front_close(bound);
    front_leave_portal(bound);
    return 0;
}

void iscsi_portal_for_each(void (*fn)(const char *addr, const char *bound, void *arg), void *arg)
{
    struct portal *p, *next;
    list_for_each_safe (p, next, &portals, link)
        fn(net_listener_text(p->listener), p->bound, arg);
}

void portals_close(void)
{
    struct portal *p;
    while ((p = list_first(&portals, struct portal, link)))
        close_portal(p);
}

/* ---- SendTargets */

/* TargetAddress=addr:port,tag (RFC 7143 13.8). A portal on the wildcard address is told as the
 * address that the initiator reached. Loopback is told to loopback only; unix sockets have no such
 * form. */
static bool add_portal(const struct iscsi_conn *c, const struct portal *p, struct text *reply)
{
    if (!strncmp(p->bound, "unix:", 5) || (p->local && !c->local))
        return true;
    char addr[NET_ADDR_TEXT];
    snprintf(addr, sizeof addr, "%s", p->bound);
    if (p->any) {
        bool v6 = p->bound[0] == '[';
        if (!strncmp(c->self, "unix:", 5) || v6 != (c->self[0] == '['))
            return true;
        const char *port = strrchr(p->bound, ':'), *end = strrchr(c->self, ':');
        snprintf(addr, sizeof addr, "%.*s%s", (int)(end - c->self), c->self, port);
    }
    return text_add(reply, "TargetAddress", "%s,%u", addr, p->group);
}

static bool add_target(const struct iscsi_conn *c, const struct iscsi_target *t, struct text *reply)
{
    if (!text_add(reply, "TargetName", "%s", t->iqn))
        return false;
    const struct portal *p;
    list_for_each (p, &portals, link) {
        bool shown = t->open || t->acl_count || p->local || p->any;
        if (shown && !add_portal(c, p, reply))
            return false;
    }
    return true;
}

bool portals_send_targets(const struct iscsi_session *s, const struct iscsi_conn *conn,
                          const char *only, struct text *reply)
{
    bool fits = true;
    pthread_mutex_lock(&registry_lock);
    const struct iscsi_target *t;
    list_for_each (t, &registry_targets, link) {
        if ((only && strcasecmp(t->iqn, only) != 0) || t->removing ||
            !registry_permits(t, s->seed.initiator, conn->local))
            continue;
        fits = fits && add_target(conn, t, reply);
    }
    pthread_mutex_unlock(&registry_lock);
    return fits;
}
