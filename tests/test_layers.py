"""Imports point down: the arrows between rooms, as pyproject.toml declares them."""

from pathlib import Path

import pytest

pytest.importorskip("importlinter")


def lint(config: Path) -> int:
    from importlinter.cli import lint_imports

    return lint_imports(config_filename=str(config), no_cache=True)


def test_imports_point_down() -> None:
    assert lint(Path(__file__).parents[1] / "pyproject.toml") == 0


def test_an_arrow_that_points_up_is_seen(tmp_path: Path) -> None:
    contract = '[[tool.importlinter.contracts]]\nname = "upside down"\ntype = "layers"\n'
    contract += 'layers = ["clew.tree", "clew.cli"]'
    (tmp_path / "pyproject.toml").write_text(f'[tool.importlinter]\nroot_package = "clew"\n{contract}\n')
    assert lint(tmp_path / "pyproject.toml") != 0
