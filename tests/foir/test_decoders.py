"""Decoding in processes: the same pixels as in this one; what hangs, crashes or needs too much memory is refused."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from foir import decoders, images
from foir.decoders import DecoderPool
from foir.errors import BadImage, Unavailable
from foir.photo_facts import PhotoFacts
from tests.conftest import scene

ROOT = Path(__file__).parents[2]

# A decoder that does what the bytes of an "image" say.
SAYS = """
import sys
from foir import decoder_process, images
real = images.decode
def decode(data, name, max_pixels, min_side):
    if data == b"hang":
        import re
        re.match("(a+)+b", "a" * 60)  # in C, with the lock of the interpreter held
    if data == b"crash":
        import ctypes
        ctypes.string_at(0)
    if data == b"memory":
        images.Image.open = lambda *args, **more: bytearray(2**33)
    if data == b"print":
        print("[]" * 10**5, flush=True)
        data = open(%r, "rb").read()
    return real(data, name, max_pixels, min_side)
images.decode = decode
decoder_process.main()
"""


@pytest.fixture
def pool():
    pool = DecoderPool(2)
    yield pool
    pool.close()


@pytest.fixture
def obedient(tmp_path, monkeypatch, pool):
    scene(1).save(tmp_path / "1.png")
    monkeypatch.setattr(decoders, "_COMMAND", SAYS % str(tmp_path / "1.png"))
    return pool


def decode(pool, data, deadline=60.0, name="a.jpg"):
    return pool.decode(data, {"name": name}, deadline)


def png(image, **options):
    out = io.BytesIO()
    image.save(out, "PNG", **options)
    return out.getvalue()


def process_of(pool):
    """The id of the process that is used next."""
    decoder = pool._free.get()
    pool._free.put(decoder)
    return None if decoder is None else decoder._process.pid


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_gone(pid):
    deadline = time.monotonic() + 60
    while is_alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def one_sentence(error, start):
    text = str(error.value)
    assert text.startswith(start) and text.endswith(".") and ". " not in text and text.isprintable()


exif = Image.Exif()
exif[0x0112] = 6
clear = scene(4).convert("RGBA")
clear.putalpha(scene(5).convert("L"))


@pytest.mark.parametrize(
    "data", [png(scene(1)), png(scene(2), exif=exif), png(clear), png(clear, exif=exif), png(scene(3).convert("I;16"))]
)
def test_a_photo_is_the_same_as_when_it_is_decoded_here(pool, data, tmp_path):
    here, there = images.read(data), decode(pool, data)
    assert there.image.mode == "RGB" and np.array_equal(np.asarray(there.image), np.asarray(here.image))
    assert (there.alpha is None) == (here.alpha is None)
    assert here.alpha is None or np.array_equal(np.asarray(there.alpha), np.asarray(here.alpha))
    assert (there.size, there.orientation, there.notes) == (here.size, here.orientation, here.notes)
    assert np.array_equal(np.asarray(there.image.convert("RGBA"))[..., 3], np.full(here.size[::-1], 255))
    changed = there.image.copy()
    changed.paste("red", (0, 0, 50, 50))
    assert np.array_equal(np.asarray(there.image), np.asarray(here.image)) and changed.getpixel((9, 9)) == (255, 0, 0)


def test_files_and_uploads_are_refused_in_the_same_words(tmp_path):
    (tmp_path / "words.jpg").write_text("only words")
    pages = io.BytesIO()
    scene(1).save(pages, "GIF", save_all=True, append_images=[scene(2)])
    (tmp_path / "pages.gif").write_bytes(pages.getvalue())
    for source in (tmp_path / "words.jpg", tmp_path / "none.jpg", tmp_path, b"", b"words", b"\xff\xd8\xff"):
        with pytest.raises(BadImage) as here:
            images.read(source)
        with pytest.raises(BadImage) as there:
            decoders.read(source)
        assert str(here.value) == str(there.value)
    assert decoders.read(tmp_path / "pages.gif").notes == ("Only the first frame is used.",)
    with pytest.raises(BadImage, match="160 x 120"):
        decoders.read(png(scene(1)), max_pixels=99)


@pytest.mark.parametrize(("data", "words"), [(b"crash", "makes the decoder crash"), (b"hang", "more than 0.1 seconds")])
def test_an_image_that_its_decoder_does_not_survive_is_refused_and_the_next_one_read(obedient, data, words):
    decode(obedient, png(scene(1)))
    first = process_of(obedient)
    with pytest.raises(BadImage, match=words) as error:
        decode(obedient, data, 0.1)
    one_sentence(error, "a.jpg ")
    assert not is_alive(first)
    assert decode(obedient, png(scene(1))).size == (160, 120)
    assert process_of(obedient) not in (None, first)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such limit")
def test_an_image_that_needs_too_much_memory_is_refused(obedient):
    with pytest.raises(BadImage, match="too much memory") as error:
        decode(obedient, b"memory")
    one_sentence(error, "a.jpg ")


def test_what_a_library_prints_is_no_answer(obedient):
    assert np.array_equal(np.asarray(decode(obedient, b"print").image), np.asarray(scene(1)))


def test_decoders_are_started_when_needed_and_used_again(pool):
    assert process_of(pool) is None
    decode(pool, png(scene(1)))
    first = process_of(pool)
    decode(pool, png(scene(2)))
    assert process_of(pool) == first
    pool.close()
    assert not is_alive(first) and process_of(pool) is None


def test_a_decoder_that_was_killed_while_it_was_idle_is_replaced(pool):
    decode(pool, png(scene(1)))
    os.kill(process_of(pool), signal.SIGKILL)
    wait_until_gone(process_of(pool))
    assert decode(pool, png(scene(1))).size == (160, 120)


def test_waiting_for_a_decoder_is_bounded(obedient):
    threads = [threading.Thread(target=refused, args=[obedient, b"hang", 1.5]) for _ in range(2)]
    for thread in threads:
        thread.start()
    while obedient._free.qsize():
        time.sleep(0.01)
    with pytest.raises(Unavailable, match="Too many images") as error:
        decode(obedient, png(scene(1)), 0.05)
    one_sentence(error, "Too many")
    for thread in threads:
        thread.join()
    assert decode(obedient, png(scene(1))).size == (160, 120)


def refused(pool, data, deadline):
    with pytest.raises(BadImage):
        decode(pool, data, deadline)


def test_many_threads_share_a_few_decoders(pool):
    pictures = [scene(i, (40 + i, 40)) for i in range(24)]
    sizes = {}

    def work(i):
        sizes[i] = decode(pool, png(pictures[i])).size

    threads = [threading.Thread(target=work, args=[i]) for i in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sizes == {i: (40 + i, 40) for i in range(24)} and pool._free.qsize() == 2


NO_FACTS = dict.fromkeys(PhotoFacts.__dataclass_fields__)


def answer(size, more=b"", **changes):
    head = {"size": size, "full_size": None, "alpha": False, "orientation": 1, "notes": [], "facts": NO_FACTS}
    return json.dumps(head | changes).encode() + b"\n" + more


ANSWERS = [
    b"",
    b"no JSON\n",
    b"[]\n",
    answer([-2, -2], bytes(16)),
    answer([9000, 9000]),
    answer([1e999, 2]).replace(b"Infinity", b"1e999"),
    answer([2, 2], bytes(15)),
    answer([2, 2], bytes(16), full_size=[9000, 9000]),
    answer([2, 2], bytes(16), facts=NO_FACTS | {"camera": ["a", "list"]}),
    answer([2, 2], bytes(16), facts={}),
    b'{"times": ["soon"]}\n',
    b"[" * 10**6,
]


@pytest.mark.parametrize("answer", ANSWERS, ids=range(len(ANSWERS)))
def test_a_decoder_that_a_file_took_over_can_answer_nothing_but_pixels(pool, monkeypatch, answer, tmp_path):
    (tmp_path / "answer").write_bytes(answer)
    command = (
        f"import sys; out = sys.stdout.buffer; out.write(b'\\n'); out.flush(); sys.stdin.buffer.readline(); "
        f"out.write(open({str(tmp_path / 'answer')!r}, 'rb').read()); out.flush()"
    )
    monkeypatch.setattr(decoders, "_COMMAND", command)
    with pytest.raises(BadImage, match="crash"):
        decode(pool, png(scene(1)))


@pytest.mark.parametrize("command", ["raise SystemExit(3)", "print('hello')", "import nothing_of_this_name"])
def test_where_no_decoder_starts_no_image_is_blamed(pool, monkeypatch, command):
    monkeypatch.setattr(decoders, "_COMMAND", command)
    with pytest.raises(Unavailable, match="ended as it started") as error:
        decode(pool, png(scene(1)))
    one_sentence(error, "A process")
    monkeypatch.undo()
    monkeypatch.setattr(sys, "executable", "/no/python")
    with pytest.raises(Unavailable, match="No process can be started"):
        decode(pool, png(scene(1)))
    monkeypatch.undo()
    assert decode(pool, png(scene(1))).size == (160, 120)


SCRIPT = """
import sys
sys.path.insert(0, {root!r})
import json, os, threading
from foir import decoders
if {forks}:
    decoders.read({picture!r})
    child = os.fork()
    if not child:
        assert decoders.read({picture!r}).size == (160, 120)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
