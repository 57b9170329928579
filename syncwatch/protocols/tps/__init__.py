"""TPS: encrypted connections between a host and its branches. Nothing is imported here: who does not use it does not load its cryptography."""
