"""`python -m foir search`: what it prints where, and its exit status."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageDraw

from foir import Index, Prompt, Searcher
from foir.app import serve
from foir.cli.main import main
from foir.search.query import CONTEXT, Query
from index_build.pipeline import Plan, build
from tests.conftest import draw, scene

BOX = (20, 15, 80, 75)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with twelve pictures and two indexes of them: "index" without and "heads" with a head cache."""
    base = tmp_path_factory.mktemp("cli")
    draw(base / "pictures", 12)
    build(Plan(base / "pictures", base / "index", "toy", device="cpu"))
    build(Plan(base / "pictures", base / "heads", "toy", heads=True, device="cpu"))
    return base


@pytest.fixture(scope="module")
def query(made):
    return made / "pictures" / "03.png"


def search(capsys, *argv):
    """Status, lines on stdout, lines on stderr."""
    status = main(["search", *map(str, argv)])
    out, err = capsys.readouterr()
    return status, out.splitlines(), err.splitlines()


def lines(searcher, query, prompt, **how):
    """What the command line should print, by way of the library."""
    hits = searcher.search(Query(searcher.open(query), prompt, **how))
    ranked = enumerate(zip(hits.items, hits.scores, strict=True), 1)
    return [f"{rank}\t{score:.4f}\t{item.id}\t{item.file}" for rank, (item, score) in ranked]


@pytest.fixture(scope="module")
def searcher(made, toy):
    return Searcher(Index.open(made / "heads"), toy)


def test_search_prints_k_tab_separated_lines_best_first(made, query, capsys):
    status, out, err = search(capsys, made / "index", query, "--k", 7)
    fields = [line.split("\t") for line in out]
    assert (status, err, len(out)) == (0, [], 7)
    assert [len(field) for field in fields] == [4] * 7
    assert [field[0] for field in fields] == ["1", "2", "3", "4", "5", "6", "7"]
    scores = [float(field[1]) for field in fields]
    assert scores == sorted(scores, reverse=True)
    assert [f"{int(field[2]):02}.png" for field in fields] == [field[3] for field in fields]
    assert len({field[3] for field in fields}) == 7


def test_search_without_a_prompt_finds_the_picture_itself_first(made, query, capsys):
    _, out, _ = search(capsys, made / "index", query)
    rank, score, id, file = out[0].split("\t")
    assert (rank, id, file) == ("1", "3", "03.png")
    assert float(score) == pytest.approx(1, abs=1e-3)


def test_search_for_more_than_there_is_prints_everything(made, query, capsys):
    status, out, _ = search(capsys, made / "index", query, "--k", 500)
    assert (status, len(out)) == (0, 12)


def test_box_point_and_both_search_where_they_point(made, query, searcher, capsys):
    box, point = ",".join(map(str, BOX)), "120,90"
    _, boxed, _ = search(capsys, made / "heads", query, "--box", box)
    _, clicked, _ = search(capsys, made / "heads", query, "--point", point)
    _, both, _ = search(capsys, made / "heads", query, "--box", box, "--point", point)
    assert boxed == lines(searcher, query, Prompt.box(*BOX))
    assert clicked == lines(searcher, query, Prompt.point(120, 90))
    assert both == lines(searcher, query, Prompt(points=((120, 90),), boxes=(BOX,)))
    assert boxed != clicked


def test_a_box_may_reach_over_the_border(made, query, capsys):
    _, over, err = search(capsys, made / "index", query, "--box=-30,-30,60.5,50")
    _, clipped, _ = search(capsys, made / "index", query, "--box", "60.5,50,0,0")
    assert (over, err) == (clipped, [])


def test_a_mask_file_means_the_same_as_the_box_it_shows(made, query, tmp_path, capsys):
    mask = Image.new("L", (160, 120))
    ImageDraw.Draw(mask).rectangle((BOX[0], BOX[1], BOX[2] - 1, BOX[3] - 1), fill=255)
    mask.save(tmp_path / "mask.png")
    for method in ("phs", "crop"):
        _, masked, err = search(capsys, made / "index", query, "--mask", tmp_path / "mask.png", "--method", method)
        _, boxed, _ = search(capsys, made / "index", query, "--box", ",".join(map(str, BOX)), "--method", method)
        assert masked == boxed and len(masked) == 12 and not err


@pytest.mark.parametrize("method", ["cbir", "crop", "mask", "attention_mask", "foveal", "foveal|phs"])
def test_method_is_the_one_asked_for(made, query, searcher, method, capsys):
    box = ",".join(map(str, BOX))
    status, out, err = search(capsys, made / "heads", query, "--box", box, "--method", method, "--context", 1)
    assert (status, err) == (0, [])
    assert out == lines(searcher, query, Prompt.box(*BOX), method=method, context=1)
    assert (out == lines(searcher, query, None)) == (method == "cbir")


