"""Compiled kernels that carve, solve, search and hash mazes.

`passages[0, r, c]` opens (r, c) to (r + 1, c) and `passages[1, r, c]` opens (r, c) to (r, c + 1). A cell is the flat
number r * cols + c.
"""

import numpy as np
from numba import njit

GENERATORS = ("dfs", "wilson", "dfs_percolation", "percolation")
ALGORITHMS = ("dfs", "bfs", "astar", "flood")
ATTEMPTS = 10_000
DOWN, RIGHT = 0, 1


@njit(cache=True, inline="always")
def _mix(x):
    # splitmix64's finaliser (Steele, Lea, Flood 2014): every input bit reaches every output bit.
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@njit(cache=True)
def seeded(seed, stream, index, attempt):
    """A random state that depends on its four counters alone: this is what makes maze i the same maze anywhere."""
    state = np.zeros(1, np.uint64)
    for part in (seed, stream, index, attempt):
        state[0] = _mix(state[0] + np.uint64(0x9E3779B97F4A7C15) + np.uint64(part))
    return state


@njit(cache=True, inline="always")
def below(state, n):
    """A random integer in [0, n); advances `state` (splitmix64)."""
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    return np.int64(((_mix(state[0]) >> np.uint64(32)) * np.uint64(n)) >> np.uint64(32))


@njit(cache=True, inline="always")
def _chance(state, p):
    return below(state, 1 << 30) < p * (1 << 30)


@njit(cache=True)
def neighbours_into(passages, cell, out):
    """Writes the cells that open passages lead to from `cell` into `out` (4,); returns how many."""
    rows, cols = passages.shape[1], passages.shape[2]
    r, c = cell // cols, cell % cols
    n = 0
    if r > 0 and passages[DOWN, r - 1, c]:
        out[n] = cell - cols
        n += 1
    if r + 1 < rows and passages[DOWN, r, c]:
        out[n] = cell + cols
        n += 1
    if c > 0 and passages[RIGHT, r, c - 1]:
        out[n] = cell - 1
        n += 1
    if c + 1 < cols and passages[RIGHT, r, c]:
        out[n] = cell + 1
        n += 1
    return n


@njit(cache=True, inline="always")
def _random_neighbour(rows, cols, cell, state):
    r, c = cell // cols, cell % cols
    while True:
        way = below(state, 4)
        if way == 0 and r > 0:
            return cell - cols
        if way == 1 and r + 1 < rows:
            return cell + cols
        if way == 2 and c > 0:
            return cell - 1
        if way == 3 and c + 1 < cols:
            return cell + 1


