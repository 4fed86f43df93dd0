"""Every discovery method; a new one is one file and one name here."""

from typing import Annotated, get_args

from pydantic import Field

from trainers.methods.acdc import Acdc
from trainers.methods.base import Method
from trainers.methods.eap import EdgeAttributionPatching
from trainers.methods.eap_ig import EapIgActivations, EapIgInputs
from trainers.methods.edge_pruning import EdgePruning
from trainers.methods.exact_patching import ExactPatching
from trainers.methods.node_pruning import NodePruning
from trainers.methods.random_edges import RandomEdges

_Method = (
    EdgePruning
    | EdgeAttributionPatching
    | EapIgInputs
    | EapIgActivations
    | ExactPatching
    | Acdc
    | NodePruning
    | RandomEdges
)
AnyMethod = Annotated[_Method, Field(discriminator="name")]
METHODS: tuple[type[Method], ...] = get_args(_Method)
