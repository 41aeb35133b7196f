"""A stand-in for a Terraform provider: it has the real one's schema and does nothing.

With it `terraform init`, `validate` and `test` with `mock_provider` run where the registry is out of
reach. It gets the provider's name and a file of schemas like those that provider_schemas.py writes,
prints how Terraform reaches it (TF_REATTACH_PROVIDERS), and serves until its standard input ends, as it
does when the check that started it is gone. Only schemas are asked of it: resources and data
sources are mocked.
"""

import json
import os
import pathlib
import sys
import threading

import tf.provider
import tf.runner
from tf.gen import tfplugin_pb2 as wire
from tf.gen import tfplugin_pb2_grpc as rpc

Attribute = wire.Schema.Attribute
NestedBlock = wire.Schema.NestedBlock


def attribute(name, given, in_set):
    """An argument, or what the provider computes. Optional ones may be computed: see the schemas."""
    about = {
        "name": name,
        "required": given["required"],
        "optional": not given["required"] and given.get("optional", True),
        "computed": not given["required"],
    }
    if "block" in given:
        nested = given["block"]["attributes"]
        about["computed"] = False
        return Attribute(
            **about,
            nested_type=wire.Schema.Object(
                attributes=[attribute(*each, in_set) for each in nested.items()],
                nesting=getattr(wire.Schema.Object, given["nesting"]),
            ),
        )
    # Terraform refuses the dynamic type within a set.
    kind = "string" if in_set and given["type"] == "dynamic" else given["type"]
    return Attribute(**about, type=json.dumps(kind).encode())


def nested_block(name, given, in_set):
    counted = given["nesting"] in ("LIST", "SET")
    return NestedBlock(
        type_name=name,
        block=block(given["block"], in_set or given["nesting"] == "SET"),
        nesting=getattr(NestedBlock, given["nesting"]),
        min_items=1 if counted and given["required"] else 0,
        max_items=given["max"] if counted else 0,
    )


def block(given, in_set=False):
    return wire.Schema.Block(
        attributes=[attribute(*each, in_set) for each in given["attributes"].items()],
        block_types=[nested_block(*each, in_set) for each in given["blocks"].items()],
    )


class Provider(rpc.ProviderServicer):
    """Answers with schemas, and finds every configuration good: Terraform checks it by the schema."""

    def __init__(self, schemas, name):
        def of_kind(kind):
            return {
                each: wire.Schema(block=block(given)) for each, given in schemas[kind].items()
            }

        self.answer = wire.GetProviderSchema.Response(
            provider=of_kind("provider")[name],
            resource_schemas=of_kind("resource"),
            data_source_schemas=of_kind("data"),
        )

    def GetProviderSchema(self, request, context):
        return self.answer

    def ValidateProviderConfig(self, request, context):
        return wire.ValidateProviderConfig.Response()

    def ValidateResourceConfig(self, request, context):
        return wire.ValidateResourceConfig.Response()

    def ValidateDataResourceConfig(self, request, context):
        return wire.ValidateDataResourceConfig.Response()

    def ConfigureProvider(self, request, context):
        return wire.ConfigureProvider.Response()

    def StopProvider(self, request, context):
        return wire.StopProvider.Response()


def serve_while_wanted():
    sys.stdin.read()
    os._exit(0)


class Named:
    """What the runner asks of a provider."""

    def __init__(self, name):
        self.name = name

    def full_name(self):
        return f"registry.terraform.io/hashicorp/{self.name}"


if __name__ == "__main__":
    program, provider_name, schema_file = sys.argv
    servicer = Provider(json.loads(pathlib.Path(schema_file).read_text()), provider_name)
    # The runner makes a servicer of its own; ours answers in its place.
    tf.provider.ProviderServicer = lambda provider: servicer
    threading.Thread(target=serve_while_wanted, daemon=True).start()
    sys.stdout.reconfigure(line_buffering=True)
    tf.runner.run_provider(Named(provider_name), argv=[program, "--dev"])
