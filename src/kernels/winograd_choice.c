/* Which tile: a model of the cycles, fitted to tests/bench/kernels.mjs with weights that are not in the caches. */
#include "winograd.h"

static size_t divide_up(size_t a, size_t b) { return (a + b - 1) / b; }

/* `rows` rows by `panels` panels: few rows wait for their own sums. */
static double product_cycles(double rows, double k, double panels) {
    static const double step[GEMM_MR] = {0, 4, 4, 4.2, 4.6, 5.5};
    double whole = (double)(size_t)(rows / GEMM_MR), call = 70;
    size_t rest = (size_t)rows % GEMM_MR;
    return panels * (whole * (6.3 * k + call) + (rest ? step[rest] * k + call : 0));
}

/* Weights come from memory while the first rows are multiplied by them; the rows after those find them in the cache. */
static double with_reading(double computing, double rows, double floats) {
    double reading = 1.1 * floats, first = rows > GEMM_MR ? computing * GEMM_MR / rows : computing;
    return computing + (reading > first ? reading - first : 0);
}

/* Cycles that are fitted. */
typedef struct prices {
    double transform;       /* of four channels of a tile, in or out */
    double filters;         /* of a panel's filters of one channel: reading and transforming them */
} prices;

static double winograd_cycles(size_t tile, size_t out_h, size_t out_w, size_t c, double panels) {
    static const prices of_2 = {35, 95}, of_4 = {120, 140};
    const prices *p = tile == 4 ? &of_4 : &of_2;
    const double call = 60, pixel = 30;     /* of gemm_f32; of a pixel copied at the image's edge */
    size_t rows = divide_up(out_h, tile), columns = divide_up(out_w, tile), tiles = rows * columns, points = (tile + 2) * (tile + 2);
    size_t blocks = winograd_blocks(tiles, points, c), block = blocks ? divide_up(tiles, blocks) : 0, last = blocks ? tiles - (blocks - 1) * block : 0;
    size_t edges = rows > 2 && columns > 2 ? 2 * (rows + columns) - 4 : rows * columns;
    double k = (double)c, product = product_cycles((double)last, k, panels);
    if (blocks > 1) product += (double)(blocks - 1) * product_cycles((double)block, k, panels);
    return (double)points * (product + (double)blocks * panels * call + (double)edges * pixel) + (double)blocks * panels * k * p->filters +
           (double)tiles * p->transform * (k / 4 + panels * 2);
}

int winograd_choose(size_t out_h, size_t out_w, size_t c, size_t n) {
    double k = (double)c, panels = (double)divide_up(n, GEMM_NR);
    double pixels = (double)(out_h * out_w), direct = with_reading(product_cycles(pixels, 9 * k, panels), pixels, 9 * k * panels * GEMM_NR);
    double two = winograd_cycles(2, out_h, out_w, c, panels), four = winograd_cycles(4, out_h, out_w, c, panels);
    /* A larger error must buy something: less than an eighth is not worth it. */
    double best = four * 1.125 < two ? four : two;
    if (pixels == 0 || best * 1.125 > direct) return 0;
    return best == four ? 4 : 2;
}
