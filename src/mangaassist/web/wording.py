"""Numbers, times and states as people read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from mangaassist.core.verdict import Status

# Every state has a word and an icon of its own shape; colour only repeats them.
STATUS_WORDS = {
    Status.PASS: ("Pass", "pass"),
    Status.FAIL: ("Fail", "fail"),
    Status.INSUFFICIENT: ("Too little data", "unsure"),
    Status.STALE: ("Stale", "stale"),
}
DRIFT_WORDS = {
    "fired": ("Fired", "fail"),
    "rising": ("Rising", "rising"),
    "quiet": ("Quiet", "pass"),
    "insufficient": ("Too little data", "unsure"),
}
VERSION_WORDS = {
    "champion": ("Champion", "champion"),
    "registered": ("Registered", "idle"),
    "shadow": ("Shadow", "trial"),
    "canary": ("Canary", "trial"),
    "retired": ("Retired", "idle"),
    "failed_promotion": ("Failed promotion", "fail"),
}
STAGE_WORDS = {"done": "done", "current": "in progress", "ahead": "not yet", "failed": "failed"}
LANGUAGES = {"en": ("English", ""), "ja": ("Japanese", "日本語"), "mixed": ("Mixed", "EN + 日本語")}
KINDS = {
    "input": ("Input", "what comes in"),
    "prediction": ("Prediction", "what the model answers"),
    "label": ("Label", "what turns out to be true"),
    "concept": ("Concept", "how often it is right"),
}
EXPERIMENT_WORDS = {
    "signing": ("Waiting for signatures", "stale"),
    "running": ("Running", "trial"),
    "paused": ("Paused", "rising"),
    "shipped": ("Shipped", "pass"),
    "stopped": ("Stopped", "idle"),
}
ACTION_WORDS = {
    "promote": ("Promote", "pass"),
    "hold": ("Hold", "unsure"),
    "roll_back": ("Roll back", "fail"),
    "refuse": ("Refused", "fail"),
}
ENDING_WORDS = {
    "taken": ("Taken", "idle"),
    "next": ("Next", "trial"),
    "ahead": ("Ahead", "idle"),
    "skipped": ("Skipped", "stale"),
    "cancelled": ("Not needed", "idle"),
}
AUDIT_WORDS = {
    Status.PASS: ("On target", "pass"),
    Status.FAIL: ("Off target", "fail"),
    Status.INSUFFICIENT: ("Cannot tell yet", "unsure"),
    Status.STALE: ("Stale", "stale"),
}
RULE_WORDS = {
    "harm": "vetoes when harm is shown",
    "safe": "must be shown to be safe",
    "ceiling": "holds a level under its limit",
    "cohort": "vetoes when a cohort is harmed",
}


def number(value: float | None) -> str:
    """Three significant places without scientific notation; a dash for None."""
    if value is None:
        return "–"
    size = abs(value)
    if 0 < size < 0.0005:
        return "<0.001" if value > 0 else ">−0.001"
    text = (
        f"{size:,.0f}"
        if size >= 100 or float(size).is_integer()
        else f"{size:.3f}"
        if size < 10
        else f"{size:.1f}"
    )
    return f"−{text}" if value < 0 else text


def percent(value: float | None) -> str:
    """One decimal; a dash for None."""
    return "–" if value is None else f"{value * 100:.1f}%"


def change(value: float | None) -> str:
    """A relative change with its sign: "+6.02%", "−1.4%" beyond ten percent; a dash for None."""
    if value is None:
        return "–"
    return f"{value * 100:+.{1 if abs(value) >= 0.1 else 2}f}%".replace("-", "−")


def points(value: float) -> str:
    """A difference of two shares in whole points: "+4", "−12", "0"."""
    whole = round(value * 100)
    return f"{whole:+d}".replace("-", "−") if whole else "0"


def signed(value: float | None) -> str:
    """A number that always carries its sign; a dash for None."""
    text = number(value)
    return f"+{text}" if value is not None and value > 0 else text


def p_value(value: float) -> str:
    """Three decimals where they matter."""
    if value < 0.001:
        return "<0.001"
    return f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def word(name: str) -> str:
    """A role or column as people write it: "applied_ml_engineer" reads "applied ml engineer"."""
    return name.replace("_", " ")


def share(value: float) -> str:
    """A share of traffic: whole percents where they are whole."""
    return f"{value * 100:.1f}".removesuffix(".0") + "%"


def lasting(span: timedelta) -> str:
    """The largest unit that fits: "45 s", "12 min", "5 h", "3 d"."""
    total = max(0.0, span.total_seconds())
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if total >= size:
            return f"{total // size:.0f} {unit}"
    return f"{total:.0f} s"


def ago(at: datetime, now: datetime) -> str:
    """Relative within two weeks ("5 h ago", "in 3 d"), a date beyond."""
    span = now - at
    if abs(span) >= timedelta(days=14):
        return day(at)
    if abs(span) < timedelta(seconds=1):
        return "now"
    return f"{lasting(span)} ago" if span > timedelta(0) else f"in {lasting(-span)}"


def counted(count: int, word: str) -> str:
    """ "1 entry", "1,204 entries"."""
    plural = f"{word[:-1]}ies" if word.endswith("y") else f"{word}s"
    return f"{count:,} {word if count == 1 else plural}"


def day(at: datetime) -> str:
    """ "3 Mar 2026"."""
    return f"{at.astimezone(UTC):%-d %b %Y}"


def clock_time(at: datetime) -> str:
    """ "3 Mar 2026, 14:05 UTC"."""
    return f"{at.astimezone(UTC):%-d %b %Y, %H:%M} UTC"
