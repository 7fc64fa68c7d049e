"""The maze view in a real browser: stepped through, clicked, linked to, and served."""

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from clew.config import MazeConfig
from clew.errors import InputError
from clew.mazes.world import MazeWorld
from clew.policy import Policy
from clew.rollout.sampler import SharedPrefixSampler
from clew.train.evaluate import Reasoner
from clew.view.maze import Opened, answer, open_models, sections
from clew.view.maze_models import Model
from clew.view.page import Section, page_of
from clew.view.serve import Server

SHAKY, SOLID = "zoo:4x4-full-2-layers", "zoo:4x4"
TEXT = '<img src=x onerror="window.hacked=1">'
EVERY = ("attention", "lens", "probes", "without")


@cache
def opened() -> Opened:
    return open_models(SHAKY, mazes=160)


@cache
def section() -> Section:
    return sections(opened(), questions=8, asked_in_all=30)[0]


@cache
def compared() -> Section:
    return sections([SHAKY, SOLID], questions=6, asked_in_all=30, mazes=160)[0]


def written(folder: Path, one: Section, fragment: str = "") -> str:
    file = folder / "page.html"
    file.write_text(page_of([one], "mazes"), encoding="utf-8")
    return file.as_uri() + fragment


def failing(one: Section, run: int = 0) -> int:
    """The place of the first maze that a run fails at."""
    return next(i for i, record in enumerate(one.data["runs"][run]["records"]) if not record["solved"])


def words(page: Any) -> list[str]:
    return page.locator(".steps button").all_text_contents()


def test_the_path_is_stepped_through_by_keys_and_buttons(page: Any, tmp_path: Path) -> None:
    number = section().data["questions"][0]["number"]
    record = section().data["runs"][0]["records"][0]
    page.goto(written(tmp_path, section(), f"#maze.maze={number}&maze.step=0"))
    for step, word in enumerate(record["next"]):
        assert page.locator('.steps [aria-current="step"]').get_attribute("title") == f"step {step}: {word}"
        assert f"writes {word}" in page.locator(".now").first.text_content()
        page.keyboard.press("ArrowRight")
    page.get_by_role("button", name="step back").click()
    last = len(record["next"]) - 1
    assert page.locator('.steps [aria-current="step"]').get_attribute("title").startswith(f"step {last - 1}:")
    page.keyboard.press("Home")
    assert "<TARGET_END>" in page.locator(".now").first.text_content()
    page.locator('.stepper input[type="range"]').fill("3")
    assert page.evaluate("location.hash").endswith("maze.step=3&maze.over=attention") or "maze.step=3" in page.url


def test_a_head_that_is_clicked_is_shown(page: Any, tmp_path: Path) -> None:
    page.goto(written(tmp_path, section()))
    before = page.locator(".whole .board").inner_html()
    page.get_by_role("button", name="head 1.0", exact=True).click()
    assert "head 1.0" in page.locator(".panel .note").first.text_content()
    assert page.locator(".whole .board").inner_html() != before
    assert page.locator("tr.picked td").first.text_content() == "1.0"
    page.locator("table").first.get_by_role("button", name="target").click()
    shares = page.locator("section.card:has(h2:text-is('Heads')) tbody td:nth-child(4)").all_text_contents()
    numbers = [float(text.rstrip("%")) for text in shares]
    assert numbers == sorted(numbers, reverse=True) and len(numbers) == 4
    page.locator("section.card:has(h2:text-is('Heads')) tbody tr").nth(0).click()
    assert page.locator("tr.picked").count() == 1
    page.get_by_role("button", name="mean of all heads").click()
    assert "all heads, mean" in page.locator(".panel .note").first.text_content()


def test_what_the_board_shows_is_what_the_record_has(page: Any, tmp_path: Path) -> None:
    """Attention as the browser unpacks it, against the same in Python."""
    from clew.view.maze_records import unpacked

    page.goto(written(tmp_path, section()))
    run = section().data["runs"][0]
    values = unpacked(run["records"][1]["attention"], run["layers"], run["heads"])
    code = """([step, layer, head]) => {
      const data = JSON.parse(document.getElementById("data-0").textContent), run = data.runs[0], one = run.records[1];
      const seen = clew.maze.seen(run, one, step, layer, head);
      return [Array.from(seen), clew.maze.shared(data, data.questions[1], one, step, seen).groups];
    }"""
    for step, layer, head in ((2, 1, 0), (3, 0, 1), (2, 1, -1), (1, -1, -1), (0, 0, 0)):
        part = values[step] if layer < 0 else values[step][[layer]]
        wanted = (part if head < 0 else part[:, [head]]).mean((0, 1))
        seen, groups = page.evaluate(code, [step, layer, head])
        assert seen == pytest.approx(wanted.tolist(), abs=1e-6)
        assert sum(groups.values()) == pytest.approx(1, abs=0.05)
        assert groups["passages"] == pytest.approx(wanted[:15].sum(), abs=1e-6)
        assert groups["self"] <= 1 and min(groups.values()) > -1e-6


