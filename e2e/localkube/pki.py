"""Certificates of the cluster, made with openssl: one CA and a client certificate for each component."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from e2e.localkube.shell import run

_DAYS = "3650"


@dataclass(frozen=True)
class Identity:
    """Who a client certificate says it is; Kubernetes reads the user from CN and its groups from O."""

    file: str
    user: str
    groups: tuple[str, ...] = ()


CLIENTS = (
    Identity("admin", "localkube-admin", ("system:masters",)),
    Identity("apiserver-kubelet-client", "localkube-apiserver", ("system:masters",)),
    Identity("controller-manager", "system:kube-controller-manager"),
    Identity("scheduler", "system:kube-scheduler"),
    Identity("kube-proxy", "system:kube-proxy"),
    Identity("coredns", "system:coredns"),
    Identity("front-proxy-client", "front-proxy-client"),
)


def create(folder: Path, *, node: str, addresses: Sequence[str]) -> None:
    """Make what is missing. ``addresses`` are those under which the API server is reached."""
    ca_key, ca = folder / "ca.key", folder / "ca.crt"
    if not ca.exists():
        _key(ca_key)
        run(
            [
                "openssl",
                "req",
                "-x509",
                "-new",
                "-key",
                ca_key,
                "-days",
                _DAYS,
                "-subj",
                "/CN=localkube-ca",
                "-out",
                ca,
            ],
        )
    if not (folder / "sa.key").exists():
        run(["openssl", "genrsa", "-out", folder / "sa.key", "2048"])
    names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
    names.append("kubernetes.default.svc.cluster.local")
    sans = ",".join([*(f"DNS:{name}" for name in names), *(f"IP:{address}" for address in addresses)])
    kubelet = Identity("kubelet", f"system:node:{node}", ("system:nodes",))
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(_client, folder, identity) for identity in (*CLIENTS, kubelet)]
        jobs.append(pool.submit(_issue, folder, "apiserver", "/CN=kube-apiserver", "serverAuth", sans))
        for job in jobs:
            job.result()


def _key(path: Path) -> None:
    run(["openssl", "ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", path])
    path.chmod(0o600)


def _client(folder: Path, identity: Identity) -> None:
    subject = "".join(f"/O={group}" for group in identity.groups) + f"/CN={identity.user}"
    _issue(folder, identity.file, subject, "clientAuth", "")


def _issue(folder: Path, name: str, subject: str, usage: str, sans: str) -> None:
    cert = folder / f"{name}.crt"
    if cert.exists():
        return
    key, request, extensions = (folder / f"{name}{suffix}" for suffix in (".key", ".csr", ".ext"))
    _key(key)
    run(["openssl", "req", "-new", "-key", key, "-subj", subject, "-out", request])
    lines = ["basicConstraints=CA:FALSE", "keyUsage=digitalSignature,keyEncipherment", f"extendedKeyUsage={usage}"]
    if sans:
        lines.append(f"subjectAltName={sans}")
    extensions.write_text("\n".join(lines) + "\n")
    signed = cert.with_suffix(".new")
    sign = ["openssl", "x509", "-req", "-CA", folder / "ca.crt", "-CAkey", folder / "ca.key", "-days", _DAYS]
    serial = f"0x{name.encode().hex()[:32]}"
    run([*sign, "-in", request, "-set_serial", serial, "-extfile", extensions, "-out", signed])
    signed.replace(cert)
    request.unlink()
    extensions.unlink()
