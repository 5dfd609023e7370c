"""Bytes to text, UTF-8 only: anything else is refused with the place and the likely encoding."""

from __future__ import annotations

import codecs
import re

from mangaassist.core.errors import InputError

_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_JAPANESE = (("Shift_JIS", "cp932"), ("EUC-JP", "euc_jp"))
_UNKNOWN = ("an unknown encoding", "")
# Half-width katakana is left out: stray bytes of other encodings decode to it.
_WIDE_JAPANESE = re.compile(r"[\u3041-\u30ff\u4e00-\u9fff]")


def decode(data: bytes, *, name: str) -> str:
    """``data`` as text, without a byte order mark.

    Raises:
        InputError: for no bytes, UTF-16, bytes that are not UTF-8 (with line and byte offset), lines in
            different encodings, or a NUL character.
    """
    if not data:
        raise InputError(
            name,
            expected="a header and at least one row",
            got="an empty file (0 bytes)",
            next_step="Check the export.",
        )
    if data.startswith(_UTF16_MARKS) or _looks_utf16(data):
        raise _not_utf8(name, "UTF-16", "UTF-16")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _broken(data, error.start, name) from error
    if "\0" in text:
        line = line_of(data, data.index(b"\0"))
        raise InputError(
            f"{name}: line {line}",
            expected="text without NUL characters",
            got="a NUL character",
            next_step="Remove it; it usually means the file was damaged in transfer.",
        )
    return text


def line_of(data: bytes, offset: int) -> int:
    """The line, from 1, that the byte at ``offset`` stands in."""
    end = b"\n" if b"\n" in data else b"\r"
    return data.count(end, 0, offset) + 1


def _looks_utf16(data: bytes) -> bool:
    """ASCII in UTF-16 without a mark: every other byte of the beginning is zero."""
    head = data[:200]
    return len(head) >= 4 and max(head[0::2].count(0), head[1::2].count(0)) > 0.4 * len(head)


def _broken(data: bytes, offset: int, name: str) -> InputError:
    line = line_of(data, offset)
    encoding, codec = likely_encoding(_line_bytes(data, offset))
    proof = _first_line_of_utf8(data)
    if proof is not None:
        return InputError(
            f"{name}: line {line}",
            expected="UTF-8 throughout",
            got=f"mixed encodings: line {proof} is UTF-8, line {line} (byte {offset}) looks like {encoding}",
            next_step="Convert the parts to UTF-8 before joining them.",
        )
    # One short line can be decoded by several codecs; the whole file decides better.
    whole = likely_encoding(data)
    encoding, codec = (encoding, codec) if whole == _UNKNOWN else whole
    return _not_utf8(name, encoding, codec, where=f"byte 0x{data[offset]:02x} on line {line} (byte {offset})")


def _not_utf8(name: str, encoding: str, codec: str, where: str = "") -> InputError:
    convert = "Convert it to UTF-8"
    if codec:
        convert += f", for example: iconv -f {codec.upper()} -t UTF-8 FILE > CONVERTED"
    return InputError(
        name,
        expected="UTF-8",
        got=f"{where}, likely {encoding}" if where else f"likely {encoding}",
        next_step=convert + ".",
    )


def likely_encoding(data: bytes) -> tuple[str, str]:
    """Name and codec of what ``data`` probably is; a guess for a message, never used to decode.

    Bytes of one Japanese encoding often decode in the other too, but then mostly to half-width katakana:
    the one that gives the larger share of ordinary Japanese characters wins.
    """
    shares = {pair: _share_of_japanese(data, pair[1]) for pair in _JAPANESE}
    best = max(shares, key=lambda pair: shares[pair])
    if shares[best] > 0.5:
        return best
    try:
        data.decode("cp1252")
    except UnicodeDecodeError:
        return _UNKNOWN
    return "Windows-1252", "cp1252"


def _share_of_japanese(data: bytes, codec: str) -> float:
    """Share of the characters outside ASCII that are kana or kanji; 0 if ``data`` is not in ``codec``."""
    try:
        outside = [character for character in data.decode(codec) if not character.isascii()]
    except UnicodeDecodeError:
        return 0.0
    return sum(bool(_WIDE_JAPANESE.match(character)) for character in outside) / max(1, len(outside))


def _line_bytes(data: bytes, offset: int) -> bytes:
    start = data.rfind(b"\n", 0, offset) + 1
    end = data.find(b"\n", offset)
    return data[start : end if end >= 0 else len(data)]


def _first_line_of_utf8(data: bytes) -> int | None:
    """The first line that is UTF-8 and could not have been ASCII, if any."""
    for number, line in enumerate(data.removeprefix(codecs.BOM_UTF8).split(b"\n"), start=1):
        if line.isascii():
            continue
        try:
            line.decode("utf-8")
        except UnicodeDecodeError:
            continue
        return number
    return None
