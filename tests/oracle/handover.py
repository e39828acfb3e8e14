"""Healthy hand-overs of KHO and LUO, in the form of each release from 6.16 on, and what is true of them.

A `Handover` is filled with memory of `reserve_mem=`, sessions and files. `serialise` then writes all that a kernel
writes, for one of three moments. What was put in is the truth that the judge compares with.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import fdt
from memory import PAGE, Memory, pages_of, u16, u32, u64

RUNNING, FROZEN, LATER = "running", "frozen", "later"
RECORDS_PER_PAGE = 256
ENTRIES_PER_CHUNK = 511
DIRTY_AND_UPTODATE = 3 << 52


@dataclass(frozen=True)
class Release:
    """What a kernel writes. `luo` is "" without LUO, "tree", "tree+flb" (with a node for FLBs) or "struct"."""

    name: str
    kho: str
    bitmap: int
    luo: str
    memfd: int

    @property
    def radix(self) -> bool:
        """The preserved map is a radix tree, otherwise a list of chunks."""
        return self.bitmap == 0

    @property
    def has_flbs(self) -> bool:
        """There is a page of objects that live as long as the files that depend on them."""
        return self.luo in ("tree+flb", "struct")


RELEASES = (
    Release("6.16", "kho-v1", 512, "", 0),
    Release("6.18", "kho-v1", 4096, "", 0),
    Release("6.19", "kho-v1", 4096, "tree", 1),
    Release("7.0", "kho-v1", 4096, "tree+flb", 1),
    Release("7.1", "kho-v3", 0, "tree+flb", 2),
    Release("7.3", "kho-v4", 0, "struct", 2),
)
BY_NAME = {release.name: release for release in RELEASES}


@dataclass
class Folio:
    """2^order pages of a file, the first of which is page `index` of it."""

    address: int
    order: int
    index: int


@dataclass(eq=False)
class File:
    """A file of a session. `data` is what an object of another handler than memfd's left."""

    token: int
    handler: str
    size: int = 0
    position: int = 0
    seals: int = 0
    folios: list[Folio] = field(default_factory=list)
    content: bytes = b""
    record: int = 0
    record_order: int = 0
    vmalloc_flags: int = 1
    record_pages: list[int] = field(default_factory=list)
    chunks: list[int] = field(default_factory=list)
    known: bool = True
    data: int = 0

    def extents(self) -> dict[int, int]:
        """The physical address of each page of the file, up to its size."""
        pages = pages_of(self.size)
        return {
            folio.index + page: folio.address + page * PAGE
            for folio in self.folios
            for page in range(1 << folio.order)
            if folio.index + page < pages
        }


@dataclass(eq=False)
class Session:
    """A session and the pages of its list of files."""

    name: bytes
    files: list[File] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)


@dataclass
class Owner:
    """Whose a page is. `page` counts pages from the start of what it belongs to: of the file, for a page of a file."""

    kind: str
    user: str
    file: File | None = None
    page: int = 0


