/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_TESTS_ISCSI_CLIENT_H
#define ORION_TESTS_ISCSI_CLIENT_H

#include "harness.h"

#include "drivers/devices.h"
#include "drivers/fault/fault.h"
#include "targets/iscsi/iscsi.h"
#include "targets/iscsi/pdu.h"

/*
 * A target in the test's process and a blocking initiator for it. The initiator runs on a helper
 * thread, so that main can serve it: initiator(fn). Those marked T run in the test's task.
 */
#define IQN "iqn.2026-11.test:unit"
extern char portal[80]; /* unix:/tmp/.../s */

void target_begin(void);  /* T: iscsi_init, a portal, target IQN with LUN 0 on fault device "f" */
void target_end(void);    /* T: iscsi_shutdown, devices gone */
struct bdev *fault(void); /* "f", over mem device "m" of 4 MiB */
void initiator(reactor_fn fn, void *arg); /* T */
unsigned session_count(void);             /* T */
void wait_sessions(unsigned n);           /* T */
void wait_held(unsigned n);               /* T: so many requests sit in the fault device */

/* ---- on the helper thread */
struct reply {
    struct iscsi_pdu pdu;
    uint8_t data[9000];
};
int dial(void);
/* Any pdu with data; fills data_len. */
void put(int fd, struct iscsi_pdu *pdu, const void *data, size_t len);
bool get(int fd, struct reply *r); /* false: closed */
/* The two login requests. `more` (may be NULL) is sent in one go with the second. */
int log_in(const char *iqn, uint8_t isid, const void *more, size_t len);
extern uint16_t tsih; /* of the last log_in */
/* Asks to take the place of that connection; the response is to come. */
int join(const char *iqn, uint8_t isid);
uint16_t login_status(const char *iqn, const char *initiator_name);
/* A command without data-out in 48 bytes. */
void command(struct iscsi_pdu *pdu, uint32_t itt, uint32_t cmdsn, const uint8_t cdb[16],
             uint32_t expected);
void read10(struct iscsi_pdu *pdu, uint32_t itt, uint32_t cmdsn, uint32_t lba, uint16_t blocks);
/* Takes the unit attentions of LUN 0 with TEST UNIT READY, from CmdSN 1; returns the next CmdSN. */
uint32_t ready(int fd);

#endif
