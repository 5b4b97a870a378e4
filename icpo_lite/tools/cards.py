"""Devices that a run is planned for: the cards that people have, and this machine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from icpo_lite.core.errors import UsageError

GIB = 1 << 30


@dataclass(frozen=True)
class Card:
    """A device to plan for.

    usable: bytes that torch can have of it. bf16: it has such units. bandwidth: of its memory, in
    GB/s; tflops: of its matrix units, dense, 16-bit values summed in 32 bits; both as published, 0
    where they are not known.
    """

    name: str
    usable: int
    bf16: bool = True
    cuda: bool = True
    bandwidth: int = 0
    tflops: int = 0


def _card(name: str, gib: float, bandwidth: int, tflops: int, *, bf16: bool = True) -> Card:
    return Card(name, int(gib * GIB), bf16, bandwidth=bandwidth, tflops=tflops)


#: Memory is what torch reports as a card's total capacity, a little below the number on its box.
CARDS: Mapping[str, Card] = {
    card.name: card
    for card in (
        _card("T4", 14.56, 320, 65, bf16=False),
        _card("L4", 22.03, 300, 121),
        _card("3060", 11.63, 360, 25),
        _card("3070", 7.66, 448, 41),
        _card("3080", 9.77, 760, 60),
        _card("3090", 23.57, 936, 71),
        _card("4060 Ti", 15.57, 288, 44),
        _card("4070", 11.63, 504, 58),
        _card("4080", 15.57, 717, 97),
        _card("4090", 23.51, 1008, 165),
        _card("5090", 31.36, 1792, 210),
        _card("A100", 39.39, 1555, 312),
        _card("H100", 79.10, 3350, 989),
        _card("H200", 139.80, 4800, 989),
    )
}
#: What stands before or behind a card's name on its box.
_MAKERS = ("nvidia", "geforce", "tesla", "rtx")


def on_cpu() -> Card:
    """This machine without a GPU, with the memory it has."""
    import os

    return Card("CPU", os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), cuda=False)


def this_machine(device: str = "auto") -> Card:
    """What a run would be trained on here. device: the recipe's."""
    if device == "cpu":
        return on_cpu()
    import torch

    from icpo_lite.core.device import choose_device

    # A device that is not here is planned for as `auto`; `train` says what is wrong with it.
    known = device == "auto" or torch.cuda.device_count() > int(device.partition(":")[2] or 0)
    chosen = choose_device(device if known else "auto")
    if chosen.torch_device.type == "cpu":
        return on_cpu()
    facts = torch.cuda.get_device_properties(chosen.torch_device)
    found = known_card(facts.name, facts.total_memory)
    return Card(
        facts.name,
        facts.total_memory,
        bf16=facts.major >= 8,
        bandwidth=found.bandwidth if found else 0,
        tflops=found.tflops if found else 0,
    )


def known_card(name: str, memory: int) -> Card | None:
    """The card of the table that a driver's name means: "NVIDIA GeForce RTX 4090"."""
    plain = _plain(name)
    fits = [
        card
        for card in CARDS.values()
        if plain.startswith(_plain(card.name)) and abs(card.usable - memory) < 0.2 * memory
    ]
    return max(fits, key=lambda card: len(card.name), default=None)


def card_named(name: str) -> Card:
    """A known card, or one of so many GiB ("16" or "16GB"). Raises UsageError otherwise."""
    known = {_plain(card): card for card in CARDS}
    plain = _plain(name)
    if plain in known:
        return CARDS[known[plain]]
    if plain == "cpu":
        return on_cpu()
    size = re.fullmatch(r"(\d{1,4})\s*(gi?b?)?", name.strip().lower())
    if size and 1 <= int(size[1]) <= 1024:
        return Card(f"{size[1]} GB", int(int(size[1]) * GIB * 0.98))
    from icpo_lite.recipe.messages import nearest

    raise UsageError(
        f"--card: expected one of {', '.join(CARDS)}, cpu, or a size such as 16GB, found "
        f"{name!r}{nearest(plain, known)}"
    )


def _plain(name: str) -> str:
    """`RTX 4060 Ti`, `rtx4060ti` and `4060-Ti` alike."""
    text = name.lower()
    for maker in _MAKERS:
        text = text.replace(maker, "")
    return "".join(letter for letter in text if letter.isalnum())
