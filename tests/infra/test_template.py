"""The promises of template.yaml, read from what CloudFormation would make of it."""

import ast
import json
import re
import tomllib
from pathlib import Path

import click
import pytest

from alpaca_labeler.handler import app
from alpaca_labeler.main import main
from tests.support.cloudformation import deployed, refusals, source

ROOT = Path(__file__).parents[2]
TEMPLATE = source()
PARAMETERS = TEMPLATE["Parameters"]
STACK = deployed()
BOUNDARY = "arn:aws:iam::111122223333:policy/b"
OTHERS_BUCKETS = deployed(
    PermissionsBoundary=BOUNDARY,
    ExistingInputBucket="my-farm",
    ExistingResultsBucket="old-results",
    InputPrefix="in/",
    InputKmsKeyArn="arn:aws:kms:eu-central-1:111122223333:key/0a1b",
    ModelUri="s3://models-1/models/alpaca/latest.json",
)
ONE_BUCKET = {"ExistingInputBucket": "one", "ExistingResultsBucket": "one"}
PHOTOS = "farm-photos-111122223333-eu-central-1"
FUNCTIONS, ROLES, BUCKETS, QUEUES, ALARMS = (
    [name for name, (found, _) in STACK.items() if found.endswith(f"::{kind}")]
    for kind in ("Function", "Role", "Bucket", "Queue", "Alarm")
)


def properties(name, stack=STACK):
    return stack[name][1]


def walk(value):
    """Every mapping of a template, at any depth."""
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value:
        if isinstance(inner, (dict, list, tuple)):
            yield from walk(inner)


def listed(value):
    return value if isinstance(value, list) else [value]


def environment(function="LabelFunction", stack=STACK):
    return properties(function, stack)["Environment"]["Variables"]


def statements(policy, stack=STACK):
    found = properties(policy, stack)["PolicyDocument"]["Statement"]
    return {statement["Sid"]: statement for statement in found}


def words_of_the_handler():
    """Its strings, and the names by which it passes arguments: a metric's name is one of them."""
    trees = (
        ast.parse(file.read_text(encoding="utf-8")) for file in (ROOT / "handler").glob("*.py")
    )
    nodes = [node for tree in trees for node in ast.walk(tree)]
    strings = {node.value for node in nodes if isinstance(node, ast.Constant)}
    return strings | {node.arg for node in nodes if isinstance(node, ast.keyword)}


# --- parameters ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameter", "good", "bad"),
    [
        ("InputPrefix", "farm/ f-1/2026.0_1/", ["farm", "/", "*/", "a//", "a b/", "é/"]),
        (
            "ModelUri",
            "s3://b-1/models/alpaca/latest.json s3://b-1/models/alpaca/2026-0a1b",
            ["s3://b-1/", "s3://b-1/labels/x/y", "s3://b-1/models/*/latest.json", "models/a/b"],
        ),
        ("AlarmEmail", "kim@farm.example", ["kim", "kim@farm", "a b@farm.example"]),
    ],
)
def test_a_parameter_refuses_what_would_not_work(parameter, good, bad):
    pattern = re.compile(PARAMETERS[parameter]["AllowedPattern"])
    values = ["", *good.split(), *bad]
    assert [value for value in values if not pattern.fullmatch(value)] == bad


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({}, ""),
        ({"MaxPixels": "200000000"}, "MemorySize=3538"),
        ({"MaxPixels": "200000000", "MemorySize": "3538"}, ""),
        (ONE_BUCKET, "InputPrefix"),
        (ONE_BUCKET | {"InputPrefix": "labels/"}, "InputPrefix"),
        (ONE_BUCKET | {"InputPrefix": "in/"}, ""),
        (ONE_BUCKET | {"ExistingResultsBucket": "two"}, ""),
    ],
)
def test_what_would_be_dead_or_deadly_is_refused_before_anything_changes(given, named):
    refused = refusals(**given)
    assert [named in sentence for sentence in refused] == [True] * bool(named)


