/* SPDX-License-Identifier: GPL-2.0-or-later */
/* orionctl: a command line for the REST API. All it knows of the API stands in base/schema.h. */
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "api.h"
#include "base/mem.h"
#include "command.h"
#include "help.h"
#include "output.h"
#include "plan.h"
#include "tools.h"
#include "tree.h"

/* ---- from the command to a request */
struct values {
    const struct command *c;
    char pool[256];
};

/* The value of a parameter of the path. */
static const char *param_value(const char *param, void *arg)
{
    struct values *v = arg;
    const struct schema_arg *a = v->c->verb->args;
    for (unsigned i = 0; a[i].field; i++) {
        const char *given = v->c->arg[i] ? v->c->arg[i] : "";
        const char *slash = strchr(given, '/');
        if ((a[i].flags & ARG_VOLUME) && slash && !strcmp(param, "volume"))
            return slash + 1;
        if ((a[i].flags & ARG_VOLUME) && slash && !strcmp(param, "pool")) {
            snprintf(v->pool, sizeof v->pool, "%.*s", (int)(slash - given), given);
            return v->pool;
        }
        if (!strcmp(a[i].field, param))
            return given;
    }
    return "";
}

static bool in_path(const char *path, const char *field)
{
    autofree char *param = xasprintf("{%s}", field);
    return strstr(path, param) != NULL;
}

static struct json_object *json_value(const struct opt *opt, const char *text)
{
    if (opt->type == OPT_BOOL)
        return json_object_new_boolean(!strcmp(text, "true"));
    if (opt->type == OPT_UINT)
        return json_object_new_uint64(strtoull(text, NULL, 10));
    if (opt->type != OPT_LIST)
        return json_object_new_string(text); /* a size too: "10G" */
    struct json_object *list = json_object_new_array();
    autofree char *copy = xstrdup(text);
    char *rest = copy, *part;
    while (*text && (part = strsep(&rest, ",")))
        json_object_array_add(list, json_object_new_string(part));
    return list;
}

enum { DOCUMENT_DEPTH = 12, DOCUMENT_MAX = 64 << 20 };

/* All of it, the caller's; NULL: errno. */
static char *read_all(int fd, size_t *len_r)
{
    size_t room = 0, len = 0;
    char *text = NULL;
    for (ssize_t n = 1; n;) {
        if (len == room)
            text = xrealloc(text, room = room ? room * 2 : 65536);
        n = read(fd, text + len, room - len);
        if (n > 0)
            len += (size_t)n;
        if ((n < 0 && errno != EINTR) || len > DOCUMENT_MAX) {
            errno = n < 0 ? errno : EFBIG;
            free(text);
            return NULL;
        }
    }
    *len_r = len;
    return text;
}

/* One object and nothing behind it. NULL: *why_r says what is wrong. */
static struct json_object *parse_document(const char *text, size_t len, const char **why_r)
{
    struct json_tokener *tok = json_tokener_new_ex(DOCUMENT_DEPTH);
    struct json_object *o = json_tokener_parse_ex(tok, text, (int)len);
    enum json_tokener_error error = json_tokener_get_error(tok);
    size_t end = json_tokener_get_parse_end(tok);
    json_tokener_free(tok);
    while (end < len && strchr(" \t\r\n", text[end]) && text[end])
        end++;
    *why_r = error == json_tokener_continue              ? "it ends too early"
             : error                                     ? json_tokener_error_desc(error)
             : !json_object_is_type(o, json_type_object) ? "it is no JSON object"
             : end < len                                 ? "there is more behind its JSON object"
                                                         : NULL;
    if (!*why_r)
        return o;
    json_object_put(o);
    return NULL;
}

/* A file with a JSON object; "-" is standard input. NULL: told on stderr. */
static struct json_object *read_document(const char *path)
{
    bool in = !strcmp(path, "-");
    autoclose int fd = in ? dup(STDIN_FILENO) : open(path, O_RDONLY | O_CLOEXEC);
    size_t len = 0;
    const char *why = NULL;
    autofree char *text = fd < 0 ? NULL : read_all(fd, &len);
    struct json_object *o = NULL;
    if (text)
        o = parse_document(text, len, &why);
    else
        why = strerror(errno);
    if (!o)
        fprintf(stderr, "orionctl: %s: %s\n", in ? "standard input" : path, why);
    return o;
}

/* The fields of the request that do not stand in its path; NULL when the verb takes none. False: a
 * document could not be read. */
static bool fields_of(const struct command *c, struct json_object **fields_r)
{
    const struct schema_verb *v = c->verb;
    const struct opt *table = command_opts(v);
    *fields_r = NULL;
    if (!table)
        return true;
    struct json_object *o = *fields_r = json_object_new_object();
    for (unsigned i = 0; i < SCHEMA_ARGS && v->args[i].field; i++) {
        const struct opt *opt = opts_find(table, v->args[i].field);
        if (!c->arg[i] || !opt || in_path(v->path, v->args[i].field))
            continue;
        struct json_object *value =
            opt->type == OPT_JSON ? read_document(c->arg[i]) : json_value(opt, c->arg[i]);
        if (!value) {
            json_object_put(o);
            return false;
        }
        json_object_object_add(o, opt->name, value);
    }
    for (unsigned i = 0; i < c->option_count; i++)
        if (!(c->option[i].opt->flags & OPT_CLIENT))
            json_object_object_add(o, c->option[i].opt->name,
                                   json_value(c->option[i].opt, c->option[i].value));
    return true;
}

