/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "targets/nbd/nbd_handshake.h"

#include <string.h>

#include "base/mem.h"

static struct wr out_room(struct nbd_out *out, size_t len)
{
    if (out->cap - out->len < len) {
        out->cap = (out->len + len) * 2;
        out->p = xrealloc(out->p, out->cap);
    }
    struct wr w = wr_make(out->p + out->len, len);
    out->len += len;
    return w;
}

void nbd_out_free(struct nbd_out *out)
{
    free(out->p);
    *out = (struct nbd_out){0};
}

/* The head of an option reply; the cursor returned has room for its `len` bytes of data. */
static struct wr reply(struct nbd_out *out, uint32_t option, uint32_t type, size_t len)
{
    struct wr w = out_room(out, NBD_OPTION_REPLY_SIZE + len);
    wr_be64(&w, NBD_OPTION_REPLY_MAGIC);
    wr_be32(&w, option);
    wr_be32(&w, type);
    wr_be32(&w, len);
    return w;
}

static void reply_text(struct nbd_out *out, uint32_t option, uint32_t type, const char *text)
{
    struct wr w = reply(out, option, type, strlen(text));
    wr_copy(&w, text, strlen(text));
}

void nbd_handshake_begin(struct nbd_handshake *h, const struct nbd_handshake_ops *ops, void *arg,
                         enum nbd_tls_mode tls_mode, struct nbd_out *out)
{
    *h = (struct nbd_handshake){.ops = ops, .arg = arg, .tls_mode = tls_mode};
    struct wr w = out_room(out, NBD_HELLO_SIZE);
    wr_be64(&w, NBD_MAGIC);
    wr_be64(&w, NBD_OPTION_MAGIC);
    wr_be16(&w, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
}

bool nbd_handshake_offers_tls(const struct nbd_handshake *h)
{
    /* "The server MUST operate in NOTLS mode unless ... the client replied with
     * NBD_FLAG_C_FIXED_NEWSTYLE" */
    return h->tls_mode != NBD_TLS_OFF && !h->tls && h->fixed;
}

void nbd_handshake_encrypted(struct nbd_handshake *h)
{
    h->tls = true;
    h->mode = NBD_MODE_SIMPLE;
    h->meta_set = false;
}

/* Finds an export, and says of it what holds for this client. */
static uint32_t find(struct nbd_handshake *h, const char *name, size_t len, char why[160])
{
    uint32_t error = h->ops->find(h->arg, name, len, &h->chosen, why);
    if (error)
        return error;
    struct nbd_limits *l = &h->chosen.limits;
    l->mode = (uint8_t)h->mode;
    if (h->mode >= NBD_MODE_STRUCTURED)
        l->flags |= NBD_FLAG_SEND_DF;
    /* Contexts hold for the export they were set for, under the name it had there. */
    l->allocation =
        h->meta_set && h->meta_name_len == len && (!len || !memcmp(h->meta_name, name, len));
    if (h->mode >= NBD_MODE_EXTENDED && l->allocation)
        l->flags |= NBD_FLAG_BLOCK_STATUS_PAYLOAD;
    return 0;
}

/* EXPORT_NAME has no way to say no but to close. */
static enum nbd_verdict do_export_name(struct nbd_handshake *h, struct rd *data, uint32_t option,
                                       struct nbd_out *out)
{
    (void)option;
    char why[160];
    size_t len = rd_left(data);
    const char *name = (const char *)rd_bytes(data, len);
    if (len > NBD_STRING_MAX || h->mode == NBD_MODE_EXTENDED || find(h, name, len, why))
        return NBD_HANDSHAKE_CLOSE;
    size_t zeroes = h->no_zeroes ? 0 : 124;
    struct wr w = out_room(out, 10 + zeroes);
    wr_be64(&w, h->chosen.limits.size);
    wr_be16(&w, h->chosen.limits.flags);
    wr_zero(&w, zeroes);
    return NBD_HANDSHAKE_GO;
}

static enum nbd_verdict do_abort(struct nbd_handshake *h, struct rd *data, uint32_t option,
                                 struct nbd_out *out)
{
    (void)h;
    (void)data;
    reply(out, option, NBD_REP_ACK, 0);
    return NBD_HANDSHAKE_CLOSE;
}

static void list_one(const char *name, const char *description, void *ctx)
{
    size_t name_len = strlen(name), len = 4 + name_len + strlen(description);
    struct wr w = reply(ctx, NBD_OPT_LIST, NBD_REP_SERVER, len);
    wr_be32(&w, name_len);
    wr_copy(&w, name, name_len);
    wr_copy(&w, description, strlen(description));
}

static enum nbd_verdict do_list(struct nbd_handshake *h, struct rd *data, uint32_t option,
                                struct nbd_out *out)
{
    if (rd_left(data)) {
        reply_text(out, option, NBD_REP_ERR_INVALID, "LIST takes no data");
        return NBD_HANDSHAKE_TAKEN;
    }
    h->ops->list(h->arg, list_one, out);
    reply(out, option, NBD_REP_ACK, 0);
    return NBD_HANDSHAKE_TAKEN;
}

static void info_text(struct nbd_out *out, uint32_t option, enum nbd_info_type type,
                      const char *text)
{
    struct wr w = reply(out, option, NBD_REP_INFO, 2 + strlen(text));
    wr_be16(&w, type);
    wr_copy(&w, text, strlen(text));
}

static void info_items(struct nbd_out *out, uint32_t option, const struct nbd_view *v,
                       uint32_t wanted)
{
    struct wr w = reply(out, option, NBD_REP_INFO, 12);
    wr_be16(&w, NBD_INFO_EXPORT);
    wr_be64(&w, v->limits.size);
    wr_be16(&w, v->limits.flags);
    if (wanted & 1u << NBD_INFO_NAME)
        info_text(out, option, NBD_INFO_NAME, v->name);
    if (wanted & 1u << NBD_INFO_DESCRIPTION && v->description[0])
        info_text(out, option, NBD_INFO_DESCRIPTION, v->description);
    if (wanted & 1u << NBD_INFO_BLOCK_SIZE) {
        w = reply(out, option, NBD_REP_INFO, 14);
        wr_be16(&w, NBD_INFO_BLOCK_SIZE);
        wr_be32(&w, v->min_block);
        wr_be32(&w, v->preferred_block);
        wr_be32(&w, v->limits.max_payload);
    }
}

static enum nbd_verdict do_info(struct nbd_handshake *h, struct rd *data, uint32_t option,
                                struct nbd_out *out)
{
    struct nbd_info_request request;
    if (!nbd_parse_info_request(data, &request)) {
        reply_text(out, option, NBD_REP_ERR_INVALID,
                   "expected the length of the name, the name, a count and that many items");
        return NBD_HANDSHAKE_TAKEN;
    }
    char why[160] = "";
    uint32_t error = find(h, request.name, request.name_len, why);
    if (error) {
        reply_text(out, option, error, why);
        return NBD_HANDSHAKE_TAKEN;
    }
    info_items(out, option, &h->chosen, request.wanted);
    reply(out, option, NBD_REP_ACK, 0);
    return option == NBD_OPT_GO ? NBD_HANDSHAKE_GO : NBD_HANDSHAKE_TAKEN;
}

/* Answers an option that takes no data but was sent some; false: there is none. */
static bool refuse_data(struct rd *data, uint32_t option, struct nbd_out *out)
{
    if (!rd_left(data))
        return false;
    reply_text(out, option, NBD_REP_ERR_INVALID, "this option takes no data");
    return true;
}

static enum nbd_verdict do_starttls(struct nbd_handshake *h, struct rd *data, uint32_t option,
                                    struct nbd_out *out)
{
    if (refuse_data(data, option, out))
        return NBD_HANDSHAKE_TAKEN;
    if (h->tls || !nbd_handshake_offers_tls(h)) {
        reply_text(out, option, h->tls ? NBD_REP_ERR_INVALID : NBD_REP_ERR_POLICY,
                   h->tls                       ? "TLS is spoken already"
                   : h->tls_mode == NBD_TLS_OFF ? "TLS is off here"
                                                : "TLS needs fixed newstyle");
        return NBD_HANDSHAKE_TAKEN;
    }
    reply(out, option, NBD_REP_ACK, 0);
    return NBD_HANDSHAKE_TLS;
}

/* A mode is entered once, and left no more but by STARTTLS. */
static void enter(struct nbd_handshake *h, enum nbd_mode mode, uint32_t option, struct nbd_out *out)
{
    if (h->mode == NBD_MODE_EXTENDED && mode < h->mode) {
        reply_text(out, option, NBD_REP_ERR_EXT_HEADER_REQD,
                   "extended headers were negotiated already");
        return;
    }
    if (h->mode == mode) {
        reply_text(out, option, NBD_REP_ERR_INVALID, "this was negotiated already");
        return;
    }
    h->mode = mode;
    reply(out, option, NBD_REP_ACK, 0);
}

static enum nbd_verdict do_structured(struct nbd_handshake *h, struct rd *data, uint32_t option,
                                      struct nbd_out *out)
{
    if (!refuse_data(data, option, out))
        enter(h, NBD_MODE_STRUCTURED, option, out);
    return NBD_HANDSHAKE_TAKEN;
}

static enum nbd_verdict do_extended(struct nbd_handshake *h, struct rd *data, uint32_t option,
                                    struct nbd_out *out)
{
    if (!refuse_data(data, option, out))
        enter(h, NBD_MODE_EXTENDED, option, out);
    return NBD_HANDSHAKE_TAKEN;
}

static void reply_context(struct nbd_out *out, uint32_t option, uint32_t id)
{
    struct wr w = reply(out, option, NBD_REP_META_CONTEXT, 4 + strlen(NBD_CONTEXT_ALLOCATION));
    wr_be32(&w, id);
    wr_copy(&w, NBD_CONTEXT_ALLOCATION, strlen(NBD_CONTEXT_ALLOCATION));
}

static void set_context(struct nbd_handshake *h, const struct nbd_meta_request *q, uint32_t option,
                        struct nbd_out *out)
{
    if (!q->allocation)
        return;
    /* A longer name than this no export has, so find() has refused it. */
    h->meta_set = true;
    h->meta_name_len = q->name_len;
    memcpy(h->meta_name, q->name, q->name_len);
    reply_context(out, option, NBD_CONTEXT_ALLOCATION_ID);
}

/* LIST_META_CONTEXT and SET_META_CONTEXT; the latter forgets what was set before, whatever comes.
 */
static enum nbd_verdict do_meta(struct nbd_handshake *h, struct rd *data, uint32_t option,
                                struct nbd_out *out)
{
    struct nbd_meta_request q;
    bool set = option == NBD_OPT_SET_META_CONTEXT;
    if (set)
        h->meta_set = false;
    if (h->mode < NBD_MODE_STRUCTURED) {
        reply_text(out, option, NBD_REP_ERR_INVALID, "negotiate structured replies first");
        return NBD_HANDSHAKE_TAKEN;
    }
    if (!nbd_parse_meta_request(data, &q)) {
        reply_text(out, option, NBD_REP_ERR_INVALID,
                   "expected the length of the name, the name, a count and that many queries, "
                   "each a length and NAMESPACE:LEAF");
        return NBD_HANDSHAKE_TAKEN;
    }
    char why[160] = "";
    uint32_t error = find(h, q.name, q.name_len, why);
    if (error == NBD_REP_ERR_TLS_REQD)
        error = NBD_REP_ERR_POLICY; /* "SELECTIVETLS mode": for INFO and GO only */
    if (error || q.name_len > sizeof h->meta_name) {
        reply_text(out, option, error ? error : NBD_REP_ERR_UNKNOWN, why);
        return NBD_HANDSHAKE_TAKEN;
    }
    if (set)
        set_context(h, &q, option, out);
    else if (!q.count || q.all || q.allocation)
        reply_context(out, option, 0);
    reply(out, option, NBD_REP_ACK, 0);
    return NBD_HANDSHAKE_TAKEN;
}

static const struct {
    uint32_t option;
    enum nbd_verdict (*run)(struct nbd_handshake *h, struct rd *data, uint32_t option,
                            struct nbd_out *out);
} options[] = {
    {NBD_OPT_EXPORT_NAME, do_export_name},
    {NBD_OPT_ABORT, do_abort},
    {NBD_OPT_LIST, do_list},
    {NBD_OPT_STARTTLS, do_starttls},
    {NBD_OPT_INFO, do_info},
    {NBD_OPT_GO, do_info},
    {NBD_OPT_STRUCTURED_REPLY, do_structured},
    {NBD_OPT_LIST_META_CONTEXT, do_meta},
    {NBD_OPT_SET_META_CONTEXT, do_meta},
    {NBD_OPT_EXTENDED_HEADERS, do_extended},
};

/* "FORCEDTLS mode": nothing but STARTTLS and ABORT before TLS, unknown options included. */
static bool needs_tls(const struct nbd_handshake *h, uint32_t option)
{
    return h->tls_mode == NBD_TLS_REQUIRED && !h->tls && option != NBD_OPT_STARTTLS &&
           option != NBD_OPT_ABORT;
}

static bool refuse_clear(const struct nbd_handshake *h, uint32_t option, struct nbd_out *out)
{
    if (!needs_tls(h, option))
        return false;
    /* Who has not said that it knows fixed newstyle must not be asked for TLS. */
    reply_text(out, option, h->fixed ? NBD_REP_ERR_TLS_REQD : NBD_REP_ERR_POLICY,
               "TLS is required here");
    return true;
}

/* "If the server is in the process of being shut down it ... SHOULD error further options received
 * (other than an NBD_OPT_ABORT) with NBD_REP_ERR_SHUTDOWN." */
static bool refuse_late(const struct nbd_handshake *h, uint32_t option, struct nbd_out *out)
{
    if (!h->shutting_down || option == NBD_OPT_ABORT)
        return false;
    reply_text(out, option, NBD_REP_ERR_SHUTDOWN, "the server is shutting down");
    return true;
}

static enum nbd_verdict run_option(struct nbd_handshake *h, struct rd *data, uint32_t option,
                                   struct nbd_out *out)
{
    if (option == NBD_OPT_EXPORT_NAME && (h->shutting_down || needs_tls(h, option)))
        return NBD_HANDSHAKE_CLOSE;
    if (refuse_late(h, option, out) || refuse_clear(h, option, out))
        return NBD_HANDSHAKE_TAKEN;
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        if (options[i].option == option)
            return options[i].run(h, data, option, out);
    }
    reply(out, option, NBD_REP_ERR_UNSUP, 0);
    return NBD_HANDSHAKE_TAKEN;
}

