"""Planted damages: what is changed in a healthy hand-over, and what must then be true.

Of each damaged image it is demanded that
- the check does not call it clean, if the damage is demanded to be told;
- files that the damage does not touch are shown as before, byte for byte;
- content that is lost is refused or reported, and never shown as zeros;
- no command crashes, hangs or takes much memory.
"""

from __future__ import annotations

import copy
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from handover import BY_NAME, FROZEN, File, Handover, Owner
from judge import Judge, pages_of_extents
from memory import PAGE, u16, u32, u64, write_elf
from program import Answer, Program

ALL = ("6.19", "7.0", "7.1", "7.3")
CHUNKS = ("6.19", "7.0")
RADIX = ("7.1", "7.3")
TREE = ("6.19", "7.0", "7.1")
FLBS = ("7.0", "7.1", "7.3")
STRUCT = ("7.3",)
MEMFD2 = RADIX

# What is demanded of the check.
TOLD = "told"  # It does not say "clean".
NOTED = "noted"  # It lists at least a note, or does not say "clean".
FREE = "free"  # It may say what it likes: the facts allow this, or do not decide.
RIGHT = "right"  # It says "clean" only if what is shown of preserved memory is right.
UNCHECKED = "unchecked"  # It lists something that it could not check, or does not say "clean".
ABSENT = "absent"  # It says that something is missing from the image (status bit 8).

Touched = list[File]
Change = Callable[["Victim"], Touched | None]


@dataclass
class Victim:
    """A hand-over to damage. The victims of most damages are a small file, `file`, and a larger one, `big`."""

    truth: Handover
    absent: set[int] = field(default_factory=set)
    everything: bool = False

    @property
    def file(self) -> File:
        """Two folios, in the middle of a list of 70 files."""
        return self.truth.sessions[2].files[5]

    @property
    def other(self) -> File:
        """The file that follows it."""
        return self.truth.sessions[2].files[6]

    @property
    def big(self) -> File:
        """Folios of several orders."""
        return self.truth.sessions[0].files[2]

    @property
    def empty(self) -> File:
        """A file of no bytes."""
        return self.truth.sessions[0].files[1]

    def set(self, address: int, value: int) -> None:
        """Writes a 64-bit number."""
        self.truth.memory.set_number(address, value)

    def write(self, address: int, data: bytes) -> None:
        """Writes bytes."""
        self.truth.memory.write(address, data)

    def get(self, address: int) -> int:
        """Reads a 64-bit number."""
        return self.truth.memory.number(address)

    def replace(self, page: int, old: bytes, new: bytes) -> None:
        """Replaces bytes of a page by as many others."""
        data = bytes(self.truth.memory.page(page))
        assert old in data and len(old) == len(new), f"{old!r} is not in the page"
        self.truth.memory.page(page)[:] = data.replace(old, new)

    def user(self, name: str, address: int | None = None, size: int | None = None) -> None:
        """Makes the device tree say something else of a user."""
        self.truth.users = [
            (user, address if address is not None else where, size if size is not None else length)
            if user == name
            else (user, where, length)
            for user, where, length in self.truth.users
        ]
        self.truth.write_tree()

    def all(self) -> None:
        """Nothing of the hand-over need be shown."""
        self.everything = True

    def folio(self, file: File, number: int) -> int:
        """The address of the record of a folio."""
        return self.truth.folio_entry(file, number)

    def field(self, name: str, file: File | None = None) -> int:
        """The address of a field of a record."""
        count = self.truth.folio_count_at
        offsets = {"position": 0, "size": 8, "seals": 16, "flags": 20, "folios": count, "first": count + 8}
        offsets |= {"pages": count + 16, "vmalloc flags": count + 20, "order": count + 22}
        return (file or self.file).record + offsets[name]

    def free_page(self) -> int:
        """A page that is not preserved, with bytes of somebody else."""
        page = self.truth.memory.allocate()
        self.truth.memory.random_page(page)
        return page

    def rewrite_map(self, add: dict[tuple[int, int], str] | None = None, drop: list[tuple[int, int]] | None = None):
        """Writes the preserved map with other pieces than the kernel preserved."""
        for piece in drop or []:
            del self.truth.preserved[piece]
        for piece, kind in (add or {}).items():
            self.truth.preserved[piece] = Owner(kind, "no known user")
        self.truth.write_map()


@dataclass
class Damage:
    """A row of the table."""

    name: str
    releases: tuple[str, ...]
    change: Change
    demand: str = TOLD
    scratch: bool = False
    prepare: Callable[[Handover], object] | None = None


@cache
def _healthy(release: str, scratch: bool) -> Handover:
    truth = Handover(BY_NAME[release], 1)
    if scratch:
        for start, length in ((0x1800000, 0x400000), (0x1C00000, 0x800000), (0x2400000, 0x400000)):
            truth.add_scratch(start, length)
    if not truth.release.luo:
        return truth
    truth.add_reserve_mem("alpha", 64)
    truth.add_reserve_mem("beta", 13)
    one = truth.add_session("one")
    truth.add_file(one, 1, 12345, max_order=2, position=7, seals=0x2F)
    truth.add_file(one, 2, 0)
    truth.add_file(one, 3, 90 * PAGE, orders=[6, 0, 3, 0, 0])
    truth.add_session("empty")
    two = truth.add_session("two")
    for number in range(70):
        truth.add_file(two, number, 5000 + number)
    truth.add_file(truth.add_session("three"), 1, 9999)
    return truth


