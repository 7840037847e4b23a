/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <json-c/json.h>

#include "api/http.h"
#include "base/mem.h"
#include "base/schema.h"
#include "control/control.h"

/* The OpenAPI 3.1 document, made of the tables of base/schema.h. */

static void set(struct json_object *o, const char *key, const char *text)
{
    json_object_object_add(o, key, json_object_new_string(text));
}

static struct json_object *child(struct json_object *o, const char *key)
{
    struct json_object *c = NULL;
    if (json_object_object_get_ex(o, key, &c))
        return c;
    c = json_object_new_object();
    json_object_object_add(o, key, c);
    return c;
}

static struct json_object *typed(const char *type)
{
    struct json_object *o = json_object_new_object();
    set(o, "type", type);
    return o;
}

static struct json_object *reference(const char *name)
{
    struct json_object *o = json_object_new_object();
    autofree char *ref = xasprintf("#/components/%s", name);
    set(o, "$ref", ref);
    return o;
}

/* ---- fields of a request */

static void add_choices(struct json_object *o, const char *choices)
{
    struct json_object *list = json_object_new_array();
    autofree char *copy = xstrdup(choices);
    char *rest = copy, *one;
    while ((one = strsep(&rest, "|")))
        json_object_array_add(list, json_object_new_string(one));
    json_object_object_add(o, "enum", list);
}

static void add_range(struct json_object *o, const struct opt *opt)
{
    if (opt->min)
        json_object_object_add(o, "minimum", json_object_new_uint64(opt->min));
    if (opt->max)
        json_object_object_add(o, "maximum", json_object_new_uint64(opt->max));
}

static struct json_object *size_schema(const struct opt *opt)
{
    struct json_object *o = json_object_new_object(), *either = json_object_new_array(),
                       *bytes = typed("integer"), *text = typed("string");
    add_range(bytes, opt);
    set(text, "pattern", "^[0-9]+([KkMmGgTtPp]([iI]?[bB])?|[bB])?$");
    json_object_array_add(either, bytes);
    json_object_array_add(either, text);
    json_object_object_add(o, "anyOf", either);
    return o;
}

static struct json_object *opt_schema(const struct opt *opt)
{
    static const char *const name_pattern = "^[A-Za-z0-9][A-Za-z0-9_.-]{0,31}"
                                            "(/[A-Za-z0-9][A-Za-z0-9_.-]{0,31})?$";
    struct json_object *o;
    switch (opt->type) {
    case OPT_SIZE: o = size_schema(opt); break;
    case OPT_UINT:
        o = typed("integer");
        add_range(o, opt);
        break;
    case OPT_BOOL: o = typed("boolean"); break;
    case OPT_JSON: o = typed("object"); break;
    case OPT_LIST:
        o = typed("array");
        json_object_object_add(o, "items", typed("string"));
        if (opt->max)
            json_object_object_add(o, "maxItems", json_object_new_uint64(opt->max));
        break;
    default:
        o = typed("string");
        if (opt->type == OPT_NAME)
            set(o, "pattern", name_pattern);
        if (opt->type == OPT_ENUM)
            add_choices(o, opt->choices);
        break;
    }
    set(o, "description", opt->help);
    if (opt->flags & OPT_SECRET)
        json_object_object_add(o, "writeOnly", json_object_new_boolean(true));
    return o;
}

static struct json_object *body_of(const struct schema_verb *v)
{
    struct json_object *o = typed("object"), *properties = child(o, "properties"),
                       *required = json_object_new_array();
    for (const struct opt *opt = v->opts; opt && opt->name; opt++) {
        if (opt->flags & OPT_CLIENT)
            continue;
        json_object_object_add(properties, opt->name, opt_schema(opt));
        if (opt->flags & OPT_REQUIRED)
            json_object_array_add(required, json_object_new_string(opt->name));
    }
    /* A device takes the options of its driver, whatever they are. */
    bool open = !strcmp(v->path, "/v1/devices/{name}");
    json_object_object_add(o, "additionalProperties", json_object_new_boolean(open));
    json_object_object_add(o, "required", required);
    struct json_object *body = json_object_new_object();
    const char *type =
        strcmp(v->method, "PATCH") ? "application/json" : "application/merge-patch+json";
    json_object_object_add(child(child(body, "content"), type), "schema", o);
    return body;
}

