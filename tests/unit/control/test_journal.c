/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "harness.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <json-c/json.h>

#include "base/crc32c.h"
#include "base/mem.h"
#include "control/journal.h"

static char dir[64];
static unsigned reports;

static void report(const char *line, void *arg)
{
    (void)line, (void)arg;
    reports++;
}

static void fresh(void)
{
    strcpy(dir, "/tmp/orion-journal-XXXXXX");
    check(mkdtemp(dir));
    reports = 0;
}

static void clean(void)
{
    DIR *d = opendir(dir);
    for (struct dirent *e; (e = readdir(d));)
        unlinkat(dirfd(d), e->d_name, 0);
    closedir(d);
    rmdir(dir);
}

static struct journal *open_it(void)
{
    struct err e = {0};
    struct journal *j = journal_open(dir, report, NULL, &e);
    if (!j)
        fprintf(stderr, "journal_open: %s\n", e.msg);
    check(j);
    return j;
}

static enum err_code open_fails(void)
{
    struct err e = {0};
    struct journal *j = journal_open(dir, report, NULL, &e);
    check(!j);
    return e.code;
}

static void put(struct journal *j, const char *key, int n)
{
    struct json_object *o = json_object_new_object();
    json_object_object_add(o, "n", json_object_new_int(n));
    struct err e;
    check_int(journal_put(j, key, o, &e), 0);
    json_object_put(o);
}

/* -1: not there */
static int value(struct journal *j, const char *key)
{
    struct json_object *v = NULL, *o = journal_get(j, key);
    if (!o)
        return -1;
    json_object_object_get_ex(o, "n", &v);
    return json_object_get_int(v);
}

static char *path_of(const char *name)
{
    return xasprintf("%s/%s", dir, name);
}

static char *read_whole(const char *name, size_t *len)
{
    autofree char *path = path_of(name);
    autoclose int fd = open(path, O_RDONLY);
    check(fd >= 0);
    struct stat st;
    check(!fstat(fd, &st));
    char *buf = xcalloc(1, (size_t)st.st_size + 1);
    check_int(pread(fd, buf, (size_t)st.st_size, 0), st.st_size);
    *len = (size_t)st.st_size;
    return buf;
}

static void write_whole(const char *name, const char *buf, size_t len)
{
    autofree char *path = path_of(name);
    autoclose int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    check(fd >= 0);
    check_int(write(fd, buf, len), len);
}

static bool exists(const char *name)
{
    autofree char *path = path_of(name);
    return !access(path, F_OK);
}

static void cut(const char *name, size_t bytes)
{
    autofree char *path = path_of(name);
    struct stat st;
    check(!stat(path, &st));
    check(!truncate(path, st.st_size - (off_t)bytes));
}

static void flip(const char *name, size_t at)
{
    size_t len;
    autofree char *buf = read_whole(name, &len);
    check(at < len);
    buf[at] ^= 1;
    write_whole(name, buf, len);
}

HARNESS_TEST(what_was_put_is_there_after_opening_again)
{
    fresh();
    struct journal *j = open_it();
    put(j, "a/1", 1);
    put(j, "a/2", 2);
    put(j, "a/1", 3);
    struct err e;
    check_int(journal_del(j, "a/2", &e), 0);
    journal_close(&j);
    j = open_it();
    check_int(value(j, "a/1"), 3);
    check_int(value(j, "a/2"), -1);
    check_int(reports, 0);
    journal_close(&j);
    clean();
}

HARNESS_TEST(a_second_daemon_is_refused)
{
    fresh();
    struct journal *j = open_it();
    check_int(open_fails(), ERR_IN_USE);
    journal_close(&j);
    j = open_it();
    journal_close(&j);
    clean();
}

HARNESS_TEST(a_torn_tail_of_any_length_drops_only_the_last_line)
{
    fresh();
    struct journal *j = open_it();
    put(j, "a/1", 1);
    put(j, "a/2", 2);
    journal_close(&j);
    size_t len;
    autofree char *whole = read_whole("journal.1", &len);
    size_t last = len - 1;
    while (whole[last - 1] != '\n')
        last--;
    for (size_t keep = last; keep < len; keep++) {
        write_whole("journal.1", whole, keep);
        j = open_it();
        check_int(value(j, "a/1"), 1);
        check_int(value(j, "a/2"), -1);
        put(j, "a/3", 3);
        journal_close(&j);
        j = open_it();
        check_int(value(j, "a/3"), 3);
        journal_close(&j);
    }
    check_int(reports, 0);
    clean();
}

