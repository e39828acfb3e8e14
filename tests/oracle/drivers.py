"""Stores of the drivers pkernfs and guestmemfs v1: made as the drivers make them, damaged, and judged.

The two drivers share inodes, directories and the bitmap. They differ in where these are, and in where a file's list of
blocks is: pkernfs has all of it in the region, guestmemfs in the kernel's memory, which a device tree leads to.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import fdt
from damages import TOLD
from judge import Judge
from memory import PAGE, Memory, u32, u64, write_elf, write_raw
from program import Answer, Json, Program

BLOCK = 1 << 21
FILE, DIRECTORY = 1, 2
MAGIC = 0x00706B65726E6673


@dataclass(eq=False)
class StoredFile:
    """A file, the number of its inode and its blocks by their numbers."""

    name: bytes
    ino: int
    blocks: list[int]


class Store:
    """What the two drivers have in common."""

    layout = ""
    inode_size = 0
    inodes = 0

    def __init__(self, blocks: int, base: int) -> None:
        self.memory = Memory([], random.Random(0))
        self.blocks, self.base = blocks, base
        self.files: list[StoredFile] = []
        self.inode_array = self.bitmap = self.head = 0

    def format(self) -> None:
        """The root, the list of free inodes and an empty bitmap."""
        for ino in range(1, self.inodes):
            self.memory.set_number(self.inode(ino) + 8, ino + 1)
        self.memory.write(self.inode(1), u32(DIRECTORY))
        self.memory.write(self.inode(1) + 24, b".")
        self.memory.set_number(self.head, 2)

    def inode(self, ino: int) -> int:
        """The address of an inode."""
        return self.inode_array + (ino - 1) * self.inode_size

    def number(self, address: int) -> int:
        """A number of 32 bits."""
        return struct.unpack("<I", self.memory.read(address, 4))[0]

    def take_bit(self) -> int:
        """The lowest block that is not marked; it is marked."""
        block = 0
        while self.memory.read(self.bitmap + block // 8, 1)[0] >> block % 8 & 1:
            block += 1
        marks = self.memory.read(self.bitmap + block // 8, 1)[0] | 1 << block % 8
        self.memory.write(self.bitmap + block // 8, bytes([marks]))
        return block

    def create(self, name: bytes, folder: int = 1, flags: int = FILE) -> StoredFile:
        """Makes an entry: the inode that was freed last, at the head of its directory."""
        ino = self.memory.number(self.head)
        at = self.inode(ino)
        self.memory.set_number(self.head, self.memory.number(at + 8))
        self.memory.write(at, bytes(self.inode_size))
        self.memory.set_number(at + 8, self.memory.number(self.inode(folder) + 16))
        self.memory.set_number(self.inode(folder) + 16, ino)
        self.memory.write(at + 24, name[:254] + b"\0")
        self.memory.write(at, u32(flags))
        self.add_table(at, flags)
        file = StoredFile(name[:254], ino, [])
        if flags == FILE:
            self.files.append(file)
        return file

    def truncate(self, file: StoredFile, blocks: int) -> None:
        """Sets a size: each of its blocks is a new one, and blocks past it stay."""
        at = self.inode(file.ino)
        for index in range(blocks):
            block = self.take_bit()
            self.memory.set_number(self.table(at) + 8 * index, block)
            file.blocks[index : index + 1] = [block]
        self.memory.write(self.count_at(at), u32(self.number(self.count_at(at)) + blocks))

    def unlink(self, file: StoredFile) -> None:
        """Removes a file; its blocks stay marked."""
        link = self.inode(1) + 16
        while self.memory.number(link) != file.ino:
            link = self.inode(self.memory.number(link)) + 8
        at = self.inode(file.ino)
        self.memory.set_number(link, self.memory.number(at + 8))
        self.memory.write(at, bytes(self.inode_size))
        self.memory.set_number(at + 8, self.memory.number(self.head))
        self.memory.set_number(self.head, file.ino)
        self.files.remove(file)

    def fill(self) -> None:
        """Writes the first and the last page of each block of a file; the rest reads as zeros."""
        for file in self.files:
            for block in file.blocks:
                if block < self.blocks:
                    for page in (0, BLOCK - PAGE):
                        text = f"BLOCK {block} page {page} ".encode()
                        self.memory.page(self.base + block * BLOCK + page)[:] = text.ljust(64, b"=") * (PAGE // 64)

    def block_content(self, block: int) -> bytes:
        """The bytes of a block."""
        start = self.base + block * BLOCK
        first, last = self.memory.read(start, PAGE), self.memory.read(start + BLOCK - PAGE, PAGE)
        return first + bytes(BLOCK - 2 * PAGE) + last

    # What differs.

    def add_table(self, inode: int, flags: int) -> None:
        """Makes the list of blocks of a new file."""
        raise NotImplementedError

    def table(self, inode: int) -> int:
        """The address of a file's list of blocks."""
        raise NotImplementedError

    def count_at(self, inode: int) -> int:
        """Where an inode counts its blocks."""
        raise NotImplementedError

    def finish(self) -> None:
        """Writes what is written last."""
        self.fill()

    def write(self, path: Path) -> tuple[str, ...]:
        """Writes the image; returns the options that commands need."""
        raise NotImplementedError


