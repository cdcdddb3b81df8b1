"""When a subscription's periods end: always counted from its anchor, so that the 31st comes back after February."""

import calendar
from datetime import UTC, datetime, timedelta


def end_after(anchor: int, interval: str, count: int, instant: int) -> int:
    """The first end of a period after an instant; all are seconds since the epoch."""
    number = 1
    while (end := _end(datetime.fromtimestamp(anchor, UTC), interval, count * number)) <= instant:
        number += 1
    return end


def _end(anchor: datetime, interval: str, count: int) -> int:
    match interval:
        case "day":
            end = anchor + timedelta(days=count)
        case "week":
            end = anchor + timedelta(weeks=count)
        case "month":
            end = _months(anchor, count)
        case _:
            end = _months(anchor, 12 * count)
    return int(end.timestamp())


def _months(anchor: datetime, count: int) -> datetime:
    years, month = divmod(anchor.month - 1 + count, 12)
    year = anchor.year + years
    last = calendar.monthrange(year, month + 1)[1]
    return anchor.replace(year=year, month=month + 1, day=min(anchor.day, last))
