"""A sentence made plain before it is turned into a question, and whether the question reads well.

What stands beside the clause of a number is taken away: an aside between commas or brackets, who
said it, the word that opens a clause ("When Ann bought 10 books, …"). A question that came out
garbled is known by its end, its verbs and its commas; then a short one serves, which asks for the
number's noun alone ("How many court cases were there?").
"""

from __future__ import annotations

import re

from icpo_lite.core.numbers import NumberMention, numbers
from icpo_lite.core.words import bag
from icpo_lite.data.clause_words import VERB, counted
from icpo_lite.data.question_clauses import has_verb, small
from icpo_lite.data.question_phrases import phrase_of, with_adverb
from icpo_lite.data.verb_forms import GIVE, is_finite

# ------------------------------------------------------------------------------ plain sentences

_BRACKETS = re.compile(r" ?\([^()]*\)")
_APPOSITIVE = re.compile(
    r"^(?P<subject>(?:[A-Z][\w’'.]*|[Tt]he|His|Her|Their|An?)(?: [\w’'-]+){0,4}), "
    r"(?!(?:and|or|but|then|so|she|he|they|it|there|\d)\b)(?P<aside>[^,]{2,60}), +"
    r"(?=(?:also |only |then |still |each )?(?P<verb>[a-z]+)\b)"
)
_OPENING = re.compile(
    r"^(?:Instead|Also|However|Unfortunately|Luckily|Fortunately|Finally|Additionally|Moreover"
    r"|Furthermore|Afterwards?|Eventually|So|Then|And|But)(?:, | (?=(?:he|she|they|it|there|the|his"
    r"|her|[A-Z])\b))"
)
_SAID = re.compile(
    r"^(?:(?:[A-Z][\w’']*|[Hh]e|[Ss]he|[Tt]hey|[Ii]t)(?: [a-z]+)?) (?:been told to estimate"
    r"|recorded|said|says|told [\w’']+|noticed"
    r"|knows?|knew|found(?: out)?|finds|realized|thinks?|thought|believes?|learned|estimate[sd]"
    r"|decided|noted|calculate[sd]|heard|predict(?:s|ed)|claim(?:s|ed)|remember(?:s|ed))"
    rf"(?: that |(?= (?:(?:he|she|they|it)|(?:his|her|their) [a-z]+) {VERB}\b) )"
)
_CONDITION = re.compile(
    r"^(?:When|If|After|Once|While|Because|As|Since|Although|Though|Before|Whenever|Even though"
    r"|Even if|Given that|Assuming|Suppose|Knowing that|Considering) (?P<clause>[^,]+)(?P<ends>,|$)"
)
_LATE_CONDITION = re.compile(
    r"^[^,]+? (?:if|when|once|after|before|because|since|until|unless|while|as long as) "
    r"(?P<clause>(?:he|she|they|you|we|the [a-z]+|[A-Z]\w+) [^,]+)(?P<ends>,|$)"
)
_SHOWN = re.compile(
    r"^(?:[A-Z][\w’' ]* (?:show|shows|showed|indicates?|suggests?|states?)"
    r"|(?:[^,\d]*, )?[Ii]t (?:was|is) (?:reported|found|said|noted|known|discovered)) that "
)
_ENSURED = re.compile(
    r"^[^,]*? (?:to )?(?:make|makes|made|making) sure (?:that )?(?=(?:each|every|everyone|all) )"
)
#: "While buying DVDs at the store, ": what somebody does meanwhile, or what for.
_MEANWHILE = re.compile(
    r"^(?:(?:While|After|Before|By|When|Not|Upon) [a-z]+ing\b|(?:In order )?[Tt]o [a-z]+ )[^,\d]*, "
    r"(?=(?:[A-Z]|he |she |they |it |the |an? ))"
)
_INCLUDING = re.compile(r", (?:including|excluding|not counting|besides) [^,]{2,40},(?= )")
_STEPS = (_OPENING, _MEANWHILE, _SHOWN, _SAID, _ENSURED, _APPOSITIVE)


