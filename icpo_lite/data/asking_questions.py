"""The one short question that an underspecified prompt calls for, written from what it lacks.

Every certified `q*` knows the fact that was removed: "Mary buys 5 boxes of tea." The question asks
for its number with the fact's own words: "How many boxes of tea does Mary buy?" It serves as a
demonstration, of asking and of asking for the right thing. Where no form fits the sentence, a short
question asks for the number's noun ("How many boxes of tea are there?"); where that would tell
nothing, or the judge of questions refuses it, the question stands in the number's place: "Mary buys
how many boxes of tea?"; and last, the sentence is said with a gap: "What number is missing here:
Mary buys ___ boxes of tea?" Facts without a number: `point_questions.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from icpo_lite.core.numbers import NumberMention, numbers
from icpo_lite.core.sentences import sentences
from icpo_lite.core.types import Prompt
from icpo_lite.data.clause_words import OWN_SUBJECT, SEPARATOR, counted
from icpo_lite.data.point_questions import point_question, value_question
from icpo_lite.data.question_clauses import has_verb, parsed, small
from icpo_lite.data.question_forms import ask
from icpo_lite.data.question_phrases import phrase_of
from icpo_lite.data.question_sentences import (
    plain_sentence,
    reads_well,
    short_question,
)
from icpo_lite.data.verb_forms import AUXILIARIES, is_finite

#: Whether a question asks for what a prompt lacks, as a judge above this room sees it.
OnTarget = Callable[[Prompt, str], bool]


def asking_question(prompt: Prompt, on_target: OnTarget | None = None) -> str | None:
    """A question for a fact that a prompt lacks, the first that is found; None for none.

    on_target: the judge of questions; one that it refuses is not asked. A problem that brings its
    own questions, one a fact (`columns["asks"]`), is asked with those.
    """
    for question in _candidates(prompt):
        if on_target is None or on_target(prompt, question):
            return question
    return None


def _candidates(prompt: Prompt) -> Iterator[str]:
    """Questions for what a prompt lacks: the data's own, then those made from its facts."""
    own = prompt.columns.get("asks")
    for shard in prompt.removed:
        if isinstance(own, list | tuple) and 0 < shard.shard_id <= len(own):
            yield str(own[shard.shard_id - 1])
        else:
            yield from _of_fact(prompt, shard.text)
    yield from (text for text in prompt.targets if text.strip().endswith("?"))
    lacking = [place for s in prompt.removed for place in _missing(s.text, prompt.text)]
    yield from filter(None, (in_place(text, m) for text, m in lacking))
    yield from (with_gap(text, m) for text, m in lacking)


def _of_fact(prompt: Prompt, fact: str) -> Iterator[str]:
    """Questions for a removed fact: its number, its value, or the point that it names."""
    if prompt.certificate.level == "given":
        named = point_question(fact)
    else:
        named = None if prompt.task == "math" else value_question(fact)
    yield from [named] if named else _questions(fact, prompt.text)


def question_for(fact: str, known: str = "") -> str | None:
    """A question whose answer is the number of a fact that `known` does not hold; None without.

    Where a fact holds several such numbers, the first of which a question reads well is asked for.
    """
    return next(_questions(fact, known), None)


def _questions(fact: str, known: str) -> Iterator[str]:
    return filter(None, (_question(text, m, known) for text, m in _missing(fact, known)))


def _missing(fact: str, known: str) -> list[tuple[str, NumberMention]]:
    """The numbers of a fact that `known` does not hold, each with its sentence."""
    held = {m.value for m in numbers(known)}
    fact = re.sub(r"\s+", " ", fact)
    fact = re.sub(r"(?<=\d)/(?=[a-z]{2})|(?<=[a-z])/(?=minute|hour|second|day)", " per ", fact)
    fact = re.sub(r"(?<=\d)(?=(?:mph|kph|kg|km|cm|lbs?)\b)", " ", fact)
    fact = re.sub(r"(?<=[a-z])['’]s (?=going to\b)", " is ", _GAP.sub("", fact))
    told = [(s.text, m) for s in sentences(fact) for m in counted(s.text)]
    missing = [(text, m) for text, m in told if m.value not in held] or told[:1]
    # "the two sisters" speaks of what is known; of another number the question tells more.
    missing.sort(key=lambda place: bool(_OF_KNOWN.search(place[0][: place[1].start])))
    return missing


#: What another removed number has left behind: "The -pound plates cost $50".
_GAP = re.compile(r"(?<= )-(?:[a-z]+) (?=[a-z])")


