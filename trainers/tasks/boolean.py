"""Boolean expressions: is `(True and False) or (not False)` true? (Edge Pruning, section 5)"""

import random
import re
from collections.abc import Iterator
from itertools import cycle, islice
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from trainers.tasks.text import Pair, TextTask

if TYPE_CHECKING:
    from trainers.model import Loaded, ModelSpec

# True, False, ("not", x), ("and", x, y) or ("or", x, y)
Expression = bool | tuple["str | Expression", ...]

# Tokenizers disagree about what parentheses are taken together with: each other, a space before, neither.
PIECES = (re.compile(r"\w+|\(+|\)+"), re.compile("not"), re.compile(r" \("))
INSTRUCTION = "Work out the value of this Boolean expression: say 'True' or 'False'."
# What stands before the expression, and between it and the answer; Llama 2's and ChatML's own marks.
CHATS = {
    "none": (f"{INSTRUCTION}\n", "\nAnswer:"),
    "llama": (f"[INST] <<SYS>>\n{INSTRUCTION}\n<</SYS>>\n\n", " [/INST] '"),
    "chatml": (f"<|im_start|>user\n{INSTRUCTION}\n", "<|im_end|>\n<|im_start|>assistant\n"),
}


class BooleanTask(TextTask):
    """`(True or False) and (not False) is` → ` True`.

    few_shot: solved expressions, one a line, before the one that is asked; the same in every
    prompt. instruction: the task in words, and what a chat model expects around them. The answer is
    as often True as False. Corrupted: another expression of as many operands, operators and
    tokens, with the other value.
    """

    version: ClassVar[int] = 1

    name: Literal["boolean"] = "boolean"
    prompt: Literal["instruction", "few_shot"] = "few_shot"
    shots: int = Field(3, ge=1, le=32, description="few_shot: solved expressions before the one asked")
    chat: Literal["none", "llama", "chatml"] = Field(
        "none", description="instruction: marks of the model's instruction tuning"
    )
    operators: tuple[Annotated[int, Field(ge=1, le=31)], ...] = Field(
        (3, 4, 5), min_length=1, description="how many `and`, `or` and `not`: one of these, equally often"
    )
    depth: int = Field(3, ge=1, le=8, description="operators within operators, at most")

    def tokens_planned(self) -> tuple[int, int] | None:
        return (38 if self.prompt == "instruction" else 18 + 17 * self.shots), 1

    @model_validator(mode="after")
    def _possible(self) -> "BooleanTask":
        most = _most(self.depth)
        if max(self.operators) > most:
            raise ValueError(
                f"operators: found {max(self.operators)}; allowed at depth {self.depth}: at most {most}"
            )
        idle, used = ("chat", "instruction") if self.prompt == "few_shot" else ("shots", "few_shot")
        if getattr(self, idle) != type(self).model_fields[idle].default:
            raise ValueError(f"{idle} does nothing with prompt {self.prompt}; it belongs to {used}")
        return self

    def pairs(self, draw: random.Random, loaded: "Loaded") -> Iterator[Pair]:
        del loaded
        solved = self._solved(draw)
        before, after, space = self._around(solved)
        for wanted in cycle((True, False)):
            number = draw.choice(self.operators)
            clean = _with_value(draw, number, self.depth, wanted)
            if (clean, wanted) in solved:
                continue
            corrupted = _with_value(draw, number, self.depth, not wanted, _pieces(clean))
            yield Pair(
                (before, text(clean), after, f"{space}{wanted}"),
                (before, text(corrupted), after, f"{space}{not wanted}"),
            )

    def chance(self, model: "ModelSpec") -> dict[str, float]:
        return super().chance(model) | {"accuracy": 0.5}

    def _solved(self, draw: random.Random) -> list[tuple[Expression, bool]]:
        """The shots: as many true as false ones, or one more."""
        solved = [
            (_with_value(draw, draw.choice(self.operators), self.depth, wanted), wanted)
            for wanted in islice(cycle((True, False)), self.shots if self.prompt == "few_shot" else 0)
        ]
        draw.shuffle(solved)
        return solved

    def _around(self, solved: list[tuple[Expression, bool]]) -> tuple[str, str, str]:
        """What stands before and after an expression, and what the answer begins with."""
        if self.prompt == "instruction":
            return *CHATS[self.chat], " " if self.chat == "none" else ""
        return "".join(f"{text(shot)} is {known}\n" for shot, known in solved), " is", " "


def value(expression: Expression) -> bool:
    match expression:
        case bool():
            return expression
        case ("not", inner):
            return not value(_part(inner))
        case ("and", left, right):
            return value(_part(left)) and value(_part(right))
        case ("or", left, right):
            return value(_part(left)) or value(_part(right))
    raise AssertionError(f"no expression: {expression}")


def text(expression: Expression) -> str:
    """As Python writes it, with parentheses around every operand that has an operator."""
    match expression:
        case bool():
            return str(expression)
        case ("not", inner):
            return f"not {_operand(inner)}"
        case (str(operator), left, right):
            return f"{_operand(left)} {operator} {_operand(right)}"
    raise AssertionError(f"no expression: {expression}")


def _operand(part: "str | Expression") -> str:
    inner = _part(part)
    return text(inner) if isinstance(inner, bool) else f"({text(inner)})"


def _part(part: "str | Expression") -> Expression:
    assert not isinstance(part, str), "an operator's name stands first"
    return part


def _pieces(expression: Expression) -> list[int]:
    """What decides the number of tokens, of expressions with as many operators."""
    written = text(expression)
    return [len(pattern.findall(written)) for pattern in PIECES]


def _most(depth: int) -> int:
    """Operators that fit into a depth: a full binary tree."""
    return 2**depth - 1


def _with_value(
    draw: random.Random, operators: int, depth: int, wanted: bool, pieces: list[int] | None = None
) -> Expression:
    """Drawn until it has the value, and these pieces.

    Ends, because every expression has a twin with the other value: all literals turned, `and` for `or`.
    """
    while True:
        drawn = _random(draw, operators, depth)
        if value(drawn) == wanted and (pieces is None or _pieces(drawn) == pieces):
            return drawn


def _random(draw: random.Random, operators: int, depth: int) -> Expression:
    """With exactly so many operators. A third of them are `not`, where the depth lets them."""
    if operators == 0:
        return draw.random() < 0.5
    rest, room = operators - 1, _most(depth - 1)
    if rest <= room and draw.random() < 1 / 3:
        return ("not", _random(draw, rest, depth - 1))
    left = draw.randint(max(0, rest - room), min(rest, room))
    operator = "and" if draw.random() < 0.5 else "or"
    return (operator, _random(draw, left, depth - 1), _random(draw, rest - left, depth - 1))