/* ---- answers */

static struct json_object *fields_schema(const struct schema_field *f);

static struct json_object *one_or_null(const char *type)
{
    struct json_object *o = json_object_new_object(), *types = json_object_new_array();
    json_object_array_add(types, json_object_new_string(type));
    json_object_array_add(types, json_object_new_string("null"));
    json_object_object_add(o, "type", types);
    return o;
}

static struct json_object *list_of(struct json_object *items)
{
    struct json_object *o = typed("array");
    json_object_object_add(o, "items", items);
    return o;
}

static struct json_object *field_schema(const struct schema_field *f)
{
    struct json_object *p;
    switch (f->format) {
    case FMT_NUMBER:
    case FMT_SIZE: return typed("integer");
    case FMT_BOOL: return typed("boolean");
    case FMT_NAMES: return list_of(typed("string"));
    case FMT_OBJECTS:
        /* `counts` of status is the one object that stands alone. */
        return strcmp(f->key, "counts") ? list_of(fields_schema(f->of)) : fields_schema(f->of);
    case FMT_MAP: return typed("object");
    case FMT_TIME:
        p = one_or_null("string");
        set(p, "format", "date-time");
        return p;
    default: return typed("string");
    }
}

static struct json_object *fields_schema(const struct schema_field *f)
{
    struct json_object *o = typed("object"), *properties = child(o, "properties");
    for (; f && f->key; f++) {
        if (f->format == FMT_PERCENT)
            continue; /* a column of two others */
        struct json_object *p = field_schema(f);
        set(p, "description", f->help);
        json_object_object_add(properties, f->key, p);
    }
    return o;
}

static struct json_object *answer_schema(const struct schema_verb *v)
{
    struct json_object *one = fields_schema(v->fields);
    if (v->result != VERB_LIST)
        return one;
    struct json_object *o = typed("object"), *properties = child(o, "properties");
    json_object_object_add(properties, "items", list_of(one));
    json_object_object_add(properties, "next", one_or_null("string"));
    return o;
}

static void add_answer(struct json_object *responses, const char *status, const char *text,
                       struct json_object *schema)
{
    struct json_object *r = child(responses, status);
    set(r, "description", text);
    if (schema)
        json_object_object_add(child(child(r, "content"), "application/json"), "schema", schema);
}

static const struct schema_field *job_fields(void)
{
    return schema_verb_find(schema_noun_find("job"), "show")->fields;
}

static struct json_object *notes(void)
{
    static const struct schema_field fields[] = {
        {"changed", FMT_BOOL, 0, "the request changed something", NULL},
        {"notes", FMT_NAMES, 0, "what one should know", NULL},
        {NULL, FMT_TEXT, 0, NULL, NULL},
    };
    return fields_schema(fields);
}

static struct json_object *responses_of(const struct schema_verb *v)
{
    struct json_object *o = json_object_new_object();
    if (v->result == VERB_DONE) {
        add_answer(o, "204", "done", NULL);
        add_answer(o, "200", "done, and what one should know", notes());
    } else {
        add_answer(o, "200", "the object, or the list", answer_schema(v));
    }
    if (!strcmp(v->method, "PUT"))
        add_answer(o, "201", "created", answer_schema(v));
    if (v->flags & VERB_JOB)
        add_answer(o, "202", "a job does it: Location has its path", fields_schema(job_fields()));
    json_object_object_add(o, "default", reference("responses/Problem"));
    return o;
}

/* ---- operations */

static void add_parameter(struct json_object *list, const char *name, const char *in, bool required,
                          const char *help, struct json_object *schema)
{
    struct json_object *p = json_object_new_object();
    set(p, "name", name);
    set(p, "in", in);
    json_object_object_add(p, "required", json_object_new_boolean(required));
    if (help)
        set(p, "description", help);
    json_object_object_add(p, "schema", schema);
    json_object_array_add(list, p);
}

static void add_query(struct json_object *list, const struct opt *opt)
{
    for (; opt && opt->name; opt++)
        if (!(opt->flags & OPT_CLIENT))
            add_parameter(list, opt->name, "query", (opt->flags & OPT_REQUIRED) != 0, opt->help,
                          opt_schema(opt));
}

