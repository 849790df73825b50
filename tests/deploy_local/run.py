"""The steps of `make deploy-local`: what is done to the stack, and what must be so after it."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from infra.errors import DeployLocalError, SamError
from infra.local.aws import LocalAws
from infra.operate.doctor.doctor import Doctor, check
from infra.operate.doctor.facts import Severity
from infra.stack.package import host_architecture
from tests.deploy_local.live_function import LiveFunction, LiveMapping, mapping_running
from tests.deploy_local.sam_stack import Release, SamStack, copy_sources
from tests.deploy_local.traffic import Traffic
from training.data.months import Month
from training.data.synthetic import synthetic_rides
from training.model.bundle import ExportedBundle
from training.registry.bucket import Bucket
from training.registry.channels import move_channel, store_bundle
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
_LOOK_AGAIN_S = 0.05


@dataclass(slots=True)
class DeployReport:
    """What a run ends with.

    Attributes:
        lost: Ride events that ended nowhere: 0, or the run has failed.
        repeated: Predictions that came a second time, as batches do that failed.
        seconds: By step, in order.
    """

    rides: int = 0
    predicted: int = 0
    rejected: int = 0
    lost: int = 0
    repeated: int = 0
    seconds: dict[str, float] = field(default_factory=dict)


class DeployRun:
    """One run's parts: the stack, the function that lives in it, and the rides."""

    def __init__(self, aws: LocalAws, folder: Path, scratch: Path, say: Callable[[str], object]) -> None:
        self.report = DeployReport()
        self._aws = aws
        self._folder = folder
        self._scratch = scratch
        self._say = say
        self._stack = SamStack(aws, STACK_NAME, folder / "sam.log")
        self._function = LiveFunction(folder / "function.log")
        self._function_name = ""  # as deployed last
        self._now = ""  # the step
        self._n_sendings = 0

    def run(self) -> None:
        """Goes through a stack's life.

        Raises:
            UserError: A step did not end as it must.
        """
        first = Release(copy_sources(self._scratch / "first"), self._parameters(n_shards=1))
        second = Release(copy_sources(self._scratch / "second"), self._parameters(n_shards=2))
        _change_code(second)
        with self._step("building two releases"):
            for release in (first, second):
                self._stack.build(release)
        with self._step("deploying the first"):
            self._stack.deploy(first)
        outputs = self._stack.outputs()
        self._traffic = Traffic(self._aws.client("kinesis"), self._aws.client("s3"), outputs)
        with ExitStack() as running:
            running.enter_context(self._function)
            package = self._take_up(first)
            mapping = running.enter_context(mapping_running(self._aws, self._stack.mapping(first), self._function))
            self._wait_without_a_model(mapping, outputs["BucketName"])
            self._update(second, mapping)
            self._fail_to_update(_broken(first, second.parameters), mapping)
            self._roll_back(first, package, mapping)
            self._ask_the_doctor(first)
        with self._step("deleting"):
            self._stack.delete(first)
            self._check_what_is_left(outputs)
        self._count()

    def _parameters(self, n_shards: int) -> Mapping[str, object]:
        return {
            "Architecture": host_architecture() or "x86_64",
            "RideEventsShards": n_shards,
            "RidePredictionsShards": n_shards,
        }

    def _wait_without_a_model(self, mapping: LiveMapping, bucket: str) -> None:
        """Rides arrive before the first model: the function says what is missing, and they wait."""
        with self._step("rides before there is a model, then publishing one"):
            with self._sending():
                give_up_s = time.monotonic() + _FAILS_WITHIN_S
                while not mapping.stats.last_error and time.monotonic() < give_up_s:
                    time.sleep(_LOOK_AGAIN_S)
                self._must("channels/" in str(mapping.stats.last_error), "the function did not miss its channel")
                _publish(self._aws.client("s3"), bucket, _small_model())
            self._settle(mapping)

    def _update(self, release: Release, mapping: LiveMapping) -> None:
        with self._step("updating: new code, two shards a stream, rides under way"):
            before = self._package()
            with self._sending():
                self._stack.deploy(release)
                self._must(self._take_up(release) != before, "the function still has the old code")
            self._must(self._n_open_shards() == 2, "the stream has not two open shards")
            self._settle(mapping)

    def _fail_to_update(self, release: Release, mapping: LiveMapping) -> None:
        """An update that CloudFormation cannot finish: it puts everything back by itself, and rides go on."""
        with self._step("an update that fails, rides under way"):
            before = self._package()
            with self._sending():
                self._must(self._is_refused(release), "an impossible update was deployed")
                self._must(self._stack.status() == "UPDATE_ROLLBACK_COMPLETE", f"it stands at {self._stack.status()}")
                self._must(self._package() == before, "the function has kept the code of the failed update")
            self._settle(mapping)

    def _roll_back(self, release: Release, package: str, mapping: LiveMapping) -> None:
        """A release that turned out bad: the one before is deployed again."""
        with self._step("back to the release before, rides under way"):
            with self._sending():
                self._stack.deploy(release)
                self._must(self._take_up(release) == package, "the function has not the first release's code")
            self._settle(mapping)

    def _ask_the_doctor(self, release: Release) -> None:
        """Looked at from outside, nothing is bad, and the release's own template is the one deployed."""
        with self._step("asking the doctor"):
            doctor = Doctor(self._aws.client, STACK_NAME, template=release.source / "template.yaml")
            ill = [f"{one.check}: {one.what}" for one in check(doctor.gather()) if one.severity is Severity.bad]
            self._must(not ill, f"the doctor says {'; '.join(ill)}")
            self._must(doctor.gather().template_diff == (), f"the template diff is {doctor.gather().template_diff}")

    def _is_refused(self, release: Release) -> bool:
        try:
            self._stack.deploy(release)
        except SamError:
            return True
        return False

    def _check_what_is_left(self, outputs: Mapping[str, str]) -> None:
        """Nothing that computes is left, and nothing that holds data is gone."""
        functions = [one["FunctionName"] for one in self._aws.client("lambda").list_functions()["Functions"]]
        self._must(outputs["FunctionName"] not in functions, "the function is still there")
        streams = self._aws.client("kinesis").list_streams()["StreamNames"]
        self._must(outputs["RideEventsStream"] in streams, "the stream and the rides in it are gone")
        kept = self._aws.client("s3").list_objects_v2(Bucket=outputs["BucketName"], Prefix="models/")
        self._must(kept["KeyCount"] > 0, "the bucket and its models are gone")

    def _take_up(self, release: Release) -> str:
        """Has the function go on with what is deployed now; returns its package's name."""
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

    def _settle(self, mapping: LiveMapping) -> None:
        self._traffic.settle(mapping.polling, _STALL_S)
        self._count()
        self._must(self.report.lost == 0, f"{self.report.lost} of {self.report.rides} ride events ended nowhere")

    def _count(self) -> None:
        """Brings the report up to date."""
        traffic, report = self._traffic, self.report
        report.rides, report.predicted, report.rejected = traffic.n_sent, len(traffic.predicted), traffic.n_rejected
        report.lost, report.repeated = traffic.n_lost, traffic.n_repeated

    @contextmanager
    def _step(self, text: str) -> Iterator[None]:
        self._now, started_s = text, time.monotonic()
        yield
        self.report.seconds[text] = round(time.monotonic() - started_s, 1)
        self._say(f"{self.report.seconds[text]:6.1f} s  {text}")

    def _must(self, holds: bool, problem: str) -> None:
        if not holds:
            raise DeployLocalError(self._now, problem, self._folder)


