"""What every simulation does alike, whatever system it simulates: its course, the shell's duties, running it, telling how it ended.

What belongs here: nothing that knows a protocol, and nothing of an oracle. What is special about a system stands in that system's own modules.
"""
