"""The faults that chaos.py injects: one line of FAULTS each, with what must follow from it."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks.chaos_cluster import HEAD, LIMIT, ROOT, WORKERS, Cluster, Disk, Server, freeze, until
from benchmarks.chaos_compare import mirrored
from orchestrator.sweep import SweepSpec

STALL_SECONDS = 25  # of the frozen rank's sweep: longer than a loaded machine needs for a trial's first step
BASE = {"model": {"builtin": "tracr-xproportion"}, "task": {"name": "tracr"}, "ablation": "zero"}
TRAINED = {"name": "edge_pruning", "steps": 250, "target_sparsity": 0.8, "path_points": 2}
HUNGRY = {"gate_samples": 64, "steps": 60}  # asks for more at a time than malloc has at hand


def sweep(seeds: int, lanes: int, fault: "Fault | None" = None) -> dict[str, Any]:
    """`seeds` trials that train for seconds, and some quick ones; a fault may add some of its own."""
    method = fault.method if fault else {}
    vary = [{"set": {"method": {"name": "eap"}}}, {"set": {"method": {"name": "random"}}}, {"set": {}}]
    vary += [{"set": {f"method.{name}": value for name, value in method.items()}}] if method else []
    return {
        "name": "chaos", "question": "Is anything lost?", "base": BASE | {"method": TRAINED}, "vary": vary,
        "seeds": seeds, "faults": dict(fault.faults) if fault else {},
        "resources": {"lanes": lanes, "checkpoint_seconds": 0.5},
    }  # fmt: skip


@dataclass(frozen=True)
class Running:
    """A trial in the middle of its training."""

    trial_id: str
    attempt: int
    pid: int  # of its rank


@dataclass
class Scene:
    """One sweep, in a folder of its own, and everything it needs."""

    cluster: Cluster
    folder: Path
    content: dict[str, Any]
    aim: Mapping[str, Any] = field(default_factory=dict)  # fields of the methods of the trials to be hit
    disk: Disk | None = None
    server: Server | None = None
    process: "subprocess.Popen[bytes] | None" = None
    said: Path = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.said = self.folder / "driver.log"
        (self.folder / "sweep.yaml").write_text(json.dumps(self.content))

    @property
    def runs(self) -> Path:
        return (self.disk.folder if self.disk else self.folder) / "runs"

    def trained(self) -> Path:
        """The folder of a trial that trains."""
        trials = SweepSpec.load(self.folder / "sweep.yaml").trials()
        trial_id = next(one.trial_id for one in trials if one.method.name == TRAINED["name"])
        return self.runs / "trials" / trial_id

    def start(self, *options: str) -> None:
        """`circuit-sweep run`; the same command every time."""
        command = [
            sys.executable,
            "-m",
            "orchestrator",
            "run",
            str(self.folder / "sweep.yaml"),
            "--no-report",
        ]
        command += ["--runs", str(self.runs), "--address", self.cluster.head.address, *options]
        command += ["--tracking-uri", self.server.uri] if self.server else []
        with self.said.open("ab") as said:
            self.process = subprocess.Popen(
                command, env=self.cluster.head.environment, cwd=ROOT, stdout=said, stderr=said,
                start_new_session=True,
            )  # fmt: skip

    def ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def end(self) -> int:
        """Waits for the driver; its exit code. Raises TimeoutError when it hangs."""
        assert self.process is not None, "a driver is started before it is waited for"
        try:
            return self.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise TimeoutError(f"the driver hangs; see {self.said}") from None

    def events(self) -> list[dict[str, Any]]:
        return _lines(self.runs / "chaos" / "events.jsonl")

    def failures(self, trial_id: str) -> list[dict[str, Any]]:
        return _lines(self.runs / "trials" / trial_id / "failures.jsonl")

    def running(self) -> Running | None:
        """A trial that is worth hitting: in its training, with a checkpoint behind it."""
        last = {one["trial"]: one for one in self.events() if one["event"] == "trial_started"}
        for trial_id, event in last.items():
            folder, pid = self.runs / "trials" / trial_id, event["ranks"][0]["pid"]
            if (folder / "result.json").exists() or not psutil.pid_exists(pid):
                continue
            method = json.loads((folder / "spec.json").read_bytes())["method"]
            report = next((one for one in reversed(_lines(folder / "progress.jsonl")) if "step" in one), {})
            trains = 0 < report.get("step", 0) < 0.8 * report.get("total", 0)
            if (
                trains
                and list(folder.glob("checkpoint/*.safetensors"))
                and self.aim.items() <= method.items()
            ):
                return Running(trial_id, event["attempt"], pid)
        return None

    def complete(self) -> dict[str, tuple[int, int]]:
        """Trials that are over: their result's inode and time of writing."""
        stats = {path.parent.name: path.stat() for path in self.runs.glob("trials/*/result.json")}
        return {trial_id: (stat.st_ino, stat.st_mtime_ns) for trial_id, stat in stats.items()}


