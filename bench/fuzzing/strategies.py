"""What the fuzzing campaign feeds to Clew: odd values, and mutated copies of what is valid."""

import copy
import io
import json
import re
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import is_dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

import yaml
from hypothesis import strategies as st

# Whole numbers between 6 and 64 are left out on purpose: they are sizes that are allowed and take their time.
ODD_NUMBERS = [0, -1, 1, 2, 3, True, 0.5, -0.0, 1.5, 1e-320, 1e-45, 1e300, -1e300, float("inf"), float("-inf"),
               float("nan"), 2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), 2**64, 10**30, 10**400]  # fmt: skip
ODD_TEXTS = [
    "", " ", "\t", "x", "null", "~", "true", "no", "nan", ".nan", ".inf", "-.inf", "1e999", "0x5", "0o5", "1_0", "1e-1",
    "{", "[", "]", "[3, 3]", "[[3]]", "[3, [3, 4]]", "{a: b}", "{sizes: [3]}", "!!python/object:os.system x",
    "&a [*a]", "*a", "<<: 3", "- 1", "# x", "a: b", ": ", "@x", "%", "'", '"', "|", ">", "---", "...", "--", "-", "=",
    "--help", "--lr", "2001-01-01", "99999999999999999999", "dfs", "nowhere", ".", "..", "a:b", "no.module:f",
    "\x1b[2J\x1b[31mred", "\x1b]0;title\x07", "\x9b31m", "\r\nclew: all is well", "\x00", "a\x00b", "\ud800", "\udc9b",
    "\u202egnirts", "\u2028", "\u0085", "\ufeff", "\ufdd0", "é", "迷宮", "👹", "[bold]x[/]", "[/]",
    "[link=x]", "$x$", "${HOME}", ":", "math:pi",
    "{{ 7 }}", "{0}", "%s%n", "<|endoftext|>", "<PATH_START>", "<PATH_END>", "(0,0)", "(-1,0)", "(99999,0)", "(٣,1)",
]  # fmt: skip
WIRES = st.characters(exclude_characters="/~\\")  # of names of folders too: none leads out of the campaign's own
texts = st.one_of(st.sampled_from(ODD_TEXTS), st.text(WIRES, max_size=12))
numbers = st.one_of(st.sampled_from(ODD_NUMBERS), st.floats())
plain = st.one_of(st.none(), st.booleans(), numbers, texts)


def _nested(inner: st.SearchStrategy) -> st.SearchStrategy:
    return st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3))


values = st.recursive(plain, _nested, max_leaves=6)


@st.composite
def torn(draw: st.DrawFn, whole: bytes, words: Sequence[bytes] = ()) -> bytes:
    """Bytes with one to four wounds: cut off, dropped, doubled, flipped, or with something strange put in."""
    data = bytearray(whole)
    odd = [b"\x00", b"\xff", b"\xed\xa0\x80", b"\x1b[2J", b"\xef\xbb\xbf", b"\r", b"\n\n", *words]
    strange = st.one_of(st.binary(max_size=8), st.sampled_from(odd))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 40)))
        kind = draw(st.sampled_from(["put", "drop", "twice", "flip", "swap", "cut"]))
        if kind == "cut":
            del data[start:]
        elif kind == "drop":
            del data[start:end]
        elif kind == "twice":
            data[end:end] = data[start:end]
        elif kind == "flip" and start < len(data):
            data[start] ^= 1 << draw(st.integers(0, 7))
        elif kind == "put":
            data[start:start] = draw(strange)
        else:
            data[start:end] = draw(strange)
    return bytes(data)


