/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Exports and the devices behind them. Everything here runs on main. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "targets/nbd/nbd_private.h"

enum { GRACE_US = 300000, GRACE_STEP_US = 10000 };

static struct list exports = LIST_INIT(exports);
static struct bdev_watch watch;
static struct lingering leaving;

struct nbd_export *nbd_export_find(const char *name)
{
    struct nbd_export *x;
    list_for_each (x, &exports, link) {
        if (!strcmp(x->name, name))
            return x;
    }
    return NULL;
}

/* ---- the device */

static void device_leaves(void *arg)
{
    struct nbd_export *x = arg;
    nbd_server_disconnect(x);
    bdev_drain_close(&x->desc);
    x->device_leaving = false;
    snprintf(x->why, sizeof x->why, "device %s was removed", x->device);
    log_info("nbd", "device is gone, the export waits for it export=%s device=%s", x->name,
             x->device);
    x->closing = false;
}

static void start_device_leaves(struct nbd_export *x)
{
    x->closing = true;
    task_start(reactor_main(), "nbd-device-leaves", device_leaves, x);
}

static void on_device_event(struct bdev_desc *desc, enum bdev_event event, void *arg)
{
    struct nbd_export *x = arg;
    if (event == BDEV_EVENT_RESIZE) {
        x->size = bdev_size(desc);
        return;
    }
    x->device_leaving = true;
    if (!x->closing) /* else: whoever closes the export closes the device */
        start_device_leaves(x);
}

static int attach(struct nbd_export *x, struct err *e)
{
    struct bdev_info info;
    if (!bdev_name_info(x->device, &info)) {
        snprintf(x->why, sizeof x->why, "device %s is not there", x->device);
        return 0;
    }
    struct bdev_user user = {.event = on_device_event, .arg = x, .gated = true};
    snprintf(user.label, sizeof user.label, "nbd export %.60s", x->name);
    /* That the export is read-only is the server's own business. */
    x->desc = bdev_open(x->device, info.read_only ? CLAIM_READ : CLAIM_SHARED_WRITE, &user, e);
    if (!x->desc)
        return -1;
    x->size = bdev_size(x->desc);
    x->why[0] = '\0';
    return 0;
}

static void try_attach(struct nbd_export *x)
{
    struct err e = {0};
    if (x->desc || x->closing)
        return;
    if (attach(x, &e))
        snprintf(x->why, sizeof x->why, "%.150s", e.msg);
    else if (x->desc)
        log_info("nbd", "export is ready export=%s device=%s", x->name, x->device);
}

static void on_bdev(struct bdev *bdev, bool added, void *arg)
{
    (void)arg;
    struct nbd_export *x;
    if (!added)
        return;
    list_for_each (x, &exports, link) {
        if (!strcmp(x->device, bdev_name(bdev)))
            try_attach(x);
    }
}

void nbd_exports_init(void)
{
    watch = (struct bdev_watch){.fn = on_bdev};
    bdev_watch(&watch);
}

void nbd_exports_fini(void)
{
    linger_wait(&leaving);
    bdev_unwatch(&watch);
    struct nbd_export *x, *tmp;
    list_for_each_safe (x, tmp, &exports, link) {
        assert(!x->connections);
        while (x->closing) /* its device is being let go */
            task_sleep_us(1000);
        if (x->desc)
            bdev_drain_close(&x->desc);
        list_del(&x->link);
        stages_remove(&x->stages);
        free(x->rules);
        free(x);
    }
}

/* ---- what clients see */

bool nbd_export_admits(const struct nbd_export *x, const struct nbd_client *client)
{
    for (unsigned i = 0; i < x->rule_count; i++) {
        if (nbd_rule_matches(&x->rules[i], client))
            return true;
    }
    return x->open_access || (!x->rule_count && client->local);
}

/* "SELECTIVETLS mode": this client gets it, if at all, through TLS. */
static bool is_tls_only(const struct nbd_export *x, const struct nbd_client *client)
{
    bool any = false;
    for (unsigned i = 0; i < x->rule_count; i++)
        any |= x->rules[i].kind == NBD_RULE_TLS;
    return any && client->offered_tls;
}