HARNESS_TEST(damage_in_the_middle_keeps_what_stood_before_it_and_is_set_aside)
{
    fresh();
    struct journal *j = open_it();
    put(j, "a/1", 1);
    put(j, "a/2", 2);
    put(j, "a/3", 3);
    journal_close(&j);
    size_t len;
    autofree char *whole = read_whole("journal.1", &len);
    flip("journal.1", (size_t)(strstr(whole, "a/2") - whole));
    j = open_it();
    check_int(reports, 1);
    check(exists("journal.1.damaged"));
    check_int(value(j, "a/1"), 1);
    check_int(value(j, "a/2"), -1);
    check_int(value(j, "a/3"), -1);
    put(j, "a/4", 4);
    journal_close(&j);
    j = open_it();
    check_int(reports, 1);
    check_int(value(j, "a/1"), 1);
    check_int(value(j, "a/4"), 4);
    journal_close(&j);
    clean();
}

HARNESS_TEST(a_damaged_snapshot_is_rebuilt_from_the_generation_before)
{
    for (int kind = 0; kind < 3; kind++) {
        fresh();
        struct err e;
        struct journal *j = open_it();
        put(j, "a/1", 1);
        put(j, "a/2", 2);
        check_int(journal_fold(j, &e), 0);
        check_int(journal_generation(j), 2);
        put(j, "a/3", 3);
        journal_close(&j);
        if (kind == 0)
            flip("snapshot.2", 20);
        else if (kind == 1)
            write_whole("snapshot.2", "", 0); /* an empty one never wins */
        else
            cut("snapshot.2", 5);
        j = open_it();
        check_int(reports, 1);
        check(exists("snapshot.2.damaged"));
        for (int i = 1; i <= 3; i++) {
            char key[8];
            sprintf(key, "a/%d", i);
            check_int(value(j, key), i);
        }
        journal_close(&j);
        clean();
    }
}

HARNESS_TEST(a_fold_keeps_all_and_two_generations_before)
{
    fresh();
    struct err e;
    struct journal *j = open_it();
    for (int i = 0; i < 5; i++) {
        put(j, "a/x", i);
        check_int(journal_fold(j, &e), 0);
    }
    check_int(journal_generation(j), 6);
    journal_close(&j);
    check(!exists("snapshot.3") && exists("snapshot.4") && exists("journal.5"));
    j = open_it();
    check_int(value(j, "a/x"), 4);
    journal_close(&j);
    clean();
}

/* The steps of a fold: the new journal, the snapshot under another name, the rename. */
HARNESS_TEST(a_fold_cut_off_at_any_step_loses_nothing)
{
    for (int step = 0; step < 3; step++) {
        fresh();
        struct err e;
        struct journal *j = open_it();
        put(j, "a/1", 1);
        check_int(journal_fold(j, &e), 0);
        journal_close(&j);
        size_t len;
        autofree char *snapshot = read_whole("snapshot.2", &len);
        autofree char *s = path_of("snapshot.2");
        check(!unlink(s));
        if (step == 0)
            cut("journal.2", 10);
        if (step == 1)
            write_whole("snapshot.tmp", snapshot, len / 2);
        if (step == 2)
            write_whole("snapshot.tmp", snapshot, len);
        j = open_it();
        check_int(value(j, "a/1"), 1);
        check_int(journal_generation(j), 1);
        put(j, "a/2", 2);
        check_int(journal_fold(j, &e), 0);
        put(j, "a/3", 3);
        journal_close(&j);
        j = open_it();
        check_int(value(j, "a/2"), 2);
        check_int(value(j, "a/3"), 3);
        check_int(reports, 0);
        journal_close(&j);
        clean();
    }
}

HARNESS_TEST(a_long_journal_folds_by_itself)
{
    fresh();
    struct journal *j = open_it();
    char *long_text = xcalloc(1, 20001);
    memset(long_text, 'x', 20000);
    struct json_object *o = json_object_new_object();
    json_object_object_add(o, "text", json_object_new_string(long_text));
    struct err e;
    for (int i = 0; i < 30; i++)
        check_int(journal_put(j, "a/same", o, &e), 0);
    check(journal_generation(j) > 1);
    json_object_put(o);
    free(long_text);
    journal_close(&j);
    j = open_it();
    check(journal_get(j, "a/same"));
    journal_close(&j);
    clean();
}