@st.composite
def bent(draw: st.DrawFn, whole: Any, odd: st.SearchStrategy = values, most: int = 3) -> Any:
    """A copy of nested lists and dicts with a few of its places, at any depth, changed, dropped, doubled or wrapped."""
    root = [copy.deepcopy(whole)]
    for _ in range(draw(st.integers(1, most))):
        places = _places(root)
        holder, key = places[draw(st.integers(0, len(places) - 1))]
        kind = draw(st.sampled_from(["replace", "drop", "wrap", "add", "twin"]))
        if kind == "drop" and holder is not root:
            del holder[key]
        elif kind == "wrap":
            holder[key] = draw(st.sampled_from([[holder[key]], {"a": holder[key]}, [holder[key], holder[key]]]))
        elif kind == "add" and isinstance(holder[key], dict):
            holder[key][draw(texts)] = draw(odd)
        elif kind == "add" and isinstance(holder[key], list):
            holder[key].insert(draw(st.integers(0, len(holder[key]))), draw(odd))
        elif kind == "twin":
            other, at = places[draw(st.integers(0, len(places) - 1))]
            holder[key] = copy.deepcopy(other[at])
        else:
            holder[key] = draw(odd)
    return root[0]


def _places(root: list[Any]) -> list[tuple[Any, Any]]:
    found, left = [], [root]
    while left:
        holder = left.pop()
        for key in list(holder) if isinstance(holder, dict) else range(len(holder)):
            found.append((holder, key))
            if isinstance(holder[key], (dict, list)):
                left.append(holder[key])
    return found


@st.composite
def json_lines(draw: st.DrawFn, rows: list[Any]) -> bytes:
    """A JSON Lines file, its rows bent or its bytes torn."""
    if draw(st.booleans()):
        rows = draw(bent(rows))
    lines = rows if isinstance(rows, list) else [rows]
    ascii_only, end = draw(st.booleans()), draw(st.sampled_from(["\n", "\r\n", "\n\n", "\r", "\u2028"]))
    data = end.join(json.dumps(row, ensure_ascii=ascii_only) for row in lines).encode(errors="surrogatepass")
    return draw(torn(data)) if draw(st.booleans()) else data


@st.composite
def zips(draw: st.DrawFn, members: dict[str, Any]) -> bytes:
    """A zip of JSON and raw members, whose values are bent, whose members are torn or missing, or that is torn itself.

    members: bytes as they stand; all else as JSON.
    """
    chosen = draw(st.sampled_from(["bend", "member", "file", "names"]))
    where = draw(st.sampled_from(sorted(members)))
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", draw(st.sampled_from([zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED]))) as archive:
        for name, content in members.items():
            if name == where and chosen == "bend" and not isinstance(content, bytes):
                content = draw(bent(content))
            raw = content if isinstance(content, bytes) else json.dumps(content).encode(errors="replace")
            if name == where and chosen == "member":
                raw = draw(torn(raw))
            if name == where and chosen == "names":
                name = draw(st.sampled_from(["../x", " ", "a\x1b[2J", name.upper()]))
            archive.writestr(zipfile.ZipInfo(name), raw)  # of 1980: equal draws make equal bytes
    data = stream.getvalue()
    return draw(torn(data)) if chosen == "file" else data


def flat_hints(config: Any, inside: str = "") -> dict[str, Any]:
    """Every option of a config by its dotted name, with its type."""
    found: dict[str, Any] = {}
    for name, hint in get_type_hints(config).items():
        found |= flat_hints(hint, f"{inside}{name}.") if is_dataclass(hint) else {inside + name: hint}
    return found


LONG = set(
    re.findall(
        r"\S+",
        """
    steps minutes rounds warm_start.steps objective.updates per_step warm_start.per_step validation_questions
    final_questions questions thoughts answers tune_seeds seeds replicas tune_replicas workers max_thought max_answer
    world.questions world.thoughts world.answers round_cost price noise_ratios cost_ratios lrs keeps
""",
    )
)
"""options whose large values are allowed and take their time: they get small values, and such as no option can have"""
REFUSED: list[Any] = [0, -1, 1, 2, True, None, float("nan"), float("inf"), 2**63, 10**30, -0.5, 1.5, "x", "", [], {},
                      [1], {"a": 1}, "\x1b[2J"]  # fmt: skip


