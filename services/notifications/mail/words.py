"""Money, dates, times and durations in the words of a mail's locale and on the clock of its reader."""

import functools
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final, Literal

from babel.dates import format_date, format_time, format_timedelta, get_timezone
from babel.numbers import format_currency, get_currency_precision

from services.notifications.mail.schemas import Money

__all__ = ["FILTERS"]

Settings = Mapping[str, Any]

_DAY: Final = 24 * 60
_NEVER: Final = 10**6  # babel rounds up to the next unit above its threshold; we choose the unit


def _locale(settings: Settings) -> str:
    return str(settings.get("locale", "en_US"))


def _there(value: datetime, settings: Settings) -> datetime:
    return value.astimezone(get_timezone(str(settings.get("timezone", "UTC"))))


def _plain(text: str) -> str:
    # CLDR writes a narrow no-break space before "PM", which old mail clients show as a box.
    return text.replace("\u202f", " ")


def _money(value: Money, settings: Settings) -> str:
    """`$12.99`: the currency decides how many digits are minor units."""
    return _written(value.amount, value.currency, _locale(settings))


# A mail says most of its amounts twice, and a shop has few prices.
@functools.lru_cache(maxsize=4096)
def _written(minor_units: int, currency: str, locale: str) -> str:
    amount = Decimal(minor_units).scaleb(-get_currency_precision(currency))
    return format_currency(amount, currency, locale=locale)


def _day(value: datetime, settings: Settings) -> str:
    """`Tuesday, November 24, 2026`."""
    return _plain(format_date(_there(value, settings), "full", locale=_locale(settings)))


def _weekday(value: datetime, settings: Settings) -> str:
    """`Tuesday`."""
    return format_date(_there(value, settings), "EEEE", locale=_locale(settings))


def _clock(value: datetime, settings: Settings) -> str:
    """`2:30 PM`."""
    return _plain(format_time(_there(value, settings), "short", locale=_locale(settings)))


def _zone(value: datetime, settings: Settings) -> str:
    """`EST`, or `Europe/Paris` where there is no short name."""
    name = _there(value, settings).tzname() or "UTC"
    return name if name.isalpha() else str(settings.get("timezone", "UTC"))


def _moment(value: datetime, settings: Settings) -> str:
    """`November 24, 2026, 2:30 PM EST`."""
    date = format_date(_there(value, settings), "long", locale=_locale(settings))
    return f"{_plain(date)}, {_clock(value, settings)} {_zone(value, settings)}"


def _span(minutes: int, settings: Settings) -> str:
    """`30 minutes`, `24 hours`, `2 days`: the largest unit that comes out whole."""
    unit: Literal["day", "hour", "minute"] = "minute"
    if minutes % 60 == 0:
        unit = "hour" if minutes % _DAY or minutes == _DAY else "day"
    length = timedelta(minutes=minutes)
    return format_timedelta(length, granularity=unit, threshold=_NEVER, locale=_locale(settings))


FILTERS: Final[Mapping[str, Callable[[Any, Settings], str]]] = {
    "money": _money,
    "day": _day,
    "weekday": _weekday,
    "clock": _clock,
    "zone": _zone,
    "moment": _moment,
    "span": _span,
}
