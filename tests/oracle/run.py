#!/usr/bin/env python3
"""Judges gmfs from outside by images whose truth is known, because this program made them.

    tests/oracle/run.py --gmfs PATH [--seed N] [--seconds S] [--images N] [--family NAME] [--keep FOLDER] [--self-test]

The images are hand-overs of Linux, made from what is known of the kernels' layouts; nothing here shares code with gmfs.
It prints a line for each family of images, and the first fault of each kind with the command that shows it. The exit
status is 1 if there are faults.
"""

from __future__ import annotations

import argparse
import datetime
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import bombs
import damages
import drivers
import healthy
import mutants
import self_test
from program import Program, Report

FIRST_FAULTS = 20
FILE_NAME = str.maketrans(" ,:/^", "-----")
# How the time is shared among the families.
SHARES = {
    "limits": 3,
    "random": 4,
    "kho": 1,
    "damages": 8,
    "mutants": 4,
    "bombs": 2,
    "pkernfs": 1,
    "guestmemfs": 1,
    "drivers": 2,
}


class Run:
    """One run over all families that were asked for."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options = options
        self.folder = folder
        self.report = Report(options.keep)
        self.program = Program(options.gmfs.resolve(), self.report)

    def family(self, name: str) -> None:
        """Runs a family until its images or its share of the time are used up."""
        self.report.current = name
        family = self.report.family()
        began = time.monotonic()
        share = self.options.seconds * SHARES[name] / sum(SHARES[other] for other in self.options.family)
        for _ in self.images(name):
            family.images += 1
            if time.monotonic() - began > share or 0 < self.options.images <= family.images:
                break
        family.seconds = time.monotonic() - began
        print(
            f"{name:<14} {family.images:6} images {family.facts:8} facts {family.seconds:7.1f} s "
            f"{family.faults:5} faults",
            flush=True,
        )

    def images(self, name: str) -> Iterator[None]:
        """Judges one image after the other."""
        return getattr(self, "_" + name)()

    def _numbers(self) -> Iterator[int]:
        number = self.options.seed * 1_000_000
        while True:
            yield number
            number += 1

    def _random(self) -> Iterator[None]:
        for seed in self._numbers():
            healthy.judge(self.program, healthy.random_handover(seed), self.folder / f"random-{seed}")
            yield

    def _kho(self) -> Iterator[None]:
        for seed in self._numbers():
            healthy.judge(self.program, healthy.random_kho(seed), self.folder / f"kho-{seed}")
            yield

    def _limits(self) -> Iterator[None]:
        makers = list(healthy.limits().items())
        # Another seed begins elsewhere, so that runs that are cut off reach all of them in time.
        first = self.options.seed % len(makers)
        for name, make in makers[first:] + makers[:first]:
            image = self.folder / f"limit-{name.translate(FILE_NAME)}"
            healthy.judge(self.program, make(), image, name)
            yield

    def _damages(self) -> Iterator[None]:
        rows = [(damage, release) for damage in damages.table() for release in damage.releases]
        random.Random(self.options.seed).shuffle(rows)
        for number, (damage, release) in enumerate(rows):
            image = self.folder / f"damage-{release}-{damage.name.translate(FILE_NAME)}.elf"
            damages.DamageJudge(self.program, damage, release, image, number).run()
            image.unlink()
            yield

    def _pkernfs(self) -> Iterator[None]:
        return self._stores("pkernfs")

    def _guestmemfs(self) -> Iterator[None]:
        return self._stores("guestmemfs")

    def _stores(self, layout: str) -> Iterator[None]:
        for seed in self._numbers():
            drivers.judge_healthy(self.program, layout, seed, self.folder)
            yield

    def _drivers(self) -> Iterator[None]:
        rows = [(damage, layout) for damage in drivers.store_damages() for layout in damage.layouts]
        random.Random(self.options.seed).shuffle(rows)
        for damage, layout in rows:
            drivers.judge_damage(self.program, damage, layout, self.folder)
            yield

    def _bombs(self) -> Iterator[None]:
        names = list(bombs.bombs())
        random.Random(self.options.seed).shuffle(names)
        for name in names:
            bombs.judge(self.program, name, self.folder / f"bomb-{name.translate(FILE_NAME)}.elf")
            yield

    def _mutants(self) -> Iterator[None]:
        of_releases = mutants.Mutants(self.program, self.folder, self.options.seed)
        for seed in self._numbers():
            of_releases.judge(seed)
            yield


def arguments() -> argparse.Namespace:
    """The command line."""
    today = int(datetime.date.today().strftime("%Y%m%d"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gmfs", type=Path, required=True, help="the program to judge")
    parser.add_argument("--seed", type=int, default=today, help="what images are made from (default: the date)")
    parser.add_argument("--seconds", type=float, default=60, help="about how long all families take together")
    parser.add_argument("--images", type=int, default=0, help="at most so many images of each family")
    parser.add_argument("--family", choices=SHARES, action="append", help="only this family (can be repeated)")
    parser.add_argument("--keep", type=Path, help="where images of faults are kept (default: a new folder in /tmp)")
    parser.add_argument("--self-test", action="store_true", help="prove that wrong answers are noticed")
    options = parser.parse_args()
    options.family = options.family or list(SHARES)
    if options.keep is None:
        options.keep = Path(tempfile.mkdtemp(prefix="gmfs-oracle-"))
    options.keep.mkdir(parents=True, exist_ok=True)
    return options


def finish(run: Run) -> int:
    """Prints the first faults and the sum."""
    report = run.report
    for fault in list(report.first.values())[:FIRST_FAULTS]:
        print(fault)
    facts = sum(family.facts for family in report.families.values())
    print(
        f"{facts} facts compared by {run.program.commands} commands; {len(report.faults)} faults\n"
        f"slowest: {run.program.slowest[0]:.1f} s, {run.program.slowest[1][:150]}"
    )
    if report.faults:
        for case, count in report.cases.most_common():
            print(f"    {count:5} {case}")
        print(f"images: {run.options.keep}")
        return 1
    if not any(run.options.keep.iterdir()):
        run.options.keep.rmdir()
    return 0


def main() -> int:
    """Runs the families."""
    options = arguments()
    print(f"seed {options.seed}, {options.gmfs}")
    folder = Path(tempfile.mkdtemp(prefix="gmfs-oracle-work-"))
    try:
        if options.self_test:
            return self_test.run(options.gmfs.resolve(), folder)
        run = Run(options, folder)
        for name in options.family:
            run.family(name)
        return finish(run)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
