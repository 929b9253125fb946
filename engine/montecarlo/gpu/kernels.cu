// The Monte-Carlo kernels of the graphics processor: what engine/montecarlo/revaluation.py and pathkernels.py do, in the
// same order of roundings, so that a value has the same bits on either processor. Compile with -fmad=false: where a
// product and a sum round once, fma says so.
//
// A block of threads works in phases; between two of them all its threads wait. A phase is a function of (thread, threads)
// that reads no shared memory which another thread writes in the same phase. So the same source, with a loop for the threads
// of a phase, is a C++ program: tests/engine/gpu_host.h makes it one, and holds it to the other kernels bit by bit.
//
// Every kernel takes one block of input: a header of int64, then numbers of its precision, then int32 (see plan.py, which
// lays it out), and one of output.

#ifndef EACH_THREAD
#define EACH_THREAD(phase)                                              \
    {                                                                   \
        const int thread = (int)threadIdx.x, threads = (int)blockDim.x; \
        (void)threads;                                                  \
        phase;                                                          \
        __syncthreads();                                                \
    }
#define BLOCK_NUMBER ((long long)blockIdx.x)
#define SHARED_MEMORY(name) extern __shared__ __align__(16) unsigned char name[]
#endif

typedef long long i64;
typedef unsigned long long u64;
typedef unsigned int u32;

// ---- elementary.py and normals.py, step by step ----

__device__ __forceinline__ double fused(double a, double b, double c) { return fma(a, b, c); }
__device__ __forceinline__ float fused(float a, float b, float c) { return fmaf(a, b, c); }
__device__ __forceinline__ double root(double x) { return sqrt(x); }
__device__ __forceinline__ float root(float x) { return sqrtf(x); }
template <typename T> __device__ __forceinline__ T least(T a, T b) { return b < a ? b : a; }
template <typename T> __device__ __forceinline__ T most(T a, T b) { return b > a ? b : a; }

struct ExpParts64 { double even, odd; i64 k; };
struct ExpParts32 { float even, odd; int k; };

__device__ __forceinline__ ExpParts64 exp_parts(double x) {
    const double shift = 6755399441055744.0;
    double shifted = fused(x, 1.4426950408889634, shift), k = shifted - shift;
    double r = fused(k, -1.90821492927058770002e-10, fused(k, -6.93147180369123816490e-01, x)), z = r * r;
    double even = fused(z, fused(z, fused(z, fused(z, fused(z, 1.0 / 479001600.0, 1.0 / 3628800.0), 1.0 / 40320.0), 1.0 / 720.0), 1.0 / 24.0), 0.5);
    double odd = fused(z, fused(z, fused(z, fused(z, fused(z, 1.0 / 6227020800.0, 1.0 / 39916800.0), 1.0 / 362880.0), 1.0 / 5040.0), 1.0 / 120.0), 1.0 / 6.0);
    return {z * even, fused(z * r, odd, r), __double_as_longlong(shifted) - 0x4338000000000000LL};
}

__device__ __forceinline__ ExpParts32 exp_parts(float x) {
    const float shift = 12582912.0f;
    float shifted = fused(x, (float)1.44269504, shift), k = shifted - shift;
    float r = fused(k, -(float)-2.12194440e-4, fused(k, -(float)0.693359375, x)), z = r * r;
    float even = fused(z, fused(z, fused(z, (float)(1.0 / 40320.0), (float)(1.0 / 720.0)), (float)(1.0 / 24.0)), 0.5f);
    float odd = fused(z, fused(z, (float)(1.0 / 5040.0), (float)(1.0 / 120.0)), (float)(1.0 / 6.0));
    return {z * even, fused(z * r, odd, r), __float_as_int(shifted) - 0x4B400000};
}

__device__ __forceinline__ double power_of_two(i64 k) { return __longlong_as_double((i64)((u64)(k + 1023) << 52)); }
__device__ __forceinline__ float power_of_two(int k) { return __int_as_float((int)((u32)(k + 127) << 23)); }
__device__ __forceinline__ double exp_limit(double) { return 708.0; }
__device__ __forceinline__ float exp_limit(float) { return 87.0f; }