ARRIVES = {
    "ExistingInputBucket": ("my-farm", "LabelFunction"),
    "InputPrefix": ("inbox/", "LabelFunction"),
    "InputKmsKeyArn": ("arn:aws:kms:eu-central-1:111122223333:key/0a1b", "LabelRole"),
    "MaxPixels": ("25000000", "LabelFunction"),
    "NoncurrentDays": ("7", "InputBucket"),
    "ExistingResultsBucket": ("old-results", "LabelFunction"),
    "CompactAfterSeconds": ("3600", "CompactFunction"),
    "ModelUri": ("s3://b-1/models/alpaca/latest.json", "LabelFunction"),
    "Architecture": ("x86_64", "LabelFunction"),
    "MemorySize": ("3538", "LabelFunction"),
    "PermissionsBoundary": ("arn:aws:iam::111122223333:policy/b", "LabelRole"),
    "BatchSize": ("10", "LabelFunctionPhotos"),
    "MaximumConcurrency": ("7", "LabelFunctionPhotos"),
    "AlarmEmail": ("kim@farm.example", "AlarmTopic"),
    "LogLevel": ("DEBUG", "LabelFunction"),
    "LogDays": ("3", "LabelLogs"),
}
"""Parameter: (another value, what must change)."""


@pytest.mark.parametrize("parameter", PARAMETERS)
def test_a_changed_parameter_alone_arrives(parameter):
    value, where = ARRIVES[parameter]
    before, after = STACK[where], deployed(**{parameter: value})[where]
    assert before != after
    assert value in repr(after)


def test_the_queue_calls_the_function_itself():
    """A version never changes, and SAM moves an alias only for new code, not for a parameter."""
    assert STACK["LabelFunctionPhotos"][1]["FunctionName"] == "<LabelFunction>"
    assert not {kind for kind, _ in STACK.values()} & {"AWS::Lambda::Alias", "AWS::Lambda::Version"}


@pytest.mark.parametrize(
    ("pixels", "memory", "cores"),
    [
        ("100000000", "1769", "1"),
        ("100000000", "7076", "4"),
        ("200000000", "3538", "1"),
        ("200000000", "7076", "2"),
    ],
)
def test_photos_in_decoding_fit_the_memory(pixels, memory, cores):
    _, function = deployed(MaxPixels=pixels, MemorySize=memory)["LabelFunction"]
    assert function["Environment"]["Variables"]["CORES"] == cores
    # docs/robustness.md: 17 bytes per pixel for the worst kind, WebP, and 130 MB for all else.
    assert int(cores) * int(pixels) * 17 + 130e6 < int(memory) * 2**20


def test_build_and_deploy_read_the_same_architecture():
    samconfig = tomllib.loads((ROOT / "samconfig.toml").read_text(encoding="utf-8"))["default"]
    given = samconfig["global"]["parameters"]["parameter_overrides"]
    assert given == [f"Architecture={PARAMETERS['Architecture']['Default']}"]
    assert "parameter_overrides" not in samconfig["deploy"]["parameters"]


def test_the_template_says_its_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert TEMPLATE["Description"].startswith(f"alpaca-labeler {project['version']}: ")


# --- the functions are the code ------------------------------------------------------------------


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_runs_the_code_with_settings_that_the_code_knows(name):
    package, module, entry = properties(name)["Handler"].split(".")
    tree = ast.parse((ROOT / package / f"{module}.py").read_text(encoding="utf-8"))
    assert entry in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    libraries = {"AWS_ENDPOINT_URL", "POWERTOOLS_SERVICE_NAME", "LOG_LEVEL"}
    assert set(environment(name)) <= words_of_the_handler() | libraries


def test_a_package_is_built_for_the_python_that_runs_it():
    rules = (ROOT / "infra/build/package.mk").read_text(encoding="utf-8")
    [version] = re.findall(r"^PYTHON_VERSION \?= (.+)$", rules, re.MULTILINE)
    assert {properties(name)["Runtime"] for name in FUNCTIONS} == {f"python{version}"}


# --- nothing is lost -----------------------------------------------------------------------------


