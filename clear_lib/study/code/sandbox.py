"""A sandbox for code that a model wrote: bubblewrap, with no network, no files, one process, and limits.

A task counts as solved only when the judge (:mod:`clear_lib.study.code.inside`), in a sandbox of its own, saw every
assertion pass. The candidate gets the arguments of one call at a time through a pipe, and returns data: it can read no
test, reach no assertion, and write to nothing from which the verdict is read.

What this does not withstand: a flaw of the kernel or of bubblewrap, and code that knows the published answers by heart.
"""

import json
import os
import platform
import shutil
import signal
import struct
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, NamedTuple

INSIDE = Path(__file__).with_name("inside.py")

#: System calls that are refused: new processes and threads, tracing, namespaces, mounts, sockets, and the kernel's
#: less tested parts. Name, number on x86-64, number on aarch64.
REFUSED = """
    clone 56 220               fork 57 -                  vfork 58 -               clone3 435 435
    ptrace 101 117             process_vm_readv 310 270   process_vm_writev 311 271
    unshare 272 97             setns 308 268              mount 165 40             socket 41 198
    keyctl 250 219             bpf 321 280                userfaultfd 323 282      perf_event_open 298 241
    io_uring_setup 425 425
""".split()
_ARCHITECTURES = {"x86_64": (0xC000003E, REFUSED[1::3]), "aarch64": (0xC00000B7, REFUSED[2::3])}


class SandboxError(ValueError):
    """The sandbox cannot be made here, or did not work: nothing was run, or nothing is known of it."""


@dataclass(frozen=True)
class Limits:
    """Limits of a candidate; the judge has the same and as many seconds again."""

    memory: int = 2_000_000_000  #: bytes of address space
    seconds: int = 20  #: of the processor
    wall: float = 100.0  #: seconds until both are killed
    file: int = 16 << 20  #: bytes of a file, and of all files together


class Verdict(NamedTuple):
    """What the judge saw: parts of the tests that passed, and why others did not."""

    passed: Mapping[str, bool]
    reason: str


def seccomp(machine: str | None = None) -> bytes:
    """A filter (classic BPF) that refuses the calls of :data:`REFUSED` with EPERM, on this kind of machine."""
    machine = machine or platform.machine()
    if machine not in _ARCHITECTURES:
        raise SandboxError(f"no system call filter for {machine} machines; generated code runs on x86_64 and aarch64")
    audit, numbers = _ARCHITECTURES[machine]
    numbers = [int(each) for each in numbers if each != "-"]
    load, jump_equal, jump_above, give = 0x20, 0x15, 0x35, 0x06
    kill, refuse, allow = 0x80000000, 0x00050001, 0x7FFF0000
    n = len(numbers)
    rows = [(load, 0, 0, 4), (jump_equal, 1, 0, audit), (give, 0, 0, kill), (load, 0, 0, 0)]
    rows += [(jump_above, n + 1, 0, 0x40000000)]  # the x32 numbers of the same calls
    rows += [(jump_equal, n - k, 0, number) for k, number in enumerate(numbers)]
    rows += [(give, 0, 0, allow), (give, 0, 0, refuse)]
    return b"".join(struct.pack("<HBBI", *row) for row in rows)


def _command(limits: Limits, filter_file: int) -> list[str]:
    """bubblewrap, and Python in it, up to the name of the role; of installed packages, NumPy alone is there."""
    base = str(Path(sys.base_prefix).resolve())
    shown = [path for path in ("/usr", "/lib", "/lib64", base) if os.path.exists(path)]
    paths = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    paths |= {sysconfig.get_path(name, vars={"base": base, "platbase": base}) for name in ("purelib", "platlib")}
    paths |= {*Path("/usr/lib").glob("python3*/*-packages"), *Path("/usr/local/lib").glob("python3*/*-packages")}
    paths = sorted({Path(path).resolve() for path in paths if os.path.isdir(path)})
    hidden = [str(path) for path in paths if any(path.is_relative_to(each) for each in shown)]
    options = "--unshare-all --unshare-user --die-with-parent --new-session --clearenv --cap-drop ALL".split()
    for path in shown:
        options += ["--ro-bind", path, path]
    for path in hidden:
        options += ["--tmpfs", path, "--remount-ro", path]
    if numpy := find_spec("numpy"):
        for path in map(Path(numpy.origin).parents[1].joinpath, ("numpy", "numpy.libs")):
            options += ["--ro-bind-try", str(path), f"/packages/{path.name}"]
    options += ["--proc", "/proc", "--dev", "/dev", "--ro-bind", str(INSIDE), "/inside.py"]
    options += ["--size", str(limits.file), "--tmpfs", "/tmp", "--dir", "/home", "--chdir", "/tmp"]
    options += ["--remount-ro", "/dev", "--remount-ro", "/", "--seccomp", str(filter_file)]
    for name, value in {"HOME": "/home", "PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1"}.items():
        options += ["--setenv", name, value]
    python = str(Path(sys.executable).resolve())
    return [shutil.which("bwrap"), *options, "--", python, "-S", "-s", "-P", "-B", "/inside.py"]


