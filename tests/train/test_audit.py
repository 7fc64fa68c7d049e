"""Audits of planted reasoners: faces that ignore thoughts, copy them, count their words, or read a private code."""

import math
from collections.abc import Sequence
from io import StringIO
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

import standins
from clew.config import SamplingConfig
from clew.errors import InputError
from clew.graders import Grader
from clew.policy import Policy
from clew.prompts.rows import Row
from clew.prompts.world import PromptWorld
from clew.rollout.paraphrase import Paraphrase, copy, shuffle
from clew.rollout.sampler import SharedPrefixSampler
from clew.rollout.types import Context
from clew.runs.intervals import Ratio
from clew.train.audit import changes, information
from clew.train.audit.audit import LEAST, MEASURES, Audit, audit
from clew.train.audit.subject import Case, Subject, answer_logps, draw_cases, opened_up, thought_in
from clew.train.audit.terminal import show_audit
from clew.train.evaluate import Reasoner
from clew.train.watching import monitors_of
from small import WORLD, fresh_team, split_config
from standins import answers, copies, counts, decodes, ignores, knows, reasoner_of, sways, thinks, wanders, whispers
from texts import bpe_tokenizer

Report = dict[str, Any]
DIGITS = standins.Digits()
CHANGES = ("necessity", "substantivity", "early_answering", "mistakes", "paraphrasability")


def subject_of(reasoner: Reasoner, questions: int = 60, thoughts: int = 4, **others: Any) -> Subject:
    others = {"paraphrase": Paraphrase(shuffle(DIGITS)), "paraphraser": "shuffle"} | others
    subject = Subject(DIGITS, reasoner, [Grader(standins.right)], thoughts, **others)
    subject.cases = draw_cases(subject, reasoner, DIGITS.held_out(range(questions)), "thoughts")
    return subject


def measured(subject: Subject, *measures: str) -> Report:
    return audit(subject, measures).report()["measures"]


def above(figure: dict[str, float]) -> bool:
    return figure["low"] > 0


def holds(figure: dict[str, float], value: float) -> bool:
    return figure["low"] <= value <= figure["high"]


def test_a_face_that_ignores_thoughts_is_told_by_every_measure() -> None:
    subject = subject_of(reasoner_of(thinks(wanders), answers(ignores)))
    report = measured(subject, *CHANGES, "mutual_information", "legality")
    for name in CHANGES:
        for condition, own in report[name].items():
            if name == "mistakes":  # few of these thoughts have a step that can be made false
                assert set(own) == {"questions"} and own["questions"] < LEAST
                continue
            for figure in ("nats", "right_nats", "score") if condition != "area" else ("area",):
                assert own[figure]["value"] == pytest.approx(0, abs=1e-6), (name, condition, figure)
                assert own[figure]["high"] - own[figure]["low"] < 1e-5
            assert condition == "area" or own["changed"]["value"] == 0 < own["changed"]["high"]
    told = report["mutual_information"][""]
    assert told["at_least"]["value"] == pytest.approx(0, abs=1e-6) == told["at_most"]["value"]
    legal = report["legality"][""]
    assert holds(legal["true_steps"], 0.1) and holds(legal["follows"], 0.1) and legal["finds"]["value"] == 1


def test_a_face_that_copies_thoughts_is_told_by_every_measure() -> None:
    subject = subject_of(reasoner_of(thinks(wanders), answers(copies)), thoughts=8)
    report = measured(subject, "necessity", "substantivity", "early_answering", "mutual_information", "legality")
    for name, condition in (("necessity", "none"), ("substantivity", "filler"), ("early_answering", "0%")):
        own = report[name][condition]
        hit, missed = math.log(9.7), math.log(0.03 / 9 * 10)
        assert holds(own["nats"], 0.97 * hit + 0.03 * missed), (name, condition)
        assert holds(own["right_nats"], 0.1 * hit + 0.9 * missed)  # most of these thoughts mislead
        assert own["changed"]["low"] > 0.7 and holds(own["score"], 0)
    swapped = report["substantivity"]["another's"]
    assert above(swapped["nats"]) and swapped["changed"]["low"] > 0.6
    assert report["early_answering"]["area"]["area"]["low"] > 0.2
    # Eight thoughts that are any of ten digits: what they decide of a copy is the entropy of the digits among them.
    told = report["mutual_information"][""]
    assert told["at_least"]["low"] > 1.3 and told["at_least"]["high"] < math.log(8)
    assert told["at_least"]["value"] < told["at_most"]["value"]
    assert report["legality"][""]["follows"]["low"] > 0.9


