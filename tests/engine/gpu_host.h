// Makes a C++ program of engine/montecarlo/gpu/kernels.cu: a block's threads run one after the other, phase by phase, and
// blocks one after the other. In reverse order as well: then a thread that read what another one writes in the same phase
// gives different numbers.
#include <cmath>
#include <cstring>

#define __device__
#define __global__
#define __forceinline__ inline
#define __launch_bounds__(threads, blocks)

static long long host_block;
static int host_threads, host_reversed;
alignas(16) static unsigned char host_shared[48 * 1024];

#define EACH_THREAD(phase)                                                   \
    for (int turn = 0, threads = host_threads; turn < threads; ++turn) {     \
        const int thread = host_reversed ? threads - 1 - turn : turn;        \
        (void)threads;                                                       \
        phase;                                                               \
    }
#define BLOCK_NUMBER host_block
#define SHARED_MEMORY(name) unsigned char* name = host_shared

template <typename To, typename From> static inline To host_bits(From from) {
    static_assert(sizeof(To) == sizeof(From), "same size");
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}
static inline long long __double_as_longlong(double x) { return host_bits<long long>(x); }
static inline double __longlong_as_double(long long x) { return host_bits<double>(x); }
static inline int __float_as_int(float x) { return host_bits<int>(x); }
static inline float __int_as_float(int x) { return host_bits<float>(x); }
using std::fma;

// Shared memory starts as NaN in every block: whoever reads what nobody wrote spoils the result.
extern "C" void host_launch(void (*kernel)(const void*, void*), long long blocks, int threads, int reversed, const void* input, void* output) {
    host_threads = threads;
    host_reversed = reversed;
    for (long long block = 0; block < blocks; ++block) {
        std::memset(host_shared, 0xff, sizeof host_shared);
        host_block = reversed ? blocks - 1 - block : block;
        kernel(input, output);
    }
}
