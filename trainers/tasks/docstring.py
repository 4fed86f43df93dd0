"""Docstring: which argument is documented next? (Heimersheim and Janiak 2023)"""

import random
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from trainers.tasks.text import Pair, TextTask, spans

if TYPE_CHECKING:
    from trainers.model import Loaded

TEMPLATE = (
    "def {function}(self, {a}, {b}, {c}, {d}):\n"
    '    """{t} {u} {v}\n\n'
    "    :param {documented_1}: {w} {x}\n"
    "    :param {documented_2}: {y} {z}\n"
    "    :param"
)
FUNCTIONS = (
    "apply", "build", "check", "close", "count", "fetch", "find", "join", "load", "make", "match", "merge",
    "open", "pack", "parse", "port", "post", "print", "push", "read", "render", "reset", "run", "save",
    "scan", "search", "send", "sort", "split", "start", "test", "update", "visit", "wait", "write",
)  # fmt: skip
ARGUMENTS = (
    "action", "block", "body", "class", "code", "color", "config", "content", "context", "count", "data",
    "date", "depth", "event", "field", "files", "filter", "first", "format", "group", "height", "image",
    "index", "input", "item", "key", "label", "last", "left", "length", "level", "limit", "line", "list",
    "load", "message", "method", "mode", "model", "name", "node", "object", "offset", "option", "order",
    "output", "page", "path", "point", "project", "query", "range", "rate", "result", "right", "root",
    "rule", "scale", "scope", "script", "second", "size", "source", "start", "state", "status", "step",
    "style", "table", "target", "text", "time", "title", "token", "type", "url", "user", "value", "version",
    "view", "width", "word",
)  # fmt: skip
WORDS = (
    "air", "animal", "apple", "arm", "army", "bank", "bed", "bird", "boat", "bone", "bread", "bridge", "cake",
    "car", "castle", "chair", "church", "city", "cloud", "coat", "corn", "crime", "crown", "dark", "dinner",
    "dog", "door", "dress", "ear", "egg", "engine", "farm", "father", "fire", "fish", "floor", "flower",
    "forest", "fruit", "garden", "glass", "gold", "grass", "hair", "hand", "hill", "horse", "house", "ice",
    "island", "king", "kitchen", "lake", "leaf", "milk", "moon", "mother", "mountain", "mouth", "music",
    "nose", "ocean", "oil", "paint", "party", "piece", "plant", "queen", "rain", "river", "road", "roof",
    "salt", "sand", "school", "sea", "ship", "shoe", "snow", "song", "spring", "stone", "storm", "street",
    "sugar", "sun", "tail", "tea", "town", "train", "tree", "valley", "village", "wall", "water", "wheel",
    "wind", "window", "winter", "wood",
)  # fmt: skip


class DocstringTask(TextTask):
    """`def port(self, load, size, files, last): ... :param load: … :param size: … :param` → ` files`.

    The distractor is one of the other three arguments. Corrupted: other arguments in the signature,
    and others than these in the docstring, so that nothing tells which one is next.
    """

    version: ClassVar[int] = 1

    name: Literal["docstring"] = "docstring"

    def tokens_planned(self) -> tuple[int, int] | None:
        return 36, 1

    def pairs(self, draw: random.Random, loaded: "Loaded") -> Iterator[Pair]:
        del loaded
        while True:
            own, other = (chosen := draw.sample(ARGUMENTS, 10))[:4], chosen[4:]
            slots: dict[str, str] = dict(zip("tuvwxyz", draw.sample(WORDS, 7), strict=True))
            slots["function"] = draw.choice(FUNCTIONS)
            signature, others = (dict(zip("abcd", arguments, strict=False)) for arguments in (own, other))
            clean = spans(TEMPLATE, **slots, **signature, documented_1=own[0], documented_2=own[1])
            corrupted = spans(TEMPLATE, **slots, **others, documented_1=other[4], documented_2=other[5])
            right, wrong = own[2], draw.choice((own[0], own[1], own[3]))
            yield Pair((*clean, f" {right}"), (*corrupted, f" {right}"), distractor=f" {wrong}")
