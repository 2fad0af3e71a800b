"""Strings of bytes that a tokeniser may stumble over: every plane, ill-formed UTF-8, odd blanks."""
import random

CONTRACTIONS = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "\u2019s", "''s", "'", "'r", "'l"]
BLANKS = list(" \t\n\r\v\f\u0085\u00a0\u1680\u2000\u200a\u2028\u2029\u202f\u205f\u3000")
NEARLY_BLANK = list("\u180e\u200b\u200c\u200d\u2060\ufeff\x1c\x1d\x1e\x1f\x00\x08\x7f")
NUMBERS = list("0189\u00b2\u00bd\u0660\u0967\u2163\u3007\u4e00\uff11\U0001d7d8\U00010140\U00011f50")
LETTERS = list("aZ\u00df\u0130\u0153\u03c9\u0436\u05d0\u0627\u0915\u0e01\u3042\uac00\u4e2d\ua7dc"
               "\U00010400\U00020000\U0001e030\U00031350\U000105c0")
MARKS = list("\u0301\u0308\u093f\u0e31\u20dd\ufe0f\U0001f3fd\U000e0067")
SYMBOLS = list("!?.,;-_#<|>{}\\\"/*+=~^%$&@\u2014\u20ac\u2603\ufffd\U0001f600\U0001f468\ue000\ufffe")
ENGLISH = "the of and a to in is that it was for on are with as his they at be this from I".split()
SPECIAL = ["<|endoftext|>", "\u0120", "\u010a", "\r\n", "\r\n\r\n", "\U0001f468\u200d\U0001f469"]
ILL_FORMED = [b"\x80", b"\xbf", b"\xc0\xaf", b"\xc2", b"\xe0\x80\xaf", b"\xe0\xa0", b"\xe2\x28\xa1",
              b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xf0\x80\x80\xaf", b"\xf0\x9f\x98", b"\xf0\x9f",
              b"\xf4\x90\x80\x80", b"\xf5", b"\xf8\x88\x80\x80\x80", b"\xfe", b"\xff", b"\xef\xbf"]


def code_point(random_):
    """Any that UTF-8 can write, each plane equally often."""
    while True:
        value = random_.randrange(17) << 16 | random_.randrange(0x10000)
        if not 0xD800 <= value < 0xE000:
            return chr(value)


def piece(random_):
    kind = random_.randrange(12)
    if kind == 0:
        return bytes(random_.randrange(256) for _ in range(random_.randrange(1, 6)))
    if kind == 1:
        return random_.choice(ILL_FORMED)
    if kind == 2:
        return code_point(random_).encode()
    if kind == 3:
        return (" " + random_.choice(ENGLISH)).encode()
    if kind == 4:
        return "".join(random_.choices(BLANKS[:4], k=random_.randrange(1, 7))).encode()
    alphabet = random_.choice([CONTRACTIONS, BLANKS, NEARLY_BLANK, NUMBERS, LETTERS, MARKS, SYMBOLS,
                               SPECIAL])
    return "".join(random_.choices(alphabet, k=random_.randrange(1, 5))).encode()


def string(random_):
    """A random one; one in a hundred has a long word."""
    text = b"".join(piece(random_) for _ in range(random_.randrange(1, 9)))
    if random_.randrange(100) == 0:
        text += random_.choice(LETTERS + NUMBERS + SYMBOLS + BLANKS).encode() * random_.randrange(2000)
    return text


def strings(count, seed):
    random_ = random.Random(seed)
    return [string(random_) for _ in range(count)]