static enum nbd_verdict take_flags(struct nbd_handshake *h, struct rd *in)
{
    if (rd_left(in) < 4)
        return NBD_HANDSHAKE_NEED;
    uint32_t flags = rd_be32(in);
    h->flags_seen = true;
    h->fixed = flags & NBD_FLAG_FIXED_NEWSTYLE;
    h->no_zeroes = flags & NBD_FLAG_NO_ZEROES;
    /* "the server MUST drop the TCP connection if the client sets an unknown flag" */
    return flags & ~(uint32_t)(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES) ? NBD_HANDSHAKE_CLOSE
                                                                             : NBD_HANDSHAKE_TAKEN;
}

/* The end of an option whose data was too long to keep. */
static enum nbd_verdict too_long(struct nbd_handshake *h, struct nbd_out *out)
{
    bool known = false;
    if (h->option == NBD_OPT_ABORT)
        return do_abort(h, NULL, h->option, out);
    if (h->option == NBD_OPT_SET_META_CONTEXT)
        h->meta_set = false; /* "including when this command fails" */
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        known |= options[i].option == h->option;
    if (refuse_late(h, h->option, out) || refuse_clear(h, h->option, out))
        return NBD_HANDSHAKE_TAKEN;
    if (known)
        reply_text(out, h->option, NBD_REP_ERR_TOO_BIG, "the data of this option is too long");
    else
        reply(out, h->option, NBD_REP_ERR_UNSUP, 0);
    return NBD_HANDSHAKE_TAKEN;
}

