import subprocess
import sys

from octarm.policies.context import ArmFacts, Context, TaskFacts
from octarm.policies.language.catalog import helpers
from octarm.policies.language.counterparts import COUNTERPARTS, GONE
from octarm.policies.language.evaluator import Evaluator
from octarm.policies.language.reference import BUILTINS, page
from tests.support.sources import ROOT

# What schedulers for GPU workers offer their scripts, group by group.
THEIRS = """
get_job filter_jobs filter_pools get_all_workers find_workers_by_model filter_models
find_least_loaded_worker find_most_vram_free_worker find_ready_worker find_worker_round_robin
filter_workers
refresh_pool_state get_pool find_pools_with_capacity is_pool_healthy get_pool_utilization
find_gpus_with_vram get_gpu check_gpu_compatibility estimate_performance
resolve_model get_model model_exists find_models_by_family get_model_vram
calculate_wait_time estimate_job_duration can_job_fit get_job_priority_score
check_tenant_quota get_tenant_usage estimate_quota_impact
find_worker_to_evict_lru find_worker_to_evict_lfu should_evict find_model_to_evict
log_info log_warn log_error log_debug emit_metric now elapsed_since average max min
string_contains string_starts_with
platform_schedule get_platform_scheduler_source
workers.idle workers.with_model workers.with_capacity workers.least_loaded workers.most_vram_free
workers.round_robin workers.filter workers.min_by workers.max_by workers.first
hives.online hives.available hives.get
tenant_over_quota reject dispatch wait start_worker evict_worker batch
predict_job_duration predict_gpu_utilization get_historical_metrics enable_ab_test
"""
PAGE = ROOT / "docs/reference/policy-helpers.md"


def test_the_page_is_what_the_helpers_say() -> None:
    command = [sys.executable, "-m", "octarm.policies.language.reference"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert PAGE.read_text(encoding="utf-8") == printed == page(), "run `make reference`"


def test_every_counterpart_exists() -> None:
    known = {helper.name for helper in helpers()}
    named = {name for names in COUNTERPARTS.values() for name in names}

    assert {name for name in named if " " not in name and "." not in name} <= known
    assert len(COUNTERPARTS) + len(GONE) >= 50


def test_every_builtin_that_the_page_names_exists() -> None:
    evaluator = Evaluator()
    names = BUILTINS.split("There is no")[0].split("`")[1::2]

    for name in names:
        evaluator.compile(f"x = {name}\ndef schedule(ctx):\n    return [x]")

    assert "sorted" in names


def test_every_function_of_schedulers_for_gpu_workers_has_a_counterpart_or_a_reason() -> None:
    gone = {name for names in GONE for name in names.split(", ")}
    rows = PAGE.read_text(encoding="utf-8").split("## Coming from a scheduler for GPU workers")[1]

    assert set(THEIRS.split()) <= COUNTERPARTS.keys() | gone
    assert not COUNTERPARTS.keys() & gone
    assert all(f"| `{theirs}` |" in rows for theirs in (*COUNTERPARTS, *GONE))
    assert all(len(reason) > 20 for reason in GONE.values())


def test_every_field_that_is_a_counterpart_exists() -> None:
    objects = {"task": TaskFacts, "arm": ArmFacts, "ctx": Context}
    named = {name for names in COUNTERPARTS.values() for name in names if "." in name}

    for name in named:
        of, field = name.split(".")
        assert field in objects[of].__struct_fields__
