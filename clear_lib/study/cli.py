"""The command line of the study, ``python -m clear_lib.study``: recordings, profiles made of rollouts, the README."""

import argparse
import os
import subprocess
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from clear_lib import study  # its modules are loaded when a command uses them
from clear_lib.cli import execute, parser_of, rollout_options
from clear_lib.cli.files import read_rollouts, split_pairs


def book(arguments: argparse.Namespace) -> None:
    building = study.building
    making = building.Making(arguments.profile, building.paths_of(arguments.rollouts or ()), arguments.options)
    building.book(making, arguments.what, arguments.jobs)
    if not arguments.what:
        print(f"The book (profile {arguments.profile}) is ready. Open {building.PAGES.resolve().as_uri()}")


def lab(arguments: argparse.Namespace) -> None:
    folder = Path("artifacts", arguments.profile, "student")
    if unexecuted := study.student.write(Path(), arguments.profile, folder, keep=True):
        print(f"an ellipsis stands for the numbers of {len(unexecuted)} chapters that have not run: {unexecuted}")
    print(f"student notebooks: {folder} (what you change in them is kept until the chapter runs again)", flush=True)
    if not arguments.no_open:
        as_root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        subprocess.run([sys.executable, "-m", "jupyter", "lab", f"--notebook-dir={folder}", *as_root], check=False)


def record(arguments: argparse.Namespace) -> None:
    from clear_lib.rollouts import shipped
    from clear_lib.study.code import recording as code
    from clear_lib.study.code import shipping

    profile, artifacts = study.profiles.load(arguments.profile), arguments.artifacts
    asked = [each.partition(":") for each in arguments.only or study.recording.kinds_of(profile)]
    kinds = [(kind, float(share or 1)) for kind, _, share in asked]
    programs = [each for each in kinds if each[0] in code.KINDS]
    solutions = [each for each in kinds if each not in programs]
    known, made = shipped.kinds(profile.name), 0
    if known and solutions:
        print(f"{study.packing.restore(profile, artifacts)} rollouts taken over from {shipped.FOLDER}", flush=True)
    for kind, share in kinds:
        if kind in code.KINDS:
            left, about = shipping.unshipped(profile, kind), f"what is not shipped of {code.KINDS[kind].about}"
        else:
            left, about = study.recording.requests(profile, kind), study.recording.KINDS[kind]
        print(f"{kind}, {share:.0%} of {len(left)}: {about}", flush=True)
    engine = cache(lambda: study.models.start(profile, arguments.weights))
    with study.runs.logged(profile, artifacts, [kind for kind, _ in kinds]):
        if solutions:
            made += study.recording.record(profile, solutions, artifacts, engine)
        if programs:
            made += code.record(profile, programs, artifacts, engine, requests=shipping.unshipped)
    print(f"{made} rollouts recorded now")
    if solutions and (known or profile.weights):
        print(f"to ship them: python -m clear_lib.study pack --profile {profile.name} --artifacts {artifacts}")
    if programs:
        print(f"to grade programs: python -m clear_lib.study grade --profile {profile.name} --artifacts {artifacts}")


def pack(arguments: argparse.Namespace) -> None:
    from clear_lib.rollouts.shipped import FOLDER

    profile = study.profiles.load(arguments.profile)
    for kind, count in study.packing.pack(profile, arguments.artifacts).items():
        print(f"{FOLDER / profile.name}: {count['there']} of {count['wanted']} {kind} rollouts")


def grade(arguments: argparse.Namespace) -> None:
    from clear_lib.study.code import recording, shipping

    profile = study.profiles.load(arguments.profile)
    for kind in arguments.only or recording.recorded(profile, arguments.artifacts):
        grades = recording.grade(profile, kind, arguments.artifacts)
        parts = {part: grades[part].eq("correct").mean() for part in ("base", "plus") if grades[part].ne("none").any()}
        shares = ", ".join(f"{part} {share:.3f}" for part, share in parts.items())
        print(f"{kind}: {len(grades)} programs; passed: {shares}", flush=True)
        if arguments.ship:
            print(f"shipped in {shipping.pack(profile, kind, arguments.artifacts)}")


