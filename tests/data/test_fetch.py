"""Fetching files: whole and as published, or not at all, whatever the server does."""

import contextlib
import hashlib
import http.client
import io
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
import urllib.request
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from data import fetch
from data.files import InputError
from data.readers import Columns, read_table
from tests.tiny import ROOT

BODY = os.urandom(200_000)


class Server:
    """A server for a test: `answers` has what it does, request by request; the last one stays. `asked` lists (path,
    Range)."""

    def __init__(self):
        self.answers, self.asked, self.body = [whole], [], BODY
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                server.asked.append((self.path, self.headers.get("Range")))
                act = server.answers.pop(0) if len(server.answers) > 1 else server.answers[0]
                self.close_connection = True
                with contextlib.suppress(OSError):  # the other side may have had enough
                    act(self, server.body)

            def log_message(self, *arguments):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()


def send(handler, status, body=b"", **headers):
    handler.send_response(status)
    for key, value in headers.items():
        handler.send_header(key.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def rest(handler, body):
    """What the request asks for: (headers, bytes)"""
    start = int(re.findall(r"\d+", handler.headers.get("Range", "bytes=0-"))[0])
    ranged = {"Content_Range": f"bytes {start}-{len(body) - 1}/{len(body)}"} if start else {}
    return (206 if start else 200), {"Content_Length": str(len(body) - start), **ranged}, body[start:]


def whole(handler, body):
    status, headers, found = rest(handler, body)
    send(handler, status, found, **headers)


def breaks_off(handler, body):
    status, headers, found = rest(handler, body)
    send(handler, status, found[:50_000], **headers)


def slow(handler, body):
    status, headers, found = rest(handler, body)
    send(handler, status, found[:20_000], **headers)
    time.sleep(0.6)


def without_ranges(handler, body):
    send(handler, 200, body, Content_Length=str(len(body)))


def endless(handler, body):
    send(handler, 200, body)
    while True:
        handler.wfile.write(b"x" * 65536)


def wrong_part(handler, body):
    send(handler, 206, body, Content_Length=str(len(body)), Content_Range=f"bytes 7-{len(body) + 6}/{len(body)}")


def of_length(length):
    return lambda handler, body: send(handler, 200, body, Content_Length=str(length))


def status(code):
    return lambda handler, body: send(handler, code, Content_Length="0")


def redirect(where):
    return lambda handler, body: send(handler, 302, Location=where, Content_Length="0")


def garbage(handler, body):
    handler.wfile.write(b"\x00\xff nonsense\r\n\r\n")


@pytest.fixture
def server(monkeypatch):
    own = Server()
    file = fetch.File("train-v1.1.json", own.url, len(BODY), hashlib.sha256(BODY).hexdigest())
    monkeypatch.setitem(fetch.SETS, "squad", (file,))
    monkeypatch.setattr(fetch, "PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setattr(fetch, "TIMEOUT", 0.3)
    monkeypatch.setenv("no_proxy", "*")
    yield own
    own.http.shutdown()
    own.http.server_close()


@pytest.fixture
def run(tmp_path, capsys, server):
    """Fetches into tmp_path; returns the exit code, stderr, and the names that are there afterwards."""

    def go(name="squad", to=tmp_path):
        code = fetch.main([name, "--to", str(to)])
        folder = tmp_path / name
        return code, capsys.readouterr().err, sorted(os.listdir(folder)) if folder.is_dir() else []

    return go


def part_of(tmp_path, content: bytes):
    file = fetch.SETS["squad"][0]
    (tmp_path / "squad").mkdir()
    path = tmp_path / "squad" / f".{file.name}.{file.sha256[:16]}.part"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "answers",
    [
        [whole],
        [breaks_off, whole],
        [breaks_off, without_ranges],  # it starts over
        [slow, whole],
        [endless],  # of no stated length: the bytes that were published are there, the rest is not read
        [status(503), status(429), whole],
        [garbage, whole],
        [breaks_off, status(416), whole],
        [breaks_off, breaks_off, breaks_off, breaks_off],
    ],
)
def test_a_file_arrives_whole_whatever_happens_on_the_way(tmp_path, server, run, answers):
    server.answers = answers
    assert run() == (0, "", ["train-v1.1.json"])
    assert (tmp_path / "squad" / "train-v1.1.json").read_bytes() == BODY


def test_a_download_goes_on_where_it_broke_off(server, run):
    server.answers = [breaks_off, whole]
    run()
    assert [asked for _, asked in server.asked] == [None, "bytes=50000-"]


def test_the_part_is_kept_when_tries_run_out_and_the_same_command_goes_on(tmp_path, server, run):
    server.answers = [breaks_off, status(500)]
    code, error, names = run()
    assert code == 2 and error.count("\n") == 1 and "50,000 of 200,000 bytes are kept" in error
    assert len(names) == 1 and names[0].endswith(".part")
    server.answers = [whole]
    assert run()[0] == 0 and server.asked[-1][1] == "bytes=50000-"


def test_a_part_with_wrong_bytes_is_fetched_once_more_from_the_start(tmp_path, server, run):
    part_of(tmp_path, b"x" * 1000)
    assert run() == (0, "", ["train-v1.1.json"])
    assert [asked for _, asked in server.asked] == ["bytes=1000-", None]


def test_a_part_that_is_too_long_does_no_harm(tmp_path, server, run):
    part_of(tmp_path, BODY + b"x")
    assert run() == (0, "", ["train-v1.1.json"])


@pytest.mark.parametrize(
    "answer,told",
    [
        (of_length(len(BODY) - 1), "199,999 bytes here"),
        (of_length(len(BODY) + 1), "200,001 bytes here"),
        (of_length(10**14), "100,000,000,000,000 bytes here"),
        (wrong_part, "bytes here"),
        (lambda handler, body: whole(handler, body[::-1]), "sha256"),
        (lambda handler, body: send(handler, 200, b"<html>log in", Content_Length="12"), "12 bytes here"),
        (status(404), "404"),
        (redirect("file:///etc/passwd"), "302"),
        (redirect("ftp://127.0.0.1/x"), "not as safe"),
        (redirect("/again"), "infinite loop"),
        (redirect("http://[x"), "kept"),
        (lambda handler, body: None, "kept"),
    ],
)
def test_what_is_not_the_published_file_is_one_line_and_leaves_nothing(server, run, answer, told):
    server.answers = [answer]
    code, error, names = run()
    assert (code, names) == (2, []) and told in error and error.count("\n") == 1, error


def test_after_a_404_the_same_command_succeeds(server, run):
    server.answers = [status(404), whole]
    assert [run()[0], run()[0]] == [2, 0]


def test_a_redirection_is_followed_with_the_range(tmp_path, server, run):
    part_of(tmp_path, BODY[:5])
    server.answers = [redirect("/elsewhere"), whole]
    assert run()[0] == 0 and server.asked[-1] == ("/elsewhere", "bytes=5-")


@pytest.mark.parametrize("new,fine", [("http://b/x", False), ("https://b/x", True), ("data:,x", False)])
def test_no_redirection_leads_from_https_to_http(new, fine):
    arguments = (urllib.request.Request("https://a/x"), io.BytesIO(), 302, "Found", http.client.HTTPMessage(), new)
    with contextlib.nullcontext() if fine else pytest.raises(InputError):
        fetch.Redirects().redirect_request(*arguments)


def test_a_file_that_is_there_and_right_is_not_asked_for(server, run):
    run()
    server.asked.clear()
    assert run()[0] == 0 and not server.asked


@pytest.mark.parametrize("kind", ["file", "folder", "link", "part is a link"])
def test_what_is_somebodys_own_is_refused_by_name_and_left(tmp_path, server, run, kind):
    mine = tmp_path / "mine"
    mine.write_text("mine")
    path = part_of(tmp_path, b"")
    if kind != "part is a link":
        path = path.rename(tmp_path / "squad" / "train-v1.1.json")
    path.unlink()
    {"file": lambda: path.write_text("mine"), "folder": path.mkdir}.get(kind, lambda: path.symlink_to(mine))()
    code, error, names = run()
    assert code == 2 and path.name in error and error.count("\n") == 1
    assert names == [path.name] and mine.read_text() == "mine" and not server.asked


def test_without_a_network_a_line_says_what_to_put_where(tmp_path, server, run, monkeypatch):
    one = fetch.SETS["squad"][0]
    dead = "http://127.0.0.1:9"  # discard: nobody listens there
    monkeypatch.setitem(fetch.SETS, "squad", (one._replace(home=dead), one._replace(home=dead, name="dev-v1.1.json")))
    code, error, names = run()
    lines = error.splitlines()
    assert (code, names, len(lines)) == (2, [], 2)
    assert f"put {dead}/dev-v1.1.json at {tmp_path}/squad/dev-v1.1.json" in lines[1]


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, server, run):
    (tmp_path / "file").write_text("")
    for folder in ("/proc/none", tmp_path / "file"):
        code, error, _ = run(to=folder)
        assert code == 2 and str(folder) in error and error.count("\n") == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_only_be_read_is_one_line(tmp_path, server, run):
    tmp_path.chmod(0o500)
    code, error, _ = run()
    tmp_path.chmod(0o700)
    assert code == 2 and "Permission denied" in error and error.count("\n") == 1


