/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A document that somebody wants to be planned, over a state with one object of each kind. */
#include <assert.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "control/journal_private.h"
#include "control/plan.h"
#include "drivers/drivers.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define IQN "iqn.2026-01.org.example:t0"
static const char state[] =
    "{\"device/d0\": {\"type\": \"file\", \"options\": {\"path\": \"/srv/0\", \"buffered\": "
    "\"false\"}}, \"device/d1\": {\"type\": \"mem\", \"options\": {\"size\": \"67108864\"}},"
    "\"array/a0\": {\"last\": {\"level\": \"raid1\", \"members\": [\"d0\", \"d1\"], \"bitmap\": "
    "\"internal\"}, \"spare_group\": \"g\", \"member_options\": [\"d0:timeout=500\"]},"
    "\"pool/p0\": {\"last\": {\"devices\": [\"a0\"], \"extent_size\": 1048576}},"
    "\"export/e0\": {\"device\": \"p0/v0\", \"read_only\": true, \"allow\": [\"unix\"]},"
    "\"listener/127.0.0.1:0\": {\"tls\": \"off\"}, \"portal/127.0.0.1:1\": {\"group\": 2},"
    "\"discovery-auth/iscsi\": {\"chap_user\": \"host\"},"
    "\"target/" IQN "\": {\"alias\": \"box\", \"open\": true},"
    "\"lun/" IQN "/0\": {\"device\": \"a0\", \"provisioning\": \"full\"},"
    "\"acl/" IQN "/iqn.b:host\": {\"chap_user\": \"host\", \"lun_map\": [\"5=0\"]},"
    "\"alua/" IQN "/2\": {\"state\": \"standby\", \"by_host\": false}}";

static char dir[] = "/tmp/orion-fuzz-plan-XXXXXX";

static void clean(void)
{
    static const char *const names[] = {"snapshot.1", "journal.1"};
    journal_close(&control.journal);
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (unsigned i = 0; i < 2; i++)
        unlinkat(fd, names[i], 0);
    close(fd);
    rmdir(dir);
}

static void plan(struct json_object *doc, bool same)
{
    struct plan p;
    struct err e = {0};
    char *path;
    const char *method;
    int rc = plan_make(doc, &p, &e);
    assert(rc ? *e.msg && json_object_array_length(p.errors) : !json_object_array_length(p.errors));
    assert(!same || (!rc && plan_is_empty(&p)));
    if (!rc) {
        json_object_put(plan_json(&p));
        for (unsigned i = 0; i < p.want.count; i++)
            if (p.want.item[i]->action == ACT_CHANGE) {
                json_object_put(plan_change_body(p.want.item[i], &method, &path));
                free(path);
            }
    }
    plan_free(&p);
}

static void begin(void)
{
    static const struct driver *const drivers[] = {&file_driver, &mem_driver, &null_driver,
                                                   &fault_driver, NULL};
    control.opts.drivers = drivers;
    struct json_object *map = json_tokener_parse(state);
    struct err e = {0};
    size_t len, head;
    int journal;
    if (!map || !mkdtemp(dir))
        abort();
    atexit(clean);
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    char *text = journal_snapshot_text(map, 1, &len);
    if (journal_write_generation(fd, 1, text, len, &journal, &head))
        abort();
    close(journal);
    close(fd);
    free(text);
    json_object_put(map);
    control.journal = journal_open(dir, NULL, NULL, &e);
    if (!control.journal)
        abort();
    struct json_object *now = config_json();
    plan(now, true); /* what stands is as it is wanted */
    json_object_put(now);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!control.journal)
        begin();
    struct json_tokener *tok = json_tokener_new_ex(16);
    struct json_object *doc = json_tokener_parse_ex(tok, (const char *)data, (int)size);
    json_tokener_free(tok);
    if (json_object_is_type(doc, json_type_object))
        plan(doc, false);
    json_object_put(doc);
    return 0;
}
