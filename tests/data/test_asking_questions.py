"""The question that an underspecified prompt calls for: fluent, short, and on target."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from icpo_lite.cli.augment import augment as command
from icpo_lite.core.types import Intent, Message, Prompt, Shard
from icpo_lite.data.asking_questions import asking_question, in_place, question_for
from icpo_lite.data.augment import AugmentOptions, augment
from icpo_lite.data.clause_words import counted
from icpo_lite.data.point_questions import point_question, value_question
from icpo_lite.data.question_sentences import reads_well
from icpo_lite.data.sources import read_problems
from icpo_lite.data.tiny_world import world_problems, world_prompts
from icpo_lite.data.verb_forms import asks_with
from icpo_lite.training.asking_demonstrations import asking_demonstration, asks_for_removed

GSM8K = Path(__file__).parents[3] / "shared" / "data" / "gsm8k_train.jsonl"


@pytest.mark.parametrize(
    ("fact", "question"),
    [
        ("Mary buys 5 boxes of tea.", "How many boxes of tea does Mary buy?"),
        ("Joyce types 76 words per minute.", "How many words does Joyce type per minute?"),
        ("There are 24 marbles in a jar.", "How many marbles are there in a jar?"),
        ("10 racers are eliminated.", "How many racers are eliminated?"),
        ("Penny has $20.", "How much money does Penny have?"),
        ("The chickens cost $20 each.", "How much do the chickens cost each?"),
        ("Ben sold his car for $1800 and used that.", "How much did Ben sell his car for?"),
        ("The cost of the phone is $1300.", "What is the cost of the phone?"),
        ("Betty is 60 years old.", "How old is Betty?"),
        ("Leo has 20 more marbles than Ben.", "How many more marbles than Ben does Leo have?"),
        ("Pablo is 7 inches taller than Jo.", "How many inches taller than Jo is Pablo?"),
        ("In 5 years, Ann will be 3 times as old as Jo.",
         "In how many years will Ann be 3 times as old as Jo?"),
        ("David spent 15 minutes on homework.", "How many minutes did David spend on homework?"),
        ("The mechanic works for 14 days.", "For how many days does the mechanic work?"),
        ("He drives at a speed of 60 mph.", "At what speed does he drive?"),
        ("40% of the eggs hatch.", "What percentage of the eggs hatch?"),
        ("Ruiz received a 6% raise.", "What percent raise did Ruiz receive?"),
        ("Julie reads a 120-page book.", "How many pages does the book have?"),
        ("Ann made a recipe that serves four people.", "How many people does the recipe serve?"),
        ("Wendy won a prize worth $200.", "How much is the prize worth?"),
        ("Peter has eaten 3 apples.", "How many apples has Peter eaten?"),
        ("Chris grabs another 4 donuts.", "How many more donuts does Chris grab?"),
        ("It takes 25 minutes to dry.", "How many minutes does it take to dry?"),
        ("It takes Omar 12 minutes to raise his kite.",
         "How many minutes does it take Omar to raise his kite?"),
        ("When Ann bought 10 books, she was given a discount.", "How many books did Ann buy?"),
        ("A judge oversaw seventeen court cases.", "How many court cases did the judge oversee?"),
        ("Ben's brother, Carl, sold 7 cups an hour.",
         "How many cups did Ben's brother sell an hour?"),
        ("Ken said that last week he did 324 jumps.", "How many jumps did he do last week?"),
        ("Arnel shared the pencils with his five friends.",
         "With how many friends did Arnel share the pencils?"),
        ("Sam drives at 50 miles/hour for a day.", "At what speed does Sam drive for a day?"),
        ("A dog is joined by a group of 4 cats.", "By how many cats is the dog joined?"),
        ("Kevin always sells 50 crates per week.", "How many crates does Kevin sell per week?"),
        ("The minimum age required to be employed at a bank is 25 years.",
         "What is the minimum age required to be employed at a bank?"),
        ("They sell it in bottles containing 60 capsules.",
         "How many capsules do the bottles contain?"),
        ("Each set contains 4 steak knives.", "How many steak knives does each set contain?"),
        ("A gold coin is worth 50 dollars.", "How much is the gold coin worth?"),
        ("The shipping cost of each crate is $1.5.", "What is the shipping cost of each crate?"),
        ("Bob ordered 80 packs of Greek yogurt.", "How many packs of Greek yogurt did Bob order?"),
        ("Aaron uses 3 boxes of canned tomatoes.",
         "How many boxes of canned tomatoes does Aaron use?"),
        ("Tom scored 4 less than Jon and Jack together.",
         "How many less than Jon and Jack together did Tom score?"),
        ("A pack of chips is 75% more expensive.",
         "What percent more expensive is a pack of chips?"),
        ("There is a 15% processing fee for the tickets.",
         "What percent processing fee is there for the tickets?"),
        ("Leticia, Nina, and Rosalie have 25 people on their team.",
         "How many people do Leticia, Nina, and Rosalie have on their team?"),
        ("Carlos read 28 books in July.", "How many books did Carlos read in July?"),
        ("The polo shirts are $50 each at the regular price.",
         "How much is each of the polo shirts at the regular price?"),
        ("Delores has $10 left.", "How much money does Delores have left?"),
        ("Robe had $480 savings left.", "How much savings did Robe have left?"),
        ("The bags have 25 toys in each bag.", "How many toys are there in each bag?"),
        ("Pat covers 7 inches of the stick in dirt.",
         "How many inches of the stick does Pat cover in dirt?"),
        ("John doesn't deliver them for 10 weeks.",
         "For how many weeks does John not deliver them?"),
        ("Farmer Randy has 1700 acres of cotton he needs to plant.",
         "How many acres of cotton does Farmer Randy have?"),
        ("An animal shelter recently took in twelve cats.",
         "How many cats did the animal shelter recently take in?"),
        ("The two snakes have a combined length of 70 inches.",
         "What is the combined length of the two snakes?"),
        ("Isaac cut his 30 meters ribbon.", "How many meters is the ribbon?"),
        ("On Monday, Hallie works, and she receives $18 in tips.",
         "How much money does she receive in tips on Monday?"),
        ("The company sells shirts for $35 each.",
         "For how much each does the company sell shirts?"),
        ("Betty's daughter is 40 percent younger than she is.",
         "What percent younger than her is Betty's daughter?"),
        ("In 2015, Kendra made 20% more money than Laurel made in 2014.",
         "What percent more money than Laurel made in 2014 did Kendra make in 2015?"),
        ("Dave bought 3 packs of white T-shirts.",
         "How many packs of white T-shirts did Dave buy?"),
        ("Cones cost $2 each.", "How much do cones cost each?"),
        ("Normally Ann can frost a cake in 5 minutes.",
         "In how many minutes can Ann frost a cake normally?"),
        ("Making the canvas bag released 600 pounds of carbon dioxide.",
         "How many pounds of carbon dioxide did making the canvas bag release?"),
        ("They each produce 20 apples.", "How many apples do they each produce?"),
        ("Phil and Andre have both eaten 9 slices already.",
         "How many slices have Phil and Andre both eaten already?"),
        ("Andrew has 3-hour appointments today.", "How many hours long are the appointments?"),
        ("A trader sells off some rice and restocks 132 bags of rice.",
         "How many bags of rice does the trader restock?"),
        ("Paul bought some bread for $2, butter for $3, and juice.",
         "How much did Paul buy some bread for?"),
    ],
)  # fmt: skip
def test_a_fact_is_asked_for_in_its_own_words(fact: str, question: str) -> None:
    assert question_for(fact) == question


def test_the_number_that_the_prompt_lacks_is_asked_for() -> None:
    fact = "Mary buys 5 boxes and 7 bags for her 3 aunts."
    assert question_for(fact, "Mary buys boxes and 7 bags for her 3 aunts.") == (
        "How many boxes does Mary buy?"
    )
    assert question_for(fact, "Mary buys 5 boxes and bags for her 3 aunts.") == (
        "How many bags does Mary buy for her 3 aunts?"
    )
    assert question_for("It rains.") is None


@pytest.mark.parametrize(
    "garbled",
    [
        *("When Ann bought how many books?", "How many apples is the basket full when it has?"),
        *("How many friends did Al share it with his?", "How many sets did did Ann buy?"),
        *("How many posters will Al have six more posters in it, making 14?", "With how many his?"),
        *("How many files is the folder Ann loads have?", "How many-square does Al own?"),
        *("How many need meals were there?", "How much does Al buy the cookies still has?"),
        *("How much does she sell all of the bracelets for each Back at school?",),
        *("What percentage of the tickets did Al buy 30% of while Bo bought?",),
        *("For how many ounces is the clog cleared enough to run through?",),
        *("With what percentage of the water does he fill the tank in the tank in the tank?",),
        *("How many degrees is the fever anything?", "How many sticks does Large animal take?"),
        *("How much money does the class of Miss Evans have class funds?",),
        *("What percent discount does the system cost $600 that he gets a on?",),
        *("How many students does the school have in Grades 4?",),
        *("How many minutes do and they have to inflate them?", "How many people were there?"),
        *("How many days does Francine do not go to work?",),
        *("How many hours is there no traffic the same trip takes?",),
        *("How many plants are the bugs very hungry today and completely ate?",),
        *("With how many rooms does each floor have 6 halls each?",),
        *("How many apples did Al wasn't looking take?", "How many eats did Brandy, the cat eat?"),
    ],
)
def test_a_garbled_question_is_seen(garbled: str) -> None:
    assert not reads_well(garbled)


@pytest.mark.parametrize(
    ("point", "question"),
    [
        ("Duration of the trip", "What is the duration of the trip?"),
        ("Types of festivals preferred", "What are the types of festivals preferred?"),
        ("how many pens Ann buys", "Could you tell me how many pens Ann buys?"),
        ("Confirm which axis is meant.", "Could you confirm which axis is meant?"),
        ("Which town do you mean?", "Which town do you mean?"),
        ("start_location", "What is the start location?"),
        ("She buys 3 pens.", None),
        ("", None),
    ],
)
def test_a_point_that_is_named_is_asked_for(point: str, question: str | None) -> None:
    assert point_question(point) == question


def test_a_value_is_asked_for() -> None:
    assert value_question("The year is 2014.") == "What is the year?"
    assert value_question('In "the song", the singers are Ann and Bo.') == (
        'What are the singers in "the song"?'
    )
    assert value_question("Take n = 5.") == "What is n?"
    assert value_question("Ann runs.") is None


@pytest.mark.parametrize(
    ("verb", "auxiliary", "base"),
    [
        ("bakes", "does", "bake"), ("baked", "did", "bake"), ("planned", "did", "plan"),
        ("carried", "did", "carry"), ("carries", "does", "carry"), ("catches", "does", "catch"),
        ("visited", "did", "visit"), ("recycled", "did", "recycle"), ("bought", "did", "buy"),
        ("is", "is", ""), ("can", "can", ""), ("cost", "do", "cost"),
        ("completed", "did", "complete"),
    ],
)  # fmt: skip
def test_verbs_are_asked_with(verb: str, auxiliary: str, base: str) -> None:
    assert asks_with(verb, " 5 pens") == (auxiliary, base)


def test_the_built_in_world_asks_its_own_questions() -> None:
    for prompt in world_prompts(list(world_problems("train", 20))):
        question = asking_demonstration(prompt)
        assert (question is None) == (prompt.intent is Intent.COMPLETE)
        if question is not None:
            assert question in prompt.columns["asks"]


def test_any_pair_with_a_removed_fact_has_its_question_and_a_judge_may_refuse() -> None:
    removed = Shard(1, "Tim has 8 figs.")
    prompt = Prompt(
        "p",
        "p",
        "math",
        Intent.UNDERSPECIFIED,
        (Message("user", "Tim has figs. Ann gives Tim 6 figs. How many figs has Tim?"),),
        "14",
        (Shard(0, "How many figs has Tim?", is_question=True), removed, Shard(2, "Ann gives 6.")),
        (removed,),
    )
    assert asking_question(prompt) == "How many figs does Tim have?"
    assert asking_question(prompt, lambda _, question: "Tim" not in question) is None


@pytest.mark.skipif(not GSM8K.exists(), reason="the data set is not here")
def test_real_prompts_have_a_short_question_on_target() -> None:
    rows = read_problems(str(GSM8K), limit=400)
    lacking = [p for p in augment(rows, AugmentOptions(), seed=4) if p.removed]
    questions = [asking_question(p) for p in lacking]
    # What no form fits is said with a gap, rather than in words that read badly.
    assert sum(q is not None for q in questions) / len(questions) > 0.995
    assert all(
        (reads_well(q) or _IN_PLACE.search(q)) and len(q.split()) < 60 for q in questions if q
    )
    hits = [asks_for_removed(p, q) for p, q in zip(lacking, questions, strict=True) if q]
    assert sum(hits) / len(hits) > 0.93
    shown = [asking_demonstration(p) for p in lacking]
    assert sum(q is not None for q in shown) / len(shown) > 0.99
    assert sum("___" in q for q in shown if q) / len(shown) < 0.03
    in_place = [q for q in questions if q and not re.match(_FRONTED, q)]
    assert len(in_place) / len(questions) < 0.1


_IN_PLACE = re.compile(r" (?:how (?:many|much)|what (?:percent|percentage|fraction))\b")
_FRONTED = (
    r"(?:How|What|(?:In|On|At|For|With|From|To|By|After|Over|Of|Into|Within|During|Every|Per)"
    r" (?:the )?)"
)


@pytest.mark.parametrize(
    ("sentence", "question"),
    [
        ("Jose ate lunch worth $45.", "Jose ate lunch worth how much?"),
        ("A few officers get a 20% discount.", "A few officers get what percent discount?"),
        ("15 more people came than before.", "How many more people came than before?"),
        ("After working 40 hours, Paul is paid.", None),
        ("Mr. Banks's 8 investments pay.", None),
        ("Ann and Bo had 40 and 60 figs, respectively.", None),
    ],
)
def test_where_no_form_fits_the_question_stands_in_the_number_s_place(
    sentence: str, question: str | None
) -> None:
    assert in_place(sentence, counted(sentence)[0]) == question


def test_a_thing_that_the_prompt_spoke_of_is_no_longer_any() -> None:
    fact = "There are 28 students in a class."
    assert question_for(fact, "There are some students in a class.") == (
        "How many students are there in the class?"
    )
    assert question_for(fact) == "How many students are there in a class?"


def test_a_fact_that_no_form_fits_is_asked_for_by_its_gap() -> None:
    fact = "The filling Tom is using is about 40% heavier than sand."
    asked = "How much does the bag weigh?"
    prompt = Prompt(
        "p",
        "p",
        "math",
        Intent.UNDERSPECIFIED,
        (Message("user", f"Tom fills a bag of 9 pounds. {asked}"),),
        "14",
        (Shard(0, asked, is_question=True), Shard(1, fact)),
        (Shard(1, fact),),
    )
    question = (
        "What number is missing here: The filling Tom is using is about ___% heavier than sand?"
    )
    assert asking_question(prompt, lambda _, asked: "___" in asked) == question
    assert asks_for_removed(prompt, question)
    for other in (
        "What number is missing here: The bag is ___% heavier than water?",
        "What number is missing here: ___?",
        "What numbers are missing: The filling Tom is ___ is ___% heavier than sand?",
    ):
        assert not asks_for_removed(prompt, other)


def test_the_preview_shows_the_question(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        '{"question": "Tom buys 4 pens. Each pen costs $2. Ann has 7 cups. How much does Tom pay?",'
        ' "answer": "4*2=<<4*2=8>>8\\n#### 8"}\n'
    )
    shown = CliRunner().invoke(
        command, [str(rows), "-o", str(tmp_path / "p.jsonl"), "--preview", "1"]
    )
    assert shown.exit_code == 0, shown.output
    assert re.search(r"question: How (?:many|much) .*\?", shown.output)
