"""Small images that claim much: numbers and links that would take time or memory without end, if they were believed.

Nothing is demanded of the answers, except that a command ends in time and within its memory, and does not call an image
clean that is damaged.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from handover import BY_NAME, Handover, Owner
from judge import Judge
from memory import PAGE, u32, u64, write_elf
from program import Program

FAR = 0x10000000
# Much memory that nobody owns may be preserved.
ALLOWED = ("half of the pages preserved, 2000 times", "all pages preserved, 4000 times")


def bombs() -> dict[str, Callable[[], Handover]]:
    """All bombs by name."""
    table: dict[str, Callable[[], Handover]] = {
        ALLOWED[0]: lambda: _leaves(2000, b"\x55"),
        ALLOWED[1]: lambda: _leaves(4000, b"\xff"),
        "5100 entries with one bitmap": lambda: _bitmaps(20, b"\xff"),
        "15300 entries with one bitmap of half": lambda: _bitmaps(60, b"\x55"),
        "10001 blocks of sessions": lambda: _sessions(10001, distinct=True),
        "153000 sessions of one name": lambda: _sessions(3000, distinct=False),
        "189000 files of one token": lambda: _tokens(3000),
        "6000 files with one list of folios": lambda: _shared_list(6000),
    }
    for release in ("6.19", "7.3"):
        table[f"{release}: 2^30 folios in a circle"] = lambda release=release: _circle(release, 2**30, True)
        table[f"{release}: a page of folios 511 times"] = lambda release=release: _circle(release, 511 * 256, False)
    for order in (20, 30, 39):
        table[f"a folio of order {order}"] = lambda order=order: _order(order)
    return table


def judge(program: Program, name: str, image: Path) -> None:
    """Lets the commands look at a bomb."""
    truth = bombs()[name]()
    write_elf(truth.memory, image)
    looker = Judge(program, truth, image)
    looker.case = name
    for command in ("scan", "tree"):
        looker.run(command)
    for command in (("inspect", "--json"), ("ls", "-lR", "--json"), ("who", "0x200000"), ("stat", "/one/0x1")):
        looker.run(*command)
    answer = looker.run("fsck", "-n", "--json")
    if name not in ALLOWED:
        looker.same(answer, "clean", answer.status == 0 or bool(answer.json().get("clean")), False)
    image.unlink()


def _small(release: str) -> Handover:
    truth = Handover(BY_NAME[release], 1, [(0x200000, 0x3000000)])
    truth.add_reserve_mem("alpha", 3)
    truth.add_file(truth.add_session("one"), 1, 12345)
    truth.serialise()
    return truth


def _leaves(count: int, pattern: bytes) -> Handover:
    """Attaches many bitmaps to the radix tree, by tables at free places of it."""
    truth = _small("7.3")
    memory, following = truth.memory, iter(range(FAR, 2**40, PAGE))
    table = truth.map_nodes[truth.map, 2]
    for number in range(count):
        links = (0, 100, number // 512, number % 512)
        page = table
        for index in links:
            if not memory.number(page + 8 * index):
                memory.set_number(page + 8 * index, next(following))
            page = memory.number(page + 8 * index)
            memory.page(page)
        memory.page(page)[:] = pattern * PAGE
    return truth


def _bitmaps(chunks: int, pattern: bytes) -> Handover:
    """A long list of chunks, all entries of which have the same bitmap."""
    truth = _small("6.19")
    truth.memory.write(FAR, pattern * PAGE)
    last, start = truth.map_chunks[-1], 1 << 40
    for number in range(1, chunks + 1):
        chunk = FAR + number * PAGE
        truth.memory.set_number(last, chunk)
        body = u64(0) + u32(0) + u32(255)
        for _ in range(255):
            body += u64(start) + u64(FAR)
            start += 32768 * PAGE
        truth.memory.write(chunk, body)
        last = chunk
    return truth


def _sessions(blocks: int, distinct: bool) -> Handover:
    truth = _small("7.3")
    for block in range(blocks):
        page = FAR + block * PAGE
        names = (f"s{block}-{number}".encode() if distinct else b"same" for number in range(51))
        entries = b"".join(name.ljust(64, b"\0") + bytes(16) for name in names)
        truth.memory.write(page, u64(page + PAGE if block + 1 < blocks else 0) + u64(51) + entries)
    truth.memory.set_number(truth.luo + 16, FAR)
    return truth


def _tokens(blocks: int) -> Handover:
    truth = _small("7.3")
    entry = b"memfd-v2".ljust(48, b"\0") + u64(truth.sessions[0].files[0].record) + u64(7)
    for block in range(blocks):
        page = FAR + block * PAGE
        truth.memory.write(page, u64(page + PAGE if block + 1 < blocks else 0) + u64(63) + entry * 63)
    truth.memory.write(truth.session_entry(0) + 64, u64(FAR) + u64(blocks * 63))
    return truth


def _shared_list(files: int) -> Handover:
    truth = Handover(BY_NAME["7.3"], 1, [(0x200000, 0x6000000)])
    session = truth.add_session("one")
    first = truth.add_file(session, 0, 300 * PAGE)
    for token in range(1, files):
        truth.add_file(session, token, 0)
    truth.serialise()
    memory, count = truth.memory, 511 * 256
    for number in range(511):
        page = FAR + number * PAGE
        records = (u64(0x20000 + 2 * index | 3 << 52) + u64(index) for index in range(number * 256, number * 256 + 256))
        memory.write(page, b"".join(records))
        memory.set_number(first.chunks[0] + 8 + 8 * number, page)
    for file in session.files:
        head = u64(0) + u64(count * PAGE) + u64(1) + u64(count)
        memory.write(file.record, head + u64(first.chunks[0]) + u32(511) + u32(1))
    return truth


def _circle(release: str, folios: int, closed: bool) -> Handover:
    truth = _small(release)
    memory, file = truth.memory, truth.sessions[0].files[0]
    for number in range(511):
        memory.set_number(file.chunks[0] + 8 + 8 * number, file.record_pages[0])
    if closed:
        memory.set_number(file.chunks[0], file.chunks[0])
    memory.set_number(file.record + 8, folios * PAGE)
    memory.set_number(file.record + truth.folio_count_at, folios)
    memory.write(file.record + truth.folio_count_at + 16, u32(folios // 256))
    return truth


def _order(order: int) -> Handover:
    """A preserved piece at 0 that is larger than any machine, and a file in it."""
    truth = _small("7.3")
    file = truth.sessions[0].files[0]
    truth.preserved[0, order] = Owner("file", "LUO")
    truth.write_map()
    truth.memory.set_number(file.record_pages[0], 3 << 52)
    truth.memory.set_number(file.record + 8, PAGE << order)
    return truth
