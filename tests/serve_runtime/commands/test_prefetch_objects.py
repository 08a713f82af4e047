"""``prefetch`` from an object store: an S3 stand-in on loopback. Only where pyarrow and moto are (extra ``llm``)."""

from __future__ import annotations

import random
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serve_runtime.commands.running import ended, run, start

pytest.importorskip("pyarrow", reason="pyarrow comes with ray[llm]")
moto_server = pytest.importorskip("moto.server", reason="moto is the S3 stand-in")

DATA = random.Random(9).randbytes(3_000_000)
MODEL = {"config.json": b"{}", "sub/model.safetensors": DATA}


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, str]]:
    """The environment of a client of a store that has ``models/tiny/``."""
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    put = {f"tiny/{name}": data for name, data in MODEL.items()}
    for path, data in {"": b"", **put}.items():
        # Said to be bytes, since the server would read what urllib says by default as a form.
        headers = {"Content-Type": "application/octet-stream"}
        request = urllib.request.Request(f"{url}/models/{path}", data, headers, method="PUT")
        with urllib.request.urlopen(request, timeout=60):
            pass
    yield {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    server.stop()


async def test_a_prefix_becomes_a_directory_and_goes_on(tmp_path: Path, s3: dict[str, str]) -> None:
    asked = ("prefetch", "s3://models/tiny", "--to", str(tmp_path / "m"), "--json")
    stopped = await ended(await start(*asked, largest_file_kib=1500, **s3))
    assert stopped.code == 5, stopped
    got = await run(*asked, **s3)
    assert got.code == 0, got
    assert got.named("started")[0]["resumed"]
    found = tmp_path / "m"
    assert {p.relative_to(found).as_posix(): p.read_bytes() for p in found.rglob("*") if p.is_file()} == MODEL


async def test_one_object(tmp_path: Path, s3: dict[str, str]) -> None:
    got = await run("prefetch", "s3://models/tiny/config.json", "--to", f"{tmp_path}/", **s3)
    assert (got.code, (tmp_path / "config.json").read_bytes()) == (0, b"{}")


@pytest.mark.parametrize("uri", ["s3://models/none", "s3://no-such-bucket/x"])
async def test_what_is_not_there(tmp_path: Path, uri: str, s3: dict[str, str]) -> None:
    got = await run("prefetch", uri, "--to", str(tmp_path / "m"), **s3)
    assert got.code == 3, got
    assert "bucket, prefix and region" in got.err
