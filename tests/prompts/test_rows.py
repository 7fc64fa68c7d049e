"""A user's own prompts: another tokenizer, chat template, grader and delimiters, end to end on a tiny random model."""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from clew.config import ModelConfig, PromptConfig
from clew.errors import InputError
from clew.policy import Policy
from clew.prompts.asking import hashed_out
from clew.prompts.rows import read_rows
from clew.prompts.world import PromptWorld
from clew.rollout.stops import Ending
from clew.runs.rollouts import read_rollouts
from clew.train.config import SplitConfig
from clew.train.rounds import split
from clew.world import Stop
from texts import TEMPLATE, bpe_tokenizer


def rows(n: int = 12) -> list[dict]:
    return [{"prompt": f"what is {i} plus two", "want": str(i + 2)} for i in range(n)]


@pytest.mark.parametrize("template", [None, TEMPLATE])
def test_end_to_end(tmp_path: Path, template: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    Policy.build(bpe_tokenizer(template), layers=1, width=16, heads=2).save(tmp_path / "model")
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows()))
    (tmp_path / "prompt_graders.py").write_text(
        "def vowels(completions, want, **_):\n    return [float(sum(c in 'aeiou' for c in t)) for t in completions]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    out = tmp_path / "run"
    config = SplitConfig(
        prompts=PromptConfig(str(tmp_path / "prompts.jsonl")),
        model=ModelConfig(str(tmp_path / "model")),
        grader=["prompt_graders:vowels"],
        rounds=2,
        questions=2,
        thoughts=2,
        answers=2,
        max_thought=6,
        max_answer=5,
        validation_questions=2,
        final_questions=2,
        out=str(out),
    )
    result = split(config)
    assert result["after"]["questions"] == 1  # of the twelve one is held out, and is not asked twice
    tree, *_ = read_rollouts(out)
    assert tree["prompt"].startswith("what is") and len(tree["thoughts"]) == 2
    assert all(1 <= len(thought["tokens"]) <= 6 for thought in tree["thoughts"])
    answers = [answer for thought in tree["thoughts"] for answer in thought["answers"]]
    assert len(answers) == 4 and all(1 <= len(answer["tokens"]) <= 5 for answer in answers)
    assert [answer["score"] for answer in answers] == [sum(c in "aeiou" for c in one["text"]) for one in answers]
    sys.modules.pop("prompt_graders", None)


def ends(world: PromptWorld, stop: Stop, tokens: list[int]) -> bool:
    """Whether a sampler would stop after these tokens."""
    ending = Ending(stop, world.tokenizer, 1)
    return [bool(ending.after(np.array([0]), np.array([token]))[0]) for token in tokens][-1]


def test_delimiters_template_and_held_out() -> None:
    world = PromptWorld(rows(), bpe_tokenizer(TEMPLATE))
    asked = world.questions([0])[0]
    text = world.text(asked.tokens)
    assert text.startswith("[user] what is") and text.endswith("[assistant] <think>")
    assert asked.columns == {"want": str(int(asked.prompt.split()[2]) + 2)}
    train = {one.prompt for one in world.questions(range(50))}
    held_out = {one.prompt for one in world.held_out(range(50))}
    assert not asked.held_out and all(one.held_out for one in world.held_out(range(50)))
    assert world.held_out_count() == len(held_out) and world.demonstrations([0]) == []
    assert train and held_out and not train & held_out and len(train | held_out) == 12
    ids = world._ids("so it is</think>")
    assert ends(world, world.thought_stop, ids) and not ends(world, world.thought_stop, ids[:-1])
    eos: list[Any] = [world.tokenizer.eos_token_id]
    assert ends(world, world.thought_stop, eos) and ends(world, world.answer_stop, eos)
    assert not ends(world, world.answer_stop, ids) and world.text(world.thought_end) == "</think>"


def test_a_template_that_opens_the_thought_itself() -> None:
    world = PromptWorld(rows(), bpe_tokenizer(TEMPLATE + "<think>\n"))
    assert world.text(world.questions([0])[0].tokens).count("<think>") == 1


def test_chat_messages_as_prompts() -> None:
    """They stay messages for graders, and become text for people."""
    chat = [{"prompt": [{"role": "user", "content": f"hello {i}"}], "n": i} for i in range(5)]
    asked = (world := PromptWorld(chat, bpe_tokenizer(TEMPLATE))).questions([0])[0]
    assert "[user] hello" in world.text(asked.tokens)
    assert asked.messages == [{"role": "user", "content": asked.prompt}] and asked.prompt.startswith("hello")
    assert PromptWorld(rows(), bpe_tokenizer(TEMPLATE)).questions([0])[0].messages is None
    several = [{"prompt": [{"role": "system", "content": "be kind"}, *row["prompt"]]} for row in chat]
    assert PromptWorld(several, bpe_tokenizer(TEMPLATE)).questions([0])[0].prompt.startswith("system: be kind\nuser: h")
    refused(
        "row 1 is chat messages, and this model's tokenizer has no chat template", PromptWorld, chat, bpe_tokenizer()
    )


def test_a_system_message_stands_before_prompts_that_have_none() -> None:
    own = {"prompt": [{"role": "system", "content": "be rude"}, {"role": "user", "content": "hello"}]}
    world = PromptWorld([{"prompt": "hello"}, own], bpe_tokenizer(TEMPLATE), system="be kind")
    texts = {world.text(one.tokens) for one in (*world.questions([0]), *world.held_out([0]))}
    assert texts == {f"[system] be {how} [user] hello [assistant] <think>" for how in ("kind", "rude")}
    with pytest.raises(InputError, match=r"prompts.system: this model's tokenizer has no chat template"):
        PromptWorld(rows(), bpe_tokenizer(), system="be kind")


def refused(says: str, call: Any, *args: Any) -> None:
    with pytest.raises(InputError, match=says) as caught:
        call(*args)
    assert "\n" not in str(caught.value)


def lines(file: Path, *rows: Any) -> Path:
    file.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return file


GOOD = {"prompt": "what is one", "n": 1}


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("{nope}", "line 3 is not JSON: Expecting property name"),
        ("[1]", r"line 3 is no object .* but \[1\]"),
        ("7", "line 3 is no object"),
        ("null", "line 3 is no object"),
        ('"text"', "line 3 is no object"),
        ({"question": "x"}, "line 3 has no prompt"),
        ({"prompt": ""}, "line 3 has no prompt"),
        ({"prompt": None}, "line 3 has no prompt"),
        ({"prompt": 7}, "line 3 has no prompt"),
        ({"prompt": []}, "line 3 has no prompt"),
        ({"prompt": {"role": "user", "content": "x"}}, "line 3 has no"),
        ({"prompt": ["hi"]}, "line 3 has a prompt whose message 1 is 'hi', not an object with role and content"),
        ({"prompt": [None]}, "line 3 has a prompt whose message 1 is None, not an object"),
        ({"prompt": [{"role": "user", "content": "x"}, {"role": "user"}]}, "line 3 .* message 2 has no content"),
        ({"prompt": [{"content": "x"}]}, "line 3 has a prompt whose message 1 has no role"),
        ({"prompt": [{}]}, "line 3 has a prompt whose message 1 has no role"),
        ({"prompt": [{"role": 1, "content": "x"}]}, "line 3 .* message 1 has the role 1, which is not text"),
        ({"prompt": [{"role": "user", "content": None}]}, "line 3 .* has the content None, which is not text"),
        ({"prompt": [{"role": "user", "content": [{"type": "text"}]}]}, "line 3 .* the content .*, which is not text"),
        ({"prompt": [{"role": "user", "content": 10**400}]}, "line 3 .* has the content 1000.*, which is not text"),
        ({"prompt": "a"}, r"line 3 has columns \['prompt'\], the first row \['n', 'prompt'\]"),
        ({"prompt": "a", "m": 1}, "line 3 has columns"),
        ({"prompt": "a", "thoughts": 1}, "line 3 has a column 'thoughts', which names a thought"),
        ({"prompt": "a", "MyThought": 1}, "line 3 has a column 'MyThought', which names a thought"),
        ({"prompt": "a", "prompts": 1}, "line 3 has a column 'prompts', which is an argument of every grader"),
        ({"prompt": "a", "completions": 1}, "line 3 has a column 'completions'"),
        ({"prompt": "a", "completion_ids": 1}, "line 3 has a column 'completion_ids'"),
        ('{"prompt": "a\\ud800"}', r"line 3 holds half a character \('\\ud800', a lone surrogate\)"),
        ('{"prompt": "a", "n": {"\\udfff": 1}}', "line 3 holds half a character"),
        ('{"prompt": "a", "n": NaN}', "line 3 is not JSON that can be read: NaN is"),
        ('{"prompt": "a", "n": -Infinity}', "line 3 is not JSON that can be read: -Infinity is"),
        ('{"prompt": "a", "prompt": "b"}', "line 3 is not JSON that can be read: it names 'prompt' twice"),
        ('{"prompt": "a", "n": ' + "9" * 5000 + "}", "line 3 is not JSON that can be read: Exceeds the limit"),
        ('{"prompt": ' + "[" * 100_000, "line 3 is nested deeper than 32 levels"),
        ('{"prompt": "a", "n": ' + "[" * 40 + "]" * 40 + "}", "line 3 is nested deeper than 32 levels"),
        ('{"prompt": "a\x00"}', "line 3 is not JSON: Invalid control character"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, bad: Any, says: str) -> None:
    refused(rf"prompts: .*prompts\.jsonl {says}", read_rows, lines(tmp_path / "prompts.jsonl", GOOD, "  ", bad, GOOD))


def test_bad_files(tmp_path: Path) -> None:
    refused("holds no rows", read_rows, lines(tmp_path / "prompts.jsonl", "", " \t"))
    refused("cannot be read", read_rows, tmp_path / "missing.jsonl")
    refused("cannot be read", read_rows, "nul\0.jsonl")
    (tmp_path / "latin.jsonl").write_bytes(b'{"prompt": "a"}\n{"prompt": "\xe9"}\n')
    refused("line 2 is not UTF-8 text", read_rows, tmp_path / "latin.jsonl")
    (tmp_path / "utf16.jsonl").write_text('{"prompt": "a"}\n', encoding="utf-16")
    refused("line 1 is not UTF-8 text", read_rows, tmp_path / "utf16.jsonl")


def test_what_is_json_lines_is_read(tmp_path: Path) -> None:
    """A byte order mark, line separators inside strings, NUL, pairs of surrogates, numbers of many digits."""
    odd = [f"a{mark}b" for mark in ("\u2028", "\u2029", "\x85", "\x1c", "\x0b", "\x0c", "\x7f", "\U0001f600")]
    plain = [text for text in odd if text[1] >= " "]  # the others must be escaped in JSON
    content = "\ufeff" + "".join(json.dumps({"prompt": text}, ensure_ascii=False) + "\r\n" for text in plain)
    content += "".join(json.dumps({"prompt": text}) + "\n\n" for text in (*odd, "a\0b"))
    (tmp_path / "odd.jsonl").write_bytes(content.encode())
    found = [row["prompt"] for row in read_rows(tmp_path / "odd.jsonl")]
    assert found == [*plain, *odd, "a\0b"] and len(plain) == 5
    world = PromptWorld(read_rows(tmp_path / "odd.jsonl"), bpe_tokenizer(TEMPLATE))
    assert {one.prompt for one in (*world.questions(range(20)), *world.held_out(range(20)))} == set(found)
    many = lines(tmp_path / "many.jsonl", {"prompt": "a", "n": 10**400}, {"prompt": "b", "n": 0.5})
    assert read_rows(many) == [{"prompt": "a", "n": 10**400}, {"prompt": "b", "n": 0.5}]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.just("\ud800"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "prompt", "n"]) | st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.lists(st.tuples(JSON, JSON), min_size=1, max_size=4), st.booleans(), st.binary(max_size=3))
