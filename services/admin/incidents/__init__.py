"""What needs a person: raised by services, acknowledged and resolved by staff."""
