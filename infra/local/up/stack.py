"""The stack of `ridecast up`: the local AWS with the template's stack, and all that runs on it."""

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from botocore.exceptions import ClientError

from infra.local.aws import ACCOUNT_ID, REGION, LocalAws
from infra.local.demo.labelling import Display
from infra.local.event_source.mapping import EventSourceMapping, logging_to
from infra.local.ports import listen
from infra.local.runtime.function import FunctionConfig, read_function
from infra.local.runtime.http import ApiServer, model_version
from infra.local.runtime.in_process import Runtime
from infra.local.runtime.invocable import invocable
from infra.local.runtime.running import RuntimeName, running
from infra.local.stack import DeployedStack, deploy
from infra.local.up.feed import BEFORE_S, Feed, FeedOptions, Timetable, load_feed_rides
from infra.local.up.folder import Positions, StateFolder, opened_folder
from infra.local.up.labeller import Labeller
from infra.local.up.model import named_bundle, release_first_model
from infra.local.up.state import FOLDER, RunningStack, write_running
from infra.operate.shards import FIRST_IDLE_WAIT_S, MAX_IDLE_WAIT_S, next_idle_wait_s
from infra.stack.describe import physical_names
from infra.stack.package import build_for_host
from training.data.rides import Rides
from training.errors import UserError
from training.functions.monitor import build_monitor
from training.functions.settings import JoinSettings, MonitorSettings
from training.model.bundle import ExportedBundle
from training.monitoring.join.options import JoinOptions
from training.registry.bucket import Bucket

STACK = "ridecast"

PARAMETERS = {"BucketName": "ridecast-local", "ModelRefreshSeconds": 5, "ModelActivationDelaySeconds": 20}
"""The bucket has the same name at each start. Models take over in seconds, for nobody likes to wait for a trial."""

ARCHIVE_WINDOW_S = 5.0
"""In place of the template's minute: archived rides are joined within seconds."""

PREDICTOR = "predictor"

_LABELLER_WAIT_S, _MAX_LABELLER_WAIT_S = 2.0, 60.0
_TIMES_THE_ROUND = 4.0
"""The labeller rests so many times as long as its last round took: predictions come first."""

_ARCHIVER_IDLE_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class UpOptions:
    """Options of a local stack.

    Attributes:
        build: The build folder: bundles are looked for there, and the state is below it.
        port: Of the local AWS; 0 for any free one, like `api_port` of the HTTP API.
        model: A bundle to serve; None for the one that serves already, or the newest at hand.
        feed: What the stack feeds itself; None for nothing.
        is_fresh: Whether to begin without the state of earlier runs.
    """

    build: Path
    port: int = 4566
    api_port: int = 8080
    model: Path | None = None
    runtime: RuntimeName = "in-process"
    feed: FeedOptions | None = None
    is_fresh: bool = False

    @property
    def folder(self) -> Path:
        """The folder of the state."""
        return self.build / FOLDER


@dataclass(slots=True)
class LocalStack:
    """A stack that runs.

    Attributes:
        running: Where.
        model_version: The version that the API serves.
        labeller: Joins and monitors.
        feed: Sends rides; None if none was asked for.
        mappings: The event source mappings: of the predicting function, and of the archive by its kinds.
        aws: The local AWS.
        work: The threads of all these.
    """

    running: RunningStack
    model_version: str
    labeller: Labeller
    feed: Feed | None
    mappings: Mapping[str, EventSourceMapping]
    aws: LocalAws
    work: list[Future[None]] = field(default_factory=list)

    def check(self) -> None:
        """Raise the error of a part that has failed."""
        self.aws.check()
        for one in self.work:
            if one.done():
                one.result()

    def figures(self) -> str:
        """Return how it goes, in one line."""
        n_done = self.mappings[PREDICTOR].stats.n_done
        fed = self.feed.figures() if self.feed else ""
        return ", ".join(filter(None, (fed, f"processed {n_done:,}", self.labeller.figures())))

    def problems(self) -> list[str]:
        """Return what goes wrong."""
        errors = [f"{name}: {one.stats.last_error}" for name, one in self.mappings.items() if one.stats.last_error]
        return errors + list(self.labeller.problems)