class Pkernfs(Store):
    """A region of pkernfs, from its first byte on."""

    layout, inode_size, inodes = "pkernfs", 288, 7281

    def __init__(self, blocks: int = 16) -> None:
        super().__init__(blocks, 0)
        self.head, self.bitmap, self.inode_array = 8, 0x100000, 0x200000
        self.format()
        self.memory.set_number(0, MAGIC)
        self.memory.write(self.bitmap, b"\3")

    def add_table(self, inode: int, flags: int) -> None:
        if flags not in (DIRECTORY, 4):
            block = self.take_bit()
            self.memory.write(inode + 280, u32(block))
            self.memory.page(block * BLOCK)

    def table(self, inode: int) -> int:
        return self.number(inode + 280) * BLOCK

    def count_at(self, inode: int) -> int:
        return inode + 284

    def write(self, path: Path) -> tuple[str, ...]:
        end = self.blocks * BLOCK
        past = [address for address in self.memory.pages if address >= end]
        for address in past:
            del self.memory.pages[address]
        write_raw(self.memory, path, 0)
        with path.open("r+b") as file:
            file.truncate(end)
        return ()


class Guestmemfs(Store):
    """A file system of guestmemfs, with the device tree that hands it over."""

    layout, inode_size, inodes = "guestmemfs-v1", 296, 7084

    def __init__(self, blocks: int = 12, direct_map: int = 0xFFFF888000000000, lock: int = 4) -> None:
        super().__init__(blocks, 0x4001000)
        self.direct_map, self.lock = direct_map, lock
        self.superblock, self.tree, self.names, self.mappings = 0x1234C40, 0x1500000, 0x1510000, 0x1520000
        self.head, self.inode_array, self.bitmap = self.superblock, 0x1600000, 0x1900000
        for address in range(self.inode_array, self.inode_array + BLOCK, PAGE):
            self.memory.page(address)
        for address in range(self.bitmap, self.bitmap + (1 << 20), PAGE):
            self.memory.page(address)
        self.format()
        self.memory.set_number(self.superblock + 16, self.inode_array + direct_map)
        self.memory.set_number(self.superblock + 24, self.bitmap + direct_map)
        self.allocated = 0
        self.tree_size = 0

    @property
    def superblock_size(self) -> int:
        """40 bytes; a lock that can be debugged is larger."""
        return 40 if self.lock == 4 else 64

    def add_table(self, inode: int, flags: int) -> None:
        self.allocated += 1
        if flags == FILE:
            page = self.mappings + self.allocated * PAGE
            self.memory.page(page)
            self.memory.set_number(inode + 280, page + self.direct_map)

    def table(self, inode: int) -> int:
        return self.memory.number(inode + 280) - self.direct_map

    def count_at(self, inode: int) -> int:
        return inode + 288

    def in_use(self) -> int:
        """How many inodes are linked, without the root."""
        return len(self.files)

    def finish(self) -> None:
        self.fill()
        # Pages of the region that were never touched are in the dump, because they are memory.
        for file in self.files:
            for block in file.blocks[: self.blocks]:
                for page in range(self.base + block * BLOCK, self.base + (block + 1) * BLOCK, PAGE):
                    self.memory.page(page)
        self.memory.set_number(self.superblock + 8, self.in_use())
        self.memory.write(self.superblock + 32 + self.lock, b"\1")
        files = sorted(self.files, key=lambda file: file.ino)
        self.memory.write(self.names, b"".join(u32(file.ino) for file in files).ljust(PAGE, b"\0"))
        pages = b"".join(u64(self.table(self.inode(file.ino))) + u64(PAGE) for file in files)
        self.write_tree(pages, self.in_use())

    def write_tree(self, pages: bytes, count: int, flag: int = 1, version: str = "guestmemfs-v1") -> None:
        """Writes the device tree."""
        parts = [(self.superblock, self.superblock_size), (self.inode_array, BLOCK), (self.bitmap, 1 << 20)]
        tree = fdt.Builder().begin("").text("compatible", "kho-v1")
        tree.begin("guestmemfs").text("compatible", version)
        tree.begin("fs_mem").add("mem", u64(self.base | flag) + u64(self.blocks * BLOCK)).end()
        tree.begin("superblock").add("mem", b"".join(u64(start) + u64(size) for start, size in parts)).end()
        tree.begin("mappings_blocks").add("mem", pages).end()
        tree.begin("mappings_to_inode").add("mem", u64(self.names) + u64(PAGE)).add("num_inodes", u64(count)).end()
        data = tree.end().end().finish(48)
        self.memory.write(self.tree, data)
        self.tree_size = len(data)

    def write(self, path: Path) -> tuple[str, ...]:
        write_elf(self.memory, path)
        return ()


