"""config.yaml: what a run was made with, what of that may change when it goes on, and what has moved since."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from clew.errors import InputError
from clew.files import write_atomically
from clew.runs.checkpoints import latest_checkpoint, number_of
from clew.text import check_text, one_line, show


def write_config(path: Path, config: Any) -> None:
    """The config as YAML, without `out`: running it again makes a new run."""
    values = {name: value for name, value in asdict(config).items() if name != "out"}
    write_atomically(path, yaml.safe_dump(plain(values), sort_keys=False))


class _Loader(yaml.SafeLoader):
    """Plain YAML; a key given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if (key.tag, str(key.value)) in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} is given twice", key.start_mark)
            seen.add((key.tag, str(key.value)))
        return super().construct_mapping(node, deep)


YAML_BYTES, YAML_VALUES = 2**20, 10_000  # far beyond any options; what is larger is something else


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping with keys of text; InputError if it cannot be read as one."""
    check_text("config", str(path))
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: is not a file")
    try:
        if path.stat().st_size > YAML_BYTES:
            raise InputError(f"{path}: holds {path.stat().st_size:,} bytes; options take less than {YAML_BYTES:,}")
        values = yaml.load(path.read_text(encoding="utf-8-sig"), _Loader)
        holds = _count(values, {})
    except InputError:
        raise
    except RecursionError:
        raise InputError(f"{path}: cannot be read as YAML: it is nested too deeply, or holds itself") from None
    except (OSError, ValueError, OverflowError, TypeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: cannot be read as YAML: {one_line(error)}") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: holds no options (a YAML mapping was expected)")
    if holds > YAML_VALUES:
        raise InputError(f"{path}: its aliases stand for more than {YAML_VALUES:,} values, which no options need")
    return values


def _count(value: Any, known: dict[int, int]) -> int:
    """Plain values in nested ones, each as often as it is referred to. RecursionError if one holds itself."""
    if not isinstance(value, (dict, list)):
        return 1
    if id(value) not in known:
        known[id(value)] = -1
        parts = [*value, *value.values()] if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_count(part, known) for part in parts)
    if known[id(value)] < 0:
        raise RecursionError
    return known[id(value)]


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def groups_of(config: type) -> dict[str, type]:
    """The options of a config that are configs themselves."""
    return {name: hint for name, hint in get_type_hints(config).items() if is_dataclass(hint)}  # type: ignore[misc]


def names_of(config: type, inside: str = "") -> list[str]:
    """The dotted names of all options of a config, those of its groups included."""
    groups, names = groups_of(config), []
    for field in fields(config):
        if field.name in groups:
            names += names_of(groups[field.name], f"{inside}{field.name}.")
        else:
            names.append(inside + field.name)
    return names


def flat(values: Mapping[str, Any], config: type, inside: str = "") -> dict[str, Any]:
    """Nested options by dotted names, as YAML would have them. What is no group of the config is one value."""
    groups, out = groups_of(config), {}
    for name, value in values.items():
        if name in groups and isinstance(value, dict):
            out |= flat(value, groups[name], f"{inside}{name}.")
        else:
            out[f"{inside}{name}"] = plain(value)
    return out


def moved(values: Mapping[str, Any], config: type, renamed: Mapping[str, str] | None = None) -> dict[str, str]:
    """The options of a file that an earlier version wrote and that stand elsewhere now: {"lr": "optimizer.lr"}.

    One that the config lacks is found by its last name among the options of its groups, the outermost first. A text (or
    null) where a group is expected means the group's first option. renamed: new names of those that have another; what
    stands behind a colon says how its value is written now.
    """
    found = ((name, _new_place(name, value, config, renamed or {})) for name, value in flat(values, config).items())
    return {name: new for name, new in found if new not in (None, name)}


def check_moved(file: Path, values: Mapping[str, Any], config: type, renamed: Mapping[str, str] | None = None) -> None:
    """InputError, in one line, that names the options of a file that have moved and where they are now."""
    if places := moved(values, config, renamed):
        names = renamed or {}
        written = {old: names[old] if ":" in names.get(old, "") else new for old, new in places.items()}
        told = ", ".join(f"{old} is now {new}" for old, new in written.items())
        raise InputError(
            f"{file}: was written by an earlier version; these options have moved: {told}; move them, or start anew"
        )


def _new_place(name: str, value: Any, config: type, renamed: Mapping[str, str]) -> str | None:
    """Where an option stands now: under its own name, elsewhere, or nowhere."""
    known = names_of(config)
    if name in known:
        return name
    first = next((one for one in known if one.startswith(f"{name}.")), None)
    if first is not None:
        kept = flat(asdict(config()), config)[first]
        fits = kept is None if value is None else isinstance(value, str) and (kept is None or isinstance(kept, str))
        return first if fits and first.count(".") == name.count(".") + 1 else None
    name = renamed.get(name, name).partition(":")[0]
    if name in known or "." in name:
        return name if name in known else None
    places = [one for one in known if one.endswith(f".{name}")]
    outermost = [one for one in places if one.count(".") == min(other.count(".") for other in places)]
    return outermost[0] if len(outermost) == 1 else None


def options_of(
    out: Path, config: type, commands: Mapping[str, type], renamed: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The options that a run folder was made with, flat, by dotted names; defaults where its file is silent.

    config: the dataclass of the command that goes on with it, one of `commands`. InputError for a folder without a
    run, for a run of another command, and for a file whose options are not this command's, or have moved.
    """
    file = out / "config.yaml"
    if not file.is_file():
        raise InputError(f"resume: {out} holds no run (no config.yaml)")
    values = read_yaml(file)
    strange = _strange(values, config, renamed)
    for command, other in commands.items():
        if strange and other is not config and not _strange(values, other, renamed):
            raise InputError(f"resume: {out} holds a run of clew {command}; go on with clew {command} --resume {out}")
    if strange:
        inner = next((one for one in names_of(config) if one.startswith(f"{strange[0]}.")), None)
        if inner:
            value, example = flat(values, config)[strange[0]], "{" + f"{inner.removeprefix(f'{strange[0]}.')}: …" + "}"
            raise InputError(f"{file}: {strange[0]}: {show(value)} is no mapping of options such as {example}")
        command = next(command for command, one in commands.items() if one is config)
        raise InputError(f"{file}: {show(strange[0])}: clew {command} has no such option")
    check_moved(file, values, config, renamed)
    return flat(asdict(config()), config) | flat(values, config)