def test_heads_is_how_many_stay_on(made, query, searcher, capsys):
    printed, asked, how = {}, ("--point", "50,50", "--method", "phs", "--context", 1), {"method": "phs", "context": 1}
    for count in (1, 3, 6, -1):
        _, printed[count], _ = search(capsys, made / "index", query, "--heads", count, *asked)
        assert printed[count] == lines(searcher, query, Prompt.point(50, 50), options={"h_on": count}, **how)
    assert printed[1] != printed[3] != printed[6]
    assert printed[6] == lines(searcher, query, None)


def test_context_weighs_the_scene_against_the_thing(made, query, searcher, capsys):
    printed = {
        context: search(capsys, made / "index", query, "--box", ",".join(map(str, BOX)), "--context", context)[1]
        for context in (0, CONTEXT, 1)
    }
    assert all(printed[c] == lines(searcher, query, Prompt.box(*BOX), context=c) for c in printed)
    assert printed[CONTEXT] == search(capsys, made / "index", query, "--box", ",".join(map(str, BOX)))[1]
    assert printed[0] != printed[CONTEXT] != printed[1]


def test_query_db_mode_scores_the_pictures_through_the_selected_heads(made, query, searcher, capsys):
    asked = ("--point", "50,50", "--heads", 2)
    status, out, err = search(capsys, made / "heads", query, *asked, "--mode", "query-db")
    assert (status, err) == (0, [])
    assert out == lines(searcher, query, Prompt.point(50, 50), options={"h_on": 2}, mode="query-db")
    assert out[0].endswith("\t03.png")
    assert out != search(capsys, made / "heads", query, *asked)[1]


def test_explain_writes_a_readable_png(made, query, tmp_path, capsys):
    path = tmp_path / "why.png"
    asked = (made / "index", query, "--box", ",".join(map(str, BOX)), "--k", 2)
    status, out, err = search(capsys, *asked, "--explain", path)
    assert (status, err, out) == (0, [], search(capsys, *asked)[1])
    with Image.open(path) as strip:
        strip.load()
        assert strip.format == "PNG" and strip.mode == "RGB"
        assert strip.size == (4 * 320 + 3 * 6, 240)  # outline, heat and two hits, each 160 x 120 doubled
        assert np.asarray(strip).std(axis=(0, 1)).min() > 10


@pytest.mark.parametrize("name", ["nowhere/why.png", "why.nosuchformat"])
def test_an_explain_picture_that_cannot_be_written_is_one_line_on_stderr(made, query, tmp_path, name, capsys):
    status, _, err = search(capsys, made / "index", query, "--explain", tmp_path / name)
    assert status != 0 and len(err) == 1 and name in err[0]


def test_what_was_decided_for_the_user_is_said_on_stderr_only(made, query, capsys):
    status, out, err = search(capsys, made / "index", query, "--point", "50,50", "--method", "foveal")
    assert (status, len(out), len(err)) == (0, 12, 1)
    assert "box" in err[0]


def test_a_file_name_with_a_line_break_or_tab_still_is_one_line(tmp_path, capsys):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i, name in enumerate(["plain.png", "two\nlines.png", "a\ttab.png"]):
        scene(i).save(folder / name)
    build(Plan(folder, tmp_path / "index", "toy", device="cpu"))
    _, out, _ = search(capsys, tmp_path / "index", folder / "plain.png")
    assert [line.count("\t") for line in out] == [3, 3, 3]


@pytest.mark.parametrize(
    "argv",
    [
        ("--box", "1,2,3"),
        ("--box", "1,2,3,4,5"),
        ("--box", "a,b,c,d"),
        ("--box", ""),
        ("--point", "5"),
        ("--point", "5;6"),
        ("--k", "many"),
        ("--heads", "1.5"),
        ("--no-such-option",),
    ],
    ids=" ".join,
)
def test_text_that_is_no_box_point_or_number_ends_with_status_2(made, query, argv, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["search", str(made / "index"), str(query), *argv])
    out, err = capsys.readouterr()
    assert stop.value.code == 2
    assert out == ""
    assert argv[0] in err and "Traceback" not in err


