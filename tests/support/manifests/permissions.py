"""What an arm may do on the bus of deploy/k8s, and what it may not: one subject for each wish."""

from octarm.common.bus.topology import arm_durable
from octarm.models import subjects as s

ARMS = ("llm", "retriever")
ASKED = (
    s.REGISTER_ARM,
    s.GET_ARM,
    s.GET_STATES,
    s.GET_EPISODE,
    s.FIND_EPISODES,
    s.WRITE_EPISODES,
    s.FORGET_EPISODE,
    s.REMEMBER,
    s.SEARCH_MEMORY,
    s.GET_MEMORY,
    s.FORGET_MEMORY,
)
NEVER_ASKED = (
    s.SUBMIT_TASKS,
    s.CANCEL_TASK,
    s.REJECT_TASKS,
    s.RECONCILE_LEDGER,
    s.SWITCH_SHEDDING,
    s.DRAIN_ARM,
    s.DEREGISTER_ARM,
    s.ERASE_SUBJECT,
    s.REEMBED,
)


def allowed_to_publish(arm: str) -> list[str]:
    """What an arm reports and asks, under its own name."""
    consumer = f"{s.DISPATCH}.{arm_durable(arm)}"
    return [
        s.HEARTBEAT.at(arm_id=arm, instance_id="i-1"),
        s.RESULT.at(arm_id=arm),
        s.RESULTS_REPORTED.at(arm_id=arm),
        s.ATTEMPTS_UPDATED.at(arm_id=arm),
        s.SPEND_REPORTED.at(arm_id=arm),
        s.CHUNK.at(task_id="tsk_1"),
        s.DEAD_LETTER.format(origin=arm_durable(arm)),
        *(query.template for query in ASKED),
        f"$JS.API.CONSUMER.INFO.{consumer}",
        f"$JS.API.CONSUMER.MSG.NEXT.{consumer}",
        f"$JS.ACK.{consumer}.1.1.1.1.1",
    ]


def allowed_to_hear(arm: str) -> list[str]:
    """Its own answers and what is called to it."""
    return [f"_INBOX.{arm}.*", s.CONTROL.at(arm_id=arm)]


def forbidden_to_publish(arm: str, other: str) -> list[str]:
    """To speak as another arm or a service, and to change or read streams and buckets."""
    foreign = arm_durable(other)
    return [
        s.HEARTBEAT.at(arm_id=other, instance_id="i-1"),
        s.RESULT.at(arm_id=other),
        s.RESULTS_REPORTED.at(arm_id=other),
        s.ATTEMPTS_UPDATED.at(arm_id=other),
        s.SPEND_REPORTED.at(arm_id=other),
        s.CONTROL.at(arm_id=other),
        s.CONTROL.at(arm_id=arm),
        s.RUN_TASKS.at(arm_id=arm),
        s.SUBMIT_TASK.at(tenant="acme"),
        s.PLACE_TASKS.at(shard=0),
        s.LEAD_SHARD.at(shard=0),
        s.TASKS_ENDED.template,
        s.KEEP_WRITES.template,
        s.TASK_EVENTS.at(what="completed", tenant="acme", bucket=0),
        s.ARM_EVENT.at(verb="offline", arm_id=other),
        *(query.template for query in NEVER_ASKED),
        f"_INBOX.{other}.answer",
        f"$KV.{s.ARMS_BUCKET}.{arm}",
        f"$KV.{s.LEADERS_BUCKET}.scheduler-0",
        f"$KV.{s.POLICIES_BUCKET}.default",
        "$JS.API.INFO",
        "$JS.API.STREAM.CREATE.MINE",
        f"$JS.API.STREAM.UPDATE.{s.RESULTS}",
        f"$JS.API.STREAM.DELETE.{s.READY}",
        f"$JS.API.STREAM.PURGE.{s.DISPATCH}",
        f"$JS.API.STREAM.INFO.{s.EVENTS}",
        f"$JS.API.STREAM.MSG.GET.{s.RESULTS}",
        f"$JS.API.STREAM.MSG.DELETE.{s.RESULTS}",
        f"$JS.API.STREAM.SNAPSHOT.{s.EVENTS}",
        f"$JS.API.DIRECT.GET.KV_{s.ARMS_BUCKET}",
        f"$JS.API.CONSUMER.CREATE.{s.EVENTS}.mine",
        f"$JS.API.CONSUMER.DELETE.{s.DISPATCH}.{arm_durable(arm)}",
        f"$JS.API.CONSUMER.INFO.{s.DISPATCH}.{foreign}",
        f"$JS.API.CONSUMER.MSG.NEXT.{s.DISPATCH}.{foreign}",
        f"$JS.API.CONSUMER.MSG.NEXT.{s.RESULTS}.orchestrator-finish-task",
        f"$JS.ACK.{s.DISPATCH}.{foreign}.1.1.1.1.1",
    ]


def forbidden_to_hear(other: str) -> list[str]:
    """What others are told, asked and answered."""
    return [
        ">",
        "_INBOX.>",
        f"_INBOX.{other}.*",
        s.CONTROL.at(arm_id=other),
        s.CONTROL.pattern,
        s.RUN_TASKS.pattern,
        s.RESULT.pattern,
        s.TASK_EVENTS.pattern,
        s.HEARTBEAT.pattern,
        s.CHUNK.pattern,
        s.SUBMIT_TASKS.template,
        s.SEARCH_MEMORY.template,
        f"$KV.{s.POLICIES_BUCKET}.>",
        "$JS.EVENT.>",
        "$SYS.>",
    ]
