"""`ridecast report`: a version's report and model card, drawn again."""

from pathlib import Path
from typing import Annotated

import typer

from infra.commands.aws import Aws, on_aws
from infra.commands.bucket import LOCAL_BUCKET, ModelBucket, open_bucket
from infra.commands.options import BUILD, Bundles, Json, Version, Zones


@on_aws
def report_command(
    aws: Aws,
    version: Version,
    output: Annotated[
        Path | None, typer.Option(help="The file to write; else beside the bundle in build/bundles.")
    ] = None,
    bundles: Bundles = BUILD / "bundles",
    zones: Zones = None,
    bucket: ModelBucket = LOCAL_BUCKET,
    as_json: Json = False,
) -> None:
    """Draw a version's report and model card again: one HTML file, with what is known of it by now."""
    from infra.console import ConsoleDisplay, error_console, show_result
    from infra.models.report_run import run_report
    from training.tracking.catch_up import Sources

    sources = Sources(*open_bucket(bucket, aws), bundles)
    with ConsoleDisplay(error_console()).live() as display:
        written = run_report(sources, version, output, zones, display)
    path = str(written.path)
    rows = {"model version": written.model_version, "report": path}
    result = {"model_version": written.model_version, "report": path}
    show_result("Report and model card", rows, result, json_only=as_json)
