"""Reads template.yaml as plain values: `!Ref X` as {"Ref": "X"}, `!Sub s` as {"Fn::Sub": s} and so on."""

import pathlib

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]


class _Loader(yaml.SafeLoader):
    pass


def _intrinsic(loader, tag, node):
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    if tag == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {tag if tag in ("Ref", "Condition") else f"Fn::{tag}": value}


_Loader.add_multi_constructor("!", _intrinsic)


def load(path="template.yaml"):
    return yaml.load((ROOT / path).read_text(), _Loader)


def roles(template):
    """Each role's logical id with its statements; one that is conditional (the bucket's key) is unwrapped."""
    found = {}
    for name, resource in template["Resources"].items():
        if resource["Type"] == "AWS::IAM::Role":
            found[name] = [
                statement["Fn::If"][1] if "Fn::If" in statement else statement
                for policy in resource["Properties"].get("Policies", [])
                for statement in policy["PolicyDocument"]["Statement"]
            ]
    return found


def listed(value):
    return value if isinstance(value, list) else [value]
