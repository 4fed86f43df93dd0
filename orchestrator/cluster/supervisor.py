"""Supervisor: decides what follows from failures. Knows no Ray, no clock and no files."""

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from orchestrator.faults import Failure, Faults, ruled


@dataclass(frozen=True)
class Decision:
    """`give_up`: why the trial is not tried again; `exclude`: a node that gets no more trials; `stop`: why
    the whole sweep ends here. Empty strings: nothing of the kind."""

    give_up: str = ""
    exclude: str = ""
    stop: str = ""


class Supervisor:
    """Of one launch. `excluded` are the Ray node ids that trials must not run on."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._in_a_row: set[str] = set()  # trials given up, alike and one after the other
        self._likeness = ""  # theirs
        self._on_node: dict[str, dict[str, Failure]] = defaultdict(dict)  # node -> trial id -> failure
        self._unfit = Counter[str]()  # node -> attempts that could not start there
        self.excluded: set[str] = set()

    def complete(self) -> None:
        """A trial came to its end, or people say that the cause of the failures is gone."""
        self._in_a_row.clear()

    def failed(
        self,
        trial_id: str,
        history: Sequence[Failure],
        lines: Sequence[str] = (),
        nodes: Collection[str] = (),
    ) -> Decision:
        """After the last failure in the trial's `history`. `lines` are what the attempt logged, `nodes`
        the live ones: the last of them is never excluded."""
        failure = history[-1]
        if failure.kind == "storage":
            return Decision(stop=failure.headline)
        actions = ruled(self._faults.log_rules, [*failure.cause.splitlines(), *lines])
        if failure.node:
            self._on_node[failure.node][trial_id] = failure
            self._unfit[failure.node] += failure.kind == "node"
        give_up = self._given_up(history, actions)
        return Decision(
            give_up=give_up,
            exclude=self._excluded(failure.node, "exclude_node" in actions, nodes),
            stop=self._broken(trial_id, failure) if give_up else "",
        )

    def _given_up(self, history: Sequence[Failure], actions: Collection[str]) -> str:
        own = sum(failure.own for failure in history)
        if history[-1].kind == "refused":
            return "another attempt would be refused, too"
        if "stop_retrying" in actions:
            return "a log rule says stop_retrying"
        if own > self._faults.trial_retries:
            return f"failed {own} times by itself (faults.trial_retries: {self._faults.trial_retries})"
        machine = len(history) - own
        if machine > self._faults.machine_retries:
            return f"lost {machine} times (faults.machine_retries: {self._faults.machine_retries})"
        return ""

    def _excluded(self, node: str, by_rule: bool, nodes: Collection[str]) -> str:
        others = set(nodes) - self.excluded - {node}
        if not node or node in self.excluded or not others:
            return ""
        # A node that can start nothing is always free: one trial would lose all its attempts there while
        # the good nodes are busy.
        failed = max(self._count(node), self._unfit[node])
        if not by_rule and failed < self._faults.node_failures:
            return ""
        self.excluded.add(node)
        return node

    def _count(self, node: str) -> int:
        """Trials that failed on the node. A trial's own error counts only while no other node saw its
        like: a bad spec must not cost one node after the other."""
        elsewhere = {
            failure.likeness
            for other, failed in self._on_node.items()
            for failure in failed.values()
            if other != node
        }
        here = self._on_node[node].values()
        return sum(not failure.own or failure.likeness not in elsewhere for failure in here)

    def _broken(self, trial_id: str, failure: Failure) -> str:
        """Trials given up alike one after the other mean that the next would be, too. Attempts that are
        tried again do not count: one lost node ends those of all its lanes at once."""
        if failure.likeness != self._likeness:
            self._in_a_row.clear()
        self._likeness = failure.likeness
        self._in_a_row.add(trial_id)
        alike = len(self._in_a_row)
        if alike < self._faults.identical_failures:
            return ""
        return f"{alike} trials in a row failed alike: {failure.headline}"
