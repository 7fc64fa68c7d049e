"""What a run will take, before it takes it: estimates of memory, held against what the machine has.

Estimates are what measured runs took, or less: what would just fit is never refused.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from clew.errors import InputError

NUMBER = 4  # bytes of a float32
LEARNT = 4 * NUMBER  # a parameter with its gradient and AdamW's two averages
KEPT = 32  # numbers that a token of a layer keeps for the backward pass, a unit of width (measured: 42 to 58)
TOKEN = 50  # the same as it usually is
LARGE = 30_000_000  # parameters of a model whose passes are kept within SHARE where no budget is named
SHARE = 4  # what a pass may take of the memory that there is: a quarter
LAYERS = 1024  # each takes a moment to make and to run, however narrow it is
SAMPLED = 40  # bytes of a sampled token: two entries of lists, and a log-probability


def machine_memory() -> int:
    """Bytes of memory that this process may use: the machine's, or what its control group or limits leave of it."""
    have = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            have = min(have, int(Path(path).read_text()))
        except (OSError, ValueError):  # no such group, or "max"
            continue
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        return min(have, limit) if limit != resource.RLIM_INFINITY else have
    except ImportError:  # not on Windows
        return have


def llama_parameters(layers: int, width: int, vocab: int) -> int:
    """Parameters of a new Llama, see Policy.build."""
    return 16 * layers * width**2 + 2 * vocab * width


def training_bytes(
    parameters: int, tokens: int, layers: int, width: int, number: int = NUMBER, anew: bool = False, logits: int = 0
) -> int:
    """Bytes that a step takes on `tokens` tokens, each shared prefix counted once. anew: gradient checkpointing.
    logits: how many are held at once, beside their gradient."""
    kept = layers + KEPT if anew else KEPT * layers
    return LEARNT * parameters + number * kept * tokens * width + 2 * NUMBER * logits


def tokens_that_fit(layers: int, width: int, number: int, anew: bool, have: int) -> int:
    """How many tokens a pass may read to take at most about a quarter of the memory that there is: whole hundreds, 100
    or more. What a token keeps for the backward pass is what counts; logits are made in parts."""
    kept = layers + TOKEN if anew else TOKEN * layers
    return max(100, have // SHARE // (number * kept * width) // 100 * 100)


def sampling_bytes(rows: int, context: int, new: int, layers: int, width: int, vocab: int) -> int:
    """Bytes that `rows` continuations take at once: keys and values of their own tokens and of `context` tokens that
    they share, and their distributions over the next token."""
    return NUMBER * (2 * layers * width * (rows * new + context) + 8 * rows * vocab)


def check_memory(
    config: Any, usual: Mapping[str, int], bytes_of: Callable[[Any], int], have: int | None = None
) -> None:
    """InputError if a config's run would take more memory than there is.

    usual: the options that decide on it, with what they usually are. The message names the one that is furthest
    beyond that, the estimate and the largest value of it that would fit. bytes_of: the estimate for a config.
    """
    have = machine_memory() if have is None else have
    need = bytes_of(config)
    if need <= have:
        return
    name = max(usual, key=lambda option: value_of(config, option) / usual[option])
    value = value_of(config, name)
    fits, beyond = 0, value
    while beyond - fits > 1:
        middle = (fits + beyond) // 2
        fits, beyond = (middle, beyond) if bytes_of(changed(config, name, middle)) <= have else (fits, middle)
    cure = f"{rounded_down(fits):,} would fit" if fits else "no value of it alone would fit"
    raise InputError(f"{name}: {value:,} would take about {size(need)} of memory, and there are {size(have)}; {cure}")


def check_layers(layers: int, option: str = "layers") -> None:
    """InputError for more layers than can be made in a moment."""
    if layers > LAYERS:
        cost = "minutes to make and seconds to run a token through, however narrow"
        raise InputError(f"{option}: {layers:,} would take {cost}; expected at most {LAYERS:,}")


def value_of(config: Any, option: str) -> Any:
    for part in option.split("."):
        config = getattr(config, part)
    return config


def changed(config: Any, option: str, value: Any) -> Any:
    """A copy of a config with one option, which may be nested, set to another value."""
    first, _, rest = option.partition(".")
    return replace(config, **{first: changed(getattr(config, first), rest, value) if rest else value})


def rounded_down(number: int) -> int:
    """To two digits: an estimate is no more exact."""
    unit = 10 ** max(0, len(str(number)) - 2)
    return number // unit * unit


def size(count: float) -> str:
    """Bytes as people say them."""
    return f"{count / 2**30:,.0f} GiB" if count >= 10 * 2**30 else f"{count / 2**20:,.0f} MiB"
