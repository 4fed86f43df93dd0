"""Two-digit addition: `45 + 32 = ` → `77`."""

import random
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from trainers.tasks.text import Pair, TextTask

if TYPE_CHECKING:
    from trainers.model import Loaded


class AdditionTask(TextTask):
    """The sum of two numbers from 10 to 99, predicted token by token: one token where the tokenizer
    knows the number, one per digit where it does not; each is scored after the right ones before it.

    `shots` solved sums, the same in every prompt, come first. Corrupted: another sum with as many
    digits, the last two of which differ; three-digit sums all begin with 1.
    """

    version: ClassVar[int] = 1
    multi_token: ClassVar[bool] = True

    name: Literal["addition"] = "addition"
    shots: int = Field(0, ge=0, le=32, description="solved sums before the one asked, one a line")
    carry: bool = Field(True, description="false: only sums whose last digits make 9 at most")
    three_digits: bool = Field(False, description="also sums of 100 and more")

    def tokens_planned(self) -> tuple[int, int] | None:
        return 9 * (1 + self.shots), 2

    def pairs(self, draw: random.Random, loaded: "Loaded") -> Iterator[Pair]:
        del loaded
        solved = [self._sum(draw) for _ in range(self.shots)]
        before = "".join(f"{a} + {b} = {a + b}\n" for a, b in solved)
        while True:
            clean, corrupted = self._sum(draw), self._sum(draw)
            while not _unlike(sum(clean), sum(corrupted)):
                corrupted = self._sum(draw)
            yield Pair(_spans(before, *clean), _spans(before, *corrupted))

    def _sum(self, draw: random.Random) -> tuple[int, int]:
        while True:
            a, b = draw.randint(10, 99), draw.randint(10, 99)
            carries = a % 10 + b % 10 > 9
            if (self.carry or not carries) and (self.three_digits or a + b < 100):
                return a, b


def _unlike(one: int, other: int) -> bool:
    """As many digits, and the last two of them others."""
    a, b = str(one), str(other)
    return len(a) == len(b) and all(x != y for x, y in zip(a[-2:], b[-2:], strict=True))


def _spans(before: str, a: int, b: int) -> tuple[str, ...]:
    return before, str(a), " + ", str(b), " = ", str(a + b)
