"""STO-1: what a shopper of the bilingual manga shop wants, in English, Japanese or both at once."""