def victim(release: str, damage: Damage) -> Victim:
    """A fresh hand-over, damaged."""
    truth = copy.deepcopy(_healthy(release, damage.scratch))
    if damage.prepare:
        damage.prepare(truth)
    truth.serialise(FROZEN, setup_data=damage.scratch)
    return Victim(truth)


# --- the table ---


def _in_file(change: Callable[[Victim], object]) -> Change:
    """A change that touches the small file only."""

    def apply(it: Victim) -> Touched:
        change(it)
        return [it.file]

    return apply


def _in_two(change: Callable[[Victim], object]) -> Change:
    """A change that touches the small file and the one after it."""

    def apply(it: Victim) -> Touched:
        change(it)
        return [it.file, it.other]

    return apply


def _in_big(change: Callable[[Victim], object]) -> Change:
    """A change that touches the larger file only."""

    def apply(it: Victim) -> Touched:
        change(it)
        return [it.big]

    return apply


def _in_list(change: Callable[[Victim], object], session: int = 2) -> Change:
    """A change that touches all files of a session."""

    def apply(it: Victim) -> Touched:
        change(it)
        return it.truth.sessions[session].files

    return apply


def _anywhere(change: Callable[[Victim], object]) -> Change:
    """A change after which no file need be found."""

    def apply(it: Victim) -> Touched:
        change(it)
        it.all()
        return []

    return apply


def _elsewhere(change: Callable[[Victim], object]) -> Change:
    """A change that touches no file."""

    def apply(it: Victim) -> Touched:
        change(it)
        return []

    return apply


def table() -> list[Damage]:
    """All damages."""
    hand_over = [*_roots(), *_lists(), *_records(), *_folios(), *_preserved(), *_scratch()]
    return [*hand_over, *_maps(), *_one_bitmap(), *_users(), *_absent()]


def _roots() -> list[Damage]:
    far, odd = 1 << 60, 8
    return [
        Damage("LUO: another version", STRUCT, _anywhere(lambda it: it.write(it.truth.luo, b"luo-v6\0\0"))),
        Damage("LUO: no string", STRUCT, _anywhere(lambda it: it.write(it.truth.luo, bytes(8)))),
        Damage("LUO: blob of 24 bytes", STRUCT, _anywhere(lambda it: it.user("LUO", size=24))),
        Damage("LUO: blob of 40 bytes", STRUCT, _anywhere(lambda it: it.user("LUO", size=40))),
        Damage("LUO: blob of 0 bytes", STRUCT, _anywhere(lambda it: it.user("LUO", size=0))),
        Damage(
            "LUO tree: another version",
            TREE,
            _anywhere(lambda it: it.replace(it.truth.luo, b"luo-v1\0", b"luo-v2\0")),
        ),
        Damage(
            "LUO tree: other sessions",
            TREE,
            _anywhere(lambda it: it.replace(it.truth.luo, b"luo-session-v2", b"luo-session-v3")),
        ),
        Damage(
            "LUO tree: no sessions",
            TREE,
            _anywhere(lambda it: it.replace(it.truth.luo, b"luo-session\0", b"luo-sessiox\0")),
        ),
        Damage(
            "LUO tree: no number of the live update",
            TREE,
            _elsewhere(lambda it: it.replace(it.truth.luo, b"liveupdate-number", b"liveupdate-numbex")),
        ),
        Damage(
            "7.1 without FLBs",
            ("7.1",),
            _elsewhere(lambda it: it.replace(it.truth.luo, b"luo-flb\0", b"luo-flx\0")),
        ),
        Damage(
            "FLBs of another version",
            ("7.0", "7.1"),
            _elsewhere(lambda it: it.replace(it.truth.luo, b"luo-flb-v1", b"luo-flb-v2")),
        ),
        *[
            Damage(
                f"LUO tree: sessions at {name}",
                TREE,
                _anywhere(
                    lambda it, value=value: it.replace(
                        it.truth.luo,
                        u64(it.truth.session_area),
                        u64(value + it.truth.session_area if value == odd else value),
                    )
                ),
            )
            for name, value in (("0", 0), ("an odd address", odd), ("no address", far))
        ],
        Damage("no page of FLBs", STRUCT, _elsewhere(lambda it: it.set(it.truth.luo + 24, 0))),
        Damage("odd page of FLBs", STRUCT, _elsewhere(lambda it: it.set(it.truth.luo + 24, it.truth.flb_page + 16))),
        Damage("64 FLBs", FLBS, _elsewhere(lambda it: it.set(it.truth.flb_page + 8, 64))),
        Damage("two pages of FLBs", FLBS, _elsewhere(lambda it: it.set(it.truth.flb_page, 2))),
        Damage(
            "FLB name without an end",
            FLBS,
            _elsewhere(lambda it: it.write(it.truth.flb_page + 16, b"f" * 48)),
            FREE,
            prepare=lambda truth: truth.flbs.append(("a", 1, 1)),
        ),
        Damage(
            "FLB name twice",
            FLBS,
            _elsewhere(lambda it: None),
            prepare=lambda truth: truth.flbs.extend([("a", 1, 1), ("a", 2, 2)]),
        ),
        Damage(
            "first sessions at an odd address",
            STRUCT,
            _anywhere(lambda it: it.set(it.truth.luo + 16, it.truth.session_blocks[0] + 8)),
        ),
        Damage("first sessions at no address", STRUCT, _anywhere(lambda it: it.set(it.truth.luo + 16, far))),
    ]


