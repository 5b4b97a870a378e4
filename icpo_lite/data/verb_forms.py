"""Finite verbs → their base and the auxiliary that asks with them: "bakes" → "does", "bake".

The tables: written by hand; no figure of their own was measured, the tests hold examples. Verbs are
those of word problems.
"""

from __future__ import annotations

import re
from functools import lru_cache

from icpo_lite.core.words import bag
from icpo_lite.data.clause_words import BASES, VERBS


def _pairs(text: str) -> dict[str, str]:
    return dict(pair.split(":") for pair in text.split())


_PASTS = _pairs(
    "ate:eat began:begin bought:buy brought:bring built:build burnt:burn came:come "
    "caught:catch chose:choose cut:cut did:do drank:drink drew:draw drove:drive fed:feed "
    "fell:fall felt:feel flew:fly forgot:forget found:find gave:give got:get grew:grow "
    "had:have heard:hear held:hold hit:hit kept:keep knew:know knit:knit laid:lay led:lead "
    "left:leave lent:lend let:let lost:lose made:make meant:mean met:meet paid:pay put:put "
    "ran:run read:read rode:ride rose:rise said:say sang:sing sat:sit saw:see sent:send "
    "set:set shot:shoot slept:sleep sold:sell spent:spend stood:stand stole:steal swam:swim "
    "swept:sweep taught:teach threw:throw thought:think told:tell took:take "
    "understood:understand went:go woke:wake won:win wore:wear wrote:write cost:cost "
    "bred:breed sank:sink bled:bleed sped:speed withdrew:withdraw blew:blow bit:bite lit:light "
    "dealt:deal fought:fight shook:shake "
    "stuck:stick struck:strike tore:tear bound:bind hurt:hurt shut:shut bet:bet fit:fit "
    "oversaw:oversee overtook:overtake undertook:undertake overcame:overcome became:become "
    "underwent:undergo withstood:withstand overheard:overhear dug:dig hung:hang swung:swing "
    "rang:ring froze:freeze wound:wind sought:seek crept:creep leapt:leap learnt:learn slid:slide "
    "spun:spin burst:burst beat:beat shone:shine repaid:repay rebuilt:rebuild outran:outrun "
    "babysat:babysit overslept:oversleep broke:break bent:bend spread:spread quit:quit split:split "
    "hid:hide"
)
#: Participles behind "has", "have" or "had" that no -ed shows.
_PARTICIPLES = bag(
    "been eaten begun bought brought built come caught chosen cut done drunk drawn driven fed "
    "fallen flown forgotten found given got gotten grown had held kept known laid left lent lost "
    "made met paid put run read ridden risen said sung sat seen sent set slept sold spent stood "
    "sewn woven shown broken frozen hidden bitten beaten bent dug hung stuck drawn sworn torn spun "
    "stolen swum taught thrown told taken gone woken won worn written"
)
MODALS = bag("will can could would must should may might")
BE = bag("is are was were")
#: Verbs that have a person before what they give.
GIVE = bag("give send bring buy pay owe lend offer show sell hand teach cost charge")
#: Verbs whose preposition belongs to them: "took in twelve cats".
PARTICLES = frozenset(
    (particle, verb)
    for particle, verbs in (
        ("in", "take bring turn hand trade let put pull rake throw"),
        ("on", "put try take turn"),
        ("over", "take hand turn"),
        ("off", "take drop sell"),
    )
    for verb in verbs.split()
)
AUXILIARIES = MODALS | BE | bag("does do did has have had")
_PLURALS_OF_DO = {"has": ("does", "have"), "have": ("do", "have"), "had": ("did", "have")}
#: Verbs whose past looks like their base; their subject tells which it is.
SAME_PAST = frozenset(v for v, base in _PASTS.items() if v == base)
#: Stems of -ed that want their "e" back: "bak-ed", "us-ed", "shar-ed".
_WANTS_E = re.compile(
    r"(?:[bcdfghjklmnprstvwz][aiou](?:k|m|n|l|v|z|s|c|g|r|p|b|d|t)"
    r"|chang|rrang|lleng|veng|at|iz|uc|ov|lv|rv|rc|nc|rg|dg|us|as|ur|ir|ar|tl|bl|pl|gl|dl|u|cl|plet|mpet|elet|eas|ais"
    r"|oos|ens|ath|eiv|eav)$"
)
_BARE = bag(
    "visit collect order offer open gather borrow harvest answer deposit finish deliver remain"
    " explain clean need load wait gain sort fail rain train edit enter discover cover suffer "
    "follow allow total cook look book walk help plant print want count start invest lift hunt "
    "last contain fold hand mend turn return earn learn burn perform transfer consider develop "
    "travel cancel label model bottle limit benefit happen listen sweeten"
)


