"""Compares what gmfs says of a healthy hand-over with what is true of it."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from handover import FROZEN, LATER, RUNNING, File, Handover, Owner, Session
from memory import PAGE, pages_of
from program import Answer, Json, Program

SEALS = ("seal", "shrink", "grow", "write", "future_write", "exec")
PAGE_KINDS = {"record": "record", "folios": "page with folios", "chunk": "list of pages with folios"}
SAMPLE = 12


def is_plain(name: bytes) -> bool:
    """A name of a session that is shown as it is, and so can be foretold."""
    try:
        text = name.decode()
    except UnicodeDecodeError:
        return False
    return text.isprintable() and not set(text) & {"/", "\\"} and text not in ("", ".", "..")


def pages_of_extents(extents: list[Json] | None) -> dict[int, int]:
    """The physical address of each page that a document's extents name."""
    return {
        extent["index"] + page: extent["physical"] + page * PAGE
        for extent in extents or []
        for page in range(extent["count"])
    }


class Judge:
    """The truth of one image against the program."""

    def __init__(self, program: Program, truth: Handover, image: Path, options: tuple[str, ...] = ()) -> None:
        self.program, self.truth, self.image, self.options = program, truth, image, options
        self.rng = random.Random(truth.fdt)
        self.case = ""
        self.last = Answer("", 0, b"", "")
        # How each file is typed, and how documents show it.
        self.typed: dict[File, str] = {}
        self.shown: dict[File, str] = {}

    def run(self, *arguments: str) -> Answer:
        """Runs a command on the image; its first word is the command, and paths follow the image."""
        names = [word for word in arguments[1:] if word.startswith("-")]
        others = [word for word in arguments[1:] if not word.startswith("-")]
        words = [arguments[0], *names, *self.options, str(self.image), *others]
        self.last = self.program.run(self.image, *words, case=self.case)
        return self.last

    @contextmanager
    def reading(self) -> Iterator[None]:
        """What is done within is stopped, with a fault, by a document of a form that nothing foretold."""
        try:
            yield
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            text = f"a document of another form: {error!r}"
            self.program.report.fault(self.image, self.last.command, text, self.case)

    def same(self, answer: Answer, what: str, got: Any, want: Any) -> None:
        """Counts a fact, and notes it if it is not so."""
        self.program.report.fact()
        if got != want:
            got, want = _difference(got, want)
            self.program.report.fault(self.image, answer.command, f"{what}: says {got}, true is {want}", self.case)

    # --- all of it ---

    def healthy(self, notes: set[str]) -> None:
        """All commands, on an image in which nothing is wrong. `notes` are codes of what is only worth knowing."""
        with self.reading():
            self._healthy(notes)

    def _healthy(self, notes: set[str]) -> None:
        self._scan()
        self._inspect()
        self._fsck(notes)
        if self.truth.release.luo and self.truth.moment == RUNNING:
            self._unnamed()
        elif self.truth.release.luo:
            self.listing()
            self._stat()
            self._sample(self._map, self.cat)
            self._extract()
        if self.truth.moment == FROZEN:
            self._who()

    def _sample(self, *checks: Any) -> None:
        files = list(self.typed)
        for file in files if len(files) <= SAMPLE else self.rng.sample(files, SAMPLE):
            for check in checks:
                check(file)

    def _scan(self) -> None:
        answer = self.run("scan", "--json")
        self.same(answer, "status", answer.status, 0)
        found = [(store.get("layout"), store.get("base")) for store in answer.json().get("regions", [])]
        self.same(answer, "stores", found, [("luo", self.truth.fdt)])

    # --- inspect ---

    def _inspect(self) -> None:
        truth, answer = self.truth, self.run("inspect", "--json")
        document = answer.json()
        self.same(answer, "status", answer.status, 0)
        self.same(answer, "layout", document.get("layout"), "luo")
        self.same(answer, "string of KHO", document.get("tree"), truth.release.kho)
        self.same(answer, "address", (document.get("store") or {}).get("base"), truth.fdt)
        if truth.sessions:
            self.same(answer, "moment", document.get("moment"), truth.moment)
        root_is_lost = truth.moment == LATER and truth.release.luo == "struct"
        if truth.release.radix:
            self.same(answer, "kernel", document.get("kernel"), truth.kernel)
            self.same(answer, "number of the kernel", document.get("kexec_count"), truth.kexec_count)
        if truth.release.luo and not root_is_lost:
            self.same(answer, "live update", document.get("live_update"), truth.live_update)
        self._users(answer, document)
        if truth.moment != LATER and truth.map:
            self._preserved(answer, document.get("preserved") or {})
        if truth.scratch and truth.setup_data:
            self.same(answer, "scratch areas", _ranges(document.get("scratch")), truth.scratch)
        if truth.release.luo and truth.moment != RUNNING:
            self._sessions(answer, document.get("sessions") or [])
            if not root_is_lost:
                self.same(answer, "FLBs", len(document.get("depended_on") or []), len(truth.flbs))

    def _users(self, answer: Answer, document: Json) -> None:
        users = [(user["name"], user["address"]) for user in document.get("users") or []]
        self.same(answer, "users", users, [user[:2] for user in self.truth.users])
        found = document.get("reserve_mem") or []
        regions = [(region["label"], region["address"], region["length"]) for region in found]
        self.same(answer, "reserve_mem", regions, self.truth.reserve_mem)

    def _preserved(self, answer: Answer, document: Json) -> None:
        orders = {entry["order"]: entry["count"] for entry in document.get("orders") or []}
        self.same(answer, "orders", orders, dict(Counter(order for _, order in self.truth.preserved)))
        self.same(answer, "pages of the map", document.get("record_pages"), len(set(self.truth.map_pages)))
        by_user: Counter[str] = Counter({"no known user": 0})
        for (_, order), owner in self.truth.preserved.items():
            by_user[owner.user] += PAGE << order
        known = {name for name, _, _ in self.truth.users} | {"KHO", "no known user"}
        users = {user["user"]: user["bytes"] for user in document.get("users") or []}
        files = [file for session in self.truth.sessions for file in session.files]
        if self.truth.moment == RUNNING and not all(file.size for file in files):
            return  # An empty file need not be told from an empty page.
        self.same(answer, "bytes by user", users, {name: by_user[name] for name in known})

    def _sessions(self, answer: Answer, found: list[Json]) -> None:
        plain = {session.name.decode(): session for session in self.truth.sessions if is_plain(session.name)}
        shown = {session["name"]: session for session in found}
        self.same(answer, "number of sessions", len(found), len(self.truth.sessions))
        self.same(answer, "names of sessions that are not shown", plain.keys() - shown.keys(), set())
        for name in plain.keys() & shown.keys():
            files = [(file["token"], file["handler"]) for file in shown[name]["files"]]
            want = [(f"{file.token:#x}", file.handler) for file in plain[name].files]
            self.same(answer, f"files of {name}", files, want)

    # --- fsck ---

    def _fsck(self, notes: set[str]) -> None:
        answer = self.run("fsck", "-n", "--json")
        document = answer.json()
        if self.truth.moment == LATER or not self.truth.map:
            # The preserved map is gone or not written yet, so that what depends on it is unknown.
            self.same(answer, "status", answer.status, 8)
            self.same(answer, "findings of damage", _errors(document), [])
            return
        self.same(answer, "status", answer.status, 0)
        self.same(answer, "clean", document.get("clean"), True)
        found = {finding["code"] for finding in document.get("findings") or []}
        if not self.truth.release.luo:
            # Nothing in a map of these releases says how large its bitmaps are: doubt may be said.
            found.discard("GM0715")
        if self.truth.moment == FROZEN:
            self.same(answer, "codes", found, notes)

    # --- files ---

    def listing(self) -> None:
        """`ls -lR`: each session and file, with its size and blocks. Fills in how files are typed and shown."""
        answer = self.run("ls", "-lR", "--json")
        self.same(answer, "status", answer.status, 0)
        entries = answer.json().get("entries") or []
        found = {entry["path"]: entry for entry in entries}
        self.same(answer, "number of entries", len(entries), self._count_entries())
        paths = {(entry["path"], entry.get("path_bytes")) for entry in entries}
        self.same(answer, "paths that are shown twice", len(entries) - len(paths), 0)
        for session in self.truth.sessions:
            if is_plain(session.name):
                self._plain_session(answer, session, found)
        self._odd_names()

    def _count_entries(self) -> int:
        return len(self.truth.sessions) + sum(len(session.files) for session in self.truth.sessions)

    def _plain_session(self, answer: Answer, session: Session, found: dict[str, Json]) -> None:
        folder = "/" + session.name.decode()
        self.same(answer, f"kind of {folder}", found.get(folder, {}).get("kind"), "directory")
        for file in session.files:
            path = f"{folder}/{file.token:#x}"
            if not file.known:
                self.same(answer, f"{path} is shown", path in found, True)
                continue
            self.typed[file] = self.shown[file] = path
            entry = found.get(path, {})
            got = (entry.get("kind"), entry.get("size"), entry.get("blocks"))
            self.same(answer, path, got, ("file", file.size, pages_of(file.size)))

    def _odd_names(self) -> None:
        """Files of sessions with odd names are found by their records: they can be typed as `ls` prints them."""
        odd = {
            file.record: file
            for session in self.truth.sessions
            if not is_plain(session.name)
            for file in session.files
            if file.known
        }
        if not odd:
            return
        plain = set(self.typed.values())
        lines = [line for line in self.run("ls", "-R").lines() if line not in plain and "/0x" in line]
        for start in range(0, len(lines), 200):
            answer = self.run("stat", "--json", *lines[start : start + 200])
            for line, entry in zip(lines[start:], answer.json().get("files") or []):
                file = odd.pop((entry.get("handed") or {}).get("record"), None)
                if file:
                    self.typed[file], self.shown[file] = line, entry["path"]
        answer = self.run("ls", "-R")
        self.same(answer, "records of files that no path of `ls -R` leads to", sorted(odd), [])

    def _stat(self) -> None:
        files = list(self.typed)
        for start in range(0, len(files), 300):
            part = files[start : start + 300]
            answer = self.run("stat", "--json", *[self.typed[file] for file in part])
            self.same(answer, "status", answer.status, 0)
            found = answer.json().get("files") or []
            self.same(answer, "number of files", len(found), len(part))
            for file, entry in zip(part, found):
                self.stat_entry(answer, file, entry)

    def stat_entry(self, answer: Answer, file: File, entry: Json) -> None:
        """What `stat` says of one file."""
        handed = entry.get("handed") or {}
        path = self.shown[file]
        got = (entry["path"], entry["size"], handed.get("token"), handed.get("handler"), handed.get("record"))
        self.same(answer, path, got, (path, file.size, f"{file.token:#x}", file.handler, file.record))
        got = (handed.get("position"), handed.get("folios"), handed.get("record_fault"), entry.get("lost_pages"))
        self.same(answer, f"record of {path}", got, (file.position, len(file.folios), None, 0))
        if self.truth.release.memfd == 2:
            seals = [str(seal).replace("-", "_") for seal in handed.get("seals") or []]
            want = [name for bit, name in enumerate(SEALS) if file.seals >> bit & 1]
            self.same(answer, f"seals of {path}", seals, want)
        self.same(answer, f"extents of {path}", pages_of_extents(entry.get("extents")), file.extents())

    def _map(self, file: File) -> None:
        answer = self.run("map", "--json", self.typed[file])
        document = answer.json()
        got = (answer.status, pages_of_extents(document.get("extents")), document.get("holes"), document.get("lost"))
        self.same(answer, f"map of {self.shown[file]}", got, (0, file.extents(), [], []))

    def cat(self, file: File) -> None:
        """`cat` of one file."""
        answer = self.run("cat", self.typed[file])
        if not self._is_there(file):
            self.same(answer, "content that the image lacks is refused", answer.status not in (0, 1), True)
            return
        self.same(answer, "status", answer.status, 0)
        self.same(answer, "content", _same_bytes(answer.output, file.content), "the same bytes")

    def _is_there(self, file: File) -> bool:
        return all(address in self.truth.memory.pages for address in file.extents().values())

    def _extract(self) -> None:
        """`extract` of one file, and of all sessions."""
        files = [file for file in self.typed if self._is_there(file)]
        if not files:
            return
        folder = Path(tempfile.mkdtemp(dir=self.image.parent))
        try:
            file = self.rng.choice(files)
            answer = self.run("extract", self.typed[file], str(folder / "one"))
            self.same(answer, "status", answer.status, 0)
            self.same(answer, "content", _same_bytes(_content(folder / "one"), file.content), "the same bytes")
            if len(files) < len(self.typed):
                return  # A file whose content is absent ends the command.
            answer = self.run("extract", "/", str(folder / "all"))
            for session in self.truth.sessions:
                for file in session.files if is_plain(session.name) else []:
                    if file in files:
                        got = _content(folder / "all" / session.name.decode() / f"{file.token:#x}")
                        what = f"content of {self.shown[file]}"
                        self.same(answer, what, _same_bytes(got, file.content), "the same bytes")
        finally:
            shutil.rmtree(folder)

    def _unnamed(self) -> None:
        """Before the reboot, files are found by their records; an empty one need not be told from an empty page."""
        if not self.truth.map:
            return
        answer = self.run("ls", "-R", "--json")
        found = {entry["path"] for entry in answer.json().get("entries") or [] if entry["kind"] == "file"}
        files = {f"/unnamed/record-{file.record:#x}": file for session in self.truth.sessions for file in session.files}
        self.same(answer, "files that do not exist", found - files.keys(), set())
        missing = {path for path, file in files.items() if file.known and file.size and path not in found}
        self.same(answer, "files that are not shown", missing, set())
        for path in sorted(found & files.keys())[:SAMPLE]:
            self.typed[files[path]] = self.shown[files[path]] = path
        self._sample(self._map, self.cat)

    # --- who ---

    def _who(self) -> None:
        addresses = self._pages_to_ask() if self.truth.map else []
        if not addresses:
            return
        asked = [page + self.rng.randrange(PAGE) for page in addresses]
        answer = self.run("who", "--json", *map(hex, asked))
        found = answer.json().get("addresses") or []
        self.same(answer, "number of answers", len(found), len(asked))
        for address, entry in zip(asked, found):
            self._whose(answer, address, entry)

    def _pages_to_ask(self) -> list[int]:
        by_kind: dict[str, list[int]] = {}
        for page, owner in self.truth.owners.items():
            by_kind.setdefault(owner.kind, []).append(page)
        sample = [page for pages in by_kind.values() for page in self.rng.sample(pages, min(len(pages), 5))]
        known = self.truth.owners.keys() | set(self.truth.map_pages)
        free = [page for page in self.truth.memory.pages if page not in known]
        return sample + free[:3] + self.truth.map_pages[:2]

    def _whose(self, answer: Answer, address: int, entry: Json) -> None:
        page = address // PAGE * PAGE
        owner = self.truth.owners.get(page)
        what = f"owner of {address:#x}"
        if owner is None:
            want = "metadata" if page in self.truth.map_pages else "not-preserved"
            self.same(answer, what, entry["what"], want)
        elif owner.kind == "file" and owner.file in self.shown:
            offset = owner.page * PAGE + address - page
            got = (entry["what"], entry["path"], entry["offset"], entry["beyond_end"])
            self.same(answer, what, got, ("file", self.shown[owner.file], offset, offset >= owner.file.size))
        elif owner.kind in PAGE_KINDS and owner.file in self.shown:
            got = (entry["what"], entry["path"], entry["page_kind"])
            self.same(answer, what, got, ("metadata", self.shown[owner.file], PAGE_KINDS[owner.kind]))
        else:
            self.same(answer, what, entry["what"], _word(owner))


