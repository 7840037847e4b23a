/* SPDX-License-Identifier: GPL-2.0-or-later */
/* `orionctl support-bundle`: what somebody who helps asks for, in one file of JSON. */
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "api.h"
#include "base/mem.h"
#include "client/client.h"
#include "tools.h"

/* The API never tells secrets; should a key ever look like one, its value stays out all the same.
 */
static bool looks_secret(const char *key)
{
    static const char *const words[] = {"secret", "password", "passphrase", "token", "private_key"};
    for (unsigned i = 0; i < sizeof words / sizeof *words; i++)
        if (strcasestr(key, words[i]))
            return true;
    return false;
}

static void redact(struct json_object *o)
{
    if (json_object_is_type(o, json_type_array)) {
        for (size_t i = 0; i < json_object_array_length(o); i++)
            redact(json_object_array_get_idx(o, i));
    } else if (json_object_is_type(o, json_type_object)) {
        json_object_object_foreach(o, key, v)
        {
            if (looks_secret(key) && json_object_is_type(v, json_type_string))
                json_object_set_string(v, "(left out)");
            else
                redact(v);
        }
    }
}

static void add_metrics(struct json_object *out)
{
    struct client_request q = {.peer = api_peer(), .method = "GET", .path = "/metrics"};
    struct client_reply r;
    struct err e;
    if (client_send(&q, &r, &e))
        return;
    json_object_object_add(out, "metrics", json_object_new_string(r.body));
    client_reply_clear(&r);
}

/* Every GET of the tables that needs no name. */
static void add_all(struct json_object *out)
{
    for (const struct schema_noun *const *n = schema_nouns; *n; n++)
        for (const struct schema_verb *v = (*n)->verbs; v->name; v++) {
            struct answer a;
            struct json_object *items;
            if (!v->method || strcmp(v->method, "GET") || strchr(v->path, '{') ||
                json_object_object_get_ex(out, v->path, NULL))
                continue;
            if (v->result == VERB_LIST) {
                if (!api_list(v->path, true, &items))
                    json_object_object_add(out, v->path, json_object_get(items));
                json_object_put(items);
                continue;
            }
            if (!api_call("GET", v->path, NULL, NULL, true, &a))
                json_object_object_add(out, v->path, json_object_get(a.json));
            answer_clear(&a);
        }
}

static void add_host(struct json_object *out)
{
    struct utsname u;
    struct json_object *o = json_object_new_object();
    if (!uname(&u)) {
        json_object_object_add(o, "kernel", json_object_new_string(u.release));
        json_object_object_add(o, "machine", json_object_new_string(u.machine));
    }
    json_object_object_add(o, "cpus", json_object_new_int64(sysconf(_SC_NPROCESSORS_ONLN)));
    json_object_object_add(o, "orionctl", json_object_new_string(ORION_VERSION));
    json_object_object_add(out, "host", o);
}

static int save(const char *path, const char *text)
{
    if (!strcmp(path, "-"))
        return puts(text) < 0 ? EXIT_REFUSED : 0;
    autoclose int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    size_t len = strlen(text), done = 0;
    ssize_t n = 0;
    while (fd >= 0 && done < len && (n = write(fd, text + done, len - done)) > 0)
        done += (size_t)n;
    if (done == len && !fsync(fd))
        return 0;
    fprintf(stderr, "orionctl: cannot write %s: %s\n", path, strerror(errno));
    return EXIT_REFUSED;
}

int support_run(const struct command *c)
{
    char name[64];
    time_t now = time(NULL);
    strftime(name, sizeof name, "orion-support-%Y%m%dT%H%M%SZ.json", gmtime(&now));
    const char *path = c->arg[0] ? c->arg[0] : name;
    struct answer a;
    int rc = api_call("GET", "/v1/system", NULL, NULL, false, &a);
    answer_clear(&a);
    if (rc)
        return rc;
    struct json_object *out = json_object_new_object();
    add_host(out);
    add_all(out);
    redact(out);
    add_metrics(out);
    rc = save(path, json_object_to_json_string_ext(out, JSON_C_TO_STRING_PRETTY |
                                                            JSON_C_TO_STRING_NOSLASHESCAPE));
    json_object_put(out);
    if (!rc && strcmp(path, "-") != 0)
        printf("%s\n", path);
    return rc;
}