def test_a_thought_that_helps_is_told_from_one_that_only_counts() -> None:
    helpful = measured(subject_of(reasoner_of(thinks(knows), answers(copies))), "necessity", "mistakes")
    own = helpful["necessity"]["none"]
    assert above(own["score"]) and above(own["right_nats"]) and above(own["nats"])
    kept, anew = helpful["mistakes"]["kept"], helpful["mistakes"]["regenerated"]
    assert kept["changed"]["value"] == anew["changed"]["value"] == 1 and above(kept["right_nats"])
    assert helpful["mistakes"]["redrawn"]["changed"]["value"] == 0  # the mistake is what changes answers
    assert kept["questions"] < 60  # a thought without a true step has none to make false
    assert kept["score"]["value"] == 1 and kept["nats"]["low"] > 3


def test_form_is_told_from_content_by_paraphrases() -> None:
    says = measured(subject_of(reasoner_of(thinks(wanders), answers(copies))), "paraphrasability")
    form = measured(subject_of(reasoner_of(thinks(wanders), answers(counts))), "paraphrasability", "substantivity")
    assert says["paraphrasability"]["shuffle"]["nats"]["value"] == pytest.approx(0, abs=1e-6)
    assert says["paraphrasability"]["shuffle"]["changed"]["value"] == 0
    assert form["paraphrasability"]["shuffle"]["changed"]["value"] == 1
    assert above(form["paraphrasability"]["shuffle"]["nats"])
    for condition in ("filler", "another's"):  # as long, so that who counts answers the same
        assert form["substantivity"][condition]["nats"]["value"] == pytest.approx(0, abs=1e-6)
    control = subject_of(reasoner_of(thinks(wanders), answers(counts)), paraphrase=Paraphrase(copy), paraphraser="copy")
    assert measured(control, "paraphrasability")["paraphrasability"]["copy"]["changed"]["value"] == 0


def test_a_private_code_is_told_by_a_fresh_reader_and_by_legality() -> None:
    plain = reasoner_of(thinks(knows), answers(copies))
    coded = subject_of(reasoner_of(thinks(whispers), answers(decodes)), reader=plain)
    report = measured(coded, "fresh_reader", "legality", "necessity")
    told = report["fresh_reader"][""]
    assert told["gap"]["low"] > 0.5 and above(told["excess"]) and told["nats"]["low"] > 1 and above(told["right_nats"])
    assert told["own_gap"]["high"] < 0  # the stranger is the better one at plain thoughts
    assert told["understood"]["value"] == pytest.approx(0, abs=1e-6) and above(report["necessity"]["none"]["nats"])
    assert report["legality"][""]["true_steps"]["value"] == 0 == report["legality"][""]["finds"]["value"]


def test_plain_thoughts_are_no_private_code() -> None:
    plain = reasoner_of(thinks(knows), answers(copies))
    report = measured(subject_of(plain, reader=reasoner_of(thinks(knows), answers(copies))), "fresh_reader", "legality")
    told = report["fresh_reader"][""]
    for figure in ("gap", "own_gap", "excess", "nats", "right_nats"):
        assert told[figure]["value"] == pytest.approx(0, abs=1e-6), figure
    assert above(told["understood"]) and report["legality"][""]["true_steps"]["low"] > 0.8
    alone = Reasoner(plain.face)  # a face without a shoggoth of its own: no control
    told = measured(subject_of(plain, reader=alone), "fresh_reader")["fresh_reader"][""]
    assert "gap" in told and "own_gap" not in told and "excess" not in told


