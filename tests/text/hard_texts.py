"""Texts on which tokenizers go wrong, and characters to draw texts from."""

import sys
import unicodedata

from hypothesis import strategies as st

HARD_TEXTS = {
    "empty": "",
    "one space": " ",
    "contractions": "I'll say it's what they've, you'd, I'm; don't! 'tis 'S 'LL He'll\u2019s",
    "spaces": "a b  c   d    e\t\tf \t g   ",
    "line breaks": "\n\na\n\n\n  b\r\n\r\nc \n \n d\n",
    "digits": "1 12 123 1234567890 3.14 1,000,000 x86 v2.0 2 3  45   678 \u0663\u0664 \u00bd \u00b2 \u216b 9\n10",
    "punctuation": "Hello!!! (what?) -- \u2014 \u2026 \u201cquoted\u201d $100% #tag @you a_b "
    "__init__ <a href='x'>&amp;</a>",
    "emoji": "\U0001f600 \U0001f44d\U0001f3fd \U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 "
    "\U0001f3f3\ufe0f\u200d\U0001f308 \U0001f1e9\U0001f1ea 1\ufe0f\u20e3",
    "Chinese": "\u6211\u7231\u5317\u4eac\u5929\u5b89\u95e8\u3002 "
    "\u7e41\u9ad4\u5b57\uff0cNumPy \u5f88\u5feb\uff01\U00020000",
    "Japanese": "\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8\u3067\u3059\u3002\uff76\uff9e",
    "Korean": "\ud55c\uad6d\uc5b4 \ud14d\uc2a4\ud2b8 \u1112\u1161\u11ab",
    "Khmer": "\u1797\u17b6\u179f\u17b6\u1781\u17d2\u1798\u17c2\u179a \u17e1\u17e2\u17e3 \u17d4",
    "Arabic": "\u0627\u0644\u0639\u0631\u0628\u064a\u0629 \u0645\u064e\u0631\u0652\u062d\u064e\u0628\u064b\u0627 "
    "\u0661\u0662\u0663\u060c \ufefb",
    "Hebrew, Hindi, Thai": "\u05e9\u05dc\u05d5\u05dd \u0928\u092e\u0938\u094d\u0924\u0947 \u0958 "
    "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35",
    "accents": "caf\u00e9 cafe\u0301 na\u00efve \u00c5ngstr\u00f6m A\u030a \u1e9b\u0323 "
    "\u0130stanbul \u1e9e \u01c5 \u039f\u0394\u039f\u03a3",
    "ligatures": "\ufb01ne \ufdfa \u2126 \u212b \u037e \u1fef",
    "control characters": "a\x00b\x01c\x1bd\x7fe\x85f\x1cg\x0bh\x0ci\u200bj\u2028k\u2029l\ufeffm\ufffdn\u00ado\ue000p",
    "odd spaces": "a\u00a0b\u2003c\u3000d\u202fe\u180ef \u00a0 g",
    "special look-alikes": "<|endoftext|> [CLS] [SEP] <s></s> <unk> <0x41> ##ing \u2581x \u0120the",
    "long word": "x" * 99 + " " + "y" * 100 + " " + "z" * 101 + " " + "supercalifragilistic" * 30,
    "long run": "ab" * 700 + "a" * 3000 + " " * 700 + "\n" * 600 + "=" * 800 + "1" * 900,
    "code": "def f(x):\n    if x > 0:\n\treturn [x ** 2 for _ in range(10)]  # why?\n",
}

# Characters whose category has not changed since Unicode 3.2: the references know different versions of Unicode.
_OLD = [
    chr(code)
    for code in range(sys.maxunicode + 1)
    if unicodedata.ucd_3_2_0.category(chr(code)) not in ("Cn", "Cs", "Co")
    and unicodedata.ucd_3_2_0.category(chr(code)) == unicodedata.category(chr(code))
]
OLD_CHARACTERS = "".join(_OLD)
_FREQUENT = "  \n\t'aAeEsStTlLdDmMrRvV019.,-_\u00e9\u0301\u4e2d\u3042\u1798\u0627\u00a0\u2003\U0001f600\u200d\ufe0f"
texts = st.text(st.one_of(st.sampled_from(_FREQUENT), st.sampled_from(OLD_CHARACTERS)), max_size=40)