def unpack(arguments: argparse.Namespace) -> None:
    print(f"{study.packing.unpack(study.profiles.load(arguments.profile), arguments.artifacts)} is ready")


def verify(arguments: argparse.Namespace) -> None:
    profile = study.profiles.load(arguments.profile)
    if arguments.batch:
        profile = replace(profile, batch_size=arguments.batch)
    engine = study.models.start(profile, arguments.weights)
    verified = study.verifying.verify(profile, engine, arguments.n, arguments.seed)
    print(verified)
    if arguments.keep:
        study.verifying.write_verified(profile, verified)


def plan(arguments: argparse.Namespace) -> None:
    print(study.plan.plan(study.profiles.load(arguments.profile), arguments.card, arguments.artifacts))


def import_(arguments: argparse.Namespace) -> None:
    from clear_lib.predictor import OtherModelWarning
    from clear_lib.rollouts.store import check_writable

    check_writable(arguments.artifacts)
    there = Path(arguments.artifacts, study.importing.NAME, "profile.yaml")
    if there.is_file() and not arguments.force:
        raise ValueError(f"{there} is of an earlier import; --force replaces it, --artifacts names another folder")
    rollouts, reports = read_rollouts(arguments.files, arguments.model, arguments)
    training = None
    if arguments.predictor:
        author = arguments.predictor_model or arguments.model
        training, more = read_rollouts(arguments.predictor, author, arguments)
        reports += more
    settings = {name: getattr(arguments, name) for name in ("stream_size", "parameters", "folds", "hold_out")}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", OtherModelWarning)
        tiers = split_pairs(arguments.tier)
        made = study.importing.import_rollouts(
            rollouts, arguments.artifacts, training=training, tiers=tiers, **settings
        )
    loud = [str(each.message) for each in caught if issubclass(each.category, OtherModelWarning)]
    print(f"\n{made}\n{made.file} is ready. In the folder of the project, where the book looks for it in artifacts/:")
    print(f"python -m clear_lib.study book --profile {made.profile.name}")
    for message in loud:
        print(f"\nWARNING: {message}", file=sys.stderr)
    made.file.with_name("import.txt").write_text("\n".join([*reports, "", str(made), *loud]) + "\n", encoding="utf-8")


def replicate(arguments: argparse.Namespace) -> None:
    file, name = study.simulation.write_profile(arguments.name, arguments.artifacts), arguments.name
    print(f"{study.profiles.load(file).model}: {file} is ready: python -m clear_lib.study book --profile {name}")


def readme(arguments: argparse.Namespace) -> None:
    import pandas as pd

    study.verdicts.update_readme(arguments.page, arguments.results)
    study.first_pages.write(arguments.page)
    made = arguments.results.parent / "profile.yaml"
    profile = study.profiles.load(made if made.is_file() else arguments.results.parent.name)
    results = pd.read_parquet(arguments.results / "spend_as_you_go.parquet")
    figure = study.figures.overview(results, f"{profile.label}, four streams")
    figure.savefig(arguments.page.parent / "book" / "result.svg", metadata={"Date": None})


def bench(arguments: argparse.Namespace) -> None:
    speed = study.speed
    for table in (speed.measure(arguments.size, arguments.large), speed.memory(speed.SIZES[arguments.size][0])):
        print(table.to_string(index=False, float_format="{:,.4g}".format), flush=True)