def test_a_message_stays_hidden_while_its_photos_may_still_be_tried():
    mapping = properties("LabelFunctionPhotos")
    window = mapping["MaximumBatchingWindowInSeconds"]
    assert window >= 1, "Lambda asks for a window if batches may be above 10"
    timeout = properties("LabelFunction")["Timeout"]
    assert properties("Queue")["VisibilityTimeout"] >= 6 * timeout + window
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]


def test_what_fails_again_and_again_is_kept_as_a_dead_letter():
    queue, dead = properties("Queue"), properties("DeadLetterQueue")
    # Handed-back messages come again 30 s x receives later (alpaca_labeler/storage/requeue.py).
    receives = queue["RedrivePolicy"]["maxReceiveCount"]
    assert sum(30 * n for n in range(1, receives)) >= 20 * 60, "an outage of 20 minutes"
    # A dead letter is as old as its first arrival.
    assert dead["MessageRetentionPeriod"] - queue["MessageRetentionPeriod"] >= 7 * 24 * 3600
    [allowed] = dead["RedriveAllowPolicy"]["sourceQueueArns"]
    assert allowed.endswith(f":{queue['QueueName']}")


def test_photos_come_from_the_one_bucket_that_may_send():
    assert TEMPLATE["Resources"]["InputBucket"]["DependsOn"] == "QueuePolicy"
    conditions = statements("QueuePolicy")["FromTheBucket"]["Condition"]
    assert conditions["ArnEquals"]["aws:SourceArn"] == f"arn:aws:s3:::{PHOTOS}"
    assert environment()["INPUT_URI"] == f"s3://{PHOTOS}/"
    assert environment(stack=OTHERS_BUCKETS)["INPUT_URI"] == "s3://my-farm/in/"

    configured = properties("InputBucket", deployed(InputPrefix="in/"))["NotificationConfiguration"]
    kinds = {item["Event"]: item["Filter"] for item in configured["QueueConfigurations"]}
    prefix = {"S3Key": {"Rules": [{"Name": "prefix", "Value": "in/"}]}}
    assert kinds == {"s3:ObjectCreated:*": prefix, "s3:ObjectRestore:Completed": prefix}
    pattern = properties("InputRule", OTHERS_BUCKETS)["EventPattern"]
    assert pattern["detail-type"] == ["Object Created", "Object Restore Completed"]
    assert pattern["detail"]["object"] == {"key": [{"prefix": "in/"}]}


def test_labels_trigger_nothing_here_and_anything_of_yours():
    assert environment()["RESULTS_URI"] == "s3://<ResultsBucket>/labels/"
    assert environment(stack=OTHERS_BUCKETS)["RESULTS_URI"] == "s3://old-results/labels/"
    bridge = {"EventBridgeConfiguration": {"EventBridgeEnabled": True}}
    assert properties("ResultsBucket")["NotificationConfiguration"] == bridge
    assert properties("InputBucket")["NotificationConfiguration"].items() >= bridge.items()


def test_what_holds_photos_and_labels_keeps_its_name_and_outlives_the_stack():
    """A new name, or a new logical id, would replace it in an update and orphan what it holds."""
    named = {name: properties(name).get("BucketName") for name in BUCKETS}
    named |= {name: properties(name)["QueueName"] for name in QUEUES}
    assert named == {
        "InputBucket": PHOTOS,
        "ResultsBucket": None,
        "Queue": "farm-photos",
        "DeadLetterQueue": "farm-dead-letters",
    }
    for bucket in BUCKETS:
        # A deployment that fails must not leave a bucket in the way of the next one.
        assert TEMPLATE["Resources"][bucket]["DeletionPolicy"] == "RetainExceptOnCreate"
        assert TEMPLATE["Resources"][bucket]["UpdateReplacePolicy"] == "Retain"


def test_a_new_account_which_can_reserve_no_function_can_deploy():
    assert not [p for p in walk(STACK) if "ReservedConcurrentExecutions" in p]


# --- least privilege -----------------------------------------------------------------------------


def grants(role, stack):
    return {
        (action, resource)
        for policy in properties(role, stack)["Policies"]
        for statement in policy["PolicyDocument"]["Statement"]
        for action in listed(statement["Action"])
        for resource in listed(statement["Resource"])
    }


