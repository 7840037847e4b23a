/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/schema_private.h"

/* Jobs, events, and the daemon itself. */

static const struct schema_field job_fields[] = {
    {"id", FMT_NUMBER, FIELD_TABLE, "number", NULL},
    {"kind", FMT_TEXT, FIELD_TABLE, "resync, ...", NULL},
    {"object", FMT_TEXT, FIELD_TABLE, "what it works on", NULL},
    {"state", FMT_TEXT, FIELD_TABLE, "running, paused, done, failed or cancelled", NULL},
    {"done/total", FMT_PERCENT, FIELD_TABLE, "progress", NULL},
    {"done", FMT_NUMBER, 0, "bytes or steps done", NULL},
    {"total", FMT_NUMBER, 0, "bytes or steps in all, 0 when unknown", NULL},
    {"rate", FMT_SIZE, FIELD_TABLE, "done per second, lately", NULL},
    {"started", FMT_TIME, FIELD_TABLE, "when it started", NULL},
    {"ended", FMT_TIME, 0, "when it ended, or null", NULL},
    {"can_cancel", FMT_BOOL, 0, "can be cancelled", NULL},
    {"eta", FMT_NUMBER, 0, "seconds until it is done at this rate, or null", NULL},
    {"error", FMT_TEXT, 0, "why it failed or was given up, else empty", NULL},
    {"result", FMT_MAP, 0,
     "what it found or did, if it told: an apply has the lists done, undone, not_undone, left",
     NULL},
    FIELD_END,
};
static const struct opt job_wait_opts[] = {
    {"timeout", OPT_UINT, OPT_CLIENT, .max = 1000000000,
     .help = "seconds to wait at most (default: without end)"},
    OPT_END,
};

const struct schema_noun schema_job = {
    "job",
    "long work in the background",
    (const struct schema_verb[]){
        {"list", "GET", "/v1/jobs", {{0}}, NULL, VERB_LIST, 0, job_fields, "list jobs"},
        {"show",
         "GET",
         "/v1/jobs/{id}",
         {ARG("id", "ID")},
         NULL,
         VERB_OBJECT,
         0,
         job_fields,
         "show a job"},
        {"wait",
         NULL,
         NULL,
         {ARG("id", "ID")},
         job_wait_opts,
         VERB_OBJECT,
         VERB_CLI_ONLY,
         job_fields,
         "wait until a job has ended; exit 7 when it failed"},
        {"cancel",
         "POST",
         "/v1/jobs/{id}/actions/cancel",
         {ARG("id", "ID")},
         NULL,
         VERB_OBJECT,
         VERB_IF_MATCH,
         job_fields,
         "ask a job to stop"},
        VERB_END,
    },
};

/* ---- events */
static const struct opt event_opts[] = {
    {"after", OPT_UINT, .help = "only events with a larger id"},
    {"follow", OPT_BOOL, OPT_CLIENT, .help = "go on and print events as they come"},
    OPT_END,
};
static const struct schema_field event_fields[] = {
    {"id", FMT_NUMBER, 0, "number; grows", NULL},
    {"time", FMT_TIME, FIELD_TABLE, "when", NULL},
    {"object", FMT_TEXT, FIELD_TABLE, "what it happened to", NULL},
    {"kind", FMT_TEXT, FIELD_TABLE, "kind of event", NULL},
    {"old_state", FMT_TEXT, 0, "state that the object had when it was last heard of, or empty",
     NULL},
    {"new_state", FMT_TEXT, FIELD_TABLE, "state that it has now, or empty", NULL},
    {"message", FMT_TEXT, FIELD_TABLE, "what happened, and why", NULL},
    FIELD_END,
};
const struct schema_noun schema_events = {
    "events",
    "what happened",
    (const struct schema_verb[]){
        {"", "GET", "/v1/events", {{0}}, event_opts, VERB_LIST, 0, event_fields, "list events"},
        VERB_END,
    },
};

/* ---- status, tree, config, debug, version */
static const struct opt status_opts[] = {
    {"check", OPT_BOOL, OPT_CLIENT, .help = "exit 1 when something is wrong"},
    OPT_END,
};
static const struct schema_field count_fields[] = {
    {"devices", FMT_NUMBER, FIELD_TABLE, "devices", NULL},
    {"arrays", FMT_NUMBER, FIELD_TABLE, "arrays", NULL},
    {"pools", FMT_NUMBER, FIELD_TABLE, "pools", NULL},
    {"volumes", FMT_NUMBER, FIELD_TABLE, "volumes", NULL},
    {"exports", FMT_NUMBER, FIELD_TABLE, "NBD exports", NULL},
    {"targets", FMT_NUMBER, FIELD_TABLE, "iSCSI targets", NULL},
    {"sessions", FMT_NUMBER, FIELD_TABLE, "sessions", NULL},
    FIELD_END,
};
static const struct schema_field status_fields[] = {
    {"state", FMT_TEXT, FIELD_TABLE, "starting, ready or stopping", NULL},
    {"version", FMT_TEXT, FIELD_TABLE, "version of the daemon", NULL},
    {"started", FMT_TIME, FIELD_TABLE, "when the daemon started", NULL},
    {"reactors", FMT_NUMBER, FIELD_TABLE, "I/O threads", NULL},
    {"state_dir", FMT_TEXT, 0, "state folder", NULL},
    {"state_generation", FMT_NUMBER, 0, "generation of the saved state", NULL},
    {"counts", FMT_MAP, 0, "how many there are of each", count_fields},
    {"problems", FMT_NAMES, FIELD_TABLE, "what is wrong, one sentence each", NULL},
    FIELD_END,
};
const struct schema_noun schema_status = {
    "status",
    "is the daemon well",
    (const struct schema_verb[]){
        {"",
         "GET",
         "/v1/system",
         {{0}},
         status_opts,
         VERB_OBJECT,
         0,
         status_fields,
         "show the daemon's state and what is wrong"},
        VERB_END,
    },
};

