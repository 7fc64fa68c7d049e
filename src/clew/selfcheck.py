"""Whether a model reads trees, or plain rows, exactly: tried on the model before it is first used.

transformers ships some two hundred causal architectures. In most of them a token's place and what it may attend to
reach the attention function as arguments, and that is all that reading a tree takes. In others the order of the row
itself matters (recurrences, convolutions), or places enter by a way of their own, and a tree would be read wrongly
without a word. No list of names could be kept right, so each model is asked: a small tree against its plain rows.

What it costs: a model of up to 30 million parameters is copied (float32, on the CPU, a little noise on its weights, so
that parameters that begin at 0 count) and the copy reads about 40 tokens a few times: on one core 0.1 seconds for
135,000 parameters, 0.2 for a million, 2.7 for 25 million. A larger one reads them itself, within its own precision,
which takes about as long as two short training steps. Once for each model in a process, and again where a path is more
than twice as long as any before it, where a batch is larger (a pass without gradients), and where a model was changed.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from clew.attention import NAME, inner, read_by, reading, row_logits, set_up, tree_logits, undo
from clew.errors import InputError
from clew.prefix import SharedPrefix
from clew.tree import SpanTree, TreeBatch
from clew.trial import apart, noisy_copy, on_trial, quiet, set_reading

SMALL = 30_000_000  # parameters of a model that is copied
TOLERANCE = 1e-3  # nats, and shares of the largest gradient, in float32; rounding comes to 1e-5
ROUNDING = 8  # times a precision's relative spacing: what may differ where that is more
ROOMS = ("max_position_embeddings", "n_positions", "sliding_window", "attention_chunk_size")
GRADIENTS = 200  # of a large model's parameters, the smallest: enough to name each layer, little to hold
TOLD = ("dtype", "architectures")  # of a config's options those that saving writes, and nothing reads
WAY_ON = "--attention rows trains the same weights exactly on plain rows, without shared prefixes"


def reads_trees(model: nn.Module, reach: int = 0, tokens: int = 0) -> None:
    """Sets a model up to read trees whose longest path has `reach` tokens, `tokens` in all, if it does so exactly.

    InputError, and a model that is left as it was, if its losses, gradients or sampled tokens over a tree are not those
    over the tree's plain rows; the line says by how much. A model that was changed since is asked anew.
    """
    base = inner(model)
    made = _made(base)
    known, far, wide = getattr(base, "_clew_trees", (None, 0, 0))
    if known != made:
        far = wide = 0
    elif reach <= far and tokens <= wide:
        set_up(base)  # since then somebody may have set another attention function
        return
    fault = _fault_of(base, _trees_fault) if known != made else None
    if not fault and reach > far:
        # Twice as far, so that paths which grow little by little are not checked each time.
        far, fault = _as_far(base, _reach_fault, reach, min(2 * reach, room_of(base)))
        fault = fault and f"on a path of {reach} tokens {fault}"
    if not fault and tokens > wide:
        wide, fault = _as_far(base, _width_fault, tokens, tokens + tokens // 4)
        fault = fault and f"among {tokens} tokens of other paths {fault}"
    if fault:
        if known != made:
            undo(base)
            set_reading(base, getattr(base, "_clew_came_with", None))
        _finite(base)
        raise InputError(f"model: {type(base).__name__} does not read trees exactly: {fault}; {WAY_ON}")
    base._clew_trees = (made, far, wide)  # type: ignore[assignment]
    if read_by(base) != {NAME}:
        base._clew_came_with = base.config._attn_implementation  # type: ignore[assignment]
    set_up(base)


def reads_rows(model: nn.Module, reach: int = 0) -> None:
    """InputError if a model's plain rows of `reach` tokens are not what they should be: causal, and deaf to the padding
    behind them."""
    base = inner(model)
    made = _made(base)
    known, far = getattr(base, "_clew_rows", (None, 0))
    far = far if known == made else 0
    fault = _fault_of(base, _rows_fault) if known != made else None
    if not fault and reach > far:
        far, fault = _as_far(base, _length_fault, reach, min(2 * reach, room_of(base)))
        fault = fault and f"on rows of {reach} tokens {fault}"
    if fault:
        _finite(base)
        raise InputError(f"model: {type(base).__name__} cannot be trained, not even on plain rows: {fault}")
    base._clew_rows = (made, far)  # type: ignore[assignment]


def vouched_for(model: nn.Module) -> None:
    """Asks a model no more, as it is made now: for one that would need other processes to answer."""
    base, far = inner(model), 2**62
    made = _made(base)
    base._clew_trees, base._clew_rows = (made, far, far), (made, far)  # type: ignore[assignment]


def _made(base: PreTrainedModel) -> int:
    """A number for all that decides on how a model reads, as far as a glance tells: its parts and its options."""
    plain = (int, float, str, list, tuple, dict, type(None))
    options = [
        (name, repr(value))
        for name, value in vars(base.config.get_text_config()).items()
        if name[0] != "_" and name not in TOLD and isinstance(value, plain)
    ]
    return hash((*options, *map(type, base.modules())))


Test = Callable[[PreTrainedModel, float], str | None]
"""what is wrong with a model, held against a tolerance; None if nothing is"""
Losses = tuple[Tensor, list[Tensor | None]]
"""nll_S of a batch, and the gradients of its weighted sum"""


def _as_far(base: PreTrainedModel, test_of: Callable[[int], Test], wanted: int, further: int) -> tuple[int, str | None]:
    """How far a model passes a test, `further` or at least as far as wanted, and what is wrong if not even that."""
    if further > wanted and not _fault_of(base, test_of(further)):
        return further, None
    return wanted, _fault_of(base, test_of(wanted))


def _finite(base: PreTrainedModel) -> None:
    """InputError for weights with which no model reads anything."""
    for name, parameter in base.named_parameters():
        if parameter.is_floating_point() and not parameter.isfinite().all():
            raise InputError(
                f"model: its weights are no finite numbers any more ({name}); a lower --lr is the usual cure"
            )


def _fault_of(base: PreTrainedModel, test: Test) -> str | None:
    """What a test says of a copy of the model, or of the model itself where that is large.

    Of two copies with different weights one has to pass: rounding may send a token to another expert in the other.
    """
    small = sum(p.numel() for p in base.parameters()) <= SMALL and not getattr(base, "is_quantized", False)
    fault = None
    with apart(base.device.type), torch.random.fork_rng(devices=[]), quiet():
        for noise in (1.0, 0.5) if small else (0.0,):
            with on_trial(noisy_copy(base, noise) or base) as model:
                dtype = next(p.dtype for p in model.parameters() if p.is_floating_point())
                try:
                    set_reading(model, getattr(base, "_clew_came_with", base.config._attn_implementation))
                    fault = test(model, max(TOLERANCE, ROUNDING * torch.finfo(dtype).eps))
                except InputError as error:
                    fault = str(error).removeprefix("model: ")
                except Exception as error:  # whatever its code stumbles over: it cannot be used this way
                    fault = " ".join(f"it fails with {type(error).__name__}: {error}".split())[:200]
            if fault is None:
                return None
    return fault


def _tokens(base: PreTrainedModel, count: int, draw: torch.Generator) -> list[int]:
    """Random tokens, none of which means anything to the model."""
    config = base.config.get_text_config()
    special = [value for name, value in vars(config).items() if name.endswith(("_id", "_index"))]
    special += [one for several in special if isinstance(several, list) for one in several]
    rows = base.get_input_embeddings().weight.shape[0]  # type: ignore[operator, union-attr]
    vocabulary = range(min(rows, getattr(config, "vocab_size", rows), 1000))
    plain = [token for token in vocabulary if token not in special] or vocabulary
    return [plain[i] for i in torch.randint(len(plain), (count,), generator=draw).tolist()]


def room_of(base: PreTrainedModel) -> int:
    """The longest path that a model reads whole, as far as its configuration tells."""
    config = base.config.get_text_config()
    rooms = [room for name in ROOMS if isinstance(room := getattr(config, name, None), int) and room > 0]
    return min(rooms, default=2**31)


def _example(base: PreTrainedModel) -> SpanTree:
    """Three levels, forks of two and three, spans of one to nine tokens; shorter for a model that reads few."""
    cut = 3 if room_of(base) < 20 else 9
    draw = torch.Generator().manual_seed(1)

    def span(length: int, *children: SpanTree) -> SpanTree:
        length = min(cut, length)
        weights = torch.randn(length, generator=draw).tolist()
        return SpanTree(_tokens(base, length, draw), "answer", weights, children)

    return span(9, span(4, span(3), span(1), span(5)), span(6, span(2), span(4)))


def _leveled(trees: list[SpanTree], device: torch.device) -> TreeBatch:
    """Packed and laid out in levels, though for so few tokens rows may be cheaper: larger batches are read so."""
    return TreeBatch.pack(trees, 0).to(device).laid_out(as_levels=True)


def _trees_fault(model: PreTrainedModel, tolerance: float) -> str | None:
    batch = _leveled([_example(model)], model.device)
    rows = batch.flatten()
    learnt = _learnt(model)
    nll_S, gradients = _losses(model, rows, learnt)
    set_up(model)
    over_tree = _losses(model, batch, learnt)
    if fault := _difference(over_tree, (nll_S, gradients), learnt, tolerance):
        return fault
    again_S, _ = _losses(model, rows, {})  # once set up, its rows have to be what they were
    if fault := _difference((again_S, []), (nll_S, []), {}, tolerance):
        return f"once set up, plain rows change: {fault}"
    return _sampling_fault(model, tolerance)


def _rows_fault(model: PreTrainedModel, tolerance: float) -> str | None:
    rows = TreeBatch.pack([_example(model)], 0).flatten().to(model.device)
    learnt = _learnt(model)
    together = _losses(model, rows, learnt)
    width = rows.tokens_BT.shape[1]
    with torch.no_grad():
        for s in range(0, len(rows.targets_S), 3):  # the row cut off behind a token's source: nothing to look ahead at
            row, column = divmod(int(rows.sources_S[s]), width)
            cut = rows.tokens_BT[row : row + 1, : column + 1]
            logits = row_logits(model, cut, torch.tensor([column], device=cut.device))
            alone = F.cross_entropy(logits.float(), rows.targets_S[s : s + 1])
            if not (gap := abs(float(alone - together[0][s]))) <= tolerance:
                return f"it is not causal: a token's loss changes by {gap:.2g} nats with what stands after it"
    if fault := _difference(together, _alone(model, rows, learnt), learnt, tolerance):
        return f"beside other rows, and padded, {fault}"
    return None


def _alone(model: PreTrainedModel, rows: TreeBatch, learnt: dict[str, nn.Parameter]) -> Losses:
    """`_losses` of rows that are read one by one, each as far as something in it is supervised."""
    width, losses = rows.tokens_BT.shape[1], []
    for row, tokens in enumerate(rows.tokens_BT):
        own = rows.supervised_S // width == row
        end = int((rows.supervised_S[own] % width).max())
        logits = row_logits(model, tokens[None, :end], rows.sources_S[own] % width)
        losses.append((own.nonzero()[:, 0], F.cross_entropy(logits.float(), rows.targets_S[own], reduction="none")))
    order = torch.cat([places for places, _ in losses]).argsort()
    nll_S = torch.cat([nll for _, nll in losses])[order]
    return nll_S.detach(), _gradients(nll_S, rows, learnt)


def _sampling_fault(model: PreTrainedModel, tolerance: float) -> str | None:
    """Two prompts, three continuations of them, two tokens of their own each: shared prefixes against plain rows."""
    tree = _example(model)
    prompts = [list(tree.tokens), list(tree.children[1].tokens)]
    tails = [list(child.tokens) for child in tree.children[0].children]
    parent_C, own = torch.tensor([0, 0, 1]), torch.tensor([prompts[0][:2], prompts[1][:2], tails[2][:2]])
    prefix = SharedPrefix()
    with torch.no_grad():

        def logits(step: dict[str, Tensor]) -> Tensor:
            on_device = {name: value.to(model.device) for name, value in step.items()}
            return model(**on_device, **reading(prefix, model.device), logits_to_keep=1).logits[:, -1]

        def level(rows: list[list[int]], parent_C: Tensor | None) -> Tensor:
            width = max(map(len, rows))
            tokens = torch.tensor([[rows[0][0]] * (width - len(row)) + row for row in rows])
            starts = torch.tensor([width - len(row) for row in rows])
            valid_CL = torch.arange(width) >= starts[:, None]
            above = None if parent_C is None else parent_C.to(model.device)
            return logits(prefix.add(tokens.to(model.device), valid_CL.to(model.device), above))

        level(prompts, None)
        got = [level(tails, parent_C)]
        prefix.fork(torch.arange(3, device=model.device))
        for column in own.T:
            got.append(logits(prefix.step(column.to(model.device))))
            prefix.written += 1
        for c, tail in enumerate(tails):
            whole = [*prompts[int(parent_C[c])], *tail, *own[c].tolist()]
            tokens = torch.tensor([whole], device=model.device)
            want = row_logits(model, tokens, torch.arange(len(whole) - 3, len(whole), device=model.device))
            mine = torch.stack([step[c] for step in got])
            if not (gap := float((mine.float().log_softmax(-1) - want.float().log_softmax(-1)).abs().max())) <= (
                4 * tolerance
            ):
                return f"sampling from shared prefixes differs by {gap:.2g} nats"
    return None


def _reach_fault(reach: int) -> Test:
    """Whether a path of so many tokens is still read whole: a window or a chunk shows only beyond its length."""

    def test(model: PreTrainedModel, tolerance: float) -> str | None:
        if reach < 2:
            return None
        if fault := _length_fault(reach)(model, tolerance):
            return fault
        tokens = _tokens(model, reach, torch.Generator().manual_seed(2))
        chain = TreeBatch.pack([SpanTree(tokens, "answer", [0.0] * (reach - 1) + [1.0])], 0).to(model.device)
        with torch.no_grad():
            over_row, _ = _losses(model, chain.flatten(), {})
            set_up(model)
            over_tree, _ = _losses(model, chain, {})
        return _further_difference(over_tree, over_row, tolerance)

    return test


def _length_fault(reach: int) -> Test:
    """Whether a token's loss is the same however long its row becomes: places may be scaled by the longest one."""

    def test(model: PreTrainedModel, tolerance: float) -> str | None:
        drawn = _tokens(model, reach, torch.Generator().manual_seed(2))
        tokens = torch.tensor([drawn], device=model.device)
        with torch.no_grad():
            for end in {min(8, reach - 1), reach // 2} if reach > 1 else ():
                at = torch.tensor([end - 1], device=model.device)
                long, short = (row_logits(model, row, at).float() for row in (tokens, tokens[:, :end]))
                gap = float((F.cross_entropy(long, tokens[0, [end]]) - F.cross_entropy(short, tokens[0, [end]])).abs())
                if gap > tolerance:
                    return f"a token's loss changes by {gap:.2g} nats with the length of its row"
        return None

    return test


def _width_fault(count: int) -> Test:
    """Whether a tree is read alike behind so many tokens of others: some models count in the row, not on the path."""

    def test(model: PreTrainedModel, tolerance: float) -> str | None:
        alone = _leveled([_example(model)], model.device)
        length = alone.positions_BT.max() + 1
        others = _tokens(model, max(0, count - alone.tokens_BT.numel()), torch.Generator().manual_seed(3))
        before = [SpanTree(others[i : i + length], "answer", 1.0) for i in range(0, len(others), int(length))]
        behind = _leveled([*before, _example(model)], model.device)
        mine = len(alone.targets_S)  # the layout keeps the others' places, which the last layer reads too
        behind = replace(behind, sources_S=behind.sources_S[-mine:], targets_S=alone.targets_S)
        with torch.no_grad():
            over_rows, _ = _losses(model, alone.flatten(), {})
            set_up(model)
            over_tree, _ = _losses(model, replace(behind, weights_S=alone.weights_S), {})
        return _further_difference(over_tree, over_rows, tolerance)

    return test


def _further_difference(mine_S: Tensor, theirs_S: Tensor, tolerance: float) -> str | None:
    """`_difference` of a model that was exact so far; one whose losses are no numbers any more says so by these."""
    return _difference((mine_S, []), (theirs_S, []), {}, tolerance) if theirs_S.isfinite().all() else None


def _learnt(model: PreTrainedModel) -> dict[str, nn.Parameter]:
    """The parameters whose gradients are compared: all that are trained, of a large model the smaller ones."""
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if sum(p.numel() for p in trained.values()) <= SMALL:
        return trained
    return dict(sorted(trained.items(), key=lambda item: item[1].numel())[:GRADIENTS])


def _losses(model: PreTrainedModel, batch: TreeBatch, learnt: dict[str, nn.Parameter]) -> Losses:
    """nll_S, and the gradients of its weighted sum."""
    nll_S = F.cross_entropy(tree_logits(model, batch).float(), batch.targets_S, reduction="none")
    return nll_S.detach(), _gradients(nll_S, batch, learnt)


def _gradients(nll_S: Tensor, batch: TreeBatch, learnt: dict[str, nn.Parameter]) -> list[Tensor | None]:
    """Those of the weighted sum; none where nothing is learnt."""
    loss = (nll_S * batch.weights_S).sum()
    return list(torch.autograd.grad(loss, list(learnt.values()), allow_unused=True)) if learnt else []


def _difference(mine: Losses, theirs: Losses, learnt: dict[str, nn.Parameter], tolerance: float) -> str | None:
    """In words, where two sets of losses and gradients differ by more than rounding; None where they do not."""
    gap = float((mine[0] - theirs[0]).abs().max())
    if not gap <= tolerance:  # NaN is a difference too
        return f"a token's loss differs by {gap:.2g} nats"
    sizes = [0.0 if g is None else float(g.abs().max()) for g in theirs[1]]
    floor = 1e-2 * max(sizes, default=0.0)
    for name, a, b, size in zip(learnt, mine[1], theirs[1], sizes, strict=True):
        if a is None and b is None:
            continue
        a, b = (torch.zeros_like(learnt[name]) if g is None else g for g in (a, b))
        share = float((a - b).abs().max()) / max(size, floor, 1e-12)
        if not share <= 10 * tolerance:
            return f"the gradient of {name} differs by {share:.0%}"
    return None