ALLOWED = """
LabelRole    sqs:ReceiveMessage sqs:DeleteMessage sqs:GetQueueAttributes    <Queue.Arn>
LabelRole    sqs:SendMessage sqs:ChangeMessageVisibility    <Queue.Arn>
LabelRole    s3:GetObject    arn:aws:s3:::{photos}/{prefix}*
LabelRole    s3:ListBucket    arn:aws:s3:::{photos}
LabelRole    s3:ListBucket    arn:aws:s3:::{results}
LabelRole    s3:GetObject s3:PutObject    arn:aws:s3:::{results}/labels/parts/*
LabelRole    logs:CreateLogStream logs:PutLogEvents    <LabelLogs.Arn>
CompactRole    s3:ListBucket    arn:aws:s3:::{results}
CompactRole    {replace}    arn:aws:s3:::{results}/labels/manifest.jsonl
CompactRole    s3:GetObject s3:PutObject s3:DeleteObject    arn:aws:s3:::{results}/labels/parts/*
CompactRole    logs:CreateLogStream logs:PutLogEvents    <CompactLogs.Arn>
ScheduleRole    lambda:InvokeFunction    <CompactFunction.Arn>
BackfillRole    s3:ListBucket    arn:aws:s3:::{photos}
BackfillRole    lambda:InvokeFunction    <LabelFunction.Arn>
BackfillRole    s3:GetObject s3:PutObject    arn:aws:s3:::{results}/backfills/*
BackfillRole    {multipart}    arn:aws:s3:::{results}/backfills/*
BackfillRole    states:StartExecution    {states}:stateMachine:farm-backfill
BackfillRole    {watch}    {states}:execution:farm-backfill:*
BackfillRole    {watch}    {states}:execution:farm-backfill/photos:*
"""
IF_GIVEN = """
LabelRole    kms:Decrypt    arn:aws:kms:eu-central-1:111122223333:key/0a1b
LabelRole    s3:GetObject    arn:aws:s3:::models-1/models/alpaca/*
"""


def allowed(lines, **names):
    names |= {
        "replace": "s3:GetObject s3:PutObject s3:AbortMultipartUpload",
        "multipart": "s3:ListMultipartUploadParts s3:AbortMultipartUpload",
        "watch": "states:DescribeExecution states:StopExecution states:RedriveExecution",
        "states": "arn:aws:states:eu-central-1:111122223333",
    }
    found: dict[str, set[tuple[str, str]]] = {}
    for line in lines.format(**names).split("\n"):
        if line:
            role, *actions, resource = line.split()
            found.setdefault(role, set()).update((action, resource) for action in actions)
    return found


def test_a_role_may_do_what_its_work_needs_and_nothing_else():
    expected = allowed(ALLOWED, photos=PHOTOS, results="<ResultsBucket>", prefix="")
    assert {role: grants(role, STACK) for role in ROLES} == expected
    expected = allowed(ALLOWED + IF_GIVEN, photos="my-farm", results="old-results", prefix="in/")
    assert {role: grants(role, OTHERS_BUCKETS) for role in ROLES} == expected
    bounds = {role: properties(role, OTHERS_BUCKETS)["PermissionsBoundary"] for role in ROLES}
    assert bounds == dict.fromkeys(ROLES, BOUNDARY)


