"""Phone numbers, payment cards and My Number, told from ISBNs, order ids, prices and dates.

A run of digit groups is read group by group: every window of neighbouring groups with a plausible length is
asked what it is. Check digits (Luhn, My Number, ISBN) come from python-stdnum, numbering plans from
phonenumbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

_RUN = re.compile(r"[0-9]+(?:(?: ?[-.] ?| ?-? ?\( ?| ?\) ?-? ?| )[0-9]+)*")
_GROUP = re.compile(r"[0-9]+")
_GLUE = re.compile(r"[-.]")
_MOST_GROUPS = 5
_MOST_DIGITS = 19

# What a number is called just before it stands. Digits named an order, a parcel or a book are left alone.
_ID_CUE = re.compile(
    r"(?:(?:注文|予約|受注|追跡|伝票|送り状|荷物|問い?合わ?せ|会員|受付|商品|管理|整理|取引|オーダー"
    r"|チケット|クーポン|シリアル)"
    r"(?:番号|ID|No\.?|コード|ナンバー)|品番|型番|\b(?:order|tracking|parcel|shipment|invoice"
    r"|reference|ref|ticket|"
    r"case|membership|member|transaction|serial|item|product|coupon|code|sku|asin|jan|ean|upc"
    r"|isbn(?:-1[03])?|id|no)"
    r"(?: ?(?:number|no\.?|id|code|#))?)"
    r"[^0-9A-Za-z、。,\n]{0,4}(?:is |was |in |: )?[#(\"「]?$",
    re.IGNORECASE,
)
_PHONE_CUE = re.compile(
    r"(?:電話|携帯|ケータイ|連絡先|TEL|FAX|ファックス|ファクス|\bphone|\bcell|\bmobile|\bcall(?: me"
    r"| us)?|\btext(?: me)?|\breach me)"
    r"[^0-9\n]{0,12}$",
    re.IGNORECASE,
)
# An order id (MA-783527), a model or a hex string; but "TEL03-…" is how people write on forms.
_GLUED_BEFORE = re.compile(r"(?:[A-Za-z]-?|[_#]|[0-9]-|[0-9],)$")
_PHONE_WORD = re.compile(r"(?:tel|fax|phone|mobile|cell)-?$", re.IGNORECASE)
_MONEY_BEFORE = re.compile(r"(?:[¥$€£]|\\|USD|JPY|-[¥$]) ?$")
_COUNTED_AFTER = re.compile(
    r"[A-Za-z_]|,[0-9]| ?(?:円|万|億|ドル|ユーロ|ポイント|pt|巻|冊|話|個|部|人|件|回|yen|dollars|JPY|USD)"
)
_EXTENSION = re.compile(
    r",? ?(?:ext\.?|x|#|\(?内線)[ :]?(?:番号)?[0-9]{1,6}\)?(?![0-9A-Za-z])", re.IGNORECASE
)
_TIMESTAMP = re.compile(
    r"(?:19|20)[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])(?:[01][0-9]|2[0-3])[0-5][0-9]"
)
_YEAR = re.compile(r"(?:19|20)[0-9]{2}")

# Lengths and leading digits that the card networks issue (ISO/IEC 7812 ranges): Visa, Mastercard, American
# Express, JCB, Discover, Diners Club, UnionPay. Visa's old thirteen digits would collide with JAN.
_CARD = re.compile(
    r"4[0-9]{15}(?:[0-9]{3})?"
    r"|(?:5[1-5][0-9]{2}|222[1-9]|22[3-9][0-9]|2[3-6][0-9]{2}|27[01][0-9]|2720)[0-9]{12}"
    r"|3[47][0-9]{13}|35(?:2[89]|[3-8][0-9])[0-9]{12}|6(?:011|5[0-9]{2}|4[4-9][0-9])[0-9]{12}"
    r"|3(?:0[0-5]|[689][0-9])[0-9]{11}|62[0-9]{14,17}"
)
_US_SHAPES = {(3, 3, 4), (3, 7), (10,), (1, 3, 3, 4), (1, 10), (11,)}


@dataclass(frozen=True, slots=True)
class _Window:
    """Neighbouring digit groups ``text[start:end]``, their sizes, and whether they are all of their run."""

    text: str
    start: int
    end: int
    sizes: tuple[int, ...]
    digits: str
    whole_run: bool

    @property
    def bare(self) -> bool:
        return len(self.sizes) == 1

    def before(self, characters: int = 28) -> str:
        return self.text[max(0, self.start - characters) : self.start]


def numbers(text: str) -> Iterator[tuple[str, int, int]]:
    """(kind, start, end) of each phone number, card and My Number in folded ``text``."""
    for run in _RUN.finditer(text):
        if len(run[0]) >= 7:
            yield from _in_run(text, run)


def _in_run(text: str, run: re.Match[str]) -> Iterator[tuple[str, int, int]]:
    groups = [found.span() for found in _GROUP.finditer(text, *run.span())]
    first = 0
    while first < len(groups):
        step = 1
        for window in _windows(text, groups, first):
            kind = _kind(window)
            if kind is None:
                continue
            step = len(window.sizes)
            if kind != "BOOK":
                yield (kind, *_extent(window, kind))
            break
        first += step


def _windows(text: str, groups: list[tuple[int, int]], first: int) -> Iterator[_Window]:
    """From the longest to the shortest, so that a card is not cut into a phone number and a rest.

    No other number is joined by a hyphen or a full stop to a window: half of 1-2-090-1234-5678 is no number.
    """
    if first and _GLUE.search(text, groups[first - 1][1], groups[first][0]):
        return
    pieces = [text[start:end] for start, end in groups[first : first + _MOST_GROUPS]]
    for count in range(len(pieces), 0, -1):
        digits = "".join(pieces[:count])
        if not 7 <= len(digits) <= _MOST_DIGITS:
            continue
        after = first + count
        end = groups[after - 1][1]
        if after < len(groups) and _GLUE.search(text, end, groups[after][0]):
            continue
        whole_run = first == 0 and after == len(groups)
        yield _Window(text, groups[first][0], end, tuple(map(len, pieces[:count])), digits, whole_run)


def _kind(window: _Window) -> str | None:
    """What the digits are; BOOK for an ISBN, whose groups are then not looked at again.

    What the digits can be is asked before what stands around them: it is cheaper and usually says no.
    """
    kind = _by_digits(window)
    if kind is None:
        return None
    before = window.before()
    cue = _PHONE_CUE.search(before) is not None
    if kind == "BOOK?":
        kind = "BOOK" if not cue else "PHONE"
    if kind == "PHONE?" and not cue:
        return None
    if kind == "BOOK":
        return kind
    kind = kind.removesuffix("?")
    if _stands_as_something_else(window, before):
        return None
    is_named_id = window.bare or kind != "PHONE" or set(window.sizes) == {4}
    return None if is_named_id and _ID_CUE.search(before) else kind


def _by_digits(window: _Window) -> str | None:
    """The kind that lengths, check digits and numbering plans allow; ? where a word before decides."""
    if book := _is_isbn(window):
        return book
    if _is_card(window):
        return "CARD"
    if _is_my_number(window):
        return "MY_NUMBER"
    return _phone(window)


def _stands_as_something_else(window: _Window, before: str) -> bool:
    """Part of an order id or a web address, a price, or a count of things."""
    if _GLUED_BEFORE.search(before) and not _PHONE_WORD.search(before):
        return True
    if _MONEY_BEFORE.search(before):
        return True
    return window.bare and (before.endswith("/") or _COUNTED_AFTER.match(window.text, window.end) is not None)


def _is_isbn(window: _Window) -> str | None:
    """ISBN-13 by prefix and check digit; ISBN-10 in four groups, or bare as Japan's group 4.

    A bare ten-digit number that passes the check and starts with 4 could also be a Californian phone number:
    in a bookshop it is a book, unless a word for telephone stands before it.
    """
    if len(window.digits) == 13 and window.digits.startswith(("978", "979")):
        return "BOOK" if _passes_isbn(window.digits) else None
    if len(window.digits) != 10:
        return None
    if len(window.sizes) == 4 and window.sizes[0] <= 5 and window.sizes[-1] == 1:
        return "BOOK" if _passes_isbn(window.digits) else None
    return "BOOK?" if window.bare and window.digits[0] == "4" and _passes_isbn(window.digits) else None


def _passes_isbn(digits: str) -> bool:
    from stdnum import isbn

    return isbn.is_valid(digits)


def _is_card(window: _Window) -> bool:
    if len(window.digits) < 14 or min(window.sizes) < 3 or _CARD.fullmatch(window.digits) is None:
        return False
    from stdnum import luhn

    return luhn.is_valid(window.digits)


def _is_my_number(window: _Window) -> bool:
    """Twelve digits in fours or in one, with the check digit; not three years and not a minute of a day."""
    if window.sizes not in {(4, 4, 4), (12,)} or not (window.whole_run or window.bare):
        return False
    if all(_YEAR.fullmatch(window.digits[at : at + 4]) for at in (0, 4, 8)):
        return False
    from stdnum.jp import in_

    return not _TIMESTAMP.fullmatch(window.digits) and in_.is_valid(window.digits)


def _phone(window: _Window) -> str | None:
    """PHONE for a number some plan has issued; PHONE? for the right shape only (555-0123)."""
    digits, sizes = window.digits, window.sizes
    if window.before(2).endswith(("+", "+(")):
        return "PHONE" if len(sizes) <= 5 and _valid_abroad(digits) else None
    if digits[0] == "0":
        # Two digits at the end or a lone 0 in front is a date or a quantity, whatever the plan says.
        shaped = (
            len(digits) in {10, 11} and len(sizes) <= 3 and (window.bare or (sizes[0] > 1 and sizes[-1] > 2))
        )
        if not shaped:
            return None
        return "PHONE" if _valid(81, digits[1:]) else "PHONE?"
    if digits.startswith("81") and len(sizes) in {3, 4} and sizes[0] == 2:
        return "PHONE" if len(digits) in {11, 12} and _valid(81, digits[2:]) else None
    if sizes in _US_SHAPES:
        national = digits[1:] if len(digits) == 11 else digits
        return "PHONE" if (len(digits) == 10 or digits[0] == "1") and _valid(1, national) else None
    return "PHONE?" if sizes in {(4, 4), (3, 4)} else None


@lru_cache(maxsize=4096)
def _valid(country_code: int, national: str) -> bool:
    import phonenumbers

    number = phonenumbers.PhoneNumber(country_code=country_code, national_number=int(national))
    return phonenumbers.is_valid_number(number)


def _valid_abroad(digits: str) -> bool:
    """Digits after a +, with or without the (0) that is not dialled from abroad."""
    import phonenumbers

    for country_code in (1, 81):
        prefix = str(country_code)
        if digits.startswith(prefix):
            national = digits.removeprefix(prefix).removeprefix("0")
            return national.isdigit() and _valid(country_code, national)
    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(f"+{digits}"))
    except phonenumbers.NumberParseException:
        return False


def _extent(window: _Window, kind: str) -> tuple[int, int]:
    """With the +, the bracket that opens a bracketed area code, and the extension after a phone number."""
    text, start, end = window.text, window.start, window.end
    if kind != "PHONE":
        return start, end
    first_group_ends = start + window.sizes[0]
    if text[start - 1 : start] == "+":
        start -= 1
    if text[start - 1 : start] == "(" and text[first_group_ends : first_group_ends + 2].lstrip().startswith(
        ")"
    ):
        start -= 1
    extension = _EXTENSION.match(text, end)
    return start, extension.end() if extension else end