def plain_sentence(sentence: str, mention: NumberMention) -> tuple[str, NumberMention]:
    """The sentence without what stands beside the number's clause, and where the number is then."""
    for simpler in _simpler(sentence):
        same = [m for m in counted(simpler) if m.value == mention.value]
        if same and len(same) == len([m for m in counted(sentence) if m.value == mention.value]):
            place = [m.start for m in counted(sentence) if m.value == mention.value]
            sentence, mention = simpler, same[place.index(mention.start)]
    for pattern in (_CONDITION, _LATE_CONDITION):
        condition = pattern.match(sentence)
        if condition is None or not _alone(condition):
            continue
        clause, at = condition["clause"].rstrip(".!? "), condition.start("clause")
        capital = clause[:1].upper() + clause[1:]
        inside = next((m for m in numbers(capital) if m.start == mention.start - at), None)
        if inside is not None and has_verb(clause):
            return capital, inside
    return sentence, mention


def _alone(condition: re.Match[str]) -> bool:
    """Whether the clause of a condition ends where a comma says so, or is short and the last."""
    clause = condition["clause"]
    verbs = sum(map(is_finite, re.findall(r"[a-z]+", clause)))
    return condition["ends"] == "," or (len(clause.split()) <= 14 and verbs <= 2)


def _simpler(sentence: str) -> list[str]:
    """The sentence with one thing less, again and again."""
    found = []
    text = _INCLUDING.sub("", _BRACKETS.sub("", sentence))
    found.append(text)
    for step in _STEPS:
        match = step.match(text)
        if match is None:
            continue
        if step is _APPOSITIVE:
            if not is_finite(match["verb"]) or has_verb(match["subject"]):
                continue
            text = f"{match['subject']} {text[match.end() :]}"
        else:
            text = text[match.end() :]
            text = text[:1].upper() + text[1:]
        found.append(text)
    return found


# ------------------------------------------------------------------------------ does it read well

