"""Names in any of the encodings that archives have them in are read as they were written."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.datasets.name_encodings import decode_names

# Codec -> sets of names, each as of one archive. Some are a single short name.
WRITTEN: dict[str, list[list[str]]] = {
    "cp932": [
        ["写真.png"],
        ["猫.png"],
        ["表示.png"],
        ["ソ.png"],
        ["東京タワー.jpg"],
        ["桜の木.png", "富士山.jpg"],
        ["新しいフォルダー/テスト画像.png", "新しいフォルダー/テスト画像.txt"],
    ],
    "euc_jp": [["桜の木.png", "富士山.jpg"]],
    "gbk": [["图片.png"], ["小猫.png"], ["猫.png", "狗.png"], ["新建文件夹/照片1.jpg"], ["测试图片 (1).png"]],
    "cp950": [["圖片.png"], ["測試.png"], ["我的貓.png", "新增資料夾/照片.jpg"]],
    "cp949": [["사진.png"], ["고양이.png"], ["새 폴더/표지.jpg", "강아지.png"]],
    "cp1251": [["кот.png"], ["Привет.png"], ["Новая папка/Фото кота.png", "Снимок1.jpg"]],
    "cp866": [["кот.png"], ["Привет.png"], ["Новая папка/Фото кота.png"]],
    "koi8-r": [["Новая папка/Фото кота.png", "рисунок.jpg"]],
    "cp437": [["café.png"], ["Größe.jpg", "Müller.png"], ["señor.png"], ["naïve.png"]],
    "cp850": [["São Paulo.png"], ["Ørsted.png", "blåbær.png"]],
    "cp1252": [["café.png"], ["está.png"], ["Noël à la plage.jpg"], ["Übung.png", "Größe.png"]],
    "cp1250": [["Žluťoučký kůň.png"], ["zażółć gęślą jaźń.png"]],
    "cp852": [["Žluťoučký kůň.png"], ["zażółć gęślą jaźń.png"]],
    "cp1253": [["Η γάτα μου.jpg"]],
    "cp1254": [["güneşli ağaç.png"]],
    "cp1255": [["תמונה.jpg"]],
    "cp1256": [["صورة جديدة.png"]],
    "cp874": [["แมว.png"]],
}
UNICODE = [
    "café.png", "cafe\u0301.png", "é.png", "я.png", "中.png", "猫.png", "写真.png", "사진.png", "кот.png", "🐱.png",
    "Đà Nẵng.png", "हिन्दी.png", "გამარჯობა.png", "ʻokina.png", "ﾈｺ.png", "Ａ.png", "☆.png", "ß.png", "ñ.png",
    "Ҳуқуқ.png", "ไทย.png",
]  # fmt: skip


@pytest.mark.parametrize("codec", WRITTEN)
def test_names_are_read_as_they_were_written(codec: str) -> None:
    for names in WRITTEN[codec]:
        guess = decode_names([name.encode(codec) for name in names])
        assert guess.names == tuple(names)
        assert guess.label


@pytest.mark.parametrize("name", UNICODE)
def test_utf_8_is_known_by_itself_and_is_no_guess(name: str) -> None:
    guess = decode_names([name.encode(), b"plain.png"])
    assert (guess.names, guess.label) == ((name, "plain.png"), None)


def test_all_names_of_an_archive_are_read_alike() -> None:
    """One of them alone could be read in several ways."""
    names = ["ａ/表.png", "b/の写真.png", "c.png"]
    assert decode_names([name.encode("cp932") for name in names]).names == tuple(names)


def test_plain_names_need_no_guess() -> None:
    assert decode_names([b"a.png", b"b.txt"]).label is None
    assert decode_names([]).names == ()


@given(raw_names=st.lists(st.binary(max_size=20), max_size=5))
def test_any_bytes_become_names_one_for_one(raw_names: list[bytes]) -> None:
    guess = decode_names(raw_names)
    assert len(guess.names) == len(raw_names)
    for raw, name in zip(raw_names, guess.names, strict=True):
        name.encode("utf-8")
        assert not raw.isascii() or name == raw.decode("ascii")


def test_many_long_names_take_no_time_to_speak_of() -> None:
    """Ten thousand, as many as an archive may have; they are limited in bytes too."""
    names = [f"画像フォルダー/{'写真' * 20}{number}.png" for number in range(10_000)]
    started = time.process_time()
    assert decode_names([name.encode("cp932") for name in names]).names == tuple(names)
    assert time.process_time() - started < 5