def _lists() -> list[Damage]:
    def block(it: Victim, number: int = 0) -> int:
        return it.truth.sessions[2].blocks[number]

    def files(it: Victim) -> int:
        return it.truth.session_entry(2) + 64

    rows = [
        Damage("sessions lead to themselves", STRUCT, _elsewhere(lambda it: it.set(*[it.truth.session_blocks[0]] * 2))),
        Damage("files lead to themselves", STRUCT, _in_list(lambda it: it.set(block(it, 1), block(it, 1)))),
        Damage("files lead back", STRUCT, _in_list(lambda it: it.set(block(it, 1), block(it)))),
        Damage("block of 64 files", STRUCT, _in_list(lambda it: it.set(block(it) + 8, 64))),
        Damage("block of 0 files", STRUCT, _in_list(lambda it: it.set(block(it, 1) + 8, 0))),
        Damage("block of 2^63 files", STRUCT, _in_list(lambda it: it.set(block(it) + 8, 2**63))),
        Damage("block that is not full", STRUCT, _in_list(lambda it: it.set(block(it) + 8, 62))),
        Damage("a file less in the last block", STRUCT, _in_list(lambda it: it.set(block(it, 1) + 8, 6))),
        Damage("a file more in the last block", STRUCT, _in_list(lambda it: it.set(block(it, 1) + 8, 8))),
        Damage("block of 52 sessions", STRUCT, _anywhere(lambda it: it.set(it.truth.session_blocks[0] + 8, 52))),
        Damage("block of 0 sessions", STRUCT, _anywhere(lambda it: it.set(it.truth.session_blocks[0] + 8, 0))),
        Damage("820 sessions", TREE, _anywhere(lambda it: it.set(it.truth.session_area, 820))),
        Damage("2^60 sessions", TREE, _anywhere(lambda it: it.set(it.truth.session_area, 2**60 + 3))),
        Damage("next block at an odd address", STRUCT, _in_list(lambda it: it.set(block(it), block(it, 1) + 4))),
        Damage("next block at no address", STRUCT, _in_list(lambda it: it.set(block(it), 1 << 55))),
        # Without a header, an array of files is as long as its session says.
        Damage("a file less in a session", STRUCT, _in_list(lambda it: it.set(files(it) + 8, 69))),
        Damage("a file less in an array", TREE, _in_list(lambda it: it.set(files(it) + 8, 69)), NOTED),
        Damage("a file more in a session", ALL, _in_list(lambda it: it.set(files(it) + 8, 71))),
        Damage("129 files in an array", TREE, _in_list(lambda it: it.set(files(it) + 8, 129))),
        Damage("session with files that are nowhere", ALL, _in_list(lambda it: it.set(files(it), 0))),
        Damage("session with a list and no files", ALL, _in_list(lambda it: it.set(files(it) + 8, 0))),
        Damage("list of files at an odd address", ALL, _in_list(lambda it: it.set(files(it), block(it) + 64))),
        Damage("list of files at no address", ALL, _in_list(lambda it: it.set(files(it), 1 << 58))),
        Damage(
            "two sessions with one list",
            ALL,
            lambda it: [
                it.set(it.truth.session_entry(3) + 64, it.truth.sessions[0].blocks[0]),
                *it.truth.sessions[0].files,
                *it.truth.sessions[3].files,
            ][1:],
        ),
        Damage("session name without an end", ALL, _in_list(lambda it: it.write(it.truth.session_entry(2), b"z" * 64))),
        Damage(
            "session name twice",
            ALL,
            lambda it: [
                it.write(it.truth.session_entry(2), b"one\0"),
                *it.truth.sessions[0].files,
                *it.truth.sessions[2].files,
            ][1:],
        ),
    ]
    return rows + _list_entries()


def _list_entries() -> list[Damage]:
    def entry(it: Victim, number: int = 5) -> int:
        return it.truth.file_entry(2, number)

    def in_files(*numbers: int) -> Callable[[Callable[[Victim], object]], Change]:
        def wrap(change: Callable[[Victim], object]) -> Change:
            def apply(it: Victim) -> Touched:
                change(it)
                return [it.truth.sessions[2].files[number] for number in numbers]

            return apply

        return wrap

    return [
        Damage("token twice", ALL, in_files(3, 5)(lambda it: it.set(entry(it) + 56, 3))),
        Damage("token twice, in two blocks", STRUCT, in_files(3, 66)(lambda it: it.set(entry(it, 66) + 56, 3))),
        Damage("unknown handler", ALL, _in_file(lambda it: it.write(entry(it), b"memfd-v9")), NOTED),
        Damage("handler without an end", ALL, _in_file(lambda it: it.write(entry(it), b"m" * 48))),
        Damage("empty handler", ALL, _in_file(lambda it: it.write(entry(it), bytes(48))), NOTED),
        Damage("handler of the other version", MEMFD2, _in_file(lambda it: it.write(entry(it), b"memfd-v1\0")), NOTED),
        Damage("handler of the next version", CHUNKS, _in_file(lambda it: it.write(entry(it), b"memfd-v2\0")), NOTED),
        Damage("record at an odd address", ALL, _in_file(lambda it: it.set(entry(it) + 48, it.file.record + 1))),
        Damage("record within a page", ALL, _in_file(lambda it: it.set(entry(it) + 48, it.file.record + 64))),
        Damage("record at no address", ALL, _in_file(lambda it: it.set(entry(it) + 48, 1 << 56))),
        Damage("record at 0", ALL, _in_file(lambda it: it.set(entry(it) + 48, 0))),
        Damage("record of another file", ALL, _in_two(lambda it: it.set(entry(it) + 48, it.other.record))),
        Damage("record is a list", ALL, _in_list(lambda it: it.set(entry(it) + 48, it.truth.sessions[2].blocks[0]))),
        Damage("record is content", ALL, _in_two(lambda it: it.set(entry(it) + 48, it.other.folios[0].address))),
    ]


