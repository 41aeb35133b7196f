"""Rebuilds the schemas of Terraform providers from the npm packages that were generated from them.

In: providers.json beside this file. Out: FOLDER/NAME.json for each provider, with the schemas of
its configuration, its resources and its data sources by type. The packages hold one TypeScript class per type, whose code and
comments say each argument's name, type, whether it is required and whether it is a block. What they
don't hold is lost here too: whether an optional argument is also computed (all are taken to be),
and what values it may have.

    npm pack is run by the npm on PATH:   provider_schemas.py FOLDER
"""

import base64
import hashlib
import json
import pathlib
import re
import subprocess
import sys
import tarfile
import tempfile

PROVIDERS = json.loads((pathlib.Path(__file__).parent / "providers.json").read_text())
SIMPLE = {"string": "string", "number": "number", "boolean": "bool", "any": "dynamic"}
GETTERS = {
    "String": "string",
    "Number": "number",
    "Boolean": "bool",
    "List": ["list", "string"],
    "NumberList": ["list", "number"],
    "StringMap": ["map", "string"],
    "NumberMap": ["map", "number"],
    "BooleanMap": ["map", "bool"],
}
ARGUMENT = re.compile(
    r'(\w+): \{\s*value: .*?\n\s*isBlock: (\w+),\s*type: "(\w+)",\s*storageClassType: "(\w+)",'
)


def camel(name):
    first, *rest = name.split("_")
    return first + "".join(word[:1].upper() + word[1:] for word in rest)


def attribute_type(kind, storage):
    """The type of an argument that is no block, as Terraform writes types in JSON."""
    if kind == "simple":
        return SIMPLE.get(storage, "dynamic")
    match = re.fullmatch(r"(string|number|boolean|any)(List|Map|ListList|MapList)?", storage)
    if not match:
        return "dynamic"
    element, suffix = SIMPLE[match[1]], match[2]
    if kind in ("list", "set") and suffix == "List":
        return [kind, element]
    if kind in ("list", "set") and suffix == "ListList":
        return [kind, ["list", element]]
    if kind == "map" and suffix == "Map":
        return ["map", element]
    return "dynamic"


class Source:
    """The classes, functions and interfaces of one generated file."""

    def __init__(self, code, declarations):
        self.classes = {}
        self.functions = {}
        for part in re.split(r"\n(?=class |function )", code):
            if match := re.match(r"(class|function) (\w+)", part):
                (self.classes if match[1] == "class" else self.functions)[match[2]] = part
        self.interfaces = {
            name: body
            for name, body in re.findall(
                r"export interface (\w+)(?: extends [^{]+)? \{(.*?)\n\}", declarations, re.S
            )
        }

    def block(self, struct, class_name, arguments):
        """The schema of one block: of a resource, or nested in one."""
        declared = self.interfaces.get(struct) or self.interfaces.get(struct + "Config") or ""
        required = {name for name, mark in re.findall(r"readonly (\w+)(\??):", declared) if not mark}
        real_blocks = set(re.findall(r"/\*\*\s*\* (\w+) block\s", declared))
        attributes, blocks = {}, {}
        for name, nested, kind, storage in ARGUMENT.findall(arguments):
            is_required = camel(name) in required
            if nested == "false":
                attributes[name] = {
                    "type": attribute_type(kind, storage),
                    "required": is_required,
                    "optional": not is_required,
                }
                continue
            inner = re.sub("List$", "", storage) if kind in ("list", "set") else storage
            function = inner[0].lower() + inner[1:] + "ToHclTerraform"
            schema = {
                "nesting": {"list": "LIST", "set": "SET", "struct": "SINGLE", "map": "MAP"}[kind],
                "required": is_required,
                "block": self.block(
                    inner, inner + "OutputReference", self.functions.get(function, "")
                ),
            }
            if name in real_blocks:
                single = kind != "struct" and f"{inner}List" not in self.classes
                blocks[name] = schema | {"max": 1 if single else 0}
            else:
                attributes[name] = schema
        for name, attribute in self.computed(class_name).items():
            if name not in attributes and name not in blocks:
                attributes[name] = {"type": attribute, "required": False, "optional": False}
        return {"attributes": attributes, "blocks": blocks}

    def computed(self, class_name):
        """The types of what only the provider sets, by name."""
        body = self.classes.get(class_name, "")
        types = {
            name: GETTERS[getter]
            for getter, name in re.findall(r"this\.get(\w+?)Attribute\('(\w+)'\)", body)
            if getter in GETTERS
        }
        for inner, name, is_set in re.findall(
            r'new (\w+?)List\(this, "(\w+)", (true|false)\)', body
        ):
            members = self.computed(f"{inner}OutputReference")
            types[name] = ["set" if is_set == "true" else "list", ["object", members]]
        return {
            name: types.get(name, "dynamic")
            for name in re.findall(
                r"// (\w+) - computed: true, optional: false, required: false", body
            )
        }


def type_schema(code, declarations):
    """(kind, type name, schema) of a generated file, or nothing where it declares no type."""
    code = code.split("//# sourceMappingURL")[0]
    match = re.search(r'(\w+)\.tfResourceType = "(\w+)"', code)
    if not match:
        return None
    class_name, type_name = match.groups()
    source = Source(code, declarations)
    body = source.classes[class_name]
    parent = re.search(r"extends cdktf\.Terraform(\w+)", body)[1]
    kind = {"Resource": "resource", "DataSource": "data", "Provider": "provider"}[parent]
    _, _, arguments = body.partition("synthesizeHclAttributes()")
    return kind, type_name, source.block(class_name, class_name, arguments)


def fetch(package, version, integrity, folder):
    """npm's archive of the package; its checksum is the one we know."""
    spec = f"{package}@{version}"
    command = ["npm", "pack", "--silent", "--pack-destination", folder, spec]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (archive,) = pathlib.Path(folder).glob("*.tgz")
    digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if integrity != f"sha512-{digest}":
        sys.exit(f"{spec} is not what it was: sha512-{digest}")
    return archive


def schemas(archive):
    """The schemas of all types in the package."""
    halves, found = {}, {"provider": {}, "resource": {}, "data": {}}
    with tarfile.open(archive) as tar:
        for member in tar:
            match = re.fullmatch(r"package/lib/([\w-]+)/index\.(js|d\.ts)", member.name)
            if not match:
                continue
            name, suffix = match.groups()
            half = tar.extractfile(member).read().decode()
            if name not in halves:
                halves[name] = half
                continue
            other = halves.pop(name)
            code, declarations = (half, other) if suffix == "js" else (other, half)
            if schema := type_schema(code, declarations):
                kind, type_name, block = schema
                found[kind][type_name] = block
    return found


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, provider in PROVIDERS.items():
        with tempfile.TemporaryDirectory() as downloads:
            archive = fetch(
                provider["package"], provider["package_version"], provider["integrity"], downloads
            )
            (folder / f"{name}.json").write_text(json.dumps(schemas(archive)))


if __name__ == "__main__":
    main()
