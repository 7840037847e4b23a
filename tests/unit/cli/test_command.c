/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "unit.h"

#include <string.h>

#include "command.h"

#define PARSE(c, ...)                                   \
    parse(c, (const char *[]){"orionctl", __VA_ARGS__}, \
          sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *) + 1)

static int parse(struct command *c, const char *const *argv, size_t argc)
{
    return command_parse(c, (int)argc, argv);
}

static void noun_verb_name_and_options_are_understood(void **state)
{
    (void)state;
    struct command c;
    assert_int_equal(PARSE(&c, "--json", "array", "create", "a0", "--level", "raid1",
                           "--members=a,b", "--assume-clean"),
                     0);
    assert_string_equal(c.noun->name, "array");
    assert_string_equal(c.verb->name, "create");
    assert_string_equal(c.arg[0], "a0");
    assert_true(c.json);
    assert_string_equal(command_option(&c, "members"), "a,b");
    assert_true(command_flag(&c, "assume_clean"));
    assert_false(command_flag(&c, "force"));
}

static void global_options_may_stand_anywhere(void **state)
{
    (void)state;
    struct command c;
    assert_int_equal(PARSE(&c, "device", "--units", "b", "list", "-o", "name,size", "--noheadings",
                           "--api", "unix:/x"),
                     0);
    assert_int_equal(c.units, 'b');
    assert_string_equal(c.columns, "name,size");
    assert_string_equal(c.api, "unix:/x");
    assert_true(c.noheadings);
}

static void a_verb_may_have_two_words(void **state)
{
    (void)state;
    struct command c;
    assert_int_equal(PARSE(&c, "iscsi", "portal", "add", "127.0.0.1:3260"), 0);
    assert_string_equal(c.verb->name, "portal add");
    assert_string_equal(c.arg[0], "127.0.0.1:3260");
}

static void a_noun_may_be_a_command(void **state)
{
    (void)state;
    struct command c;
    assert_int_equal(PARSE(&c, "status", "--check"), 0);
    assert_true(command_flag(&c, "check"));
    assert_int_equal(PARSE(&c, "--version"), 0);
    assert_string_equal(c.noun->name, "version");
}

static void a_flag_can_be_given_a_value(void **state)
{
    (void)state;
    struct command c;
    assert_int_equal(PARSE(&c, "nbd", "export", "x", "--device", "p/v", "--read-only=no"), 0);
    assert_false(command_flag(&c, "read_only"));
    assert_string_equal(command_option(&c, "read_only"), "false");
}

static void words_after_two_dashes_are_no_options(void **state)
{
    (void)state;
    struct command c;
    assert_int_equal(PARSE(&c, "nbd", "show", "--", "--odd"), 0);
    assert_string_equal(c.arg[0], "--odd");
}

static void what_is_incomplete_or_unknown_is_a_usage_error(void **state)
{
    (void)state;
    struct command c;
    assert_int_equal(PARSE(&c, "array"), EXIT_USAGE);
    assert_int_equal(PARSE(&c, "arrays", "list"), EXIT_USAGE);
    assert_int_equal(PARSE(&c, "array", "fly"), EXIT_USAGE);
    assert_int_equal(PARSE(&c, "array", "show"), EXIT_USAGE);
    assert_int_equal(PARSE(&c, "array", "show", ""), EXIT_USAGE);
    assert_int_equal(PARSE(&c, "array", "show", "a", "b"), EXIT_USAGE);
    assert_int_equal(PARSE(&c, "array", "list", "--wings"), EXIT_USAGE);
    assert_int_equal(PARSE(&c, "array", "list", "-x"), EXIT_USAGE);
    assert_int_equal(PARSE(&c, "array", "create", "a"), EXIT_USAGE);
    assert_int_equal(PARSE(&c, "array", "list", "--api"), EXIT_USAGE);
    assert_int_equal(PARSE(&c, "volume", "create", "v", "--size", "1G"), EXIT_USAGE);
    assert_int_equal(PARSE(&c, "volume", "create", "p/v", "--size", "big"), EXIT_USAGE);
    assert_int_equal(PARSE(&c, "iscsi", "portal", "fly", "x"), EXIT_USAGE);
    assert_int_equal(PARSE(&c, "nbd", "listener", "x"), EXIT_USAGE); /* REST only */
}

static void help_needs_no_complete_command(void **state)
{
    (void)state;
    struct command c;
    assert_int_equal(PARSE(&c, "array", "create", "--help"), 0);
    assert_true(c.help);
    assert_int_equal(PARSE(&c, "help"), 0);
    assert_true(c.help);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(noun_verb_name_and_options_are_understood),
        cmocka_unit_test(global_options_may_stand_anywhere),
        cmocka_unit_test(a_verb_may_have_two_words),
        cmocka_unit_test(a_noun_may_be_a_command),
        cmocka_unit_test(a_flag_can_be_given_a_value),
        cmocka_unit_test(words_after_two_dashes_are_no_options),
        cmocka_unit_test(what_is_incomplete_or_unknown_is_a_usage_error),
        cmocka_unit_test(help_needs_no_complete_command),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
