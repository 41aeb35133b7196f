"""Reads what /metrics shows, with Prometheus' own parser, and writes it as JSON."""

import json
import sys

from prometheus_client.parser import text_string_to_metric_families

families = [
    {
        "name": family.name,
        "type": family.type,
        "help": family.documentation,
        "samples": [
            {"name": sample.name, "labels": sample.labels, "value": sample.value}
            for sample in family.samples
        ],
    }
    for family in text_string_to_metric_families(sys.stdin.read())
]
# Python writes infinity in a way that is no JSON.
json.dump(families, sys.stdout, allow_nan=False)
