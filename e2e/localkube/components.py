"""The parts of the cluster: how each is started and how it says that it is well."""

import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from e2e.localkube import binaries, containerd, images, kubeconfig
from e2e.localkube.paths import State
from e2e.localkube.settings import API_SERVICE, DNS_SERVICE, NODE, POD_RANGE, SERVICE_RANGE, Settings


@dataclass(frozen=True)
class Component:
    """One process. ``grace`` is how long it gets to end by itself."""

    name: str
    argv: tuple[str, ...]
    healthy: Callable[[], bool]
    grace: float = 3.0


def build(state: State, settings: Settings) -> dict[str, Component]:
    """All components by name, in the order of their start; writes their configuration files."""
    parts = [
        _containerd(state),
        _etcd(state, settings),
        _apiserver(state, settings),
        _controller_manager(state, settings),
        _scheduler(state, settings),
        _proxy(state, settings),
        _coredns(state, settings),
        _kubelet(state, settings),
    ]
    return {part.name: part for part in parts}


def _containerd(state: State) -> Component:
    config = containerd.configure(state, images.PAUSE)
    return Component("containerd", ("containerd", "--config", str(config)), lambda: containerd.answers(state))


def _etcd(state: State, settings: Settings) -> Component:
    client, peer = settings.url("etcd", scheme="http"), settings.url("etcd_peer", scheme="http")
    argv = (
        str(binaries.as_("etcd")),
        f"--data-dir={state.root / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",  # the cluster is made to be thrown away
        "--log-level=warn",
    )
    return Component("etcd", argv, lambda: _answers(settings.url("etcd", "/health", "http")))


def _apiserver(state: State, settings: Settings) -> Component:
    pki = state.pki
    argv = (
        str(binaries.as_("kube-apiserver")),
        f"--etcd-servers={settings.url('etcd', scheme='http')}",
        f"--advertise-address={settings.address}",  # loopback would be each pod's own
        f"--secure-port={settings.ports['apiserver']}",
        f"--tls-cert-file={pki / 'apiserver.crt'}",
        f"--tls-private-key-file={pki / 'apiserver.key'}",
        f"--client-ca-file={pki / 'ca.crt'}",
        f"--kubelet-client-certificate={pki / 'apiserver-kubelet-client.crt'}",
        f"--kubelet-client-key={pki / 'apiserver-kubelet-client.key'}",
        "--kubelet-preferred-address-types=InternalIP",  # nobody resolves the node's name
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={pki / 'sa.key'}",
        f"--service-account-signing-key-file={pki / 'sa.key'}",
        f"--requestheader-client-ca-file={pki / 'ca.crt'}",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={pki / 'front-proxy-client.crt'}",
        f"--proxy-client-key-file={pki / 'front-proxy-client.key'}",
        "--allow-privileged=true",
        "--profiling=false",
    )
    ready = settings.url("apiserver", "/readyz")
    return Component("kube-apiserver", argv, lambda: _answers(ready, _admin(state)))


def _controller_manager(state: State, settings: Settings) -> Component:
    config = _kubeconfig(state, settings, "controller-manager")
    argv = (
        str(binaries.as_("kube-controller-manager")),
        f"--kubeconfig={config}",
        f"--service-account-private-key-file={state.pki / 'sa.key'}",
        f"--root-ca-file={state.pki / 'ca.crt'}",
        "--use-service-account-credentials=true",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        f"--secure-port={settings.ports['controller_manager']}",
        f"--flex-volume-plugin-dir={state.root / 'kubelet-plugins'}",
    )
    health = settings.url("controller_manager", "/healthz")
    return Component("kube-controller-manager", argv, lambda: _answers(health, _own_certificate()))


def _scheduler(state: State, settings: Settings) -> Component:
    config = _kubeconfig(state, settings, "scheduler")
    argv = (
        str(binaries.as_("kube-scheduler")),
        f"--kubeconfig={config}",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        f"--secure-port={settings.ports['scheduler']}",
    )
    health = settings.url("scheduler", "/healthz")
    return Component("kube-scheduler", argv, lambda: _answers(health, _own_certificate()))


def _proxy(state: State, settings: Settings) -> Component:
    config = _kubeconfig(state, settings, "kube-proxy")
    argv = (
        str(binaries.as_("kube-proxy")),
        f"--kubeconfig={config}",
        f"--hostname-override={NODE}",
        "--proxy-mode=iptables",
        f"--cluster-cidr={POD_RANGE}",
        f"--healthz-bind-address=127.0.0.1:{settings.ports['proxy_health']}",
        f"--metrics-bind-address=127.0.0.1:{settings.ports['proxy_metrics']}",
        "--conntrack-max-per-core=0",  # the machine's own limits stay
        "--conntrack-tcp-timeout-established=0s",
        "--conntrack-tcp-timeout-close-wait=0s",
        "--oom-score-adj=0",  # lowering it needs CAP_SYS_RESOURCE
    )
    health = settings.url("proxy_health", "/livez", "http")
    return Component("kube-proxy", argv, lambda: _answers(health))