def test_without_a_head_the_other_path_is_drawn(page: Any, tmp_path: Path) -> None:
    records = section().data["runs"][0]["records"]
    place, head = next((p, h) for p, one in enumerate(records) for h, walk in enumerate(one["without"]) if walk)
    number = section().data["questions"][place]["number"]
    page.goto(written(tmp_path, section(), f"#maze.maze={number}"))
    page.keyboard.press("x")
    assert page.locator(".whole .without").count() == 0
    page.locator("section.card:has(h2:text-is('Without one head')) tbody tr").nth(head).click()
    assert page.locator(".whole .without").count() == 1
    page.locator("section.card:has(h2:text-is('Without one head')) tbody tr").nth(head).click()
    assert page.locator(".whole .without").count() == 0


def test_at_a_fork_each_heads_logit_difference_stands(page: Any, tmp_path: Path) -> None:
    records = section().data["runs"][0]["records"]
    place, step = next((p, s) for p, one in enumerate(records) for s, fork in enumerate(one["forks"]) if fork)
    fork, number = records[place]["forks"][step], section().data["questions"][place]["number"]
    page.goto(written(tmp_path, section(), f"#maze.maze={number}&maze.over=without&maze.step=0"))
    page.get_by_role("button", name="next fork").click()
    assert (
        f"logit difference of {fork['difference']:.2f}".replace("-", "−")
        in page.locator(".bar .now").first.text_content()
    )
    told = page.locator("section.card:has(h2:text-is('Without one head')) tbody td:nth-child(3)").all_text_contents()
    assert told == [f"{one:.2f}".replace("-", "−") for one in fork["without"]]


def test_a_failure_is_found_and_marked(page: Any, tmp_path: Path) -> None:
    place = failing(section())
    record = section().data["runs"][0]["records"][place]
    page.goto(written(tmp_path, section()))
    page.locator(f'.accuracy .tile.bad[data-maze="{place}"]').first.click()
    assert page.locator(f'.strip [data-place="{place}"]').get_attribute("aria-current") == "true"
    assert page.locator(".verdict .bad-word").text_content().startswith("✗ ")
    assert page.locator(".whole .board .cross").count() == (1 if record["path"] else 0)
    failures = sum(not one["solved"] for one in section().data["runs"][0]["records"])
    assert page.locator(".strip button.bad").count() == failures
    page.keyboard.press("f")
    assert page.locator(".verdict .bad-word").count() == 1


@pytest.mark.parametrize("over", EVERY)
def test_a_link_opens_the_same_again(page: Any, tmp_path: Path, over: str) -> None:
    page.goto(written(tmp_path, section()))
    page.locator(".strip button").nth(2).click()
    page.get_by_role(
        "button", name={"lens": "Logit lens", "without": "Without a head"}.get(over, over.title()), exact=True
    ).click()
    page.keyboard.press("ArrowRight")
    if over == "attention":
        page.get_by_role("button", name="head 0.1", exact=True).click()
    else:
        page.locator(".model .panel tbody tr").nth(1).click()
    link, seen = page.url, page.locator(".kind").inner_html()
    page.goto("about:blank")
    page.goto(link)
    again = page.locator(".kind").inner_html()
    assert timeless(again) == timeless(seen)


def timeless(html: str) -> str:
    return re.sub(r' data-drawn="[^"]*"', "", html)


@pytest.mark.parametrize(("step", "shown"), [("-3", 0), ("1.5", 1), ("999", None), ("x", 2)])
def test_a_step_that_is_none_is_the_nearest(page: Any, tmp_path: Path, step: str, shown: int | None) -> None:
    number = section().data["questions"][0]["number"]
    record = section().data["runs"][0]["records"][0]
    page.goto(written(tmp_path, section(), f"#maze.maze={number}&maze.step={step}"))
    last = len(record["next"]) - 1
    assert record["next"][last if shown is None else shown] in page.locator(".now").first.text_content()


