"""float16 (a T4) with weights trained in bfloat16: what overflows is found and computed safely.

float16 ends at 65,504. Trained weights pass it in two places. The product act(gate) · up inside a
gated MLP: of Qwen2's, some pass it at a text's first token and at delimiters. And the residual
stream, in Gemma's. An infinity there is NaN one layer on, and NaN in the adapter one step on.

    product   formed in float32 and divided by a power of two for each token, so that the largest
              element fits; down_proj is linear, so its output is multiplied by the same number.
              Tokens that fit keep the factor 1.
    residual  kept in float32 between the layers; norms read it and hand on float16, so that
              attention and MLP compute in float16 as before.

A probe at the start finds the MLPs whose product comes near the limit. A guard on the decoder sees
what the probe did not: at a hidden state that is not finite every MLP is protected, then the
residual too, and the same input is computed again.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from icpo_lite.core.errors import NumericsError

LIMIT = 65_504.0
#: A product this far below the limit is protected: other texts go further than the probe.
MARGIN = 16.0
#: Largest element after the division; room for LoRA's share and for down_proj's sums.
_TARGET = 2.0**12


def keep_finite(model: Any, probe: Sequence[int]) -> list[str]:
    """Make a float16 causal LM finite on `probe` (token ids), and watch it from then on.

    Returns a note on each thing that was changed. Raises NumericsError where nothing helps.
    """
    guard = _Guard(model)
    device = model.get_input_embeddings().weight.device
    ids = torch.tensor([list(probe)], device=device)
    guard.protect_what_overflows(ids)
    guard.watch()
    with torch.no_grad():
        guard.run(ids)
    guard.started = True
    return guard.notes


class _Guard:
    """Protects a model's layers in place, as far as is needed."""

    def __init__(self, model: Any) -> None:
        self.model, self.decoder = model, model.get_decoder()
        self.mlps = {n: m for n, m in self.decoder.named_modules() if _is_gated(m)}
        self.safe: set[str] = set()
        self.wide_residual = False
        self.notes: list[str] = []
        self.started = False  # what is found later is said as it happens

    # -------------------------------------------------------------------------------- detection

    @torch.no_grad()
    def protect_what_overflows(self, ids: Tensor) -> None:
        """Protect each MLP whose product comes within MARGIN of the limit on `ids`, and the
        residual where it overflows."""
        sizes, finite = self._products(ids)
        if not finite:
            self._widen()
            sizes, _ = self._products(ids)
        near = [name for name, size in sizes.items() if not size < LIMIT / MARGIN]
        self._protect(near)
        if near:
            self._say(
                f"float16: MLP products reach {max(sizes.values()):,.0f} (its limit is "
                f"{LIMIT:,.0f}); they are formed in float32 in {len(near)} of {len(self.mlps)} "
                "layers"
            )

    def _products(self, ids: Tensor) -> tuple[dict[str, float], bool]:
        """The largest element of each MLP's product, and whether the output is finite.

        A layer shows its own only when those before it are finite: all are tried in their safe
        form, and put back.
        """
        sizes: dict[str, float] = {}
        own = {name: vars(mlp).get("forward") for name, mlp in self.mlps.items()}
        for name, mlp in self.mlps.items():
            mlp.forward = _safe_forward(mlp, functools.partial(sizes.__setitem__, name))
        finite = _finite(self.run(ids), None)
        for name, mlp in self.mlps.items():
            del mlp.forward
            if own[name] is not None:
                mlp.forward = own[name]
        return sizes, finite

    def run(self, ids: Tensor) -> Tensor:
        """Hidden states [1, T, D] of token ids [1, T]."""
        out = self.decoder(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
        hidden: Tensor = out.last_hidden_state
        return hidden

    def watch(self) -> None:
        """Compute a decoder's input again, better protected, when its output is not finite."""
        inner = self.decoder.forward

        @functools.wraps(inner)
        def forward(*args: Any, **kwargs: Any) -> Any:
            cache = kwargs.get("past_key_values")
            cache = cache if hasattr(cache, "crop") else None  # unsloth's tuples are not grown
            past = cache.get_seq_length() if cache is not None else 0
            while True:
                out = inner(*args, **kwargs)
                if _finite(out.last_hidden_state, kwargs.get("attention_mask")):
                    return out
                self._escalate()
                if cache is not None:  # take back what the failed attempt has added
                    cache.crop(past - cache.get_seq_length())

        self.decoder.forward = forward

    def _escalate(self) -> None:
        """The next stronger protection. Raises NumericsError after the last."""
        if len(self.safe) < len(self.mlps):
            self._protect(self.mlps)
            self._say("float16: an overflow was met; all MLP products are now formed in float32")
        elif not self.wide_residual:
            self._widen()
        else:
            raise NumericsError(
                "hidden states: NaN or infinity in float16, although MLP products and the "
                "residual stream are in float32; expected finite numbers; use dtype: float32, or "
                "a GPU with bfloat16"
            )

    def _widen(self) -> None:
        widen_residual(self.decoder)
        self.wide_residual = True
        self._say("float16: the residual stream overflows; it is kept in float32")

    def _say(self, note: str) -> None:
        self.notes.append(note)
        if self.started:
            warnings.warn(note, stacklevel=2)

    def _protect(self, names: Any) -> None:
        for name in set(names) - self.safe:
            self.mlps[name].forward = _safe_forward(self.mlps[name])
            self.safe.add(name)


def _finite(hidden: Tensor, attention_mask: Any) -> bool:
    """Whether all hidden states [B, T, D] of real tokens are finite; padding may be anything."""
    finite = torch.isfinite(hidden).all(-1)
    if isinstance(attention_mask, Tensor) and attention_mask.ndim == 2:
        finite = finite | (attention_mask[:, -finite.shape[1] :] == 0)
    return bool(finite.all())


# ------------------------------------------------------------------------------------- gated MLPs


def _is_gated(module: nn.Module) -> bool:
    activation = hasattr(module, "act_fn") or hasattr(module, "activation_fn")
    pair = hasattr(module, "gate_proj") and hasattr(module, "up_proj")
    return activation and hasattr(module, "down_proj") and (pair or hasattr(module, "gate_up_proj"))


def _gate_and_up(mlp: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    if hasattr(mlp, "gate_up_proj"):  # Phi-3
        gate, up = mlp.gate_up_proj(x).chunk(2, dim=-1)
        return gate, up
    return mlp.gate_proj(x), mlp.up_proj(x)


def _safe_forward(mlp: Any, seen: Any = None) -> Any:
    """down_proj(act(gate) · up) with a product that never leaves float16's range.

    seen: called with the largest element of a product.
    """
    activation = getattr(mlp, "act_fn", None) or mlp.activation_fn

    def forward(x: Tensor) -> Tensor:
        gate, up = _gate_and_up(mlp, x)
        product = activation(gate.float()) * up.float()
        largest = product.detach().abs().amax(-1, keepdim=True)
        if seen is not None:
            seen(float(largest.max()))
        # A power of two, so that nothing is rounded twice; 1 where the product fits.
        factor = torch.exp2(torch.ceil(torch.log2(largest / _TARGET)).clamp(min=0.0))
        out: Tensor = mlp.down_proj((product / factor).to(x.dtype))
        # Into the residual as it comes: float32 where that is float32 and may need the range.
        wide = out.float() * factor
        return wide if getattr(mlp, "wide_output", False) else wide.to(x.dtype)

    return forward


# -------------------------------------------------------------------------------------- residual


def widen_residual(decoder: Any) -> None:
    """Keep the residual stream in float32 and everything between two additions in float16."""
    half = torch.float16
    decoder.get_input_embeddings().register_forward_hook(lambda m, a, out: out.float())
    for module in decoder.modules():
        if "RMSNorm" in type(module).__name__ or isinstance(module, nn.LayerNorm):
            module.register_forward_hook(lambda m, a, out: out.to(half))
        elif "RotaryEmbedding" in type(module).__name__:
            module.register_forward_hook(lambda m, a, out: tuple(part.to(half) for part in out))
        elif _is_gated(module):
            module.wide_output = True
