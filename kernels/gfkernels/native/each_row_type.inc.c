/* Includes BODY twice, for float32 and for bfloat16 rows: ROW is the type of a number, LOAD makes a float of it, STORE
 * makes it from a float, and FN(name) is f32_name or bf16_name. All of them are undefined again. */
#define ROW float
#define LOAD load_f32
#define STORE store_f32
#define FN(name) f32_##name
#include BODY
#undef ROW
#undef LOAD
#undef STORE
#undef FN
#define ROW bf16
#define LOAD load_bf16
#define STORE store_bf16
#define FN(name) bf16_##name
#include BODY
#undef ROW
#undef LOAD
#undef STORE
#undef FN
#undef BODY
