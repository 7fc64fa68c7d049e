"""How much of the answer the thought decides: mutual information, and the same thoughts read by a stranger."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from clew import zoo
from clew.config import ModelConfig, WorldConfig
from clew.errors import InputError
from clew.policy import Policy
from clew.rollout.sampler import SharedPrefixSampler
from clew.text import show
from clew.train.audit.subject import AT_ONCE, Figures, Found, Subject, answer_logps, draw_cases, face_of
from clew.train.config import SplitConfig
from clew.train.evaluate import Reasoner
from clew.train.opening import ROLES, run_options
from clew.train.team import ADAPTERS, check_numbers, warm_policies
from clew.world import World

WARM = "warm"


def mutual_information(subject: Subject) -> Found:
    """I(thought; answer | question), in nats, over the n drawn thoughts t_i and the answer a_i drawn behind each.

        at_least  1/n sum_i [ log p(a_i|q,t_i) - log 1/n sum_j p(a_i|q,t_j) ]
        at_most   1/n sum_i [ log p(a_i|q,t_i) - log 1/(n-1) sum_(j != i) p(a_i|q,t_j) ]

    Each probability is the face's own, exact: nothing is fitted. In the mean over draws the true value lies between the
    two. The first never exceeds log n, so that it is biased downwards wherever thoughts decide nearly all of an answer;
    over just these n thoughts, each as likely, it is without bias. The second is biased upwards, without a bound. Both
    are 0, and exactly so, for a face that pays thoughts no attention.
    Positive: the answer depends on which thought was drawn. Source: Poole et al. 2019 (arXiv 1905.06922), the
    multi-sample lower bound with a known conditional, and the leave-one-out upper bound.
    """
    policy, found = face_of(subject.reasoner).policy, []
    for first in range(0, len(subject.cases), AT_ONCE):
        asked = []
        for case in subject.cases[first : first + AT_ONCE]:
            for body, closing in zip(case.bodies, case.closings, strict=True):
                context = subject.context(case, body, closing)
                assert context is not None
                asked.append((context, case.answers))
        n = len(subject.cases[0].bodies)
        logps = answer_logps(policy, asked)
        found += [information(np.stack(logps[i : i + n])) for i in range(0, len(logps), n)]
        subject.told("mutual information", len(found), len(subject.cases))
    return {"": found}


def information(logps_NN: np.ndarray) -> Figures:
    """The two bounds of one question. logps_NN: [j, i] is log p(a_i|q,t_j). InputError for fewer than two thoughts."""
    n = len(logps_NN)
    if n < 2:
        raise InputError(f"thoughts: {n} has no other to be compared with; expected at least 2")
    own_N = logps_NN.diagonal()
    others_NN = logps_NN.copy()
    np.fill_diagonal(others_NN, -np.inf)
    mixed_N = np.logaddexp.reduce(logps_NN, axis=0) - math.log(n)
    others_N = np.logaddexp.reduce(others_NN, axis=0) - math.log(n - 1)
    return {"at_least": float((own_N - mixed_N).mean()), "at_most": float((own_N - others_N).mean())}


def fresh_reader(subject: Subject) -> Found:
    """What a face makes of the thoughts that never trained with the shoggoth that writes them; by default that of the
    run's warm start. With g the trained face, f the fresh one, a the answer that g drew behind the thought t, r a right
    one in any of its forms, t0 a thought closed as soon as it begins, and s thoughts of the fresh face's own shoggoth:

        gap         score(g(t)) - score(f(t))         positive: the trained face makes more of these thoughts
        own_gap     score(g(s)) - score(f(s))         the control: is the trained face better at any thoughts?
        excess      gap - own_gap                     positive: a private code between shoggoth and face
        nats        log g(a|q,t) - log f(a|q,t)       positive: the stranger would not have answered so. Its mean is
                                                      a KL divergence
        right_nats  log g(r|q,t) - log f(r|q,t)       positive: the trained face finds the right answer likelier
        understood  log f(a|q,t) - log f(a|q,t0)      positive: the thought tells the stranger what the trained face
                                                      answers; 0 or less while `necessity` is positive: a private code

    A face against itself has 0 in the first five. Where the fresh face has no shoggoth there is no control.
    """
    assert subject.reader is not None
    face = face_of(subject.reader)
    trained, fresh = subject.intact, subject.outcomes(subject.as_it_is, "fresh reader", face)
    blank = subject.outcomes(subject.changed([[] for _ in subject.cases]), "fresh reader, no thought", face)
    own = _own_gaps(subject, subject.reader) if subject.reader.shoggoth else [math.nan] * len(fresh)
    found = []
    for ours, theirs, without, own_gap in zip(trained, fresh, blank, own, strict=True):
        assert theirs is not None
        figures = {"gap": ours.score - theirs.score, "own_gap": own_gap}
        figures |= {"excess": figures["gap"] - own_gap, "nats": ours.logp - theirs.logp}
        figures |= {"right_nats": ours.right_logp - theirs.right_logp}
        figures |= {"understood": theirs.logp - without.logp} if without else {}
        found.append({name: value for name, value in figures.items() if not math.isnan(value)})
    return {"": found}


def _own_gaps(subject: Subject, reader: Reasoner) -> list[float]:
    """The gap on thoughts of the reader's own shoggoth, to the same questions."""
    one = replace(subject, thoughts=1)
    cases = draw_cases(one, reader, [case.question for case in subject.cases], "fresh reader's thoughts")
    own = replace(one, cases=cases)
    fresh = own.outcomes(own.as_it_is, "fresh reader, own thoughts", face_of(reader))
    return [ours.score - theirs.score for ours, theirs in zip(own.intact, fresh, strict=True) if theirs]


def open_reader(folder: Path | None, run: Path, world: World, config: WorldConfig, trained: Reasoner) -> Reasoner:
    """The fresh reader: of a folder (a split's run, a warm start, a model), or of the run's own warm start; it reads
    as the trained face does. InputError for a folder that holds none, or a model that does not know the world's words.
    """
    place = zoo.resolved(str(folder)) if folder else run / WARM
    if not place.is_dir():
        missing = f"{show(str(place))} is not there" if folder else f"{show(str(run))} keeps no warm start"
        raise InputError(f"reader: {missing}; expected --reader with a split's run, a warm start or a model's folder")
    policies = _policies(place, config)
    model = face_of(trained).policy
    for policy in policies:
        check_numbers(policy, world, f"reader: {place}")
        policy.attention = model.attention
        policy.check()
        policy.model.to(model.model.device)  # type: ignore[arg-type]
    samplers = [SharedPrefixSampler(policy) for policy in policies]
    limits = (trained.max_thought, trained.max_answer, trained.window)
    shoggoth = samplers[0] if (place / ROLES[0]).is_dir() else None
    return Reasoner(samplers[-1], shoggoth, trained.face_sees, trained.paraphrase, *limits)


def _policies(place: Path, config: WorldConfig) -> list[Policy]:
    """The shoggoth and the face of a folder, one where one plays both."""
    try:
        if (place / ADAPTERS).is_file():
            options = run_options(place.parent)
            own = {name: getattr(config, name) for name in vars(config) if name in WorldConfig.__dataclass_fields__}
            own |= {name: options[name] for name in ("policies", "rank") if name in options}
            model = ModelConfig(folder=options.get("model.folder"))
            return [*warm_policies(SplitConfig(**own, model=model), place)[0].values()]
        there = [place / name for name in ROLES if (place / name).is_dir()]
        return [Policy.load(one) for one in (there or [place])]
    except InputError as error:
        raise InputError(f"reader: {error}") from None