def _records() -> list[Damage]:
    def put(name: str, value: Callable[[Victim], int] | int, pack: Callable[[int], bytes] = u64) -> Change:
        def change(it: Victim) -> None:
            it.write(it.field(name), pack(value if isinstance(value, int) else value(it)))

        return _in_file(change)

    def zero_record(it: Victim) -> None:
        it.truth.memory.page(it.file.record)[:] = bytes(PAGE)

    def list_for_empty(it: Victim) -> Touched:
        it.set(it.field("first", it.empty), it.other.chunks[0])
        return [it.empty, it.other]

    return [
        Damage("record of zeros", ALL, _in_file(zero_record), NOTED),
        Damage("unknown seals", MEMFD2, put("seals", 0x40, u32)),
        Damage("flags of a record", MEMFD2, put("flags", 1, u32)),
        Damage("size a page too large", ALL, put("size", 8193)),
        Damage("size of 2^63", ALL, put("size", 2**63)),
        Damage("size of 2^64 - 1", ALL, put("size", 2**64 - 1)),
        Damage("size a page too small", ALL, put("size", 4096)),
        Damage("size of 0", ALL, put("size", 0)),
        Damage("no folios", ALL, put("folios", 0)),
        Damage("a folio less", ALL, put("folios", 1)),
        Damage("a folio more", ALL, put("folios", 3)),
        Damage("2^40 folios", ALL, put("folios", 2**40)),
        Damage("list of folios at 0", ALL, put("first", 0)),
        Damage("list of folios at an odd address", ALL, put("first", lambda it: it.file.chunks[0] + 16)),
        Damage("list of folios at no address", ALL, put("first", 1 << 57)),
        Damage("list of folios of another file", ALL, put("first", lambda it: it.other.chunks[0])),
        Damage("list of folios is a page of it", ALL, put("first", lambda it: it.file.record_pages[0])),
        Damage("empty file with a list of folios", ALL, list_for_empty),
        Damage("no pages with folios", ALL, put("pages", 0, u32)),
        Damage("two pages with folios", ALL, put("pages", 2, u32)),
        Damage("vmalloc: no flags", ALL, put("vmalloc flags", 0, u16)),
        Damage("vmalloc: unknown flag", ALL, put("vmalloc flags", 5, u16)),
        Damage("vmalloc: order 60", ALL, put("order", 60, u16)),
        Damage("vmalloc: order 1", ALL, put("order", 1, u16)),
        *_chunk_rows(),
    ]


def _chunk_rows() -> list[Damage]:
    def chunk(at: int, value: Callable[[Victim], int] | int) -> Change:
        def change(it: Victim) -> Touched:
            it.set(it.file.chunks[0] + at, value if isinstance(value, int) else value(it))
            return [it.file, it.other]

        return change

    return [
        Damage("chunk leads to itself", ALL, chunk(0, lambda it: it.file.chunks[0])),
        Damage("chunk leads to another file's", ALL, chunk(0, lambda it: it.other.chunks[0])),
        Damage("chunk leads nowhere", ALL, chunk(0, 1 << 57)),
        Damage("chunk leads to an odd address", ALL, chunk(0, lambda it: it.other.chunks[0] + 8)),
        Damage("chunk without pages", ALL, chunk(8, 0)),
        Damage("chunk with an odd page", ALL, chunk(8, lambda it: it.file.record_pages[0] + 16)),
        Damage("chunk with another file's page", ALL, chunk(8, lambda it: it.other.record_pages[0])),
        Damage("chunk with a page of content", ALL, chunk(8, lambda it: it.other.folios[0].address)),
        Damage("chunk with a page more", ALL, chunk(16, lambda it: it.other.record_pages[0])),
        Damage("chunk with a page more, nowhere", ALL, chunk(16, 1 << 57)),
        Damage("chunk with a page more, odd", ALL, chunk(16, 12345)),
    ]


