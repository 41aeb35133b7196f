"""Reads an OpenAPI document from standard input and says what is wrong with it: by the rules of
OpenAPI 3.1, and where an example doesn't fit its own schema."""

import json
import sys

from jsonschema import Draft202012Validator, FormatChecker
from openapi_spec_validator import OpenAPIV31SpecValidator

document = json.load(sys.stdin)
wrong = [
    f"{'/'.join(map(str, error.absolute_path))}: {error.message}"
    for error in OpenAPIV31SpecValidator(document).iter_errors()
]
examples = 0


def check(schema, value, place):
    global examples
    examples += 1
    whole = {"allOf": [schema], "components": document["components"]}
    validator = Draft202012Validator(whole, format_checker=FormatChecker())
    wrong.extend(f"{place}: {error.message}" for error in validator.iter_errors(value))


def walk(node, place):
    if isinstance(node, list):
        for index, item in enumerate(node):
            walk(item, f"{place}/{index}")
    elif isinstance(node, dict):
        # In a parameter or a media type the schema stands beside the example, else around it.
        schema = node.get("schema", node)
        if "example" in node and isinstance(schema, dict):
            check(schema, node["example"], place)
        if isinstance(node.get("examples"), list):
            for example in node["examples"]:
                check(schema, example, place)
        for name, item in node.items():
            walk(item, f"{place}/{name}")


walk(document, "")
if not examples:
    wrong.append("there are no examples")
print("\n".join(wrong))
sys.exit(bool(wrong))