static enum nbd_verdict skip_data(struct nbd_handshake *h, struct rd *in, struct nbd_out *out)
{
    uint32_t n = rd_left(in) < h->skip ? (uint32_t)rd_left(in) : h->skip;
    if (!n)
        return NBD_HANDSHAKE_NEED;
    rd_skip(in, n);
    h->skip -= n;
    return h->skip ? NBD_HANDSHAKE_TAKEN : too_long(h, out);
}

enum nbd_verdict nbd_handshake_step(struct nbd_handshake *h, struct rd *in, struct nbd_out *out)
{
    if (!h->flags_seen)
        return take_flags(h, in);
    if (h->skip)
        return skip_data(h, in, out);
    struct rd r = *in;
    struct nbd_option_header header;
    if (rd_left(&r) < NBD_OPTION_HEADER_SIZE)
        return NBD_HANDSHAKE_NEED;
    if (!nbd_parse_option_header(&r, &header))
        return NBD_HANDSHAKE_CLOSE; /* not in step any more: nothing can be told from here on */
    if (header.length > NBD_OPTION_DATA_MAX) {
        *in = r;
        h->skip = header.length;
        h->option = header.option;
        return header.option == NBD_OPT_EXPORT_NAME ? NBD_HANDSHAKE_CLOSE : NBD_HANDSHAKE_TAKEN;
    }
    if (rd_left(&r) < header.length)
        return NBD_HANDSHAKE_NEED;
    struct rd data = rd_make(rd_bytes(&r, header.length), header.length);
    *in = r;
    return run_option(h, &data, header.option, out);
}
