"""A stack that the real `sam` builds, deploys and deletes on the local AWS."""

import json
import shutil
import subprocess
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import yaml

from infra.local.aws import REGION, LocalAws
from infra.local.event_source.config import MappingConfig
from infra.local.ports import HOST
from infra.local.runtime.function import FunctionConfig, read_function
from infra.local.stack import Stack
from infra.stack.template import FUNCTION_TYPE, ROOT, read_template
from infra.stack.tools import sam_command, tool_environment
from tests.kits.stack import LocalStack
from training.errors import UserError

_SOURCES = (
    *("template.yaml", "samconfig.toml", "lambda_function", "training", "infra/stack/packages"),
    *("pyproject.toml", "uv.lock"),  # the trainer's package has them: a model names what it was made with
)
"""The sources of a build."""

_POLL_S = "0.2"  # the local AWS is done at once; sam asks every 0.5 s


class SamError(UserError):
    """A `sam` command failed."""


@dataclass(frozen=True, slots=True)
class Release:
    """A copy of the project's sources to deploy, which a run may change."""

    source: Path  # the copied tree; `sam build` writes into it
    parameters: Mapping[str, object]  # the stack's parameters
    template_name: str = "packaged.yaml"  # the name of the template to deploy in the build folder

    @property
    def build_folder(self) -> Path:
        """The result of `sam build`."""
        return self.source / ".aws-sam" / "build"

    @property
    def template(self) -> Path:
        """The template to deploy. Its code is uploaded."""
        return self.build_folder / self.template_name


class SamStack(LocalStack):
    """A stack on a local AWS. `sam`'s output is appended to a log."""

    def __init__(self, aws: LocalAws, name: str, log_path: Path) -> None:
        super().__init__(aws, name)
        self._log_path = log_path

    def build(self, release: Release, earlier: Release | None = None) -> None:
        """Run `sam build` and `sam package` on a release's tree: a release that is deployed twice is zipped once.

        Args:
            release: To build.
            earlier: One from which it differs in the predicting function's folder alone. Its other packages, which
                take minutes to build, are used again.

        Raises:
            SamError: One of them failed.
        """
        changed = ["Predictor"] if earlier else ["--parallel"]
        self._sam("build", *changed, "--parameter-overrides", *_pairs(release.parameters), cwd=release.source)
        if earlier:
            _take_packages(release, earlier)
        files = ["--template-file", str(release.build_folder / "template.yaml")]
        files += ["--output-template-file", str(release.template)]
        self._sam("package", *files, "--resolve-s3", "--region", REGION, "--no-progressbar", cwd=release.source)

    def deploy(self, release: Release) -> None:
        """Run `sam deploy` with samconfig.toml, for a new or an existing stack.

        Raises:
            SamError: It failed; `described` returns the stack's state.
        """
        options = ["--template-file", str(release.template), "--config-file", str(release.source / "samconfig.toml")]
        options += ["--stack-name", self.name, "--region", REGION, "--no-confirm-changeset", "--no-progressbar"]
        self._sam("deploy", *options, "--parameter-overrides", *_pairs(release.parameters), cwd=release.source)

    def delete(self, release: Release) -> None:
        """Run `sam delete`, which deletes the stack and the uploaded packages.

        Raises:
            SamError: It failed.
        """
        self._sam("delete", "--stack-name", self.name, "--region", REGION, "--no-prompts", cwd=release.source)

    def mapping(self, release: Release) -> MappingConfig:
        """Return the predicting function's event source mapping in the release's template."""
        return Stack(release.source / "template.yaml", release.parameters).event_source_mapping(self.names())

    def archive_mappings(self, release: Release) -> Mapping[str, MappingConfig]:
        """Return the archive function's event source mappings in the release's template, by kind."""
        return Stack(release.source / "template.yaml", release.parameters).archive_mappings(self.names())

    def function(self, name: str, folder: Path) -> FunctionConfig:
        """Fetch a deployed function: its package from S3, and its configuration.

        Args:
            name: Its name or ARN. An alias in it selects the alias's version.
            folder: Packages are unpacked here, one folder for each digest.

        Returns:
            The function as the emulator runs it.
        """
        function = read_function(self.aws, name)
        return replace(function, package=self._package(function.name, folder))

    def _package(self, physical_name: str, folder: Path) -> Path:
        logical_name = next(one for one, other in self.names().items() if other == physical_name)
        body = self._cloudformation.get_template(StackName=self.name, TemplateStage="Processed")["TemplateBody"]
        code = (json.loads(body) if isinstance(body, str) else body)["Resources"][logical_name]["Properties"]["Code"]
        package = folder / str(code["S3Key"])
        if not package.exists():
            stored = self.aws.client("s3").get_object(Bucket=code["S3Bucket"], Key=code["S3Key"])
            with zipfile.ZipFile(BytesIO(stored["Body"].read())) as archive:
                archive.extractall(package)
        return package

    def _sam(self, *arguments: str, cwd: Path) -> None:
        environment = {**tool_environment(), **self.aws.environment, "SAM_CLI_POLL_DELAY": _POLL_S, "NO_PROXY": HOST}
        done = subprocess.run(  # noqa: S603 - sam, with words from this project
            [*sam_command(), *arguments],
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        with self._log_path.open("a", encoding="utf-8") as log:
            log.write(f"$ sam {' '.join(arguments)}\n{done.stdout}\n")
        if done.returncode:
            last_line = (done.stdout.strip().splitlines() or ["no output"])[-1]
            raise SamError(f"sam {arguments[0]} failed: {last_line}; see {self._log_path}")


def copy_sources(folder: Path) -> Path:
    """Copy the sources of a build to a new folder and return it."""
    folder.mkdir(parents=True)
    for name in _SOURCES:
        source, target = ROOT / name, folder / name
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, target)
    return folder


def _take_packages(release: Release, earlier: Release) -> None:
    """Let a build name the uploaded packages of an earlier release, where the sources are another folder's."""
    path = release.build_folder / "template.yaml"
    built, uploaded = read_template(path), read_template(earlier.template)["Resources"]
    sources = read_template(release.source / "template.yaml")["Resources"]
    predictor = sources["Predictor"]["Properties"]["CodeUri"]
    package = built["Resources"]["Predictor"]["Properties"]["CodeUri"]
    for name, one in built["Resources"].items():
        if one["Type"] == FUNCTION_TYPE:
            is_changed = sources[name]["Properties"]["CodeUri"] == predictor
            one["Properties"]["CodeUri"] = package if is_changed else uploaded[name]["Properties"]["CodeUri"]
    path.write_text(yaml.safe_dump(built, sort_keys=False), encoding="utf-8")


def _pairs(parameters: Mapping[str, object]) -> list[str]:
    return [f"{name}={value}" for name, value in parameters.items()]
