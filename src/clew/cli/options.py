"""How options are read: from the command line and from files, into a command's dataclass, with errors in words."""

import difflib
import re
import time
from dataclasses import fields, is_dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn, get_args, get_origin, get_type_hints

from clew.config import EvalConfig, SolveConfig, check_text, check_values, read_yaml
from clew.errors import InputError
from clew.runs import options_of
from clew.text import one_line

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


def underscored(arg: str) -> str:
    """--adjacency-weight=1 and --adjacency_weight=1 mean the same."""
    return re.sub(r"^--[\w.-]+", lambda match: "--" + match[0][2:].replace("-", "_"), arg)


def parser_of(command: str, config: type, about: str) -> "ArgumentParser":
    """The parser of a command whose options are the fields of a dataclass. Its errors are InputErrors."""
    from jsonargparse import ArgumentParser, set_parsing_settings

    set_parsing_settings(docstring_parse_attribute_docstrings=True)

    class Parser(ArgumentParser):
        def error(self, message: str, ex: Exception | None = None) -> NoReturn:
            raise InputError(_cause(self, one_line(message)))

        def parse_args(self, args: list[str], *others: Any, **kwargs: Any) -> Any:  # type: ignore[override]
            for arg in args:
                check_text(command, arg)
            for file in values_of("--config", args):
                _check_file(Path(file), read_yaml(Path(file)), config)
            try:
                return super().parse_args(args, *others, **kwargs)
            except InputError:
                raise
            except Exception as error:  # whatever it is, it was about what somebody typed
                raise InputError(f"options: {one_line(error)}") from None

        def format_help(self, *args: Any, **kwargs: Any) -> str:
            return re.sub(r"--[a-z_.]+", lambda match: match[0].replace("_", "-"), super().format_help(*args, **kwargs))

    parser = Parser(prog=f"clew {command}", description=about, exit_on_error=True, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="a YAML file of options; those given after it win")
    if config in (EvalConfig, SolveConfig):
        parser.add_argument("model", type=str, help="a run folder or a Hugging Face model folder")
        parser.add_class_arguments(config, skip={"model"})
    else:
        parser.add_class_arguments(config)
    return parser


def _cause(parser: "ArgumentParser", message: str) -> str:
    """The parser's message as: which option, which value, what would be right."""
    if wrong := re.match(r'Parser key "([^"]+)": .*[Vv]alue: (.*)$', message):
        hint = next((getattr(a, "_typehint", None) for a in parser._actions if a.dest == wrong[1]), None)
        return f"{wrong[1]}: {_value(wrong[2])} is not {_in_words(hint)}" if hint else message
    if nested := re.match(r"Parser key \"([^\"]+)\": Unable to load config '(.*?)' - ", message):
        return f"{nested[1]}: {_value(nested[2])} is no mapping of options such as {{name: value}}"
    unknown = re.search(r"(?:unrecognized arguments: (?:--)?|[Oo]ption ')([\w.-]+)", message)
    if unknown:
        known = [a.dest for a in parser._actions]
        close = difflib.get_close_matches(unknown[1], known + [name.split(".")[-1] for name in known], 1)
        hint = f"did you mean {close[0]}?" if close else f"{parser.prog} --help lists them"
        return f"{unknown[1]}: there is no such option; {hint}"
    return message[:500]


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


NOT_IN_FILES = ("config", "resume", "from", "json", "help", "model")


def _check_file(path: Path, values: Any, config: type, inside: str = "") -> None:
    """InputError, naming the file, for what has not the shape of a config's options."""
    hints = get_type_hints(config)
    for key, value in values.items():
        if not isinstance(key, str):
            raise InputError(f"{path}: {inside}{key}: is no name of an option")
        if key in NOT_IN_FILES and key not in hints:
            raise InputError(f"{path}: {inside}{key}: is given on the command line, never in a file")
        if is_dataclass(hints.get(key)):
            if not isinstance(value, dict):
                raise InputError(f"{path}: {inside}{key}: {_value(value)} is no mapping of options such as "
                                 f"{_example(hints[key])}")  # fmt: skip
            _check_file(path, value, hints[key], f"{inside}{key}.")


def _example(config: Any) -> str:
    return "{" + f"{fields(config)[0].name}: …" + "}"


def _value(value: Any) -> str:
    return "null" if value is None else str(value)[:60]


def instance(parser: "ArgumentParser", config: type, parsed: Any) -> Any:
    """The dataclass that the parsed options mean. InputError for a value that no option can have."""
    for name, hint in get_type_hints(config).items():
        if is_dataclass(hint) and not hasattr(parsed[name], "__dict__"):
            raise InputError(f"{name}: {_value(parsed[name])} is no mapping of options such as {_example(hint)}")
    made = parser.instantiate_classes(parsed)
    made = config(**{name: made[name] for name in config.__dataclass_fields__})
    check_values(made)
    return made


def values_of(option: str, args: list[str]) -> list[str]:
    """What an option is given, found before parsing."""
    split = [arg.split("=", 1)[1] for arg in args if arg.startswith(f"{option}=")]
    return split + [value for arg, value in pairwise(args) if arg == option]


def _resumed(args: list[str], config: type) -> Path | None:
    """The folder that --resume names, whose run is one of this command; its config is read before the other options."""
    for given in values_of("--resume", args):
        check_text("resume", given)
        options_of(Path(given), config)
        return Path(given)
    return None
