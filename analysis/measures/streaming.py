"""What the chunks of streamed answers are worth: are they tokens, and when did they come?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

INSTANT_S = 1e-4
"""Between two chunks: 10,000 tokens/s of one answer are not generated,"""
HELD_S = 0.01
"""where its first took longer than this."""
MERGED = 1.05
"""Of one thing in another, on average: from here on a chunk is no token, and a read no chunk."""
BURSTS = 2.0
"""Chunks that came in one read, on average: from here on the times of reads are those of a buffer
on the way that is passed on when it is full (nginx: 4 or 8 kB)."""
BUFFERED = 0.5
"""Of the answers: with more of them in one piece, the times of chunks are those of a buffer."""


def visible_tokens(frame: pd.DataFrame) -> pd.Series:
    """Tokens that arrived as text: those generated, less what the server counted and did not send
    (reasoning). Unknown where it does not count."""
    return frame["output_tokens"] - frame["hidden_tokens"].fillna(0)


def in_one_piece(frame: pd.DataFrame) -> pd.Series:
    """Which answers of several tokens came at once, so that there was a last token, and nothing
    says when the first: in one chunk, or in chunks that follow each other faster than any engine
    generates, which were held back and let go together."""
    spread_s = frame["last_token_s"] - frame["first_token_s"]
    held = (frame["gaps"] >= 2) & (frame["ttft_s"] > HELD_S)
    at_once = held & (spread_s < INSTANT_S * frame["gaps"])
    one_read = (frame["reads"] == 1) & (frame["gaps"] >= 1)
    return (visible_tokens(frame) > 1) & ((frame["gaps"] == 0) | at_once | one_read)


def is_held_back(frame: pd.DataFrame) -> pd.Series:
    """Which answers came in one piece, or in bursts: their times are those of a buffer."""
    in_bursts = (frame["gaps"] + 1) / frame["reads"].clip(lower=1) >= BURSTS
    return in_one_piece(frame) | (in_bursts & (frame["gaps"] > 0))


def chunks_per_read(frame: pd.DataFrame) -> float | None:
    """Of the answers with several chunks; None without any."""
    several = frame[frame["ok"] & (frame["gaps"] > 0)]
    return float((several["gaps"] + 1).sum() / several["reads"].sum()) if len(several) else None


def is_buffered(frame: pd.DataFrame) -> bool:
    """Whether most answers of several tokens came in one piece, or in bursts."""
    several = frame[frame["ok"] & (visible_tokens(frame) > 1)]
    if not len(several):
        return False
    in_bursts = (chunks_per_read(several) or 1.0) >= BURSTS
    return in_bursts or bool(in_one_piece(several).mean() > BUFFERED)


def of_arm(frame: pd.DataFrame) -> dict[str, Any]:
    """tokens_per_chunk: visible tokens / chunks with text; merged: whether that is more than one,
    so that a chunk is no token. chunks_per_read: of answers with several chunks. in_one_read: share
    of the answers of several tokens that came in one read. hidden_tokens: of all answers.
    finish_reasons: how many ended so. resent: requests that went a second time, on a new
    connection. None: not known."""
    good = frame[frame["ok"]]
    tokens = visible_tokens(good)
    several = good[tokens > 1]
    chunks = (good["gaps"] + 1).where(tokens.notna())
    known = bool(tokens.notna().any())
    hidden = good["hidden_tokens"]
    per_chunk = float(tokens.sum() / chunks.sum()) if known else None
    return {
        "tokens_per_chunk": per_chunk,
        "merged": per_chunk is not None and per_chunk > MERGED,
        "chunks_per_read": chunks_per_read(good),
        "in_one_read": float(in_one_piece(several).mean()) if len(several) else None,
        "hidden_tokens": int(hidden.sum()) if hidden.notna().any() else None,
        "finish_reasons": good["finish_reason"].dropna().value_counts().to_dict(),
        "resent": int(frame["resent"].eq(other=True).sum()),
    }


def per_token(frame: pd.DataFrame, gaps_s: np.ndarray) -> np.ndarray:
    """Every gap between two chunks, as seconds for each token that came with it: where an answer
    has more tokens than chunks, a gap is that of several. NaN where tokens are not counted.
    `gaps_s`: of every request of `frame`, in its order."""
    gaps = frame["gaps"].to_numpy()
    later = (visible_tokens(frame) - 1).to_numpy(dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(later > 0, gaps / later, np.nan)
    scaled: np.ndarray = gaps_s * np.repeat(share, gaps)
    return scaled
