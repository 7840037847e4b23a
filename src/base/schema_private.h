/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_BASE_SCHEMA_PRIVATE_H
#define ORION_BASE_SCHEMA_PRIVATE_H

#include "base/schema.h"

/* What the tables of the nouns share. */
#define OPT_END      \
    {                \
        .name = NULL \
    }
#define OPT_YES(what)                                          \
    {                                                          \
        "yes", OPT_BOOL, OPT_CONSENT, .help = "consent: " what \
    }
#define OPT_FORCE(what)                                                            \
    {                                                                              \
        "force", OPT_BOOL, OPT_CONSENT, .help = "override a safety refusal: " what \
    }
#define OPT_DISCONNECT                                                                      \
    {                                                                                       \
        "disconnect", OPT_BOOL, OPT_CONSENT, .help = "close the sessions that use it first" \
    }

#define ARG(f, s)             \
    {                         \
        .field = f, .show = s \
    }
#define ARG_OPT(f, s)                                \
    {                                                \
        .field = f, .show = s, .flags = ARG_OPTIONAL \
    }
#define ARG_POOL_VOLUME                                             \
    {                                                               \
        .field = "name", .show = "POOL/VOLUME", .flags = ARG_VOLUME \
    }

#define FIELD_CHANGED                                                  \
    {                                                                  \
        "changed", FMT_BOOL, 0, "false when it stood so already", NULL \
    }
#define FIELD_END   \
    {               \
        .key = NULL \
    }
#define VERB_END     \
    {                \
        .name = NULL \
    }

extern const struct schema_noun schema_device, schema_array, schema_pool, schema_volume, schema_nbd,
    schema_iscsi, schema_session, schema_job, schema_events, schema_status, schema_tree,
    schema_config, schema_debug, schema_version, schema_token, schema_audit, schema_log;

/* schema_tools.c */
extern const struct schema_noun schema_top, schema_explain, schema_completion, schema_support;

#endif
