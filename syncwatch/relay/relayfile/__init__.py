"""Relayfile as the embedded relay speaks it: files with revisions, one event log per workspace, a live stream, a feed to poll.

Pure: `scopes`, `filters`, `log`, `tree`, `feed`, `tokens`, `routes`. With sockets: `stream`, `door`, `api`. `service` puts
them together.
"""
