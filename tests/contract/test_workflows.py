"""GitHub's workflows: pinned actions, no keys, least permissions, one build, an approval before prod."""

import re
import shlex
import subprocess
import sys
import tomllib
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import click
import pytest
import typer
import yaml

from infra.stack.change_set import read_options
from infra.stack.deployment import read_settings
from infra.stack.template import TEMPLATE, read_template

ROOT = TEMPLATE.parent
FOLDER = ROOT / ".github" / "workflows"
WORKFLOWS = sorted(FOLDER.glob("*.yml"))

PINNED = re.compile(r"uses: [\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$")
OWN = re.compile(r"uses: \./\.github/workflows/[\w-]+\.yml$")


@cache
def workflow(name: str) -> dict[Any, Any]:
    """Read a workflow; YAML reads its key `on` as True."""
    found: dict[Any, Any] = yaml.safe_load((FOLDER / f"{name}.yml").read_text(encoding="utf-8"))
    return found


def jobs() -> list[tuple[str, dict[str, Any]]]:
    return [(f"{path.stem}.{name}", job) for path in WORKFLOWS for name, job in workflow(path.stem)["jobs"].items()]


def steps() -> list[tuple[str, dict[str, Any]]]:
    return [(f"{name}: {step['name']}", step) for name, job in jobs() for step in job.get("steps", ())]


def runs(job: dict[str, Any]) -> str:
    """Return the scripts of a job's steps."""
    return "\n".join(step.get("run", "") for step in job["steps"])


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_each_action_is_pinned_to_a_digest_with_its_version(path: Path) -> None:
    uses = [line.strip().removeprefix("- ") for line in path.read_text().splitlines() if "uses:" in line]

    assert uses
    assert [line for line in uses if not (PINNED.match(line) or OWN.match(line))] == []


def test_one_action_has_one_version_everywhere() -> None:
    text = "".join(path.read_text() for path in WORKFLOWS)
    pins = {(action, digest) for action, digest in re.findall(r"uses: ([\w.-]+/[\w./-]+)@([0-9a-f]{40})", text)}

    assert len({action for action, _ in pins}) == len(pins)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_only_jobs_have_permissions(path: Path) -> None:
    assert workflow(path.stem)["permissions"] == {}


@pytest.mark.parametrize(("name", "job"), jobs(), ids=[name for name, _ in jobs()])
def test_job_may_read_the_code_and_at_most_get_a_token(name: str, job: dict[str, Any]) -> None:
    more = {
        **{key: {"id-token": "write"} for key in ("cd.dev", "cd.prod", "deploy.plan", "deploy.deploy")},
        "cd.attest": {"id-token": "write", "attestations": "write"},
    }

    assert job["permissions"] == {"contents": "read"} | more.get(name, {})


def test_job_with_a_token_installs_the_locked_minimum_with_the_pinned_uv_or_nothing() -> None:
    installing = {
        name: [step["run"] for step in job.get("steps", ()) if ".ci/" in step.get("run", "")]
        for name, job in jobs()
        if "id-token" in job["permissions"]
    }
    text = (ROOT / ".ci" / "setup").read_text(encoding="utf-8")

    assert installing == {
        "cd.attest": [],
        "cd.dev": [],  # these two call deploy.yml
        "cd.prod": [],
        "deploy.plan": ["bash .ci/setup deploy"],
        "deploy.deploy": ["bash .ci/setup deploy"],
    }
    assert "--no-install-project --no-build --only-group deploy" in text
    assert "--only-binary :all: --require-hashes" in text


def test_uv_is_pinned_by_version_and_digests() -> None:
    first, *digests = (ROOT / ".ci" / "uv.txt").read_text(encoding="utf-8").replace(" \\\n", "\n").splitlines()[1:]

    assert re.fullmatch(r"uv==[0-9]+\.[0-9]+\.[0-9]+", first)
    assert digests
    assert all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}", line) for line in digests)


def test_every_job_has_a_timeout() -> None:
    assert {name: job.get("timeout-minutes", 0) for name, job in jobs() if "steps" in job} == {
        "cd.attest": 5,
        "cd.build": 15,
        "ci.gate": 20,
        "deploy.plan": 15,
        "deploy.deploy": 90,
    }


