"""Any reading over a training: of each snapshot that a run kept on its way (`clew train --snapshots 2`).

along(Path("runs/along"), lambda policy: look(policy, pairs).table())      # the same table, with a column `step`
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from clew.errors import InputError
from clew.policy import Policy
from clew.runs.snapshots import snapshots_of

if TYPE_CHECKING:
    import pyarrow as pa


def along(run: Path, read: Callable[[Policy], "pa.Table"]) -> "pa.Table":
    """One table of the tables that `read` makes of each snapshot, first to last, with the step as the first column.

    InputError for a folder that holds no snapshots.
    """
    import pyarrow as pa

    found = snapshots_of(run)
    if not found:
        raise InputError(f"run: {run} keeps no snapshots; clew train --snapshots 2 keeps those of steps 1, 2, 4, 8, …")
    tables = []
    for step, folder in found.items():
        table = read(Policy.load(folder / "model"))
        tables.append(table.add_column(0, "step", pa.array([step] * table.num_rows, pa.int64())))
    return pa.concat_tables(tables, promote_options="default")
