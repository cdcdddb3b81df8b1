"""The address book of a customer."""
