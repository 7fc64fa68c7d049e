"""Paraphrasers: which versions can be read, who is asked for what, and what is refused before any work."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clew.config import MazeConfig, RewriterConfig, SamplingConfig
from clew.errors import InputError
from clew.losses import token_nll, weighted_nll
from clew.mazes.world import MazeWorld
from clew.policy import Policy
from clew.prompts.world import PromptWorld
from clew.rollout.lines import line_by_line, seed_of
from clew.rollout.paraphrase import Paraphrase, Passage, Tokens, copy, line_stop
from clew.rollout.rewriters import ParaphraserError, Parts, paraphrase_of
from clew.rollout.sampler import SharedPrefixSampler
from clew.rollout.stages import limited, rollouts
from clew.rollout.stops import cut, held
from clew.rollout.trees import training_batch
from clew.rollout.types import Completion, Request
from clew.tree import SpanTree, TreeBatch
from clew.world import Stop
from small import WORLD
from texts import bpe_tokenizer
from toy import Sorting

BFS = MazeWorld(MazeConfig(sizes=[3], traces=["bfs"]))
ROWS = [{"prompt": f"what is {i}?"} for i in range(20)]


def text_world(delimiters: tuple[str, str] = ("<think>", "</think>")) -> PromptWorld:
    return PromptWorld(ROWS, bpe_tokenizer(), delimiters)


def passage(world: Any, text: str, seed: int = 0, ends: Sequence[int] = ()) -> Passage:
    tokens = world.tokenizer(text, add_special_tokens=False).input_ids
    return Passage(world.questions([0])[0].tokens, (), [*tokens, *ends], seed)


def read(paraphrase: Paraphrase | None, world: Any, *passages: Passage, room: int = 999) -> list[tuple[str, bool]]:
    assert paraphrase is not None
    done = paraphrase.rewritten(world, passages, [room] * len(passages))
    return [(str(world.tokenizer.decode(list(tokens))), kept) for tokens, kept in done]


def named(name: str, world: Any, how: str = "whole", **options: Any) -> Paraphrase | None:
    return paraphrase_of(name, how, options.pop("rewriter", RewriterConfig()), world, **options)


def test_where_completions_end_is_where_tokens_are_cut() -> None:
    tokenizer = bpe_tokenizer()
    text = "one\ntwo\n\nthree</think>"
    ids = tokenizer(text, add_special_tokens=False).input_ids
    parts = cut(Stop((), ("\n", "</think>")), tokenizer, ids)
    assert [tokenizer.decode(part) for part in parts] == ["one\n", "two\n", "\n", "three</think>"]
    assert [token for part in parts for token in part] == ids and cut(Stop(), tokenizer, ids) == [ids]
    assert held(Stop((), ("</think>",)), tokenizer, ids) and not held(Stop((), ("</think>",)), tokenizer, parts[0])
    assert held(Stop((ids[1],)), tokenizer, ids) and not held(Stop((1,)), tokenizer, ids)
    assert not held(Stop(), tokenizer, ids) and not held(Stop((), ("x",)), tokenizer, [])


def test_a_version_is_read_only_where_it_ends_as_the_passage_does() -> None:
    end, (separator,) = BFS.thought_end[0], BFS.line_end().token_ids  # type: ignore[union-attr]
    for by_line, line in ((False, [15, 16, end]), (True, [15, 16, end]), (True, [15, 16, separator])):
        last = line[-1]
        good: list[list[int]] = [line, [20, last], [17, 18, 19, last]]
        bad = [[], [20], [20, end, last], [20, last, 20]] + ([[20, separator, 20, last]] if by_line else [])
        for version in [*good, *bad]:
            told = Paraphrase(lambda passages, version=version: [[version] for _ in passages], by_line)  # type: ignore[misc]
            ((tokens, kept),) = told.rewritten(BFS, [Passage([1], [], line)], [4])
            assert (list(tokens), kept) == ((version, False) if version in good else (line, True)), (version, by_line)
    longer = Paraphrase(lambda passages: [[[17, 18, 19, 20, end]]])
    assert longer.rewritten(BFS, [Passage([1], [], [15, end])], [4]) == [([15, end], True)]
    assert longer.rewritten(BFS, [Passage([1], [], [15, end])], [5])[0][1] is False


def test_one_of_the_versions_that_can_be_read_is_drawn() -> None:
    end = BFS.thought_end[0]
    several = Paraphrase(lambda passages: [[[20], [17, end], [18, end], [19, end], []] for _ in passages])
    passages = [Passage([1], [], [15, end], seed) for seed in range(300)]
    drawn = [tokens[0] for tokens, _ in several.rewritten(BFS, passages, [9] * 300)]
    assert set(drawn) == {17, 18, 19} and min(map(drawn.count, {17, 18, 19})) > 70
    assert [several.rewritten(BFS, [one], [9])[0][0][0] for one in passages[:20]] == drawn[:20]


def test_a_function_is_given_texts_without_their_ends_and_its_texts_get_them_again() -> None:
    world = text_world()
    upper = named("rewriters:upper", world, "line")
    told = read(upper, world, passage(world, "  so it is two\n"), passage(world, "\n"), passage(world, "done</think>"))
    assert told == [("  SO IT IS TWO\n", False), ("\n", False), ("DONE</think>", False)]
    assert read(named("rewriters:upper", world), world, passage(world, "a\n\nb")) == [("A\n\nB", False)]
    eos = world.answer_stop.token_ids
    assert read(named("rewriters:upper", world), world, passage(world, "a", ends=eos)) == [("A<eos>", False)]
    for bad in ("ends_itself", "two_lines", "silent"):
        assert read(named(f"rewriters:{bad}", world, "line"), world, passage(world, "a\n")) == [("a\n", True)], bad
    assert read(named("rewriters:two_lines", world), world, passage(world, "a</think>")) == [
        ("a\nand more</think>", False)
    ]


def test_a_function_may_take_tokens_and_what_else_there_is() -> None:
    one = passage(BFS, "(0,0) (0,1) ;")
    for name in ("backwards", "backwards_of_numpy"):
        assert read(named(f"rewriters:{name}", BFS, "line"), BFS, one) == [("(0,1) (0,0) ;", False)]
    prompt = len(BFS.text(one.prompt)) % 3
    assert read(named("rewriters:seeded", BFS, "line"), BFS, passage(BFS, "(0,0) (0,1) ;", 5)) == [
        (f"(0,0) (0,1) (2,{prompt}) ;", False)
    ]


@pytest.mark.parametrize(
    ("function", "says"),
    [
        ("raises", "raised ValueError"),
        ("hangs", "gave nothing within 0.2 s"),
        ("short", "returned [] where a list of 1 belongs"),
        ("numbers", "returned 1.5 where a text, ids below"),
        ("beyond", "returned [1000000] where a text, ids below"),
        ("truths", "returned [True, "),
    ],
)
def test_a_function_that_fails_ends_the_run_in_one_line(function: str, says: str) -> None:
    world = text_world()
    paraphrase = named(f"rewriters:{function}", world, time_limit=0.2)
    with pytest.raises(ParaphraserError) as error:
        read(paraphrase, world, passage(world, "two\x1b[2J"))
    line = str(error.value)
    assert f"paraphraser 'rewriters:{function}' {says}" in line and "\n" not in line and "\x1b" not in line


@pytest.mark.parametrize(
    ("name", "world", "how", "says"),
    [
        (
            "all",
            BFS,
            "whole",
            "paraphraser: 'all' is not one of copy, shuffle, model:FOLDER or package",
        ),
        ("no.module:f", BFS, "whole", "paraphraser: 'no.module:f' cannot be imported"),
        ("rewriters:nothing", BFS, "whole", "cannot be imported"),
        ("rewriters:needs_more", BFS, "whole", "cannot be called: missing a required argument: 'key'"),
        ("rewriters:greedy_for_more", BFS, "whole", "cannot be called: missing a required argument: 'thoughts'"),
        ("rewriters:neither", BFS, "whole", "takes neither texts nor tokens"),
        (
            "shuffle",
            Sorting(),
            "whole",
            "paraphraser: shuffle is for worlds that say a thought in other words: not toy",
        ),
        ("copy", WORLD, "line", "paraphrase: line needs thoughts with lines"),
        ("copy", Sorting(), "line", "paraphrase: line needs thoughts with lines"),
        ("copy", text_world(("<think>", "\n</think>")), "line", "paraphrase: line needs a thought's end that holds no"),
        ("model:nowhere", BFS, "whole", "nowhere is not a folder"),
    ],
)
def test_what_cannot_be_used_is_said_before_any_work(name: str, world: Any, how: str, says: str) -> None:
    with pytest.raises(InputError) as error:
        named(name, world, how)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_nobody_is_nothing() -> None:
    assert paraphrase_of(None, None, RewriterConfig(), BFS) is None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "mazes"
    Policy.build(BFS.tokenizer, 1, 16, 2, seed=3).save(path)
    return path


def test_a_model_that_does_not_know_the_words_is_refused(folder: Path) -> None:
    larger = MazeWorld(MazeConfig(sizes=[5], traces=["bfs"]))
    with pytest.raises(InputError, match=r"paraphraser: 'model:.*' reads '\([0-4],[0-4]\)' of this world as '<UNK>'"):
        named(f"model:{folder}", larger)
    with pytest.raises(InputError, match=r"rewriter.template: 'say it again' has no \{text\}"):
        named(f"model:{folder}", BFS, rewriter=RewriterConfig(template="say it again"))


def test_a_model_writes_versions_that_are_its_own_and_falls_back_where_it_says_nothing(folder: Path) -> None:
    passages = [passage(BFS, "<THOUGHT_START> (0,0) (0,0)", seed, BFS.thought_end) for seed in range(12)]
    told = named(f"model:{folder}", BFS, rewriter=RewriterConfig("{text}", versions=3, max_tokens=40))
    assert told is not None and not told.in_warm_start
    together = told.rewritten(BFS, passages, [60] * 12)
    assert any(not kept for _, kept in together) and len({tuple(tokens) for tokens, _ in together}) > 4
    assert all(list(tokens)[-1:] == BFS.thought_end for tokens, _ in together)
    for one, (tokens, kept) in zip(passages[:4], together, strict=False):
        ((alone, same),) = told.rewritten(BFS, [one], [60])
        assert list(alone) == list(tokens) and same == kept
    hasty = named(f"model:{folder}", BFS, rewriter=RewriterConfig("{text}", versions=3, max_tokens=1))
    assert hasty is not None
    assert all(kept or len(tokens) == 2 for tokens, kept in hasty.rewritten(BFS, passages, [60] * 12))
    assert all(kept for _, kept in told.rewritten(BFS, passages, [2] * 12))  # no room for any


def test_a_chat_model_is_asked_as_by_a_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world, asked = text_world(), []
    Policy.build(bpe_tokenizer("{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}!"), 1, 16, 2).save(
        tmp_path
    )

    def spied(self: Any, requests: Sequence[Request], sampling: SamplingConfig) -> list[Completion]:
        asked.extend(
            (self.policy.tokenizer.decode(one.context.ids()), one.stop.strings, one.copies) for one in requests
        )
        said = self.policy.tokenizer(" hm ").input_ids
        return [
            Completion(one.context, one.role, said, [0.0] * len(said), finish)  # type: ignore[arg-type]
            for one in requests
            for finish in ["stop", "length"]
        ]

    monkeypatch.setattr(SharedPrefixSampler, "sample", spied)
    told = named(f"model:{tmp_path}", world, "line", rewriter=RewriterConfig("say: {text}", versions=2))
    assert read(told, world, passage(world, " a b\n"), passage(world, "\n")) == [(" hm\n", False), ("\n", False)]
    assert asked == [("[user] say: a b!", ("\n",), 2)]


def test_a_thought_is_never_read_at_more_tokens_than_it_may_have() -> None:
    """Versions that double each line leave room for fewer of them, and then none."""
    (separator,) = BFS.line_end().token_ids  # type: ignore[union-attr]

    class Scripted:
        def sample(self, requests: Sequence[Request], sampling: SamplingConfig) -> list[Completion]:
            made = []
            for one in requests:
                tokens = [15, 16, separator][: one.max_tokens]
                finish: Any = "stop" if len(tokens) == 3 else "length"
                made += [Completion(one.context, one.role, tokens, [0.0] * len(tokens), finish)] * one.copies
            return made

        sync: Any = None

    def doubled(passages: Sequence[Passage]) -> list[list[Tokens]]:
        return [[[*one.tokens[:-1], *one.tokens]] for one in passages]

    (question,) = BFS.questions([0])
    for most in range(1, 20):
        asked = [type(question)(question.prompt, question.tokens, most, 3)]
        (thought,) = line_by_line(BFS, Scripted(), asked, 1, SamplingConfig(), [0], Paraphrase(doubled, True))
        assert max(len(thought.tokens), len(thought.read_tokens)) <= most and not thought.ended
        assert max(len(thought.tokens), len(thought.read_tokens)) == most  # and all of it is used


def test_what_a_text_says_in_a_world_s_tokens() -> None:
    for world, text in ((BFS, "(0,0) (0,1) ;"), (Sorting(), "3 1 2"), (text_world(), "so it\n is")):
        tokens = world.tokens_of(text)
        assert tokens and str(world.tokenizer.decode(tokens)).split() == text.split()
    for world, text in ((BFS, "(9,9)"), (BFS, "hm"), (Sorting(), "3 x"), (text_world(), ""), (text_world(), "\ud800")):
        assert world.tokens_of(text) is None


def taught() -> Policy:
    """A small model of text that writes lines."""
    world = text_world()
    policy = Policy.build(world.tokenizer, 1, 32, 2, seed=2)
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=1e-2)
    ids = [world.tokenizer(text, add_special_tokens=False).input_ids for text in ("one\ntwo \n\nsay</think>", "two")]
    trees = []
    for question in world.questions(range(4)):
        answer = SpanTree([*ids[1], *world.answer_stop.token_ids], "answer", 1.0)
        trees.append(SpanTree(question.tokens, "prompt", 0.0, [SpanTree(ids[0], "thought", 1.0, [answer])]))
    for _ in range(25):
        batch = TreeBatch.pack(trees, policy.pad_token_id)
        (weighted_nll(policy.model, batch) / batch.weights_S.sum()).backward()
        optimizer.step()
        optimizer.zero_grad()
    return policy


def test_lines_of_text() -> None:
    """Copied, they are the thoughts of nobody's pause; rewritten, what was sampled is what is learnt."""
    world, policy = text_world(), taught()
    sampler, questions, seeds = SharedPrefixSampler(policy), limited(world.questions(range(6)), 30, 4), range(6)
    hot = {"sampling": SamplingConfig(), "seeds": seeds}
    greedy = [
        rollouts(world, sampler, sampler, questions, (1, 1), paraphrase=paraphrase)
        for paraphrase in (None, named("copy", world, "line"))
    ]
    plain, copied = ([(one.thought_texts, one.answer_texts) for one in made] for made in greedy)
    assert plain == copied and any(len(one.thoughts[0].lines) > 2 for one in greedy[1])
    told = rollouts(
        world, sampler, sampler, questions, (3, 2), paraphrase=named("rewriters:upper", world, "line"), **hot
    )
    written = [(line.written, 1.0) for one in told for thought in one.thoughts for line in thought.lines]
    written += [(answer, 0.5) for one in told for several in one.answers for answer in several]
    batch = training_batch(written, policy.pad_token_id)
    assert batch is not None and batch.sampled_nll_S is not None
    with torch.no_grad():
        assert (token_nll(policy.model, batch) - batch.sampled_nll_S).abs().max() < 1e-4
    read = [world.text(line.read.tokens) for one in told for thought in one.thoughts for line in thought.lines]
    assert "ONE\n" in read and any(text.endswith("</think>") and text[0].isupper() for text in read)
    assert max(len(thought.read_tokens) for one in told for thought in one.thoughts) <= 30


def test_seeds_are_their_places_own() -> None:
    places = [(s, p, i, j) for s in (0, 1) for p in ([1, 2], [1, 3]) for i in (0, 1) for j in range(3)]
    assert len({seed_of(s, p, 1, i, j) for s, p, i, j in places}) == len(places)
    assert seed_of(3, np.array([1, 2]), 1) == seed_of(3, [1, 2], 1)  # type: ignore[arg-type]


def test_lines_end_where_the_thought_does_too() -> None:
    stop = line_stop(BFS)
    assert set(BFS.thought_stop.token_ids) < set(stop.token_ids)
    world = text_world()
    assert line_stop(world).strings == ("</think>", "\n")
    assert Parts(world, world.tokenizer(" so\n").input_ids, True).body == "so"
    assert copy([]) == []
    made: Callable[..., Any] = named  # nobody keeps the state of a call
    assert made("copy", world).versions is made("copy", BFS).versions
