"""Other languages than English: whether a reply speaks one, and what it does there.

English is read by cues and weights; for the rest a table of phrases for each act is enough to tell
an answer, a question, a refusal and a supposition apart in short and plain replies. Chinese,
Japanese and Korean phrases are looked for as they stand, those of other scripts as whole words.

Phrases were written by hand from each language's ordinary words; replies in other languages were
not at hand to measure them on. tests/claims/tables.json has what each is worth alone on English
rows, where `_LATIN` decides that English is English (12 points).
"""

from __future__ import annotations

import re
from functools import lru_cache

from icpo_lite.core.words import bag

_LETTER = re.compile(r"[^\W\d_]")
_LATIN = re.compile(r"[A-Za-z\u00c0-\u024f]")
_WORD = re.compile(r"[^\W\d_]+")

_ENGLISH = bag(
    "the of and to is are was how many much what which does do did has have had in for with that "
    "this it on at by be from each per you your please not so then answer need know"
)
#: Function words of other languages in Latin script that are no English words.
_FOREIGN = bag(
    "el los las una unos que cuántos cuántas cuantos cuantas tiene por para con qué cuál cuánto "
    "les du est une combien avec pour dans quel quelle quels sont elle vous "
    "der das und ein eine einen wie viele viel hat haben mit für nicht sie wir von "
    "gli che quanti quante quanto sono di della uma quantos quantas tem são com não você "
    "hoeveel heeft het een zijn ile jest "
    "es sind gibt son hay tienen quedan ont hanno"
)

#: Acts, with their phrases in Spanish, French, German, Portuguese, Italian, Dutch, Russian,
#: Chinese, Japanese, Korean.
PHRASES: dict[str, tuple[str, ...]] = {
    "request": (
        "por favor", "podría decirme", "puede decirme", "puedes decirme", "me puede decir",
        "me podría decir", "dígame", "dime", "indíqueme", "indícame", "proporcione",
        "proporcióname",
        "necesito saber", "necesito conocer", "necesitaría saber", "necesito que me",
        "s'il vous plaît", "s'il te plaît", "veuillez", "pourriez-vous", "pouvez-vous", "peux-tu",
        "pourrais-tu", "dites-moi", "dis-moi", "j'ai besoin de connaître",
        "j'ai besoin de savoir",
        "il me faut savoir", "il me faudrait",
        "bitte", "könnten sie", "können sie mir", "kannst du mir", "könntest du", "sagen sie mir",
        "sag mir", "nennen sie mir", "teilen sie mir", "ich müsste wissen", "ich muss wissen",
        "preciso saber", "diga-me", "me diga", "per favore", "mi dica", "dimmi", "può dirmi",
        "puoi dirmi", "ho bisogno di sapere", "alstublieft", "kunt u", "пожалуйста", "скажите",
        "подскажите", "уточните", "сообщите",
        "请告诉", "请提供", "请问", "请说明", "请给出", "请确认", "请补充", "能否告诉",
        "可以告诉我",
        "能告诉我", "我需要知道", "需要您提供", "需要你提供",
        "教えて", "お知らせ", "知らせて", "ご提供", "提供してください", "示してください", "알려",
        "말씀해",
    ),
    "lack": (
        "no puedo", "no se puede", "no podemos", "no es posible", "imposible",
        "falta información",
        "faltan datos", "falta el dato", "no hay suficiente", "no hay suficientes",
        "insuficiente",
        "insuficientes", "no sé", "no se indica", "no se especifica", "no se menciona",
        "no dispongo",
        "je ne peux pas", "ne peut pas", "impossible", "pas assez", "il manque", "insuffisantes",
        "insuffisant", "je ne sais pas", "n'est pas précisé", "n'est pas indiqué", "pas possible",
        "kann nicht", "kann das nicht", "kann ich nicht", "kann man nicht", "nicht möglich",
        "unmöglich", "nicht genug", "nicht genügend", "fehlt", "fehlen", "weiß nicht",
        "weiß ich nicht",
        "unbekannt", "nicht angegeben", "reicht nicht", "reichen nicht", "nicht bestimmen",
        "nicht berechnen", "nicht beantworten",
        "não posso", "não é possível", "não sei", "faltam", "non posso", "non è possibile",
        "manca",
        "mancano", "non so", "insufficienti", "niet mogelijk", "weet niet", "не могу",
        "невозможно",
        "недостаточно", "неизвестно", "не хватает", "не знаю",
        "无法", "不能", "不知道", "不足", "缺少", "没有足够", "没有给出", "未给出", "没有提供",
        "不够",
        "できません", "わかりません", "分かりません", "不明", "足りません", "不可能",
        "わからない",
        "알 수 없", "할 수 없", "부족", "모르",
    ),
    "suppose": (
        "supongamos", "suponiendo", "si suponemos", "si asumimos", "asumiendo", "por ejemplo",
        "depende", "podría ser", "podrían ser", "supposons", "en supposant", "si on suppose",
        "si l'on suppose", "par exemple", "dépend", "pourrait être", "angenommen",
        "nehmen wir an", "wenn wir annehmen", "unter der annahme", "zum beispiel",
        "hängt davon ab",
        "könnte", "könnten es", "supondo", "supponiamo", "ad esempio", "dipende", "предположим",
        "например", "зависит", "假设", "假如", "例如", "取决于", "可能是", "如果", "仮に", "仮定",
        "例えば", "場合", "かもしれません", "만약", "가정",
    ),
    "courtesy": (
        "algo más", "otra pregunta", "otras preguntas", "más preguntas", "alguna pregunta",
        "tiene sentido", "quiere que le explique", "quieres que te explique",
        "en qué puedo ayudar",
        "autre question", "autres questions", "autre chose", "d'autres questions", "est-ce clair",
        "voulez-vous que j'explique", "comment puis-je vous aider",
        "weitere fragen", "noch fragen", "sonst noch", "ist das klar", "kann ich ihnen helfen",
        "kann ich dir helfen", "soll ich das erklären", "mais alguma", "altre domande", "altro",
        "还有其他问题", "还有别的问题", "还有什么问题", "其他问题吗", "明白了吗", "清楚了吗",
        "可以帮您",
        "能帮您", "他に質問", "ほかに質問", "他にご質問", "お手伝い", "分かりましたか",
        "わかりましたか",
        "よろしいでしょうか", "다른 질문",
    ),
}  # fmt: skip
#: "The answer is", as an alternative of a pattern that ignores case; a number stands behind it.
ANSWER = (
    r"\b(?:respuesta|resultado|réponse|résultat|resposta|risposta|risultato)(?: final| correcta"
    r"| finale)?[\s*_]{0,4}(?:es|est|é|è|[:=])"
    r"|\b(?:antwort|ergebnis|lösung|antwoord)[\s*_]{0,4}(?:ist|lautet|beträgt|is|[:=])"
    r"|\bответ[\s*_]{0,4}[:—=-]|(?:答案|答え|正解|解答|結果|结果|答)\s{0,2}(?:应该|應該)?(?:是|为|為|は|：|:)"
    r"|(?:정답|답)\s{0,2}(?:은|:)"
)
_ANSWER = re.compile(ANSWER, re.IGNORECASE)
#: Ends of a question that needs no question mark.
_ASKING_END = re.compile(r"(?:か|かな|吗|呢|嗎|니까|나요|까요)\s?[.。]?\s*$")
_NO_WORDS = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