def fitting(hint: Any, whole: st.SearchStrategy, real: st.SearchStrategy) -> st.SearchStrategy:
    """Values of the type that an option has, out of these whole numbers and these of any kind."""
    args, origin = get_args(hint), get_origin(hint)
    if origin is Literal:
        return st.sampled_from(args)
    if hint in (int, float):
        return whole if hint is int else real
    if hint is bool:
        return st.booleans()
    if origin is list:
        return st.lists(fitting(args[0], whole, real), min_size=1, max_size=2)
    if origin is tuple:
        return st.tuples(*(fitting(arg, whole, real) for arg in args)).map(list)
    if origin is dict:
        return st.dictionaries(st.sampled_from(["top", "keep", "scope", "answers", "x"]), plain, max_size=2)
    inner = [fitting(arg, whole, real) for arg in args if arg is not type(None)]
    return st.one_of(*inner) if inner else st.one_of(st.sampled_from(["basic", "advantage", "nowhere"]), texts)


def of_option(hint: Any) -> st.SearchStrategy:
    """Values of an option: such as people give, such as have its type, and such as have not."""
    usual = fitting(hint, st.integers(1, 3), st.sampled_from([0.1, 0.5, 1.0]))
    return st.one_of(usual, usual, usual, usual, fitting(hint, st.one_of(st.integers(-1, 3), numbers), numbers), values)


@st.composite
def options(draw: st.DrawFn, config: type, most: int = 3) -> dict[str, Any]:
    """A few options of a config by their dotted names, with values that fit their types or do not at all."""
    hints = {name: hint for name, hint in flat_hints(config).items() if name not in ("out", "device")}
    chosen: dict[str, Any] = {}
    for name in draw(st.lists(st.sampled_from(sorted(hints)), min_size=1, max_size=most, unique=True)):
        if name in LONG:
            chosen[name] = draw(st.one_of(st.sampled_from([1, 2]), st.just(2), st.sampled_from(REFUSED)))
        else:
            chosen[name] = draw(of_option(hints[name]))
    if draw(st.integers(0, 15)) == 7:
        chosen[draw(texts)] = draw(plain)
    return chosen


def nested(chosen: dict[str, Any]) -> dict[str, Any]:
    """Dotted names as mappings within mappings."""
    found: dict[str, Any] = {}
    for name, value in chosen.items():
        *groups, last = name.split(".")
        inside = found
        for group in groups:
            inside = inside.setdefault(group, {}) if isinstance(inside, dict) else {}
        if isinstance(inside, dict):
            inside[last] = value
    return found


def spellings(name: str, names: Iterable[str]) -> list[str]:
    """The ways to write an option: its name, its last name alone, and its group's name if it is the group's first."""
    group, _, last = name.rpartition(".")
    first = next((one for one in names if one.startswith(f"{group}.")), None)
    return [name, last, group] if group and first == name else [name, last]


def as_text(value: Any) -> str:
    """A value as one would type it."""
    if isinstance(value, str):
        return value
    return json.dumps(value) if isinstance(value, (list, dict, bool, type(None))) else str(value)


@st.composite
def command_lines(draw: st.DrawFn, config: type, known: Any = None) -> tuple[list[str], bytes | None]:
    """Arguments for a command with this config, and the YAML file that one of them names, as FILE, if there is one."""
    chosen = draw(options(config))
    args = []
    for name, value in chosen.items():
        spelt = draw(st.sampled_from(spellings(name, flat_hints(config))))
        spelt = "--" + (spelt.replace("_", "-") if draw(st.booleans()) else spelt)
        text = as_text(value)
        args += [f"{spelt}={text}"] if draw(st.booleans()) else [spelt, text]
    if draw(st.integers(0, 15)) == 7:
        args.insert(draw(st.integers(0, len(args))), draw(texts))
    if draw(st.integers(0, 2)):
        return args, None
    file: Any = nested(draw(options(config)))
    file = draw(bent(known | file)) if known and draw(st.booleans()) else file
    text = yaml.safe_dump(file, sort_keys=False, allow_unicode=draw(st.booleans()))
    data = text.encode(errors="surrogatepass")
    if draw(st.booleans()):
        data = draw(torn(data, [text.encode(errors="surrogatepass") for text in ODD_TEXTS]))
    return ["--config", "FILE", *(args if draw(st.booleans()) else [])], data
