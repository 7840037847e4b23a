/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_TARGETS_NBD_HANDSHAKE_H
#define ORION_TARGETS_NBD_HANDSHAKE_H

#include "targets/nbd/nbd_wire.h"

/*
 * The option haggling of fixed newstyle as a state machine without I/O: bytes in, bytes out, and a
 * verdict. Whoever owns the socket feeds it (nbd_hello.c); tests and fuzzers feed it from memory.
 */

/* Bytes for the client; grows as needed, freed by nbd_out_free. */
struct nbd_out {
    uint8_t *p;
    size_t len, cap;
};
void nbd_out_free(struct nbd_out *out);

/* An export as a client sees it at this moment. */
struct nbd_view {
    const char *name;
    const char *description; /* "" for none */
    struct nbd_limits limits;
    uint32_t min_block, preferred_block; /* powers of two */
    void *export;                        /* the finder's, for nbd_handshake.chosen */
};

struct nbd_handshake_ops {
    /* Fills *view_r and returns 0, or returns an NBD_REP_ERR_* with the reason in why. The empty
     * name asks for the default export. The view lasts until the next call of nbd_handshake_step.
     */
    uint32_t (*find)(void *arg, const char *name, size_t len, struct nbd_view *view_r,
                     char why[160]);
    /* Calls each for every export that this client may see. */
    void (*list)(void *arg, void (*each)(const char *name, const char *description, void *ctx),
                 void *ctx);
};

enum {
    NBD_OPTION_DATA_MAX = 8192, /* longer option data is skipped and answered ERR_TOO_BIG */
    NBD_HANDSHAKE_INPUT = NBD_OPTION_HEADER_SIZE + NBD_OPTION_DATA_MAX /* room that input needs */
};

/* "TLS support": NOTLS, SELECTIVETLS (no export demands it), FORCEDTLS */
enum nbd_tls_mode { NBD_TLS_OFF, NBD_TLS_ALLOWED, NBD_TLS_REQUIRED };

struct nbd_handshake {
    const struct nbd_handshake_ops *ops;
    void *arg;
    enum nbd_tls_mode tls_mode;
    bool tls;           /* it speaks TLS already */
    bool shutting_down; /* the owner says so: all but ABORT is answered ERR_SHUTDOWN from here on */
    bool flags_seen, fixed, no_zeroes;
    enum nbd_mode mode;
    bool meta_set; /* base:allocation is set for the export named: */
    uint32_t meta_name_len;
    char meta_name[256];
    uint32_t skip;          /* bytes of too long data still to come */
    uint32_t option;        /* whose data that is */
    struct nbd_view chosen; /* after NBD_HANDSHAKE_GO */
};

enum nbd_verdict {
    NBD_HANDSHAKE_NEED,  /* nothing taken: more bytes are needed */
    NBD_HANDSHAKE_TAKEN, /* one message was taken and answered: step again */
    NBD_HANDSHAKE_TLS,   /* TLS begins after the output is sent; bytes left over were not encrypted
                            and must not be believed. Then nbd_handshake_encrypted(). */
    NBD_HANDSHAKE_GO,    /* transmission begins after the output is sent; the rest is requests */
    NBD_HANDSHAKE_CLOSE, /* send the output, then close */
};

/* Writes the server's greeting. */
void nbd_handshake_begin(struct nbd_handshake *h, const struct nbd_handshake_ops *ops, void *arg,
                         enum nbd_tls_mode tls_mode, struct nbd_out *out);
/* TLS is not spoken yet, and the client may begin it. */
bool nbd_handshake_offers_tls(const struct nbd_handshake *h);
/* From here on all goes through TLS; what was negotiated before is forgotten. */
void nbd_handshake_encrypted(struct nbd_handshake *h);
/* Takes at most one message from `in` (its position moves past what was taken). */
enum nbd_verdict nbd_handshake_step(struct nbd_handshake *h, struct rd *in, struct nbd_out *out);

#endif
