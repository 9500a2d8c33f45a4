"""Guesses the encoding of an archive's names from all of them together, if the archive does not state it.

A ZIP without the flag for UTF-8 has its names in the packing system's encoding: its language's code page on Windows,
UTF-8 on macOS. Each encoding is scored by the probability of the characters that it decodes the names to: letters of
one script next to each other, common ones rather than rare, capitals at the start of words, the everyday characters
of the East Asian standards (JIS X 0208 and GB 2312 level 1, Big5 level 1, the Hangul of KS X 1001), which are few
among all codes. Short names can be read in several ways, so the user is informed of the choice.
"""

import math
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate

MAX_WEIGHED_BYTES = 16 << 10
"""Every name must be possible in an encoding; the characters of this many names are scored."""
STANDARD = "cp437"
"""The format's own encoding for names without the flag (APPNOTE.TXT 6.3.10, D.1)."""
_RARE = 1e-5
_SIGN = 1e-3
_ODD = 0.01
"""For a capital within a word, or an initial small letter."""
_MIXED = 1e-3
"""For two scripts in a word."""
_UNUSUAL_IN_NAMES = frozenset('\\^`|~<>{}[]*?":@$;')
_NEVER_FIRST = frozenset("ъыьЪЫЬءةىß")

Weigh = Callable[[str], float]
"""Character -> its probability among the characters beyond ASCII."""


@dataclass(frozen=True)
class Encoding:
    """``codec`` is Python's name for it, ``label`` people's."""

    codec: str
    label: str
    prior: float
    weigh: Weigh


@dataclass(frozen=True)
class Guess:
    """The names, and the encoding that they were read in: None if nothing had to be guessed."""

    names: tuple[str, ...]
    label: str | None = None


def decode_names(raw_names: Sequence[bytes]) -> Guess:
    """ASCII and UTF-8 are certain; otherwise the most probable encoding, and at worst the standard's."""
    beyond_ascii = [raw for raw in raw_names if not raw.isascii()]
    if not beyond_ascii:
        return Guess(tuple(raw.decode("ascii") for raw in raw_names))
    weighed = {encoding: _weigh_all(encoding, beyond_ascii) for encoding in _list_encodings()}
    best = max(weighed, key=lambda encoding: weighed[encoding])
    if weighed[best] == -math.inf:
        return Guess(tuple(raw.decode(STANDARD) for raw in raw_names), "code page 437 (DOS)")
    return Guess(tuple(raw.decode(best.codec) for raw in raw_names), None if best.codec == "utf-8" else best.label)


def _weigh_all(encoding: Encoding, raw_names: Sequence[bytes]) -> float:
    """Logarithm of the probability, up to a constant that is the same for all encodings."""
    try:
        names = [raw.decode(encoding.codec) for raw in raw_names]
    except UnicodeDecodeError:
        return -math.inf
    sizes = accumulate(len(raw) for raw in raw_names)
    sample = dict.fromkeys(name for name, size in zip(names, sizes, strict=True) if size <= MAX_WEIGHED_BYTES)
    return math.log(encoding.prior) + sum(_weigh_name(name, encoding.weigh) for name in sample or names[:1])


def _weigh_name(name: str, weigh: Weigh) -> float:
    weight, before = 0.0, " "
    for char in name:
        weight += math.log(_weigh_ascii(char) if char.isascii() else weigh(char))
        weight += math.log(_judge_neighbours(before, char))
        before = char
    return weight


def _weigh_ascii(char: str) -> float:
    """The second byte of an East Asian character may look like one of these."""
    return _SIGN if char in _UNUSUAL_IN_NAMES or not char.isprintable() else 1 / 30


def _judge_neighbours(before: str, char: str) -> float:
    if not (before.isalpha() and char.isalpha()):
        return _ODD if char in _NEVER_FIRST and not before.isalpha() else 1.0
    odd_case = before.islower() and char.isupper() and not (before.isascii() and char.isascii())
    return (_ODD if odd_case else 1.0) * (_MIXED if _script_of(before) != _script_of(char) else 1.0)


