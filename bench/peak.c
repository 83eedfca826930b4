// What one core can do at most: float multiply-adds per second, and bytes read per second.
//
//     gcc -O3 -march=native -o peak peak.c && ./peak BYTES...
//
// Prints a line of JSON. The first rate is that of fused multiply-adds on registers alone; then, for a buffer
// of each size given, the rate at which it is read from one end to the other, again and again. The best of
// several tries counts: what is asked for is the limit, not the mean.

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

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
static double bytes_read(const words *buffer, size_t bytes) {
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

int main(int arguments, char **argument) {
    double best = 0;
    for (int try = 0; try < TRIES; try++) {
        double rate = multiply_adds();
        if (rate > best) best = rate;
    }
    printf("{\"multiply_adds\": %.4g, \"bytes\": {", best);
    for (int i = 1; i < arguments; i++) {
        size_t bytes = strtoull(argument[i], NULL, 10);
        size_t whole = (bytes / sizeof(words) / STREAMS + 1) * STREAMS * sizeof(words);
        words *buffer = aligned_alloc(sizeof(words), whole);
        if (bytes < (1 << 16) || !buffer) {
            fprintf(stderr, "peak: no buffer of %s bytes; give a number from 65536 on\n", argument[i]);
            return 1;
        }
        // Every page a page of its own, not the one of zeros.
        for (size_t j = 0; j < whole / sizeof(uint64_t); j++) ((uint64_t *)buffer)[j] = j;
        best = 0;
        for (int try = 0; try < TRIES; try++) {
            double rate = bytes_read(buffer, bytes);
            if (rate > best) best = rate;
        }
        printf("%s\"%zu\": %.4g", i > 1 ? ", " : "", bytes, best);
        free(buffer);
    }
    puts("}}");
    return 0;
}