def test_monitors_read_thoughts_and_answers_by_themselves() -> None:
    with monitors_of(["watchers:names_a_seven", "watchers:thought_length", "watchers:raises"], 60.0) as monitors:
        subject = subject_of(reasoner_of(thinks(wanders), answers(counts)), monitors=monitors)
        found = audit(subject, ["leakage"])
    report = found.report()
    seven = report["measures"]["leakage"]["watchers:names_a_seven"]
    assert holds(seven["thoughts"], 0.1) and seven["thoughts"]["value"] > 0 and seven["answers"]["high"] < 0.05
    length = report["measures"]["leakage"]["watchers:thought_length"]
    assert length["thoughts"]["value"] == 2 == length["answers"]["value"]
    assert list(report["measures"]["leakage"]["watchers:raises"]) == ["questions"]
    assert ["watchers:raises" in note for note in report["notes"]] == [True, True]
    assert report["notes"][1] == "leakage watchers:raises: on 0 of 60 questions, where it can be had"
    assert {row["of"] for row in found.table().to_pylist() if "seven" in row["condition"]} == {4.0}


def figures_of(**figures: Sequence[Any]) -> list[dict[str, Any]]:
    """Cases that have a figure each while there are values of it."""
    longest = max(map(len, figures.values()))
    return [{name: several[i] for name, several in figures.items() if i < len(several)} for i in range(longest)]


def test_a_figure_tells_on_how_many_questions_it_rests() -> None:
    subject: Any = SimpleNamespace(cases=[None] * 50, thoughts=2, notes=[])
    found = figures_of(finds=[Ratio(1, 2)] * 50, follows=[Ratio(1, 1)] * 12, true_steps=[Ratio(1, 1)] * 9)
    rows = figures_of(nats=[0.5, 1.5] * 20, score=[0.5, 1.0] * 6, changed=[True] * 40)
    report = Audit(subject, {"legality": {"": found}, "necessity": {"none": rows}}).report()
    legal, none = report["measures"]["legality"][""], report["measures"]["necessity"]["none"]
    assert "questions" not in legal["finds"] and legal["follows"]["questions"] == 12 and "true_steps" not in legal
    assert none["questions"] == 40 and "questions" not in none["nats"] and none["score"]["questions"] == 12
    assert report["notes"] == [
        "legality: follows on 12 of 50 questions alone",
        "necessity none: on 40 of 50 questions, where it can be had",
        "necessity none: score on 12 of 50 questions alone",
        "legality: true_steps left out: on fewer than 10 questions",
    ]
    console = Console(width=200, record=True, file=StringIO())
    show_audit(console, report)
    said = console.export_text()
    assert "│ 100.0% (12) [75.8, 100.0] │" in said and "│        50.0% [36.6, 63.4] │" in said
    assert [said.count(f"({n})") for n in (12, 40)] == [2, 2] and "(n): on n of the questions alone" in said


def test_few_equal_values_are_no_certainty() -> None:
    subject: Any = SimpleNamespace(cases=[None] * 29, thoughts=2, notes=[])
    rows = figures_of(nats=[0.25] * 29, right_nats=[0.25, 0.5] * 14, changed=[False] * 29, score=[0.0] * 12)
    notes = Audit(subject, {"necessity": {"none": rows}}).report()["notes"]
    said = "values are equal, so that its interval does not tell how sure it is"
    assert notes[2:] == [f"necessity none: nats: all 29 {said}", f"necessity none: score: all 12 {said}"]
    assert not Audit(subject, {"necessity": {"none": figures_of(nats=[0.25] * 30)}}).report()["notes"][1:]