def in_a_process(server, tmp_path, limit=None, **how):
    """The command in a process of its own, without a home directory, files of at most `limit` bytes."""
    file = fetch.SETS["squad"][0]
    code = f"import sys\nfrom data import fetch\nfetch.SETS['squad'] = (fetch.File{tuple(file)},)\n"
    code += f"sys.exit(fetch.main(['squad', '--to', {str(tmp_path)!r}]))"
    limits = (lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))) if limit else None
    environment = {"no_proxy": "*", "PYTHONDONTWRITEBYTECODE": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment, preexec_fn=limits, **pipes)


def test_a_full_disk_is_one_line(server, tmp_path):
    process = in_a_process(server, tmp_path, limit=70_000)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 2 and "train-v1.1.json" in error and error.count("\n") == 1, error
    assert not (tmp_path / "squad" / "train-v1.1.json").exists()


def test_ctrl_c_keeps_the_part_and_says_how_to_go_on(server, tmp_path, run):
    def hang(handler, body):
        breaks_off(handler, body)
        handler.wfile.flush()
        time.sleep(5)

    server.answers = [hang, whole]
    process = in_a_process(server, tmp_path)
    while not any(path.stat().st_size for path in tmp_path.glob("squad/.*.part")):
        time.sleep(0.02)
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130 and "the same command goes on" in error and "Traceback" not in error
    assert run()[0] == 0 and int(server.asked[-1][1].removeprefix("bytes=").rstrip("-")) > 0


