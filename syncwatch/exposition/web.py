"""What is used of `aiohttp.web`, from where it is defined.

Law: names only. `aiohttp.web` is also a program, and what that imports (argparse, gettext, locale) would stay in a sidecar's memory: nearly a mebibyte.
"""

from __future__ import annotations

try:
    from aiohttp.web_app import Application as Application
    from aiohttp.web_middlewares import middleware as middleware
    from aiohttp.web_request import Request as Request
    from aiohttp.web_response import Response as Response
    from aiohttp.web_response import StreamResponse as StreamResponse
    from aiohttp.web_runner import AppRunner as AppRunner
    from aiohttp.web_runner import TCPSite as TCPSite
except ImportError:  # they moved: aiohttp promises `aiohttp.web` alone
    from aiohttp.web import Application as Application
    from aiohttp.web import AppRunner as AppRunner
    from aiohttp.web import Request as Request
    from aiohttp.web import Response as Response
    from aiohttp.web import StreamResponse as StreamResponse
    from aiohttp.web import TCPSite as TCPSite
    from aiohttp.web import middleware as middleware