const struct schema_noun schema_tree = {
    "tree",
    "what stands on what",
    (const struct schema_verb[]){
        {"",
         NULL,
         NULL,
         {{0}},
         NULL,
         VERB_DONE,
         VERB_CLI_ONLY,
         NULL,
         "draw devices, arrays, pools, volumes and what serves them"},
        VERB_END,
    },
};

static const struct opt plan_opts[] = {
    {"config", OPT_JSON, OPT_REQUIRED,
     .help =
         "the document, as config show prints it; a section that it does not have is left alone"},
    {"detailed_exitcode", OPT_BOOL, OPT_CLIENT, .help = "exit 10 when something would be done"},
    OPT_END,
};
static const struct opt apply_opts[] = {
    {"config", OPT_JSON, OPT_REQUIRED,
     .help =
         "the document, as config show prints it; a section that it does not have is left alone"},
    OPT_YES("objects are deleted or replaced"),
    OPT_FORCE("a device carries a signature"),
    OPT_END,
};
static const struct schema_field differs_fields[] = {
    {"field", FMT_TEXT, FIELD_TABLE, "field", NULL},
    FIELD_END,
};
static const struct schema_field step_fields[] = {
    {"kind", FMT_TEXT, FIELD_TABLE, "kind of object", NULL},
    {"name", FMT_TEXT, FIELD_TABLE, "its name", NULL},
    {"path", FMT_TEXT, 0, "its path in the API", NULL},
    {"fields", FMT_MAP, 0, "as the document has it", NULL},
    {"differs", FMT_OBJECTS, 0, "what differs: field, have, want", differs_fields},
    {"loses", FMT_TEXT, 0, "data that would be lost, else empty", NULL},
    FIELD_END,
};
static const struct schema_field plan_fields[] = {
    {"create", FMT_OBJECTS, 0, "to be created, in this order", step_fields},
    {"change", FMT_OBJECTS, 0, "to be changed where they stand", step_fields},
    {"replace", FMT_OBJECTS, 0, "to be deleted and created anew", step_fields},
    {"delete", FMT_OBJECTS, 0, "to be deleted, in this order", step_fields},
    FIELD_END,
};

const struct schema_noun schema_config = {
    "config",
    "the configuration",
    (const struct schema_verb[]){
        {"show",
         "GET",
         "/v1/config",
         {{0}},
         NULL,
         VERB_OBJECT,
         0,
         NULL,
         "print the whole configuration as JSON"},
        {"plan",
         "POST",
         "/v1/config/actions/plan",
         {ARG("config", "FILE")},
         plan_opts,
         VERB_OBJECT,
         VERB_READ,
         plan_fields,
         "say what apply would do with this file (-: standard input), and do nothing"},
        {"apply",
         "POST",
         "/v1/config/actions/apply",
         {ARG("config", "FILE")},
         apply_opts,
         VERB_OBJECT,
         VERB_IF_MATCH | VERB_ADMIN | VERB_JOB | VERB_WAIT,
         plan_fields,
         "make the configuration be as this file says, as one job; undone when a step fails"},
        VERB_END,
    },
};

static const struct schema_field inflight_fields[] = {
    {"device", FMT_TEXT, FIELD_TABLE, "device", NULL},
    {"op", FMT_TEXT, FIELD_TABLE, "operation", NULL},
    {"offset", FMT_NUMBER, FIELD_TABLE, "offset in bytes", NULL},
    {"length", FMT_NUMBER, FIELD_TABLE, "length in bytes", NULL},
    {"age_us", FMT_NUMBER, FIELD_TABLE, "microseconds since it was submitted", NULL},
    {"reactor", FMT_NUMBER, FIELD_TABLE, "reactor it is on", NULL},
    {"where", FMT_TEXT, FIELD_TABLE, "which layer has it", NULL},
    FIELD_END,
};
const struct schema_noun schema_debug = {
    "debug",
    "looking inside",
    (const struct schema_verb[]){
        {"inflight",
         "GET",
         "/v1/system/inflight",
         {{0}},
         NULL,
         VERB_LIST,
         0,
         inflight_fields,
         "list every I/O that is under way"},
        VERB_END,
    },
};

const struct schema_noun schema_version = {
    "version",
    "versions",
    (const struct schema_verb[]){
        {"",
         NULL,
         NULL,
         {{0}},
         NULL,
         VERB_DONE,
         VERB_CLI_ONLY,
         NULL,
         "print the versions of orionctl and the daemon"},
        VERB_END,
    },
};
