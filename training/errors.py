"""Everything that can go wrong in training, as one tree.

TrainingError
├── ExportError               a forest that bit masks cannot hold
├── PublishError              the bucket did not take a bundle or a channel's move
│   └── ChannelMovedError     somebody else moved the channel first
├── MonthsError               a text that names no months
├── ConfigError               a run that cannot be meant
├── DataFolderError           a data folder that is not there
├── DataFileError             a file that cannot be used, whoever made it
└── MonthUnavailableError     a month that is on this machine nowhere and cannot be brought here now
    ├── MonthNotFoundError    TLC has not published it
    ├── OfflineError          TLC cannot be reached
    └── DownloadError         TLC was reached, and yet the file did not arrive
        └── InterruptedDownloadError    it may arrive at the next try

Pick behaviour by type. Errors carry facts as attributes and build their own sentence.
"""

from pathlib import Path


class TrainingError(Exception):
    """Root of every error that training raises on purpose."""


class ExportError(TrainingError):
    """A forest that bit masks cannot hold."""


class PublishError(TrainingError):
    """The bucket did not take a bundle or a channel's move."""

    def __init__(self, bucket: str, key: str, problem: str) -> None:
        self.bucket = bucket
        self.key = key
        self.problem = problem
        super().__init__(f"s3://{bucket}/{key} {problem}")


class ChannelMovedError(PublishError):
    """Somebody else moved the channel between our look and our move."""

    def __init__(self, bucket: str, key: str, model_version: str) -> None:
        self.model_version = model_version
        super().__init__(bucket, key, f"was moved to {model_version} meanwhile: look at it, then move it again")


class MonthsError(TrainingError):
    """A text that names no months."""

    def __init__(self, text: str, problem: str) -> None:
        self.text = text
        self.problem = problem
        super().__init__(f"{text!r} {problem}: write months as 2021-01, 2021-01,2021-02 or 2023-01..2023-03")


class ConfigError(TrainingError):
    """A run that cannot be meant: an unknown setting, a value that is none, months that don't follow each other."""

    def __init__(self, what: str, problem: str, remedy: str) -> None:
        self.what = what
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{what} {problem}: {remedy}")


class DataFolderError(TrainingError):
    """A data folder that is not there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        super().__init__(f"there is no data folder {folder}: set TLC_DATA_DIR to a folder of TLC months, or unset it")


class DataFileError(TrainingError):
    """A file that cannot be used.

    Attributes:
        path: The file.
        problem: What is wrong with it, as in ``is cut short``.
        remedy: What to do about it.
    """

    def __init__(
        self, path: Path, problem: str, remedy: str = "delete it, and it is downloaded from TLC again"
    ) -> None:
        self.path = path
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{path} {problem}: {remedy}")


class MonthUnavailableError(TrainingError):
    """A month that is on this machine nowhere and cannot be brought here now.

    Attributes:
        file_name: TLC's name of the month's file.
        problem: Why it cannot be had.
        remedy: What to do about it.
    """

    def __init__(self, file_name: str, problem: str, remedy: str) -> None:
        self.file_name = file_name
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{file_name} cannot be had, for {problem}: {remedy}")


class MonthNotFoundError(MonthUnavailableError):
    """TLC has not published the month."""

    def __init__(self, file_name: str, status: int) -> None:
        self.status = status
        problem = f"TLC has not published that month yet (HTTP {status})"
        super().__init__(file_name, problem, "choose another month")


class OfflineError(MonthUnavailableError):
    """TLC cannot be reached from this machine."""

    def __init__(self, file_name: str, host: str, why: str) -> None:
        self.host = host
        self.why = why
        remedy = "set TLC_DATA_DIR to a folder that holds it, or connect to the internet"
        super().__init__(file_name, f"{host} cannot be reached ({why})", remedy)


class DownloadError(MonthUnavailableError):
    """TLC was reached, and yet the file did not arrive."""

    def __init__(self, file_name: str, problem: str) -> None:
        super().__init__(file_name, problem, "try again later, or set TLC_DATA_DIR to a folder that holds it")


class InterruptedDownloadError(DownloadError):
    """The download broke off in a way that may pass: worth another try."""
