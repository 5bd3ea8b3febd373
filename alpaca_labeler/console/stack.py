"""Outputs of a deployed stack, so that nobody has to type URIs and ARNs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from alpaca_labeler.errors import LabelerError


class StackError(LabelerError):
    """There is no such stack, or it is of another template. The message names it."""


def client(service: str) -> Any:
    """Return a boto3 client of the account and region that the environment names."""
    import boto3

    return boto3.client(service)


def describe(name: str) -> dict[str, Any]:
    """Return CloudFormation's description of a stack. Raises `StackError` if it does not exist."""
    from botocore.exceptions import ClientError

    cloudformation = client("cloudformation")
    try:
        stack: dict[str, Any] = cloudformation.describe_stacks(StackName=name)["Stacks"][0]
    except (ClientError, IndexError) as error:
        if isinstance(error, ClientError) and "does not exist" not in str(error):
            raise
        region = cloudformation.meta.region_name
        raise StackError(
            f"{name}: there is no such stack in {region}; set AWS_REGION, or see `sam list "
            "stack-outputs`"
        ) from error
    return stack


class Outputs(dict[str, str]):
    """A stack's outputs by name. One that is not there raises `StackError`."""

    def __init__(self, stack: dict[str, Any]) -> None:
        super().__init__((o["OutputKey"], o["OutputValue"]) for o in stack.get("Outputs", ()))
        self._stack = stack["StackName"]

    def __missing__(self, name: str) -> str:
        raise StackError(
            f"{self._stack}: has no output {name}; deploy it again with the template of this "
            "version"
        )


def from_stack(**wanted: tuple[str, str]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the option --stack, which fills in parameters that were not given.

    `wanted` says of each parameter what the command line calls it and which output holds it. One
    that is called by a word in capitals (an argument) is required.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @click.option(
            "--stack", metavar="NAME", help="Take what is not given from this stack's outputs."
        )
        @functools.wraps(command)
        def run(*, stack: str | None, **given: Any) -> None:
            if stack is not None:
                known = Outputs(describe(stack))
                for parameter, (_, output) in wanted.items():
                    if given.get(parameter) is None:
                        given[parameter] = known[output]
            missing = [name for each, (name, _) in wanted.items() if given.get(each) is None]
            if required := " and ".join(filter(str.isupper, missing)):
                raise click.UsageError(f"give {required}, or --stack NAME")
            command(**given)

        return run

    return decorate
