"""For `mkdocs build`: what pages link to outside of docs/.

Pages are written so that their links lead somewhere in the repository, where many people read them. Pages and pictures
outside of docs/ that a page links to are built with the rest, under their place in the repository; a link to anything
else, a script or a folder of tables, becomes its text with that place behind it.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")
BUILT = (".md", ".png", ".svg")
DOCS = "docs/"


def place_of(src_uri: str) -> str:
    """Where a page of the site stands in the repository."""
    return DOCS + src_uri if (ROOT / DOCS / src_uri).is_file() else src_uri


def target(src_uri: str, link: str) -> str | None:
    """The place in the repository that a page's link leads to; None for one that leads elsewhere, or nowhere."""
    place = posixpath.normpath(posixpath.join(posixpath.dirname(place_of(src_uri)), link))
    return None if ":" in link or place.startswith("..") or not (ROOT / place).exists() else place


def on_files(files: Files, config: MkDocsConfig) -> Files:
    pages = list(files.documentation_pages())
    while pages:
        page = pages.pop()
        for _, _, link, _ in LINK.findall(page.content_string):
            place = target(page.src_uri, link)
            if place and not place.startswith(DOCS) and place.endswith(BUILT) and not files.get_file_from_path(place):
                files.append(found := File.generated(config, place, abs_src_path=str(ROOT / place)))
                pages += [found] if place.endswith(".md") else []
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    def moved(match: re.Match[str]) -> str:
        picture, text, link, anchor = match.groups("")
        place = target(page.file.src_uri, link)
        if place is None:
            return match[0]
        place = place.removeprefix(DOCS)
        if not files.get_file_from_path(place):
            return f"{text} (`{place}`)"
        here = posixpath.dirname(page.file.src_uri) or "."
        return f"{picture}[{text}]({posixpath.relpath(place, here)}{anchor})"

    return LINK.sub(moved, markdown)
