// What one core can do at most: float multiply-adds per second, and bytes read per second.
//
//     gcc -O3 -march=native -o peak peak.c && ./peak BYTES...
//
// Prints a line of JSON: the rate of fused multiply-adds on registers alone, and the rates at which a buffer is
// read from one end to the other, again and again, one four times as large as the last cache and one of each size
// given. The best of several tries counts: what is asked for is the limit, not the mean.

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#if defined(__AVX512F__)
#define WIDTH 64
#elif defined(__AVX__)
#define WIDTH 32
#else
#define WIDTH 16
#endif

typedef float floats __attribute__((vector_size(WIDTH)));
typedef uint64_t words __attribute__((vector_size(WIDTH)));

enum { TRIES = 7, LANES = WIDTH / sizeof(float), ROUNDS = 1 << 24 };
// Independent sums, enough to hide the latency of an addition, few enough for 16 vector registers.
enum { STREAMS = 8, CHAINS = 12 };

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec + 1e-9 * now.tv_nsec;
}

// The compiler must take the value for used.
#define USE(vector) __asm__ volatile("" : : "m"(vector) : "memory")

static double multiply_adds(void) {
    floats sums[CHAINS] = {0}, factor, term;
    for (int lane = 0; lane < LANES; lane++) {
        factor[lane] = 0.5f + 0.01f * lane;
        term[lane] = 0.25f;
    }
    USE(factor);
    USE(term);
    double start = seconds();
    for (int i = 0; i < ROUNDS; i++) {
#pragma GCC unroll 12
        for (int chain = 0; chain < CHAINS; chain++) sums[chain] = sums[chain] * factor + term;
    }
    double taken = seconds() - start;
    USE(sums);
    return (double)ROUNDS * CHAINS * LANES / taken;
}

// Reads `bytes` so often that it takes about a tenth of a second.
static double read_once(const words *buffer, size_t bytes) {
    size_t count = bytes / sizeof(words) / STREAMS * STREAMS;
    int rounds = 1 + (int)((1u << 30) / bytes);
    words sums[STREAMS] = {0};
    double start = seconds();
    for (int round = 0; round < rounds; round++) {
        for (size_t i = 0; i < count; i += STREAMS) {
#pragma GCC unroll 8
            for (int j = 0; j < STREAMS; j++) sums[j] += buffer[i + j];
        }
        USE(sums);
    }
    return (double)rounds * count * sizeof(words) / (seconds() - start);
}

static double bytes_read(size_t bytes) {
    size_t whole = (bytes / sizeof(words) / STREAMS + 1) * STREAMS * sizeof(words);
    words *buffer = bytes < 1 << 16 ? NULL : aligned_alloc(sizeof(words), whole);
    if (!buffer) {
        fprintf(stderr, "peak: no buffer of %zu bytes; give a number from 65536 on\n", bytes);
        exit(1);
    }
    // Every page a page of its own, not the one of zeros.
    for (size_t i = 0; i < whole / sizeof(uint64_t); i++) ((uint64_t *)buffer)[i] = i;
    double best = 0;
    for (int try = 0; try < TRIES; try++) {
        double rate = read_once(buffer, bytes);
        if (rate > best) best = rate;
    }
    free(buffer);
    return best;
}

static size_t last_cache(void) {
    long size = 0;
#ifdef _SC_LEVEL3_CACHE_SIZE
    size = sysconf(_SC_LEVEL3_CACHE_SIZE);
#endif
    // Where the system does not tell: larger than most.
    return size > 0 ? (size_t)size : 32u << 20;
}

int main(int arguments, char **argument) {
    double best = 0;
    for (int try = 0; try < TRIES; try++) {
        double rate = multiply_adds();
        if (rate > best) best = rate;
    }
    printf("{\"multiply_adds\": %.4g, \"memory\": %.4g, \"bytes\": {", best, bytes_read(4 * last_cache()));
    for (int i = 1; i < arguments; i++) {
        size_t bytes = strtoull(argument[i], NULL, 10);
        printf("%s\"%zu\": %.4g", i > 1 ? ", " : "", bytes, bytes_read(bytes));
    }
    puts("}}");
    return 0;
}
