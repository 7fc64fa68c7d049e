"""Cells: jobs that are declared, run once and kept as Parquet, on this machine's cores or on a Ray cluster.

A cell's file is named after all that defines it, so that a finished cell is found again and a changed one never is.
"""

import ctypes
import hashlib
import json
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any, Literal

import numpy as np

from clew.errors import InputError
from clew.files import naming

FORMAT = 1  # raise it when the same cell would come out otherwise
Engine = Literal["local", "ray"]
Figures = dict[str, np.ndarray]
Job = tuple[str, dict[str, Any]]
"""a world, by the name of its module beside this one, and a cell of it as plain values"""


@dataclass(frozen=True)
class Kept:
    """A finished cell: what it was, its figures over replicas, and the mean learning curve with its standard error."""

    values: dict[str, Any]
    figures: Figures
    curve: list[float]
    curve_error: list[float]

    @property
    def runs(self) -> int:
        """How many replicas there are: of those that are missing every figure is NaN."""
        return max((int((~np.isnan(values_R)).sum()) for values_R in self.figures.values()), default=0)


@dataclass(frozen=True)
class Result:
    """One arm of a study: a rule under a condition, and what came out."""

    section: str
    condition: dict[str, Any]
    name: str
    kept: Kept


def key(job: Job) -> str:
    """The name of a cell's file: a hash of all that defines it."""
    text = json.dumps([FORMAT, *job], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def path_of(folder: Path, job: Job) -> Path:
    return folder / "cells" / f"{key(job)}.parquet"


def _arrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise InputError("study: needs pyarrow; pip install 'clew-spans[study]'") from None
    return pyarrow


def write(path: Path, values: dict[str, Any], figures: Figures) -> None:
    """A cell's figures, one row a replica, rounded to five digits; written whole or not at all."""
    pa = _arrow()
    curve_RL = np.asarray(figures["curve"], float)
    error = curve_RL.std(0, ddof=1) / np.sqrt(len(curve_RL)) if len(curve_RL) > 1 else np.zeros(curve_RL.shape[1])
    about = {"cell": values, "curve": curve_RL.mean(0).round(6).tolist(), "curve_error": error.round(6).tolist()}
    columns = {name: np.round(values_R, 5).astype(np.float32) for name, values_R in figures.items() if name != "curve"}
    _write_table(path, pa.table(columns).replace_schema_metadata({"clew": json.dumps(about)}))


def _write_table(path: Path, table: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{host()}.{os.getpid()}.part")
    try:
        with naming(path):
            # A cell is a row of many figures, where what describes a column takes more room than what is in it.
            about = {"write_statistics": False, "use_dictionary": len(table) > 100}
            _arrow().parquet.write_table(table, beside, compression="zstd", **about)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def host() -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname())


def _tidy(folder: Path) -> None:
    """Clears away what killed processes of this machine were in the middle of writing."""
    for part in folder.rglob(f".*.{host()}.*.part") if os.name == "posix" else ():
        pid = part.name.split(".")[-2]
        if not pid.isdigit() or int(pid) == os.getpid() or not _runs(int(pid)):
            part.unlink(missing_ok=True)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is somebody else's
        return True
    return True


def _read_table(path: Path) -> tuple[Any, dict[str, Any]]:
    try:
        table = _arrow().parquet.read_table(path)
        return table, json.loads(table.schema.metadata[b"clew"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: is no file of a study: {' '.join(str(error).split())}") from None


def read(path: Path) -> Kept:
    """A finished cell. InputError for a file that is none."""
    table, about = _read_table(path)
    try:
        figures = {name: table[name].to_numpy().astype(float) for name in table.column_names}
        return Kept(about["cell"], figures, about["curve"], about["curve_error"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: holds no cell of a study: {error!r}") from None


def joined(kept: Sequence[Kept]) -> Kept:
    """Several seeds as the replicas of one arm. Its curve is the mean over those that have a value at that point."""
    figures = {name: np.concatenate([one.figures[name] for one in kept]) for name in kept[0].figures}
    curve, error = _mean_curve(np.array([one.curve for one in kept], float))
    return Kept({**kept[0].values, "replicas": len(kept), "seed": 0}, figures, curve.tolist(), error.tolist())


def _mean_curve(curves_RT: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean over replicas that are not NaN, NaN where none is, and its standard error, NaN where some are missing
    that have a value elsewhere: an interval by how many there are at most would be too narrow there."""
    known_RT = ~np.isnan(curves_RT)
    count_T = known_RT.sum(0)
    with np.errstate(invalid="ignore"):
        mean_T = np.where(known_RT, curves_RT, 0).sum(0) / count_T
        square_T = np.where(known_RT, curves_RT - mean_T, 0) ** 2
        error_T = np.sqrt(square_T.sum(0) / np.maximum(count_T - 1, 1) / count_T)
    return mean_T, np.where(count_T == count_T.max(initial=0), error_T, np.nan)


def write_results(path: Path, config: dict[str, Any], results: Sequence[Result]) -> None:
    """A whole study in one file: a row for each arm and replica; what the arms were is in the file's metadata."""
    pa = _arrow()
    arms = [{"section": r.section, "condition": r.condition, "name": r.name, "cell": r.kept.values} for r in results]
    for arm, r in zip(arms, results, strict=True):
        arm |= {"curve": r.kept.curve, "curve_error": r.kept.curve_error}
    names = list(results[0].kept.figures)
    sizes = [len(r.kept.figures[names[0]]) for r in results]
    columns: dict[str, Any] = {"arm": np.repeat(np.arange(len(results), dtype=np.int16), sizes)}
    for name in names:
        columns[name] = np.concatenate([r.kept.figures[name] for r in results]).round(4).astype(np.float32)
    table = pa.table(columns).replace_schema_metadata({"clew": json.dumps({"config": config, "arms": arms})})
    _write_table(path, table)


def read_results(path: Path) -> tuple[dict[str, Any], list[Result]]:
    """The study's config and its results. InputError for a file that holds none."""
    table, about = _read_table(path)
    try:
        arm = table["arm"].to_numpy()
        columns = {name: table[name].to_numpy().astype(float) for name in table.column_names if name != "arm"}
        results = []
        for i, one in enumerate(about["arms"]):
            figures = {name: values[arm == i] for name, values in columns.items()}
            kept = Kept(one["cell"], figures, one["curve"], one["curve_error"])
            results.append(Result(one["section"], one["condition"], one["name"], kept))
        return about["config"], results
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: holds no results of a study: {error!r}") from None


def solve(job: Job, folder: str) -> None:
    """Runs one cell and keeps it: what a worker does. A world that keeps more than figures is told the folder."""
    kind, values = job
    world = import_module(f"clew.study.{kind}")
    given = (Path(folder),) if getattr(world, "NEEDS_FOLDER", False) else ()
    write(path_of(Path(folder), job), values, world.run(world.from_json(values), *given))


def run_cells(
    jobs: Sequence[Job],
    folder: Path,
    engine: Engine = "local",
    workers: int | None = None,
    report: Callable[[int, int], None] = lambda done, count: None,
) -> list[Kept]:
    """Every job's finished cell, in order; those that are in the folder already are not run again.

    workers: processes of one thread each, by default one a core. report(done, count) is called as cells come in. Equal
    jobs are run once. Can be killed at any moment: what is finished stays. A cell that fails stops no other; its error
    is raised behind the last of them. An InputError, which they would come to as well, ends it at once.
    """
    _arrow()
    _tidy(folder)
    count = len({key(job) for job in jobs})
    todo = list({key(job): job for job in jobs if not path_of(folder, job).is_file()}.values())
    done = count - len(todo)
    report(done, count)
    failed = []
    for error in (_ray if engine == "ray" else _local)(todo, str(folder), workers or os.cpu_count() or 1):
        if error:
            failed.append(error)
        else:
            done += 1
            report(done, count)
    if failed:
        failed[0].add_note(f"{len(failed)} of the cells failed, this one first; the same command tries them again")
        raise failed[0]
    return [read(path_of(folder, job)) for job in jobs]


def _begin_worker() -> None:
    """What a worker does first: one thread for the libraries, and an end with its parent, however that ends."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    if sys.platform == "linux":  # the kernel sees to it too, should a cell never let the thread run
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)


@contextmanager
def without_interrupts() -> Iterator[None]:
    """Processes that are started meanwhile never hear of Ctrl-C: the parent alone does, and ends them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def process_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Processes of one thread each, to which work is submitted `without_interrupts`. They end with this process,
    however that ends; after an error what is being run is finished first, and nothing else is begun."""
    # Forking would copy the parent's threads' locks; a fresh interpreter has none.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_begin_worker)
    try:
        yield pool
    except Exception:
        raise  # what else is being run is finished, and kept
    except BaseException:  # interrupted: nobody waits for work that may take minutes
        for process in list((getattr(pool, "_processes", None) or {}).values()):
            process.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _local(jobs: list[Job], folder: str, workers: int) -> Iterator[BaseException | None]:
    """As jobs end, the error of each, None for one that has none; an InputError is raised."""
    if not jobs:
        return
    with process_pool(min(workers, len(jobs))) as pool:
        with without_interrupts():
            waiting = {pool.submit(solve, job, folder) for job in jobs}
        while waiting:
            finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in finished:
                if isinstance(error := future.exception(), InputError):
                    raise error
                yield error


def _ray(jobs: list[Job], folder: str, workers: int) -> Iterator[BaseException | None]:
    """The same on a Ray cluster."""
    try:
        import ray
    except ImportError:
        raise InputError("engine: ray is not installed; pip install 'clew-spans[ray]'") from None
    started = not ray.is_initialized()
    if started:  # RAY_ADDRESS names a running cluster, which has cores of its own
        cores = None if "RAY_ADDRESS" in os.environ else workers
        ray.init(num_cpus=cores, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        task = ray.remote(num_cpus=1, max_retries=3)(solve)
        waiting = [task.remote(job, str(Path(folder).resolve())) for job in jobs]
        while waiting:
            finished, waiting = ray.wait(waiting, num_returns=1)
            error = None
            try:
                ray.get(finished)
            except InputError:
                raise
            except Exception as one:
                error = one
            yield error
    finally:
        if started:
            ray.shutdown()
