"""A branch's identity on disk, so that it is the same branch after a restart and still knows its host (wire: tps §2)."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path

SEED_SIZE = 32


class IdentityDirectory:
    """`branch.seed` and `host.json` as the real branch has them, the secret one 0600. Blocks."""

    def __init__(self, path: Path) -> None:
        """Make what is not there yet. Raises: OSError; ValueError with a sentence for files that are something else."""
        path.mkdir(0o700, parents=True, exist_ok=True)
        self._host = path / "host.json"
        seed = path / "branch.seed"
        try:
            with open(os.open(seed, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
                file.write(os.urandom(SEED_SIZE))
        except FileExistsError:
            pass
        self.seed = seed.read_bytes()
        """What the branch's keys are made of."""
        if len(self.seed) != SEED_SIZE:
            raise ValueError(f"{seed} is no seed of {SEED_SIZE} bytes")
        self.pinned = self._read()
        """The key of the host that has joined, if one has."""

    def pin(self, key: bytes, host_id: str, joined_at: str) -> None:
        """Write down who has joined."""
        told = {"hostId": host_id, "publicKey": _text(key), "fingerprint": hashlib.sha256(key).hexdigest(), "joinedAt": joined_at}
        fresh = self._host.with_suffix(".tmp")
        fresh.write_text(json.dumps(told, indent=2), encoding="utf-8")
        fresh.replace(self._host)

    def _read(self) -> bytes | None:
        try:
            told = json.loads(self._host.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError:
            told = None
        text = told.get("publicKey") if isinstance(told, dict) else None
        if not isinstance(text, str):
            raise ValueError(f"{self._host} names no publicKey")
        return base64.urlsafe_b64decode(text + "==")


def _text(key: bytes) -> str:
    return base64.urlsafe_b64encode(key).rstrip(b"=").decode()