template <typename T> __device__ __forceinline__ T bounded_exp(T x) {
    auto parts = exp_parts(x);
    return ((T)1 + (parts.odd + parts.even)) * power_of_two(parts.k);
}
template <typename T> __device__ __forceinline__ T within(T x) { return least(most(x, -exp_limit(x)), exp_limit(x)); }
template <typename T> __device__ __forceinline__ T exponential(T x) { return bounded_exp(within(x)); }
template <typename T> __device__ __forceinline__ void exp_pair(T x, T& up, T& down) {
    auto parts = exp_parts(within(x));
    up = ((T)1 + (parts.even + parts.odd)) * power_of_two(parts.k);
    down = ((T)1 + (parts.even - parts.odd)) * power_of_two(-parts.k);
}

__device__ __forceinline__ void normal_tail(double x, double& p, double& q) {
    p = fused(x, fused(x, 0.000437421844293617574, 0.0069013887841545718), 0.0488296017016097353);
    p = fused(x, fused(x, fused(x, p, 0.194487223525203473), 0.439601750659569949), 0.499999999999994505);
    q = fused(x, fused(x, 0.00109656818145791053, 0.0172954362321617909), 0.123555426806866549);
    q = fused(x, fused(x, fused(x, fused(x, q, 0.504158537709104619), 1.22709711898422096), 1.67708806212005079), 1.0);
}
__device__ __forceinline__ void normal_tail(float x, float& p, float& q) {
    p = fused(x, (float)0.00993287703216416207, (float)0.0864484805702310018);
    p = fused(x, fused(x, p, (float)0.297749091728898374), (float)0.499999999726278686);
    q = fused(x, fused(x, (float)0.0249793879685891974, (float)0.215194970714149771), (float)0.784656451464856367);
    q = fused(x, fused(x, q, (float)1.39338268823334668), 1.0f);
}

__device__ __forceinline__ double log_positive(double x) {
    i64 bits = __double_as_longlong(x);
    double exponent = (double)((bits >> 52) - 1023);
    double m = __longlong_as_double((bits & 0x000FFFFFFFFFFFFFLL) | 0x3FF0000000000000LL);
    if (m > 1.4142135623730951) {
        m = 0.5 * m;
        exponent = exponent + 1.0;
    }
    double f = m - 1.0, s = f / (2.0 + f), z = s * s;
    double tail = z * (6.666666666666735130e-01 + z * (3.999999999940941908e-01 + z * (2.857142874366239149e-01 +
        z * (2.222219843214978396e-01 + z * (1.818357216161805012e-01 + z * (1.531383769920937332e-01 + z * 1.479819860511658591e-01))))));
    double half_square = 0.5 * f * f;
    return exponent * 6.93147180369123816490e-01 - ((half_square - (s * (half_square + tail) + exponent * 1.90821492927058770002e-10)) - f);
}
__device__ __forceinline__ float log_positive(float x) {
    int bits = __float_as_int(x);
    float exponent = (float)((bits >> 23) - 127);
    float m = __int_as_float((bits & 0x007FFFFF) | 0x3F800000);
    if (m > (float)1.41421356) {
        m = 0.5f * m;
        exponent = exponent + 1.0f;
    }
    float s = (m - 1.0f) / (m + 1.0f), z = s * s;
    float series = fused(z, fused(z, fused(z, (float)(2.0 / 9.0), (float)(2.0 / 7.0)), (float)(2.0 / 5.0)), (float)(2.0 / 3.0));
    return fused(exponent, (float)0.693359375, fused(exponent, (float)-2.12194440e-4, fused(s * z, series, s + s)));
}