def _folios() -> list[Damage]:
    def frame(address: Callable[[Victim], int] | int, number: int = 1) -> Change:
        """Makes a folio's record name another page."""

        def change(it: Victim) -> Touched:
            value = address if isinstance(address, int) else address(it)
            it.set(it.folio(it.file, number), value // PAGE | 3 << 52)
            return [it.file, it.other]

        return change

    def index(number: int, value: int) -> Change:
        return _in_file(lambda it: it.set(it.folio(it.file, number) + 8, value))

    def flags(value: int) -> Change:
        def change(it: Victim) -> None:
            at = it.folio(it.file, 1)
            it.set(at, it.get(at) & (2**52 - 1) | value << 52)

        return _in_file(change)

    def gap(it: Victim) -> None:
        for number in range(10, len(it.big.folios)):
            at = it.folio(it.big, number) + 8
            it.set(at, it.get(at) + 1)

    return [
        Damage("folio without a page", ALL, frame(0)),
        Damage("folio of zeros", ALL, _in_file(lambda it: it.write(it.folio(it.file, 1), bytes(16)))),
        Damage("folios with a gap", ALL, _in_big(gap)),
        Damage("folios start late", ALL, index(0, 1)),
        Damage("folios that do not ascend", ALL, index(1, 0)),
        Damage("folio past the end", ALL, index(1, 5)),
        Damage("folio far past the end", ALL, index(1, 2**64 - 1)),
        # Both flags are always set since 6.19, and there are no others.
        Damage("folio without flags", ALL, flags(0)),
        Damage("folio that is not up to date", ALL, flags(1)),
        Damage("folio with an unknown flag", ALL, flags(7)),
        Damage("folio that is not preserved", ALL, frame(lambda it: it.free_page())),
        Damage("folio at the end of addresses", ALL, frame((2**40 - 1) * PAGE)),
        Damage("folio past all addresses", ALL, frame((2**52 - 1) * PAGE)),
        Damage("folio of another file", ALL, frame(lambda it: it.other.folios[1].address)),
        Damage("folio twice in a file", ALL, frame(lambda it: it.file.folios[0].address)),
        Damage("folio is a record", ALL, frame(lambda it: it.other.record)),
        Damage("folio is the device tree", ALL, frame(lambda it: it.truth.fdt)),
        Damage("folio is the root of LUO", ALL, frame(lambda it: it.truth.luo)),
        Damage("folio is in reserve_mem", ALL, frame(lambda it: it.truth.reserve_mem[0][1] + 5 * PAGE)),
        Damage("folio is a page of the map", ALL, frame(lambda it: it.truth.map_pages[1])),
        Damage("folio is its own list", ALL, frame(lambda it: it.file.record_pages[0])),
        Damage("folio is its own chunk", ALL, frame(lambda it: it.file.chunks[0])),
        Damage(
            "folio within another folio",
            ALL,
            lambda it: [
                it.set(it.folio(it.file, 1), (it.big.folios[0].address + 3 * PAGE) // PAGE | 3 << 52),
                it.file,
                it.big,
            ][1:],
        ),
    ]


def _preserved() -> list[Damage]:
    def clear(piece: Callable[[Victim], tuple[int, int]]) -> Change:
        """Takes a piece out of the preserved map."""
        return _in_file(lambda it: it.truth.clear_key(*piece(it)))

    def list_order(it: Victim) -> int:
        return 0 if it.truth.release.luo == "struct" else 1

    def sessions_order(it: Victim) -> int:
        return 0 if it.truth.release.luo == "struct" else 4

    def split(it: Victim) -> None:
        address, order = it.big.folios[0].address, it.big.folios[0].order - 1
        halves = {(address, order): "file", (address + (PAGE << order), order): "file"}
        it.rewrite_map(halves, [(address, order + 1)])

    def halve(it: Victim) -> None:
        address, order = it.big.folios[0].address, it.big.folios[0].order
        it.rewrite_map({(address, order - 1): "file"}, [(address, order)])

    return [
        Damage("folio not preserved", ALL, clear(lambda it: (it.file.folios[1].address, 0))),
        Damage("record not preserved", ALL, clear(lambda it: (it.file.record, 0))),
        Damage("chunk not preserved", ALL, clear(lambda it: (it.file.chunks[0], 0))),
        Damage("page of folios not preserved", ALL, clear(lambda it: (it.file.record_pages[0], 0))),
        # A map that lacks its own device tree looks like that of another moment.
        Damage("device tree not preserved", ALL, _in_file(lambda it: it.truth.clear_key(it.truth.fdt, 0))),
        Damage("root of LUO not preserved", ALL, clear(lambda it: (it.truth.luo, 0))),
        Damage("sessions not preserved", ALL, clear(lambda it: (it.truth.session_blocks[0], sessions_order(it)))),
        Damage("files not preserved", ALL, clear(lambda it: (it.truth.sessions[2].blocks[0], list_order(it)))),
        Damage("memblock not preserved", ALL, clear(lambda it: (it.truth.memblock, 0))),
        Damage("reserve_mem not preserved", ALL, clear(lambda it: (it.truth.reserve_mem[0][1], 6))),
        Damage("FLBs not preserved", FLBS, clear(lambda it: (it.truth.flb_page, 0))),
        Damage("kexec-metadata not preserved", RADIX, clear(lambda it: (it.truth.metadata, 0))),
        Damage("folio preserved in two halves", ALL, _in_big(split)),
        Damage("folio preserved by half", ALL, _in_big(halve)),
        Damage(
            "folio preserved twice", ALL, _in_big(lambda it: it.rewrite_map({(it.big.folios[0].address, 0): "file"}))
        ),
        Damage(
            "reserve_mem preserved twice",
            ALL,
            _elsewhere(lambda it: it.rewrite_map({(it.truth.reserve_mem[0][1], 0): "reserve-mem"})),
        ),
        Damage(
            "record in a larger piece too",
            ALL,
            _in_file(lambda it: it.rewrite_map({(it.file.record & -8192, 1): "record"})),
        ),
        Damage(
            "piece above 2^52",
            RADIX,
            _elsewhere(lambda it: it.truth.add_key(it.truth.map, 1 << 52 | 1 << 45)),
        ),
    ]


def _maps() -> list[Damage]:
    def key(value: int) -> Change:
        return _elsewhere(lambda it: it.truth.add_key(it.truth.map, value))

    def table_at(value: Callable[[Victim], int]) -> Change:
        """Changes the link from the root to the tables of order 0."""
        return _elsewhere(lambda it: it.set(it.truth.map + 16, value(it)))

    def map_at(value: Callable[[Victim], int]) -> Change:
        def change(it: Victim) -> None:
            it.truth.map = value(it)
            it.truth.write_tree()

        return _elsewhere(change)

    def chunk(at: int, value: Callable[[Victim], bytes]) -> Change:
        return _elsewhere(lambda it: it.write(it.truth.map_chunks[0] + at, value(it)))

    def number(it: Victim, at: int) -> int:
        return it.get(it.truth.map_chunks[0] + at)

    def add_entry(it: Victim, start: int, bitmap: int) -> None:
        chunk = it.truth.map_chunks[0]
        count = int.from_bytes(it.truth.memory.read(chunk + 12, 4), "little")
        it.write(chunk + 16 + 16 * count, u64(start) + u64(bitmap))
        it.write(chunk + 12, u32(count + 1))

    def overlap(it: Victim) -> None:
        for value in (1 << 52 | 0x50000, 1 << 51 | 0x28000):
            it.truth.add_key(it.truth.map, value)

    def leaf_twice(it: Victim) -> None:
        """Lets two entries of a table of level 1 lead to one bitmap."""
        (table, index), leaf = next(
            (place, page) for place, page in it.truth.map_nodes.items() if page == it.truth.map_pages[5]
        )
        it.set(table + 8 * (index + 1), leaf)

    return [
        Damage("map at an odd address", ALL, map_at(lambda it: it.truth.map + 8)),
        Damage("map at no address", ALL, map_at(lambda it: 1 << 60)),
        Damage("map at 0", RADIX, map_at(lambda it: 0)),
        Damage("table at an odd address", RADIX, table_at(lambda it: it.get(it.truth.map + 16) + 1)),
        Damage("table at no address", RADIX, table_at(lambda it: 1 << 56)),
        Damage("table leads to itself", RADIX, _elsewhere(lambda it: it.set(it.truth.map + 8 * 9, it.truth.map))),
        Damage("table twice", RADIX, _elsewhere(lambda it: it.set(it.truth.map + 24, it.get(it.truth.map + 16)))),
        Damage("bitmap twice", RADIX, _elsewhere(leaf_twice)),
        Damage("key of a negative order", RADIX, key(1 << 55 | 5)),
        Damage("key of order -1", RADIX, key(1 << 53 | 5)),
        Damage("key 0", RADIX, key(0)),
        Damage("key 1", RADIX, key(1)),
        Damage("pieces that overlap", RADIX, _elsewhere(overlap)),
        Damage("chunks lead back", CHUNKS, _elsewhere(lambda it: it.set(it.truth.map_chunks[-1], it.truth.map))),
        Damage("chunk of 256 bitmaps", CHUNKS, chunk(12, lambda it: u32(256))),
        Damage("chunk of 2^32 - 1 bitmaps", CHUNKS, chunk(12, lambda it: u32(2**32 - 1))),
        Damage("chunk of order 53", CHUNKS, chunk(8, lambda it: u32(53))),
        Damage("bitmap starts a page late", CHUNKS, chunk(16, lambda it: u64(number(it, 16) + PAGE))),
        Damage("bitmap at an odd address", CHUNKS, chunk(24, lambda it: u64(number(it, 24) + 1))),
        Damage("bitmap at no address", CHUNKS, chunk(24, lambda it: u64(1 << 60))),
        Damage("bitmap at 0", CHUNKS, chunk(24, lambda it: u64(0))),
        Damage("bitmap is a chunk", CHUNKS, chunk(24, lambda it: u64(it.truth.map_chunks[-1]))),
        Damage("start twice", CHUNKS, _elsewhere(lambda it: add_entry(it, number(it, 16), _empty_page(it)))),
        Damage("bitmap in two entries", CHUNKS, _elsewhere(lambda it: add_entry(it, 1 << 40, number(it, 24)))),
    ]


def _one_bitmap() -> list[Damage]:
    """One bitmap of 512 bytes at the start of a page, with bytes of others behind it: it could be one of 4096 bytes."""

    def prepare(truth: Handover) -> None:
        truth.memory.ram = [(0x200000, 0x1000000)]
        truth.foreign_slab = True
        for number in range(3):
            truth.add_reserve_mem(f"r{number}", 1)

    return [Damage("one bitmap before foreign bytes", ("6.16",), _elsewhere(lambda it: None), RIGHT, prepare=prepare)]


def _empty_page(it: Victim) -> int:
    return it.truth.memory.allocate()


def _scratch() -> list[Damage]:
    inside = 0x1C10000

    def move_folio(it: Victim) -> None:
        it.truth.memory.take(inside)
        it.write(inside, it.truth.memory.read(it.file.folios[1].address, PAGE))
        it.set(it.folio(it.file, 1), inside // PAGE | 3 << 52)
        it.rewrite_map({(inside, 0): "file"}, [(it.file.folios[1].address, 0)])

    def move_record(it: Victim) -> None:
        it.truth.memory.take(inside)
        it.write(inside, it.truth.memory.read(it.file.record, PAGE))
        it.set(it.truth.file_entry(2, 5) + 48, inside)
        it.rewrite_map({(inside, 0): "record"}, [(it.file.record, 0)])

    def preserve(it: Victim) -> None:
        it.truth.memory.take(inside)
        it.rewrite_map({(inside, 0): "unowned"})

    def areas(*ranges: tuple[int, int]) -> Change:
        def change(it: Victim) -> None:
            it.write(it.truth.scratch_list, b"".join(u64(start) + u64(length) for start, length in ranges))
            it.set(it.truth.setup_data + 40, 16 * len(ranges))

        return _elsewhere(change)

    def setup(at: int, value: int) -> Change:
        return _elsewhere(lambda it: it.set(it.truth.setup_data + at, value))

    return [
        Damage("folio in a scratch area", ALL, _in_file(move_folio), scratch=True),
        Damage("record in a scratch area", ALL, _in_file(move_record), scratch=True),
        Damage("preserved in a scratch area", ALL, _elsewhere(preserve), scratch=True),
        Damage(
            "reserve_mem in a scratch area",
            ALL,
            _elsewhere(lambda it: None),
            scratch=True,
            prepare=lambda truth: truth.add_reserve_mem("gamma", 3, truth.memory.take(0x1C20000, 2)),
        ),
        Damage("scratch area that is not aligned", ALL, areas((0x1801000, 0x3FF000)), UNCHECKED, scratch=True),
        Damage("scratch area of 2^63 bytes", ALL, areas((0, 2**63)), UNCHECKED, scratch=True),
        Damage("scratch area past the last address", ALL, areas((2**64 - 0x400000, 0x800000)), UNCHECKED, scratch=True),
        Damage("scratch area of all memory", ALL, areas((0, 0x2000000)), scratch=True),
        Damage("2^56 scratch areas", ALL, setup(40, 2**60), UNCHECKED, scratch=True),
        Damage("part of a scratch area", ALL, setup(40, 24), UNCHECKED, scratch=True),
        Damage("scratch areas at no address", ALL, setup(32, 2**60), UNCHECKED, scratch=True),
    ]


def _users() -> list[Damage]:
    def swap(page: Callable[[Victim], int], old: bytes, new: bytes, touches: Callable = _elsewhere) -> Change:
        return touches(lambda it: it.replace(page(it), old, new))

    def memblock(it: Victim) -> int:
        return it.truth.memblock

    def tree(it: Victim) -> int:
        return it.truth.fdt

    def region(label: str, address: Callable[[Handover], int] | int, length: int) -> Damage:
        def prepare(truth: Handover) -> None:
            start = address if isinstance(address, int) else address(truth)
            truth.reserve_mem.append((label, start, length))

        return Damage(f"reserve_mem {label}", ALL, _elsewhere(lambda it: None), prepare=prepare)

    return [
        Damage("kexec-metadata of 72 bytes", RADIX, _elsewhere(lambda it: it.user("kexec-metadata", size=72))),
        Damage("kexec-metadata of another version", RADIX, _elsewhere(lambda it: it.write(it.truth.metadata, b"\2"))),
        Damage(
            "release without an end",
            RADIX,
            _elsewhere(lambda it: it.write(it.truth.metadata + 4, b"7" * 65)),
            FREE,
        ),
        Damage("memblock of 30 bytes", RADIX, _elsewhere(lambda it: it.user("memblock", size=30))),
        Damage("memblock of 2^63 bytes", RADIX, _elsewhere(lambda it: it.user("memblock", size=2**63))),
        Damage("memblock without a magic", ALL, _elsewhere(lambda it: it.write(it.truth.memblock, bytes(4)))),
        Damage("memblock-v2", ALL, swap(memblock, b"memblock-v1", b"memblock-v2")),
        Damage("reserve-mem-v9", ALL, swap(memblock, b"reserve-mem-v1", b"reserve-mem-v9")),
        Damage("reserve_mem without a start", ALL, swap(memblock, b"start\0", b"stxrt\0")),
        Damage("reserve_mem without a size", ALL, swap(memblock, b"\0size\0", b"\0sixe\0")),
        region("that overlaps", lambda truth: truth.reserve_mem[0][1], PAGE),
        region("with a record", lambda truth: truth.sessions[2].files[5].record, PAGE),
        region("that is not preserved", 0x7000000000, PAGE),
        region("past the last address", 2**64 - PAGE, 2 * PAGE),
        Damage(
            "no property with the map",
            ALL,
            swap(tree, b"preserved-memory-map", b"preserved-memory-mop", _anywhere),
        ),
        Damage("no size of a blob", RADIX, swap(tree, b"blob-size\0", b"blob-sizo\0", _anywhere)),
        Damage("no address of a blob", RADIX, swap(tree, b"preserved-data\0", b"preserved-dato\0", _anywhere)),
        Damage("no address of a tree", CHUNKS, swap(tree, b"fdt\0", b"fdx\0", _anywhere)),
        Damage("memblock at no address", ALL, _elsewhere(lambda it: it.user("memblock", address=1 << 60))),
        Damage("memblock at 0", ALL, _elsewhere(lambda it: it.user("memblock", address=0))),
        Damage("memblock is LUO", ALL, _elsewhere(lambda it: it.user("memblock", address=it.truth.luo))),
        Damage("LUO at no address", ALL, _anywhere(lambda it: it.user("LUO", address=1 << 60))),
        Damage("LUO at 0", ALL, _anywhere(lambda it: it.user("LUO", address=0))),
    ]


def _absent() -> list[Damage]:
    def lacks(pages: Callable[[Victim], list[int]], touched: Callable[[Victim], Touched | None]) -> Change:
        """The image lacks pages. `touched` returns nothing where no file need be found."""

        def change(it: Victim) -> Touched:
            it.absent.update(pages(it))
            files = touched(it)
            it.everything = files is None
            return files or []

        return change

    def nothing(it: Victim) -> Touched:
        return []

    def the_file(it: Victim) -> Touched:
        return [it.file]

    def later_map_page(it: Victim) -> list[int]:
        return it.truth.map_chunks[-1:] or it.truth.map_pages[-1:]

    def content(it: Victim) -> list[int]:
        return [it.file.folios[1].address]

    return [
        Damage("absent: content", ALL, lacks(content, the_file), FREE),
        Damage("absent: record", ALL, lacks(lambda it: [it.file.record], the_file), ABSENT),
        Damage("absent: chunk", ALL, lacks(lambda it: it.file.chunks[:1], the_file), ABSENT),
        Damage("absent: folios", ALL, lacks(lambda it: it.file.record_pages[:1], the_file), ABSENT),
        Damage(
            "absent: files",
            ALL,
            lacks(lambda it: it.truth.sessions[2].blocks[:1], lambda it: it.truth.sessions[2].files),
            ABSENT,
        ),
        Damage("absent: sessions", ALL, lacks(lambda it: it.truth.session_blocks[:1], lambda it: None), ABSENT),
        Damage("absent: root of LUO", ALL, lacks(lambda it: [it.truth.luo], lambda it: None), ABSENT),
        Damage("absent: memblock", ALL, lacks(lambda it: [it.truth.memblock], nothing), ABSENT),
        Damage("absent: FLBs", FLBS, lacks(lambda it: [it.truth.flb_page], nothing), ABSENT),
        Damage("absent: kexec-metadata", RADIX, lacks(lambda it: [it.truth.metadata], nothing), ABSENT),
        Damage("absent: first page of the map", ALL, lacks(lambda it: [it.truth.map], nothing), ABSENT),
        Damage("absent: a later page of the map", ALL, lacks(later_map_page, nothing), ABSENT),
        Damage("absent: the whole map", ALL, lacks(lambda it: list(it.truth.map_pages), nothing), ABSENT),
        Damage("absent: device tree", ALL, lacks(lambda it: [it.truth.fdt], lambda it: None), ABSENT),
    ]


# --- the judge ---


class DamageJudge:
    """Judges what the program says of one damaged image."""

    def __init__(self, program: Program, damage: Damage, release: str, image: Path, seed: int) -> None:
        self.damage = damage
        self.it = victim(release, damage)
        self.touched = damage.change(self.it) or []
        write_elf(self.it.truth.memory, image, frozenset(self.it.absent))
        self.judge = Judge(program, self.it.truth, image)
        self.judge.case = f"{release}: {damage.name}"
        self.rng = random.Random(seed)

    def run(self) -> None:
        """All that is demanded."""
        with self.judge.reading():
            self._run()

    def _run(self) -> None:
        self.check()
        for command in ("scan", "tree"):
            self.judge.run(command)
        self._inspect()
        if not self.it.everything:
            self._untouched()
        for file in self.touched[:2]:
            self._lost(file)

    def check(self) -> None:
        """What the check must say."""
        answer = self.judge.run("fsck", "-n", "--json")
        document, demand = answer.json(), self.damage.demand
        if demand == TOLD:
            self.judge.same(answer, "clean", answer.status == 0 or bool(document.get("clean")), False)
        elif demand == NOTED:
            silent = answer.status == 0 and not document.get("findings")
            self.judge.same(answer, "nothing to note", silent, False)
        elif demand == UNCHECKED:
            silent = answer.status == 0 and not document.get("unchecked")
            self.judge.same(answer, "nothing that was not checked", silent, False)
        elif demand == RIGHT and answer.status == 0:
            answer = self.judge.run("inspect", "--json")
            orders = (answer.json().get("preserved") or {}).get("orders") or []
            want = Counter(order for _, order in self.it.truth.preserved)
            self.judge.same(answer, "orders", {entry["order"]: entry["count"] for entry in orders}, dict(want))
        elif demand == ABSENT:
            self.judge.same(answer, "status has the bit for what could not be checked", answer.status & 8, 8)

    def _inspect(self) -> None:
        answer = self.judge.run("inspect", "--json")
        if self.damage.demand == ABSENT and self.it.absent & set(self.it.truth.map_pages):
            preserved = answer.json().get("preserved") or {}
            told = answer.status != 0 or answer.errors or preserved.get("problems") or not preserved.get("intact")
            self.judge.same(answer, "a part of the map is not in the image, and it is told", bool(told), True)

    def _untouched(self) -> None:
        judge, touched = self.judge, set(self.touched)
        files = {
            file: f"/{session.name.decode()}/{file.token:#x}"
            for session in self.it.truth.sessions
            for file in session.files
            if file not in touched
        }
        if not files:
            return
        judge.shown = judge.typed = files
        answer = judge.run("stat", "--json", *files.values())
        found = answer.json().get("files") or []
        judge.same(answer, "number of files that are not damaged", len(found), len(files))
        for file, entry in zip(files, found):
            judge.stat_entry(answer, file, entry)
        for file in self.rng.sample(list(files), min(2, len(files))):
            judge.cat(file)

    def _lost(self, file: File) -> None:
        """What is shown of a damaged file: no zeros instead of its content, and no holes, which read as zeros."""
        session = next(session for session in self.it.truth.sessions if file in session.files)
        path = f"/{session.name.decode()}/{file.token:#x}"
        answer = self.judge.run("cat", path)
        if answer.status == 0:
            self.judge.same(answer, "pages of zeros instead of content", _zeroed(answer, file), [])
        if self.it.absent & set(file.extents().values()):
            told = answer.status != 0 and "not in the dump" in answer.errors
            self.judge.same(answer, "absence of content is told", told, True)
        answer = self.judge.run("map", "--json", path)
        document = answer.json()
        shown = pages_of_extents(document.get("extents"))
        self.judge.same(answer, "holes", document.get("holes") or [], [])
        if answer.status == 0 and document.get("size") and not document.get("lost"):
            pages = set(range(-(-document["size"] // PAGE)))
            self.judge.same(answer, "pages without an address that are not lost", pages - shown.keys(), set())


def _zeroed(answer: Answer, file: File) -> list[int]:
    pages = range(0, min(len(answer.output), len(file.content)), PAGE)
    return [at for at in pages if not any(answer.output[at : at + PAGE]) and any(file.content[at : at + PAGE])]
