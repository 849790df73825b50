"""End a run by hand."""

import msgspec

from training.errors import UserError
from training.registry.bucket import Bucket
from training.registry.channels import Mover
from training.workflows.loop.comparison import experiment_names, stop_if_there
from training.workflows.loop.lease import release_lease
from training.workflows.loop.state import End, RunRecord, change_run, read_run


def stop_run(bucket: Bucket, run_id: str, mover: Mover, why: str = "") -> RunRecord:
    """Stop a run's experiments, record its end, and release its lease. No channel moves. Safe to repeat.

    The run itself does nothing more: its next step finds the end.

    Raises:
        UserError: There is no such run.
        BucketError: S3 fails.
    """
    if read_run(bucket, run_id) is None:
        raise UserError(f"there is no run {run_id} of the loop", "`ridecast loop status` lists them")
    text = f"{mover.name} stopped it" + (f": {why}" if why else "")
    now = mover.clock()

    def end(run: RunRecord | None) -> RunRecord:
        if run is None:
            raise UserError(f"the record of run {run_id} was removed")
        if run.end:
            return run
        return msgspec.structs.replace(run, end=End("stopped", text), ended_at=now, waiting=None)

    stopped = change_run(bucket, run_id, end)
    for name in experiment_names(run_id):
        stop_if_there(bucket, name, mover, text)
    release_lease(bucket, run_id, now)
    return stopped