def test_checkout_leaves_no_token_behind() -> None:
    checkouts = [step for _, step in steps() if "actions/checkout@" in step.get("uses", "")]

    assert len(checkouts) == 4
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


@pytest.mark.parametrize(("name", "step"), steps(), ids=[name for name, _ in steps()])
def test_no_expression_is_written_into_a_script(name: str, step: dict[str, Any]) -> None:
    assert "${{" not in step.get("run", "")  # values come in environment variables: text, never code


def test_no_secret_and_no_key_is_anywhere() -> None:
    text = "".join(path.read_text() for path in WORKFLOWS)

    assert "secrets" not in text
    assert not re.search("access-key|ACCESS_KEY", text, re.IGNORECASE)


def test_code_of_a_pull_request_runs_without_credentials() -> None:
    triggers = {path.stem: set(workflow(path.stem)[True]) for path in WORKFLOWS}

    assert triggers == {
        "cd": {"push", "workflow_dispatch"},
        "ci": {"pull_request", "workflow_call"},
        "deploy": {"workflow_call"},
    }
    assert workflow("cd")[True]["push"] == {"branches": ["main"]}
    assert workflow("cd")["jobs"]["gate"]["if"] == "github.ref == 'refs/heads/main'"


def test_gate_is_the_projects_script() -> None:
    assert runs(workflow("ci")["jobs"]["gate"]).strip() == "bash .ci/run"


def test_a_release_is_built_once_behind_the_gate_and_goes_to_dev_then_prod() -> None:
    found = workflow("cd")["jobs"]
    built = {"release": "${{ needs.build.outputs.release }}"}

    needed = {name: found[name]["needs"] for name in ("build", "attest", "dev", "prod")}
    assert needed == {"build": "gate", "attest": "build", "dev": ["build", "attest"], "prod": ["build", "dev"]}
    assert found["dev"]["with"] == {"environment": "dev", **built}
    assert found["prod"]["with"] == {"environment": "prod", **built}
    assert [name for name, job in jobs() if "infra.stack.release" in str(job)] == ["cd.build"]


def test_release_is_stored_with_its_bill_of_materials() -> None:
    (stored,) = [step["with"] for name, step in steps() if "upload-artifact@" in step.get("uses", "")]

    assert stored["path"] == "build/release/"
    assert stored["if-no-files-found"] == "error"
    assert stored["retention-days"] == 90


def test_files_that_were_built_are_attested() -> None:
    fetch, check, attest = workflow("cd")["jobs"]["attest"]["steps"]

    assert fetch["with"]["artifact-ids"] == "${{ needs.build.outputs.release }}"
    assert check["run"] == "sha256sum --check --strict SHA256SUMS"
    assert attest["with"] == {"subject-checksums": "build/release/SHA256SUMS"}
    assert attest["if"] == "github.event.repository.visibility == 'public'"


def test_change_set_is_shown_before_the_approval_and_executed_after_it() -> None:
    found = workflow("deploy")["jobs"]

    assert found["plan"]["environment"] == {"name": "${{ inputs.environment }}-plan"}
    assert "infra.stack.change_set plan" in runs(found["plan"])
    assert "infra.stack.change_set execute" not in runs(found["plan"])

    assert found["deploy"]["needs"] == "plan"
    assert found["deploy"]["environment"] == {"name": "${{ inputs.environment }}"}
    assert "infra.stack.change_set plan" not in runs(found["deploy"])


def test_both_jobs_have_the_release_that_was_built() -> None:
    fetched = [one["with"]["artifact-ids"] for name, one in steps() if "download-artifact@" in one.get("uses", "")]

    assert fetched == ["${{ needs.build.outputs.release }}", *["${{ inputs.release }}"] * 2]


def test_outputs_of_jobs_are_no_arns() -> None:
    """GitHub drops outputs with masked text, such as the account's number."""
    outputs = {f"{name}.{key}": value for name, job in jobs() for key, value in job.get("outputs", {}).items()}

    assert outputs == {
        "cd.build.release": "${{ steps.upload.outputs.artifact-id }}",
        "deploy.plan.change_set": "${{ steps.plan.outputs.change_set }}",  # the end of its ARN: test_deployment.py
    }
    credentials = [step["with"] for _, step in steps() if "credentials@" in step.get("uses", "")]
    assert [one["mask-aws-account-id"] for one in credentials] == [True, True]


