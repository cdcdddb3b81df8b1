"""The rate table: one rate per country or region."""

from collections.abc import Sequence
from typing import Final

from reliability.postgres import Database
from services.orders.errors import UnknownRegion
from services.orders.tax.domain import Destination, Taxable, TaxRate

__all__ = ["RateTable"]

_FIND: Final = "SELECT region, rate, shipping_taxed FROM tax_rates WHERE country = $1 AND region IN ('', $2)"
_REGIONS: Final = "SELECT EXISTS (SELECT FROM tax_rates WHERE country = $1)"


class RateTable:
    """A `TaxProvider`: destinations that are not in the table are exports, and not taxed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def taxes(self, destination: Destination, items: Sequence[Taxable], currency: str) -> list[int]:
        """The tax on each item. Raises `UnknownRegion` where a country is taxed by region and none of it is named."""
        del currency  # a rate is the same in all of them
        rate = await self._rate(destination)
        return [rate.on(item) if rate else 0 for item in items]

    async def _rate(self, destination: Destination) -> TaxRate | None:
        async with self._database.connection() as connection:
            rows = await connection.fetch(_FIND, destination.country, destination.region)
            if not rows and await connection.fetchval(_REGIONS, destination.country):
                message = f"Tax in {destination.country} depends on the region; name it by its two-letter code."
                raise UnknownRegion(
                    message, errors=[{"pointer": "/shipping_address/region", "message": "is not known"}]
                )
        rates = {row["region"]: TaxRate(row["rate"], row["shipping_taxed"]) for row in rows}
        return rates.get(destination.region) or rates.get("")
