#include "../kernels/gemm.h"
#include "ops.h"

static size_t round_up(size_t a, size_t step) { return (a + step - 1) / step * step; }
static size_t at_least(size_t a, size_t least) { return a > least ? a : least; }

/* Multiplications that make a task: about 10 microseconds; where there are many, up to TASKS for each thread, so that threads end together. */
enum { TASK = 300 * 1000, TASKS = 32 };

int task_count(size_t work, int threads) {
    size_t most = (size_t)threads * TASKS, tasks = work / TASK;
    return threads == 1 || !tasks ? 1 : (int)(tasks < most ? tasks : most);
}

/* One thread takes all columns of a row block, so that A is read once into the cache. More threads cut rows and columns so that the blocks
 * together read little of A, which is in the caches, and less of B, which comes from memory. */
tile_grid tile_grid_of(size_t m, size_t n, size_t k, size_t most_rows, int threads) {
    size_t row_tiles = (m + GEMM_MR - 1) / GEMM_MR, tasks = (size_t)task_count((m < GEMM_MR ? GEMM_MR : m) * n * k, threads), rows = 1;
    while (rows < row_tiles && (rows + 1) * (rows + 1) * n * 4 <= tasks * m) rows++;
    tile_grid grid = { .m = m, .n = n, .rows = at_least(round_up(row_tiles, rows) / rows, 1) * GEMM_MR };
    if (grid.rows > most_rows) grid.rows = at_least(most_rows / GEMM_MR, 1) * GEMM_MR;
    grid.row_blocks = (int)((m + grid.rows - 1) / grid.rows);
    size_t columns = tasks > 1 && grid.row_blocks ? (tasks + (size_t)grid.row_blocks - 1) / (size_t)grid.row_blocks : 1;
    grid.columns = at_least(round_up((n + columns - 1) / columns, 4 * GEMM_NR), 4 * GEMM_NR);
    grid.column_blocks = (int)((n + grid.columns - 1) / grid.columns);
    return grid;
}

tile tile_at(const tile_grid *grid, int index) {
    tile t = { .row = (size_t)(index / grid->column_blocks) * grid->rows,
               .column = (size_t)(index % grid->column_blocks) * grid->columns };
    t.rows = grid->m - t.row < grid->rows ? grid->m - t.row : grid->rows;
    t.columns = grid->n - t.column < grid->columns ? grid->n - t.column : grid->columns;
    return t;
}
