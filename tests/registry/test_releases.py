"""What serves, since when and on whose word; and what does not get there."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from freehold.canonical.json import encode_text
from freehold.errors import (
    Conflict,
    GateRefused,
    InputError,
    IntegrityError,
    LicenceRefused,
    NotFound,
)
from freehold.evidence.entries import Entry
from freehold.evidence.verification import verify_lab
from freehold.lab import open_lab
from freehold.lab.schema import licence_records
from freehold.models.intake import get_model
from freehold.records.ids import new_id
from freehold.registry.parity import compare_evaluations, only_versions_differ
from freehold.registry.releases import (
    Release,
    current_release,
    promote,
    releases,
    requalify,
    rollback,
)
from registry_desk import Desk


def promoted(desk: Desk, name: str, champion: str | None = None) -> Release:
    """A candidate of this name, judged, approved and promoted."""
    candidate = desk.bench.candidate(name)
    desk.approved(candidate, champion)
    return promote(desk.lab, candidate, task="support", actor=desk.actor, reason=f"use {name}")


def test_the_time_line(either_desk: Desk) -> None:
    desk = either_desk
    desk.plan()
    poor = desk.bench.candidate("poor", ("loan",))
    a, b, c = promoted(desk, "a", poor), promoted(desk, "b"), promoted(desk, "c")
    assert [one.number for one in (a, b, c)] == [1, 2, 3]
    back = rollback(desk.lab, "support", approver="Dana", reason="c invents refunds")
    assert (back.number, back.kind, back.candidate_id) == (4, "rollback", b.candidate_id)
    assert (back.verdict_id, back.approval_id) == (b.verdict_id, b.approval_id)
    further = rollback(desk.lab, "support", approver="Dana", reason="b as well")
    assert further.candidate_id == a.candidate_id
    with pytest.raises(GateRefused, match="no earlier release of support to return to"):
        rollback(desk.lab, "support", approver="Dana", reason="and a")
    forth = rollback(desk.lab, "support", approver="Dana", reason="it was the network", to=3)
    assert forth.candidate_id == c.candidate_id
    line = releases(desk.lab, "support")
    assert [one.served_to for one in line] == [*(one.served_from for one in line[1:]), None]
    with desk.lab.reading() as connection:
        assert current_release(connection, "support") == line[-1] == forth
        assert current_release(connection, "other") is None
    assert verify_lab(desk.lab).faults == ()


def test_what_is_not_promoted(desk: Desk) -> None:
    desk.plan()
    good, poor = desk.bench.candidate("good"), desk.bench.candidate("poor", ("loan",))

    def go(candidate: str = good, task: str = "support", reason: str = "x") -> Release:
        return promote(desk.lab, candidate, task=task, actor=desk.actor, reason=reason)

    with pytest.raises(InputError, match="needs a reason"):
        go(reason="")
    with pytest.raises(NotFound, match="no candidate 'sha256:0'"):
        go("sha256:0")
    with pytest.raises(Conflict, match="is of task support"):
        go(task="other")
    with pytest.raises(GateRefused, match="was never judged for support"):
        go()
    desk.judged(poor, good)
    with pytest.raises(GateRefused, match="the latest verdict is 'worse': correct: the interval"):
        go(poor)
    verdict = desk.judged(good, poor)
    with pytest.raises(GateRefused, match=f"nobody has approved verdict {verdict.verdict_id}"):
        go()
    desk.approved(good, poor)
    desk.judged(good, poor)
    with pytest.raises(GateRefused, match="nobody has approved"):  # an older verdict is no help
        go()
    desk.approved(good, poor)
    go()
    with pytest.raises(Conflict, match="serves support already, as release 1"):
        go()


def test_what_is_not_rolled_back(desk: Desk) -> None:
    desk.plan()
    poor = desk.bench.candidate("poor", ("loan",))
    with pytest.raises(GateRefused, match="no earlier release"):
        rollback(desk.lab, "support", approver="Dana", reason="x")
    promoted(desk, "a", poor)
    promoted(desk, "b")
    with pytest.raises(InputError, match="needs a reason"):
        rollback(desk.lab, "support", approver="Dana", reason="")
    with pytest.raises(NotFound, match="no person 'Nobody'"):
        rollback(desk.lab, "support", approver="Nobody", reason="x")
    with pytest.raises(GateRefused, match="ines is no approver"):
        rollback(desk.lab, "support", approver="ines", reason="x")
    with pytest.raises(NotFound, match="support has no release 9"):
        rollback(desk.lab, "support", approver="Dana", reason="x", to=9)
    with pytest.raises(Conflict, match="serves support already, as release 2"):
        rollback(desk.lab, "support", approver="Dana", reason="x", to=2)
    assert len(releases(desk.lab, "support")) == 2


def test_a_model_that_changed_or_may_not_be_used_does_not_serve(desk: Desk) -> None:
    desk.plan()
    poor = desk.bench.candidate("poor", ("loan",))
    a = promoted(desk, "a", poor)
    b = desk.bench.candidate("b")
    desk.approved(b)
    model = get_model(desk.lab, "b")
    with desk.lab.writing() as connection:
        blocked = {"licence_id": new_id("lic"), "model_digest": model.digest, "verdict": "block"}
        blocked |= {"statements": "{}", "terms": "[]", "facts": "{}", "duties": "[]"}
        entry = Entry(desk.lab, connection, "licence.recorded", desk.actor)
        blocked |= {"reasons": encode_text(["withdrawn by its owner"]), "created_by": desk.actor}
        entry.insert(licence_records, blocked | {"created_at": entry.at})
        entry.close()
    with pytest.raises(LicenceRefused, match="withdrawn by its owner"):
        promote(desk.lab, b, task="support", actor=desk.actor, reason="x")
    with pytest.raises(LicenceRefused, match="model b is blocked by its terms"):
        desk.bench.registered("b")
    c = promoted(desk, "c")
    stored = desk.lab.objects.path(f"sha256:{get_model(desk.lab, 'a').manifest.files[0].sha256}")
    stored.chmod(0o644)
    stored.write_bytes(stored.read_bytes() + b"\n")
    with pytest.raises(IntegrityError, match=r"model a: changed on the disk: scripted\.toml"):
        rollback(desk.lab, "support", approver="Dana", reason="x", to=a.number)
    assert releases(desk.lab, "support")[-1] == c


def test_two_promotions_at_once_get_a_number_each(either_desk: Desk) -> None:
    desk = either_desk
    desk.plan()
    poor = desk.bench.candidate("poor", ("loan",))
    names = [desk.bench.candidate(f"m{n}") for n in range(4)]
    for one in names:
        desk.approved(one, poor)

    def go(candidate: str) -> int:
        with open_lab(desk.lab.root) as own:
            made = promote(own, candidate, task="support", actor=desk.actor, reason="x")
        return made.number

    with ThreadPoolExecutor(4) as pool:
        numbers = list(pool.map(go, names))
    assert sorted(numbers) == [1, 2, 3, 4]
    line = releases(desk.lab, "support")
    assert {one.candidate_id: one.number for one in line} == dict(zip(names, numbers, strict=True))
    assert verify_lab(desk.lab).faults == ()


KILLED = """
import os, sys
from freehold.evidence import entries
from freehold.lab import open_lab
from freehold.registry.releases import promote
root, candidate, after = sys.argv[1:]
real = entries.append_all
def dying(connection, listed):
    if after == "entry":
        real(connection, listed)
    os._exit(9)