template <typename T> __device__ __forceinline__ void turned(int quarter, T sine, T cosine, T& first, T& second) {
    bool odd = (quarter & 1) != 0;
    first = odd ? sine : cosine;
    second = odd ? cosine : sine;
    first = ((quarter + 1) & 2) != 0 ? -first : first;
    second = (quarter & 2) != 0 ? -second : second;
}
__device__ __forceinline__ void cos_sin_turn(double u, double& first, double& second) {
    int quarter = (int)(4.0 * u + 0.5);
    double x = 6.283185307179586 * (u - 0.25 * (double)quarter), z = x * x;
    double sine = x + x * z * (-1.66666666666666324348e-01 + z * (8.33333333332248946124e-03 + z * (-1.98412698298579493134e-04 +
        z * (2.75573137070700676789e-06 + z * (-2.50507602534068634195e-08 + z * 1.58969099521155010221e-10)))));
    double cosine = 1.0 - (0.5 * z - z * z * (4.16666666666666019037e-02 + z * (-1.38888888888741095749e-03 + z * (2.48015872894767294178e-05 +
        z * (-2.75573143513906633035e-07 + z * (2.08757232129817482790e-09 - z * 1.13596475577881948265e-11))))));
    turned(quarter, sine, cosine, first, second);
}
__device__ __forceinline__ void cos_sin_turn(float u, float& first, float& second) {
    int quarter = (int)fused(4.0f, u, 0.5f);
    float x = (float)6.28318531 * fused(-0.25f, (float)quarter, u), z = x * x;
    float sine = fused(z, fused(z, fused(z, (float)(1.0 / 362880.0), (float)(-1.0 / 5040.0)), (float)(1.0 / 120.0)), (float)(-1.0 / 6.0));
    sine = fused(x * z, sine, x);
    float cosine = fused(z, fused(z, fused(z, (float)(-1.0 / 3628800.0), (float)(1.0 / 40320.0)), (float)(-1.0 / 720.0)), (float)(1.0 / 24.0));
    cosine = fused(z, fused(z, cosine, -0.5f), 1.0f);
    turned(quarter, sine, cosine, first, second);
}

__device__ __forceinline__ void uniforms(u32 radius_word, u32 turn_word, double& radius, double& turn) {
    radius = ((double)radius_word + 0.5) * 2.3283064365386963e-10;  // 2**-32
    turn = (double)turn_word * 2.3283064365386963e-10;
}
__device__ __forceinline__ void uniforms(u32 radius_word, u32 turn_word, float& radius, float& turn) {
    radius = fused((float)(int)(radius_word >> 1), 4.656612873077393e-10f, 0.5f * 4.656612873077393e-10f);  // 2**-31
    turn = (float)(int)(turn_word >> 1) * 4.656612873077393e-10f;
}

struct Words { u32 a, b, c, d; };

__device__ __forceinline__ Words philox(u64 counter, u64 stream, u64 seed) {
    Words w = {(u32)counter, (u32)(counter >> 32), (u32)stream, (u32)(stream >> 32)};
    u32 k0 = (u32)seed, k1 = (u32)(seed >> 32);
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        u64 p0 = 0xD2511F53ull * w.a, p1 = 0xCD9E8D57ull * w.c;
        w = {(u32)(p1 >> 32) ^ w.b ^ k0, (u32)p1, (u32)(p0 >> 32) ^ w.d ^ k1, (u32)p0};
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return w;
}

// The four normals of one counter, at z[0], z[stride], ...
template <typename T> __device__ __forceinline__ void four_normals(u64 scenario, u64 block, u64 stream, u64 seed, T* z, int stride) {
    Words w = philox(scenario | block << 32, stream, seed);
#pragma unroll
    for (int pair = 0; pair < 2; ++pair) {
        T radius, turn, cosine, sine;
        uniforms(pair ? w.c : w.a, pair ? w.d : w.b, radius, turn);
        radius = root((T)-2 * log_positive(radius));
        cos_sin_turn(turn, cosine, sine);
        z[(2 * pair) * stride] = radius * cosine;
        z[(2 * pair + 1) * stride] = radius * sine;
    }
}

