"""What runs inside the sandbox: the candidate, and the judge that calls it. Standard library only; it is run as a file.

The judge holds the tests and the candidate holds the code of the model, in two sandboxes that share nothing but two
pipes. The candidate receives the arguments of one call after another and returns values; it never sees a test or an
expected result. Only plain values cross, rebuilt from JSON, so no method of the candidate is run by the judge.
"""

import copy
import json
import os
import resource
import sys
from decimal import Decimal
from fractions import Fraction
from numbers import Number

LARGEST = 16 << 20  # message, bytes

#: Functions of MBPP whose results are compared as sets, or only as found and not found, as EvalPlus does.
AS_SETS = {"similar_elements", "find_char_long", "common_in_nested_lists", "extract_singly", "larg_nnum"}
AS_SETS |= {"intersection_array", "find_dissimilar", "Diff"}
FOUND_OR_NOT = {"check_str", "text_match_three", "text_starta_endb"}


class CandidateError(BaseException):
    """The candidate raised, ended or broke the protocol. No test catches it, and no loop takes it for an end."""


class TaskError(BaseException):
    """Nothing is known of the candidate: its sandbox did not start, or the published solution failed at an input."""


class Opaque:
    """Stands for a value that cannot cross, such as a match or a generator; equal to nothing."""


_SEQUENCES = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}
_SCALARS = {"Fraction": Fraction, "Decimal": Decimal, "bytes": bytes.fromhex, "complex": lambda parts: complex(*parts)}


def encode(value):
    """A value as JSON; a subclass counts as the plain type that it extends."""
    if hasattr(value, "dtype") and hasattr(value, "item") and getattr(value, "shape", None) == ():
        value = value.item()  # a NumPy scalar
    if value is None or isinstance(value, bool):
        return value
    for kind, plain in ((str, str.__str__), (int, int.__int__), (float, float.__float__)):
        if isinstance(value, kind):
            return plain(value)
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    if isinstance(value, (Fraction, Decimal)):
        return {type(value).__name__: str(value)}
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, dict):
        return {"dict": [[encode(key), encode(each)] for key, each in value.items()]}
    for name, kind in _SEQUENCES.items():
        if isinstance(value, kind):
            return {name: [encode(each) for each in value]}
    return {"opaque": type(value).__name__}


def decode(value):
    """The value that :func:`encode` wrote."""
    if not isinstance(value, dict):
        return value
    ((name, content),) = value.items()
    if name == "dict":
        return {decode(key): decode(each) for key, each in content}
    if name in _SEQUENCES:
        return _SEQUENCES[name](decode(each) for each in content)
    return _SCALARS[name](content) if name in _SCALARS else Opaque()


class Channel:
    """Messages, one JSON text a line, over two file descriptors."""

    def __init__(self, read, write):
        self._read, self._write = os.fdopen(read, "rb"), os.fdopen(write, "wb")

    def send(self, message):
        self._write.write(json.dumps(message).encode() + b"\n")
        self._write.flush()

    def receive(self):
        line = self._read.readline(LARGEST + 1)
        if not line.endswith(b"\n"):
            raise EOFError("no message, or one that is too long")
        return json.loads(line)


def _keep(descriptor):
    """A copy of a standard descriptor, which then leads nowhere: what is printed does not mix with messages."""
    kept, nowhere = os.dup(descriptor), os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, descriptor)
    return kept


def _limit(memory, seconds, file):
    """Limits that this process cannot raise again: bytes of memory, processor seconds, bytes of a file."""
    for name, most in (("AS", memory), ("CPU", seconds), ("FSIZE", file), ("CORE", 0), ("NOFILE", 64), ("NPROC", 64)):
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (most, most))
    sys.set_int_max_str_digits(0)


def candidate():
    """Run the model's code, then answer calls of its function until there are no more."""
    channel = Channel(_keep(0), _keep(1))
    channel.send("started")
    job, namespace = channel.receive(), {"__name__": "candidate"}
    try:
        exec(compile(job["code"], "<candidate>", "exec"), namespace)
        function = namespace[job["entry_point"]]
        channel.send(["returned", None])
    except BaseException as error:
        channel.send(["raised", type(error).__name__])
        return
    while True:
        try:
            arguments, keywords = decode(channel.receive())
        except EOFError:
            return
        try:
            answer = ["returned", encode(function(*arguments, **keywords))]
        except BaseException as error:
            answer = ["raised", type(error).__name__]
        channel.send(answer)


