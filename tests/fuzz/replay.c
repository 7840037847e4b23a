/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Runs a fuzzer's entry point without libFuzzer: each file of the corpus folders named on the
 * command line, each of its prefixes, and a fixed number of small changes to it.
 */
#include <dirent.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FILE_LIMIT = 4 << 20, PREFIXES = 512, CHANGES = 2000 };

static unsigned long runs;

/* An exact copy on the heap, so that a sanitizer sees the first byte read beyond the end. */
static void run(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);
    if (!copy)
        abort();
    memcpy(copy, data, size);
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
    runs++;
}

static void run_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    uint8_t *data = malloc(FILE_LIMIT);
    if (!f || !data) {
        perror(path);
        exit(1);
    }
    size_t size = fread(data, 1, FILE_LIMIT, f);
    fclose(f);
    run(data, size);
    size_t step = size / PREFIXES + 1;
    for (size_t n = 0; n < size; n += step)
        run(data, n);
    uint64_t seed = 0x9e3779b97f4a7c15u ^ size;
    for (unsigned i = 0; size && i < CHANGES; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        size_t at = (size_t)(seed >> 32) % size;
        uint8_t old = data[at];
        data[at] = i & 1 ? (uint8_t)(seed >> 24) : (uint8_t)(old ^ 1u << (seed >> 24 & 7));
        run(data, size);
        data[at] = old;
    }
    free(data);
}

int main(int argc, char **argv)
{
    unsigned files = 0;
    for (int i = 1; i < argc; i++) {
        DIR *dir = opendir(argv[i]);
        if (!dir) {
            perror(argv[i]);
            return 1;
        }
        for (struct dirent *d; (d = readdir(dir));) {
            char path[4096];
            struct stat st;
            snprintf(path, sizeof path, "%s/%s", argv[i], d->d_name);
            if (stat(path, &st) || !S_ISREG(st.st_mode))
                continue;
            run_file(path);
            files++;
        }
        closedir(dir);
    }
    printf("%u files, %lu runs\n", files, runs);
    return files ? 0 : 1;
}