# --- healthy ones ---

MAKERS: dict[str, Callable[[random.Random], Store]] = {
    "pkernfs": lambda rng: Pkernfs(rng.choice((40, 64))),
    "guestmemfs": lambda rng: Guestmemfs(
        rng.choice((40, 64)),
        rng.choice((0xFFFF888000000000, 0xFF11000000000000, 0xFFFF9A4FC0000000)),
        rng.choice((4, 24)),
    ),
}


def random_store(layout: str, seed: int) -> tuple[Store, set[str]]:
    """A store after random changes by its driver, and the codes of the notes that a check makes of it."""
    rng = random.Random(seed)
    store = MAKERS[layout](rng)
    notes: set[str] = set()
    for number in range(rng.choice((0, 1, 3, 8))):
        name = rng.choice((f"vm {number}", f"é{number}", f"{number}".ljust(254, "x"), f'"{number}*'))
        file = store.create(name.encode())
        store.truncate(file, rng.choice((0, 1, 2, 3)))
        if rng.random() < 0.2 and file.blocks:
            store.truncate(file, rng.choice((1, 2)))
            notes |= {"GM1123"} | ({"GM0916"} if layout == "guestmemfs" else set())
        if rng.random() < 0.15:
            leaks = bool(file.blocks) or layout == "pkernfs"
            store.unlink(file)
            notes |= {"GM1123"} if leaks else set()
    if layout == "guestmemfs" and not any(_counts_too_many(store, file) for file in store.files):
        notes.discard("GM0916")
    store.finish()
    return store, notes


def _counts_too_many(store: Store, file: StoredFile) -> bool:
    return store.number(store.count_at(store.inode(file.ino))) > len(file.blocks)