class Remote:
    """The candidate's function, as the tests call it. Once it has failed it has failed for good."""

    def __init__(self, channel, code, entry_point):
        self._channel, self.failure = channel, None
        try:
            channel.receive()
        except EOFError:
            raise TaskError("the candidate's sandbox did not start") from None
        self._call({"code": code, "entry_point": entry_point})

    def __call__(self, *arguments, **keywords):
        return self._call(encode([arguments, keywords]))

    def _call(self, message):
        if self.failure is None:
            try:
                self._channel.send(message)
                kind, value = self._channel.receive()
                if kind == "returned":
                    return decode(value)
                self.failure = f"raised {value}"
            except Exception as error:  # whatever the candidate sends, or that it ends
                self.failure = f"ended, or returned no value ({type(error).__name__})"
        raise CandidateError(self.failure)


def equal(found, expected, tolerance, name):
    """Whether a result is the expected one: floats within a tolerance, and some functions of MBPP as EvalPlus does."""
    if name in FOUND_OR_NOT:
        found, expected = (each if isinstance(each, bool) else each is not None for each in (found, expected))
    if found == expected:
        return True
    if name in AS_SETS:
        return set(found) == set(expected)
    rows = expected if isinstance(expected, (list, tuple)) else [expected]
    if tolerance == 0 and all(isinstance(each, float) for each in rows):
        tolerance = 1e-6
    return tolerance != 0 and _close(found, expected, tolerance)


def _close(found, expected, tolerance):
    """Whether numbers, alone or in sequences of the same shape, are within a tolerance."""
    if isinstance(expected, (list, tuple)):
        same = isinstance(found, (list, tuple)) and len(found) == len(expected)
        return same and all(_close(*pair, tolerance) for pair in zip(found, expected, strict=True))
    if found == expected or not (isinstance(found, Number) and isinstance(expected, Number)):
        return found == expected
    return abs(found - expected) <= tolerance + 1e-7 * abs(expected) or (found != found and expected != expected)


def _run(test, remote, job, reference):
    """Run a test; it passed if this returns."""
    name = job["entry_point"]
    if isinstance(test, str):  # the code of a `check(candidate)`, or assertions that call the function by its name
        namespace = {**reference, name: remote}
        exec(compile(test, "<test>", "exec"), namespace)
        if "check" in namespace:
            namespace["check"](remote)
        return
    for arguments in map(decode, test):
        try:
            expected = reference[name](*copy.deepcopy(arguments))
        except Exception as error:
            raise TaskError(f"{name}{tuple(arguments)!r:.80}: {type(error).__name__} {error}") from None
        found = remote(*arguments)
        if name == "find_zero":  # any root is right
            assert abs(reference["poly"](*arguments, found)) <= max(job["tolerance"], 1e-4)
        else:
            assert equal(found, expected, job["tolerance"], name)


def judge(read, write):
    """Run the tests of a job, and write one line for each part: its name, whether it passed, and why not."""
    jobs, verdicts = _keep(0), os.fdopen(_keep(1), "w")
    with os.fdopen(jobs) as file:
        job = json.load(file)
    reference = {"__name__": "reference"}
    exec(compile(job["reference"], "<reference>", "exec"), reference)
    remote = reason = None
    for part, test in job["parts"].items():
        try:
            remote = remote or Remote(Channel(read, write), job["code"], job["entry_point"])
            _run(test, remote, job, reference)
            reason = remote.failure
        except (Exception, CandidateError) as error:
            reason = f"{type(error).__name__} {error}".strip()
        print(json.dumps([part, reason is None, (reason or "")[:200]]), file=verdicts, flush=True)
        if reason:
            break


if __name__ == "__main__":
    _limit(*map(int, sys.argv[2:5]))
    sys.path.append("/packages")
    candidate() if sys.argv[1] == "candidate" else judge(*map(int, sys.argv[5:7]))
