"""`alpaca sandbox`: the whole serverless job on this machine, to try and to watch."""

from __future__ import annotations

from pathlib import Path

import click

from alpaca_labeler import storage
from alpaca_labeler.console.arguments import Local, model_option
from alpaca_labeler.errors import install
from alpaca_labeler.manifest.command import line
from alpaca_labeler.photos import skip
from alpaca_labeler.table.row import Row


@click.command()
@model_option
@click.option(
    "--upload",
    multiple=True,
    metavar="PATH",
    type=Local(exists=True),
    help="Upload these photos, show their labels and the manifest, and stop.",
)
def sandbox(*, model: str, upload: tuple[str, ...]) -> None:
    """Run the whole job on this machine, without AWS.

    \b
        alpaca sandbox
        alpaca sandbox --upload tests/photos

    Listens on 127.0.0.1 only. Ctrl-C stops it, and nothing of it stays.
    """
    try:
        import aws_lambda_powertools  # noqa: F401 - the handler's, which loads once it is set up

        from alpaca_labeler.job import local_aws
    except ImportError as error:
        raise click.ClickException(
            f"{error}: the sandbox needs more packages: "
            + install("aws-lambda-powertools", "moto[s3,server,sqs]")
        ) from error

    def show(row: Row) -> None:
        click.echo(line(row), nl=False)

    try:
        with local_aws.start(model) as running:
            for path in map(Path, upload):
                for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
                    name = file.relative_to(path) if path.is_dir() else file
                    key = name.as_posix().lstrip("/")
                    if file.is_file() and skip.by_path(key) is None:
                        storage.client().upload_file(str(file), local_aws.INPUT_BUCKET, key)
            if not upload:
                keys = "AWS_ACCESS_KEY_ID=sandbox AWS_SECRET_ACCESS_KEY=sandbox"
                click.echo(
                    f"Listening on {running.endpoint}. In another terminal:\n\n"
                    f"  export AWS_ENDPOINT_URL={running.endpoint} \\\n"
                    f"    AWS_DEFAULT_REGION=us-east-1 {keys}\n"
                    f"  aws s3 cp photo.jpg s3://{local_aws.INPUT_BUCKET}/\n"
                    f"  alpaca manifest show {local_aws.RESULTS_URI}\n\n"
                    "Labels appear here as they land. Ctrl-C stops.\n",
                    err=True,
                )
            running.run(show, until_idle=bool(upload))
            rows = storage.read(local_aws.MANIFEST_URI, 2**30).decode().splitlines()
            click.echo(f"\n{local_aws.MANIFEST_URI}: {len(rows)} rows, the first:")
            click.echo("".join(rows[:1]))
    except storage.NotFound as error:
        raise click.ClickException("no photo was uploaded, so there is no manifest") from error
    except KeyboardInterrupt:
        click.echo("Stopped; nothing is left behind.", err=True)
