"""The asyncio shell: it does what machines ask and tells them what happened. It decides nothing."""
