/* The memory-bound rest of a Finch-C2 layer, and WKV6, on the CPU: compiled on first use by build.py.
 *
 * Notation: B batch (1 where it is not named), T tokens, C channels, H heads, D head dim, K key channel, V value
 * channel. Every function exists for float32 and bfloat16 rows; arithmetic and states are float32. Parameter vectors
 * are float32. Written in plain C with GCC/Clang vector extensions; no intrinsics, so any CPU will do.
 */
#include "common.h"

#define ROWS 4
#define NV 1
#include "wkv6_columns.inc.c"
#define NV 2
#include "wkv6_columns.inc.c"
#define NV 4
#include "wkv6_columns.inc.c"

/* Up to so many tokens, turning the state round costs more than it saves. */
#define FEW 4
/* Tokens of which r, w, k, v and y of one head stay in the first-level cache. */
#define TILE 32

#define BODY "kernels_rows.inc.c"
#include "each_row_type.inc.c"
