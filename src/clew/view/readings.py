"""A reading of `clew read` on a page: its tables, whole, and what each was made with."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from clew.view.page import Section
from clew.view.runs import facts_of, rounded

if TYPE_CHECKING:
    import pyarrow as pa

DIGITS = 4
"""of the figures of a page; the files have all"""
SHOWN = ("model", "options.size", "options.generators", "options.pairs", "options.mazes", "options.seed")


def sections(folder: Path, name: str) -> list[Section]:
    """The section of a folder that a reading was written to. InputError for one that cannot be opened."""
    from clew.read.reading import load_reading

    about, tables = load_reading(folder)
    facts = [(said.removeprefix("options "), value) for said, value in facts_of(about, about, SHOWN)]
    told = {one: columns_of(table) for one, table in tables.items()}
    run = {"name": name, "facts": facts, "tables": told}
    return [Section("reading", "Reading", {"runs": [run]})]


def columns_of(table: "pa.Table") -> dict[str, list[Any]]:
    """A table by its columns, each number to so many digits that count."""
    return {name: [rounded(value, DIGITS) for value in table[name].to_pylist()] for name in table.column_names}
