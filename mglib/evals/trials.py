"""What is chosen on val: of all that was tried, the best of each model."""

from typing import Any

import pandas


def best(tried: pandas.DataFrame, measure: str) -> dict[str, dict[str, Any]]:
    """Return for each model the line with the highest `measure`; the first of equals."""
    found: dict[str, dict[str, Any]] = {}
    for line in tried.to_dict("records"):
        if line["model"] not in found or line[measure] > found[line["model"]][measure]:
            found[line["model"]] = line
    return found
