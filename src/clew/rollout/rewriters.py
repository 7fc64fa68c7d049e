"""Paraphrasers by name: copy, shuffle, model:FOLDER (a frozen language model), package.module:function (anybody's).

The last two are told the text of a passage without what ends it, which stands behind whatever they make of it.
"""

import inspect
import operator
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
import torch

from clew.calls import Call, LateError, copied, load_function, takes
from clew.config import PLACE, RewriterConfig, SamplingConfig, check_rewriter
from clew.errors import InputError
from clew.policy import Policy
from clew.rollout.paraphrase import Paraphrase, Paraphraser, Passage, Tokens, copy, shuffle
from clew.rollout.sampler import SharedPrefixSampler
from clew.rollout.types import Context, Request
from clew.rollout.window import window_of
from clew.text import one_line, printable, show
from clew.world import Stop, World

MODEL = "model:"
NAMES = f"copy, shuffle, {MODEL}FOLDER or package.module:function"
GIVEN = ("texts", "tokens", "prompts", "seeds")
AT_ONCE = 64  # versions that a model writes side by side
TRIED = 8  # questions whose words a model is tried with


class ParaphraserError(RuntimeError):
    """A paraphraser failed; the message is one printable line that names it and the first offending passage."""


def paraphrase_of(
    name: str | None,
    how: str | None,
    rewriter: RewriterConfig,
    world: World,
    *,
    time_limit: float = 60.0,
    device: torch.device | str = "cpu",
) -> Paraphrase | None:
    """The paraphrase that options mean; None for none. how: whole, line, or None, which is whole.

    InputError for an unknown paraphraser, a function that cannot be found or called, a model that does not know the
    world's words, a template without a place for the text, a world that knows no other words or has no lines.
    """
    if name is None:
        return None
    by_line = how == "line"
    if by_line and world.line_end() is None:
        raise InputError(f"paraphrase: line needs thoughts with lines, and this world's have none: {_world(world)}")
    if name == "copy":
        return Paraphrase(copy, by_line)
    if name == "shuffle":
        if not world.rewrites:
            raise InputError(
                f"paraphraser: shuffle is for worlds that say a thought in other words: not {_world(world)}"
            )
        return Paraphrase(shuffle(world), by_line, in_warm_start=True)
    if name.startswith(MODEL):
        check_rewriter(rewriter)
        return Paraphrase(by_model(name, rewriter, world, by_line, device), by_line, takes_long=True)
    if ":" not in name:
        raise InputError(f"paraphraser: {show(name)} is not one of {NAMES}")
    return Paraphrase(by_function(name, world, by_line, time_limit), by_line, in_warm_start=True)


def _world(world: World) -> str:
    return f"{type(world).__module__}:{type(world).__name__}"


def by_function(path: str, world: World, by_line: bool, time_limit: float) -> Paraphraser:
    """Somebody's function, called as `f(texts, ...)` with one list, or several of these, as it takes them by name:

        texts      the passages as text, without what ends them
        tokens     the same as ids, with what ends them
        prompts    the text of what each one's shoggoth was asked
        seeds      a number each, the same for the same place of the same run

    It returns a list, or an awaitable of one: for each passage a text, or ids (with what ends them), or None where it
    has nothing to say. It sees copies, and one call may take `time_limit` seconds. ParaphraserError for all else.
    """
    function = load_function(path, "paraphraser")
    names = takes(function, GIVEN) or ("texts",)
    _check_call(path, function, names)

    def versions(passages: Sequence[Passage]) -> list[list[Tokens]]:
        parts = [Parts(world, passage.tokens, by_line) for passage in passages]
        asked = [i for i, part in enumerate(parts) if "texts" not in names or part.body]
        texts = [parts[i].body for i in asked]
        lists: dict[str, Callable[[], list[Any]]] = {
            "texts": lambda: texts,
            "tokens": lambda: [list(map(int, passages[i].tokens)) for i in asked],
            "prompts": lambda: [world.text(passages[i].prompt) for i in asked],
            "seeds": lambda: [passages[i].seed for i in asked],
        }
        given = copied({name: lists[name]() for name in names})
        said = _told(path, Call(function, given, time_limit), texts, time_limit) if asked else []
        made: list[list[Tokens]] = [[passage.tokens] for passage in passages]
        for i, one in zip(asked, said, strict=True):
            made[i] = _as_tokens(path, world, parts[i], one)
        return made

    return versions


