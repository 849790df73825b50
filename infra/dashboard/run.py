"""From a log that is there, or from a demo run first, to the picture of a dashboard."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from infra.dashboard.body import Panel, read_panels
from infra.dashboard.draw import cloudwatch_only, draw
from infra.dashboard.log import FunctionLog, read_log
from infra.demo.replay_run import Display
from infra.demo.run import LOG_NAME, DemoOptions, run_demo
from infra.errors import NoMetricsError


@dataclass(frozen=True, slots=True)
class DashboardReport:
    """What has been drawn.

    Attributes:
        cloudwatch_only: Metrics of the dashboard that no log of a function holds.
    """

    image: str
    log: str
    panels: int
    batches: int
    predictions: int
    cloudwatch_only: list[str]


def dashboard_of_demo(
    options: DemoOptions, image: Path, display: Display, run: Callable[[DemoOptions, Display], object] = run_demo
) -> DashboardReport:
    """Runs a demo and draws what its function has logged, and nothing of what was in the log before.

    Raises:
        InfraError: The demo or the template did not do their part.
        TrainingError: The data can't be used.
        OSError: The picture can't be written.
    """
    panels = read_panels(options.template)  # before the demo: it takes its time
    path = options.folder / LOG_NAME
    n_bytes_before = path.stat().st_size if path.exists() else 0
    run(options, display)
    display.step("drawing the dashboard")
    return _draw(panels, _read(path, n_bytes_before), path, image)


def dashboard_of_log(log: Path, image: Path) -> DashboardReport:
    """Draws the last run of a log.

    Raises:
        NoMetricsError: There is no such file, or no metrics in it.
        TemplateError: The template's dashboard can't be used.
        OSError: The picture can't be written.
    """
    found = _read(log, 0)
    return _draw(read_panels(), found, log, image)


def _draw(panels: list[Panel], log: FunctionLog, path: Path, image: Path) -> DashboardReport:
    draw(panels, log, image)
    return DashboardReport(
        image=str(image),
        log=str(path),
        panels=len(panels),
        batches=log.n_batches,
        predictions=log.n_predictions,
        cloudwatch_only=cloudwatch_only(panels, log),
    )


def _read(path: Path, n_bytes_before: int) -> FunctionLog:
    try:
        log = read_log(_lines(path, n_bytes_before))
    except OSError as error:
        raise NoMetricsError(path, f"can't be read ({error.strerror})") from error
    if not log.samples:
        raise NoMetricsError(path, "holds no metrics of the function")
    return log


def _lines(path: Path, n_bytes_before: int) -> Iterator[str]:
    with path.open("rb") as file:
        file.seek(n_bytes_before)
        for line in file:
            yield line.decode("utf-8", "replace")
