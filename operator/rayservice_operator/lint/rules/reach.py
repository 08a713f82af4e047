"""Rules about ports, proxies and versions: whether anybody gets through, and whether nodes join."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from rayservice_operator.cluster.services import serve_ports
from rayservice_operator.cluster.view import Version, version_of_image
from rayservice_operator.core.findings import Severity
from rayservice_operator.lint.nodes import GPU, MEMORY, claims_devices
from rayservice_operator.lint.reading import as_count, as_list, as_map, as_text, plain
from rayservice_operator.lint.rule import Problem, Rule
from rayservice_operator.lint.subject import SERVE_CONFIG, Subject

_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_RAY_IMAGES: Final = frozenset({"ray", "ray-ml", "ray-llm"})
_RAY_MAJOR: Final = 2
_SERVE_PORT: Final = 8000
_GRPC_PORT: Final = 9000
_LEAST_OBJECT_STORE: Final = 75 * 1024 * 1024  # Ray 2.60, OBJECT_STORE_MINIMUM_MEMORY_BYTES


def _exposed(subject: Subject) -> dict[str, int]:
    """Ports of the serve service by name; none where the head's cannot be read."""
    if not subject.nodes:
        return {}
    ports = as_list(subject.view.head.ray_container.get("ports"))
    return serve_ports(subject.view) if all(as_count(as_map(p).get("containerPort")) for p in ports) else {}


def _host(subject: Subject) -> Iterator[Problem]:
    host = as_text(as_map(as_map(subject.document).get("http_options")).get("host"))
    if host in _LOOPBACK:
        problem = f"is {host}: the proxies answer nobody outside of their pod"
        yield Problem((*SERVE_CONFIG, "http_options", "host"), problem, "Write 0.0.0.0, or remove it")


def _http_port(subject: Subject) -> Iterator[Problem]:
    options = as_map(as_map(subject.document).get("http_options"))
    port = as_count(options.get("port"))
    if subject.document is None:
        return
    exposed = _exposed(subject).get("serve")
    wanted = _SERVE_PORT if port is None else port
    if exposed is not None and exposed != wanted:
        path = (*SERVE_CONFIG, "http_options", "port") if port is not None else SERVE_CONFIG
        said = f"is {port}" if port is not None else f"has no http_options.port, so it is {_SERVE_PORT}"
        problem = f"{said}, but the port named serve of the head's container is {exposed}"
        yield Problem(path, problem, f"Name containerPort {wanted} serve, or set http_options.port to {exposed}")


def _grpc(subject: Subject) -> Iterator[Problem]:
    options = as_map(as_map(subject.document).get("grpc_options"))
    if "port" in options and not as_list(options.get("grpc_servicer_functions")):
        problem = "has a port but no grpc_servicer_functions, without which Ray starts no gRPC proxy"
        yield Problem((*SERVE_CONFIG, "grpc_options"), problem, "List them, or remove grpc_options")


def _grpc_port(subject: Subject) -> Iterator[Problem]:
    options = as_map(as_map(subject.document).get("grpc_options"))
    exposed = _exposed(subject)
    if not as_list(options.get("grpc_servicer_functions")) or not exposed:
        return
    given = as_count(options.get("port"))
    port = _GRPC_PORT if given is None else given
    if subject.service is not None and port not in exposed.values():
        extra = as_list(as_map(as_map(subject.service.serve_service).get("spec")).get("ports"))
        if any(port in (as_map(item).get("targetPort"), as_map(item).get("port")) for item in extra):
            return
        path = (*SERVE_CONFIG, "grpc_options", *(() if given is None else ("port",)))
        problem = f"is {port}" if given is not None else f"uses port {port}"
        problem += ", which the serve service does not have"
        fix = f"Add a port named serve-grpc with containerPort {port} to the head's container"
        yield Problem(path, problem, fix)


def _endpoints(subject: Subject) -> Iterator[Problem]:
    location = as_map(subject.document).get("proxy_location")
    if location == "Disabled":
        problem = "is Disabled: there are no proxies, so the serve service has no endpoints"
        yield Problem((*SERVE_CONFIG, "proxy_location"), problem, "Write EveryNode, or remove it")
    if subject.service is None or not subject.service.exclude_head_pod_from_serve_svc or not subject.nodes:
        return
    if location == "HeadOnly":
        problem = "keeps out the only pod that has a proxy (proxy_location: HeadOnly)"
    elif len(subject.nodes) == 1:
        problem = "keeps out the head, and there are no workers"
    else:
        return
    yield Problem(("spec", "excludeHeadPodFromServeSvc"), problem, "Remove it, or have proxies on workers")


def _versions(subject: Subject) -> Iterator[Problem]:
    if not subject.nodes:
        return
    tags = [(node, _ray_of(as_text(node.group.ray_container.get("image")))) for node in subject.nodes]
    head = tags[0][1]
    for node, version in tags[1:]:
        if head and version and version != head:
            path = (*node.path, "template", "spec", "containers", 0, "image")
            problem = f"has Ray {_dotted(version)}, but the head has {_dotted(head)}: such a worker cannot join"
            yield Problem(path, problem, "Use images with the same version of Ray")


def _declared_version(subject: Subject) -> Iterator[Problem]:
    if not subject.nodes or not subject.spec.ray_version:
        return
    declared = subject.view.ray_version
    image = _ray_of(as_text(subject.view.head.ray_container.get("image")))
    if declared and image and declared[:2] != image[:2]:
        problem = f"is {subject.spec.ray_version}, but the head's image has Ray {_dotted(image)}"
        yield Problem((*subject.cluster_path, "rayVersion"), problem, f"Write {_dotted(image)}")