_MORE_BASES = bag(
    "hatch sprout bloom germinate survive graduate prefer attend vote ripen melt rot "
    "represent include provide contribute consist depend attract generate pour contribute "
    "immigrate emigrate migrate arrive depart escape survive appear belong continue decide agree "
    "warm hunt cool heat freeze shrink allow flow lend crawl drift glide float"
)
_NO_PAST = bag("need feed seed weed speed shed bleed sled hundred red bed indeed")


@lru_cache(maxsize=4096)
def base_of(verb: str) -> str:
    """The base of a finite verb; of a regular one by its ending."""
    if verb in _PASTS:
        return _PASTS[verb]
    if verb.endswith("ed"):
        return _base_of_past(verb)
    if verb.endswith("ies") and len(verb) > 4:
        return verb[:-3] + "y"
    if verb.endswith(("shes", "ches", "xes", "sses", "zzes", "oes")):
        return verb[:-2]
    return verb[:-1] if verb.endswith("s") and not verb.endswith("ss") else verb


def _base_of_past(verb: str) -> str:
    stem = verb[:-2]
    for known in (stem, f"{stem}e"):
        if known in BASES or known in _BARE:
            return known
    if stem.endswith("i"):
        return stem[:-1] + "y"
    if len(stem) > 3 and stem[-1] == stem[-2] and stem[-1] not in "lszf":
        return stem[:-1]
    return (
        f"{stem}e"
        if _WANTS_E.search(stem) and not re.search(r"[aeiou]{2}[kmnlrptd]$", stem)
        else stem
    )


def asks_with(verb: str, after: str) -> tuple[str, str]:
    """The auxiliary that a question opens with, and what stays of the verb.

    "bakes" → ("does", "bake"), "is" → ("is", ""), "has" before "eaten" → ("has", ""). after: the
    words behind the verb.
    """
    if verb in BE or verb in MODALS:
        return verb, ""
    if verb in _PLURALS_OF_DO:
        following = re.match(
            r"\s*(?:(?:already|also|only|just|now|both|all|each|[a-z]+ly) )?([a-z]+)", after
        )
        word = following[1] if following else ""
        if word in _PARTICIPLES or (word.endswith("ed") and word not in ("red", "need")):
            return verb, ""
        return _PLURALS_OF_DO[verb]
    if verb in _PASTS and verb not in SAME_PAST:
        return "did", base_of(verb)
    if verb.endswith("ed") and verb not in ("need", "feed", "speed", "seed", "weed"):
        return "did", base_of(verb)
    if verb.endswith("s") and verb not in ("has",):
        return "does", base_of(verb)
    return "do", verb


def is_finite(word: str) -> bool:
    """Whether a word of a sentence may be its main verb."""
    return (
        word in VERBS
        or word in BASES
        or word in _PASTS
        or word in _MORE_BASES
        or (word.endswith("s") and base_of(word) in _MORE_BASES)
        or (word.endswith("ed") and len(word) > 3 and word not in _NO_PAST)
    )
