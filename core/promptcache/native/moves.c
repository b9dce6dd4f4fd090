/* Puts the attention states of many modules to their places in an arena, in one pass over memory.
 *
 * A key is read, turned and written while it is in registers, where operators would write every
 * step of it to memory. The arithmetic is that of rotate.py, rounding for rounding: one product,
 * then one fused multiply and add, in float32. Nothing here knows of Python; the loader beside it
 * checks every shape before.
 *
 * With OpenMP the threads are those of whoever has loaded its runtime before, which is torch: so
 * this is compiled with it, but not linked to one of its own.
 */

#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* Compiled for AVX2, and once more for AVX-512 where a compiler can and the loader can choose. */
#if defined(__x86_64__) && defined(__GLIBC__) && !defined(__clang__) && __GNUC__ >= 12
#define FOR_EVERY_WIDTH __attribute__((target_clones("arch=x86-64-v4", "default")))
#else
#define FOR_EVERY_WIDTH
#endif

/* libomp, which clang would call, is not what torch has loaded: so one thread at a time there. */
#if defined(__linux__) && defined(__clang__) && defined(_OPENMP)
#error "threads of another OpenMP than torch's"
#endif

/* Of which source this was made, as its compiler was told. */
#ifndef SOURCE
#define SOURCE 0
#endif

/* Rows of one head that one thread takes at a time, so that long modules are shared out, too. */
#define BLOCK 256

enum kind { STILL, BFLOAT16, FLOAT32 };

/* Consecutive tokens of one module: rows that lie densely within a head. Heads are so many bytes
 * apart. `cos` and `sin` have one number for each pair; rows that do not turn have none. */
struct piece {
    const char *from;
    char *to;
    int64_t from_head, to_head, tokens;
    const float *cos, *sin;
};

/* The keys or the values of one layer: rows of `dim` numbers, in `bytes`; `pairs` of them turn, from
 * number `first` on. */
struct rows {
    int64_t heads, dim, bytes, first, pairs, interleaved, kind, streamed;
};

static inline float widened(uint16_t number)
{
    uint32_t bits = (uint32_t)number << 16;
    float wide;
    memcpy(&wide, &bits, sizeof wide);
    return wide;
}

/* To the nearest bfloat16, halves to the even one. */
static inline uint16_t narrowed(float wide)
{
    uint32_t bits;
    memcpy(&bits, &wide, sizeof bits);
    uint32_t nearest = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    return wide != wide ? 0x7fc0 : (uint16_t)nearest;
}

static inline float as_it_is(float number) { return number; }

/* Turns the pairs of `count` rows; the members of a pair are `apart`, pairs are `step`. */
#define TURN(name, number, to_float, from_float, step, apart)                                      \
    FOR_EVERY_WIDTH static void name(const number *restrict from, number *restrict to,             \
                                     int64_t count, int64_t dim, int64_t pairs,                    \
                                     const float *restrict cos, const float *restrict sin)         \
    {                                                                                              \
        for (int64_t row = 0; row < count; row++, from += dim, to += dim)                          \
            for (int64_t pair = 0; pair < pairs; pair++) {                                         \
                float a = to_float(from[pair * (step)]);                                           \
                float b = to_float(from[pair * (step) + (apart)]);                                 \
                to[pair * (step)] = from_float(                                                    \
                    __builtin_fmaf(-b, sin[pair], a * cos[pair]));                                 \
                to[pair * (step) + (apart)] = from_float(                                          \
                    __builtin_fmaf(a, sin[pair], b * cos[pair]));                                  \
            }                                                                                      \
    }

TURN(turn_halves_16, uint16_t, widened, narrowed, 1, pairs)
TURN(turn_neighbours_16, uint16_t, widened, narrowed, 2, 1)
TURN(turn_halves_32, float, as_it_is, as_it_is, 1, pairs)
TURN(turn_neighbours_32, float, as_it_is, as_it_is, 2, 1)

static void turn(const struct rows *rows, const struct piece *piece, const char *from, char *to,
                 int64_t count)
{
    int64_t dim = rows->dim, first = rows->first, pairs = rows->pairs;
    if (2 * pairs < dim)
        memcpy(to, from, count * rows->bytes);
    if (rows->kind == BFLOAT16)
        (rows->interleaved ? turn_neighbours_16 : turn_halves_16)(
            (const uint16_t *)from + first, (uint16_t *)to + first, count, dim, pairs,
            piece->cos, piece->sin);
    else
        (rows->interleaved ? turn_neighbours_32 : turn_halves_32)(
            (const float *)from + first, (float *)to + first, count, dim, pairs,
            piece->cos, piece->sin);
}

/* Copies past the caches: what is larger than they are would only push out what is needed next,
 * and would be read before it is written. Turned rows go through them, which takes no longer: the
 * processor turns while it waits for memory. */
static void copy_past(char *to, const char *from, int64_t bytes)
{
#if defined(__AVX2__)
    if (((uintptr_t)to | (uintptr_t)bytes) % sizeof(__m256i) == 0) {
        for (int64_t at = 0; at < bytes; at += sizeof(__m256i))
            _mm256_stream_si256((__m256i *)(to + at),
                                _mm256_loadu_si256((const __m256i *)(from + at)));
        return;
    }
#endif
    memcpy(to, from, bytes);
}

static void put_block(const struct rows *rows, const struct piece *piece, const char *from,
                      char *to, int64_t count)
{
    if (rows->kind != STILL && piece->cos)
        turn(rows, piece, from, to, count);
    else if (rows->streamed)
        copy_past(to, from, count * rows->bytes);
    else
        memcpy(to, from, count * rows->bytes);
}

/* Puts `count` pieces into each of `places`: those of the first place come first in `pieces`. */
void promptcache_put(const struct rows *places, const struct piece *pieces, int64_t many,
                     int64_t count, int64_t longest, int threads)
{
    int64_t blocks = (longest + BLOCK - 1) / BLOCK;
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        for (int64_t number = 0; number < many; number++) {
            const struct rows *rows = places + number;
            const struct piece *own = pieces + number * count;
#pragma omp for collapse(3) schedule(dynamic, 4) nowait
            for (int64_t which = 0; which < count; which++)
                for (int64_t head = 0; head < rows->heads; head++)
                    for (int64_t block = 0; block < blocks; block++) {
                        const struct piece *piece = own + which;
                        int64_t row = block * BLOCK;
                        int64_t left = piece->tokens - row;
                        if (left > 0)
                            put_block(rows, piece,
                                      piece->from + head * piece->from_head + row * rows->bytes,
                                      piece->to + head * piece->to_head + row * rows->bytes,
                                      left < BLOCK ? left : BLOCK);
                    }
        }
#if defined(__AVX2__)
        _mm_sfence();
#endif
    }
}

uint32_t promptcache_source(void) { return SOURCE; }

/* Whether the processor multiplies and adds at once: where not, operators are faster. */
int promptcache_usable(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#elif defined(__aarch64__)
    return 1;
#else
    return 0;
#endif
}
