#!/usr/bin/env python3
"""`probe URL`: exit status 0 where the URL answers with success within three seconds, else 1 and a line that says why.

The images' health check: the Python base image has neither curl nor wget.
"""

from __future__ import annotations

import sys
import urllib.request
from http.client import HTTPException

TIMEOUT_S = 3.0


def probe(url: str) -> str | None:
    """What is wrong with `url`; None where nothing is."""
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S):  # noqa: S310 - a health check names its own URL
            return None
    except (OSError, HTTPException) as error:  # URLError, and so HTTPError, are OSErrors
        return f"{url}: {error}"


if __name__ == "__main__":
    sys.exit(probe(sys.argv[1]))