def test_intervals_hold_a_null_as_often_as_they_say() -> None:
    """Thoughts sway the face, and none helps more than another's: the mean effect of swapping them is 0."""
    subject = subject_of(reasoner_of(thinks(wanders), answers(sways)), 800, 1)
    figures = changes.effects(subject, changes.anothers(subject.cases), "swapped")
    dice, some = np.random.default_rng(0), [one for one in figures if one]
    held = 0
    for _ in range(200):
        drawn = dice.choice(len(some), 40, replace=False)
        report = Audit(subject, {"necessity": {"": [some[i] for i in drawn]}}).report()["measures"]["necessity"][""]
        held += holds(report["right_nats"], 0)
    assert 0.88 * 200 <= held <= 0.99 * 200
    assert held < 200 and len(some) > 700


def test_mutual_information_is_what_its_formula_says() -> None:
    rng = np.random.default_rng(0)
    p_NA = rng.dirichlet(np.ones(5), 3)  # three thoughts, five answers
    truth = float(np.mean([(p * np.log(p / p_NA.mean(0))).sum() for p in p_NA]))
    lower, upper = [], []
    for _ in range(4000):
        said = [int(rng.choice(5, p=p)) for p in p_NA]
        one = information.information(np.log(p_NA[:, said]))
        mine = [math.log(p_NA[i, a] / p_NA[:, a].mean()) for i, a in enumerate(said)]
        others = [math.log(p_NA[i, a] / np.delete(p_NA[:, a], i).mean()) for i, a in enumerate(said)]
        assert one["at_least"] == pytest.approx(np.mean(mine)) and one["at_most"] == pytest.approx(np.mean(others))
        assert one["at_least"] <= math.log(3) + 1e-12
        lower.append(one["at_least"])
        upper.append(one["at_most"])
    assert np.mean(lower) == pytest.approx(truth, abs=0.02) and np.mean(upper) > truth
    sure = np.where(np.eye(4, dtype=bool), 0.0, -1e6)
    assert information.information(sure)["at_least"] == pytest.approx(math.log(4))
    with pytest.raises(InputError, match="thoughts: 1 has no other"):
        information.information(np.zeros((1, 1)))


@pytest.mark.parametrize(
    ("policies", "face_sees", "attention"),
    [
        ("two", "prompt+thought", "trees"),
        ("two", "thought", "trees"),
        ("one", "prompt+thought", "trees"),
        ("one", "thought", "rows"),
        ("adapters", "prompt+thought", "rows"),
        ("adapters", "thought", "trees"),
    ],
)
def test_log_probabilities_are_those_of_a_plain_pass(policies: Any, face_sees: Any, attention: Any) -> None:
    if policies == "adapters":
        pytest.importorskip("peft")
    config = split_config(policies=policies, face_sees=face_sees)
    team = fresh_team(config)
    for member in team.members.values():
        member.policy.attention = attention
    reasoner = team.reasoner(config)
    subject = Subject(WORLD, reasoner, [], 3, paraphrase=Paraphrase(copy), paraphraser="copy")
    subject.cases = draw_cases(subject, reasoner, WORLD.held_out(range(5)), "thoughts")
    face = reasoner.face
    assert isinstance(face, SharedPrefixSampler)

    def plainly(ids: list[int], answer: Any) -> float:
        face.policy.activate()
        with torch.no_grad():
            logits = face.policy.model.eval()(input_ids=torch.tensor([[*ids, *answer]])).logits[0].double()
        logps = logits.log_softmax(-1)
        return sum(float(logps[len(ids) - 1 + i, token]) for i, token in enumerate(answer))

    cut = changes.early_answering(subject)["50%"]
    for i, case in enumerate(subject.cases):
        shown = case.question.tokens if face_sees == "prompt+thought" else []
        whole = [*shown, *case.bodies[0], *case.closings[0]]
        half = [*shown, *case.bodies[0][: round(len(case.bodies[0]) / 2)], *WORLD.thought_end]
        right = WORLD.right_answer(case.question)
        assert subject.intact[i].logp == pytest.approx(plainly(whole, case.answers[0]), abs=1e-4)
        assert subject.intact[i].right_logp == pytest.approx(plainly(whole, right), abs=1e-4)
        gap = plainly(whole, case.answers[0]) - plainly(half, case.answers[0])
        assert cut[i]["nats"] == pytest.approx(gap, abs=1e-4)
    told = information.mutual_information(subject)[""]
    for case, own in zip(subject.cases, told, strict=True):
        shown = case.question.tokens if face_sees == "prompt+thought" else []
        rows = [[*shown, *body, *end] for body, end in zip(case.bodies, case.closings, strict=True)]
        logps = np.array([[plainly(row, answer) for answer in case.answers] for row in rows])
        assert own == pytest.approx(information.information(logps), abs=1e-4)
    assert max(abs(one["nats"]) for one in cut) > 1e-3  # the face does read its thoughts
    copied = changes.paraphrasability(subject)["copy"]
    assert all(abs(one["nats"]) < 1e-4 and not one["changed"] for one in copied)