def test_several_models_stand_side_by_side(page: Any, tmp_path: Path) -> None:
    place = failing(compared())
    number = compared().data["questions"][place]["number"]
    page.goto(written(tmp_path, compared(), f"#maze.maze={number}"))
    assert page.locator(".models > section h2").all_text_contents()[:1] == [SHAKY]
    boards = page.locator(".whole .board")
    assert boards.count() == 2
    good = [run["records"][place]["solved"] for run in compared().data["runs"]]
    assert [bool(page.locator(".verdict").nth(i).locator(".good-word").count()) for i in range(2)] == good
    assert page.locator("section.card:has(h2:text-is('Compared')) tbody td").first.text_content() == SOLID
    one, two = (page.locator(f'[data-run="{i}"]') for i in range(2))
    two.get_by_role("button", name="head 3.1", exact=True).click()
    assert "head 3.1" in two.locator(".panel .note").first.text_content()
    assert "all heads" in one.locator(".panel .note").first.text_content()
    page.keyboard.press("ArrowRight")
    said = [page.locator(f'[data-run="{i}"] .now').first.text_content() for i in range(2)]
    told = [run["records"][place]["next"][3] for run in compared().data["runs"]]
    assert all(word in text for word, text in zip(told, said, strict=True))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_page_needs_no_scrolling_sideways(chromium: Any, tmp_path: Path, scheme: Any) -> None:
    context = chromium.new_context(viewport={"width": 400, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    page.goto(written(tmp_path, compared()))
    for over in EVERY:
        page.evaluate(f"location.hash = 'maze.over={over}'")
        page.wait_for_timeout(50)
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
    context.close()


def test_what_a_model_writes_is_text(page: Any, tmp_path: Path) -> None:
    """Names and words that would be scripts, were they HTML."""
    data = json.loads(json.dumps(section().data))
    run = data["runs"][0]
    run["name"], run["notes"] = TEXT, [TEXT]
    run["records"][0]["next"][3:4] = [TEXT]
    for row in run["records"][0]["lens"][3]:
        row[5] = TEXT
    page.goto(
        written(tmp_path, Section("maze", TEXT, data), f"#maze.maze={data['questions'][0]['number']}&maze.step=3")
    )
    for over in EVERY:
        page.evaluate(f"location.hash = 'maze.step=3&maze.over={over}'")
        page.wait_for_timeout(50)
        assert page.locator("img").count() == 0
    assert page.evaluate("window.hacked === undefined") and TEXT in page.locator("h2").all_text_contents()[1]


@pytest.mark.parametrize("seed", [0, 1])
def test_a_model_that_has_learned_nothing_is_shown_all_the_same(page: Any, tmp_path: Path, seed: int) -> None:
    """One that begins no path, and one whose path is no cell of the maze; on mazes of three sizes."""
    world = MazeWorld(MazeConfig(sizes=[3, 4, (2, 5)]))
    policy = Policy.build(world.tokenizer, 1, 16, 2, seed=seed)
    model = Model("untrained", world, Reasoner(SharedPrefixSampler(policy)), mazes=60)
    (one,) = sections(Opened([model]), questions=6, asked_in_all=8)
    assert {record["how"] for record in one.data["runs"][0]["records"]} <= {"endless", "cell"}
    page.goto(written(tmp_path, one))
    for over in EVERY:
        page.evaluate(f"location.hash = 'maze.step=4&maze.over={over}'")
        for _ in range(3):
            page.keyboard.press("n")
            page.keyboard.press("ArrowRight")
        assert page.locator(".verdict .bad-word").count() == 1
    assert "probes could not be read" in page.locator(".warn").text_content()


def test_figures_are_there_as_a_table(page: Any, tmp_path: Path) -> None:
    page.goto(written(tmp_path, section()))
    page.get_by_text("this step in numbers").click()
    rows = page.locator("details tbody tr")
    shares = [float(text.rstrip("%")) for text in rows.locator("td:nth-child(3)").all_text_contents()]
    assert len(shares) == 30 and shares == sorted(shares, reverse=True)
    page.keyboard.press("ArrowRight")
    assert rows.count() == 30
    with page.expect_download() as file:
        page.locator(".models .tools").first.get_by_role("button", name="CSV").click()
    lines = Path(file.value.path()).read_text().splitlines()
    assert lines[0] == "kind,where,share" and sum(line.startswith("passage,") for line in lines) == 15
    with page.expect_download() as file:
        page.locator(".models .tools").first.get_by_role("button", name="SVG").click()
    assert "<svg" in Path(file.value.path()).read_text()


@pytest.fixture
def served(page: Any) -> Iterator[Any]:
    """A page that is served, and the server's answers as they were given."""
    said: list[Any] = []

    def told(request: dict[str, Any]) -> dict[str, Any]:
        if request["kind"] == "stamp":
            return {"stamp": "now"}
        said.append(answer(opened(), request))
        return said[-1]

    with Server(lambda: page_of([section()], "mazes", "now"), told) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        page.goto(server.address)
        yield page, said
        server.shutdown()


def drawn(page: Any) -> None:
    page.get_by_text(re.compile(r"^answered in ")).wait_for()


def test_a_wall_that_is_closed_changes_the_answer(served: Any) -> None:
    page, said = served
    page.locator(".strip button").nth(failing(section())).click()
    page.get_by_role("button", name="Draw walls").click()
    question = section().data["questions"][failing(section())]
    a, b = question["right"][-2:]
    page.locator(f'[data-gap="{min(a, b)} {max(a, b)}"]').click()
    drawn(page)
    assert said[-1]["question"]["right"] is None and len(said[-1]["question"]["edges"]) == 14
    assert "there is no right answer" in page.locator(".verdict").text_content()
    assert "maze as drawn" in page.locator(".verdict").text_content()
    page.locator(f'[data-gap="{min(a, b)} {max(a, b)}"]').click()
    page.get_by_text("there is no right answer").wait_for(state="detached")
    assert said[-1]["question"]["edges"] == question["edges"]
    page.get_by_role("button", name="Back to the page’s maze").click()
    assert f"maze {question['number']}" in page.locator(".verdict").text_content()


def test_a_target_that_is_dragged_is_walked_to_and_heads_are_taken_away_live(served: Any) -> None:
    page, said = served
    page.locator(".strip button").nth(0).click()
    page.keyboard.press("e")
    question = section().data["questions"][0]
    to = next(cell for cell in range(16) if cell not in (question["origin"], question["target"]))
    board = page.locator(".whole .board")
    box = board.bounding_box()
    scale = box["width"] / (2 * 9 + 4 * 48)
    at = [
        (box["x"] + scale * (9 + 48 * (c % 4 + 0.5)), box["y"] + scale * (9 + 48 * (c // 4 + 0.5))) for c in range(16)
    ]
    page.mouse.move(*at[question["target"]])
    page.mouse.down()
    page.mouse.move(*at[to], steps=4)
    page.mouse.up()
    drawn(page)
    assert (
        said[-1]["question"]["target"] == to
        and said[-1]["runs"][0]["path"] != section().data["runs"][0]["records"][0]["path"]
    )
    page.keyboard.press("x")
    page.locator("section.card:has(h2:text-is('Without one head')) tbody tr").nth(1).click()
    page.locator("tr.picked", has_text="not asked yet").wait_for(state="detached")
    assert set(said[-1]) == {"runs"}


def test_what_the_server_refuses_is_said(chromium: Any) -> None:
    def told(request: dict[str, Any]) -> dict[str, Any]:
        if request["kind"] == "stamp":
            return {"stamp": "now"}
        return answer(opened(), request | {"rows": 99})

    with Server(lambda: page_of([section()], "mazes", "now"), told) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        page = chromium.new_page()
        page.goto(server.address)
        before = page.locator(".verdict").text_content()
        page.get_by_role("button", name="Draw walls").click()
        page.locator(".gap").first.click()
        page.get_by_text("rows: 99 is not a whole number").wait_for()
        assert page.locator(".verdict").text_content() == before
        page.close()
        server.shutdown()


def test_what_becomes_of_a_wall_is_said_where_it_was_pressed(chromium: Any) -> None:
    def refuses(request: dict[str, Any]) -> dict[str, Any]:
        if request["kind"] == "stamp":
            return {"stamp": "now"}
        raise InputError("no such maze")

    with Server(lambda: page_of([compared()], "mazes", "now"), refuses) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        page = chromium.new_page()
        page.goto(server.address)
        one, two = (page.locator(f'[data-run="{i}"]') for i in range(2))
        one.get_by_role("button", name="Draw walls").click()
        for pressed, other in ((one, two), (two, one)):
            pressed.locator(".gap").first.click()
            pressed.get_by_text("no such maze").wait_for()
            assert pressed is two or other.get_by_text("no such maze").count() == 0
        page.close()
        server.shutdown()