# ---- the Stanford treebank -------------------------------------------------------------------------------------------

TREES = """(4 (2 It) (4 (2 's) (4 (2 well-made) (2 !))))
(2 (2 A) (2 film))
(0 (2 -LRB-) (1 (2 Dull) (2 .)))
(1 (2 Caf\u00e9) (1 (2 and\\/or) (0 bad)))
(3 (2 Fine) (2 \xa0))
"""
LINES = "it 's well made !\t1\nlrb dull\t0\ncaf and or bad\t0\nfine\t1\n"


def test_trees_become_sentences_and_neutral_ones_are_left_out():
    assert fetch.sentences(TREES) == LINES


@pytest.fixture
def treebank(server, monkeypatch):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("trees/train.txt", TREES)
    server.body = made.getvalue()
    file = fetch.File("trees.zip", server.url, len(server.body), hashlib.sha256(server.body).hexdigest())
    sum_of_lines = hashlib.sha256(LINES.encode()).hexdigest()
    monkeypatch.setitem(fetch.SETS, "sst2", (fetch.Made("train.tsv", file, "train", sum_of_lines),))
    return file


def test_the_treebank_becomes_a_table_that_an_experiment_reads(tmp_path, run, treebank):
    assert run("sst2") == (0, "", ["train.tsv", "trees.zip"])
    path = tmp_path / "sst2" / "train.tsv"
    rows = read_table(path, path.read_bytes(), Columns("0", None, "1", header=False))
    assert [(row.text, row.label) for row in rows][:2] == [("it 's well made !", "1"), ("lrb dull", "0")]


def test_an_archive_that_was_put_there_by_hand_is_used(tmp_path, server, run, treebank):
    (tmp_path / "sst2").mkdir()
    (tmp_path / "sst2" / "trees.zip").write_bytes(server.body)
    assert run("sst2") == (0, "", ["train.tsv", "trees.zip"]) and not server.asked


def test_every_published_file_has_a_size_and_a_sum():
    for wanted in (wanted for files in fetch.SETS.values() for wanted in files):
        file = wanted.archive if isinstance(wanted, fetch.Made) else wanted
        assert file.home.startswith("https://") and file.size > 0
        assert all(re.fullmatch("[0-9a-f]{64}", each.sha256) for each in (file, wanted))
