"""A small model on a CPU, sampled from: its forward pass in a third of the calls.

A token of a small model costs what its calls cost. Decoders of Llama's kind (Llama, Qwen 2 and 3,
Mistral without a window) are computed here from their weights by 25 calls a layer instead of 60:
queries, keys and values by one matrix, the gate and what it gates by another, cosines from a table,
a mask made once for all layers, the heads that share keys as several queries to them. float32
alone, so that nothing but the order of sums differs. What a model is made of is read off its
modules; whether it is computed rightly is tried once on each model, beside its own forward.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention

from icpo_lite.policy.layer_kinds import all_see_all

if TYPE_CHECKING:
    from icpo_lite.policy.load import Policy

#: What the parts of such a decoder are called; q_norm and k_norm may lack.
_DECODER = {"embed_tokens", "layers", "norm", "rotary_emb"}
_LAYER = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}
_ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}
_HEAD_NORMS = {"q_norm", "k_norm"}
_MLP = {"gate_proj", "up_proj", "down_proj", "act_fn"}
#: Kinds of positions whose cosines do not depend on how long the text is.
_STEADY_ROPE = {"default", "linear", "llama3", "yarn"}
#: Largest difference in logits from the model's own, over the largest logit.
AGREES = 2e-5
#: Tokens of the rows that both are tried on.
_TRIED = (41, 23)
#: Positions by which the table of cosines grows.
_TABLE = 512

#: Rows of a decoding step are computed in so many pieces, from so many rows on, where that saves
#: such a share of all columns.
_PIECES, _SPLIT_ROWS, _SPLIT_SHARE = 4, 32, 0.1

#: Whether a model was found to be computed rightly here.
_PROVED: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()

#: What the engines ask a model's forward with, and what they may ask besides.
_ASKED = {"input_ids", "attention_mask", "position_ids", "past_key_values", "use_cache"}
_MAY = {"logits_to_keep"}

Dense = tuple[Tensor, Tensor | None]


@dataclass(frozen=True)
class _Layer:
    """The weights of one layer. heads: those of norms of queries and keys [H + Hk, d], or None."""

    before: Tensor
    qkv: Dense
    heads: Tensor | None
    out: Dense
    after: Tensor
    gate_up: Dense
    down: Dense
    act: Callable[[Tensor], Tensor]


@dataclass
class Logits:
    """What a forward pass gives."""

    logits: Tensor


def why_not_lean(model: Any) -> str | None:
    """Why this model's forward pass is left as it is; None where it may be computed here."""
    decoder = model.get_decoder()
    config = decoder.config
    if getattr(config, "_attn_implementation", None) != "sdpa":
        return "attention is not torch's own"
    if set(dict(decoder.named_children())) != _DECODER:
        return "the decoder has other parts than Llama's"
    if not all_see_all(model.config):
        return "not every layer sees all tokens"
    if getattr(decoder.rotary_emb, "rope_type", None) not in _STEADY_ROPE:
        return "positions are told by the length of the text"
    for layer in decoder.layers:
        parts, attention = _names(layer), _names(getattr(layer, "self_attn", None))
        if parts != _LAYER or _names(layer.mlp) != _MLP:
            return "layers have other parts than Llama's"
        if attention not in (_ATTENTION, _ATTENTION | _HEAD_NORMS):
            return "attention has other parts than Llama's"
    if any(_is_watched(module) for module in decoder.modules()):
        return "somebody looks on as it is computed"
    return None


def _names(module: Any) -> set[str]:
    return {name for name, _ in module.named_children()} if module is not None else set()


