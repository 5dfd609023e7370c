"""A process that sends a notice and is killed before it can mark it: python outbox_victim.py HOME AT."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from mangaassist.core.clock import parse_instant
from mangaassist.core.home import Home
from mangaassist.incidents.notices import Address, Notice, send
from mangaassist.incidents.outbox import Outbox


def send_and_die(address: Address, notice: Notice, message: str) -> str:
    assert send(address, notice, message) == ""
    os.kill(os.getpid(), signal.SIGKILL)
    return ""


if __name__ == "__main__":
    now = parse_instant(sys.argv[2], field="at")
    Outbox.open(Home.open(Path(sys.argv[1]))).deliver(send_and_die, now=now)
