"""The subject and the verb of a sentence around a number, as a question has to turn them.

The tables: Written by hand; no figure of their own was measured, the tests hold examples.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from icpo_lite.core.sentences import is_plural
from icpo_lite.core.words import bag
from icpo_lite.data.clause_words import NUMBER_WORD, counted
from icpo_lite.data.people import gender_of
from icpo_lite.data.verb_forms import BE, SAME_PAST, asks_with, is_finite


@dataclass(frozen=True, slots=True)
class Clause:
    """A clause around a number: words before the subject, subject, verb, and what follows.

    at, end: where the number stands in `after`; negative where it is in the subject or before it.
    each: whether the subject's members act one by one: "They each produce".
    """

    lead: str
    subject: str
    verb: str
    after: str
    at: int
    end: int
    each: bool = False


#: "Ann collects", and neither "Twenty years" nor "Some apples".
_NAME_ACTS = re.compile(
    rf"(?!(?i:{NUMBER_WORD}|some|all|most|many|several|these|those|both|other|the|his|her|their|its"
    r"|last|next|every|each|few)\b)(?:[A-Z]\w+|He|She|It) [a-z]+s\b"
)


def has_verb(words: str) -> bool:
    return bool(_NAME_ACTS.match(words)) or any(is_finite(w) for w in re.findall(r"[a-z]+", words))


def parsed(text: str, start: int, end: int) -> Clause | None:
    """Subject and main verb of a clause, for a phrase at text[start:end]."""
    begin = _subject_at(text, start)
    for match in re.compile(r"(?:[^\W\d_]|[’'])+").finditer(text, begin):
        word = match[0]
        if text[match.start() - 1 : match.start()] == "-" or not word.isalpha():
            continue  # "pre-bought tickets", "last year's winner"
        subject = _LOOSE.sub("", text[begin : match.start()].strip())
        previous = subject.rsplit(" ", 1)[-1].lower()
        if subject.endswith(",") and subject.count(",") == 2:
            subject = subject.rstrip(",")
        calls = word == "calls" and text.startswith(" for ", match.end())
        named = calls or (word.islower() and _may_be_verb(subject, word, start - match.end()))
        if not subject or not (named or is_finite(word)) or not _is_subject(subject):
            continue
        if previous in (
            "that",
            "which",
            "who",
            "to",
            "the",
            "a",
            "an",
            "his",
            "her",
            "of",
            "their",
        ):
            continue
        if (
            word not in SAME_PAST
            and not word.endswith(("s", "ed"))
            and asks_with(word, "")[0] == "do"
            and not is_many(subject)
        ):
            continue
        after = text[match.end() :]
        follows = re.match(r" ([a-z]+)", after)
        if word in SAME_PAST and follows and is_finite(follows[1]) and follows[1].endswith("s"):
            continue  # "each set contains"
        if word in ("cost", "total", "count", "rent") and after.startswith(" of "):
            continue
        if word.endswith("ed") and _IS_LATER.match(after[: max(start - match.end(), 0)]):
            continue
        shift = match.end()
        lead = text[:begin].strip(" ,")
        each = re.search(r"\w each $", text[: match.start()]) is not None
        return Clause(lead, subject, word, after, start - shift, end - shift, each)
    return None


def _may_be_verb(subject: str, word: str, distance: int) -> bool:
    """Whether a word that no list knows acts like a verb: behind a name, or before the number."""
    if counted(subject) or not word.endswith(("s", "ed")) or word.endswith("ss"):
        return False
    if word in _ADVERBS or (subject in _QUALITIES and is_plural(word)):
        return False
    return bool(re.fullmatch(r"[A-Z]\w+|[Hh]e|[Ss]he", subject)) or distance == 1


#: Behind a participle that belongs to the subject: "the age required to be employed there is ".
_IS_LATER = re.compile(
    r" (?:to be|by|for|in|at|from|on|to)\b(?:(?! and )[^,;])* (?:is|are|was|were) "
)
_ADVERBS = bag(
    "always sometimes besides afterwards perhaps nowadays outdoors indoors upstairs downstairs "
    "overseas thus plus across his hers theirs its this these those"
)
#: What opens a noun and calls nobody by name: "Large animals".
_QUALITIES = bag(
    "Large Small Big Little Young Old Adult Male Female Regular New Red Blue Green Yellow Black "
    "White Some All Most Many Other Local Fresh Wild School City Senior Junior"
)
_LOOSE = re.compile(
    r" (?:also|only|still|just|now|already|then|usually|always|often|currently|each)$"
)
_OPENS_PHRASE = re.compile(
    r"(?:In|On|At|For|After|Before|During|Every|Each|Last|This|Next|By|From|Over|With|Of|To"
    r"|Halfway|Once|Since)\b"
)
_ON_A_DAY = re.compile(
    r"(?:every|each|last|this|next|that|one|the (?:first|second|third|last|next|same)) "
    r"(?:day|week|month|year|night|morning|afternoon|evening|hour|minute)"
    r" (?=(?:[A-Z]|the |an? |his |her |he |she |they ))"
    r"|(?:one|on|last|this|next|every|each) (?:mon|tues|wednes|thurs|fri|satur|sun)day"
    r"(?: morning| afternoon| evening| night)? (?=(?:[A-Z]|the |an? |his |her |he |she |they ))",
    re.IGNORECASE,
)
#: "So far Mr. Grey has purchased …", "Together they buy …"
_LEADS = re.compile(
    r"(?:So far|Together|Altogether|In total|In all|At first|Initially|Originally|Today|Yesterday"
    r"|Now|Recently|Normally|Usually|Typically) (?=[A-Z]|(?:he|she|they|it|the) )"
)
_NAMED_SUBJECT = re.compile(r"\b(?:[A-Z][\w’']*(?: and [A-Z]\w+)?|he|she|they) (?=[a-z]+)")


def _subject_at(text: str, limit: int) -> int:
    """Where the subject of a clause begins, behind "Last week, " or "For every foul "."""
    comma = text.find(", ", 0, max(limit, 0))
    listed = re.match(r"[A-Z]\w+(?:, (?!and )[A-Z]\w+)+,? and [A-Z]", text)
    if comma > 0 and not listed and not has_verb(text[:comma]):
        return comma + 2
    if day := _ON_A_DAY.match(text) or _LEADS.match(text):
        return day.end()
    if not _OPENS_PHRASE.match(text):
        return 0
    for match in _NAMED_SUBJECT.finditer(text, 1, max(limit, 0)):
        following = re.compile(r"(?:also |only |then |still )?([a-z]+)").match(text, match.end())
        if following and is_finite(following[1]):
            return match.start()
    return 0


def _is_subject(words: str) -> bool:
    return not re.search(r"[,;]$", words) and not re.match(
        r"(?:if|when|after|before|while|for|in|on|at|to|from)\b", words, re.IGNORECASE
    )


def is_many(subject: str) -> bool:
    share = _SHARE.match(subject)
    subject = subject[share.end() :] if share else subject
    head = re.split(r" (?:of|in|on|at|for|from|with|who|that) ", subject)[0]
    last = head.rsplit(" ", 1)[-1]
    if subject.isalpha() and subject.endswith("s") and not gender_of(subject):
        return is_plural(last)  # "Cones cost", which no first name does
    return (
        (is_plural(last) and (last.islower() or head.startswith(("The ", "the "))))
        or " and " in subject
        or last.lower() in ("they", "you", "we", "i", "people")
    )


#: "30% of the twigs", "half of his friends".
_SHARE = re.compile(
    rf"(?:[\d.,/]+%?|(?i:{NUMBER_WORD})|[Hh]alf|[Mm]ost|[Aa]ll|[Ss]ome) (?:percent )?"
    r"of (?=(?:the|his|her|their|its|these|those) )"
)


def is_several(subject: str) -> bool:
    """Whether the head of a subject is a plural noun, whatever its verb says."""
    head = re.split(r" (?:of|in|on|at|for|from|with|who|that|which) ", subject)[0]
    last = head.rsplit(" ", 1)[-1]
    one = re.match(
        r"(?:(?:each|every|one|an?|this|that)\b|\w+ing (?:the|an?|his|her) )", head, re.I
    )
    return last.islower() and is_plural(last) and not one


def known(subject: str) -> str:
    """A subject as somebody speaks of it who has heard of it: "a library" → "the library"."""
    if re.search(r"\b(?:of|for|with)\b", subject):
        return subject
    return re.sub(r"^(?:An?|an?) (?=[a-z])", "the ", subject)


def small(words: str) -> str:
    """Words that no longer open a sentence; a name keeps its capital."""
    first = words.split(" ", 1)[0]
    common = re.fullmatch(
        r"(?:In|On|At|For|From|To|By|After|Before|During|If|When|While|The|A|An|His|Her|Their|Its"
        r"|My|Our|Each|Every|Last|This|These|Those|That|There|It|He|She|They|One|All|Some|Another"
        r"|Both|Only|Out|Over|Of|With|Every|Next|First|Second|Third|Every|Two|Three|Four|Five|Six"
        r"|Seven|Eight|Nine|Ten|You|We|Your|Half|Since|As|Additionally|Once|Currently|Initially"
        r"|Originally|So|Just|Across|Around|Through|Under|Without|Within|Among|Between|Along|Despite"
        r"|Due|Because|Thanks|Instead|According|Throughout|Upon|Until|Later|Today|Yesterday|Recently|Now|Then|Usually|Normally|Meanwhile|Inside|Eventually)",
        first,
    )
    lower = words[:1].lower() + words[1:]
    if common or first.islower() or first in _LOWERED:
        return lower
    following = words[len(first) + 1 :].split(" ", 1)[0]
    if first.endswith(("'s", "’s")):
        return words  # whose something is, a name says
    if first.endswith("ing") and following.islower() and following not in ("has", "is", "was"):
        return lower
    return lower if following.islower() and is_plural(following) else words


_LOWERED = bag(
    "Everything Everyone Halfway Someone Nobody Children Students People Coffee Tickets Apples "
    "Oranges Bananas Cookies Boxes Water Gas Milk Adults Insurance Cotton Unrest Electricity Rent "
    "Admission Parking Paint Sugar Flour Rice Bread Meat Everybody Anyone Previously Initially "
    "Finally Recently Typically Generally Altogether Together Yesterday's Today's Cable"
)


#: The same, of a verb that no list knows: "sells rice and restocks ".
_BESIDE = re.compile(r" and (?P<verb>[a-z]{3,}(?:s|ed))(?P<rest>) ?$")
_LATER_VERB = re.compile(
    r" (?:and|then|but) (?:(?:after|before) [\w’' ]*? )?(?:then |also |still |later |only )?"
    r"(?P<verb>[a-z]+)(?P<rest>(?: (?!and\b)[\w’'-]+){0,6} ?)$"
)


def later_verb(before: str, first: str) -> re.Match[str] | None:
    """A second verb of the same subject, nearer to the number: "… and then bought ".

    first: the verb before it, whose ending one has that no list knows.
    """
    beside = _BESIDE.search(before)
    if beside and beside["verb"][-1] == first[-1] and beside["verb"][-2:] != "ss":
        return beside
    at = max(before.rfind(f" {w} ") for w in ("and", "then", "but"))
    match = _LATER_VERB.match(before, at) if at >= 0 else None
    if match is None or not is_finite(match["verb"]) or match["verb"] in BE:
        return None
    return match


def without_members(before: str) -> str:
    """The words before a member of a list, without the members in between."""
    if not re.search(r"(?:,|\band) (?:also |only )?$", before):
        return before
    thing = _THING.search(before)
    return before[: thing.start()] if thing else before


_THING = re.compile(
    r"\b(?:an?|the|some|his|her|their|twice|several|[A-Z]\w*['’]s?(?= \d)|\d[\d,.]*%?|one|two|three"
    r"|four|five|six|seven|eight|nine|ten) "
    r"|[$£€]\d"
)