def test_buckets_and_queues_are_private_encrypted_and_versioned():
    for given in map(properties, BUCKETS):
        assert list(given["PublicAccessBlockConfiguration"].values()) == [True] * 4
        assert given["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        assert given["VersioningConfiguration"] == {"Status": "Enabled"}
        assert given["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]
        rules = given["LifecycleConfiguration"]["Rules"]
        assert any("AbortIncompleteMultipartUpload" in rule for rule in rules)
    assert all(properties(queue)["SqsManagedSseEnabled"] is True for queue in QUEUES)


def test_nothing_is_reached_without_tls():
    policies = [name for name, (kind, _) in STACK.items() if kind.endswith("Policy")]
    assert len(policies) == len(BUCKETS) + len(QUEUES)
    for policy in policies:
        denial = statements(policy)["OnlyOverTls"]
        assert (denial["Effect"], denial["Principal"]) == ("Deny", "*")
        assert denial["Action"] in {"s3:*", "sqs:*"}
        assert denial["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_nobody_may_undo_what_is_in_the_table():
    def denied(sid):
        found = statements("ResultsBucketPolicy")[sid]
        assert (found["Effect"], found["Principal"]) == ("Deny", "*")
        keys = [resource.partition("/labels/")[2] for resource in listed(found["Resource"])]
        # All keys under one operator must hold: both headers absent.
        return found["Action"], keys, set(found.get("Condition", {}).get("Null", ()))

    assert denied("TheManifestStays") == ("s3:DeleteObject", ["manifest.jsonl"], set())
    conditional = {"s3:if-match", "s3:if-none-match"}
    written = denied("ManifestOnlyByConditionalWrites")
    assert written == ("s3:PutObject", ["manifest.jsonl"], conditional)
    assert denied("PartsAreNeverReplaced") == ("s3:PutObject", ["parts/*"], {"s3:if-none-match"})


def test_a_backfill_calls_the_function_of_the_queue_and_isolates_a_batch_that_fails():
    definition = (ROOT / "infra/backfill.asl.json").read_text(encoding="utf-8")
    given = properties("Backfill", OTHERS_BUCKETS)["DefinitionSubstitutions"]
    assert set(re.findall(r"\$\{(\w+)\}", definition)) == set(given)
    assert (given["InputBucket"], given["ResultsBucket"]) == ("my-farm", "old-results")
    assert given["LabelFunction"] == "<LabelFunction.Arn>"
    processor = json.loads(definition)["States"]["LabelExistingPhotos"]["ItemProcessor"]
    assert processor["ProcessorConfig"] == {"Mode": "DISTRIBUTED", "ExecutionType": "EXPRESS"}
    assert 2 * properties("LabelFunction")["Timeout"] < 300, "an express execution's five minutes"
    [caught] = processor["States"]["LabelBatch"]["Catch"]
    assert "'isolated': true" in caught["Output"]
    again = processor["States"][caught["Next"]]
    assert again["Arguments"] == processor["States"]["LabelBatch"]["Arguments"]


# --- alarms --------------------------------------------------------------------------------------

OF_AWS = {
    *("ApproximateNumberOfMessagesVisible", "ApproximateAgeOfOldestMessage", "ExecutionsFailed"),
    *("Errors", "Duration", "Invocations", "Throttles", "ConcurrentExecutions"),
}
"""https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/aws-services-cloudwatch-metrics.html"""


def value(alarm, metrics):
    """What CloudWatch computes of one period, as far as the template uses its language."""
    expressions = [m["Expression"] for m in properties(alarm).get("Metrics", ()) if "Label" in m]
    if not expressions:
        return metrics.get("value")
    python = re.sub(r"^IF\((.+?), (.+), 0\)$", r"(\2) if (\1) else 0", expressions[0])
    python = re.sub(r"FILL\((\w+), 0\)", r"filled('\1')", python)
    if not metrics:
        return None
    return eval(python, {"filled": lambda name: metrics.get(name, 0)}, metrics)


def fires(alarm, history):
    """Whether an alarm tells somebody while these periods pass, oldest first."""
    given = properties(alarm)
    values, size = [value(alarm, metrics) for metrics in history], given["EvaluationPeriods"]
    return any(sounds(given, values[end - size : end]) for end in range(size, len(values) + 1))


def sounds(given, seen):
    if given["TreatMissingData"] == "missing" and set(seen) == {None}:
        return bool(given["InsufficientDataActions"])
    sign = {"GreaterThanThreshold": 1, "LessThanThreshold": -1}[given["ComparisonOperator"]]
    breaching = [v for v in seen if v is not None and sign * v > sign * given["Threshold"]]
    return len(breaching) >= given.get("DatapointsToAlarm", len(seen))


def numbers(*values):
    return [{} if each is None else {"value": each} for each in values]


def batches(*counts):
    names = ("labelled", "failed", "retried")
    return [dict(zip(names, each, strict=True)) if each else {} for each in counts]


CASES = {
    "DeadLettersAlarm": ([numbers(0)], [numbers(1)]),
    "RetriesAlarm": (
        # Nothing to do; a few of many; one batch of a backfill that ran out of time.
        [batches((), ()), batches(*2 * [(900, 90, 10)]), batches((9, 0, 91), (91, 0, 0))],
        # Everything fails; a single photo, handed back after 30, 60, 90 ... seconds.
        [batches(*2 * [(0, 0, 500)]), batches((0, 0, 4), (0, 0, 2))],
    ),
    "OldestMessageAlarm": (
        [numbers(5000, 5000, 3000), numbers(None, None, None)],
        [numbers(3700, 4000, 4300)],
    ),
    "FailureRateAlarm": (
        [batches((0, 1, 0)), batches((0, 49, 0)), batches((900, 100, 0))],
        [batches((39, 11, 0))],
    ),
    "LabelErrorsAlarm": ([numbers(0, 3, 0)], [numbers(1, 0, 1)]),
    "ModelPointerAlarm": ([numbers(None), numbers(0)], [numbers(1)]),
    "CompactErrorsAlarm": (
        [[{}], [{"errors": 0}], [{"errors": 0, "broken": 0}]],
        [[{"errors": 1}], [{"errors": 0, "broken": 1}]],
    ),
    "CompactStoppedAlarm": ([numbers(4, 4), numbers(None, 1)], [numbers(None, None)]),
    "BackfillFailedAlarm": ([numbers(None), numbers(0)], [numbers(1)]),
}
"""Alarm: (what is correct behaviour, what somebody must hear of)."""


@pytest.mark.parametrize("alarm", ALARMS)
def test_no_alarm_fires_on_correct_behaviour_and_each_can_fire(alarm):
    quiet, loud = CASES[alarm]
    assert [case for case in quiet if fires(alarm, case)] == []
    assert [case for case in loud if not fires(alarm, case)] == []


@pytest.mark.parametrize("alarm", ALARMS)
def test_an_alarm_watches_what_somebody_emits_and_tells_somebody_what_to_do(alarm):
    given = properties(alarm)
    ours = [{"Name": "service", "Value": environment()["POWERTOOLS_SERVICE_NAME"]}]
    for metric in (node for node in walk(given) if "MetricName" in node):
        if metric["Namespace"] == app.metrics.namespace:
            assert metric["MetricName"] in words_of_the_handler()
            assert metric["Dimensions"] == ours
        else:
            assert metric["MetricName"] in OF_AWS
    assert given["AlarmActions"] == ["<AlarmTopic>"]
    [first] = re.findall(r"First[^:]*: (alpaca .+)$", given["AlarmDescription"])
    assert accepted(first)


def test_the_dashboard_shows_every_alarm_and_metrics_that_somebody_emits():
    body = properties("Dashboard")["DashboardBody"]
    assert [alarm for alarm in ALARMS if f'"<{alarm}.Arn>"' not in body] == []
    widgets = [widget["properties"] for widget in json.loads(body)["widgets"]]
    lines = [line for widget in widgets for line in widget.get("metrics", ()) if line[0] != "..."]
    assert {line[1] for line in lines} <= OF_AWS | words_of_the_handler() | {"."}


def accepted(line):
    """Whether `alpaca` has the command of a line and its options."""
    words = line.split()[1:]
    command: click.Command | None = main
    while words and isinstance(command, click.Group):
        command = command.get_command(click.Context(command), words.pop(0))
    known = {option for parameter in command.params for option in parameter.opts} if command else ()
    return all(word in known for word in words if word.startswith("--")) and bool(known)


def test_every_command_of_the_runbook_exists():
    page = (ROOT / "infra/README.md").read_text(encoding="utf-8")
    commands = re.findall(r"(?:^    |`)(alpaca [a-z][^`\n#]*)", page, re.MULTILINE)
    assert len(commands) > 20
    assert [line for line in commands if not accepted(line)] == []
    named = set(re.findall(r"`((?:[A-Z][a-z]+){2,})[`=]", page))
    aws = {"CodeSigningConfigArn", "QueueConfigurations"}
    assert named <= {*PARAMETERS, *TEMPLATE["Outputs"], *aws}
