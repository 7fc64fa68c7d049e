"""One self-contained HTML page: data as JSON, a style, plain JavaScript, and nothing from anywhere else.

    page_of([Section("split", "Rollouts", {"runs": [...]})], "runs/split")

What a model or a file says is data: it stands in a block that no browser runs, with every character escaped that could
end the block, and scripts put it on the page as text alone. Beside that a content security policy allows no script and
no style but those of this package, named by their hashes, no connection, no frame and no form, and no text that would
become HTML (trusted types).
"""

import hashlib
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

from clew.files import strict_json
from clew.text import encodable

CORE = ("core", "tables", "charts", "lattice", "runs")
"""scripts and styles of every page, before those of its sections"""
ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
"""characters that JSON lets stand and a page must not"""

ICON = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 8 8'%3E%3Cg fill='none' "
ICON += "stroke='%23b98504' stroke-width='.9'%3E%3Ccircle cx='4' cy='4' r='3.2'/%3E%3Cpath d='M1 4c2-2 4-2 6 0M2 6c1-3 "
ICON += "3-4 5-4'/%3E%3C/g%3E%3C/svg%3E"
"""a ball of thread"""


@dataclass(frozen=True)
class Section:
    """A part of a page.

    kind: static/KIND.js draws it, as `clew.kinds.KIND(root, data, state, clew)`.
    title: what its tab says.
    data: anything that JSON can hold; numbers that are not finite become null. Of a kind that can set runs side by side
    it is {"runs": [one, ...]}, and sections of one kind and title then become one, with the runs of all (`merged`).
    """

    kind: str
    title: str
    data: Any


def page_of(sections: Sequence[Section], title: str, stamp: str | None = None, notes: Sequence[str] = ()) -> str:
    """The page as HTML. stamp: of a served page, what its data was made from; it then may ask its own server alone.
    notes: what a reader of any of its sections should know, a line each."""
    kinds = list(dict.fromkeys(section.kind for section in sections))
    styles, scripts = _static((*CORE, *kinds), ".css"), _static((*CORE, *kinds), ".js")
    keyed = [_keyed(sections, i) for i in range(len(sections))]
    about = {"title": title, "stamp": stamp, "notes": list(notes), "sections": keyed}
    head = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy(styles, scripts, stamp is not None))}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="referrer" content="no-referrer">\n<meta name="color-scheme" content="light dark">',
        f'<title>{escape(title)}</title>\n<link rel="icon" href="{escape(ICON)}">',
        *(f"<style>{style}</style>" for style in styles),
        "</head>\n<body>\n<noscript>This page is drawn by the JavaScript in it, which this browser does not run."
        "</noscript>",
    ]
    blocks = [_block("page", about)] + [_block(f"data-{i}", section.data) for i, section in enumerate(sections)]
    end = [*(f"<script>{script}</script>" for script in scripts), "</body>\n</html>\n"]
    return "\n".join([*head, *blocks, *end])


def policy(styles: Sequence[str], scripts: Sequence[str], served: bool) -> str:
    """The content security policy of a page with just these styles and scripts."""
    rules = {
        "default-src": "'none'",
        "script-src": " ".join(map(_hash, scripts)),
        "style-src": " ".join(map(_hash, styles)),
        "img-src": "data:",
        "connect-src": "'self'" if served else "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def merged(sections: Sequence[Section]) -> list[Section]:
    """Sections of several runs, with those that can be set side by side as one."""
    found: list[Section] = []
    for section in sections:
        runs = section.data.get("runs") if isinstance(section.data, dict) else None
        same = [i for i, one in enumerate(found) if (one.kind, one.title) == (section.kind, section.title)]
        if runs is not None and same:
            before = found[same[0]]
            found[same[0]] = Section(before.kind, before.title, before.data | {"runs": before.data["runs"] + runs})
        else:
            found.append(section)
    return found


def as_json(value: Any) -> str:
    """JSON that can stand between <script> and </script>, whatever its texts hold."""
    text = strict_json(value, ensure_ascii=False, separators=(",", ":"))
    for character, instead in ESCAPES.items():
        text = text.replace(character, instead)
    return encodable(text)


def _block(name: str, value: Any) -> str:
    return f'<script type="application/json" id="{name}">{as_json(value)}</script>'


def _keyed(sections: Sequence[Section], place: int) -> dict[str, str]:
    """A section without its data, under the name that permalinks have for it: its kind, and its number if not first."""
    one = sections[place]
    number = 1 + sum(other.kind == one.kind for other in sections[:place])
    return {"key": one.kind if number == 1 else f"{one.kind}-{number}", "kind": one.kind, "title": one.title}


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def _static(names: tuple[str, ...], suffix: str) -> list[str]:
    """The texts of this package's files of each name: NAME.js, and NAME_MORE.js after it."""
    folder = files("clew.view") / "static"
    there = sorted(file.name for file in folder.iterdir() if file.name.endswith(suffix))
    wanted = [file for name in names for file in there if file.removesuffix(suffix).split("_")[0] == name]
    return [(folder / file).read_text(encoding="utf-8") for file in dict.fromkeys(wanted)]
