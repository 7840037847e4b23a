/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where the daemon is, and who we are there. */
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api.h"
#include "base/mem.h"
#include "client/client.h"

enum { TOKEN_MAX = 4096 };

static char address[4200], token[TOKEN_MAX];
static struct client_peer peer = {.addr = address};
static struct json_object *file; /* of the configuration; its texts are used until the end */

const struct client_peer *api_peer(void)
{
    return &peer;
}

/* Where a user's daemon listens: $XDG_RUNTIME_DIR, else its state folder. */
static bool try_socket(const char *dir, const char *below)
{
    snprintf(address, sizeof address, "unix:%s%s/orion/api.sock", dir, below);
    return *dir == '/' && !access(address + 5, F_OK);
}

static void find_socket(void)
{
    const char *run = getenv("XDG_RUNTIME_DIR"), *state = getenv("XDG_STATE_HOME"),
               *home = getenv("HOME");
    if (geteuid() && ((run && try_socket(run, "")) || (state && try_socket(state, "")) ||
                      (home && try_socket(home, "/.local/state"))))
        return;
    snprintf(address, sizeof address, "unix:/run/orion/api.sock");
}

/* ---- the file */

static const char *const keys[] = {"api", "ca", "cert", "key", "token_file"};

static int check_file(const char *path)
{
    json_object_object_foreach(file, name, value)
    {
        bool known = false;
        for (unsigned i = 0; i < sizeof keys / sizeof *keys; i++)
            known |= !strcmp(name, keys[i]);
        if (known && json_object_is_type(value, json_type_string))
            continue;
        fprintf(stderr, "orionctl: %s: %s\n", path,
                known ? "its values are strings" : "expected api, ca, cert, key, token_file");
        return EXIT_USAGE;
    }
    return 0;
}

static int read_file(void)
{
    const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    autofree char *own = config && *config == '/' ? xasprintf("%s/orion/orionctl.json", config)
                         : home && *home == '/' ? xasprintf("%s/.config/orion/orionctl.json", home)
                                                : xstrdup("");
    const char *const paths[] = {own, "/etc/orion/orionctl.json"};
    for (unsigned i = 0; i < 2 && !file; i++) {
        if (!*paths[i] || access(paths[i], F_OK))
            continue;
        file = json_object_from_file(paths[i]);
        if (!json_object_is_type(file, json_type_object)) {
            fprintf(stderr, "orionctl: %s: it is no JSON object, or cannot be read\n", paths[i]);
            return EXIT_USAGE;
        }
        if (check_file(paths[i]))
            return EXIT_USAGE;
    }
    return 0;
}

/* The option, else the environment, else the file; NULL when none says. */
static const char *chosen(const char *option, const char *variable, const char *key)
{
    const char *env = getenv(variable), *text = json_text(file, key);
    return option && *option ? option : env && *env ? env : *text ? text : NULL;
}

/* ---- the token */

static int read_token(const char *path)
{
    FILE *f = fopen(path, "re");
    size_t n = f ? fread(token, 1, sizeof token - 1, f) : 0;
    int error = errno;
    bool bad = !f || ferror(f);
    if (f)
        fclose(f);
    token[n] = 0;
    token[strcspn(token, "\r\n")] = 0;
    if (!bad && *token)
        return 0;
    fprintf(stderr, "orionctl: the token in %s: %s\n", path,
            bad ? strerror(error) : "the file is empty");
    return EXIT_USAGE;
}

static int take_token(const struct command *c)
{
    const char *text = getenv("ORION_TOKEN"),
               *path = chosen(c->token_file, "ORION_TOKEN_FILE", "token_file");
    if (!c->token_file && text && *text)
        snprintf(token, sizeof token, "%s", text);
    else if (path && read_token(path))
        return EXIT_USAGE;
    peer.token = *token ? token : NULL;
    return 0;
}

int api_setup(const struct command *c)
{
    int rc = read_file();
    if (rc)
        return rc;
    const char *api = chosen(c->api, "ORION_API", "api");
    if (api)
        snprintf(address, sizeof address, "%s", api);
    else
        find_socket();
    peer.ca = chosen(c->ca, "ORION_CA", "ca");
    peer.cert = chosen(c->cert, "ORION_CERT", "cert");
    peer.key = chosen(c->key, "ORION_KEY", "key");
    return take_token(c);
}
