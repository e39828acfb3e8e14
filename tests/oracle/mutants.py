"""Random changes of metadata pages, judged by a second reader.

The decoder of the oracle says what a mutant means. If it breaks a fact, the program must not call it clean. If it
breaks none, it is another healthy hand-over, and the program must show what it means.
"""

from __future__ import annotations

import random
from pathlib import Path

from decoder import Decoded, DecodedFile, decode
from handover import BY_NAME, FROZEN, Handover
from judge import Judge, is_plain, pages_of_extents
from memory import PAGE, Absent, u64, write_elf
from program import Answer, Program

NUMBERS = (0, 1, 2**63, 2**64 - 1, 0x1000, 0x200000, 2**52 - PAGE, 2**40, 255, PAGE, 63, 64, 51, 52, 3)
RELEASES = ("6.18", "6.19", "7.0", "7.1", "7.3")


class Mutants:
    """Mutants of one hand-over for each release."""

    def __init__(self, program: Program, folder: Path, seed: int) -> None:
        self.program, self.folder = program, folder
        self.bases = {release: _base(release, seed) for release in RELEASES}
        self.pages = {release: truth.memory.copy() for release, truth in self.bases.items()}

    def judge(self, seed: int) -> None:
        """Makes a mutant, has the program look at it and judges what it says."""
        rng = random.Random(seed)
        truth = self.bases[rng.choice(RELEASES)]
        before = _decode(truth)
        assert not before.all_faults(), f"the decoder finds faults in a healthy image: {before.all_faults()}"
        image = self.folder / f"mutant-{seed}.elf"
        change(truth, rng)
        after = _decode(truth)
        write_elf(truth.memory, image)
        MutantJudge(self.program, truth, image).run(before, after)
        truth.memory.restore(self.pages[truth.release.name])
        image.unlink()


def _base(release: str, seed: int) -> Handover:
    truth = Handover(BY_NAME[release], seed, [(0x200000, 0x800000)])
    truth.add_reserve_mem("alpha", 3)
    if truth.release.luo:
        one = truth.add_session("one")
        truth.add_file(one, 1, 12345, max_order=2)
        truth.add_file(one, 2, 0)
        two = truth.add_session("two")
        for number in range(5):
            truth.add_file(two, number, number * 3000, max_order=3)
    if truth.release.has_flbs:
        truth.flbs = [("flb-a", 1, 2), ("flb-b", 3, 4)]
    truth.serialise(FROZEN)
    return truth


def _decode(truth: Handover) -> Decoded:
    return decode(truth.memory, truth.fdt, truth.release.bitmap, truth.scratch)


def metadata(truth: Handover) -> list[int]:
    """The pages that describe something, in the order of their addresses."""
    content = ("file", "reserve-mem")
    owned = [page for page, owner in truth.owners.items() if owner.kind not in content]
    return sorted(set(owned + truth.map_pages))


def change(truth: Handover, rng: random.Random) -> None:
    """Changes one to four places in the metadata, most of them where something is written."""
    pages = metadata(truth)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        page = truth.memory.page(rng.choice(pages))
        written = [at for at in range(0, PAGE, 8) if any(page[at : at + 8])]
        at = rng.choice(written) if written and rng.random() < 0.85 else rng.randrange(PAGE // 8) * 8
        kind = rng.random()
        if kind < 0.35:
            page[at + rng.randrange(8)] ^= 1 << rng.randrange(8)
        elif kind < 0.6:
            page[at : at + 8] = u64(rng.choice(NUMBERS))
        elif kind < 0.8:
            page[at : at + 8] = u64(rng.choice(pages))
        elif kind < 0.9:
            # A second device tree would make a second hand-over.
            page[:] = truth.memory.page(rng.choice(sorted(truth.memory.pages.keys() - {truth.fdt})))
        else:
            page[at:] = rng.randbytes(PAGE - at)


class MutantJudge:
    """What the program says of one mutant."""

    def __init__(self, program: Program, truth: Handover, image: Path) -> None:
        self.truth = truth
        self.judge = Judge(program, truth, image)

    def run(self, before: Decoded, after: Decoded) -> None:
        """All commands, none of which may crash, and what is demanded of some."""
        with self.judge.reading():
            self._run(before, after)

    def _run(self, before: Decoded, after: Decoded) -> None:
        judge = self.judge
        for command in (("scan",), ("inspect", "--json"), ("tree",), ("who", hex(self.truth.fdt), hex(self.truth.map))):
            judge.run(*command)
        answer = judge.run("fsck", "-n", "--json")
        faults = after.all_faults()
        if faults and after.meaning() != before.meaning():
            clean = answer.status == 0 or bool(answer.json().get("clean"))
            judge.same(answer, f"clean, though {faults[0]}", clean, False)
        if self.truth.release.luo and not after.faults:
            self._files(after)

    def _files(self, after: Decoded) -> None:
        """Where the hand-over as a whole is sound, each sound file is shown as its record says."""
        files = {
            f"/{name.decode()}/{file.token:#x}": file
            for name, files in after.sessions
            for file in files
            if is_plain(name) and not file.faults and file.handler.startswith(b"memfd-v")
        }
        known = {path: file for path, file in files.items() if file.extents or not file.size}
        if not known:
            return
        answer = self.judge.run("stat", "--json", *known)
        found = {entry["path"]: entry for entry in answer.json().get("files") or []}
        for path, file in known.items():
            self._file(answer, path, file, found.get(path, {}))

    def _file(self, answer: Answer, path: str, file: DecodedFile, entry: dict) -> None:
        handed = entry.get("handed") or {}
        got = (entry.get("size"), handed.get("record"), handed.get("position"), handed.get("folios"))
        if file.handler != f"memfd-v{self.truth.release.memfd}".encode():
            return  # An object: what it left is opaque.
        self.judge.same(answer, path, got, (file.size, file.data, file.position, file.folios))
        self.judge.same(answer, f"extents of {path}", pages_of_extents(entry.get("extents")), file.extents)
        answer = self.judge.run("cat", path)
        if answer.status == 0:
            self.judge.same(answer, "content", answer.output == self._content(file), True)

    def _content(self, file: DecodedFile) -> bytes | None:
        try:
            pages = [self.truth.memory.read(file.extents[page], PAGE) for page in sorted(file.extents)]
        except Absent:
            return None
        return b"".join(pages)[: file.size]
