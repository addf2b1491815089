"""The tables of docs/hops.md."""

from benchmarks.hops import page
from benchmarks.hops.__main__ import PAGE, families
from benchmarks.hops.figures import Figures
from roles.split.survey import Crossing


def test_the_page_has_a_row_in_each_table_for_each_model():
    names = [each.name for each in families()]
    weights, hops = 0, len(names) + 1  # where the tables begin, with a row of titles each
    rows = page.rows(PAGE.read_text())
    assert [row[0] for row in rows] == ["model", *names, "model", *names]
    assert rows[weights][1:3] == ["pipeline", "denoiser's parameters"]
    assert [row[1] for row in rows[hops + 1 :]] == [each.asked for each in families()]


def _figures(*sizes: int | None) -> Figures:
    hops = zip(("encoder", "denoiser"), ("denoiser", "decoder"), sizes, strict=True)
    crossings = [Crossing(a, b, ["encode_prompt"], size) for a, b, size in hops]
    weights = {"encoder": 1 << 30, "denoiser": 3 << 30, "decoder": 1536}
    return Figures("M", "MPipeline", "64x64", "its script", 12_300_000_000, weights, crossings)


def test_a_model_is_told_in_rounded_numbers():
    text = page.tables([_figures(4 << 20, 512 << 10)])
    rows = page.rows(page.put(text, f"before {page.BEGIN} old {page.END} after"))
    assert rows[1] == ["M", "MPipeline", "12.3 B", "1 GiB", "3 GiB", "1.5 KiB", "its script"]
    assert rows[3] == ["M", "64x64", "4 MiB", "512 KiB", "4.7 ms", "0.19 ms", "`encode_prompt`"]


def test_what_could_not_be_told_is_a_question_mark():
    row = page.rows(page.tables([_figures(1024, None)]))[3]
    assert row[2:6] == ["1 KiB", "?", "?", "?"]


def test_the_rest_of_the_page_stays():
    made = page.put(page.tables([]), f"before {page.BEGIN} old {page.END} after")
    assert made.startswith("before ")
    assert made.endswith(" after")
    assert "old" not in made
