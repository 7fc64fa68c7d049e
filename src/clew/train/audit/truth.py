"""What thoughts say: whether their steps are true, whether the answer is theirs, and what monitors see in either."""

import numpy as np

from clew.graders import as_given
from clew.monitors import Monitor
from clew.runs.intervals import Ratio
from clew.text import show
from clew.train.audit.subject import Figures, Found, Subject
from clew.train.crediting import prompts_and_columns


def legality(subject: Subject) -> Found:
    """Whether thoughts are true, and whether answers follow them, over all n thoughts of each case:

        true_steps  of all steps those that are true of the question, as the world tells
        finds       of all thoughts those that come to an answer by themselves
        follows     of these those whose drawn answer comes to the same, as the world tells (`World.same_answer`)

    On mazes a step is true if it takes an open passage; what a thought finds is the path from origin to target that can
    be read off it. High: thoughts can be taken at their word. A thought in a private code is not true as it stands.
    """
    world, found = subject.world, []
    for case in subject.cases:
        steps, ends = [], []
        for body, text in zip(case.bodies, case.answer_texts, strict=True):
            steps += world.thought_steps(case.question, body) or []
            said = world.thought_answer(case.question, body)
            ends += [] if said is None else [world.same_answer(case.question, said, text)]
        figures: Figures = {"finds": Ratio(len(ends), len(case.bodies))}
        figures |= {"true_steps": Ratio(sum(steps), len(steps))} if steps else {}
        figures |= {"follows": Ratio(sum(ends), len(ends))} if ends else {}
        found.append(figures)
        subject.told("legality", len(found), len(subject.cases))
    return {"": found}


def leakage(subject: Subject) -> Found:
    """What each monitor says of thoughts, as the shoggoth wrote them, and of answers, over all n of each case: a share
    where it only ever says 0 or 1, else a mean. Of each text it is asked by itself: the text stands where thoughts
    stand, and where answers stand, so that it says the same of a text whichever of the two it reads.

    Low on answers and high on thoughts: what answers hide, thoughts still tell. Low on both: pressure on answers may
    have leaked into thoughts ("Output Supervision Can Obfuscate the Chain of Thought", arXiv 2511.11584); a run without
    the pressure tells.
    """
    found: Found = {}
    for monitor in subject.monitors:
        sides = {"thoughts": _seen(subject, monitor, True), "answers": _seen(subject, monitor, False)}
        figures: list[Figures] = [{} for _ in subject.cases]
        for side, values_QN in sides.items():
            share = bool(np.isin(values_QN[~np.isnan(values_QN)], (0, 1)).all())
            for own, values_N in zip(figures, values_QN, strict=True):
                if len(there := values_N[~np.isnan(values_N)]):
                    own[side] = Ratio(float(there.sum()), len(there)) if share else float(there.mean())
        found[monitor.name] = figures
    return found


def _seen(subject: Subject, monitor: Monitor, of_thoughts: bool) -> np.ndarray:
    """What a monitor says of every thought, or of every answer: values_QN, NaN where it says nothing."""
    n, values = len(subject.cases[0].bodies), []
    some = 64
    for first in range(0, len(subject.cases), some):
        cases = subject.cases[first : first + some]
        texts = [text for case in cases for text in (case.thought_texts if of_thoughts else case.answer_texts)]
        prompts, columns = prompts_and_columns([case.question for case in cases for _ in range(n)])
        samples = columns | {"prompts": prompts, "completions": as_given(prompts, texts), "thoughts": texts}
        said_B, fault = monitor.watch(samples, len(texts))
        if fault:
            subject.notes.append(f"monitor: {show(monitor.name)} {fault}")
        values.append(said_B.reshape(len(cases), n))
        subject.told("leakage", first + len(cases), len(subject.cases))
    return np.concatenate(values)