static const struct nbd_export *default_export(void)
{
    const struct nbd_export *x;
    list_for_each (x, &exports, link) {
        if (x->is_default)
            return x;
    }
    x = list_first(&exports, struct nbd_export, link);
    return x && x->link.next == &exports ? x : NULL; /* the only one */
}

static uint16_t transmission_flags(const struct nbd_export *x, const struct bdev_info *info)
{
    static const struct {
        unsigned op;
        uint16_t flags;
    } offers[] = {
        {BIO_DISCARD, NBD_FLAG_SEND_TRIM},
        {BIO_WRITE_ZEROES, NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_FAST_ZERO},
        {BIO_PREFETCH, NBD_FLAG_SEND_CACHE},
    };
    /* A FLUSH covers writes that completed on any reactor (bio.h), so connections may be many. */
    uint16_t flags =
        NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | NBD_FLAG_CAN_MULTI_CONN;
    for (size_t i = 0; i < sizeof offers / sizeof *offers; i++) {
        if (info->ops & 1u << offers[i].op)
            flags |= offers[i].flags;
    }
    if (info->rotational)
        flags |= NBD_FLAG_ROTATIONAL;
    if (x->read_only || info->read_only)
        flags |= NBD_FLAG_READ_ONLY;
    return flags;
}

static void fill_view(struct nbd_export *x, struct nbd_view *view_r)
{
    struct bdev_info info;
    bdev_get_info(x->desc, &info);
    x->size = info.size;
    uint32_t preferred = info.opt_io;
    if (preferred > NBD_MAX_PAYLOAD || preferred & (preferred - 1))
        preferred = 0;
    if (preferred < info.phys_block)
        preferred = info.phys_block;
    if (preferred < 4096)
        preferred = 4096;
    *view_r = (struct nbd_view){
        .name = x->name,
        .description = x->description,
        .limits = {.size = info.size,
                   .max_payload = NBD_MAX_PAYLOAD,
                   .flags = transmission_flags(x, &info)},
        /* The block core reads, modifies and writes what is not whole blocks. "The minimum block
         * size represents the smallest addressable length and alignment ..., although writing to an
         * area that small may require the server to use a less-efficient read-modify-write". */
        .min_block = 1,
        .preferred_block = preferred,
        .export = x,
    };
}

uint32_t nbd_export_choose(const char *name, size_t len, const struct nbd_client *client,
                           struct nbd_view *view_r, char why[160])
{
    struct nbd_export *x;
    const struct nbd_export *found = len ? NULL : default_export();
    list_for_each (x, &exports, link) {
        if (x == found || (len && strlen(x->name) == len && !memcmp(x->name, name, len)))
            break;
    }
    if (&x->link == &exports) {
        snprintf(why, 160, len ? "no export has this name" : "there is no default export");
        return NBD_REP_ERR_UNKNOWN;
    }
    if (!nbd_export_admits(x, client) && is_tls_only(x, client)) {
        snprintf(why, 160, "this export is served through TLS only");
        return NBD_REP_ERR_TLS_REQD;
    }
    if (!nbd_export_admits(x, client)) {
        snprintf(why, 160,
                 x->rule_count ? "none of the access rules of this export allows this client"
                               : "this export is served on loopback and unix sockets only");
        return NBD_REP_ERR_POLICY;
    }
    if (x->closing) {
        snprintf(why, 160, "the export is going away");
        return NBD_REP_ERR_SHUTDOWN;
    }
    try_attach(x);
    if (!x->desc) {
        snprintf(why, 160, "not ready: %.140s", x->why);
        return NBD_REP_ERR_UNKNOWN; /* "the requested export is not available" */
    }
    fill_view(x, view_r);
    return 0;
}

void nbd_export_list(const struct nbd_client *client,
                     void (*each)(const char *name, const char *description, void *ctx), void *ctx)
{
    const struct nbd_export *x;
    list_for_each (x, &exports, link) {
        if (nbd_export_admits(x, client))
            each(x->name, x->description, ctx);
    }
}

/* ---- for control */