class StoreJudge(Judge):
    """The truth of a store of a driver against the program."""

    def __init__(self, program: Program, store: Store, image: Path, case: str = "") -> None:
        self.program, self.store, self.image = program, store, image
        self.options = store.write(image)
        self.case = case
        self.last = Answer("", 0, b"", "")
        self.rng = random.Random(store.blocks)

    def _healthy(self, notes: set[str]) -> None:
        answer = self.run("scan", "--json")
        found = [region.get("layout") for region in answer.json().get("regions", [])]
        self.same(answer, "layouts", found, [self.store.layout])
        answer = self.run("fsck", "-n", "--json")
        self.same(answer, "status", answer.status, 0)
        codes = {finding["code"] for finding in answer.json().get("findings") or []}
        self.same(answer, "codes", codes, notes)
        self._listing()
        for file in self.store.files[:4]:
            self.file(file)

    def _listing(self) -> None:
        answer = self.run("ls", "-R", "--json")
        entries = answer.json().get("entries") or []
        found = sorted((entry["path"], entry["size"]) for entry in entries if entry["kind"] == "file")
        want = sorted(("/" + file.name.decode(), len(file.blocks) * BLOCK) for file in self.store.files)
        self.same(answer, "files", found, want)

    def file(self, file: StoredFile) -> None:
        """`map`, `who` and `cat` of one file."""
        path = "/" + file.name.decode()
        answer = self.run("map", "--json", path)
        want = {index: self.store.base + block * BLOCK for index, block in enumerate(file.blocks)}
        self.same(answer, f"map of {path}", _addresses(answer.json()), want)
        answer = self.run("cat", path)
        content = b"".join(map(self.store.block_content, file.blocks))
        self.same(answer, f"content of {path}", answer.output == content, True)
        for index, block in enumerate(file.blocks[:2]):
            answer = self.run("who", "--json", hex(self.store.base + block * BLOCK + 0x12345))
            found = (answer.json().get("addresses") or [{}])[0]
            got = (found.get("what"), found.get("path"), found.get("offset"))
            self.same(answer, f"owner of block {block}", got, ("file", path, index * BLOCK + 0x12345))

    def damaged(self, damage: StoreDamage, untouched: list[StoredFile]) -> None:
        """What must be true of a damaged store."""
        with self.reading():
            answer = self.run("fsck", "-n", "--json")
            if damage.demand == TOLD:
                clean = answer.status == 0 or bool(answer.json().get("clean"))
                self.same(answer, "clean", clean, False)
            for command in (("scan",), ("inspect", "--json"), ("tree",), ("ls", "-lR"), ("who", hex(self.store.base))):
                self.run(*command)
            for file in untouched:
                self.file(file)


def _addresses(document: Json) -> dict[int, int]:
    """The address of each block of a file: a physical one, or the offset in a region whose base nothing records."""
    result = {}
    for extent in document.get("extents") or []:
        start = extent["physical"] if extent.get("physical") is not None else extent["address"]
        for number in range(extent["count"]):
            result[extent["index"] + number] = start + number * BLOCK
    return result


# --- damages ---


@dataclass
class Stored:
    """A store to damage, with four files in it."""

    store: Store
    a: StoredFile
    b: StoredFile
    c: StoredFile
    d: StoredFile

    def inode(self, file: StoredFile | int) -> int:
        """The address of an inode."""
        return self.store.inode(file if isinstance(file, int) else file.ino)

    def set(self, address: int, value: int) -> None:
        """Writes a 64-bit number."""
        self.store.memory.set_number(address, value)

    def write(self, address: int, data: bytes) -> None:
        """Writes bytes."""
        self.store.memory.write(address, data)

    def entry(self, file: StoredFile, index: int = 0) -> int:
        """The address of an entry of a file's list of blocks."""
        return self.store.table(self.inode(file)) + 8 * index

    def replace(self, old: bytes, new: bytes) -> None:
        """Replaces bytes of the device tree by as many others."""
        store = self.store
        assert isinstance(store, Guestmemfs)
        data = store.memory.read(store.tree, store.tree_size)
        assert old in data and len(old) == len(new)
        store.memory.write(store.tree, data.replace(old, new, 1))


@dataclass
class StoreDamage:
    """A row of the table. `before` runs before the device tree is written, `change` after it."""

    name: str
    change: Callable[[Stored], object]
    demand: str = TOLD
    layouts: tuple[str, ...] = ("pkernfs", "guestmemfs")
    before: bool = False
    # Files besides those that the damage may touch: nothing is demanded of the others.
    untouched: str = ""


def store_damages() -> list[StoreDamage]:
    """All damages of stores of drivers."""
    return [*_chains(), *_names_and_flags(), *_blocks(), *_of_pkernfs(), *_of_guestmemfs()]


