"""Ask a running page from a program: python docs/client.py http://127.0.0.1:7860 photo.jpg 120,80,340,300."""

import base64
import sys
from pathlib import Path

from gradio_client import Client

address, photo, box = sys.argv[1:]
client = Client(address, verbose=False)
picture = base64.b64encode(Path(photo).read_bytes()).decode()
boxes = [[float(number) for number in box.split(",")]]

found = client.predict(picture=picture, boxes=boxes, k=5, api_name="/search")
for hit in found:
    print(f"{hit['score']:.3f}\t{hit['id']}\t{hit['name']}\t{address}{hit['thumbnail']}")

ids = [hit["id"] for hit in found]
again = client.predict(
    liked=ids[:1], disliked=ids[1:2], picture=picture, boxes=boxes, without=ids, k=5, api_name="/feedback"
)
print("after the first was called right and the second wrong:", ", ".join(hit["name"] for hit in again))
print("it shows:", client.predict(picture=picture, boxes=boxes, api_name="/caption"))
print("for words:", client.predict(text="a boat on the sea", k=1, api_name="/search_text")[0]["name"])
