"""A TPS branch, as a host meets it: encrypted, never the first to speak, with an outbox (wire: tps)."""
