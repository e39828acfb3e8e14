"""Random healthy hand-overs, and healthy ones at the limits of the format."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from handover import BY_NAME, FROZEN, LATER, RELEASES, RUNNING, File, Folio, Handover, Owner, Session
from judge import Judge
from memory import PAGE, write_elf, write_raw
from program import Program

RAMS = (
    [(0x100000, 0x2000000)],
    [(0x100000, 0x800000), (0x100000000, 0x101000000)],
    [(0x7FF000000000, 0x7FF001800000)],
    [(0x1000, 0xA0000), (0x100000, 0x1C00000)],
    [(2**46 - 0x2000000, 2**46)],
    [(2**52 - 0x1000000, 2**52)],
)
# Names that have been trouble: slashes, backslashes, bytes that are no text, control characters, directions of text.
ODD_NAMES: tuple[bytes, ...] = tuple(
    name.encode() if isinstance(name, str) else name
    for name in (
        "a/b", "a\\x2fb", b"a\xc0\xafb", b"\xff\xfe bad", "/", "//", "../../evil", "/abs", "x" * 63, "é" * 31, " lead",
        "trail ", "new\nline", "tab\t", '"q"', "it's", "*?[a]", "-dash", "--help", "\x01ctl\x7f", "\u202ertl", "0x1",
        "a\rb", "\x1b[31mred", b"a\xcc\x81", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", '{"j":1}', "\\", "\\\\",
        ".hidden", "unnamed", "unnamed-0x1000",
    )
)  # fmt: skip


@dataclass
class Healthy:
    """A healthy hand-over, how to write its image, and the codes of the notes that a check makes of it."""

    truth: Handover
    notes: set[str] = field(default_factory=set)
    form: str = "merged"

    def write(self, path: Path) -> tuple[Path, tuple[str, ...]]:
        """Writes the image; returns its path and the options that commands need."""
        if self.form == "raw":
            path = path.with_name(path.name + ".raw")
            base = self.truth.memory.ram[0][0]
            write_raw(self.truth.memory, path, base)
            return path, ("--base", hex(base))
        path = path.with_name(path.name + ".elf")
        write_elf(self.truth.memory, path, order=self.form)
        return path, ()


def judge(program: Program, image: Healthy, path: Path, case: str = "") -> None:
    """Writes an image, has it judged and removes it."""
    path, options = image.write(path)
    judge_of = Judge(program, image.truth, path, options)
    judge_of.case = case
    judge_of.healthy(image.notes)
    path.unlink()


# --- random ones ---


def random_handover(seed: int) -> Healthy:
    """A random healthy hand-over of any release, at any moment."""
    rng = random.Random(seed)
    release = rng.choice(RELEASES)
    ram = rng.choice(RAMS)
    truth = Handover(release, seed, ram)
    truth.reserve_map = rng.choice((40, 40, 48))
    truth.kernel = rng.choice(("6.19.11", "7.3.4-rc1+dirty", "x" * 64))
    truth.live_update = rng.choice((1, 2, 77, 2**63))
    truth.kexec_count = rng.choice((1, 5, 2**31))
    image = Healthy(truth)
    for number in range(rng.choice((0, 1, 2, 5))):
        truth.add_reserve_mem(f"r{number}", rng.choice((1, 2, 3, 13, 33, 100)))
    if rng.random() < 0.2:
        truth.add_unowned(rng.randint(0, 3))
        image.notes.add("GM0712")
    if release.luo:
        _add_sessions(image, rng)
    if release.luo == "struct" and rng.random() < 0.2:
        truth.child_nodes = True
    moment = rng.choice((FROZEN, FROZEN, RUNNING, LATER)) if release.luo else FROZEN
    truth.serialise(moment, setup_data=rng.random() < 0.3)
    image.form = rng.choice(("merged", "split", "shuffled", "raw"))
    if image.form == "raw" and len(ram) > 1:
        image.form = "merged"
    return image


def _add_sessions(image: Healthy, rng: random.Random) -> None:
    truth = image.truth
    if truth.release.has_flbs:
        truth.flbs = [(f"flb-{number}", rng.randrange(2**64), number) for number in range(rng.choice((0, 0, 1, 63)))]
    names = rng.sample(ODD_NAMES, rng.choice((0, 1, 5)))
    names += [f"session {number}".encode() for number in range(rng.choice((1, 2, 3, 8, 53)))]
    rng.shuffle(names)
    for name in names:
        session = truth.add_session(name)
        for _ in range(rng.choice((0, 1, 2, 4, 20)) if len(names) < 50 else rng.choice((0, 0, 1))):
            _add_random_file(truth, session, rng)
    if rng.random() < 0.2:
        truth.add_object(truth.sessions[0], 424242, "vfio-pci-v1", rng.randrange(2**64))
        image.notes.add("GM0819")


def _add_random_file(truth: Handover, session: Session, rng: random.Random) -> None:
    taken = {file.token for file in session.files}
    token = rng.choice((len(taken), len(taken) * 2**40 + 5, 2**64 - 1 - len(taken)))
    while token in taken:
        token = (token + 1) % 2**64
    used = len(truth.memory.used)
    size = rng.choice((0, 1, 4095, 4096, 4097, rng.randrange(40000), rng.randrange(400000 if used < 1500 else 5000)))
    truth.add_file(
        session,
        token,
        size,
        max_order=rng.choice((0, 0, 1, 3, 5)) if used < 400 else 0,
        position=rng.choice((0, 1, size, 2**40)),
        seals=rng.randrange(64),
        record_order=rng.choice((0, 0, 0, 1)) if used < 400 else 0,
    )


def random_kho(seed: int) -> Healthy:
    """A random hand-over without LUO: what tells the two sizes of bitmaps apart is what matters here."""
    rng = random.Random(seed)
    high = [(0x100000000, 0x100000000 + rng.choice((1 << 24, 1 << 28, 1 << 30)))] if rng.random() < 0.3 else []
    ram = [(0x100000, rng.choice((0x1000000, 0x1800000, 0x4000000, 0x10000000, 0x40000000)))] + high
    truth = Handover(BY_NAME[rng.choice(("6.16", "6.18"))], seed, ram)
    for number in range(rng.choice((0, 1, 1, 2, 3, 5, 20, 60))):
        truth.add_reserve_mem(f"r{number}", rng.choice((1, 1, 2, 3, 13, 20)))
    image = Healthy(truth)
    for _ in range(rng.choice((0, 0, 1, 7))):
        truth.add_unowned(rng.randint(0, 4))
        image.notes.add("GM0712")
    truth.foreign_slab = _size_shows(truth)
    truth.serialise()
    return image


def _size_shows(truth: Handover) -> bool:
    """The bitmaps have 512 bytes, and start where none of 4096 bytes can: that tells them apart, whatever follows."""
    span = 4096
    starts = {(address >> (order + 12)) // span for address, order in truth.preserved}
    return truth.release.bitmap == 512 and any(start % 8 for start in starts)


# --- at the limits ---

Maker = Callable[[], Healthy]


def limits() -> dict[str, Maker]:
    """Healthy hand-overs at the limits of the format, by name."""
    makers: dict[str, Maker] = {}
    for count in (0, 1, 50, 51, 52, 102, 103, 153):
        makers[f"7.3, {count} sessions"] = lambda count=count: _sessions("7.3", count)
    for release in ("6.19", "7.1"):
        for count in (0, 1, 818, 819):
            makers[f"{release}, {count} sessions"] = lambda release=release, count=count: _sessions(release, count)
        makers[f"{release}, 128 files"] = lambda release=release: _files(release, 128)
    for count in (62, 63, 64, 126, 127, 500):
        makers[f"7.3, {count} files"] = lambda count=count: _files("7.3", count)
    for count in (255, 256, 257, 512):
        makers[f"7.1, {count} folios"] = lambda count=count: _folios(count)
    for release in ("6.19", "7.3"):
        makers[f"{release}, folios of all orders"] = lambda release=release: _orders(release)
        makers[f"{release}, odd names"] = lambda release=release: _names(release)
        for count in (511, 512, 1022):
            makers[f"{release}, {count} pages of folios"] = lambda release=release, count=count: _chunks(release, count)
    for release in ("7.0", "7.3"):
        makers[f"{release}, unknown handlers"] = lambda release=release: _objects(release)
    for release, step in (("6.16", 1 << 24), ("6.19", 1 << 27)):
        for count in (254, 255, 256, 600):
            makers[f"{release}, {count} bitmaps"] = lambda release=release, step=step, count=count: _bitmaps(
                release, step, count
            )
    makers["7.3, users and nodes of others"] = _others
    makers["7.1, 63 FLBs"] = _full_flbs
    makers["7.3, many regions"] = _regions
    return makers


def _new(release: str, ram: list[tuple[int, int]] | None = None) -> Handover:
    return Handover(BY_NAME[release], len(release), ram or [(0x200000, 0x4000000)])


def _done(truth: Handover, *notes: str) -> Healthy:
    truth.serialise()
    return Healthy(truth, set(notes))


def _sessions(release: str, count: int) -> Healthy:
    truth = _new(release)
    for number in range(count):
        session = truth.add_session(f"s{number:04}")
        if number % 50 == 0 or release == "7.3" and number % 7 == 0:
            truth.add_file(session, number, 10 + number)
    return _done(truth)


def _files(release: str, count: int) -> Healthy:
    truth = _new(release)
    session = truth.add_session("f")
    for number in range(count):
        truth.add_file(session, number * 0x9E3779B97F4A7C15 % 2**64, number % 3 * PAGE + number % 5)
    return _done(truth)


def _folios(count: int) -> Healthy:
    truth = _new("7.1")
    session = truth.add_session("f")
    for token, less in enumerate((0, 1, PAGE - 1)):
        truth.add_file(session, token, count * PAGE - less)
    return _done(truth)


def _orders(release: str) -> Healthy:
    truth = _new(release, [(0x200000, 0x6000000)])
    session = truth.add_session("o")
    for order in range(11):
        truth.add_file(session, order, (PAGE << order) - 17, orders=[order])
    truth.add_file(session, 100, 1, orders=[9])
    truth.add_file(session, 101, (1 << 21) + 1, orders=[9])
    truth.add_file(session, 102, 4 << 20, orders=[9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0, 9])
    truth.add_file(session, 103, PAGE * 1025, record_order=3)
    return _done(truth)


def _names(release: str) -> Healthy:
    truth = _new(release)
    # With one token for all, a name that is taken for another leads to a file.
    for number, name in enumerate(ODD_NAMES):
        truth.add_file(truth.add_session(name), 7, 100 + number * 1000, max_order=1)
    return _done(truth)


def _chunks(release: str, pages: int) -> Healthy:
    """A file with several chunks. Its folios are not in the image, because they would be hundreds of MiB."""
    truth = _new(release)
    session = truth.add_session("big")
    count = pages * 256
    base = 0x4000000000
    file = File(7, f"memfd-v{truth.release.memfd}", count * PAGE)
    file.folios = [Folio(base + index * PAGE, 0, index) for index in range(count)]
    session.files.append(file)
    truth.add_records(file)
    truth.add_file(session, 8, 10)
    return _done(truth)


def _objects(release: str) -> Healthy:
    truth = _new(release)
    session = truth.add_session("v")
    truth.add_file(session, 1, 5000)
    truth.add_object(session, 2, "vfio-pci-v1", 0xDEADBEEF)
    truth.add_object(session, 3, "x" * 47, 0)
    truth.add_object(session, 4, "memfd-v3", 0x100000)
    return _done(truth, "GM0819")


def _bitmaps(release: str, step: int, count: int) -> Healthy:
    truth = _new(release)
    for number in range(count):
        address = truth.memory.take(0x1000000000 + number * step)
        truth.preserve(address, 0, Owner("unowned", "no known user"))
    if truth.release.luo:
        truth.add_file(truth.add_session("a"), 1, 5000)
    return _done(truth, "GM0712")


def _others() -> Healthy:
    truth = _new("7.3")
    truth.child_nodes = True
    truth.extra_users = [("pci", b"\1\0\0\0" * 20), ("kho_test", b"junk" * 10)]
    session = truth.add_session("v")
    truth.add_file(session, 1, 5000, position=2**63 - 1, seals=0x3F)
    truth.add_file(session, 2, 5000, position=99999, seals=0)
    truth.flbs = [("pci-v2", 0x1234, 3), ("iommu-liveupdate", 2**64 - 1, 2**63)]
    return _done(truth)


def _full_flbs() -> Healthy:
    truth = _new("7.1")
    truth.reserve_map = 48
    truth.kernel = "6" * 64
    truth.flbs = [(f"{number:02}".ljust(47, "a"), 0, 0) for number in range(63)]
    truth.add_file(truth.add_session("v"), 1, 5000)
    return _done(truth)


def _regions() -> Healthy:
    truth = _new("7.3")
    for number in range(40):
        truth.add_reserve_mem(f"r{number}_" + 'é:"'[number % 3], 1 + number * 3)
    truth.add_file(truth.add_session("v"), 1, 5000)
    return _done(truth)
