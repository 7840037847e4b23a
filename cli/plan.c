/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "plan.h"

#include <json-c/json.h>
#include <stdio.h>

#include "api.h"
#include "output.h"

enum { EXIT_CHANGES = 10 };

static const struct {
    const char *list, *mark, *past;
} kinds[] = {
    {"delete", "-", "deleted"},
    {"replace", "-/+", "replaced"},
    {"create", "+", "created"},
    {"change", "~", "changed"},
};

static void print_differences(struct json_object *step)
{
    struct json_object *list, *have, *want;
    if (!json_object_object_get_ex(step, "differs", &list))
        return;
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        struct json_object *d = json_object_array_get_idx(list, i);
        json_object_object_get_ex(d, "have", &have);
        json_object_object_get_ex(d, "want", &want);
        printf("      %s: %s -> %s\n", json_text(d, "field"),
               have ? json_object_get_string(have) : "not set",
               want ? json_object_get_string(want) : "not set");
    }
}

int plan_print(const struct command *c, struct json_object *plan)
{
    struct json_object *list;
    size_t count[4] = {0}, all = 0;
    if (c->json)
        output_json(plan);
    for (unsigned k = 0; k < 4; k++) {
        if (!json_object_object_get_ex(plan, kinds[k].list, &list))
            continue;
        all += count[k] = json_object_array_length(list);
        for (size_t i = 0; i < count[k] && !c->json; i++) {
            struct json_object *step = json_object_array_get_idx(list, i);
            const char *loses = json_text(step, "loses");
            printf("%3s %s %s\n", kinds[k].mark, json_text(step, "kind"), json_text(step, "name"));
            print_differences(step);
            if (*loses)
                printf("      lost: %s\n", loses);
        }
    }
    if (!c->json && !all)
        puts("nothing to do");
    else if (!c->json)
        printf("%zu to create, %zu to change, %zu to replace, %zu to delete\n", count[2], count[3],
               count[1], count[0]);
    return all && command_flag(c, "detailed_exitcode") ? EXIT_CHANGES : 0;
}
