"""What all figures share."""

from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from clew.plots import BLUE, clip, rates, save
from pictures import size_of


@pytest.mark.parametrize("text", ["$x$", "$\\frac{", "\\$x\\$", "a$", "$$", "\\", "\x1b[31m\n\ud800\u202e", "é" * 99])
def test_text_is_shown_and_never_obeyed(tmp_path: Path, text: str) -> None:
    figure, axes = plt.subplots(figsize=(2, 1))
    title = axes.set_title(clip(text, 40))
    save(figure, tmp_path / "x.png")
    assert title._preprocess_math(title.get_text())[1] is False
    assert title._preprocess_math(title.get_text())[0].isprintable()
    assert size_of(tmp_path / "x.png")[0] > 100


def test_a_text_is_cut_at_so_many_characters() -> None:
    assert clip("abc", 3) == "abc" and clip("abcd", 3) == "ab…"
    assert clip("$" * 9, 3) == r"\$\$…"
    assert clip("a\nb", 3) == "a·b"


def test_intervals_stand_around_their_rates(tmp_path: Path) -> None:
    figure, axes = plt.subplots()
    found = [{"value": 0.5, "low": 0.25, "high": 0.875}, {"value": 1.0, "low": 0.5, "high": 1.0}]
    rates(axes, ["4x4", "5x5"], iter(found), BLUE, "model", 0)
    bars = axes.containers[0].lines[2][0].get_segments()
    assert [(bar[0][1], bar[1][1]) for bar in bars] == [(0.25, 0.875), (0.5, 1.0)]
    rates(axes, [], [], BLUE, "nobody", 1)
    save(figure, tmp_path / "x.png")
    assert not plt.get_fignums()
