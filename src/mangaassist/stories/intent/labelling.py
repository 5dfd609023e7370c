"""Labelling functions: the programmatic label source of the intent story (LAB-3).

Each function is one rule a person can read: a pattern that says what a text is about, and sometimes a
pattern under which it stays silent. A text is labelled only when every function that speaks says the same;
precision matters here, coverage does not, because silence costs nothing (LAB-6 audits the precision).
"""

from __future__ import annotations

from mangaassist.labels.functions import PatternFunction, RuleSet

# A return, a refund or a person outranks whatever else the sentence is about, so other rules stay silent.
_RETURN = (
    r"\breturn|refund|exchange|send (it |this )?back|money back|返品|返金|返送|送り返|お?返し|返したい|交換"
)
_PERSON = (
    r"\bhuman\b|\bmanager\b|supervisor|complain|real person|\bagent\b"
    r"|担当者|責任者|オペレーター|クレーム|苦情"
)
_GRAVE = f"{_RETURN}|{_PERSON}"

FUNCTIONS: tuple[PatternFunction, ...] = (
    PatternFunction(
        "return_wanted_en",
        "return_request",
        r"\b(want|like|need|how (do|can) i|can i|could i)\b.{0,40}"
        r"\b(return|refund|exchange|send .{0,20}back)\b"
        r"|\brefund (status|request)|\breturn (policy|window|label)\b|\bwrong (volume|book|item|edition)\b",
        rf"{_PERSON}|no refund",
    ),
    PatternFunction(
        "return_damaged_en",
        "return_request",
        r"\b(arrived|came|got|is)\b.{0,30}\b(damaged|torn|ripped|bent)\b|\bmissing (pages|a volume)\b",
        rf"{_PERSON}|\bcharged\b",
    ),
    PatternFunction(
        "return_wanted_ja",
        "return_request",
        r"返品(し|でき|を|の|は|って|期限|期間|手続)|送り返し|返金(を|し|は)|交換(して|を|し|か|でき)|取り替えて",
        rf"{_PERSON}|返金が|返金がない",
    ),
    PatternFunction(
        "person_wanted_en",
        "escalation",
        r"\b(talk|speak|connect|transfer|put me through)\b.{0,30}"
        r"\b(human|person|manager|supervisor|agent|staff)\b"
        r"|\b(get|want|need|give) (me )?a (manager|supervisor|human|real person|live agent)\b"
        r"|^(agent|human|representative|operator)\b",
        r"\b(are|r) (you|u)\b",
    ),
    PatternFunction(
        "complaint_en",
        "escalation",
        r"\b(file|make) a (formal )?complaint|legal action|\blawyer\b|consumer protection|want to complain"
        r"|unacceptable|no ?(body|one) (has )?(answered|replied)",
    ),
    PatternFunction(
        "person_wanted_ja",
        "escalation",
        r"(担当者|オペレーター|責任者|店長|上司|人間|上の方|スタッフ).{0,8}(代わ|つな|お願い|話|出して|電話)"
        r"|有人窓口|(クレーム|苦情)を|訴訟|弁護士|法的措置|消費者センター",
        r"人間(でしょうか|ですか|なの)|あなたは",
    ),
    PatternFunction(
        "where_is_order_en",
        "order_status",
        r"\bwhere('?s| is) my (order|package|parcel|stuff)|\btrack(ing)? (number|link|order|for)\b"
        r"|\b(order|package|parcel)\b.{0,30}\b(hasn'?t|not) (arrived|shipped|come)|\bstatus of (my )?order\b",
        _GRAVE,
    ),
    PatternFunction(
        "cancel_order_en", "order_status", r"\bcancel (my |the )?order\b|address on (my )?order", _GRAVE
    ),
    PatternFunction(
        "where_is_order_ja",
        "order_status",
        r"(まだ)?届(かない|きません|いていません|いておりません)|追跡番号|伝票番号"
        r"|(注文|荷物|商品).{0,12}(どこ|いつ届|ステータス|状況|キャンセル)",
        rf"{_GRAVE}|メール|コード|sms|\bcode\b|アカウント",
    ),
    PatternFunction(
        "ship_to_en",
        "shipping_info",
        r"\b(do|can|could) you (ship|deliver|post)\b"
        r"|\b(free|express|overnight|next day|international|overseas) (shipping|delivery)\b"
        r"|\bhow (much|long) (is|does) (shipping|delivery)\b|\b(customs|import tax)\b",
        _GRAVE,
    ),
    PatternFunction(
        "shipping_ja",
        "shipping_info",
        r"送料|配送料|(海外|沖縄|北海道|離島).{0,8}(配送|発送|届け)|置き配|コンビニ受取|お急ぎ便|翌日配達|関税|同梱",
        rf"{_GRAVE}|送料別",
    ),
    PatternFunction(
        "stock_en",
        "stock_availability",
        r"\b(in|out of|back in) stock\b|\bsold out\b|\bre-?stock|\bpre-?order",
        _GRAVE,
    ),
    PatternFunction(
        "stock_ja",
        "stock_availability",
        r"在庫|再入荷|入荷(予定|し|の)|品切れ|売り切れ|重版|増刷|取り置き",
        _GRAVE,
    ),
    PatternFunction(
        "price_en",
        "price_promotion",
        r"\b(coupon|promo|discount|voucher)s?\b|\bhow much is\b|\bon sale\b|\bnext sale\b|\bprice (of|for)\b",
        rf"{_GRAVE}|\bshipping\b|\bdelivery\b|\bcharge|\bstock price\b",
    ),
    PatternFunction(
        "price_ja",
        "price_promotion",
        r"クーポン|割引|セール|学割|(値段|価格)(を|は|$)|おいくら|(セット|巻)(は|って)?いくら",
        rf"{_GRAVE}|送料|配送|shipping",
    ),
    PatternFunction(
        "payment_en",
        "payment_issue",
        r"\b(card|payment)\b.{0,20}\b(declined|rejected|failed|won'?t|keeps failing|isn'?t working)\b"
        r"|\b(charged|billed) twice\b|\bdouble (charge|bill)"
        r"|\bpay with\b|\bgift card\b|\b(invoice|receipt) for\b",
        rf"{_GRAVE}|\bpoints\b",
    ),
    PatternFunction(
        "payment_ja",
        "payment_issue",
        r"(クレジットカード|カード).{0,8}(使え|使用でき|拒否|弾かれ|登録)|二重に|(決済|支払い).{0,6}(エラー|でき|方法|画面)"
        r"|領収書|請求書|ギフトカード|コンビニ払い|paypay|代引き",
        _GRAVE,
    ),
    PatternFunction(
        "account_en",
        "account_help",
        r"\bpasswords?\b|\b(log|sign) ?in(to)?\b|\b(delete|close|deactivate|merge) (my |two )?accounts?\b"
        r"|\b(verification|reset) (email|code)\b|\bunsubscribe\b|\bwish ?list\b",
        _PERSON,
    ),
    PatternFunction(
        "account_ja",
        "account_help",
        r"パスワード|ログイン|サインイン|退会|(認証|確認|再設定|本人確認).{0,3}(メール|コード|sms)|二段階認証|メルマガ"
        r"|メールアドレスを?の?変更|アカウント.{0,6}(削除|ロック|停止)",
        rf"{_PERSON}|注文確認|不正利用|乗っ取り",
    ),
    PatternFunction(
        "recommend_en",
        "recommendation",
        r"\brecommend|\bsuggest\b|\bwhat (should|do) i read\b"
        r"|\banything similar\b|\bsomething (like|similar)\b",
        rf"{_GRAVE}|read .{{0,20}}\bin\?",
    ),
    PatternFunction(
        "recommend_ja",
        "recommendation",
        r"おすすめ|お勧め|オススメ|(似た|みたいな|っぽい)(漫画|作品|作風|マンガ|manga|series)|紹介して|何を読めば",
        rf"{_GRAVE}|順|巻を読めば",
    ),
    PatternFunction(
        "series_en",
        "series_info",
        r"\bhow many volumes\b|\breading order\b|\bwhat order should\b"
        r"|\b(is|has) .{1,60} (finished|ended|completed|still ongoing|on hiatus)\b"
        r"|\bspin-?offs?\b|\bsequel\b",
        _GRAVE,
    ),
    PatternFunction(
        "series_ja",
        "series_info",
        r"全何巻|全部で何巻|完結(して|しま|した|して)|最新刊|発売日|続編|スピンオフ|アニメの続き|最終巻|休載|何巻から|何巻まで",
        rf"{_GRAVE}|おすすめ",
    ),
    PatternFunction(
        "detail_en",
        "product_detail",
        r"\bhow many pages\b|\bpage count\b|\bisbn\b|\bhardcover\b|\bage rating\b"
        r"|\btrim size\b|\btranslated\b|\bdeluxe (edition )?and\b|\bpublisher of\b|\bfurigana\b",
        _GRAVE,
    ),
    PatternFunction(
        "detail_ja",
        "product_detail",
        r"何ページ|ページ数|判型|対象年齢|isbn|フルカラー|ふりがな|ルビ|出版社|翻訳者|通常版.{0,4}違い|愛蔵版と",
        _GRAVE,
    ),
    PatternFunction(
        "review_en",
        "review_opinion",
        r"\bworth (reading|buying)\b|\boverrated\b|\bwhat do (people|readers|customers) (think|say)\b"
        r"|\breviews? (of|for)\b|\b(your|honest) opinion\b|\bletdown\b",
        _GRAVE,
    ),
    PatternFunction(
        "review_ja",
        "review_opinion",
        r"口コミ|レビュー|評判|感想|期待外れ|読む価値|(最高|感動的|微妙|つまらない)(でした|だった|でござ)",
        _GRAVE,
    ),
    PatternFunction(
        "find_en",
        "search_title",
        r"\b(look(ing)? for|find|search( for)?) .{0,40}\b(manga|copy of|title)\b"
        r"|\bwhat('?s| is| was) the (name|title) of\b",
        rf"{_GRAVE}|recommend|similar|\bgift\b",
    ),
    PatternFunction(
        "find_ja",
        "search_title",
        r"を(検索|探し|さがし|見つけ)|の(漫画|作品)を検索|取り扱って|タイトルを忘れ",
        rf"{_GRAVE}|似た|おすすめ",
    ),
    PatternFunction(
        "greeting",
        "greeting_chitchat",
        r"^(hi|hello|hey|hiya|thanks?( you)?( so much| a lot)?|good (morning|evening|afternoon)|bye|goodbye"
        r"|こんにちは|こんばんは|おはようございます|ありがとう(ございます)?|さようなら|またね)[!.。！ ]*$",
    ),
)


RULES = RuleSet(FUNCTIONS)
"""The rule set; its version is the annotator of every label these rules give."""
