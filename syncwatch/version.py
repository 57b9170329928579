"""The one place where the version stands. `REVISION` is what an image was built from: a file that the build writes beside this one."""

from pathlib import Path

__version__ = "0.1.0"

_FILE = Path(__file__).with_name("REVISION")

REVISION = _FILE.read_text(encoding="ascii").strip() if _FILE.is_file() else ""
