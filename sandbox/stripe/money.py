"""Amounts in minor units, and the currencies that are known."""

from sandbox.stripe.forms import Params

_LARGEST = 99_999_999
_SMALLEST = {
    "usd": 50, "aed": 200, "aud": 50, "bgn": 100, "brl": 50, "cad": 50, "chf": 50, "czk": 1500, "dkk": 250, "eur": 50,
    "gbp": 30, "hkd": 400, "hrk": 50, "huf": 17500, "inr": 50, "jpy": 50, "mxn": 1000, "myr": 200, "nok": 300,
    "nzd": 50, "pln": 200, "ron": 200, "sek": 300, "sgd": 50, "thb": 1000,
}  # fmt: skip


def read_currency(params: Params, key: str = "currency") -> str:
    """A known currency, written in lower case as Stripe's documentation asks."""
    params.require(key)
    currency = params.text(key) or ""
    if currency not in _SMALLEST:
        params.refuse(
            key,
            f"Invalid currency: {currency[:20]}. Give one of these in lower case: {', '.join(sorted(_SMALLEST))}.",
            "parameter_invalid_enum",
        )
    return currency


def read_amount(params: Params, key: str = "amount") -> int:
    """A charge's amount: whole minor units, not below what Stripe charges in that currency."""
    params.require(key)
    amount = params.integer(key) or 0
    if amount < 1:
        params.refuse(key, "This value must be greater than or equal to 1.", "parameter_invalid_integer")
    check_limits(params, key, amount, params.text("currency") or "")
    return amount


def check_limits(params: Params, key: str, amount: int, currency: str) -> None:
    """Refuse amounts that cannot be charged."""
    if amount > _LARGEST:
        params.refuse(key, f"Amount must be no more than {_LARGEST} in the smallest currency unit.", "amount_too_large")
    smallest = _SMALLEST.get(currency, 1)
    if amount < smallest:
        params.refuse(
            key, f"Amount must be at least {smallest} in the smallest unit of {currency}.", "amount_too_small"
        )


def shown(amount: int, currency: str) -> str:
    """An amount as a person reads it: 1299 and usd is 12.99 USD. The yen has no smaller unit."""
    digits = 0 if currency == "jpy" else 2
    return f"{amount / 10**digits:,.{digits}f} {currency.upper()}"
