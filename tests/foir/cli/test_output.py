"""What was found as JSON, CSV, paths; written as links, a contact sheet, COCO's JSON; and what is there twice."""

import csv
import io
import json

import pytest
from PIL import Image
from pycocotools.coco import COCO

from foir import Index
from foir.cli.main import main
from index_build.pipeline import Plan, build
from tests.conftest import draw, scene


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Eight pictures, one of them twice and one also half as large; the last was taken with a camera."""
    base = tmp_path_factory.mktemp("out")
    pictures = draw(base / "pictures", 8)
    (pictures / "copy of 02.png").write_bytes((pictures / "02.png").read_bytes())
    scene(5).resize((120, 90), Image.Resampling.LANCZOS).save(pictures / "small.jpg", quality=90)
    for number in range(2):
        exif = Image.Exif()
        exif[0x0110], exif[0x0132] = "Pixel 9", f"2024:07:03 12:34:{56 + number}"
        picture = scene(30)
        picture.paste("red", (4 + 40 * number, 4, 60, 60))
        picture.save(pictures / f"shot{number}.jpg", exif=exif)
    build(Plan(pictures, base / "index", "toy", device="cpu"))
    return base


def run(capsys, *argv):
    status = main([*map(str, argv)])
    out, err = capsys.readouterr()
    return status, out, err


def test_search_as_json_csv_and_paths(made, capsys):
    asked = ["search", made / "index", made / "pictures" / "03.png", "--box", "20,15,80,75", "--k", 4]
    _, lines, _ = run(capsys, *asked)
    status, text, _ = run(capsys, *asked, "--json")
    found = json.loads(text)
    assert status == 0 and [str(each["id"]) for each in found] == [line.split("\t")[2] for line in lines.splitlines()]
    first = found[0]
    assert first["file"] == "03.png" and first["rank"] == 1 and first["taken_from"] == "file"
    assert len(first["regions"]) == 1 and len(first["regions"][0]["box"]) == 4
    _, table, _ = run(capsys, *asked, "--csv")
    rows = list(csv.DictReader(io.StringIO(table)))
    assert [row["file"] for row in rows] == [each["file"] for each in found]
    assert json.loads(rows[0]["regions"]) == first["regions"]
    _, paths, _ = run(capsys, *asked, "--paths")
    assert paths.splitlines() == [str((made / "pictures" / each["file"]).resolve()) for each in found]
    with pytest.raises(SystemExit):
        main([*map(str, asked), "--csv", "--json"])


def test_a_search_by_date_and_camera(made, capsys):
    asked = ["search", made / "index", made / "pictures" / "03.png", "--json"]
    _, text, _ = run(capsys, *asked, "--filter", "date=2024-07..2024-08", "--filter", "camera=Pixel*")
    found = json.loads(text)
    assert {each["file"]: each["taken"] for each in found} == {
        "shot0.jpg": "2024-07-03T12:34:56", "shot1.jpg": "2024-07-03T12:34:57",
    }  # fmt: skip


def test_export_writes_links_a_sheet_and_boxes(made, tmp_path, capsys):
    asked = ["export", made / "index", made / "pictures" / "03.png", "--box", "20,15,80,75", "--k", 3, "--out"]
    assert run(capsys, *asked, tmp_path / "links")[0] == 0
    links = sorted((tmp_path / "links").iterdir())
    assert links[0].name == "1-03.png" and len(links) == 3
    assert links[0].samefile(made / "pictures" / "03.png")
    status, _, err = run(capsys, *asked, tmp_path / "links")
    assert status == 1 and "exists already" in err
    assert run(capsys, *asked, tmp_path / "sheet.png")[0] == 0
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 1000 and len(sheet.getcolors(10**6) or ()) > 100
    assert run(capsys, *asked, tmp_path / "found.json")[0] == 0
    coco = json.loads((tmp_path / "found.json").read_text())
    assert len(COCO(str(tmp_path / "found.json")).getAnnIds()) == 3  # the official reader takes it
    index = Index.open(made / "index")
    assert [each["id"] for each in coco["annotations"]] == [1, 2, 3]
    for image, annotation in zip(coco["images"], coco["annotations"], strict=True):
        item = index.get(image["id"])
        x, y, width, height = annotation["bbox"]
        assert annotation["image_id"] == item.id and image["file_name"] == item.file
        assert 0 <= x < x + width <= item.width and 0 <= y < y + height <= item.height


def test_export_without_a_query_takes_ids_or_filters(made, tmp_path, capsys):
    base = ["export", made / "index", "--out"]
    assert run(capsys, *base, tmp_path / "shots", "--filter", "camera=Pixel 9")[0] == 0
    assert sorted(path.name for path in (tmp_path / "shots").iterdir()) == ["1-shot0.jpg", "2-shot1.jpg"]
    assert run(capsys, *base, tmp_path / "some.json", "--ids", 0, 3)[0] == 0
    assert [each["id"] for each in json.loads((tmp_path / "some.json").read_text())["images"]] == [0, 3]
    status, _, err = run(capsys, *base, tmp_path / "none", "--filter", "width=1", "--filter", "width=2")
    assert status == 1 and "given twice" in err
    status, _, err = run(capsys, *base, tmp_path / "none")
    assert status == 1 and "Say what to export" in err


def test_duplicates_of_each_kind(made, capsys):
    status, out, _ = run(capsys, "duplicates", made / "index")
    rows = [line.split("\t") for line in out.splitlines()]
    assert status == 0 and [(group, kind, choice, file) for group, kind, choice, _, file in rows] == [
        ("1", "exact", "keep", "02.png"),
        ("1", "exact", "spare", "copy of 02.png"),
        ("2", "near", "keep", "05.png"),
        ("2", "near", "spare", "small.jpg"),
        ("3", "burst", "keep", "shot1.jpg"),  # of as many pixels, and more bytes
        ("3", "burst", "spare", "shot0.jpg"),
    ]
    _, out, _ = run(capsys, "duplicates", made / "index", "--kind", "exact", "--paths")
    assert out.splitlines() == [str((made / "pictures" / "copy of 02.png").resolve())]
    link = made / "pictures" / "copy of 02.png"
    link.unlink()
    link.symlink_to(made / "pictures" / "02.png")  # another name of the file to keep
    _, out, _ = run(capsys, "duplicates", made / "index", "--kind", "exact")
    assert out == ""
    _, out, _ = run(capsys, "duplicates", made / "index", "--kind", "burst", "--json")
    assert [each["choice"] for each in json.loads(out)] == ["keep", "spare"]
