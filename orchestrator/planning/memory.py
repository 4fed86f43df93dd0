"""The memory plan: what a rank will take at most, and what would fit where that is too much.

A pure function of sizes, prompts, the method's fields, resources and dtype; `model_patches/footprint.py`
says what passes take. Its constants were measured (benchmarks/memory_plan.py compares).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from model_patches.footprint import Pass, Sizes, buffers, kept_by_autograd, passing, recorded, trained_gates
from trainers.methods.base import PASS_BYTES
from trainers.resources import REFERENCE_BYTES, SIDE_BY_SIDE_BYTES, Resources
from trainers.trial import TrialSpec

PROCESS_BYTES = 460 * 2**20  # a Python process with torch, transformers and DeepSpeed
FIRST_BYTES = 50 * 2**20  # of libraries, when they are first used for a step on a CPU
# glibc keeps what many small tensors left, in pieces, so on a CPU they take so many times their size.
SCATTERED = 1.4
GATHERED = 1_000_000_000  # parameters that DeepSpeed keeps gathered, at most (stage3_max_live_parameters)
DEFAULT_EXAMPLES = 200  # of a split whose size the spec does not say


@dataclass(frozen=True)
class Memory:
    """Bytes of one rank. `weights`: what it holds of the model when it has loaded; `trial`: what a trial
    takes above that at most; `process`: what Python and its libraries take in the same memory."""

    weights: int
    trial: int
    process: int

    @property
    def total(self) -> int:
        return self.weights + self.trial + self.process


def predict(spec: TrialSpec, resources: Resources, sizes: Sizes, parameters: int) -> Memory | None:
    """None where the length of the prompts is not known."""
    tokens = spec.task.tokens_planned()
    if tokens is None:
        return None
    gpu, shared = resources.gpus_per_rank > 0, resources.zero_stage == 3 and resources.ranks > 1
    weights = parameters * sizes.number // (resources.ranks if shared else 1)
    gathered = min(parameters, GATHERED) * sizes.number if shared else 0
    trial = gathered + _trial(spec, resources, sizes, tokens, gpu)
    return Memory(weights, trial, 0 if gpu else PROCESS_BYTES)


def _trial(spec: TrialSpec, resources: Resources, sizes: Sizes, tokens: tuple[int, int], gpu: bool) -> int:
    """Discovery, then evaluation; the buffers of the one are still there in the other."""
    interchange, train = spec.ablation == "interchange", _examples(spec, "train")
    kept: dict[str, int] = {}
    scattered = lent = fresh = 0
    for run, trains in _passes(spec, resources, sizes, tokens, train):
        kept = _larger(kept, buffers(sizes, run))
        scattered = max(scattered, kept_by_autograd(sizes, run) + passing(sizes, run))
        states = recorded(sizes, run.batch, run.seq) if interchange else 0
        lent, fresh = (max(lent, states), fresh) if trains else (lent, max(fresh, states))
    if spec.method.trains_gates and resources.reference_cache_gib:
        # Of a batch those that are missing, and all of them put together.
        lent, fresh = 0, max(fresh, 2 * lent)
        one = recorded(sizes, 1, tokens[0]) * interchange + tokens[1] * sizes.vocab * sizes.number
        kept_cache = min(int(resources.reference_cache_gib * 2**30), train * one)
    else:
        kept_cache = 0
    if spec.method.trains_gates:
        scattered += trained_gates(sizes, max(run.runs for run in spec.method.passes_planned(train)[:1]))
    run = _evaluation(spec, resources, sizes, tokens, gpu)
    kept = _larger(kept, buffers(sizes, run))
    evaluated = (recorded(sizes, run.batch, run.seq) if interchange else 0) + passing(sizes, run)
    held = sum(kept.values()) + lent
    if gpu:
        on_gpu = kept_cache if resources.reference_cache_on == "device" else 0
        return held + on_gpu + max(scattered + fresh, evaluated)
    return FIRST_BYTES + held + kept_cache + int(SCATTERED * scattered) + max(fresh, evaluated)


def _passes(
    spec: TrialSpec, resources: Resources, sizes: Sizes, tokens: tuple[int, int], train: int
) -> Iterator[tuple[Pass, bool]]:
    """The passes that a backward follows, and whether they train (the others attribute)."""
    for runs, examples in spec.method.passes_planned(train):
        share = -(-(examples or train) // resources.ranks)
        batch = share if examples is not None else min(share, resources.batch_examples)
        if examples is None:
            runs = min(runs, max(1, PASS_BYTES // _states(sizes, batch * tokens[0])))
        yield Pass(runs, batch, *tokens, recompute=resources.recompute_blocks), examples is not None


def _evaluation(
    spec: TrialSpec, resources: Resources, sizes: Sizes, tokens: tuple[int, int], gpu: bool
) -> Pass:
    examples = -(-max(_examples(spec, split) for split in ("validation", "test")) // resources.ranks)
    fitting = REFERENCE_BYTES["cuda" if gpu else "cpu"] // _states(sizes, tokens[0])
    batch = max(1, min(resources.batch_examples, fitting, examples))
    together = max(1, SIDE_BY_SIDE_BYTES // _states(sizes, batch * tokens[0]))
    return Pass(min(together, 1 + spec.method.points_planned()), batch, *tokens, backward=False)


def _states(sizes: Sizes, tokens: int) -> int:
    return sizes.shape.size[0] * tokens * sizes.width * sizes.number


def _examples(spec: TrialSpec, split: str) -> int:
    return getattr(spec.task, split, None) or DEFAULT_EXAMPLES


def _larger(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    return {name: max(one.get(name, 0), size) for name, size in other.items()}


@dataclass(frozen=True)
class Change:
    """Of a spec: what to write, and what a rank takes then."""

    told: str
    memory: Memory


def fitting(
    spec: TrialSpec,
    resources: Resources,
    sizes: Sizes,
    parameters: int,
    room: Callable[[Resources], int | None],
) -> tuple[Change, ...]:
    """Changes with which a rank takes at most as many bytes as it has then: the first of each kind that does,
    alone or with blocks computed again. Those of resources leave the circuits as they are."""

    def tried(told: str, spec: TrialSpec = spec, resources: Resources = resources) -> Change | None:
        memory, limit = predict(spec, resources, sizes, parameters), room(resources)
        fits = memory is not None and limit is not None and memory.total <= limit
        return Change(told, memory) if fits and memory is not None else None

    again = resources.model_copy(update={"recompute_blocks": True})
    found = [tried("resources.recompute_blocks: true", resources=again)]
    if resources.reference_cache_on == "device":
        on_host = resources.model_copy(update={"reference_cache_on": "host"})
        found.append(tried("resources.reference_cache_on: host", resources=on_host))
    if resources.zero_stage != 3 and resources.ranks > 1:
        found.append(
            tried("resources.zero_stage: 3", resources=resources.model_copy(update={"zero_stage": 3}))
        )
    bases = [(resources, ""), (again, ", resources.recompute_blocks: true")]
    if resources.reference_cache_gib:  # any but 0 gives the same bits
        gibs = [resources.reference_cache_gib / 2**power for power in range(1, 8)]
        less = [(resources.model_copy(update={"reference_cache_gib": gib}), gib) for gib in gibs]
        told = "resources.reference_cache_gib: {:g}"
        changes = (tried(told.format(gib), resources=each) for each, gib in less)
        found.append(next((change for change in changes if change), None))
        bases.append((less[-1][0], ", " + told.format(gibs[-1])))
    for base, more in bases:
        found += _first_of_each(spec, base, more, tried)
        if any(found):
            break
    return tuple(change for change in found if change is not None)


def _first_of_each(
    spec: TrialSpec, resources: Resources, more: str, tried: Callable[..., Change | None]
) -> Iterator[Change | None]:
    ranks = (resources.ranks * 2**power for power in range(1, 7))
    spread = (
        tried(f"resources.ranks: {n}, zero_stage: 3{more}",
              resources=resources.model_copy(update={"ranks": n, "zero_stage": 3}))
        for n in ranks
    )  # fmt: skip
    yield next((change for change in spread if change), None)
    method = spec.method
    for field in ("batch_size", "gate_samples"):
        size = getattr(method, field, None) or (_examples(spec, "train") if hasattr(method, field) else 1)
        smaller = [size // 2**power for power in range(1, 11) if size >= 2**power]
        cut = (
            tried(f"method.{field}: {n}{more}",
                  spec=spec.model_copy(update={"method": method.model_copy(update={field: n})}),
                  resources=resources)
            for n in smaller
        )  # fmt: skip
        yield next((change for change in cut if change), None)
