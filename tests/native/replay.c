/* Runs one recorded call of forward on the native library:  replay RECORDING ANSWER
 *
 * A recording is a stream of 32-bit words (little-endian) and bytes, written by replay.js: the calls that define the graph, the pieces
 * of its weights, the session's inputs. The answer: for each output rank, dims, type and numbers. Which functions there are comes from
 * lamella.h itself: calls.inc, generated beside the program, has a line for each of its layers. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "lamella.h"
#include "pool.h"

static const unsigned char *at, *end;

static const void *take(size_t bytes) {
    if (bytes > (size_t)(end - at)) {
        fprintf(stderr, "the recording ends early\n");
        exit(1);
    }
    const void *taken = at;
    at += bytes;
    return taken;
}

static int word(void) {
    int value;
    memcpy(&value, take(sizeof value), sizeof value);
    return value;
}

/* A copy with the alignment and the bounds of its own that the sanitizers watch. */
static void *copy(size_t bytes) {
    void *own = malloc(bytes ? bytes : 1);
    if (!own) exit(1);
    return memcpy(own, take(bytes), bytes);
}

typedef struct argument { double number; void *bytes; } argument;

static lam_value call(lam_graph *g, const char *name, const argument *a) {
#include "calls.inc"
    fprintf(stderr, "lamella.h has no layer %s\n", name);
    exit(1);
}

static void check(int holds, const char *why) {
    if (holds) return;
    fprintf(stderr, "%s\n", why);
    exit(1);
}

static void define(lam_graph *g) {
    argument arguments[16];
    for (int calls = word(); calls > 0; calls--) {
        char *name = copy((size_t)word());
        int count = word();
        check(count <= 16, "too many arguments");
        for (int i = 0; i < count; i++) {
            arguments[i] = (argument){ 0, NULL };
            int bytes = word();   /* -1: a number follows */
            if (bytes >= 0) arguments[i].bytes = copy((size_t)bytes);
            else memcpy(&arguments[i].number, take(sizeof(double)), sizeof(double));
        }
        call(g, name, arguments);
        check(lam_graph_status(g) == LAM_OK, lam_graph_error(g));
        free(name);
        for (int i = 0; i < count; i++) free(arguments[i].bytes);
    }
    check(lam_compile(g) == LAM_OK, lam_graph_error(g));
}

static void load(lam_graph *g) {
    for (int pieces = word(); pieces > 0; pieces--) {
        int weight = word(), type = word(), first = word(), rows = word();
        void *data = copy((size_t)word());
        check(lam_load(g, weight, (lam_type)type, data, first, rows) == LAM_OK, lam_graph_error(g));
        free(data);
    }
}

static size_t output_bytes(lam_session *s, int output) {
    size_t bytes = sizeof(float);
    for (int axis = 0; axis < lam_session_output_rank(s, output); axis++) bytes *= (size_t)lam_session_output_dim(s, output, axis);
    return bytes;
}

static void answer(lam_graph *g, lam_session *s, int first, int count, FILE *to) {
    for (int i = first; i < first + count; i++) {
        int rank = lam_session_output_rank(s, i), type = lam_output_type(g, i);
        fwrite(&rank, sizeof rank, 1, to);
        for (int axis = 0; axis < rank; axis++) {
            int size = lam_session_output_dim(s, i, axis);
            fwrite(&size, sizeof size, 1, to);
        }
        fwrite(&type, sizeof type, 1, to);
        fwrite(lam_session_output(s, i), 1, output_bytes(s, i), to);
    }
}

/* Has run the recorded inputs, which `at` stands behind. */
static lam_session *ran(lam_graph *g, lam_pool *pool, const int *outputs, const int *inputs, int donated) {
    lam_session *s = lam_session_new(g, pool);
    check(s && lam_session_select(s, outputs[0], outputs[1]) == LAM_OK, "no session");
    lam_session_donate(s, donated);
    const unsigned char *numbers = at;
    for (int pass = 0; pass < 2; pass++) {   /* sizes first, then numbers */
        at = numbers;
        for (int i = 0; i < inputs[1]; i++) {
            int rank = word(), *dims = copy((size_t)rank * sizeof(int));
            size_t bytes = (size_t)word();
            const void *data = take(bytes);
            void *input = pass ? lam_session_input(s, inputs[0] + i) : NULL;
            if (input) memcpy(input, data, bytes);
            else if (!pass) check(lam_session_resize(s, inputs[0] + i, rank, dims) == LAM_OK, lam_session_error(s));
            free(dims);
        }
        if (!pass) check(lam_session_prepare(s) == LAM_OK, lam_session_error(s));
    }
    check(lam_session_check(s) == LAM_OK, lam_session_error(s));
    lam_session_run(s);
    return s;
}

/* A session that may write over its inputs, as those of JavaScript may, gives what one gives that keeps them. */
static void run(lam_graph *g, lam_pool *pool, FILE *to) {
    int outputs[2], inputs[2];
    for (int i = 0; i < 4; i++) (i < 2 ? outputs : inputs)[i % 2] = word();
    const unsigned char *numbers = at;
    lam_session *keeps = ran(g, pool, outputs, inputs, 0);
    at = numbers;
    lam_session *donates = ran(g, pool, outputs, inputs, 1);
    for (int i = outputs[0]; i < outputs[0] + outputs[1]; i++)
        check(!memcmp(lam_session_output(keeps, i), lam_session_output(donates, i), output_bytes(keeps, i)), "another answer where inputs are donated");
    answer(g, donates, outputs[0], outputs[1], to);
    lam_session_free(keeps);
    lam_session_free(donates);
}

int main(int argc, char **argv) {
    check(argc == 3, "replay RECORDING ANSWER");
    FILE *from = fopen(argv[1], "rb");
    check(from && fseek(from, 0, SEEK_END) == 0, "the recording cannot be read");
    size_t bytes = (size_t)ftell(from);
    unsigned char *recording = malloc(bytes ? bytes : 1);
    rewind(from);
    check(recording && fread(recording, 1, bytes, from) == bytes, "the recording cannot be read");
    fclose(from);
    at = recording;
    end = recording + bytes;
    FILE *to = fopen(argv[2], "wb");
    check(to != NULL, "the answer cannot be written");
    lam_graph *g = lam_graph_new();
    define(g);
    load(g);
    lam_pool *pool = lam_pool_new(2);
    for (int runs = word(); runs > 0; runs--) run(g, pool, to);
    lam_pool_free(pool);
    lam_graph_free(g);
    free(recording);
    return fclose(to) != 0;
}