def _ray_of(image: str) -> Version | None:
    """Version of Ray in an image of the Ray project or a mirror of it; an image of one's own has tags of its own."""
    name = image.partition("@")[0].rpartition("/")[2].partition(":")[0]
    version = version_of_image(image) if name in _RAY_IMAGES else None
    return version if version and version[0] == _RAY_MAJOR else None


def _dotted(version: tuple[int, int, int]) -> str:
    return ".".join(str(part) for part in version)


def _gpu_limit(subject: Subject) -> Iterator[Problem]:
    """Without a limit the device plugin gives the pod none, whatever ``ray start`` is told."""
    for node in subject.nodes:
        declared = node.group.spec.ray_start_params.get("num-gpus") or node.group.spec.resources.get("GPU")
        if not declared or declared.strip('"') == "0" or GPU in node.unknown or _has_device(node.group.ray_container):
            continue
        if claims_devices(node.group):
            continue
        params = "num-gpus" in node.group.spec.ray_start_params
        path = (*node.path, "rayStartParams", "num-gpus") if params else (*node.path, "resources", "GPU")
        problem = f"is {declared}, but the Ray container has no GPU in its limits, so the pod gets none"
        yield Problem(path, problem, f"Set limits: {{nvidia.com/gpu: {declared}}} on the container")


def _has_device(container: object) -> bool:
    limits = as_map(as_map(as_map(container).get("resources")).get("limits"))
    return any("/" in key for key in limits)


def _object_store(subject: Subject) -> Iterator[Problem]:
    for node in subject.nodes:
        text = node.group.spec.ray_start_params.get("object-store-memory", "").strip("\"'")
        if not text.isdigit():
            continue
        path = (*node.path, "rayStartParams", "object-store-memory")
        limit = node.offers(MEMORY)
        if int(text) < _LEAST_OBJECT_STORE:
            problem = f"is {text}, less than Ray starts with"
            yield Problem(path, problem, f"Write {_LEAST_OBJECT_STORE} (75 MiB) or more")
        elif limit and int(text) >= limit:
            problem = f"is {text}, all of the container's memory ({plain(limit)})"
            yield Problem(path, problem, "Leave it out (Ray takes 30 %), or write less than half of the limit")


RULES: Final[tuple[Rule, ...]] = (
    Rule(
        "http-host",
        Severity.ERROR,
        "The proxies listen on the loopback address only",
        "Nobody outside of the pod gets an answer; the service never becomes ready.",
        "Write 0.0.0.0, Serve's default in a config file.",
        "http_options: {host: 127.0.0.1}",
        _host,
    ),
    Rule(
        "http-port",
        Severity.ERROR,
        "The serve service and the proxies use different ports",
        "The service takes its port from the head container's port named serve (8000 without one).",
        "Make the two the same.",
        "http_options: {port: 9000}   # and the head has {containerPort: 8000, name: serve}",
        _http_port,
    ),
    Rule(
        "grpc-without-functions",
        Severity.WARNING,
        "gRPC options that start no gRPC proxy",
        "Ray starts one only when grpc_servicer_functions are listed.",
        "List the add_…Servicer_to_server functions, or remove grpc_options.",
        "grpc_options: {port: 9000}",
        _grpc,
    ),
    Rule(
        "grpc-port",
        Severity.WARNING,
        "The serve service does not have the gRPC port",
        "Ports of the service are those of the head container that are named serve or serve-….",
        "Add {containerPort: 9000, name: serve-grpc} to the head's container.",
        "grpc_options: {grpc_servicer_functions: [a.b]}   # and no such port",
        _grpc_port,
    ),
    Rule(
        "no-endpoints",
        Severity.ERROR,
        "The serve service can never have an endpoint",
        "Endpoints are pods with a proxy. Without one the service never becomes ready.",
        "Have proxies on pods that are not kept out.",
        "excludeHeadPodFromServeSvc: true   # and workerGroupSpecs: []",
        _endpoints,
    ),
    Rule(
        "ray-version-of-workers",
        Severity.ERROR,
        "Head and workers have different versions of Ray",
        "Ray refuses nodes of another version; the workers restart in a loop.",
        "Use images with the same version of Ray.",
        "image: rayproject/ray:2.60.0   # and the head has rayproject/ray:2.58.0",
        _versions,
    ),
    Rule(
        "ray-version",
        Severity.WARNING,
        "rayVersion is not the version in the head's image",
        "Probes, the autoscaler's version and what the serve config may say are chosen by rayVersion.",
        "Write the version of the image.",
        "rayVersion: 2.46.0   # and image: rayproject/ray:2.60.0",
        _declared_version,
    ),
    Rule(
        "gpu-without-limit",
        Severity.WARNING,
        "Ray is told of GPUs that the pod does not get",
        "Only limits (or resource claims) make the device plugin hand out GPUs; replicas fail when they look for one.",
        "Set nvidia.com/gpu in the limits of the Ray container.",
        'rayStartParams: {num-gpus: "1"}   # and limits without nvidia.com/gpu',
        _gpu_limit,
    ),
    Rule(
        "object-store-memory",
        Severity.ERROR,
        "An object store that Ray cannot have",
        "Ray does not start with less than 75 MiB, and a store as large as the container's memory gets it killed.",
        "Write a number of bytes between, or leave it out.",
        'rayStartParams: {object-store-memory: "1000000"}',
        _object_store,
    ),
)
