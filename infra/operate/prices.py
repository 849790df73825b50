"""Public prices of AWS in us-east-1, in dollars, without free tiers and discounts.

Each names the page on which AWS publishes it, its month, and a second source. To update one, open its page, and change
figure and month.
"""

from dataclasses import dataclass

REGION = "us-east-1"

LAMBDA_PAGE = "https://aws.amazon.com/lambda/pricing/"
KINESIS_PAGE = "https://aws.amazon.com/kinesis/data-streams/pricing/"
S3_PAGE = "https://aws.amazon.com/s3/pricing/"
EVENTBRIDGE_PAGE = "https://aws.amazon.com/eventbridge/pricing/"
CLOUDWATCH_PAGE = "https://aws.amazon.com/cloudwatch/pricing/"
KMS_PAGE = "https://aws.amazon.com/kms/pricing/"
FIREHOSE_PAGE = "https://aws.amazon.com/firehose/pricing/"
DYNAMODB_PAGE = "https://aws.amazon.com/dynamodb/pricing/on-demand/"
API_GATEWAY_PAGE = "https://aws.amazon.com/api-gateway/pricing/"
TRANSFER_PAGE = "https://aws.amazon.com/ec2/pricing/on-demand/"

_PRICE_LIST = "AWS's price list of 2026-09, as others have published it"
_CALCULATOR = "AWS's price list of us-east-2, in notes on its calculator; an article of 2026-02"
_ARTICLES = "articles of 2026-03 and 2026-06; infracost's test data"


@dataclass(frozen=True, slots=True)
class Price:
    """Dollars for a number of units."""

    dollars: float
    units: float
    unit: str
    page: str  # where AWS publishes it
    as_of: str = "2026-09"  # the month of the figure
    confirmed: str = _PRICE_LIST  # a second source of the figure; or what was not found

    def of(self, n_units: float) -> float:
        """Return the dollars for a number of units.

        >>> round(LAMBDA_REQUEST.of(5e6), 2)
        1.0
        """
        return self.dollars * n_units / self.units


# The first tier of each, Lambda's on arm64.
LAMBDA_GB_S = Price(0.0000133334, 1, "GB-second", LAMBDA_PAGE)
LAMBDA_REQUEST = Price(0.20, 1e6, "request", LAMBDA_PAGE)
SNAPSTART_GB_S = Price(0.0000015046, 1, "GB-second that a snapshot is kept", LAMBDA_PAGE)

DURABLE_OPERATION = Price(
    8.00, 1e6, "operation of a durable function", LAMBDA_PAGE, confirmed="AWS's page of 2026-09, as others have read it"
)

KINESIS_SHARD_HOUR = Price(0.015, 1, "shard-hour", KINESIS_PAGE)
KINESIS_PUT_UNIT = Price(0.014, 1e6, "PUT payload unit of 25 KB", KINESIS_PAGE)
KINESIS_RETENTION_SHARD_HOUR = Price(0.020, 1, "shard-hour kept beyond 24 hours, up to 7 days", KINESIS_PAGE)
KINESIS_STREAM_HOUR = Price(0.04, 1, "hour of a stream on demand", KINESIS_PAGE)
KINESIS_GB_IN = Price(0.08, 1, "GB written on demand, each record rounded up to 1 KB", KINESIS_PAGE)
KINESIS_GB_OUT = Price(0.04, 1, "GB read on demand", KINESIS_PAGE)
KINESIS_RETENTION_GB_MONTH = Price(0.10, 1, "GB-month on demand, kept beyond 24 hours, up to 7 days", KINESIS_PAGE)

S3_PUT = Price(0.005, 1e3, "PUT", S3_PAGE)
S3_GET = Price(0.0004, 1e3, "GET", S3_PAGE)
S3_GB_MONTH = Price(0.023, 1, "GB-month", S3_PAGE)
# Some articles call S3's events free. AWS's page lists them among the opt-in events, which the template uses.
S3_EVENT = Price(
    1.00, 1e6, "S3 event", EVENTBRIDGE_PAGE, "2025-06", "for opt-in events; not that S3's are among them: from memory"
)

# For comparison: the stack uses neither.
FIREHOSE_GB = Price(
    0.029,
    1,
    "GB through Firehose, a record in steps of 5 KB",
    FIREHOSE_PAGE,
    "2025-06",
    "for the steps; not the figure",
)
TABLE_WRITE = Price(0.625, 1e6, "write of 1 KB to a table on demand", DYNAMODB_PAGE, "2025-07", "an article of 2025-07")
TABLE_GB_MONTH = Price(0.25, 1, "GB-month of a table", DYNAMODB_PAGE, "2025-07", "an older state of AWS's page")

LOGS_GB = Price(0.50, 1, "GB of logs taken in", CLOUDWATCH_PAGE)
CUSTOM_METRIC_MONTH = Price(0.30, 1, "custom metric a month", CLOUDWATCH_PAGE, "2026-02", _CALCULATOR)
ALARM_METRIC_MONTH = Price(0.10, 1, "metric of an alarm a month", CLOUDWATCH_PAGE)
COMPOSITE_ALARM_MONTH = Price(0.50, 1, "composite alarm a month", CLOUDWATCH_PAGE, "2026-02", _CALCULATOR)
DASHBOARD_MONTH = Price(3.00, 1, "dashboard a month", CLOUDWATCH_PAGE, "2026-06", _ARTICLES)

KEY_MONTH = Price(1.00, 1, "customer-managed key a month", KMS_PAGE, "2026-06", _ARTICLES)

HTTP_API_REQUEST = Price(1.00, 1e6, "request to an HTTP API", API_GATEWAY_PAGE)
GB_TO_INTERNET = Price(0.09, 1, "GB sent out of AWS", TRANSFER_PAGE)

ALL = tuple(price for price in tuple(globals().values()) if isinstance(price, Price))

OLDEST, NEWEST = min(price.as_of for price in ALL), max(price.as_of for price in ALL)
