"""What simulations do alike, whatever system they simulate: time, the network, facts, the course of a schedule, how it is run and told.

What belongs here: what more than one of them needs. No rule of an oracle, and nothing that is special about one system.
"""