def _chains() -> list[StoreDamage]:
    def orphan(it: Stored) -> None:
        file = it.store.create(b"orphan")
        it.set(it.inode(1) + 16, it.store.memory.number(it.inode(file) + 8))

    def popped(it: Stored) -> None:
        free = it.store.memory.number(it.store.head)
        it.set(it.store.head, it.store.memory.number(it.inode(free) + 8))

    return [
        StoreDamage("inode in no directory", orphan, untouched="abcd"),
        StoreDamage("inode in no chain", popped, untouched="abcd"),
        StoreDamage("link past 2^32", lambda it: it.set(it.inode(it.b) + 8, 1 << 32 | it.a.ino)),
        StoreDamage("directory in a circle", lambda it: it.set(it.inode(it.a) + 8, it.d.ino)),
        StoreDamage("entry leads to itself", lambda it: it.set(it.inode(it.d) + 8, it.d.ino)),
        StoreDamage("free inodes in a circle", lambda it: it.set(it.inode(100) + 8, 50), untouched="abcd"),
        StoreDamage("used inode among the free", lambda it: it.set(it.inode(100) + 8, it.a.ino), untouched="bcd"),
        StoreDamage("free inode in a directory", lambda it: it.set(it.inode(it.a) + 8, 500), untouched="d"),
        StoreDamage("no such free inode", lambda it: it.set(it.store.head, 9000), untouched="abcd"),
        StoreDamage("root among the free", lambda it: it.set(it.store.head, 1)),
        StoreDamage("root is a file", lambda it: it.write(it.inode(1), b"\1")),
        StoreDamage("root with another sibling", lambda it: it.set(it.inode(1) + 8, 9), untouched="abcd"),
    ]


def _names_and_flags() -> list[StoreDamage]:
    def name(text: bytes) -> Callable[[Stored], object]:
        return lambda it: it.write(it.inode(it.b) + 24, text)

    def flags(value: int) -> Callable[[Stored], object]:
        return lambda it: it.write(it.inode(it.b), u32(value))

    def two_long_names(it: Stored) -> None:
        it.store.create(b"y" * 255)
        it.store.create(b"y" * 255)

    return [
        StoreDamage("two names of 255 bytes", two_long_names, before=True, untouched="abcd"),
        StoreDamage("empty name", name(bytes(20)), untouched="acd"),
        StoreDamage("name with a slash", name(b"a/b\0"), untouched="acd"),
        StoreDamage("name without an end", name(b"z" * 255), untouched="acd"),
        StoreDamage("name twice", name(b"vm a\0\0\0"), untouched="cd"),
        StoreDamage("flags 3", flags(3), untouched="acd"),
        StoreDamage("flags 32", flags(32), untouched="acd"),
        StoreDamage("file with a child", lambda it: it.set(it.inode(it.b) + 16, it.a.ino), untouched="cd"),
        StoreDamage("free inode with bytes", lambda it: it.write(it.inode(700) + 30, b"x"), untouched="abcd"),
    ]


def _blocks() -> list[StoreDamage]:
    def unmark(it: Stored) -> None:
        block = it.d.blocks[-1]
        at = it.store.bitmap + block // 8
        it.write(at, bytes([it.store.memory.read(at, 1)[0] & ~(1 << block % 8)]))

    return [
        StoreDamage("block of two files", lambda it: it.set(it.entry(it.b), it.a.blocks[1]), untouched="cd"),
        StoreDamage("block past the end", lambda it: it.set(it.entry(it.b), 777), untouched="acd"),
        StoreDamage("block that is not marked", unmark, untouched="abcd"),
        StoreDamage("mark past the end", lambda it: it.write(it.store.bitmap + 200, b"\1"), untouched="abcd"),
        StoreDamage("rest of the bitmap", lambda it: it.write(it.store.bitmap + 0x20000, b"\1"), untouched="abcd"),
        StoreDamage("more blocks than there are", lambda it: it.store.truncate(it.c, 40), before=True, untouched="abd"),
    ]


