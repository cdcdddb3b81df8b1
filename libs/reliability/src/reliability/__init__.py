"""Reliability for services that charge, ship and mail: nothing twice, nothing lost.

Import the module you need: `from reliability import jobs, idempotency, dedup, deadline, errors`.
"""