@lru_cache(maxsize=32768)
def foreign(text: str) -> bool:
    """Whether a text is written in another script than Latin, or in another language's words."""
    letters = len(_LETTER.findall(text))
    if not letters:
        return False
    if 2 * len(_LATIN.findall(text)) < letters:
        return True
    strange, english = _counts(text)
    return strange > english and (strange >= 2 or not english)


def _counts(text: str) -> tuple[int, int]:
    words = [w.lower() for w in _WORD.findall(text)]
    return sum(w in _FOREIGN for w in words), sum(w in _ENGLISH for w in words)


#: Characters that tell a reply's language.
_TELLING = 500


@lru_cache(maxsize=16384)
def speaks_another(text: str) -> bool:
    """Whether a reply is to be read by the phrases of this table: also where it is too short to
    hold a function word ("No puedo responder.")."""
    text = text[:_TELLING]
    if foreign(text):
        return True
    strange, english = _counts(text)
    if strange < english or (english and not strange):
        return False
    return bool(_ANSWER.search(text)) or any(found(act, text) for act in PHRASES)


def found(act: str, text: str) -> str:
    """The first phrase of an act that stands in a text, or ""."""
    low = text.lower()
    spaced = f" {' '.join(_TOKEN.findall(low))} "
    for phrase in PHRASES[act]:
        if phrase in low and (_NO_WORDS.search(phrase) or f" {phrase} " in spaced):
            return phrase
    return ""


_TOKEN = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*")


def asks(sentence: str) -> bool:
    """Whether a sentence of another language asks for something, and not out of courtesy."""
    if found("courtesy", sentence):
        return False
    if "?" in sentence or _ASKING_END.search(sentence):
        return bool(_LETTER.search(sentence))
    return bool(found("request", sentence))


#: Sentences that are read, from the end.
_MOST = 60


def questions(sentences: tuple[str, ...]) -> list[str]:
    """The sentences that ask, without a request that only leads in the question behind it."""
    asking = [sentence for sentence in sentences[-_MOST:] if asks(sentence)]
    with_mark = [s for s in asking if "?" in s or _ASKING_END.search(s)]
    return list(dict.fromkeys(with_mark or asking))
