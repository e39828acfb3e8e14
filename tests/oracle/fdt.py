"""Device trees in the binary form (version 17) that libfdt writes, made and read."""

from __future__ import annotations

import struct

MAGIC = 0xD00DFEED
BEGIN_NODE, END_NODE, PROPERTY, NOP, END = 1, 2, 3, 4, 9

Properties = dict[str, bytes]


class Broken(Exception):
    """Bytes that break a fact about what kernels write."""


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


class Builder:
    """Writes a device tree from its root to its end."""

    def __init__(self) -> None:
        self.structure = b""
        self.strings = b""
        self.offsets: dict[str, int] = {}

    def begin(self, name: str | bytes) -> Builder:
        """Opens a node."""
        raw = name.encode() if isinstance(name, str) else name
        self.structure += struct.pack(">I", BEGIN_NODE) + _padded(raw + b"\0")
        return self

    def end(self) -> Builder:
        """Closes the node that was opened last."""
        self.structure += struct.pack(">I", END_NODE)
        return self

    def add(self, name: str, value: bytes) -> Builder:
        """Adds a property to the open node."""
        if name not in self.offsets:
            self.offsets[name] = len(self.strings)
            self.strings += name.encode() + b"\0"
        self.structure += struct.pack(">III", PROPERTY, len(value), self.offsets[name]) + _padded(value)
        return self

    def text(self, name: str, value: str) -> Builder:
        """Adds a property that is a string."""
        return self.add(name, value.encode() + b"\0")

    def finish(self, reserve_map: int = 40) -> bytes:
        """The whole tree; libfdt 1.7.0 puts the reserve map at 48, others at 40."""
        structure = self.structure + struct.pack(">I", END)
        at = reserve_map + 16
        strings = at + len(structure)
        total = strings + len(self.strings)
        head = struct.pack(
            ">10I", MAGIC, total, at, strings, reserve_map, 17, 16, 0, len(self.strings), len(structure)
        )
        return head.ljust(reserve_map, b"\0") + bytes(16) + structure + self.strings


def parse(data: bytes) -> list[tuple[str, Properties]]:
    """The nodes of a tree with their paths, in their order; raises `Broken` if it is none."""
    if len(data) < 40:
        raise Broken("a device tree is cut off")
    magic, total, at, strings, _, version, last, _, strings_size, size = struct.unpack(">10I", data[:40])
    if magic != MAGIC or version < 16 or last > 17 or total > len(data):
        raise Broken("no header of a device tree")
    if at + size > total or strings + strings_size > total:
        raise Broken("parts of a device tree are past its end")
    return _nodes(data[at : at + size], data[strings : strings + strings_size])


def _nodes(structure: bytes, strings: bytes) -> list[tuple[str, Properties]]:
    nodes: list[tuple[str, Properties]] = []
    path: list[str] = []
    open_nodes: list[Properties] = []
    at = 0
    while True:
        tag, at = _word(structure, at)
        if tag == BEGIN_NODE:
            name, at = _text(structure, at)
            path.append(name)
            open_nodes.append({})
            nodes.append(("/".join(path) or "/", open_nodes[-1]))
        elif tag == END_NODE and path:
            path.pop()
            open_nodes.pop()
        elif tag == PROPERTY and path:
            length, at = _word(structure, at)
            offset, at = _word(structure, at)
            if at + length > len(structure):
                raise Broken("a property is cut off")
            open_nodes[-1][_text(strings, offset)[0]] = structure[at : at + length]
            at += length + -length % 4
        elif tag == END and not path and nodes:
            return nodes
        elif tag != NOP:
            raise Broken(f"tag {tag} in a device tree")


def _word(data: bytes, at: int) -> tuple[int, int]:
    if at + 4 > len(data):
        raise Broken("a device tree has no end")
    return struct.unpack_from(">I", data, at)[0], at + 4


def _text(data: bytes, at: int) -> tuple[str, int]:
    end = data.find(b"\0", at)
    if at >= len(data) or end < 0:
        raise Broken("a name in a device tree has no end")
    return data[at:end].decode("latin-1"), (end + 4) & ~3
