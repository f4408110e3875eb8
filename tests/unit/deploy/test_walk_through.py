"""What deploy/k8s/README.md tells a newcomer to type, as far as that needs no cluster."""

import json
import re
import subprocess
import tomllib

import pytest

from octarm.gateway.app import openapi
from octarm.models.contracts import TaskSubmission
from tests.support.manifests.cluster import K8S, object_of, of_kind, secrets, workloads
from tests.support.manifests.dockerfile import stages
from tests.support.sources import ROOT

PAGE = (K8S / "README.md").read_text(encoding="utf-8")
WALK = PAGE.partition("## Try it on one machine")[2].partition("\n## ")[0]
BLOCKS = re.findall(r"```bash\n(.*?)```", WALK, re.DOTALL)
LINES = [
    line.strip()
    for block in BLOCKS
    for line in block.replace("\\\n", " ").splitlines()
    if line.strip()
]
KUBECTL = [line for line in LINES if "kubectl" in line]


def test_nothing_is_typed_that_the_page_does_not_ask_for() -> None:
    programs = {line.split()[0].split("=")[0] for line in LINES}

    assert programs == {"kind", "for", "docker", "done", "kubectl", "deploy/k8s/secrets.sh"} | {
        *("key", "curl")
    }
    for program in ("kind", "kubectl", "openssl", "Docker"):
        assert program in WALK.partition("```")[0]


@pytest.mark.parametrize("block", BLOCKS, ids=["make", "forward", "use"])
def test_a_shell_understands_it(block: str) -> None:
    found = subprocess.run(["bash", "-n", "-c", block], capture_output=True, text=True)

    assert (found.returncode, found.stderr) == (0, "")


def test_every_file_is_there() -> None:
    named = set(re.findall(r"(?<![\w/.])deploy/[\w./-]+", WALK))

    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []
    assert (K8S / "secrets.sh").stat().st_mode & 0o111
    assert (K8S / "overlays/dev/kustomization.yaml").exists()


def test_what_is_built_and_loaded_is_what_the_pods_ask_for() -> None:
    built, loaded = (set(one.split()) for one in re.findall(r"for service in (.+); do", WALK))
    tags = set(re.findall(r"octarm/(?:\$service|llm):(\S+)", WALK))
    asked = [one for one in workloads("dev") if one.is_ours]

    assert built | {"llm"} == loaded
    assert {it["image"] for one in asked for it in one.containers} == {
        f"octarm/{service}:{tag}" for service in loaded for tag in tags
    }
    # Otherwise kind would look for them in a registry.
    assert not any(it.get("imagePullPolicy") for one in asked for it in one.containers)


def test_images_are_built_by_arguments_that_the_dockerfile_takes() -> None:
    known = {
        one.value.partition("=")[0]
        for stage in stages(ROOT / "deploy/Dockerfile")
        for one in stage.of("ARG")
    }
    given = dict(re.findall(r"--build-arg (\w+)=(\S+)", WALK))
    llm = tomllib.loads((ROOT / "arms/llm/pyproject.toml").read_text())["project"]

    assert given.keys() <= known
    assert given["EXTRA"] in llm["optional-dependencies"]


def test_every_command_is_about_one_cluster_and_one_namespace() -> None:
    assert set(re.findall(r"--name (\S+)", WALK)) == {"octarm"}
    assert object_of("dev", "Namespace", "octarm")
    for line in KUBECTL:
        assert "--namespace octarm" in line or "namespace.yaml" in line or "--kustomize" in line


def test_secrets_are_there_before_what_mounts_them() -> None:
    order = [
        WALK.index(it) for it in ("namespace.yaml", "secrets.sh 1", "--kustomize", "wait --for")
    ]

    assert order == sorted(order)
    assert object_of("dev", "StatefulSet", "octarm-nats")["spec"]["replicas"] == 1


def test_what_is_waited_for_is_there() -> None:
    conditions = dict(re.findall(r"--for=condition=(\w+) (\w+) --all", WALK))

    assert conditions == {"complete": "job", "available": "deployment"}
    assert of_kind("dev", "Job")
    assert of_kind("dev", "Deployment")


def test_the_port_that_is_forwarded_is_the_apis() -> None:
    ((service, local, remote),) = re.findall(r"port-forward service/(\S+) (\d+):(\d+)", WALK)
    ports = object_of("dev", "Service", service)["spec"]["ports"]

    assert int(remote) in [port["port"] for port in ports]
    assert set(re.findall(r"http://127\.0\.0\.1:(\d+)", WALK)) == {local}


def test_the_key_that_is_read_is_one_that_the_gateway_takes() -> None:
    ((name, key),) = re.findall(r"get secret (\S+) --output jsonpath='\{\.data\.([\w-]+)\}'", WALK)
    made = secrets(1)

    assert json.loads(made["octarm-gateway"]["octarm_api_keys"])[made[name][key]] == "default"


def test_the_task_is_one_that_an_arm_of_the_overlay_does() -> None:
    (body,) = re.findall(r"-d '(\{.*?\})'", WALK, re.DOTALL)
    task = TaskSubmission.model_validate_json(body)

    assert {f"octarm-{need}" for need in task.required_capabilities} <= {
        doc["metadata"]["name"] for doc in of_kind("dev", "Deployment")
    }


def test_the_api_has_what_is_asked() -> None:
    paths = openapi()["paths"]
    result = paths["/v1/tasks/{task_id}/result"]["get"]

    assert "post" in paths["/v1/tasks"]
    assert "/v1/tasks/tsk_…/result?wait=60" in WALK
    assert "wait" in {it["name"] for it in result["parameters"]}


def test_namespaces_of_others_are_those_of_the_policies() -> None:
    production = PAGE.partition("## Production")[2].partition("\n## ")[0]
    policies = json.dumps(of_kind("prod", "NetworkPolicy"))

    for namespace in ("keda", "ingress-nginx", "observability"):
        assert f"`{namespace}`" in production
        assert f'"{namespace}"' in policies
