/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A whole handshake: whatever comes, and in whatever pieces, it is answered within bounds. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "targets/nbd/nbd_handshake.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint32_t find(void *arg, const char *name, size_t len, struct nbd_view *view_r,
                     char why[160])
{
    (void)arg;
    if (len && (len != 1 || memcmp(name, "d", 1))) {
        snprintf(why, 160, "no such export");
        return NBD_REP_ERR_UNKNOWN;
    }
    *view_r = (struct nbd_view){.name = "d", .description = "text", .limits = {.size = 4096}};
    return 0;
}

static void list(void *arg, void (*each)(const char *name, const char *description, void *ctx),
                 void *ctx)
{
    (void)arg;
    each("d", "text", ctx);
}

/* Feeds `size` bytes, `piece` at a time; returns the last verdict and what was said. */
static enum nbd_verdict talk(const uint8_t *data, size_t size, size_t piece, struct nbd_out *out)
{
    static const struct nbd_handshake_ops ops = {.find = find, .list = list};
    struct nbd_handshake h;
    nbd_handshake_begin(&h, &ops, NULL, NBD_TLS_ALLOWED, out);
    enum nbd_verdict v = NBD_HANDSHAKE_NEED;
    size_t pos = 0;
    for (size_t have = 0; v == NBD_HANDSHAKE_NEED && have < size;) {
        have = size - have < piece ? size : have + piece;
        struct rd in = rd_make(data + pos, have - pos);
        do {
            size_t before = in.pos;
            v = nbd_handshake_step(&h, &in, out);
            assert(v == NBD_HANDSHAKE_NEED ? in.pos == before : rd_ok(&in));
        } while (v == NBD_HANDSHAKE_TAKEN);
        pos += in.pos;
        assert(v != NBD_HANDSHAKE_NEED || have - pos < NBD_HANDSHAKE_INPUT);
    }
    return v;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct nbd_out whole = {0}, pieces = {0};
    enum nbd_verdict a = talk(data, size, size ? size : 1, &whole);
    enum nbd_verdict b = talk(data, size, 7, &pieces);
    assert(a == b);
    assert(whole.len == pieces.len && !memcmp(whole.p, pieces.p, whole.len));
    nbd_out_free(&whole);
    nbd_out_free(&pieces);
    return 0;
}