/* `own`: the export that gets the settings, NULL for a new one. */
static int check_args(const struct nbd_export_args *args, const struct nbd_export *own,
                      struct err *e)
{
    const char *description = args->description ? args->description : "";
    if (!args->name[0])
        return err_set(e, ERR_INVALID, "name", "name is empty; expected 1 to 255 bytes");
    if (text_check(args->name, sizeof((struct nbd_export *)0)->name - 1, "name", e) ||
        text_check(args->device, BDEV_NAME_MAX, "device", e) ||
        text_check(description, sizeof((struct nbd_export *)0)->description - 1, "description", e))
        return -1;
    struct nbd_export *x = nbd_export_find(args->name);
    if (x != own)
        return err_set(e, ERR_EXISTS, "name", "export %s exists, on device %s", x->name, x->device);
    list_for_each (x, &exports, link) {
        if (args->is_default && x->is_default && x != own)
            return err_set(e, ERR_EXISTS, "default", "export %s is the default already", x->name);
    }
    return 0;
}

static void export_free(struct nbd_export *x)
{
    free(x->rules);
    free(x);
}

static int take_rules(struct nbd_export *x, const struct nbd_export_args *args, struct err *e)
{
    if (args->allow_count > NBD_RULES_MAX)
        return err_set(e, ERR_INVALID, "allow", "has %u rules, expected at most %d",
                       args->allow_count, NBD_RULES_MAX);
    x->rules = args->allow_count ? xcalloc(args->allow_count, sizeof *x->rules) : NULL;
    for (unsigned i = 0; i < args->allow_count; i++) {
        if (nbd_rule_parse(args->allow[i], &x->rules[i], e))
            return -1;
    }
    x->rule_count = args->allow_count;
    return 0;
}

static void take_settings(struct nbd_export *x, const struct nbd_export_args *args)
{
    snprintf(x->description, sizeof x->description, "%s",
             args->description ? args->description : "");
    x->is_default = args->is_default;
    x->open_access = args->open_access;
}

int nbd_export_add(const struct nbd_export_args *args, struct err *e)
{
    if (check_args(args, NULL, e))
        return -1;
    struct nbd_export *x = xcalloc(1, sizeof *x);
    snprintf(x->name, sizeof x->name, "%s", args->name);
    snprintf(x->device, sizeof x->device, "%s", args->device);
    take_settings(x, args);
    x->read_only = args->read_only;
    if (take_rules(x, args, e) || attach(x, e)) {
        export_free(x);
        return -1;
    }
    stages_add(&x->stages, "nbd", x->name, "");
    list_add_tail(&exports, &x->link);
    return 0;
}

struct users {
    char text[300];
    unsigned count;
};

static void add_user(struct nbd_conn *c, void *arg)
{
    struct users *u = arg;
    size_t len = strlen(u->text);
    if (u->count++ < 8)
        snprintf(u->text + len, sizeof u->text - len, "%s%llu (%s)", len ? ", " : "",
                 (unsigned long long)c->id, c->peer);
}

/* The export when nobody is at it: no device that leaves, no other verb. NULL: there is none. T */
static struct nbd_export *find_idle(const char *name, struct err *e)
{
    uint64_t until = reactor_now() + linger_us(NBD_LEAVE_US) * 1000;
    struct nbd_export *x;
    while ((x = nbd_export_find(name)) && x->closing) {
        if (reactor_now() >= until) {
            err_set(e, ERR_IN_USE, "name",
                    "export %s is going away: its device %s has not answered", name, x->device);
            return NULL;
        }
        task_sleep_us(1000);
    }
    if (!x)
        err_set(e, ERR_NOT_FOUND, "name", "no NBD export is named %s", name);
    return x;
}

/* Closes an export that nobody uses to newcomers. A client that has just sent DISC or closed does
 * not count, and its last bytes may still be on the way to the reactor: we look for a moment before
 * refusing, and serve who comes meanwhile. T */
static struct nbd_export *close_unused(const char *name, struct err *e)
{
    struct users u;
    for (unsigned waited = 0;; waited += GRACE_STEP_US) {
        struct nbd_export *x = find_idle(name, e);
        if (!x)
            return NULL;
        u = (struct users){0};
        nbd_server_each(x, add_user, &u);
        x->closing = !u.count;
        if (x->closing)
            return x;
        if (waited >= GRACE_US)
            break;
        if (!waited)
            task_call_all(nbd_lane_look_for_gone, x);
        task_sleep_us(GRACE_STEP_US);
    }
    err_set(e, ERR_IN_USE, "name", "export %s has %u session%s: %s", name, u.count,
            u.count == 1 ? "" : "s", u.text);
    return NULL;
}

