"""How options are read: from the command line and from files, into a command's dataclass, with errors in words."""

import difflib
import re
import time
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn, get_args, get_origin, get_type_hints

from clew.config import check_values
from clew.errors import InputError
from clew.runs.options import check_moved, names_of, options_of, read_yaml
from clew.text import check_text, one_line, show
from clew.train.config import COMMANDS, RENAMED

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


def parser_of(command: str, config: type, about: str, positional: str = "") -> "ArgumentParser":
    """The parser of a command whose options are the fields of a dataclass. Its errors are InputErrors.

    positional: what to say of the field `model`, where the command takes it without `--model`.
    """
    from jsonargparse import ArgumentParser, set_parsing_settings

    set_parsing_settings(docstring_parse_attribute_docstrings=True)

    class Parser(ArgumentParser):
        def error(self, message: str, ex: Exception | None = None) -> NoReturn:
            raise InputError(_cause(self, one_line(message)))

        def parse_args(self, args: list[str], *others: Any, **kwargs: Any) -> Any:  # type: ignore[override]
            for arg in args:
                check_text(command, arg)
            for file in values_of("--config", args):
                check_file(Path(file), read_yaml(Path(file)), config, ("model",) if positional else ())
            try:
                return super().parse_args(in_full(args, config), *others, **kwargs)
            except InputError:
                raise
            except Exception as error:  # whatever it is, it was about what somebody typed
                raise InputError(f"options: {one_line(error)}") from None

        def format_help(self, *args: Any, **kwargs: Any) -> str:
            return re.sub(r"--[a-z_.]+", lambda match: match[0].replace("_", "-"), super().format_help(*args, **kwargs))

    settings: dict[str, Any] = {"exit_on_error": True, "allow_abbrev": False, "epilog": _epilogue(config)}
    parser = Parser(prog=f"clew {command}", description=about, **settings)
    parser.add_argument("--config", action="config", help="a YAML file of options; those given after it win")
    if positional:
        parser.add_argument("model", type=str, help=positional)
    parser.add_class_arguments(config, skip={"model"} if positional else set())
    groups = _groups(names_of(config))
    for action in parser._actions:
        if action.dest in groups:
            action.help = f"{groups[action.dest]} alone, or several as {{name: value, …}}"
    return parser


def _groups(names: Sequence[str]) -> dict[str, str]:
    """Each group of options with the first option in it."""
    groups: dict[str, str] = {}
    for name in names:
        parts = name.split(".")
        for depth in range(1, len(parts)):
            groups.setdefault(".".join(parts[:depth]), name)
    return groups


def _epilogue(config: type) -> str | None:
    """How options may be shortened, by examples of the config's own."""
    names = names_of(config)
    groups = _groups(names)
    if not groups:
        return None
    group, first = next(iter(groups.items()))
    other = next(name for name in names if name.startswith(f"{group}.") and name != first)
    return (
        f"An option may be shortened to its last name, and then means the least nested one of that name: "
        f"--{other.split('.')[-1]} is --{other}. A group's name with a plain value means the group's first option: "
        f"--{group} VALUE is --{first} VALUE."
    )


def in_full(args: Sequence[str], config: type) -> list[str]:
    """Arguments with each option under its full name: `--lr=1` becomes `--optimizer.lr=1`, `--optimizer muon` becomes
    `--optimizer.name muon`, and a-b becomes a_b. InputError for an option that has another name since some version."""
    names = names_of(config)
    groups = _groups(names)
    known = [*names, *groups]
    out = []
    for place, arg in enumerate(args):
        match = re.fullmatch(r"--([\w.-]+)(\+?)((?:=.*)?)", arg, re.DOTALL)
        if not match:
            out.append(arg)
            continue
        name, plus, given = match[1].replace("-", "_"), match[2], match[3]
        full = _full_name(name, known)
        if full is None and RENAMED.get(name, "").partition(":")[0] in known:
            raise InputError(f"{name}: is now called {RENAMED[name]}")
        value = given[1:] if given else "".join(args[place + 1 : place + 2])
        if full in groups and not value.lstrip().startswith("{"):
            full = groups[full]
        out.append(f"--{full or name}{plus}{given}")
    return out


def named_in(args: Sequence[str], config: type) -> list[str]:
    """The options that a command line names, in full: not those that come of files."""
    return [match[1] for arg in in_full(args, config) if (match := re.match(r"--([\w.]+)", arg))]


def check_rewriter_used(named: Sequence[str], paraphraser: str | None) -> None:
    """InputError for an option of a model that rewrites, named on the command line, where none does."""
    name = next((name for name in named if name.split(".")[0] == "rewriter"), None)
    if name is None:
        return
    from clew.rollout.rewriters import MODEL

    if not (paraphraser or "").startswith(MODEL):
        here = f"the paraphraser here is {show(paraphraser)}" if paraphraser else "there is no paraphraser here"
        raise InputError(f"{name}: is for a model that rewrites, and {here}; expected --paraphraser {MODEL}FOLDER")


def _full_name(name: str, known: Sequence[str]) -> str | None:
    """The option that a name means: its own, or the least nested that ends with it, the first of several."""
    if name in known:
        return name
    return min((one for one in known if one.endswith(f".{name}")), key=lambda one: one.count("."), default=None)