@dataclass(frozen=True)
class Fault:
    """`strike` hits a trial in its training; without it the sweep's own content, or what `prepare` does, is
    the fault. The first command must end with one of `codes` (None: by 0), and where that is not 0, `repair`
    puts right what is broken and the same command must end with 0. `kinds` are what failures.jsonl calls it.
    """

    what: str
    strike: Callable[[Scene, Running], None] | None = None
    codes: tuple[int, ...] = (0,)
    kinds: tuple[str, ...] = ()
    repair: Callable[[Scene], None] = lambda scene: None
    prepare: Callable[[Scene], None] = lambda scene: None
    check: Callable[[Scene], str] = lambda scene: ""  # at the very end; what is wrong, in words
    again: tuple[str, ...] = ()  # options of the second command
    faults: Mapping[str, Any] = field(default_factory=dict)  # the spec's
    method: Mapping[str, Any] = field(default_factory=dict)  # of further trials: the ones to be hit
    needs_disk: bool = False
    needs_server: bool = False
    soak: bool = False  # may come at any time, and often


def _lines(file: Path) -> list[dict[str, Any]]:
    """Of a JSONL file; torn lines are skipped."""
    found = []
    for line in file.read_bytes().splitlines() if file.is_file() else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def _kill_rank(scene: Scene, running: Running) -> None:
    os.kill(running.pid, signal.SIGKILL)


def _kill_lane(scene: Scene, running: Running) -> None:
    """The one that is connected to the trial's rank."""
    open_ports = psutil.Process(running.pid).net_connections("tcp")
    ports = {one.laddr.port for one in open_ports if one.status == psutil.CONN_LISTEN}
    for lane in (one for one in scene.cluster.workers() if not one.name().startswith(WORKERS[0])):
        if any(one.raddr and one.raddr.port in ports for one in lane.net_connections("tcp")):
            lane.kill()
            return
    raise AssertionError("no lane is connected to the rank")


def _kill_driver(scene: Scene, running: Running) -> None:
    assert scene.process is not None
    scene.process.kill()


def _kill_node(scene: Scene, running: Running) -> None:
    scene.cluster.kill(scene.cluster.node_of(running.pid))


def _kill_head(scene: Scene, running: Running) -> None:
    scene.cluster.kill(HEAD)


def _kill_server(scene: Scene, running: Running) -> None:
    assert scene.server is not None
    scene.server.kill()


def _freeze(scene: Scene, running: Running) -> None:
    freeze(running.pid)


def _cut_off(scene: Scene, running: Running) -> None:
    """The rank is frozen, its node killed; it wakes when the next attempt runs."""
    freeze(running.pid)
    scene.cluster.kill_all_but(running.pid)
    begun = lambda: any(  # noqa: E731
        one["event"] == "trial_started"
        and one["trial"] == running.trial_id
        and one["attempt"] > running.attempt
        for one in scene.events()
    )
    assert until(lambda: begun() or scene.ended()), "the trial was not tried again"
    if psutil.pid_exists(running.pid):
        os.kill(running.pid, signal.SIGCONT)


def _no_more(limit: int) -> Callable[[Scene, Running], None]:
    """What the rank holds it keeps; from now on the kernel gives it nothing."""

    def strike(scene: Scene, running: Running) -> None:
        resource.prlimit(running.pid, limit, (0, 0))

    return strike


def _terminate(scene: Scene, running: Running) -> None:
    assert scene.process is not None
    scene.process.terminate()
    started = time.monotonic()
    assert until(scene.ended), "the driver ignores SIGTERM"
    assert time.monotonic() - started < 30, "the driver takes more than 30 s to end on SIGTERM"


def _disk(scene: Scene) -> Disk:
    assert scene.disk is not None, "the fault needs a disk of its own"
    return scene.disk


def _track(scene: Scene) -> None:
    """The server is there again; `track` fills in what it missed."""
    assert scene.server is not None
    scene.server.start()
    for uri in (scene.server.uri, _undisturbed(scene)):
        command = [sys.executable, "-m", "orchestrator", "track", str(scene.runs), "--tracking-uri", uri]
        subprocess.run(command, env=scene.cluster.head.environment, cwd=ROOT, check=True, capture_output=True)


def _undisturbed(scene: Scene) -> str:
    return f"sqlite:///{scene.folder}/undisturbed.db"


