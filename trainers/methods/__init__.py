"""Every discovery method; a new one is one file and one name here."""

from typing import Annotated

from pydantic import Field

from trainers.methods.eap import EdgeAttributionPatching
from trainers.methods.edge_pruning import EdgePruning
from trainers.methods.random_edges import RandomEdges

METHODS = (EdgePruning, EdgeAttributionPatching, RandomEdges)
AnyMethod = Annotated[EdgePruning | EdgeAttributionPatching | RandomEdges, Field(discriminator="name")]
