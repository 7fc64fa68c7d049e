"""What a page is told of a path is what a plain forward pass has: attention, logit lens, heads taken away, probes."""

import json
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from clew.config import MazeConfig
from clew.mazes.lattice import Cell, Lattice, Question
from clew.mazes.vocab import shuffled_edges
from clew.mazes.world import MazeWorld
from clew.policy import Policy
from clew.read.activations import gather
from clew.read.heads import usual_z
from clew.read.hooks import final_norm_of, layers_of, names_of
from clew.read.places import PLACES, find_places
from clew.read.steering import Rolled
from clew.rollout.sampler import SharedPrefixSampler
from clew.train.evaluate import Reasoner
from clew.view import maze_probes
from clew.view.maze_look import LISTED, MARKS, Case, look
from clew.view.maze_models import Model
from clew.view.maze_records import Tongue, first_wrong, packed, record, unpacked
from models import MAKERS, tiny

WORLD = MazeWorld(MazeConfig(sizes=[3, 4]))
KINDS = list(MAKERS)


@cache
def model(kind: str) -> Model:
    policy = Policy(tiny(kind, len(WORLD.tokenizer)), WORLD.tokenizer)
    return Model(kind, WORLD, Reasoner(SharedPrefixSampler(policy)), mazes=160)


@cache
def cases(kind: str) -> list[Case]:
    """Three mazes with whole paths, as if the model had written them: a model of random weights writes none."""
    made = []
    for question in WORLD.held_out(range(3)):
        maze: Question = question.reference
        words = ["<PATH_START>", *(f"({r},{c})" for r, c in maze.path or ()), "<PATH_END>"]
        tokens: Any = WORLD.tokenizer.convert_tokens_to_ids(words)
        made.append(Case(maze, np.array(question.tokens), Rolled(tuple(tokens), maze.path or (), True)))
    return made


@torch.no_grad()
def plain(kind: str, row_T: np.ndarray) -> Any:
    net = model(kind).policy.model
    before = net.config._attn_implementation
    net.set_attn_implementation("eager")
    try:
        return net(torch.from_numpy(row_T)[None], output_attentions=True, output_hidden_states=True)
    finally:
        net.set_attn_implementation(before)


@pytest.mark.parametrize("kind", KINDS)
def test_attention_is_that_of_a_plain_pass_shared_out(kind: str) -> None:
    tongue = Tongue.of(WORLD.tokenizer)
    for case, seen in zip(cases(kind), look(model(kind).policy, cases(kind)), strict=True):
        words = [tongue.word(token) for token in case.row_T.tolist()]
        attentions = torch.stack(plain(kind, case.row_T).attentions)[:, 0].float().numpy()
        start, edges = words.index("<PATH_START>"), (words.index("<ADJLIST_END>") - 1) // 4
        assert len(case.steps) == len(case.rolled.tokens) == len(seen.attention_SLHK)
        for step, column in enumerate(case.steps.tolist()):
            token_LHT = attentions[:, :, column]
            slots_LHK = seen.attention_SLHK[step]
            for edge in range(edges):
                wanted = token_LHT[..., 1 + 4 * edge : 5 + 4 * edge].sum(-1)
                assert np.allclose(slots_LHK[..., edge], wanted, atol=1e-6)
            walk = token_LHT[..., start + 1 :]
            assert np.allclose(slots_LHK[..., edges : edges + walk.shape[-1]], walk, atol=1e-6)
            marks = slots_LHK[..., edges + walk.shape[-1] :]
            target = words.index("<TARGET_START>") + 1
            assert np.allclose(marks[..., MARKS.index("target")], token_LHT[..., target], atol=1e-6)
            ends = [at for at, word in enumerate(words) if word == ";"]
            assert np.allclose(marks[..., len(MARKS) + LISTED.index("ends")], token_LHT[..., ends].sum(-1), atol=1e-6)
            assert np.allclose(slots_LHK[..., : -len(LISTED)].sum(-1), 1, atol=1e-5)


