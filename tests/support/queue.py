"""A queue to draw times from."""

from __future__ import annotations

import numpy as np


def queue(arrivals_s: np.ndarray, service_s: np.ndarray) -> np.ndarray:
    """Times from arrival to the end of service of one server, first come first served (Lindley)."""
    done = np.cumsum(service_s)
    times: np.ndarray = (
        done + np.maximum.accumulate(arrivals_s - np.append(0.0, done[:-1])) - arrivals_s
    )
    return times