def with_gap(sentence: str, mention: NumberMention) -> str:
    """The question for a number that shows where it is missing in its sentence."""
    text, mention = plain_sentence(re.sub(r"\s+", " ", sentence.strip()), mention)
    sign = mention.surface[:1] if mention.surface[:1] in "$€£" else ""
    unit = "%" if mention.surface.endswith("%") else ""
    said = f"{text[: mention.start]}{sign}{_BLANK}{unit}{text[mention.end :]}".rstrip(".!? ")
    return f"What number is missing here: {said}?"


def in_place(sentence: str, mention: NumberMention) -> str | None:
    """The sentence as a question whose words stand where its number was; None behind a "his"."""
    text, mention = plain_sentence(re.sub(r"\s+", " ", sentence.strip()), mention)
    words, start, end = phrase_of(text, mention)
    before = text[:start]
    if words.startswith("what percent "):
        before = re.sub(r"\ban? $", "", before)  # "get a 20% discount"
    leads = "," in text[end:] and not has_verb(before) and not parsed(text, start, end)
    owned = re.search(r"(?:['’]s?|\b(?:an?|the|his|her|their|its)) $", before)
    if leads or owned or re.search(r"\brespectively\b", text):
        return None
    asked = f"{before}{words}{text[end:]}".rstrip(".!? ")
    return f"{asked[:1].upper()}{asked[1:]}?"


_BLANK = "___"
_OF_KNOWN = re.compile(r"\b(?:the|these|those|both|all|his|her|their) $", re.IGNORECASE)


def _question(sentence: str, mention: NumberMention, known: str) -> str | None:
    if re.search(r"\brespectively\b", sentence):
        return None
    sentence, mention = plain_sentence(sentence, mention)
    text, shift = _own_clause(sentence, mention)
    inside = next(
        (m for m in numbers(text) if m.start == mention.start - shift and m.value == mention.value),
        None,
    )
    if inside is None:
        text, inside = sentence.rstrip(".!? "), mention
    text, inside = plain_sentence(text, inside)
    when = _WHEN.match(sentence) if shift else None
    where = _OWN_PLACE.search(sentence[:shift])
    for form in (ask, short_question):
        asked = _smooth(form(text, inside) or "", known)
        if where and asked and form is ask:
            asked += f" {small(where['place'])}"
        elif when and asked and form is ask:
            asked += f" {small(when[0])}"
        elif asked and shift and (only := re.match(r"If [^,]+(?=, )", sentence)):
            asked += f" {small(only[0])}"
        elif asked and (rate := _FOR_EACH.search(sentence[:shift])):
            asked += f" {small(rate['rate'])}"
        asked = asked[:1].upper() + asked[1:] + "?"
        if reads_well(asked):
            return asked
    return None


def _smooth(asked: str, known: str) -> str:
    """A question as somebody puts it who has read the prompt: "in the jar" that it spoke of."""
    asked = re.sub(r"\s+", " ", asked).strip(" ,.;")
    asked = re.sub(r"\b([ap]\.m)$", r"\1.", asked, flags=re.IGNORECASE)
    asked = re.sub(r"[.,;](?=[\"”’]$)", "", asked)
    asked = re.sub(r"(?<=\w) (?:also|only)\b", "", asked)

    def told(match: re.Match[str]) -> str:
        said = rf"\b[Aa]n? (?:certain )?{re.escape(match['noun'])}\b"
        return f"{match['before']}the {match['noun']}" if re.search(said, known) else match[0]

    return _A_THING.sub(told, asked)


_A_THING = re.compile(
    r"\b(?P<before>(?:in|on|at|inside|into|onto|from|buy|sell"
    r"|(?<!\d )(?<!half )(?<!third )(?<!quarter )of) )an? (?:certain )?"
    r"(?!(?:day|week|month|year|hour|minute|second|row|time|total|lot|rate|speed|way|half|third"
    r"|quarter|pair|group|dozen|couple|number|few|single|normal|typical|regular|usual|similar|different|piece|pound|cup)\b)"
    r"(?P<noun>[a-z’'-]+)\b"
)
_OPENS = re.compile(rf",? where |,? so (?=he |she |they |it |[A-Z])|{SEPARATOR.pattern}")
_STOPS = re.compile(
    r",? (?:While|But|And|So|but|while|whereas|because|so|until|although|though|however|then|if"
    r"|when)\b"
    r"|,? (?:and|which|who|where|after which|during which|with which)\b(?= )|[;:(]|, "
    r"|,? (?:in|under|on|at|for|by|from|to|of|into|through) (?:which|whom)\b"
)
_THEY = re.compile(
    r"(?:they|you|we|I) (?:each |all |both |then |also )?(?P<base>[a-z]+)"
    r"|(?:he|she|(?:Mrs?|Ms|Dr)\. [A-Z]\w+) (?:then |also |still )?[a-z]+(?:s|ed)(?= )"
)