HARNESS_TEST(a_newer_format_is_refused_untouched)
{
    fresh();
    struct journal *j = open_it();
    put(j, "a/1", 1);
    journal_close(&j);
    const char *head = "{\"format\":2,\"kind\":\"snapshot\",\"generation\":1}";
    char line[200];
    int n = snprintf(line, sizeof line, "%08x %s\nsomething else\n", crc32c(0, head, strlen(head)),
                     head);
    write_whole("snapshot.1", line, (size_t)n);
    check_int(open_fails(), ERR_UNSUPPORTED);
    size_t len;
    autofree char *after = read_whole("snapshot.1", &len);
    check(len == (size_t)n && !memcmp(after, line, len));
    check(!exists("snapshot.2") && !exists("snapshot.1.damaged") && exists("journal.1"));
    clean();
}

HARNESS_TEST(a_folder_without_a_good_generation_is_refused)
{
    fresh();
    struct journal *j = open_it();
    put(j, "a/1", 1);
    journal_close(&j);
    write_whole("snapshot.1", "", 0);
    check_int(open_fails(), ERR_IO);
    check(exists("snapshot.1") && exists("journal.1"));
    clean();
}

HARNESS_TEST(several_keys_go_in_one_line)
{
    fresh();
    struct journal *j = open_it();
    put(j, "intent/1", 1);
    struct json_object *o = json_object_new_object();
    struct journal_change c[] = {{"a/1", o}, {"intent/1", NULL}};
    struct err e;
    check_int(journal_apply(j, c, 2, &e), 0);
    json_object_put(o);
    journal_close(&j);
    cut("journal.1", 1); /* all or none: the torn line takes both away */
    j = open_it();
    check(!journal_get(j, "a/1"));
    check_int(value(j, "intent/1"), 1);
    journal_close(&j);
    clean();
}

/* ---- many at once */

struct writer {
    struct journal *j;
    int n;
    unsigned *left;
};

static void write_ten(void *arg)
{
    struct writer *w = arg;
    for (int i = 0; i < 10; i++) {
        char key[16];
        sprintf(key, "w%d/%d", w->n, i);
        put(w->j, key, i);
        check_int(value(w->j, key), i); /* it is there when the call returns */
    }
    --*w->left;
}

HARNESS_TEST(verbs_at_the_same_time_all_stay)
{
    fresh();
    struct journal *j = open_it();
    struct writer w[20];
    unsigned left = 20;
    for (int i = 0; i < 20; i++) {
        w[i] = (struct writer){j, i, &left};
        task_start(reactor_main(), "writer", write_ten, &w[i]);
    }
    while (left)
        task_sleep_us(1000);
    journal_close(&j);
    j = open_it();
    for (int i = 0; i < 200; i++) {
        char key[16];
        sprintf(key, "w%d/%d", i / 10, i % 10);
        check_int(value(j, key), i % 10);
    }
    journal_close(&j);
    clean();
}

HARNESS_TEST(a_write_that_fails_changes_nothing_and_later_ones_go_on)
{
    fresh();
    struct journal *j = open_it();
    put(j, "a/1", 1);
    struct rlimit old, none = {0, 0};
    check(!getrlimit(RLIMIT_FSIZE, &old));
    none.rlim_max = old.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    check(!setrlimit(RLIMIT_FSIZE, &none));
    struct json_object *o = json_object_new_object();
    struct err e;
    check_int(journal_put(j, "a/2", o, &e), -1);
    check_int(value(j, "a/1"), 1);
    check(!journal_get(j, "a/2"));
    check(!setrlimit(RLIMIT_FSIZE, &old));
    json_object_put(o);
    put(j, "a/3", 3);
    journal_close(&j);
    j = open_it();
    check_int(value(j, "a/1"), 1);
    check(!journal_get(j, "a/2"));
    check_int(value(j, "a/3"), 3);
    journal_close(&j);
    clean();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_put_is_there_after_opening_again),
        cmocka_unit_test(a_second_daemon_is_refused),
        cmocka_unit_test(a_torn_tail_of_any_length_drops_only_the_last_line),
        cmocka_unit_test(damage_in_the_middle_keeps_what_stood_before_it_and_is_set_aside),
        cmocka_unit_test(a_damaged_snapshot_is_rebuilt_from_the_generation_before),
        cmocka_unit_test(a_fold_keeps_all_and_two_generations_before),
        cmocka_unit_test(a_fold_cut_off_at_any_step_loses_nothing),
        cmocka_unit_test(a_long_journal_folds_by_itself),
        cmocka_unit_test(a_newer_format_is_refused_untouched),
        cmocka_unit_test(a_folder_without_a_good_generation_is_refused),
        cmocka_unit_test(several_keys_go_in_one_line),
        cmocka_unit_test(verbs_at_the_same_time_all_stay),
        cmocka_unit_test(a_write_that_fails_changes_nothing_and_later_ones_go_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