@cache
def _script_of(char: str) -> str:
    """LATIN, CYRILLIC, …; all scripts that East Asian names mix count as one."""
    script = unicodedata.name(char, "").partition(" ")[0]
    return "EAST" if script in {"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "HANGUL", "HALFWIDTH"} else script


# --- alphabets -------------------------------------------------------------------------------------------------

_CAPITAL = 0.12
"""The capitals' share of the letters, as a fraction of the small ones'."""


def _alphabet(letters: Mapping[str, float], others: str = "") -> Weigh:
    """``letters``: small ones, those of one group together -> the group's share; ``others``: signs that occur."""
    shares = {char: share / len(group) for group, share in letters.items() for char in group}
    shares |= {char.upper(): share * _CAPITAL for char, share in shares.items() if len(char.upper()) == 1} | shares
    shares |= dict.fromkeys(others, _SIGN)
    return lambda char: shares.get(char, _RARE)


_SIGNS = "–—’‘“”…°ºª№«»©®\xa0"
_LATIN_WEST = _alphabet({"éèàçüöäñáóíãåøêôïâ": 0.86, "ëîùúûõæœìòýðþÿß": 0.1}, _SIGNS)
_LATIN_EAST = _alphabet({"ąćęłńóśźżáčďéěíňřšťúůýžöőüű": 0.8, "äôĺľŕăâîșțşţđßëç": 0.1}, _SIGNS)
_TURKISH = _alphabet({"ğışçöü": 0.9, "âîûé": 0.05}, _SIGNS + "İ")
_CYRILLIC = _alphabet(
    {"оеаинтсрв": 0.58, "лкмдпуяыь": 0.28, "гзбчйхжшю": 0.11, "цщэфъё": 0.02, "іїєґўјљњћђџ": 0.01}, _SIGNS
)
_GREEK = _alphabet({"αετιοσνηρκ": 0.6, "πμλςυάόίδγ": 0.25, "έχωθήφβύώξζψϊϋΐΰ": 0.14}, _SIGNS)
_HEBREW = _alphabet({"".join(map(chr, range(0x5D0, 0x5EB))): 0.98}, _SIGNS)
_ARABIC = _alphabet({"ابتثجحخدذرزسشصضطظعغفقكلمنهوي": 0.93, "ةىأإآءئؤپچژگ": 0.05}, _SIGNS + "،؟ـ")
_THAI_COMMON = "นรกอมงาเวทลสตยดบปคพหจผขไแโใ่้ีิัุูช็ำ"
_THAI_LETTERS = map(chr, (*range(0xE01, 0xE3B), *range(0xE40, 0xE4F)))
_THAI = _alphabet({_THAI_COMMON: 0.9, "".join(char for char in _THAI_LETTERS if char not in _THAI_COMMON): 0.08})

# --- East Asian standards ----------------------------------------------------------------------------------------


def _planes(codec: str, *planes: tuple[int, int, float], common: str) -> Weigh:
    """Each plane: first and last code, two bytes each, and its share. The trail byte has the same bounds as the lead
    byte. ``common``: the characters that make up two thirds of usual text."""
    among = frozenset(common)

    @cache
    def weigh(char: str) -> float:
        return (0.67 / len(among) if char in among else 0.0) + 0.33 * weigh_by_plane(char)

    def weigh_by_plane(char: str) -> float:
        code = int.from_bytes(char.encode(codec), "big")
        for first, last, share in planes:
            if first <= code <= last and first & 0xFF <= code & 0xFF <= last & 0xFF:
                num_codes = ((last >> 8) - (first >> 8) + 1) * ((last & 0xFF) - (first & 0xFF) + 1)
                return share / num_codes
        return 1e-6

    return weigh


_KANA = "".join(map(chr, (*range(0x3041, 0x3094), *range(0x30A1, 0x30F7)))) + "ー・々"
_JAPANESE = _KANA + (
    "日一人年大本中長国出上生分行見月後前間高東京時子山川小女男学校入目手名会車自動画像写真猫犬鳥花木桜春夏秋冬海空雨雪"
    "富士田町村市道駅店家新古黒白赤青緑色表示設定作品絵図顔笑全身正面横左右下外内部屋服制水着火土金石森林星夜朝夕昼風景人物"
    "背食物肉魚酒茶米味料理語英話言葉文字書読聞開始終了結果一覧最近保存用無題名前不明加工修整済元原版完成練習試験素材資料私"
)
_CHINESE = (
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家种事成方"
    "多经么去法学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实日军者意无力它与长把机十民第公此已工使情"
    "明性知全三又关点正业外将两高间由问很最重并物手应战向头文体政美相见被利什二等产或新己制身果加西斯月话合回特代内信表化老给"
    "世位次度门任常先海通教儿原东声提立及比员解水名真论处走义各入几口认条平系气题活尔更别打女变四神总何电数安少报才结反受目太"
    "图片照片像猫狗鸟花树木山河风景色红黄蓝绿白黑粉脸眼头发衣服裙全身半正侧背人物头像壁纸下载桌面文件夹建副截屏复制练集训素材"
    "画春夏秋冬雪雨云星夜早晚食车房城市街店书包手机测试原版未命名新建我的家朋友宝贝生日旅游北京上海草莓苹果"
)
_CHINESE_TRADITIONAL = _CHINESE + (
    "這個們來為國說時會對過發後裡種經麼學現當沒動還進樣開從實軍與長機關點業將兩間問並應戰頭體見產話給門東聲員論處義幾認條氣題"
    "爾別變神總電數報結圖貓鳥樹風紅黃藍綠臉髮頭像檔案夾資料複製訓練畫雲車書測試建寶貝遊蘋"
)
_KOREAN = (
    "이가는을를에의다고지사도기리로자하나인해대시전정아어수서라일주제상구장스부한보조원성여소유동국공비안마오우신경그화중관게용문진"
    "만학생적모과미선방산회개위식물트연실발내드레영호초강양들새복포더품무반차달단번결계표명천음분심배운당야거키집설민카바치파토피"
    "타크글림남매날말할노네별색석속손술약업열외육으입재저점종직책청체최출친택통투편평행향험형환활황후힘폴임름러르세데니테디페"
    "본히없있것때봄여름가을겨울눈꽃나무하늘바다고양강아지얼굴앞옆뒤옷몸빛밤낮첫"
)
_SHIFT_JIS = _planes(
    "cp932", (0x829F, 0x82F1, 0.3), (0x8340, 0x8396, 0.2), (0x8140, 0x81AC, 0.05), (0x824F, 0x829A, 0.03),
    (0x889F, 0x88FC, 0.01), (0x8940, 0x97FC, 0.4), (0x9840, 0x9872, 0.005), (0xA1, 0xDF, 0.003), common=_JAPANESE,
)  # fmt: skip
_EUC_JP = _planes(
    "euc_jp", (0xA4A1, 0xA4F3, 0.3), (0xA5A1, 0xA5F6, 0.2), (0xA1A1, 0xA1FE, 0.05), (0xB0A1, 0xCFFE, 0.4),
    common=_JAPANESE,
)  # fmt: skip
_GBK = _planes("gbk", (0xB0A1, 0xD7FE, 0.95), (0xA1A1, 0xA3FE, 0.02), (0xD8A1, 0xF7FE, 0.02), common=_CHINESE)
_BIG5 = _planes(
    "cp950", (0xA440, 0xC67E, 0.41), (0xA4A1, 0xC6FE, 0.54), (0xA140, 0xA3FE, 0.02), (0xC940, 0xF9FE, 0.02),
    common=_CHINESE_TRADITIONAL,
)  # fmt: skip
_HANGUL = _planes("cp949", (0xB0A1, 0xC8FE, 0.95), (0xA1A1, 0xACFE, 0.02), (0xCAA1, 0xFDFE, 0.01), common=_KOREAN)


_ANY_SCRIPT = 0.1
"""UTF-8 has all of them."""


def _weigh_unicode(char: str) -> float:
    """As the most probable of the others would score it; that the bytes are valid UTF-8 is most of the proof."""
    if unicodedata.combining(char) or char in _SIGNS:
        return 1e-2
    if ord(char) >= 0x1F000:
        return 1e-4  # emoji
    shares = (_share_in(encoding, char) for encoding in _list_encodings() if encoding.codec != "utf-8")
    return max(1e-4, _ANY_SCRIPT * max(shares))


@cache
def _share_in(encoding: Encoding, char: str) -> float:
    try:
        char.encode(encoding.codec)
    except UnicodeEncodeError:
        return _RARE
    return encoding.weigh(char)


@cache
def _list_encodings() -> tuple[Encoding, ...]:
    """How often each occurs without the flag, before anything is known of the names."""
    return (
        Encoding("utf-8", "UTF-8", 0.9, _weigh_unicode),
        Encoding("cp932", "Shift-JIS (Japanese)", 0.012, _SHIFT_JIS),
        Encoding("euc_jp", "EUC-JP (Japanese)", 0.0005, _EUC_JP),
        Encoding("gbk", "GBK (simplified Chinese)", 0.012, _GBK),
        Encoding("cp950", "Big5 (traditional Chinese)", 0.006, _BIG5),
        Encoding("cp949", "code page 949 (Korean)", 0.01, _HANGUL),
        Encoding("cp866", "code page 866 (Cyrillic, DOS)", 0.01, _CYRILLIC),
        Encoding("cp1251", "code page 1251 (Cyrillic, Windows)", 0.008, _CYRILLIC),
        Encoding("koi8-r", "KOI8-R (Cyrillic)", 0.0002, _CYRILLIC),
        Encoding("cp437", "code page 437 (DOS)", 0.01, _LATIN_WEST),
        Encoding("cp850", "code page 850 (Western, DOS)", 0.008, _LATIN_WEST),
        Encoding("cp1252", "code page 1252 (Western, Windows)", 0.008, _LATIN_WEST),
        Encoding("cp852", "code page 852 (Central European, DOS)", 0.002, _LATIN_EAST),
        Encoding("cp1250", "code page 1250 (Central European, Windows)", 0.0015, _LATIN_EAST),
        Encoding("cp857", "code page 857 (Turkish, DOS)", 0.001, _TURKISH),
        Encoding("cp1254", "code page 1254 (Turkish, Windows)", 0.001, _TURKISH),
        Encoding("cp737", "code page 737 (Greek, DOS)", 0.001, _GREEK),
        Encoding("cp1253", "code page 1253 (Greek, Windows)", 0.001, _GREEK),
        Encoding("cp862", "code page 862 (Hebrew, DOS)", 0.0015, _HEBREW),
        Encoding("cp1255", "code page 1255 (Hebrew, Windows)", 0.0015, _HEBREW),
        Encoding("cp1256", "code page 1256 (Arabic, Windows)", 0.002, _ARABIC),
        Encoding("cp874", "code page 874 (Thai)", 0.002, _THAI),
    )
