/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/options.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <json-c/json.h>

#include "api/api.h"
#include "base/mem.h"
#include "base/secret.h"
#include "control/control.h"

enum { CONFIG_MAX = 1 << 20, CONFIG_DEPTH = 8 };

const struct opt option_table[] = {
    {.name = "api",
     .type = OPT_LIST,
     .min = 1,
     .max = API_ADDRS_MAX,
     .help =
         "where the API is served: unix:PATH, or HOST:PORT with TLS; may be given several times"},
    {.name = "api_body_max",
     .type = OPT_SIZE,
     .min = 4096,
     .max = 64 << 20,
     .dflt = "1M",
     .help = "bytes of a request's body at most"},
    {.name = "api_connections_max",
     .type = OPT_UINT,
     .min = 16,
     .max = 16384,
     .dflt = "512",
     .help = "connections to the API; when all are there the longest idle one goes"},
    {.name = "api_streams_max",
     .type = OPT_UINT,
     .min = 1,
     .max = 1024,
     .dflt = "32",
     .help = "streams of events at once"},
    {.name = "api_idle_s",
     .type = OPT_UINT,
     .min = 1,
     .max = 86400,
     .dflt = "60",
     .help = "seconds after which a connection without traffic, or without a whole request, is "
             "closed"},
    {.name = "api_handshake_s",
     .type = OPT_UINT,
     .min = 1,
     .max = 300,
     .dflt = "10",
     .help = "seconds for a TLS handshake, and as many for the first request of somebody known"},
    {.name = "metrics",
     .type = OPT_STRING,
     .help = "HOST:PORT on loopback for /metrics, /healthz, /readyz, /openapi.json"},
    {.name = "tls_cert",
     .type = OPT_PATH,
     .flags = OPT_CREDENTIAL,
     .help = "PEM file: the certificate of the API on TCP, and its chain"},
    {.name = "tls_key",
     .type = OPT_PATH,
     .flags = OPT_CREDENTIAL,
     .help = "PEM file: its private key"},
    {.name = "tls_ca",
     .type = OPT_PATH,
     .flags = OPT_CREDENTIAL,
     .help = "PEM file: who signs the certificates of clients, which then each must have one"},
    {.name = "viewers",
     .type = OPT_LIST,
     .max = 64,
     .help = "who may see: user:NAME, group:NAME (unix socket), cert:NAME (TLS)"},
    {.name = "operators", .type = OPT_LIST, .max = 64, .help = "who may also change"},
    {.name = "admins",
     .type = OPT_LIST,
     .max = 64,
     .help = "who may also delete data and give tokens, beside root and the group orion"},
    {.name = "event_command",
     .type = OPT_PATH,
     .help = "program that is run for each event, which it gets as JSON on its standard input"},
    {.name = "event_url",
     .type = OPT_STRING,
     .max = 1024,
     .help = "http or https address that each event is posted to as JSON"},
    {.name = "event_ca",
     .type = OPT_PATH,
     .help = "PEM file: who signs the server of event_url (default: whom this machine trusts)"},
    {.name = "event_token",
     .type = OPT_STRING,
     .max = 1024,
     .help = "bearer token for event_url: file:/PATH or credential:NAME"},
    {.name = "state_dir", .type = OPT_PATH, .help = "folder of the state"},
    {.name = "reactors",
     .type = OPT_UINT,
     .max = 8,
     .dflt = "0",
     .help = "I/O threads, 1 to 8; 0: one a CPU"},
    {.name = "spin_us",
     .type = OPT_UINT,
     .max = 1000,
     .dflt = "0",
     .help = "microseconds to look for new work before sleeping"},
    {.name = "slow_io_ms",
     .type = OPT_UINT,
     .max = 3600000,
     .dflt = "1000",
     .help = "milliseconds from which a client's request is logged as slow; 0: never"},
    {.name = "iscsi_connections_max",
     .type = OPT_UINT,
     .min = 1,
     .max = 65536,
     .dflt = "1024",
     .help = "connections in iSCSI sessions, all together; further logins are refused"},
    {.name = "stripe_memory",
     .type = OPT_SIZE,
     .max = 1ull << 40,
     .dflt = "64M",
     .help = "buffers that an array with parity may hold on each reactor; beyond it writes wait"},
    {.name = "array_wait",
     .type = OPT_UINT,
     .max = 3600,
     .dflt = "10",
     .help =
         "seconds after the start that an array waits for absent members before it goes without"},
    {.name = "log",
     .type = OPT_ENUM,
     .choices = "error|warn|info|debug",
     .dflt = "info",
     .help = "log level"},
    {.name = NULL},
};

static const char *const default_config = "/etc/orion/oriond.json";

