"""The promises of template.yaml, read from template.yaml."""

import ast
import json
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PSEUDO = {"AWS::AccountId", "AWS::NoValue", "AWS::Partition", "AWS::Region", "AWS::StackName"}
PSEUDO |= {"AWS::URLSuffix"}


class CloudFormation(yaml.SafeLoader):
    """YAML with CloudFormation's short forms: `!Ref X` is read as {"Ref": "X"}."""


def _short_form(loader, tag, node):
    name = tag if tag in {"Ref", "Condition"} else f"Fn::{tag}"
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
        return {name: value.split(".", 1) if tag == "GetAtt" else value}
    if isinstance(node, yaml.SequenceNode):
        return {name: loader.construct_sequence(node, deep=True)}
    return {name: loader.construct_mapping(node, deep=True)}


CloudFormation.add_multi_constructor("!", _short_form)

TEMPLATE = yaml.load((ROOT / "template.yaml").read_text(encoding="utf-8"), CloudFormation)
PARAMETERS = TEMPLATE["Parameters"]
RESOURCES = TEMPLATE["Resources"]
GLOBALS = TEMPLATE["Globals"]["Function"]
STATE_MACHINE = (ROOT / "infra/backfill.asl.json").read_text(encoding="utf-8")
FUNCTIONS = {
    name: {**GLOBALS, **resource["Properties"]}
    for name, resource in RESOURCES.items()
    if resource["Type"] == "AWS::Serverless::Function"
}
ROLES = [name for name, r in RESOURCES.items() if r["Type"] == "AWS::IAM::Role"]
BUCKETS = [name for name, r in RESOURCES.items() if r["Type"] == "AWS::S3::Bucket"]
ALARMS = [name for name, r in RESOURCES.items() if r["Type"] == "AWS::CloudWatch::Alarm"]


def properties(name):
    return RESOURCES[name]["Properties"]


