"""Pure machines: no I/O, no asyncio, no clock of their own. Imports nothing else of the project."""