@contextmanager
def _started(role: list[str | int], limits: Limits, **pipes: Any) -> Iterator[subprocess.Popen]:
    """A process in a sandbox of its own, killed with everything in it at the end."""
    with tempfile.TemporaryFile() as file:
        file.write(seccomp())
        file.seek(0)
        pipes["pass_fds"] = (*pipes.get("pass_fds", ()), file.fileno())
        command = [*_command(limits, file.fileno()), *map(str, role)]
        process = subprocess.Popen(command, env={}, cwd="/", start_new_session=True, **pipes)
    with process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def run_tests(code: str, job: Mapping[str, Any], limits: Limits = Limits()) -> Verdict:
    """Run a candidate against the tests of a job (:func:`clear_lib.study.code.tasks.job`), each in its sandbox."""
    check()
    return _judged({**job, "code": code}, limits)


def _judged(job: Mapping[str, Any], limits: Limits) -> Verdict:
    to_candidate, from_candidate = os.pipe(), os.pipe()
    candidates, judges = (to_candidate[0], from_candidate[1]), (from_candidate[0], to_candidate[1])
    candidate = ["candidate", limits.memory, limits.seconds, limits.file]
    judge = ["judge", 2 * limits.memory, 2 * limits.seconds, limits.file, *judges]
    ours, pipe = {*to_candidate, *from_candidate}, subprocess.PIPE
    try:
        with (
            tempfile.TemporaryFile() as errors,
            _started(candidate, limits, stdin=candidates[0], stdout=candidates[1], stderr=subprocess.DEVNULL),
            _started(judge, limits, stdin=pipe, stdout=pipe, stderr=errors, pass_fds=judges) as process,
        ):
            while ours:  # theirs now: an end of either is seen by the other
                os.close(ours.pop())
            return _verdict(process, job, limits, errors)
    finally:
        for each in ours:
            os.close(each)


def _verdict(judge: subprocess.Popen, job: Mapping[str, Any], limits: Limits, errors: IO[bytes]) -> Verdict:
    """What the judge writes until it ends or its time is over; parts of which it says nothing have not passed."""
    reason = ""
    try:
        written, _ = judge.communicate(json.dumps(job).encode(), limits.wall)
    except subprocess.TimeoutExpired as late:
        written, reason = late.output or b"", "wall clock"
    lines = [json.loads(line) for line in written.splitlines(keepends=True) if line.endswith(b"\n")]
    passed = dict.fromkeys(job["parts"], False) | {part: bool(right) for part, right, _ in lines}
    if not reason and len(lines) < len(job["parts"]) and all(right for _, right, _ in lines):
        if judge.returncode not in (-signal.SIGXCPU, 128 + signal.SIGXCPU, -signal.SIGKILL, 128 + signal.SIGKILL):
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip().splitlines() or ["nothing"]
            raise SandboxError(f"the judge ended with {judge.returncode} and said: {said[-1]}")
        reason = "processor time of the judge"
    return Verdict(passed, reason or next((why for _, right, why in lines if not right), ""))


@cache
def check() -> None:
    """Raise a ``SandboxError`` that says what to do, unless generated code can be run in a sandbox here."""
    if shutil.which("bwrap") is None:
        raise SandboxError(
            "generated code runs in bubblewrap only, and there is no `bwrap` here; on Debian or Ubuntu: "
            "apt-get install bubblewrap. Nothing was run."
        )
    job = {"entry_point": "f", "reference": "", "tolerance": 0, "parts": {"base": "assert f(1) == 2"}}
    try:
        working = _judged({**job, "code": "def f(x): return x + 1"}, Limits())
    except (OSError, SandboxError) as error:
        raise SandboxError(
            f"bubblewrap cannot make a sandbox here ({error}); it needs user namespaces (in a container: "
            f"--security-opt seccomp=unconfined or --privileged). Nothing was run."
        ) from None
    if not working.passed["base"]:
        raise SandboxError(f"the sandbox does not work here: {working.reason}. Nothing was run.")