def _is_watched(module: Any) -> bool:
    """Whether somebody's hook is called; transformers' own collect what only they are asked for."""
    hooks = (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    return any(not getattr(h, "__module__", "").startswith("transformers.") for h in hooks)


class LeanForward:
    """The weights of a model, and its forward pass from them."""

    def __init__(self, model: Any, side_by_side: Callable[[Sequence[Any]], Dense]) -> None:
        """side_by_side: the matrices of some linear layers, and their biases, as one."""
        decoder = model.get_decoder()
        self._head, self._embed = model.get_output_embeddings(), model.get_input_embeddings()
        self._rotary, first = decoder.rotary_emb, decoder.layers[0].self_attn
        self._size, self._scale = int(first.head_dim), float(first.scaling)
        self._heads, self._kv = (p.out_features // self._size for p in (first.q_proj, first.k_proj))
        self._norm = decoder.norm.weight.detach()
        self._eps = torch.tensor(float(decoder.norm.variance_epsilon))
        self._layers = [self._read(layer, side_by_side) for layer in decoder.layers]
        self._cos = self._sin = self._norm.new_zeros(0, 1, self._size)

    def _read(self, layer: Any, side_by_side: Callable[[Sequence[Any]], Dense]) -> _Layer:
        attention, mlp = layer.self_attn, layer.mlp
        heads = None
        if hasattr(attention, "q_norm"):
            each = (attention.q_norm, self._heads), (attention.k_norm, self._kv)
            heads = torch.cat([m.weight.detach().expand(n, self._size) for m, n in each])
        return _Layer(
            before=layer.input_layernorm.weight.detach(),
            qkv=side_by_side((attention.q_proj, attention.k_proj, attention.v_proj)),
            heads=heads,
            out=side_by_side((attention.o_proj,)),
            after=layer.post_attention_layernorm.weight.detach(),
            gate_up=side_by_side((mlp.gate_proj, mlp.up_proj)),
            down=side_by_side((mlp.down_proj,)),
            act=mlp.act_fn,
        )

    def __call__(
        self, ids: Tensor, mask: Tensor, position: Tensor, cache: Any, *, last: bool
    ) -> Tensor:
        """Logits of tokens [B, T]: [B, T, V], or [B, 1, V] of the last ones.

        mask: [B, W] of all columns up to the last token's, or as attention takes it. position
        [B, T]. Their keys and values go into the cache.
        """
        rows, new = ids.shape
        pieces = _pieces(_seen(mask, new))
        cos, sin = (x[position.flatten()] for x in self._table(mask.shape[-1]))
        x = self._embed(ids).flatten(0, 1)
        for index, layer in enumerate(self._layers):
            qkv = linear(self._normed(x, layer.before), *layer.qkv)
            qkv = qkv.view(rows * new, -1, self._size)
            qk = qkv[:, : self._heads + self._kv]
            if layer.heads is not None:
                qk = self._normed(qk, layer.heads)
            qk = torch.addcmul(qk * cos, qk.roll(self._size // 2, -1), sin)
            keys, values = qk[:, self._heads :], qkv[:, self._heads + self._kv :]
            keys, values = (y.view(rows, new, self._kv, -1).transpose(1, 2) for y in (keys, values))
            if new > 1:  # else they would keep the queries' memory
                keys, values = keys.contiguous(), values.contiguous()
            keys, values = cache.update(keys, values, index)
            queries = qk[:, : self._heads].view(rows, new, self._heads, -1)
            if last and layer is self._layers[-1]:
                # Nobody asks what this layer makes of the others.
                x, queries = x.view(rows, new, -1)[:, -1], queries[:, -1:]
                pieces = [piece.of_the_last() for piece in pieces]
            parts = [self._attended(queries, keys, values, piece) for piece in pieces]
            out = parts[0] if len(parts) == 1 else torch.cat(parts)
            x = _plus(x, out, layer.out)
            gate, up = linear(self._normed(x, layer.after), *layer.gate_up).chunk(2, -1)
            x = _plus(x, layer.act(gate) * up, layer.down)
        logits: Tensor = self._head(self._normed(x.view(rows, -1, x.shape[-1]), self._norm))
        return logits

    def _normed(self, x: Tensor, weight: Tensor) -> Tensor:
        """x over the root of its mean square, times the weight."""
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        scale = torch.addcmul(self._eps, length, length, value=1 / x.shape[-1]).rsqrt_()
        return (x * scale).mul_(weight)

    def _attended(self, queries: Tensor, keys: Tensor, values: Tensor, piece: _Piece) -> Tensor:
        """What a piece's queries [B, T, H, d] see of keys and values [B, Hk, W, d], [b·T, H·d]."""
        q = queries[piece.rows]
        k, v = (x[piece.rows, :, piece.start :] for x in (keys, values))
        rows, new, heads, size = q.shape
        if new == 1:
            # The heads that share keys are as many queries to them. Torch's attention is made for
            # long texts: of one token two products take a third of its time.
            q = q.reshape(rows * self._kv, -1, size)
            scores = torch.bmm(q, k.flatten(0, 1).transpose(1, 2)).mul_(self._scale)
            scores = scores.view(rows, self._kv, -1, k.shape[2])
            weights = (scores if piece.added is None else scores.add_(piece.added)).softmax(-1)
            return torch.bmm(weights.flatten(0, 1), v.flatten(0, 1)).view(rows, heads * size)
        out = scaled_dot_product_attention(
            q.transpose(1, 2),
            k,
            v,
            attn_mask=piece.added,
            is_causal=piece.added is None,
            scale=self._scale,
            enable_gqa=heads != self._kv,
        )
        return out.transpose(1, 2).reshape(rows * new, heads * size)

    def _table(self, columns: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines [positions, 1, d]; the sines' first half with its sign turned."""
        cos, sin = self._cos, self._sin
        if len(cos) < columns:
            # No position is beyond the columns that a token sees.
            places = torch.arange(-(-columns // _TABLE) * _TABLE)[None]
            cos, sin = (y[0, :, None].clone() for y in self._rotary(self._norm, places))
            sin[..., : self._size // 2].neg_()
            self._cos, self._sin = cos, sin
        return cos, sin


def _plus(x: Tensor, inner: Tensor, dense: Dense) -> Tensor:
    weight, bias = dense
    if bias is None:
        return torch.addmm(x, inner, weight.t())
    return linear(inner, weight, bias).add_(x)


def _seen(mask: Tensor, new: int) -> Tensor | None:
    """Which columns each of `new` tokens sees, True or False, or what is added to its scores.

    None where all see what stands before them.
    """
    if mask.dim() == 2:
        known, width = mask.bool(), mask.shape[1]
        if new == 1:
            mask = known.index_fill(1, torch.tensor([width - 1]), True)[:, None, None]
        elif new == width and bool(known.all()):
            return None
        else:
            columns = torch.arange(width)
            own = columns[width - new :, None]
            # Tokens that only fill up see themselves: of nothing there is no mean.
            mask = (known[:, None, None] & (columns <= own)) | (columns == own)
    return None if new == 1 and mask.dtype is torch.bool and bool(mask.all()) else mask


class _Piece(NamedTuple):
    """Rows side by side, the first column that one of them sees, what is added to their scores."""

    rows: slice
    start: int
    added: Tensor | None

    def of_the_last(self) -> _Piece:
        """For the last token of each row alone."""
        return self if self.added is None else self._replace(added=self.added[..., -1:, :])


def _pieces(seen: Tensor | None) -> list[_Piece]:
    """All rows at once, or in pieces where many columns are another piece's alone.

    What stands before a row's first token is a column of the cache for the sake of longer rows.
    """
    if seen is None or seen.dtype is not torch.bool:
        return [_Piece(slice(None), 0, seen)]
    rows, _, new, width = seen.shape
    size = -(-rows // _PIECES) if new == 1 and rows >= _SPLIT_ROWS else rows
    # Of a token the first column, of several the first one that any of them sees.
    first = seen.view(rows * new, width).view(torch.uint8).argmax(-1).split(size * new)
    starts = [int(part.min()) for part in first]
    if new > 1 or sum(starts) - min(starts) * len(starts) < _SPLIT_SHARE * width * len(starts):
        size, starts = rows, [min(starts) if new == 1 else 0]
    found = []
    for number, start in enumerate(starts):
        part = slice(number * size, (number + 1) * size)
        hidden = ~seen[part, ..., start:]
        added = torch.zeros(hidden.shape).masked_fill_(hidden, float("-inf"))
        found.append(_Piece(part, start, added))
    return found


def lean_forward(
    policy: Policy, side_by_side: Callable[[Sequence[Any]], Dense]
) -> Callable[..., Any] | None:
    """What to put in the place of a model's `forward`; None where that stays as it is.

    side_by_side: the matrices of some linear layers, and their biases, as one. What the engines do
    not ask goes to the model's own forward.
    """
    model = policy.causal_lm
    own = model.forward
    if getattr(own, "__func__", None) is not type(model).forward or why_not_lean(model):
        return None
    if _PROVED.get(model) is False:
        return None
    lean = LeanForward(model, side_by_side)

    @wraps(own)
    def forward(*args: Any, **asked: Any) -> Any:
        kept = asked.get("logits_to_keep", 0)
        if args or torch.is_grad_enabled() or kept not in (0, 1) or set(asked) - _MAY != _ASKED:
            return own(*args, **asked)
        ids, mask = asked["input_ids"], asked["attention_mask"]
        return Logits(
            lean(ids, mask, asked["position_ids"], asked["past_key_values"], last=kept == 1)
        )

    if model not in _PROVED:
        _PROVED[model] = _agrees(model, policy.pad_id, forward)
    return forward if _PROVED[model] else None


@torch.no_grad()
def _agrees(model: Any, pad: int, forward: Callable[..., Any]) -> bool:
    """Whether both give the same logits of two rows: prompts, one token more, three more."""
    from transformers import DynamicCache

    rows = model.get_input_embeddings().weight.shape[0]
    noise = torch.Generator().manual_seed(0)
    ids = torch.randint(rows, (len(_TRIED), max(_TRIED)), generator=noise)
    mask = torch.ones_like(ids)
    for row, length in enumerate(_TRIED):
        mask[row, : ids.shape[1] - length] = 0
    ids = ids.where(mask.bool(), pad)
    position = (mask.cumsum(-1) - 1).clamp(min=0)
    caches = [DynamicCache(config=model.config) for _ in range(2)]
    start = 0
    for end in (ids.shape[1] - 4, ids.shape[1] - 3, ids.shape[1]):
        part = slice(start, end)
        truth, found = (
            way(
                input_ids=ids[:, part],
                attention_mask=mask[:, :end],
                position_ids=position[:, part],
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits.float()
            for way, cache in zip((model, forward), caches, strict=True)
        )
        if not bool((found - truth).abs().max() <= AGREES * truth.abs().max()):
            return False
        start = end
    return True