def _they_act(sentence: str, at: int) -> re.Match[str] | None:
    they = _THEY.match(sentence, at)
    return they if they and (they["base"] is None or is_finite(they["base"])) else None


#: "On Monday, Ann works, and she gets $18": the day is that of both clauses.
_WHEN = re.compile(
    r"(?:At the (?:beginning|end|start) of [^,\d]*"
    r"|(?:On|In|During|At|By|This|Last|Every|Each)\b[^,\d]{0,18}\b(?:(?:Mon|Tues|Wednes|Thurs|Fri"
    r"|Satur|Sun)days?|mornings?|afternoons?|evenings?|nights?|days?|weeks?|months?|years?|weekends?"
    r"|summer|winter|spring|fall|January|February|March|April|May|June|July|August|September"
    r"|October|November|December|time|end)|Yesterday|Today"
    r"|(?:When|After|Before|Once)\b[^,\d]{0,32})(?=, )"
)
#: A time or a place of its own, before the clause: "…, and in each next room, there are".
_OWN_PLACE = re.compile(r", (?:and|but) (?P<place>(?:in|on|at|by|during|for) [^,\d]*), $")
#: "For every hour the baby sleeps, he sleeps 30 minutes"
_FOR_EACH = re.compile(r"(?:^|, )(?P<rate>[Ff]or (?:every|each) [^,\d]{3,40}), (?:and )?$")
_GOES_WITH = re.compile(r"[^,]*\b(?:between|both)\b[^,]*$")


def _own_clause(sentence: str, mention: NumberMention) -> tuple[str, int]:
    """The part of a sentence that a number belongs to, and where it begins."""
    start = 0
    for match in _OPENS.finditer(sentence, 0, mention.start):
        opens = OWN_SUBJECT.match(sentence, match.end())
        if not has_verb(sentence[start : match.start()]):
            continue
        if opens and re.match(r" ?(?:,|and\b|$)", sentence[opens.end() :]):
            opens = None  # "4 pajama sets, …" is a member of a list
        opens = opens or _they_act(sentence, match.end())
        if (
            opens
            and opens.start() <= mention.start
            and not _GOES_WITH.match(sentence[: match.end()])
        ):
            start = match.end()
    end = len(sentence)
    for match in _STOPS.finditer(sentence, mention.unit_end):
        rest = sentence[match.end() :]
        clause = sentence[start : match.start()]
        told = has_verb(clause) or parsed(clause, mention.start - start, mention.end - start)
        if _goes_on(match[0], rest, clause) or not told:
            continue
        end = match.start()
        break
    return sentence[start:end].rstrip(".!? "), start


def _goes_on(stop: str, rest: str, before: str) -> bool:
    """Whether a stop stands inside of the phrase: "3 cats and dogs", "red, blue and green"."""
    if stop == " when":  # which time is meant
        return bool(re.match(r" (?:[\w’']+ ){1,3}(?:\w+ ?){1,4}$", rest.rstrip(".")))
    if stop == ", ":  # "on Monday, Thursday and Saturday"
        return bool(re.match(r"[A-Z]\w+(?:, [A-Z]\w+)*,? and [A-Z]\w+(?=[.,]|$)", rest))
    if stop == " who":
        return bool(re.match(r"[Tt]here (?:is|are|was|were) ", before))
    if stop == " and":
        if re.match(r" the (?:two|three|four|five|rest|others?)\b", rest):
            return False
        first = re.match(r" *([\w$€£']+)", rest)
        if re.match(r" (?:the|his|her) (?:rest|remaining|remainder|others?)\b", rest):
            return False
        if first and first[1].lower() in ("everyone", "everybody", "some", "the", "others"):
            return first[1].lower() == "the" and not has_verb(rest)
        return first is None or not (
            first[1].lower() != "back"
            and (
                is_finite(first[1].lower())
                or first[1].lower() in AUXILIARIES
                or OWN_SUBJECT.match(rest.strip())
                or counted(rest)
                or first[1] in ("1", "one")
                or _they_act(rest.strip(), 0)
            )
        )
    return False
