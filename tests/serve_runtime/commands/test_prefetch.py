"""``prefetch``: real processes, servers that cut connections, and kills in the middle."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import random
import signal
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.serve_runtime.commands.running import ended, run, serving, start, until

DATA = random.Random(6).randbytes(3_000_000)
SHA = hashlib.sha256(DATA).hexdigest()


class Weights:
    """A server of one file that keeps what it was asked. ``cuts``: after how many bytes each next answer breaks."""

    def __init__(
        self, data: bytes = DATA, etag: str = '"one"', cuts: tuple[int, ...] = (), ranges: bool = True
    ) -> None:
        self.data = data
        self.etag = etag
        self.cuts = list(cuts)
        self.ranges = ranges
        self.extra: dict[str, str] = {}
        self.asked: list[str] = []
        self.hold: asyncio.Event | None = None
        self.sent = 0

    def route(self, path: str = "/weights.bin") -> web.RouteDef:
        """The route of the file."""
        return web.get(path, self.answer)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """The file or the rest of it, cut off or held back where that was asked for."""
        asked = request.headers.get("Range", "")
        self.asked.append(asked)
        fresh = request.headers.get("If-Range", self.etag) == self.etag
        start_at = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.ranges and fresh else 0
        response = web.StreamResponse(status=206 if start_at else 200, headers={**self.extra})
        if self.etag:
            response.headers["ETag"] = self.etag
        if start_at:
            response.headers["Content-Range"] = f"bytes {start_at}-{len(self.data) - 1}/{len(self.data)}"
        response.content_length = len(self.data) - start_at
        await response.prepare(request)
        cut = self.cuts.pop(0) if self.cuts else None
        body = self.data[start_at:]
        if cut is None and self.hold is None:
            await response.write(body)
            return response
        at = cut if cut is not None else len(body) // 2
        await response.write(body[:at])
        self.sent = at
        if self.hold is not None:
            await self.hold.wait()
            await response.write(body[at:])
            return response
        assert request.transport is not None
        request.transport.close()
        return response


def beside(target: Path) -> list[str]:
    """What else is in its directory, but for the lock and the record."""
    known = {target.name, f".{target.name}.lock", f".{target.name}.json"}
    return sorted(each.name for each in target.parent.iterdir() if each.name not in known)


async def test_a_file_over_http_is_there_as_a_whole(tmp_path: Path) -> None:
    server, target = Weights(), tmp_path / "cache" / "w"
    async with serving(server.route()) as url:
        got = await run("prefetch", f"{url}/weights.bin", "--to", str(target), "--json", "--sha256", SHA.upper())
        assert got.code == 0, got
        assert (got.out, target.read_bytes() == DATA, beside(target)) == (f"{target}\n", True, [])
        again = await run("prefetch", f"{url}/weights.bin", "--to", str(target), "--json", "--sha256", SHA)
    assert again.named("done")[0]["cached"]
    assert len(server.asked) == 1


async def test_what_is_complete_needs_no_source(tmp_path: Path) -> None:
    async with serving(Weights().route()) as url:
        assert (await run("prefetch", f"{url}/weights.bin", "--to", f"{tmp_path}/")).code == 0
    got = await run("prefetch", f"{url}/weights.bin", "--to", f"{tmp_path}/")
    assert (got.code, got.out) == (0, f"{tmp_path / 'weights.bin'}\n")


async def test_a_connection_that_breaks_is_gone_on_with(tmp_path: Path) -> None:
    server, target = Weights(cuts=(1_000_000, 500_000)), tmp_path / "w"
    async with serving(server.route()) as url:
        got = await run("prefetch", f"{url}/weights.bin", "--to", str(target), "--json", "--tries", "2")
    assert got.code == 0, got
    assert target.read_bytes() == DATA
    assert len(got.named("retry")) == 2, "two tries that failed, each with progress, are not given up"
    assert server.asked[0] == ""
    assert all(each.startswith("bytes=") for each in server.asked[1:])


async def test_killed_in_the_middle_and_started_again(tmp_path: Path) -> None:
    server, target = Weights(), tmp_path / "w"
    server.hold = asyncio.Event()
    partial = tmp_path / ".w.part" / "partial" / "weights.bin"
    async with serving(server.route()) as url:
        process = await start("prefetch", f"{url}/weights.bin", "--to", str(target))
        await until(lambda: partial.exists() and partial.stat().st_size >= 1024 * 1024)
        process.send_signal(signal.SIGKILL)
        await ended(process)
        assert not target.exists()
        have = partial.stat().st_size
        server.hold = None
        got = await run("prefetch", f"{url}/weights.bin", "--to", str(target), "--json")
    assert got.named("started")[0]["resumed"]
    assert server.asked == ["", f"bytes={have}-"]
    assert (target.read_bytes() == DATA, beside(target)) == (True, [])


async def test_told_to_end_it_keeps_what_it_has(tmp_path: Path) -> None:
    server = Weights()
    server.hold = asyncio.Event()
    partial = tmp_path / ".w.part" / "partial" / "weights.bin"
    async with serving(server.route()) as url:
        process = await start("prefetch", f"{url}/weights.bin", "--to", str(tmp_path / "w"))
        await until(lambda: partial.exists() and partial.stat().st_size >= 1024 * 1024)
        process.send_signal(signal.SIGTERM)
        got = await ended(process)
        server.hold.set()
    assert got.code == 128 + signal.SIGTERM
    assert "what was received is kept" in got.err
    assert partial.exists()


@pytest.mark.parametrize("ranges", [True, False])
async def test_a_file_that_has_changed_meanwhile_is_not_mixed(tmp_path: Path, ranges: bool) -> None:
    server, target = Weights(cuts=(2_000_000,), ranges=ranges), tmp_path / "w"
    new = random.Random(7).randbytes(2_500_000)

    async def changed(request: web.Request) -> web.StreamResponse:
        if server.asked:
            server.data, server.etag = new, '"two"'
        return await server.answer(request)

    async with serving(web.get("/weights.bin", changed)) as url:
        got = await run("prefetch", f"{url}/weights.bin", "--to", str(target), "--json")
    assert got.code == 0, got
    assert target.read_bytes() == new


async def test_a_server_without_if_range_does_not_mix_either(tmp_path: Path) -> None:
    """It sends the rest of the new file; only the other ETag tells."""
    server, target = Weights(cuts=(2_000_000,)), tmp_path / "w"
    new = random.Random(8).randbytes(2_500_000)

    async def careless(request: web.Request) -> web.StreamResponse:
        if server.asked:
            server.data, server.etag = new, '"two"'
        asked = {k: v for k, v in request.headers.items() if k != "If-Range"}
        return await server.answer(request.clone(headers=asked))

    async with serving(web.get("/weights.bin", careless)) as url:
        got = await run("prefetch", f"{url}/weights.bin", "--to", str(target), "--json")
    assert got.code == 0, got
    assert target.read_bytes() == new


async def test_without_a_validator_or_a_size_it_begins_anew(tmp_path: Path) -> None:
    server, target = Weights(etag="", cuts=(2_000_000,)), tmp_path / "w"
    async with serving(server.route()) as url:
        got = await run("prefetch", f"{url}/weights.bin", "--to", str(target), "--json")
    assert got.code == 0, got
    assert (target.read_bytes() == DATA, server.asked) == (True, ["", ""])


async def test_another_checksum_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    wrong = base64.b64encode(hashlib.sha256(b"other").digest()).decode()
    for how in ("argument", "header"):
        server, target = Weights(), tmp_path / how
        if how == "header":
            server.extra = {"Repr-Digest": f"sha-256=:{wrong}:"}
        async with serving(server.route()) as url:
            more = ("--sha256", "0" * 64) if how == "argument" else ()
            got = await run("prefetch", f"{url}/weights.bin", "--to", str(target), *more)
        assert (got.code, target.exists()) == (3, False)
        assert "SHA-256" in got.err
        assert list((tmp_path / f".{how}.part").rglob("weights.bin")) == [
            tmp_path / f".{how}.part" / "validators" / "weights.bin"
        ]


async def test_two_at_once_download_once(tmp_path: Path) -> None:
    server, target = Weights(), tmp_path / "w"
    server.hold = asyncio.Event()
    async with serving(server.route()) as url:
        asked = ("prefetch", f"{url}/weights.bin", "--to", str(target), "--json")
        first = await start(*asked)
        await until(lambda: server.asked)
        second = await start(*asked)
        assert second.stderr is not None
        line = await asyncio.wait_for(second.stderr.readline(), 30)
        assert b'"waiting"' in line
        server.hold.set()
        one, two = await asyncio.gather(ended(first), ended(second))
    assert (one.code, two.code, len(server.asked)) == (0, 0, 1)
    assert [each.named("done")[0]["cached"] for each in (one, two)] == [False, True]


async def test_one_that_waits_takes_over_from_one_that_is_killed(tmp_path: Path) -> None:
    server, target = Weights(), tmp_path / "w"
    server.hold = asyncio.Event()
    async with serving(server.route()) as url:
        asked = ("prefetch", f"{url}/weights.bin", "--to", str(target), "--json")
        first = await start(*asked)
        partial = tmp_path / ".w.part" / "partial" / "weights.bin"
        await until(lambda: partial.exists() and partial.stat().st_size >= 1024 * 1024)
        second = await start(*asked)
        assert second.stderr is not None
        await asyncio.wait_for(second.stderr.readline(), 30)
        server.hold = None
        first.kill()
        await ended(first)
        two = await ended(second)
    assert (two.code, target.read_bytes() == DATA) == (0, True)
    assert two.named("started")[0]["resumed"]


async def test_waiting_for_the_lock_has_an_end(tmp_path: Path) -> None:
    server = Weights()
    server.hold = asyncio.Event()
    async with serving(server.route()) as url:
        asked = ("prefetch", f"{url}/weights.bin", "--to", str(tmp_path / "w"))
        first = await start(*asked)
        await until(lambda: server.asked)
        second = await run(*asked, "--lock-timeout", "0.3")
        server.hold.set()
        assert (await ended(first)).code == 0
    assert second.code == 6
    assert "--lock-timeout" in second.err


@pytest.mark.parametrize(
    ("status", "code", "says"),
    [(404, 3, "nothing there"), (401, 3, "--header-env"), (403, 3, "refuses"), (503, 4, "given up after 2 tries")],
)
async def test_what_a_server_refuses(tmp_path: Path, status: int, code: int, says: str) -> None:
    async def refuse(request: web.Request) -> web.Response:
        return web.Response(status=status)

    async with serving(web.get("/w", refuse)) as url:
        got = await run("prefetch", f"{url}/w?signature=secret", "--to", str(tmp_path / "w"), "--tries", "2")
    assert got.code == code, got
    assert says in got.err
    assert "secret" not in got.err


async def test_silence_is_a_failure_that_names_what_to_look_at(tmp_path: Path) -> None:
    server = Weights()
    server.hold = asyncio.Event()
    async with serving(server.route()) as url:
        got = await run(
            "prefetch", f"{url}/weights.bin", "--to", str(tmp_path / "w"), "--timeout", "0.2", "--tries", "1"
        )
        server.hold.set()
    assert got.code == 4
    assert "NetworkPolicy" in got.err


async def test_credentials_are_not_sent_to_another_host(tmp_path: Path) -> None:
    seen: list[dict[str, str]] = []

    async def storage(request: web.Request) -> web.Response:
        seen.append(dict(request.headers))
        return web.Response(body=b"weights")

    async with serving(web.get("/blob", storage)) as elsewhere:

        async def redirect(request: web.Request) -> web.Response:
            assert request.headers["Authorization"] == "Bearer t"
            raise web.HTTPFound(f"{elsewhere}/blob")

        async with serving(web.get("/w", redirect)) as url:
            more = ("--header-env", "Authorization=TOKEN")
            got = await run("prefetch", f"{url}/w", "--to", str(tmp_path / "w"), *more, TOKEN="Bearer t")
    assert got.code == 0, got
    assert "Authorization" not in seen[0]


# --- the hub


def hub(files: dict[str, bytes], served: list[str], **more: Any) -> list[web.RouteDef]:
    """A hub with one model at one commit."""

    async def listing(request: web.Request) -> web.Response:
        if "token" in more and request.headers.get("Authorization") != f"Bearer {more['token']}":
            return web.Response(status=401)
        siblings = [
            {"rfilename": name, "size": len(data)}
            | ({"lfs": {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}} if len(data) > 100 else {})
            for name, data in files.items()
        ]
        return web.json_response({"sha": "c0ffee", "siblings": siblings})

    async def file(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        served.append(name)
        return web.Response(body=more.get("instead", files)[name])

    return [
        web.get("/api/models/org/tiny/revision/{revision}", listing),
        web.get("/org/tiny/resolve/c0ffee/{name:.+}", file),
    ]


MODEL = {"config.json": b"{}", "model-1.safetensors": DATA[:200_000], "sub/model-2.safetensors": DATA[200_000:500_000]}


async def test_a_model_of_the_hub(tmp_path: Path) -> None:
    served: list[str] = []
    async with serving(*hub(MODEL, served, token="t")) as url:
        env = {"HF_ENDPOINT": url, "HF_HOME": str(tmp_path / "none"), "HF_TOKEN": ""}
        refused = await run("prefetch", "org/tiny@main", "--to", str(tmp_path / "m"), **env)
        assert refused.code == 3
        assert "HF_TOKEN" in refused.err
        env["HF_TOKEN"] = "t"
        got = await run(
            "prefetch", "hf://org/tiny", "--to", str(tmp_path / "m"), "--json", "--exclude", "*.json", **env
        )
    assert got.code == 0, got
    found = {
        p.relative_to(tmp_path / "m").as_posix(): p.read_bytes() for p in (tmp_path / "m").rglob("*") if p.is_file()
    }
    assert found == {k: v for k, v in MODEL.items() if k != "config.json"}
    assert got.named("started")[0]["bytes"] == 500_000


async def test_a_file_that_is_not_what_the_hub_says(tmp_path: Path) -> None:
    bad = {**MODEL, "model-1.safetensors": DATA[1:200_001]}
    async with serving(*hub(MODEL, [], instead=bad)) as url:
        got = await run("prefetch", "org/tiny", "--to", str(tmp_path / "m"), HF_ENDPOINT=url)
    assert (got.code, (tmp_path / "m").exists()) == (3, False)
    assert "model-1.safetensors has SHA-256" in got.err


async def test_only_what_is_missing_is_asked_for_again(tmp_path: Path) -> None:
    """One file of three fails for good at first."""
    served: list[str] = []
    bad = {**MODEL, "sub/model-2.safetensors": b"x"}
    asked = ("prefetch", "org/tiny", "--to", str(tmp_path / "m"), "--tries", "1", "--workers", "1")
    async with serving(*hub(MODEL, served, instead=bad)) as url:
        assert (await run(*asked, HF_ENDPOINT=url)).code == 4
    served.clear()
    async with serving(*hub(MODEL, served)) as url:
        assert (await run(*asked, HF_ENDPOINT=url)).code == 0
    assert served == ["sub/model-2.safetensors"]


# --- archives and directories


def tarred(files: dict[str, bytes], link: str = "") -> bytes:
    """A gzipped tar."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        if link:
            info = tarfile.TarInfo("link")
            info.type, info.linkname = tarfile.SYMTYPE, link
            tar.addfile(info)
    return out.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    """A zip."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as packed:
        for name, data in files.items():
            packed.writestr(name, data)
    return out.getvalue()


@pytest.mark.parametrize("pack", [tarred, zipped])
async def test_an_archive_becomes_a_directory(tmp_path: Path, pack: Callable[[dict[str, bytes]], bytes]) -> None:
    async with serving(Weights(pack(MODEL)).route("/m.archive")) as url:
        got = await run("prefetch", f"{url}/m.archive", "--extract", "--to", str(tmp_path / "m"), "--include", "*.json")
    assert got.code == 0, got
    assert [p.name for p in (tmp_path / "m").iterdir()] == ["config.json"]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (tarred({"../out": b"x"}), "outside of the cache"),
        (zipped({"/out": b"x"}), "outside of the cache"),
        (tarred({"a": b"x"}, link="/etc/passwd"), "link"),
        (tarred(MODEL)[:100_000], "cannot be unpacked"),
        (b"no archive", "neither tar nor zip"),
    ],
)
async def test_an_archive_that_is_none_or_reaches_out(tmp_path: Path, data: bytes, says: str) -> None:
    async with serving(Weights(data).route("/m")) as url:
        got = await run("prefetch", f"{url}/m", "--extract", "--to", str(tmp_path / "cache" / "m"))
    assert (got.code, (tmp_path / "cache" / "m").exists(), (tmp_path / "out").exists()) == (3, False, False)
    assert says in got.err


async def test_a_directory_is_copied_and_not_mistaken_for_another(tmp_path: Path) -> None:
    for name, data in MODEL.items():
        (tmp_path / "from" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "from" / name).write_bytes(data)
    target = tmp_path / "to"
    got = await run("prefetch", str(tmp_path / "from"), "--to", str(target))
    assert (got.code, (target / "sub" / "model-2.safetensors").read_bytes()) == (0, MODEL["sub/model-2.safetensors"])
    other = await run("prefetch", str(tmp_path / "from" / "config.json"), "--to", str(target))
    assert other.code == 1
    assert "--replace" in other.err
    other = await run("prefetch", str(tmp_path / "from" / "config.json"), "--to", str(target), "--replace")
    assert (other.code, target.read_bytes(), beside(target)) == (0, b"{}", ["from"])
    other = await run("prefetch", str(tmp_path / "from"), "--to", str(target), "--replace")
    assert (other.code, target.is_dir(), beside(target)) == (0, True, ["from"])


async def test_what_others_made_is_let_be(tmp_path: Path) -> None:
    target = tmp_path / "w"
    target.write_text("mine")
    got = await run("prefetch", str(Path(__file__)), "--to", str(target))
    assert (got.code, target.read_text()) == (1, "mine")
    assert "was not made by prefetch" in got.err


async def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    got = await run("prefetch", str(Path(__file__)), "--to", str(tmp_path / "file" / "w"))
    assert got.code == 1
    assert "file" in got.err
    assert "Traceback" not in got.err


@pytest.mark.parametrize("text", ["ftp://host/x", "just-a-word", "http:///x", "s3://bucket/x", "/no/such/path"])
async def test_what_is_no_source(tmp_path: Path, text: str) -> None:
    got = await run(
        "prefetch", text, "--to", str(tmp_path / "w"), AWS_EC2_METADATA_DISABLED="true", PYTHONNOUSERSITE="1"
    )
    if text.startswith("s3") and "pyarrow" not in got.err:
        pytest.skip("pyarrow is installed")
    assert got.code == 3, got
    assert "Traceback" not in got.err


# --- a full disk


async def test_too_small_a_disk_is_told_before_the_first_byte(tmp_path: Path) -> None:
    served: list[str] = []

    async def huge(request: web.Request) -> web.Response:
        siblings = [{"rfilename": "model.safetensors", "size": 2**60}, {"rfilename": "config.json", "size": 2}]
        return web.json_response({"sha": "c0ffee", "siblings": siblings})

    async with serving(web.get("/api/models/org/tiny/revision/main", huge), *hub(MODEL, served)[1:]) as url:
        got = await run("prefetch", "org/tiny", "--to", str(tmp_path / "m"), HF_ENDPOINT=url)
    assert (got.code, served) == (5, [])
    assert "sizeLimit" in got.err


async def test_a_disk_that_gets_full_in_the_middle_and_is_made_larger(tmp_path: Path) -> None:
    """A limit on the size of files, which the kernel tells at the write as it does a full disk."""
    server, target = Weights(), tmp_path / "w"
    async with serving(server.route()) as url:
        asked = ("prefetch", f"{url}/weights.bin", "--to", str(target))
        got = await ended(await start(*asked, largest_file_kib=1500))
        assert got.code == 5, got
        assert "is full" in got.err
        assert (await run(*asked)).code == 0
    assert server.asked == ["", "bytes=1536000-"]
    assert target.read_bytes() == DATA


async def test_an_archive_that_is_larger_than_the_disk(tmp_path: Path) -> None:
    async with serving(Weights(tarred({"zeros": bytes(4_000_000)})).route("/z")) as url:
        asked = ("prefetch", f"{url}/z", "--extract", "--to", str(tmp_path / "w"))
        got = await ended(await start(*asked, largest_file_kib=1500))
    assert got.code == 5, got
    assert "is full" in got.err
    assert not (tmp_path / "w").exists()
