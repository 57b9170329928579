"""Real sessions with real codecs on simulated time, seeded schedules of trouble, and oracles that know the truth.

Three simulations: of a server with a ring (the modules here), of servers with a log (`feeds`) and of a host with its branch (`tps`). Each reads from its
`world` to its plans of trouble, its servers and its oracle; what all of them do alike stands in `harness`.
"""
