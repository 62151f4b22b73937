#!/usr/bin/env python3
"""What a year of insights-archive costs on AWS: `python3 infra/cost.py`.

List prices of us-east-1 in US dollars, without the free tier. Change the two users below to yours.
"""

import re
from dataclasses import dataclass
from pathlib import Path

TEMPLATE = Path(__file__).resolve().parent.parent / "template.yaml"

LAMBDA_GB_SECOND = 0.0000166667
LAMBDA_REQUEST = 0.20 / 1e6
SQS_REQUEST = 0.40 / 1e6
S3_GB_MONTH = 0.023
S3_WRITE = 0.005 / 1e3
S3_READ = 0.0004 / 1e3
METRIC_MONTH = 0.30
ALARM_METRIC_MONTH = 0.10  # an alarm that calculates is billed for each metric it reads
DASHBOARD_MONTH = 3.00
SECRET_MONTH = 0.40
LOGS_GB = 0.50

METRICS = 15  # no dimensions: their number does not grow with apps or weeks
ALARM_METRICS = len(re.findall(r"\bMetricName: ", TEMPLATE.read_text()))
LOOKS = 8  # of one job, on average
PART_MB = 8.388608
# An event source keeps at least five long polls of 20 s open on its queue, day and night.
IDLE_POLLS_YEAR = 2 * 5 * 3 * 60 * 24 * 365
FRAGMENTS_A_SLICE = 20
COPY_MB_PER_SECOND = 40  # of one function with one CPU; the vendor's side is usually the slower one


@dataclass
class User:
    name: str
    apps: int
    fragments_a_week: int
    fragment_mb: float


def year(user: User) -> dict[str, float]:
    exports = user.apps * 52
    fragments = exports * user.fragments_a_week
    gb = fragments * user.fragment_mb / 1e3
    slices = exports * -(-user.fragments_a_week // FRAGMENTS_A_SLICE)
    parts = 1 if user.fragment_mb <= PART_MB else -(-user.fragment_mb // PART_MB) + 2
    writes = fragments * (parts + 1) + exports * (LOOKS + 6)
    reads = exports * (2 * LOOKS + 10) + slices * 4 + fragments
    enqueue = 365 * 1.0 * 0.25
    poll = exports * (LOOKS + 1) * 0.5 * 0.25
    copy = (gb * 1e3 / COPY_MB_PER_SECOND + slices) * 1.769
    return {
        "storage, first year": gb / 2 * 12 * S3_GB_MONTH,
        "storage, each later year adds": gb * 12 * S3_GB_MONTH,
        "S3 requests": writes * S3_WRITE + reads * S3_READ,
        "Lambda": (enqueue + poll + copy) * LAMBDA_GB_SECOND
        + (365 + exports * (LOOKS + 1) + slices) * LAMBDA_REQUEST,
        "SQS": (IDLE_POLLS_YEAR + exports * (LOOKS + 3) * 3) * SQS_REQUEST,
        "metrics": METRICS * METRIC_MONTH * 12,
        "alarms": ALARM_METRICS * ALARM_METRIC_MONTH * 12,
        "dashboard": DASHBOARD_MONTH * 12,
        "secret": SECRET_MONTH * 12,
        "logs": (exports * (LOOKS + 30) + fragments * 2) * 500 / 1e9 * LOGS_GB,
    }


def main() -> None:
    users = [
        User("small: 1 app, 3 files of 24 MB a week", 1, 3, 24),
        User("large: 10 apps, 100 files of 24 MB a week each", 10, 100, 24),
    ]
    for user in users:
        costs = year(user)
        later = costs.pop("storage, each later year adds")
        print(f"\n{user.name}")
        for what, dollars in costs.items():
            print(f"  {what:<22} {dollars:>9.2f}")
        print(f"  {'first year':<22} {sum(costs.values()):>9.2f} $; storage adds {later:.2f} $ a year")


if __name__ == "__main__":
    main()
