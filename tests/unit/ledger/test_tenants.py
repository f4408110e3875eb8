"""What the operator lays down for single tenants."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from octarm.common.service import read_settings
from octarm.ledger.domain.tasks import NewTask, new_task
from octarm.ledger.domain.tenants import TenantRules, Tenants
from octarm.models.contracts import TaskContract, TaskSubmission
from octarm.models.errors import OctarmError
from octarm.models.ids import new_id
from octarm.orchestrator.settings import Settings
from tests.support.ledger import a_new_task

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
TASK_ID, PARENT_ID = new_id("tsk"), new_id("tsk")


def settings(monkeypatch: pytest.MonkeyPatch, tenants: str) -> Settings:
    monkeypatch.setenv("OCTARM_POSTGRES_URL", "postgresql://nowhere")
    monkeypatch.setenv("OCTARM_TENANTS", tenants)
    return read_settings(Settings)


def test_a_tenant_that_is_not_named_has_no_limits() -> None:
    tenants = Tenants({"acme": TenantRules(max_open=5)})

    assert tenants.of("acme").max_open == 5
    assert tenants.of("other") == TenantRules()
    assert not tenants.of("other").is_limited


def test_only_tenants_with_a_quota_are_counted() -> None:
    rules = {
        "open": TenantRules(max_open=1),
        "flight": TenantRules(max_in_flight=1),
        "budget": TenantRules.model_validate({"default_budget": {"max_tokens": 10}}),
    }

    assert Tenants(rules).limited == {"open", "flight"}


def test_rules_can_be_replaced() -> None:
    tenants = Tenants({"acme": TenantRules(max_open=5)})

    tenants.replace({"other": TenantRules(max_in_flight=1)})

    assert tenants.limited == {"other"}
    assert tenants.of("acme") == TenantRules()


def test_the_setting_is_a_json_object(monkeypatch: pytest.MonkeyPatch) -> None:
    text = json.dumps({"acme": {"max_in_flight": 3, "default_budget": {"max_tokens": 100}}})

    rules = settings(monkeypatch, text).tenants["acme"]

    assert rules.max_in_flight == 3
    assert rules.default_budget is not None
    assert rules.default_budget.max_tokens == 100


def test_the_setting_may_stand_in_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "octarm.toml"
    file.write_text("[orchestrator.tenants.acme]\nmax_open = 7\n", encoding="utf-8")
    monkeypatch.setenv("OCTARM_CONFIG", str(file))

    assert settings(monkeypatch, "").tenants == {"acme": TenantRules(max_open=7)}


@pytest.mark.parametrize(
    "text",
    [
        "{",
        '{"acme": {"max_opne": 1}}',
        '{"acme": {"max_open": 0}}',
        '{"acme": {"max_open": true}}',
        '{"Not A Name": {}}',
    ],
)
def test_what_makes_no_sense_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    with pytest.raises(OctarmError):
        settings(monkeypatch, text)


def test_a_task_under_a_quota_is_held_unless_something_else_keeps_it_waiting() -> None:
    free, fresh = a_new_task(), replace(a_new_task(), has_quota=True)
    blocked = replace(fresh, blocked=True)
    later = replace(fresh, not_before=datetime(2100, 1, 1, tzinfo=UTC))

    assert [task.held for task in (free, fresh, blocked, later)] == [False, True, False, False]
    assert [task.waits for task in (free, fresh, blocked, later)] == [False, True, True, True]


class TestDefaultBudget:
    RULES = TenantRules.model_validate({"default_budget": {"max_tokens": 10, "max_retries": 1}})

    def make(self, rules: TenantRules = RULES, **fields: Any) -> NewTask:
        submission = TaskSubmission.model_validate({"goal": "x"} | fields)
        return new_task(
            submission, task_id=TASK_ID, tenant="acme", traceparent="", now=NOON, rules=rules
        )

    def test_is_given_to_a_task_that_brings_none(self) -> None:
        task = self.make()

        contract = TaskContract.model_validate_json(task.contract)
        assert (task.grant[0], task.max_retries) == (10, 1)
        assert contract.budget == self.RULES.default_budget
        assert task.req_hash == self.make(TenantRules()).req_hash

    @pytest.mark.parametrize(
        ("rules", "fields", "tokens"),
        [
            (RULES, {"budget": {"max_tokens": 7}}, 7),
            (RULES, {"budget": {"max_llm_calls": 7}}, None),
            (RULES, {"parent_task_id": PARENT_ID}, None),
            (TenantRules(), {}, None),
        ],
    )
    def test_is_given_to_no_other(
        self, rules: TenantRules, fields: dict[str, Any], tokens: int | None
    ) -> None:
        assert self.make(rules, **fields).grant[0] == tokens
