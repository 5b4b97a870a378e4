"""Whom a pronoun of a word problem stands for: the one person named before it that fits.

First names and nouns are those common in English, written by hand; a name that is in no list
decides nothing. No figure of their own was measured, the tests hold examples.
"""

from __future__ import annotations

import re
from functools import lru_cache

from icpo_lite.core.sentences import entities
from icpo_lite.core.words import bag
from icpo_lite.data.clause_words import VERB

#: First names that say "he" or "she" almost always; taken from what is common in English.
_MEN = bag(
    "Aaron Adam Aiden Al Alan Albert Alexander Alfred Allen Andrew Andy Anthony Antonio Arnold"
    " Arthur "
    "Austin Barry Ben Benjamin Benny Bernard Bill Billy Bob Bobby Brad Bradley Brandon Brian Bruce "
    "Bryan Bryce Caleb Calvin Cameron Carl Carlos Cedric Charles Charlie Chester Chris Christopher "
    "Clark Clarence Clay Cody Colin Conor Craig Curtis Dan Daniel Danny Darren Dave David Dean"
    " Dennis "
    "Derek Dominic Don Donald Doug Douglas Drew Duncan Dustin Dylan Earl Ed Eddie Edgar Eduardo"
    " Edward "
    "Edwin Eli Elijah Eric Ernest Ethan Eugene Evan Felix Fernando Frank Franklin Fred Frederick"
    " Gabriel "
    "Gary Gavin Gene George Gerald Gilbert Glenn Gordon Graham Grant Greg Gregory Gus Harold Harry "
    "Harvey Hector Henry Herbert Herman Howard Hugh Hugo Ian Isaac Ivan Jack Jackson Jacob Jake"
    " James "
    "Jared Jason Javier Jeff Jeffrey Jeremy Jerome Jerry Jim Jimmy Joe Joel Joey John Johnny Jon "
    "Jonathan Jorge Jose Joseph Josh Joshua Juan Julian Julio Justin Karl Keith Ken Kenneth"
    " Kenny Kevin "
    "Kurt Kyle Lance Larry Lawrence Leo Leon Leonard Liam Lionel Logan Louis Lucas Luis Luke"
    " Malcolm "
    "Manuel Marc Marcos Marcus Mario Mark Marshall Martin Marvin Mason Matt Matthew Maurice Max"
    " Michael "
    "Miguel Mike Milo Mitch Mitchell Nate Nathan Neil Nicholas Nick Noah Norman Oliver Omar"
    " Oscar Owen "
    "Pablo Patrick Paul Pedro Perry Pete Peter Phil Philip Phillip Rafael Ralph Ramon Randy Raul"
    " Ray "
    "Raymond Rick Ricardo Richard Ricky Rob Robert Roberto Rodney Roger Ron Ronald Ronnie Roy"
    " Russell "
    "Ryan Samuel Scott Sean Sergio Seth Shane Shawn Simon Spencer Stan Stanley Stephen Steve"
    " Steven Ted "
    "Terrence Theodore Thomas Tim Timmy Timothy Tobias Todd Tom Tommy Tony Travis Trevor Tyler"
    " Victor "
    "Vincent Walter Warren Wayne Wesley Will William Willy Wyatt Xavier Zach Zachary Zack"
)
_WOMEN = bag(
    "Abby Abigail Ada Adele Agnes Aisha Alice Alicia Alison Allison Alyssa Amanda Amber Amelia"
    " Amy Ana "
    "Andrea Angela Angie Anita Ann Anna Anne Annie April Ariana Ariel Ashley Audrey Ava Barbara"
    " Beatrice "
    "Becky Bella Bernadette Beth Bethany Betsy Betty Beverly Bonnie Brenda Brianna Bridget"
    " Brittany "
    "Candice Carla Carly Carmen Carol Caroline Carolyn Carrie Catherine Cathy Cecilia Celia"
    " Chelsea "
    "Cheryl Chloe Christina Christine Cindy Claire Clara Claudia Colleen Cynthia Daisy Danielle"
    " Daphne "
    "Dawn Deborah Debbie Debra Denise Diana Diane Donna Dora Doris Dorothy Eileen Elaine Eleanor"
    " Elena "
    "Elisa Elizabeth Ella Ellen Elsa Emily Emma Erica Erin Esther Eva Eve Evelyn Faye Felicia"
    " Fiona "
    "Florence Frances Gabriela Gail Georgia Gina Ginny Gloria Grace Greta Gwen Hailey Hannah"
    " Harriet "
    "Hazel Heather Heidi Helen Helena Holly Ida Ingrid Irene Iris Isabel Isabella Isabelle Ivy"
    " Jackie "
    "Jane Janet Janice Jasmine Jean Jen Jenna Jennifer Jenny Jessica Jill Jillian Jo Joan Joanna"
    " Josie "
    "Joy Joyce Judith Judy Julia Juliana Julie Juliet June Kara Karen Karla Kate Katherine"
    " Kathleen "
    "Kathy Katie Katrina Kayla Kim Kimberly Kristen Kristin Kristina Kylie Lara Laura Lauren"
    " Leah Lena "
    "Leslie Lily Linda Lisa Liz Lois Lori Louise Lucia Lucy Luna Lydia Lynn Mabel Madeline"
    " Madison Maggie "
    "Mandy Margaret Maria Mariah Marie Marilyn Marissa Marla Marlene Martha Mary Megan Melanie"
    " Melinda "
    "Melissa Melody Mia Michelle Mildred Mindy Miranda Molly Monica Nadia Nancy Naomi Natalia"
    " Natalie "
    "Natasha Nicole Nina Nora Norma Olga Olivia Paige Pamela Patricia Patty Paula Pauline Peggy"
    " Penelope "
    "Penny Phoebe Polly Priscilla Rachel Rebecca Regina Rita Roberta Rosa Rosalie Rose Rosie"
    " Ruby Ruth "
    "Sabrina Sally Samantha Sandra Sara Sarah Serena Sharon Sheila Shelly Sherry Shirley Sofia"
    " Sonia "
    "Sophia Sophie Stacy Stella Stephanie Sue Susan Susie Suzanne Sylvia Tamara Tammy Tanya Tara"
    " Teresa "
    "Theresa Tina Tracy Trina Ursula Valerie Vanessa Vera Veronica Victoria Violet Virginia"
    " Vivian Wanda "
    "Wendy Whitney Yolanda Yvonne Zoe"
)
_PERSON_NOUNS = {
    "he": bag(
        "man boy brother son father dad uncle grandfather nephew husband king boyfriend grandson"
    ),
    "she": bag(
        "woman housewife girl sister daughter mother mom aunt grandmother niece wife queen"
        " girlfriend lady "
        "granddaughter"
    ),
    "": bag(
        "farmer teacher student baker chef doctor nurse driver worker runner painter carpenter"
        " writer "
        "friend cousin neighbor boss owner manager merchant customer singer dancer athlete coach "
        "principal librarian gardener tailor plumber electrician mechanic builder jeweler florist "
        "cashier salesman clerk player kid child child parent person artist designer engineer"
        " lawyer "
        "dentist photographer tutor babysitter rancher fisherman firefighter programmer freelancer "
        "streamer candidate contractor mailman shopkeeper vendor"
    ),
}
_ANY_NOUN = "|".join(sorted(noun for nouns in _PERSON_NOUNS.values() for noun in nouns))
_ANYBODY = re.compile(rf"\b(?:{_ANY_NOUN})\b")
_PLACE = re.compile(
    r"\b(?:at|in|near|through|to|from|of|on|a|an|the|this|next|last|per|every)(?: the)? $"
)
_PRONOUN = re.compile(r"\b(?:he|she|him|his|her|hers|himself|herself)\b", re.IGNORECASE)
_GENDER = {
    "he": "he",
    "him": "he",
    "his": "he",
    "himself": "he",
    "she": "she",
    "her": "she",
    "hers": "she",
    "herself": "she",
}


