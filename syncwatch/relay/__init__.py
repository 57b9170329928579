"""The embedded relay: a faithful server with a ledger of facts and fault injection."""

from syncwatch.relay.inprocess import NewWorkspace
from syncwatch.relay.script import Script, ScriptError, load
from syncwatch.relay.server import Relay, serve

__all__ = ["NewWorkspace", "Relay", "Script", "ScriptError", "load", "serve"]
