"""Reads a hand-over from memory, knowing nothing of how it was made, and lists each fact that it breaks.

The facts are those of the kernels' sources: a hand-over for which the list is empty can have been written by a kernel.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

import fdt
from fdt import Broken, Properties
from memory import PAGE, Absent, Memory, pages_of

MEMORY_END = 1 << 52
MOST_BLOCKS = 10000
KNOWN_SEALS = 0x3F
FORMS = {"kho-v1": "chunks", "kho-v3": "radix", "kho-v4": "radix"}
HANDLERS = {"kho-v1": "memfd-v1", "kho-v3": "memfd-v2", "kho-v4": "memfd-v2"}


@dataclass
class DecodedFile:
    """What the lists say of a file. `extents` has the physical address of each of its pages."""

    token: int
    handler: bytes
    data: int
    size: int = 0
    position: int = 0
    seals: int = 0
    folios: int = 0
    extents: dict[int, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


@dataclass
class Decoded:
    """A hand-over as its links lead to it."""

    kho: str = ""
    preserved: set[tuple[int, int]] = field(default_factory=set)
    users: dict[str, tuple[int, int]] = field(default_factory=dict)
    reserve_mem: list[tuple[str, int, int]] = field(default_factory=list)
    sessions: list[tuple[bytes, list[DecodedFile]]] = field(default_factory=list)
    flbs: list[tuple[bytes, int, int]] = field(default_factory=list)
    live_update: int = 0
    kernel: tuple[bytes, int] = (b"", 0)
    faults: list[str] = field(default_factory=list)
    # Pages that belong to something, by their addresses.
    claimed: dict[int, str] = field(default_factory=dict)

    def all_faults(self) -> list[str]:
        """The faults of the whole and of all files."""
        return self.faults + [fault for _, files in self.sessions for file in files for fault in file.faults]

    def meaning(self) -> tuple:
        """All that a reader can see; two hand-overs with the same meaning differ in no fact."""
        sessions = [(name, [vars(file) for file in files]) for name, files in self.sessions]
        return (
            *(self.kho, self.preserved, self.users, self.reserve_mem, sessions),
            *(self.flbs, self.live_update, self.kernel, self.faults),
        )


def decode(memory: Memory, tree: int, bitmap: int, scratch: list[tuple[int, int]]) -> Decoded:
    """Reads the hand-over whose device tree is at `tree`. `bitmap` is the size of bitmaps of kho-v1."""
    return _Decoder(memory, bitmap, scratch).run(tree)


class _Decoder:
    def __init__(self, memory: Memory, bitmap: int, scratch: list[tuple[int, int]]) -> None:
        self.memory, self.bitmap, self.scratch = memory, bitmap, scratch
        self.out = Decoded()

    def run(self, tree: int) -> Decoded:
        try:
            nodes = fdt.parse(self.memory.read(tree, PAGE))
        except (Absent, Broken) as error:
            self.out.faults.append(f"device tree: {error}")
            return self.out
        root = nodes[0][1]
        self.out.kho = _string(root.get("compatible", b""))
        if self.out.kho not in FORMS:
            self.out.faults.append("another string of KHO")
            return self.out
        self._claim(tree, 1, "device tree")
        self._try("preserved map", lambda: self._map(_number(root, "preserved-memory-map")))
        for path, properties in nodes[1:]:
            if path.count("/") == 1:
                self._try(f"user {path}", lambda path=path, properties=properties: self._user(path[1:], properties))
        self._try("what is preserved", self._compare)
        return self.out

    def _try(self, what: str, step) -> None:
        try:
            step()
        except (Broken, Absent) as error:
            self.out.faults.append(f"{what}: {error}")

    def _fault(self, text: str) -> None:
        self.out.faults.append(text)

    def _page(self, address: int, what: str, size: int = PAGE) -> bytes:
        """Reads pages that a link leads to, and claims them."""
        if address == 0 or address % PAGE or address >= MEMORY_END:
            raise Broken(f"{what} at {address:#x}")
        data = self.memory.read(address, size)
        self._claim(address, pages_of(size), what)
        return data

    def _claim(self, address: int, pages: int, what: str) -> None:
        for page in range(address, address + pages * PAGE, PAGE):
            if page in self.out.claimed:
                raise Broken(f"{page:#x} is {what} and {self.out.claimed[page]}")
            self.out.claimed[page] = what

    # --- the preserved map ---

    def _map(self, address: int) -> None:
        seen: set[int] = set()
        keys = self._radix(address, 5, 0, seen) if FORMS[self.out.kho] == "radix" else self._chunks(address, seen)
        for piece in keys:
            if piece in self.out.preserved:
                raise Broken("a piece is preserved twice")
            self.out.preserved.add(piece)
        self.map_pages = seen
        end = 0
        for start, order in sorted(self.out.preserved):
            if start < end:
                raise Broken(f"pieces overlap at {start:#x}")
            end = start + (PAGE << order)
        if end > MEMORY_END:
            raise Broken("a piece is past all addresses")

    def _map_page(self, address: int, seen: set[int]) -> bytes:
        if address == 0 or address % PAGE or address in seen:
            raise Broken(f"page of the map at {address:#x}")
        seen.add(address)
        return self.memory.read(address, PAGE)

    def _radix(self, address: int, level: int, prefix: int, seen: set[int]) -> Iterator[tuple[int, int]]:
        data = self._map_page(address, seen)
        if level == 0:
            for bit in _bits(data):
                yield _piece(prefix << 15 | bit)
            return
        for index, table in enumerate(struct.unpack("<512Q", data)):
            if table:
                yield from self._radix(table, level - 1, prefix << 9 | index, seen)

    def _chunks(self, address: int, seen: set[int]) -> Iterator[tuple[int, int]]:
        bitmaps: set[int] = set()
        while address:
            data = self._map_page(address, seen)
            address, order, count = struct.unpack_from("<QII", data)
            if count > 255 or order > 51:
                raise Broken("a chunk has impossible numbers")
            for number in range(count):
                start, bitmap = struct.unpack_from("<QQ", data, 16 + 16 * number)
                if bitmap == 0 or bitmap % self.bitmap or bitmap in bitmaps or bitmap // PAGE * PAGE == address:
                    raise Broken(f"bitmap at {bitmap:#x}")
                if start % (self.bitmap * 8 << (order + 12)):
                    raise Broken(f"a bitmap starts at {start:#x}")
                bitmaps.add(bitmap)
                for bit in _bits(self.memory.read(bitmap, self.bitmap)):
                    yield start + (bit << (order + 12)), order
        if seen & {bitmap // PAGE * PAGE for bitmap in bitmaps}:
            raise Broken("a bitmap is a chunk")
        seen.update(bitmap // PAGE * PAGE for bitmap in bitmaps)

    # --- users ---

    def _user(self, name: str, properties: Properties) -> None:
        if name in self.out.users:
            raise Broken("two users have one name")
        if self.out.kho == "kho-v1":
            address, size = _number(properties, "fdt"), PAGE
            size = struct.unpack(">I", self.memory.read(address + 4, 4))[0]
        else:
            address, size = _number(properties, "preserved-data"), _number(properties, "blob-size")
        if size > 64 * PAGE:
            raise Broken(f"a blob of {size} bytes")
        self.out.users[name] = (address, size)
        data = self._page(address, f"data of {name}", size)
        if name == "memblock":
            self._memblock(data)
        elif name == "kexec-metadata":
            self._metadata(data)
        elif name == "LUO":
            self._luo(data)

    def _memblock(self, data: bytes) -> None:
        nodes = fdt.parse(data)
        if _string(nodes[0][1].get("compatible", b"")) != "memblock-v1":
            raise Broken("another string")
        for path, properties in nodes[1:]:
            if _string(properties.get("compatible", b"")) != "reserve-mem-v1":
                raise Broken("a region with another string")
            region = (path[1:], _number(properties, "start"), _number(properties, "size"))
            self.out.reserve_mem.append(region)
            self._claim(region[1] // PAGE * PAGE, min(pages_of(region[2]), 1 << 16), "reserve_mem")

    def _metadata(self, data: bytes) -> None:
        if len(data) != 73 or data[:4] != b"\1\0\0\0":
            raise Broken("another version or size")
        self.out.kernel = (data[4:69].split(b"\0")[0], struct.unpack_from("<I", data, 69)[0])

    def _luo(self, data: bytes) -> None:
        if self.out.kho == "kho-v4":
            self._luo_struct(data)
        else:
            self._luo_tree(fdt.parse(data))

    # --- LUO ---

    def _luo_struct(self, data: bytes) -> None:
        if len(data) != 32 or data[:8] != b"luo-v5\0\0":
            raise Broken("another string or size")
        self.out.live_update, sessions, flbs = struct.unpack_from("<QQQ", data, 8)
        self._try("FLBs", lambda: self._flbs(flbs))
        for entry in self._blocks(sessions, 80, "list of sessions"):
            self._session(entry)
        self._compare_sessions()

    def _luo_tree(self, nodes: list[tuple[str, Properties]]) -> None:
        by_path = dict(nodes)
        if _string(nodes[0][1].get("compatible", b"")) != "luo-v1":
            raise Broken("another string")
        self.out.live_update = _number(nodes[0][1], "liveupdate-number")
        sessions = by_path.get("/luo-session", {})
        if _string(sessions.get("compatible", b"")) != "luo-session-v2":
            raise Broken("no sessions")
        if "/luo-flb" in by_path:
            flbs = by_path["/luo-flb"]
            if _string(flbs.get("compatible", b"")) != "luo-flb-v1":
                raise Broken("FLBs with another string")
            self._try("FLBs", lambda: self._flbs(_number(flbs, "luo-flb-header")))
        elif self.out.kho == "kho-v3":
            self._fault("no FLBs")
        area = self._page(_number(sessions, "luo-session-header"), "list of sessions", 16 * PAGE)
        count = struct.unpack_from("<Q", area)[0]
        if count > 819:
            raise Broken(f"{count} sessions")
        for number in range(count):
            self._session(area[8 + 80 * number : 88 + 80 * number])
        self._compare_sessions()

    def _flbs(self, address: int) -> None:
        data = self._page(address, "FLBs")
        pages, count = struct.unpack_from("<QQ", data)
        if pages != 1 or count > 63:
            raise Broken("impossible numbers")
        for number in range(count):
            name, value, files = struct.unpack_from("<48sQQ", data, 16 + 64 * number)
            self.out.flbs.append((name.split(b"\0")[0], value, files))
        names = [name for name, _, _ in self.out.flbs]
        if len(set(names)) < len(names):
            raise Broken("a name twice")

    def _blocks(self, address: int, size: int, what: str) -> list[bytes]:
        entries: list[bytes] = []
        room = (PAGE - 16) // size
        blocks = 0
        while address:
            data = self._page(address, what)
            address, count = struct.unpack_from("<QQ", data)
            blocks += 1
            if not 0 < count <= room or (address and count < room) or blocks > MOST_BLOCKS:
                raise Broken(f"a block with {count} entries")
            entries += [data[16 + size * number : 16 + size * (number + 1)] for number in range(count)]
        return entries

    def _session(self, entry: bytes) -> None:
        name, address, count = struct.unpack("<64sQQ", entry)
        files: list[DecodedFile] = []
        self.out.sessions.append((name.split(b"\0")[0], files))
        if b"\0" not in name:
            self._fault("a session name has no end")
        self._try(f"files of {name[:16]!r}", lambda: self._files(address, count, files))

    def _files(self, address: int, count: int, files: list[DecodedFile]) -> None:
        if (address == 0) != (count == 0):
            raise Broken("a list without files, or files without a list")
        if self.out.kho == "kho-v4":
            entries = self._blocks(address, 64, "list of files")
            if len(entries) != count:
                raise Broken(f"{len(entries)} files instead of {count}")
        elif count:
            if count > 128:
                raise Broken(f"{count} files")
            data = self._page(address, "list of files", 2 * PAGE)
            entries = [data[64 * number : 64 * (number + 1)] for number in range(count)]
        else:
            entries = []
        for entry in entries:
            files.append(self._file(entry))
        tokens = [file.token for file in files]
        if len(set(tokens)) < len(tokens):
            raise Broken("a token twice")

    def _file(self, entry: bytes) -> DecodedFile:
        handler, data, token = struct.unpack("<48sQQ", entry)
        file = DecodedFile(token, handler.split(b"\0")[0], data)
        if b"\0" not in handler:
            file.faults.append("a handler has no end")
        elif file.handler == HANDLERS[self.out.kho].encode():
            try:
                self._record(file)
            except (Broken, Absent) as error:
                file.faults.append(f"{token:#x}: {error}")
        return file

    def _compare_sessions(self) -> None:
        names = [name for name, _ in self.out.sessions]
        if len(set(names)) < len(names):
            raise Broken("a session name twice")

    # --- records ---

    def _record(self, file: DecodedFile) -> None:
        data = self._page(file.data, "record")
        file.position, file.size = struct.unpack_from("<QQ", data)
        count_at = 16
        if self.out.kho != "kho-v1":
            file.seals, flags = struct.unpack_from("<II", data, 16)
            count_at = 24
            if file.seals & ~KNOWN_SEALS or flags:
                raise Broken("seals or flags that do not exist")
        file.folios, first, pages, flags, order = struct.unpack_from("<QQIHH", data, count_at)
        if file.size >= 2**63 or file.folios > pages_of(file.size):
            raise Broken("an impossible size or number of folios")
        if not file.size or not file.folios:
            if file.size or file.folios or first or pages or flags or order:
                raise Broken("an empty file with folios, or the reverse")
            return
        unit = PAGE << min(order, 20)
        if flags not in (1, 3) or order > 10 or pages != -(-file.folios * 16 // unit) << order:
            raise Broken("a list of folios with impossible numbers")
        records = b"".join(self._folio_pages(first, pages >> order, unit))
        self._folios(file, records)

    def _folio_pages(self, chunk: int, count: int, unit: int) -> Iterator[bytes]:
        entries: list[int] = []
        while chunk:
            data = struct.unpack("<512Q", self._page(chunk, "list of pages with folios"))
            chunk = data[0]
            part = list(data[1:])
            used = part.index(0) if 0 in part else len(part)
            if any(part[used:]) or (chunk and used < len(part)):
                raise Broken("a list of pages with folios has entries after its end")
            entries += part[:used]
            if len(entries) > count:
                break
        if len(entries) != count:
            raise Broken("a list of pages with folios of another length")
        for entry in entries:
            yield self._page(entry, "page with folios", unit)

    def _folios(self, file: DecodedFile, records: bytes) -> None:
        orders = dict(self.out.preserved)
        following = 0
        for number in range(file.folios):
            word, index = struct.unpack_from("<QQ", records, 16 * number)
            address = (word & (2**52 - 1)) * PAGE
            if word >> 52 != 3 or address == 0 or index != following or index >= pages_of(file.size):
                raise Broken(f"folio {number}")
            if address not in orders:
                raise Broken(f"folio {number} is not preserved")
            pages = 1 << orders[address]
            self._claim(address, pages, "folio")
            for page in range(pages):
                if index + page < pages_of(file.size):
                    file.extents[index + page] = address + page * PAGE
            following += pages
        if following < pages_of(file.size):
            raise Broken("the end of the file is in no folio")

    # --- at the end ---

    def _compare(self) -> None:
        """All that belongs to something is preserved, and nothing that is preserved is in a scratch area."""
        covered: set[int] = set()
        for start, order in self.out.preserved:
            if order < 20:
                covered.update(range(start, start + (PAGE << order), PAGE))
        missing = self.out.claimed.keys() - covered
        if missing:
            raise Broken(f"{min(missing):#x} is not preserved")
        for start, length in self.scratch:
            if any(start <= page < start + length for page in covered):
                raise Broken("preserved memory is in a scratch area")


def _bits(data: bytes) -> Iterator[int]:
    number = int.from_bytes(data, "little")
    while number:
        lowest = number & -number
        yield lowest.bit_length() - 1
        number ^= lowest


def _piece(key: int) -> tuple[int, int]:
    order = 52 - (key.bit_length() - 1) if key else -1
    if not 0 <= order <= 51:
        raise Broken(f"key {key:#x}")
    return key << (12 + order) & (2**64 - 1), order


def _string(value: bytes) -> str:
    return value[:-1].decode("latin-1") if value.endswith(b"\0") else ""


def _number(properties: Properties, name: str) -> int:
    value = properties.get(name, b"")
    if len(value) != 8:
        raise Broken(f"no {name}")
    return struct.unpack("<Q", value)[0]
