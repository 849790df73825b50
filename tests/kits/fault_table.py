"""`python -m tests.kits.fault_table`: write the doctor's list of faults into the runbook, as its table."""

from infra.operate.doctor.faults import table
from infra.stack.template import ROOT

RUNBOOK = ROOT / "docs" / "runbook.md"
HEAD = "| fault | "


def with_table(text: str) -> str:
    """Return the runbook with its table as the list has it."""
    before, _, rest = text.partition(HEAD)
    _, _, after = rest.partition("\n\n")
    return before + "\n".join(table()) + "\n\n" + after


if __name__ == "__main__":
    RUNBOOK.write_text(with_table(RUNBOOK.read_text(encoding="utf-8")), encoding="utf-8")