static void reopen(struct nbd_export *x)
{
    x->closing = false;
    if (x->device_leaving)
        start_device_leaves(x);
}

/* Clients are told at their GO whether they may write: for a change of that nobody may be there.
 * Closes the export, until reopen(), when it is needed; NULL: somebody is, or `args` do not hold
 * any more after all the waiting. */
static struct nbd_export *prepare_set(const struct nbd_export_args *args, struct err *e)
{
    struct nbd_export *x = find_idle(args->name, e);
    if (!x || check_args(args, x, e))
        return NULL;
    if (x->read_only == args->read_only)
        return x;
    x = close_unused(args->name, e);
    if (!x)
        return NULL;
    nbd_server_disconnect(x); /* those on their way out */
    if (!check_args(args, x, e))
        return x;
    reopen(x);
    return NULL;
}

int nbd_export_set(const struct nbd_export_args *args, struct err *e)
{
    struct nbd_export rules = {0};
    struct nbd_export *x = take_rules(&rules, args, e) ? NULL : prepare_set(args, e);
    if (!x) {
        free(rules.rules);
        return -1;
    }
    free(x->rules);
    x->rules = rules.rules;
    x->rule_count = rules.rule_count;
    x->read_only = args->read_only;
    take_settings(x, args);
    if (x->closing)
        reopen(x);
    unsigned n = nbd_server_evict(x);
    if (n)
        log_info("nbd", "sessions ended, the rules do not allow them any more export=%s count=%u",
                 args->name, n);
    return 0;
}

/* The rest of it, when nobody comes in any more. */
static void remove_export(void *arg)
{
    struct nbd_export *x = arg;
    nbd_server_disconnect(x);
    if (x->desc)
        bdev_drain_close(&x->desc);
    list_del(&x->link);
    stages_remove(&x->stages);
    export_free(x);
}

int nbd_export_remove(const char *name, bool disconnect, struct target_left *left_r, struct err *e)
{
    left_r->text[0] = '\0';
    struct nbd_export *x = disconnect ? find_idle(name, e) : close_unused(name, e);
    if (!x)
        return -1;
    x->closing = true; /* nobody comes in while we wait */
    if (linger(&leaving, "nbd-unexport", NBD_LEAVE_US, remove_export, x))
        return 0;
    list_del(&x->link); /* another may have its name now */
    stages_hide(&x->stages);
    target_left_add(left_r, x->desc);
    target_left_end(left_r);
    log_warn("nbd", "export removed, and not gone export=%s left=\"%s\"", x->name, left_r->text);
    return 0;
}

static void fill_info(const struct nbd_export *x, struct nbd_export_info *info_r)
{
    *info_r = (struct nbd_export_info){
        .read_only = x->read_only,
        .is_default = x->is_default,
        .open_access = x->open_access,
        .ready = x->desc && !x->closing,
        .size = x->desc ? bdev_size(x->desc) : x->size,
        .connections = x->connections,
    };
    memcpy(info_r->name, x->name, sizeof info_r->name);
    memcpy(info_r->device, x->device, sizeof info_r->device);
    memcpy(info_r->description, x->description, sizeof info_r->description);
    snprintf(info_r->why, sizeof info_r->why, "%s", x->closing ? "going away" : x->why);
    if (info_r->ready && bdev_failed(bdev_of(x->desc), info_r->why, sizeof info_r->why)) {
        info_r->failed = true;
        info_r->ready = false;
    }
}

bool nbd_export_get(const char *name, struct nbd_export_info *info_r)
{
    const struct nbd_export *x = nbd_export_find(name);
    if (x)
        fill_info(x, info_r);
    return x;
}

void nbd_export_for_each(void (*fn)(const struct nbd_export_info *info, void *arg), void *arg)
{
    const struct nbd_export *x;
    list_for_each (x, &exports, link) {
        struct nbd_export_info info;
        fill_info(x, &info);
        fn(&info, arg);
    }
}