void options_usage(void)
{
    puts(
        "usage: oriond [--config FILE] [--state-dir DIR] [--api ADDR]... [--metrics ADDR]\n"
        "              [--reactors N] [--slow-io-ms N] [--foreground] [--log-level L] "
        "[--check-config] "
        "[--version]\n"
        "\n"
        "  --config FILE     settings, JSON (default /etc/orion/oriond.json, which may be absent)\n"
        "  --state-dir DIR   where the state is kept; made with its parents (default "
        "/var/lib/orion)\n"
        "  --api ADDR        serve the API on unix:PATH (default unix:/run/orion/api.sock),\n"
        "                    or on HOST:PORT with tls_cert and tls_key of the configuration\n"
        "  --metrics ADDR    serve metrics on HOST:PORT, loopback only\n"
        "  --reactors N      I/O threads, 1 to 8 (default: one a CPU)\n"
        "  --slow-io-ms N    log requests of clients slower than this (default 1000; 0: none)\n"
        "  --foreground      log to stderr with times, also under systemd\n"
        "  --log-level L     error, warn, info or debug (default info)\n"
        "  --check-config    refuse what a start would refuse of the settings, and exit\n"
        "  --version         print the version and exit");
}

/* ---- the command line */

enum {
    OPTION_CONFIG = 256,
    OPTION_FOREGROUND,
    OPTION_CHECK,
    OPTION_VERSION,
    OPTION_HELP,
    OPTION_API
};

static const struct option long_options[] = {
    {"config", required_argument, NULL, OPTION_CONFIG},
    {"state-dir", required_argument, NULL, 0},
    {"api", required_argument, NULL, OPTION_API},
    {"metrics", required_argument, NULL, 0},
    {"reactors", required_argument, NULL, 0},
    {"spin-us", required_argument, NULL, 0},
    {"log-level", required_argument, NULL, 0},
    {"slow-io-ms", required_argument, NULL, 0},
    {"foreground", no_argument, NULL, OPTION_FOREGROUND},
    {"check-config", no_argument, NULL, OPTION_CHECK},
    {"version", no_argument, NULL, OPTION_VERSION},
    {"help", no_argument, NULL, OPTION_HELP},
    {NULL, 0, NULL, 0},
};

/* "state-dir" is state_dir in the table, and "log-level" is log. */
static int put_long(struct opts *o, const char *name, const char *value, struct err *e)
{
    char field[32];
    snprintf(field, sizeof field, "%s", strcmp(name, "log-level") ? name : "log");
    for (char *p = field; *p; p++)
        if (*p == '-')
            *p = '_';
    return opts_put(o, field, value, e);
}

static int usage_error(const char *what)
{
    fprintf(stderr, "oriond: %s\n", what);
    return -1;
}

static int parse_all(struct options *o, int argc, char **argv, const char **api, unsigned *n)
{
    struct err e = {0};
    int c, index = 0;
    while ((c = getopt_long(argc, argv, "", long_options, &index)) != -1) {
        switch (c) {
        case OPTION_CONFIG: o->config = optarg; break;
        case OPTION_FOREGROUND: o->foreground = true; break;
        case OPTION_CHECK: o->check_config = true; break;
        case OPTION_VERSION: o->version = true; break;
        case OPTION_HELP: o->help = true; break;
        case OPTION_API:
            if (*n == API_ADDRS_MAX)
                return usage_error("too many --api");
            api[(*n)++] = optarg;
            break;
        case 0:
            if (put_long(o->line, long_options[index].name, optarg, &e))
                return usage_error(e.msg);
            break;
        default: return -1; /* getopt has told */
        }
    }
    return optind < argc ? usage_error("takes options only; --help lists them") : 0;
}

int options_parse(struct options *o, int argc, char **argv)
{
    const char *api[API_ADDRS_MAX];
    unsigned n = 0;
    struct err e;
    *o = (struct options){.line = opts_new(option_table), .file = opts_new(option_table)};
    if (parse_all(o, argc, argv, api, &n))
        return -1;
    if (n && opts_put_list(o->line, "api", api, n, &e))
        return usage_error(e.msg);
    return 0;
}

void options_free(struct options *o)
{
    opts_free(&o->line);
    opts_free(&o->file);
    free(o->state_dir);
    free(o->api);
}

/* ---- the file */

/* The NUL that ends the text, and blanks; comments the tokener has passed. */
static bool is_blank(const char *text, size_t len)
{
    while (len > 1 && isspace((unsigned char)*text)) {
        text++;
        len--;
    }
    return !len || (len == 1 && !*text);
}