def _check_call(path: str, function: Callable[..., Any], names: Sequence[str]) -> None:
    """InputError for a function that takes no passages, or needs more than it is given."""
    form = f"expected a function of texts or tokens, which may also take {' and '.join(GIVEN[2:])}"
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise InputError(f"paraphraser: {show(path)} is a generator; {form}")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a compiled function has none to look at
        return
    try:
        signature.bind(**dict.fromkeys(names))
    except TypeError as error:
        raise InputError(f"paraphraser: {show(path)} cannot be called: {one_line(error)}; {form}") from None
    if not {"texts", "tokens"} & set(names):
        raise InputError(f"paraphraser: {show(path)} takes neither texts nor tokens; {form}")


def _told(path: str, call: Call, texts: Sequence[str], time_limit: float) -> list[Any]:
    """What a function returned for these passages, a value each. ParaphraserError for what is no such list."""
    result, error = call.outcome()
    first = f"of {len(texts)} passages the first is {show(texts[0])}"
    if error is not None:
        late = isinstance(error, LateError)
        said = f"gave nothing within {time_limit:g} s" if late else f"raised {show(error)}"
        raise ParaphraserError(printable(f"paraphraser {show(path)} {said}; {first}"))
    result = result.tolist() if hasattr(result, "tolist") else result
    if not isinstance(result, list | tuple) or len(result) != len(texts):
        wanted = f"a list of {len(texts)} belongs, a text, ids or None for each passage"
        raise ParaphraserError(printable(f"paraphraser {show(path)} returned {show(result)} where {wanted}; {first}"))
    return list(result)


def _as_tokens(path: str, world: World, parts: "Parts", said: Any) -> list[Tokens]:
    """What a function said of one passage as its versions. ParaphraserError for what is no text, ids or None."""
    if said is None:
        return []
    if isinstance(said, str):
        return parts.around(str(said))
    said = said.tolist() if hasattr(said, "tolist") else said
    ids, size = _as_ids(said), len(world.tokenizer)
    if ids is not None and all(0 <= token < size for token in ids):
        return [ids]
    wanted = f"a text, ids below {size} or None belongs"
    raise ParaphraserError(f"paraphraser {show(path)} returned {show(said)} where {wanted}; passage {show(parts.body)}")


def _as_ids(said: Any) -> list[int] | None:
    """Whole numbers of any kind (numpy's, say) as ints; None for what is no list of these. Truth values are none."""
    if not isinstance(said, list | tuple) or any(isinstance(token, bool | np.bool_) for token in said):
        return None
    try:
        return [operator.index(token) for token in said]
    except TypeError:
        return None


class Parts:
    """A passage as text, and what stands around it whatever the text becomes: space, and what ended it."""

    def __init__(self, world: World, tokens: Tokens, by_line: bool) -> None:
        self.world, self.by_line = world, by_line
        over, line = world.thought_stop, (world.line_end() or Stop()) if by_line else Stop()
        ended = len(tokens) > 0 and tokens[-1] in (*over.token_ids, *line.token_ids)
        self.end = [int(token) for token in tokens[-1:]] if ended else []
        text = str(world.tokenizer.decode([int(token) for token in (tokens[:-1] if ended else tokens)]))
        # A line may be told by what it holds, too; only one that ends in white space has an end that says nothing.
        ends = [*over.strings, *(string for string in line.strings if not string.strip())]
        at = min((text.index(end) for end in ends if end in text), default=len(text))
        self.tail, text = text[at:], text[:at]
        self.body = text.strip()
        """what is to be said in other words; empty where there is nothing"""
        start = text.index(self.body) if self.body else 0
        self.lead, self.rest = text[:start], text[start + len(self.body) :]
        self.ends = ends

    def around(self, said: str) -> list[Tokens]:
        """The passage's one version with this text in its body's place; none where the text says nothing, or holds what
        would end it."""
        said = said.strip()
        if not said or any(end in said for end in self.ends):
            return []
        if self.by_line and len(said.splitlines()) > 1:
            return []
        tokens = self.world.tokens_of(self.lead + said + self.rest + self.tail)
        return [] if tokens is None else [[*tokens, *self.end]]


