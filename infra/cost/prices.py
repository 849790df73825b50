"""Public prices of AWS in us-east-1, in dollars, without free tiers and discounts: this file alone holds them.

To bring them up to date: open the pages, change the figures, and move `AS_OF`.
"""

from dataclasses import dataclass

AS_OF = "2025-06"
REGION = "us-east-1"

LAMBDA_PAGE = "AWS Lambda pricing, On-Demand, Arm price, first tier"
KINESIS_PAGE = "Amazon Kinesis Data Streams pricing, Provisioned Mode"
S3_PAGE = "Amazon S3 pricing, S3 Standard, first tier"
CLOUDWATCH_PAGE = "Amazon CloudWatch pricing, Paid Tier, first tier"


@dataclass(frozen=True, slots=True)
class Price:
    """So many dollars for so many units.

    Attributes:
        page: The public page that tells it, in words.
    """

    dollars: float
    units: float
    unit: str
    page: str

    def of(self, n_units: float) -> float:
        """Returns the dollars for so many units.

        >>> round(LAMBDA_REQUEST.of(5e6), 2)
        1.0
        """
        return self.dollars * n_units / self.units


LAMBDA_GB_S = Price(0.0000133334, 1, "GB-second", LAMBDA_PAGE)
LAMBDA_REQUEST = Price(0.20, 1e6, "request", LAMBDA_PAGE)

KINESIS_SHARD_HOUR = Price(0.015, 1, "shard-hour", KINESIS_PAGE)
KINESIS_PUT_UNIT = Price(0.014, 1e6, "PUT payload unit of 25 KB", KINESIS_PAGE)
KINESIS_RETENTION_SHARD_HOUR = Price(0.020, 1, "shard-hour kept beyond 24 hours, up to 7 days", KINESIS_PAGE)

S3_PUT = Price(0.005, 1e3, "PUT", S3_PAGE)
S3_GET = Price(0.0004, 1e3, "GET", S3_PAGE)
S3_GB_MONTH = Price(0.023, 1, "GB-month", S3_PAGE)

LOGS_GB = Price(0.50, 1, "GB of logs taken in", CLOUDWATCH_PAGE)
CUSTOM_METRIC_MONTH = Price(0.30, 1, "custom metric a month", CLOUDWATCH_PAGE)

ALL = (
    LAMBDA_GB_S,
    LAMBDA_REQUEST,
    KINESIS_SHARD_HOUR,
    KINESIS_PUT_UNIT,
    KINESIS_RETENTION_SHARD_HOUR,
    S3_PUT,
    S3_GET,
    S3_GB_MONTH,
    LOGS_GB,
    CUSTOM_METRIC_MONTH,
)