struct opts *options_parse_config(const char *text, size_t len, struct err *e)
{
    struct json_tokener *tok = json_tokener_new_ex(CONFIG_DEPTH);
    struct json_object *o = json_tokener_parse_ex(tok, text, (int)len);
    enum json_tokener_error error = json_tokener_get_error(tok);
    size_t end = json_tokener_get_parse_end(tok);
    json_tokener_free(tok);
    if (!json_object_is_type(o, json_type_object)) {
        json_object_put(o);
        err_set(e, ERR_INVALID, "", "no JSON object: %s at byte %zu",
                error == json_tokener_success ? "expected {" : json_tokener_error_desc(error), end);
        return NULL;
    }
    if (!is_blank(text + end, len - end)) {
        json_object_put(o);
        err_set(e, ERR_INVALID, "", "the text goes on after its JSON object, at byte %zu", end);
        return NULL;
    }
    struct opts *opts = opts_new(option_table);
    json_object_object_foreach(o, name, value)
    {
        if (opts && control_field_json(opts, name, value, e))
            opts_free(&opts);
    }
    json_object_put(o);
    return opts;
}

/* RFC 3986, 3.2.1: what stands before an @ of the authority. */
static bool has_userinfo(const char *url)
{
    const char *host = strstr(url, "://");
    host = host ? host + 3 : url;
    return memchr(host, '@', strcspn(host, "/?#")) != NULL;
}

/* What the table cannot say. */
static int check_values(const struct opts *opts, struct err *e)
{
    const char *url = opts_str(opts, "event_url"), *token = opts_str(opts, "event_token");
    if (url && has_userinfo(url))
        return err_set(e, ERR_INVALID, "event_url",
                       "event_url has a user or password before its host, which would be shown in "
                       "clear; put a bearer token where event_token says");
    if (url && strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0)
        return err_set(e, ERR_INVALID, "event_url",
                       "event_url is '%.60s'; expected http://... or https://...", url);
    return token ? secret_check(token, "event_token", e) : 0;
}

int options_read_file(struct options *o, struct err *e)
{
    const char *path = o->config ? o->config : default_config;
    autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT && !o->config)
        return 0;
    struct stat st;
    if (fd < 0 || fstat(fd, &st))
        return err_set(e, ERR_IO, "config", "cannot read %s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode) || st.st_size > CONFIG_MAX)
        return err_set(e, ERR_INVALID, "config", "%s is no file of at most 1 MiB", path);
    autofree char *text = xcalloc(1, (size_t)st.st_size + 1);
    ssize_t n = pread(fd, text, (size_t)st.st_size, 0);
    if (n < 0)
        return err_set(e, ERR_IO, "config", "cannot read %s: %s", path, strerror(errno));
    /* With its NUL: the parser must know that the text ends here. */
    struct opts *opts = options_parse_config(text, (size_t)n + 1, e);
    if (opts && check_values(opts, e))
        opts_free(&opts);
    if (!opts)
        return err_prefix(e, "%s", path);
    opts_free(&o->file);
    o->file = opts;
    return 0;
}

/* ---- values */

static const struct opts *home_of(const struct options *o, const char *name)
{
    return opts_is_set(o->line, name) ? o->line : o->file;
}

static bool is_root(void)
{
    return geteuid() == 0;
}

static char *user_folder(const char *variable, const char *below_home)
{
    const char *v = getenv(variable), *home = getenv("HOME");
    if (v && *v == '/')
        return xasprintf("%s/orion", v);
    return home && *home == '/' && below_home ? xasprintf("%s/%s/orion", home, below_home) : NULL;
}

static const char *default_state_dir(struct options *o)
{
    if (!o->state_dir)
        o->state_dir =
            is_root() ? xstrdup("/var/lib/orion") : user_folder("XDG_STATE_HOME", ".local/state");
    return o->state_dir;
}

static char *default_api(struct options *o)
{
    if (o->api)
        return o->api;
    autofree char *dir = is_root() ? xstrdup("/run/orion") : user_folder("XDG_RUNTIME_DIR", NULL);
    /* Others may go through: who may do something is decided at the socket. Listening tells what is
     * wrong with the folder. */
    if (dir && !o->check_config && !mkdir(dir, 0755))
        chmod(dir, 0755);
    return o->api = xasprintf("unix:%s/api.sock", dir ? dir : default_state_dir(o));
}

const char *options_str(const struct options *o, const char *name)
{
    const char *v = opts_str(home_of(o, name), name);
    return v || strcmp(name, "state_dir") ? v : default_state_dir((struct options *)(uintptr_t)o);
}

uint64_t options_u64(const struct options *o, const char *name)
{
    return opts_u64(home_of(o, name), name);
}

char *const *options_list(const struct options *o, const char *name, unsigned *n_r)
{
    char *const *v = opts_list(home_of(o, name), name, n_r);
    if (*n_r || strcmp(name, "api"))
        return v;
    struct options *w = (struct options *)(uintptr_t)o;
    default_api(w);
    *n_r = 1;
    return &w->api;
}
