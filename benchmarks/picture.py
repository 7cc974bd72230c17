"""The measured ratios as a picture: a bar for each row, on a logarithmic scale, and a mark for each other package."""

from __future__ import annotations

import math
from html import escape
from typing import Any

ROW, TOP, LEFT, RIGHT, WIDTH = 20, 64, 400, 60, 1000  # pixels
COLOURS = {
    "billiard": "#b5838d",
    "multiprocess": "#6d6875",
    "faster-fifo": "#e76f51",
    "concurrent.futures": "#8a5a44",
    "loky": "#2a9d8f",
    "mpire": "#e9a03b",
    "pebble": "#577590",
}


def picture(measured: dict[str, Any]) -> str:
    """An SVG. measured: what `run.py` writes as JSON."""
    rows = [row for row in measured["rows"].values() if row["packages"].get(measured["baseline"])]
    most = max([10.0, *(row["ratio"] for row in rows)])
    decades = min(3, math.ceil(math.log10(most)))  # what is longer is cut off, and the number tells
    height = TOP + ROW * len(rows) + 40

    def x(ratio: float) -> float:
        """Where a ratio is: a tenth is at the left end."""
        return LEFT + (WIDTH - LEFT - RIGHT) * (math.log10(min(max(ratio, 0.1), 10.0**decades)) + 1) / (decades + 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" '
        f'font-size="12" role="img" aria-label="How many times faster than multiprocessing">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="12" y="22" font-size="15" font-weight="bold">How many times faster {escape(measured["package"])} '
        f"is than {escape(measured['baseline'])}</text>",
        f'<text x="12" y="40" fill="#555555">{escape(measured["machine"])}</text>',
    ]
    for power in range(-1, decades + 1):
        at, label = x(10.0**power), f"{10.0**power:g}×"
        parts.append(f'<line x1="{at:.1f}" y1="{TOP - 6}" x2="{at:.1f}" y2="{height - 34}" stroke="#dddddd"/>')
        parts.append(f'<text x="{at:.1f}" y="{TOP - 10}" text-anchor="middle" fill="#555555">{label}</text>')
    for number, row in enumerate(rows):
        y = TOP + ROW * number
        ratios = _ratios(row, measured)
        ratio = ratios.pop(measured["baseline"])
        start, end = sorted((x(1.0), x(ratio)))
        colour = "#3a6ea5" if ratio >= 1 else "#c0392b"
        parts.append(f'<text x="{LEFT - 8}" y="{y + 14}" text-anchor="end">{escape(row["title"])}</text>')
        parts.append(
            f'<rect x="{start:.1f}" y="{y + 4}" width="{max(end - start, 1):.1f}" height="{ROW - 8}" fill="{colour}"/>'
        )
        parts.append(f'<text x="{max(end, x(1.0)) + 6:.1f}" y="{y + 14}" fill="#333333">{ratio:.3g}×</text>')
        for other, against in ratios.items():
            fill = COLOURS.get(other, "#000000")
            # how fast the other one is, on the same scale: times faster than multiprocessing
            parts.append(
                f'<circle cx="{x(ratio / against):.1f}" cy="{y + ROW / 2}" r="4" fill="{fill}" '
                f'stroke="#ffffff"><title>{escape(other)}</title></circle>'
            )
    at = 12
    for other in measured["peers"]:
        parts.append(f'<circle cx="{at + 4}" cy="{height - 16}" r="4" fill="{COLOURS.get(other, "#000000")}"/>')
        parts.append(f'<text x="{at + 14}" y="{height - 12}">{escape(other)}</text>')
        at += 26 + 8 * len(other)
    return "\n".join([*parts, "</svg>", ""])


def _ratios(row: dict[str, Any], measured: dict[str, Any]) -> dict[str, float]:
    """How many times faster ours is than each package."""
    return {
        package: sorted(about["ratios"])[len(about["ratios"]) // 2]
        for package, about in row["packages"].items()
        if package != measured["package"] and about["ratios"]
    }
