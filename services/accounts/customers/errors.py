"""What can go wrong with a customer's account."""

from reliability.errors import NotFound

__all__ = ["NoSuchCustomer"]


class NoSuchCustomer(NotFound):
    """No customer has this id, or no more."""

    code, title = "customer_not_found", "There is no such customer"
