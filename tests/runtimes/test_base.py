"""The seam itself: questions, names as words, and answers that cannot be lost or doubled."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal

import pytest

from freehold.errors import EngineError, InputError
from freehold.records.spaces import Choice, Labels, Number
from freehold.runtimes.base import (
    Execution,
    OptionText,
    Question,
    Scored,
    ScoredBatch,
    collect,
    humanise,
    question_from,
)
from freehold.runtimes.open import RuntimeSpec
from freehold.runtimes.secret import Secret


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("card_arrival", "card arrival"),
        ("cardArrival", "card arrival"),
        ("Refund_not_showing_up", "refund not showing up"),
        ("non-payment", "non payment"),
        ("URGENT", "URGENT"),
        ("-2.5..0", "-2.5..0"),
        ("C8H10N4O2", "C8H10N4O2"),
        ("___", "___"),
    ],
)
def test_names_become_words(name: str, words: str):
    assert humanise(name) == words


def test_a_space_asks_its_question():
    asked = question_from(Choice(("a_b", "c")), {"c": "the third letter"}, "Pick.")
    assert asked.options == (OptionText("a_b", "a b"), OptionText("c", "the third letter"))
    assert question_from(Labels(("x",))).kind == "labels"
    number = question_from(Number(Decimal("0"), Decimal("1"), bins=4))
    assert number.midpoints == (0.125, 0.375, 0.625, 0.875)
    assert (number.low, number.high, number.names[0]) == ("0", "1", "0..0.25")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Question("ranking", (OptionText("a"),)), "unknown kind of question 'ranking'"),
        (lambda: Question("choice", ()), "at least one option"),
        (lambda: Question("choice", (OptionText("a"),) * 2), "options repeat: a, a"),
        (lambda: Question("number", (OptionText("a"),)), "needs low, high and one option per bin"),
        (lambda: question_from(Choice(("a",)), {"b": "B"}), r"does not have: \['b'\]"),
        (lambda: RuntimeSpec("onnx"), "unknown runtime 'onnx'; known: transformers, classifier"),
        (
            lambda: RuntimeSpec("causal", options={"order": "2"}),
            "runtime causal: unknown option 'order'; known: .*orders",
        ),
    ],
)
def test_questions_and_specifications_that_mean_nothing_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize(
    ("positions", "message"),
    [([(0, 1), (1,)], "answered text 1 twice"), ([(0,)], "answered 1 of 3 texts")],
)
def test_a_scorer_that_loses_or_doubles_a_text_is_caught(positions, message):
    """Otherwise every later answer would stand on the wrong item."""
    execution = Execution("1x1", 1, "x", "float32", "cpu")
    batches = [ScoredBatch(p, tuple(Scored((1.0,)) for _ in p), execution) for p in positions]
    with pytest.raises(EngineError, match=message):
        collect(batches, 3)


def test_a_secret_does_not_print_itself():
    secret = Secret("sk-123")
    assert f"{secret} {secret!r} {[secret]}" == " ".join(
        ["Secret('**********')"] * 2 + ["[Secret('**********')]"]
    )
    assert secret.reveal() == "sk-123"


def test_importing_the_room_loads_no_torch_and_opens_no_socket():
    """Every module of runtimes and policy, in a fresh interpreter that forbids sockets."""
    code = """
import importlib, pkgutil, socket, sys
def forbidden(*args, **kwargs): raise SystemExit("a socket was opened")
socket.socket.__init__ = forbidden
import freehold.policy, freehold.runtimes
for room in (freehold.policy, freehold.runtimes):
    for module in pkgutil.iter_modules(room.__path__, room.__name__ + "."):
        importlib.import_module(module.name)
heavy = {"torch", "transformers", "peft", "tokenizers", "numpy", "sklearn", "safetensors"}
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.stderr, done.returncode) == ("[]", "", 0)