def _mirror_differs(scene: Scene) -> str:
    _track(scene)
    assert scene.server is not None
    found, expected = mirrored(scene.server.uri), mirrored(_undisturbed(scene))
    wrong = sorted(key for key in found.keys() | expected.keys() if found.get(key) != expected.get(key))
    return f"MLflow shows other values of {', '.join(wrong)}" if wrong else ""


def _stand_in_the_way(scene: Scene) -> None:
    """A folder where the trial must write a file: every attempt raises."""
    (scene.trained() / "progress.jsonl").mkdir(parents=True)


def _get_out_of_the_way(scene: Scene) -> None:
    shutil.rmtree(scene.trained() / "progress.jsonl")


def _not_given_up(scene: Scene) -> str:
    """After two attempts the trial was given up, with the reason."""
    aside = scene.trained() / "result.json.failed-1"
    result = json.loads(aside.read_bytes()) if aside.exists() else {}
    execution, error = result.get("execution", {}), result.get("error") or ""
    if execution.get("attempt") == 2 and execution.get("given_up") and "IsADirectoryError" in error:
        return ""
    return f"the first command's record of the trial: {execution}, {error[-200:]!r}"


def _diverged_differs(scene: Scene) -> str:
    """The trials with a gate_lr beyond all bounds: failed at their first attempt, and never run again."""
    for folder in (scene.runs / "trials").iterdir():
        result = json.loads((folder / "result.json").read_bytes())
        huge = result["spec"]["method"].get("gate_lr", 0) > 1e6
        if huge != (result["status"] == "failed"):
            return f"{folder.name}: gate_lr {result['spec']['method'].get('gate_lr')} is {result['status']}"
        if huge and (result["execution"]["attempt"] != 1 or "diverged at" not in result["error"]):
            return f"{folder.name}: attempt {result['execution']['attempt']}: {result['error']}"
    return ""


FAULTS: dict[str, Fault] = {
    "rank": Fault("kill -9 of a rank", _kill_rank, kinds=("lost",), soak=True),
    "lane": Fault("kill -9 of a lane", _kill_lane, kinds=("lost",), soak=True),
    "driver": Fault("kill -9 of the driver; the same command", _kill_driver, codes=(-9,), soak=True),
    "node": Fault("kill -9 of a node and all in it", _kill_node, kinds=("lost",), soak=True),
    "head": Fault(
        "kill -9 of the head; cluster up again; the same command",
        _kill_head,
        codes=(*range(1, 256), -6, -9, -11, -15),
        repair=lambda scene: scene.cluster.mend(),
    ),
    "frozen": Fault(
        "SIGSTOP of a rank", _freeze, kinds=("silent",), faults={"stall_seconds": STALL_SECONDS}, soak=True
    ),
    "zombie": Fault(
        "a rank cut off from its node, awake again during the next attempt", _cut_off, kinds=("lost",)
    ),
    "mlflow": Fault(
        "kill -9 of the MLflow server; `track` afterwards",
        _kill_server,
        check=_mirror_differs,
        needs_server=True,
    ),
    "sigterm": Fault("SIGTERM to the driver; the same command", _terminate, codes=(130,), soak=True),
    "full_disk": Fault(
        "the disk of the runs folder is full; space freed; the same command",
        lambda scene, running: _disk(scene).fill(),
        codes=(4,),
        repair=lambda scene: _disk(scene).clean(),
        needs_disk=True,
    ),
    "read_only": Fault(
        "the runs folder becomes read-only; mounted again; the same command",
        lambda scene, running: _disk(scene).break_down(),
        codes=(4,),
        repair=lambda scene: _disk(scene).mount_again(),
        needs_disk=True,
    ),
    "raises": Fault(
        "a rank's writes raise (file size limit 0)",
        _no_more(resource.RLIMIT_FSIZE),
        kinds=("raised",),
        soak=True,
    ),
    "memory": Fault(
        "a trial that needs much memory gets no more (address space limit)",
        _no_more(resource.RLIMIT_AS),
        kinds=("memory", "lost"),
        method=HUNGRY,
        soak=True,
    ),
    "always_raises": Fault(
        "every attempt at one trial raises; put right; --retry-failed",
        prepare=_stand_in_the_way,
        codes=(1,),
        repair=_get_out_of_the_way,
        again=("--retry-failed",),
        check=_not_given_up,
    ),
    "nan": Fault(
        "the gates of one trial after the other become NaN; that stops no sweep",
        method={"gate_lr": 1e38},
        faults={"identical_failures": 2},
        codes=(1,),
        check=_diverged_differs,
    ),
}
