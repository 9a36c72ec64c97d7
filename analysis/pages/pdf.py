"""A report page as PDF, printed by the Chromium that is on this machine."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from aot.configs.kernel.errors import NotInstalledError, ToolkitError
from aot.configs.kernel.files import replacing

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
TIMEOUT_S = 120


def browser() -> str | None:
    """The Chromium on the path; None where there is none."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


def print_page(page: Path, pdf: Path) -> None:
    """Print the HTML file `page` as `pdf`, in one step.

    Raises NotInstalledError without a Chromium, ToolkitError when it fails.
    """
    command = browser()
    if command is None:
        raise NotInstalledError(
            f"a PDF of the page is printed by Chromium, and none of {', '.join(BROWSERS)} is on "
            "the path; on Debian and Ubuntu: apt install chromium"
        )
    with replacing(pdf) as partial, tempfile.TemporaryDirectory() as profile:
        done = subprocess.run(
            [command, "--headless", "--disable-gpu", "--no-sandbox", "--no-pdf-header-footer",
             f"--user-data-dir={profile}", f"--print-to-pdf={partial}", page.resolve().as_uri()],
            capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
        )  # fmt: skip
        if done.returncode or not partial.exists() or not partial.stat().st_size:
            words = (done.stderr.strip().splitlines() or ["no words"])[-1]
            raise ToolkitError(f"{command} did not print {page}: {words}")
