"""Subject-verb agreement past an attractor (Linzen et al. 2016; Finlayson et al. 2021)."""

import random
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from trainers.tasks.text import Pair, TextTask, spans

if TYPE_CHECKING:
    from trainers.model import Loaded

TEMPLATE = "The {subject} {link} the {attractor}"
VERBS = (" is", " are")  # of a singular subject, of a plural one
LINKS = ("to", "near", "behind", "beside", "from", "with", "under", "above", "on", "in front of")
NOUNS = (
    ("author", "authors"), ("bird", "birds"), ("boat", "boats"), ("book", "books"), ("bottle", "bottles"),
    ("bridge", "bridges"), ("cabinet", "cabinets"), ("camera", "cameras"), ("car", "cars"),
    ("castle", "castles"), ("chair", "chairs"), ("child", "children"), ("clock", "clocks"),
    ("cup", "cups"), ("desk", "desks"), ("dog", "dogs"), ("door", "doors"), ("farmer", "farmers"),
    ("flower", "flowers"), ("garden", "gardens"), ("guard", "guards"), ("horse", "horses"),
    ("house", "houses"), ("key", "keys"), ("lamp", "lamps"), ("letter", "letters"), ("man", "men"),
    ("map", "maps"), ("mountain", "mountains"), ("nurse", "nurses"), ("painting", "paintings"),
    ("picture", "pictures"), ("pilot", "pilots"), ("plant", "plants"), ("road", "roads"),
    ("shop", "shops"), ("sign", "signs"), ("stone", "stones"), ("student", "students"),
    ("table", "tables"), ("teacher", "teachers"), ("tower", "towers"), ("tree", "trees"),
    ("truck", "trucks"), ("village", "villages"), ("wall", "walls"), ("window", "windows"),
    ("woman", "women"),
)  # fmt: skip


class SubjectVerbTask(TextTask):
    """`The keys to the cabinet` → ` are`.

    The distractor is the verb of the other number. Corrupted: the same subject in the other number.
    The attractor's number is drawn apart from the subject's.
    """

    version: ClassVar[int] = 1

    name: Literal["subject_verb"] = "subject_verb"

    def tokens_planned(self) -> tuple[int, int] | None:
        return 7, 1

    def pairs(self, draw: random.Random, loaded: "Loaded") -> Iterator[Pair]:
        del loaded
        while True:
            subject, attractor = draw.sample(NOUNS, 2)
            number, link = draw.randrange(2), draw.choice(LINKS)
            slots = {"link": link, "attractor": attractor[draw.randrange(2)]}
            clean = spans(TEMPLATE, subject=subject[number], **slots)
            corrupted = spans(TEMPLATE, subject=subject[1 - number], **slots)
            right, wrong = VERBS[number], VERBS[1 - number]
            yield Pair((*clean, right), (*corrupted, right), distractor=wrong)
