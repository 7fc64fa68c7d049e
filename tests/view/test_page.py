"""The page as text: what models say cannot end its block, and the policy names just the scripts that there are."""

import base64
import hashlib
import json
import re
from html import unescape
from pathlib import Path

import numpy as np
import pytest

import clew.view
from clew.view.page import Section, as_json, merged, page_of
from pages import BREAK, TEXTS

STATIC = Path(clew.view.__file__).parent / "static"


def blocks(html: str) -> dict[str, object]:
    """What the page's data blocks hold, by their ids."""
    found = re.findall(r'<script type="application/json" id="([^"]+)">(.*?)</script>', html, re.DOTALL)
    return {name: json.loads(text) for name, text in found}


def hashes(html: str, tag: str) -> set[str]:
    texts = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
    return {"sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts}


@pytest.mark.parametrize("text", TEXTS)
def test_json_holds_nothing_that_a_page_obeys(text: str) -> None:
    said = as_json({text: [text]})
    assert not re.search("[<>&\u2028\u2029]", said)
    clean = text.replace("\ud83d", "\ufffd")
    assert json.loads(said) == {clean: [clean]}


def test_json_of_numbers_and_arrays() -> None:
    value = {"a": float("nan"), 3: np.array([1.5, np.inf]), "b": (True, None, Path("x")), "c": np.float32(0.5)}
    assert json.loads(as_json(value)) == {"a": None, "3": [1.5, None], "b": [True, None, "x"], "c": 0.5}


def test_a_page_holds_its_data_and_a_policy_for_just_its_scripts() -> None:
    data = {"texts": [BREAK]}
    html = page_of([Section("split", BREAK, data), Section("train", "Training", {"runs": []})], BREAK)
    clean = BREAK.replace("\ud83d", "\ufffd")
    held = blocks(html)
    assert held["data-0"] == {"texts": [clean]} and held["page"]["title"] == clean  # type: ignore[index]
    assert [one["key"] for one in held["page"]["sections"]] == ["split", "train"]  # type: ignore[index]
    policy = unescape(re.search(r'Content-Security-Policy" content="([^"]+)"', html)[1])  # type: ignore[index]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == rules["connect-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert "unsafe" not in policy and rules["require-trusted-types-for"] == "'script'"
    for tag in ("script", "style"):
        assert {one.strip("'") for one in rules[f"{tag}-src"].split()} == hashes(html, tag) != set()
    assert html.count("<script") == html.count("</script>") == len(held) + len(hashes(html, "script"))
    served = page_of([], "t", stamp="s")
    assert "connect-src &#x27;self&#x27;" in served and blocks(served)["page"]["stamp"] == "s"  # type: ignore[index]


def test_a_page_has_the_scripts_of_its_kinds_alone() -> None:
    html = page_of([Section("train", "Training", {"runs": []})], "t")
    assert "clew.kinds.train =" in html and "clew.kinds.split =" not in html


def test_runs_of_one_kind_stand_side_by_side() -> None:
    one, two, other = (Section("split", t, {"runs": [n]}) for t, n in (("a", 1), ("a", 2), ("b", 3)))
    plain = Section("maze", "a", [4])
    assert merged([one, plain, two, other, plain]) == [Section("split", "a", {"runs": [1, 2]}), plain, other, plain]
    keys = [found["key"] for found in blocks(page_of([one, other], "t"))["page"]["sections"]]  # type: ignore[index]
    assert keys == ["split", "split-2"]


def test_scripts_are_short_and_can_stand_in_a_page() -> None:
    files = [file for file in STATIC.iterdir() if file.suffix in (".js", ".css")]
    assert len(files) > 10
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert text.count("\n") <= 400, file.name
        assert not re.search(r"</script|</style|<!--|\r|[\u2028\u2029]", text, re.IGNORECASE), file.name
        assert "innerHTML" not in text and "insertAdjacentHTML" not in text and "eval(" not in text, file.name
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), file.name
