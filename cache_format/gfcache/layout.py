"""Every constant of SPEC.md, in its order."""

from __future__ import annotations

import struct

# How cache files are called.
SUFFIX = ".gfc"

# Prefix (SPEC 2.1). The magic is shaped after PNG's: a transfer that drops the high bit, rewrites line ends or
# stops at control-Z damages it visibly.
MAGIC = b"\x89GFC\r\n\x1a\n"
FORMAT_MAJOR = 1
FORMAT_MINOR = 0
# magic, major, minor, header_bytes, file_bytes, reserved; the SHA-256 of these and of the header follows.
PREFIX = struct.Struct("<8sHHIQQ")
DIGEST_BYTES = 32
HEADER_OFFSET = PREFIX.size + DIGEST_BYTES  # 64
ALIGNMENT = 64

# Limits (SPEC 4)
MAX_HEADER_BYTES = 16 << 20
MAX_SECTIONS = 65_536
MAX_TOKENS = 1 << 40
MAX_DIMENSIONS = 5
MAX_NESTING = 32
MAX_NAME_CHARACTERS = 200
MAX_PATH_CHARACTERS = 4096
MAX_PARENTS = 16
# Files that lend blocks to one.
MAX_LENDERS = 16
# A zstandard section may not claim more than this multiple of its stored bytes (plus a constant).
MAX_EXPANSION = 1024
EXPANSION_SLACK_BYTES = 1 << 20

# Fields of the configuration that sizes follow from: counts, then names of layer kinds.
CONFIG_COUNTS = ("n_layer", "d_model", "vocab_size", "head_dim", "layer_ratio", "compression_ratio")
SHAPING = (*CONFIG_COUNTS, "time_mix", "upper_time_mix")

# dtype name -> bytes per element. bf16 travels as 16-bit words: numpy has no such type.
DTYPES = {"f64": 8, "f32": 4, "f16": 2, "bf16": 2, "u8": 1, "u16": 2, "u32": 4}
FLOAT_DTYPES = ("f64", "f32", "f16", "bf16")
NUMPY_DTYPES = {"f64": "<f8", "f32": "<f4", "f16": "<f2", "bf16": "<u2", "u8": "u1", "u16": "<u2", "u32": "<u4"}
COMPUTE_DTYPES = ("f64", "f32", "bf16")
DEPENDS_ON = ("prefill", "model")

# Section kinds (SPEC 3); format/families tells what each family of models stores of them
TOKEN_IDS = "token_ids"
COMPRESSED_K = "compressed_k"
WKV_STATE = "wkv_state"
TIME_SHIFT_STATE = "time_shift_state"
CHANNEL_SHIFT_STATE = "channel_shift_state"
TAIL_HIDDEN = "tail_hidden"
ATTENTION_KV = "attention_kv"
ATTENTION_TIME_SHIFT_STATE = "attention_time_shift_state"
ATTENTION_CHANNEL_SHIFT_STATE = "attention_channel_shift_state"
LAST_LOGITS = "last_logits"
ERROR_RECEIPT = "error_receipt"
SOURCE_TEXT = "source_text"
DROPPED_TOKENS = "dropped_tokens"
DOCUMENT_INDEX = "document_index"
ROW_DIGESTS = "row_digests"
KEPT_POSITIONS = "kept_positions"
ENCRYPTED = "encrypted"  # reserved: version 1 writes none
# Kinds of models that are not ours (SPEC 1.1)
KV_KEYS = "kv_keys"
KV_VALUES = "kv_values"
WINDOW_KEYS = "window_keys"
WINDOW_VALUES = "window_values"
LAYER_STATE = "layer_state"
BLOCK_TOKEN_IDS = "block_token_ids"
BLOCK_PLACES = "block_places"
# Tokens that may be added to a block behind its own: a line break.
MOST_ADDED = 8
BLOCK_KEYS = "block_keys"
BLOCK_VALUES = "block_values"
BLOCK_STATE = "block_state"
# Tokens of one section of keys or values.
RANGE_TOKENS = 4096
# Tokens of one compressed_k section: a reader can take a long document in pieces.
CHUNK_TOKENS = 65_536
# Rows of compressed_k of one digest among row_digests: so few can be read, and checked, alone.
DIGEST_ROWS = 1024


def align(offset: int) -> int:
    """The next multiple of ALIGNMENT."""
    return -(-offset // ALIGNMENT) * ALIGNMENT
