"""The steps of `make deploy-local` and the checks after each step."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from infra.local.aws import LocalAws
from infra.local.demo.labelling import archive
from infra.local.event_source.batcher import MappingTiming
from infra.local.event_source.mapping import EventSourceMapping, polling
from infra.local.loop import LocalLoop
from infra.local.runtime.emulator import EmulatedRuntime
from infra.local.runtime.function import read_function
from infra.operate.doctor.doctor import Doctor, check
from infra.operate.joining import FAULTS, archived_hours, totals
from infra.stack.package import host_architecture
from tests.deploy_local.existing import NOT_HEALTHY, try_existing_streams
from tests.deploy_local.live_function import LiveFunction
from tests.deploy_local.sam_stack import Release, SamError, SamStack, copy_sources
from tests.deploy_local.traffic import Traffic
from tests.fakes import publish_bundle
from training.data.months import Month
from training.data.synthetic import synthetic_rides
from training.errors import UserError
from training.functions.loop import loop_options
from training.functions.settings import LoopSettings
from training.model.bundle import ExportedBundle
from training.monitoring.hours import FIRST
from training.monitoring.join.join import join_hour
from training.monitoring.join.options import JoinOptions
from training.monitoring.monitor.status import load_status
from training.monitoring.summary import load_summary
from training.registry.bucket import Bucket
from training.workflows.loop.options import LoopStart
from training.workflows.loop.state import read_runs
from training.workflows.pipeline import train

STACK_NAME = "ridecast"
CHANNEL = "stable"

_RIDES_A_STEP = 600
_RIDES_A_SECOND = 150.0  # a step's rides take about as long as a deployment
_MODEL = {"max_iter": 20, "max_leaf_nodes": 31, "learning_rate": 0.3}
_N_TRAINING_RIDES = 4000
_MONTHS = Month(2021, 1), Month(2021, 2)
_STALL_S = 60.0
_FAILS_WITHIN_S = 60.0
_POLL_PERIOD_S = 0.05


class Step(StrEnum):
    """The steps of a run, in order."""

    BUILD = "build: two releases with the real sam"
    DEPLOY = "deploy: the first release, without a model"
    MODEL = "first model: rides wait, then predictions follow"
    UPDATE = "update: new code and two shards a stream, while rides arrive"
    FAIL = "failed update: CloudFormation rolls back, while rides arrive"
    ROLL_BACK = "roll back: the first release again, while rides arrive"
    JOIN = "join: outcomes are sent, all streams archived, and the archive joined and audited"
    MONITOR = "monitor: the labelled rides are compared with those that the model was trained on"
    LOOP = "loop: a run with the deployed settings decides on the labelled rides, and says why"
    CHECK = "check: the doctor looks at everything and finds nothing bad"
    EXISTING = "existing streams: a second stack reads and writes them, and leaves them when it is deleted"
    DELETE = "delete: the function is gone, streams and models are left"


@dataclass(slots=True)
class DeployReport:
    """The result of a run."""

    rides: int = 0
    predicted: int = 0
    rejected: int = 0
    lost: int = 0  # Ride events without a result; 0, or the run fails
    repeated: int = 0  # Predictions of a ride that had one: failed batches are delivered again
    labelled: int = 0  # Rides with a prediction and an outcome in the joined archive
    audit: str = ""  # What the audit found in it; nothing, or the run fails
    monitor: str = ""  # What the monitor says of the labelled rides
    seconds: dict[str, float] = field(default_factory=dict)  # Duration of each step, in order

    def __str__(self) -> str:
        n_steps, total_s = len(self.seconds), sum(self.seconds.values())
        results = f"{self.predicted:,} predicted, {self.rejected:,} rejected, {self.lost:,} lost"
        return (
            f"all {n_steps} steps succeeded in {total_s:.0f} s: of {self.rides:,} ride events {results}; "
            f"{self.labelled:,} labelled, audit: {self.audit}; monitor: {self.monitor}"
        )


class DeployRun:
    """One run: the stack, its function and the rides."""

    def __init__(self, aws: LocalAws, folder: Path, scratch: Path, say: Callable[[str], object]) -> None:
        self.report = DeployReport()
        self._aws = aws
        self._folder = folder
        self._scratch = scratch
        self._say = say
        self._stack = SamStack(aws, STACK_NAME, folder / "sam.log")
        self._function = LiveFunction(folder / "function.log")
        self._function_name = ""  # as last deployed
        self._model = _small_model()
        self._now = Step.BUILD  # the current step
        self._n_sendings = 0

    def run(self) -> None:
        """Run all steps.

        Raises:
            UserError: A step failed.
        """
        first = Release(copy_sources(self._scratch / "first"), self._parameters(n_shards=1))
        second = Release(copy_sources(self._scratch / "second"), self._parameters(n_shards=2))
        _change_code(second)
        with self._step(Step.BUILD):
            self._stack.build(first)
            self._stack.build(second, earlier=first)
        with self._step(Step.DEPLOY):
            self._stack.deploy(first)
        outputs = self._stack.outputs()
        self._traffic = Traffic(self._aws.client("kinesis"), self._aws.client("s3"), outputs)
        with ExitStack() as running:
            running.enter_context(self._function)
            package = self._use_deployed(first)
            kinesis, s3, timing = (
                self._aws.client("kinesis"),
                self._aws.client("s3"),
                MappingTiming(backoff=lambda _: 0.2),
            )
            self._mapping = EventSourceMapping(self._stack.mapping(first), kinesis, self._function, timing, s3=s3)
            self._polls = running.enter_context(polling(self._mapping))
            self._wait_without_a_model(outputs["BucketName"])
            self._update(second)
            self._fail_to_update(_broken(first, second.parameters))
            self._roll_back(first, package)
            self._join(first, outputs)
            self._monitor(outputs)
            self._run_the_loop(outputs)
            self._ask_the_doctor(first)
            self._use_existing_streams(first)
        with self._step(Step.DELETE):
            self._stack.delete(first)
            self._check_what_is_left(outputs)
        self._count()

    def _parameters(self, n_shards: int) -> Mapping[str, object]:
        return {
            "Architecture": host_architecture() or "x86_64",
            "LoopMode": "on",
            "TrainingDays": 49,  # the loop reads a summary for each hour of them
            "RideEventsShards": n_shards,
            "RidePredictionsShards": n_shards,
        }

    def _wait_without_a_model(self, bucket: str) -> None:
        """Send rides before there is a model: the function reports that, and the rides wait."""
        with self._step(Step.MODEL):
            with self._sending():
                deadline_s = time.monotonic() + _FAILS_WITHIN_S
                while not self._mapping.stats.last_error and time.monotonic() < deadline_s:
                    time.sleep(_POLL_PERIOD_S)
                error = self._mapping.stats.last_error
                self._must("channels/" in error, "the function did not report its missing channel")
                publish_bundle(self._aws.client("s3"), self._model, CHANNEL, bucket)
            self._settle()

    def _update(self, release: Release) -> None:
        with self._step(Step.UPDATE):
            before = self._package()
            with self._sending():
                self._stack.deploy(release)
                self._must(self._use_deployed(release) != before, "the function still has the old code")
            self._must(self._n_open_shards() == 2, "the stream does not have two open shards")
            self._settle()

    def _fail_to_update(self, release: Release) -> None:
        """Start an update that CloudFormation cannot finish: it must roll back while rides arrive."""
        with self._step(Step.FAIL):
            before = self._package()
            with self._sending():
                self._must(self._is_refused(release), "an impossible update was deployed")
                self._must(
                    self._stack.described().status == "UPDATE_ROLLBACK_COMPLETE",
                    f"the stack is {self._stack.described().status}",
                )
                self._must(self._package() == before, "the function has the code of the failed update")
            self._settle()

    def _roll_back(self, release: Release, package: str) -> None:
        """Deploy the first release again, as after a bad release."""
        with self._step(Step.ROLL_BACK):
            with self._sending():
                self._stack.deploy(release)
                self._must(
                    self._use_deployed(release) == package, "the function does not have the first release's code"
                )
            self._settle()

    def _join(self, release: Release, outputs: Mapping[str, str]) -> None:
        """Archive the streams and join the archive by the deployed functions; the audit must find nothing."""
        with self._step(Step.JOIN):
            self._traffic.send_outcomes()
            with self._running(outputs["ArchiverName"], "archiver.log") as archiver:
                problem = archive(self._aws, self._stack.archive_mappings(release).values(), archiver, _STALL_S)
            self._must(not problem, problem)
            bucket = Bucket(self._aws.client("s3"), outputs["BucketName"])
            hours = archived_hours(bucket)
            with self._running(outputs["JoinerName"], "joiner.log") as joiner:
                joiner({"hours": [str(hour) for hour in hours]})
            summaries = [one for hour in hours if (one := load_summary(bucket, hour))]
            sums = totals(summaries)
            self.report.labelled = sums["n_labelled"]
            faults = {name.removeprefix("n_"): sums[name] for name in FAULTS}
            self.report.audit = ", ".join(f"{n} {name}" for name, n in faults.items())
            self._say(f"    {self.report.labelled:,} rides are labelled; audit: {self.report.audit}")
            self._must(not any(faults.values()), f"the audit finds {self.report.audit}")
            n_expected = len(self._traffic.predicted)
            self._must(self.report.labelled == n_expected, f"{n_expected} rides are predicted, not all are labelled")

    def _monitor(self, outputs: Mapping[str, str]) -> None:
        """Run the deployed monitor on the labelled rides: it must judge all of them, and say so in its status."""
        with self._step(Step.MONITOR):
            bucket = Bucket(self._aws.client("s3"), outputs["BucketName"])
            hours = archived_hours(bucket)
            for hour in hours:  # all outcomes are there, so the hours count as joined before their horizon
                join_hour(bucket, hour, JoinOptions(channel=CHANNEL), FIRST)
            with self._running(outputs["MonitorName"], "monitor.log") as monitor:
                answer: Any = monitor({})
            self._must(answer["hours"] == [str(one) for one in hours], f"the monitor answers {answer}")
            status = load_status(bucket)
            assert status is not None
            n_judged, n_labelled = status.latest.n_judged if status.latest else 0, self.report.labelled
            self._must(n_judged == n_labelled, f"{n_judged} of {n_labelled} labelled rides are judged")
            states = ", ".join(f"{one.group} {one.state}" for one in status.groups)
            self.report.monitor = f"{n_judged:,} judged, {states}"
            self._say(f"    {self.report.monitor}: {status.groups[0].text}")

    def _run_the_loop(self, outputs: Mapping[str, str]) -> None:
        """Run the loop as the deployed function would: a day of labelled rides is too little, and the run says so."""
        with self._step(Step.LOOP):
            bucket = Bucket(self._aws.client("s3"), outputs["BucketName"])
            environment = read_function(self._aws, outputs["LooperName"]).environment
            options = loop_options(LoopSettings.from_env(environment))
            loop = LocalLoop(bucket, self._scratch / "loop", options, clock=lambda: datetime.now(UTC))
            loop.resume(LoopStart(run_id="deploy-local", trigger="manual", reason="make deploy-local"))
            (run,) = read_runs(bucket)
            self._must(run.end is not None and run.end.outcome == "refused", f"the run of the loop is {run}")
            assert run.end
            self._say(f"    the loop: {run.end.text}")

    def _use_existing_streams(self, release: Release) -> None:
        with self._step(Step.EXISTING):
            rides = synthetic_rides(_MONTHS[1], _RIDES_A_STEP, seed=99)
            model = self._model, CHANNEL
            problems = list(try_existing_streams(self._aws, release, model, rides, self._folder, self._scratch))
            self._must(not problems, "; ".join(problems))

    @contextmanager
    def _running(self, name: str, log: str) -> Iterator[EmulatedRuntime]:
        """Run a deployed function's package in AWS's own runtime."""
        path = self._folder / log
        path.touch()
        with EmulatedRuntime(self._stack.function(name, self._scratch / "packages"), path) as runtime:
            yield runtime

    def _ask_the_doctor(self, release: Release) -> None:
        """Check that the doctor finds no problem and no template diff."""
        with self._step(Step.CHECK):
            facts = Doctor(self._aws.client, STACK_NAME, template=release.source / "template.yaml").gather()
            problems = [f"{one.check}: {one.what}" for one in check(facts) if one.severity in NOT_HEALTHY]
            self._must(not problems, f"the doctor reports {'; '.join(problems)}")
            self._must(facts.template_diff == (), f"the template diff is {facts.template_diff}")

    def _is_refused(self, release: Release) -> bool:
        try:
            self._stack.deploy(release)
        except SamError:
            return True
        return False

    def _check_what_is_left(self, outputs: Mapping[str, str]) -> None:
        """Check that the function is gone and that streams and models are left."""
        functions = [one["FunctionName"] for one in self._aws.client("lambda").list_functions()["Functions"]]
        self._must(outputs["FunctionName"] not in functions, "the function is still there")
        streams = self._aws.client("kinesis").list_streams()["StreamNames"]
        self._must(outputs["RideEventsStream"] in streams, "the stream and the rides in it are gone")
        models = self._aws.client("s3").list_objects_v2(Bucket=outputs["BucketName"], Prefix="models/")
        self._must(models["KeyCount"] > 0, "the bucket and its models are gone")

    def _use_deployed(self, release: Release) -> str:
        """Run the deployed function from now on; return its package's name."""
        name = self._stack.mapping(release).function_name
        function = self._stack.function(name, self._scratch / "packages")
        self._function.use(function)
        self._function_name = name
        return function.package.name

    def _package(self) -> str:
        return self._stack.function(self._function_name, self._scratch / "packages").package.name

    def _n_open_shards(self) -> int:
        summary = self._aws.client("kinesis").describe_stream_summary(
            StreamName=self._stack.outputs()["RideEventsStream"]
        )
        n_open: int = summary["StreamDescriptionSummary"]["OpenShardCount"]
        return n_open

    @contextmanager
    def _sending(self) -> Iterator[None]:
        self._n_sendings += 1
        rides = synthetic_rides(_MONTHS[1], _RIDES_A_STEP, seed=self._n_sendings)
        with self._traffic.sending(rides, _RIDES_A_SECOND):
            yield

    def _settle(self) -> None:
        self._traffic.settle(self._polls, _STALL_S)
        self._count()
        self._must(self.report.lost == 0, f"{self.report.lost} of {self.report.rides} ride events have no result")

    def _count(self) -> None:
        """Update the report."""
        traffic, report = self._traffic, self.report
        report.rides, report.predicted, report.rejected = traffic.n_sent, len(traffic.predicted), traffic.n_rejected
        report.lost, report.repeated = traffic.n_lost, traffic.n_repeated

    @contextmanager
    def _step(self, step: Step) -> Iterator[None]:
        """Name a step when it begins, and say how long it took when it has succeeded."""
        self._now, started_s = step, time.monotonic()
        self._say(f"{list(Step).index(step) + 1}/{len(Step)} {step}")
        yield
        self.report.seconds[step] = round(time.monotonic() - started_s, 1)
        self._say(f"    done in {self.report.seconds[step]:.1f} s")

    def _must(self, holds: bool, problem: str) -> None:
        if not holds:
            raise UserError(f"step {self._now!r} failed: {problem}", f"the logs are in {self._folder}")


def _change_code(release: Release) -> None:
    """Change a release's code."""
    module = release.source / "lambda_function" / "__init__.py"
    module.write_text(module.read_text(encoding="utf-8") + "\n# The second release.\n", encoding="utf-8")


def _broken(release: Release, parameters: Mapping[str, object]) -> Release:
    """Add a stream whose name is taken. It is made after the function has this release's code."""
    taken = "  Taken:\n    Type: AWS::Kinesis::Stream\n    DependsOn: Predictor\n"
    taken += "    Properties:\n      Name:\n        Ref: RideEventsName\n      ShardCount: 1\n"
    broken = replace(release, template_name="broken.yaml", parameters=parameters)
    template = release.template.read_text(encoding="utf-8")
    broken.template.write_text(template.replace("Resources:\n", f"Resources:\n{taken}", 1), encoding="utf-8")
    return broken


def _small_model() -> ExportedBundle:
    train_rides, validate_rides = (synthetic_rides(month, _N_TRAINING_RIDES, seed=1) for month in _MONTHS)
    return train("green", train_rides, validate_rides, _MODEL).bundle