// ---- revaluation.py: a book in correlated scenarios ----

const int LINES_AT_ONCE = 64;

// A block's rows (scenarios) are columns of every array in shared memory; 1 << shift of them.
template <typename T> struct Book {
    u64 seed, stream;
    i64 first, count;
    int assets, padded, shift, linear, options, payoffs, near;
    const T *loading, *moved, *slope, *bend, *linear_value, *forward, *cash, *start, *rise, *width, *now;
    const T *payoff_forward, *payoff_cash, *payoff_side, *payoff_now;
    const int *filled, *linear_asset, *option_asset, *payoff_asset;
};

const int BOOK_HEADER = 16;

template <typename T> __device__ __forceinline__ Book<T> book_of(const void* input) {
    const i64* head = (const i64*)input;
    Book<T> b;
    b.seed = (u64)head[0], b.stream = (u64)head[1], b.first = head[2], b.count = head[3];
    b.assets = (int)head[4], b.padded = (int)head[5], b.shift = (int)head[6], b.linear = (int)head[7];
    b.options = (int)head[8], b.payoffs = (int)head[9], b.near = (int)head[10];
    const T* at = (const T*)(head + BOOK_HEADER);
    b.loading = at, at += b.assets * b.padded;
    b.moved = at, at += b.assets;
    b.slope = at, at += b.assets * b.near;
    b.bend = at, at += b.assets * b.near;
    b.linear_value = at, at += b.linear;
    b.forward = at, at += b.options;
    b.cash = at, at += b.options;
    b.start = at, at += b.options;
    b.rise = at, at += b.options;
    b.width = at, at += b.options;
    b.now = at, at += b.options;
    b.payoff_forward = at, at += b.payoffs;
    b.payoff_cash = at, at += b.payoffs;
    b.payoff_side = at, at += b.payoffs;
    b.payoff_now = at, at += b.payoffs;
    const int* whole = (const int*)at;
    b.filled = whole, whole += b.assets;
    b.linear_asset = whole, whole += b.linear;
    b.option_asset = whole, whole += b.options;
    b.payoff_asset = whole;
    return b;
}

template <typename T> __device__ __forceinline__ T option_value(T move, T growth, T forward, T cash, T start, T rise, T width) {
    T x1 = fused(rise, move, start), x2 = x1 - width;
    T a1 = least(x1 < 0 ? -x1 : x1, (T)13), a2 = least(x2 < 0 ? -x2 : x2, (T)13);
    T p1, q1, p2, q2;
    normal_tail(a1, p1, q1);
    normal_tail(a2, p2, q2);
    T grown = forward * growth, density = grown * bounded_exp((T)-0.5 * a1 * a1) / (q1 * q2);
    T tail1 = density * (p1 * q2), tail2 = density * (p2 * q1);
    return (x1 < 0 ? tail1 : grown - tail1) - (x2 < 0 ? tail2 : cash - tail2);
}

template <typename T> __device__ void draw_phase(int thread, int threads, const Book<T>& b, i64 begin, T* z) {
    const int rows = 1 << b.shift;
    for (int item = thread; item < b.padded / 4 * rows; item += threads) {
        const int row = item & (rows - 1), block = item >> b.shift;
        four_normals<T>((u64)(b.first + begin + row), (u64)block, b.stream, b.seed, z + ((block * 4) << b.shift) + row, rows);
    }
}

template <typename T> __device__ void move_phase(int thread, int threads, const Book<T>& b, const T* z, T* moves) {
    const int rows = 1 << b.shift;
    for (int item = thread; item < b.assets * rows; item += threads) {
        const int row = item & (rows - 1), i = item >> b.shift;
        const T* factor = b.loading + i * b.padded;
        T move = b.moved[i];
        for (int j = 0; j < b.filled[i]; j += 4) {
            T step = fused(factor[j], z[(j << b.shift) + row], move);
            step = fused(factor[j + 1], z[((j + 1) << b.shift) + row], step);
            step = fused(factor[j + 2], z[((j + 2) << b.shift) + row], step);
            move = fused(factor[j + 3], z[((j + 3) << b.shift) + row], step);
        }
        moves[item] = move;
    }
}