/* Puts the fields behind the path as a query: what GET and DELETE take. malloc'ed. */
static char *with_query(const char *path, struct json_object *fields)
{
    char *out = xstrdup(path);
    if (!fields)
        return out;
    char mark = '?';
    json_object_object_foreach(fields, key, value)
    {
        const char *text = json_object_get_string(value);
        autofree char *safe = xcalloc(1, 3 * strlen(text) + 1);
        char *at = safe;
        for (; *text; text++)
            at += sprintf(at, "%%%02X", (unsigned char)*text);
        char *longer = xasprintf("%s%c%s=%s", out, mark, key, safe);
        free(out);
        out = longer;
        mark = '&';
    }
    return out;
}

/* ---- running a verb */
enum { STALE_RETRIES = 3 };

/* One change, with the ETag that its item has now. When the item changes in between, it is looked
 * at again: whoever types a command has not seen a version of it. */
static int send_change(const struct command *c, const char *path, struct json_object *body,
                       struct answer *a)
{
    const char *method = c->verb->method;
    if (!(c->verb->flags & VERB_IF_MATCH)) {
        int rc = api_call(method, path, NULL, body, true, a);
        if (a->status != 428) {
            if (rc)
                api_complain(a);
            return rc;
        }
        answer_clear(a); /* it changes something that is there */
    }
    autofree char *bare = xasprintf("%.*s", (int)strcspn(path, "?"), path);
    autofree char *item = schema_item_path(bare);
    for (unsigned i = 0;; i++) {
        char etag[sizeof a->etag];
        int rc = api_call("GET", item, NULL, NULL, false, a);
        if (rc)
            return rc;
        memcpy(etag, a->etag, sizeof etag);
        answer_clear(a);
        rc = api_call(method, path, *etag ? etag : NULL, body, i < STALE_RETRIES, a);
        if (a->status != 412 || i == STALE_RETRIES) {
            if (rc && i < STALE_RETRIES)
                api_complain(a);
            return rc;
        }
        answer_clear(a);
    }
}

/* Background work is not waited for, but for what makes objects usable. */
static int finish_job(const struct command *c, struct answer *a)
{
    if (c->no_wait || !(c->wait || c->verb->flags & VERB_WAIT)) {
        if (c->json)
            output_json(a->json);
        else
            printf("job %s\n", json_text(a->json, "id"));
        return 0;
    }
    struct json_object *job;
    int rc = api_wait_job(a->location, 0, &job);
    if (!rc)
        output_change(c, c->json ? job : NULL);
    json_object_put(job);
    return rc;
}

/* An array that a verb has left syncing: waits until it is idle, or tells who syncs it. */
static int finish_sync(const struct command *c, const char *path, struct answer *a)
{
    struct json_object *job = NULL, *id = NULL;
    autofree char *bare = xasprintf("%.*s", (int)strcspn(path, "?"), path);
    autofree char *item = schema_item_path(bare);
    int rc = 0;
    for (;;) {
        if (!json_object_object_get_ex(a->json, "sync_job", &id) || !json_object_get_int64(id))
            return rc;
        if (c->no_wait) {
            printf("job %s\n", json_object_get_string(id));
            return 0;
        }
        autofree char *location = xasprintf("/v1/jobs/%s", json_object_get_string(id));
        rc = api_wait_job(location, 0, &job);
        json_object_put(job);
        if (rc && rc != EXIT_JOB_FAILED)
            return rc;
        answer_clear(a);
        int read = api_call("GET", item, NULL, NULL, false, a);
        if (read)
            return read;
    }
}

static int finish_change(const struct command *c, const char *path, struct answer *a)
{
    struct json_object *id = NULL;
    bool syncs = json_object_object_get_ex(a->json, "sync_job", &id) && json_object_get_int64(id);
    if (!syncs || (!c->wait && (!c->no_wait || c->json))) {
        output_change(c, a->json);
        return 0;
    }
    int rc = finish_sync(c, path, a);
    if (!rc && !c->no_wait)
        output_change(c, a->json);
    return rc;
}

static int run_change(const struct command *c, const char *path, struct json_object *fields)
{
    bool query = !strcmp(c->verb->method, "DELETE");
    autofree char *full = with_query(path, query ? fields : NULL);
    struct answer a;
    struct json_object *items;
    int rc = send_change(c, full, query ? NULL : fields, &a);
    if (!rc && a.status == 202)
        rc = finish_job(c, &a);
    else if (!rc && c->verb->result == VERB_LIST &&
             json_object_object_get_ex(a.json, "items", &items))
        output_list(c, items);
    else if (!rc && !strcmp(c->verb->name, "plan"))
        rc = plan_print(c, a.json);
    else if (!rc)
        rc = finish_change(c, path, &a);
    answer_clear(&a);
    return rc;
}