def test_bytes_are_right_to_half_a_part() -> None:
    (seen,) = look(model("llama").policy, cases("llama")[:1])
    layers, heads = seen.attention_SLHK.shape[1:3]
    parts = packed(seen.attention_SLHK)
    back = unpacked(parts, layers, heads)
    most = seen.attention_SLHK.max(-1, keepdims=True)
    assert (np.abs(back - seen.attention_SLHK) <= most / 510 + 1e-7).all()
    assert np.abs(back[..., : -len(LISTED)].sum(-1) - 1).max() < parts["slots"] / 510
    assert np.allclose(back.max(-1), most[..., 0])
    nothing = packed(np.zeros((1, 1, 1, 4), np.float32))
    assert not unpacked(nothing, 1, 1).any()


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_the_lens_is_the_output_head_on_each_layers_stream(kind: str) -> None:
    net: Any = model(kind).policy.model
    (case, *_), tongue = cases(kind), Tongue.of(WORLD.tokenizer)
    (seen,) = look(model(kind).policy, [case])
    out = plain(kind, case.row_T)
    told = record(case, seen, tongue)
    assert told["next"] == [tongue.word(token) for token in case.rolled.tokens]
    for depth in range(len(layers_of(net)) + 1):
        if depth < len(layers_of(net)):
            logits_TV = net.get_output_embeddings()(final_norm_of(net)(out.hidden_states[depth][0]))
        else:
            logits_TV = out.logits[0]
        share_SV = logits_TV[case.steps].float().softmax(-1)
        for step, cell in enumerate(seen.cells_S):
            *moves, top, likely = told["lens"][step][depth]
            assert top == tongue.word(int(share_SV[step].argmax())) and abs(likely - float(share_SV[step].max())) < 1e-4
            for way, move in zip([(-1, 0), (1, 0), (0, -1), (0, 1)], moves, strict=False):
                to = cell and (cell[0] + way[0], cell[1] + way[1])
                known = to in case.question.lattice
                assert abs(move - (float(share_SV[step, tongue.cells[to]]) if known and to else 0)) < 1e-4
            assert abs(moves[4] - (float(share_SV[step, tongue.end]) if cell else 0)) < 1e-4


def test_fifty_mazes_of_a_model_of_six_layers_stay_under_ten_megabytes() -> None:
    """8x8 mazes, 24 heads, whole paths, and as many paths without a head as there are heads."""
    world = MazeWorld(MazeConfig(sizes=[8]))
    policy = Policy.build(world.tokenizer, 6, 32, 4)
    sizes = []
    for question in world.held_out(range(4)):
        maze: Question = question.reference
        words = ["<PATH_START>", *(f"({r},{c})" for r, c in maze.path or ()), "<PATH_END>"]
        tokens: Any = world.tokenizer.convert_tokens_to_ids(words)
        case = Case(maze, np.array(question.tokens), Rolled(tuple(tokens), maze.path or (), True))
        others = [Rolled((), maze.path or (), False)] * 24
        usual = np.zeros((6, 4, len(PLACES), 8))
        told = record(case, look(policy, [case], usual)[0], Tongue.of(world.tokenizer), others)
        sizes.append(len(json.dumps(told | {"probes": {"next_hop": ["0" * 64] * 6, "distance": ["0" * 64] * 6}})))
        values = unpacked(told["attention"], 6, 4)
        assert values.shape[0] == len(tokens) and np.abs(values[..., : -len(LISTED)].sum(-1) - 1).max() < 0.2
    assert 50 * np.mean(sizes) < 10_000_000


def test_a_fork_is_told_by_the_logits_of_its_branches() -> None:
    lattice = Lattice.from_edges(3, 3, [((0, 0), (0, 1)), ((0, 1), (0, 2)), ((0, 1), (1, 1)), ((1, 1), (2, 1))])
    question = Question(lattice, (0, 0), (2, 1), ((0, 0), (0, 1), (1, 1), (2, 1)))
    words = ["<PATH_START>", "(0,0)", "(0,1)", "(1,1)", "(2,1)", "<PATH_END>"]
    mine = model("llama")
    case = mine.ask([question], [shuffled_edges(lattice)])[0]
    tokens: Any = WORLD.tokenizer.convert_tokens_to_ids(words)
    case = Case(question, case.prompt_T, Rolled(tuple(tokens), question.path or (), True))
    told = record(case, look(mine.policy, [case])[0], mine.tongue)
    assert [fork is not None for fork in told["forks"]] == [False, False, False, True, False, False]
    logits_V = plain("llama", case.row_T).logits[0, case.steps[3]]
    wanted = float(logits_V[mine.tongue.cells[1, 1]] - logits_V[mine.tongue.cells[0, 2]])
    assert told["forks"][3]["right"] == [1] and abs(told["forks"][3]["difference"] - wanted) < 1e-3


def usual_by_hand(kind: str, rows: list[np.ndarray], layer: int) -> np.ndarray:
    """float64 (places, H * D): what comes to the output projection of a layer, in the mean by place."""
    net = model(kind).policy.model
    projection = layers_of(net)[layer].get_submodule(names_of(net).projection)
    sums, counts, taken = np.zeros(0), np.zeros(len(PLACES)), []
    handle = projection.register_forward_pre_hook(lambda _, args: taken.append(args[0]))
    try:
        for row in rows:
            with torch.no_grad():
                net(torch.from_numpy(row)[None])
            places = find_places([row], WORLD.tokenizer)
            z_TD = taken.pop()[0].double().numpy()
            sums = np.zeros((len(PLACES), z_TD.shape[1])) if not len(sums) else sums
            for place, at in zip(places.place_R, places.position_R, strict=True):
                sums[place] += z_TD[at]
                counts[place] += 1
    finally:
        handle.remove()
    return sums / np.maximum(1, counts)[:, None]


