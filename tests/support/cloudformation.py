"""template.yaml as SAM translates it and as CloudFormation resolves it for given parameters."""

import contextlib
import copy
import os
import re
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
from samtranslator.yaml_helper import yaml_parse

TEMPLATE = Path(__file__).parents[2] / "template.yaml"
PSEUDO = {
    "AWS::AccountId": "111122223333",
    "AWS::Partition": "aws",
    "AWS::Region": "eu-central-1",
    "AWS::StackName": "farm",
    "AWS::URLSuffix": "amazonaws.com",
}
NO_VALUE = object()
FUNCTIONS: dict[str, Any] = {
    "And": lambda *conditions: all(conditions),
    "Equals": lambda one, other: str(one) == str(other),
    "Not": lambda condition: not condition,
    "Or": lambda *conditions: any(conditions),
    "Select": lambda index, items: items[int(index)],
    "Split": lambda sign, text: text.split(sign),
}


@cache
def source():
    """Return template.yaml as it is, in the long form of its functions."""
    return yaml_parse(TEMPLATE.read_text(encoding="utf-8"))


def _defaults():
    return {name: str(given["Default"]) for name, given in source()["Parameters"].items()}


def refusals(**parameters):
    """Return what the template's rules say against these parameters, sentence by sentence."""
    resolve = _Resolver(source(), _defaults() | parameters)
    return [
        assertion["AssertDescription"]
        for rule in source()["Rules"].values()
        if resolve(rule["RuleCondition"])
        for assertion in rule["Assertions"]
        if not resolve(assertion["Assert"])
    ]


def deployed(**parameters):
    """Return name -> (type, properties) of every resource that a stack would have."""
    template = copy.deepcopy(source())
    for resource in template["Resources"].values():  # as `sam package` leaves them
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["CodeUri"] = "s3://code/package.zip"
        if resource["Type"] == "AWS::Serverless::StateMachine":
            resource["Properties"]["DefinitionUri"] = "s3://code/definition.json"
    values = _defaults() | parameters
    region = {"AWS_DEFAULT_REGION": PSEUDO["AWS::Region"]}
    with mock.patch.dict(os.environ, region), contextlib.redirect_stdout(None):
        template = Translator({}, Parser()).translate(template, dict(values))
    resolve = _Resolver(template, PSEUDO | values)
    return {
        name: (resource["Type"], resolve(resource.get("Properties", {})))
        for name, resource in template["Resources"].items()
        if "Condition" not in resource or resolve.condition(resource["Condition"])
    }


class _Resolver:
    """CloudFormation's functions; a resource's name and attributes stay `<Name>`, `<Name.Arn>`."""

    def __init__(self, template, values):
        self.template = template
        self.values = values

    def condition(self, name):
        return self(self.template["Conditions"][name])

    def __call__(self, value):
        if isinstance(value, list):
            return [item for item in map(self, value) if item is not NO_VALUE]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            [(name, argument)] = value.items()
            if name == "Ref":
                return NO_VALUE if argument == "AWS::NoValue" else self._named(argument)
            if name == "Condition" and isinstance(argument, str):
                return self.condition(argument)
            if name.startswith("Fn::"):
                return self._function(name[4:], argument)
        resolved = {key: self(item) for key, item in value.items()}
        return {key: item for key, item in resolved.items() if item is not NO_VALUE}

    def _named(self, name):
        return self.values.get(name, f"<{name}>")

    def _function(self, name, argument):
        if name == "GetAtt":
            return f"<{'.'.join(argument)}>"
        if name == "If":
            condition, yes, no = argument
            return self(yes if self.condition(condition) else no)
        if name == "Sub":
            pattern, local = argument if isinstance(argument, list) else (argument, {})
            local = self(local)
            return re.sub(
                r"\$\{([^!}]+)\}", lambda m: str(local.get(m[1]) or self._named(m[1])), pattern
            )
        if name == "FindInMap":
            mapping, first, second = self(argument)
            return self.template["Mappings"][mapping][first][second]
        return FUNCTIONS[name](*self(argument))