@contextmanager
def running_stack(options: UpOptions, display: Display) -> Iterator[LocalStack]:
    """Start a stack, let it run while the block lasts, and end all that was started.

    Raises:
        UserError: The folder, a port, the model or the template can't be used; the message names it.
    """
    named = named_bundle(options.model) if options.model else None
    with ExitStack() as opened:
        folder = opened.enter_context(opened_folder(options.folder, is_fresh=options.is_fresh))
        listen(options.api_port, "--api-port").close()  # a port that is taken is found before work begins
        aws = opened.enter_context(LocalAws(port=options.port, state=folder.state, inherited=[folder.lock]))
        if options.runtime == "emulator":
            display.step("building the functions' package")
            build_for_host()
        rides = load_feed_rides(options.feed, display) if options.feed else None
        display.step("creating the stack from template.yaml")
        start = _Start(aws, deploy(aws, STACK, parameters=PARAMETERS), folder, options)
        start.release_model(named, display)
        display.step("starting the functions")
        local = start.start(opened, rides)
        write_running(folder.path, local.running)
        yield local


@dataclass(frozen=True, slots=True)
class _Start:
    """The parts of a start."""

    aws: LocalAws
    stack: DeployedStack
    folder: StateFolder
    options: UpOptions

    @property
    def bucket(self) -> Bucket:
        return Bucket(self.aws.client("s3"), self.stack.bucket)

    def release_model(self, named: ExportedBundle | None, display: Display) -> None:
        environment, build = self.stack.function.environment, self.options.build
        delay_s = float(environment["MODEL_ACTIVATION_DELAY_S"])
        release_first_model(self.bucket, environment["MODEL_CHANNEL"], delay_s, build, named, display)

    def start(self, opened: ExitStack, rides: Rides | None) -> LocalStack:
        """Start functions, mappings, API, labeller and feed; they end with `opened`."""
        names = physical_names(self.aws.client("cloudformation"), STACK)
        functions = {
            PREDICTOR: self.stack.function,
            "archiver": self.stack.archiver,
            "api": read_function(self.aws, names["ApiFunction"]),
        }
        runtimes = self._run(functions, opened)
        for name in (PREDICTOR, "archiver"):
            arn = f"arn:aws:lambda:{REGION}:{ACCOUNT_ID}:function:{functions[name].name}"
            opened.enter_context(invocable(self.aws, arn, runtimes[name]))

        def api(event: dict[str, Any], _: object) -> dict[str, Any]:
            return cast("dict[str, Any]", runtimes["api"](event))

        server = opened.enter_context(ApiServer(api, self.options.api_port))
        local = LocalStack(
            running=self._running(server.url),
            model_version=model_version(api),
            labeller=self._labeller(read_function(self.aws, names["Joiner"])),
            feed=self._feed(rides),
            mappings=self._mappings(runtimes),
            aws=self.aws,
        )
        self._work(local, opened)
        return local

    def _run(self, functions: Mapping[str, FunctionConfig], opened: ExitStack) -> dict[str, Runtime]:
        logs = self.folder.path / "logs"
        shutil.rmtree(logs, ignore_errors=True)
        logs.mkdir()
        opened.enter_context(logging_to(logs / "mappings.log"))
        cold = threading.Lock()
        return {
            name: OneAtATime(opened.enter_context(running(one, logs / f"{name}.log", self.options.runtime)), cold)
            for name, one in functions.items()
        }

    def _mappings(self, runtimes: Mapping[str, Runtime]) -> dict[str, EventSourceMapping]:
        configs = {PREDICTOR: self.stack.mapping} | {
            kind: replace(one, batching_window_s=ARCHIVE_WINDOW_S) for kind, one in self.stack.archive_mappings.items()
        }
        kinesis, s3, positions = self.aws.client("kinesis"), self.aws.client("s3"), self.folder.read_positions()
        return {
            name: EventSourceMapping(
                config,
                kinesis,
                runtimes[PREDICTOR if name == PREDICTOR else "archiver"],
                s3=s3,
                positions=positions.get(name, {}).get(config.stream_name, {}),
            )
            for name, config in configs.items()
        }

    def _labeller(self, joiner: FunctionConfig) -> Labeller:
        joins, bus = JoinSettings.from_env(joiner.environment), self.aws.client("events")
        monitor = build_monitor(MonitorSettings.from_env(self.stack.monitor.environment), self.aws.client("s3"), bus)
        return Labeller(
            bucket=self.bucket,
            join_options=JoinOptions(
                outcome_delay_minutes=joins.outcome_delay_minutes,
                channel=joins.model_channel,
                ride_stream=joins.ride_stream,
                outcome_stream=joins.outcome_stream,
            ),
            monitor_options=replace(monitor.options, shows_early=True),
            bus=bus,
            folder=self.folder.path,
        )

    def _feed(self, rides: Rides | None) -> Feed | None:
        options, stack = self.options.feed, self.stack
        if options is None or rides is None:
            return None
        positions, timetable = self.folder.read_feed(), Timetable(options.name, rides)
        at_s = positions.get(options.name, BEFORE_S)
        return Feed(
            timetable=timetable,
            speed=options.speed,
            kinesis=self.aws.client("kinesis"),
            streams=(stack.input_stream, stack.outcomes_stream, stack.output_stream),
            at_s=at_s if at_s < timetable.end_s else BEFORE_S,
            save=lambda at_s: self.folder.write_feed({**positions, options.name: at_s}),
        )

    def _running(self, api_url: str) -> RunningStack:
        return RunningStack(
            pid=os.getpid(),
            endpoint_url=self.aws.endpoint_url,
            api_url=api_url,
            stack=STACK,
            bucket=self.stack.bucket,
            input_stream=self.stack.input_stream,
            output_stream=self.stack.output_stream,
            outcomes_stream=self.stack.outcomes_stream,
            started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def _work(self, local: LocalStack, opened: ExitStack) -> None:
        """Let threads poll, join and feed until `opened` is closed."""
        stop = threading.Event()
        pool = opened.enter_context(ThreadPoolExecutor(4, thread_name_prefix="up"))
        opened.callback(stop.set)  # comes first: the pool waits for its threads
        positions = _SavedPositions(self.folder, self.folder.read_positions())
        archivers = {name: one for name, one in local.mappings.items() if name != PREDICTOR}
        predictors = {PREDICTOR: local.mappings[PREDICTOR]}
        local.work.append(pool.submit(_poll, predictors, positions.save, stop, MAX_IDLE_WAIT_S))
        local.work.append(pool.submit(_poll, archivers, positions.save, stop, _ARCHIVER_IDLE_S))
        local.work.append(pool.submit(_label, local.labeller, archivers.values(), stop))
        if local.feed:
            local.work.append(pool.submit(local.feed.run, stop))


class OneAtATime:
    """A function that several threads invoke: it processes one event at a time.

    Until its first success no function that shares the lock `cold` runs its own first event: both would read the
    environment variables of one of them.
    """

    def __init__(self, runtime: Runtime, cold: threading.Lock) -> None:
        self._runtime, self._cold = runtime, cold
        self._lock = threading.Lock()
        self._is_warm = False

    def __call__(self, event: dict[str, Any]) -> object:
        """Invoke the function."""
        with self._lock:
            if self._is_warm:
                return self._runtime(event)
            with self._cold:
                response = self._runtime(event)
            self._is_warm = True
            return response


class _SavedPositions:
    """The positions of all mappings, stored when one changes. Safe to use from several threads."""

    def __init__(self, folder: StateFolder, positions: Positions) -> None:
        self._folder, self._positions = folder, positions
        self._lock = threading.Lock()

    def save(self, name: str, stream: str, positions: dict[str, str]) -> None:
        """Store the positions of a mapping."""
        with self._lock:
            if self._positions.get(name) != {stream: positions}:
                self._positions[name] = {stream: positions}
                self._folder.write_positions(self._positions)


def _poll(
    mappings: Mapping[str, EventSourceMapping],
    save: Callable[[str, str, dict[str, str]], None],
    stop: threading.Event,
    idle_s: float,
) -> None:
    """Poll mappings in turn, and store what they have settled, until `stop` is set."""
    wait_s = FIRST_IDLE_WAIT_S
    while not stop.is_set():
        n_records = 0
        for name, mapping in mappings.items():
            n_records += _poll_once(mapping)
            save(name, mapping.stream_name, mapping.positions)
        wait_s = idle_s if n_records == 0 and wait_s >= MAX_IDLE_WAIT_S else next_idle_wait_s(wait_s, n_records)
        if n_records == 0:
            stop.wait(wait_s)


def _poll_once(mapping: EventSourceMapping) -> int:
    """Poll a mapping. That its stream was deleted is a problem of this mapping alone, as on AWS."""
    try:
        return mapping.poll_once()
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") != "ResourceNotFoundException":
            raise
        remedy = "end `ridecast up` and start it again, which makes the stream anew"
        mapping.stats.last_error = f"the stream {mapping.stream_name} was deleted: {remedy}"
        return 0


def _label(labeller: Labeller, archivers: Iterable[EventSourceMapping], stop: threading.Event) -> None:
    """Join and monitor when something new is archived, and once a minute, until `stop` is set."""
    n_before, next_s = -1, 0.0
    while not stop.wait(_LABELLER_WAIT_S):
        n_done, now_s = sum(one.stats.n_done for one in archivers), time.monotonic()
        if now_s < next_s or (n_done == n_before and now_s < next_s + _MAX_LABELLER_WAIT_S):
            continue
        try:
            labeller.run()
            n_before = n_done
        except UserError as error:
            labeller.problems = (str(error),)
        took_s = time.monotonic() - now_s
        next_s = now_s + took_s * (1 + _TIMES_THE_ROUND)