@torch.no_grad()
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_head_taken_away_says_what_it_says_elsewhere(kind: str) -> None:
    """The path and the logits without a head, against a hand-hooked pass over the whole row for each token."""
    mine, (layer, head) = model(kind), (1, 2)
    rows = mine.reference[:12]
    usual_LHGD = usual_z(mine.policy, rows)
    by_hand = usual_by_hand(kind, rows, layer)
    size = usual_LHGD.shape[-1]
    part = slice(head * size, (head + 1) * size)
    assert np.allclose(usual_LHGD[layer, head], by_hand[:, part], atol=1e-6)
    net = mine.policy.model
    projection = layers_of(net)[layer].get_submodule(names_of(net).projection)

    def logits_without(row_T: np.ndarray) -> torch.Tensor:
        places = find_places([row_T], WORLD.tokenizer)

        def put(_: Any, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            z_BTD = args[0].clone()
            for place, at in zip(places.place_R, places.position_R, strict=True):
                z_BTD[0, at, part] = torch.from_numpy(by_hand[place, part]).to(z_BTD)
            return (z_BTD,)

        handle = projection.register_forward_pre_hook(put)
        try:
            return net(torch.from_numpy(row_T)[None]).logits[0]
        finally:
            handle.remove()

    case = cases(kind)[0]
    (seen,) = look(mine.policy, [case], usual_LHGD)
    number = mine.heads.index((layer, head))
    assert seen.ablated_SNV is not None
    assert np.allclose(seen.ablated_SNV[:, number], logits_without(case.row_T)[case.steps].float(), atol=1e-4)
    assert not np.allclose(seen.ablated_SNV[:, number], seen.logits_SNV[:, -1], atol=1e-3)

    mine.__dict__["usual_LHGD"] = usual_LHGD
    try:
        written = mine.without([case], number)[0].tokens
    finally:
        del mine.__dict__["usual_LHGD"]
    row = case.prompt_T
    for token in written:
        assert int(logits_without(row)[-1].argmax()) == token
        row = np.append(row, token)


def test_probes_read_what_was_not_fitted_and_say_how_well() -> None:
    mine = model("llama")
    shown = [case.question.lattice for case in cases("llama")]
    rows = maze_probes.reference(mine.stream, shown, 320, mine.policy)
    probes = maze_probes.fit(mine.policy, rows)
    for batch in gather(mine.policy, rows, places=["target"]):
        assert not set(shown) & {question.lattice for question in batch.questions}
    figures = probes.figures()
    assert {(row["label"], row["layer"]) for row in figures} == {(a, b) for a in maze_probes.LABELS for b in range(3)}
    for row in figures:
        rival = [one for one in probes.reading.rows if (one["label"], one["layer"]) == (row["label"], row["layer"])]
        assert row["control_f1"] in [one["macro_f1"] for one in rival if one["control"] == row["control"]]
        assert row["above"] == (row["macro_f1_low"] > max(r["macro_f1_high"] for r in rival if r["control"] != "model"))
    case = cases("llama")[1]
    (seen,) = look(mine.policy, [case])
    told = probes.read(case.question, seen)
    (batch,) = gather(mine.policy, [case.prompt_T], places=["target_end"])
    rows_, cols = case.question.lattice.rows, case.question.lattice.cols
    assert told is not None
    for layer in range(3):
        reader = probes.reading.readers[("resid_post", layer), "next_hop"]
        class_RC = reader.predict(batch["resid_post", layer, "target_end"].numpy()).reshape(4, 4)
        assert told["next_hop"][layer] == "".join(map(str, class_RC[:rows_, :cols].reshape(-1)))
    large = Question(Lattice.random(5, 5), (0, 0), (4, 4))
    assert probes.read(large, seen) is None


@pytest.mark.parametrize(
    ("cells", "ended", "wanted"),
    [
        ([(0, 0), (0, 1), (1, 1)], True, (None, None)),
        ([(0, 1), (1, 1)], True, (0, "start")),
        ([(0, 0), (1, 0)], True, (1, "wall")),
        ([(0, 0), (0, 1), (0, 0)], True, (2, "detour")),
        ([(0, 0), None], False, (1, "cell")),
        ([(0, 0), (7, 7)], False, (1, "cell")),
        ([(0, 0), (0, 1)], True, (2, "stopped")),
        ([(0, 0), (0, 1), (1, 1)], False, (3, "endless")),
        ([], True, (0, "stopped")),
    ],
)
def test_where_a_path_first_goes_wrong(cells: list[Cell | None], ended: bool, wanted: tuple[Any, Any]) -> None:
    lattice = Lattice.from_edges(2, 2, [((0, 0), (0, 1)), ((0, 1), (1, 1))])
    assert first_wrong(Question(lattice, (0, 0), (1, 1)), cells, ended) == wanted
    apart = Question(Lattice.from_edges(2, 2, [((0, 0), (0, 1))]), (0, 0), (1, 1))
    assert first_wrong(apart, cells, ended) == (None, None)
