"""One spelling for answers that mean the same: units, choices, signs and the many ways to write a number.

Only what math-verify does not read, or reads as something else, is rewritten here.
"""

import re
import unicodedata
from decimal import Decimal, localcontext

#: Characters of the longest answer that is compared. The longest gold answer of the usual sets has 210.
MAX_CHARACTERS = 1000


def _fraction(decimal: re.Match[str]) -> str:
    r"""The fraction for a recurring decimal such as ``0.1\overline{6}``."""
    whole, once, again = decimal[1] or "0", decimal[2], decimal[3]
    return f"\\frac{{{int(whole + once + again) - int(whole + once)}}}{{{'9' * len(again)}{'0' * len(once)}}}"


_POWERS = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_DEGREES = r"\s*(?:\^\s*\{?\s*\\circ\s*\}?)"
# Signs that models write in place of commands.
_SIGNS = str.maketrans(
    {char: "\\frac{{{}}}{{{}}}".format(*unicodedata.normalize("NFKC", char).split("⁄")) for char in "½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"}
    | {"°": r"^\circ ", "²": "^2", "³": "^3", "·": r"\cdot ", "∞": r"\infty ", "≈": r"\approx ", "−": "-"}
    | dict.fromkeys("\u00a0\u2009\u202f", " ")
)
_SPELLINGS = [
    (re.compile(pattern), plain)
    for pattern, plain in (
        (r"\\!\s*|(?<!\\)\$|^\\quad|^\\approx", ""),  # thin spaces, formula signs
        (r"√\s*\(([^()]*)\)", r"\\sqrt{\1}"),
        (r"(?:√|\\sqrt)\s*(\d+|(?<=√)[a-z])", r"\\sqrt{\1}"),  # √13, \sqrt13
        (r"\\varnothing(?![a-zA-Z])", r"\\emptyset"),
        (r"^(?:negative|minus)\s+(?=[\d\\.])", "-"),
        (
            r"(?<![\d.,])(\d{1,3})((?:(?:\s|\\[,;: ]|~)\d{3})+)(?![\d,])",  # 1 234
            lambda found: found[1] + re.sub(r"\D", "", found[2]),
        ),
        (r"\\[,;:]\s*", " "),
        (r"^(-?\d+)\s+(\d+)\s*/\s*(\d+)$", r"\1\\frac{\2}{\3}"),  # 2 1/2
        (r"(\d*)\.(\d*)\\(?:overline|bar)\s*\{?(\d+)\}?", _fraction),
        (r"(?<=\d)\^?\s*\{?(?:\\[a-z]+\s*\{\s*)?(?:st|nd|rd|th)\s*\}{0,2}$", ""),  # 12^{\text{th}}
        (
            r"(?<=\d)\s*(\\text\s*\{)?\s*\b(hundred|thousand|million|billion|trillion)(?![a-zA-Z])",
            lambda found: rf" \times 10^{{{_POWERS[found[2]]}}}{found[1] or ''}",
        ),
        (rf"({_DEGREES})\s*[CF]$", r"\1"),
        (r"(?:\\text\s*\{\s*)?(?<![a-zA-Z])percent\b(?:\s*\})?", r"\\%"),
        (rf"(\\(?:sin|cos|tan|cot|sec|csc)\s*(?:\\left)?[({{]?\s*)(\d+(?:\.\d+)?){_DEGREES}", r"\1\\frac{\2\\pi}{180}"),
        (r"^\\(?:text|textbf|mathrm|mathbf)\s*\{(?![^{}]*[a-zA-Z]{3})([^{}]*\d[^{}]*)\}$", r"\1"),  # \text{n = 6}
        (r"(?<=\d)(?:,|\{,\})(?=\d{3}(?:,\d{3})*\})", ""),  # \frac{1}{20,000}
        (r"(?<![\w\\.])(\d+\.?\d*|\.\d+)[eE]([+-]?\d+)(?![\w.])", r"\1 \\times 10^{\2}"),  # 4.5e33 is no product with e
        (r"(?<=\d)\.(?=\s*/)", ""),  # 1./3
        (r"\\[dtc]?frac\s*(\\[a-zA-Z]+)\s*([0-9a-zA-Z])", r"\\frac{\1}{\2}"),  # \frac\pi 2
        (r"_\{\\([a-zA-Z]+)\s*\}", r"_{\1}"),  # L_{\odot}: a name in a name
        (r"(?<![\\a-zA-Z])E(?=_)", r"\\text{E}"),  # E_1 is no power of e
        (r"\\gamma(?![a-zA-Z])", r"\\text{gamma}"),  # nor is every gamma Euler's function
    )
]
# A unit is text after the answer, or words after a number. What takes something back is no unit: "2 or none".
_TEXT = r"\\(?:text|textnormal|textrm|textit|textbf|mbox|mathrm|mathbf)\s*"
_POWER = r"(?:\^\s*\{?-?\d\}?)?"
_SYMBOLS = "(?:mm|cm|dm|km|in|ft|yd|mi|mg|kg|lb|oz|ms|min|hr|mL|ml|Hz|Pa|[mgshLNJWVAK])"
_UNIT = re.compile(rf"(?:(?:[\s/~]|\\cdot|\\[,;: ])*{_TEXT}\{{(?:[^{{}}\d]|(?<=[a-z^])\d)*\}}{_POWER})+$")
_WORDS = re.compile(
    rf"(?<=[\d}})])(?:\s|\\ |~)+(?:{_SYMBOLS}{_POWER}\s*/\s*{_SYMBOLS}"  # m/s, or words of more than one letter
    rf"|(?:[a-zA-Z]{{3,}}|{_SYMBOLS}(?<=[a-zA-Z]{{2}}))(?:[\s/]+[a-zA-Z]+)*){_POWER}$"
)
_SYMBOL = re.compile(rf"(?<=[\d}})])(?:\s|\\ |~)*(?:{_TEXT}\{{\s*)?({_SYMBOLS})\s*\}}?{_POWER}$")
_HEDGE = re.compile(
    r"\b(?:or|and|if|not?|none|nor|but|maybe|perhaps|possibly|probably|least|most|except|unless|when|where|plus|minus"
    r"|halves|thirds|tenths|hundredths|factorial)\b|\?",
    re.IGNORECASE,
)
_LETTER = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z]")
_NUMBER = re.compile(
    r"(?P<digits>[+-]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d*)?)(?:\s*\\(?:times|cdot)\s*10\^\{?(?P<power>[+-]?\d{1,4})\}?)?"
    r"(?P<percent>\s*\\?%)?"
)
_CHOICE = re.compile(rf"(?:{_TEXT}\{{)?\s*\(?([A-J])\)?\s*\}}?")
_CHOSEN = re.compile(rf"(?:{_TEXT}\{{)?\s*\(([A-J])\)")  # (B) Circle
_QUOTED = re.compile(rf"{_TEXT}\{{([^{{}}]*)\}}")


