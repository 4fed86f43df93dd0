"""Every task; a new one is one file and one name here."""

from typing import Annotated

from pydantic import Field

from trainers.tasks.induction import InductionTask
from trainers.tasks.tracr import TracrTask

TASKS = (InductionTask, TracrTask)
AnyTask = Annotated[InductionTask | TracrTask, Field(discriminator="name")]