def test_each_deployment_is_verified_and_smoke_tested_and_undone_on_failure() -> None:
    *_, execute, verify, smoke, undo = workflow("deploy")["jobs"]["deploy"]["steps"]

    assert execute["if"] == "needs.plan.outputs.change_set != ''"
    assert "infra.stack.change_set verify" in verify["run"]
    assert "infra.cli.app smoke" in smoke["run"]
    assert "if" not in verify.keys() | smoke.keys()
    assert "infra.stack.change_set undo" in undo["run"]
    assert undo["if"] == "failure() && steps.execute.outcome == 'success'"


def test_deployments_are_neither_interrupted_nor_concurrent() -> None:
    assert workflow("cd")["concurrency"] == {"group": "cd", "cancel-in-progress": False}
    assert workflow("deploy")["concurrency"] == {
        "group": "deploy-${{ inputs.environment }}",
        "cancel-in-progress": False,
    }


def test_credentials_last_as_long_as_their_job_within_the_roles_limit() -> None:
    role = read_template(ROOT / "infra" / "stack" / "bootstrap.yaml")["Resources"]["DeployRole"]["Properties"]
    job = workflow("deploy")["jobs"]["deploy"]
    (seconds,) = [one["with"]["role-duration-seconds"] for one in job["steps"] if "credentials@" in one.get("uses", "")]

    assert 60 * job["timeout-minutes"] <= seconds <= role["MaxSessionDuration"]


@pytest.mark.parametrize("environment", ["dev", "prod"])
def test_stack_has_the_name_and_tags_in_samconfig(environment: str) -> None:
    samconfig = tomllib.loads((ROOT / "samconfig.toml").read_text(encoding="utf-8"))
    name = workflow("deploy")["env"]["STACK"].replace("${{ inputs.environment }}", environment)
    settings = read_settings(ROOT / "samconfig.toml", environment)

    assert samconfig[environment]["global"]["parameters"]["stack_name"] == name
    assert settings.tags == {"project": "ridecast", "environment": environment}  # bootstrap.yaml's grants need both
    assert settings.parameters["Environment"] == environment
    assert settings.capabilities == ("CAPABILITY_IAM",)


def commands() -> list[list[str]]:
    """Return the words of every command of every step, without the shell's expansions."""
    lines = [line for _, step in steps() for line in step.get("run", "").replace("\\\n", " ").splitlines()]
    return [shlex.split(re.split(r" [|>] ", line)[0]) for line in lines]


def test_every_program_is_checked_below() -> None:
    programs = {" ".join(command[:3] if command[1] == "-m" else command[:1]) for command in commands()}

    assert programs == {
        "bash",
        "sha256sum",
        ".venv/bin/python -m infra.cli.app",
        ".venv/bin/python -m infra.stack.change_set",
        ".venv/bin/python -m infra.stack.release",
    }


def test_scripts_exist() -> None:
    scripts = {command[1] for command in commands() if command[0] == "bash"}

    assert scripts == {".ci/run", ".ci/setup"}
    assert all((ROOT / script).is_file() for script in scripts)


def test_steps_of_a_deployment_accept_their_options() -> None:
    found = [command[3:] for command in commands() if command[1:3] == ["-m", "infra.stack.change_set"]]

    assert [words[0] for words in found] == ["plan", "execute", "verify", "undo"]
    for words in found:
        read_options(words)  # exits if an option does not exist


def test_ridecasts_commands_accept_their_options() -> None:
    group = cast("click.Group", typer.main.get_command(import_module("infra.cli.app").app))
    found = [command[3:] for command in commands() if command[1:3] == ["-m", "infra.cli.app"]]

    assert found
    for name, *words in found:
        assert {word for word in words if word.startswith("--")} <= options_of(group.commands[name])


def options_of(command: click.Command) -> set[str]:
    return {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}


@pytest.mark.slow
def test_zizmor_finds_nothing() -> None:
    zizmor = Path(sys.executable).parent / "zizmor"
    done = subprocess.run(  # noqa: S603 - a fixed command
        [zizmor, "--offline", "--quiet", "--persona", "pedantic", ROOT / ".github"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout
