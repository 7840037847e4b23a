/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdlib.h>
#include <string.h>

#include "api/metrics.h"
#include "base/mem.h"
#include "reactor/task.h"
#include "targets/iscsi/iscsi.h"
#include "targets/nbd/nbd.h"
#include "targets/stages.h"
#include "targets/target.h"

static void export_ready(const struct nbd_export_info *info, void *arg)
{
    metrics_u64(arg, "orion_nbd_export_ready", info->ready, "export", info->name, NULL);
}

static void export_connections(const struct nbd_export_info *info, void *arg)
{
    metrics_u64(arg, "orion_nbd_export_connections", info->connections, "export", info->name, NULL);
}

static void target_sessions_of(const struct iscsi_target_info *info, void *arg)
{
    metrics_u64(arg, "orion_iscsi_target_sessions", info->session_count, "target", info->iqn, NULL);
}

/* ---- exports and their stages */

struct export
{
    char protocol[8], object[256], lun[8];
    struct metrics_hist stage[STAGES], op[STAGE_OPS];
    uint64_t bytes[STAGE_OPS], errors[STAGE_OPS];
};
struct exports {
    struct export *list;
    unsigned count, room;
};

static void collect_export(const struct stage_book *b, void *arg)
{
    struct exports *x = arg;
    struct stage_counters s;
    if (x->count == x->room) {
        x->room = x->room ? 2 * x->room : 64;
        x->list = xrealloc(x->list, x->room * sizeof *x->list);
    }
    struct export *one = &x->list[x->count++];
    memcpy(one->protocol, b->protocol, sizeof one->protocol);
    memcpy(one->object, b->object, sizeof one->object);
    memcpy(one->lun, b->lun, sizeof one->lun);
    stages_sum(b, &s);
    for (unsigned i = 0; i < STAGES; i++)
        metrics_fold(&one->stage[i], s.stage[i].bucket, s.stage[i].total_ns);
    for (unsigned i = 0; i < STAGE_OPS; i++)
        metrics_fold(&one->op[i], s.op[i].bucket, s.op[i].total_ns);
    memcpy(one->bytes, s.bytes, sizeof one->bytes);
    memcpy(one->errors, s.errors, sizeof one->errors);
}

static void export_counter(struct metrics *m, const struct exports *x, const char *name,
                           const char *help, size_t offset)
{
    unsigned n = 0;
    metrics_family(m, name, "counter", help);
    for (unsigned i = 0; i < x->count; i++) {
        const struct export *one = &x->list[i];
        const uint64_t *value = (const uint64_t *)((const char *)one + offset);
        for (unsigned k = 0; k < STAGE_OPS; k++)
            metrics_u64(m, name, value[k], "protocol", one->protocol, "export", one->object, "op",
                        stage_op_name(k), *one->lun ? "lun" : NULL, one->lun, NULL);
        metrics_step(&n);
    }
}

static void write_exports(struct metrics *m)
{
    struct exports x = {0};
    unsigned n = 0;
    stages_for_each(collect_export, &x);
    export_counter(m, &x, "orion_export_bytes_total", "Bytes of answered requests.",
                   offsetof(struct export, bytes));
    export_counter(m, &x, "orion_export_errors_total", "Requests answered with an error.",
                   offsetof(struct export, errors));
    metrics_family(m, "orion_export_duration_seconds", "histogram",
                   "Time from a request's arrival until its answer is sent.");
    for (unsigned i = 0; i < x.count; i++) {
        const struct export *one = &x.list[i];
        for (unsigned k = 0; k < STAGE_OPS; k++)
            metrics_histogram(m, "orion_export_duration_seconds", &one->op[k], "protocol",
                              one->protocol, "export", one->object, "op", stage_op_name(k),
                              *one->lun ? "lun" : NULL, one->lun, NULL);
        metrics_step(&n);
    }
    metrics_family(m, "orion_io_stage_seconds", "histogram",
                   "Time of a request in each stage: receive, queue, device, send.");
    for (unsigned i = 0; i < x.count; i++) {
        const struct export *one = &x.list[i];
        for (unsigned k = 0; k < STAGES; k++)
            metrics_histogram(m, "orion_io_stage_seconds", &one->stage[k], "protocol",
                              one->protocol, "export", one->object, "stage", io_stage_name(k),
                              *one->lun ? "lun" : NULL, one->lun, NULL);
        metrics_step(&n);
    }
    free(x.list);
}

/* ---- clients: sessions of one initiator (iSCSI) or host (NBD) together; the last of CLIENTS_MAX
 * is "other", for all that came later */
enum { CLIENTS_MAX = 64 };