def _change_code(release: Release) -> None:
    """Makes a release's code another one."""
    module = release.source / "lambda_function" / "__init__.py"
    module.write_text(module.read_text(encoding="utf-8") + "\n# The second release.\n", encoding="utf-8")


def _broken(release: Release, parameters: Mapping[str, object]) -> Release:
    """Adds a stream by a name that is taken, made after the function has got this release's code already."""
    taken = "  Taken:\n    Type: AWS::Kinesis::Stream\n    DependsOn: Predictor\n"
    taken += "    Properties:\n      Name:\n        Ref: RideEventsName\n      ShardCount: 1\n"
    broken = replace(release, template_name="broken.yaml", parameters=parameters)
    template = release.template.read_text(encoding="utf-8")
    broken.template.write_text(template.replace("Resources:\n", f"Resources:\n{taken}", 1), encoding="utf-8")
    return broken


def _small_model() -> ExportedBundle:
    learnt, judged = (synthetic_rides(month, _N_TRAINING_RIDES, seed=1) for month in _MONTHS)
    return train("green", learnt, judged, _MODEL).bundle


def _publish(s3: Any, bucket: str, bundle: ExportedBundle) -> None:
    store_bundle(Bucket(s3, bucket), bundle)
    move_channel(Bucket(s3, bucket), CHANNEL, bundle.model_version, bundle.manifest_sha256)