BAD = {
    "unknown method": (("index", "03.png", "--point", "5,5", "--method", "magic"), "magic"),
    "unknown method without a prompt": (("index", "03.png", "--method", "magic"), "magic"),
    "pointed method without a prompt": (("index", "03.png", "--method", "crop"), "crop"),
    "option of another method": (("index", "03.png", "--heads", "3"), "h_on"),
    "unknown mode": (("index", "03.png", "--mode", "sideways"), "sideways"),
    "missing picture": (("index", "nowhere.png"), "nowhere.png"),
    "folder as picture": (("index", "."), "not a file"),
    "something else as picture": (("index", "../index/manifest.json"), "manifest.json"),
    "missing mask": (("index", "03.png", "--mask", "nowhere.png"), "nowhere.png"),
    "mask that is no picture": (("index", "03.png", "--mask", "../index/manifest.json"), "manifest.json"),
    "missing index": (("nowhere", "03.png"), "nowhere"),
    "folder that is no index": (("pictures", "03.png"), "manifest.json"),
    "context=2": (("index", "03.png", "--context", "2"), "context must be 0 to 1"),
    "k=0": (("index", "03.png", "--k", "0"), "0"),
    "k=-3": (("index", "03.png", "--k", "-3"), "-3"),
    "k=1001": (("index", "03.png", "--k", "1001"), "1001"),
    "heads=99": (("index", "03.png", "--point", "5,5", "--heads", "99"), "99"),
    "heads=0": (("index", "03.png", "--point", "5,5", "--heads", "0"), "6 heads"),
    "heads=-6": (("index", "03.png", "--point", "5,5", "--heads", "-6"), "-6"),
    "query-db without heads": (("index", "03.png", "--point", "5,5", "--mode", "query-db"), "--heads"),
    "point outside": (("index", "03.png", "--point", "500,5"), "outside"),
    "box outside": (("index", "03.png", "--box", "500,5,600,50"), "outside"),
    "box that is not finite": (("index", "03.png", "--box", "0,0,nan,inf"), "finite"),
    "unknown device": (("index", "03.png", "--device", "abacus"), "abacus"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_request_is_one_line_on_stderr_and_nothing_on_stdout(made, case, capsys):
    (index, picture, *rest), said = BAD[case]
    status, out, err = search(capsys, made / index, made / "pictures" / picture, *rest)
    assert status != 0
    assert out == []
    assert len(err) == 1 and err[0].startswith("foir: ") and said in err[0]


def test_a_mask_of_another_shape_or_all_black_is_refused(made, query, tmp_path, capsys):
    Image.new("L", (160, 120)).save(tmp_path / "black.png")
    Image.new("L", (30, 90), 255).save(tmp_path / "tall.png")
    for name, said in (("black.png", "empty"), ("tall.png", "30 x 90")):
        status, out, err = search(capsys, made / "index", query, "--mask", tmp_path / name)
        assert (status, out, len(err)) == (1, [], 1)
        assert said in err[0]


def test_a_caption_leans_where_the_box_is(query, capsys):
    assert main(["caption", str(query), "--model", "toy-words", "--device", "cpu"]) == 0
    assert capsys.readouterr().out == "picture of 1\n"
    asked = ["caption", str(query), "--model", "toy-words", "--box", "20,15,80,75", "--strength", "3"]
    assert main([*asked, "--device", "cpu"]) == 0
    assert capsys.readouterr().out == "pointed\tpicture of 1, 1 pulled by 3\nwhole\tpicture of 1\n"


@pytest.mark.parametrize("model", ["toy", "blip2", "internvl-g", "nothing"])
def test_a_model_that_writes_nothing_here_is_one_line(query, capsys, model, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert main(["caption", str(query), "--model", model, "--device", "cpu"]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("foir: ") and err.count("\n") == 1


@pytest.mark.parametrize(
    "argv",
    [
        ["search", "", "x.png"],
        ["search", "x", ""],
        ["search", "x", "x.png", "--mask", ""],
        ["search", "x", "x.png", "--explain", ""],
        ["caption", ""],
        ["serve", ""],
        ["serve", "--index", ""],
    ],
    ids=" ".join,
)
def test_an_empty_path_is_not_the_current_folder(argv, capsys):
    with pytest.raises(SystemExit):
        (serve.main(argv[1:]) if argv[0] == "serve" else main(argv))
    assert capsys.readouterr().err.endswith(": it is empty: name a file or a folder\n")


def test_a_caption_reaches_no_terminal_as_it_is(query, monkeypatch, capsys):
    model = SimpleNamespace(encode_images=lambda images: None, caption_image=lambda *args: "a \x1b]0;mine\x07 cat\n")
    monkeypatch.setattr("foir.image_text.load", lambda *args, **options: model)
    assert main(["caption", str(query), "--box", "20,15,80,75"]) == 0
    assert capsys.readouterr().out == "pointed\ta \\x1b]0;mine\\x07 cat\\n\nwhole\ta \\x1b]0;mine\\x07 cat\\n\n"
