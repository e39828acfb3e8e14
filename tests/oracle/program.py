"""Runs gmfs within limits of time and memory, and collects what is found wrong."""

from __future__ import annotations

import json
import math
import re
import resource
import shlex
import shutil
import subprocess
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ADDRESS_SPACE = 1536 << 20
SECONDS = 30.0
# What gmfs documents: 0 to 2, and sums of 1, 4, 8, 16 and 32 for fsck.
STATUSES = range(64)

Json = dict[str, Any]


@dataclass
class Answer:
    """What a command printed, and its exit status."""

    command: str
    status: int
    output: bytes
    errors: str

    def json(self) -> Json:
        """The document that was printed; an empty one if it was none."""
        try:
            document = json.loads(self.output)
        except ValueError:
            return {}
        return document if isinstance(document, dict) else {}

    def lines(self) -> list[str]:
        """The lines that were printed."""
        return self.output.decode("utf-8", "replace").splitlines()


@dataclass
class Family:
    """Counts of a kind of images."""

    images: int = 0
    facts: int = 0
    faults: int = 0
    seconds: float = 0


@dataclass
class Report:
    """What all families found. The images of the first faults are kept in a folder."""

    keep: Path | None = None
    quiet: bool = False
    families: dict[str, Family] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    first: dict[str, str] = field(default_factory=dict)
    cases: Counter[str] = field(default_factory=Counter)
    current: str = ""

    def family(self) -> Family:
        """The counts of the family that runs."""
        return self.families.setdefault(self.current, Family())

    def fact(self, count: int = 1) -> None:
        """Counts facts that were compared."""
        self.family().facts += count

    def fault(self, image: Path, command: str, text: str, case: str = "") -> None:
        """Notes a fault. `case` names what was planted, or is empty."""
        self.family().faults += 1
        # A damage is one kind in all releases; other faults are of one kind if they differ in numbers only.
        kind = re.sub(r"^[0-9.]+: ", "", case) or re.sub(r"0x[0-9a-f]+|[0-9]+", "N", text.split(": says ")[0])
        self.cases[f"{self.current}: {kind}"] += 1
        kept = self._kept(image)
        command = command.replace(str(image), str(kept))
        self.faults.append(f"{self.current}: {case or image.stem}: {text}\n    {command}")
        self.first.setdefault(kind, self.faults[-1])

    def _kept(self, image: Path) -> Path:
        if self.keep is None or not image.exists():
            return image
        target = self.keep / image.name
        if not target.exists() and len(list(self.keep.iterdir())) < 200:
            shutil.copyfile(image, target)
        return target


class Program:
    """The program that is judged."""

    def __init__(self, path: Path, report: Report) -> None:
        self.path = path
        self.report = report
        self.commands = 0
        self.slowest = (0.0, "")

    def run(self, image: Path, *arguments: str, case: str = "") -> Answer:
        """Runs a command; one that crashes, hangs or takes too much memory is a fault."""
        command = [str(self.path), *arguments]
        shown = shlex.join(["gmfs", *arguments])
        self.commands += 1
        began = time.monotonic()
        try:
            done = subprocess.run(command, capture_output=True, timeout=SECONDS, preexec_fn=_limit, check=False)
        except subprocess.TimeoutExpired:
            self.report.fault(image, shown, f"not finished after {SECONDS:g} seconds", case)
            return Answer(shown, -1, b"", "")
        self.slowest = max(self.slowest, (time.monotonic() - began, shown))
        errors = done.stderr.decode("utf-8", "replace")
        self.report.fact()
        if done.returncode not in STATUSES or "panicked" in errors or "memory allocation" in errors:
            self.report.fault(image, shown, f"crashed with status {done.returncode}: {errors[-300:]}", case)
        return Answer(shown, done.returncode, done.stdout, errors)


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    seconds = math.ceil(SECONDS)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
