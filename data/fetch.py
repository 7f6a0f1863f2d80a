"""Fetch the data sets of the project's experiments from their public homes, each file whole and as published.

    python -m data.fetch squad squad2 [--to DIR]

The size and the sha256 of every file are known beforehand, and decide: a file that is there and right stays, another
one of that name is somebody's own and is refused, and nothing wrong ever gets a final name. A download that breaks off
goes on where it was. (Without If-Range: the sum tells whether old and new bytes go together.) Proxies are the
environment's.
"""

import argparse
import fcntl
import hashlib
import http.client
import os
import re
import sys
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from tqdm import tqdm

from data.files import InputError, decode_text, one_line, reason, sha256_of
from data.writing import plain_folder, replace_file, require_plain, write_text


class File(NamedTuple):
    name: str
    home: str  # its address is home/name
    size: int  # bytes
    sha256: str


class Made(NamedTuple):
    """A file that is made from a member of an archive."""

    name: str
    archive: File
    member: str
    sha256: str


SQUAD = "https://rajpurkar.github.io/SQuAD-explorer/dataset"
POLYAI = "https://raw.githubusercontent.com/PolyAI-LDN/task-specific-datasets/57ec275d8078af65b7731c2a98be812d844a6d6b"
BANKING, STANFORD = f"{POLYAI}/banking_data", "https://nlp.stanford.edu/sentiment"
ZIP = "5c613a4f673fc74097d523a2c83f38e0cc462984d847b82c7aaf36b01cbbbfcc"
TREES = File("trainDevTestTrees_PTB.zip", STANFORD, 789539, ZIP)
# Sizes and sums: "download_checksums" in datasets/{squad,squad_v2,banking77,sst}/dataset_infos.json of the repository
# huggingface/datasets; those of SQuAD 1.1 also in tensorflow_datasets/url_checksums/squad.txt. The sums of sst2 are of
# what `sentences` makes of the published trees: 6,920 and 872 lines.
SETS: dict[str, tuple[File | Made, ...]] = {  # by the folder
    "squad": (
        File("train-v1.1.json", SQUAD, 30288272, "3527663986b8295af4f7fcdff1ba1ff3f72d07d61a20f487cb238a6ef92fd955"),
        File("dev-v1.1.json", SQUAD, 4854279, "95aa6a52d5d6a735563366753ca50492a658031da74f301ac5238b03966972c9"),
    ),
    "squad2": (
        File("train-v2.0.json", SQUAD, 42123633, "68dcfbb971bd3e96d5b46c7177b16c1a4e7d4bdef19fb204502738552dede002"),
        File("dev-v2.0.json", SQUAD, 4370528, "80a5225e94905956a6446d296ca1093975c4d3b3260f1d6c8f68bc2ab77182d8"),
    ),
    "banking77": (
        File("train.csv", BANKING, 839073, "b06e26ac675513959a63135f11b94ea7786ed02da65db93a5650d8838cbc664b"),
        File("test.csv", BANKING, 239961, "d12d6e3bc4c3103966ae786dc435913c0c563dfa328f5a3646d0e62cfeeb474d"),
    ),
    "sst2": (
        Made("train.tsv", TREES, "train", "a4cc08a80b77f3402a61ef8885c0e8b02082479976184b7ce539d3018a7ede25"),
        Made("dev.tsv", TREES, "dev", "4f5a182061ad1813a61d68ac53782921c0920d85ab00a09870c229b5c96e0e78"),
    ),
}
TIMEOUT = 30.0  # seconds without a byte
PAUSES = (1.0, 2.0, 4.0, 8.0)  # seconds before each further try


class UnreachableError(Exception):
    """There is no way to a host: no network, no such name, no valid certificate."""


class BrokenOffError(Exception):
    """A download broke off, or the host asks for patience; another try may do better."""


# ---- the web ---------------------------------------------------------------------------------------------------------


class Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req, fp, code, msg, headers, newurl):
        """Follow a redirection within the web, but never from https to http."""
        old, new = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if new not in ("http", "https") or (old, new) == ("https", "http"):
            raise InputError(f"{req.full_url}: redirects to {newurl}, which is not as safe")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def request(url: str, have: int) -> http.client.HTTPResponse:
    """Ask for a file from byte `have` on. Raises InputError for an answer that is final."""
    opener, its = urllib.request.OpenerDirector(), urllib.request  # urllib's own one opens file: and ftp: as well
    for handler in (its.ProxyHandler, its.HTTPHandler, its.HTTPSHandler, its.HTTPDefaultErrorHandler,
                    its.HTTPErrorProcessor, its.UnknownHandler, Redirects):  # fmt: skip
        opener.add_handler(handler())
    try:
        return opener.open(its.Request(url, headers={"Range": f"bytes={have}-"} if have else {}), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        told = f"{error.code} {error.msg.partition(chr(10))[0]}"
        if error.code in (408, 416, 429) or error.code >= 500:
            raise BrokenOffError(told) from None
        raise InputError(f"{url}: {told}") from None
    except urllib.error.URLError as error:  # while connecting
        raise UnreachableError(f"{urlsplit(url).netloc} cannot be reached: {error.reason}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: a redirection to no address
        raise BrokenOffError(reason(error)) from None


def first_byte(file: File, response: http.client.HTTPResponse, have: int) -> int:
    """Where the answer's bytes belong: at `have`, or at 0 from a server without ranges. Raises InputError where they
    are of a file of another length: another version, or a network's login page."""
    found = re.fullmatch(r"bytes (\d{1,15})-\d+/(\d{1,15})", response.headers.get("Content-Range", ""))
    if response.status == 206 and found:
        start, total = int(found[1]), int(found[2])
    else:
        start, total = 0, file.size if response.length is None else response.length
    if start not in (0, have) or total != file.size:
        raise InputError(f"{file.home}/{file.name}: has {total:,} bytes here, the published file has {file.size:,}")
    return start


def receive(file: File, part: Path) -> None:
    """Fetch what a part lacks, and no byte more than that."""
    have = part.stat().st_size
    with request(f"{file.home}/{file.name}", have) as response, part.open("r+b") as out:
        start = first_byte(file, response, have)
        out.truncate(start)
        out.seek(start)
        how = {"unit": "B", "unit_scale": True, "leave": False, "disable": None}
        with tqdm(total=file.size, initial=start, desc=file.name, **how) as bar:
            while out.tell() < file.size:
                try:
                    block = response.read1(min(1 << 16, file.size - out.tell()))
                except (OSError, http.client.HTTPException) as error:
                    raise BrokenOffError(reason(error)) from None
                if not block:
                    raise BrokenOffError("broke off")
                bar.update(out.write(block))


def fill(file: File, part: Path) -> None:
    """Fetch the rest of a part, in several tries. Raises InputError after the last."""
    for pause in (*PAUSES, None):
        if part.stat().st_size >= file.size:
            return
        try:
            receive(file, part)
        except BrokenOffError as error:
            if pause is None:
                kept = f"{part.stat().st_size:,} of {file.size:,} bytes are kept, the same command goes on"
                raise InputError(f"{file.home}/{file.name}: {error}; {kept}") from None
            time.sleep(pause)


# ---- files -----------------------------------------------------------------------------------------------------------


def is_there(path: Path, sha256: str) -> bool:
    """Whether a file is there as it should be. Raises InputError where something else has its name."""
    if not os.path.lexists(path):
        return False
    if sha256_of(path) != sha256:
        raise InputError(f"{path}: is not the published file; move it away, or choose another folder with --to")
    return True


def download(file: File, folder: Path) -> None:
    """Fetch a file whole. What has arrived waits in a part beside it, whose name holds the sum."""
    target, part = folder / file.name, folder / f".{file.name}.{file.sha256[:16]}.part"
    require_plain(part)
    with part.open("ab") as ours:
        try:
            fcntl.flock(ours, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{target}: another process fetches it now") from None
        try:
            old = ours.tell() > 0
            fill(file, part)
            if old and sha256_of(part) != file.sha256:  # what was there may be wrong: once more, from the start
                ours.truncate(0)
                fill(file, part)
            if sha256_of(part) != file.sha256:
                ours.truncate(0)
                raise InputError(f"{file.home}/{file.name}: its sha256 is not that of the published file")
            is_there(target, file.sha256)  # it may have come meanwhile
            replace_file(target, part.rename)
        finally:
            if part.exists() and not part.stat().st_size:
                part.unlink()


def sentences(trees: str) -> str:
    r"""Lines "sentence TAB 0 or 1" from the Stanford treebank's trees, one a line, whose nodes have labels from 0, very
    negative, to 4: "(3 (2 It) (4 (2 's) (4 great)))" -> "it 's great\t1". SST-2 leaves out the neutral ones. Case and
    signs go as in Kim 2014 (arXiv 1408.5882, clean_str_sst), the form that the project's results are on."""
    lines = []
    for tree in trees.split("\n"):
        words = " ".join(re.findall(r"\([0-4] ([^() ]+)\)", tree))
        if words and tree[1] != "2":
            text = re.sub(r"[^A-Za-z0-9,!?'`]+", " ", words).strip().lower()
            lines.append(f"{text}\t{int(tree[1] > '2')}\n")
    return "".join(lines)


def fetch(wanted: File | Made, file: File, folder: Path) -> str:
    """Get one file, which is `file` or is made from it, and tell how that went. Raises InputError, OSError and
    UnreachableError."""
    path = folder / wanted.name
    if is_there(path, wanted.sha256):
        return f"{path}: is there"
    try:
        if not is_there(folder / file.name, file.sha256):
            download(file, plain_folder(folder.parent, folder.name))
    except OSError as error:  # a write does not name its file
        raise OSError(error.errno, error.strerror, str(error.filename or path)) from None
    if isinstance(wanted, Made):
        with zipfile.ZipFile(folder / file.name) as archive:
            text = sentences(decode_text(archive.read(f"trees/{wanted.member}.txt"), path))
        if hashlib.sha256(text.encode()).hexdigest() != wanted.sha256:
            raise InputError(f"{folder / file.name}: does not become the {wanted.name} that is expected")
        write_text(path, text)
    return f"{path}: fetched, as published"


# ---- the command -----------------------------------------------------------------------------------------------------


def main(argv: list[str] | None = None) -> int:
    """Exit codes: 0 all is there, 2 something is missing or in the way, 130 interrupted."""
    parser = argparse.ArgumentParser(prog="python -m data.fetch", description="Fetch data sets from their homes.")
    parser.add_argument("sets", nargs="+", choices=SETS, metavar="SET", help=", ".join(SETS))
    parser.add_argument("--to", type=Path, default=Path(__file__).parent, metavar="DIR", help="default: %(default)s")
    arguments = parser.parse_args(argv)
    code, down = 0, dict[str, UnreachableError]()  # by the home
    for name, wanted in ((folder, file) for folder in dict.fromkeys(arguments.sets) for file in SETS[folder]):
        folder, file = arguments.to / name, wanted.archive if isinstance(wanted, Made) else wanted
        try:
            if file.home in down and not os.path.lexists(folder / wanted.name):  # once has taken long enough
                raise down[file.home]
            print(one_line(fetch(wanted, file, folder)), flush=True)
        except (InputError, OSError, UnreachableError) as error:
            code, why = 2, reason(error)
            if isinstance(error, UnreachableError):
                down[file.home] = error
                why += f"; put {file.home}/{file.name} at {folder / file.name}, then run this again"
            print(f"data.fetch: {one_line(why)}", file=sys.stderr)
        except KeyboardInterrupt:
            print("\ndata.fetch: interrupted; what has arrived is kept, the same command goes on", file=sys.stderr)
            return 130
    return code


if __name__ == "__main__":
    sys.exit(main())
