"""Data goes where a rule lets it go, and nowhere else."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from freehold.errors import InputError, PermitDenied, SettingsError
from freehold.policy.permits import (
    IN_PROCESS,
    SENSITIVITIES,
    EngineZone,
    Permit,
    Policy,
    Rule,
    authorize,
    host_of,
    read_policy,
)

POLICY = Policy(
    engines=(EngineZone("127.0.0.1:8000", "local"), EngineZone("eu.example.org:443", "region")),
    rules=(
        Rule("public-anywhere", ("public",), ("region", "remote")),
        Rule("internal-to-one", ("internal",), ("region",), ("eu.example.org:443",)),
    ),
)
LOCAL, EU, FAR = "http://127.0.0.1:8000/v1", "https://EU.example.org/v1", "https://far.example/v1"

ALLOWED = [
    *((sensitivity, LOCAL, "local") for sensitivity in SENSITIVITIES),
    ("public", EU, "public-anywhere"),
    ("public", FAR, "public-anywhere"),
    ("internal", EU, "internal-to-one"),
]


@pytest.mark.parametrize(("sensitivity", "url", "rule"), ALLOWED)
def test_a_permit_names_the_rule_the_host_and_the_policy(sensitivity, url, rule):
    permit = authorize(sensitivity, POLICY.engine(url), POLICY)
    assert permit.record() == {
        "policy": POLICY.digest,
        "rule": rule,
        "sensitivity": sensitivity,
        "host": host_of(url),
        "zone": POLICY.engine(url).zone,
    }


DENIED = [
    (sensitivity, url)
    for sensitivity in SENSITIVITIES
    for url in (EU, FAR)
    if (sensitivity, url) not in {(one[0], one[1]) for one in ALLOWED}
]


@pytest.mark.parametrize(("sensitivity", "url"), DENIED)
def test_what_no_rule_allows_is_denied(sensitivity, url):
    with pytest.raises(PermitDenied, match=f"no rule lets {sensitivity} data go to "):
        authorize(sensitivity, POLICY.engine(url), POLICY)


def test_without_a_policy_everything_local_goes_and_nothing_remote(tmp_path: Path):
    """Loopback is not local until declared: the port may be a tunnel to a provider."""
    policy = read_policy(tmp_path / "policy.toml")
    for sensitivity in SENSITIVITIES:
        assert authorize(sensitivity, IN_PROCESS, policy).rule == "local"
        for url in (LOCAL, FAR):
            with pytest.raises(PermitDenied, match=r"\(remote\)"):
                authorize(sensitivity, policy.engine(url), policy)


def test_unknown_sensitivity_goes_nowhere():
    with pytest.raises(PermitDenied, match="unknown sensitivity 'secret'"):
        authorize("secret", IN_PROCESS, POLICY)


def test_a_permit_is_not_made_by_hand():
    permit = authorize("public", IN_PROCESS, POLICY)
    with pytest.raises(PermitDenied, match=r"made by authorize\(\) alone"):
        Permit(permit.policy, permit.rule, "restricted", "far.example:443", "remote")
    with pytest.raises((PermitDenied, ValueError, TypeError)):
        dataclasses.replace(permit, host="far.example:443")


WRITTEN = """
[[engine]]
host = "127.0.0.1:8000"
zone = "local"
[[engine]]
host = "EU.example.org:443"
zone = "region"
[[rule]]
id = "public-anywhere"
sensitivity = ["public"]
zone = ["region", "remote"]
[[rule]]
id = "internal-to-one"
sensitivity = ["internal"]
zone = ["region"]
hosts = ["eu.example.org:443"]
"""


def test_a_policy_file_is_the_policy(tmp_path: Path):
    path = tmp_path / "policy.toml"
    path.write_text(WRITTEN)
    assert read_policy(path) == POLICY
    assert read_policy(path).digest == POLICY.digest != Policy().digest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty: state a rule or an engine"),
        ("[[rule]", "cannot be read"),
        ("allow = true", "unknown key 'allow'; known: engine, rule"),
        ("rule = 3", r"write \[\[rule\]\], once for each"),
        ('[[rule]]\nid = "a"\nzone = ["local"]', "rule 1: sensitivity must be a list of names"),
        ('[[rule]]\nid = "local"', "id must be a name other than 'local'"),
        (
            '[[rule]]\nid = "a"\nsensitivity = ["public", "secret"]\nzone = ["remote"]',
            "rule 1: sensitivity must be some of public, internal",
        ),
        ('[[rule]]\nid = "a"\nsensitivity = []\nzone = ["remote"]', "sensitivity must be some of"),
        (
            '[[rule]]\nid = "a"\nsensitivity = ["public"]\nzone = ["remote"]\nhosts = []',
            "hosts is empty; leave it out to mean every host",
        ),
        ('[[rule]]\nid = "a"\nhost = "b"', "rule 1: unknown key 'host'"),
        ('[[engine]]\nhost = "example.org"\nzone = "local"', "host must be 'name:port'"),
        ('[[engine]]\nhost = "a:1"\nzone = "near"', "zone must be one of local, region, remote"),
        ('[[engine]]\nhost = "a:1"\nzone = "local"\n' * 2, "a host stands there twice"),
    ],
)
def test_a_bad_policy_stops_the_route(tmp_path: Path, text: str, message: str):
    path = tmp_path / "policy.toml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=message):
        read_policy(path)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://a/b", "not an http or https URL"),
        ("example.org", "not an http or https URL"),
        ("http://a:99999/", "is not a URL"),
        ("https://key@example.org/v1", "must not hold a user name or password"),
    ],
)
def test_urls_that_name_no_host_are_refused(url: str, message: str):
    with pytest.raises(InputError, match=message):
        host_of(url)