def _of_pkernfs() -> list[StoreDamage]:
    only = ("pkernfs",)

    def ghost(it: Stored) -> None:
        """Inode -12, which the driver uses where no inode is free."""
        at = it.inode(-12)
        it.write(at, u32(FILE))
        it.set(at + 8, it.store.memory.number(it.inode(1) + 16))
        it.write(at + 24, b"ghost")
        it.write(at + 280, u32(it.store.take_bit()))
        it.set(it.inode(1) + 16, 2**64 - 12)

    def table(value: int) -> Callable[[Stored], object]:
        return lambda it: it.write(it.inode(it.b) + 280, u32(value))

    return [
        StoreDamage("another magic", lambda it: it.set(0, MAGIC + 1), layouts=only),
        StoreDamage("guest memory over the superblock", lambda it: it.write(0, b"GUEST" * 800), layouts=only),
        StoreDamage("inode -12", ghost, layouts=only),
        StoreDamage("count of blocks too small", lambda it: it.write(it.inode(it.a) + 284, u32(2)), layouts=only),
        StoreDamage("entry without a block", lambda it: it.set(it.entry(it.a, 1), 0), layouts=only, untouched="bcd"),
        StoreDamage("entry is a metadata block", lambda it: it.set(it.entry(it.a), 1), layouts=only, untouched="bcd"),
        StoreDamage("entry past 2^32", lambda it: it.set(it.entry(it.a), 3 | 1 << 32), layouts=only, untouched="bcd"),
        StoreDamage("table in block 0", table(0), layouts=only, untouched="acd"),
        StoreDamage("table in block 1", table(1), layouts=only, untouched="acd"),
        StoreDamage("table in block -1", table(2**32 - 1), layouts=only, untouched="acd"),
        StoreDamage("table of another file", lambda it: table(it.store.number(it.inode(it.a) + 280))(it), layouts=only),
        StoreDamage("superblock not marked", lambda it: it.write(it.store.bitmap, b"\xfe"), layouts=only),
        StoreDamage("bytes past the last inode", lambda it: it.write(0x3FFF30, b"\1"), layouts=only, untouched="abcd"),
        StoreDamage(
            "bytes after a name", lambda it: it.write(it.inode(it.b) + 80, b"\1"), layouts=only, untouched="acd"
        ),
    ]


