"""Control: what people ask of a running driver, through control.json in the sweep's folder."""

import logging
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from trainers.folder import Folder

CONTROL = "control.json"
log = logging.getLogger(__name__)


class Control(BaseModel):
    """All that is asked of the present driver so far; it starts with nothing asked.

    `cancelled` are trial ids, `drained` nodes by name, address or id. `retries` counts how often
    failed trials were asked for again.
    """

    model_config = ConfigDict(frozen=True)

    paused: bool = False
    cancelled: frozenset[str] = frozenset()
    drained: frozenset[str] = frozenset()
    retries: int = 0

    @classmethod
    def read(cls, home: Folder) -> Self:
        """Nothing asked when there is no file, or none that can be read."""
        content = home.read(CONTROL)
        if content is None:
            return cls()
        try:
            return cls.model_validate_json(content)
        except ValidationError:
            log.warning("%s/%s cannot be read; taken as asking for nothing", home.location, CONTROL)
            return cls()

    def write(self, home: Folder) -> None:
        home.write(CONTROL, self.model_dump_json(indent=1).encode())
