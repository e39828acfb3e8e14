"""Proves that the oracle notices: what it is told here is wrong on purpose, and each time it must report a fault."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import program
from damages import ABSENT, NOTED, TOLD, DamageJudge, table
from handover import BY_NAME, Handover, Owner
from judge import Judge
from memory import PAGE, write_elf
from mutants import Mutants
from program import Program, Report

Wrong = Callable[[Handover], object]

# What happens to the truth, or to the image, after the image or the truth was made.
WRONG_TRUTHS: dict[str, Wrong] = {
    "position of a file": lambda truth: setattr(truth.sessions[0].files[0], "position", 8),
    "size of a file": lambda truth: setattr(truth.sessions[0].files[0], "size", 12346),
    "seals of a file": lambda truth: setattr(truth.sessions[0].files[0], "seals", 3),
    "token of a file": lambda truth: setattr(truth.sessions[0].files[0], "token", 9),
    "a byte of the content": lambda truth: setattr(
        truth.sessions[0].files[0], "content", b"!" + truth.sessions[0].files[0].content[1:]
    ),
    "address of a folio": lambda truth: setattr(truth.sessions[0].files[0].folios[0], "address", 0x200000),
    "name of a session": lambda truth: setattr(truth.sessions[0], "name", b"two"),
    "a session that is not there": lambda truth: truth.add_session("more"),
    "a preserved piece": lambda truth: truth.preserved.update({(0x40000000, 0): Owner("unowned", "no known user")}),
    "order of a preserved piece": lambda truth: truth.preserved.update(
        {(truth.fdt, 1): truth.preserved.pop((truth.fdt, 0))}
    ),
    "a region of reserve_mem": lambda truth: truth.reserve_mem.append(("beta", 0x40000000, PAGE)),
    "release of the kernel": lambda truth: setattr(truth, "kernel", "7.3.8"),
    "number of the live update": lambda truth: setattr(truth, "live_update", 2),
    "moment": lambda truth: setattr(truth, "moment", "running"),
    "owner of a page": lambda truth: truth.owners.update({truth.fdt: Owner("unowned", "no known user")}),
}
WRONG_IMAGES: dict[str, Wrong] = {
    "a bit of the content": lambda truth: _flip(truth, truth.sessions[0].files[0].folios[0].address + 100),
    "a bit of a record": lambda truth: _flip(truth, truth.sessions[0].files[0].record + 8),
    "a bit of a folio's record": lambda truth: _flip(truth, truth.folio_entry(truth.sessions[0].files[0], 0)),
    "a bit of a session": lambda truth: _flip(truth, truth.session_entry(0) + 72),
    "a bit of the map": lambda truth: truth.clear_key(truth.fdt, 0),
    "the magic of the device tree": lambda truth: _flip(truth, truth.fdt),
}


def run(gmfs: Path, folder: Path) -> int:
    """Runs all wrong expectations; the status is 1 if one of them was not reported."""
    results = {"nothing wrong": not _report(gmfs, folder, None, None).faults}
    for name, wrong in WRONG_TRUTHS.items():
        results[f"wrong truth: {name}"] = bool(_report(gmfs, folder, wrong, None).faults)
    for name, wrong in WRONG_IMAGES.items():
        results[f"wrong image: {name}"] = bool(_report(gmfs, folder, None, wrong).faults)
    results |= _liars(folder)
    for name, noticed in results.items():
        if not noticed:
            print(f"not as it must be: {name}")
    print(f"self-test: {sum(results.values())} of {len(results)} are as they must be")
    return 0 if all(results.values()) else 1


def _flip(truth: Handover, address: int) -> None:
    truth.memory.page(address)[address % PAGE] ^= 1


def _healthy() -> Handover:
    truth = Handover(BY_NAME["7.3"], 1)
    truth.add_reserve_mem("alpha", 3)
    truth.add_file(truth.add_session("one"), 1, 12345, position=7)
    truth.add_file(truth.sessions[0], 2, 0)
    truth.serialise()
    return truth


def _report(gmfs: Path, folder: Path, wrong_truth: Wrong | None, wrong_image: Wrong | None) -> Report:
    truth, report, image = _healthy(), Report(), folder / "self-test.elf"
    report.current = "self-test"
    if wrong_image:
        wrong_image(truth)
    write_elf(truth.memory, image)
    if wrong_truth:
        wrong_truth(truth)
    Judge(Program(gmfs, report), truth, image).healthy(set())
    return report


# --- programs that lie ---

LIARS = {
    "crashes": "kill -SEGV $$",
    "panics": "echo \"thread 'main' panicked\" >&2; exit 101",
    "hangs": "exec sleep 100",
    "takes memory": "head -c 3000000000 /dev/zero | tail",
    "says that all is clean": 'echo \'{"clean": true, "findings": [], "files": []}\'',
    "says nothing": "exit 2",
}


def _liars(folder: Path) -> dict[str, bool]:
    results: dict[str, bool] = {}
    patience, program.SECONDS = program.SECONDS, 0.3
    for name, script in LIARS.items():
        liar = folder / "liar"
        liar.write_text(f"#!/bin/sh\n{script}\n")
        liar.chmod(0o755)
        results[f"a program that {name}"] = bool(_report(liar, folder, None, None).faults)
    program.SECONDS = patience
    liar.write_text(f"#!/bin/sh\n{LIARS['says that all is clean']}\n")
    results |= _damages_of_a_liar(liar, folder)
    return results


def _damages_of_a_liar(liar: Path, folder: Path) -> dict[str, bool]:
    """A program that calls everything clean is found out by each damage that must be told, and by mutants."""
    missed = []
    for damage in table():
        report = Report()
        DamageJudge(Program(liar, report), damage, damage.releases[0], folder / "liar.elf", 1).check()
        if damage.demand in (TOLD, NOTED, ABSENT) and not report.faults:
            missed.append(damage.name)
    report = Report()
    mutants = Mutants(Program(liar, report), folder, 1)
    for seed in range(20):
        mutants.judge(seed)
    return {f"a liar of whose {missed} nothing is said": not missed, "mutants of a liar": bool(report.faults)}