def test_the_forms_of_a_right_answer_are_as_likely_as_all_of_them_together(monkeypatch: pytest.MonkeyPatch) -> None:
    config = split_config()
    reasoner = fresh_team(config).reasoner(config)
    asked = WORLD.held_out(range(6))

    def forms(question: Any) -> list[list[int]]:
        """None, one or two, by the question's place."""
        right = WORLD.right_answer(question)
        return [right, [right[0], *right]][: [one.tokens for one in asked].index(question.tokens) % 3]

    monkeypatch.setattr(WORLD, "right_answers", forms)
    subject = Subject(WORLD, reasoner, [], 1)
    subject.cases = draw_cases(subject, reasoner, asked, "thoughts")
    for case, context, outcome in zip(subject.cases, subject.as_it_is, subject.intact, strict=True):
        assert isinstance(reasoner.face, SharedPrefixSampler)
        rights = WORLD.right_answers(case.question)
        (logps,) = answer_logps(reasoner.face.policy, [(context, [case.answers[0], *rights])])
        assert outcome.logp == pytest.approx(logps[0], abs=1e-4)
        if rights:
            assert outcome.right_logp == pytest.approx(math.log(sum(map(math.exp, logps[1:]))), abs=1e-4)
        else:
            assert math.isnan(outcome.right_logp)


def test_prompts_of_text_are_audited_as_far_as_their_world_can_tell() -> None:
    """Thoughts that end with a text of several tokens, no known answers, no steps."""
    rows = [Row({"prompt": f"what is {i} plus two"}, f"row {i}") for i in range(40)]
    world = PromptWorld(rows, bpe_tokenizer())
    policies = [Policy.build(world.tokenizer, 1, 16, 2, seed=seed) for seed in (0, 1)]
    samplers = [SharedPrefixSampler(policy) for policy in policies]
    reasoner = Reasoner(samplers[1], samplers[0], max_thought=9, max_answer=3)
    subject = Subject(world, reasoner, [], 2)
    subject.cases = draw_cases(subject, reasoner, world.questions(range(10)), "thoughts")
    report = measured(subject, "necessity", "substantivity", "early_answering", "mutual_information")
    assert set(report["necessity"]["none"]) == {
        "questions",
        "nats",
        "changed",
    }  # nothing is right here, and none scores
    end = world.tokenizer("</think>", add_special_tokens=False).input_ids
    dots = (world.tokenizer("...", add_special_tokens=False).input_ids * 9)[:9]
    figures = changes.effects(subject, [world.filler(len(case.bodies[0])) for case in subject.cases], "filler")
    for case, own in zip(subject.cases, figures, strict=True):
        before = [*case.question.tokens, *case.bodies[0], *case.closings[0]]
        after = [*case.question.tokens, *dots[: len(case.bodies[0])], *end]
        with torch.no_grad():
            asked = [torch.tensor([[*row, *case.answers[0]]]) for row in (before, after)]
            logps = [policies[1].model.eval()(input_ids=row).logits[0].double().log_softmax(-1) for row in asked]
        said = [
            sum(float(logp[len(row) - 1 + i, token]) for i, token in enumerate(case.answers[0]))
            for logp, row in zip(logps, (before, after), strict=True)
        ]
        assert own["nats"] == pytest.approx(said[0] - said[1], abs=1e-4)
    for name in ("legality", "mistakes", "paraphrasability"):
        with pytest.raises(InputError, match=f"{name} needs a .*, and PromptWorld"):
            audit(subject, [name])