class Handover:
    """One hand-over in a memory of its own."""

    def __init__(self, release: Release, seed: int, ram: list[tuple[int, int]] | None = None) -> None:
        self.release = release
        self.rng = random.Random(seed)
        self.memory = Memory(ram or [(0x200000, 0x1800000)], self.rng)
        self.reserve_mem: list[tuple[str, int, int]] = []
        self.sessions: list[Session] = []
        self.flbs: list[tuple[str, int, int]] = []
        self.extra_users: list[tuple[str, bytes]] = []
        self.child_nodes = False
        self.reserve_map = 40
        self.kernel = release.name + ".9"
        self.kexec_count = 1
        self.live_update = 1
        self.scratch: list[tuple[int, int]] = []
        self.foreign_slab = False
        self.moment = FROZEN
        # What `serialise` fills in.
        self.preserved: dict[tuple[int, int], Owner] = {}
        self.owners: dict[int, Owner] = {}
        self.users: list[tuple[str, int, int]] = []
        self.map = 0
        self.map_pages: list[int] = []
        self.map_nodes: dict[tuple[int, int], int] = {}
        self.map_chunks: list[int] = []
        self.fdt = self.luo = self.luo_size = self.memblock = self.metadata = self.flb_page = self.session_area = 0
        self.session_blocks: list[int] = []
        self.setup_data = 0
        self.scratch_list = 0

    # --- memory that is preserved ---

    def preserve(self, address: int, order: int, owner: Owner) -> int:
        """Marks 2^order pages as preserved for an owner."""
        self.preserved[address, order] = owner
        for page in range(1 << order):
            self.owners[address + page * PAGE] = Owner(owner.kind, owner.user, owner.file, owner.page + page)
        return address

    def new_page(self, kind: str, user: str, file: File | None = None, order: int = 0) -> int:
        """Takes pages and preserves them for an owner."""
        return self.preserve(self.memory.allocate(order), order, Owner(kind, user, file))

    def add_reserve_mem(self, label: str, pages: int, address: int | None = None) -> int:
        """Adds a region of `reserve_mem=`; it is preserved in the largest aligned pieces, as a kernel does."""
        if address is None:
            address = self.memory.allocate(max(pages - 1, 0).bit_length())
        for page in range(pages):
            self.memory.page(address + page * PAGE)[:] = self.rng.randbytes(64) * 64
        self.reserve_mem.append((label, address, pages * PAGE))
        self._preserve_range(address, pages, Owner("reserve-mem", "memblock"))
        return address

    def _preserve_range(self, address: int, pages: int, owner: Owner) -> None:
        frame, end = address // PAGE, address // PAGE + pages
        while frame < end:
            aligned = (frame & -frame).bit_length() - 1 if frame else 63
            order = min(aligned, (end - frame).bit_length() - 1)
            self.preserve(frame * PAGE, order, owner)
            frame += 1 << order

    def add_unowned(self, order: int) -> int:
        """Adds preserved memory that nothing in the hand-over explains."""
        return self.new_page("unowned", "no known user", order=order)

    # --- sessions and files ---

    def add_session(self, name: str | bytes) -> Session:
        """Adds a session without files."""
        session = Session(name.encode() if isinstance(name, str) else name)
        self.sessions.append(session)
        return session

    def add_object(self, session: Session, token: int, handler: str, data: int) -> File:
        """Adds a file of a handler that is not memfd's."""
        file = File(token, handler, known=False, data=data)
        session.files.append(file)
        return file

    def add_file(
        self,
        session: Session,
        token: int,
        size: int,
        *,
        orders: list[int] | None = None,
        max_order: int = 0,
        position: int = 0,
        seals: int = 1,
        record_order: int = 0,
    ) -> File:
        """Adds a memfd with random content, in folios of the given orders, or of random ones."""
        seals = seals if self.release.memfd == 2 else 0
        file = File(token, f"memfd-v{self.release.memfd}", size, position, seals, record_order=record_order)
        file.vmalloc_flags = 3 if record_order else 1
        index = 0
        while index < pages_of(size):
            order = self.rng.randint(0, max_order)
            if orders is not None:
                order = orders[min(len(file.folios), len(orders) - 1)]
            file.folios.append(Folio(self.memory.allocate(order), order, index))
            index += 1 << order
        file.content = self._fill(session, file)
        session.files.append(file)
        self.add_records(file)
        return file

    def _fill(self, session: Session, file: File) -> bytes:
        content = b""
        for folio in file.folios:
            for page in range(folio.index, folio.index + (1 << folio.order)):
                text = f"ORACLE token={file.token} page={page} ".encode() + session.name[:8] + self.rng.randbytes(32)
                data = bytes(PAGE) if self.rng.random() < 0.1 else text.ljust(128, b".") * (PAGE // 128)
                # The kernel clears the rest of the last page.
                data = data[: max(0, file.size - page * PAGE)].ljust(PAGE, b"\0")
                self.memory.page(folio.address + (page - folio.index) * PAGE)[:] = data
                content += data
        return content[: file.size]

    def add_records(self, file: File) -> None:
        """Writes the record of a file, and the lists of its folios."""
        for folio in file.folios:
            self.preserve(folio.address, folio.order, Owner("file", "LUO", file, folio.index))
        file.record = self.new_page("record", "LUO", file)
        self._write_folio_lists(file)
        self.write_record(file)

    def _write_folio_lists(self, file: File) -> None:
        if not file.folios:
            return
        records = b"".join(
            u64(folio.address // PAGE | DIRTY_AND_UPTODATE) + u64(folio.index) for folio in file.folios
        )
        unit = PAGE << file.record_order
        for start in range(0, len(records), unit):
            page = self.new_page("folios", "LUO", file, file.record_order)
            self.memory.write(page, records[start : start + unit])
            file.record_pages.append(page)
        # Where the last chunk is full, an empty one follows.
        count = len(file.record_pages) // ENTRIES_PER_CHUNK + 1
        file.chunks = [self.new_page("chunk", "LUO", file) for _ in range(count)]
        for number, chunk in enumerate(file.chunks):
            entries = file.record_pages[number * ENTRIES_PER_CHUNK : (number + 1) * ENTRIES_PER_CHUNK]
            following = file.chunks[number + 1] if number + 1 < count else 0
            self.memory.write(chunk, u64(following) + b"".join(map(u64, entries)))

    def vmalloc(self, file: File) -> bytes:
        """The 16 bytes that say where the list of folios is."""
        if not file.folios:
            return bytes(16)
        pages = len(file.record_pages) << file.record_order
        return u64(file.chunks[0]) + u32(pages) + u16(file.vmalloc_flags) + u16(file.record_order)

    def write_record(self, file: File) -> None:
        """Writes the record of a file into its page."""
        seals = u32(file.seals) + u32(0) if self.release.memfd == 2 else b""
        head = u64(file.position) + u64(file.size) + seals
        self.memory.write(file.record, head + u64(len(file.folios)) + self.vmalloc(file))

    @property
    def folio_count_at(self) -> int:
        """Where a record has the number of folios; what says where they are follows it."""
        return 24 if self.release.memfd == 2 else 16

    # --- the whole ---

    def serialise(self, moment: str = FROZEN, *, setup_data: bool = False, finalised: bool = True) -> None:
        """Writes all that a kernel writes until `moment`.

        At the moment "running", kernels until 7.0 have a preserved map only if they were told to finalise it.
        """
        self.moment = moment
        self._add_user("memblock", self.memblock_tree())
        self.memblock = self.users[-1][1]
        if self.release.luo:
            self._add_luo()
        if self.release.radix:
            data = u32(1) + self.kernel.encode().ljust(65, b"\0") + u32(self.kexec_count)
            self._add_user("kexec-metadata", data)
            self.metadata = self.users[-1][1]
        for name, data in self.extra_users:
            self._add_user(name, data)
        self.fdt = self.new_page("tree", "KHO")
        self.write_map(finalised or moment != RUNNING or self.release.radix)
        if setup_data or moment == LATER:
            self._write_setup_data()
        if moment == LATER:
            self._overwrite()

    def _add_user(self, name: str, data: bytes) -> None:
        page = self.new_page("user", name, order=max(pages_of(len(data)) - 1, 0).bit_length())
        self.memory.write(page, data)
        self.users.append((name, page, len(data)))

    def memblock_tree(self) -> bytes:
        """The device tree of the user memblock."""
        tree = fdt.Builder().begin("").text("compatible", "memblock-v1")
        for label, address, length in self.reserve_mem:
            tree.begin(label).text("compatible", "reserve-mem-v1")
            tree.add("start", u64(address)).add("size", u64(length)).end()
        return tree.end().finish(self.reserve_map)

    def _overwrite(self) -> None:
        """What the next kernel gives back early gets other owners: the preserved map, and the root of LUO from 7.2."""
        for page in self.map_pages:
            self.memory.random_page(page)
        if self.release.luo == "struct":
            self.memory.random_page(self.luo)

    def write_map(self, written: bool = True) -> None:
        """Writes the preserved map anew, and the device tree that leads to it."""
        self.map_pages, self.map_nodes, self.map_chunks, self.map = [], {}, [], 0
        if written:
            self.map = self._write_radix() if self.release.radix else self._write_chunks()
        self.write_tree()

    def write_tree(self) -> None:
        """Writes the device tree of KHO."""
        tree = fdt.Builder().begin("").text("compatible", self.release.kho)
        tree.add("preserved-memory-map", u64(self.map))
        for name, address, size in self.users:
            tree.begin(name)
            self._add_blob(tree, address, size)
            if self.child_nodes and name == "LUO":
                for version in "12":
                    self._add_blob(tree.begin(version), address, size)
                    tree.end()
            tree.end()
        data = tree.end().finish(self.reserve_map)
        assert len(data) <= PAGE, "the device tree of KHO has one page"
        self.memory.page(self.fdt)[:] = data.ljust(PAGE, b"\0")

    def _add_blob(self, tree: fdt.Builder, address: int, size: int) -> None:
        if self.release.kho == "kho-v1":
            tree.add("fdt", u64(address))
        else:
            tree.add("preserved-data", u64(address)).add("blob-size", u64(size))

    def _write_setup_data(self) -> None:
        """The record of the x86 boot protocol that gives the device tree to the next kernel, and what it leads to."""
        self.scratch_list = self.memory.allocate() if not self.scratch else self._in_scratch(1)
        self.memory.write(self.scratch_list, b"".join(u64(start) + u64(length) for start, length in self.scratch))
        self.setup_data = (self.memory.allocate() if not self.scratch else self._in_scratch(2)) + 0xF0
        head = u64(0) + u32(10) + u32(32)
        tail = u64(self.fdt) + u64(PAGE) + u64(self.scratch_list) + u64(16 * len(self.scratch))
        self.memory.write(self.setup_data, head + tail)

    def _in_scratch(self, page: int) -> int:
        start, length = self.scratch[0]
        return self.memory.take(start + length - page * PAGE)

    def add_scratch(self, start: int, length: int) -> None:
        """Adds a scratch area; nothing is allocated in it."""
        self.scratch.append((start, length))
        self.memory.reserved.append((start, length))

    # --- the preserved map ---

    def _map_page(self) -> int:
        page = self.memory.allocate()
        self.map_pages.append(page)
        return page

    def _write_radix(self) -> int:
        root = self._map_page()
        for address, order in self.preserved:
            self.add_key(root, 1 << (52 - order) | address >> (12 + order))
        return root

    def add_key(self, root: int, key: int) -> None:
        """Sets the bit of a key in the radix tree, with the tables that lead to it."""
        table = root
        for level in (5, 4, 3, 2, 1):
            index = key >> (15 + 9 * (level - 1)) & 511
            if (table, index) not in self.map_nodes:
                self.map_nodes[table, index] = self._map_page()
                self.memory.set_number(table + 8 * index, self.map_nodes[table, index])
            table = self.map_nodes[table, index]
        bit = key & 32767
        self.memory.page(table)[bit // 8] |= 1 << bit % 8

    def _write_chunks(self) -> int:
        bits = self.release.bitmap * 8
        bitmaps: dict[int, dict[int, bytearray]] = {}
        for address, order in self.preserved:
            start = address // (bits << (order + 12)) * (bits << (order + 12))
            bitmap = bitmaps.setdefault(order, {}).setdefault(start, bytearray(self.release.bitmap))
            bit = (address - start) >> (order + 12)
            bitmap[bit // 8] |= 1 << bit % 8
        slots = self._slots()
        for order, of_order in bitmaps.items():
            entries = sorted(of_order.items())
            for first in range(0, len(entries), 255):
                self._write_chunk(order, entries[first : first + 255], slots)
        for chunk, following in zip(self.map_chunks, self.map_chunks[1:]):
            self.memory.set_number(chunk, following)
        return self.map_chunks[0]

    def _write_chunk(self, order: int, entries: list[tuple[int, bytearray]], slots: Slots) -> None:
        chunk = self._map_page()
        self.map_chunks.append(chunk)
        body = u64(0) + u32(order) + u32(len(entries))
        for start, bitmap in entries:
            address = slots.take()
            self.memory.write(address, bytes(bitmap))
            body += u64(start) + u64(address)
        self.memory.write(chunk, body)

    def _slots(self) -> Slots:
        return Slots(self, self.release.bitmap)

    def clear_key(self, address: int, order: int) -> None:
        """Takes one piece out of the map that was written, and nothing else."""
        page, bit = self._find_bit(address, order)
        data = self.memory.page(page)
        at = page % PAGE + bit // 8
        assert data[at] >> bit % 8 & 1, "the piece is not preserved"
        data[at] ^= 1 << bit % 8

    def _find_bit(self, address: int, order: int) -> tuple[int, int]:
        if self.release.radix:
            key, table = 1 << (52 - order) | address >> (12 + order), self.map
            for level in (5, 4, 3, 2, 1):
                table = self.map_nodes[table, key >> (15 + 9 * (level - 1)) & 511]
            return table, key & 32767
        span = self.release.bitmap * 8 << (order + 12)
        for chunk in self.map_chunks:
            number = int.from_bytes(self.memory.read(chunk + 12, 4), "little")
            if int.from_bytes(self.memory.read(chunk + 8, 4), "little") != order:
                continue
            for entry in range(number):
                if self.memory.number(chunk + 16 + 16 * entry) == address // span * span:
                    return self.memory.number(chunk + 24 + 16 * entry), address % span >> (order + 12)
        raise AssertionError("no bitmap has the piece")

    # --- LUO ---

    def _add_luo(self) -> None:
        if self.release.luo == "struct":
            self._add_luo_struct()
        else:
            self._add_luo_tree()
        self.users.append(("LUO", self.luo, self.luo_size))

    @property
    def _written(self) -> bool:
        return self.moment != RUNNING

    def _add_flbs(self) -> None:
        self.flb_page = self.new_page("flbs", "LUO")
        flbs = self.flbs if self._written else []
        entries = b"".join(name.encode().ljust(48, b"\0") + u64(data) + u64(count) for name, data, count in flbs)
        self.memory.write(self.flb_page, u64(1) + u64(len(flbs)) + entries)

    def _file_entries(self, session: Session) -> bytes:
        return b"".join(
            file.handler.encode().ljust(48, b"\0") + u64(file.record if file.known else file.data) + u64(file.token)
            for file in session.files
        )

    def _session_entry(self, session: Session) -> bytes:
        first = session.blocks[0] if session.blocks else 0
        return session.name.ljust(64, b"\0") + u64(first) + u64(len(session.files))

    def _add_luo_struct(self) -> None:
        self._add_flbs()
        if self._written:
            for session in self.sessions:
                session.blocks = self._blocks(self._file_entries(session), 64, "files")
            entries = b"".join(map(self._session_entry, self.sessions))
            self.session_blocks = self._blocks(entries, 80, "sessions")
        self.luo, self.luo_size = self.new_page("root", "LUO"), 32
        first = self.session_blocks[0] if self.session_blocks else 0
        self.memory.write(self.luo, b"luo-v5\0\0" + u64(self.live_update) + u64(first) + u64(self.flb_page))

    def _blocks(self, entries: bytes, size: int, kind: str) -> list[int]:
        """A chain of blocks; all but the last are full."""
        room = (PAGE - 16) // size * size
        parts = [entries[start : start + room] for start in range(0, len(entries), room)]
        pages = [self.new_page(kind, "LUO") for _ in parts]
        for number, part in enumerate(parts):
            following = pages[number + 1] if number + 1 < len(pages) else 0
            self.memory.write(pages[number], u64(following) + u64(len(part) // size) + part)
        return pages

    def _add_luo_tree(self) -> None:
        self.session_area = self.new_page("sessions", "LUO", order=4)
        self.session_blocks = [self.session_area]
        if self._written:
            for session in self.sessions:
                if session.files:
                    session.blocks = [self.new_page("files", "LUO", order=1)]
                    self.memory.write(session.blocks[0], self._file_entries(session))
            entries = b"".join(map(self._session_entry, self.sessions))
            self.memory.write(self.session_area, u64(len(self.sessions)) + entries)
        tree = fdt.Builder().begin("").text("compatible", "luo-v1").add("liveupdate-number", u64(self.live_update))
        tree.begin("luo-session").text("compatible", "luo-session-v2")
        tree.add("luo-session-header", u64(self.session_area)).end()
        if self.release.has_flbs:
            self._add_flbs()
            tree.begin("luo-flb").text("compatible", "luo-flb-v1").add("luo-flb-header", u64(self.flb_page)).end()
        data = tree.end().finish(self.reserve_map)
        self.luo, self.luo_size = self.new_page("root", "LUO"), len(data)
        self.memory.write(self.luo, data)

    # --- where entries are, for damages ---

    def session_entry(self, number: int) -> int:
        """The address of the entry of a session."""
        if self.release.luo == "struct":
            return self.session_blocks[number // 51] + 16 + 80 * (number % 51)
        return self.session_area + 8 + 80 * number

    def file_entry(self, session: int, number: int) -> int:
        """The address of the entry of a file."""
        blocks = self.sessions[session].blocks
        if self.release.luo == "struct":
            return blocks[number // 63] + 16 + 64 * (number % 63)
        return blocks[0] + 64 * number

    def folio_entry(self, file: File, number: int) -> int:
        """The address of the record of a folio."""
        unit = RECORDS_PER_PAGE << file.record_order
        return file.record_pages[number // unit] + 16 * (number % unit)


class Slots:
    """Places for bitmaps: a page for each of 4096 bytes, an eighth of a page for each of 512 bytes."""

    def __init__(self, handover: Handover, size: int) -> None:
        self.handover, self.size = handover, size
        self.page, self.next = 0, PAGE

    def take(self) -> int:
        """The address of the next place."""
        if self.next >= PAGE:
            self.page, self.next = self.handover._map_page(), 0
            if self.handover.foreign_slab:
                self.handover.memory.random_page(self.page)
        self.next += self.size
        return self.page + self.next - self.size
