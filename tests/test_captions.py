"""Captions say what a result was made of, no more and no less, in two lines on the page."""

import ast
import re
from pathlib import Path

import nbformat
import pytest

from clear_lib.study.pages import captions
from clear_lib.study.setup import profiles

SOURCES = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.ipynb"))

#: Characters of two lines, and what a word from the run counts for.
LONGEST, WORD = 200, "x" * 25

RECORDED = {"evaluation": (96, 1547), "predictor": (72, 2500)}
PART = {"model": "a/Small-1B-GGUF", "engine": "none", "recorded": RECORDED}


@pytest.mark.parametrize(
    "changes, rollouts",
    [
        ({}, "laboratory model, greedy rollouts"),
        (PART, "Small-1B, recorded greedy rollouts"),
        ({"engine": "none"}, "imported rollouts"),
        ({"engine": "none", "revision": "simulated"}, "simulated rollouts"),
    ],
)
def test_a_caption_says_whose_rollouts_they_are(changes, rollouts):
    assert rollouts in captions.provenance(profiles.load("smoke", **changes))


def test_a_caption_speaks_of_intervals_only_where_there_are_some():
    smoke = profiles.load("smoke")
    assert "intervals" in captions.provenance(smoke)
    assert "intervals" not in captions.provenance(smoke, intervals=False)


def test_a_caption_names_tale_eps_teacher_only_where_tale_ep_is():
    smoke = profiles.load("smoke")
    assert "TALE-EP" not in captions.provenance(smoke)
    assert "TALE-EP" not in captions.provenance(smoke, ["uniform", "clear"])
    assert f"TALE-EP has a {smoke.teacher.label}." in captions.provenance(smoke, ["uniform", "tale-ep"])


def test_captions_say_how_much_is_recorded():
    smoke, part = profiles.load("smoke"), profiles.load("smoke", **PART)
    assert captions.evaluation_questions(smoke) == "96 evaluation questions"
    assert captions.training_questions(smoke) == "72"
    assert captions.data(smoke) == "laboratory model, 96 evaluation questions; 5 streams of N = 16"
    assert captions.data(part, streams=False) == "Small-1B, 96 of the 1,547 evaluation questions"
    assert captions.training_questions(part) == "72 of the 2,500"
    assert "96 of the 1,547" in captions.provenance(part)


def test_a_small_stream_says_why():
    assert captions.stream_size(profiles.load("tiny")) == "A stream has 500 queries, as in the paper."
    assert "all that the pool has" in captions.stream_size(profiles.load("smoke"))
    said = captions.stream_size(profiles.load("smoke", **PART))
    assert "16 queries where the paper's has 500" in said and "recorded so far" in said and "vary more" in said
    assert "vary more" not in captions.stream_size(profiles.load("smoke", stream_size=400))


# ---- their length -------------------------------------------------------------------------------------------------


def text_of(node):
    """The characters of a caption that a cell puts together; what it folds is behind a line break."""
    source = ast.unparse(node)
    if "captions.provenance" in source and isinstance(node, ast.Call):
        return "\n"
    if "captions.data" in source and isinstance(node, (ast.Call, ast.FormattedValue)):
        return captions.data(profiles.load("qwen-1.5b"))
    match node:
        case ast.Constant(str(text)):
            return text
        case ast.JoinedStr(values):
            return "".join(map(text_of, values))
        case ast.BinOp(left, ast.Add(), right):
            return text_of(left) + text_of(right)
        case ast.IfExp(_, one, other):
            return max(text_of(one), text_of(other), key=len)
        case ast.Call(ast.Attribute(text, "format")):
            return text_of(text)
    return WORD


def of_tables(cell):
    """The captions that a code cell gives to its tables."""
    known = {}
    for node in ast.walk(ast.parse(cell.source)):
        match node:
            case ast.Assign([ast.Name(name)], value):
                known[name] = text_of(value)
            case ast.AugAssign(ast.Name(name), ast.Add(), value):
                known[name] = known.get(name, "") + text_of(value)
    for node in ast.walk(ast.parse(cell.source)):
        match node:
            case ast.Call(ast.Attribute(ast.Name("tables")), [_, caption, *_]) | ast.Call(
                ast.Attribute(_, "set_caption"), [caption]
            ):
                names = {each.id for each in ast.walk(caption) if isinstance(each, ast.Name)} & set(known)
                yield "".join(known[name] for name in names if name == "caption") or text_of(caption)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_a_caption_has_two_lines(path):
    long = {}
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code" and "remove-cell" not in cell.metadata.get("tags", []):
            figure = cell.metadata.get("mystnb", {}).get("figure", {}).get("caption", "")
            for said in (re.sub(r"\{glue:text\}`[^`]*`", WORD, figure), *of_tables(cell)):
                if len(said := said.partition("\n")[0]) > LONGEST:
                    long[cell.id] = said
    assert long == {}, "what is seen, and the one thing to see; the rest is prose, or follows a line break"


@pytest.mark.parametrize("name", ["qwen-1.5b", "qwen-0.5b", "tiny", "smoke"])
def test_what_a_caption_says_of_its_data_is_short(name):
    assert len(captions.data(profiles.load(name))) <= LONGEST / 2
