"""For the reference: docstrings are plain text, in which <PATH_START> is a token and no HTML."""

import re

from griffe import Docstring, Extension, Object

CODE = re.compile(r"(`[^`]*`|^ {4}.*$)", re.MULTILINE)

FIELD = re.compile(r"(?<!\n)\n(?=(?:\w+(?:, \w+)*|[A-Z]\w+(?: \w+){1,3}): |Raises |InputError |Returns )")


def as_markdown(text: str) -> str:
    """A docstring whose marks of HTML and of links stand for themselves, but in code, and whose fields begin lines."""
    parts = CODE.split(text)
    parts[::2] = [part.replace("<", "&lt;").replace("][", "]&#91;") for part in parts[::2]]
    return FIELD.sub("  \n", "".join(parts))


class PlainDocstrings(Extension):
    def on_object(self, *, obj: Object, **kwargs: object) -> None:
        if isinstance(obj.docstring, Docstring):
            obj.docstring.value = as_markdown(obj.docstring.value)
