/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who may use an export: a list of networks, TLS identities and "unix"; one match is enough. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "targets/nbd/nbd_private.h"

static int bad_rule(const char *text, struct err *e)
{
    return err_set(e, ERR_INVALID, "allow",
                   "\"%.100s\": expected ADDRESS, ADDRESS/PREFIX, tls:NAME, tls:* or unix", text);
}

static int parse_network(const char *text, struct nbd_rule *rule, struct err *e)
{
    char host[INET6_ADDRSTRLEN + 1];
    size_t len = strcspn(text, "/");
    if (!len || len >= sizeof host)
        return bad_rule(text, e);
    memcpy(host, text, len);
    host[len] = '\0';
    rule->family = strchr(host, ':') ? AF_INET6 : AF_INET;
    if (inet_pton(rule->family, host, rule->address) != 1)
        return bad_rule(text, e);
    unsigned most = rule->family == AF_INET6 ? 128 : 32;
    rule->prefix = most;
    if (text[len]) {
        const char *prefix = text + len + 1;
        size_t digits = strlen(prefix);
        if (!digits || digits > 3 || strspn(prefix, "0123456789") != digits)
            return bad_rule(text, e);
        rule->prefix = (unsigned)strtoul(prefix, NULL, 10);
    }
    return rule->prefix <= most ? 0 : bad_rule(text, e);
}

int nbd_rule_parse(const char *text, struct nbd_rule *rule_r, struct err *e)
{
    *rule_r = (struct nbd_rule){.kind = NBD_RULE_UNIX};
    if (!strcmp(text, "unix"))
        return 0;
    if (!strncmp(text, "tls:", 4)) {
        size_t len = strlen(text + 4);
        if (!len || len >= sizeof rule_r->name || text_flaw(text, len + 4) < len + 4)
            return bad_rule(text, e);
        rule_r->kind = NBD_RULE_TLS;
        memcpy(rule_r->name, text + 4, len + 1);
        return 0;
    }
    rule_r->kind = NBD_RULE_NETWORK;
    return parse_network(text, rule_r, e);
}

static bool in_network(const struct nbd_rule *rule, const struct net_addr *a)
{
    const uint8_t *p;
    if (a->ss.ss_family != rule->family)
        return false;
    if (rule->family == AF_INET6)
        p = ((const struct sockaddr_in6 *)&a->ss)->sin6_addr.s6_addr;
    else
        p = (const uint8_t *)&((const struct sockaddr_in *)&a->ss)->sin_addr;
    unsigned bytes = rule->prefix / 8, bits = rule->prefix % 8;
    if (memcmp(p, rule->address, bytes))
        return false;
    return !bits || !((p[bytes] ^ rule->address[bytes]) >> (8 - bits));
}

bool nbd_rule_matches(const struct nbd_rule *rule, const struct nbd_client *client)
{
    switch (rule->kind) {
    case NBD_RULE_UNIX: return net_addr_is_unix(&client->peer);
    case NBD_RULE_NETWORK: return in_network(rule, &client->peer);
    case NBD_RULE_TLS:
        return client->identity[0] &&
               (!strcmp(rule->name, "*") || !strcmp(rule->name, client->identity));
    }
    return false;
}
