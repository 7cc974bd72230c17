"""Computes something for each group of a pandas DataFrame, many groups at
once.

    python examples/dataframe_groups.py        (needs pandas)

The numeric columns of a group go to the worker through shared memory: they
are copied once.
"""

import numpy as np
import pandas as pd

import procession as mp


def worst_day(group: tuple[str, pd.DataFrame]) -> dict[str, object]:
    """Runs in a worker. Returns on which day a share has lost most,
    compared with its mean of the last ten days.
    """
    name, rows = group
    mean = rows["price"].rolling(10, min_periods=1).mean()
    loss = (rows["price"] - mean) / mean
    worst = loss.idxmin()
    return {
        "share": name,
        "day": f"{rows['day'][worst]:%Y-%m-%d}",
        "loss": round(float(loss[worst]), 3),
    }


def prices() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    days = pd.date_range("2025-01-01", periods=250)
    shares = []
    for name in ["ACME", "Globex", "Initech", "Umbrella"]:
        walk = 100 * np.exp(np.cumsum(rng.normal(0, 0.02, len(days))))
        shares.append(
            pd.DataFrame({"share": name, "day": days, "price": walk})
        )
    return pd.concat(shares, ignore_index=True)


def main() -> None:
    table = prices()
    with mp.Pool() as pool:
        found = pd.DataFrame(pool.imap(worst_day, table.groupby("share")))
    print(found.to_string(index=False))
    alone = pd.DataFrame(map(worst_day, table.groupby("share")))
    print("the same as without processes:", found.equals(alone))


if __name__ == "__main__":
    main()
