"""Forks, where a path may go wrong: how far ahead a solver must see there, and how often an answer goes right there."""

from collections.abc import Sequence

import numpy as np
from numba import njit

from clew.mazes.grading import solution
from clew.mazes.kernels import distances_into, neighbours_into
from clew.mazes.lattice import Question, as_cell
from clew.runs.intervals import Ratio

NONSENSE, END = -1, -2  # steps that are no cells: one that nothing allows, and the one that says that the path is over


def lookahead(question: Question) -> int:
    """How far ahead, in steps, a solver must see to walk this question's path without a wrong step; 0 if none can be.

    At each fork on the path, a cell from which an open passage leads neither to a cell already walked nor on along a
    shortest path, it takes the fewer of two: the steps from there to the target, or those to the farthest cell in any
    wrong branch, so that each is seen to end. The largest of these over all forks is the question's lookahead.

    A branch's cells are those that can be reached through its first one without a cell already walked, each as far as
    the fewest such steps from the fork: in a maze without cycles, the longest walk into the branch. Where cycles lead
    from a branch to the target after all, they are longer than the steps to the target, so that these count.

    The path is the reference, or a shortest one if that is none. InputError if no path leads to the target. After the
    lookahead of Saparov et al. 2024 ("Transformers Struggle to Learn to Search", arXiv 2412.04703); what
    is said above of branches from which cycles lead to the target is this project's own rule.
    """
    path = solution(question)
    if min(step_shares(question, path).values()) < 1:
        path = question.lattice.shortest_path(question.origin, question.target)
    flat = np.array([row * question.lattice.cols + col for row, col in path], np.int64)
    return int(_lookahead(question.lattice.passages, flat))


@njit(cache=True)
def _lookahead(passages, path):
    """The lookahead along a shortest path, given as flat cells."""
    dist = np.empty(passages.shape[1] * passages.shape[2], np.int64)
    queue, depth = np.empty_like(dist), np.empty_like(dist)
    walked = np.zeros(len(dist), np.bool_)
    near = np.empty(4, np.int64)
    distances_into(passages, path[-1], dist, queue)
    farthest = 0
    for here in path[:-1]:
        walked[here] = True
        for k in range(neighbours_into(passages, here, near)):
            if not walked[near[k]] and dist[near[k]] != dist[here] - 1:
                ahead = depth_of_branch(passages, near[k], walked, dist[here], depth, queue)
                farthest = max(farthest, ahead)
    return farthest


@njit(cache=True)
def depth_of_branch(passages, branch, walked, most, depth, queue):
    """Steps from a fork to the farthest cell that is reached through its neighbour `branch`, `most` at most."""
    near = np.empty(4, np.int64)
    depth[:] = -1
    depth[branch] = 1
    queue[0] = branch
    head, tail = 0, 1
    while head < tail and depth[queue[tail - 1]] < most:
        here = queue[head]
        head += 1
        for k in range(neighbours_into(passages, here, near)):
            if depth[near[k]] < 0 and not walked[near[k]]:
                depth[near[k]] = depth[here] + 1
                queue[tail] = near[k]
                tail += 1
    return depth[queue[tail - 1]]


def step_shares(question: Question, cells: Sequence[object], ended: bool = True) -> dict[str, Ratio]:
    """The shares of right steps among those taken at forks, `fork_steps`, and among all others, `forced_steps`.

    Steps are read up to the first wrong one, which counts where it was taken; an answer of which both shares are 1 is
    optimal, and no other. Right is what goes on along a shortest path. A fork is a cell from which a passage, other
    than the one just come through, leads on along none. The first step, onto the origin, and the last, which says at
    the target that the path is over, are no choices: they are forced. Nonsense is a wrong step, and so is an end too
    early, or none at all. A share of no steps is left out.

    cells: as `grade_path` takes them.
    """
    rows, cols = question.lattice.rows, question.lattice.cols
    moves = [NONSENSE] * (len(cells) + 1)
    for i, cell in enumerate(map(as_cell, cells)):
        if cell is not None and 0 <= cell[0] < rows and 0 <= cell[1] < cols:
            moves[i] = cell[0] * cols + cell[1]
    moves[-1] = END if ended else NONSENSE
    ends = [row * cols + col for row, col in (question.origin, question.target)]
    counts = _count_steps(question.lattice.passages, np.array(moves, np.int64), *ends)
    named = zip(("fork_steps", "forced_steps"), counts.tolist(), strict=True)
    return {name: Ratio(right, taken) for name, (right, taken) in named if taken}


@njit(cache=True)
def _count_steps(passages, moves, origin, target):
    """[[right, taken] of the steps at forks, [right, taken] of all others], up to the first wrong one of `moves`: flat
    cells, END or NONSENSE."""
    dist = np.empty(passages.shape[1] * passages.shape[2], np.int64)
    distances_into(passages, target, dist, np.empty_like(dist))
    near = np.empty(4, np.int64)
    counts = np.zeros((2, 2), np.int64)
    came = here = NONSENSE
    for move in moves:
        right, forced = move == (origin if here == NONSENSE else END), True
        if here not in (NONSENSE, target):
            right = False
            for k in range(neighbours_into(passages, here, near)):
                nearer = dist[near[k]] == dist[here] - 1
                right |= nearer and near[k] == move
                forced &= nearer or near[k] == came
        counts[int(forced), 1] += 1
        if not right:
            break
        counts[int(forced), 0] += 1
        came, here = here, move
    return counts