// growth takes the normals' place.
template <typename T> __device__ void growth_phase(int thread, int threads, const Book<T>& b, const T* moves, T* growth) {
    for (int item = thread; item < b.assets << b.shift; item += threads) growth[item] = exponential(moves[item]);
}

// What lines from `line` on add to each scenario's profit, LINES_AT_ONCE of them.
template <typename T> __device__ void line_phase(int thread, int threads, const Book<T>& b, int line, const T* moves, const T* growth, T* terms) {
    const int rows = 1 << b.shift, left = b.linear + b.options + b.payoffs - line;
    for (int item = thread; item < least(left, LINES_AT_ONCE) * rows; item += threads) {
        const int row = item & (rows - 1);
        int k = line + (item >> b.shift);
        if (k < b.linear) {
            terms[item] = fused(b.linear_value[k], growth[(b.linear_asset[k] << b.shift) + row], -b.linear_value[k]);
        } else if ((k -= b.linear) < b.options) {
            const int at = (b.option_asset[k] << b.shift) + row;
            terms[item] = option_value(moves[at], growth[at], b.forward[k], b.cash[k], b.start[k], b.rise[k], b.width[k]) - b.now[k];
        } else {
            k -= b.options;
            const T side = b.payoff_side[k];
            const T pays = side * fused(b.payoff_forward[k], growth[(b.payoff_asset[k] << b.shift) + row], -b.payoff_cash[k]);
            terms[item] = (pays > (T)0 ? side * pays : (T)0) - b.payoff_now[k];
        }
    }
}

template <typename T> __device__ void sum_phase(int thread, const Book<T>& b, int line, const T* terms, T* sums) {
    if (thread >= 1 << b.shift) return;
    const int lines = least(b.linear + b.options + b.payoffs - line, LINES_AT_ONCE);
    T sum = line == 0 ? (T)0 : sums[thread];
    for (int k = 0; k < lines; ++k) sum += terms[(k << b.shift) + thread];
    sums[thread] = sum;
}

template <typename T> __device__ void gain_phase(int thread, const Book<T>& b, i64 begin, const T* moves, const T* sums, T* out) {
    if (thread >= 1 << b.shift || begin + thread >= b.count) return;
    out[begin + thread] = b.linear + b.options + b.payoffs > 0 ? sums[thread] : (T)0;
    if (!b.near) return;
    T near = 0;
    for (int i = 0; i < b.assets; ++i) {
        const T move = moves[(i << b.shift) + thread];
        near = fused(fused(b.bend[i], move, b.slope[i]), move, near);
    }
    out[b.count + begin + thread] = near;
}

// output: the profits of count scenarios, then (near) their quadratics. Shared: padded + assets + LINES_AT_ONCE + 1 rows.
template <typename T> __device__ __forceinline__ void book_block(const void* input, void* output) {
    SHARED_MEMORY(memory);
    const Book<T> b = book_of<T>(input);
    const i64 begin = BLOCK_NUMBER << b.shift;
    T* z = (T*)memory;
    T* moves = z + (b.padded << b.shift);
    T* terms = moves + (b.assets << b.shift);
    T* sums = terms + (LINES_AT_ONCE << b.shift);
    EACH_THREAD(draw_phase<T>(thread, threads, b, begin, z));
    EACH_THREAD(move_phase<T>(thread, threads, b, z, moves));
    EACH_THREAD(growth_phase<T>(thread, threads, b, moves, z));
    for (int line = 0; line < b.linear + b.options + b.payoffs; line += LINES_AT_ONCE) {
        EACH_THREAD(line_phase<T>(thread, threads, b, line, moves, z, terms));
        EACH_THREAD(sum_phase<T>(thread, b, line, terms, sums));
    }
    EACH_THREAD(gain_phase<T>(thread, b, begin, moves, sums, (T*)output));
}

