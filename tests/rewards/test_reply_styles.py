"""Answers in the styles of a dozen families of models, in eleven languages: the right one is paid.

Every style is filled with right and wrong answers in many forms of writing. The working of each
tells the numbers 4, 6, 9 and 24, none of which is what it comes to.
"""

from __future__ import annotations

import pytest

from icpo_lite.core.types import Intent, Message, Prompt, ResponseType
from icpo_lite.rewards.judge import Judge
from icpo_lite.rewards.linear_judge import LinearTyper

#: By name: a reply with {a} for the answer in prose, {b} for the answer in LaTeX.
STYLES = {
    "o1 terse": "12 × 3 = 36 and 36 + 7 = 43 are the two steps here.\n\nAnswer: {a}",
    "o1 sentence": (
        "First, 4 boxes × 6 = 24 pens. Then 24 − 9 = 15 stay in the cupboard.\nHence the "
        "requested value is {a}."
    ),
    "o3 so": (
        "Let the number of boxes be 4. Each holds 6 pens, so there are 4·6 = 24 pens at "
        "first.\n\nAfter 9 are sold, we go through the rest of the calculation.\n\nThus, "
        "the final result is {a}."
    ),
    "o3 therefore": "Step 1: 4 × 6 = 24.\nStep 2: 24 – 9 = 15.\n\nTherefore, the answer is {a}.",
    "o3 bold": (
        "Here’s the reasoning:\n\n1. There are 4 boxes with 6 pens each: 4 × 6 = 24.\n2. "
        "He sells 9 of them.\n\n**Answer: {a}**"
    ),
    "o3 boxless latex": (
        "We have \n\n  4 × 6 = 24 pens\n\nand 9 are gone. That gives a final value of {a}"
    ),
    "o1 summary": (
        "**Step-by-step reasoning**\n\n- 4 boxes of 6 pens: 24 pens\n- 9 pens leave\n\n"
        "**Final Answer:** {a}"
    ),
    "r1 answer": (
        "First we multiply: \\(4 \\times 6 = 24\\).\n\nThen we subtract 9.\n\n**Answer:** "
        "{a}"
    ),
    "r1 final box": (
        "**Step 1:** There are 4 boxes of 6 pens, so 24 pens.\n\n**Step 2:** Take away "
        "9.\n\n**Final Answer**\n\\boxed{{{b}}}"
    ),
    "r1 final inline": (
        "There are 24 pens before 9 are sold.\n\n**Final Answer:** \\(\\boxed{{{b}}}\\)"
    ),
    "r1 display": (
        "There are 24 pens before 9 are sold.\n\nThe result is:\n\n\\[\n\\boxed{{{b}}}\n\\]"
    ),
    "r1 answer heading": "### Solution\n\n4 boxes hold 24 pens, and 9 are sold.\n\n### Answer\n{a}",
    "r1 answer heading 2": "### Step 1\n4 boxes hold 24 pens.\n\n### Final Answer:\n**{a}**",
    "r1 bold sentence": "- Pens at first: 24\n- Pens sold: 9\n\n**So the result comes to {a}.**",
    "phi prose": (
        "To solve this problem, we start with the 4 boxes. Each box holds 6 pens, so there "
        "are 24 pens. Since 9 were sold, we take them away and look at what is left. "
        "Therefore, the value we are looking for is {a}."
    ),
    "phi therefore": (
        "Let's break it down. 4 boxes hold 24 pens and 9 were sold, which we take into "
        "account. So, the correct answer to the question is {a}."
    ),
    "phi answer is": "4 boxes hold 24 pens. 9 were sold. The answer is: {a}",
    "phi hashes": "4 boxes hold 24 pens. 9 were sold.\n#### {a}",
    "phi the answer to": (
        "4 boxes hold 24 pens. 9 were sold. Thus, the answer to the problem is {a}."
    ),
    "gemma": (
        "Here's how to solve the problem:\n\n* **Step 1: Count the pens.** 4 boxes * 6 "
        "pens = 24 pens\n* **Step 2: Take away the sold ones.** There are 9 of them.\n\n"
        "**Answer:** {a}\n"
    ),
    "gemma end": (
        "**1. Pens at first:** 4 * 6 = 24\n\n**2. Sold:** 9\n\n**Therefore, the total is "
        "{a}.**"
    ),
    "gemma the final answer": (
        "4 * 6 = 24\n9 are sold.\n\nFinal Answer: The final answer is $\\boxed{{{b}}}$"
    ),
    "gemini": (
        "1.  **Find the pens:** 4 boxes * 6 pens/box = 24 pens\n2.  **Find the sold "
        "ones:** 9 pens\n\nIn the end it comes to **{a}**."
    ),
    "mistral": (
        " To find out, let's follow these steps:\n\n1. 4 boxes of 6 pens make 24 pens.\n2. "
        "9 pens are sold.\n\nSo, the amount asked for is {a}."
    ),
    "mistral 2": "There were 24 pens at first and 9 of them were sold, leaving {a}.",
    "llama": (
        "## Step 1: Count the pens\n4 boxes of 6 pens make 24 pens.\n\n## Step 2: Take "
        "away 9\nThis is what remains.\n\nThe final answer is: $\\boxed{{{b}}}$"
    ),
    "llama 2": (
        "To find the result we multiply 4 by 6, which is 24, and subtract 9.\n\nThe final "
        "answer is: $\\boxed{{{b}}}$. I hope it is correct."
    ),
    "llama plain": "There are 4 boxes, so 24 pens, and 9 are sold.\n\nThe final answer is {a}.",
    "llama bold": "There are 4 boxes, so 24 pens, and 9 are sold.\n\nSo the answer is **{a}**.",
    "qwen": (
        "To solve this, we go step by step:\n\n1. **Pens**: \\[ 4 \\times 6 = 24 \\]\n2. "
        "**Sold**: \\[ 9 \\]\n\nThus, the value is:\n\\[ \\boxed{{{b}}} \\]"
    ),
    "qwen so": (
        "1. 4 boxes of 6 pens make 24 pens.\n2. 9 are sold.\n\nSo, the result is "
        "\\(\\boxed{{{b}}}\\)."
    ),
    "qwen bold box": "1. 4 boxes make 24 pens.\n\nTherefore, we get **\\boxed{{{b}}}**.",
    "deepseek": (
        "### Step 1\n\\( 4 \\times 6 = 24 \\)\n\n### Step 2\nTake away 9.\n\n**Final "
        "Answer:** {a}"
    ),
    "deepseek conclusion": (
        "### Calculation\n24 pens, 9 sold.\n\n### Conclusion\nThe result of this "
        "calculation is **{a}**."
    ),
    "claude": (
        "I'll work through this step by step.\n\n**Pens:** 4 × 6 = 24\n**Sold:** 9\n\nThe "
        "final result is **{a}**."
    ),
    "claude offers": (
        "4 × 6 = 24 pens, of which 9 are sold.\n\nSo the result is {a}.\n\nWould you like "
        "me to explain any of these steps?"
    ),
    "claude letme": (
        "Let me solve this.\n* 4 boxes of 6 pens: 24 pens\n* 9 sold\n\nThe answer is {a}. "
        "Let me know if you'd like more detail!"
    ),
    "gpt4o": (
        "To find the result, we first multiply:\n\n\\[\n4 \\times 6 = 24\n\\]\n\nand then "
        "take away 9.\n\nSo the requested value is **{a}**."
    ),
    "gpt4o final": (
        "Pens at first: 24. Pens sold: 9.\n\nThus, the final answer is:\n\n\\[\n"
        "\\boxed{{{b}}}\n\\]"
    ),
    "gpt4o result": "**Given**\n- 4 boxes of 6 pens\n- 9 sold\n\n**Result:** {a}",
    "thought": (
        "Okay, 4 boxes of 6 pens, 24. Maybe 12? No. Take away 9.\n</think>\n\nThere are 24 "
        "pens and 9 are sold.\n\n**Answer:** {a}"
    ),
    "thought tags": (
        "<think>\nHmm, maybe the answer is 999. Let me see.\n</think>\nThe answer is {a}."
    ),
    "channel": (
        "<|channel|>analysis<|message|>Maybe the answer is "
        "999.<|end|><|start|>assistant<|channel|>final<|message|>The answer is {a}."
    ),
    "verify": (
        "4 × 6 = 24 pens, 9 sold, so the result is {a}.\n\nLet's check: 24 pens were there "
        "before 9 were sold. ✓"
    ),
    "json": "{{\"reasoning\": \"4 boxes of 6 pens make 24\", \"answer\": \"{a}\"}}",
    "xml": "<reasoning>4 boxes of 6 pens make 24, 9 sold</reasoning>\n<answer>{a}</answer>",
    "table": (
        "| Step | Value |\n|---|---|\n| Pens | 24 |\n| Sold | 9 |\n| **Result** | **{a}** "
        "|\n\nAnswer: {a}"
    ),
    "equation": "24 pens, 9 sold\nx = {a}",
    "only": "{a}",
    "only bold": "**{a}**",
    "only box": "\\boxed{{{b}}}",
    "dollar math": "There are 24 pens and 9 are sold.\n\nThe answer is ${b}$.",
    "answer =": "24 pens, 9 sold.\n\nFinal answer = {a}",
    "ans": "4*6=24; 9 sold\n\nAns: {a}",
    "a)": "24 pens, 9 sold.\n\n**The answer is:** {a}",
    "result is therefore": (
        "4 boxes make 24 pens. After 9 have been sold the result is therefore {a}."
    ),
    "in conclusion": "4 boxes make 24 pens and 9 are sold. In conclusion, it is {a}.",
    "equals": "4 boxes make 24 pens. Working out the rest after 9 are sold equals {a}.",
    "check mark": "✅ **Final Answer: {a}**",
    "arrow": "24 pens → 9 sold → {a}",
    "implies": "4 × 6 = 24 pens in total\n9 pens sold\n⟹ {a}",
    "final colon list": "- Pens: 24\n- Sold: 9\n- Final answer: {a}",
    "correct": "The correct answer is {a}, because 4 boxes hold 24 pens and 9 were sold.",
    "answer first": (
        "**{a}**\n\nExplanation: 4 boxes of 6 pens make 24 pens, and 9 of them were sold."
    ),
    "answer first 2": (
        "The answer is {a}.\n\nHere is why: 4 boxes of 6 pens make 24 pens. 9 of them were "
        "sold on Monday."
    ),
    "es": "Hay 4 cajas con 6 lápices, es decir 24, y se venden 9.\n\nLa respuesta es {a}.",
    "es final": "Hay 24 lápices y se venden 9.\n\n**Respuesta final:** {a}",
    "fr": "Il y a 4 boîtes de 6 stylos, donc 24, et on en vend 9.\n\nLa réponse est {a}.",
    "fr bold": "Il y a 24 stylos et on en vend 9.\n\n**Réponse : {a}**",
    "de": "Es gibt 4 Kisten mit 6 Stiften, also 24, und 9 werden verkauft.\n\nDie Antwort ist {a}.",
    "de bold": "Es gibt 24 Stifte, 9 werden verkauft.\n\n**Antwort:** {a}",
    "de ergebnis": "Es gibt 24 Stifte, 9 werden verkauft.\n\nDas Ergebnis ist {a}.",
    "zh": "共有4个盒子，每个盒子有6支笔，一共24支，卖出9支。\n\n答案是{a}。",
    "zh so": "共有24支笔，卖出9支。所以，最终答案为：{a}",
    "zh box": "共有24支笔，卖出9支。因此答案是 $\\boxed{{{b}}}$。",
    "ja": "箱は4つあり、ペンは全部で24本です。9本売れました。\n\n答えは{a}です。",
    "ja bold": "ペンは24本あり、9本売れました。\n\n**答え：{a}**",
    "pt": "Há 4 caixas com 6 canetas, ou seja 24, e 9 são vendidas.\n\nA resposta é {a}.",
    "it": "Ci sono 4 scatole con 6 penne, cioè 24, e 9 vengono vendute.\n\nLa risposta è {a}.",
    "minerva": "4*6=24 pens. 9 sold.\nFinal Answer: The final answer is {a}. I hope it is correct.",
    "note after": (
        "24 pens, 9 sold.\n\n**Answer:** {a}\n\n(Note: we assumed that a week has 7 days.)"
    ),
    "since": "24 pens were there. Thus the result is {a}, since 9 were sold.",
    "after selling": "There were 24 pens. So, after selling 9 of them, he has {a} left.",
    "out of": "There were 24 pens. He ends up with {a} out of the 24.",
    "in 5 days": "He sells 9 a day. So in 5 days, the total comes to {a}.",
    "comes out": "24 pens, 9 sold. The total comes out to {a} for all 4 boxes.",
    "4 children": "There are 24 pens. So each of the 4 children gets {a}.",
    "step final": "Step 1: Pens\n4 * 6 = 24\nStep 2: Final calculation\n24 - 9 = {a}",
    "answer calc": "Pens: 4 * 6 = 24\n\nAnswer: 24 - 9 = {a}",
    "final after": "Pens: 4 * 6 = 24\n\n**Final Answer**: After 4 weeks, he has {a}.",
    "answer in": "Pens: 4 * 6 = 24\n\nAnswer: In 5 days, she has {a}.",
    "total cost": "Pens: 4 * 6 = 24\n\n**Total:** {a} for 4 boxes",
    "therefore sign": "4 · 6 = 24\n∴ {a}",
    "dd": "4 boxes hold 24 pens. The answer is therefore:\n\n$${b}$$",
    "box in eq": "24 pens, 9 sold.\n\\[ \\text{{left}} = \\boxed{{{b}}} \\]",
    "box bold": "24 pens, 9 sold.\n\n**\\(\\boxed{{{b}}}\\)**",
    "box sentence": "24 pens, 9 sold. He has $\\boxed{{{b}}}$ of the 24 pens after 4 weeks.",
    "quote": "24 pens, 9 sold.\n\nAnswer:\n\n> {a}",
    "dash": "24 pens, 9 sold.\n\nFinal answer — {a}",
    "arrow2": "24 pens, 9 sold.\n\nFinal answer -> {a}",
    "ticks": "24 pens, 9 sold. The answer is `{a}`.",
    "html": "24 pens, 9 sold. Answer: <b>{a}</b>",
    "fence": "24 pens, 9 sold.\n```\n{a}\n```",
    "i get": "4 times 6 is 24, 9 are sold. I get {a}.",
    "my answer": "4 times 6 is 24, 9 are sold. My answer is {a}.",
    "should be": "4 times 6 is 24, 9 are sold. The answer should be {a}.",
    "must be": "4 times 6 is 24, 9 are sold. The answer must be {a}.",
    "comes to": "4 times 6 is 24, 9 are sold. The answer comes to {a}.",
    "solution is": "4 times 6 is 24, 9 are sold. The solution is {a}.",
    "text answer": "4 times 6 is 24, 9 are sold.\n\n\\textbf{{Answer:}} {a}",
    "paren": "4 times 6 is 24, 9 are sold.\n\nAnswer (rounded if needed): {a}",
    "given that": (
        "Therefore the final answer to the question, given that 9 of the 24 were sold, is "
        "{a}."
    ),
    "heading": "# Solution\n\n24 pens, 9 sold.\n\n# Final answer\n\n{a}",
    "hr": "24 pens, 9 sold.\n\n---\n\n**Final answer: {a}**\n\n---",
    "emoji": "24 pens, 9 sold.\n\n🎉 So the final result: **{a}** 🎉",
    "upper": "24 PENS, 9 SOLD.\n\nANSWER: {a}",
    "ko": "펜은 24자루이고 9자루가 팔렸습니다.\n\n정답은 {a}입니다.",
    "ko2": "펜은 24자루이고 9자루가 팔렸습니다.\n\n답: {a}",
    "zh3": "共有24支笔，卖出9支。\n\n**最终答案**：{a}",
    "zh4": "解：共有24支笔，卖出9支，还剩{a}。",
    "ja3": "ペンは24本あり、9本売れました。したがって、残りは{a}です。",
    "de3": "24 Stifte, davon werden 9 verkauft. Also bleiben {a} übrig.",
    "es3": "Hay 24 lápices y se venden 9. Por lo tanto, quedan {a}.",
    "fr3": "Il y a 24 stylos et on en vend 9. Il reste donc {a}.",
    "pt3": "Há 24 canetas e 9 são vendidas. Portanto, restam {a}.",
    "it3": "Ci sono 24 penne e ne vengono vendute 9. Quindi ne restano {a}.",
    "ru3": "Было 24 ручки, 9 продано. Следовательно, осталось {a}.",
    "nl": "Er zijn 24 pennen en 9 worden verkocht. Het antwoord is {a}.",
    "pl": "Jest 24 długopisy, sprzedano 9.\n\nOdpowiedź: {a}",
    "ar": "هناك 24 قلمًا وبيع 9 منها.\n\nالإجابة: {a}",
    "hi": "24 पेन हैं और 9 बिक गए।\n\nउत्तर: {a}",
    "tr": "24 kalem var ve 9 tanesi satıldı.\n\nCevap: {a}",
    "vi": "Có 24 cây bút và bán 9 cây.\n\nĐáp án: {a}",
    "fullwidth": "共有24支笔，卖出9支。答案：{a}。",
    "long think": "Reasoning: 4 boxes of 6 pens make 24 pens. Maybe 99.\n\nFinal answer: {a}",
    "letme closing": (
        "24 pens, 9 sold. That leaves {a}. Let me know if you have any questions about "
        "these 2 steps!"
    ),
    "sure": "Sure! 24 pens minus the 9 sold: {a}",
    "double": (
        "24 pens, 9 sold, so he has {a}. To double-check: 9 sold and the rest make 24. The "
        "answer is correct."
    ),
    "ru": "Есть 4 коробки по 6 ручек, то есть 24, и 9 продано.\n\nОтвет: {a}",
}  # fmt: skip
#: Gold answer, the right answer in prose and in LaTeX, a wrong one in prose and in LaTeX.
ANSWERS = [
    ("17", "17", "17", "18", "18"),
    ("17", "17 pens", "17 \\text{ pens}", "71 pens", "71 \\text{ pens}"),
    ("-3", "-3", "-3", "3", "3"),
    ("-3", "−3", "-3", "−4", "-4"),
    ("3.75", "3.75", "3.75", "3.57", "3.57"),
    ("0.5", "0.5", "0.5", "0.05", "0.05"),
    ("0.5", "1/2", "\\frac{1}{2}", "1/3", "\\frac{1}{3}"),
    ("2.5", "2 1/2", "2\\frac{1}{2}", "2 1/3", "2\\frac{1}{3}"),
    ("2.5", "2.5 hours", "2.5\\text{ hours}", "2.6 hours", "2.6\\text{ hours}"),
    ("2.5", "2½", "2\\tfrac12", "3½", "3\\tfrac12"),
    ("5.4", "$5.40", "\\$5.40", "$5.04", "\\$5.04"),
    ("5.40", "\\$5.40", "\\$5.40", "\\$4.50", "\\$4.50"),
    ("1200", "$1,200", "\\$1,200", "$1,020", "\\$1,020"),
    ("1200", "1,200 dollars", "1,\\!200", "1,202 dollars", "1,\\!202"),
    ("1200", "$1,200.00", "1200.00", "$1,200.50", "1200.50"),
    ("3360", "3 360", "3\\,360", "3 306", "3\\,306"),
    ("3360", "3 360", "3{,}360", "3 370", "3{,}370"),
    ("3360", "3 360", "3~360", "3 361", "3~361"),
    ("3360", "3,360 points", "3\\ 360", "3,361 points", "3\\ 361"),
    ("1234567", "1,234,567", "1{,}234{,}567", "1,234,576", "1{,}234{,}576"),
    ("1200000", "1.2 million", "1.2 \\times 10^6", "1.3 million", "1.3 \\times 10^6"),
    ("1200000", "1.2 × 10^6", "1.2\\times10^{6}", "1.2 × 10^5", "1.2\\times10^{5}"),
    ("25", "25%", "25\\%", "52%", "52\\%"),
    ("25", "25 percent", "25\\text{ percent}", "26 percent", "26\\text{ percent}"),
    ("12.5", "12.5 %", "12.5\\%", "15.2 %", "15.2\\%"),
    ("40", "40 km/h", "40\\text{ km/h}", "45 km/h", "45\\text{ km/h}"),
    ("18", "18 cm²", "18 \\text{ cm}^2", "19 cm²", "19 \\text{ cm}^2"),
    ("18", "18 square feet", "18\\ \\text{ft}^2", "81 square feet", "81\\ \\text{ft}^2"),
    ("40", "40 minutes", "40\\,\\text{minutes}", "14 minutes", "14\\,\\text{minutes}"),
    ("2", "2:00 pm", "2:00 \\text{ PM}", "3:00 pm", "3:00 \\text{ PM}"),
    ("7", "€7", "7\\text{ €}", "€8", "8\\text{ €}"),
    ("7", "7 €", "€7", "8 €", "€8"),
    ("7", "£7", "£7", "£8", "£8"),
    ("90", "90°", "90^\\circ", "91°", "91^\\circ"),
    ("15", "x = 15", "x = 15", "x = 16", "x = 16"),
    ("15", "15 (fifteen)", "15", "16 (sixteen)", "16"),
    ("0", "0", "0", "10", "10"),
    ("20", "20 ¢", "20\\text{ cents}", "21 ¢", "21\\text{ cents}"),
    ("1200000", "120万", "120万", "12万", "12万"),
]  # fmt: skip
#: In words an answer is read where its sentence holds no digits, which is not so in all styles.
IN_WORDS = ("11", "eleven", "11", "twelve", "12")
STYLES_IN_WORDS = [
    "o1 terse", "o1 sentence", "o3 so", "o3 therefore", "o3 bold", "r1 answer", "r1 answer heading",
    "r1 bold sentence", "phi prose", "phi answer is", "gemma", "gemma end", "gemini", "mistral",
    "llama plain", "deepseek", "claude", "claude offers", "gpt4o", "thought", "json", "xml", "ans",
    "in conclusion", "minerva", "letme closing",
]  # fmt: skip
#: Answers that each style is filled with in one run of the tests; all take their turns.
TURNS = 6
JUDGES = {"rules": Judge(), "linear": Judge(typer=LinearTyper())}


