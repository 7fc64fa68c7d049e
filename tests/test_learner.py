"""A learner's update, in one piece and in many; its checkpoints: states by name, and nothing taken up from a folder
that is torn or another's."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

sys.path.insert(0, os.path.dirname(__file__))
from clew.config import MazeConfig
from clew.errors import InputError
from clew.learner import Learner, LossNotFinite
from clew.losses import OBJECTIVES, ObjectiveOptions, evaluate_objective
from clew.mazes.vocab import maze_tokenizer
from clew.mazes.world import MazeWorld
from clew.policy import Policy, with_adapters
from clew.tree import SpanTree, TreeBatch
from models import tiny
from shapes import caterpillar
from small import needs_muon

torch.set_num_threads(1)
BATCH = TreeBatch.pack([SpanTree([3, 4], "prompt", 0.0, [SpanTree([5, 6, 7], "answer", 0.5)])], 0)


def learner(muon: float = 0.0, width: int = 16, steps: int = 2, rank: int = 0) -> Learner:
    if muon:
        needs_muon()
    policy = Policy.build(maze_tokenizer(3), 1, width, 2, seed=width)
    made = Learner(with_adapters(policy, ("shoggoth", "face"), rank)[1] if rank else policy, muon=muon)
    for _ in range(steps):
        made.update(BATCH)
    return made


def state_of(made: Learner) -> list[torch.Tensor]:
    """All that learns and all that it is remembered by."""
    kept = [p.detach().clone() for p in made.policy.model.parameters()]
    for optimizer in made.optimizers:
        for _, slots in sorted(optimizer.state_dict()["state"].items()):
            kept += [value.clone() for _, value in sorted(slots.items()) if torch.is_tensor(value)]
    return kept


def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("options", [{}, {"muon": 2.0}, {"rank": 2}])
def test_a_saved_learner_goes_on_as_if_it_had_not_stopped(tmp_path: Path, options: dict) -> None:
    first = learner(**options)
    first.save(tmp_path / "kept", {"step": 2})
    dice = torch.rand(3)
    first.update(BATCH)
    second = learner(**options, steps=0)
    assert second.load(tmp_path / "kept") == {"step": 2}
    assert torch.equal(torch.rand(3), dice)
    second.update(BATCH)
    assert same(state_of(first), state_of(second))
    kept = set(load_file(tmp_path / "kept" / "optimizer.safetensors")) - {"rng"}
    names = {key.split(".", 1)[1].rpartition(".")[0] for key in kept}
    assert names == {name for name, p in first.policy.model.named_parameters() if p.requires_grad}


def test_states_find_their_parameters_whatever_their_order(tmp_path: Path) -> None:
    first = learner()
    first.save(tmp_path / "kept", {})
    second = learner(steps=0)
    for group in second.optimizers[0].param_groups:
        group["params"].reverse()
    second.load(tmp_path / "kept")
    (a,), (b,) = first.optimizers, second.optimizers
    for p, q in zip(first.policy.model.parameters(), second.policy.model.parameters(), strict=True):
        assert torch.equal(a.state[p]["exp_avg"], b.state[q]["exp_avg"])


def test_folders_from_before_states_were_named(tmp_path: Path) -> None:
    first = learner(muon=2.0)
    first.save(tmp_path / "kept", {})
    file, numbered = tmp_path / "kept" / "optimizer.safetensors", {}
    for key, value in load_file(file).items():
        number, _, rest = key.partition(".")
        name, _, slot = rest.rpartition(".")
        index = first._names(first.optimizers[int(number)]).index(name) if rest else 0
        numbered[f"{number}.{index}.{slot}" if rest else key] = value
    save_file(numbered, file)
    second = learner(muon=2.0, steps=0)
    second.load(tmp_path / "kept")
    assert same(state_of(first), state_of(second))


def cut(name: str, size: int = 200) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:size])


def holding(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def without(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def lacking_a_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model" / "model.safetensors")
    tensors.pop("model.layers.0.mlp.up_proj.weight")
    save_file(tensors, folder / "model" / "model.safetensors", {"format": "pt"})


def changed(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        tensors = load_file(folder / "optimizer.safetensors")
        change(tensors)
        save_file(tensors, folder / "optimizer.safetensors")

    return damage


NORM = "0.model.norm.weight.exp_avg"
DAMAGES = {
    "state cut": (cut("state.json", 5), "state.json cannot be read"),
    "state empty": (holding("state.json", b""), "state.json cannot be read"),
    "state binary": (holding("state.json", bytes(range(256))), "state.json cannot be read"),
    "state deep": (holding("state.json", b"[" * 100_000), "state.json cannot be read"),
    "state a list": (holding("state.json", b"[]"), "holds no object"),
    "state gone": (without("state.json"), "has no state.json"),
    "state without optimizer": (holding("state.json", b"{}"), "nothing of the optimizer"),
    "optimizer of text": (holding("state.json", b'{"optimizer": 3}'), "nothing of the optimizer"),
    "optimizer cut": (cut("optimizer.safetensors", 3000), "optimizer.safetensors cannot be read"),
    "optimizer empty": (holding("optimizer.safetensors", b""), "optimizer.safetensors cannot be read"),
    "optimizer garbage": (holding("optimizer.safetensors", b"\xff" * 5000), "optimizer.safetensors cannot be read"),
    "optimizer gone": (without("optimizer.safetensors"), "has no optimizer.safetensors"),
    "no dice": (changed(lambda t: t.pop("rng")), "no random state"),
    "other dice": (changed(lambda t: t.update(rng=t["rng"][:9].clone())), "no random state"),
    "half a state": (changed(lambda t: t.pop(NORM)), "lacks a part"),
    "another shape": (changed(lambda t: t.update({NORM: torch.zeros(3)})), "another optimizer or model"),
    "another name": (changed(lambda t: t.update({NORM + "_new": t.pop(NORM)})), "another optimizer or model"),
    "weights cut": (cut("model/model.safetensors", 3000), "model.safetensors cannot be read"),
    "weights garbage": (holding("model/model.safetensors", b"\xff" * 5000), "model.safetensors cannot be read"),
    "weights gone": (without("model/model.safetensors"), "no \\*.safetensors"),
    "a weight lacking": (lacking_a_tensor, "lacks weights"),
    "config cut": (cut("model/config.json"), "cannot be loaded"),
    "config gone": (without("model/config.json"), "no config.json"),
    "tokenizer cut": (cut("model/tokenizer.json"), "cannot be loaded"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_torn_folder_is_refused_before_anything_is_changed(tmp_path: Path, name: str) -> None:
    damage, says = DAMAGES[name]
    learner().save(tmp_path / "kept", {"step": 2})
    damage(tmp_path / "kept")
    second = learner(steps=1)
    before = state_of(second)
    with pytest.raises(InputError, match=says) as caught:
        second.load(tmp_path / "kept")
    assert "\n" not in str(caught.value)
    assert same(state_of(second), before)


@pytest.mark.parametrize(
    ("saved", "own", "says"),
    [
        ({}, {"muon": 2.0}, "another optimizer"),
        ({"muon": 2.0}, {}, "another optimizer"),
        ({}, {"width": 32}, r"another model: .* the shape \(\d+, 16\) and not \(\d+, 32\)"),
        ({"rank": 2}, {"rank": 4}, "another model: .* the shape"),
        ({"rank": 2}, {}, "is not a folder"),
        ({}, {"rank": 2}, "has no adapter.safetensors"),
    ],
)
def test_another_model_or_optimizer_is_refused(tmp_path: Path, saved: dict, own: dict, says: str) -> None:
    learner(**saved).save(tmp_path / "kept", {})
    second = learner(**own)
    before = state_of(second)
    with pytest.raises(InputError, match=says):
        second.load(tmp_path / "kept")
    assert same(state_of(second), before)


def test_nothing_is_ever_unpickled(tmp_path: Path) -> None:
    learner().save(tmp_path / "kept", {})
    suffixes = {path.suffix for path in (tmp_path / "kept").rglob("*") if path.is_file()}
    assert suffixes <= {".json", ".safetensors", ".jinja"}
    assert isinstance(json.loads((tmp_path / "kept" / "state.json").read_text()), dict)


def rollouts() -> TreeBatch:
    """Trees of thoughts and answers, one of them large, with all that an objective may need."""
    draw = torch.Generator().manual_seed(3)

    def span(role: str, count: int, weight: float, children: tuple = ()) -> SpanTree:
        tokens = torch.randint(2, 40, (count,), generator=draw).tolist()
        logps = None if role == "prompt" else (-4 * torch.rand(count, generator=draw)).tolist()
        return SpanTree(tokens, role, weight, children, logps)  # type: ignore[arg-type]

    def thought(count: int, weight: float) -> SpanTree:
        return span("thought", count, weight, tuple(span("answer", 4, -weight * sign) for sign in (1, -1, 0.5)))

    trees = [
        span("prompt", 6, 0.0, tuple(thought(5, (-1) ** i * 0.1 * (1 + i)) for i in range(thoughts)))
        for thoughts in (2, 9, 1, 3)
    ]
    batch = TreeBatch.pack(trees, 0)
    return replace(batch, reference_nll_S=4 * torch.rand(len(batch.targets_S), generator=draw))


def mazes() -> TreeBatch:
    return MazeWorld(MazeConfig([3], branches=4)).batch(range(3), choices=True)


def fresh(attention: str = "trees", kind: str = "gpt2", **options) -> Learner:
    policy = Policy(tiny(kind, 64), maze_tokenizer(3), attention=attention)  # type: ignore[arg-type]
    made = Learner(policy, clip=1e9, **options)
    # A step lets go of its gradients: they are noted before it.
    made.optimizers[0].optimizer.register_step_pre_hook(lambda *_: SEEN.update({id(made): _gradients(made)}))
    return made


SEEN: dict[int, list[torch.Tensor]] = {}


def _gradients(of: Learner) -> list[torch.Tensor]:
    return [p.grad.clone() for p in of.policy.model.parameters() if p.grad is not None]


def gradients(of: Learner) -> list[torch.Tensor]:
    """Those of the last step."""
    assert not _gradients(of)
    return SEEN[id(of)]


@pytest.mark.parametrize("attention", ["trees", "rows"])
@pytest.mark.parametrize(
    ("objective", "make", "most"),
    [
        ("nll", rollouts, 60),
        ("nll", lambda: TreeBatch.pack([caterpillar(9, 3, 3)], 0), 35),
        ("graded", mazes, 75),
        ("clipped", rollouts, 40),
        ("pair", rollouts, 40),
    ],
)
def test_gradients_and_figures_in_pieces_are_those_of_one_batch(
    objective: str, make: Callable[[], TreeBatch], most: int, attention: str
) -> None:
    batch, chosen = make(), OBJECTIVES[objective]
    kl = 0.7 if batch.reference_nll_S is not None else 0.0
    whole, cut, read, notes = fresh(attention), fresh(attention, tokens_at_once=most), [], ({}, {})

    def loss(which: int, model: torch.nn.Module, batch: TreeBatch) -> torch.Tensor:
        read.append(batch.tokens_BT.numel())
        options = ObjectiveOptions(kl=kl, beta=0.6, questions=4)
        return evaluate_objective(objective, model, batch, options, notes[which])

    wanted = whole.update(batch, partial(loss, 0))
    alone, read = read, []
    got = cut.update(batch, partial(loss, 1), whole_trees=chosen.whole_trees)
    assert len(alone) == 1 and len(read) >= 3 and (chosen.whole_trees or max(read) <= most < alone[0])
    assert got == pytest.approx(wanted, rel=1e-9) and wanted["grad_norm"] > 0.1
    assert notes[1] == pytest.approx(notes[0], rel=1e-9) and ("kl" in notes[0]) == (kl > 0)
    for mine, theirs in zip(gradients(cut), gradients(whole), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-9, rtol=1e-9)


def test_several_batches_are_one_step() -> None:
    batch = rollouts()
    whole, parts = fresh(), fresh()
    wanted, got = whole.update(batch), parts.update(batch.microbatches(50))
    assert got == pytest.approx(wanted, rel=1e-9)
    for mine, theirs in zip(gradients(parts), gradients(whole), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-9, rtol=1e-9)


def test_nothing_to_learn_from_changes_nothing() -> None:
    made = learner(muon=2.0)
    before = state_of(made)
    assert made.update([]) == {"loss": 0.0, "grad_norm": 0.0}
    assert same(state_of(made), before)


def test_a_loss_that_is_no_number_in_any_piece_changes_nothing() -> None:
    made = learner()
    before = state_of(made)
    bad = replace(BATCH, weights_S=torch.full_like(BATCH.weights_S, float("nan")))
    for batches in ([bad, BATCH], [BATCH, bad]):
        with pytest.raises(LossNotFinite, match="the loss is nan"):
            made.update(batches)
        assert same(state_of(made), before) and all(p.grad is None for p in made.policy.model.parameters())


SHARED = """
import sys
from functools import partial

