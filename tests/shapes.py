"""Trees of awkward shapes, on which a layout by levels could cost far more than plain rows."""

from hypothesis import strategies as st

from clew import SpanTree


def caterpillar(levels: int, line: int, leaf: int) -> SpanTree:
    """A thought rewritten line by line: each level forks into the line as written, a leaf, and the way on."""
    tree = SpanTree([3] * leaf, "answer", 1.0)
    for _ in range(levels):
        tree = SpanTree([4] * line, "prompt", 0.0, [SpanTree([5] * leaf, "thought", 1.0), tree])
    return tree


def staggered(depth: int, long: int) -> SpanTree:
    """Branch j forks off after j tokens and is long: as many levels as branches, and all of them wide."""
    tree = SpanTree([3] * long, "answer", 1.0)
    for _ in range(depth):
        tree = SpanTree([4], "prompt", 0.0, [SpanTree([5] * long, "answer", 1.0), tree])
    return tree


def bushy(thoughts: int, answers: int) -> SpanTree:
    """Many thoughts, of which one alone has many answers."""
    answered = SpanTree([4] * 2, "thought", 1.0, [SpanTree([5] * 3, "answer", 1.0) for _ in range(answers)])
    return SpanTree([3], "prompt", 0.0, [answered, *(SpanTree([4] * 2, "thought", 1.0) for _ in range(thoughts - 1))])


def lopsided(long: int, short: int) -> SpanTree:
    """One long answer among many short ones."""
    few = [SpanTree([6], "answer", 1.0)] * short
    return SpanTree([3] * 5, "prompt", 0.0, [*few, SpanTree([5] * long, "answer", 1.0), *few])


def forked(prefix: int, branches: list[int]) -> SpanTree:
    """A prefix of so many tokens with branches of such lengths."""
    return SpanTree([4] * prefix, "prompt", 0.0, [SpanTree([5] * length, "answer", 1.0) for length in branches])


@st.composite
def crooked(draw: st.DrawFn, spans: int = 220) -> SpanTree:
    """Trees of any shape, up to 200 levels: a token or more a span, each hung below one of those before it."""
    count, bias = draw(st.integers(1, spans)), draw(st.sampled_from([0.0, 0.5, 0.95, 1.0]))
    dice = draw(st.randoms(use_true_random=False))
    longest = draw(st.sampled_from([1, 3, 40]))
    below: list[list[int]] = [[] for _ in range(count)]
    for s in range(1, count):
        below[s - 1 if dice.random() < bias else dice.randrange(s)].append(s)
    made: dict[int, SpanTree] = {}
    for s in reversed(range(count)):
        tokens = [dice.randrange(2, 40) for _ in range(dice.randint(1, longest))]
        made[s] = SpanTree(tokens, "answer", dice.choice([0.0, 1.0, -0.5]), [made[child] for child in below[s]])
    return made[0]
