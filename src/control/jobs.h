/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_CONTROL_JOBS_H
#define ORION_CONTROL_JOBS_H

#include "control/private.h"

/* Jobs as the API shows them, and their outcomes over a restart: "job/ID" in the state. */
void jobs_init(void);    /* after the state is loaded */
void jobs_started(void); /* what ran when the daemon died and did not begin again was cut off */
void jobs_settle(void);  /* T: outcomes that are on their way to the disk are there */
void jobs_fini(void);

/* Anything that the job wants to tell with its outcome; the reference is taken over. Main's; before
 * the job ends. */
void job_result_set(uint64_t id, struct json_object *result);
/* Its state's name; "" when there is no such job. */
const char *job_state_now(const char *id);
/* Waits until the job is listed and saved; its object is the caller's. T. */
struct json_object *job_json(uint64_t id);

#endif