def people(text: str) -> list[str]:
    """The names of a text that a pronoun may stand for: "the gardener at Park Lane" has none."""
    return list(_people(text))


#: Capitalised words that call nobody by name.
_NO_NAMES = bag(
    "Chinese English French German Spanish Italian American Mexican Canadian Japanese Math Maths "
    "History Science Biology Physics Chemistry TV PE"
)
#: "Logan's father": what follows is about the father.
_KINSMAN = re.compile(rf"['’]s? (?:\w+ )?(?:{_ANY_NOUN})\b(?! [A-Z])")


@lru_cache(maxsize=8192)
def _people(text: str) -> tuple[str, ...]:
    out = []
    for span in entities(text):
        if span.text in _NO_NAMES or _KINSMAN.match(text, span.end):
            continue
        known = gender_of(span.text)
        if known or not _PLACE.search(text, max(0, span.start - 14), span.start):
            out.append(span.text)
    return tuple(out)


@lru_cache(maxsize=8192)
def gender_of(name: str) -> str:
    """he or she, as a title or a first name says; empty where neither does."""
    if name.startswith("Mr."):
        return "he"
    if name.startswith(("Mrs.", "Ms.")):
        return "she"
    first = name.split(" ", 1)[0]
    return "he" if first in _MEN else "she" if first in _WOMEN else ""


_KIN = {
    gender: re.compile(
        rf"\b(?:{'|'.join(sorted(_PERSON_NOUNS[gender]))}),? (?P<name>[A-Z][a-z]+)"
        rf"|(?P<before>[A-Z][a-z]+), (?:his|her|an?|the) (?:\w+ )?"
        rf"(?:{'|'.join(sorted(_PERSON_NOUNS[gender]))})\b"
    )
    for gender in ("he", "she")
}