def _parser() -> argparse.ArgumentParser:
    parser, command = parser_of("clear_lib.study", "The recordings and profiles that the book is made of.")
    name, folder = "name of a profile (default: %(default)s)", "folder of recordings and results (default: artifacts)"
    artifacts = {"default": "artifacts", "help": folder}
    of_the_book = {"default": "qwen-1.5b", "help": name}
    weights = {"metavar": "PATH", "help": "the profile's file of weights, or its folder (default: from the hub)"}

    add = command(book, "make the book: run the chapters that are out of date, and build the pages")
    only = "only chapters, by number or name, and what they read; or `rollouts` (default: all, and the pages)"
    add("what", nargs="*", metavar="CHAPTER", help=only)
    add("--profile", **of_the_book)
    add("--rollouts", nargs="+", metavar="PATH", help="with --profile imported: logs to make the book of")
    add("--options", default="", help="options of their import, as one text: --options='--model name'")
    add("--jobs", type=int, metavar="N", help="chapters at a time (default: as many as there are cores, at most 4)")

    add = command(lab, "write the student notebooks of a profile, and open them in JupyterLab")
    add("--profile", **of_the_book)
    add("--no-open", action="store_true", help="only write them")

    add = command(record, "record the rollouts of a profile; goes on where it was stopped")
    add("--profile", default="tiny", help=name)
    add("--artifacts", **artifacts)
    kinds = (
        "which of evaluation, rungs, sampled, predictor and easy (and of code: humaneval, mbpp, humaneval-samples, "
        "mbpp-samples), in this order, and which share of each"
    )
    add("--only", nargs="+", metavar="KIND[:SHARE]", help=kinds)
    add("--weights", **weights)

    add = command(pack, "ship what is recorded of a profile, without the questions")
    add("--profile", required=True, help="name of a profile")
    add("--artifacts", required=True, help="folder in which it was recorded")

    add = command(grade, "run recorded programs against their tests, in the sandbox")
    add("--profile", required=True, help="name of a profile")
    add("--artifacts", **artifacts)
    add("--only", nargs="+", metavar="KIND", help="kinds of rollouts (default: those of code that are recorded)")
    add("--ship", action="store_true", help="write lengths and verdicts to the recordings, without any text")

    add = command(unpack, "make the profile of shipped recordings that the chapters run on")
    add("--profile", required=True, help="name of a profile")
    add("--artifacts", **artifacts)

    add = command(verify, "decode recorded questions again, in other batches, and compare")
    add("--profile", required=True, help="name of a profile")
    add("--weights", **weights)
    add("-n", type=int, default=50, help="questions (default: %(default)s)")
    add("--seed", type=int, default=0, help="which questions, and their order (default: %(default)s)")
    add("--batch", type=int, help="questions at a time (default: as when they were recorded)")
    add("--keep", action="store_true", help="write the result into the manifest of the recordings")

    add = command(plan, "say what recording a profile will cost, before it runs")
    add("--profile", default="tiny", help=name)
    add("--card", help="such as H100; an unknown one lists those that are known (default: A100 for vLLM, else CPU)")
    add("--artifacts", **artifacts)

    add = command(import_, "make a profile of rollouts that other programs recorded", rollout_options())
    add("--tier", nargs="+", default=[], metavar="SET=TIER", help="tiers of the question sets")
    add("--predictor", nargs="+", metavar="FILE", help="rollouts to train the predictor on (default: cross-fitted)")
    add("--predictor-model", metavar="MODEL", help="who wrote those (default: --model)")
    add("--folds", type=int, default=5, help="parts of the cross-fit (default: %(default)s)")
    share = "of the questions to set aside for the predictor (default: none, it is cross-fitted)"
    add("--hold-out", type=float, default=0.0, metavar="SHARE", help=share)
    add("--stream-size", type=int, metavar="N", help="queries of a stream (default: what they allow)")
    add("--parameters", type=int, help="weights of the model (default: by its name)")
    add("--force", action="store_true", help="replace an earlier import")
    add("--artifacts", **artifacts)

    add = command(replicate, "make a profile that simulates a study of the paper from its tables")
    add("name", choices=("replica-7b", "replica-30b"))
    add("--artifacts", **artifacts)

    add = command(readme, "write the table of claims and verdicts into a page, between its marks")
    add("page", type=Path)
    add("results", type=Path, help="folder with the tables of results of a profile: artifacts/NAME/results")

    add = command(bench, "print how fast things are beside named rivals: minutes")
    add("--size", choices=("full", "book", "small"), default="full", help="how much is measured (default: a million)")
    add("--large", action="store_true", help="the solvers also on ten times the queries")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line of the study."""
    return execute(_parser(), arguments)
