"""Which cluster, as kubectl chooses it: --kubeconfig, KUBECONFIG, ~/.kube/config, else the pod's service account.

kopf's own reader serves the operator; it knows neither contexts nor credential plugins, which people's kubeconfigs for
managed clusters (EKS, GKE, AKS) are made of.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import yaml

from rayservice_operator.cli.errors import CliError, Exit

if TYPE_CHECKING:
    import kopf

NAMESPACE_FILE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
PLUGIN_TIMEOUT_S: Final = 60.0
"""A credential plugin may open a browser and wait for a person."""


@dataclass(frozen=True, slots=True)
class Access:
    """``login`` reads the credentials anew at each call. ``namespace``: that of the context, which may be empty.

    ``headers``: who is to be impersonated (``as`` in the kubeconfig).
    """

    login: Callable[[], kopf.ConnectionInfo]
    namespace: str
    context: str = ""
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class _Named:
    """An entry of a kubeconfig and the folder of its file, which its paths are relative to."""

    value: Mapping[str, Any]
    folder: Path

    def path(self, key: str) -> str | None:
        given = self.value.get(key)
        return str(self.folder / str(given)) if given else None


def find(kubeconfig: str, context: str, env: Mapping[str, str]) -> Access:
    """The access that was chosen. Raises CliError where there is none."""
    files = _files(kubeconfig, env)
    if not files:
        if context:
            raise CliError(Exit.UNREACHABLE, f"There is no kubeconfig to look for context {context!r} in.", _SET)
        return _in_pod()
    contexts, clusters, users, current = _merged(files)
    name = context or current
    if not name:
        raise CliError(Exit.UNREACHABLE, "The kubeconfig has no current context.", "Choose one with --context.")
    if name not in contexts:
        known = ", ".join(sorted(contexts)) or "none"
        raise CliError(Exit.UNREACHABLE, f"The kubeconfig has no context {name!r}.", f"Known are: {known}.")
    chosen = contexts[name].value
    cluster, user = clusters.get(str(chosen.get("cluster"))), users.get(str(chosen.get("user")))
    if cluster is None or not cluster.value.get("server"):
        raise CliError(Exit.UNREACHABLE, f"Context {name!r} names a cluster that the kubeconfig does not have.")
    if cluster.value.get("tls-server-name"):
        step = "Use a server address whose name is in its certificate, or `kubectl proxy` and a kubeconfig for that."
        raise CliError(Exit.UNREACHABLE, f"Context {name!r} sets tls-server-name, which is not supported here.", step)
    who = user or _Named({}, Path())
    namespace = str(chosen.get("namespace") or "default")
    return Access(lambda: _connection(cluster, who), namespace, name, _impersonation(who.value))


def contexts(kubeconfig: str, env: Mapping[str, str]) -> list[str]:
    """Names of all contexts. Raises CliError where the files cannot be read."""
    return sorted(_merged(_files(kubeconfig, env))[0])


def _impersonation(user: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """The headers for ``as``, ``as-uid``, ``as-groups`` and ``as-user-extra``."""
    found = [("Impersonate-User", user.get("as")), ("Impersonate-Uid", user.get("as-uid"))]
    found += [("Impersonate-Group", group) for group in user.get("as-groups") or ()]
    for key, values in (user.get("as-user-extra") or {}).items():
        found += [(f"Impersonate-Extra-{quote(str(key), safe='')}", value) for value in values]
    return tuple((name, str(value)) for name, value in found if value)


_SET: Final = "Set KUBECONFIG, or give --kubeconfig."


def _in_pod() -> Access:
    from rayservice_operator.kube.login import NoCredentials  # noqa: PLC0415  (imports kopf, see below)
    from rayservice_operator.kube.login import login as login_of_pod  # noqa: PLC0415

    try:
        login_of_pod()
    except NoCredentials:
        raise CliError(Exit.UNREACHABLE, "There is no kubeconfig, and this is no pod.", _SET) from None
    here = NAMESPACE_FILE.read_text().strip() if NAMESPACE_FILE.exists() else "default"
    return Access(login_of_pod, here)


def _files(kubeconfig: str, env: Mapping[str, str]) -> list[Path]:
    if kubeconfig:
        path = Path(kubeconfig).expanduser()
        if not path.is_file():
            raise CliError(Exit.UNREACHABLE, f"There is no file {kubeconfig}.", "Give another --kubeconfig.")
        return [path]
    if env.get("KUBECONFIG"):
        # Files that are not there are passed over, as kubectl does; all of them missing is a mistake.
        named = [Path(part.strip()).expanduser() for part in env["KUBECONFIG"].split(os.pathsep) if part.strip()]
        found = [path for path in named if path.is_file()]
        if not found:
            raise CliError(Exit.UNREACHABLE, f"KUBECONFIG names no file that exists: {env['KUBECONFIG']}", _SET)
        return found
    default = Path("~/.kube/config").expanduser()
    return [default] if default.is_file() else []


_Entries = dict[str, _Named]


def _merged(files: list[Path]) -> tuple[_Entries, _Entries, _Entries, str]:
    """Contexts, clusters and users by name, and the current context; the first file that has something wins."""
    current, found = "", tuple[_Entries, _Entries, _Entries](({}, {}, {}))
    for path in files:
        try:
            config = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise CliError(Exit.UNREACHABLE, f"The kubeconfig {path} cannot be read: {_first_line(error)}") from None
        if not isinstance(config, dict):
            raise CliError(Exit.UNREACHABLE, f"{path} is no kubeconfig.")
        current = current or str(config.get("current-context") or "")
        for entries, (plural, single) in zip(found, _PARTS, strict=True):
            for item in config.get(plural) or ():
                entries.setdefault(str(item.get("name")), _Named(item.get(single) or {}, path.resolve().parent))
    return *found, current


_PARTS: Final = (("contexts", "context"), ("clusters", "cluster"), ("users", "user"))


def _connection(cluster: _Named, user: _Named) -> kopf.ConnectionInfo:
    import kopf  # noqa: PLC0415  (takes half a second, which verbs that need no cluster do not have to wait for)

    plugin = _from_plugin(user) if user.value.get("exec") else {}
    provider = ((user.value.get("auth-provider") or {}).get("config") or {}).get("access-token")
    token_file = user.path("tokenFile")
    token = plugin.get("token") or user.value.get("token") or provider
    if token_file and not token:
        token = Path(token_file).read_text(encoding="utf-8").strip()
    certificate, key = plugin.get("clientCertificateData"), plugin.get("clientKeyData")
    return kopf.ConnectionInfo(
        server=str(cluster.value["server"]),
        ca_path=None if cluster.value.get("certificate-authority-data") else cluster.path("certificate-authority"),
        ca_data=cluster.value.get("certificate-authority-data"),
        insecure=cluster.value.get("insecure-skip-tls-verify"),
        certificate_path=None if certificate else user.path("client-certificate"),
        certificate_data=_encoded(certificate) or user.value.get("client-certificate-data"),
        private_key_path=None if key else user.path("client-key"),
        private_key_data=_encoded(key) or user.value.get("client-key-data"),
        username=user.value.get("username"),
        password=user.value.get("password"),
        token=token,
        proxy_url=cluster.value.get("proxy-url"),
        trust_env=True,
    )


def _encoded(pem: str | None) -> str | None:
    """A plugin gives PEM, a kubeconfig holds it in base64."""
    return base64.b64encode(pem.encode()).decode() if pem else None


def _from_plugin(user: _Named) -> Mapping[str, Any]:
    """``status`` of the ExecCredential that the user's plugin prints (client.authentication.k8s.io)."""
    plugin = user.value["exec"]
    command = str(plugin.get("command"))
    if os.sep in command:
        command = str(user.folder / command)
    info = {
        "apiVersion": plugin.get("apiVersion"),
        "kind": "ExecCredential",
        "spec": {"interactive": plugin.get("interactiveMode") != "Never" and sys.stdin.isatty()},
    }
    given = {str(item["name"]): str(item["value"]) for item in plugin.get("env") or ()}
    env = {**os.environ, **given, "KUBERNETES_EXEC_INFO": json.dumps(info)}
    step = " ".join(str(plugin.get("installHint") or f"Run `{command}` by hand to see what it says.").split())
    try:
        done = subprocess.run(
            [command, *map(str, plugin.get("args") or ())],
            env=env,
            stdout=subprocess.PIPE,
            timeout=PLUGIN_TIMEOUT_S,
            check=True,
        )
        status: Mapping[str, Any] = json.loads(done.stdout)["status"]
    except FileNotFoundError:
        message = f"The kubeconfig's credential plugin {command!r} is not there."
        raise CliError(Exit.UNREACHABLE, message, step) from None
    except (OSError, subprocess.SubprocessError, ValueError, KeyError) as error:
        message = f"The kubeconfig's credential plugin {command!r} gave no credentials: {_first_line(error)}"
        raise CliError(Exit.UNREACHABLE, message, step) from None
    return status


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
