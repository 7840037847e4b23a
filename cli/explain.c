/* SPDX-License-Identifier: GPL-2.0-or-later */
/* `orionctl explain NAME` and `orionctl status`: states in words. */
#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "api.h"
#include "output.h"
#include "tools.h"

/* What a state means, and what to do next. `do_next` may have one %s: the object's name. */
static const struct advice {
    const char *kind, *state, *means, *do_next;
} advices[] = {
    {"array", "clean", "all members are there and agree", NULL},
    {"array", "active", "all members are there; writes are under way", NULL},
    {"array", "degraded", "members are missing: it works, but one more failure may lose data",
     "add a device in the place of the missing one: orionctl array add %s DEVICE"},
    {"array", "failed", "too many members are missing: it answers requests with errors",
     "bring the missing disks back, then: orionctl array stop %s; orionctl array assemble %s"},
    {"array", "inactive", "it is known but does not run", "orionctl array assemble %s"},
    {"array", "read-only", "it may be read only", NULL},
    {"pool", "active", "all its devices are there", NULL},
    {"pool", "read-only", "it may be read only, and its volumes too", NULL},
    {"pool", "inactive", "it is known but does not run", "orionctl pool import %s"},
    {"pool", "partial", "a device is absent: volumes on it cannot be used",
     "bring the device back, then: orionctl pool import %s"},
    {"device", "online", "it is open", NULL},
    {"device", "failed", "its file was cut short below the daemon: what stood behind is lost",
     "replace it where it is a member (array replace or fail), then remove it; or restore the file "
     "and restart oriond"},
    {"device", "absent", "its disk or file was not found",
     "connect the disk, then: orionctl device add %s ... as it was added before"},
    {"volume", "active", "its device is there", NULL},
    {"volume", "inactive", "its device is not there", "orionctl explain its pool"},
    {"export", "ready", "clients can attach to it", NULL},
    {"export", "not-ready", "clients are refused until its device is there",
     "orionctl explain the device it serves"},
    {"target", "ready", "initiators can log in to it", NULL},
};

static const struct {
    const char *kind, *path, *key;
} places[] = {
    {"array", "/v1/arrays", "name"},       {"pool", "/v1/pools", "name"},
    {"volume", "/v1/volumes", "name"},     {"device", "/v1/devices", "name"},
    {"export", "/v1/nbd/exports", "name"}, {"target", "/v1/iscsi/targets", "iqn"},
};

static bool has(struct json_object *o, const char *key, const char *value)
{
    return !strcmp(json_text(o, key), value);
}

static uint64_t number(struct json_object *o, const char *key)
{
    struct json_object *v = NULL;
    json_object_object_get_ex(o, key, &v);
    return (uint64_t)json_object_get_int64(v);
}

/* An array that is being synced: what is done, and how long it will take. True: nobody needs to do
 * anything about its state. */
static bool print_sync(struct json_object *o)
{
    static const struct {
        const char *action, *says;
        bool mends;
    } actions[] = {
        {"resync", "its members are made to agree, as after its creation or a crash", false},
        {"recover", "a member is being filled", true},
        {"check", "its copies or parity are being compared", false},
        {"repair", "its copies or parity are being compared and put right", false},
    };
    const char *action = json_text(o, "sync_action");
    uint64_t total = number(o, "sync_total"), eta = number(o, "sync_eta");
    unsigned i = 0;
    while (i < 4 && strcmp(actions[i].action, action))
        i++;
    if (i == 4)
        return false;
    printf("  %s: %" PRIu64 "%% done", actions[i].says,
           total ? number(o, "sync_done") * 100 / total : 0);
    if (eta)
        printf(", %" PRIu64 " s left", eta);
    putchar('\n');
    if (number(o, "sync_job"))
        printf("  %s: orionctl job wait %" PRIu64 "\n",
               actions[i].mends ? "next: wait for it" : "to wait for it", number(o, "sync_job"));
    return actions[i].mends && has(o, "state", "degraded");
}

static void print_advice(const char *kind, const char *state, const char *name, bool mends)
{
    for (unsigned i = 0; i < sizeof advices / sizeof *advices; i++) {
        const struct advice *a = &advices[i];
        if (strcmp(a->kind, kind) || strcmp(a->state, state))
            continue;
        printf("  %s\n", a->means);
        if (!a->do_next || mends)
            return;
        printf("  next: ");
        for (const char *p = a->do_next; *p; p++) {
            if (p[0] == '%' && p[1] == 's') {
                fputs(name, stdout);
                p++;
            } else {
                putchar(*p);
            }
        }
        putchar('\n');
        return;
    }
}

