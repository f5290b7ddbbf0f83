"""Every message of the program, from its source, in a catalogue; and the catalogues of its languages made to agree.

Babel's own Python extractor joins the branches of `Text("one" if … else "other")` into one message and cannot see
tables of messages, so the source is read as a syntax tree here; babel keeps the catalogues.

    python packaging/messages.py            extract, update, compile
    python packaging/messages.py --check    only say what is missing; exit 1 if anything is
"""

from __future__ import annotations

import ast
import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "watchhamster"
LOCALE = ROOT / "resources" / "locale"
DOMAIN = "watchhamster"
LANGUAGES = ("ko",)
# Messages that are chosen by a key: tables whose strings (or second elements) are all messages.
TABLES = {"engine/feed.py": ("FEED_REASONS",), "ui/theme.py": ("_WORDS",)}

Message = tuple[str, str | None, str | None]  # singular, plural, context


def literals(node: ast.expr) -> list[str] | None:
    """The strings an argument can be; None where the source does not tell."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.IfExp):
        a, b = literals(node.body), literals(node.orelse)
        return a + b if a is not None and b is not None else None
    return None


def called(node: ast.Call) -> str:
    """The bare name of what is called."""
    return node.func.id if isinstance(node.func, ast.Name) else ""


def in_file(path: Path) -> Iterator[tuple[int, Message]]:
    """Line and message of each call in a source file, and of its tables."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args:
            name = called(node)
            if name in ("_", "Text"):
                for text in literals(node.args[0]) or []:
                    yield node.lineno, (text, None, None)
            elif name == "ngettext":
                for text, plural in zip(literals(node.args[0]) or [], literals(node.args[1]) or [], strict=True):
                    yield node.lineno, (text, plural, None)
            elif name == "pgettext":
                for context in literals(node.args[0]) or []:
                    for text in literals(node.args[1]) or []:
                        yield node.lineno, (text, None, context)
    tables = TABLES.get(path.relative_to(SOURCE).as_posix(), ())
    for statement in tree.body:
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        if any(isinstance(target, ast.Name) and target.id in tables for target in targets):
            value = statement.value  # type: ignore[attr-defined]
            assert isinstance(value, ast.Dict)
            for entry in value.values:
                for message in literals(entry.elts[-1] if isinstance(entry, ast.Tuple) else entry) or []:
                    yield entry.lineno, (message, None, None)


def is_message(message: Message) -> bool:
    """Whether there is anything to translate: letters outside the `{places}`."""
    return any(c.isalpha() for c in re.sub(r"\{[^}]*\}", "", message[0]))


def extract() -> Catalog:
    """The template: every message with where it is used."""
    catalog = Catalog(project="WatchHamster", copyright_holder="WatchHamster", charset="utf-8", fuzzy=False)
    for path in sorted(SOURCE.rglob("*.py")):
        for _line, message in sorted(in_file(path), key=lambda found: found[0]):
            if is_message(message):
                text, plural, context = message
                place = (path.relative_to(ROOT).as_posix(), 0)  # lines would change with every edit
                catalog.add((text, plural) if plural else text, None, [place], context=context)
    return catalog


def places(text: str) -> set[str]:
    """The names of a message's `{places}`, without their formats."""
    return {match[1] for match in re.finditer(r"\{(\w+)", text)}


def problems(template: Catalog, translated: Catalog) -> list[str]:
    """What keeps a translation from being complete and right."""
    found = []
    wanted = {(message.id, message.context) for message in template if message.id}
    for message_id, context in sorted(wanted, key=str):
        first = message_id[0] if isinstance(message_id, tuple) else message_id
        message = translated.get(first, context)
        texts = message.string if message is not None else ""
        variants = list(texts) if isinstance(texts, list | tuple) else [texts]
        if message is None or not all(variants):
            found.append(f"not translated: {first!r}")
            continue
        if message.fuzzy:
            found.append(f"not certain: {first!r}")
        allowed = set().union(*map(places, message_id if isinstance(message_id, tuple) else (str(message_id),)))
        whole = not isinstance(message_id, tuple)  # a plural's forms need not all say the number
        found += [
            f"other places: {first!r} -> {text!r}"
            for text in map(str, variants)
            if places(text) - allowed or (whole and places(text) != allowed)
        ]
    held = {(message.id, message.context) for message in translated if message.id}
    found += [f"no longer used: {message_id!r}" for message_id, _context in sorted(held - wanted, key=str)]
    return found


def read(language: str) -> Catalog:
    """A language's catalogue as it is on the disk."""
    path = LOCALE / language / "LC_MESSAGES" / f"{DOMAIN}.po"
    with path.open("rb") as file:
        return read_po(file, locale=language, domain=DOMAIN)


def main() -> int:
    """Bring everything into agreement, or say where it is not."""
    check = "--check" in sys.argv
    template = extract()
    count = sum(1 for message in template if message.id)
    code = 0
    if not check:
        LOCALE.mkdir(parents=True, exist_ok=True)
        with (LOCALE / f"{DOMAIN}.pot").open("wb") as file:
            write_po(file, template, width=110, omit_header=False, include_lineno=False, sort_output=True)
    for language in LANGUAGES:
        folder = LOCALE / language / "LC_MESSAGES"
        folder.mkdir(parents=True, exist_ok=True)
        po = folder / f"{DOMAIN}.po"
        catalog = read(language) if po.exists() else Catalog(locale=language, domain=DOMAIN, project="WatchHamster")
        if not check:
            catalog.update(template, no_fuzzy_matching=True, update_header_comment=False)
            catalog.obsolete.clear()
            with po.open("wb") as file:
                write_po(file, catalog, width=110, include_lineno=False, sort_output=True)
            compiled = io.BytesIO()
            write_mo(compiled, catalog)
            (folder / f"{DOMAIN}.mo").write_bytes(compiled.getvalue())
        found = problems(template, catalog)
        print(f"{language}: {count} messages, {len(found)} to do")
        for line in found:
            print(f"  {line}")
        code = code or int(bool(found))
    return code


if __name__ == "__main__":
    raise SystemExit(main())
