"""Differences that are meant, as (case, what differs); docs/differences.md says why."""

ALLOWED = set()
