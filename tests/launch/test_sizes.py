import pytest

from launch.sizes import parse_bytes, parse_pixels


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0),
        ("4096", 4096),
        ("64k", 65_536),
        ("16MiB", 16 << 20),
        ("16 MiB", 16 << 20),
        ("16MB", 16_000_000),
        ("1g", 1 << 30),
        ("1.5G", 3 << 29),
        ("2tib", 2 << 40),
        ("7b", 7),
    ],
)
def test_bytes_as_people_write_them(text: str, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "MiB", "-1", "1.5", "0.3k", "1x", "16 Mib b", "1e3"])
def test_what_is_no_number_of_bytes_is_refused_with_the_text(text: str) -> None:
    with pytest.raises(ValueError, match=r"no size|no whole number"):
        parse_bytes(text)


def test_pixels() -> None:
    assert parse_pixels("1024x768") == (1024, 768)
    assert parse_pixels("8X9") == (8, 9)


@pytest.mark.parametrize("text", ["1024", "x", "axb", "0x5", "5x0", "-1x5", "1024*768", "1x2x3"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"WIDTHxHEIGHT|neither side"):
        parse_pixels(text)
