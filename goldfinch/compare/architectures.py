"""What architectures keep of a document and compute for it, by formula: also those that no machine here can run.

Notation: T tokens, L layers, d width, f width of the channel mix, V vocabulary, H query heads and G key-value heads of
D channels, A attention layers, F recurrent layers, W a window. Sizes are numbers of values; operations count a
multiplication and an addition as two, in matrix products and recurrences; norms, mixes by channel and softmax are
left out. A causal query sees T / 2 keys on average.

Sources: GoldFinch arXiv 2407.12077 (section 3.4, table 1), Finch 2404.05892, Llama 2 and 3, Mistral 2310.06825,
DeepSeek-V2 2405.04434, Mamba-2 2405.21060, Griffin 2402.19427, and the published configurations.
"""

from __future__ import annotations

from dataclasses import dataclass

# Ranks of the low-rank parts of Finch and GOLD layers (models/layers.py, models/finch.py).
_SHIFT, _DECAY, _VALUE2 = 32, 64, 64
# Operations for each value of a recurrent state and token: decay, outer product, sum, and reading it.
_STATE_OPS = 5


@dataclass(frozen=True)
class Architecture:
    """One architecture at one shape.

    Attributes:
        name, shape: for people.
        prefill_weights: weights in the products that a document token passes, each counted as often as it is used;
            None where they are not known here.
        decode_weights: the same of an answer's token, the head included.
        rows: values kept for each token; in how many tensors of which shape `rows_formula` says.
        rows_formula: of `rows`.
        ids: whether the token id is kept beside them and read.
        state: values of constant size, kept once.
        state_formula: of `state`.
        window_rows: values of rows that only the last `window` tokens keep.
        window: how many rows that is, W - 1; 0 without.
        window_attention: width of the queries of all layers that see a window.
        prefill_attention: width of the queries of all layers that attend to every row while a document is read.
        decode_attention: the same for an answer.
        rebuild: operations for each row that keys and values are made of when a question comes; 0 where they are kept.
        head: weights of the head among those of an answer's token; named where a policy runs all layers but it.
        is_measured: whether gf runs this architecture, and tests compare the figures with measured ones.
    """

    name: str
    shape: str
    prefill_weights: int | None
    decode_weights: int | None
    rows: int
    rows_formula: str
    ids: bool = False
    state: int = 0
    state_formula: str = "0"
    window_rows: int = 0
    window: int = 0
    window_attention: int = 0
    prefill_attention: int = 0
    decode_attention: int = 0
    rebuild: int = 0
    is_measured: bool = False
    head: int = 0

    def prefill_operations(self, tokens: int) -> float | None:
        """For each token of a document of T; None where they are not known."""
        if self.prefill_weights is None:
            return None
        attended = self.prefill_attention * tokens / 2 + self.window_attention * min(self.window, tokens / 2)
        return 2 * self.prefill_weights + 4 * attended + _STATE_OPS * self.state

    def decode_operations(self, tokens: int) -> float | None:
        """For a token behind T others, keys and values at hand; None where they are not known."""
        if self.decode_weights is None:
            return None
        attended = self.decode_attention * tokens + self.window_attention * min(self.window, tokens)
        return 2 * self.decode_weights + 4 * attended + _STATE_OPS * self.state

    def kept(self, tokens: int) -> float:
        """Values kept of T tokens, without ids."""
        return self.rows * tokens + self.window_rows * min(self.window, tokens) + self.state


def _finch(d: int, f: int, *, is_c2: bool) -> int:
    """Weights that a token passes in a Finch or Finch-C2 layer; the second value of C2 passes W_V once more."""
    common = 4 * d * d + 2 * 5 * _SHIFT * d + 2 * _DECAY * d
    own = d * d + 2 * _VALUE2 * d if is_c2 else d * d  # second value, gate
    return common + own + _finch_channel_mix(d, f)


def _finch_channel_mix(d: int, f: int) -> int:
    return d * d + 2 * d * f


def _gold(d: int, f: int) -> int:
    """Weights that a row passes in a GOLD layer, those of its own key and value included."""
    return 2 * d * d + 2 * _SHIFT * d + _gold_row(d) + _finch_channel_mix(d, f)