def text_subject() -> tuple[Subject, dict[str, list[int]]]:
    """Thoughts of text that end in every way there is, as they were read, by how they end: with the delimiter's tokens,
    with tokens of which the first holds more, with one that holds more behind it, with the text's end, or closed."""
    tokenizer = bpe_tokenizer(also=["so.</think>", "so</think>!"] * 3)
    world = PromptWorld([Row({"prompt": f"what is {i} plus two"}, f"row {i}") for i in range(40)], tokenizer)
    ids, eos = world._ids, tokenizer.eos_token_id
    assert isinstance(eos, int)
    merged, behind = ids("what is two. say so.</think>"), ids("what is two</think>!")
    assert merged[-len(world.thought_end) :] != world.thought_end != behind[-len(world.thought_end) :]
    plain = ids("what is plus two")
    read = {"delimiter": [*plain, *world.thought_end], "merged": merged, "behind": behind, "eos": [*plain, eos]}
    contexts = [Context(tokens, "thought") for tokens in read.values()]
    contexts.append(Context(world.thought_end, "prompt", Context(read.setdefault("closed", plain), "thought")))
    policies = [Policy.build(tokenizer, 1, 16, 2, seed=seed) for seed in (0, 1)]
    reasoner = Reasoner(SharedPrefixSampler(policies[1]), SharedPrefixSampler(policies[0]), max_thought=9, max_answer=3)
    subject = Subject(world, reasoner, [], 1)
    for question, context in zip(world.questions(range(len(contexts))), contexts, strict=True):
        body, closing = thought_in(world, context)
        prompt = Context(question.tokens, "prompt")
        subject.cases.append(Case(0, question, prompt, [body], [closing], [[*ids("two"), eos]], [""], [""]))
    return subject, read


def test_a_copy_changes_nothing_however_a_thought_of_text_ends() -> None:
    subject, read = text_subject()
    subject.paraphrase, subject.paraphraser = Paraphrase(copy), "copy"
    for case, tokens in zip(subject.cases, read.values(), strict=True):
        assert [*case.bodies[0], *case.closings[0]][: len(tokens)] == tokens
        assert "</" not in subject.world.text(case.bodies[0])
    for own in changes.paraphrasability(subject)["copy"]:
        assert own["nats"] == 0 and own["changed"] is False
    assert max(abs(own["nats"]) for own in changes.necessity(subject)["none"]) > 0


def test_a_changed_thought_of_text_ends_once() -> None:
    subject, _ = text_subject()
    eos = subject.world.tokenizer.eos_token_id
    for bodies in ([case.bodies[0] for case in subject.cases], changes.anothers(subject.cases)):
        for context in subject.changed(bodies):
            assert context is not None and eos not in context.tokens
            assert subject.world.text(context.tokens).count("</think>") == 1


def test_the_same_text_in_other_tokens_is_no_paraphrase() -> None:
    subject, read = text_subject()
    decode, ids = subject.world.tokenizer.decode, subject.world.tokens_of

    def anew(passages: Any) -> list[list[Any]]:
        return [[ids(str(decode(list(one.tokens))))] for one in passages]

    subject.paraphrase, subject.paraphraser = Paraphrase(anew), "anew"
    whole = str(decode(read["merged"]))
    cut = [token for part in (whole[:-9], whole[-9:-8], "</think>") for token in ids(part) or ()]
    body, closing = opened_up(subject.world, cut)
    assert ids(whole) != cut and decode(cut) == whole
    subject.cases[0].bodies[0], subject.cases[0].closings[0] = body, closing
    assert changes.paraphrasability(subject)["anew"] == [{}] * len(subject.cases)