_FRONTED = re.compile(
    r"(?:(?:in|on|at|for|with|from|to|by|after|over|of|into|within|during|every|per|about|under"
    r"|between|among|than)(?: (?:the (?:next|last|past|first)|a|an|the))? )?"
    r"(?:how (?:many|much|old|long|far)|what)\b",
    re.IGNORECASE,
)
_ASKS = re.compile(
    r"\b(?:is|are|was|were|has|have|had|does|do|did|will|can|could|would|should|must|may|might)\b"
)
_NO_END = bag(
    "his her their its our your my the a an is are was were every than and or that which who "
    "whose when if because will would can could should how many much"
)
_TWO_VERBS = re.compile(
    r"\b(?:is|are|was|were|has|had|does|did|will|can|could|would) "
    r"(?:is|are|was|were|has|had|does|did|will|can|could|would)\b"
)
_BE_AND_HAVE = re.compile(
    r"\b(?:is|are|was|were) (?!there)"
    r"(?:(?!that\b|who\b|which\b|than\b|what\b|as\b|if\b|when\b)\S+ )*"
    r"(?:has|have|had|is|are|was|were|does|did)\b"
)
#: A list of three or more names; a comma between two is an aside that was torn.
_LISTED = re.compile(r"^[^,]*(?:, (?:the |his |her )?[\w’'-]+(?: [\w’'-]+){0,2})+,? and [^,]*$")
_DO_AND_BE = re.compile(
    r"\b(?:do|does|did|can|will|could|would) "
    r"(?:(?!that\b|who\b|which\b|than\b|what\b|as\b|if\b|when\b|so\b|because\b|where\b)\S+ )+"
    r"(?:has|is|are|was|were|had)\b|\w+n['’]t\b| [A-Z][a-z]+-(?:fifths|thirds|half|quarters?)\b"
)
#: What came out where a noun was taken for the verb, or a list for one thing.
_ODD = re.compile(
    r"\b(?:every|the (?:first|next|last)) time (?:he|she|it|they)?\b|\bthan if\b|\bratio \d"
    r"|^how many (?:need|want|like|have|use|eat|are|were|who)\b|\bequal$|\bin each$|\bwhere every\b"
    r"|^to how many [a-z]+ did \w+ go$",
    re.IGNORECASE,
)
#: What came out where an opening phrase or two nouns were torn.
_TORN = re.compile(
    r".[a-z] (?:Back|Upon|In|On|At|After|Before|Of|If|When|While|It|It's|He|She|They|The(?= [a-z])"
    r"|Each|Every|Large|Small|Some)\b|\b(the \w+) in \1\b|\bwhile\b|\banything$"
    r"|\b(?:a|an|the) (?:on|in|at|for|to|of|from|with|by)\b|\b(\w+ \w+ \w+) \2\b"
    r"|\bthe ([a-z]+) \d+ \3\b|\b[Gg]rades? \d+$|\bages? \d+$"
    r"|^[Ff]or how many (?:ounces|pounds|liters|litres|gallons|grams|cups|milliliters)\b"
    r"|\b(?:minutes|hours) long is the (?:bus|train|car|taxi|bike|boat)\b"
    r"|^[Hh]ow much money (?:does|did|do) .*\bhave [a-z]+ (?:funds?|money|bills?|coins?)\b"
    r"|\b(?:do|does|did) (?:(?:and|or)\b|.*\bdo not\b)|\bis there no\b"
    r"|\bdoes (?:the|an?) [a-z]+ [a-z]+s and\b|^With how many [a-z]+ (?:do|does|did) .*\bhave\b"
    r"|\b(?:is|are|was|were) .* and (?:[a-z]+ly )?(?:ate|[a-z]+ed)$|\bhave \d.*, an? [a-z]+ \d"
    r"|^[Hh]ow many people (?:are|were) there$"  # of all that are told of, which?
)
_WORK = re.compile(r"\b(?:task|job|goal|plan|duty|work|hobby|aim) \w+ing\b")
_LOST = re.compile(
    r"\b(?:a|an|the|his|their|my|of) (?:does|do|did|is|are|was|were)\b"
    r"|\b(?:on|in|at) the [a-z]+ each$|\brespectively\b|(?<!or )\bless$|\$\d.* or .*\bfor$"
    r"|\bhaving$|\b(?:did|does|do) the \w+ the \w+ |\bhow many (?:did|does|do|will|has|had)\b"
    r"|\bis (?:\w+ )?(?:\w+ )?to$|\b(?:if|when) (?:it|he|she|they) \w+$"
    r"|^[Oo]f how many (?!.*\b(?:made|composed|consist)\b)|(?<!day )(?<!week )(?<!year )\bafter$"
    r"|\b(?:has|have|had) [A-Z]?[a-z]+ show that\b"
)
_LOOSE_END = re.compile(r"\b(?:put|under|when (?:he|she|it|they) (?:has|have|had))$")
#: What is compared with, in a clause of its own: "than Garret is now".
_OTHER_CLAUSE = re.compile(
    r"\b(?:than|as) [\w’'. ]*?\b(?:is|was|are|were|did|does|do|has|had)\b(?: \w+){0,4}?"
    r"(?= (?:is|was|are|were|did|does|do|has|had|will)\b)"
)


