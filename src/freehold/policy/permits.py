"""Who may see what: data of a sensitivity may go to an engine in a zone, or it may not.

`authorize` is a pure function. Zones: ``local`` (this machine, or a host that the policy declares
local), ``region`` (a declared host under the same law), ``remote`` (every other host, loopback
included until declared: a loopback port may be a tunnel). Data that stays local needs no rule.
Everything else is denied unless a rule allows it, and without a policy file there is no rule.

``policies/policy.toml``::

    [[engine]]
    host = "127.0.0.1:8000"
    zone = "local"

    [[rule]]
    id = "public-to-the-provider"
    sensitivity = ["public"]
    zone = ["remote"]
    hosts = ["api.example.com:443"]     # optional: only these
"""

from __future__ import annotations

import tomllib
from dataclasses import InitVar, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from freehold.canonical.json import digest
from freehold.errors import InputError, PermitDenied, SettingsError

SENSITIVITIES = ("public", "internal", "confidential", "restricted")
ZONES = ("local", "region", "remote")
LOCAL_RULE = "local"

_SEAL = object()


@dataclass(frozen=True, slots=True)
class EngineZone:
    """An engine as the policy sees it: ``host:port`` (or ``in-process``) and its zone."""

    host: str
    zone: str

    def __post_init__(self) -> None:
        """Refuse an unknown zone."""
        if self.zone not in ZONES:
            raise SettingsError(f"unknown zone {self.zone!r}; known: {', '.join(ZONES)}")


IN_PROCESS = EngineZone("in-process", "local")


@dataclass(frozen=True, slots=True)
class Rule:
    """Allows data of some sensitivities into some zones; `hosts` narrows it where not empty."""

    id: str
    sensitivity: tuple[str, ...]
    zone: tuple[str, ...]
    hosts: tuple[str, ...] = ()

    def allows(self, sensitivity: str, engine: EngineZone) -> bool:
        """Whether this rule lets such data go to that engine."""
        right_host = not self.hosts or engine.host in self.hosts
        return sensitivity in self.sensitivity and engine.zone in self.zone and right_host


@dataclass(frozen=True, slots=True)
class Policy:
    """What a lab's people declared: engines with their zones, and rules that allow."""

    engines: tuple[EngineZone, ...] = ()
    rules: tuple[Rule, ...] = ()

    @property
    def digest(self) -> str:
        """The policy's identity, which every permit names."""
        return digest(
            {
                "engines": [{"host": one.host, "zone": one.zone} for one in self.engines],
                "rules": [
                    {
                        "id": rule.id,
                        "sensitivity": list(rule.sensitivity),
                        "zone": list(rule.zone),
                        "hosts": list(rule.hosts),
                    }
                    for rule in self.rules
                ],
            }
        )

    def engine(self, url: str) -> EngineZone:
        """Return the engine behind a URL: in its declared zone, else remote."""
        host = host_of(url)
        for declared in self.engines:
            if declared.host == host:
                return declared
        return EngineZone(host, "remote")


@dataclass(frozen=True, slots=True)
class Permit:
    """Proof that `authorize` said yes; a runtime that leaves the machine asks for one.

    Only `authorize` makes permits: the seal is no secret, but nobody passes it by accident.
    """

    policy: str
    rule: str
    sensitivity: str
    host: str
    zone: str
    seal: InitVar[object] = None

    def __post_init__(self, seal: object) -> None:
        """Refuse a permit that did not come from `authorize`."""
        if seal is not _SEAL:
            raise PermitDenied("permits are made by authorize() alone")

    def record(self) -> dict[str, Any]:
        """Return the form in which a decision's route holds it."""
        return {
            "policy": self.policy,
            "rule": self.rule,
            "sensitivity": self.sensitivity,
            "host": self.host,
            "zone": self.zone,
        }