def _of_guestmemfs() -> list[StoreDamage]:
    only = ("guestmemfs",)

    def rows(*pairs: tuple[str, Callable[[Stored], object], str]) -> list[StoreDamage]:
        return [StoreDamage(name, change, layouts=only, untouched=files) for name, change, files in pairs]

    def pair(start: int, length: int) -> bytes:
        return u64(start) + u64(length)

    def shifted(it: Stored) -> None:
        """A restore stores the pages one inode too far."""
        pages = [(file.ino, it.store.memory.number(it.inode(file) + 280)) for file in it.store.files]
        for ino, page in pages:
            it.set(it.inode(ino + 1) + 280, page)
        it.write(it.store.superblock + 36, b"\0")

    def page(it: Stored, file: StoredFile) -> int:
        return it.store.memory.number(it.inode(file) + 280)

    def other_map(it: Stored) -> None:
        it.set(gm(it).superblock + 24, gm(it).bitmap + gm(it).direct_map + 2**30)

    def gm(it: Stored) -> Guestmemfs:
        assert isinstance(it.store, Guestmemfs)
        return it.store

    return rows(
        ("restored by the driver", shifted, ""),
        ("superblock is locked", lambda it: it.write(gm(it).superblock + 32, b"\1"), "abcd"),
        ("another direct map", other_map, ""),
        ("page of two files", lambda it: it.set(it.inode(it.b) + 280, page(it, it.a)), ""),
        ("no page", lambda it: it.set(it.inode(it.b) + 280, 0), "acd"),
        ("odd page", lambda it: it.set(it.inode(it.b) + 280, page(it, it.b) + 8), "acd"),
        ("513 blocks", lambda it: it.write(it.inode(it.b) + 288, u32(513)), "acd"),
        ("-1 blocks", lambda it: it.write(it.inode(it.b) + 288, u32(2**32 - 1)), "acd"),
        ("entry past the count", lambda it: it.set(it.entry(it.b, 1), 9), "acd"),
        ("root with a page", lambda it: it.set(it.inode(1) + 280, page(it, it.a)), ""),
        ("allocated inodes", lambda it: it.set(gm(it).superblock + 8, 50), "abcd"),
        ("table out of order", lambda it: it.write(gm(it).names, u32(it.b.ino) + u32(it.a.ino)), "cd"),
        ("table with more", lambda it: it.write(gm(it).names + 16, u32(9)), "abcd"),
        ("table names another inode", lambda it: it.write(gm(it).names + 12, u32(77)), "abc"),
        ("region without its flag", lambda it: it.replace(u64(gm(it).base | 1), u64(gm(it).base)), "abcd"),
        ("region with another flag", lambda it: it.replace(u64(gm(it).base | 1), u64(gm(it).base | 2)), ""),
        ("region of 0 bytes", lambda it: it.replace(u64(gm(it).blocks * BLOCK), u64(0)), ""),
        ("region of 2^60 bytes", lambda it: it.replace(u64(gm(it).blocks * BLOCK), u64(2**60)), ""),
        ("region up to 2^64", lambda it: it.replace(u64(gm(it).blocks * BLOCK), u64(2**64 - PAGE)), ""),
        (
            "superblock of 24 bytes",
            lambda it: it.replace(pair(gm(it).superblock, 40), pair(gm(it).superblock, 24)),
            "abcd",
        ),
        (
            "superblock nowhere",
            lambda it: it.replace(pair(gm(it).superblock, 40), pair(1 << 60, 40)),
            "",
        ),
        (
            "inodes of another length",
            lambda it: it.replace(pair(gm(it).inode_array, BLOCK), pair(gm(it).inode_array, BLOCK - PAGE)),
            "",
        ),
        ("inodes nowhere", lambda it: it.replace(pair(gm(it).inode_array, BLOCK), pair(1 << 60, BLOCK)), ""),
        (
            "bitmap of another length",
            lambda it: it.replace(pair(gm(it).bitmap, 1 << 20), pair(gm(it).bitmap, 1 << 19)),
            "abcd",
        ),
        ("table of another length", lambda it: it.replace(pair(gm(it).names, PAGE), pair(gm(it).names, 2 * PAGE)), ""),
        ("no table", lambda it: it.replace(b"mappings_to_inode", b"mappings_to_inodx"), ""),
        ("guestmemfs-v2", lambda it: it.replace(b"guestmemfs-v1", b"guestmemfs-v2"), ""),
        ("no version", lambda it: it.replace(b"guestmemfs-v1", bytes(13)), ""),
        (
            "page nowhere",
            lambda it: it.replace(pair(it.store.table(it.inode(it.b)), PAGE), pair(1 << 59, PAGE)),
            "acd",
        ),
    )


def judge_healthy(program: Program, layout: str, seed: int, folder: Path) -> None:
    """Makes a healthy store, has it judged and removes it."""
    store, notes = random_store(layout, seed)
    image = folder / f"{layout}-{seed}.img"
    StoreJudge(program, store, image).healthy(notes)
    image.unlink()


def judge_damage(program: Program, damage: StoreDamage, layout: str, folder: Path) -> None:
    """Makes a damaged store, has it judged and removes it."""
    store = Pkernfs(16) if layout == "pkernfs" else Guestmemfs(12)
    a = store.create(b"vm a")
    store.truncate(a, 3)
    b = store.create('b é"'.encode())
    store.truncate(b, 1)
    c = store.create(b"empty")
    d = store.create(b"x" * 254)
    store.truncate(d, 2)
    it = Stored(store, a, b, c, d)
    if damage.before:
        damage.change(it)
    store.finish()
    untouched = [getattr(it, name) for name in damage.untouched]
    if not damage.before:
        damage.change(it)
    image = folder / f"{layout}-damage-{damage.name.replace(' ', '-').replace('^', '-')}.img"
    StoreJudge(program, store, image, f"{layout}: {damage.name}").damaged(damage, untouched)
    image.unlink()