def _cause(parser: "ArgumentParser", message: str) -> str:
    """The parser's message as: which option, which value, what would be right."""
    known = {action.dest: action for action in parser._actions}
    wrong = re.match(r'.*Parser key "([^"]+)": .*[Vv]alue: (.*?)>?$', message)
    if wrong and (hint := getattr(known.get(wrong[1]), "_typehint", None)):
        return f"{wrong[1]}: {_value(wrong[2])} is not {_in_words(hint)}"
    if nested := re.match(r".*Parser key \"([^\"]+)\": Unable to load config ['\"](.*?)['\"](?: - |$)", message):
        return f"{nested[1]}: {_value(nested[2])} is no mapping of options such as {{name: value}}"
    unknown = re.search(r"(?:unrecognized arguments: (?:--)?|[Oo]ption ')([\w.-]+)", message)
    if unknown:
        group = re.search(r"Group '([\w.]+)'", message)
        name = f"{group[1]}.{unknown[1]}" if group else unknown[1]
        return f"{name}: there is no such option; {_suggestion(parser, name, list(known))}"
    return message[:500]


def _suggestion(parser: "ArgumentParser", name: str, known: list[str]) -> str:
    """The option that somebody may have meant, by its full name, whether they typed that or its last part."""
    last = [one.split(".")[-1] for one in known]
    close = difflib.get_close_matches(name, known, 1) or difflib.get_close_matches(name.split(".")[-1], last, 1)
    return f"did you mean {_full_name(close[0], known)}?" if close else f"{parser.prog} --help lists them"


def _in_words(hint: Any) -> str:
    """A type as people say it."""
    plain = {int: "a whole number", float: "a finite number", str: "text", bool: "true or false", type(None): "null"}
    args, origin = get_args(hint), get_origin(hint)
    if hint in plain:
        return plain[hint]
    if origin is Literal:
        return "one of " + ", ".join(map(str, args))
    if origin is list:
        return "a list like [a, b] whose members are " + _in_words(args[0])
    if origin is dict:
        return "a mapping like {name: value}"
    if origin is tuple:
        return "a pair of texts like [a, b]" if str in args else "a pair of numbers like [4, 6]"
    return " or ".join(_in_words(arg) for arg in args) if args else str(hint)


def run_config(command: str, config: type, about: str, args: list[str]) -> tuple[Any, bool]:
    """The config of a command that makes a run folder, its `out` settled, and whether it goes on with a run."""
    resume = _resumed(args, config)
    parser = parser_of(command, config, about)
    parser.add_argument("--resume", type=str | None, help="a run folder to go on with, from its last checkpoint")
    parsed = parser.parse_args(["--config", str(resume / "config.yaml"), *args] if resume else args)
    parsed.pop("resume")
    made = instance(parser, config, parsed)
    if resume and made.out and Path(made.out) != resume:
        raise InputError(f"out: {made.out} is not {resume}; a run that goes on stays in its folder")
    made.out = str(resume) if resume else made.out or time.strftime(f"runs/{command}-%Y%m%d-%H%M%S")
    return made, resume is not None


def _resumed(args: list[str], config: type) -> Path | None:
    """The folder that --resume names, whose run is one of this command; its config is read before the other options."""
    for given in values_of("--resume", args):
        check_text("resume", given)
        options_of(Path(given), config, COMMANDS, RENAMED)
        return Path(given)
    return None


NOT_IN_FILES = ("config", "resume", "from", "json", "help")


def check_file(path: Path, values: Any, config: type, positional: Sequence[str] = ()) -> None:
    """InputError, naming the file, for what has moved since some version, or is not shaped like a config."""
    check_moved(path, values, config, RENAMED)
    _check_shape(path, values, config, (*NOT_IN_FILES, *positional))


def _check_shape(path: Path, values: Any, config: type, never: Sequence[str] = (), inside: str = "") -> None:
    hints = get_type_hints(config)
    for key, value in values.items():
        if not isinstance(key, str):
            raise InputError(f"{path}: {inside}{key}: is no name of an option")
        if key in never:
            raise InputError(f"{path}: {inside}{key}: is given on the command line, never in a file")
        if is_dataclass(hints.get(key)):
            if not isinstance(value, dict):
                raise InputError(f"{path}: {_no_mapping(inside + key, value, hints[key])}")
            _check_shape(path, value, hints[key], (), f"{inside}{key}.")


def _no_mapping(name: str, value: Any, config: Any) -> str:
    return f"{name}: {_value(value)} is no mapping of options such as {{{fields(config)[0].name}: …}}"


def _value(value: Any) -> str:
    return "null" if value is None else str(value)[:60]


def instance(parser: "ArgumentParser", config: type, parsed: Any) -> Any:
    """The dataclass that the parsed options mean. InputError for a value that no option can have."""
    _check_groups(config, parsed)
    made = getattr(parser, "instantiate", parser.instantiate_classes)(parsed)  # the first since jsonargparse 4.49
    made = config(**{field.name: made[field.name] for field in fields(config)})
    check_values(made)
    return made


def _check_groups(config: type, parsed: Any, inside: str = "") -> None:
    for name, hint in get_type_hints(config).items():
        if is_dataclass(hint):
            if not hasattr(parsed[name], "__dict__"):
                raise InputError(_no_mapping(inside + name, parsed[name], hint))
            _check_groups(hint, parsed[name], f"{inside}{name}.")  # type: ignore[arg-type]


def values_of(option: str, args: Sequence[str]) -> list[str]:
    """What an option is given, found before parsing."""
    split = [arg.split("=", 1)[1] for arg in args if arg.startswith(f"{option}=")]
    return split + [value for arg, value in pairwise(args) if arg == option]