def authorize(sensitivity: str, engine: EngineZone, policy: Policy) -> Permit:
    """Return a permit for data of a sensitivity to go to an engine, or raise PermitDenied."""
    if sensitivity not in SENSITIVITIES:
        raise PermitDenied(
            f"unknown sensitivity {sensitivity!r}; known: {', '.join(SENSITIVITIES)}",
            hint="Mark the data with a known sensitivity; unknown data goes nowhere.",
        )
    if engine.zone == "local":
        return Permit(policy.digest, LOCAL_RULE, sensitivity, engine.host, engine.zone, _SEAL)
    for rule in policy.rules:
        if rule.allows(sensitivity, engine):
            return Permit(policy.digest, rule.id, sensitivity, engine.host, engine.zone, _SEAL)
    raise PermitDenied(
        f"no rule lets {sensitivity} data go to {engine.host} ({engine.zone})",
        hint="Use a local model, or declare the engine or a rule in policies/policy.toml.",
        host=engine.host,
        zone=engine.zone,
        sensitivity=sensitivity,
    )


def host_of(url: str) -> str:
    """Return ``host:port`` of an http or https URL, in lower case; InputError for anything else."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError as error:
        raise InputError(f"{url!r} is not a URL: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(f"{url!r} is not an http or https URL")
    if parts.username is not None or parts.password is not None:
        raise InputError("a URL must not hold a user name or password; give the key separately")
    return f"{parts.hostname}:{port}"


def read_policy(path: Path) -> Policy:
    """Return the policy in a TOML file; a file that is not there is the default: nothing leaves.

    SettingsError names the file and the key: an unreadable policy stops the route, it never opens.
    """
    if not path.exists():
        return Policy()
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path} cannot be read: {error}") from error
    _known(document, {"engine", "rule"}, str(path))
    policy = Policy(
        tuple(_engine(one, f"{path}: engine {n}") for n, one in _tables(document, "engine", path)),
        tuple(_rule(one, f"{path}: rule {n}") for n, one in _tables(document, "rule", path)),
    )
    if policy == Policy():
        raise SettingsError(f"{path} is empty: state a rule or an engine, or remove the file")
    for listed, what in ((policy.engines, "host"), (policy.rules, "id")):
        names = [getattr(one, what) for one in listed]
        if len(set(names)) != len(names):
            raise SettingsError(f"{path}: a {what} stands there twice: {sorted(names)}")
    return policy


def _tables(document: dict[str, Any], key: str, path: Path) -> list[tuple[int, dict[str, Any]]]:
    tables = document.get(key, [])
    if not isinstance(tables, list) or not all(isinstance(one, dict) for one in tables):
        raise SettingsError(f"{path}: write [[{key}]], once for each")
    return list(enumerate(tables, start=1))


def _engine(table: dict[str, Any], where: str) -> EngineZone:
    _known(table, {"host", "zone"}, where)
    host, zone = table.get("host"), table.get("zone")
    if not isinstance(host, str) or ":" not in host:
        raise SettingsError(f"{where}: host must be 'name:port', got {host!r}")
    if zone not in ZONES:
        raise SettingsError(f"{where}: zone must be one of {', '.join(ZONES)}, got {zone!r}")
    return EngineZone(host.lower(), zone)


def _rule(table: dict[str, Any], where: str) -> Rule:
    _known(table, {"id", "sensitivity", "zone", "hosts"}, where)
    name = table.get("id")
    if not isinstance(name, str) or not name or name == LOCAL_RULE:
        raise SettingsError(f"{where}: id must be a name other than {LOCAL_RULE!r}, got {name!r}")
    hosts = _names(table.get("hosts", []), None, f"{where}: hosts")
    if "hosts" in table and not hosts:
        raise SettingsError(f"{where}: hosts is empty; leave it out to mean every host")
    return Rule(
        name,
        _names(table.get("sensitivity"), SENSITIVITIES, f"{where}: sensitivity"),
        _names(table.get("zone"), ZONES, f"{where}: zone"),
        tuple(host.lower() for host in hosts),
    )


def _names(value: Any, known: tuple[str, ...] | None, where: str) -> tuple[str, ...]:
    listed = value if isinstance(value, list) else None
    if listed is None or not all(isinstance(one, str) for one in listed):
        raise SettingsError(f"{where} must be a list of names, got {value!r}")
    unknown = sorted(set(listed) - set(known or listed))
    if unknown or (known and not listed):
        raise SettingsError(f"{where} must be some of {', '.join(known or ())}; got {listed}")
    return tuple(listed)


def _known(table: dict[str, Any], keys: set[str], where: str) -> None:
    unknown = sorted(set(table) - keys)
    if unknown:
        raise SettingsError(
            f"{where}: unknown key {unknown[0]!r}; known: {', '.join(sorted(keys))}"
        )