static struct json_object *parameters_of(const struct schema_verb *v, bool body)
{
    struct json_object *list = json_object_new_array();
    for (const char *p = strchr(v->path, '{'); p; p = strchr(p + 1, '{')) {
        autofree char *name = xasprintf("%.*s", (int)strcspn(p + 1, "}"), p + 1);
        add_parameter(list, name, "path", true, NULL, typed("string"));
    }
    if (!body)
        add_query(list, schema_is_list(v) ? schema_list_opts(v) : v->opts);
    if (v->flags & VERB_IF_MATCH)
        add_parameter(list, "If-Match", "header", true, "ETag of the object", typed("string"));
    else if (!strcmp(v->method, "PUT"))
        add_parameter(list, "If-Match", "header", false,
                      "ETag of the object, where the request may change one that is there",
                      typed("string"));
    return list;
}

/* "deviceAdd", "iscsiPortalAdd" */
static void set_operation_id(struct json_object *o, const char *noun, const char *verb)
{
    autofree char *text = xasprintf("%s %s", noun, verb);
    char *out = text;
    for (char *p = text; *p; p++) {
        if (*p != ' ' && *p != '-')
            *out++ = *p;
        else if (p[1])
            p[1] = (char)(p[1] >= 'a' && p[1] <= 'z' ? p[1] - 32 : p[1]);
    }
    *out = 0;
    set(o, "operationId", text);
}

static void add_operation(struct json_object *paths, const struct schema_noun *noun,
                          const struct schema_verb *v)
{
    bool body = strcmp(v->method, "GET") && strcmp(v->method, "DELETE");
    char method[8];
    snprintf(method, sizeof method, "%s", v->method);
    for (char *p = method; *p; p++)
        *p = (char)(*p | 0x20);
    struct json_object *o = child(child(paths, v->path), method);
    struct json_object *tags = json_object_new_array();
    json_object_array_add(tags, json_object_new_string(noun->name));
    json_object_object_add(o, "tags", tags);
    set(o, "summary", v->help);
    set_operation_id(o, noun->name, v->name);
    json_object_object_add(o, "parameters", parameters_of(v, body));
    if (body)
        json_object_object_add(o, "requestBody", body_of(v));
    json_object_object_add(o, "responses", responses_of(v));
}

static struct json_object *problem_response(void)
{
    static const struct schema_field problem[] = {
        {"type", FMT_TEXT, 0, "urn:orion:error:CODE", NULL},
        {"title", FMT_TEXT, 0, "the status in words", NULL},
        {"status", FMT_NUMBER, 0, "HTTP status", NULL},
        {"detail", FMT_TEXT, 0, "what is wrong and what was expected", NULL},
        {"code", FMT_TEXT, 0, "class of the error", NULL},
        {NULL, FMT_TEXT, 0, NULL, NULL},
    };
    struct json_object *r = json_object_new_object(), *schema = fields_schema(problem),
                       *errors = typed("array"), *one = typed("object");
    json_object_object_add(child(one, "properties"), "field", typed("string"));
    json_object_object_add(child(one, "properties"), "detail", typed("string"));
    json_object_object_add(errors, "items", one);
    set(errors, "description", "every field that is wrong");
    json_object_object_add(child(schema, "properties"), "errors", errors);
    set(r, "description", "refused or failed (RFC 9457)");
    json_object_object_add(child(child(r, "content"), "application/problem+json"), "schema",
                           schema);
    return r;
}

struct json_object *openapi_document(void)
{
    struct json_object *doc = json_object_new_object(), *info = child(doc, "info");
    set(doc, "openapi", "3.1.0");
    set(info, "title", "Orion");
    set(info, "version", ORION_VERSION);
    set(info, "description", "Storage: devices, arrays, pools, volumes, and who is served them.");
    struct json_object *license = child(info, "license");
    set(license, "name", "GPL-2.0-or-later");
    set(license, "identifier", "GPL-2.0-or-later");
    struct json_object *paths = child(doc, "paths");
    for (const struct schema_noun *const *n = schema_nouns; *n; n++)
        for (const struct schema_verb *v = (*n)->verbs; v->name; v++)
            if (v->path)
                add_operation(paths, *n, v);
    json_object_object_add(child(child(doc, "components"), "responses"), "Problem",
                           problem_response());
    return doc;
}
