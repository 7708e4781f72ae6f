"""Every tolerance of the tests, in one place. They never depend on the environment."""

# Golden vectors: absolute, on logits and on state tensors (reference: float64).
GOLDEN_FP32 = 2e-4
GOLDEN_FP64 = 1e-9
# Intermediate tensors in float32: relative to the largest value of the tensor.
GOLDEN_INTERMEDIATE = 1e-5
# WKV6 against the float64 recurrence: relative to the largest value.
WKV6_FP32 = 1e-5
WKV6_FP64 = 1e-12
# Whole = chunked = step by step, relative to the largest value.
SPLIT_FP32 = 2e-5
SPLIT_FP64 = 1e-11
# bfloat16: rms of the difference between two splits, relative to the rms of the values.
SPLIT_BF16_RMS = 2e-2
# Expanded and block-rebuilt keys and values, float32, relative.
PATHS_FP32 = 2e-5
# The tail property in float64, absolute on logits.
TAIL_FP64 = 1e-10
# Gradients of WKV6 in float32 against float64, relative to the largest value: dw_raw multiplies by log_w.
WKV6_GRADIENT_FP32 = 5e-5
# A batch of answers beside one by one, float32, relative to the largest logit.
BATCH_FP32 = 2e-5
# A model of others behind its cache beside one pass without, absolute on logits.
FOREIGN_FP32 = 1e-4
# The same in bf16 beside f32, relative to the largest logit: up to 2.2e-2 was seen, 8 bits of mantissa through layers.
FOREIGN_BF16 = 6e-2
