"""Identifiers in Stripe's forms."""

import secrets
import string

_ALPHABET = string.ascii_letters + string.digits
_LENGTHS = {"cus": 14, "cs_test": 58, "req": 14}


def token(length: int) -> str:
    """Random letters and digits."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def new(prefix: str) -> str:
    """A new id such as pi_3Nf..., cus_... or cs_test_a1..."""
    return f"{prefix}_{token(_LENGTHS.get(prefix, 24))}"


def client_secret(owner: str) -> str:
    """The secret a browser confirms with: the owner's id, then what nobody can guess."""
    return f"{owner}_secret_{token(25)}"
