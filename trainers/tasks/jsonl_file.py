"""A JSONL file of tagged texts: every entry of it, or everything that is wrong with it, by line."""

import json
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any, NamedTuple, cast

from trainers.outside import MAX_LIST, check_size
from trainers.spec import SpecError, nearest, shortened
from trainers.tasks.base import SPLITS, Split
from trainers.tasks.given import Given, GivenSplits
from trainers.tasks.text import Pair

OPEN, CLOSE = "<predict>", "</predict>"
TAG = re.compile(f"({OPEN}|{CLOSE})")
KEYS = ("clean", "corrupted", "split")
NEXT_OBJECT = re.compile(r"\n[ \t]*(?=\{)")
SPACE = re.compile(r"[ \t\r\n]*")  # what JSON allows between values
LISTED = 50  # problems told in full; of the others only the lines
MAX_PROBLEMS = 1000  # found before reading ends: a file of garbage is not searched to its end


class Problem(NamedTuple):
    line: int  # from 1; 0: of the file as a whole
    message: str


@dataclass(frozen=True)
class Parsed:
    splits: GivenSplits | None
    problems: tuple[Problem, ...]


def read(file: Path) -> GivenSplits:
    """Every entry by split. Raises SpecError with all problems, when there is one."""
    try:
        stat = file.stat()
        if not S_ISREG(stat.st_mode) and not S_ISDIR(stat.st_mode):
            raise SpecError(f"task.path: {file} is no ordinary file")  # a pipe would be waited for
        check_size(f"task.path: {file}", stat.st_size, MAX_LIST)
        parsed = _parsed(file, stat.st_size, stat.st_mtime_ns)
    except FileNotFoundError:
        raise SpecError(f"task.path: no file {file}") from None
    except OSError as error:
        raise SpecError(f"task.path: cannot read {file}: {error.strerror}") from None
    if parsed.splits is None:
        raise SpecError(_told(file, parsed.problems))
    return parsed.splits


