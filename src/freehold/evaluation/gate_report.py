"""The gate's one page, in plain ASCII: what an approver reads before signing.

Every figure on it comes from the verdict's record, so the page and the signed digest cannot differ.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from freehold.evaluation.intervals import Interval
from freehold.evaluation.verdict import Comparison, GuardResult, Verdict, decimal, p_text

WIDTH = 96
MOST_FLIPS = 20


def render_report(verdict: Verdict) -> str:
    """Return the report as text, lines of at most 96 characters, ASCII only."""
    lines = [f"GATE {verdict.plan}: {verdict.outcome.upper()}", "=" * 60]
    lines += [f"  because  {reason.text} [{reason.code}]" for reason in verdict.reasons]
    if verdict.passed:
        lines.append(f"  then     {verdict.proposal}")
    if verdict.more_reviews:
        lines.append(f"  needs    about {verdict.more_reviews:,} more random reviews to settle it,")
        lines.append("           if the difference stays what was seen")
    if verdict.primary is not None:
        lines += ["", *_primary(verdict.primary)]
    lines += _guards(verdict) + _slices(verdict) + _strength(verdict) + _figures(verdict)
    if verdict.warnings:
        lines += ["", "WARNINGS", *(f"  - {warning}" for warning in verdict.warnings)]
    lines += ["", *_facts(verdict)]
    return "\n".join(_fit(lines)) + "\n"


def _primary(seen: Comparison) -> list[str]:
    unit = "cases" if seen.clusters == seen.n else f"cases in {seen.clusters} clusters"
    lines = [f"PRIMARY  {seen.suite}.{seen.metric}, {seen.want} is better, {seen.n} {unit}"]
    for name, arm in [("champion", seen.champion), ("candidate", seen.candidate)]:
        lines.append(f"  {name:<10} {decimal(arm.value)}  {_interval(arm.interval)}")
    lines += [
        f"  difference {_signed(seen.difference)}  {_interval(seen.interval)}",
        f"  margin     {seen.margin}",
        f"  p          better {p_text(seen.p_better)}, worse {p_text(seen.p_worse)} (one-sided)",
        f"  method     {seen.method}",
        f"  flips      {len(seen.wins)} wins, {len(seen.losses)} losses, {seen.ties} ties",
    ]
    for name, ids in [("wins", seen.wins), ("losses", seen.losses)]:
        if ids:
            lines.append(f"  {name:<10} {_listed(ids)}")
    return lines


def _guards(verdict: Verdict) -> list[str]:
    if not verdict.guards:
        return []
    return ["", "GUARDS (all must hold)", *(_guard(guard) for guard in verdict.guards)]


def _guard(guard: GuardResult) -> str:
    head = f"  {guard.standing:<8} {guard.name:<28}"
    if guard.comparison is None:
        ratio = "none" if guard.ratio is None else f"{guard.ratio:.4f}"
        return f"{head} ratio {ratio}, limit {guard.limit} (one run each, no interval)"
    seen = guard.comparison
    more = f", about {guard.more:,} more cases" if guard.more else ""
    return (
        f"{head} {_signed(seen.difference)} {_interval(seen.bound)}"
        f" margin {seen.margin} n {seen.n}{more}"
    )


def _slices(verdict: Verdict) -> list[str]:
    if not verdict.slices:
        return []
    lines = ["", "SLICES (broken: down by more than the margin, and significant after Holm)"]
    for part in verdict.slices:
        p_value = "" if part.p_holm is None else f" p {p_text(part.p_holm)}"
        name = f"{part.key} = {part.value}"
        lines.append(
            f"  {part.standing:<10} {name:<26} {_signed(part.difference)}"
            f" {_interval(part.bound)} n {part.n}{p_value}"
        )
    return lines


def _strength(verdict: Verdict) -> list[str]:
    lines = ["", "STRENGTH OF THE TEST"]
    if verdict.power is not None:
        power = verdict.power
        lines += [
            f"  power      {decimal(power.not_worse)} to show 'not worse' between equal models",
            f"  wanted     {power.wanted}",
            f"  detectable a true gain of {decimal(power.detectable)} or more",
        ]
    if verdict.noise is not None:
        noise = verdict.noise
        lines.append(
            f"  noise      champion against itself: {noise.changed} of {noise.n} cases changed"
            f" {_interval(noise.share)}, difference {_signed(noise.difference)}"
        )
    lines.append(f"  test set   used {verdict.test_uses} times")
    return lines


def _figures(verdict: Verdict) -> list[str]:
    if not verdict.figures:
        return []
    lines = ["", "FIGURES OF THE WHOLE RUN (no interval)"]
    lines += [
        f"  {name:<24} champion {first}  candidate {second}"
        for name, first, second in verdict.figures
    ]
    return lines


def _facts(verdict: Verdict) -> list[str]:
    lines = ["FACTS", *(f"  {name}: {value}" for name, value in verdict.facts.items())]
    if verdict.trained_by:
        names = ", ".join(verdict.trained_by)
        lines.append(f"  trained by: {names} (the approver must be somebody else)")
    return [*lines, f"  verdict: {verdict.digest}"]


def _interval(interval: Interval) -> str:
    share = f"{interval.confidence * 100:.4g}%"
    return f"[{decimal(interval.low)}, {decimal(interval.high)}] {share}"


def _signed(value: float) -> str:
    text = decimal(value)
    return text if text.startswith("-") or text == "none" else f"+{text}"


def _listed(ids: Sequence[str]) -> str:
    shown = " ".join(ids[:MOST_FLIPS])
    rest = len(ids) - MOST_FLIPS
    return shown if rest <= 0 else f"{shown} and {rest} more (all in the verdict's record)"


def _fit(lines: Iterable[str]) -> Iterable[str]:
    for line in lines:
        # Names come from users; anything outside ASCII is shown escaped, as a terminal may need.
        safe = line.encode("ascii", "backslashreplace").decode("ascii")
        printable = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in safe)
        indent = " " * (len(printable) - len(printable.lstrip()) + 11)
        yield from textwrap.wrap(
            printable, WIDTH, subsequent_indent=indent, drop_whitespace=True, break_on_hyphens=False
        ) or [""]
