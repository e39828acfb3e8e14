"""Physical memory of a made machine, and the two kinds of images that the oracle writes of it.

All numbers that kernels write are little-endian. The words are those of docs/GLOSSARY.md.
"""

from __future__ import annotations

import random
import struct
from pathlib import Path

PAGE = 4096


def u16(value: int) -> bytes:
    """Two bytes, little-endian."""
    return struct.pack("<H", value)


def u32(value: int) -> bytes:
    """Four bytes, little-endian."""
    return struct.pack("<I", value)


def u64(value: int) -> bytes:
    """Eight bytes, little-endian; numbers outside of 64 bits wrap."""
    return struct.pack("<Q", value & (2**64 - 1))


def pages_of(length: int) -> int:
    """How many pages hold `length` bytes."""
    return -(-length // PAGE)


class Absent(Exception):
    """A read of a page that the image does not hold."""


class Memory:
    """Pages by their physical address. Pages that were never touched are not in an image."""

    def __init__(self, ram: list[tuple[int, int]], rng: random.Random) -> None:
        self.ram = ram
        self.rng = rng
        self.pages: dict[int, bytearray] = {}
        self.used: set[int] = set()
        self.reserved: list[tuple[int, int]] = []

    def page(self, address: int) -> bytearray:
        """The page that holds `address`; it is made if it is not there."""
        return self.pages.setdefault(address // PAGE * PAGE, bytearray(PAGE))

    def write(self, address: int, data: bytes) -> None:
        """Writes bytes, over the ends of pages if need be."""
        done = 0
        while done < len(data):
            start = (address + done) % PAGE
            part = data[done : done + PAGE - start]
            self.page(address + done)[start : start + len(part)] = part
            done += len(part)

    def read(self, address: int, length: int) -> bytes:
        """Reads bytes; raises `Absent` if one of the pages is not there."""
        out = b""
        while length:
            page = self.pages.get(address // PAGE * PAGE)
            if page is None:
                raise Absent(f"page at {address // PAGE * PAGE:#x}")
            start = address % PAGE
            part = bytes(page[start : start + length])
            out += part
            address += len(part)
            length -= len(part)
        return out

    def number(self, address: int) -> int:
        """The 64-bit number at `address`."""
        return struct.unpack("<Q", self.read(address, 8))[0]

    def set_number(self, address: int, value: int) -> None:
        """Writes a 64-bit number."""
        self.write(address, u64(value))

    def allocate(self, order: int = 0) -> int:
        """Takes 2^order free pages, aligned to their size, at a random address outside of reserved ranges."""
        size = PAGE << order
        for _ in range(100000):
            start, end = self.rng.choice(self.ram)
            low, high = -(-start // size), end // size
            if high <= low:
                continue
            address = self.rng.randrange(low, high) * size
            if self._is_free(address, size):
                return self.take(address, order)
        raise MemoryError(f"no free memory of order {order}")

    def take(self, address: int, order: int = 0) -> int:
        """Takes 2^order pages at `address`."""
        for page in range(address, address + (PAGE << order), PAGE):
            assert page not in self.used, f"{page:#x} is in use"
            self.used.add(page)
            self.page(page)
        return address

    def _is_free(self, address: int, size: int) -> bool:
        if any(start < address + size and address < start + length for start, length in self.reserved):
            return False
        return all(page not in self.used for page in range(address, address + size, PAGE))

    def random_page(self, address: int) -> None:
        """Overwrites a page with random bytes, as its next owner would."""
        self.page(address)[:] = self.rng.randbytes(PAGE)

    def copy(self) -> dict[int, bytes]:
        """The pages as they are now."""
        return {address: bytes(page) for address, page in self.pages.items()}

    def restore(self, pages: dict[int, bytes]) -> None:
        """Makes the pages what `copy` returned."""
        self.pages = {address: bytearray(page) for address, page in pages.items()}


def write_elf(memory: Memory, path: Path, absent: frozenset[int] = frozenset(), order: str = "merged") -> None:
    """Writes an ELF core.

    `order` says how pages become segments: "merged" makes one segment of consecutive pages, "split" one of each page,
    and "shuffled" puts these, and their bytes, in a random order.
    """
    segments: list[list[int]] = []
    for address in sorted(memory.pages.keys() - absent):
        if order == "merged" and segments and sum(segments[-1]) == address:
            segments[-1][1] += PAGE
        else:
            segments.append([address, PAGE])
    places = list(range(len(segments)))
    if order == "shuffled" and len(segments) < 60000:
        random.Random(len(segments)).shuffle(segments)
        random.Random(len(segments) + 1).shuffle(places)
    count = len(segments)
    assert count < 65000, "too many segments for an ELF header"
    start = -(-(64 + 56 * count) // PAGE) * PAGE
    offsets: dict[int, int] = {}
    for place in places:
        offsets[place] = start
        start += segments[place][1]
    head = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 4, 62, 1, 0, 64, 0, 0, 64, 56, count, 0, 0, 0)
    for place, (address, length) in enumerate(segments):
        head += struct.pack("<IIQQQQQQ", 1, 7, offsets[place], 0, address, length, length, PAGE)
    with path.open("wb") as file:
        file.write(head)
        for place, (address, length) in enumerate(segments):
            file.seek(offsets[place])
            file.write(b"".join(memory.pages[page] for page in range(address, address + length, PAGE)))


def write_raw(memory: Memory, path: Path, base: int) -> None:
    """Writes plain memory from `base` on; pages that were never touched are holes of the file, which read as zeros."""
    with path.open("wb") as file:
        file.truncate(max(memory.pages) + PAGE - base)
        for address, page in memory.pages.items():
            file.seek(address - base)
            file.write(page)
