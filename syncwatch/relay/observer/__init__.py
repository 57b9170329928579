"""Relaycast's observers: a read-only socket with a durable number on each frame, and a log to catch up from (wire: relaycast §12, dialect C)."""