/* Members of an array, devices of a pool, LUNs of a target: those that are not well. */
static void print_parts(struct json_object *o, const char *key, const char *label)
{
    struct json_object *list;
    if (!json_object_object_get_ex(o, key, &list) || !json_object_is_type(list, json_type_array))
        return;
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        struct json_object *m = json_object_array_get_idx(list, i);
        const char *device = json_text(m, "device"), *state = json_text(m, "state");
        const char *why = json_text(m, "reason");
        enum paint p = paint_of_state(state);
        if (!json_object_is_type(m, json_type_object) || p == PAINT_GOOD)
            continue;
        if (*state)
            printf("  %s %s: %s%s%s%s%s\n", label, *device ? device : "(none)", paint(p), state,
                   paint(PAINT_PLAIN), *why ? ": " : "", why);
    }
}

static void print_events(const char *name)
{
    struct json_object *items;
    int shown = 0;
    if (api_list("/v1/events", true, &items)) {
        json_object_put(items);
        return;
    }
    for (size_t i = json_object_array_length(items); i-- > 0 && shown < 5;) {
        struct json_object *e = json_object_array_get_idx(items, i);
        const char *object = json_text(e, "object"), *at = strchr(object, ' ');
        if (strcmp(object, name) && (!at || strcmp(at + 1, name)))
            continue;
        if (!shown++)
            printf("  lately:\n");
        printf("    %s %s\n", json_text(e, "time"), json_text(e, "message"));
    }
    json_object_put(items);
}

static void explain_one(const char *kind, const char *name, struct json_object *o)
{
    const char *state = json_text(o, "state"), *why = json_text(o, "reason");
    const char *device = json_text(o, "device");
    printf("%s %s is %s%s%s\n", kind, name, paint(paint_of_state(state)), *state ? state : "there",
           paint(PAINT_PLAIN));
    if (*why)
        printf("  because: %s\n", why);
    if (*device)
        printf("  it stands on device %s\n", device);
    print_parts(o, "members", "member");
    print_parts(o, "devices", "device");
    print_parts(o, "luns", "lun on");
    struct json_object *error;
    if (json_object_object_get_ex(o, "write_error", &error) && json_object_get_boolean(error))
        printf("  a flush failed: writes that were not flushed may be lost\n"
               "  next: check the data, then remove the device and add it again\n");
    bool mends = !strcmp(kind, "array") && print_sync(o);
    print_advice(kind, state, name, mends);
    print_events(name);
}

int explain_run(const struct command *c)
{
    const char *name = c->arg[0];
    bool found = false;
    struct json_object *all = json_object_new_array();
    for (unsigned i = 0; i < sizeof places / sizeof *places; i++) {
        struct json_object *items;
        int rc = api_list(places[i].path, false, &items);
        for (size_t k = 0; !rc && k < json_object_array_length(items); k++) {
            struct json_object *o = json_object_array_get_idx(items, k);
            if (!has(o, places[i].key, name))
                continue;
            /* An array is a device too, of the same name: it is told once, as what it is. */
            if (found && !strcmp(places[i].kind, "device"))
                continue;
            found = true;
            if (c->json)
                json_object_array_add(all, json_object_get(o));
            else
                explain_one(places[i].kind, name, o);
        }
        json_object_put(items);
        if (rc) {
            json_object_put(all);
            return rc;
        }
    }
    if (c->json)
        output_json(all);
    json_object_put(all);
    if (!found) {
        fprintf(stderr, "orionctl: nothing is named %s\n", name);
        return err_code_exit(ERR_NOT_FOUND);
    }
    return 0;
}

/* ---- status */

void status_print(struct json_object *o)
{
    struct json_object *problems, *counts;
    size_t n = json_object_object_get_ex(o, "problems", &problems)
                   ? json_object_array_length(problems)
                   : 0;
    const char *state = json_text(o, "state");
    for (size_t i = 0; i < n; i++)
        printf("%sPROBLEM%s %s\n", paint(PAINT_BAD), paint(PAINT_PLAIN),
               json_object_get_string(json_object_array_get_idx(problems, i)));
    if (n)
        printf("        orionctl explain NAME tells what to do\n\n");
    printf("oriond %s is %s%s%s since %s, %s I/O threads%s\n", json_text(o, "version"),
           paint(paint_of_state(state)), state, paint(PAINT_PLAIN), json_text(o, "started"),
           json_text(o, "reactors"), n ? "" : "; nothing is wrong");
    if (!json_object_object_get_ex(o, "counts", &counts))
        return;
    const char *comma = "";
    json_object_object_foreach(counts, key, count)
    {
        printf("%s%s %s", comma, json_object_get_string(count), key);
        comma = ", ";
    }
    putchar('\n');
}