def _word(owner: Owner) -> str:
    words = {"reserve-mem": "reserve-mem", "unowned": "preserved", "file": "file"}
    return words.get(owner.kind, "metadata")


def _errors(document: Json) -> list[str]:
    findings = document.get("findings") or []
    return [finding["code"] for finding in findings if finding["severity"] in ("error", "fatal")]


def _ranges(areas: list[Json] | None) -> list[tuple[int, int]]:
    return [(area.get("address", area.get("offset")), area.get("length")) for area in areas or []]


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _same_bytes(got: bytes | None, want: bytes) -> str:
    """Says how bytes differ, in a few words."""
    if got is None:
        return "no file"
    if got == want:
        return "the same bytes"
    first = next((at for at, pair in enumerate(zip(got, want)) if pair[0] != pair[1]), min(len(got), len(want)))
    return f"{len(got)} bytes instead of {len(want)}, the first difference is at {first:#x}"


def _difference(got: Any, want: Any) -> tuple[str, str]:
    """Both in a line; of dictionaries only the entries that differ."""
    if isinstance(got, dict) and isinstance(want, dict):
        keys = [key for key in got.keys() | want.keys() if got.get(key) != want.get(key)][:4]
        got, want = {key: got.get(key) for key in keys}, {key: want.get(key) for key in keys}
    return str(got)[:200], str(want)[:200]