// ---- pathkernels.py: Asian and barrier options along paths ----

const int ROWS_AT_ONCE = 32;  // steps times assets that are in shared memory at a time
const int STATES = 7;         // of a path, beside its log returns: as `sums` of pathkernels.py
const int MOMENTS = 7;        // sums of a cell: Asian, its square, geometric, its square, Asian times geometric, barrier, its square
const int PATH_HEADER = 16;

template <typename T> struct Paths {
    u64 seed, stream;
    i64 first, count, cell;
    int assets, steps, shift, antithetic, chunk;
    const T *loading, *weighted_forward, *mean_weight, *bridge, *terms;
};

template <typename T> __device__ __forceinline__ Paths<T> paths_of(const void* input) {
    const i64* head = (const i64*)input;
    Paths<T> p;
    p.seed = (u64)head[0], p.stream = (u64)head[1], p.first = head[2], p.count = head[3];
    p.assets = (int)head[4], p.steps = (int)head[5], p.shift = (int)head[6], p.antithetic = (int)head[7], p.cell = head[8];
    p.chunk = ROWS_AT_ONCE / p.assets & ~3;
    p.loading = (const T*)(head + PATH_HEADER);
    p.weighted_forward = p.loading + p.assets * p.assets;
    p.mean_weight = p.weighted_forward + p.steps * p.assets;
    p.bridge = p.mean_weight + p.assets;
    p.terms = p.bridge + p.steps + 1;
    return p;
}

// Shared memory of a block, arrays of 1 << shift columns.
template <typename T> struct PathMemory {
    double* moments;            // MOMENTS rows
    T *z, *up, *touch;          // ROWS_AT_ONCE rows each; z becomes y
    T *y, *state;               // assets and STATES rows
    T *down, *mirrored_touch;   // ROWS_AT_ONCE rows each, for antithetic paths alone
};

template <typename T> __device__ void begin_phase(int thread, const Paths<T>& p, const PathMemory<T>& m, bool cell) {
    const int columns = 1 << p.shift;
    if (thread >= columns) return;
    for (int i = 0; i < p.assets; ++i) m.y[i * columns + thread] = 0;
    const T near = most(p.bridge[0], (T)0);
    const T first[STATES] = {0, 0, 0, near, 1, near, 1};
    for (int k = 0; k < STATES; ++k) m.state[k * columns + thread] = first[k];
    for (int k = 0; cell && k < MOMENTS; ++k) m.moments[k * columns + thread] = 0;
}

template <typename T> __device__ void path_draw_phase(int thread, int threads, const Paths<T>& p, i64 begin, int start, int rows, T* z) {
    const int columns = 1 << p.shift;
    for (int item = thread; item < (rows + 3) / 4 * columns; item += threads) {
        const int column = item & (columns - 1), block = item >> p.shift;
        four_normals<T>((u64)(p.first + begin + column), (u64)(start * p.assets / 4 + block), p.stream, p.seed, z + block * 4 * columns + column, columns);
    }
}

// Normals become log returns, step by step; the last asset first, as each needs the normals of those before it.
template <typename T> __device__ void walk_phase(int thread, const Paths<T>& p, int steps, const PathMemory<T>& m) {
    const int columns = 1 << p.shift;
    if (thread >= columns) return;
    for (int i = p.assets - 1; i >= 0; --i) {
        const T* loading = p.loading + i * p.assets;
        T y = m.y[i * columns + thread];
        for (int step = 0; step < steps; ++step) {
            T* z = m.z + step * p.assets * columns + thread;
            for (int j = 0; j <= i; ++j) y = fused(loading[j], z[j * columns], y);
            z[i * columns] = y;
        }
        m.y[i * columns + thread] = y;
    }
}

template <typename T> __device__ __forceinline__ T distance(T side, T y, T base) { return most(fused(side, y, base), (T)0); }

