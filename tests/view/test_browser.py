"""Every kind of section in a real browser, from disk and served: clicked through, with texts that must not run."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any
from xml.etree import ElementTree

import pytest

from clew.runs.rollouts import write_rollouts
from clew.text import with_interval
from clew.view.build import ViewOptions, page_sections
from clew.view.live import Live
from clew.view.page import Section, page_of
from clew.view.serve import Server
from pages import (
    IMAGE,
    MAZE,
    SCRIPT,
    WALK,
    audit_folder,
    question,
    reading_folder,
    split_folder,
    study_folder,
    train_folder,
)

MAKERS: dict[str, Callable[[Path], Path]] = {
    "split": split_folder,
    "train": train_folder,
    "reading": reading_folder,
    "audit": audit_folder,
    "study": study_folder,
}
PARTS = ("summary", "patching", "heads", "tables")


def written(folder: Path, *paths: Path) -> str:
    """The address of a page of these paths, in a file whose name is written to be run too."""
    names = [str(path) for path in paths]
    file = folder / f"{IMAGE}.html"
    file.write_text(page_of(page_sections(names, ViewOptions()).sections, " · ".join(names)), encoding="utf-8")
    return file.as_uri()


def everything(folder: Path) -> Path:
    """One folder that is all kinds at once but for a training."""
    for kind in ("split", "reading", "audit", "study"):
        MAKERS[kind](folder)
    return folder


def press_all(page: Any) -> None:
    """Every button, choice, fold and slider of the open section, each once."""
    for place in range(page.locator("main select").count()):
        for option in range(page.locator("main select").nth(place).locator("option").count()):
            page.locator("main select").nth(place).select_option(index=option)
    for place in range(page.locator("main button:visible").count()):
        button = page.locator("main button:visible").nth(place)
        if button.count() and button.inner_text() not in ("SVG", "CSV"):
            button.click()
    for summary in page.locator("main summary").all()[:9]:
        summary.click()
    for search in page.locator("main input[type=search]").all():
        search.fill("hacked")
        search.fill("")
    for key in ("ArrowLeft", "ArrowRight", "ArrowDown", "ArrowUp", "f", "Home"):
        page.keyboard.press(key)


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("runs", [1, 2])
def test_every_kind_from_disk(page: Any, tmp_path: Path, hostile: Path, kind: str, runs: int) -> None:
    folders = [hostile / f"{i}{SCRIPT.replace('/', '')}" for i in range(runs)]
    for folder in folders:
        folder.mkdir()
        MAKERS[kind](folder)
    page.goto(written(tmp_path, *folders))
    assert page.locator("h1").inner_text().count(IMAGE) == runs
    page.locator(f"main .{kind}").wait_for()
    page.locator("main svg").first.wait_for(state="attached")
    assert page.locator("main img, main iframe, main script").count() == 0
    press_all(page)
    for tab in page.get_by_role("tab").all():
        if tab.is_visible():
            tab.click()
    assert page.locator("script").count() == page.evaluate("document.scripts.length")


def test_nothing_needs_more_than_400_pixels(page: Any, tmp_path: Path, hostile: Path) -> None:
    page.set_viewport_size({"width": 400, "height": 800})
    (tmp_path / "train").mkdir()
    for address in (written(hostile, everything(hostile)), written(tmp_path, train_folder(tmp_path / "train"))):
        page.goto(address)
        for place in range(page.get_by_role("tab").count()):
            page.get_by_role("tab").nth(place).evaluate("tab => tab.click()")
            page.wait_for_timeout(50)
            for part in PARTS if page.locator("main .reading").count() else ("",):
                if part:
                    page.evaluate(f"location.hash = 'tab=reading&reading.part={part}'")
                    page.wait_for_timeout(100)
                wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
                assert page.evaluate(wide) <= 0, (address, place, part)


def test_a_tree_shows_all_that_was_said_and_worth(page: Any, tmp_path: Path) -> None:
    page.goto(written(tmp_path, split_folder(tmp_path)) + "#split.round=2&split.question=4")
    tree = page.locator(".tree")
    assert "question 4" in tree.locator(".asked").inner_text() and f"{SCRIPT} What is 2?" in tree.inner_text()
    assert tree.locator(".branch").count() == 6 and tree.locator(".leaf").count() == 36
    first = tree.locator(".branch").first
    assert SCRIPT in first.locator(".thought").inner_text() and "−1.000" in first.inner_text()
    assert f"grader {IMAGE}" in first.locator(".pill.grader").first.inner_text()
    assert f"monitor {SCRIPT}" in first.locator(".pill.monitor").first.inner_text()
    assert all(f"⟨U+{code}⟩" in tree.inner_text() for code in ("2028", "202E", "E0041", "0000"))
    first.get_by_text("what the face read").click()
    assert first.locator(".read .prompt").inner_text() == f"{SCRIPT} What is 2?"
    assert first.locator(".read .own").inner_text() == SCRIPT
    first.get_by_text("1 of 1 lines read otherwise").click()
    assert f"{SCRIPT} rewritten" in first.locator(".lines").inner_text()


def test_a_thought_is_drawn_where_it_searched(page: Any, tmp_path: Path) -> None:
    """Each cell of the maze that it names once; no cell beyond it, and no picture where it names none."""
    thoughts = ["<THOUGHT_START> (0,0) (0,1) (0,0) (7,7) (1,0) <THOUGHT_END>", "<THOUGHT_START> (9,9)", "(0,0)"]
    write_rollouts(split_folder(tmp_path), 3, [question(1, MAZE, [WALK], thoughts)])
    page.goto(written(tmp_path, tmp_path))
    drawn = page.locator(".thought svg.maze")
    assert page.locator(".thought").count() == 3 and drawn.count() == 1
    shades = [float(one.get_attribute("fill-opacity")) for one in drawn.locator("rect[fill-opacity]").all()]
    assert len(shades) == 3 and shades == sorted(shades, reverse=True)


def test_questions_are_sorted_searched_and_stepped_through(page: Any, tmp_path: Path) -> None:
    address = written(tmp_path, split_folder(tmp_path))
    page.goto(address)
    entries = page.locator(".entry")
    assert entries.count() == 2 and "round" in page.locator(".slider").inner_text()
    page.keyboard.press("ArrowLeft")
    assert "split.round=2" in page.url and "2 of 3" in page.locator(".slider").inner_text()
    page.keyboard.press("ArrowDown")
    assert "split.question=5" in page.url and page.locator(".tree .leaf svg.maze").count() == 6
    page.get_by_label("search all texts").fill("What is 2")
    assert entries.count() == 1 and page.locator(".tree mark").first.inner_text() == "What is 2"
    page.locator("label", has_text="branches").locator("select").select_option("-weight")
    weights = [text.replace("−", "-") for text in page.locator(".thought .weight").all_inner_texts()]
    assert weights == sorted(weights, key=float, reverse=True)
    page.goto("about:blank")
    page.goto(page_url := f"{address}#split.round=1&split.question=3&theme=dark")
    assert page_url == page.url and page.locator(".tree .asked").inner_text().startswith("question 3")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_runs_are_compared_on_the_same_questions(page: Any, tmp_path: Path) -> None:
    for name, rounds in (("a", 3), ("b", 2)):
        (tmp_path / name).mkdir()
        split_folder(tmp_path / name, rounds)
    page.goto(written(tmp_path, tmp_path / "a", tmp_path / "b"))
    trees = page.locator(".tree")
    assert "2 of 3" in page.locator(".slider").inner_text()  # the last round that both have
    asked = [tree.locator(".asked").inner_text() for tree in trees.all()]
    assert len(asked) == 2 and len(set(asked)) == 1
    page.keyboard.press("ArrowRight")
    assert "did not ask this in this round" in trees.nth(1).inner_text()


def test_a_link_tells_questions_of_one_number_apart(page: Any, tmp_path: Path) -> None:
    """Runs of other worlds, or seeds, have other questions under the same numbers."""
    for i in range(2):
        (tmp_path / f"{i}").mkdir()
        write_rollouts(tmp_path / f"{i}", 1, [question(number, f"What is {i}{number}?", ["a"]) for number in range(3)])
    page.goto(written(tmp_path, tmp_path / "0", tmp_path / "1"))
    for place, words in enumerate(("00", "01", "02", "10", "11", "12")):
        page.locator(".entry").nth(place).click()
        page.reload()
        assert f"What is {words}?" in page.locator(".entry[aria-pressed=true]").inner_text()


@pytest.mark.parametrize("width", [1200, 400])
def test_the_chosen_question_of_a_long_list_is_in_sight(page: Any, tmp_path: Path, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    write_rollouts(tmp_path, 1, [question(number, f"What is {number}?", ["a"]) for number in range(60)])
    page.goto(written(tmp_path, tmp_path))
    chosen = """() => {
      const list = document.querySelector(".questions").getBoundingClientRect();
      const one = document.querySelector(".entry[aria-pressed=true]").getBoundingClientRect();
      return one.top >= list.top - 1 && one.bottom <= Math.min(list.bottom, innerHeight) + 1;
    }"""
    for _ in range(45):
        page.keyboard.press("ArrowDown")
    assert "split.question=45" in page.url and page.evaluate(chosen)
    page.reload()
    assert page.evaluate(chosen)
    page.locator(".entry[aria-pressed=true]").click()
    page.keyboard.press("ArrowUp")
    assert page.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"
    assert "№ 44" in page.locator(":focus").inner_text()


def test_a_round_is_downloaded_and_its_colours_explained(page: Any, tmp_path: Path) -> None:
    page.goto(written(tmp_path, split_folder(tmp_path)) + "#split.round=2")
    assert "weight for the shoggoth" in page.locator(".meaning").inner_text()
    assert "a shortest path" in page.locator(".meaning").inner_text()
    name, text = downloaded(page, page.locator(".bar").first.get_by_role("button", name="CSV"))
    rows = list(csv.DictReader(io.StringIO(text)))
    assert name == "round-2.csv" and len(rows) == 6 * 6 + 6
    row = rows[7]  # the second thought's second answer
    assert (row["round"], row["question"], row["thought"], row["answer"]) == ("2", "4", "2", "2")
    assert row["prompt"] == f"{SCRIPT} What is 2?" and row["answer_text"] == IMAGE
    assert float(row["score"]) == float(row[f"grader grader {IMAGE}"]) == 0.2
    assert float(row[f"monitor monitor {SCRIPT}"]) == 1
    assert (float(row["thought_weight"]), float(row["answer_weight"])) == (pytest.approx(-2 / 3, abs=1e-4), 0)


def test_arms_are_held_against_those_of_their_own_condition(page: Any, tmp_path: Path) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")

    def arm(condition: str, name: str, cost: float, gained: float) -> dict[str, Any]:
        figures = {"cost": [cost, None, None], "gained": [gained, None, None]}
        return {"section": "rules", "condition": condition, "name": name, "figures": figures, "curve": []}

    arms = [
        arm("hard", "a", 0.9, 0.2),
        arm("hard", "b", 0.8, 0.1),
        arm("easy", "a", 0.1, 0.9),
        arm("easy", "b", 0.2, 0.8),
    ]
    run = {"name": "x", "facts": [], "axes": ["cost", "gained"], "about": {"gained": "share of all"}, "percent": True}
    one = Section("study", "Rules", {"runs": [run | {"verdicts": [], "phase": [], "results": arms}]})
    (tmp_path / "page.html").write_text(page_of([one], "x"), encoding="utf-8")
    page.goto((tmp_path / "page.html").as_uri())
    card = page.locator(".card", has=page.locator("h2", has_text="One figure against another"))
    card.locator("svg").wait_for()
    drawn = sync_api.expect(card.locator("svg circle.best"))  # waits: a picture is drawn after its card
    drawn.to_have_count(2)  # of the hard ones the first gains more, the second costs less
    card.locator("label", has_text="condition").locator("select").select_option("easy")
    drawn.to_have_count(1)
    assert "study.pareto.condition=easy" in page.url
    page.get_by_text("what the columns mean").click()
    assert page.locator(".meanings dd").inner_text() == "share of all"


def test_tables_are_sorted_searched_and_linked_to(page: Any, tmp_path: Path) -> None:
    page.goto(written(tmp_path, study_folder(tmp_path)))
    table = page.locator(".card", has=page.locator("h2", has_text="All results"))
    table.get_by_role("button", name="gained").click()
    figures = [float(text.split()[0]) for text in table.locator("td:nth-child(4)").all_inner_texts()]
    assert figures == sorted(figures, reverse=True) and len(figures) == 6
    assert "study.results.sort=-gained" in page.url
    table.get_by_role("button", name="gained").click()
    assert table.locator("th[aria-sort=ascending]").inner_text().startswith("gained")
    page.reload()
    assert table.locator("th[aria-sort=ascending]").inner_text().startswith("gained")


def downloaded(page: Any, button: Any) -> tuple[str, str]:
    with page.expect_download() as told:
        button.click()
    return told.value.suggested_filename, Path(told.value.path()).read_text(encoding="utf-8")


def test_pictures_and_figures_are_downloaded(page: Any, tmp_path: Path) -> None:
    page.goto(written(tmp_path, reading_folder(tmp_path)) + "#reading.part=patching")
    card = page.locator(".card", has=page.locator("h2", has_text="Residual stream"))
    card.locator("svg").wait_for()
    name, text = downloaded(page, card.get_by_role("button", name="SVG"))
    root = ElementTree.fromstring(text)
    assert name == "Residual-stream-into-a-layer.svg" and root.tag.endswith("svg")
    fills = {one.get("fill") for one in root.iter() if one.tag.endswith("rect")}
    assert len(fills) > 1 and not any("var(" in str(fill) for fill in fills)
    assert not [one for one in root.iter() if one.tag.endswith(("script", "img", "foreignObject"))]
    name, text = downloaded(page, card.get_by_role("button", name="CSV"))
    rows = list(csv.DictReader(io.StringIO(text)))
    assert name.endswith(".csv") and len(rows) == 4
    assert (rows[0]["place"], float(rows[0]["effect_low"])) == (IMAGE, 0.4)


def test_scores_that_are_no_shares_are_drawn_in_full(page: Any, tmp_path: Path) -> None:
    train_folder(tmp_path)
    lines = [{"step": n, "loss": 1.0, "held_out_exact": 0.5, "held_out_score": 3.0 * n} for n in range(1, 5)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    page.goto(written(tmp_path, tmp_path))
    card = page.locator(".card", has=page.locator("h2", has_text="Held-out questions"))
    card.locator("svg circle").first.wait_for(state="attached")
    heights = [float(one.get_attribute("cy")) for one in card.locator("svg circle").all()]
    assert min(heights) > 0 and "%" not in card.locator("svg").text_content()


def test_no_two_curves_look_alike(page: Any, tmp_path: Path) -> None:
    page.goto(written(tmp_path, train_folder(tmp_path)))
    looks = page.evaluate(
        """() => {
          const points = (y) => [{ x: 0, y }, { x: 1, y }];
          const series = [...Array(8).keys()].map((i) => ({ name: `series ${i}`, points: points(i) }));
          const lines = [...clew.curves(500, { series, x: "x", y: "y" }).querySelectorAll("path")];
          return lines.map((one) => one.getAttribute("stroke") + one.getAttribute("stroke-dasharray"));
        }"""
    )
    assert len(looks) == len(set(looks)) == 8


@pytest.mark.parametrize("width", [240, 330, 560])
def test_no_name_of_a_heat_map_is_cut_off(page: Any, tmp_path: Path, width: int) -> None:
    page.goto(written(tmp_path, train_folder(tmp_path)))
    outside = page.evaluate(
        """(width) => {
          const names = ["open edges", "walled cells", "own cell", "target", "origin", "own path", "adjacency"];
          const at = () => ({ value: 0.5 });
          const svg = clew.heat(width, { rows: ["0.0", "0.1"], columns: names, at, corner: "head \\ group" });
          document.body.append(svg);
          const right = svg.getBoundingClientRect().right;
          const ends = [...svg.querySelectorAll("text")].map((one) => one.getBoundingClientRect().right);
          return ends.filter((end) => end > right + 1).length;
        }""",
        width,
    )
    assert outside == 0


def test_a_formula_does_not_run_in_a_spreadsheet(page: Any, tmp_path: Path) -> None:
    page.goto(written(tmp_path, train_folder(tmp_path)))
    said = page.evaluate("clew.csvText(['a', '=b'], [{a: '=1+1', '=b': -3}, {a: '@x', '=b': 'y\"z'}])")
    assert list(csv.reader(io.StringIO(said))) == [["a", "'=b"], ["'=1+1", "-3"], ["'@x", 'y"z']]


def test_a_page_writes_rates_as_everything_else_does(page: Any, tmp_path: Path) -> None:
    page.goto(written(tmp_path, train_folder(tmp_path)))
    for low, value, high in ((0.45, 0.5, 0.55), (0.99955, 0.99996, 1.0), (0.9994, 1.0, 1.0), (0.0, 0.0, 0.0004)):
        rate = {"value": value, "low": low, "high": high}
        assert page.evaluate("rate => clew.rate(rate)", rate) == with_interval(rate, "%")


def test_a_page_says_what_is_left_out_on_every_tab(page: Any, tmp_path: Path) -> None:
    sections = page_sections([str(everything(tmp_path))], ViewOptions()).sections
    html = page_of(sections, "x", notes=[f"mazes are left out: {IMAGE}"])
    (tmp_path / "page.html").write_text(html, encoding="utf-8")
    page.goto((tmp_path / "page.html").as_uri())
    for place in range(len(sections)):
        page.get_by_role("tab").nth(place).click()
        assert page.locator("body > .note").all_inner_texts() == [f"mazes are left out: {IMAGE}"]


def test_light_and_dark(chromium: Any, tmp_path: Path) -> None:
    address = written(tmp_path, train_folder(tmp_path))
    for scheme, other in (("light", "dark"), ("dark", "light")):
        page = chromium.new_context(color_scheme=scheme).new_page()
        page.goto(address)
        background = "getComputedStyle(document.body).backgroundColor"
        before = page.evaluate(background)
        page.get_by_label("light or dark").click()
        assert page.evaluate(background) != before and f"theme={other}" in page.url
        page.keyboard.press("d")
        assert page.evaluate(background) == before
        page.close()


@contextmanager
def serving(page: Callable[[], str], answer: Callable[[dict[str, Any]], dict[str, Any]]) -> Iterator[Server]:
    with Server(page, answer) as server:
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()


def test_the_policy_forbids_what_a_page_does_not_do(chromium: Any, tmp_path: Path) -> None:
    """Were a text to become HTML after all, nothing of it would run or be fetched."""
    page, asked = chromium.new_context().new_page(), []
    page.goto(written(tmp_path, train_folder(tmp_path)))
    for forbidden in ("document.body.innerHTML = '<b>x</b>'", "document.write('x')"):
        with pytest.raises(Exception, match="TrustedHTML"):
            page.evaluate(f"(function () {{ {forbidden} }})()")
    with serving(lambda: str(asked.append(1)), lambda _: {}) as other:
        refused = page.evaluate(
            """async (address) => {
              const refused = [];
              document.addEventListener("securitypolicyviolation", (event) => refused.push(event.effectiveDirective));
              const script = document.createElement("script");
              try { script.textContent = "window.hacked = 1"; document.body.append(script); } catch { }
              const image = document.createElement("img");
              image.src = address;
              try { image.setAttribute("onerror", "window.hacked = 1"); } catch { }
              document.body.append(image);
              await fetch(address, {mode: "no-cors"}).catch(() => null);
              await new Promise((done) => setTimeout(done, 200));
              return refused;
            }""",
            other.address,
        )
    assert {"img-src", "connect-src", "require-trusted-types-for"} <= set(refused)
    assert page.evaluate("window.hacked") is None and asked == []


@pytest.fixture
def served(tmp_path: Path, hostile: Path) -> Iterator[tuple[str, Path]]:
    folder = everything(hostile)
    live = Live([str(folder)], ViewOptions(), str(folder))
    with serving(live.page, live.answer) as server:
        yield server.address, folder


def test_every_kind_served(page: Any, served: tuple[str, Path]) -> None:
    page.goto(served[0])
    assert page.get_by_role("tab").count() == 4
    for tab in page.get_by_role("tab").all():
        tab.click()
        page.locator("main svg").first.wait_for()
    assert page.evaluate("clew.ask({kind: 'stamp'})").keys() == {"stamp"}


def test_a_served_page_says_when_there_is_more(chromium: Any, served: tuple[str, Path]) -> None:
    page = chromium.new_context().new_page()
    page.goto(f"{served[0]}#tab=audit")
    assert not page.locator(".news").is_visible()
    (served[1] / "metrics.jsonl").write_text(json.dumps({"step": 1, "score": 0.123}) + "\n")
    with page.expect_navigation():  # the page's policy lets nobody wait for a function in it
        page.locator(".news").click(timeout=20_000)
    assert "0.123" in page.evaluate("document.getElementById('data-0').textContent")
    assert page.url.endswith("#tab=audit") and not page.locator(".news").is_visible()