@njit(cache=True, inline="always")
def _open(passages, a, b):
    cols = passages.shape[2]
    low = min(a, b)
    passages[RIGHT if abs(a - b) == 1 else DOWN, low // cols, low % cols] = True


@njit(cache=True)
def _carve_dfs(passages, state):
    rows, cols = passages.shape[1], passages.shape[2]
    seen = np.zeros(rows * cols, np.bool_)
    stack = np.empty(rows * cols, np.int64)
    fresh = np.empty(4, np.int64)
    stack[0] = below(state, rows * cols)
    seen[stack[0]] = True
    top = 1
    while top:
        cell = stack[top - 1]
        r, c = cell // cols, cell % cols
        n = 0
        if r > 0 and not seen[cell - cols]:
            fresh[n] = cell - cols
            n += 1
        if r + 1 < rows and not seen[cell + cols]:
            fresh[n] = cell + cols
            n += 1
        if c > 0 and not seen[cell - 1]:
            fresh[n] = cell - 1
            n += 1
        if c + 1 < cols and not seen[cell + 1]:
            fresh[n] = cell + 1
            n += 1
        if n == 0:
            top -= 1
            continue
        step = fresh[below(state, n)]
        seen[step] = True
        _open(passages, cell, step)
        stack[top] = step
        top += 1


@njit(cache=True)
def _carve_wilson(passages, state):
    # Loop-erased random walks (Wilson 1996): every spanning tree is equally likely.
    rows, cols = passages.shape[1], passages.shape[2]
    inside = np.zeros(rows * cols, np.bool_)
    onward = np.zeros(rows * cols, np.int64)
    inside[below(state, rows * cols)] = True
    for start in range(rows * cols):
        cell = start
        while not inside[cell]:
            onward[cell] = _random_neighbour(rows, cols, cell, state)
            cell = onward[cell]
        cell = start
        while not inside[cell]:
            inside[cell] = True
            _open(passages, cell, onward[cell])
            cell = onward[cell]


@njit(cache=True)
def _percolate(passages, p, state):
    rows, cols = passages.shape[1], passages.shape[2]
    for r in range(rows):
        for c in range(cols):
            if r + 1 < rows and _chance(state, p):
                passages[DOWN, r, c] = True
            if c + 1 < cols and _chance(state, p):
                passages[RIGHT, r, c] = True


@njit(cache=True)
def distances_into(passages, target, dist, queue):
    """Breadth-first steps from every cell to `target` into `dist` (cells,), -1 = cut off; returns how many reach it."""
    dist[:] = -1
    near = np.empty(4, np.int64)
    dist[target] = 0
    queue[0] = target
    head, tail = 0, 1
    while head < tail:
        cell = queue[head]
        head += 1
        for k in range(neighbours_into(passages, cell, near)):
            if dist[near[k]] < 0:
                dist[near[k]] = dist[cell] + 1
                queue[tail] = near[k]
                tail += 1
    return tail


@njit(cache=True)
def path_into(passages, dist, origin, state, path):
    """One shortest path from `origin` down `dist` into `path`, each step drawn evenly from the optimal ones."""
    near = np.empty(4, np.int64)
    path[0] = origin
    n = 1
    while dist[path[n - 1]] > 0:
        here = path[n - 1]
        options = 0
        for k in range(neighbours_into(passages, here, near)):
            if dist[near[k]] == dist[here] - 1:
                near[options] = near[k]
                options += 1
        path[n] = near[below(state, options)] if options > 1 else near[0]
        n += 1
    return n


@njit(cache=True)
def connectivity_hash(passages):
    """64 bits of the open passages: the maze's identity, whatever was asked of it.

    Empty rows and columns at the end do not count: token text does not tell them, so a maze read back from its text
    must not change sides of the held-out split.
    """
    rows, cols = 2, 2
    for r in range(passages.shape[1]):
        for c in range(passages.shape[2]):
            if passages[DOWN, r, c]:
                rows, cols = max(rows, r + 2), max(cols, c + 1)
            if passages[RIGHT, r, c]:
                rows, cols = max(rows, r + 1), max(cols, c + 2)
    h = _mix(np.uint64(rows) * np.uint64(1 << 32) + np.uint64(cols))
    word, filled = np.uint64(1), 0
    for way in range(2):
        for r in range(rows):
            for c in range(cols):
                word = (word << np.uint64(1)) | np.uint64(passages[way, r, c])
                filled += 1
                if filled == 63:
                    h = _mix(h ^ _mix(word))
                    word, filled = np.uint64(1), 0
    return _mix(h ^ _mix(word))


@njit(cache=True, inline="always")
def is_held_out(passages):
    return connectivity_hash(passages) % np.uint64(10) == 0


@njit(cache=True)
def carve_into(passages, generator, p, state):
    """Carves a random maze; plain percolation keeps one random cell's component. `generator` indexes GENERATORS."""
    rows, cols = passages.shape[1], passages.shape[2]
    passages[:] = False
    if generator == 1:
        _carve_wilson(passages, state)
    elif generator != 3:
        _carve_dfs(passages, state)
    if generator >= 2:
        _percolate(passages, p, state)
    if generator == 3:
        dist = np.empty(rows * cols, np.int64)
        queue = np.empty(rows * cols, np.int64)
        distances_into(passages, below(state, rows * cols), dist, queue)
        for cell in range(rows * cols):
            if dist[cell] < 0:
                passages[:, cell // cols, cell % cols] = False


@njit(cache=True)
def draw_into(passages, generator, p, held_out, seed, stream, index):
    """Maze `index` of a stream: redraws until it falls on the wanted side of the held-out split (0, 1; -1 = any) and
    has a passage. Returns (whether one was found, the random state after it)."""
    for attempt in range(ATTEMPTS):
        state = seeded(seed, stream, index, attempt)
        carve_into(passages, generator, p, state)
        if passages.any() and (held_out < 0 or is_held_out(passages) == (held_out == 1)):
            return True, state
    return False, seeded(seed, stream, index, 0)


@njit(cache=True)
def _fresh_neighbours(passages, cell, seen, state, near):
    """The open neighbours of `cell` not yet seen, in random order, into `near` (4,); returns how many."""
    n = 0
    for k in range(neighbours_into(passages, cell, near)):
        if not seen[near[k]]:
            near[n] = near[k]
            n += 1
    for k in range(n - 1):
        pick = k + below(state, n - k)
        near[k], near[pick] = near[pick], near[k]
    return n


@njit(cache=True)
def _dfs_into(passages, origin, target, state, cells, parents):
    seen = np.zeros(passages.shape[1] * passages.shape[2], np.bool_)
    back = np.empty(seen.shape[0], np.int64)
    near = np.empty(4, np.int64)
    cells[0] = parents[0] = here = origin
    seen[origin] = True
    n = 1
    while here != target:
        if _fresh_neighbours(passages, here, seen, state, near):
            step = near[0]
            seen[step] = True
            back[step] = here
        elif here != origin:
            step = back[here]
        else:
            break
        cells[n], parents[n] = step, here
        here = step
        n += 1
    return n


@njit(cache=True)
def _bfs_into(passages, origin, target, state, cells, parents):
    seen = np.zeros(passages.shape[1] * passages.shape[2], np.bool_)
    near = np.empty(4, np.int64)
    cells[0] = parents[0] = origin  # the queue is the trace: `cells` fills ahead of the expansions
    seen[origin] = True
    head, tail = 0, 1
    while head < tail:
        here = cells[head]
        head += 1
        if here == target:
            break
        for k in range(_fresh_neighbours(passages, here, seen, state, near)):
            cells[tail], parents[tail] = near[k], here
            seen[near[k]] = True
            tail += 1
    return head


@njit(cache=True)
def _astar_into(passages, origin, target, state, cells, parents):
    size, cols = passages.shape[1] * passages.shape[2], passages.shape[2]
    cost = np.full(size, size, np.int64)  # steps from the origin
    found_from = np.empty(size, np.int64)
    expanded = np.zeros(size, np.bool_)
    frontier, ties = np.empty(size, np.int64), np.empty(size, np.int64)
    near = np.empty(4, np.int64)
    frontier[0] = found_from[origin] = origin
    cost[origin] = 0
    waiting, n = 1, 0
    while waiting:
        least, tied = 4 * size, 0
        for i in range(waiting):
            cell = frontier[i]
            guess = cost[cell] + abs(cell // cols - target // cols) + abs(cell % cols - target % cols)
            if guess < least:
                least, tied = guess, 0
            if guess == least:
                ties[tied] = i
                tied += 1
        pick = ties[below(state, tied)] if tied > 1 else ties[0]
        here = frontier[pick]
        waiting -= 1
        frontier[pick] = frontier[waiting]
        expanded[here] = True
        cells[n], parents[n] = here, found_from[here]
        n += 1
        if here == target:
            break
        for k in range(_fresh_neighbours(passages, here, expanded, state, near)):
            if cost[near[k]] == size:
                frontier[waiting] = near[k]
                waiting += 1
            if cost[here] + 1 < cost[near[k]]:
                cost[near[k]] = cost[here] + 1
                found_from[near[k]] = here
    return n


@njit(cache=True)
def trace_into(passages, algorithm, origin, target, state, cells, parents):
    """Searches from `origin` until `target`, a flood from `target` until `origin`, and writes each step into `cells`,
    and where it came from into `parents` (both with room for 2 * rows * cols); returns how many steps, that of the cell
    where it begins first. `algorithm` indexes ALGORITHMS. Where no passage leads from one to the other, the search ends
    with nothing left to see."""
    if algorithm == 0:
        return _dfs_into(passages, origin, target, state, cells, parents)
    if algorithm == 1:
        return _bfs_into(passages, origin, target, state, cells, parents)
    if algorithm == 3:
        return _bfs_into(passages, target, origin, state, cells, parents)
    return _astar_into(passages, origin, target, state, cells, parents)
