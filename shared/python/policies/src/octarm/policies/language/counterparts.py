"""What the functions of schedulers for GPU workers are called here, or why they have gone.

There a job needs a model in the memory of a GPU on a worker of a pool. Here a task needs
capabilities of an arm; it takes slots, and it costs.
"""

from typing import Final

# Theirs, and the helpers, fields (`task.…`, `arm.…`, `ctx.…`) or builtins that do it here.
COUNTERPARTS: Final[dict[str, tuple[str, ...]]] = {
    "get_job": ("get_task",),
    "filter_jobs": ("filter_tasks",),
    "filter_pools": ("filter_arms",),
    "get_all_workers": ("all_instances",),
    "find_workers_by_model": ("find_arms_by_capability",),
    "filter_models": ("list_capabilities", "find_capabilities_by_prefix"),
    "find_least_loaded_worker": ("find_least_loaded_arm",),
    "find_most_vram_free_worker": ("find_most_free_arm",),
    "find_ready_worker": ("find_ready_arm",),
    "find_worker_round_robin": ("find_arm_round_robin",),
    "filter_workers": ("eligible_arms", "best_arm"),
    "get_pool": ("get_arm",),
    "find_pools_with_capacity": ("find_arms_with_room",),
    "is_pool_healthy": ("is_arm_healthy",),
    "get_pool_utilization": ("arm_utilization",),
    "find_gpus_with_vram": ("find_arms_with_label", "find_arms_with_room"),
    "get_gpu": ("get_instance",),
    "check_gpu_compatibility": ("check_compatibility",),
    "estimate_performance": ("estimate_performance",),
    "get_model": ("get_capability",),
    "model_exists": ("capability_exists",),
    "find_models_by_family": ("find_capabilities_by_prefix",),
    "get_model_vram": ("task_slots",),
    "calculate_wait_time": ("wait_time",),
    "estimate_job_duration": ("estimate_task_duration",),
    "can_job_fit": ("can_task_fit",),
    "get_job_priority_score": ("task_priority_score",),
    "check_tenant_quota": ("check_tenant_quota",),
    "get_tenant_usage": ("get_tenant_usage",),
    "estimate_quota_impact": ("estimate_quota_impact",),
    "find_worker_to_evict_lru": ("find_instance_to_evict_lru",),
    "find_worker_to_evict_lfu": ("find_instance_to_evict_lfu",),
    "should_evict": ("should_evict",),
    "find_model_to_evict": ("find_arm_to_shrink",),
    "log_info": ("log_info",),
    "log_warn": ("log_warn",),
    "log_error": ("log_error",),
    "log_debug": ("log_debug",),
    "emit_metric": ("emit_metric",),
    "now": ("now",),
    "elapsed_since": ("elapsed_since",),
    "average": ("average",),
    "max": ("max (builtin)", "max_by"),
    "min": ("min (builtin)", "min_by"),
    "string_contains": ("string_contains",),
    "string_starts_with": ("string_starts_with",),
    "platform_schedule": ("platform_schedule",),
    "get_platform_scheduler_source": ("get_platform_scheduler_source",),
    "workers.idle": ("find_arms_with_room",),
    "workers.with_model": ("find_arms_by_capability",),
    "workers.with_capacity": ("find_arms_with_room",),
    "workers.least_loaded": ("find_least_loaded_arm",),
    "workers.most_vram_free": ("find_most_free_arm",),
    "workers.round_robin": ("find_arm_round_robin",),
    "workers.filter": ("filter_arms",),
    "workers.min_by": ("min_by", "best_arm"),
    "workers.max_by": ("max_by",),
    "workers.first": ("first",),
    "hives.online": ("filter_arms", "arm.status"),
    "hives.available": ("find_arms_with_room",),
    "hives.get": ("get_arm",),
    "tenant_over_quota": ("tenant_over_quota",),
    "tenant remaining_quota": ("remaining_quota",),
    "tenant usage": ("get_tenant_usage",),
    "reject": ("reject",),
    "dispatch": ("dispatch", "place"),
    "wait": ("wait",),
    "start_worker": ("start",),
    "evict_worker": ("evict",),
    "batch": ("the returned list",),
}

# Theirs, and why there is nothing of the kind here.
GONE: Final[dict[str, str]] = {
    "refresh_pool_state": "the context is one snapshot per cycle: refreshed half-way, the same "
    "context could give two answers",
    "resolve_model": "capabilities have no aliases: an arm lists every tag that it answers to",
    "model_size_bytes, model vram_required": "what a task takes of an arm is its slots "
    "(`task.slots`); memory is the arm's own business",
    "predict_job_duration, predict_gpu_utilization, get_historical_metrics": "estimates come with "
    "the task (`est_ms`, `est_cost`) and with the arm (`avg_latency_ms`, `success_rate`), rates "
    "with `ctx.metrics`",
    "enable_ab_test": "two versions are compared by shadowing, outside the policy",
}
