"""The example of a cluster."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from deadlines import PATIENCE

EXAMPLE = Path(__file__).parents[2] / "examples" / "cluster_census.py"


def test_the_word_count_is_right_although_a_node_is_killed():
    done = subprocess.run(
        [sys.executable, str(EXAMPLE), "--limit", "200"],
        capture_output=True,
        text=True,
        timeout=6 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "was killed" in done.stdout and "with 1 node left at the end" in done.stdout
