/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/schema_private.h"

/* What orionctl puts together for people: nothing of it is REST's. */

static const struct opt top_opts[] = {
    {"interval", OPT_UINT, OPT_CLIENT, .min = 1, .max = 3600, .help = "seconds of a look (1)"},
    {"count", OPT_UINT, OPT_CLIENT, .max = 1000000,
     .help = "looks, 0 = without end (1 unless on a terminal)"},
    {"rows", OPT_UINT, OPT_CLIENT, .min = 1, .max = 10000, .help = "rows of each table (10)"},
    OPT_END,
};
const struct schema_noun schema_top = {
    "top",
    "who does how much, and where its time goes",
    (const struct schema_verb[]){
        {"",
         NULL,
         NULL,
         {{0}},
         top_opts,
         VERB_DONE,
         VERB_CLI_ONLY,
         NULL,
         "show the busiest exports with the stages of their requests, devices and clients"},
        VERB_END,
    },
};

const struct schema_noun schema_explain = {
    "explain",
    "why is it so, and what to do",
    (const struct schema_verb[]){
        {"",
         NULL,
         NULL,
         {ARG("name", "NAME")},
         NULL,
         VERB_DONE,
         VERB_CLI_ONLY,
         NULL,
         "tell why an object is in the state it is in, and what to do next"},
        VERB_END,
    },
};

const struct schema_noun schema_completion = {
    "completion",
    "completion for shells",
    (const struct schema_verb[]){
        {"",
         NULL,
         NULL,
         {ARG("shell", "bash|zsh")},
         NULL,
         VERB_DONE,
         VERB_CLI_ONLY,
         NULL,
         "print the completion script of a shell"},
        VERB_END,
    },
};

const struct schema_noun schema_support = {
    "support-bundle",
    "facts for whoever helps",
    (const struct schema_verb[]){
        {"",
         NULL,
         NULL,
         {ARG_OPT("file", "FILE")},
         NULL,
         VERB_DONE,
         VERB_CLI_ONLY,
         NULL,
         "write configuration, states, events, jobs and metrics to a file (-: standard output), "
         "without secrets"},
        VERB_END,
    },
};
