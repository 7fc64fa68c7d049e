"""The sampler in this process: prompts are read once for all their completions, by the policy that is being trained."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from clew.config import SamplingConfig
from clew.policy import Policy
from clew.rollout.continuing import continue_prompts
from clew.rollout.types import Completion, Context, Request

ROWS_AT_ONCE = 1024


class SharedPrefixSampler:
    """Samples from a policy where it stands: `sync` takes no copy.

    Requests that follow each other and share the first span of their contexts are read as one prompt and its tails.
    """

    def __init__(self, policy: Policy):
        self.policy = policy

    def sync(self, policy: Policy) -> None:
        self.policy = policy

    def sample(self, requests: Sequence[Request], sampling: SamplingConfig) -> list[Completion]:
        """The completions asked for, about 1,024 rows at a time. InputError as `continue_prompts` has it."""
        self.policy.activate()
        return [done for part in _parts(requests) for done in self._continued(part, sampling)]

    def _continued(self, groups: list[list[Request]], sampling: SamplingConfig) -> Iterator[Completion]:
        """Completions of requests that are alike but for context, limit and seed; a group shares its first span."""
        requests = [request for group in groups for request in group]
        chains = [[request.context.chain() for request in group] for group in groups]
        tails = [[[token for link in chain[1:] for token in link.tokens] for chain in group] for group in chains]
        whole = all(len(group) == 1 and len(group[0]) == 1 for group in chains)
        first = requests[0]
        written = continue_prompts(
            self.policy.model,
            [group[0][0].tokens for group in chains],
            tails=None if whole else tails,
            stop=first.stop,
            tokenizer=self.policy.tokenizer,
            max_new=[request.max_tokens for request in requests],
            pad_token_id=self.policy.pad_token_id,
            copies=first.copies,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            seeds=[request.seed for request in requests],
            attention=self.policy.attention,
        )
        for i, one in enumerate(written):
            request = requests[i // first.copies]
            finish = "stop" if one.stopped else "length"
            yield Completion(request.context, request.role, one.tokens, one.logps, finish)


def _parts(requests: Sequence[Request]) -> Iterator[list[list[Request]]]:
    """Requests that can be read together: groups by their first span, of about ROWS_AT_ONCE rows in all."""

    def kind(request: Request) -> tuple:
        return (request.copies, request.stop, request.context.before is None)

    for (copies, _, _), alike in groupby(requests, kind):
        part: list[list[Request]] = []
        for _, group in groupby(alike, _shared):
            members = list(group)
            if part and copies * (sum(map(len, part)) + len(members)) > ROWS_AT_ONCE:
                yield part
                part = []
            part.append(members)
        yield part


def _shared(request: Request) -> int:
    """What requests that are read as one prompt and its tails have in common; one without a tail is read by itself."""
    return id(request if request.context.before is None else _first(request.context))


def _first(context: Context) -> Context:
    while context.before is not None:
        context = context.before
    return context