// Exponentials of every log return, and the chance of having touched the barrier since the step before.
template <typename T> __device__ void exp_phase(int thread, int threads, const Paths<T>& p, int start, int steps, const PathMemory<T>& m) {
    const int columns = 1 << p.shift;
    for (int item = thread; item < steps * p.assets * columns; item += threads) {
        if (p.antithetic) exp_pair(m.z[item], m.up[item], m.down[item]);
        else m.up[item] = exponential(m.z[item]);
    }
    const T side = p.terms[0], rate = p.terms[1];
    for (int item = thread; item < steps * columns; item += threads) {
        const int column = item & (columns - 1), step = item >> p.shift;
        const T base = p.bridge[start + step + 1], earlier = p.bridge[start + step];
        const T y = m.z[step * p.assets * columns + column];
        const T before = step == 0 ? (T)0 : m.z[(step - 1) * p.assets * columns + column];
        const T from = step == 0 ? m.state[3 * columns + column] : distance(side, before, earlier);
        m.touch[item] = exponential(rate * (from * distance(side, y, base)));
        if (p.antithetic) {
            const T mirrored = step == 0 ? m.state[5 * columns + column] : distance(-side, before, earlier);
            m.mirrored_touch[item] = exponential(rate * (mirrored * distance(-side, y, base)));
        }
    }
}

template <typename T> __device__ void gather_phase(int thread, const Paths<T>& p, int start, int steps, const PathMemory<T>& m) {
    const int columns = 1 << p.shift;
    if (thread >= columns) return;
    T* state = m.state + thread;
    T total = state[0], mirrored = state[columns], mean = state[2 * columns], alive = state[4 * columns], image = state[6 * columns];
    for (int step = 0; step < steps; ++step) {
        for (int i = 0; i < p.assets; ++i) {
            const int at = (step * p.assets + i) * columns + thread;
            const T forward = p.weighted_forward[(start + step) * p.assets + i];
            total = fused(forward, m.up[at], total);
            if (p.antithetic) mirrored = fused(forward, m.down[at], mirrored);
            mean = fused(p.mean_weight[i], m.z[at], mean);
        }
        alive -= alive * m.touch[step * columns + thread];
        if (p.antithetic) image -= image * m.mirrored_touch[step * columns + thread];
    }
    const T last = m.z[(steps - 1) * p.assets * columns + thread], base = p.bridge[start + steps], side = p.terms[0];
    state[0] = total, state[columns] = mirrored, state[2 * columns] = mean;
    state[3 * columns] = distance(side, last, base), state[4 * columns] = alive;
    state[5 * columns] = distance(-side, last, base), state[6 * columns] = image;
}

template <typename T> __device__ __forceinline__ T pays(T sign, T spot, T strike) { return most(sign * (spot - strike), (T)0); }

template <typename T> __device__ void add_payoffs(const Paths<T>& p, const T* y, T sign, T total, T mean, T alive, T share, T* paid) {
    const int columns = 1 << p.shift;
    T spot = 0;
    for (int i = 0; i < p.assets; ++i) spot = fused(p.weighted_forward[(p.steps - 1) * p.assets + i], exponential(sign * y[i * columns]), spot);
    const T geometric = p.terms[6] * exponential(sign * mean);
    paid[0] += share * pays(p.terms[2], total / (T)p.steps, p.terms[3]);
    paid[1] += share * pays(p.terms[2], geometric, p.terms[3]);
    paid[2] += share * alive * pays(p.terms[4], spot, p.terms[5]);
}

