"""Peak memory of a round's update on a real small model, by budget of tokens, with and without gradient checkpointing.

    clew bench memory                     # twenty minutes; needs models/smollm2-135m (make language); Linux or macOS

One question of 120 tokens, eight thoughts of 48 and eight answers of 48 to each: 64 answers, 3,576 tokens with every
shared prefix once. Each row is a process of its own, and its number the most memory that it ever held.
"""

import argparse
import resource
import subprocess
import sys
from pathlib import Path

import torch
from accelerate import Accelerator

from clew.config import ModelConfig
from clew.policy import Policy
from clew.train.config import SplitConfig
from clew.train.team import BOTH, ROLES, team_of
from clew.tree import SpanTree, TreeBatch, only
from measure import keep, options

MODEL = Path(__file__).parents[1] / "models" / "smollm2-135m"
PROMPT, THOUGHT, ANSWER, N, K = 120, 48, 48, 8, 8
ROWS = [("one", 512, False), ("one", 1024, False), ("one", 2048, False), ("one", 0, False)]
ROWS += [("one", 1024, True), ("one", 0, True), ("adapter", 1024, False), ("adapter", 1024, True)]
ROWS += [("two", 1024, False), ("adapters", 1024, False)]


def question() -> SpanTree:
    """A rollout as its policies learn it: random tokens, thoughts and answers of either sign."""
    draw = torch.Generator().manual_seed(0)

    def span(role: str, count: int, weight: float, children: tuple = ()) -> SpanTree:
        tokens = torch.randint(100, 49_000, (count,), generator=draw).tolist()
        return SpanTree(tokens, role, weight, children)  # type: ignore[arg-type]

    def thought(i: int) -> SpanTree:
        return span("thought", THOUGHT, (-1) ** i / N, tuple(span("answer", ANSWER, (-1) ** j / K) for j in range(K)))

    return span("prompt", PROMPT, 0.0, tuple(thought(i) for i in range(N)))


def one(policies: str, budget: int, frugal: bool) -> None:
    """An update of each policy of a team; prints the most memory held before and in it, in MiB."""
    torch.set_num_threads(1)
    config = SplitConfig(policies=policies, model=ModelConfig(folder=str(MODEL)))  # type: ignore[arg-type]
    config.optimizer.tokens_at_once = budget or 10**9
    first = Policy.load(MODEL, torch.float32)
    begun = {"shoggoth": first} | ({"face": first.copy()} if policies == "two" else {})
    for policy in begun.values():
        if frugal:
            policy.checkpoint_layers()
    team = team_of(config, begun, Accelerator(cpu=True))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tree = question()
    for name, member in team.members.items():
        member.policy.activate()
        roles = ROLES[name] if len(team.members) == 2 else BOTH
        member.learner.update(TreeBatch.pack([only(tree, *roles)], 0))
    unit = 2**20 if sys.platform == "darwin" else 2**10
    print("MIB", before / unit, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--row", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.row:
        policies, budget, frugal = args.row.split(",")
        return one(policies, int(budget), frugal == "True")
    found = []
    table = ["| policies | tokens at once | layers computed anew | MiB before | most MiB |", "|---|---|---|---|---|"]
    for row in ROWS:
        command = [sys.executable, __file__, "--row", ",".join(map(str, row))]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        before, most = map(float, said.split("MIB")[1].split()[:2])
        found.append({"policies": row[0], "tokens_at_once": row[1], "checkpointing": row[2], "MiB": [before, most]})
        table.append(f"| {row[0]} | {row[1] or 'all'} | {'yes' if row[2] else 'no'} | {before:,.0f} | {most:,.0f} |")
        print(table[-1], flush=True)
    keep("memory", args.out, found, table)


if __name__ == "__main__":
    main()
