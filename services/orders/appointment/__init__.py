"""Appointments: who can be booked when, booking, moving, cancelling, reminding."""