entries.append_all = dying
with open_lab(root) as lab:
    promote(lab, candidate, task="support", actor="prs_x", reason="x")
"""


@pytest.mark.parametrize("after", ["row", "entry"])
def test_a_kill_between_row_and_entry_leaves_neither(desk: Desk, after: str) -> None:
    desk.plan()
    good, poor = desk.bench.candidate("good"), desk.bench.candidate("poor", ("loan",))
    desk.approved(good, poor)
    command = [sys.executable, "-c", KILLED, str(desk.lab.root), good, after]
    assert subprocess.run(command, check=False).returncode == 9
    assert releases(desk.lab, "support") == []
    assert verify_lab(desk.lab).faults == ()
    assert promote(desk.lab, good, task="support", actor=desk.actor, reason="x").number == 1


def test_an_upgrade_of_libraries_is_requalified(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.plan()
    poor = desk.bench.candidate("poor", ("loan",))

    def go(candidate: str) -> Release:
        return requalify(
            desk.lab,
            candidate,
            task="support",
            suite="desk-test",
            actor=desk.actor,
            reason="new version",
        )

    with pytest.raises(GateRefused, match="no release serves support"):
        go(poor)
    with monkeypatch.context() as before:
        before.setattr("freehold.tasks.candidates.__version__", "0.0.9")
        serving = promoted(desk, "a", desk.bench.candidate("old-poor", ("loan",)))
    with pytest.raises(GateRefused, match=r"more than versions: model, runtime\.script"):
        go(desk.bench.candidate("b"))
    upgraded = desk.bench.registered("a")
    assert upgraded != serving.candidate_id
    release = go(upgraded)
    assert (release.number, release.kind, release.candidate_id) == (2, "requalify", upgraded)
    assert release.approval_id == serving.approval_id
    assert verify_lab(desk.lab).faults == ()


def test_an_upgrade_that_answers_otherwise_is_refused(desk: Desk) -> None:
    good, poor = desk.bench.candidate("good"), desk.bench.candidate("poor", ("loan",))
    after = desk.evaluated(good)
    with pytest.raises(GateRefused, match="was not evaluated on this suite before the upgrade"):
        compare_evaluations(desk.lab, poor, after)
    desk.evaluated(poor)
    with pytest.raises(GateRefused, match=r"\d+ of 60 answers changed, probabilities by"):
        compare_evaluations(desk.lab, poor, after)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"model": "sha256:1"}, "model"),
        ({"thresholds": {"labels": "0.7"}}, "thresholds"),
        ({"runtime": {"form": "scripted", "options": {"a": "b"}, "described": {}}}, "options"),
        (
            {"runtime": {"form": "scripted", "options": {}, "described": {"script": "other"}}},
            r"runtime\.script",
        ),
    ],
)
def test_what_is_more_than_an_upgrade(change: dict[str, object], match: str) -> None:
    old = {"model": "sha256:0", "thresholds": {}, "freehold": "1", "fingerprint": {"a": 1}}
    old |= {"runtime": {"form": "scripted", "options": {}, "described": {"libraries": {"n": "1"}}}}
    newer = {"runtime": {**old["runtime"], "described": {"libraries": {"n": "2"}}}}  # type: ignore[dict-item]
    only_versions_differ(old, old | newer | {"freehold": "2", "fingerprint": {"a": 2}})
    with pytest.raises(GateRefused, match=match):
        only_versions_differ(old, old | change)