sys.path.insert(0, sys.argv[1])
import torch
from clew.learner import end_training
from clew.losses import evaluate_objective
from test_learner import fresh, gradients, rollouts

torch.set_num_threads(1)
parts, found = rollouts().microbatches(50), []
for mine in ([parts, []], [parts[:1], parts[1:]]):
    learner = fresh()
    rank = learner.accelerator.process_index
    assert learner.accelerator.num_processes == 2 and len(parts) >= 4
    passes = []
    learner.policy.model.register_forward_hook(lambda *_: passes.append(1))
    figures = learner.update(mine[rank], partial(evaluate_objective, "clipped"))
    assert len(passes) == max(map(len, mine))  # a sharded model would hang otherwise
    found.append((figures, gradients(learner)))
    assert learner.update([]) == {"loss": 0.0, "grad_norm": 0.0}
torch.save(found, sys.argv[2 + rank])
end_training(learner.accelerator, learner)
"""


def test_processes_with_unlike_numbers_of_pieces_take_the_same_step(tmp_path: Path) -> None:
    """One process with nothing to learn from, and two of which one has more to read."""
    (tmp_path / "script.py").write_text(SHARED)
    kept = [tmp_path / "first", tmp_path / "second"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += [str(tmp_path / "script.py"), os.path.dirname(__file__), *map(str, kept)]
    env = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    single = fresh()
    wanted = single.update(rollouts(), partial(evaluate_objective, "clipped"))
    for path in kept:
        for figures, grads in torch.load(path, weights_only=True):
            assert figures == pytest.approx(wanted, rel=1e-9)
            for mine, theirs in zip(grads, gradients(single), strict=True):
                torch.testing.assert_close(mine, theirs, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("attention", ["trees", "rows"])
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_layers_that_are_computed_anew_give_the_same_step(kind: str, attention: str) -> None:
    """Each layer twice, the last one's first part too: what a tree is travels in the model's keyword arguments."""
    whole, anew = fresh(attention, kind=kind), fresh(attention, kind=kind)
    anew.policy.checkpoint_layers()
    counts: dict[int, int] = {}

    def count(of: int, *_: object) -> None:
        counts[of] = counts.get(of, 0) + 1

    for made in (whole, anew):
        layer = next(m for m in made.policy.model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == 3)[1]
        norm = next(m for m in layer.modules() if "Norm" in type(m).__name__)
        norm.register_forward_hook(partial(count, id(made)))
    batch = rollouts()
    for made in (whole, anew):  # what an update asks first, before it is counted
        made.policy.check()
        made.update(made.policy.readable(batch), lr=0.0)
    counts.clear()
    wanted = whole.update(batch, partial(evaluate_objective, "clipped"))
    got = anew.update(batch, partial(evaluate_objective, "clipped"))
    assert counts[id(anew)] == 2 * counts[id(whole)] == 2
    assert got == pytest.approx(wanted, rel=1e-9)
    for mine, theirs in zip(gradients(anew), gradients(whole), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-9, rtol=1e-9)