def _coredns(state: State, settings: Settings) -> Component:
    config = _kubeconfig(state, settings, "coredns")
    corefile = state.conf / "Corefile"
    corefile.write_text(
        f"""\
.:{settings.ports["dns"]} {{
    bind {settings.address}
    errors
    ready 127.0.0.1:{settings.ports["dns_ready"]}
    cache 5
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        kubeconfig {config}
        ttl 5
    }}
}}
"""
    )
    argv = (str(binaries.ensure("coredns")), "-conf", str(corefile))
    return Component("coredns", argv, lambda: _answers(settings.url("dns_ready", "/ready", "http")))


def _kubelet(state: State, settings: Settings) -> Component:
    kubeconfig_path = _kubeconfig(state, settings, "kubelet")
    resolv = state.conf / "resolv.conf"
    # Cluster names are answered; no other can be looked up here, so that pods needn't wait for a far name server.
    resolv.write_text("")
    config = state.conf / "kubelet.yaml"
    config.write_text(yaml.safe_dump(_kubelet_config(state, settings, resolv), sort_keys=False))
    argv = (
        str(binaries.as_("kubelet")),
        f"--config={config}",
        f"--kubeconfig={kubeconfig_path}",
        f"--root-dir={state.dir('kubelet')}",
        f"--cert-dir={state.dir('kubelet-certs')}",
        f"--hostname-override={NODE}",
        f"--node-ip={settings.address}",
    )
    return Component("kubelet", argv, lambda: _answers(settings.url("kubelet_health", "/healthz", "http")))


def _kubelet_config(state: State, settings: Settings, resolv: Path) -> dict[str, object]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(state.pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "port": settings.ports["kubelet"],
        "healthzPort": settings.ports["kubelet_health"],
        "containerRuntimeEndpoint": f"unix://{containerd.socket_path(state)}",
        "podLogsDir": str(state.dir("pod-logs")),
        "volumePluginDir": str(state.dir("kubelet-plugins")),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{state.label}",
        "failCgroupV1": False,
        "enforceNodeAllocatable": ["pods"],
        "clusterDNS": [DNS_SERVICE],
        "clusterDomain": "cluster.local",
        "resolvConf": str(resolv),
        "failSwapOn": False,
        "oomScoreAdj": 0,
        "maxPods": 110,
        # Percentages of a big shared disk would evict pods, and throw imported images away, that have room enough.
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "300Mi", "imagefs.available": "300Mi"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
    }


def _kubeconfig(state: State, settings: Settings, name: str) -> Path:
    return kubeconfig.write(
        state.conf / f"{name}.kubeconfig",
        server=settings.url("apiserver"),
        ca=state.pki / "ca.crt",
        cert=state.pki / f"{name}.crt",
        key=state.pki / f"{name}.key",
    )


def admin_kubeconfig(state: State, settings: Settings) -> Path:
    return kubeconfig.write(
        state.kubeconfig,
        server=settings.url("apiserver"),
        ca=state.pki / "ca.crt",
        cert=state.pki / "admin.crt",
        key=state.pki / "admin.key",
    )


def bootstrap_manifests(settings: Settings) -> str:
    """What makes cluster names resolve: rights for CoreDNS, which runs on the host, and the Service in front of it."""
    rules = [
        {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:coredns"}
    ports = [("dns", "UDP"), ("dns-tcp", "TCP")]
    meta = {"name": "kube-dns", "namespace": "kube-system"}
    documents: list[dict[str, object]] = [
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "system:coredns"},
            "rules": rules,
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "system:coredns"},
            "roleRef": role,
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "system:coredns"}],
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": meta,
            "spec": {
                "clusterIP": DNS_SERVICE,
                "ports": [{"name": name, "port": 53, "protocol": protocol} for name, protocol in ports],
            },
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {**meta, "labels": {"kubernetes.io/service-name": "kube-dns"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [settings.address], "conditions": {"ready": True}}],
            "ports": [{"name": name, "port": settings.ports["dns"], "protocol": protocol} for name, protocol in ports],
        },
    ]
    return yaml.safe_dump_all(documents, sort_keys=False)


def certificate_addresses(settings: Settings) -> list[str]:
    return ["127.0.0.1", settings.address, API_SERVICE]


def _admin(state: State) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(state.pki / "ca.crt"))
    context.load_cert_chain(state.pki / "admin.crt", state.pki / "admin.key")
    return context


def _own_certificate() -> ssl.SSLContext:
    """For components that make a certificate of their own at each start, which only their health is asked over."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _answers(url: str, context: ssl.SSLContext | None = None) -> bool:
    try:
        with urllib.request.urlopen(url, context=context, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError, ValueError):
        return False
