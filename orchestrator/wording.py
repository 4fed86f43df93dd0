"""How numbers and errors are written for people, and what must not be shown to them."""

import math
import re
from collections.abc import Sequence

ANSI = re.compile(r"\x1b\[[0-9;]*m")
RANK = re.compile(r"\n\n(?=rank \d)")  # between what several ranks said
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
SECRET = re.compile(
    r"(?i)([?&;][^=&;?\s]{0,60}(?:secret|token|password|key|signature)[^=&;?\s]{0,60}=)[^&;\s'\"]+"
)
PREFLIGHT = "trainers.preflight.PreflightError: "
USER_INFO = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]{0,30}://)[^/@\s'\"]{1,1000}@")


def masked(text: str) -> str:
    """Without the user names, passwords and keys that URIs in the text may hold."""
    return SECRET.sub(r"\1***", USER_INFO.sub(r"\1***@", text))


def printable(text: str) -> str:
    """For a terminal: without characters that move its cursor, colour it or turn text round, which names
    from outside may hold; `\\x1b` stands in their place."""
    return CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def headline(error: str | None) -> str:
    """An error in one line: of a traceback its exception with its message, of several ranks the first."""
    first = RANK.split(ANSI.sub("", error or ""))[0].splitlines()
    lines = [line for line in first if line.strip(" ^~") and not line.startswith("Traceback")]
    frames = [number for number, line in enumerate(lines) if line.startswith('  File "')]
    if frames:
        lines = lines[frames[-1] + 1 :]
        if len(lines) > 1 and lines[0].startswith("    "):  # the frame's line of code
            lines = lines[1:]
    text = " ".join(" ".join(lines).split())
    return text.removeprefix("trainers.spec.SpecError: ").removeprefix(PREFLIGHT) or "no reason given"


def refused(error: OSError) -> str:
    """What a disk, a mount or a bucket refused."""
    if isinstance(error, FileNotFoundError) and error.filename is None and error.errno is not None:
        return "the working directory has been deleted; change to one that is there"
    return f"{type(error).__name__}: {error}"


def inert(text: str) -> str:
    """For a cell of a CSV file: what a spreadsheet would take for a formula gets an apostrophe before it."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def count(value: int, noun: str = "") -> str:
    """`1,234`, `1 trial`, `3 trials`."""
    if not noun:
        return f"{value:,}"
    return f"{value:,} {noun}{'' if value == 1 else 's'}"


def shortest(value: float) -> str:
    """A number that someone chose, as they would write it: `0.001`, `0.95`, `2`."""
    return f"{value:.10g}"


def significant(value: float | None, digits: int = 3) -> str:
    """A measured number: `0`, `0.0123`, `1.00`, `4.10e-07`, `1,230`; an int in full. `NaN` and `∞`
    are told, a value not measured is `–`."""
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    if abs(value) < 1e-3:
        return f"{value:.{digits - 1}e}"
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    return f"{value:#.{digits}g}"


def percent(share: float | None) -> str:
    """`87.5 %`, with as many decimals as it takes to tell 99.95 % from 100 %."""
    if share is None or not math.isfinite(share):
        return significant(share)
    rest = 100 * min(abs(1 - share), abs(share) or 1)
    decimals = 1 if rest == 0 or rest >= 1 else min(5, 1 + math.floor(-math.log10(rest)))
    return f"{100 * share:.{decimals}f} %"


def duration(seconds: float | None) -> str:
    """`0.4 s`, `12 s`, `3 min 20 s`, `5 h 2 min`."""
    if seconds is None or not math.isfinite(seconds):
        return significant(seconds)
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min" + (f" {whole % 60} s" if whole % 60 else "")
    return f"{whole // 3600:,} h" + (f" {whole % 3600 // 60} min" if whole % 3600 // 60 else "")


def spread(values: Sequence[float], digits: int = 3) -> str:
    """`7` if all agree, else `7 (5 – 9)`: median, lowest and highest."""
    if not values:
        return "–"
    ordered = sorted(values)
    half = len(ordered) // 2
    median = ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
    if all(isinstance(value, int) for value in values) and median == int(median):
        median = int(median)
    low, middle, high = (significant(value, digits) for value in (ordered[0], median, ordered[-1]))
    return middle if low == high else f"{middle} ({low} – {high})"


def interval(low: float | None, high: float | None, digits: int = 3) -> str:
    """`[0.0123, 0.0456]`, with a true minus; `–` where there is none."""
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return "–"
    return f"[{minus(significant(low, digits))}, {minus(significant(high, digits))}]"


def minus(number: str) -> str:
    """A written number with a true minus sign."""
    return f"−{number[1:]}" if number.startswith("-") else number


def size(number: int) -> str:
    """Bytes: `1.5 GiB`, `12 MiB`."""
    return f"{number / 2**30:.1f} GiB" if number >= 2**27 else f"{number / 2**20:.0f} MiB"