def _strange(values: Mapping[str, Any], config: type, renamed: Mapping[str, str] | None) -> list[str]:
    """The names in a file that a config neither has nor had."""
    given = flat(values, config).items()
    return [name for name, value in given if _new_place(name, value, config, renamed or {}) is None]


def check_options(
    out: Path,
    config: Any,
    may_change: Sequence[str],
    limit: str,
    commands: Mapping[str, type],
    renamed: Mapping[str, str] | None = None,
) -> None:
    """InputError, with the option's old and new value, unless a run may go on with these options where it stands.

    may_change: names of options, or of groups of them, that may. limit: the option that counts the run's steps.
    """
    old, new = options_of(out, type(config), commands, renamed), flat(asdict(config), type(config))
    for name, value in new.items():
        if not any(name == one or name.startswith(f"{one}.") for one in may_change) and not _same(old[name], value):
            raise InputError(
                f"{name}: this run began with {show(old[name])}, and going on with {show(value)} would "
                "be another run; leave the option out, or start anew with another --out"
            )
    last, wanted = latest_checkpoint(out), getattr(config, limit)
    if last and wanted is not None and wanted < number_of(last):
        raise InputError(f"{limit}: {wanted} is less than the {number_of(last)} that this run has done")


def _same(old: Any, new: Any) -> bool:
    """Whether two values of an option mean the same; YAML takes a hand-written 1e-1 for text."""
    if isinstance(old, str) and isinstance(new, (int, float)) and not isinstance(new, bool):
        try:
            return float(old) == new
        except ValueError:
            return False
    return old == new
