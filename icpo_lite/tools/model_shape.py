"""The shape of a model as its config.json describes it: what decides how much memory it takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from icpo_lite.core.errors import ModelError

_PLAIN = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi3", "smollm3")
FAMILIES = (*_PLAIN, "gemma3", "phi")


@dataclass(frozen=True)
class Linear:
    """One linear layer of a block: `kind` is attention or mlp."""

    name: str
    kind: str
    inputs: int
    outputs: int
    bias: bool = False

    @property
    def weights(self) -> int:
        return self.inputs * self.outputs


@dataclass(frozen=True)
class ModelShape:
    """What config.json says that decides memory."""

    family: str
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool
    linears: tuple[Linear, ...]
    norms: int  # of one layer, D wide
    head_norms: bool = False  # of queries and keys, head_dim wide
    norm_biases: bool = False
    gated: bool = True
    softcap: bool = False
    windows: tuple[int | None, ...] = ()  # of each layer; None sees everything
    prefix: str = "model.layers"  # of the names of layers
    vision: int = 0  # weights that only see, of a model whose text decoder is trained

    def name_of(self, linear: Linear, layer: int) -> str:
        """The whole name that transformers gives a matrix of a layer."""
        part = "self_attn" if linear.kind == "attention" else "mlp"
        return f"{self.prefix}.{layer}.{part}.{linear.name}"

    @property
    def queries(self) -> int:
        return self.heads * self.head_dim

    @property
    def keys(self) -> int:
        return self.kv_heads * self.head_dim

    def parameters(self) -> dict[str, int]:
        """Numbers of weights by kind; a tied lm_head is the embedding and counts 0."""
        linear = {
            kind: sum(m.weights + m.bias * m.outputs for m in self.linears if m.kind == kind)
            for kind in ("attention", "mlp")
        }
        head = self.vocabulary * self.hidden
        head_bias = self.vocabulary if self.family == "phi" else 0
        of_layer = self.norms * self.hidden + self.head_norms * 2 * self.head_dim
        norms = (of_layer * self.layers + self.hidden) * (1 + self.norm_biases)
        return {
            "embeddings": head,
            "attention": linear["attention"] * self.layers,
            "mlp": linear["mlp"] * self.layers,
            "norms": norms,
            "lm_head": (0 if self.tied else head) + head_bias,
            **({"vision (unused)": self.vision} if self.vision else {}),
        }


def shape_of(config: Mapping[str, Any]) -> ModelShape:
    """The shape that a config.json describes. Raises ModelError for one that is not known here."""
    family = str(config.get("model_type"))
    if family not in FAMILIES:
        raise ModelError(
            f"model_type: expected one of {', '.join(FAMILIES)}, found {family!r}; memory of other "
            "architectures cannot be planned"
        )
    if family == "gemma3":
        text = shape_of({**config.get("text_config", {}), "model_type": "gemma3_text"})
        seen = _vision(config.get("vision_config"), text.hidden)
        return replace(text, prefix="model.language_model.layers", vision=seen)
    take = _Reader(config, family)
    of_heads, of_keys = _HEADS.get(family, (None, None))
    hidden, heads = take("hidden_size"), take("num_attention_heads", of_heads)
    kv_heads = take("num_key_value_heads", of_keys or heads)
    head_dim = take("head_dim", _HEAD_DIM.get(family) or hidden // max(heads, 1))
    shape = ModelShape(
        family=family,
        hidden=hidden,
        intermediate=take("intermediate_size"),
        layers=take("num_hidden_layers"),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocabulary=take("vocab_size", _VOCABULARY.get(family)),
        tied=bool(config.get("tie_word_embeddings", family.startswith(("gemma", "smollm3")))),
        linears=(),
        norms={"gemma2": 4, "gemma3_text": 4, "phi": 1}.get(family, 2),
        head_norms=family in ("qwen3", "gemma3_text"),
        norm_biases=family == "phi",
        gated=family != "phi",
        softcap=family == "gemma2" and config.get("attn_logit_softcapping", 50.0) is not None,
    )
    biases = bool(config.get("attention_bias", family in ("qwen2", "phi")))
    return replace(
        shape,
        linears=tuple(_linears(shape, biases, bool(config.get("mlp_bias", family == "phi")))),
        windows=_windows(config, shape),
    )


_HEAD_DIM = {"gemma": 256, "gemma2": 256, "gemma3_text": 256, "qwen3": 128}
_VOCABULARY = {"gemma3_text": 262_208}
#: Heads of queries and of keys where config.json leaves them out, as Gemma 3's 4B does.
_HEADS = {"gemma3_text": (8, 4)}


def _vision(config: Any, hidden: int) -> int:
    """Weights of a SigLIP tower and of what leads from it to a text decoder D wide; 0 for none."""
    if not isinstance(config, Mapping):
        return 0
    take = _Reader(config, "vision")
    d, f, patch = take("hidden_size"), take("intermediate_size"), take("patch_size")
    layer = 4 * (d * d + d) + 2 * d * f + f + d + 4 * d
    tower = take("num_hidden_layers") * layer + (3 * patch * patch + 1) * d + 2 * d
    places = (take("image_size") // patch) ** 2 * d
    return tower + places + d * hidden + d


class _Reader:
    """Whole numbers above 0 of a config."""

    def __init__(self, config: Mapping[str, Any], family: str) -> None:
        self._config, self._family = config, family

    def __call__(self, key: str, default: int | None = None) -> int:
        value = self._config.get(key)
        value = default if value is None else value
        if type(value) is not int or value < 1:
            raise ModelError(
                f"config.json of a {self._family} model: expected {key} as a whole number above "
                f"0, found {value!r}; fetch the file anew"
            )
        return value


def _linears(s: ModelShape, biases: bool, mlp_bias: bool) -> Iterator[Linear]:
    """The linear layers of one block, in the order of computation."""
    own = s.family in ("qwen2", "phi")  # biases on queries, keys and values only in qwen2
    if s.family == "phi3":
        yield Linear("qkv_proj", "attention", s.hidden, s.queries + 2 * s.keys)
    else:
        yield Linear("q_proj", "attention", s.hidden, s.queries, biases or own)
        yield Linear("k_proj", "attention", s.hidden, s.keys, biases or own)
        yield Linear("v_proj", "attention", s.hidden, s.keys, biases or own)
    out = "dense" if s.family == "phi" else "o_proj"
    yield Linear(out, "attention", s.queries, s.hidden, biases and s.family != "qwen2")
    if s.family == "phi":
        yield Linear("fc1", "mlp", s.hidden, s.intermediate, True)
        yield Linear("fc2", "mlp", s.intermediate, s.hidden, True)
        return
    if s.family == "phi3":
        yield Linear("gate_up_proj", "mlp", s.hidden, 2 * s.intermediate)
    else:
        yield Linear("gate_proj", "mlp", s.hidden, s.intermediate, mlp_bias)
        yield Linear("up_proj", "mlp", s.hidden, s.intermediate, mlp_bias)
    yield Linear("down_proj", "mlp", s.intermediate, s.hidden, mlp_bias)


def _windows(config: Mapping[str, Any], s: ModelShape) -> tuple[int | None, ...]:
    """How far back each layer looks, as the KV cache of transformers bounds it."""
    window = config.get("sliding_window")
    if not isinstance(window, int) or config.get("use_sliding_window") is False:
        return (None,) * s.layers
    if s.family in ("qwen2", "qwen3") and not config.get("use_sliding_window"):
        return (None,) * s.layers
    kinds = config.get("layer_types")
    if isinstance(kinds, list) and len(kinds) == s.layers:
        return tuple(window if kind == "sliding_attention" else None for kind in kinds)
    if s.family == "gemma2":
        return tuple(window if i % 2 == 0 else None for i in range(s.layers))
    if s.family == "gemma3_text":
        every = int(config.get("sliding_window_pattern") or 6)
        return tuple(None if (i + 1) % every == 0 else window for i in range(s.layers))
    if s.family in ("qwen2", "qwen3"):
        first = int(config.get("max_window_layers") or 0)
        return tuple(window if i >= first else None for i in range(s.layers))
    return (window,) * s.layers