photos = []
threads = [threading.Thread(target=lambda: photos.append(decoders.read({picture!r}))) for _ in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
decoder = decoders._pool._free.get()
if {hangs}:
    threading.Thread(target=decoder.decode, args=[b"hang", "x", 9, 1.0], daemon=True).start()
print(json.dumps([decoder._process.pid, [photo.size for photo in photos], "torch" in sys.modules]), flush=True)
if {waits}:
    sys.stdin.read()
"""


def script(tmp_path, forks=False, hangs=False, waits=False, command=None):
    scene(1).save(tmp_path / "photo.png")
    text = SCRIPT.format(root=str(ROOT), picture=str(tmp_path / "photo.png"), forks=forks, hangs=hangs, waits=waits)
    if command is not None:
        text = text.replace("photos = []", f"photos = []; decoders._COMMAND = {command!r}")
    (tmp_path / "script.py").write_text(text)
    (tmp_path / "numpy.py").write_text("raise AssertionError('a file beside the photos was imported')")
    (tmp_path / "elsewhere").mkdir()
    return [sys.executable, str(tmp_path / "script.py")]


def run(command, **more):
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, **more)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_a_script_without_a_guard_decodes_and_its_decoders_end_with_it(tmp_path):
    command = script(tmp_path)
    (tmp_path / "numpy.py").unlink()  # beside a script, it is the script's own
    pid, sizes, has_torch = run(command, cwd=tmp_path / "elsewhere")
    assert sizes == [[160, 120]] * 3 and not has_torch
    wait_until_gone(pid)


def test_a_module_beside_the_photos_is_not_imported(tmp_path):
    """The folder in which a command is started, which an attacker may have filled."""
    script(tmp_path)
    code = (
        f"import sys; sys.path[:] = [{str(ROOT)!r}, *filter(None, sys.path)]\n" + (tmp_path / "script.py").read_text()
    )
    assert run([sys.executable, "-c", code], cwd=tmp_path)[1] == [[160, 120]] * 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_has_decoders_of_its_own(tmp_path):
    command = script(tmp_path, forks=True)
    (tmp_path / "numpy.py").unlink()
    assert run(command)[1] == [[160, 120]] * 3


@pytest.mark.parametrize("hangs", [False, True])
def test_decoders_end_when_their_parent_is_killed_with_kill_9(tmp_path, hangs):
    command = script(tmp_path, hangs=hangs, waits=True, command=SAYS % "")
    (tmp_path / "numpy.py").unlink()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = json.loads(parent.stdout.readline())[0]
        assert is_alive(pid)
        parent.kill()
    wait_until_gone(pid)
