/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_CLI_API_H
#define ORION_CLI_API_H

#include "command.h"

struct json_object;

/* What the daemon answered; `json` is NULL when there was no body. */
struct answer {
    int status;
    struct json_object *json;
    char etag[128], location[1024];
    char lost[512]; /* why there was no answer, else "" */
};

/* settings.c: where the daemon is and who we are there, from the options, the environment, or the
 * configuration of orionctl; else the first of the usual sockets that exists. 0, or an exit code
 * after a message on stderr. */
int api_setup(const struct command *c);
struct client_peer;
const struct client_peer *api_peer(void);

/* Follows a stream of events; 0 when it ended. */
struct client_follower;
int api_follow(const char *path, const char *last_id, const struct client_follower *f);

/* One request. Returns 0, or an exit code after a message on stderr: no daemon, or an error answer.
 * `quiet`: no message. The answer is the caller's to clear in both cases. */
int api_call(const char *method, const char *path, const char *if_match, struct json_object *body,
             bool quiet, struct answer *answer_r);
/* Prints the problem that an answer tells of. */
void api_complain(const struct answer *a);
void answer_clear(struct answer *a);

/* GET of a whole list, over all its pages: an array in *items_r. `path` may have a query. */
int api_list(const char *path, bool quiet, struct json_object **items_r);

/* Follows the job at `location` until it has ended; prints why it failed. *job_r is the job's last
 * state (may be NULL on error). `timeout`: seconds, 0 = none. */
int api_wait_job(const char *location, unsigned long timeout, struct json_object **job_r);

/* A text member of an object, "" when it has none. */
const char *json_text(struct json_object *o, const char *key);

#endif
