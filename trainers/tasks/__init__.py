"""Every task; a new one is one file and one name here."""

from typing import Annotated, get_args

from pydantic import Field

from trainers.tasks.addition import AdditionTask
from trainers.tasks.base import Task
from trainers.tasks.boolean import BooleanTask
from trainers.tasks.docstring import DocstringTask
from trainers.tasks.gendered_pronoun import GenderedPronounTask
from trainers.tasks.greater_than import GreaterThanTask
from trainers.tasks.induction import InductionTask
from trainers.tasks.ioi import IoiTask
from trainers.tasks.jsonl import JsonlTask
from trainers.tasks.multiple_choice import MultipleChoiceTask
from trainers.tasks.published_dataset import DatasetTask
from trainers.tasks.subject_verb import SubjectVerbTask
from trainers.tasks.tracr import TracrTask

_Task = (
    IoiTask
    | GreaterThanTask
    | GenderedPronounTask
    | DocstringTask
    | SubjectVerbTask
    | BooleanTask
    | AdditionTask
    | MultipleChoiceTask
    | InductionTask
    | TracrTask
    | JsonlTask
    | DatasetTask
)
AnyTask = Annotated[_Task, Field(discriminator="name")]
TASKS: tuple[type[Task], ...] = get_args(_Task)
