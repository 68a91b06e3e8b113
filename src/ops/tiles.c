#include "../kernels/gemm.h"
#include "ops.h"

static size_t round_up(size_t a, size_t step) { return (a + step - 1) / step * step; }
static size_t at_least(size_t a, size_t least) { return a > least ? a : least; }

/* One thread takes all columns of a row block, so that A is read once into the cache. More threads want a few blocks each:
 * first from rows, and from columns where there are too few rows. */
tile_grid tile_grid_of(size_t m, size_t n, size_t most_rows, int threads) {
    const size_t wanted = threads > 1 ? (size_t)threads * 4 : 1;
    tile_grid grid = { .m = m, .n = n };
    size_t rows = at_least(round_up((m + wanted - 1) / wanted, GEMM_MR), threads > 1 ? 4 * GEMM_MR : GEMM_MR);
    if (rows > most_rows) rows = at_least(most_rows / GEMM_MR, 1) * GEMM_MR;
    grid.rows = rows;
    grid.row_blocks = (int)((m + rows - 1) / rows);
    size_t column_blocks = threads > 1 && grid.row_blocks ? (wanted + (size_t)grid.row_blocks - 1) / (size_t)grid.row_blocks : 1;
    grid.columns = at_least(round_up((n + column_blocks - 1) / column_blocks, GEMM_NR), 4 * GEMM_NR);
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
