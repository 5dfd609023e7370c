"""Postal addresses: Japanese ones down to the block, US street lines, romanised Japanese ones.

A prefecture or a city alone is a place people ask about, not an address; a number block makes it one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_PREFECTURE = (
    "(?:北海道|東京都|(?:京都|大阪)府|(?:青森|岩手|宮城|秋田|山形|福島|茨城|栃木|群馬|埼玉|千葉"
    "|神奈川|新潟|富山|石川|福井"
    "|山梨|長野|岐阜|静岡|愛知|三重|滋賀|兵庫|奈良|和歌山|鳥取|島根|岡山|広島|山口|徳島|香川|愛媛"
    "|高知|福岡|佐賀|長崎|熊本"
    "|大分|宮崎|鹿児島|沖縄)県)"
)
_KANJI = "一-龥々〆ヶ"
_KANJI_NUMBER = "[一二三四五六七八九十百]+"
_NUMBER = rf"(?:[0-9]+|{_KANJI_NUMBER})"
# Without the particles を は へ で に, which end a place; の and が stay, as in 丸の内 and 霞が関.
_TOWN = rf"(?:[{_KANJI}ァ-ーぁ-てと-なぬ-のば-ぷべ-ゑん]| (?=[{_KANJI}ァ-ヶ0-9]))"
_NOT_COUNTED = (
    r"(?![0-9])(?!-[0-9])(?! ?(?:[巻話冊章円名人個回年月日時分秒歳店位万千点本部枚件割%]"
    r"|セット|ページ|シリーズ|ポイント|連隊|or|番人気))"
)
_JOIN = "(?:-|の|ノ)"
_CHOME = (
    rf"{_NUMBER}丁目[東西南北の ]?"
    rf"(?:{_NUMBER}番地?の?(?:{_NUMBER}号?)?|[0-9]+(?:-[0-9]+)*号?)?"
)
_BLOCK = (
    rf"(?:{_NUMBER}(?:条|線)[東西南北]?)?(?:{_CHOME}"
    rf"|{_NUMBER}番地(?:の?{_NUMBER}(?:号|-[0-9]+)?)?|{_NUMBER}番町?{_NUMBER}号?"
    rf"|[0-9]+(?:{_JOIN}[0-9]+){{1,4}}(?:号(?!室))?)"
)
_HOUSE = "(?:[ァ-ヶー・一-龥A-Za-z]|(?<=[一-龥])の(?=[一-龥]))"
_BUILDING_WORD = (
    "(?:マンション|ハイツ|コーポ|ビルディング|ビル|荘|アパート|レジデンス|タワー"
    "|ハウス|メゾン|ハイム|パレス|プラザ|コート|ヒルズ|団地|寮)"
)
_ROOM = r"(?:[A-Z]?-?[0-9]{1,4}(?:号室|号棟|号|階|室|F))"
_ROOMS = rf"(?:(?: ?{_ROOM})+| ?[A-Z]?-?[0-9]{{1,4}}(?![0-9]))"
_BUILDING = (
    rf"(?: ?{_HOUSE}{{0,14}}?{_BUILDING_WORD}(?:{_HOUSE}{{0,8}}{_ROOMS})?"
    rf"|(?: ?{_HOUSE}{{0,14}}?)?(?: ?{_ROOM})+)?"
)
_CODE = r"(?:(?<![0-9-])〒? ?[0-9]{3}-?[0-9]{4}[ \n]{0,2})?"
# A bare last number is a house only under a prefecture and a municipality.
_UNDER_PREFECTURE = re.compile(
    rf"{_CODE}{_PREFECTURE} ?(?:にかほ市)?(?=[^\n、。]{{0,12}}?[市区町村郡]){_TOWN}{{1,32}}?"
    rf"(?:{_BLOCK}|(?<!第)[0-9]{{1,5}}){_NOT_COUNTED}{_BUILDING}"
)
_LABEL = "(?:現住所|旧住所|新住所|住所|宛先|届け?先|送付先|配送先|発送先|勤務先|自宅|実家|引越先)"
_CITY_START = rf"(?:(?<=[所先宅家])|(?<![{_KANJI}]))(?!{_LABEL})"
_HIRAGANA_CITY = (
    "(?:さいたま|いわき|つくば|ひたちなか|あきる野|ふじみ野|うるま|みどり"
    "|さくら|かすみがうら|あま|みよし|たつの)市"
)
_UNDER_CITY = re.compile(
    rf"{_CODE}(?:{_HIRAGANA_CITY}|{_CITY_START}[{_KANJI}ァ-ヶ]{{1,5}}?(?<!都)(?:市|(?<!地)(?<!学)区|郡))"
    rf"{_TOWN}{{1,20}}?{_BLOCK}{_NOT_COUNTED}{_BUILDING}"
)
_BLOCK_ALONE = re.compile(
    rf"[{_KANJI}ァ-ヶ]{{2,6}}?{_NUMBER}丁目(?:{_NUMBER}番地?(?:の?{_NUMBER}号?)?"
    rf"|[0-9]+-[0-9]+号?){_NOT_COUNTED}{_BUILDING}"
)
_POSTAL_CODE = re.compile(r"(?:〒 ?|(?:郵便番号|〒番号)[^0-9\n]{0,4})(?P<code>[0-9]{3}-?[0-9]{4})(?![0-9])")

_STATE = (
    "(?:A[KLRZ]|C[AOT]|D[CE]|FL|GA|HI|I[ADLN]|K[SY]|LA|M[ADEINOST]|N[CDEHJMVY]|O[HKR]|PA|RI|S[CD]"
    "|T[NX]|UT|V[AT]|W[AIVY]"
    "|Alabama|Alaska|Arizona|Arkansas|California|Colorado|Connecticut|Delaware|Florida|Georgia"
    "|Hawaii|Idaho|Illinois"
    "|Indiana|Iowa|Kansas|Kentucky|Louisiana|Maine|Maryland|Massachusetts|Michigan|Minnesota"
    "|Mississippi|Missouri"
    "|Montana|Nebraska|Nevada|New (?:Hampshire|Jersey|Mexico|York)|(?:North|South) (?:Carolina"
    "|Dakota)|Ohio|Oklahoma"
    "|Oregon|Pennsylvania|Rhode Island|Tennessee|Texas|Utah|Vermont|(?:West )?Virginia|Washington"
    "|Wisconsin|Wyoming)"
)
_ZIP = r"[0-9]{5}(?:-[0-9]{4})?(?![0-9])"
_CAPITAL = "[A-Z][A-Za-z'.]*"
_STREET_WORD = (
    r"(?:Street|St|Avenue|Ave|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Dr|Court|Ct|Way|Place|Pl|Terrace"
    r"|Ter|Circle|Cir"
    r"|Parkway|Pkwy|Highway|Hwy|Square|Sq)\b\.?"
)
_UNIT = r"(?:,? (?:(?:Apt|Apartment|Suite|Ste|Unit|Floor|Room|Rm)\b\.? ?#?|#) ?[A-Za-z0-9-]{1,6}\b)?"
_CITY_STATE = rf"(?:,?[ \n]{_CAPITAL}(?: {_CAPITAL}){{0,2}},? {_STATE}\b(?:,? {_ZIP})?|,? {_ZIP})?"
_STREET_NAME = rf"(?:{_CAPITAL}|[0-9]{{1,3}}(?:st|nd|rd|th))"
_STREET = re.compile(
    rf"(?<![0-9A-Za-z$¥.,-])[0-9]{{1,5}}[A-Z]?(?:-[0-9]{{1,4}})? (?:{_STREET_NAME} ){{1,4}}?"
    rf"(?:{_STREET_WORD}|Broadway\b)(?: (?:N|S|E|W|NE|NW|SE|SW)\b\.?)?{_UNIT}{_CITY_STATE}"
)
# Without capitals a number and "st" are too little; what one does with an address has to stand before it.
_SENT_TO = "(?:live[sd]? at|address(?: is|:)?|moved to|(?:ship(?:ped)?|deliver(?:ed)?|send)(?: it| them)? to)"
_LOWER_STREET = re.compile(
    rf"(?i:{_SENT_TO}:? (?P<address>[0-9]{{1,5}} (?:[a-z0-9]+ ){{1,3}}?{_STREET_WORD}{_UNIT}"
    rf"(?:,? [a-z]+(?: [a-z]+)?,? {_STATE}\b(?: {_ZIP})?)?))"
)
_CITY_STATE_ZIP = re.compile(rf"(?<![A-Za-z])(?:{_CAPITAL} ){{0,2}}{_CAPITAL},? {_STATE},? {_ZIP}")
_BOX = re.compile(rf"\b[Pp]\.? ?[Oo]\.? ?[Bb][Oo][Xx] ?#?[0-9]{{1,6}}\b{_CITY_STATE}")
_ZIP_NAMED = re.compile(rf"(?i:\bzip(?: ?code)?(?: is|:)? )(?P<code>{_ZIP})")
_NUMBERED_TITLE = re.compile(
    r"(?:vol|volume|chapter|ch|part|book|issue|no|#|season|episode)\.? ?$", re.IGNORECASE
)

_ROMAN_PART = r"[A-Z][a-z]+(?:-?[a-z]+)?"
_ROMAN_UNIT = rf"{_ROMAN_PART}(?:,? {_ROMAN_PART}){{0,3}}-(?:ku|shi|cho|machi|gun|fu|ken|to)\b"
_ROMAN = re.compile(
    rf"(?<![0-9-])(?:[A-Z][A-Za-z ]{{2,24}}? (?:#|Room )?[0-9]{{1,4}}, )?"
    rf"[0-9]{{1,4}}(?:-[0-9]{{1,4}}){{1,3}},? "
    rf"(?={_ROMAN_UNIT}|[A-Z][a-z]+-(?:ku|shi|cho|machi))"
    rf"{_ROMAN_PART}(?:,? {_ROMAN_PART}){{0,4}}(?:,? [0-9]{{3}}-[0-9]{{4}})?(?![0-9])"
)


def addresses(text: str) -> Iterator[tuple[str, int, int]]:
    """(kind, start, end) of each address and postal code in folded ``text``; these may overlap."""
    # Every address has a number in it, if only in kanji: asking first spares most texts the patterns.
    digits = _DIGIT.search(text) is not None
    if not text.isascii() and (digits or _KANJI_DIGIT.search(text)):
        for pattern, group, one_of in _JAPANESE:
            for found in pattern.finditer(text) if any(sign in text for sign in one_of) else ():
                yield ("ADDRESS", *found.span(group))
    if not digits:
        return
    for pattern, group in _WESTERN:
        for found in pattern.finditer(text):
            start, end = found.span(group)
            if not _NUMBERED_TITLE.search(text[max(0, start - 10) : start]):
                yield "ADDRESS", start, end


_DIGIT, _KANJI_DIGIT = re.compile("[0-9]"), re.compile(_KANJI_NUMBER)
# Each with the group that is the address and the signs of which every match holds one.
_JAPANESE: tuple[tuple[re.Pattern[str], str | int, str], ...] = (
    (_UNDER_PREFECTURE, 0, "都道府県"),
    (_UNDER_CITY, 0, "市区郡"),
    (_BLOCK_ALONE, 0, "丁"),
    (_POSTAL_CODE, "code", "〒郵"),
)
_WESTERN: tuple[tuple[re.Pattern[str], str | int], ...] = (
    (_STREET, 0),
    (_LOWER_STREET, "address"),
    (_CITY_STATE_ZIP, 0),
    (_BOX, 0),
    (_ZIP_NAMED, "code"),
    (_ROMAN, 0),
)