def _gold_row(d: int) -> int:
    """Those of the key and the value alone."""
    return 4 * _SHIFT * d + 4 * max(d // 16, 64) * d


def goldfinch(layers: int, d: int, vocabulary: int = 65_536, ratio: int = 3, head: int = 64) -> Architecture:
    """GoldFinch with 1 / ratio of its layers GOLD, keys 16:1."""
    f, lower = int(3.5 * d) // 32 * 32, layers * (ratio - 1) // ratio
    gold, c = layers - lower, d // 16
    below = lower * _finch(d, f, is_c2=True) + d * c
    unpack = (d + c) * d
    return Architecture(
        "GoldFinch",
        f"{layers} x {d}",
        prefill_weights=below,
        decode_weights=below + unpack + gold * _gold(d, f) + vocabulary * d,
        rows=c,
        rows_formula="d / 16",
        ids=True,
        state=lower * (head * d + 2 * d) + (2 * gold + 1) * d,
        state_formula="F (D d + 2 d) + (2 A + 1) d",
        decode_attention=gold * d,
        rebuild=2 * (unpack + gold * _gold_row(d)),
        is_measured=True,
        head=vocabulary * d,
    )


def finch(layers: int, d: int, vocabulary: int = 65_536, *, is_c2: bool = False, head: int = 64) -> Architecture:
    """RWKV-6, or all layers Finch-C2."""
    f = int(3.5 * d) // 32 * 32
    weights = layers * _finch(d, f, is_c2=is_c2)
    state = layers * (head * d + 2 * d) + d  # with the stream at the last token
    return Architecture(
        "Finch-C2" if is_c2 else "Finch (RWKV-6)", f"{layers} x {d}", weights, weights + vocabulary * d,
        0, "0", ids=True, state=state, state_formula="F (D d + 2 d) + d", is_measured=True,
    )  # fmt: skip


def gptalpha(layers: int, d: int, vocabulary: int = 65_536) -> Architecture:
    """Attention with token shift in all layers."""
    f = int(3.5 * d) // 32 * 32
    weights = layers * (4 * d * d + 6 * _SHIFT * d + _finch_channel_mix(d, f))
    return Architecture(
        "GPTAlpha", f"{layers} x {d}", weights, weights + vocabulary * d, 2 * layers * d, "2 L d", ids=True,
        state=2 * layers * d + d, state_formula="2 L d + d",
        prefill_attention=layers * d, decode_attention=layers * d, is_measured=True,
    )  # fmt: skip


def llama(
    layers: int, d: int, f: int, vocabulary: int, groups: int | None = None, head: int = 128, *,
    name: str = "Llama", is_ours: bool = False,
) -> Architecture:  # fmt: skip
    """Llama; with fewer key-value heads than query heads where `groups` says so."""
    width = d if groups is None else groups * head
    weights = layers * (2 * d * d + 2 * d * width + 3 * d * f)
    return Architecture(
        name, f"{layers} x {d}", weights, weights + vocabulary * d, 2 * layers * width,
        "2 L d" if groups is None else "2 L G D", ids=is_ours, state=d if is_ours else 0,
        state_formula="d" if is_ours else "0",
        prefill_attention=layers * d, decode_attention=layers * d, is_measured=is_ours,
    )  # fmt: skip


def rows_alone(name: str, layers: int, d: int, rows: int, formula: str) -> Architecture:
    """One of which table 1 of the GoldFinch paper gives the rows, and no more is known here."""
    return Architecture(name, f"{layers} x {d}", None, None, rows, formula)


def mla(layers: int, d: int, heads: int, active: int, vocabulary: int) -> Architecture:
    """Multi-head latent attention: 512 + 64 values a layer (DeepSeek-V2, section 2.1); weights as stated there."""
    return Architecture(
        "MLA (DeepSeek-V2)", f"{layers} x {d}", active - 2 * vocabulary * d, active - vocabulary * d,
        layers * 576, "L (4 D + D / 2)", prefill_attention=layers * heads * 160, decode_attention=layers * heads * 544,
    )  # fmt: skip


def mamba2(layers: int, d: int, vocabulary: int, state: int = 128, head: int = 64) -> Architecture:
    """Mamba-2 with one group: a state of 2 d x N, and a convolution of 4."""
    inner = 2 * d
    weights = layers * (d * (2 * inner + 2 * state + inner // head) + inner * d)
    kept = layers * (inner * state + 4 * (inner + 2 * state))
    return Architecture(
        "Mamba-2", f"{layers} x {d}", weights, weights + vocabulary * d, 0, "0", state=kept,
        state_formula="F (2 d N + 4 (2 d + 2 N))",
    )  # fmt: skip


def recurrent_gemma(layers: int, d: int, f: int, lru: int, vocabulary: int, window: int = 2048) -> Architecture:
    """RecurrentGemma (Griffin): two recurrent layers, then one of attention in a window, one key-value head of 256."""
    attention = layers // 3
    recurrent, head = layers - attention, 256
    mixers = recurrent * (3 * d * lru + 2 * lru * lru // (lru // head)) + attention * (2 * d * d + 2 * d * head)
    weights = mixers + layers * 3 * d * f
    return Architecture(
        "RecurrentGemma", f"{layers} x {d}", weights, weights + vocabulary * d, 0, "0",
        state=recurrent * (lru + 3 * lru), state_formula="F (l + 3 l), and 2 A D for W - 1 tokens",
        window_rows=2 * attention * head, window=window - 1, window_attention=attention * d,
    )  # fmt: skip


# Those of the report: what gf trains itself, at the paper's sizes, and published models that nobody here can run.
ARCHITECTURES: tuple[Architecture, ...] = (
    *(goldfinch(*shape) for shape in ((12, 768), (24, 2048), (32, 4096))),
    *(finch(*shape) for shape in ((12, 768), (24, 2048), (32, 4096))),
    *(finch(*shape, is_c2=True) for shape in ((12, 768), (24, 2048))),
    *(gptalpha(*shape) for shape in ((12, 768), (24, 2048))),
    *(llama(L, d, int(8 * d / 3) // 32 * 32, 65_536, head=64, is_ours=True) for L, d in ((12, 768), (24, 2048))),
    llama(32, 4096, 11_008, 32_000, name="Llama 2 7B"),
    llama(32, 4096, 14_336, 128_256, groups=8, name="Llama 3 8B"),
    llama(32, 4096, 14_336, 32_000, groups=8, name="Mistral 7B v0.2"),
    rows_alone("YOCO", 32, 4096, 2 * 4096, "2 d"),
    rows_alone("Jamba", 32, 4096, 8 * 128 * 32 // 7, "8/7 D L"),
    rows_alone("Zamba", 32, 4096, 2 * 4096 * 32 // 7, "2/7 d L"),
    mla(60, 5120, 128, 21_000_000_000, 102_400),
    mamba2(64, 2560, 50_288),
    recurrent_gemma(26, 2560, 7680, 2560, 256_000),
    recurrent_gemma(38, 4096, 12_288, 4096, 256_000),
)
