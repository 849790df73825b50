"""`ridecast` in this process."""

import json
import sys
from typing import Any

import pytest

from infra.cli.app import main


class Cli:
    """Run commands as the script does.

    Args:
        monkeypatch: Sets the command line.
        capsys: Reads the output.
        options: Appended to every command.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *options: str) -> None:
        self._monkeypatch, self._capsys, self.options = monkeypatch, capsys, options

    def ended(self, *words: object) -> tuple[int, str, str]:
        """Run a command and return its exit code, standard output and standard error."""
        self._monkeypatch.setattr(sys, "argv", ["ridecast", *map(str, words), *self.options])
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        written = self._capsys.readouterr()
        return int(ended.value.code or 0), written.out, written.err

    def run(self, *words: object, code: int = 0) -> str:
        """Run a command, expect its exit code, and return its standard output."""
        found, out, err = self.ended(*words)
        assert found == code, err
        return out

    def __call__(self, *words: object, code: int = 0) -> Any:
        """Run a command with --json and return its object, which must be all of its standard output."""
        (line,) = self.run(*words, "--json", code=code).splitlines()
        return json.loads(line)

    def refuses(self, *words: object) -> str:
        """Run a command that must end with 2 and print nothing but one sentence, and return the sentence."""
        code, out, err = self.ended(*words)
        assert (code, out) == (2, ""), err
        (line,) = [line for line in err.splitlines() if line.strip()]
        assert line.startswith("ridecast: ")
        return line
