"""The one short question that an underspecified prompt calls for, written from what it lacks.

Every certified `q*` knows the fact that was removed: "Mary buys 5 boxes of tea." The question asks
for its number with the fact's own words: "How many boxes of tea does Mary buy?" It serves as a
demonstration, of asking and of asking for the right thing. Where no rule fits the sentence, the
number's place is asked for as it stands ("Mary buys how many boxes of tea?").
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from icpo_lite.core.numbers import NumberMention, numbers
from icpo_lite.core.sentences import is_plural, sentences
from icpo_lite.core.types import Prompt, Shard
from icpo_lite.data.clause_words import LEADING, OWN_SUBJECT, SEPARATOR, counted
from icpo_lite.data.verb_forms import BE, SAME_PAST, asks_with, is_finite


#: Whether a question asks for what a prompt lacks, as a judge above this room sees it.
OnTarget = Callable[[Prompt, str], bool]


def asking_question(prompt: Prompt, on_target: OnTarget | None = None) -> str | None:
    """A question for a fact that a prompt lacks, the first for which one is found; None for none.

    on_target: the judge of questions; one that it refuses is not asked. A problem that brings its
    own questions, one a fact (`columns["asks"]`), is asked with those.
    """
    own = prompt.columns.get("asks")
    for shard in prompt.removed:
        if isinstance(own, list | tuple) and 0 < shard.shard_id <= len(own):
            question: str | None = str(own[shard.shard_id - 1])
        else:
            question = question_for(shard.text, prompt.text)
        if question is not None and (on_target is None or on_target(prompt, question)):
            return question
    return None


def question_for(fact: str, known: str = "") -> str | None:
    """A question whose answer is the number of a fact that `known` does not hold; None without.

    Where a fact holds several such numbers, the first is asked for.
    """
    held = {m.value for m in numbers(known)}
    fact = re.sub(r"\s+", " ", fact)
    for sentence in sentences(fact):
        marks = counted(sentence.text)
        missing = [m for m in marks if m.value not in held]
        if missing:
            return _question(sentence.text, missing[0])
    marks = [m for s in sentences(fact)[:1] for m in counted(s.text)]
    return _question(fact, marks[0]) if marks else None


@dataclass(frozen=True, slots=True)
class _Clause:
    """A clause around a number: words before the subject, subject, verb, and what follows.

    at, end: where the number stands in `after`; negative where it is in the subject or before it.
    """

    lead: str
    subject: str
    verb: str
    after: str
    at: int
    end: int


def _question(sentence: str, mention: NumberMention) -> str:
    bare = _ASIDE.sub("", sentence)
    if bare != sentence:
        same = [m for m in counted(bare) if m.value == mention.value]
        sentence, mention = (bare, same[0]) if same else (sentence, mention)
    text, shift = _own_clause(sentence, mention)
    inside = next(
        (m for m in numbers(text) if m.start == mention.start - shift and m.value == mention.value),
        None,
    )
    if inside is None:
        text, inside = sentence.rstrip(".!? "), mention
    asked = _ask(text, inside) or _in_place(text, inside)
    asked = re.sub(r"\s+", " ", asked).strip(" ,.;")
    return asked[:1].upper() + asked[1:] + "?"


_ASIDE = re.compile(r" ?\([^()]*\)")
_STOPS = re.compile(
    r",? (?:but|while|whereas|because|so|until|although|though|however|then|if|when)\b"
    r"|,? (?:and|which|who|where|after which|during which|with which)\b(?= )|[;:(]|, "
)
_GOES_WITH = re.compile(r"[^,]*\b(?:between|both)\b[^,]*$")


def _own_clause(sentence: str, mention: NumberMention) -> tuple[str, int]:
    """The part of a sentence that a number belongs to, and where it begins."""
    start = 0
    for match in SEPARATOR.finditer(sentence, 0, mention.start):
        opens = OWN_SUBJECT.match(sentence, match.end())
        joins = any(w in match[0] for w in ("and", "but", "while"))
        if not joins and not _has_verb(sentence[start : match.start()]):
            continue
        they = re.compile(r"(?:they|you|we|I) ([a-z]+)").match(sentence, match.end())
        opens = opens or (they if they and is_finite(they[1]) else None)
        if opens and opens.start() < mention.start and not _GOES_WITH.match(sentence[: match.end()]):
            start = match.end()
    end = len(sentence)
    for match in _STOPS.finditer(sentence, mention.unit_end):
        rest = sentence[match.end() :]
        if _goes_on(match[0], rest) or not _has_verb(sentence[start : match.start()]):
            continue
        end = match.start()
        break
    return sentence[start:end].rstrip(".!? "), start


_NAME_ACTS = re.compile(r"(?:[A-Z]\w+|He|She|It) [a-z]+s\b")


def _has_verb(words: str) -> bool:
    return bool(_NAME_ACTS.match(words)) or any(is_finite(w) for w in re.findall(r"[a-z]+", words))


def _goes_on(stop: str, rest: str) -> bool:
    """Whether a stop stands inside of the phrase: "3 cats and dogs", "red, blue and green"."""
    if stop == " and":
        first = re.match(r" *([\w$€£']+)", rest)
        return not (
            first and (is_finite(first[1].lower()) or OWN_SUBJECT.match(rest.strip()) or counted(rest))
        )
    return False


def _ask(text: str, mention: NumberMention) -> str | None:
    for rule in (_leading_phrase, _existential, _subject_number, _age, _modifier, _of_verb):
        question = rule(text, mention)
        if question is not None:
            return question
    return None


# ------------------------------------------------------------------------------ what is asked for

_MORE = re.compile(
    r"(?P<unit>[ -](?:[a-z]+s|inch|feet|foot|percent|kg|cm|mph|%))?"
    r" (?P<how>(?:more|fewer|less|as (?:many|much|old|long|tall|far|big|large|heavy|fast)|[a-z]+er)"
    r"(?: [\w’'-]+){0,5}? (?:than|as)\b)"
)


def _wanted(text: str, mention: NumberMention) -> tuple[str, int, int]:
    """(question words, start, end) for a number with its noun: "5 boxes" → "how many boxes"."""
    start = _with_adverb(text, mention.start)
    after = text[mention.end :]
    if mention.kind == "money":
        noun = "how much"
        if re.match(r" (?:worth|more|less)\b", text[mention.unit_end :]):
            return noun, start, mention.unit_end
        return noun, start, mention.unit_end
    if mention.kind == "percent":
        return "what percentage" if after.startswith(" of ") else "what percent", start, mention.end
    if mention.kind == "fraction":
        if after.startswith(" as "):
            return "how many times", start, mention.end
        return "what fraction", start, mention.end
    if mention.kind == "multiple":
        return "how many times", start, mention.end
    if after.startswith((" degrees", " percent")):
        return "how many", start, mention.end
    return "how many", start, mention.end


_ADVERB = re.compile(
    r"\b(?:about|around|approximately|exactly|nearly|almost|roughly|only|just|at least|at most"
    r"|up to|a total of|the total of|an average of|over|another|an additional|an extra|all) $",
    re.IGNORECASE,
)


def _with_adverb(text: str, start: int) -> int:
    match = _ADVERB.search(text, 0, start)
    return match.start() if match else start


def _phrase(text: str, mention: NumberMention) -> tuple[str, int, int]:
    """The whole phrase that moves to the front of a question, with its place in the text."""
    words, start, end = _wanted(text, mention)
    extra = ""
    before = text[:mention.start]
    if before.endswith(("another ", "an additional ", "an extra ")):
        extra = " more"
    if mention.kind == "money" and (more := re.match(r" (?:more|less)\b(?: than\b)?", text[end:])):
        than = _than_end(text, end)
        return words + text[end:than], start, than
    compared = _MORE.match(text, mention.end)
    if compared:
        stop = _than_end(text, mention.end)
        return words + text[mention.end : stop], start, stop
    if mention.kind in ("percent", "fraction"):
        stop = _of_end(text, end)
        return words + text[end:stop], start, stop
    if mention.kind == "cardinal":
        stop = _noun_end(text, mention)
        noun = text[mention.end : stop]
        if mention.value == 1 or not noun.strip():
            noun = noun or ""
        return words + extra + _plural(noun, mention), start, stop
    if mention.kind == "money" and extra:
        words += extra
    return words, start, end


def _plural(noun: str, mention: NumberMention) -> str:
    last = noun.rsplit(" ", 1)[-1]
    if mention.unit_end > mention.end and " of " not in noun and last.isalpha() and last.islower():
        if not is_plural(last) and mention.value < 2 and not last.endswith("s"):
            return f"{noun}s"
    return noun


#: "graphics cards": a plural that is only the first half of a noun.
_SECOND_NOUN = re.compile(r"(?<=[a-z]s) (?!(?:is|was|has|does|costs|this|his|its|as|less)\b)[a-z]{3,}s(?=[ ,.]|$)(?! (?:\d|the|a)\b)")


def _noun_end(text: str, mention: NumberMention) -> int:
    """End of "boxes of green tea"; a clause or another preposition ends it."""
    end = mention.unit_end
    stuff = re.compile(
        r" of (?!the\b|his\b|her\b|their\b|each\b|them\b|those\b)[a-z’'-]+"
        r"(?: (?!for|in|on|at|to|from|with|and|that|which|who|per|each|every|a|an|is|are|was|were"
        r"|into|during|by|of|last|this|left|today|yesterday|daily|weekly|before|after)[a-z’'-]+)?\b"
    ).match(text, end) or _SECOND_NOUN.match(text, end) or re.compile(r" of \d+ (?:[a-z-]+ ){0,2}?[a-z]+s\b").match(text, end)
    return stuff.end() if stuff else end


def _than_end(text: str, at: int) -> int:
    """End of "more marbles than Ben": what is compared with, up to a verb or a preposition."""
    match = re.compile(r"[^,;]*?\b(?:than|as) (?=[^ ])(?!many\b|much\b)").match(text, at)
    if match is None:
        return at
    inner = re.compile(
        r"(?:(?:the|a|an|his|her|their|its|my|each|twice|half|double) )?(?:number of |amount of )?"
        r"(?:(?:Mrs?|Ms|Dr)\. )?[\w’'$.-]*\w(?: (?!in\b|on\b|at\b|for\b|from\b|to\b|and\b|when\b|than\b|per\b|is\b|are\b"
        r"|was\b|were\b|last\b|this\b|by\b|with\b)[\w’'$-]+){0,4}"
    ).match(text, match.end())
    return inner.end() if inner else match.end()


def _of_end(text: str, at: int) -> int:
    match = re.compile(
        r" of (?:(?:the|his|her|their|its|all|these|those|this|that|my|our) )*[\w’'-]+"
        r"(?: (?!in\b|on\b|at\b|for\b|from\b|to\b|and\b|when\b|is\b|are\b|was\b|were\b|have\b|has\b"
        r"|had\b|who\b|that\b|which\b|with\b|by\b|are\b|as\b|go\b|goes\b)[a-z’'-]+)?"
        r"|(?: [a-z]+)? (?:discount|tax|tip|raise|interest|profit|increase|decrease|commission|off"
        r"|more|less|fewer)\b"
    ).match(text, at)
    return match.end() if match else at


# --------------------------------------------------------------------------------- forms of question

def _leading_phrase(text: str, mention: NumberMention) -> str | None:
    """ "In 5 years, Ann will be 16" → "in how many years will Ann be 16"."""
    words, start, end = _phrase(text, mention)
    before = re.fullmatch(r"(?P<words>(?:In|For|After|At|Within|Over|During|Every|By|With|On|From)(?: the (?:next|last|past|first)| the)?) ", text[:start])
    rest = re.match(r"(?P<more>[^,]{0,40}?),? (?P<clause>(?:[A-Z][\w’']*|he|she|they|it|the|there|his|her|an?|each|\d\S*) .*)$", text[end:])
    if before is None or rest is None or _has_verb(rest["more"]):
        return None
    if before["words"].startswith("Of"):
        return f"{words}{rest['more']} are there"
    inverted = _inverted(rest["clause"])
    return f"{before['words']} {words}{rest['more']} {inverted}" if inverted else None


def _inverted(clause: str) -> str | None:
    """ "Ann will be 16" → "will Ann be 16"."""
    parsed = _parsed(clause, len(clause), len(clause))
    if parsed is None or parsed.lead:
        return None
    auxiliary, verb = asks_with(parsed.verb, parsed.after)
    return f"{auxiliary} {_small(parsed.subject)}{_space(verb)}{parsed.after}"


_THERE = re.compile(r"(?P<lead>.*?)\bthere (?P<be>are|is|were|was|will be|would be) $", re.IGNORECASE)


def _existential(text: str, mention: NumberMention) -> str | None:
    """ "There are 24 marbles in a jar" → "how many marbles are there in a jar"."""
    words, start, end = _phrase(text, mention)
    match = _THERE.fullmatch(text[:start])
    if match is None or mention.kind == "money":
        return None
    if match["lead"] and not re.search(r", $|^(?:In|On|At|For|Inside|By|Of)\b", match["lead"]):
        return None
    be = match["be"].lower()
    verb = {"will be": "will there be", "would be": "would there be"}.get(be, f"{be} there")
    verb = {"is there": "are there", "was there": "were there"}.get(verb, verb)
    lead = match["lead"].strip(" ,")
    return f"{words} {verb}{text[end:]}" + (f" {_small(lead)}" if lead else "")


def _small(words: str) -> str:
    """Words that no longer open a sentence; a name keeps its capital."""
    first = words.split(" ", 1)[0]
    common = re.fullmatch(
        r"(?:In|On|At|For|From|To|By|After|Before|During|If|When|While|The|A|An|His|Her|Their|Its"
        r"|My|Our|Each|Every|Last|This|These|Those|That|There|It|He|She|They|One|All|Some|Another"
        r"|Both|Only|Out|Over|Of|With|Every|Next|First|Second|Third|Every|Two|Three|Four|Five|Six"
        r"|Seven|Eight|Nine|Ten|You|We|Your|Half|Since|As|Additionally|Once|Currently|Initially"
        r"|Originally|Later|Today|Yesterday|Now|Then|Usually|Normally|Meanwhile|Inside|Eventually)",
        first,
    )
    lower = words[:1].lower() + words[1:]
    if common or first.islower() or first in _LOWERED:
        return lower
    following = words[len(first) + 1 :].split(" ", 1)[0]
    return lower if following.islower() and is_plural(following) else words


_LOWERED = {
    "Everything", "Everyone", "Halfway", "Someone", "Nobody", "Children", "Students", "People", "Coffee",
    "Tickets", "Apples", "Oranges", "Bananas", "Cookies", "Boxes", "Water", "Gas", "Milk", "Adults",
}  # fmt: skip


def _subject_number(text: str, mention: NumberMention) -> str | None:
    """ "10 racers are eliminated" → "how many racers are eliminated"."""
    words, start, end = _phrase(text, mention)
    lead = text[:start]
    if lead and not re.fullmatch(r"(?:[A-Z][^,]*, )", lead):
        return None
    verb = re.match(r"(?: [\w’'-]+){0,6}? (?P<verb>[a-z]+)\b", text[end:])
    rest = text[end:]
    first = re.match(r" ([a-z]+)", rest)
    if mention.kind == "money" or first is None:
        return None
    if not any(is_finite(w) for w in re.findall(r"[a-z]+", rest)[:8]) or verb is None:
        return None
    tail = f" {_small(lead.strip(' ,'))}" if lead and not _has_verb(lead) else ""
    return f"{words}{rest}{tail}"


def _parsed(text: str, start: int, end: int) -> _Clause | None:
    """Subject and main verb of a clause, for a phrase at text[start:end]."""
    begin = _subject_at(text, start)
    for match in re.compile(r"[A-Za-z’']+").finditer(text, begin):
        word = match[0]
        subject = _LOOSE.sub("", text[begin : match.start()].strip())
        previous = subject.rsplit(" ", 1)[-1].lower()
        if subject.endswith(",") and subject.count(",") == 2:
            subject = subject.rstrip(",")
        named = word.islower() and _may_be_verb(subject, word, start - match.end())
        if not subject or not (named or is_finite(word)) or not _is_subject(subject):
            continue
        if previous in ("that", "which", "who", "to", "the", "a", "an", "his", "her", "of", "their"):
            continue
        if word not in SAME_PAST and not word.endswith(("s", "ed")) and asks_with(word, "")[0] == "do" and not _is_many(subject):
            continue
        after = text[match.end() :]
        shift = match.end()
        return _Clause(text[:begin].strip(" ,"), subject, word, after, start - shift, end - shift)
    return None


def _may_be_verb(subject: str, word: str, distance: int) -> bool:
    """Whether a word that no list knows acts like a verb: behind a name, or before the number."""
    if counted(subject) or not word.endswith(("s", "ed")) or word.endswith("ss"):
        return False
    return bool(re.fullmatch(r"[A-Z]\w+|[Hh]e|[Ss]he", subject)) or distance == 1


_LOOSE = re.compile(r" (?:also|only|still|just|now|already|then|usually|always|often|currently|each)$")
_OPENS_PHRASE = re.compile(
    r"(?:In|On|At|For|After|Before|During|Every|Each|Last|This|Next|By|From|Over|With|Of|To|Halfway|Once|Since)\b"
)
_ON_A_DAY = re.compile(
    r"(?:every|each|last|this|next|that|one) (?:day|week|month|year|night|morning|afternoon|evening)"
    r" (?=(?:[A-Z]|the |an? |his |her |he |she |they ))",
    re.IGNORECASE,
)
_NAMED_SUBJECT = re.compile(r"\b(?:[A-Z][\w’']*(?: and [A-Z]\w+)?|he|she|they) (?=[a-z]+)")


def _subject_at(text: str, limit: int) -> int:
    """Where the subject of a clause begins, behind "Last week, " or "For every foul "."""
    comma = text.find(", ", 0, max(limit, 0))
    if comma > 0 and not _has_verb(text[:comma]):
        return comma + 2
    if day := _ON_A_DAY.match(text):
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


def _is_many(subject: str) -> bool:
    head = re.split(r" (?:of|in|on|at|for|from|with|who|that) ", subject)[0]
    last = head.rsplit(" ", 1)[-1]
    return is_plural(last) or " and " in subject or last.lower() in ("they", "you", "we", "i", "people")


def _age(text: str, mention: NumberMention) -> str | None:
    """ "Betty is 60 years old" → "how old is Betty"."""
    match = re.match(r"(?P<unit> years?| months?| weeks?)(?: old| of age)\b|$", text[mention.end :])
    before = re.search(r"^(?P<who>.*?)(?:’s|'s| is| was| are| will be| turned| turns) (?:now |currently |only )?$", text[: mention.start])
    if match is None or before is None or mention.kind != "cardinal":
        return None
    if not match[0] and not re.search(r"[A-Z]|brother|sister|mother|father|son|daughter", before["who"]):
        return None
    if not match[0]:
        if re.search(r"\b(?:age|number|price|cost|average|score|sum|total|weight|length|distance)\b", before["who"]):
            return f"what is {_small(before['who'])}"
    be = re.search(r"(is|was|are|will be|'s|’s|turned|turns) (?:now |currently |only )?$", text[: mention.start])
    verb = {"'s": "is", "’s": "is", "turned": "was", "turns": "is"}.get(be[1], be[1]) if be else "is"
    tail = text[mention.end + match.end() :]
    if verb == "will be":
        return f"how old will {_small(before['who'])} be{tail}"
    return f"how old {verb} {_small(before['who'])}{tail}"


_HYPHENED = re.compile(
    r"-(?P<unit>[a-z]+)(?:[- ](?P<adjective>old|long|tall|wide|high|deep|thick))? (?P<noun>[a-z]+(?: [a-z]+)?)"
)
_HAS_UNITS = frozenset(
    ("page", "slice", "piece", "room", "bedroom", "question", "seat", "story", "chapter", "part", "word", "count", "card")
)
_UNIT_PLURAL = {"foot": "feet", "inch": "inches", "story": "stories"}


def _modifier(text: str, mention: NumberMention) -> str | None:
    """ "a 120-page book" → "how many pages does the book have"."""
    match = _HYPHENED.match(text, mention.end)
    if match is None:
        return None
    units = _UNIT_PLURAL.get(match["unit"], match["unit"] + "s")
    noun = match["noun"].split(" ")[0] if re.search(r" (?:to|for|in|on|at|of|with|and|from|that|is|was|by)$", match["noun"]) else match["noun"]
    many = is_plural(noun)
    be, do = ("are", "do") if many else ("is", "does")
    if match["adjective"]:
        return f"how many {units} {match['adjective']} {be} the {noun}"
    if match["unit"] in _HAS_UNITS:
        return f"how many {units} {do} the {noun} have"
    if match["unit"] in ("minute", "hour", "second", "day", "week", "month", "year"):
        return f"how many {units} long {be} the {noun}"
    return f"how many {units} {be} the {noun}"


_PREPOSITION = re.compile(
    r"\b(?P<words>(?:in|for|at|by|with|to|from|over|within|after|into|on|during|of|per|every|among|between|under)"
    r"(?: (?:a|an|the))?(?: (?:speed|rate|price|cost|total|distance|average|maximum|constant|average speed|pace) of)?"
    r"(?: (?:the )?(?:next|last|past|first))?) $"
)


_AT_SPEED = re.compile(r"\bat an? (?P<what>(?:[a-z]+ )?(?:speed|rate|pace)) of $")
_WITH_WHAT = re.compile(r"(?<!to )(?<!into )(?<!on )\ban? (?P<noun>(?:[a-z-]+ ){0,2}?[a-z-]+) with $")


def _of_verb(text: str, mention: NumberMention) -> str | None:
    """ "Mary buys 5 boxes of tea" → "how many boxes of tea does Mary buy"."""
    words, start, end = _phrase(text, mention)
    clause = _parsed(text, start, end)
    if clause is None or clause.at < 0:
        return None
    before, rest = clause.after[: clause.at], clause.after[clause.end :]
    if clause.verb in _THINKS and OWN_SUBJECT.match(before.strip()):
        said = text[len(text) - len(clause.after) :].lstrip()
        inner = [m for m in numbers(said) if m.value == mention.value]
        return _ask(said, inner[-1]) if inner else None
    auxiliary, verb = asks_with(clause.verb, clause.after)
    if auxiliary == "do" and not _is_many(clause.subject):
        auxiliary = "did" if clause.verb in SAME_PAST else "does"
    before = re.sub(r"\b(?:an?|the|these|those) ?$", "", before)
    rest = _OTHER_MEMBER.sub("", rest)
    subject = _small(clause.subject)
    lead = f" {_small(clause.lead)}" if clause.lead else ""
    before = _without_members(before)
    if re.search(r"\b(?:that|which|who|containing|holding|weighing|measuring|costing|worth)\b", before):
        return _relative(text, start, end, words)
    if passive := _PASSIVE.search(before):
        clause = replace(clause, verb=passive["be"])
        before = before[passive.end("be") :]
        auxiliary, verb = clause.verb, ""
    elif later := _later_verb(before):
        before = later["rest"]
        auxiliary, verb = asks_with(later["verb"], f"{before} ")
        clause = replace(clause, verb=later["verb"])
    if mention.kind == "money" and verb in ("have", "save", "raise", "receive", "win", "get", "earn") and not before.strip():
        words = words.replace("how much", "how much money") if not words.startswith("how much m") else words
    if clause.verb in BE and not before.strip():
        return _of_be(subject, clause.verb, words, rest, mention) + lead
    if speed := _AT_SPEED.search(before):
        rest = re.sub(r"^ ?(?:/|per |an? )\w+", "", rest)
        middle = before[: speed.start()].rstrip()
        return f"at what {speed['what']} {auxiliary} {subject}{_space(verb)}{middle}{rest}{lead}"
    with_what = _WITH_WHAT.search(before)
    if with_what and mention.kind == "cardinal":
        return f"{words} does the {with_what['noun']} have"
    pied = _PREPOSITION.search(before)
    if pied and (mention.kind != "money" or pied["words"].split()[0] not in ("for", "at", "of", "with")):
        front = f"{pied['words']} {words}"
        front = re.sub(r"^every how many", "every how many", front)
        middle = before[: pied.start()].rstrip()
        return f"{front} {auxiliary} {subject}{_space(verb)}{middle}{rest}{lead}"
    if pied:
        middle = before[: pied.start()].rstrip()
        preposition = {"at": "for"}.get(pied["words"].split()[0], pied["words"].split()[0])
        return f"{words} {auxiliary} {subject}{_space(verb)}{middle} {preposition}{rest}{lead}"
    return f"{words} {auxiliary} {subject}{_space(verb)}{before.rstrip()}{rest}{lead}"


_LATER_VERB = re.compile(
    r" (?:and|then|but) (?:(?:after|before) [\w’' ]*? )?(?:then |also |still |later |only )?"
    r"(?P<verb>[a-z]+)(?P<rest>(?: (?!and\b)[\w’'-]+){0,6} ?)$"
)


def _later_verb(before: str) -> re.Match[str] | None:
    """A second verb of the same subject, nearer to the number: "… and then bought "."""
    at = max(before.rfind(f" {w} ") for w in ("and", "then", "but"))
    match = _LATER_VERB.match(before, at) if at >= 0 else None
    if match is None or not is_finite(match["verb"]) or match["verb"] in BE:
        return None
    return match


_THINKS = frozenset(
    ("knows", "knew", "thinks", "thought", "says", "said", "believes", "realizes", "realized", "notices",
     "noticed", "sees", "saw", "estimates", "calculates", "figures", "decides", "finds", "found")
)  # fmt: skip


_PASSIVE = re.compile(r" (?:and|but) (?P<be>is|are|was|were)(?: then| also| later)? (?=[a-z]+(?:ed|en)\b)(?!.* and )")
_OTHER_MEMBER = re.compile(
    r"^,? and (?:some|an?|the|his|her) [a-z ]+?(?= (?:at|in|on|for|to|from|with)\b|$)"
)


def _without_members(before: str) -> str:
    """The words before a member of a list, without the members in between."""
    if not re.search(r"(?:,|\band) (?:also |only )?$", before):
        return before
    thing = _THING.search(before)
    return before[: thing.start()] if thing else before


_THING = re.compile(
    r"\b(?:an?|the|some|his|her|their|\d[\d,.]*|one|two|three|four|five|six|seven|eight|nine|ten) "
    r"|[$£€]\d"
)


def _space(verb: str) -> str:
    return f" {verb}" if verb else ""


def _of_be(subject: str, be: str, words: str, rest: str, mention: NumberMention) -> str:
    """ "The cost of the phone is $1300" → "what is the cost of the phone"."""
    named = re.match(
        r"(?:the|his|her|their|its|[\w’']+['’]s) (?:[a-z-]+ ){0,3}?(?:cost|price|number|total|age|weight|length|distance|width"
        r"|height|speed|rate|average|score|population|salary|income|fee|bill|budget|time|area|rent|capacity|ratio)\b",
        subject,
    )
    if named and mention.kind in ("money", "cardinal", "percent", "fraction") and "than" not in words:
        return f"what {be} {subject}{rest}"
    return f"{words} {be} {subject}{rest}"


_OF_ING = {
    "containing": "contain",
    "holding": "hold",
    "weighing": "weigh",
    "measuring": "measure",
    "costing": "cost",
}


def _relative(text: str, start: int, end: int, words: str) -> str | None:
    """ "… a bus that holds 40 people" → "how many people does the bus hold"."""
    match = re.search(
        r"\b(?:an?|the|one|his|her) (?P<noun>(?:[\w-]+ ){0,2}?[\w-]+),? (?:(?:that|which|who)"
        r" (?:only |also |already )?(?P<verb>[a-z]+)|(?P<ing>containing|holding|weighing|measuring"
        r"|costing|worth))(?P<between>[^,]*)$",
        text[:start],
    )
    if match is None:
        return None
    if match["ing"] == "worth":
        return f"{words} is the {match['noun']} worth{text[end:]}"
    if match["ing"]:
        return f"{words} does the {match['noun']} {_OF_ING[match['ing']]}{match['between'].rstrip()}{text[end:]}"
    if not is_finite(match["verb"]):
        return None
    auxiliary, verb = asks_with(match["verb"], match["between"])
    if auxiliary == "do":
        auxiliary = "does"
    return f"{words} {auxiliary} the {match['noun']}{_space(verb)}{match['between'].rstrip()}{text[end:]}"


def _in_place(text: str, mention: NumberMention) -> str:
    words, start, end = _phrase(text, mention)
    return re.sub(r"\b(?:the|these|those) $", "", text[:start]) + words + text[end:]


def questions_for(shards: tuple[Shard, ...]) -> dict[int, str]:
    """The question for each fact of a problem, by shard id; facts without a number have none."""
    found = ((s.shard_id, question_for(s.text)) for s in shards if not s.is_question)
    return {shard_id: question for shard_id, question in found if question}