template <typename T> __device__ void pay_phase(int thread, const Paths<T>& p, i64 begin, i64 end, const PathMemory<T>& m, bool cell, T* out) {
    const int columns = 1 << p.shift;
    if (thread >= columns || begin + thread >= end) return;
    const T *state = m.state + thread, *y = m.y + thread;
    const T discount = p.terms[7], mean = state[2 * columns];
    T paid[3] = {0, 0, 0};
    if (p.antithetic) {
        add_payoffs<T>(p, y, 1, state[0], mean, state[4 * columns], discount / (T)2, paid);
        add_payoffs<T>(p, y, -1, state[columns], mean, state[6 * columns], discount / (T)2, paid);
    } else {
        add_payoffs<T>(p, y, 1, state[0], mean, state[4 * columns], discount, paid);
    }
    if (!cell) {
        for (int k = 0; k < 3; ++k) out[k * p.count + begin + thread] = paid[k];
        return;
    }
    const double asian = paid[0], geometric = paid[1], barrier = paid[2];
    const double one[MOMENTS] = {asian, asian * asian, geometric, geometric * geometric, asian * geometric, barrier, barrier * barrier};
    for (int k = 0; k < MOMENTS; ++k) m.moments[k * columns + thread] += one[k];
}

template <typename T> __device__ void moment_phase(int thread, const Paths<T>& p, i64 cell, const PathMemory<T>& m, double* out) {
    const int columns = 1 << p.shift;
    if (thread >= MOMENTS) return;
    double sum = 0;
    for (int k = 0; k < columns; ++k) sum += m.moments[thread * columns + k];
    out[cell * MOMENTS + thread] = sum;
}

// output: three payoffs of count samples; or, for cells of `cell` samples each, their moments (float64).
// Shared: MOMENTS rows of float64, then 3 ROWS_AT_ONCE + assets + STATES rows, and 2 ROWS_AT_ONCE more if antithetic.
template <typename T, bool CELLS> __device__ __forceinline__ void path_block(const void* input, void* output) {
    SHARED_MEMORY(memory);
    const Paths<T> p = paths_of<T>(input);
    const int columns = 1 << p.shift;
    PathMemory<T> m;
    m.moments = (double*)memory;
    m.z = (T*)(m.moments + MOMENTS * columns);
    m.up = m.z + ROWS_AT_ONCE * columns;
    m.touch = m.up + ROWS_AT_ONCE * columns;
    m.y = m.touch + ROWS_AT_ONCE * columns;
    m.state = m.y + p.assets * columns;
    m.down = m.state + STATES * columns;
    m.mirrored_touch = m.down + ROWS_AT_ONCE * columns;
    const i64 size = CELLS ? p.cell : (i64)columns, own = BLOCK_NUMBER * size, end = least(own + size, p.count);
    for (i64 begin = own; begin < end; begin += columns) {
        EACH_THREAD(begin_phase<T>(thread, p, m, CELLS && begin == own));
        for (int start = 0; start < p.steps; start += p.chunk) {
            const int steps = least(p.chunk, p.steps - start);
            EACH_THREAD(path_draw_phase<T>(thread, threads, p, begin, start, steps * p.assets, m.z));
            EACH_THREAD(walk_phase<T>(thread, p, steps, m));
            EACH_THREAD(exp_phase<T>(thread, threads, p, start, steps, m));
            EACH_THREAD(gather_phase<T>(thread, p, start, steps, m));
        }
        EACH_THREAD(pay_phase<T>(thread, p, begin, end, m, CELLS, (T*)output));
    }
    if (CELLS) EACH_THREAD(moment_phase<T>(thread, p, BLOCK_NUMBER, m, (double*)output));
}

extern "C" {
__global__ void __launch_bounds__(256, 2) book_f64(const void* input, void* output) { book_block<double>(input, output); }
__global__ void __launch_bounds__(256, 2) book_f32(const void* input, void* output) { book_block<float>(input, output); }
__global__ void __launch_bounds__(256, 2) paths_f64(const void* input, void* output) { path_block<double, false>(input, output); }
__global__ void __launch_bounds__(256, 2) paths_f32(const void* input, void* output) { path_block<float, false>(input, output); }
__global__ void __launch_bounds__(256, 2) moments_f64(const void* input, void* output) { path_block<double, true>(input, output); }
// A million paths are 977 cells: eight blocks of 128 threads on each of 132 multiprocessors take them at once.
__global__ void __launch_bounds__(256, 4) moments_f32(const void* input, void* output) { path_block<float, true>(input, output); }
}