def _gender_in(text: str, name: str) -> str:
    """A name's gender, from the name itself or from what the text calls its bearer."""
    if known := gender_of(name):
        return known
    for gender, pattern in _KIN.items():
        if any(name in (m["name"], m["before"]) for m in pattern.finditer(text)):
            return gender
    return ""


@lru_cache(maxsize=8192)
def referent(before: str, clause: str) -> str | None:
    """The name that the first "he" or "she" of a clause stands for; None where nobody can tell.

    Empty where the clause has no such pronoun, or names its person itself.
    """
    pronoun = _PRONOUN.search(clause)
    if pronoun is None or any(e.start < pronoun.start() for e in entities(clause)):
        return ""
    own = clause[: pronoun.start()]
    if _ANYBODY.search(own):
        return ""
    wanted = _GENDER[pronoun[0].lower()]
    names = list(dict.fromkeys(people(before)))
    if not names:
        return _only_noun(before, wanted)
    fits = [n for n in names if _gender_in(before, n) == wanted]
    unknown = [n for n in names if not _gender_in(before, n) and _acts(before, n)]
    if not fits and len(unknown) == 1 and not any(_gender_in(before, n) for n in names):
        return unknown[0]
    if len(names) == 1 and (fits or unknown):
        return names[0]
    if len(fits) == 1 and not unknown:
        return fits[0]
    return None


_ACTING = re.compile(rf"['’]s | and [A-Z]|,| (?:also |only |just |now )?{VERB}\b")


def _acts(text: str, name: str) -> bool:
    """Whether a name that no list knows may be a person's: it opens a sentence or joins another."""
    at = text.find(name)
    while at >= 0:
        before = text[:at].rstrip()
        opens = not before or before[-1] in '.!?,"“'
        if opens and _ACTING.match(text, at + len(name)):
            return True
        if before.endswith((" and", " friend", " with", " to")):
            return True
        at = text.find(name, at + 1)
    return False


#: "A bookseller sells …": a trade that opens a text is the person whom "he" or "she" calls.
_WORKER = re.compile(
    r"(?:A|An|The|One) (?:[a-z]+ )?(?P<noun>[a-z]+(?:er|or|ist|man|woman|ian|eer|cook"
    r"|coach)) [a-z]+(?:s|ed|d)\b"
)


def _only_noun(before: str, wanted: str) -> str | None:
    """ "the farmer", where a farmer is the only person that a nameless text has mentioned."""
    nouns = _PERSON_NOUNS[wanted] | _PERSON_NOUNS[""]
    found = {
        w
        for w in re.findall(r"[a-z]+", before.lower())
        if w in nouns or w in _PERSON_NOUNS["he" if wanted == "she" else "she"]
    }
    if not found and (worker := _WORKER.match(before)):
        return f"the {worker['noun']}"
    if len(found) != 1 or (noun := found.pop()) not in nouns:
        return None
    if not re.search(rf"\b(?:an?|the|one|this) (?:\w+ ){{0,2}}{noun}\b", before, re.IGNORECASE):
        return None
    return f"the {noun}"


def with_name(shard: str, name: str) -> str:
    """A sentence with its first pronoun replaced by whom it stands for."""
    match = _PRONOUN.search(shard)
    if match is None or not name:
        return shard
    word = match[0].lower()
    rest = shard[match.end() :]
    if word in ("himself", "herself", "hers"):
        return shard
    if word == "his" or (word == "her" and _is_possessive(shard[: match.start()], rest)):
        new = f"{name}'s"
    else:
        new = name
    if match.start() == 0:
        new = new[:1].upper() + new[1:]
    return shard[: match.start()] + new + rest


_OBJECT_BEHIND = re.compile(
    r" (?:an?|the|some|to|for|in|on|at|with|from|and|or|by|of|that|if|when|how|about|up|twice|half"
    r"|another|each|every|back|home|out)\b|[.,;!?]|$"
)
_COUNT_BEHIND = re.compile(
    r" (?:[$£€]?\d|one\b|two\b|three\b|four\b|five\b|six\b|seven\b|eight\b|nine\b|ten\b)"
)
_GIVES = re.compile(
    r"\b(?:g[ai]ves?|giving|pa(?:ys?|id)|sells?|sold|len[dt]s?|b(?:uys?|ought)|owes?|owed|sen[dt]s?"
    r"|takes?|took|costs?|tells?|told|brings?|brought|gets?|got|asks?|asked|offers?|offered|makes?"
    r"|made|hands?|handed|charges?|charged|leaves?|left|earns?|earned) $"
)


def _is_possessive(before: str, after: str) -> bool:
    """Whether "her" owns what follows: "her 3 aunts", but "gave her 3 pens"."""
    if _COUNT_BEHIND.match(after):
        return not _GIVES.search(before)
    return not _OBJECT_BEHIND.match(after)