def by_model(
    name: str, config: RewriterConfig, world: World, by_line: bool, device: torch.device | str = "cpu"
) -> Paraphraser:
    """A frozen language model that is asked for `versions` of each passage by a template; a chat model is asked as a
    user would. A version counts where it ended by itself (with a line's end, of a line) and is not empty.

    InputError for a folder that holds no model, or one that does not know the world's words.
    """
    policy = Policy.load(name.removeprefix(MODEL))
    try:
        policy.check()
    except InputError:  # one that cannot share prefixes reads rows, or says why it reads nothing exactly
        policy.attention = "rows"
        policy.check()
    _check_words(name, policy, world)
    policy.model.requires_grad_(False).eval().to(device)  # type: ignore[arg-type]
    sampler, window = SharedPrefixSampler(policy), window_of(policy)
    ends = Stop(_end_ids(policy), ("\n",) if by_line else ())
    sampling = SamplingConfig(temperature=config.temperature)

    def versions(passages: Sequence[Passage]) -> list[list[Tokens]]:
        parts = [Parts(world, passage.tokens, by_line) for passage in passages]
        made: list[list[Tokens]] = [
            [] if part.body else [one.tokens] for part, one in zip(parts, passages, strict=True)
        ]
        asked = []
        for i, part in enumerate(parts):
            ids = _asked(policy, config.template, part.body) if part.body else []
            if ids and (window is None or len(ids) + config.max_tokens <= window):
                request = (
                    Context(ids, "prompt"),
                    "thought",
                    config.max_tokens,
                    ends,
                    config.versions,
                    passages[i].seed,
                )
                asked.append((i, Request(*request)))  # type: ignore[arg-type]
        some = max(1, AT_ONCE // config.versions)
        for first in range(0, len(asked), some):
            batch = asked[first : first + some]
            written = sampler.sample([request for _, request in batch], sampling)
            owners = [i for i, _ in batch for _ in range(config.versions)]
            for i, one in zip(owners, written, strict=True):
                made[i] += parts[i].around(_text(policy, one.tokens)) if one.ended else []
        return made

    return versions


def _asked(policy: Policy, template: str, text: str) -> list[int]:
    filled = template.replace(PLACE, text)
    if policy.tokenizer.chat_template:
        message = [{"role": "user", "content": filled}]
        filled = policy.tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
        return policy.tokenizer(str(filled), add_special_tokens=False).input_ids
    return policy.tokenizer(filled).input_ids


def _text(policy: Policy, tokens: Sequence[int]) -> str:
    return str(policy.tokenizer.decode(list(tokens), skip_special_tokens=True))


def _end_ids(policy: Policy) -> tuple[int, ...]:
    """The tokens that a model ends its texts with."""
    known = getattr(policy.model.generation_config, "eos_token_id", None)
    several = known if isinstance(known, list) else [known]
    return tuple(dict.fromkeys(i for i in (policy.tokenizer.eos_token_id, *several) if isinstance(i, int)))


def _check_words(name: str, policy: Policy, world: World) -> None:
    """InputError for a model whose tokens cannot say what this world's questions say."""
    for question in world.to_check()[:TRIED]:
        text = str(world.tokenizer.decode(question.tokens))
        back = str(policy.tokenizer.decode(policy.tokenizer(text, add_special_tokens=False).input_ids))
        for word, said in zip_longest(text.split(), back.split(), fillvalue=""):
            if word != said:
                raise InputError(f"paraphraser: {show(name)} reads {show(word)} of this world as {show(said)}")