def normalize(text: str) -> str:
    """An answer in plain spelling, without the space around it and the full stop of its sentence."""
    text = text.strip()
    if len(text) > MAX_CHARACTERS:
        return text
    text = text.translate(_SIGNS)
    for pattern, plain in _SPELLINGS:
        text = pattern.sub(plain, text.strip().rstrip(".,;\\ "))
    return text.strip()


def normalize_pair(gold: str, answer: str) -> tuple[str, str]:
    """Both in plain spelling, without their units unless these differ, and a choice by its letter alone."""
    gold, answer = normalize(gold), normalize(answer)
    if max(len(gold), len(answer)) > MAX_CHARACTERS:
        return gold, answer
    symbols = _SYMBOL.search(gold), _SYMBOL.search(answer)
    if None in symbols or symbols[0][1] == symbols[1][1]:  # not 5 m and 5 cm
        gold = _without_unit(gold, _UNIT, _WORDS)
        answer = _without_unit(answer, *((_UNIT,) if _LETTER.search(gold) else (_UNIT, _WORDS, _SYMBOL)))
    choice, chosen = _CHOICE.fullmatch(gold), _CHOSEN.match(answer)
    if choice and chosen and len(re.findall(r"\([A-J]\)", answer)) == 1:
        gold, answer = choice[1], chosen[1]
    quoted = _QUOTED.fullmatch(gold)
    if quoted and quoted[1].strip().casefold() == re.sub(rf"^{_TEXT}\{{|\}}$", "", answer).strip().casefold():
        answer = gold
    if "." in gold and _number(gold):  # the decimal of 2/3 \approx 0.667
        answer = answer.rpartition(r"\approx")[2].strip()
    if r"\ln" in gold:  # some write log for it
        answer = re.sub(r"\\log(?![_a-zA-Z])", r"\\ln", answer)
    return gold, answer


def _without_unit(text: str, *units: re.Pattern[str]) -> str:
    """An answer without its unit. Plain words are a unit only after a number, not after a variable."""
    for unit in units:
        found = unit.search(text)
        if found and found.start() and not _HEDGE.search(found[0]):
            bare = text[: found.start()].rstrip()
            if unit is _UNIT or not _LETTER.search(bare):
                return bare
    return text


def _number(text: str) -> tuple[Decimal, bool] | None:
    r"""The number that a text writes in digits, such as ``1,250.5`` or ``3 \times 10^{8}``, and whether in percent."""
    found = _NUMBER.fullmatch(text)
    if not found or not any(map(str.isdigit, found["digits"])):
        return None
    return Decimal(f"{found['digits'].replace(',', '')}e{found['power'] or 0}"), bool(found["percent"])


def same_number(gold: str, answer: str) -> bool | None:
    """Whether two numbers in digits are equal, with or without percent; None if one is no such number.

    Equal means to six decimals, as in math-verify; a number below 1 to six digits (many constants are below 1e-6).
    """
    numbers = _number(gold), _number(answer)
    if None in numbers:
        return None
    (right, percent), (found, also) = numbers
    with localcontext(prec=2 * MAX_CHARACTERS):
        pairs = [(right, found)]
        if percent != also:
            pairs.append((right / (100 if percent else 1), found / (100 if also else 1)))
        return any(abs(one - other) <= Decimal(5e-7) * min(1, abs(one)) for one, other in pairs)