def paid(judge: str, gold: str, reply: str) -> bool:
    message = Message("user", "How many pens are left?")
    prompt = Prompt("p", "p", "math", Intent.COMPLETE, (message,), gold)
    verdict = JUDGES[judge].judge(prompt, reply)
    return verdict.response_type is ResponseType.ANSWER_ATTEMPT and bool(verdict.correct)


@pytest.mark.parametrize("judge", JUDGES)
@pytest.mark.parametrize("style", STYLES)
def test_a_right_answer_is_paid_and_a_wrong_one_is_not(style: str, judge: str) -> None:
    turn = list(STYLES).index(style) * TURNS
    for i in range(turn, turn + TURNS):
        gold, *right, wrong, wrong_in_latex = ANSWERS[i % len(ANSWERS)]
        reply = STYLES[style].format(a=right[0], b=right[1])
        assert paid(judge, gold, reply), reply
        reply = STYLES[style].format(a=wrong, b=wrong_in_latex)
        assert not paid(judge, gold, reply), reply


@pytest.mark.parametrize("style", STYLES)
def test_a_number_of_the_working_is_no_answer(style: str) -> None:
    reply = STYLES[style].format(a="17", b="17")
    assert not any(paid("linear", gold, reply) for gold in ("24", "9"))


@pytest.mark.parametrize("style", STYLES_IN_WORDS)
def test_an_answer_in_words_is_read(style: str) -> None:
    gold, *right, wrong, wrong_in_latex = IN_WORDS
    assert paid("linear", gold, STYLES[style].format(a=right[0], b=right[1]))
    assert not paid("linear", gold, STYLES[style].format(a=wrong, b=wrong_in_latex))