def tagged(text: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The spans of `1 + 2 = <predict>3</predict>`, without its tags, and which of them are predicted.

    Raises ValueError for what is wrong with the tags.
    """
    parts = TAG.split(text)
    spans, tags = parts[::2], parts[1::2]
    if not tags:
        raise ValueError(f"has no {OPEN}...{CLOSE}")
    if tags != [OPEN, CLOSE] * (len(tags) // 2):
        raise ValueError(
            f"has unbalanced tags: found {' '.join(tags)}; allowed: {OPEN}...{CLOSE}, one after another"
        )
    predicted = tuple(range(1, len(spans), 2))
    if not all(spans[place] for place in predicted):
        raise ValueError(f"predicts nothing: found {OPEN}{CLOSE}")
    return tuple(spans), predicted


@lru_cache(maxsize=8)
def _parsed(file: Path, size: int, modified: int) -> Parsed:
    del size, modified  # a file with another size or time is another key
    text, problems = _decoded(file.read_bytes())
    entries: list[tuple[Given, Split | None]] = []
    has_split: list[tuple[int, bool]] = []  # line and key of every object
    for line, found in _values(text):
        if isinstance(found, Problem):
            problems.append(found)
        else:
            if isinstance(found, dict) and ("split" not in found or found["split"] in SPLITS):
                has_split.append((line, "split" in found))
            entry, wrong = _entry(line, found)
            problems += [Problem(line, message) for message in wrong]
            if entry is not None:
                entries.append(entry)
        if len(problems) >= MAX_PROBLEMS:
            break
    problems += _mixed(has_split)
    if not problems:
        problems += _split_problems(entries)
    return Parsed(None if problems else _by_split(entries), tuple(sorted(problems)))


def _decoded(content: bytes) -> tuple[str, list[Problem]]:
    try:
        return content.decode("utf-8-sig"), []
    except UnicodeDecodeError:
        problems: list[Problem] = []
        for number, line in enumerate(content.split(b"\n"), start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                found = f"found byte 0x{line[error.start]:02x} in column {error.start + 1}"
                problems.append(Problem(number, f"is not UTF-8: {found}"))
        # The other lines' problems are told along with these.
        return content.decode("utf-8-sig", errors="replace"), problems


def _values(text: str) -> Iterator[tuple[int, Any]]:
    """JSON values one after another, each with its first line; a Problem where there is none. After
    one, reading goes on at the next line that begins with a brace."""
    decoder = json.JSONDecoder()
    line_ends = [found.start() for found in re.finditer("\n", text)]
    place = 0
    while (place := _skip_space(text, place)) < len(text):
        line = bisect_right(line_ends, place) + 1
        try:
            value, place = decoder.raw_decode(text, place)
            yield line, value
        except (ValueError, RecursionError) as error:
            yield line, Problem(line, f"is not JSON: {_reason(error, line)}")
            following = NEXT_OBJECT.search(text, place)
            place = following.end() if following else len(text)


def _skip_space(text: str, place: int) -> int:
    found = SPACE.match(text, place)
    return found.end() if found else place


def _reason(error: Exception, line: int) -> str:
    if not isinstance(error, json.JSONDecodeError):
        return str(error)
    where = f"column {error.colno}" if error.lineno == line else f"line {error.lineno}, column {error.colno}"
    return f"{error.msg} ({where})"


def _entry(line: int, found: Any) -> tuple[tuple[Given, Split | None] | None, list[str]]:
    """An entry, or what is wrong with it."""
    if not isinstance(found, dict):
        return None, [f"is not an object: found {shortened(found, 40)}; allowed: {{...}}, one after another"]
    wrong = [
        f"unknown key {shortened(key, 40)}.{nearest(key, KEYS)} Allowed: {', '.join(KEYS)}"
        for key in found
        if key not in KEYS
    ]
    split = found.get("split")
    if "split" in found and split not in SPLITS:
        wrong.append(f"split: found {shortened(split, 40)}; allowed: {', '.join(SPLITS)}")
    texts = []
    for key in ("clean", "corrupted"):
        try:
            texts.append(_text(found, key))
        except ValueError as error:
            wrong.append(f"{key} {error}")
    if len(texts) == 2 and len(texts[0][1]) != len(texts[1][1]):
        counts = " and ".join(str(len(predicted)) for _, predicted in texts)
        wrong.append(f"clean and corrupted have different numbers of predictions: found {counts}")
    if wrong:
        return None, wrong
    (clean, predicted), (corrupted, _) = texts
    return (Given(Pair(clean, corrupted, predicted), line), cast("Split | None", split)), []


def _text(found: dict[str, Any], key: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    if key not in found:
        raise ValueError("is missing")
    text = found[key]
    if not isinstance(text, str):
        raise ValueError(f"is no text: found {shortened(text, 40)}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(r"is no text: found half of a surrogate pair (\ud800 to \udfff)") from None
    return tagged(text)


def _mixed(has_split: Sequence[tuple[int, bool]]) -> list[Problem]:
    """Of entries with and without the key, the fewer are told."""
    having = [line for line, split in has_split if split]
    lacking = [line for line, split in has_split if not split]
    if not having or not lacking:
        return []
    if len(having) < len(lacking):
        return [Problem(line, "has a split, and most other entries have none") for line in having]
    return [Problem(line, "has no split, and other entries have one") for line in lacking]


def _split_problems(entries: Sequence[tuple[Given, Split | None]]) -> list[Problem]:
    if not entries:
        return [Problem(0, "holds no entry; allowed: at least one object with clean and corrupted")]
    used = {split for _, split in entries}
    if used == {None}:
        return []
    allowed = "allowed: entries of train, validation and test, or no key split at all"
    return [Problem(0, f"has no entry of split {split}; {allowed}") for split in SPLITS if split not in used]


def _by_split(entries: Sequence[tuple[Given, Split | None]]) -> GivenSplits:
    if entries[0][1] is None:
        return GivenSplits.unsplit([given for given, _ in entries])
    return GivenSplits({split: [given for given, of in entries if of == split] for split in SPLITS})


def _told(file: Path, problems: Sequence[Problem]) -> str:
    whole = [f"task.path: {file} {message}" for line, message in problems if not line]
    told = [f"  line {line}: {message}" for line, message in problems if line]
    if told:
        bad = len({line for line, _ in problems if line})
        whole.append(f"task.path: {file}: {bad} bad entr{'ies' if bad > 1 else 'y'}")
    if len(told) > LISTED:
        rest = sorted({problem.line for problem in problems[LISTED:]})
        told[LISTED:] = [f"  and {len(told) - LISTED} more problems, in lines {', '.join(map(str, rest))}"]
    return "\n".join([*whole, *told])
