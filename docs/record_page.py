"""Record docs/page.gif: somebody points at two objects of the sample. `python docs/record_page.py [OUT.gif]`.

Needs Chromium. The page runs from this checkout on its default, the sample gallery, so no data set's photo is shown.
"""

import io
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[1]
VIEW = {"width": 1180, "height": 760}
WIDTH = 760  # of the picture, pixels
STEPS = 6  # frames of a stroke
STROKE, RESULTS = 120, 1800  # milliseconds of a frame
RESULT_TEXT = "document.querySelector('#results .grid').innerText"


def serve(port):
    environment = os.environ | {"GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_SERVER_PORT": str(port)}
    process = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=environment)
    address = f"http://127.0.0.1:{port}"
    while process.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=2).close()
            return process, address
        except OSError:
            time.sleep(0.25)
    raise SystemExit("The page did not start.")


def record(address):
    """Frames and their milliseconds: the page as it opens, then a box around each of two objects."""
    frames = []

    def shoot(milliseconds):
        image = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        frames.append((image.resize((WIDTH, round(image.height * WIDTH / image.width)), Image.Resampling.LANCZOS), milliseconds))

    with sync_playwright() as play:
        chromium = shutil.which("chromium") or shutil.which("chromium-browser")
        page = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"]).new_page(viewport=VIEW)
        page.goto(address)
        page.wait_for_selector(".hit .heat", timeout=120_000)
        shoot(RESULTS)
        for number in (1, 2):
            before = page.evaluate(RESULT_TEXT)
            page.locator(".suggestions button").nth(number).hover()
            shoot(5 * STROKE)
            page.locator(".suggestions button").nth(number).click()
            page.wait_for_function(f"before => {RESULT_TEXT} !== before", arg=before, timeout=30_000)
            page.wait_for_timeout(2500)  # heat maps follow
            shoot(RESULTS)
        area = page.locator(".stage canvas").bounding_box()
        x, y = area["x"] + 0.49 * area["width"], area["y"] + 0.44 * area["height"]
        before = page.evaluate(RESULT_TEXT)
        page.mouse.move(x, y)
        page.mouse.down()
        for step in range(1, STEPS + 1):
            page.mouse.move(x + step * 0.042 * area["width"], y + step * 0.073 * area["height"])
            shoot(STROKE)
        page.mouse.up()
        page.wait_for_function(f"before => {RESULT_TEXT} !== before", arg=before, timeout=30_000)
        page.wait_for_timeout(2500)
        shoot(2 * RESULTS)
    return frames


def main():
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "page.gif"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process, address = serve(port)
    try:
        frames = record(address)
    finally:
        process.terminate()
    palette = frames[-1][0].quantize(128)
    images = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image, _ in frames]
    images[0].save(out, save_all=True, append_images=images[1:], duration=[ms for _, ms in frames], loop=0, optimize=True)
    print(f"{out}: {len(images)} frames, {out.stat().st_size / 2**20:.1f} MB")


if __name__ == "__main__":
    main()