@settings(max_examples=60, deadline=None)
def test_whatever_a_file_holds_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, values: list[tuple[Any, Any]], ascii_only: bool, torn: bytes
) -> None:
    rows = [json.dumps({"prompt": prompt, "n": n}, ensure_ascii=ascii_only) for prompt, n in values]
    file = tmp_path_factory.getbasetemp() / "any.jsonl"
    file.write_bytes(torn + "\n".join([json.dumps(GOOD), *rows]).encode("utf-8", "surrogatepass"))
    for template in (None, TEMPLATE):
        try:
            world = PromptWorld(read_rows(file), bpe_tokenizer(template))
        except InputError as error:
            assert str(error).isprintable()
        else:
            train, held_out = sides(world, 9)
            assert train and held_out and not train & held_out


def test_datasets_folder(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_list(rows()).save_to_disk(str(tmp_path / "data"))
    assert read_rows(tmp_path / "data") == rows()
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no datasets folder"):
        read_rows(tmp_path / "empty")


def test_rows_of_a_datasets_folder_are_named_by_number(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_list([*rows(2), {"prompt": "", "want": ""}]).save_to_disk(str(tmp_path / "data"))
    refused("data row 3 has no prompt", read_rows, tmp_path / "data")
    datasets.Dataset.from_list([row | {"thoughts": "x"} for row in rows(2)]).save_to_disk(str(tmp_path / "more"))
    refused("more row 1 has a column 'thoughts'", read_rows, tmp_path / "more")


STRICT = (
    "{% for m in messages %}{% if m.role != 'user' %}{{ raise_exception('no ' + m.role) }}{% endif %}"
    "{{ m.content }}{% endfor %}"
)


def test_a_row_that_the_chat_template_refuses_is_named(tmp_path: Path) -> None:
    chat = [{"prompt": [{"role": role, "content": "hello"}]} for role in ("user", "wizard")]
    read = read_rows(lines(tmp_path / "prompts.jsonl", *chat))
    refused(
        "prompts.jsonl line 2: the chat template refuses it: TemplateError: no wizard",
        PromptWorld,
        read,
        bpe_tokenizer(STRICT),
    )
    refused("row 1: the chat template refuses it", PromptWorld, rows(), bpe_tokenizer("{{ messages[0].content + 1 }}"))
    refused("row 1: the chat template refuses it", PromptWorld, rows(), bpe_tokenizer("{% for %}"))


def test_a_row_that_the_tokenizer_cannot_take_is_named(tmp_path: Path) -> None:
    words = {word: i for i, word in enumerate(["<eos>", "<think>", "</think>", "yes", "no"])}
    inner = Tokenizer(models.WordLevel(words, unk_token="<unk>"))  # which is not among its words
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<eos>")
    delimiters = (" <think>", "</think>")
    good = read_rows(lines(tmp_path / "prompts.jsonl", {"prompt": "yes"}, {"prompt": "no"}, {"prompt": "yes no"}))
    assert len(PromptWorld(good, tokenizer, delimiters).questions(range(2))) == 2
    bad = read_rows(lines(tmp_path / "prompts.jsonl", {"prompt": "yes"}, {"prompt": "maybe"}))
    refused("prompts.jsonl line 2: the tokenizer cannot take it", PromptWorld, bad, tokenizer, delimiters)


@pytest.mark.parametrize(
    ("delimiters", "says"),
    [
        (("", "x"), "are not two texts"),
        (("x", " \n"), "are not two texts"),
        (("x",), "are not two"),
        (("x", 3), "are not two texts"),
        (("x", "\ud800"), "are not two texts"),
        (("<t>", "<t>"), "'<t>' and '<t>' are the same"),
    ],
)
def test_delimiters_that_cannot_work(delimiters: Any, says: str) -> None:
    refused(f"delimiters: .*{says}", PromptWorld, rows(), bpe_tokenizer(), delimiters)


def test_delimiters_that_this_tokenizer_cannot_write() -> None:
    words = {word: i for i, word in enumerate(["<eos>", "<unk>", "[open]", "what"])}
    inner = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.normalizer = normalizers.Replace("~", "")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<eos>", unk_token="<unk>")
    refused("'<think>' and '</think>' are the same to", PromptWorld, rows(), tokenizer)
    refused("'~~' is no token at all", PromptWorld, rows(), tokenizer, ("[open]", "~~"))
    refused("'</think>' comes back .* as '<unk>'", PromptWorld, rows(), tokenizer, ("[open]", "</think>"))


def test_a_long_closing_delimiter_is_seen() -> None:
    end = "=" * 5 + "the end of all that was thought" + "=" * 5
    world = PromptWorld(rows(), bpe_tokenizer(), ("begin", end))
    assert len(world.thought_end) > 16
    ids = world._ids("so it is" + end)
    assert ends(world, world.thought_stop, ids) and not ends(world, world.thought_stop, ids[:-1])


def sides(world: PromptWorld, n: int = 60) -> tuple[set[tuple[int, ...]], set[tuple[int, ...]]]:
    both = (world.questions(range(n)), world.held_out(range(n)))
    train, held_out = ({tuple(one.tokens) for one in some} for some in both)
    return train, held_out


def test_equal_prompts_stand_on_one_side() -> None:
    """Text, the same as one user's message, and the same again with another reference."""
    same = [
        row
        for i in range(30)
        for row in (
            {"prompt": f"q {i}", "n": 0},
            {"prompt": [{"role": "user", "content": f"q {i}"}], "n": 1},
            {"prompt": f"q {i}", "n": 2},
        )
    ]
    train, held_out = sides(PromptWorld(same, bpe_tokenizer(TEMPLATE)), 90)
    assert not train & held_out and len(train | held_out) == 30 and 1 <= len(held_out) < 15
    train, held_out = sides(PromptWorld([row for row in same if row["n"] != 1], bpe_tokenizer()), 90)
    assert not train & held_out and len(train | held_out) == 30 and 1 <= len(held_out) < 15
    # alike only once the template has joined them, or left something out
    joined = [{"prompt": f"a {i}\nb"} for i in range(30)]
    split = [{"prompt": [{"role": "user", "content": f"a {i}"}, {"role": "user", "content": "b"}]} for i in range(30)]
    lines_alone = "{{ messages | map(attribute='content') | join('\\n') }}"
    train, held_out = sides(PromptWorld(joined + split, bpe_tokenizer(lines_alone)))
    assert not train & held_out and len(train | held_out) == 30
    shouted = [{"prompt": f"{text} {i}"} for i in range(30) for text in ("hello", "HELLO")]
    train, held_out = sides(PromptWorld(shouted, bpe_tokenizer("{{ messages[0].content | lower }}")))
    assert not train & held_out and len(train | held_out) == 30


def test_where_the_hash_puts_all_on_one_side_a_whole_prompt_moves() -> None:
    """None of these four is held out by its hash, and each comes thrice."""
    few = [{"prompt": f"p{i}", "n": n} for n in range(3) for i in range(4)]
    assert not any(hashed_out(row["prompt"]) for row in few)
    world = PromptWorld(few, bpe_tokenizer())
    train, held_out = sides(world)
    assert len(train) == 3 and len(held_out) == 1 and not train & held_out
    assert len({one.columns["n"] for one in world.held_out(range(12))}) == 3


def test_the_split_is_the_same_at_every_resume() -> None:
    """Whatever the order of the rows, and for text whatever the model; text goes where it always went."""
    many = rows(200)
    first = PromptWorld(many, bpe_tokenizer())
    held_out = {one.prompt for one in first.held_out(range(200))}
    for other in (PromptWorld(many, bpe_tokenizer()), PromptWorld(many[::-1], bpe_tokenizer(TEMPLATE))):
        assert {one.prompt for one in other.held_out(range(200))} == held_out
    assert [one.prompt for one in PromptWorld(many, bpe_tokenizer()).questions(range(9))] == [
        one.prompt for one in first.questions(range(9))
    ]
    hashed = [int(hashlib.sha256(json.dumps(row["prompt"]).encode()).hexdigest()[:16], 16) % 10 == 0 for row in many]
    assert held_out == {row["prompt"] for row, out in zip(many, hashed, strict=True) if out}


def test_too_few_prompts() -> None:
    refused("1 rows are too few", PromptWorld, rows(1), bpe_tokenizer())
    refused("0 rows are too few", PromptWorld, [], bpe_tokenizer())
    refused("9 rows are too few .* two prompts", PromptWorld, rows(1) * 9, bpe_tokenizer())
    same = [{"prompt": "hi"}, {"prompt": [{"role": "user", "content": "hi"}]}]
    refused("2 rows are too few", PromptWorld, same, bpe_tokenizer(TEMPLATE))
    assert len(PromptWorld(rows(2), bpe_tokenizer()).held_out([0])) == 1


def test_a_file_of_others_is_asked_in_the_same_words(tmp_path: Path) -> None:
    """And it is known which of its prompts were held out when this world was made."""
    world = PromptWorld(rows(40), bpe_tokenizer(TEMPLATE))
    train, held_out = sides(world)
    read = list(world.read(lines(tmp_path / "others.jsonl", *rows(60))))
    assert len(read) == 60 and [one.columns["want"] for one in read] == [str(i + 2) for i in range(60)]
    assert {tuple(one.tokens) for one in read if one.held_out} == held_out
    assert train <= {tuple(one.tokens) for one in read if not one.held_out}
    refused("has no prompt", world.read, lines(tmp_path / "bad.jsonl", {"question": "x"}))


def test_limits_of_tokens_are_the_world_s() -> None:
    for question in (world := PromptWorld(rows(), bpe_tokenizer(), max_thought=7, max_answer=3)).questions([0, 1]):
        assert (question.max_thought, question.max_answer) == (7, 3)
    assert world.grader() is None and world.measure(world.questions([0])[0], "hm", "4") == {}
