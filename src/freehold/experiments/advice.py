"""From intervals to a sentence: go on, review more, rent, or not worth it.

A pure function of what was measured. "Rent" and "not worth it" are answers like any other, and no
sentence promises what its interval does not hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from freehold.experiments.assessment import Advice, Against, ArmResult
from freehold.experiments.curve import Curve

FAR = 20
"""How many times the reviews there are may be needed to draw level, before it is better to rent."""

WORTHWHILE = 0.005
"""What the next hundred reviews must bring before more of them are advised: half a point."""


def advise(
    against: Sequence[Against], curve: Curve, incumbent: ArmResult | None, margin: Decimal
) -> tuple[Advice, tuple[str, ...]]:
    """Return the advice and the sentences that it rests on. `against` has the best arm first."""
    first = against[0]
    if incumbent is None:
        return _without_rival(first, curve)
    said = _compared(first, margin)
    if first.outcome == "better":
        return "go on", (said, "A model of your own is worth building.")
    if first.outcome == "not worse":
        reason = "Accuracy speaks neither for nor against: cost, privacy and ownership decide."
        return "go on", (said, reason)
    if first.outcome == "too close to call":
        return "review more", (said, _settling(first))
    return _behind(said, curve, incumbent)


def points(share: float, *, sign: bool = False, digits: int = 1) -> str:
    """Return a share in percentage points."""
    text = f"{100 * share:{'+' if sign else ''}.{digits}f}"
    if not text.strip("+-0."):
        return text.strip("+-")
    return text.replace("-", "−")


def _compared(one: Against, margin: Decimal) -> str:
    words = {
        "better": "beats the incumbent",
        "worse": "is worse than the incumbent",
        "not worse": f"is not worse than the incumbent, by the margin of {points(float(margin))}",
        "too close to call": "and the incumbent are too close to call",
    }
    return f"{_opening(one.arm)} {words[one.outcome]}: {_gap(one)} on {one.difference.n:,} rows."


def _gap(one: Against) -> str:
    seen = one.difference
    low, high = points(seen.interval.low, sign=True), points(seen.interval.high, sign=True)
    return f"{points(seen.estimate, sign=True)} points ({low} to {high})"


def _settling(one: Against) -> str:
    if one.more is None:
        return "No number of further reviews would settle it: the two are equally often right."
    more = _rounded(one.more)
    return f"About {more:,} more rows to judge on would settle it if that stays so (estimated)."


def _behind(said: str, curve: Curve, incumbent: ArmResult) -> tuple[Advice, tuple[str, ...]]:
    """Return whether more reviews would close the gap, or the incumbent should be kept."""
    line, rival = curve.line, incumbent.accuracy.value
    if line is None or rival is None or line.verdict != "gain":
        return "rent", (said, "The curve shows no gain from more reviews: keep what you have.")
    level = line.size_for(rival)
    if level is None or level > FAR * line.last:
        slow = f"The curve rises too slowly to draw level within {FAR} times the reviews there are"
        return "rent", (said, f"{slow} (estimated): keep what you have, or try a larger model.")
    if level <= line.last:
        return "review more", (said, "The curve is about to draw level: some more reviews decide.")
    ahead = f"The curve draws level at about {_rounded(level):,} reviews, against {line.last:,} now"
    return "review more", (said, f"{ahead} (estimated).")


def _without_rival(first: Against, curve: Curve) -> tuple[Advice, tuple[str, ...]]:
    if first.outcome == "too close to call":
        said = f"{_opening(first.arm)} and always answering the commonest label are too close"
        return "review more", (f"{said} to call: {_gap(first)}.", _settling(first))
    if first.outcome != "better":
        said = f"{_opening(first.arm)} learns nothing that always answering the commonest label"
        return "not worth it", (f"{said} would not give: {_gap(first)}.",)
    line = curve.line
    rising = line is not None and line.verdict == "gain" and line.next_gain >= WORTHWHILE
    return ("review more" if rising else "go on"), (
        f"There is something to learn: {first.arm} gains {_gap(first)} over the commonest label.",
        "Whether that beats what you have now, only the incumbent's answers in a column can tell.",
    )


def _rounded(count: int) -> int:
    """Return a count rounded up to two digits: an estimate has no more."""
    unit = int(10 ** max(0, len(str(count)) - 2))
    return -(-count // unit) * unit


def _opening(arm: str) -> str:
    return arm[:1].upper() + arm[1:]
