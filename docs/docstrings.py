"""For the reference: docstrings are plain text, in which <PATH_START> is a token and no HTML."""

import re

from griffe import Docstring, Extension, Object

CODE = re.compile(r"(`[^`]*`|^ {4}.*$)", re.MULTILINE)


def as_markdown(text: str) -> str:
    """A docstring whose marks of HTML and of links stand for themselves, but in code."""
    parts = CODE.split(text)
    parts[::2] = [part.replace("<", "&lt;").replace("][", "]&#91;") for part in parts[::2]]
    return "".join(parts)


class PlainDocstrings(Extension):
    def on_object(self, *, obj: Object, **kwargs: object) -> None:
        if isinstance(obj.docstring, Docstring):
            obj.docstring.value = as_markdown(obj.docstring.value)