static int run_list(const struct command *c, const char *path, struct json_object *fields)
{
    struct json_object *items;
    autofree char *full = with_query(path, fields);
    int rc = api_list(full, false, &items);
    if (!rc)
        output_list(c, items);
    json_object_put(items);
    return rc;
}

static int run_show(const struct command *c, const char *path, struct json_object *fields)
{
    struct answer a;
    struct json_object *problems;
    autofree char *full = with_query(path, fields);
    int rc = api_call("GET", full, NULL, NULL, false, &a);
    if (!rc && !strcmp(c->noun->name, "status") && !c->json && !c->columns)
        status_print(a.json);
    else if (!rc)
        output_object(c, a.json);
    struct json_object *good;
    if (!rc && !strcmp(c->noun->name, "audit") && json_object_object_get_ex(a.json, "good", &good))
        rc = json_object_get_boolean(good) ? 0 : EXIT_REFUSED;
    if (!rc && command_flag(c, "check") && json_object_object_get_ex(a.json, "problems", &problems))
        rc = json_object_array_length(problems) ? EXIT_REFUSED : 0;
    answer_clear(&a);
    return rc;
}

static int run_job_wait(const struct command *c)
{
    const char *timeout = command_option(c, "timeout");
    struct values v = {.c = c};
    autofree char *path = schema_expand("/v1/jobs/{id}", param_value, &v);
    struct json_object *job;
    int rc = api_wait_job(path, timeout ? strtoul(timeout, NULL, 10) : 0, &job);
    if (job && (!rc || rc == EXIT_JOB_FAILED))
        output_object(c, job);
    json_object_put(job);
    return rc;
}

static int run_version(const struct command *c)
{
    struct answer a = {0};
    int rc = api_setup(c); /* who has broken settings is told so, and our version */
    if (!rc)
        rc = api_call("GET", "/v1/system", NULL, NULL, true, &a);
    const char *daemon = rc ? "" : json_text(a.json, "version");
    if (c->json) {
        struct json_object *o = json_object_new_object();
        json_object_object_add(o, "orionctl", json_object_new_string(ORION_VERSION));
        json_object_object_add(o, "oriond", *daemon ? json_object_new_string(daemon) : NULL);
        output_json(o);
        json_object_put(o);
    } else {
        printf("orionctl " ORION_VERSION "\n");
        if (*daemon)
            printf("oriond %s\n", daemon);
    }
    answer_clear(&a);
    return 0;
}

static int run_own(const struct command *c)
{
    static const struct {
        const char *noun;
        int (*run)(const struct command *c);
    } own[] = {
        {"tree", tree_run},
        {"job", run_job_wait},
        {"version", run_version},
        {"top", top_run},
        {"explain", explain_run},
        {"completion", completion_run},
        {"support-bundle", support_run},
    };
    unsigned i = 0;
    while (strcmp(own[i].noun, c->noun->name))
        i++;
    return own[i].run(c);
}

static int run(const struct command *c)
{
    const struct schema_verb *v = c->verb;
    if (v->flags & VERB_CLI_ONLY)
        return run_own(c);
    if (command_flag(c, "follow"))
        return follow_run(c);
    struct values values = {.c = c};
    autofree char *path = schema_expand(v->path, param_value, &values);
    struct json_object *fields;
    if (!fields_of(c, &fields))
        return EXIT_USAGE;
    int rc = strcmp(v->method, "GET") ? run_change(c, path, fields)
             : v->result == VERB_LIST ? run_list(c, path, fields)
                                      : run_show(c, path, fields);
    json_object_put(fields);
    return rc;
}

/* With --watch: again and again, until it fails. Only what changes nothing may be watched. */
static int run_watched(const struct command *c)
{
    bool reads = c->verb->flags & VERB_CLI_ONLY || !strcmp(c->verb->method, "GET");
    if (!c->watch)
        return run(c);
    if (!reads)
        return usage(c, "--watch is for commands that only read");
    for (;;) {
        if (isatty(STDOUT_FILENO))
            fputs("\33[H\33[2J", stdout);
        int rc = run(c);
        if (rc || fflush(stdout))
            return rc;
        sleep(c->watch);
    }
}

/* What needs none works whatever the settings are. */
static bool needs_daemon(const struct command *c)
{
    return strcmp(c->noun->name, "completion") && strcmp(c->noun->name, "version");
}

int main(int argc, char **argv)
{
    struct command c;
    signal(SIGPIPE, SIG_DFL);
    int rc = command_parse(&c, argc, (const char *const *)argv);
    if (rc)
        return rc;
    if (c.help) {
        help_print(argc < 2 ? stderr : stdout, &c);
        return argc < 2 ? EXIT_USAGE : EXIT_DONE;
    }
    rc = output_check(&c);
    if (rc)
        return rc;
    rc = needs_daemon(&c) ? api_setup(&c) : 0;
    if (!rc)
        rc = run_watched(&c);
    if (fflush(stdout) && !rc) {
        perror("orionctl: stdout");
        rc = EXIT_REFUSED;
    }
    return rc;
}
