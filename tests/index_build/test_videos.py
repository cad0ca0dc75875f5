"""A video in a folder: its scenes are rows of the index, found, updated and removed as one file."""

from fractions import Fraction

import numpy as np
import pytest

from foir import Index, decoders
from foir.duplicates import find_duplicates
from foir.errors import BadImage
from foir.index.pictures import read_picture
from foir.videos import frame_key, split_key
from index_build.pipeline import Plan, build
from index_build.update import add, remove, update
from tests.conftest import draw, scene

SIZE = (160, 120)


def film(path, scenes, *, seconds=3, rate=8, container="mp4"):
    """A video in which each scene is shown for some seconds."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w", format=container) as out:
        out.metadata["creation_time"] = "2024-07-03T12:34:56.000000Z"
        stream = out.add_stream("mpeg4", rate=Fraction(rate))
        stream.width, stream.height = SIZE
        stream.codec_context.gop_size = rate  # a frame a second needs no other
        for number in scenes:
            picture = av.VideoFrame.from_image(scene(number))
            for _ in range(seconds * rate):
                for packet in stream.encode(picture):
                    out.mux(packet)
        for packet in stream.encode():
            out.mux(packet)
    return path


def test_a_key_is_a_file_or_a_file_and_a_time():
    assert frame_key("a/b.mp4", 12.5) == "a/b.mp4#t=12.500" and frame_key("a.jpg", None) == "a.jpg"
    assert split_key("a/b.mp4#t=12.500") == ("a/b.mp4", 12.5)
    for name in ("odd#t=1.jpg", "a.mp4#t=12.000.jpg", "a.mp4#t=inf", "a.mp4#t=1", "a.jpg#t=1.000"):
        assert split_key(name) == (name, None)


def test_scenes_are_found_and_their_frames_read(tmp_path):
    path = film(tmp_path / "a.mp4", [3, 4, 5])
    times = decoders.frame_times(path)
    assert times == [0.0, 3.0, 6.0]
    for time, number in zip(times, (3, 4, 5), strict=True):
        photo = decoders.read_frame(path, time)
        assert photo.size == SIZE
        assert np.abs(np.asarray(photo.image, float) - np.asarray(scene(number), float)).mean() < 12
        offset = photo.facts.taken_offset or 0  # this computer's
        assert photo.facts.taken == 1_720_010_096 + time + 60 * offset
    with pytest.raises(BadImage, match=r"a.mp4 has no frame at 60 seconds"):
        decoders.read_frame(path, 60.0)


def test_damaged_videos_and_playlists_are_one_sentence(tmp_path):
    data = film(tmp_path / "a.mp4", [1]).read_bytes()
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(data)
    playlists = (f"#EXTM3U\n#EXTINF:1,\n{secret}\n", f"ffconcat version 1.0\nfile '{secret}'\n")
    damaged = (b"", b"junk" * 99, data[:200], data[:40] + bytes(400) + data[440:])
    for number, broken in enumerate((*damaged, *(text.encode() for text in playlists))):
        (tmp_path / f"{number}.mov").write_bytes(broken)
        with pytest.raises(BadImage, match=rf"^{number}.mov "):
            decoders.frame_times(tmp_path / f"{number}.mov")
    assert decoders.read(scene_bytes(tmp_path)).size == SIZE  # the decoders go on


def scene_bytes(folder):
    scene(0).save(folder / "still.png")
    return (folder / "still.png").read_bytes()


def test_a_video_is_indexed_renamed_changed_and_removed(tmp_path, toy, monkeypatch):
    folder, out = draw(tmp_path / "pictures", 2), tmp_path / "index"
    film(folder / "holiday.mp4", [11, 12])
    build(Plan(folder, out, "toy", device="cpu"))
    index = Index.open(out)
    frames = [item for item in index.items() if item.file == "holiday.mp4"]
    assert [item.time for item in frames] == [0.0, 3.0] and len(index) == 4
    assert frames[1].name == "holiday.mp4 at 0:03" and frames[0].content == frames[1].content
    assert frames[0].taken_from == "exif" and index.picture(frames[1]) == (folder / "holiday.mp4").resolve()
    vector = index.vectors("image", [frames[1].id])[0]
    shown = toy.finish(toy.prefix(toy.pixels([read_picture(index, frames[1]).image]))).vectors[0].numpy()
    assert float(vector @ shown) > 0.99
    monkeypatch.setattr("foir.encoders.load", None)  # a new name needs no encoder
    (folder / "holiday.mp4").rename(folder / "beach.mp4")
    assert update(out).moved == ("beach.mp4#t=0.000", "beach.mp4#t=3.000")
    assert [item.id for item in Index.open(out).items() if item.file == "beach.mp4"] == [item.id for item in frames]
    with monkeypatch.context() as patch:
        patch.setattr(decoders, "frame_times", None)  # nor is what did not change looked through
        assert not update(out).added
    monkeypatch.undo()
    film(folder / "beach.mp4", [11, 12, 13])
    done = update(out)
    assert done.added == ("beach.mp4#t=6.000",) and len(done.reencoded) == 2
    (folder / "beach.mp4").write_bytes(b"junk")
    done = update(out)
    assert len(done.removed) == 3 and "beach.mp4 is damaged" in done.rejected[0]["reason"]
    film(folder / "beach.mp4", [14])
    update(out)
    assert remove(out, ["beach.mp4"]).removed == ("beach.mp4#t=0.000",)


def test_a_shorter_film_of_the_same_name_leaves_no_old_frames(tmp_path):
    folder, out = draw(tmp_path / "pictures", 1), tmp_path / "index"
    film(folder / "a.mp4", [11, 12, 13])
    build(Plan(folder, out, "toy", device="cpu"))
    film(folder / "a.mp4", [14])
    assert add(out, [folder / "a.mp4"]).removed == ("a.mp4#t=3.000", "a.mp4#t=6.000")
    assert [item.key for item in Index.open(out).items()] == ["00.png", "a.mp4#t=0.000"]


def test_a_copy_of_a_video_is_a_duplicate_and_its_frames_are_none(tmp_path):
    folder = draw(tmp_path / "pictures", 2)
    film(folder / "a.mp4", [11, 12])
    (folder / "b.mp4").write_bytes((folder / "a.mp4").read_bytes())
    build(Plan(folder, tmp_path / "index", "toy", device="cpu"))
    (group,) = find_duplicates(Index.open(tmp_path / "index"))
    assert group.kind == "exact" and [item.key for item in group.items] == ["a.mp4#t=0.000", "b.mp4#t=0.000"]


def test_without_its_package_a_video_is_left_out_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr("foir.videos.find_spec", lambda name: None)
    folder = draw(tmp_path / "pictures", 1)
    (folder / "a.mp4").write_bytes(b"anything")
    done = build(Plan(folder, tmp_path / "index", "toy", device="cpu"))
    assert done.rejected == ({"file": "a.mp4", "reason": "a.mp4 is a video: `pip install av` lets foir read it."},)