def reads_well(question: str) -> bool:
    """Whether a question is one clause with its words in order, as far as its words show."""
    text = _OTHER_CLAUSE.sub("than that", question.rstrip("?"))
    words = re.findall(r"[\w’']+", text)
    if not _FRONTED.match(text) or not words or re.search(r"\b(?:many|much)-", text):
        return False
    if _ODD.search(text) or _TORN.search(text) or _LOST.search(text):
        return False
    can = words[-1] == "can" and words[-2:-1] in (["per"], ["each"], ["a"])
    gives = words[-1] == "her" and words[-2:-1] and words[-2] in GIVE | {"for", "to", "with"}
    if words[-1] in _NO_END and not (can or gives):
        return False
    if len(re.findall(r"[\"“”]", text)) % 2:
        return False
    if re.search(r"[;:(]", text) or (re.search(r",(?!\d)", text) and not _LISTED.search(text)):
        return False
    asks = _ASKS.search(text)
    if asks is None:  # the number's noun acts itself: "how many fireflies danced"
        share = words[1] in ("percent", "percentage", "fraction") and len(words) > 4
        return share or any(is_finite(word) for word in words[2:])
    behind = text[asks.start() :]
    if any(p.search(behind) for p in (_TWO_VERBS, _BE_AND_HAVE, _DO_AND_BE, _WORK, _LOOSE_END)):
        return False
    return not _said_twice(text[: asks.start()], behind)


def _said_twice(asked: str, behind: str) -> bool:
    """Whether what is asked for is counted again behind it, or a verb stands among it."""
    noun = re.findall(r"[a-z]{3,}", asked)[-1:] or ["?"]
    again = rf"\b(?:more|fewer|{'|'.join(_SMALL)}|\d[\d,.]*) (?:[a-z-]+ )?{noun[0]}\b"
    return bool(re.search(again, behind) or _VERB_AT_END.search(asked))


_SMALL = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_VERB_AT_END = re.compile(
    r"(?:s|people|children) (?:weigh|cost|hold|eat|have|contain|need|make|take|fit|sell|get) $"
)


# --------------------------------------------------------------------------------- short questions

_WHERE = re.compile(
    r" (?:(?:in|on|at|per|for|inside|from|of) (?:(?:the|a|an|each|every|his|her|their|its) )?"
    r"(?!of\b|the\b|each\b)(?:[a-z’'-]+ (?!of\b|on\b|in\b|the\b))?[A-Za-z’'-]+"
    r"(?: [A-Z0-9]\b)?|each|every [a-z]+|left)(?=[ ,.;]|$)"
)
_PAST = re.compile(
    r"\b(?:was|were|had|did|[a-z]{2,}ed|[a-z]+ght|took|made|went|came|saw|sold|ate)\b"
)
_UNITS = bag(
    "minutes hours days weeks months years seconds dollars cents miles feet inches meters "
    "kilometers centimeters pounds ounces kilograms grams liters gallons degrees kilometres metres "
    "yards acres tons percent megabits gigabytes megabytes quarts pints milliliters milligrams kg "
    "km cm mph calories kilowatts watts"
)


_BEFORE_SHORT = re.compile(
    r"(?:^|\b(?:the|these|those|his|her|their|its|all|both|including|out of|with|of|between|from"
    r"|puts?|placed?|there (?:is|are|was|were))) $|[,;] (?:and )?$",
    re.IGNORECASE,
)


def short_question(text: str, mention: NumberMention) -> str | None:
    """A question for a number's noun alone; None for a unit: "how long is it" tells nothing."""
    words, _, end = phrase_of(text, mention)
    if mention.kind != "cardinal" or re.search(r"\b(?:than|as)\b", words) or _is_unit(words):
        return None
    if not _BEFORE_SHORT.search(text[: with_adverb(text, mention.start)]):
        return None  # the object of a verb that no form has found: whose, "are there" does not say
    if _counted_again(words, text, mention):
        return None
    where = _WHERE.match(text, end)
    tail = small(where[0]) if where and not has_verb(where[0]) else ""
    return f"{words} {'were' if _PAST.search(text) else 'are'} there{tail}"


def _counted_again(words: str, text: str, mention: NumberMention) -> bool:
    """Whether another number of the sentence counts the same noun: which are meant, then?"""
    noun = words.rsplit(" ", 1)[-1]
    return any(
        m.start != mention.start and text[m.end : m.unit_end].strip() == noun for m in numbers(text)
    )


def _is_unit(words: str) -> bool:
    """Whether what is counted is a unit of time, length or weight, or nothing."""
    said = re.findall(r"[a-z]+", words)[2:3]
    return not said or bool(set(said) & _UNITS)