struct client {
    char protocol[8], name[256];
    uint64_t sessions, reads, writes, read_bytes, written_bytes;
};
struct clients {
    struct client list[CLIENTS_MAX];
    unsigned count;
    uint64_t sessions[2], connections[2]; /* NBD, iSCSI */
};

/* A host has many ports: "127.0.0.1:54321" and "[::1]:54321" without theirs; "unix". */
static void client_name(const struct session_info *s, char out[256])
{
    const char *colon = strrchr(s->peer, ':');
    if (*s->client) {
        memcpy(out, s->client, sizeof s->client);
        return;
    }
    /* Of a unix socket without the process: each would leave series behind. */
    size_t n = colon ? (size_t)(colon - s->peer) : strlen(s->peer);
    memcpy(out, s->peer, n);
    out[n] = 0;
}

static struct client *client_of(struct clients *c, const struct session_info *s)
{
    char name[256];
    client_name(s, name);
    for (unsigned i = 0; i < c->count; i++)
        if (!strcmp(c->list[i].name, name) && !strcmp(c->list[i].protocol, s->protocol))
            return &c->list[i];
    if (c->count == CLIENTS_MAX)
        return &c->list[CLIENTS_MAX - 1];
    struct client *one = &c->list[c->count++];
    bool last = c->count == CLIENTS_MAX;
    memcpy(one->protocol, last ? "any" : s->protocol, last ? 4 : sizeof one->protocol);
    memcpy(one->name, last ? "other" : name, last ? 6 : sizeof one->name);
    return one;
}

static void collect_session(const struct session_info *s, void *arg)
{
    struct clients *c = arg;
    struct client *one = client_of(c, s);
    unsigned protocol = !strcmp(s->protocol, "nbd") ? 0 : 1;
    c->sessions[protocol]++;
    c->connections[protocol] += s->connections;
    one->sessions++;
    one->reads += s->reads;
    one->writes += s->writes;
    one->read_bytes += s->read_bytes;
    one->written_bytes += s->written_bytes;
}

static void client_ops(struct metrics *m, const struct clients *c, const char *name,
                       const char *help, size_t reads, size_t writes)
{
    metrics_family(m, name, "counter", help);
    for (unsigned i = 0; i < c->count; i++) {
        const struct client *one = &c->list[i];
        for (unsigned w = 0; w < 2; w++)
            metrics_u64(m, name, *(const uint64_t *)((const char *)one + (w ? writes : reads)),
                        "protocol", one->protocol, "client", one->name, "op", w ? "write" : "read",
                        NULL);
    }
}

static void write_sessions(struct metrics *m)
{
    struct clients *c = xcalloc(1, sizeof *c);
    target_sessions(collect_session, c);
    metrics_family(m, "orion_sessions", "gauge", "Clients that are connected.");
    metrics_u64(m, "orion_sessions", c->sessions[0], "protocol", "nbd", NULL);
    metrics_u64(m, "orion_sessions", c->sessions[1], "protocol", "iscsi", NULL);
    metrics_family(m, "orion_session_connections", "gauge", "Connections of these sessions.");
    metrics_u64(m, "orion_session_connections", c->connections[0], "protocol", "nbd", NULL);
    metrics_u64(m, "orion_session_connections", c->connections[1], "protocol", "iscsi", NULL);
    metrics_family(m, "orion_client_sessions", "gauge", "Sessions of a client.");
    for (unsigned i = 0; i < c->count; i++)
        metrics_u64(m, "orion_client_sessions", c->list[i].sessions, "protocol",
                    c->list[i].protocol, "client", c->list[i].name, NULL);
    client_ops(m, c, "orion_client_requests_total",
               "Reads and writes done for a client by the sessions it has.",
               offsetof(struct client, reads), offsetof(struct client, writes));
    client_ops(m, c, "orion_client_bytes_total",
               "Bytes read and written for a client by the sessions it has.",
               offsetof(struct client, read_bytes), offsetof(struct client, written_bytes));
    free(c);
}

void metrics_targets(struct metrics *m)
{
    write_sessions(m);
    metrics_family(m, "orion_nbd_export_ready", "gauge",
                   "1 when the export can be attached and its device has not failed.");
    nbd_export_for_each(export_ready, m);
    metrics_family(m, "orion_nbd_export_connections", "gauge", "Clients of the export.");
    nbd_export_for_each(export_connections, m);
    metrics_family(m, "orion_iscsi_target_sessions", "gauge", "Sessions of the target.");
    iscsi_target_for_each(target_sessions_of, m);
    write_exports(m);
    metrics_family(m, "orion_slow_requests_total", "counter",
                   "Requests of clients slower than slow_io_ms.");
    metrics_u64(m, "orion_slow_requests_total", stages_slow_total(), NULL);
}
