"""Downloads against a real server on this machine."""

import contextlib
import http.server
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cmath_jax.data.sources import download as download_module
from cmath_jax.data.sources.download import DownloadError, RawFile, blob_hash, download
from cmath_jax.errors import InputError
from cmath_jax.io.files import size

CONTENT = bytes(range(256)) * 5000


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT under every address; `cut`, `silent` and `missing` in it go wrong in their own way."""

    requests = 0

    def do_GET(self) -> None:
        type(self).requests += 1
        if "missing" in self.path:
            self.send_error(404)
            return
        if "silent" in self.path:
            return
        self.send_response(200)
        if "unsized" not in self.path:
            self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[: len(CONTENT) // 2] if "cut" in self.path else CONTENT)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    Handler.requests = 0
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


@pytest.fixture
def blob(tmp_path: Path) -> str:
    (tmp_path / "content").write_bytes(CONTENT)
    return blob_hash(tmp_path / "content")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_blob_hash_is_that_of_git(tmp_path: Path, blob: str) -> None:
    (tmp_path / "empty").touch()
    assert blob_hash(tmp_path / "empty") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
    with contextlib.suppress(FileNotFoundError):  # where git is not installed, the constant above has to do
        asked = subprocess.run(["git", "hash-object", tmp_path / "content"], capture_output=True, text=True, check=True)
        assert blob == asked.stdout.strip()


def test_blob_hash_of_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing: there is no such file"):
        blob_hash(tmp_path / "nothing")


@pytest.mark.parametrize("address", ["file", "unsized"])
def test_good_file_arrives_once(server: str, blob: str, tmp_path: Path, address: str) -> None:
    place = tmp_path / "new" / "folder" / "features.pkl"
    assert download(f"{server}/{address}", blob, place) == place
    assert place.read_bytes() == CONTENT
    assert names(place.parent) == {"features.pkl"}
    assert download(f"{server}/{address}", blob, place) == place
    assert Handler.requests == 1


def test_other_content_there_is_replaced(server: str, blob: str, tmp_path: Path) -> None:
    place = tmp_path / "features.pkl"
    place.write_text("half a file")
    assert download(server, blob, place).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("missing", "404 Not Found"),
        ("cut", f"cut off after {size(len(CONTENT) // 2)} of {size(len(CONTENT))}"),
        ("silent", "RemoteDisconnected|closed connection"),
    ],
)
def test_failure_says_why_and_leaves_nothing(
    server: str, blob: str, tmp_path: Path, address: str, message: str
) -> None:
    place = tmp_path / "there" / "features.pkl"
    with pytest.raises(DownloadError, match=message) as caught:
        download(f"{server}/{address}", blob, place)
    assert f"{server}/{address}" in str(caught.value)
    assert not place.parent.exists()


def test_failure_keeps_the_file_that_was_there(server: str, blob: str, tmp_path: Path) -> None:
    place = tmp_path / "features.pkl"
    place.write_text("of the user")
    with pytest.raises(DownloadError):
        download(f"{server}/cut", blob, place)
    assert place.read_text() == "of the user"


def test_wrong_content_names_both_hashes(server: str, blob: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=f"git blob hash {blob} instead of {'0' * 40}"):
        download(server, "0" * 40, tmp_path / "features.pkl")
    assert names(tmp_path) == {"content"}


def test_no_server(server: str, blob: str, tmp_path: Path) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as closed:
        url = f"http://127.0.0.1:{closed.server_port}/file"
    with pytest.raises(DownloadError, match=r"no connection .*Check network and proxy, or save it"):
        download(url, blob, tmp_path / "features.pkl")


def test_server_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download_module, "TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as deaf, pytest.raises(DownloadError, match="timed out"):
        download(f"http://127.0.0.1:{deaf.getsockname()[1]}/file", "0" * 40, tmp_path / "features.pkl")


def test_folder_that_cannot_be_made(server: str, blob: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="content"):
        download(server, blob, tmp_path / "content" / "features.pkl")  # a file stands in the way


def test_raw_file_on_disk_is_not_fetched(tmp_path: Path) -> None:
    here = RawFile("features.pkl", blob="0" * 40, url="http://127.0.0.1:9/", path=tmp_path / "features.pkl")
    assert here.fetch(tmp_path / "elsewhere") == tmp_path / "features.pkl"


def test_raw_file_is_fetched_into_the_folder(server: str, blob: str, tmp_path: Path) -> None:
    away = RawFile("features.pkl", blob=blob, url=f"{server}/features.pkl")
    assert away.fetch(tmp_path / "downloads") == tmp_path / "downloads" / "features.pkl"
