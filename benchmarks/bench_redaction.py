"""Redaction of 300 characters against the stated ceiling of 1 ms, and against the folding alone as a floor.

Run: python benchmarks/bench_redaction.py [--repeats N] [--json]

Ordinary English and Japanese messages, one dense with personal data, one in full width, and hostile ones
that repeat what the rules start from. The floor is NFKC of the same text in one call: no redaction that folds
width can be faster. `grows` is the time of 60,000 characters over that of 6,000; 10 is linear.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

from mangaassist.governance.redaction import Redacted, redact

LENGTH = 300
CEILING_MS = 1.0
MESSAGES = {
    "english": "Hi, I ordered volumes 3-12 on 2024-03-15 for $45.60 and order MA-783527 is still pending. "
    "Is ISBN 978-4-08-872509-3 in stock? ",
    "japanese": "先日注文したMA-783527の件です。第3巻から第12巻までが届かず、追跡番号も更新されません。"
    "発送予定日は2024年3月15日、合計は12,340円でした。",
    "dense": "田中太郎様 〒160-0023 東京都新宿区西新宿2-8-1 電話０９０−１２３４−５６７８ "
    "taro@example.jp カード4242 4242 4242 4242。"
    "Mr. Smith, 12 Main St, Austin, TX 78701, (415) 555-0132. ",
    "full width": "ＡＢＣ１２３　テスト、",
    "hostile: honorifics": "田中さん",
    "hostile: digit groups": "03(",
    "hostile: wards": "渋谷区",
    "hostile: capitals": "12 Aa ",
}


def filled(unit: str, length: int) -> str:
    return (unit * (length // len(unit) + 1))[:length]


def milliseconds(
    run: Callable[[], Any], repeats: int, clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    found = []
    for _ in range(repeats):
        start = clock()
        run()
        found.append((clock() - start) * 1e3)
    return found


def redacting(text: str) -> Callable[[], Redacted]:
    return lambda: redact(text)


def folding(text: str) -> Callable[[], str]:
    return lambda: unicodedata.normalize("NFKC", text)


def growth(unit: str) -> float:
    """Processor time, not wall time: what a busy machine takes away from a long run is no growth."""
    short, long = (
        min(milliseconds(redacting(filled(unit, LENGTH * times)), 5, time.process_time))
        for times in (20, 200)
    )
    return long / short


def measure(repeats: int) -> dict[str, Any]:
    work = {}
    for name, unit in MESSAGES.items():
        text = filled(unit, LENGTH)
        found = redact(text)  # the first call loads the numbering plans and the word lists
        times = milliseconds(redacting(text), repeats)
        work[name] = {
            "median_ms": statistics.median(times),
            "p95_ms": statistics.quantiles(times, n=20)[-1],
            "nfkc_ms": statistics.median(milliseconds(folding(text), repeats)),
            "grows": growth(unit),
            "findings": len(found.findings),
        }
    return {
        "characters": LENGTH,
        "ceiling_ms": CEILING_MS,
        "repeats": repeats,
        "python": platform.python_version(),
        "work": work,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=300)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    result = measure(options.repeats)
    if options.json:
        print(json.dumps(result))
        return
    print(f"{LENGTH} characters, {options.repeats} repeats; ceiling {CEILING_MS:.0f} ms")
    print(f"{'text':<24}{'median ms':>11}{'p95 ms':>9}{'NFKC ms':>9}{'grows':>8}{'findings':>10}")
    for name, found in result["work"].items():
        print(
            f"{name:<24}{found['median_ms']:>11.3f}{found['p95_ms']:>9.3f}{found['nfkc_ms']:>9.4f}"
            f"{found['grows']:>8.0f}{found['findings']:>10}"
        )


if __name__ == "__main__":
    main()
