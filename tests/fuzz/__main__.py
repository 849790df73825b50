"""Feeds every decoder as many hostile inputs as there is time for. Exit code 1 on a finding."""

import argparse
import os
import sys
import warnings
from contextlib import redirect_stdout
from pathlib import Path

from tests.fuzz.run import FuzzReport, fuzz
from tests.fuzz.targets import TARGETS


def main() -> int:
    """Runs the targets that are asked for, one after the other."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", help=f"of {', '.join(TARGETS)} [default: all]")
    parser.add_argument("--inputs", type=int, default=20_000, help="inputs a target [default: %(default)s]")
    parser.add_argument("--seed", type=int, default=1, help="another seed, other inputs [default: %(default)s]")
    parser.add_argument("--output", type=Path, default=Path("build/fuzz"), help="where findings are kept")
    options = parser.parse_args()
    unknown = [name for name in options.targets if name not in TARGETS]
    if unknown:
        parser.error(f"there is no target {unknown[0]}: choose of {', '.join(TARGETS)}")
    warnings.simplefilter("ignore", SyntaxWarning)  # Python's own, of what stands in a hostile array's header
    n_findings = 0
    for name in options.targets or TARGETS:
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):  # the function's log and metrics
            report = fuzz(TARGETS[name], options.inputs, options.seed)
        _show(report, options.output)
        n_findings += len(report.findings)
    return 1 if n_findings else 0


def _show(report: FuzzReport, folder: Path) -> None:
    sys.stdout.write(
        f"{report.target:12} {report.n_inputs:>9,} inputs in {report.seconds:6.1f} s, "
        f"slowest {report.slowest_ms:5.1f} ms, growth {report.growth_blocks:,} objects and {report.growth_mb:.1f} MB, "
        f"{len(report.findings)} findings\n"
    )
    for finding in report.findings:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{finding.target}-{finding.seed}-{finding.number}.txt"
        path.write_text(f"{finding.problem}\n{finding.data!r}\n")
        sys.stdout.write(f"  {finding}\n  kept in {path}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
