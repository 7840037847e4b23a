/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_TARGETS_NBD_H
#define ORION_TARGETS_NBD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "targets/linger.h"
#include "targets/target.h"

/* The NBD server, for control. Called on main; those marked T in a task. */

struct nbd_export_args {
    const char *name; /* export name as clients ask for it, 1..255 bytes */
    const char
        *device; /* block device name; it may be absent (then GO is refused with the reason) */
    const char *description; /* or NULL */
    bool read_only;
    bool is_default;  /* answers the empty name */
    bool open_access; /* serve it on non-loopback addresses without access rules (--open) */
    /* Access rules, or none: ADDRESS, ADDRESS/PREFIX, tls:NAME, tls:* or unix. With rules, only who
     * matches one is served, on whatever address. */
    const char *const *allow;
    unsigned allow_count;
};
struct nbd_export_info {
    char name[256];
    char device[66];
    char description[256];
    bool read_only, is_default, open_access;
    bool ready;    /* the device is there, open, and has not failed */
    bool failed;   /* it is there, and has: clients get in, and errors for what is lost */
    char why[160]; /* why not */
    uint64_t size; /* last known */
    unsigned connections;
};

int nbd_init(struct err *e);
void nbd_shutdown(void); /* T: stop listening, finish requests, close connections */

struct nbd_listen_args {
    const char *addr; /* contract ADDR; default port 10809 */
    const char *tls;  /* "off", "allowed" or "required"; NULL: off */
    const char *tls_cert, *tls_key, *tls_ca, *tls_psk_file; /* as in net/tls.h, or NULL */
    const char *mode, *group; /* of a unix socket, as in net/net.h, or NULL */
};
int nbd_listen(const struct nbd_listen_args *args, struct err *e); /* T */
int nbd_unlisten(const char *addr, struct err *e);                 /* T */
void nbd_listener_for_each(void (*fn)(const char *addr, const char *bound, void *arg), void *arg);

int nbd_export_add(const struct nbd_export_args *args, struct err *e); /* T */
/* Other settings of the same device. Sessions go on, but for those that the new rules forbid: these
 * are drained and closed. Only read_only wants no session at all. T */
int nbd_export_set(const struct nbd_export_args *args, struct err *e);
/* ERR_IN_USE naming the sessions, unless disconnect: then they are drained and closed. T
 * What its device has not answered in 11 s is not waited for: the export is gone for everybody,
 * `left_r` tells what is in use until then. */
int nbd_export_remove(const char *name, bool disconnect, struct target_left *left_r, struct err *e);
bool nbd_export_get(const char *name, struct nbd_export_info *info_r);
void nbd_export_for_each(void (*fn)(const struct nbd_export_info *info, void *arg), void *arg);

#endif
