"""Mails about an account. Notifications writes and sends them; what we hand over is kept as a job until it has it."""
