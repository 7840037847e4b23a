/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_BLOCK_GATE_H
#define ORION_BLOCK_GATE_H

#include <stdbool.h>
#include <stdint.h>

#include "block/bdev.h"

/*
 * The reservation gate of a device: one table for all protocols that serve it. A nexus (initiator
 * port and target port of iSCSI, an NBD connection, ...) is an opaque id; 0 is "internal", which
 * the gate never stops. Ids come from gate_nexus(): equal names have equal ids as long as somebody
 * refers to them (a session, a registration, a reservation), and no id is given twice. Only names
 * are kept on disk.
 *
 * Bios that come through a CLAIM_SHARED_WRITE desc, or one that says it is gated (readers of a
 * device that is read-only), are checked against a per-reactor read-only copy and end in -EBADE on
 * conflict (SPC-4 5.12, table "allowed commands"). NBD connections are never registered.
 */
enum gate_type { /* values of PERSISTENT RESERVE's TYPE field, SPC-4 6.15.3 */
                 GATE_NONE = 0,
                 GATE_WRITE_EXCLUSIVE = 1,
                 GATE_EXCLUSIVE_ACCESS = 3,
                 GATE_WRITE_EXCLUSIVE_REGISTRANTS = 5,
                 GATE_EXCLUSIVE_ACCESS_REGISTRANTS = 6,
                 GATE_WRITE_EXCLUSIVE_ALL = 7,
                 GATE_EXCLUSIVE_ACCESS_ALL = 8,
                 GATE_RESERVE6 =
                     0x100, /* no TYPE: RESERVE(6) of SPC-2, the holder and nobody else */
};

struct gate_registrant {
    uint64_t nexus;
    uint64_t key;
    bool all_tg_pt;
};

struct gate_state {
    enum gate_type type;
    uint64_t holder; /* nexus; with *_ALL types every registrant holds */
    uint32_t generation;
    bool durable; /* its owner keeps it through a loss of power; of no meaning to the gate */
    bool closed;  /* nobody but "internal" gets through, whatever the reservation: the device is
                   * being sanitized, or its reservations cannot be read */
    unsigned count;
    struct gate_registrant *reg; /* sorted by nexus */
};

/* Questions to a state. A reservation is held by one nexus, or by every registrant. */
bool gate_is_registered(const struct gate_state *s, uint64_t nexus);
bool gate_every_registrant_holds(const struct gate_state *s);
bool gate_is_held_by(const struct gate_state *s, uint64_t nexus);

/* Any reactor. A reference, never 0; put takes it back (0: nothing). States that are published have
 * references of their own. */
uint64_t gate_nexus(const char *name);
void gate_nexus_put(uint64_t nexus);
bool gate_nexus_name(uint64_t nexus, char *out, size_t size);

/* Would the op be let through now? Any reactor. The second looks at the reservation only. */
bool gate_allows(struct bdev *bdev, uint64_t nexus, bool is_write);
bool gate_reservation_allows(struct bdev *bdev, uint64_t nexus, bool is_write);
enum gate_type gate_type(struct bdev *bdev); /* any reactor */
/* A copy of the present state (reg is malloc'ed, caller frees; it refers to nobody: who is in it
 * may have lost his name when it is asked for). Any reactor. */
void gate_get(struct bdev *bdev, struct gate_state *state_r);

/*
 * In a task, on any reactor. Changes are serialised a device: `change` gets a private copy to edit
 * and returns 0 or an error to give up; then `persist` (may be NULL; may block the task) makes the
 * new state durable; then the state is published to all reactors, bios that conflict with it are
 * waited for, and gate_change returns 0. Nothing is published when either fails. The caller refers
 * to whom `change` puts in.
 */
typedef int (*gate_change_fn)(struct gate_state *state, void *arg);
int gate_change(struct bdev *bdev, gate_change_fn change, gate_change_fn persist, void *arg);

/*
 * What is in force before anybody can open a device: at each registration fn is asked for the
 * device's state (reg is malloc'ed and handed over, with a reference to each registrant); false:
 * there is none. On main, in a task or not. NULL: nobody is asked. Main.
 */
typedef bool (*gate_saved_fn)(const struct uuid *device, struct gate_state *state_r);
void gate_set_saved(gate_saved_fn fn);
/* What is not handed over in the end: frees reg, and takes the references back. */
void gate_state_put(struct gate_state *state);

#endif