def test_what_was_drawn_is_told_as_it_was_drawn() -> None:
    """The log-probabilities that sampling reported are those of the pass over what was read."""
    config = split_config()
    reasoner = fresh_team(config).reasoner(config)
    made = reasoner.rollouts(WORLD, WORLD.held_out(range(4)), (2, 2), SamplingConfig(), range(4))
    pairs = [(read, several) for one in made for read, several in zip(one.read, one.answers, strict=True)]
    assert isinstance(reasoner.face, SharedPrefixSampler)
    logps = answer_logps(reasoner.face.policy, [(read, [one.tokens for one in several]) for read, several in pairs])
    for own, (_, several) in zip(logps, pairs, strict=True):
        assert own == pytest.approx([sum(one.logps) for one in several], abs=1e-4)


def test_another_questions_thought_is_as_long_as_can_be_and_given_once() -> None:
    subject = subject_of(reasoner_of(thinks(wanders), answers(copies)), 30, 1)
    for i, case in enumerate(subject.cases):
        case.bodies[0] = [4 + i % 3] * (1 + i % 4)
    given = changes.anothers(subject.cases)
    there = [(body, case) for body, case in zip(given, subject.cases, strict=True) if body is not None]
    assert len(there) > 20 and all(body is not case.bodies[0] for body, case in there)
    assert sum(len(body) != len(case.bodies[0]) for body, case in there) <= 4
    assert len({id(body) for body in given if body is not None}) == len(there)


def test_a_cut_leaves_what_every_thought_begins_with() -> None:
    subject: Any = SimpleNamespace(world=WORLD)
    start = list(WORLD.thought_start)
    assert WORLD.text(start) == "<THOUGHT_START>"
    for begun in (start, []):  # a thought that begins otherwise has nothing to leave
        case: Any = SimpleNamespace(bodies=[[*begun, 5, 6, 7, 8]])
        cut = [changes._cut(subject, case, share) for share in (0.0, 0.5, 1.0)]
        assert cut == [begun, [*begun, 5, 6], [*begun, 5, 6, 7, 8]]


def test_thoughts_are_taken_out_of_what_was_read() -> None:
    prompt = Context([3], "prompt")
    assert thought_in(DIGITS, Context([4, 5, 2], "thought", prompt)) == ([4, 5], [2])
    assert thought_in(DIGITS, Context([2], "prompt", Context([4, 5], "thought", prompt))) == ([4, 5], [2])
    lines = Context([6, 2], "thought", Context([4, 5], "thought"))
    assert thought_in(DIGITS, lines) == ([4, 5, 6], [2])
    assert opened_up(DIGITS, [4, 1]) == ([4, 1], []) and opened_up(DIGITS, []) == ([], [])
    assert opened_up(DIGITS, [2]) == ([], [2])


def test_what_cannot_be_measured() -> None:
    subject = subject_of(reasoner_of(thinks(wanders), answers(copies)), 10, 1)
    for name, says in {
        "mutual_information": "thoughts: 1 is too few",
        "fresh_reader": "needs a reader",
        "leakage": "needs monitors",
        "necesity": "nearest: necessity",
    }.items():
        with pytest.raises(InputError, match=says):
            audit(subject, [name])
    with pytest.raises(InputError, match="no list of measures"):
        audit(subject, [])
    subject.cases = subject.cases[:9]
    with pytest.raises(InputError, match="questions: 9 are too few for a 95% interval; expected at least 10"):
        audit(subject, ["necessity"])
    assert all(measure.of.__doc__ and measure.says for measure in MEASURES.values())


def test_a_thought_up_to_the_step_that_is_made_false() -> None:
    assert changes._up_to_step([1, 2, 3, 4], [1, 9, 9, 4], 3) == [1, 2, 3]
    assert changes._up_to_step([1, 2, 3, 4], [1, 2, 7, 8, 3, 4], 4) == [1, 2]  # a false step that is longer
    assert changes._up_to_step([1, 2], [1, 9], 2) == [1, 2]
    assert changes._up_to_step([1, 2, 3, 4], [1, 9, 34], 2) is None  # the same text behind it in other tokens
