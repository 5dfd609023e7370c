"""The stylesheet: tokens are complete, used, and readable in both themes."""

from __future__ import annotations

import re

import pytest
from tests.web.markup import parse
from tests.web.samples import BUSY, EMPTY

from mangaassist.web.pages import asset, render_status

CSS = asset("mangaassist.css").decode()


def tokens(theme: str) -> dict[str, str]:
    """Colour tokens of a theme; dark overrides light."""
    light, dark = CSS.split("@media screen and (prefers-color-scheme: dark)")
    dark = dark.split("\n}\n")[0]
    found = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", light))
    if theme == "dark":
        found.update(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", dark))
    return found


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2, definition of relative luminance)."""
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in channels]
    return sum(weight * one for weight, one in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(a: str, b: str) -> float:
    """Contrast ratio (WCAG 2.2)."""
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


TEXT = ("ink", "soft", "faint", "link", "pass", "fail", "rising", "unsure", "stale", "champion")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", TEXT)
def test_text_reads_on_every_ground_it_stands_on(theme: str, name: str) -> None:
    """Issue 2, 9: at least 4.5:1 (WCAG AA) on paper, on cards and on code blocks."""
    found = tokens(theme)
    for ground in ("paper", "surface"):
        assert contrast(found[name], found[ground]) >= 4.5, (name, ground)
    if name in ("ink", "soft"):
        for ground in ("sunken", "pass-tint", "rising-tint"):
            assert contrast(found["ink"], found[ground]) >= 4.5


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_marks_and_edges_are_visible(theme: str) -> None:
    """Issue 2, 9: focus rings, switches and pictures at 3:1 (WCAG 1.4.11)."""
    found = tokens(theme)
    for name in ("focus", "champion", "pass", "fail", "rising", "soft"):
        for ground in ("paper", "surface", "line"):
            assert contrast(found[name], found[ground]) >= 3, (name, ground)


def deuteranope(colour: str) -> tuple[float, float, float]:
    """Viénot, Brettel and Mollon (1999), Color Research and Application 24: reds and greens collapse."""
    red, green, blue = ((int(colour[start : start + 2], 16) / 255) ** 2.2 for start in (1, 3, 5))
    mixed = 0.29275 * red + 0.70725 * green
    return mixed, mixed, -0.02234 * red + 0.02234 * green + blue


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_pass_and_fail_differ_without_red_and_green(theme: str) -> None:
    """Issue 2, 9: for a red-green blind reader the two still differ in hue: one bluish, one yellowish."""
    found = tokens(theme)
    (_, green, blue), (_, yellow, low) = deuteranope(found["pass"]), deuteranope(found["fail"])
    assert blue / green > 1.5 * (low / yellow)


def test_every_token_is_defined_and_used() -> None:
    """Issue 2, 9: no colour outside the tokens, no token without a use, none used undefined."""
    defined = set(re.findall(r"^ +--([a-z0-9-]+):", CSS, re.MULTILINE))
    used = set(re.findall(r"var\(--([a-z0-9-]+)\)", CSS))
    assert used == defined
    rules = re.sub(r"--[a-z-]+: [^;]+;", "", CSS)
    assert re.findall(r"#[0-9a-fA-F]{3,8}\b|rgba?\(|hsla?\(", rules) == []


def test_every_class_in_the_templates_has_a_rule() -> None:
    """Issue 2, 9: nothing is styled by a class that does not exist."""
    names = {
        name
        for view in (BUSY, EMPTY)
        for node in parse(render_status(view)).walk()
        for name in node.attributes.get("class", "").split()
    }
    ruled = set(re.findall(r"\.([a-z_-][a-z0-9_-]*)", CSS))
    # "Ahead" is the plain look of a stage; its class is there for the sake of the others.
    assert names - ruled <= {"track__stage--ahead"}
