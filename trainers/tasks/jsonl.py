"""Custom tasks: clean and corrupted texts from a JSONL file."""

from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from trainers.result import IN_SAMPLE
from trainers.sources.digest import file_digest
from trainers.tasks.given import GivenSplits, GivenTask
from trainers.tasks.jsonl_file import read


class JsonlTask(GivenTask):
    """Objects, one a line or pretty-printed one after another:

        {"clean": "1 + 2 = <predict>3</predict>", "corrupted": "1 + 4 = <predict>5</predict>",
         "split": "train"}

    What stands between tags is predicted, token by token, each token scored after the right ones before
    it; there may be several. Clean and corrupted texts need as many tokens in each part between tags.
    `split` is train, validation or test, and all three must occur; without the key anywhere, the same
    examples serve all three and every result is in-sample.
    """

    version: ClassVar[int] = 1

    name: Literal["jsonl"] = "jsonl"
    path: str = Field(description="the file; a relative path is relative to the sweep's file")

    @cached_property
    def content(self) -> tuple[str, GivenSplits]:
        """Digest and entries, as they were when first asked for. Raises SpecError."""
        file = Path(self.path).expanduser()
        given = read(file)
        return file_digest(file), given

    @property
    def test_set(self) -> str:
        digest, given = self.content
        seen = IN_SAMPLE if given.in_sample else ""
        return f"{len(given.splits['test'])} examples of a file ({digest[:8]}){seen}"

    def identity(self) -> dict[str, Any]:
        """With the digest of the file instead of its path. Raises SpecError with all bad entries."""
        fields = {key: value for key, value in super().identity().items() if key != "path"}
        return fields | {"digest": self.content[0]}

    def given(self) -> GivenSplits:
        return self.content[1]
