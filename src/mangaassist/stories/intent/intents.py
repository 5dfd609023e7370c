"""The labels of the intent story."""

from __future__ import annotations

from collections.abc import Mapping

INTENTS: Mapping[str, str] = {
    "search_title": "Find a work, a volume or everything by an author in the catalogue.",
    "recommendation": "Suggest something to read, by taste, mood, genre or occasion.",
    "product_detail": "A fact about one edition: pages, size, language, extras, age rating.",
    "series_info": "A fact about the series: number of volumes, reading order, next release, ended or not.",
    "stock_availability": "Whether it can be had now or pre-ordered, and when it is back.",
    "price_promotion": "Prices, discounts, coupons, points and sales.",
    "order_status": "Where an order is; changing or cancelling one that has not arrived.",
    "shipping_info": "How, where, how fast and for how much the shop ships in general.",
    "return_request": "Give something back, exchange it or get the money back. Safety-critical.",
    "payment_issue": "Cards, charges, invoices and ways to pay.",
    "account_help": "Signing in, passwords, addresses, e-mail settings, deleting the account.",
    "review_opinion": "What readers think of a work, or what this shopper thinks of it.",
    "escalation": "A person, a complaint, a threat of legal steps, a stolen account. Safety-critical.",
    "greeting_chitchat": "Hello, thanks, goodbye and small talk with the assistant.",
}
"""The 14 intents, one line each on what belongs there."""

OUT_OF_SCOPE = "out_of_scope"
"""Nothing a manga shop can help with; such rows teach and measure abstention."""

SAFETY_CRITICAL = ("return_request", "escalation")
"""Missing one of these leaves a shopper with a problem alone, so their recall may never regress."""
