"""The parts of a sidecar: each kind of thing that watches, with everything that serves it. The app puts them together.

What belongs here: the wiring of one part (machine, driver, sockets or files) and its life: begin, configure, end, gone. A module is loaded only where
such a part is configured: what nobody configured stays out of memory.
"""
