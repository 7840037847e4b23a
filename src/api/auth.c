/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "api/auth.h"

#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "control/token.h"
#include "reactor/reactor.h"

/* ---- roles of the configuration */

enum { RULES_MAX = 192, LIMITED_MAX = 256 };
static struct rule {
    enum { RULE_USER, RULE_GROUP, RULE_CERT } kind;
    enum control_role role;
    unsigned id; /* uid or gid */
    char name[64];
} rules[RULES_MAX];
static unsigned rule_count;
static gid_t orion_gid = (gid_t)-1;

static bool find_id(struct rule *r, const char *kind)
{
    struct passwd *pw = r->kind == RULE_USER ? getpwnam(r->name) : NULL;
    struct group *g = r->kind == RULE_GROUP ? getgrnam(r->name) : NULL;
    if (pw)
        r->id = pw->pw_uid;
    else if (g)
        r->id = g->gr_gid;
    else if (r->kind != RULE_CERT)
        log_warn("api", "%s names the %s %s, which this machine does not know (SIGHUP looks again)",
                 kind, r->kind == RULE_USER ? "user" : "group", r->name);
    return pw || g || r->kind == RULE_CERT;
}

static int add_rule(const char *list, const char *text, enum control_role role, struct err *e)
{
    static const char *const prefix[] = {
        [RULE_USER] = "user:", [RULE_GROUP] = "group:", [RULE_CERT] = "cert:"};
    struct rule r = {.role = role, .kind = RULE_USER};
    while (r.kind <= RULE_CERT && strncmp(text, prefix[r.kind], strlen(prefix[r.kind])) != 0)
        r.kind++;
    const char *name = r.kind <= RULE_CERT ? text + strlen(prefix[r.kind]) : "";
    if (!*name || strlen(name) >= sizeof r.name)
        return err_set(e, ERR_INVALID, list,
                       "%s has '%.80s'; expected user:NAME, group:NAME or cert:NAME of at most %zu "
                       "characters",
                       list, text, sizeof r.name - 1);
    snprintf(r.name, sizeof r.name, "%s", name);
    if (find_id(&r, list))
        rules[rule_count++] = r;
    return 0;
}

int auth_setup(const struct api_opts *opts, struct err *e)
{
    static const char *const lists[] = {
        [ROLE_VIEWER] = "viewers", [ROLE_OPERATOR] = "operators", [ROLE_ADMIN] = "admins"};
    struct group *g = getgrnam("orion");
    orion_gid = g ? g->gr_gid : (gid_t)-1;
    rule_count = 0;
    for (enum control_role role = ROLE_VIEWER; role <= ROLE_ADMIN; role++)
        for (unsigned i = 0; i < opts->roles[role].count && rule_count < RULES_MAX; i++)
            if (add_rule(lists[role], opts->roles[role].name[i], role, e))
                return -1;
    return 0;
}

/* ---- a unix socket's peer */

static bool in_group(int fd, gid_t own, gid_t gid)
{
    gid_t groups[256];
    socklen_t len = sizeof groups;
    if (own == gid)
        return true;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &len))
        return false;
    for (unsigned i = 0; i < len / sizeof *groups; i++)
        if (groups[i] == gid)
            return true;
    return false;
}

static enum control_role role_of_peer(int fd, const struct ucred *c)
{
    enum control_role role = ROLE_NONE;
    if (c->uid == 0 || c->uid == geteuid())
        return ROLE_ADMIN;
    if (orion_gid != (gid_t)-1 && in_group(fd, c->gid, orion_gid))
        return ROLE_ADMIN;
    for (unsigned i = 0; i < rule_count; i++) {
        bool fits = rules[i].kind == RULE_USER    ? rules[i].id == c->uid
                    : rules[i].kind == RULE_GROUP ? in_group(fd, c->gid, rules[i].id)
                                                  : false;
        if (fits && rules[i].role > role)
            role = rules[i].role;
    }
    return role;
}

static enum control_role role_of_cert(const char *name)
{
    enum control_role role = ROLE_NONE;
    for (unsigned i = 0; i < rule_count; i++)
        if (rules[i].kind == RULE_CERT && !strcmp(rules[i].name, name) && rules[i].role > role)
            role = rules[i].role;
    return role;
}

/* ---- failures: a few slots by address; the oldest goes when they are full */

static struct failures {
    char from[CONTROL_WHO_MAX];
    uint64_t since; /* ns */
    unsigned count;
} failures[LIMITED_MAX];

static struct failures *find_failures(const char *place, bool make)
{
    struct failures *oldest = &failures[0];
    uint64_t now = clock_ns();
    for (unsigned i = 0; i < LIMITED_MAX; i++) {
        struct failures *f = &failures[i];
        if (f->count && now - f->since > AUTH_WINDOW_S * 1000000000ull)
            f->count = 0;
        if (f->count && !strcmp(f->from, place))
            return f;
        if (!f->count || (oldest->count && f->since < oldest->since))
            oldest = f;
    }
    if (!make)
        return NULL;
    *oldest = (struct failures){.since = now};
    snprintf(oldest->from, sizeof oldest->from, "%s", place);
    return oldest;
}

/* ---- the whole */

static void describe(const struct auth_peer *p, struct control_who *who, struct ucred *c)
{
    socklen_t len = sizeof *c;
    *who = (struct control_who){.name = "nobody"};
    *c = (struct ucred){.uid = (uid_t)-1, .gid = (gid_t)-1};
    if (p->fd >= 0 && !getsockopt(p->fd, SOL_SOCKET, SO_PEERCRED, c, &len)) {
        snprintf(who->name, sizeof who->name, "uid:%u", c->uid);
        snprintf(who->from, sizeof who->from, "unix uid=%u pid=%d", c->uid, (int)c->pid);
    } else {
        snprintf(who->from, sizeof who->from, "%.100s", p->from);
        if (*p->cert)
            snprintf(who->name, sizeof who->name, "cert:%.100s", p->cert);
    }
}

/* A token may be good where somebody without one has asked too often: the two do not mix. */
static void place_of(const struct auth_peer *p, const struct ucred *c, char out[CONTROL_WHO_MAX])
{
    const char *kind = p->token ? "token" : "none";
    if (p->fd >= 0)
        snprintf(out, CONTROL_WHO_MAX, "%s uid=%u", kind, c->uid);
    else
        snprintf(out, CONTROL_WHO_MAX, "%s %s", kind, p->place);
}

enum auth_result auth_identify(const struct auth_peer *p, struct control_who *who,
                               enum control_role *role_r)
{
    struct ucred c;
    char place[CONTROL_WHO_MAX];
    describe(p, who, &c);
    *role_r = p->fd >= 0 ? role_of_peer(p->fd, &c) : *p->cert ? role_of_cert(p->cert) : ROLE_NONE;
    if (!p->token && *role_r != ROLE_NONE)
        return AUTH_OK;
    place_of(p, &c, place);
    struct failures *f = find_failures(place, false);
    *role_r = ROLE_NONE;
    if (f && f->count >= AUTH_FAILURES_MAX)
        return AUTH_LIMITED;
    if (p->token && !strncasecmp(p->token, "Bearer ", 7) &&
        control_token_check(p->token + 7, who, role_r))
        return AUTH_OK;
    find_failures(place, true)->count++;
    return p->token ? AUTH_BAD : AUTH_NONE;
}
