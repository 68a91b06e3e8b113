/* A small network that holds most of the engine's paths, for tests that must walk through all of it. */
#pragma once
#include "lamella.h"

/* Input [n, 6, h, w], one output [n, 5]. */
lam_graph *net_record(void);
/* Fills every weight with values that follow from its name and index; rows in steps of `step`, last first when `backwards`. */
lam_status net_load(lam_graph *g, int step, int backwards);
/* The value net_load gives to element `i` of a weight. */
float net_value(const char *name, int i);
/* Runs g on an input of this size whose elements follow from `seed`; returns a malloc'ed copy of output 0, or NULL. */
float *net_run(lam_graph *g, lam_pool *pool, int n, int h, int w, unsigned seed, int *count);