def walk(value, path=()):
    """Every (path, mapping) of a template, at any depth."""
    if isinstance(value, dict):
        yield path, value
        for key, inner in value.items():
            yield from walk(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from walk(inner, (*path, index))


def both(value):
    """What `!If` may choose, of a statement or a list of them; AWS::NoValue left out."""
    if isinstance(value, list):
        return [chosen for item in value for chosen in both(item)]
    if isinstance(value, dict) and "Fn::If" in value:
        return both(value["Fn::If"][1:])
    return [] if value == {"Ref": "AWS::NoValue"} else [value]


def text(value):
    """A resource name as one line: `${X}` for `!Ref X`, `${X.Arn}` for `!GetAtt X.Arn`."""
    if isinstance(value, str):
        return value
    if "Ref" in value:
        return f"${{{value['Ref']}}}"
    if "Fn::GetAtt" in value:
        return f"${{{'.'.join(value['Fn::GetAtt'])}}}"
    inner = value["Fn::Sub"]
    return inner if isinstance(inner, str) else inner[0]


def listed(value):
    return value if isinstance(value, list) else [value]


def grants(role):
    """(action, resource) pairs that a role allows, whatever the conditions choose."""
    return {
        (action, text(resource))
        for policy in properties(role)["Policies"]
        for statement in both(policy["PolicyDocument"]["Statement"])
        for action in listed(statement["Action"])
        for resource in both(listed(statement["Resource"]))
    }


def environment(name):
    own = RESOURCES[name]["Properties"].get("Environment", {}).get("Variables", {})
    return {**GLOBALS["Environment"]["Variables"], **own}


# --- everything named exists ---------------------------------------------------------------------


def references():
    for path, node in walk({k: TEMPLATE[k] for k in ("Globals", "Resources", "Outputs")}):
        if "Ref" in node:
            yield path, node["Ref"]
        if "Fn::GetAtt" in node:
            yield path, node["Fn::GetAtt"][0]
        if "Fn::Sub" in node:
            given = node["Fn::Sub"]
            pattern, local = given if isinstance(given, list) else (given, {})
            for name in re.findall(r"\$\{([^!}]+)\}", pattern):
                if name not in local:
                    yield path, name.split(".")[0]
        for dependency in listed(node.get("DependsOn", [])):
            yield path, dependency


def test_every_reference_resolves():
    known = {*PARAMETERS, *RESOURCES, *PSEUDO}
    assert [r for r in references() if r[1] not in known] == []


def test_every_condition_and_mapping_resolves():
    for path, node in walk(TEMPLATE):
        if "Fn::If" in node:
            assert node["Fn::If"][0] in TEMPLATE["Conditions"], path
        if isinstance(node.get("Condition"), str):
            assert node["Condition"] in TEMPLATE["Conditions"], path
        if "Fn::FindInMap" in node:
            assert node["Fn::FindInMap"][0] in TEMPLATE["Mappings"], path


def test_every_parameter_is_used_described_and_checked():
    used = {name for _, name in references()}
    used |= {n["Ref"] for _, n in walk(TEMPLATE["Conditions"]) if "Ref" in n}
    assert set(PARAMETERS) <= used
    for name, parameter in PARAMETERS.items():
        assert parameter["Description"], name
        assert "Default" in parameter, f"{name}: deploys without an answer"
        assert {"AllowedPattern", "AllowedValues", "MinValue"} & set(parameter), name


def test_every_parameter_is_in_the_consoles_form():
    groups = TEMPLATE["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    assert sorted(p for group in groups for p in group["Parameters"]) == sorted(PARAMETERS)


@pytest.mark.parametrize(
    ("parameter", "good", "bad"),
    [
        ("InputPrefix", ["", "farm/", "farm/2026 (1)/"], ["farm", "/", "*/", "a?/", "a//", "$x/"]),
        (
            "ModelUri",
            ["", "s3://b-1/models/alpaca/latest.json", "s3://b-1/models/alpaca/2026-0a1b"],
            ["s3://b-1/", "s3://b-1/labels/x/y", "s3://b-1/models/*/latest.json", "models/a/b"],
        ),
        ("ExistingInputBucket", ["", "farm-photos.2026"], ["s3://farm", "Farm", "a", "farm/x"]),
        ("ExistingResultsBucket", ["", "results-1"], ["s3://results", "Results"]),
    ],
)
def test_a_parameter_refuses_what_would_not_work(parameter, good, bad):
    pattern = re.compile(PARAMETERS[parameter]["AllowedPattern"])
    assert [value for value in good if not pattern.fullmatch(value)] == []
    assert [value for value in bad if pattern.fullmatch(value)] == []


def test_every_memory_size_has_its_cores():
    sizes = PARAMETERS["MemorySize"]["AllowedValues"]
    cores = {int(size): int(m["All"]) for size, m in TEMPLATE["Mappings"]["Cores"].items()}
    assert cores == {size: size // 1769 for size in sizes}  # 1,769 MB is one vCPU


def test_pictures_too_large_for_the_memory_are_refused():
    [rule] = TEMPLATE["Rules"].values()
    large = str(max(PARAMETERS["MaxPixels"]["AllowedValues"]))
    assert rule["RuleCondition"] == {"Fn::Equals": [{"Ref": "MaxPixels"}, large]}
    [assertion] = rule["Assertions"]
    smallest = str(min(PARAMETERS["MemorySize"]["AllowedValues"]))
    assert assertion["Assert"] == {
        "Fn::Not": [{"Fn::Equals": [{"Ref": "MemorySize"}, smallest]}],
    }
    assert "MemorySize=3538" in assertion["AssertDescription"]


# --- the functions are the code ------------------------------------------------------------------


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_handler_is_a_function_of_the_code(name):
    function = FUNCTIONS[name]
    package, module, entry = function["Handler"].split(".")
    assert function["CodeUri"] == package
    tree = ast.parse((ROOT / package / f"{module}.py").read_text(encoding="utf-8"))
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert entry in defined


def strings_of_the_handler():
    return {
        node.value
        for file in (ROOT / "handler").glob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def test_the_environment_is_the_one_that_the_settings_know():
    libraries = {"AWS_ENDPOINT_URL", "POWERTOOLS_SERVICE_NAME", "POWERTOOLS_METRICS_NAMESPACE"}
    # Powertools reads the level by itself, whether or not the settings check it first.
    libraries |= {"LOG_LEVEL"}
    known = strings_of_the_handler()
    for name in FUNCTIONS:
        assert [v for v in environment(name) if v not in known | libraries] == []


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_package_is_built_for_the_architecture_it_runs_on(name):
    assert FUNCTIONS[name]["Architectures"] == [{"Ref": "Architecture"}]
    metadata = RESOURCES[name]["Metadata"]
    assert metadata["BuildMethod"] == "makefile"
    for architecture in PARAMETERS["Architecture"]["AllowedValues"]:
        folder = text(metadata["ContextPath"]).replace("${Architecture}", architecture)
        makefile = (ROOT / folder / "Makefile").read_text(encoding="utf-8")
        assert f"ARCHITECTURE := {architecture}\n" in makefile
    assert f"build-{name}" in (ROOT / "infra/build/package.mk").read_text(encoding="utf-8")


def test_what_is_built_is_what_the_runtime_runs():
    rules = (ROOT / "infra/build/package.mk").read_text(encoding="utf-8")
    [version] = re.findall(r"^PYTHON_VERSION \?= (.+)$", rules, re.MULTILINE)
    assert GLOBALS["Runtime"] == f"python{version}"


def test_what_is_deployed_is_what_runs():
    """An alias moves when SAM sees a change, and it sees no changed parameter."""
    assert not [p for _, p in walk(TEMPLATE) if {"AutoPublishAlias", "SnapStart"} & set(p)]


# --- nothing is lost -----------------------------------------------------------------------------


def test_a_message_stays_hidden_while_its_photos_may_still_be_tried():
    longest_window = PARAMETERS["BatchWindow"]["MaxValue"]
    timeout = FUNCTIONS["LabelFunction"]["Timeout"]
    assert properties("Queue")["VisibilityTimeout"] >= 6 * timeout + longest_window


def test_a_part_of_a_batch_can_fail_alone():
    event = properties("LabelFunction")["Events"]["Photos"]["Properties"]
    assert event["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert text(event["Queue"]) == "${Queue.Arn}"


def test_the_queues_settings_stay_within_lambdas_rules():
    size, window = PARAMETERS["BatchSize"], PARAMETERS["BatchWindow"]
    assert size["MaxValue"] <= 10_000
    assert window["MinValue"] >= 1, "batches above 10 need a window"
    concurrency = PARAMETERS["MaximumConcurrency"]
    assert (concurrency["MinValue"], concurrency["MaxValue"]) == (2, 1000)


def test_what_fails_again_and_again_is_kept_as_a_dead_letter():
    redrive = properties("Queue")["RedrivePolicy"]
    # Handed-back messages come again 30 s x receives later (handler/requeue.py).
    receives = redrive["maxReceiveCount"]
    assert sum(30 * n for n in range(1, receives)) >= 20 * 60, "an outage of 20 minutes"
    assert text(redrive["deadLetterTargetArn"]) == "${DeadLetterQueue.Arn}"
    kept = properties("DeadLetterQueue")["MessageRetentionPeriod"]
    # A dead letter is as old as its first arrival.
    assert kept - properties("Queue")["MessageRetentionPeriod"] >= 7 * 24 * 3600


def test_only_the_queue_may_use_the_dead_letter_queue():
    allowed = properties("DeadLetterQueue")["RedriveAllowPolicy"]
    assert allowed["redrivePermission"] == "byQueue"
    [source] = allowed["sourceQueueArns"]
    assert text(source).endswith(":" + text(properties("Queue")["QueueName"]))


def test_the_bucket_may_send_before_it_is_made():
    assert RESOURCES["InputBucket"]["DependsOn"] == "QueuePolicy"
    name = text(properties("InputBucket")["BucketName"])
    sources = [
        text(statement["Condition"]["ArnEquals"]["aws:SourceArn"])
        for statement in both(properties("QueuePolicy")["PolicyDocument"]["Statement"])
        if statement["Effect"] == "Allow"
    ]
    assert sources == [f"arn:${{AWS::Partition}}:s3:::{name}", "${InputRule.Arn}"]


def test_a_restored_photo_is_announced_as_a_new_one_is():
    configured = properties("InputBucket")["NotificationConfiguration"]["QueueConfigurations"]
    events = {item["Event"]: item for item in configured}
    assert set(events) == {"s3:ObjectCreated:*", "s3:ObjectRestore:Completed"}
    assert len({json.dumps(item["Filter"]) for item in configured}) == 1
    kinds = properties("InputRule")["EventPattern"]["detail-type"]
    assert kinds == ["Object Created", "Object Restore Completed"]


def test_compaction_runs_on_a_schedule():
    compact = properties("CompactFunction")
    [event] = compact["Events"].values()
    assert event["Type"] == "ScheduleV2"
    assert event["Properties"]["ScheduleExpression"] == {"Ref": "CompactEvery"}
    assert compact["EphemeralStorage"]["Size"] >= 2 * 5 * 1024, "two manifests of 5 GB"


@pytest.mark.parametrize("bucket", BUCKETS)
def test_photos_and_labels_outlive_the_stack_but_not_a_deployment_that_fails(bucket):
    assert RESOURCES[bucket]["DeletionPolicy"] == "RetainExceptOnCreate"
    assert RESOURCES[bucket]["UpdateReplacePolicy"] == "Retain"


def test_a_new_account_can_deploy():
    """It may run ten functions at once, and can reserve none of them."""
    assert not [p for _, p in walk(TEMPLATE) if "ReservedConcurrentExecutions" in p]


def test_one_stack_name_can_be_used_in_every_region():
    for bucket in BUCKETS:
        name = text(properties(bucket).get("BucketName", "${AWS::Region}"))
        assert "${AWS::Region}" in name


# --- nothing labels its own results --------------------------------------------------------------


def test_results_land_in_a_bucket_that_triggers_nothing():
    assert text(environment("LabelFunction")["RESULTS_URI"]) == "s3://${Results}/labels/"
    assert all(
        "ResultsBucket" not in text(v) for v in both(environment("LabelFunction")["INPUT_URI"])
    )
    announced = properties("ResultsBucket")["NotificationConfiguration"]
    assert announced == {"EventBridgeConfiguration": {"EventBridgeEnabled": True}}


def test_no_role_may_write_where_photos_are():
    inputs = ("-photos-", "${ExistingInputBucket}")
    for role in ROLES:
        writes = [
            (action, resource)
            for action, resource in grants(role)
            if any(part in resource for part in inputs)
            and ":s3:" in resource
            and action not in {"s3:GetObject", "s3:ListBucket"}
        ]
        assert not writes, role


# --- least privilege -----------------------------------------------------------------------------

NEW = "arn:${AWS::Partition}:s3:::${AWS::StackName}-photos-${AWS::AccountId}-${AWS::Region}"
EXISTING = "arn:${AWS::Partition}:s3:::${ExistingInputBucket}"
RESULTS = "arn:${AWS::Partition}:s3:::${Results}"
RESULTS_BUCKET = {
    "Fn::If": ["NewResults", {"Ref": "ResultsBucket"}, {"Ref": "ExistingResultsBucket"}]
}
STATES = "arn:${AWS::Partition}:states:${AWS::Region}:${AWS::AccountId}"

ALLOWED = {
    "LabelRole": {
        ("sqs:ReceiveMessage", "${Queue.Arn}"),
        ("sqs:DeleteMessage", "${Queue.Arn}"),
        ("sqs:GetQueueAttributes", "${Queue.Arn}"),
        ("sqs:SendMessage", "${Queue.Arn}"),
        ("sqs:ChangeMessageVisibility", "${Queue.Arn}"),
        ("s3:GetObject", f"{NEW}/${{InputPrefix}}*"),
        ("s3:GetObject", f"{EXISTING}/${{InputPrefix}}*"),
        ("s3:ListBucket", NEW),
        ("s3:ListBucket", EXISTING),
        ("s3:GetObject", "arn:${AWS::Partition}:s3:::${Bucket}/models/${Name}/*"),
        ("s3:ListBucket", RESULTS),
        ("s3:GetObject", f"{RESULTS}/labels/parts/*"),
        ("s3:PutObject", f"{RESULTS}/labels/parts/*"),
        ("logs:CreateLogStream", "${LabelLogs.Arn}"),
        ("logs:PutLogEvents", "${LabelLogs.Arn}"),
        ("kms:Decrypt", "${InputKmsKeyArn}"),
    },
    "CompactRole": {
        ("s3:ListBucket", RESULTS),
        ("s3:GetObject", f"{RESULTS}/labels/manifest*"),
        ("s3:PutObject", f"{RESULTS}/labels/manifest*"),
        ("s3:GetObject", f"{RESULTS}/labels/failures*"),
        ("s3:PutObject", f"{RESULTS}/labels/failures*"),
        ("s3:GetObject", f"{RESULTS}/labels/parts/*"),
        ("s3:DeleteObject", f"{RESULTS}/labels/parts/*"),
        ("logs:CreateLogStream", "${CompactLogs.Arn}"),
        ("logs:PutLogEvents", "${CompactLogs.Arn}"),
    },
    "ScheduleRole": {("lambda:InvokeFunction", "${CompactFunction.Arn}")},
    "BackfillRole": {
        ("s3:ListBucket", NEW),
        ("s3:ListBucket", EXISTING),
        ("lambda:InvokeFunction", "${LabelFunction.Arn}"),
        ("s3:PutObject", f"{RESULTS}/backfills/*"),
        ("s3:GetObject", f"{RESULTS}/backfills/*"),
        ("s3:ListMultipartUploadParts", f"{RESULTS}/backfills/*"),
        ("s3:AbortMultipartUpload", f"{RESULTS}/backfills/*"),
        ("states:StartExecution", f"{STATES}:stateMachine:${{AWS::StackName}}-backfill"),
        *(
            (
                f"states:{action}Execution",
                f"{STATES}:execution:${{AWS::StackName}}-backfill{child}:*",
            )
            for action in ("Describe", "Stop", "Redrive")
            for child in ("", "/photos")
        ),
    },
}


def test_a_role_may_do_what_its_work_needs_and_nothing_else():
    assert {role: grants(role) for role in ROLES} == ALLOWED


def test_no_grant_is_a_wildcard():
    documents = [node for _, node in walk(RESOURCES) if node.get("Effect") == "Allow"]
    assert documents
    for statement in documents:
        assert "*" not in "".join(listed(statement["Action"]))
        assert statement.get("Principal") != "*"
        assert "*" not in [text(r) for r in both(listed(statement.get("Resource", [])))]


def test_every_function_has_a_role_of_its_own():
    roles = [text(function["Role"]) for function in FUNCTIONS.values()]
    assert sorted(roles) == ["${CompactRole.Arn}", "${LabelRole.Arn}"]
    assert text(properties("Backfill")["Role"]) == "${BackfillRole.Arn}"


# --- buckets and queues are closed ---------------------------------------------------------------


@pytest.mark.parametrize("bucket", BUCKETS)
def test_a_bucket_is_private_encrypted_and_versioned(bucket):
    given = properties(bucket)
    assert set(given["PublicAccessBlockConfiguration"].values()) == {True}
    assert len(given["PublicAccessBlockConfiguration"]) == 4
    assert given["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert given["VersioningConfiguration"] == {"Status": "Enabled"}
    assert given["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]


@pytest.mark.parametrize("queue", ["Queue", "DeadLetterQueue"])
def test_a_queue_is_encrypted(queue):
    assert properties(queue)["SqsManagedSseEnabled"] is True


@pytest.mark.parametrize(
    "policy", ["InputBucketPolicy", "ResultsBucketPolicy", "QueuePolicy", "DeadLetterQueuePolicy"]
)
def test_nothing_is_reached_without_tls(policy):
    statements = both(properties(policy)["PolicyDocument"]["Statement"])
    [denial] = [s for s in statements if s["Sid"] == "OnlyOverTls"]
    assert (denial["Effect"], denial["Principal"]) == ("Deny", "*")
    assert denial["Action"] in {"s3:*", "sqs:*"}
    assert denial["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def denials():
    statements = properties("ResultsBucketPolicy")["PolicyDocument"]["Statement"]
    return {statement["Sid"]: statement for statement in statements}


def test_manifests_can_only_be_written_conditionally():
    denial = denials()["ManifestsOnlyByConditionalWrites"]
    assert (denial["Effect"], denial["Principal"]) == ("Deny", "*")
    assert denial["Action"] == "s3:PutObject"
    written = {text(resource) for resource in denial["Resource"]}
    assert written == {f"{RESULTS}/labels/manifest*", f"{RESULTS}/labels/failures*"}
    # Both absent: all keys under one operator must hold.
    assert denial["Condition"]["Null"] == {"s3:if-match": "true", "s3:if-none-match": "true"}


def test_a_part_can_only_be_written_once():
    denial = denials()["PartsAreNeverReplaced"]
    assert denial["Effect"] == "Deny"
    assert text(denial["Resource"]) == f"{RESULTS}/labels/parts/*"
    assert denial["Condition"]["Null"] == {"s3:if-none-match": "true"}


# --- what is already there -----------------------------------------------------------------------


def test_the_state_machine_gets_every_value_it_names():
    named = set(re.findall(r"\$\{(\w+)\}", STATE_MACHINE))
    assert named == set(properties("Backfill")["DefinitionSubstitutions"])


def test_a_backfill_calls_the_function_of_the_queue_in_batches():
    state = json.loads(STATE_MACHINE)["States"]["LabelExistingPhotos"]
    assert state["ItemReader"]["Resource"].endswith(":states:::s3:listObjectsV2")
    assert state["ItemBatcher"]["MaxItemsPerBatch"] == 100
    assert state["ItemProcessor"]["ProcessorConfig"]["Mode"] == "DISTRIBUTED"
    assert 0 < state["ToleratedFailurePercentage"] <= 10
    substitutions = properties("Backfill")["DefinitionSubstitutions"]
    assert text(substitutions["LabelFunction"]) == "${LabelFunction.Arn}"
    assert substitutions["ResultsBucket"] == RESULTS_BUCKET


def test_a_batch_of_a_backfill_fits_an_express_execution_twice():
    state = json.loads(STATE_MACHINE)["States"]["LabelExistingPhotos"]
    assert state["ItemProcessor"]["ProcessorConfig"]["ExecutionType"] == "EXPRESS"
    assert 2 * FUNCTIONS["LabelFunction"]["Timeout"] < 300  # an express execution's five minutes


def test_a_batch_that_fails_is_labelled_photo_by_photo_in_a_process_of_its_own():
    state = json.loads(STATE_MACHINE)["States"]["LabelExistingPhotos"]
    states = state["ItemProcessor"]["States"]
    [caught] = states["LabelBatch"]["Catch"]
    assert caught["ErrorEquals"] == ["States.ALL"]
    assert "'isolated': true" in caught["Output"]
    assert states[caught["Next"]]["Arguments"] == states["LabelBatch"]["Arguments"]


def test_reports_of_a_backfill_land_where_its_role_may_write_and_labels_are_not():
    writer = json.loads(STATE_MACHINE)["States"]["LabelExistingPhotos"]["ResultWriter"]
    assert writer["Arguments"]["Prefix"] == "backfills"


# --- what watches --------------------------------------------------------------------------------

OF_AWS = {
    "AWS/SQS": {"ApproximateNumberOfMessagesVisible", "ApproximateAgeOfOldestMessage"},
    "AWS/Lambda": {"Errors", "Duration", "Invocations", "Throttles", "ConcurrentExecutions"},
    "AWS/States": {"ExecutionsFailed"},
}
"""https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/aws-services-cloudwatch-metrics.html"""


def is_emitted(namespace, metric):
    if namespace == GLOBALS["Environment"]["Variables"]["POWERTOOLS_METRICS_NAMESPACE"]:
        return metric in strings_of_the_handler()
    return metric in OF_AWS[namespace]


@pytest.mark.parametrize("alarm", ALARMS)
def test_an_alarm_watches_a_metric_that_somebody_emits(alarm):
    metrics = [node for _, node in walk(properties(alarm)) if "MetricName" in node]
    assert metrics
    for metric in metrics:
        assert is_emitted(metric["Namespace"], metric["MetricName"])
        if metric["Namespace"] == "AlpacaLabeler":
            service = environment("LabelFunction")["POWERTOOLS_SERVICE_NAME"]
            assert metric["Dimensions"] == [{"Name": "service", "Value": service}]


@pytest.mark.parametrize("alarm", ALARMS)
def test_an_alarm_says_what_to_do_and_tells_somebody(alarm):
    given = properties(alarm)
    first = text(given["AlarmDescription"]).partition(" First")[2].partition(": ")[2]
    assert re.fullmatch(r"alpaca (status|.* --stack) \$\{AWS::StackName\}( --list)?", first), first
    assert {"Ref": "AlarmTopicArn"} in both(given["AlarmActions"])
    if given["TreatMissingData"] != "notBreaching":
        # What is missing is the trouble: the alarm tells when it is left without data.
        assert {"Ref": "AlarmTopicArn"} in both(given["InsufficientDataActions"])


def test_what_can_go_wrong_has_an_alarm():
    assert set(ALARMS) == {
        "BackfillFailedAlarm",
        "BrokenPartsAlarm",
        "CompactErrorsAlarm",
        "CompactStoppedAlarm",
        "DeadLettersAlarm",
        "FailureRateAlarm",
        "LabelDurationAlarm",
        "LabelErrorsAlarm",
        "ModelPointerAlarm",
        "OldestMessageAlarm",
        "RetriesAlarm",
    }


def value_of(alarm, **sums):
    """What CloudWatch computes of one period's sums, as far as the template uses its language."""
    [expression] = [m["Expression"] for m in properties(alarm)["Metrics"] if "Expression" in m]
    python = re.sub(r"^IF\((.+?), (.+), 0\)$", r"(\2) if (\1) else 0", expression)
    return eval(python, {}, sums)


def test_an_outage_is_heard_within_ten_minutes():
    [period] = {m["MetricStat"]["Period"] for m in properties("RetriesAlarm")["Metrics"][1:]}
    given = properties("RetriesAlarm")
    assert period * given["EvaluationPeriods"] <= 300
    # One photo alone, handed back after 0, 30 and 90 seconds, is enough to tell.
    assert value_of("RetriesAlarm", retried=3, labelled=0, failed=0) > given["Threshold"]
    assert value_of("RetriesAlarm", retried=0, labelled=0, failed=0) == 0
    assert value_of("RetriesAlarm", retried=10, labelled=900, failed=90) < given["Threshold"]


def test_a_few_odd_files_raise_no_alarm_and_many_do():
    threshold = PARAMETERS["FailurePercent"]["Default"]
    assert value_of("FailureRateAlarm", failed=1, labelled=0) == 0
    assert value_of("FailureRateAlarm", failed=49, labelled=0) == 0
    assert value_of("FailureRateAlarm", failed=11, labelled=39) > threshold


def test_one_batch_that_is_repeated_with_success_raises_no_alarm():
    given = properties("LabelErrorsAlarm")
    assert (given["DatapointsToAlarm"], given["EvaluationPeriods"], given["Period"]) == (2, 3, 300)


def test_compaction_that_is_never_started_is_heard():
    given = properties("CompactStoppedAlarm")
    assert (given["MetricName"], given["ComparisonOperator"]) == (
        "Invocations",
        "LessThanThreshold",
    )
    rarest = PARAMETERS["CompactEvery"]["AllowedValues"][-1]
    assert rarest == "rate(1 hour)"
    assert given["Period"] * given["EvaluationPeriods"] >= 2 * 3600, "no alarm between two runs"


def test_the_duration_alarm_goes_off_before_the_timeout_does():
    timeout = 1000 * FUNCTIONS["LabelFunction"]["Timeout"]
    assert 0.5 * timeout < properties("LabelDurationAlarm")["Threshold"] < 0.9 * timeout


def dashboard():
    body = properties("Dashboard")["DashboardBody"]["Fn::Sub"]
    return json.loads(re.sub(r"\$\{[^}]+\}", "x", body))["widgets"], body


def test_the_dashboard_shows_metrics_that_somebody_emits():
    widgets, _ = dashboard()
    for widget in widgets:
        before: list[str] = []
        for line in widget["properties"].get("metrics", []):
            row = [cell for cell in line if isinstance(cell, str)]
            if row and row[0] == "...":  # as the line above, but for the last cells
                row = before[: len(before) - len(row) + 1] + row[1:]
            row = [before[i] if cell == "." else cell for i, cell in enumerate(row)]
            assert is_emitted(row[0], row[1]), row
            before = row


def test_the_dashboard_shows_every_alarm():
    _, body = dashboard()
    assert [alarm for alarm in ALARMS if f"${{{alarm}.Arn}}" not in body] == []


@pytest.mark.parametrize("name", FUNCTIONS)
def test_logs_are_kept_for_as_long_as_was_asked(name):
    group = FUNCTIONS[name]["LoggingConfig"]["LogGroup"]["Ref"]
    assert properties(group)["RetentionInDays"] == {"Ref": "LogDays"}


def test_every_exception_from_a_check_has_its_reason():
    skips = [skip for _, n in walk(RESOURCES) if "skip" in n for skip in n["skip"]]
    assert skips
    assert all(len(skip["comment"]) > 10 for skip in skips)


# --- on a laptop ---------------------------------------------------------------------------------


def test_the_sample_environment_sets_variables_that_the_template_names():
    given = json.loads((ROOT / "infra/env.json").read_text(encoding="utf-8"))["Parameters"]
    assert set(given) <= set(environment("LabelFunction"))
    assert given["INPUT_URI"] != given["RESULTS_URI"]


@pytest.mark.parametrize(
    "event", sorted((ROOT / "infra/events").glob("*.json")), ids=lambda e: e.stem
)
def test_a_sample_event_speaks_of_the_sample_bucket(event):
    content = event.read_text(encoding="utf-8")
    assert isinstance(json.loads(content), dict)
    if event.stem != "compact":
        assert "photos" in content
        assert "farm/alpaca" in content
